"""The choice of a learning rate: successive halving on losses of our own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from glotprompt.config import AdaptConfig, MethodName
from glotprompt.training.rates import choose_rate, rounds


class Valley:
    """Losses with one best rate, reached sooner or later; beyond `breaks` the run diverges to `wreck`."""

    def __init__(self, best: float, breaks: float = math.inf, wreck: float = math.nan) -> None:
        self.best, self.breaks, self.wreck = best, breaks, wreck
        self.calls: list[tuple[float, int]] = []

    def __call__(self, rate: float, steps: int) -> float:
        self.calls.append((rate, steps))
        if rate >= self.breaks:
            return self.wreck
        return 7 - steps * math.exp(-(math.log(rate / self.best) ** 2)) / 100


def config(**changes: Any) -> AdaptConfig:
    return AdaptConfig(learning_rate="auto", **changes)


@pytest.mark.parametrize("place", range(6))
def test_the_best_of_the_default_rates_is_found(place: int) -> None:
    settings = config()
    best = settings.auto_rates[place]
    assert choose_rate(settings, Valley(1.1 * best))[0] == best


@pytest.mark.parametrize("method", ["soft-prompt", "mad-x", "fine-tuning-mlm", "lora"])
def test_the_trials_are_cheap_and_the_rates_far_apart(method: MethodName) -> None:
    settings = config(method=method)
    valley = Valley(settings.auto_rates[0])
    _, trials = choose_rate(settings, valley)
    assert sum(trial.steps for trial in trials) == sum(count * steps for count, steps in rounds(settings)) <= 150
    assert max(settings.auto_rates) >= 16 * min(settings.auto_rates)
    assert len(valley.calls) == len(set(valley.calls)), "no run is made twice"


def test_the_rounds_are_those_of_the_description() -> None:
    settings = config()
    assert rounds(settings) == [(6, 6), (3, 13), (2, 20)]
    said = " ".join(str(AdaptConfig.model_fields["auto_steps"].description).split())
    assert "six rates run for 6 steps each, then the best three for 13 and the best two for 20" in said


@pytest.mark.parametrize("wreck", [math.nan, math.inf])
def test_a_rate_that_diverges_is_out(wreck: float) -> None:
    settings = config(auto_rates=(1e-3, 1e-2, 1e-1, 1.0))
    valley = Valley(1.0, breaks=1e-1, wreck=wreck)
    rate, trials = choose_rate(settings, valley)
    assert rate == 1e-2
    assert [trial.rate for trial in trials if trial.loss is None] == [1e-1, 1.0]
    assert [call for call in valley.calls if call[0] >= 1e-1] == [(1e-1, 10), (1.0, 10)], "and is not run again"


def test_a_rate_that_diverges_later_is_out_too() -> None:
    def loss_after(rate: float, steps: int) -> float:
        return math.nan if rate == 8.0 and steps > 4 else -rate

    rate, _ = choose_rate(config(auto_rates=(1.0, 2.0, 4.0, 8.0), auto_steps=16), loss_after)
    assert rate == 4.0


def test_where_all_diverge_the_lowest_is_left() -> None:
    assert choose_rate(config(auto_rates=(3.0, 1.0, 2.0)), lambda rate, steps: math.nan)[0] == 1.0


@pytest.mark.parametrize("rates", [(1e-2,), (1e-2, 1e-2)])
def test_one_rate_needs_no_trial(rates: tuple[float, ...]) -> None:
    unasked: Callable[[float, int], float] = pytest.fail  # pyright: ignore[reportAssignmentType]
    assert choose_rate(config(auto_rates=rates), unasked) == (1e-2, [])


def test_no_trial_is_longer_than_the_run_itself_or_of_no_step() -> None:
    assert rounds(config(steps=3)) == [(6, 3), (3, 3), (2, 3)]
    assert rounds(config(auto_steps=1, auto_rates=(1.0, 2.0, 3.0))) == [(3, 1), (2, 1)]


def test_of_equal_rates_the_lower_stays_whatever_the_order() -> None:
    for rates in ((1.0, 2.0, 3.0, 4.0), (4.0, 3.0, 2.0, 1.0)):
        assert choose_rate(config(auto_rates=rates), lambda rate, steps: 5.0)[0] == 1.0
