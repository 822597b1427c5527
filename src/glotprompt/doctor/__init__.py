"""The doctor: checks a model and unlabelled text before anything is trained.

`text` counts, `forecast` times, `verdict` judges; `examine` runs them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig
from glotprompt.data.languages import Exposure, exposure, exposure_family
from glotprompt.doctor.text import TextStatistics, reference_pieces, statistics_of
from glotprompt.doctor.verdict import (
    NUM_EXAMPLES,
    VERDICTS,
    Finding,
    Level,
    cost_findings,
    label_finding,
    language_finding,
    text_findings,
    worst,
)
from glotprompt.errors import ConfigError, DataError, ModelError, in_a_line
from glotprompt.estimate.forecast import Fields, Forecast, Forecaster, Probe, Text
from glotprompt.methods import METHODS, default_method, method_of_adapt
from glotprompt.model.backbone import Backbone
from glotprompt.model.devices import choose_precision
from glotprompt.model.loading import folder_of, read_tokenizer
from glotprompt.model.shapes import Shell
from glotprompt.task import Task
from glotprompt.training.objectives.cloze import label_words, tokens_of, words_of_several_tokens

PROBE_SECONDS = 10.0
"""Approximate time of the probe per stage; a step that has begun is finished."""


@dataclass(frozen=True)
class Diagnosis:
    """All findings, with the figures behind them."""

    model: str
    """Name of the backbone."""
    language: str | None
    """ISO 639-3 code; None if not given."""
    exposure: Exposure | None
    """Whether the backbone was pre-trained on the language; None if the language or the family is unknown."""
    text: TextStatistics
    references: Mapping[str, float]
    """ISO 639-3 code -> sub-words per word of ten pre-training languages, by this tokenizer."""
    adapt: Forecast
    """Forecast of stage 1 on this machine."""
    tune: Forecast | None
    """Forecast of stage 2; None without a task."""
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst level of all findings."""
        return worst(self.findings)

    @property
    def verdict(self) -> str:
        """The level in words. It reports obstacles, not the accuracy of the future classifier."""
        return VERDICTS[self.level]

    def to_dict(self) -> dict[str, Any]:
        """All figures as a JSON value; tokens per line as a histogram (see `length_histogram`)."""
        text = {key: value for key, value in asdict(self.text).items() if key not in ("line_tokens", "is_byte_level")}
        text["unknown"] = [
            {
                "text": char.text,
                "shown": char.shown,
                "code_points": char.code_points,
                "name": char.name,
                "count": char.count,
            }
            for char in self.text.unknown
        ]
        shares = ("pieces_per_word", "unknown_share", "touched_share", "duplicate_share")
        text |= {name: getattr(self.text, name) for name in shares}
        return {
            "model": self.model,
            "language": self.language,
            "exposure": None if self.exposure is None else self.exposure.to_dict(),
            "level": self.level,
            "verdict": self.verdict,
            "findings": [asdict(finding) for finding in self.findings],
            "text": {**text, "line_lengths": length_histogram(self.text.line_tokens)},
            "references": dict(self.references),
            "adapt": asdict(self.adapt),
            "tune": None if self.tune is None else asdict(self.tune),
        }


