"""The plain commands (adapt, tune, evaluate) that give a cell's numbers without a grid."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glotprompt.cli.files import has_bodies
from glotprompt.errors import ConfigError
from glotprompt.grid.reading import PLAIN, ExampleSource
from glotprompt.grid.steps import AdaptStep, EvaluateStep, TuneStep
from glotprompt.methods import departures
from glotprompt.task import BUILT_IN_TASKS, Task


def commands_of(step: EvaluateStep, folder: Path, data_dir: Path | None) -> Iterator[str]:
    """Shell lines that write their files into `folder`. Raises `ConfigError` for a cell that only a grid can run."""
    prompt, tuned = None, step.tuned
    if step.centre is not None or tuned.train.read != PLAIN:
        raise ConfigError(f"{step}: plain commands do not centre as a grid does; options of [read] are not written out")
    if tuned.target is not None or tuned.start is not None or tuned.train.half is not None or step.folds is not None:
        raise ConfigError(
            f"{step}: only a grid samples target labels, self-trains, halves a dataset or cross-fits as it does; leave"
            " such systems out with --set methods=[...]"
        )
    if step.adapted is not None:
        prompt = folder / f"{step.adapted.name}.safetensors"
        yield _line("adapt", _of_stage1(step.adapted), prompt, data_dir)
    task, classifier = tuned.task, folder / f"{tuned.name}-{step.target}.safetensors"
    if not _is_built_in(task):
        lines = f"cat > {shlex.quote(str(folder / task.name))}.toml <<'END'\n{task.to_toml()}END"
        yield from lines.split("\n")
    words = _of_stage2(tuned, prompt, folder) | ({} if prompt is not None else {"language": step.target})
    yield _line("tune", words, classifier, data_dir)
    words = {"classifier": classifier, "data": step.test.references[0], "precision": step.backbone.precision}
    words |= _read(step.test)
    yield _line("evaluate", {**words, "json": folder / f"{step.name}.json"}, None, data_dir)


def _of_stage1(step: AdaptStep) -> dict[str, Any]:
    texts = step.texts
    words: dict[str, Any] = {"language": step.language}
    pairs = texts.get("pairs")
    if pairs is not None:
        if pairs.share < 1:
            raise ConfigError(f"{step}: plain commands read all translations; leave text_share out")
        words |= {"parallel": pairs.references, "held-out": pairs.scored}
    if "target" in texts:  # beside pairs for mlm+alignment
        target = texts["target"]
        if pairs is not None and pairs.scored != target.scored:
            raise ConfigError(f"{step}: plain commands clean text and translations by the same files; give one target")
        words |= {"target": target.references, "source": texts["source"].references if step.contents["source"] else ()}
        words |= {"held-out": target.scored, "max-lines": target.max_lines}
        words |= {"text-share": target.share} if target.share < 1 else {}
    return {**words, **_of_backbone(step), "set": _settings(departures(step.config))}


def _of_stage2(step: TuneStep, prompt: Path | None, folder: Path) -> dict[str, Any]:
    words: dict[str, Any] = {"train": step.train.references, "dev": () if step.dev is None else step.dev.references}
    words |= _read(step.train)
    words["task"] = step.task.name if _is_built_in(step.task) else folder / f"{step.task.name}.toml"
    words |= {} if prompt is None else {"prompt": prompt}
    words |= {} if step.pairs is None else {"parallel": step.pairs.references, "held-out": step.pairs.scored}
    return {**words, **_of_backbone(step), "set": _settings(departures(step.config))}


def _read(source: ExampleSource) -> dict[str, Any]:
    articles = source.input == "article" and any(map(has_bodies, source.references))
    return {"read": "input=article"} if articles else {}


def _of_backbone(step: AdaptStep | TuneStep) -> dict[str, Any]:
    return {"model": step.backbone.name, "precision": step.backbone.precision, "preset": "defaults"}


def _settings(values: dict[str, Any]) -> list[str]:
    return [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()]


def _line(command: str, words: dict[str, Any], output: Path | None, data_dir: Path | None) -> str:
    options = {**words, **({"output": output} if output else {}), **({"data-dir": data_dir} if data_dir else {})}
    line = ["glotprompt", command]
    for name, value in options.items():
        for one in value if isinstance(value, list | tuple) else (value,):
            line += [f"--{name}", str(one)]
    return shlex.join(line)


def _is_built_in(task: Task) -> bool:
    return BUILT_IN_TASKS.get(task.name) == task
