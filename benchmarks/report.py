"""Options, tables and JSON that all benchmarks share."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from backbones import SHAPES, XLMR_WORDS
from rich.console import Console
from rich.table import Table

import glotprompt
from glotprompt.model.devices import choose_precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def parser(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """The options that every benchmark has, so that `make bench ARGS=...` can hand the same words to all."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    options.add_argument("--shape", choices=SHAPES, default="mini", help="the body's sizes (random weights)")
    options.add_argument("--vocabulary", type=positive, default=XLMR_WORDS, help="words of the model")
    options.add_argument("--batch", type=positive, default=16, help="sequences or examples per step")
    options.add_argument(
        "--length", type=positive, default=128, help="longest sequence in tokens, special ones included"
    )
    options.add_argument(
        "--prompt-length", type=positive, default=32, help="vectors in front of every layer's attention"
    )
    options.add_argument(
        "--precision", choices=("auto", *DTYPES), default="auto",
        help="of the product's frozen body; auto: bf16 where this machine multiplies it faster",
    )  # fmt: skip
    options.add_argument("--rounds", type=positive, default=5, help="alternations; figures are medians over them")
    options.add_argument(
        "--data-dir",
        type=Path,
        help="folder with real texts (else the variable GLOTPROMPT_DATA); without one, drawn lengths stand for them",
    )
    add_outputs(options)
    options.set_defaults(**defaults)
    return options


def add_outputs(options: argparse.ArgumentParser) -> None:
    """Where `write` puts the figures."""
    options.add_argument("--json", type=Path, help="write the figures here; into a folder: as <benchmark>.json")
    options.add_argument(
        "--history", type=Path, help="add the figures, with machine and commit, to this file as a line"
    )


def add_dropout(options: argparse.ArgumentParser) -> None:
    """The option of those that train others' models."""
    options.add_argument(
        "--no-dropout", action="store_true", help="the others without the dropout that models come with"
    )


def add_device(options: argparse.ArgumentParser) -> None:
    """The option of those that also measure a GPU."""
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where all sides compute")


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def precision_of(options: argparse.Namespace) -> Literal["fp32", "bf16"]:
    """What `--precision auto` comes to on this machine."""
    device = torch.device(getattr(options, "device", "cpu"))
    return choose_precision(device) if options.precision == "auto" else options.precision


def machine() -> dict[str, Any]:
    """What the figures depend on beside the code."""
    packages = ("torch", "transformers", "peft", "numpy")
    return {
        "versions": {
            "python": platform.python_version(),
            "glotprompt": glotprompt.__version__,
            **{name: version(name) for name in packages},
        },
        "cpu": _cpu(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16_instructions": sorted(_flags() & {"avx512_bf16", "amx_bf16"}),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpu_lines() -> list[list[str]]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return []
    return [[part.strip() for part in line.split(":", 1)] for line in path.read_text().splitlines() if ":" in line]


def _cpu() -> str:
    return next((value for key, value in _cpu_lines() if key == "model name"), platform.processor())


def _flags() -> set[str]:
    return set(next((value for key, value in _cpu_lines() if key == "flags"), "").split())


def _commit() -> str | None:
    """The commit of this checkout, with "-dirty" where files differ from it; None outside one."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio_of(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Ratios round by round: what changes from minute to minute changes for both sides."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def range_text(values: Mapping[str, float], form: str = ",.0f") -> str:
    """A spread as text."""
    low, high = format(values["min"], form), format(values["max"], form)
    return f"{format(values['median'], form)}  ({low} .. {high})"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are figures."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def finished_runs(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a JSON lines file, one per finished run; a last line that a kill cut short is not one."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            print(f"{path}: passed over a line that was cut short", file=sys.stderr, flush=True)


def write(options: argparse.Namespace, name: str, figures: Mapping[str, Any]) -> None:
    """Write the figures with the settings and the machine, if wished. The same settings on the same machine make the
    same file but for what was measured: no date, no path. In the history these stand beside them."""
    settings = {key: value for key, value in vars(options).items() if not isinstance(value, Path) and value is not None}
    content = {"benchmark": name, **figures, "settings": settings, "machine": machine()}
    if options.history is not None:
        line = {"date": date.today().isoformat(), "commit": _commit(), **content}
        with options.history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    if options.json is None:
        return
    path: Path = options.json
    if path.is_dir() or not path.suffix:
        path.mkdir(parents=True, exist_ok=True)
        path = path / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
