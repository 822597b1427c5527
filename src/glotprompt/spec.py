"""What makes two runs the same: a `RunSpec` and its identity; and a run that is done once (`done_or_train`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from glotprompt.config import AdaptConfig, TuneConfig, identity_of
from glotprompt.data.characters import CharacterMap
from glotprompt.errors import ConfigError, UserError
from glotprompt.inference.classifier import Adapted, LanguageModule, LanguagePrompt, PromptClassifier
from glotprompt.methods import method_of_adapt, without_effect
from glotprompt.model.devices import Precision
from glotprompt.processes import is_first, same_everywhere, wait
from glotprompt.storage import artifact, atomic
from glotprompt.task import Task

FORMAT = 2
"""Part of every identity; raised when the same run is to give other numbers."""
PENALTY = "strongest within one standard error"
"""How logistic regression chooses, part of the identity of what starts with one."""

_Trained = TypeVar("_Trained", bound=LanguagePrompt | LanguageModule | PromptClassifier)


@dataclass(frozen=True)
class RunSpec:
    """One run, by all that its numbers depend on and nothing else: settings, and hashes of what is read."""

    kind: str
    """ "adapt", "tune", "self-train", "evaluate" or "cost"."""
    settings: Mapping[str, Any]
    """Those that the method reads; JSON."""
    fingerprint: str = ""
    """Of the backbone."""
    precision: Precision = "auto"
    """As it is asked for: "auto" may be bf16 on one machine and fp32 on another."""
    contents: Mapping[str, str] = field(default_factory=dict[str, str])
    """By what is read ("target", "train"), the hash of what it says."""
    language: str = ""
    """Of the result; "" where it is of no one language."""
    builds_on: Sequence[str] = ()
    """Identities of runs, or digests of saved values."""
    task: Any = None
    """Template and label words, the labels in their order; JSON."""
    characters: Any = None
    """What is rewritten in the texts; JSON."""

    @property
    def identity(self) -> str:
        """The name of the run: two with one identity give the same numbers."""
        return identity_of({"format": FORMAT, **asdict(self)})


def adapt_specs(
    config: AdaptConfig,
    contents: Mapping[str, str],
    language: str,
    origin: tuple[str, Precision],
    *,
    builds_on: Sequence[str] = (),
    characters: CharacterMap | None = None,
) -> dict[str, RunSpec]:
    """The trainings of stage 1 by part of its result ("language"; for mad-x also "source"). `contents` are those of
    "target" and "source", or of "pairs"; what a part does not read it does not depend on. `origin`: fingerprint and
    precision of the backbone."""
    rewritten = None if characters is None else characters.to_dict()
    found: dict[str, RunSpec] = {}
    for part, share in method_of_adapt(config).source_shares(config).items():
        settings, read = _settings(config), dict(contents)
        if config.objective == "mlm":
            settings["source_share"] = share
            read = {name: said for name, said in contents.items() if (share < 1 if name == "target" else share > 0)}
        of_source = set(read) == {"source"}
        settings["part"] = part
        found[part] = RunSpec(
            "adapt", settings, *origin, read, "" if of_source else language, builds_on, characters=rewritten
        )
    return found


def whole(parts: Mapping[str, RunSpec]) -> RunSpec:
    """Stage 1 in one: its language's part, which is of use with the others."""
    others = [spec.identity for name, spec in parts.items() if name != "language"]
    return (
        replace(parts["language"], builds_on=[*parts["language"].builds_on, *others]) if others else parts["language"]
    )


def tune_spec(
    config: TuneConfig,
    task: Task,
    contents: Mapping[str, str],
    language: str,
    origin: tuple[str, Precision],
    *,
    builds_on: Sequence[str] = (),
    characters: CharacterMap | None = None,
) -> RunSpec:
    """Stage 2; `contents` are those of "train", and of "dev" and "target_labels" where they are given."""
    settings = _settings(config)
    if "dev" in contents:
        settings.pop("dev_share", None)
    if "target_labels" not in contents:
        settings.pop("target_weight", None)
    if config.method == "embedding" or config.head == "pooled":
        settings["penalty"] = PENALTY
    rewritten = None if characters is None else characters.to_dict()
    return RunSpec("tune", settings, *origin, contents, language, builds_on, task=task.identity(), characters=rewritten)


def digests_of(adapted: Adapted) -> list[str]:
    """What tells the values of a stage 1 from others."""
    return [artifact.digest(part.tensors, part.description) for part in adapted.parts.values()]


def _settings(config: AdaptConfig | TuneConfig) -> dict[str, Any]:
    """The settings that change a number."""
    idle = without_effect(config)
    return {name: value for name, value in config.model_dump(mode="json").items() if name not in idle}


# ---------------------------------------------------------------------------------------------------------------


def done_or_train(
    spec: RunSpec,
    output: Path,
    load: Callable[[Path], _Trained],
    train: Callable[[Path], _Trained],
    *,
    checkpoints: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[_Trained, bool]:
    """What the run gives, and whether it was there: the file, where an earlier run of the same spec finished it, else
    what `train` makes, saved as `output`.

    `train` is handed the folder of its checkpoints, which is removed when the file is in its place: one beside the
    output, or `checkpoints`, which stays for others. Whoever else makes the same output is waited for, and `tell` hears
    of it. Raises `ConfigError` where processes that train together do not see the same file."""
    made_from = identity_of([spec.identity, artifact.versions()])
    folder = checkpoints or output.with_name(f"{output.name}.checkpoints")
    with alone(folder, output, tell):
        found = _finished(load, output)
        is_done = found is not None and found.made_from == made_from
        if not same_everywhere(is_done):
            raise ConfigError(
                f"not all processes see the same {output}; it must lie in a folder that all machines share"
            )
        if found is None or not is_done:
            made = train(folder)
            found = replace(made, report=made.training.replace(made_from=made_from))
            found.save(output)
            wait()  # one process writes, all go on with the file
        if checkpoints is None:
            forget(folder)  # not before the result is in its place; also what a kill in this very line left
    return found, is_done


def _finished(load: Callable[[Path], _Trained], output: Path) -> _Trained | None:
    """A file that may be replaced is as good as none when it cannot be used."""
    try:
        return load(output) if output.is_file() else None
    except UserError:
        return None


def forget(folder: Path) -> None:
    """Remove checkpoints that are not needed any more."""
    wait()
    if is_first():
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def alone(folder: Path, output: Path, tell: Callable[[str], None] = lambda line: None) -> Generator[None]:
    """Whoever else makes the same output waits meanwhile; `folder` holds the lock, and goes where nothing else is in
    it. Of processes that train together the first has the lock for all."""
    lock = folder / f"{output.name}.lock"
    with ExitStack() as stack:
        if is_first():
            stack.callback(_remove_empty, folder)
            try:
                stack.enter_context(atomic.locked(lock, wait=False, needed=False))
            except BlockingIOError:
                tell(f"another glotprompt is making {output}; waiting until it is done")
                stack.enter_context(atomic.locked(lock, needed=False))
        wait()
        yield


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
