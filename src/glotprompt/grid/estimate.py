"""The time and memory that a plan's steps take on this machine; each training is timed once (`estimate.forecast`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from glotprompt.config import AdaptConfig
from glotprompt.data.readers.records import most_per_label
from glotprompt.estimate.forecast import PROBE_TOKENS, Fields, Forecast, Forecaster, Probe, Text
from glotprompt.grid import reading
from glotprompt.grid.reading import ExampleSource
from glotprompt.grid.steps import AdaptStep, CostStep, EvaluateStep, PlannedBackbone, Step, TuneStep, Workplace
from glotprompt.grid.work import backbone_of
from glotprompt.methods import METHODS
from glotprompt.model.backbone import Backbone
from glotprompt.model.devices import device_of
from glotprompt.model.shapes import Shell

PROBE = Probe(seconds=2.0, most_tokens=PROBE_TOKENS)
"""Short, because a plan has many kinds of training."""

_SAMPLE, _CHARACTERS = 64, 400
"""Number of lines whose tokens are counted, and the number of characters read of each."""


@dataclass
class Estimator:
    """Forecasts for steps on this machine under its present load."""

    place: Workplace
    _forecasters: dict[tuple[str, str], Forecaster] = field(default_factory=dict[tuple[str, str], Forecaster])

    @property
    def machine_bytes(self) -> int | None:
        """Memory of this machine, or of its GPU."""
        return next((forecaster.machine_bytes for forecaster in self._forecasters.values()), None)

    def __call__(self, step: Step) -> Forecast:
        """Training steps, seconds and memory of a step, without loading the backbone. Seconds are None where the
        backbone is not on this machine."""
        match step:
            case CostStep():
                return Forecast(0, 0, 0, 0, seconds=0.0)
            case AdaptStep():
                return self._adapt(step)
            case TuneStep():
                return self._tune(step)
            case EvaluateStep():
                tuned, examples = step.tuned, self._examples(step.test)
                adapt = None if tuned.adapted is None else tuned.adapted.config
                forecast = self._of(step.backbone).evaluate(tuned.config, adapt, tuned.task, examples)
                return forecast if step.folds is None else self._cross_fitted(forecast, step, step.folds)

    def _cross_fitted(self, scored: Forecast, step: EvaluateStep, folds: int) -> Forecast:
        """With the trainings on the folds. Sentence vectors are read once; other trainings are on all folds but one."""
        trained = self._tune(step.tuned)
        times = 1 if METHODS[step.tuned.method].reads_vectors else folds - 1
        seconds = None if trained.seconds is None else (scored.seconds or 0.0) + times * trained.seconds
        return replace(trained, seconds=seconds, file_bytes=0)

    def _of(self, planned: PlannedBackbone) -> Forecaster:
        key = planned.name, planned.precision
        if key not in self._forecasters:
            if planned.fingerprint:
                forecaster = Forecaster.of(backbone_of(planned, self.place.device), PROBE, self.place.runtime)
            else:
                device = device_of(self.place.device)
                forecaster = Forecaster(Shell.named(planned.name), device, None, PROBE, self.place.runtime)
            self._forecasters[key] = forecaster
        return self._forecasters[key]

    def _adapt(self, step: AdaptStep) -> Forecast:
        config = step.config
        if config.objective != "mlm+alignment":
            return self._with_objective(step, config)
        # Each of its steps is a step of both.
        one = self._with_objective(step, config.replace(objective="mlm"))
        other = self._with_objective(step, config.replace(objective="alignment"))
        seconds = None if one.seconds is None or other.seconds is None else one.seconds + other.seconds
        return replace(one, seconds=seconds, estimated_bytes=max(one.estimated_bytes, other.estimated_bytes))

    def _with_objective(self, step: AdaptStep, config: AdaptConfig) -> Forecast:
        forecaster, data_dir = self._of(step.backbone), self.place.data_dir
        if config.objective == "alignment":
            lines = [side for pair in reading.pairs(step.texts["pairs"], data_dir).pairs for side in pair]
        else:
            lines = reading.texts(step.texts["target"], data_dir).lines
        text = Text(lines, [] if forecaster.backbone is None else _lengths(lines, forecaster.backbone))
        return forecaster.adapt(config, text, None if step.after is None else 1)

    def _tune(self, step: TuneStep) -> Forecast:
        config, labelled = step.config, reading.examples(step.train, self.place.data_dir)
        if config.most_per_label is not None:
            labelled = most_per_label(labelled, config.most_per_label, config.seed)
        examples, num = [example.fields for example in labelled], len(labelled)
        dev = round(config.dev_share * num) if step.dev is None else len(self._examples(step.dev))
        num -= dev if step.dev is None else 0
        if config.shots_per_class is not None:
            num = min(num, config.shots_per_class * len(step.task.labels))
        if step.pairs is not None:  # both sides are read
            num += 2 * len(reading.pairs(step.pairs, self.place.data_dir).pairs)
        adapt = None if step.adapted is None else step.adapted.config
        return self._of(step.backbone).tune(config, adapt, step.task, examples, (num, dev))

    def _examples(self, source: ExampleSource) -> list[Fields]:
        return [example.fields for example in reading.examples(source, self.place.data_dir)]


def _lengths(lines: list[str], backbone: Backbone) -> list[float]:
    """Estimated tokens of each line, from a sample."""
    sample = [line[:_CHARACTERS] for line in lines[:: max(1, len(lines) // _SAMPLE)][:_SAMPLE]]
    tokens = sum(len(ids) for ids in backbone.tokenizer(sample, add_special_tokens=False)["input_ids"])
    return [len(line) * tokens / max(1, sum(map(len, sample))) for line in lines]
