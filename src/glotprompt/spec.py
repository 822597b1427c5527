"""Run specifications and their identity (`RunSpec`); training that is done only once per identity (`done_or_train`)."""

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
from glotprompt.inference.classifier import Adapted, LanguageModule, LanguagePrompt, Part, PromptClassifier
from glotprompt.methods import METHODS, method_of_adapt, switched_off, without_effect
from glotprompt.model.devices import Precision
from glotprompt.processes import is_first, same_everywhere, wait
from glotprompt.storage import artifact, atomic
from glotprompt.task import Task

FORMAT = 2
"""Part of every identity; increased when a change makes the same run give other numbers."""
PENALTY = "strongest within one standard error"
"""Rule for the penalty of the logistic regression, part of the identity of runs that start with one."""

_Trained = TypeVar("_Trained", bound=LanguagePrompt | LanguageModule | PromptClassifier)


@dataclass(frozen=True)
class RunSpec:
    """Everything that a run's numbers depend on, and nothing else: settings, and hashes of the inputs."""

    kind: str
    """ "adapt", "tune", "self-train", "evaluate" or "cost"."""
    settings: Mapping[str, Any]
    """Settings that have an effect on the method; JSON."""
    fingerprint: str = ""
    """Fingerprint of the backbone."""
    precision: Precision = "auto"
    """Requested precision: "auto" may be bf16 on one machine and fp32 on another."""
    contents: Mapping[str, str] = field(default_factory=dict[str, str])
    """Content hash by input ("target", "train")."""
    language: str = ""
    """Language of the result; "" where it has no single one."""
    builds_on: Sequence[str] = ()
    """Identities of the runs, or digests of the saved parameters, that it starts from."""
    task: Any = None
    """Template and label words, in label order; JSON."""
    characters: Any = None
    """Character map that is applied to the texts; JSON."""

    @property
    def identity(self) -> str:
        """Hash that names the run: runs with equal identities give equal numbers."""
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
    """Run specifications of stage 1 by part of its result ("language"; for mad-x also "source"). `contents` has the
    hashes of "target" and "source", or of "pairs"; a part depends only on the inputs it reads. `origin`: fingerprint
    and precision of the backbone."""
    rewritten = None if characters is None else characters.to_dict()
    fingerprint, precision = origin
    specs: dict[str, RunSpec] = {}
    for part, share in method_of_adapt(config).source_shares(config).items():
        settings, hashes = _settings(config), dict(contents)
        if "alignment" not in config.objective:
            settings["source_share"] = share
            hashes = {
                name: content for name, content in contents.items() if (share < 1 if name == "target" else share > 0)
            }
        of_source = set(hashes) == {"source"}
        settings["part"] = part
        specs[part] = RunSpec(
            "adapt",
            settings,
            fingerprint,
            precision,
            hashes,
            "" if of_source else language,
            builds_on,
            characters=rewritten,
        )
    return specs


def whole(parts: Mapping[str, RunSpec]) -> RunSpec:
    """One specification for all of stage 1: that of the language part, which builds on the others."""
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
    """Run specification of stage 2; `contents` has the hashes of "train", and of "dev" and "target_labels" if given."""
    settings = _settings(config)
    if "dev" in contents:
        settings.pop("dev_share", None)
    if "target_labels" not in contents:
        settings.pop("target_weight", None)
    method = METHODS[config.method or "prompt-tuning"]
    if method.reads_vectors or config.head == "pooled":
        settings["penalty"] = PENALTY
    if method.reads_vectors and "target_labels" in contents:
        settings["penalty"] += ", target labels in folds"
    rewritten = None if characters is None else characters.to_dict()
    fingerprint, precision = ("", "auto") if method.reads_characters else origin
    return RunSpec(
        "tune",
        settings,
        fingerprint,
        precision,
        contents,
        language,
        builds_on,
        task=task.identity(),
        characters=rewritten,
    )


def digest_of(part: Part) -> str:
    """Digest of a module's parameters and description."""
    return artifact.digest(part.tensors, part.description)


def digests_of(adapted: Adapted) -> list[str]:
    """Digests of the parts of a stage 1 result."""
    return [digest_of(part) for part in adapted.parts.values()]


def _settings(config: AdaptConfig | TuneConfig) -> dict[str, Any]:
    """Settings that have an effect, as JSON. One that is off is left out, so that older runs keep their identity."""
    idle = without_effect(config).keys() | switched_off(config)
    return {name: value for name, value in config.model_dump(mode="json").items() if name not in idle}


def done_or_train(
    spec: RunSpec,
    output: Path,
    load: Callable[[Path], _Trained],
    train: Callable[[Path], _Trained],
    *,
    checkpoints: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[_Trained, bool]:
    """The result of a run, and whether it existed already: loaded from `output` if an earlier run of the same
    specification finished it, else trained and saved there.

    `train` gets the folder for its checkpoints: one beside the output, which is removed after saving, or `checkpoints`,
    which stays. Another process that makes the same output is waited for, and `tell` gets a message about it. Raises
    `ConfigError` where processes that train together do not see the same file."""
    made_from = identity_of([spec.identity, artifact.versions()])
    folder = checkpoints or output.with_name(f"{output.name}.checkpoints")
    with alone(folder, output, tell):
        result = _load_finished(load, output)
        is_done = result is not None and result.made_from == made_from
        if not same_everywhere(is_done):
            raise ConfigError(
                f"not all processes see the same {output}; it must lie in a folder that all machines share"
            )
        if result is None or not is_done:
            result = train(folder)
            result = replace(result, report=result.training.replace(made_from=made_from))
            result.save(output)
            wait()  # one process writes the file, all use it
        if checkpoints is None:
            forget(folder)  # only after the result is saved; also what an earlier kill at this line left
    return result, is_done


def _load_finished(load: Callable[[Path], _Trained], output: Path) -> _Trained | None:
    """The result in `output`; None where there is no usable file."""
    try:
        return load(output) if output.is_file() else None
    except UserError:
        return None


def forget(folder: Path) -> None:
    """Remove checkpoints that are no longer needed."""
    wait()
    if is_first():
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def alone(folder: Path, output: Path, tell: Callable[[str], None] = lambda line: None) -> Generator[None]:
    """Context that locks out other processes that make the same output. `folder` holds the lock file and is removed if
    it ends up empty. Of processes that train together, the first takes the lock for all."""
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
