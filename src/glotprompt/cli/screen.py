"""What a person sees: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

from glotprompt.errors import CONTROLS, ArtifactError, UserError, visible
from glotprompt.processes import is_first
from glotprompt.storage import atomic

_output = ContextVar[TextIO | None]("standard output", default=None)


class Interrupted(Exception):
    """A person stopped a command that can be taken up again."""


@contextmanager
def resumable(folder: Path) -> Generator[None]:
    """A training whose checkpoints lie in `folder`: says so when it is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        message = f"rerun the same command to resume from the last checkpoint (in {folder})"
        raise Interrupted(message) from None


def note(text: str, *, from_all: bool = False) -> None:
    """One line on standard error; of processes that train together only the first says it, unless it is `from_all`."""
    if not (from_all or is_first()):
        return
    # A progress line may stand unfinished on a terminal.
    start = "\r\x1b[2K" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{start}{visible(text)}\n")
    sys.stderr.flush()


def suggest(*words: str | Path) -> None:
    """Name the next command to try."""
    note(f"next: glotprompt {shlex.join(str(word) for word in words)}")


def say(*cells: str) -> None:
    """Print one line of results; several cells have tabs between them."""
    print("\t".join(map(visible, cells)))


def _as_json(value: Any, indent: int | None) -> str:
    """JSON in which other characters than controls stand for themselves."""
    # Of those, json writes out the first 32 itself; line breaks that are left are between values.
    lines = json.dumps(value, indent=indent, ensure_ascii=False).split("\n")
    return "\n".join(CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", line) for line in lines)


def definitions(pairs: Mapping[str, str]) -> None:
    """Print figures with their names, one per line."""
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        say(f"{name:<{width}}  {value}")


@contextmanager
def json_alone() -> Generator[None]:
    """Inside the block standard output has what `write_json` and `write_lines` write to -, and nothing else."""
    token = _output.set(sys.stdout)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        _output.reset(token)


def write_json(path: Path | None, value: Any) -> None:
    """Write figures as a JSON file that appears whole or not at all; - is standard output, None nothing."""
    if path is not None:
        write_lines(path, [value], "figures", 1)


def write_lines(path: Path, values: Iterable[Any], what: str, indent: int | None = None) -> None:
    """Write values as JSON, one after the other: to standard output (-) as they come, or a whole file."""
    texts = (_as_json(value, indent) + "\n" for value in values)
    if str(path) == "-":
        for text in texts:
            print(text, end="", file=_output.get(), flush=True)
    elif is_first():
        # A file's name that is no text becomes an escape, which JSON has for it.
        atomic.write(path, "".join(texts).encode("utf-8", "backslashreplace"))
        note(f"wrote {path} ({what})")


def check_output(path: Path, option: str = "--output") -> None:
    """Refuse a place that cannot be written to before any work is done."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{option} {str(path)!r}: the name is not valid UTF-8; give another") from None
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder; name the file that is to be written")
    try:
        folder = atomic.destination(path).parent
    except ArtifactError:
        raise UserError(
            f"{option} {path} is no regular file (a device, a pipe, links in a circle); give another name"
        ) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option} {path}: cannot make the folder {folder} ({error.strerror})") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"{option} {path}: no right to write in {folder}")
