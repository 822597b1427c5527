"""Errors that a person can fix, each in one line: what is wrong, what was expected, what to do."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

Wording = Callable[[str, str | None], str | None]
"""Function from a setting and the value to give it (None: any) to its spelling for the user; None: no own spelling."""

_wording: ContextVar[Wording] = ContextVar("wording", default=lambda name, value: None)


def setting(name: str, value: str | None = None, of: str = "", inside: str = "{}") -> str:
    """The name of a setting in a message, with the value to give it: by default Python's, an argument (`delimiter=";"`,
    put into the text `inside`) or a field (of the class `of`); inside `in_words_of`, the name that its wording
    gives."""
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
    """Context in which messages spell settings as the command line or a file does."""
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
    """A file of text or labels cannot be used."""


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
"""Messages of CUDA and MPS; of the CPU on Linux and macOS, and on Windows; of cuBLAS and cuDNN; C++; oneDNN (which says
no more when it gets no memory for the code or scratchpad of a matrix product); a thread's stack; a library."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out, by its type or by its message."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM or "failed to map segment" in str(error)
    if isinstance(error, RuntimeError | ImportError | UserWarning):
        return _MEMORY_RAN_OUT.search(str(error)) is not None
    return isinstance(error, MemoryError)


def in_a_line(error: object, most: int | None = 300) -> str:
    """The first `most` characters (None: all) of another library's message, without line breaks."""
    return " ".join(str(error).split())[:most]


CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, other line breaks, and surrogates, which cannot be written as UTF-8."""


def visible(text: str) -> str:
    """`text` with control characters, line breaks and surrogates escaped (an escape as \\x1b), so that a terminal shows
    them instead of obeying them. Surrogates stand for bytes of file names that are not UTF-8."""
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def counted(number: int, what: str, several: str = "") -> str:
    """A number with its noun; `several` is the plural where it is not noun + s.

    >>> counted(1, "row"), counted(2000, "row"), counted(2, "entry", "entries")
    ('1 row', '2,000 rows', '2 entries')
    """
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def toml_fault(error: Exception, path: Path) -> str:
    """The TOML parser's message, with a remedy where it gives none: a key that needs quotes, or a file of another
    kind."""
    if what := stand_in_at(path):
        return what.removesuffix(".")
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if re.search("after a key in a key/value pair|initial character for a key|Invalid statement", str(error)):
        return f'{error}; a name of other signs than A-Z, a-z, 0-9, _ and - needs quotes: "health/medicine" = ...'
    return str(error)


def nearest(word: str, choices: Iterable[str]) -> str:
    """A hint to append to a message, or "" when nothing comes close.

    >>> nearest("soft-promt", ["soft-prompt", "lora"])
    " Did you mean 'soft-prompt'?"
    """
    by_fold = {choice.casefold(): choice for choice in choices}
    match = difflib.get_close_matches(word.casefold(), list(by_fold), n=1, cutoff=0.6)
    return f" Did you mean {by_fold[match[0]]!r}?" if match else ""


def stand_in_at(path: Path) -> str | None:
    """`stand_in` of a file; None also where it cannot be read."""
    try:
        with path.open("rb") as file:
            return stand_in(file.read(256))
    except OSError:
        return None


def stand_in(start: bytes) -> str | None:
    """The kind of a placeholder (a Git LFS or git-annex pointer, a web page) by its first bytes, with the remedy; else
    None."""
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer, not the file itself. Fetch it with `git lfs pull`."
    if start.startswith(b"/annex/objects/"):
        return "a git-annex pointer, not the file itself. Fetch it with `git annex get`."
    if re.match(rb"(\xef\xbb\xbf)?\s*(<!doctype html|<html)\b", start, re.IGNORECASE):
        return "a web page, not the file itself. Fetch the raw file."
    return None
