"""What can be compared: the candidates, what each needs and how it is configured, and the commands that make one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from glotprompt.config import AdaptConfig, TuneConfig, preset
from glotprompt.model.loading import MINI
from glotprompt.report.tables import look, method_name

Reads = Literal["majority", "tf-idf", "embedding", "cloze"]

ALIGNED = {"lora-aligned": "lora", "soft-prompt-aligned": "soft-prompt"}
"""Stages 1 that need parallel text, and their methods."""
MLM = "soft-prompt"
"""The stage 1 that needs target text: masked language modelling with a soft prompt."""


@dataclass(frozen=True)
class Candidate:
    """A way to get a labeller."""

    reads: Reads
    """What gives the label. "embedding": logistic regression on sentence vectors."""
    stage1: str = ""
    """ "": none."""
    labels: bool = False
    """Whether it is trained on target labels, too (tf-idf: on nothing else)."""
    centred: bool = False
    """Whether sentence vectors are centred by the target text."""
    ridge: bool = False
    """Whether they are mapped to those of the source by a ridge map, fitted on the translations."""
    self_trained: bool = False

    @property
    def is_baseline(self) -> bool:
        """Whether it needs no language model."""
        return self.reads in ("majority", "tf-idf")

    @property
    def is_random(self) -> bool:
        """Whether another seed is another training."""
        return bool(self.stage1) or self.reads == "cloze"

    @property
    def tier(self) -> int:
        """How much has to be trained and served: within a standard error of the best, the lowest tier is chosen."""
        if self.is_baseline:
            return 0
        return 5 if self.reads == "cloze" else 1 + 2 * bool(self.stage1) + self.self_trained

    @property
    def method(self) -> str:
        """Whose colour and name it has in reports."""
        return self.stage1 or ("prompt-tuning" if self.reads == "cloze" else self.reads)

    @property
    def name(self) -> str:
        """Its key in the figures."""
        marks = {"centred": self.centred, "ridge": self.ridge, "self-trained": self.self_trained}
        marks |= {"labels": self.labels}
        return "+".join([self.method, *(mark for mark, is_so in marks.items() if is_so and not self.is_baseline)])

    @property
    def title(self) -> str:
        """Its name in print."""
        own = {"tf-idf": "tf-idf on your labels", "embedding": "Sentence vectors"}
        title = own.get(self.method, method_name(self.method))
        title += ", centred" if self.centred else ", mapped" if self.ridge else ""
        title += ", self-trained" if self.self_trained else ""
        return f"{title}, your labels" if self.labels and not self.is_baseline else title

    @property
    def colour(self) -> str:
        return look(self.method).colour


EMBEDDING = Candidate("embedding")


def planned(*, target: bool, parallel: bool, labels: bool) -> list[Candidate]:
    """The candidates that these kinds of data allow, by what they were worth on other languages (docs/does_it_help.md):
    the baselines and plain sentence vectors, these with target labels (in seconds, which no longer training can take
    from them), LoRA aligned on translations, self-training; then what was worth less. Without labels there are those
    that can be recommended all the same."""
    lora, prompt = (replace(EMBEDDING, stage1=stage1) for stage1 in ALIGNED)
    ridge = replace(EMBEDDING, ridge=True)
    if not labels:
        self_trained = [replace(EMBEDDING, self_trained=True)] if target else []
        return [EMBEDDING, *([lora] if parallel else []), *self_trained, *([prompt, ridge] if parallel else [])]
    aligned, other = (_with_labels(lora), [*_with_labels(prompt), ridge]) if parallel else ([], [])
    candidates = [Candidate("majority"), Candidate("tf-idf", labels=True), *_with_labels(EMBEDDING), *aligned]
    for start in (EMBEDDING, *aligned[:1]) if target else ():
        candidates += _with_labels(replace(start, self_trained=True))
    variants = [replace(EMBEDDING, centred=True)] if target else []
    clozes = [Candidate("cloze"), *([Candidate("cloze", MLM)] if target else [])]
    return [*candidates, *other, *variants, *clozes]


def _with_labels(candidate: Candidate) -> list[Candidate]:
    return [candidate, replace(candidate, labels=True)]


def adapt_config(candidate: Candidate, seed: int, model: str) -> AdaptConfig:
    """Stage 1 of a candidate."""
    method = ALIGNED.get(candidate.stage1, candidate.stage1)
    name = "alignment" if candidate.stage1 in ALIGNED else _preset_of(model)
    settings: dict[str, Any] = {**preset(name, "adapt", method), "method": method, "seed": seed}
    return AdaptConfig(**settings)


def tune_config(candidate: Candidate, seed: int, model: str) -> TuneConfig:
    """Stage 2 of a candidate."""
    method = "embedding" if candidate.reads == "embedding" else candidate.method
    name = "alignment" if candidate.reads == "embedding" else _preset_of(model)
    settings: dict[str, Any] = {**preset(name, "tune", method), "method": method, "seed": seed}
    return TuneConfig(**settings)


def _preset_of(model: str) -> str:
    """As `adapt` and `tune` choose it without alignment."""
    return "quick" if model == MINI else "defaults"


@dataclass(frozen=True)
class Typed:
    """What the person named, as it would be typed again."""

    language: str
    task: str
    train: Sequence[str]
    target: Sequence[str] = ()
    parallel: Sequence[str] = ()
    labels: str = ""
    dev: str = ""
    held_out: Sequence[str] = ()
    reading: Callable[[Sequence[str], Sequence[str], Sequence[str]], Sequence[str]] = lambda *files: ()
    """Function from a command's files, those of them with labels, and those of scored text, to the options on how files
    are read."""
    machine: Sequence[str] = ()
    flags: Callable[[str], Sequence[str]] = lambda command: ()
    """Function from a command to other options that it shares with `compare`."""

    @property
    def scored(self) -> list[str]:
        """What is scored, and in nothing that is learned from text."""
        return [*self.held_out, *([self.labels] if self.labels else [])]


def commands(candidate: Candidate, typed: Typed, model: str, folder: str) -> list[str]:
    """The plain commands that make a candidate, which write into a folder; none for the majority class."""
    if candidate.reads == "majority":
        return []
    return [shlex.join(["glotprompt", *words]) for words in _commands(candidate, typed, model, folder)]


def _commands(candidate: Candidate, typed: Typed, model: str, folder: str) -> Iterator[list[str]]:
    adapted, started, output = (f"{folder}/{name}.safetensors" for name in ("adapted", "started", "classifier"))
    if candidate.reads == "tf-idf":
        words = ["tune", "--method", "tf-idf", "--language", typed.language, "--train", typed.labels]
        files = [typed.labels]
        yield [*words, "--task", typed.task, "--output", output, *typed.reading(files, files, ()), *typed.flags("tune")]
        return
    if candidate.stage1:
        yield [*_adapt(candidate, typed, model), "--output", adapted, *typed.machine, *typed.flags("adapt")]
    held_out = _each("--held-out", typed.scored)
    labelled = [*typed.train, *([typed.dev] if typed.dev else []), *([typed.labels] if candidate.labels else [])]
    learned = [*_each("--train", typed.train), *(["--dev", typed.dev] if typed.dev else [])]
    learned += ["--target-labels", typed.labels] if candidate.labels else []
    words = ["tune", *(["--prompt", adapted] if candidate.stage1 else ["--model", model, "--language", typed.language])]
    words += ["--method", str(tune_config(candidate, 0, model).method)]
    words += ["--preset", "alignment"] if candidate.reads == "embedding" else []
    words += [*learned, "--task", typed.task]
    words += [*_each("--target-text", typed.target), *held_out] if candidate.centred else []
    words += [*_each("--parallel", typed.parallel), *held_out] if candidate.ridge else []
    unlabelled = [*(typed.target if candidate.centred else ()), *(typed.parallel if candidate.ridge else ())]
    ending = [*typed.reading([*labelled, *unlabelled], labelled, ()), *typed.machine, *typed.flags("tune")]
    yield [*words, "--output", started if candidate.self_trained else output, *ending]
    if candidate.self_trained:
        words = ["self-train", "--classifier", started, *_each("--unlabelled", typed.target), *learned]
        words += [*(["--prompt", adapted] if candidate.stage1 else []), *held_out, "--output", output]
        words += typed.reading([*labelled, *typed.target], labelled, ())
        yield [*words, *typed.machine, *typed.flags("self-train")]


def _adapt(candidate: Candidate, typed: Typed, model: str) -> list[str]:
    """The command of stage 1 without its output."""
    aligned, files = candidate.stage1 in ALIGNED, [*typed.target, *typed.train]
    text = [*_each("--target", typed.target), *_each("--source", typed.train)]
    if aligned:
        files, text = [*typed.parallel], _each("--parallel", typed.parallel)
    words = ["adapt", *text, "--language", typed.language, "--model", model]
    words += ["--method", ALIGNED.get(candidate.stage1, candidate.stage1), *_each("--held-out", typed.scored)]
    return [*words, *typed.reading(files, (), typed.scored)]


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]
