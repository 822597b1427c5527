"""Forecasts: what is counted is what a training reads, and a probe takes real steps without leaving a trace."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import glotprompt as gp
from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.errors import ModelError
from glotprompt.estimate import forecast
from glotprompt.estimate.forecast import LONGEST, SAMPLE_LINES, Forecast, Forecaster, Probe, Text, _some, unfit
from glotprompt.model.backbone import Backbone
from glotprompt.model.shapes import Shell
from glotprompt.training import pace
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.inputs import masking_corpus
from glotprompt.training.pace import Pace, Work, pace_of

from .toys import QUIET, SOURCE, TASK, TOY, TRANSLATIONS, topics

TINY: dict[str, Any] = {"prompt_length": 2, "batch_size": 4, "max_length": 16}
ADAPT, TUNE = AdaptConfig(steps=50, eval_every=20, **TINY), TuneConfig(method="soft-prompt", epochs=2, **TINY)
BY_TOKENS = Pace(1.0, 1.0, 0.0, 0.0, 1, None)
FIELDS = [example.fields for example in topics()]


def text_of(lines: list[str], backbone: Backbone) -> Text:
    return Text(lines, [len(ids) for ids in backbone.tokenizer(lines, add_special_tokens=False)["input_ids"]])


@pytest.fixture
def backbone(tiny_backbone: Callable[[str], Backbone]) -> Backbone:
    return tiny_backbone("xlm-roberta")


@pytest.fixture
def by_tokens(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> Forecaster:
    """Forecasts tokens in the place of seconds."""
    monkeypatch.setattr(forecast, "pace_of", lambda *how: BY_TOKENS)
    return Forecaster.of(backbone, Probe(1.0), QUIET)


@pytest.fixture
def tokens_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of every pass of a backbone."""
    found: list[int] = []
    states_at, pooled_states = Backbone.states_at, Backbone.pooled_states

    def at(backbone: Backbone, ids: torch.Tensor, mask: Any, *others: Any) -> torch.Tensor:
        found.append(ids.numel() if mask is None else int(mask.sum()))
        return states_at(backbone, ids, mask, *others)

    def pooled(backbone: Backbone, sequences: Any, *others: Any) -> torch.Tensor:
        found.append(sum(map(len, sequences)))
        return pooled_states(backbone, sequences, *others)

    monkeypatch.setattr(Backbone, "states_at", at)
    monkeypatch.setattr(Backbone, "pooled_states", pooled)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"method": "mad-x"}, {"learning_rate": "auto", "auto_steps": 6, "auto_rates": (0.1, 0.2, 0.3)}],
    ids=["one training", "two trainings", "trials"],
)
def test_what_masked_language_modelling_reads(
    backbone: Backbone, by_tokens: Forecaster, tokens_read: list[int], changes: dict[str, Any]
) -> None:
    config = ADAPT.replace(steps=10, eval_every=2, held_out_share=0.3, **changes)
    lines = [*TOY, *SOURCE]
    gp.adapt(backbone, lines, lines, "nya", config, QUIET)
    assert by_tokens.adapt(config, text_of(lines, backbone)).seconds == pytest.approx(sum(tokens_read), rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(("times", "steps"), [(1, 3), (2, 30)], ids=["teachers", "sides of different length"])
def test_what_alignment_reads(
    backbone: Backbone, by_tokens: Forecaster, tokens_read: list[int], times: int, steps: int
) -> None:
    """Teachers, too: with few steps they are most of it."""
    config = ADAPT.replace(objective="alignment", steps=steps, eval_every=20, held_out_share=0.2, max_length=64)
    pairs = [(" ".join([source] * times), target) for source, target in TRANSLATIONS]
    gp.adapt(backbone, language="nya", parallel=pairs, config=config, runtime=QUIET)
    found = by_tokens.adapt(config, text_of([side for pair in pairs for side in pair], backbone))
    assert found.seconds == pytest.approx(sum(tokens_read), rel=0.15)
    assert found.estimated_bytes > by_tokens.adapt(ADAPT, text_of(TOY, backbone)).estimated_bytes, "two sides"


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"objective": "alignment"}, {"packing": "none"}], ids=["pairs", "lines"])
def test_short_texts_are_timed_in_batches_of_many(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """As many tokens as may be timed, however far texts may reach: a batch of few short ones is slow for its tokens."""
    works: list[Work] = []
    monkeypatch.setattr(forecast, "pace_of", lambda _, work, *how: works.append(work) or BY_TOKENS)
    config = ADAPT.replace(batch_size=32, max_length=64, **changes)
    Forecaster.of(backbone, Probe(1.0, most_tokens=64), QUIET).adapt(config, text_of(TOY[1:], backbone))
    (work,) = works
    tokens = [sum(count for _, count in work.losses(work.batch(step), MicroBatch(QUIET))) for step in range(5)]
    assert 45 <= sum(tokens) / 5 <= 70, tokens


@pytest.mark.parametrize(("warm_up", "timed"), [(0.125, [1, 7]), (0.9, [1, 3]), (2.0, [1, 2]), (6.0, [1])])
def test_several_steps_behind_the_warm_up_are_timed_while_none_takes_long(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, warm_up: float, timed: list[int]
) -> None:
    trained: list[int] = []
    passes = SimpleNamespace(token=1.0, below_token=0.0, update=0.0, read=lambda seconds: 1.0)
    passes.train = lambda steps: trained.append(steps) or warm_up
    monkeypatch.setattr(pace, "_Passes", lambda *how: passes)
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    work = Work(parameters, lambda step: step, lambda *batch: iter(()), ADAPT, is_whole=False)
    assert pace_of(backbone, work, 1.0, QUIET).steps == max(1, sum(timed[1:]))
    assert trained == timed


@pytest.mark.parametrize(("seconds", "read"), [(0.2, 4), (2.0, 3), (9.0, 1)])
def test_forward_passes_that_take_long_are_few(monkeypatch: pytest.MonkeyPatch, seconds: float, read: int) -> None:
    clock, batches = iter(range(1000)), list[int]()
    work = Work([], batches.append, lambda *batch: iter([(torch.zeros(()), 5)]), ADAPT, is_whole=False)
    monkeypatch.setattr(pace, "perf_counter", lambda: seconds * next(clock))
    assert pace._Passes(work, MicroBatch(QUIET)).read(0.5) == pytest.approx(seconds / 5)
    assert batches == [*range(read)]


def test_texts_of_like_length_are_timed_once(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[Work] = []
    monkeypatch.setattr(forecast, "pace_of", lambda _, work, *how: timed.append(work) or BY_TOKENS)
    forecaster = Forecaster.of(backbone, Probe(1.0), QUIET)
    lengths = (9, 9.2, 13.6)
    found = [forecaster.adapt(ADAPT.replace(packing="none"), Text(TOY, [one])).seconds or 0 for one in lengths]
    assert len(timed) == 2
    assert found[1] > found[0], "each by its own length"


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"method": "prompt-tuning"}, {"method": "prompt-tuning", "head": "linear"},
     {"method": "prompt-tuning", "head": "pooled"}, {"method": "embedding"}],
    ids=["label words", "linear head", "pooled head", "sentence vectors"],
)  # fmt: skip
def test_what_stage_2_reads(
    backbone: Backbone, by_tokens: Forecaster, tokens_read: list[int], changes: dict[str, Any]
) -> None:
    config = TUNE.replace(**changes)
    classifier = gp.tune(backbone, None, topics(), TASK, config, QUIET, language="nya")
    held = round(config.dev_share * len(FIELDS))
    tuned = by_tokens.tune(config, None, TASK, FIELDS, (len(FIELDS) - held, held))
    assert tuned.seconds == pytest.approx(sum(tokens_read), rel=0.15)
    tokens_read.clear()
    gp.evaluate(classifier, topics())
    assert by_tokens.evaluate(config, None, TASK, FIELDS).seconds == pytest.approx(sum(tokens_read), rel=0.01)


