"""What follows a training: the progress line, the file of metrics, a tracker, and the functions of `RuntimeConfig`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker
from accelerate.utils import is_tensorboard_available, is_wandb_available

from glotprompt.config import RuntimeConfig
from glotprompt.errors import ConfigError, setting
from glotprompt.processes import is_first
from glotprompt.storage import atomic
from glotprompt.training.progress import StepLine

SUFFIX = ".metrics.jsonl"
"""Ending of the file of metrics that the command line writes beside an output."""


def beside(output: Path) -> Path:
    """The file of metrics of an output."""
    return output.with_suffix(SUFFIX)


class Watch:
    """The followers of one training (`progress.Progress`). Of processes that train together, the first has them."""

    def __init__(self, title: str, steps: int, runtime: RuntimeConfig, identity: str) -> None:
        self._line = StepLine(title, steps, runtime.progress)
        self._about = {"run": identity, "title": title}
        self._runtime = runtime
        self._tracker = _tracker(title, runtime)

    def begin(self, step: int) -> None:
        """Drop what the file of metrics has of this training after `step`: those steps are made again."""
        self._line.begin(step)
        path = self._runtime.metrics
        if path is not None and path.is_file() and is_first():
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            earlier = [row for row in rows if not self._about.items() <= row.items() or (step and row["step"] <= step)]
            atomic.write(path, "".join(f"{json.dumps(row)}\n" for row in earlier))

    def evaluated(self, step: int, figures: dict[str, float]) -> None:
        self._tell(self._runtime.on_evaluation, step, figures)

    def advance(self, step: int, loss: float | None, tokens: int, figures: dict[str, float]) -> None:
        self._line.advance(step, loss, tokens, figures)
        self._tell(self._runtime.on_step, step, {"loss": math.nan if loss is None else loss, "tokens": tokens})

    def finish(self) -> None:
        if self._tracker is not None:
            self._tracker.finish()

    def _tell(self, function: Any, step: int, figures: dict[str, float]) -> None:
        if not is_first():
            return
        # JSON has no NaN and no infinity.
        values = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        row = {**self._about, "step": step, **values}
        if self._runtime.metrics is not None:
            self._runtime.metrics.parent.mkdir(parents=True, exist_ok=True)
            with self._runtime.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if self._tracker is not None:
            self._tracker.log({name: value for name, value in values.items() if value is not None}, step=step)
        if function is not None:
            function(row)


def _tracker(title: str, runtime: RuntimeConfig) -> GeneralTracker | None:
    """The tracker of `log_with`, started in the first process. Raises `ConfigError` where its package is missing
    or it does not start."""
    name, metrics = runtime.log_with, runtime.metrics
    if name is None or not is_first():
        return None
    if not (is_tensorboard_available() if name == "tensorboard" else is_wandb_available()):
        raise ConfigError(f"{setting('log_with', name)} needs a package that is not installed: pip install {name}")
    if name == "wandb":
        tracker: GeneralTracker = WandBTracker("glotprompt", name=title)
    elif metrics is None:
        raise ConfigError("log_with='tensorboard' needs metrics, a file beside which TensorBoard's files are written")
    else:
        tracker = TensorBoardTracker(f"{metrics.name.removesuffix(SUFFIX)} {title}", metrics.parent / "tensorboard")
    try:
        if hasattr(tracker, "start"):  # older versions of accelerate start it when it is made
            tracker.start()
    except Exception as error:  # wandb's own kinds: nobody is logged in, its server does not answer
        said = " ".join(str(error).split())
        offline = "; WANDB_MODE=offline needs neither login nor network" if name == "wandb" else ""
        raise ConfigError(f"{setting('log_with', name)} does not start: {said}{offline}") from error
    return tracker
