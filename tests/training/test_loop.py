"""The loop on a toy parameter: schedule, clipping, the best value, and going on after an interruption."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.tracking import GeneralTracker
from torch import Tensor, nn

from glotprompt.config import RuntimeConfig
from glotprompt.errors import ConfigError
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.task import Task
from glotprompt.training import checkpoint as checkpoint_file
from glotprompt.training import watch as watching
from glotprompt.training.checkpoint import Checkpoint
from glotprompt.training.loop import Evaluation, History, Optimisation, fit
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.batches import mask_tokens, token_sequences
from glotprompt.training.objectives.cloze import label_words
from glotprompt.training.objectives.inputs import encode
from glotprompt.training.objectives.losses import label_losses, masked_token_losses
from glotprompt.training.objectives.scoring import label_scores
from glotprompt.training.progress import PROGRESS_FILE, Silent, StepLine
from glotprompt.training.watch import Watch

STEPS = 23


def plan(**changes: Any) -> Optimisation:
    values: dict[str, Any] = {
        "steps": STEPS, "learning_rate": 0.3, "warmup_ratio": 0.2, "weight_decay": 0.01, "clip_norm": 1.0,
        "eval_every": 4, **changes,
    }  # fmt: skip
    return Optimisation(**values)


class Toy:
    """A quadratic with a goal that moves from step to step; counts and can be stopped."""

    def __init__(self, folder: Path | None = None, identity: str = "toy", stop_before: int | None = None) -> None:
        self.parameter = nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3))
        self.checkpoint = Checkpoint(RuntimeConfig(checkpoint_dir=folder, checkpoint_every=0), identity)
        self.stop_before = stop_before
        self.steps: list[int] = []
        self.num_evaluations = 0

    def losses(self, step: int) -> Generator[tuple[Tensor, int]]:
        if step == self.stop_before:
            raise KeyboardInterrupt
        self.steps.append(step)
        goal = torch.randn(2, 3, generator=torch.Generator().manual_seed(step)) + 2
        yield ((self.parameter - goal) ** 2).sum() / 2, 5
        yield ((self.parameter + goal.sin()) ** 4).sum() / 7, 3

    def evaluate(self) -> Evaluation:
        self.num_evaluations += 1
        value = float(((self.parameter.detach() - 2) ** 2).sum())
        return Evaluation((float(round(value)), value), {"distance": value})

    def fit(self, **changes: Any) -> History:
        return fit([self.parameter], self.losses, self.evaluate, plan(**changes), self.checkpoint, Silent())


def test_a_resumed_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stop_before, said in ((3, False), (None, True), (None, True)):
        toy = Toy(tmp_path, stop_before=stop_before)
        with suppress(KeyboardInterrupt):
            fit([toy.parameter], toy.losses, toy.evaluate, plan(steps=5), toy.checkpoint, StepLine("toy", 5))
        step = 3 if toy.steps else 5
        assert (f"toy: resuming at step {step} of 5\n" in capsys.readouterr().err) == said


def test_metrics_and_callbacks_tell_of_every_step_and_a_resumed_run_goes_on_in_the_file(tmp_path: Path) -> None:
    """The steps after the last checkpoint are made again, and are in the file once."""
    metrics = tmp_path / "out" / "a.metrics.jsonl"
    told: dict[str, list[Any]] = {"step": [], "evaluation": []}
    runtime = RuntimeConfig(
        metrics=metrics, on_step=told["step"].append, on_evaluation=told["evaluation"].append, progress=False
    )

    def run(identity: str, stop_before: int | None = None) -> None:
        toy = Toy(tmp_path, identity, stop_before)
        watch = Watch("toy", 9, runtime, identity)
        with suppress(KeyboardInterrupt):
            fit([toy.parameter], toy.losses, toy.evaluate, plan(steps=9), toy.checkpoint, watch)

    def rows(identity: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
        return [row for row in found if row["run"] == identity]

    run("other")
    run("toy", stop_before=6)
    with metrics.open("a", encoding="utf-8") as file:  # a step that no checkpoint has, and a line that was cut off
        file.write('{"run": "toy", "title": "toy", "step": 7, "loss": 99}\n{"run": "to')
    run("toy")
    assert [row["step"] for row in rows("toy") if "loss" in row] == list(range(1, 10))
    assert [row["step"] for row in rows("toy") if "distance" in row] == [0, 4, 8, 9]
    assert len(rows("toy")) == len(rows("other")) == 13
    assert told["step"][:9] == [row for row in rows("other") if "loss" in row]
    assert told["evaluation"][:4] == [row for row in rows("other") if "distance" in row]
    assert set(told["step"][0]) == {"run", "title", "step", "loss", "tokens"}
    run("other")  # finished already: nothing is added
    assert len(rows("other")) == 13


def test_a_tracker_gets_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[str, Any]] = []

    class Tracker(GeneralTracker):
        name, requires_logging_directory = "fake", True

        def __init__(self, run_name: str, logging_dir: Path) -> None:
            super().__init__(_blank=True)
            logged.append((run_name, logging_dir))

        def start(self) -> None:
            logged.append(("start", None))

        def log(self, values: dict[str, Any], step: int | None = None, **more: Any) -> None:
            logged.append((str(step), values))

        def finish(self) -> None:
            logged.append(("finish", None))

    runtime = RuntimeConfig(metrics=tmp_path / "a.metrics.jsonl", log_with="tensorboard", progress=False)
    monkeypatch.setattr(watching, "is_tensorboard_available", lambda: False)
    with pytest.raises(ConfigError, match="needs a package that is not installed: pip install tensorboard"):
        Watch("toy", 2, runtime, "toy")
    monkeypatch.setattr(watching, "is_tensorboard_available", lambda: True)
    monkeypatch.setattr(watching, "TensorBoardTracker", Tracker)
    with pytest.raises(ConfigError, match="needs metrics"):
        Watch("toy", 2, runtime.replace(metrics=None), "toy")
    toy = Toy()
    fit([toy.parameter], toy.losses, toy.evaluate, plan(steps=2), toy.checkpoint, Watch("toy", 2, runtime, "toy"))
    assert logged[:2] == [("a toy", tmp_path / "tensorboard"), ("start", None)]
    assert [step for step, _ in logged[2:]] == ["0", "1", "2", "2", "finish"]
    assert set(logged[3][1]) == {"loss", "tokens"}


def test_a_tracker_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class NobodyLoggedIn(GeneralTracker):
        name, requires_logging_directory = "wandb", False

        def __init__(self, project: str, **more: Any) -> None:
            super().__init__(_blank=True)

        def start(self) -> None:
            raise Exception("No API key configured.\nUse `wandb login`")  # wandb's own kind has no other parent

    monkeypatch.setattr(watching, "is_wandb_available", lambda: True)
    monkeypatch.setattr(watching, "WandBTracker", NobodyLoggedIn)
    with pytest.raises(ConfigError, match=r'log_with="wandb" does not start: No API key configured\. Use .*=offline'):
        Watch("toy", 2, RuntimeConfig(log_with="wandb", progress=False), "toy")


def test_a_notebook_gets_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    class OutStream(io.StringIO):
        """ipykernel's stream, which is no terminal."""

    OutStream.__module__ = "ipykernel.iostream"
    monkeypatch.setattr(sys, "stderr", shown := OutStream())
    line = StepLine("toy", 2)
    line._last -= 60
    line.advance(1, 0.5, 10, {})
    line.advance(2, 0.25, 20, {})
    assert re.fullmatch(r"\rtoy: step 1/2 .*\rtoy: step 2/2 .*\n", shown.getvalue())
    assert "\x1b" not in shown.getvalue()


