"""Backbones and what was trained on them, opened as the command line asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from glotprompt.cli.files import without_weight
from glotprompt.cli.screen import note, resumable
from glotprompt.cli.tables import wrote
from glotprompt.cli.threads import keep_to_quota
from glotprompt.config import RuntimeConfig
from glotprompt.errors import ConfigError, ModelError, counted
from glotprompt.formats import adapter_hub
from glotprompt.inference.classifier import Adapted, LanguageModule, LanguagePrompt, PromptClassifier, load_adapted
from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import MINI
from glotprompt.model.modules.adapters import Adapter
from glotprompt.model.shapes import Shell
from glotprompt.processes import is_first, join, wait
from glotprompt.records import TextReport
from glotprompt.spec import RunSpec, done_or_train
from glotprompt.storage.artifact import NO_BACKBONE
from glotprompt.storage.kinds import STAGE1_KINDS
from glotprompt.storage.metadata import describe
from glotprompt.training.watch import beside

_Trained = TypeVar("_Trained", bound=LanguagePrompt | LanguageModule | PromptClassifier)


def open_backbone(model: str, precision: Any, device: str) -> Backbone:
    """Load a backbone and say what it is."""
    join(device)  # first of all: it decides which GPU is this process's
    if device != "auto":
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"--device {device} cannot be used here ({reason}); give auto or cpu") from None
    keep_to_quota()  # before the probe that chooses the precision
    backbone = Backbone.load(model, precision=precision, device=device)
    millions = backbone.num_parameters / 1e6
    note(
        f"backbone: {backbone.name}, {counted(backbone.num_layers, 'layer')}, {millions:.1f} M frozen parameters,"
        f" {backbone.precision} on {backbone.device}"
    )
    return backbone


def open_start(path: Path | None, model: str | None, precision: Any, device: str) -> tuple[Adapted | None, Backbone]:
    """The start of stage 2: a saved result of stage 1 and its backbone, or a backbone alone."""
    if path is None:
        assert model is not None
        return None, open_backbone(model, precision, device)
    backbone = open_recorded(path, STAGE1_KINDS, model, precision, device)
    return load_adapted(path, backbone), backbone


def open_classifier(
    path: Path, model: str | None, precision: Any, device: str, normalise: bool, *, loaded: Backbone | None = None
) -> PromptClassifier:
    """Open a saved classifier on its backbone, which may be `loaded` already. `normalise`: whether the texts to
    classify are normalised."""
    made_for = describe(path, ("classifier",))["backbone"]
    if made_for == NO_BACKBONE:
        if model is not None:
            raise ConfigError(f"--model has no effect: {path} uses no backbone; leave it out")
        loaded = Shell.named(MINI)  # in name only
    elif loaded is None or loaded.fingerprint != made_for["fingerprint"]:
        loaded = open_recorded(path, ("classifier",), model, precision, device)
    classifier = PromptClassifier.load(path, loaded)
    if classifier.report is not None and classifier.report.normalised and not normalise:
        note(f"{path} was tuned on normalised text; give --normalise here, too")
    if classifier.offsets is not None:
        note(f"{path} holds label offsets, which are applied")
    return classifier


def open_recorded(path: Path, kinds: Sequence[str], model: str | None, precision: Any, device: str) -> Backbone:
    """Open the backbone of a saved file, from `model` where it is not found under its recorded name."""
    recorded, _ = recorded_backbone(path, kinds)
    try:
        return open_backbone(model or recorded, precision, device)
    except ModelError as error:
        if model is not None:
            raise
        raise ModelError(f"{path} was made for {recorded!r}: {error}; say where it is with --model") from None


def weighted_prompts(
    option: str, words: Sequence[str] | None, backbone: Backbone
) -> list[tuple[LanguagePrompt, float]] | None:
    """The prompts of an option's `FILE=WEIGHT ...`; without a weight, that of a mean. None: no such option."""
    if not words:
        return None
    found: list[tuple[LanguagePrompt, float]] = []
    for word in words:
        path = without_weight(word)
        try:
            value = 1 / len(words) if path == word else float(word.removeprefix(f"{path}="))
            if not math.isfinite(value):
                raise ValueError
        except ValueError:
            raise ConfigError(
                f"{option} {word}: expected FILE=WEIGHT with a number, such as sna.safetensors=0.5"
            ) from None
        found.append((LanguagePrompt.load(path, backbone), value))
    return found


def read_adapter(folder: Path, backbone: Backbone) -> Adapter:
    """An adapter in AdapterHub's format, with notes on what is ignored or does not fit."""
    if adapter_hub.has_head(folder):
        note(f"{folder} also holds a prediction head, which is left aside: words are predicted by the model's own")
    model = adapter_hub.made_for(folder)
    if model and model.split("/")[-1] != backbone.name.split("/")[-1]:
        note(f"note: {folder} was made for {model}, not for {backbone.name}; on other weights it is worth nothing")
    return adapter_hub.from_adapter_hub(folder, backbone)


def recorded_backbone(path: Path, kinds: Sequence[str]) -> tuple[str, str]:
    """Names of the backbone that a saved file was made for (mini, if it uses none), and of its method."""
    metadata = describe(path, kinds)
    made_for = metadata["backbone"]
    return MINI if made_for == NO_BACKBONE else str(made_for["name"]), str(metadata["method"])


def train_once(
    spec: RunSpec,
    output: Path,
    load: Callable[[Path], _Trained],
    train: Callable[[RuntimeConfig], _Trained],
    *,
    text: TextReport,
    runtime: RuntimeConfig,
) -> _Trained:
    """Run `done_or_train`, with notes for the user. `train` gets `runtime` with the folder of the checkpoints and the
    file of metrics beside the output. `text`: how the text was prepared, for the report. A `runtime` with a folder of
    checkpoints shares it with other runs."""

    def run(work: Path) -> _Trained:
        metrics = beside(output)
        if is_first() and not any(work.glob("*.checkpoint")):  # nothing to resume: what lies there is of another run
            metrics.unlink(missing_ok=True)
        return with_text(train(runtime.replace(checkpoint_dir=work, metrics=metrics)))

    def with_text(result: _Trained) -> _Trained:
        return replace(result, report=result.training.with_text(text))

    shared = runtime.checkpoint_dir
    folder = shared or output.with_name(f"{output.name}.checkpoints")
    with resumable(folder):
        result, was_there = done_or_train(spec, output, load, run, checkpoints=shared, tell=note)
    if not was_there:
        _say_written(result, output)
        return result
    note(f"{output} is already what these words make; delete it to train it again")
    current = with_text(result)
    if current.training != result.training:
        current.save(output)
        wait()
        note(f"{output} now says how its text was checked this time")
    no_digests = {"seen": ""} if isinstance(current, PromptClassifier) and current.seen else {}
    if runtime.no_samples and (current.samples is not None or no_digests):
        current = replace(current, samples=None, **no_digests)
        current.save(output)
        wait()
        note(f"took the example texts out of {output}")
    return current


def _say_written(result: LanguagePrompt | LanguageModule | PromptClassifier, output: Path) -> None:
    names = {LanguagePrompt: "language prompt", LanguageModule: "language module", PromptClassifier: "classifier"}
    wrote(output, names[type(result)])
    if result.samples is not None:
        count = len(result.samples.texts)
        note(
            f"{output} holds {counted(count, 'example text')} in plain words; the same command with --no-samples"
            " leaves them out"
        )