@pytest.mark.slow
def test_layers_that_run_once_are_timed_once(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    paces: list[Pace] = []
    pace_of = forecast.pace_of

    def noted(*how: Any) -> Pace:
        paces.append(pace_of(*how))
        return paces[-1]

    monkeypatch.setattr(forecast, "pace_of", noted)
    forecaster = Forecaster.of(backbone, Probe(0.01), QUIET)
    for layers in (1, 1, 2):
        found = forecaster.tune(TUNE.replace(top_k_layers=layers, seed=layers), ADAPT, TASK, FIELDS, (30, 6))
        assert found.measured_bytes is not None
    assert len(paces) == 2, "one for each kind"
    assert all(pace.below_token > 0 for pace in paces)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["soft-prompt", "mad-x", "fine-tuning-mlm", "lora"])
def test_a_probe_leaves_the_backbone_as_it_was(own_backbone: Callable[[str], Backbone], method: str) -> None:
    backbone = own_backbone("xlm-roberta")
    ids = torch.tensor([[0, 5, 6, 7, 2]])
    before = backbone.hidden_states(ids)
    forecaster = Forecaster.of(backbone, Probe(0.01, most_tokens=32), QUIET)
    config = ADAPT.replace(method=method)
    found = [forecaster.adapt(config, text_of(TOY, backbone))]
    found += [forecaster.tune(TUNE.replace(method=method), config, TASK, FIELDS, (30, 6))]
    if method != "mad-x":
        found += [forecaster.adapt(config.replace(objective="alignment"), text_of(TOY[1:], backbone))]
    assert all(one.seconds and one.measured_bytes is None for one in found), "its steps were smaller"
    assert torch.equal(before, backbone.hidden_states(ids))
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