def test_progress_for_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "progress.json"
    StepLine("quiet", 9).advance(1, 0.5, 10, {})
    assert not place.exists()
    monkeypatch.setenv(PROGRESS_FILE, str(place))
    line = StepLine("a title", 9)
    line.advance(3, 0.5, 10, {})
    line.advance(4, 0.25, 20, {})  # too soon after
    found = json.loads(place.read_text(encoding="utf-8"))
    assert (found["stage"], found["step"], found["steps"], found["loss"]) == ("a title", 3, 9, 0.5)
    assert found["seconds_left"] is None  # one step tells nothing of the pace
    line.advance(9, 0.125, 30, {})  # soon after, but the last one: nobody is to wait for it any longer
    found = json.loads(place.read_text(encoding="utf-8"))
    assert (found["step"], found["seconds_left"]) == (9, 0)
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "nowhere" / "progress.json"))
    StepLine("a title", 9).advance(3, None, 10, {})


def history_of(history: History) -> dict[str, Any]:
    return {name: value for name, value in vars(history).items() if name != "seconds"}


# --- schedule and update


def test_warm_up_and_decay() -> None:
    rates = [plan(steps=10, learning_rate=1.0, warmup_ratio=0.4).rate(step) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert plan(steps=10, learning_rate=2.0, warmup_ratio=0.0).rate(0) == 2.0
    assert plan(steps=1, learning_rate=2.0, warmup_ratio=0.06).rate(0) == 2.0
    assert plan(steps=4, learning_rate=1.0, warmup_ratio=1.0).rate(3) == 1.0


def test_other_schedules() -> None:
    settings: dict[str, Any] = {"steps": 10, "learning_rate": 2.0, "warmup_ratio": 0.2}
    found = {
        name: [plan(schedule=name, **settings).rate(step) for step in range(10)]
        for name in ("linear", "cosine", "constant", "wsd")
    }
    for rates in found.values():
        assert rates[:3] == pytest.approx([1.0, 2.0, 2.0]), "the warm-up is the same"
        assert min(rates) > 0
    assert found["constant"][2:] == [2.0] * 8
    assert found["wsd"][2:] == pytest.approx([2.0] * 7 + [1.0])
    assert found["cosine"][6] == pytest.approx(1.0), "half of the decay"
    assert found["cosine"][4] == pytest.approx(1 + 2**-0.5)
    assert found["cosine"][3] > found["linear"][3]
    assert found["cosine"][9] < found["linear"][9]
    long = [plan(schedule="wsd", steps=100, learning_rate=1.0).rate(step) for step in (80, 81, 90, 99)]
    assert long == pytest.approx([1.0, 0.95, 0.5, 0.05])


def test_the_paper_schedule() -> None:
    paper = plan(steps=100_000, learning_rate=5e-3, warmup_ratio=0.06)
    assert paper.rate(5_999) == pytest.approx(5e-3) == paper.rate(6_000)
    assert paper.rate(53_000) == pytest.approx(2.5e-3)
    assert 0 < paper.rate(99_999) < 1e-7


def reference(clip_norm: float, weight_decay: float) -> Tensor:
    """AdamW as in Loshchilov and Hutter (2019), in plain float64 arithmetic, on the toy's gradients."""
    optimisation = plan(clip_norm=clip_norm, weight_decay=weight_decay)
    toy = Toy()
    value = toy.parameter.detach().double()
    first, second = torch.zeros_like(value), torch.zeros_like(value)
    for step in range(STEPS):
        toy.parameter = nn.Parameter(value.clone())
        (gradient,) = torch.autograd.grad(sum((part for part, _ in toy.losses(step)), torch.zeros(())), toy.parameter)
        gradient = gradient * min(1.0, clip_norm / float(gradient.norm()))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        step_size = optimisation.rate(step)
        value = value * (1 - step_size * weight_decay)
        corrected = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
        value = value - step_size * corrected[0] / (corrected[1].sqrt() + 1e-8)
    return value


@pytest.mark.parametrize(("clip_norm", "weight_decay"), [(1.0, 0.0), (1e9, 0.0), (3.0, 0.5)])
def test_every_update_is_clipped_adamw(clip_norm: float, weight_decay: float) -> None:
    toy = Toy()
    values: list[Tensor] = []

    def last_is_best() -> Evaluation:
        values.append(toy.parameter.detach().clone())
        return Evaluation((-float(len(values)),), {})

    optimisation = plan(clip_norm=clip_norm, weight_decay=weight_decay)
    fit([toy.parameter], toy.losses, last_is_best, optimisation, toy.checkpoint, Silent())
    expected = reference(clip_norm, weight_decay)
    assert torch.allclose(values[-1].double(), expected, atol=1e-4)
    assert not torch.allclose(reference(1.0, 0.0), reference(1e9, 0.0), atol=1e-2), "clipping is felt"


def test_the_history_is_true() -> None:
    toy = Toy()
    history = toy.fit()
    assert toy.steps == list(range(STEPS))
    assert history.step == STEPS
    assert history.tokens == 8 * STEPS
    assert [step for step, _ in history.evaluations] == [0, 4, 8, 12, 16, 20, 23]
    assert [step for step, _ in history.losses] == list(range(1, STEPS + 1))
    start = Toy()
    assert history.losses[0][1] == pytest.approx(sum(part.item() for part, _ in start.losses(0)))
    assert history.seconds > 0


@pytest.mark.slow
def test_losses_of_a_long_run_are_means_over_its_hundredths() -> None:
    toy = Toy()
    each = dict(Toy().fit(steps=99).losses)
    history = toy.fit(steps=250, eval_every=250)
    assert [step for step, _ in history.losses] == list(range(2, 251, 2))
    assert len(each) == 99


def test_a_run_that_diverged_has_missing_figures_and_its_best_value() -> None:
    """What compares with NaN as better: accuracies of answers that are none."""
    toy, keys = Toy(), iter([(-50.0, 0.9), (-90.0, float("nan")), (-60.0, 0.5), (-95.0, float("inf"))])

    def evaluate() -> Evaluation:
        key = next(keys)
        return Evaluation(key, {"loss": key[1]})

    history = fit([toy.parameter], toy.losses, evaluate, plan(steps=3, eval_every=1), toy.checkpoint, Silent())
    assert history.best_step == 2
    assert [metadata["loss"] for _, metadata in history.figures()["evaluations"]] == [0.9, None, 0.5, None]


# --- the best value


@pytest.mark.parametrize(("keys", "best"), [((3, 1, 2, 4), 1), ((1, 2, 3, 4), 0), ((4, 3, 2, 1), 3), ((2, 1, 1, 1), 1)])
def test_the_best_value_seen_is_left(keys: tuple[int, ...], best: int) -> None:
    toy = Toy()
    seen: list[Tensor] = []

    def evaluate() -> Evaluation:
        seen.append(toy.parameter.detach().clone())
        return Evaluation((float(keys[len(seen) - 1]),), {"key": float(keys[len(seen) - 1])})

    history = fit([toy.parameter], toy.losses, evaluate, plan(steps=6, eval_every=2), toy.checkpoint, Silent())
    assert len(seen) == 4
    assert torch.equal(toy.parameter, seen[best])
    assert history.best_step == 2 * best
    assert len({tuple(value.flatten().tolist()) for value in seen}) == 4


def test_keys_are_compared_from_left_to_right() -> None:
    toy, keys = Toy(), iter([(-50.0, 0.9), (-60.0, 2.0), (-60.0, 1.0), (-55.0, 0.1)])
    history = fit(
        [toy.parameter], toy.losses, lambda: Evaluation(next(keys), {}), plan(steps=3, eval_every=1), toy.checkpoint,
        Silent(),
    )  # fmt: skip
    assert history.best_step == 2


def test_a_value_that_is_no_number_is_never_the_best() -> None:
    toy, keys = Toy(), iter([3.0, float("nan"), 2.0, float("nan")])
    history = fit(
        [toy.parameter], toy.losses, lambda: Evaluation((next(keys),), {}), plan(steps=3, eval_every=1), toy.checkpoint,
        Silent(),
    )  # fmt: skip
    assert history.best_step == 2


def test_a_start_that_is_no_number_is_beaten() -> None:
    toy, keys = Toy(), iter([float("nan"), float("inf"), 3.0, 4.0])
    history = fit(
        [toy.parameter], toy.losses, lambda: Evaluation((next(keys),), {}), plan(steps=3, eval_every=1), toy.checkpoint,
        Silent(),
    )  # fmt: skip
    assert (history.best_step, history.first_loss, history.without_gain) == (2, 3.0, 1)


@pytest.mark.parametrize(("patience", "stops_at"), [(1, 4), (2, 10), (None, 12)])
def test_patience(patience: int | None, stops_at: int) -> None:
    toy, keys = Toy(), iter([5.0, 4.0, 6.0, 3.0, 3.0, 3.0, 9.0])
    history = fit(
        [toy.parameter], toy.losses, lambda: Evaluation((next(keys),), {}),
        plan(steps=12, eval_every=2, patience=patience), toy.checkpoint, Silent(),
    )  # fmt: skip
    assert history.step == stops_at
    assert history.best_step == (2 if patience == 1 else 6)


@pytest.mark.parametrize(("share", "stops_at", "best"), [(0.0, 12, 12), (0.1, 10, 10)])
def test_patience_counts_only_improvements_by_a_share_of_the_fall(share: float, stops_at: int, best: int) -> None:
    """From 9 to 5 to 4.9 to 4.8 to 4.7: the last three improve by less than a tenth of the fall so far."""
    toy, keys = Toy(), iter([9.0, 7.0, 5.0, 4.9, 4.8, 4.7, 4.6])
    history = fit(
        [toy.parameter], toy.losses, lambda: Evaluation((next(keys),), {}),
        plan(steps=12, eval_every=2, patience=3, min_improvement=share), toy.checkpoint, Silent(),
    )  # fmt: skip
    assert (history.step, history.best_step) == (stops_at, best)


# --- interruption


@pytest.fixture(scope="module")
def uninterrupted() -> tuple[Tensor, dict[str, Any]]:
    toy = Toy()
    history = toy.fit()
    return toy.parameter.detach(), history_of(history)


@pytest.mark.slow
@pytest.mark.parametrize("stop_before", range(STEPS))
def test_going_on_from_any_step_ends_with_the_same_bits(
    tmp_path: Path, uninterrupted: tuple[Tensor, dict[str, Any]], stop_before: int
) -> None:
    killed = Toy(tmp_path, stop_before=stop_before)
    with pytest.raises(KeyboardInterrupt):
        killed.fit()
    resumed = Toy(tmp_path)
    history = resumed.fit()
    assert resumed.steps == list(range(stop_before, STEPS))
    assert torch.equal(resumed.parameter, uninterrupted[0])
    assert history_of(history) == uninterrupted[1]


@pytest.mark.slow
def test_losses_not_yet_written_down_survive(tmp_path: Path) -> None:
    """In a long run an entry is the mean of several steps; here a kill falls between two entries."""
    whole = Toy().fit(steps=200, eval_every=200)
    with pytest.raises(KeyboardInterrupt):
        Toy(tmp_path, stop_before=3).fit(steps=200, eval_every=200)
    resumed = Toy(tmp_path)
    resumed.checkpoint = Checkpoint(RuntimeConfig(checkpoint_dir=tmp_path, checkpoint_every=3600), "toy")
    assert history_of(resumed.fit(steps=200, eval_every=200)) == history_of(whole)
    assert resumed.steps[0] == 3


def test_several_interruptions(tmp_path: Path, uninterrupted: tuple[Tensor, dict[str, Any]]) -> None:
    for stop_before in (3, 4, 11, 19):
        with pytest.raises(KeyboardInterrupt):
            Toy(tmp_path, stop_before=stop_before).fit()
    toy = Toy(tmp_path)
    assert history_of(toy.fit()) == uninterrupted[1]
    assert torch.equal(toy.parameter, uninterrupted[0])


def test_a_finished_run_is_not_run_again(tmp_path: Path, uninterrupted: tuple[Tensor, dict[str, Any]]) -> None:
    Toy(tmp_path).fit()
    again = Toy(tmp_path)
    assert history_of(again.fit()) == uninterrupted[1]
    assert again.steps == []
    assert again.num_evaluations == 0
    assert torch.equal(again.parameter, uninterrupted[0])


def test_a_run_that_ran_out_of_patience_stays_stopped(tmp_path: Path) -> None:
    first = Toy(tmp_path)
    history = first.fit(patience=1, learning_rate=1e-9)
    assert history.step == 4 or history.without_gain == 1
    again = Toy(tmp_path)
    assert history_of(again.fit(patience=1, learning_rate=1e-9)) == history_of(history)
    assert again.steps == []


@pytest.mark.parametrize("stop_before", [3, 9, 13])
def test_patience_with_a_least_improvement_survives_a_kill(tmp_path: Path, stop_before: int) -> None:
    how: dict[str, Any] = {"patience": 2, "min_improvement": 0.2}
    whole = Toy()
    history = whole.fit(**how)
    assert stop_before < history.step < STEPS
    with pytest.raises(KeyboardInterrupt):
        Toy(tmp_path, stop_before=stop_before).fit(**how)
    resumed = Toy(tmp_path)
    assert history_of(resumed.fit(**how)) == history_of(history)
    assert torch.equal(resumed.parameter, whole.parameter)


def test_another_run_s_checkpoint_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Toy(tmp_path, "one", stop_before=9).fit()
    other = Toy(tmp_path, "two")
    other.fit()
    assert other.steps == list(range(STEPS))
    first = Toy(tmp_path, "one")
    first.fit()
    assert first.steps == list(range(9, STEPS))


def test_a_checkpoint_renamed_to_ours_is_ignored(tmp_path: Path, uninterrupted: tuple[Tensor, dict[str, Any]]) -> None:
    with pytest.raises(KeyboardInterrupt):
        Toy(tmp_path, "one", stop_before=9).fit()
    (tmp_path / "one.checkpoint").rename(tmp_path / "toy.checkpoint")
    toy = Toy(tmp_path)
    toy.fit()
    assert toy.steps == list(range(STEPS))
    assert torch.equal(toy.parameter, uninterrupted[0])


@pytest.mark.parametrize("keep", [0, 7, 300, -1])
def test_a_damaged_checkpoint_is_as_good_as_none(
    tmp_path: Path, uninterrupted: tuple[Tensor, dict[str, Any]], keep: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        Toy(tmp_path, stop_before=9).fit()
    path = tmp_path / "toy.checkpoint"
    path.write_bytes(path.read_bytes()[:keep])
    toy = Toy(tmp_path)
    toy.fit()
    assert toy.steps == list(range(STEPS))
    assert torch.equal(toy.parameter, uninterrupted[0])


def test_checkpoints_keep_their_distance(tmp_path: Path) -> None:
    toy = Toy(stop_before=9)
    toy.checkpoint = Checkpoint(RuntimeConfig(checkpoint_dir=tmp_path, checkpoint_every=3600), "toy")
    with pytest.raises(KeyboardInterrupt):
        toy.fit()
    assert not list(tmp_path.iterdir()), "an hour has not passed"


@pytest.mark.parametrize(("every", "took", "waits"), [(20, 3, 87), (20, 0.5, 20), (0, 3, 0)])
def test_slow_checkpoints_come_seldom(
    every: float, took: float, waits: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing whole models takes at most a thirtieth of the time, unless a checkpoint of every step is asked for."""
    now = [0.0]
    monkeypatch.setattr(checkpoint_file, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(checkpoint_file.artifact, "write", lambda *_: now.__setitem__(0, now[0] + took))
    checkpoint = Checkpoint(RuntimeConfig(checkpoint_dir=tmp_path, checkpoint_every=every), "toy")
    checkpoint.save({}, {})
    written = now[0]
    now[0] = written + waits
    assert checkpoint.due()
    if waits:
        now[0] = written + waits - 0.01
        assert not checkpoint.due()


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toy = Toy()
    assert toy.checkpoint.value_at_start("precision", "bf16") == "bf16"
    toy.fit()
    assert not list(tmp_path.iterdir())


# --- settings at the start


def test_a_setting_is_what_it_was_at_the_start(tmp_path: Path, uninterrupted: tuple[Tensor, dict[str, Any]]) -> None:
    toy = Toy(tmp_path, stop_before=9)
    assert toy.checkpoint.value_at_start("precision", "bf16") == "bf16"
    early = Toy(tmp_path)
    assert early.checkpoint.value_at_start("precision", "fp32") == "bf16", "before the first step"
    with pytest.raises(KeyboardInterrupt):
        toy.fit()
    late = Toy(tmp_path)
    assert late.checkpoint.value_at_start("precision", "fp32") == "bf16"
    assert late.checkpoint.value_at_start("other", "x") == "x"
    late.fit()
    assert late.steps == list(range(9, STEPS)), "keeping a setting does not cost the state"
    assert torch.equal(late.parameter, uninterrupted[0])
    last = Toy(tmp_path).checkpoint
    assert [last.value_at_start(name, "?") for name in ("precision", "other")] == ["bf16", "x"]


# --- accumulation


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Callable[[str], Backbone]) -> Backbone:
    return tiny_backbone("xlm-roberta")


def total(parts: Iterator[tuple[Tensor, int]], parameter: nn.Parameter) -> tuple[float, Tensor, int, int]:
    """Loss, gradient, tokens and number of the parts."""
    parameter.grad = None
    loss, tokens, count = 0.0, 0, 0
    for part, seen in parts:
        part.backward()
        loss, tokens, count = loss + part.item(), tokens + seen, count + 1
    assert parameter.grad is not None
    return loss, parameter.grad.clone(), tokens, count


def assert_near(found: tuple[float, Tensor, int, int], whole: tuple[float, Tensor, int, int]) -> None:
    assert found[0] == pytest.approx(whole[0], rel=1e-6)
    assert (found[1] - whole[1]).norm() <= 1e-6 * max(1.0, float(whole[1].norm()))
    assert found[2] == whole[2]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 7, 8, 100])
@pytest.mark.parametrize("packing", ["full", "none"])
def test_micro_batches_of_stage_1_sum_to_the_whole(
    backbone: Backbone, english_lines: list[str], packing: str, size: int
) -> None:
    sequences = token_sequences(english_lines, backbone.tokenizer, 24, packing)[:8]
    batch = mask_tokens(sequences, backbone.tokenizer, 0.2, (0,))
    prompt = SoftPrompt.initialise(backbone.prompt_shape(3), 0.5, 0)

    def parts(micro_batch_size: int | None) -> tuple[float, Tensor, int, int]:
        micro_batch = MicroBatch(RuntimeConfig(micro_batch_size=micro_batch_size))
        losses = masked_token_losses(backbone, prompt, batch, micro_batch)
        return total(losses, prompt.trained)

    whole, found = parts(None), parts(size)
    assert whole[3] == 1
    assert found[3] == -(-8 // size)
    assert whole[2] == sum(map(len, sequences))
    assert_near(found, whole)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("loss_over", ["labels", "vocabulary"])
@pytest.mark.parametrize("no", ["No", "Sporting"])
def test_micro_batches_of_stage_2_sum_to_the_whole(
    backbone: Backbone, english_lines: list[str], loss_over: Any, size: int, no: str
) -> None:
    task = Task("t", "{mask} : {text}", {"yes": ["Yes", "good"], "no": no})
    words = label_words(task, backbone.tokenizer)
    clozes = encode([{"text": line} for line in english_lines[:8]], task, backbone.tokenizer, 24, words)
    gold = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
    prompt = SoftPrompt.initialise(backbone.prompt_shape(3), 0.5, 0, range(1, 3))

    def parts(micro_batch_size: int | None) -> tuple[float, Tensor, int, int]:
        micro_batch = MicroBatch(RuntimeConfig(micro_batch_size=micro_batch_size))
        return total(label_losses(backbone, prompt, clozes, gold, words, loss_over, micro_batch), prompt.trained)

    whole, found = parts(None), parts(size)
    assert found[3] == -(-8 // size)
    assert_near(found, whole)


def test_a_part_of_unknown_tokens_alone_has_no_loss(tiny_backbone: Callable[[str], Backbone]) -> None:
    backbone = tiny_backbone("xlm-roberta")
    unknown = int(str(backbone.tokenizer.unk_token_id))
    sequences = [np.array([0, unknown, 2]), np.array([0, *range(5, 15), 2])]
    batch = mask_tokens(sequences, backbone.tokenizer, 0.15, (0, 0))
    prompt = SoftPrompt.initialise(backbone.prompt_shape(2), 0.5, 0)
    whole, parts = (
        [float(loss.detach()) for loss, _ in masked_token_losses(backbone, prompt, batch, MicroBatch(runtime))]
        for runtime in (RuntimeConfig(), RuntimeConfig(micro_batch_size=1))
    )
    assert parts == pytest.approx(whole, rel=1e-5)


def test_the_loss_over_the_vocabulary_is_equation_1(backbone: Backbone, english_lines: list[str]) -> None:
    task = Task("t", "{mask} : {text}", {"yes": "Yes", "no": "No"})
    clozes = encode([{"text": line} for line in english_lines[:4]], task, backbone.tokenizer, 24)
    gold, words = torch.tensor([0, 1, 1, 0]), label_words(task, backbone.tokenizer)
    prompt = SoftPrompt.initialise(backbone.prompt_shape(3), 0.5, 0)
    found: dict[str, float] = {}
    loss_overs: tuple[Any, ...] = ("labels", "vocabulary")
    for loss_over in loss_overs:
        parts = label_losses(backbone, prompt, clozes, gold, words, loss_over, MicroBatch(RuntimeConfig()))
        found[loss_over] = sum(part.item() for part, _ in parts)
    expected = {"labels": 0.0, "vocabulary": 0.0}
    with torch.no_grad():
        for cloze, label in zip(clozes, gold.tolist(), strict=True):
            hidden = backbone.hidden_states(torch.from_numpy(cloze.input_ids)[None], None, prompt.prefix(torch.float32))
            logits = backbone.token_logits(hidden[0, [cloze.position]])[0]
            word = words.token_ids[label]
            expected["vocabulary"] -= float(logits.log_softmax(-1)[word]) / 4
            expected["labels"] -= float(logits[words.token_ids].log_softmax(-1)[label]) / 4
    assert found == pytest.approx(expected, rel=1e-5)
    assert found["vocabulary"] > found["labels"] + 1


def test_both_losses_of_a_word_of_several_tokens(backbone: Backbone, english_lines: list[str]) -> None:
    task = Task("t", "{mask} : {text}", {"yes": "Yes", "sport": "Sporting"})
    words = label_words(task, backbone.tokenizer)
    clozes = encode([{"text": line} for line in english_lines[:4]], task, backbone.tokenizer, 24, words)
    gold, prompt = torch.tensor([0, 1, 1, 0]), SoftPrompt.initialise(backbone.prompt_shape(3), 0.5, 0)
    with torch.no_grad(), prompt.attached(backbone) as prefix:
        scores = label_scores(backbone, clozes, prefix, words)
    loss_overs: tuple[Any, ...] = ("labels", "vocabulary")
    found = [
        sum(
            part.item()
            for part, _ in label_losses(backbone, prompt, clozes, gold, words, over, MicroBatch(RuntimeConfig()))
        )
        for over in loss_overs
    ]
    right = scores[range(4), gold].mean()
    assert found == pytest.approx([float(-(scores.log_softmax(-1)[range(4), gold]).mean()), -float(right)], rel=1e-5)
