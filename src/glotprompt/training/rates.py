"""Choice of a learning rate by successive halving (Jamieson and Talwalkar 2016): all rates run for a few steps, the
better half for more, until one is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from glotprompt.config import AdaptConfig, RuntimeConfig
from glotprompt.records import Trial
from glotprompt.training.checkpoint import Checkpoint
from glotprompt.training.loop import History


def rounds(config: AdaptConfig) -> list[tuple[int, int]]:
    """The plan of `learning_rate="auto"`: the number of rates and the steps per run of each round."""
    plan: list[tuple[int, int]] = []
    count = len(set(config.auto_rates))
    while count > 1:
        plan.append((count, min(config.steps, max(1, config.auto_steps // count))))
        count = (count + 1) // 2
    return plan


def choose_rate(config: AdaptConfig, loss_after: Callable[[float, int], float]) -> tuple[float, list[Trial]]:
    """The best of `auto_rates`, and all trials.

    `loss_after` trains with a rate for a number of steps from the start and returns the held-out loss. A rate with a
    non-finite loss drops out at once; of equal ones the lower stays."""
    candidates: Sequence[float] = sorted(set(config.auto_rates))
    trials: list[Trial] = []
    for count, steps in rounds(config):
        losses = {rate: loss_after(rate, steps) for rate in candidates}
        trials += [Trial(rate, steps, loss if math.isfinite(loss) else None) for rate, loss in losses.items()]
        sound = [rate for rate in losses if math.isfinite(losses[rate])]
        # If all diverge, the lowest is the safest.
        candidates = sorted(sound, key=lambda rate: (losses[rate], rate))[: (count + 1) // 2] or [min(candidates)]
        if len(candidates) == 1:
            break
    return candidates[0], trials


def try_rates(
    config: AdaptConfig,
    runtime: RuntimeConfig,
    identity: str,
    train: Callable[[AdaptConfig, float, Checkpoint, str], History],
) -> tuple[float, list[Trial], float]:
    """`choose_rate` for the stage 1 of this identity: the rate, the trials, and their seconds.

    `train` runs a config at a rate, with a checkpoint and a progress title. The loss of a finished trial is saved in
    the checkpoint folder."""

    def loss_after(rate: float, steps: int) -> float:
        checkpoint = Checkpoint(runtime, f"{identity}-{rate:g}-{steps}")
        _, notes = checkpoint.load() or ({}, {})
        if "trial" not in notes:
            short = config.replace(steps=steps, eval_every=steps)
            history = train(short, rate, checkpoint, f"try learning rate {rate:g}")
            notes = {"trial": [history.evaluations[-1][1]["held_out_loss"], history.seconds]}
            checkpoint.save({}, notes)  # replaces its parameters, which are large for whole models
        loss, seconds = notes["trial"]
        spent.append(seconds)
        return loss

    spent: list[float] = []
    rate, trials = choose_rate(config, loss_after)
    return rate, trials, sum(spent)
