"""Backbones and what was trained on them, opened as the command line asks."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from glotprompt import artifact
from glotprompt.classifier import (
    Adapted,
    LanguageModule,
    LanguagePrompt,
    PromptClassifier,
    load_adapted,
)
from glotprompt.cli.screen import alone, note, resumable, wrote
from glotprompt.cli.threads import keep_to_quota
from glotprompt.config import RuntimeConfig, identity_of
from glotprompt.errors import ConfigError, ModelError, UserError, counted
from glotprompt.facts import describe
from glotprompt.model.encoder import Encoder
from glotprompt.processes import is_first, join, same_everywhere, wait

_Trained = TypeVar("_Trained", bound=LanguagePrompt | LanguageModule | PromptClassifier)

STAGE1_KINDS = ("language prompt", "language module")


def open_encoder(model: str, precision: Any, device: str) -> Encoder:
    """Load a backbone and say what it is."""
    join(device)  # first of all: it decides which GPU is this process's
    if device != "auto":
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"--device {device} cannot be used here ({reason}); give auto or cpu") from None
    keep_to_quota()  # before the probe that chooses the precision
    encoder = Encoder.load(model, precision=precision, device=device)
    millions = encoder.num_values / 1e6
    note(
        f"backbone: {encoder.name}, {counted(encoder.num_layers, 'layer')}, {millions:.1f} M frozen values,"
        f" {encoder.precision} on {encoder.device}"
    )
    return encoder


def open_start(path: Path | None, model: str | None, precision: Any, device: str) -> tuple[Adapted | None, Encoder]:
    """What stage 2 starts from: what stage 1 saved and the backbone it was made for, or a backbone alone."""
    if path is None:
        assert model is not None
        return None, open_encoder(model, precision, device)
    encoder = open_recorded(path, STAGE1_KINDS, model, precision, device)
    return load_adapted(path, encoder), encoder


def open_classifier(
    path: Path, model: str | None, precision: Any, device: str, normalise: bool, *, loaded: Encoder | None = None
) -> PromptClassifier:
    """A saved classifier on the backbone it was made for, which may be `loaded` already. `normalise`: whether the text
    that it is to read is."""
    made_for = describe(path, ("classifier",))["backbone"]
    if loaded is None or loaded.fingerprint != made_for["fingerprint"]:
        loaded = open_recorded(path, ("classifier",), model, precision, device)
    classifier = PromptClassifier.load(path, loaded)
    if classifier.facts.get("normalised") and not normalise:
        note(f"{path} was tuned on normalised text; give --normalise here, too")
    if classifier.offsets is not None:
        note(f"{path} holds label offsets, which are applied")
    return classifier


def open_recorded(path: Path, kinds: Sequence[str], model: str | None, precision: Any, device: str) -> Encoder:
    """The backbone that a saved file was made for, by `model` where it is not found under its name."""
    recorded, _ = recorded_backbone(path, kinds)
    try:
        return open_encoder(model or recorded, precision, device)
    except ModelError as error:
        if model is not None:
            raise
        raise ModelError(f"{path} was made for {recorded!r}: {error}; say where it is with --model") from None


def weighted_prompts(
    option: str, words: Sequence[str] | None, encoder: Encoder
) -> list[tuple[LanguagePrompt, float]] | None:
    """The prompts of an option's `FILE=WEIGHT ...`; without a weight, that of a mean. None: no such option."""
    if not words:
        return None
    found: list[tuple[LanguagePrompt, float]] = []
    for word in words:
        path, equals, weight = word.rpartition("=") if not Path(word).exists() else (word, "", "")
        try:
            value = float(weight) if equals else 1 / len(words)
            if not math.isfinite(value):
                raise ValueError
        except ValueError:
            raise ConfigError(
                f"{option} {word}: expected FILE=WEIGHT with a number, such as sna.safetensors=0.5"
            ) from None
        found.append((LanguagePrompt.load(path or word, encoder), value))
    return found


def recorded_backbone(path: Path, kinds: Sequence[str]) -> tuple[str, str]:
    """Names of the backbone that a saved file was made for, and of its method."""
    facts = describe(path, kinds)
    return str(facts["backbone"]["name"]), str(facts["method"])


def train_once(
    load: Callable[[Path, Encoder], _Trained],
    output: Path,
    words: Sequence[Any],
    encoder: Encoder,
    train: Callable[[Path], _Trained],
    runtime: RuntimeConfig,
    shared: Path | None = None,
) -> _Trained:
    """What `train` makes, saved; or the saved file, when an earlier run of the same `words` finished it.

    `train` is handed the folder for its checkpoints: `shared`, which the caller removes, or one beside the output."""
    made_from = identity_of([*words, artifact.versions()])
    folder = shared or output.with_name(f"{output.name}.checkpoints")
    with alone(folder, output):
        found = _finished(load, output, encoder)
        finished = found is not None and found.facts.get("made_from") == made_from
        if not same_everywhere(finished):
            raise ConfigError(
                f"not all processes see the same {output}; it must lie in a folder that all machines share"
            )
        if found is not None and finished:
            made = _as_left(found, output, runtime)
        else:
            with resumable(folder):
                made = train(folder)
                made = replace(made, facts={**made.facts, "made_from": made_from})
                made.save(output)
                wait()  # one process writes, all go on with the file
            _say_written(made, output)
        if shared is None:
            forget(folder)  # not before the result is in its place; also what a kill in this very line left
    return made


def _as_left(found: _Trained, output: Path, runtime: RuntimeConfig) -> _Trained:
    """What an earlier run made, its samples taken out where they are not wanted."""
    note(f"{output} is already what these words make; delete it to train it again")
    if runtime.no_samples and found.samples is not None:
        found = replace(found, samples=None)
        found.save(output)
        wait()
        note(f"took the example texts out of {output}")
    return found


def _say_written(made: LanguagePrompt | LanguageModule | PromptClassifier, output: Path) -> None:
    names = {LanguagePrompt: "language prompt", LanguageModule: "language module", PromptClassifier: "classifier"}
    wrote(output, names[type(made)])
    if made.samples is not None:
        count = len(made.samples.texts)
        note(
            f"{output} holds {counted(count, 'example text')} in plain words; the same command with --no-samples"
            " leaves them out"
        )


def forget(folder: Path) -> None:
    """Remove checkpoints that are not needed any more."""
    wait()
    if is_first():
        shutil.rmtree(folder, ignore_errors=True)


def _finished(load: Callable[[Path, Encoder], _Trained], output: Path, encoder: Encoder) -> _Trained | None:
    """A file that may be replaced is as good as none when it cannot be used."""
    try:
        return load(output, encoder) if output.is_file() else None
    except UserError:
        return None