def test_steps_are_drawn_from_different_lines() -> None:
    lines = ["one"] * (2 * SAMPLE_LINES + 1)
    lines[1] = "two"
    assert _some(lines, SAMPLE_LINES) == ["one", "two"]
    many = [str(number) for number in range(2 * SAMPLE_LINES)]
    assert _some(many, SAMPLE_LINES) == many[::2]


@pytest.mark.slow
def test_mad_x_trains_two_adapters_and_auto_tries_rates(by_tokens: Forecaster) -> None:
    text = Text(TOY, [5] * len(TOY))
    two, auto = ADAPT.replace(method="mad-x"), ADAPT.replace(learning_rate="auto", auto_rates=(0.1, 0.2, 0.3))
    assert by_tokens.adapt(two, text).steps == 100
    assert by_tokens.adapt(two, text, num_trainings=1).steps == 50
    assert by_tokens.adapt(auto.replace(auto_steps=10), text).steps == 50 + 3 * 3 + 2 * 5


@pytest.mark.slow
def test_sequences_are_those_of_a_training(backbone: Backbone) -> None:
    for packing in ("full", "none"):
        config = ADAPT.replace(packing=packing, held_out_share=0.1)
        corpus, *_ = masking_corpus(backbone, SOURCE, SOURCE, config)
        assert abs(text_of(SOURCE, backbone).amount(config).sequences - len(corpus.target)) <= 2


@pytest.mark.slow
def test_a_backbone_without_an_lm_head_is_aligned(tiny_backbone: Callable[[str], Backbone]) -> None:
    found = Forecaster.of(tiny_backbone("xlm-roberta"), Probe(1.0), QUIET)
    found.backbone, found.shell.has_lm_head = None, False
    config = ADAPT.replace(objective="alignment")
    assert found.adapt(config, Text(TOY, [5] * len(TOY))).estimated_bytes > 0
    assert found.tune(TUNE.replace(method="embedding"), config, TASK, FIELDS, (30, 6)).file_bytes > 0
    with pytest.raises(ModelError, match="without an LM head, which masked language modelling needs"):
        found.adapt(ADAPT, Text(TOY, [5] * len(TOY)))


def test_what_is_not_for_this_machine() -> None:
    assert unfit(LONGEST, 10**9, 10**9) == unfit(None, 10**9, None) == ""
    assert "it would take about 4 days 0 h" in unfit(4 / 3 * LONGEST, 10**9, None)
    assert "it needs about 2 GB of memory, and there are 1 GB" in unfit(None, 2 * 10**9, 10**9)


def test_a_micro_batch_needs_less_memory(backbone: Backbone) -> None:
    """The doctor names it as the remedy."""
    whole, parts = (
        Forecaster(Shell.of(backbone), backbone.device, None, Probe(0), QUIET.replace(micro_batch_size=size))
        for size in (None, 4)
    )
    config, text = ADAPT.replace(batch_size=64), Text(TOY, [5])
    assert parts.adapt(config, text).estimated_bytes < whole.adapt(config, text).estimated_bytes


def test_memory_as_measured_goes_before_an_estimate() -> None:
    assert Forecast(1, 1, 1, 5).needed_bytes == 5
    assert Forecast(1, 1, 1, 5, measured_bytes=9).needed_bytes == 9