def examine(
    model: str | Path | Backbone,
    texts: Sequence[str],
    *,
    language: str | None = None,
    task: Task | None = None,
    adapt: AdaptConfig | None = None,
    tune: TuneConfig | None = None,
    runtime: RuntimeConfig | None = None,
    probe_seconds: float = PROBE_SECONDS,
    precision: Any = "auto",
    device: str = "auto",
) -> Diagnosis:
    """Examine a backbone and unlabelled target lines before training.

    `model` is what `Backbone.load` takes, or a backbone. `language` is the text's ISO 639-3 code. With a `task`, its
    label words are checked and stage 2 is estimated for 1,000 examples as long as the lines. With the objective
    alignment, the lines are taken for both sides of as many pairs. `probe_seconds` are spent on real steps of each
    stage; with 0 nothing is timed and no weights are read. `precision` and `device` are those of `Backbone.load`.
    Nothing is saved. Raises `DataError` for an empty text, `ModelError` and `ConfigError` as the two stages would."""
    if not texts:
        raise DataError("there is no text to look at; give at least one line in the target language")
    adapt, tune, runtime = adapt or AdaptConfig(), tune or TuneConfig(), runtime or RuntimeConfig()
    method_of_adapt(adapt)  # raises before the costly parts
    name = model.name if isinstance(model, Backbone) else str(model)
    family = exposure_family(name)
    pretraining = None if language is None or family is None else exposure(language, family)
    backbone = model if isinstance(model, Backbone) else None
    if backbone is None and probe_seconds > 0:
        backbone = Backbone.load(name, precision=precision, device=device)
    forecaster = _forecaster(name, backbone, Probe(probe_seconds), runtime, precision, device)
    if tune.head != "cloze":
        tune = tune.replace(method=tune.method or adapt.method)
    else:
        tune = tune.replace(method=default_method(tune.method or adapt.method, forecaster.shell.has_lm_head))
    tokenizer = _tokenizer(name) if backbone is None else backbone.tokenizer
    text = statistics_of(texts, tokenizer)
    references = reference_pieces(tokenizer)
    # One line cannot be split into training and held-out text; the finding on its amount says enough.
    if probe_seconds <= 0 or text.num_unique < 2:
        forecaster.backbone = None
    sides = 2 if adapt.objective == "alignment" else 1
    lines = [line for line in texts for _ in range(sides)]
    lengths = [length for length in text.line_tokens for _ in range(sides)]
    first, second = forecaster.adapt(adapt, Text(lines, lengths)), None
    findings = [language_finding(language, pretraining), *text_findings(text, references, adapt)]
    if task is not None:
        reads_words = METHODS[str(tune.method)].reads_words(tune)
        problems = label_problems(task, tokenizer) if reads_words else []
        if problems:  # a stage 2 that cannot start cannot be timed
            forecaster.backbone = None
        fields: list[Fields] = [dict.fromkeys(task.template.fields, line) for line in texts]
        dev = round(tune.dev_share * NUM_EXAMPLES)
        second = forecaster.tune(tune, adapt, task, fields, (NUM_EXAMPLES - dev, dev))
        if reads_words:
            several = [] if problems else words_of_several_tokens(task, tokenizer)
            by_token = forecaster.shell.objective != "mlm"
            findings.append(label_finding(problems, len(task.labels), several, by_token))
    findings += cost_findings(first, second, forecaster.machine_bytes)
    return Diagnosis(name, language, pretraining, text, references, first, second, tuple(findings))


def _forecaster(
    name: str, backbone: Backbone | None, probe: Probe, runtime: RuntimeConfig, precision: str, device: str
) -> Forecaster:
    """A forecaster of the backbone, or of its shape in the precision and on the device of the training."""
    if backbone is not None:
        return Forecaster.of(backbone, probe, runtime)
    available = "cuda" if torch.cuda.is_available() else "cpu"
    torch_device = torch.device(available if device == "auto" else device)
    shell = Shell.named(name)
    chosen_precision = choose_precision(torch_device) if precision == "auto" else precision
    shell.use_precision("bf16" if chosen_precision == "bf16" else "fp32")
    return Forecaster(shell, torch_device, None, probe, runtime)


def _tokenizer(name: str) -> Any:
    """A backbone's tokenizer, without its weights."""
    try:
        return read_tokenizer(folder_of(name))
    except Exception as error:  # other people's files: anything can be raised
        reason = in_a_line(error, 200)
        raise ModelError(
            f"cannot load the tokenizer of {name!r}: {reason} -- give mini, a folder with tokenizer.json or a hub name"
        ) from None


def label_problems(task: Task, tokenizer: Any) -> list[str]:
    """Label words that the model cannot spell, with similar ones that it can; if none, the first word used twice."""
    problems: list[str] = []
    for label, words in task.verbalizer.items():
        for word in words:
            problems += _problem(lambda word=word, label=label: tokens_of(word, label, task, tokenizer))
    return problems or _problem(lambda: label_words(task, tokenizer))


def _problem(look_up: Callable[[], object]) -> list[str]:
    try:
        look_up()
    except ConfigError as error:
        return [str(error)]
    return []


def length_histogram(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Bins as (longest length, number of lines); they double: 1, 2, 4, 8 ... tokens."""
    bins: dict[int, int] = {}
    for length in lengths:
        top = 1 << max(0, length - 1).bit_length()
        bins[top] = bins.get(top, 0) + 1
    largest = max(bins, default=1)
    return [(1 << i, bins.get(1 << i, 0)) for i in range(largest.bit_length())]
