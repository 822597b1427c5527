"""Errors that a person can mend, each one line: what is wrong, what was expected, what to do."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

Wording = Callable[[str, str | None], str | None]
"""From a setting and the value that it should have (None: the reader knows it) to how it is given; None: not at all."""

_wording: ContextVar[Wording] = ContextVar("wording", default=lambda name, value: None)


def setting(name: str, value: str | None = None, of: str = "", inside: str = "{}") -> str:
    """What a message calls a setting, and the value to give it: an argument (`delimiter=";"`, `inside` what it is given
    in), or a field (`of` its class) where Python is spoken to, and what the wording says inside `in_words_of`."""
    wording = _wording.get()(name, value)
    if wording is not None:
        return wording
    if value is None:
        return f"{of}.{name}" if of else inside.format(f"{name}=")
    is_word = not value.replace(".", "").isdecimal() and value not in ("True", "False", "None")
    text = value.replace("\t", "\\t")
    return inside.format(f'{name}="{text}"' if is_word else f"{name}={text}")


@contextmanager
def in_words_of(wording: Wording) -> Generator[None]:
    """Inside the block messages name settings as the command line does, or a file."""
    token = _wording.set(wording)
    try:
        yield
    finally:
        _wording.reset(token)


class UserError(Exception):
    """Base of all errors that the command line prints as one line, with exit status 2."""


class ConfigError(UserError):
    """A setting is unknown, out of range, or contradicts another one."""


class DataError(UserError):
    """A file of text or labels cannot be used as it is."""


class ModelError(UserError):
    """The backbone cannot be loaded, or the prompt cannot reach its attention."""


class ArtifactError(UserError):
    """A saved prompt or classifier is damaged, of the wrong kind, or made for another backbone."""


class MissingExtraError(UserError):
    """An optional dependency is not installed."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f'{purpose} needs an optional part: pip install "glotprompt[{extra}]"')


_MEMORY_RAN_OUT = re.compile(
    r"out of memory|(?:can't|cannot) allocate memory|not enough memory|ALLOC_FAILED|bad.alloc"
    r"|could not (?:create|execute) a (?:primitive|memory)(?! desc)|can't start new thread|failed to map segment",
    re.IGNORECASE,
)
"""CUDA and MPS; the CPU on Linux and macOS; the CPU on Windows; cuBLAS and cuDNN; C++; oneDNN, which says no more when
memory for the code or the scratchpad of a matrix product is refused; a thread's stack; a library."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out: where it is no type of its own, plain words."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM or "failed to map segment" in str(error)
    if isinstance(error, RuntimeError | ImportError | UserWarning):
        return _MEMORY_RAN_OUT.search(str(error)) is not None
    return isinstance(error, MemoryError)


def in_a_line(error: object, most: int | None = 300) -> str:
    """The beginning of a message of somebody else's (None: all of it), without line breaks."""
    return " ".join(str(error).split())[:most]


CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, other line breaks, and halves of characters, which no stream in UTF-8 takes."""


def visible(text: str) -> str:
    """`text` with its control characters written out (an escape as \\x1b), so that a terminal shows them and does not
    obey them; with line breaks, and with the halves of characters that stand for bytes of names that are not UTF-8."""
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def counted(number: int, what: str, several: str = "") -> str:
    """A number with its noun, "1 row" or "2,000 rows"; `several` is the plural that takes no plain s."""
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def toml_fault(error: Exception, path: Path) -> str:
    """What the parser of a TOML file says, and the remedy for what it does not name: a key of other signs, or another
    kind of file."""
    if what := stand_in_at(path):
        return what.removesuffix(".")
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if re.search("after a key in a key/value pair|initial character for a key|Invalid statement", str(error)):
        return f'{error}; a name of other signs than A-Z, a-z, 0-9, _ and - needs quotes: "health/medicine" = ...'
    return str(error)


def nearest(word: str, choices: Iterable[str]) -> str:
    """A hint to append to a message: " Did you mean 'x'?", or "" when nothing comes close."""
    by_fold = {choice.casefold(): choice for choice in choices}
    match = difflib.get_close_matches(word.casefold(), list(by_fold), n=1, cutoff=0.6)
    return f" Did you mean {by_fold[match[0]]!r}?" if match else ""


def stand_in_at(path: Path) -> str | None:
    """As `stand_in`, of a file; None also where it cannot be read."""
    try:
        with path.open("rb") as file:
            return stand_in(file.read(256))
    except OSError:
        return None


def stand_in(start: bytes) -> str | None:
    """What a file is whose bytes begin so, and the remedy, where it only stands for the one that was wanted."""
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer, not the file itself. Fetch it with `git lfs pull`."
    if start.startswith(b"/annex/objects/"):
        return "a git-annex pointer, not the file itself. Fetch it with `git annex get`."
    if re.match(rb"(\xef\xbb\xbf)?\s*(<!doctype html|<html)\b", start, re.IGNORECASE):
        return "a web page, not the file itself. Fetch the raw file."
    return None
