"""Reader of lines: gzip, encodings and line ends, for every file that the package reads.

Files are read in pieces and never held in memory whole. Lines end in \\n or \\r\\n only: `str.splitlines` also splits
at U+2028 and similar characters, which occur inside real articles, so it is not used.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import sys
import unicodedata
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, cast

from glotprompt.errors import ConfigError, DataError, nearest, setting, stand_in

_PIECE = 2**20
_GZIP = b"\x1f\x8b"
# UTF-32 first: its mark begins with UTF-16's. UTF-8 needs no entry: it is what a file is without one.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def name_of(source: str | Path) -> str:
    """Name of a source in messages."""
    return "standard input" if str(source) == "-" else str(source)


def is_blank(text: str) -> bool:
    """Whether a text has only spaces (also NBSP) and invisible characters (also U+FEFF)."""
    return all(char.isspace() or unicodedata.category(char) in ("Cc", "Cf") for char in text)


def without_line_end(line: str) -> str:
    r"""A line without its final \n or \r\n."""
    return line.removesuffix("\n").removesuffix("\r") if line.endswith("\n") else line


def read_lines(source: str | Path, encoding: str | None = None) -> Iterator[str]:
    """Physical lines of a file, or of standard input for "-", with line ends and without a BOM at the start.

    Gzipped text is decompressed, whatever the file name. `encoding=None` uses the byte-order mark, or UTF-8 without
    one. Raises `DataError` at the line that cannot be decoded, when that line is reached.
    """
    pending: list[str] = []
    for text in _decode(source, encoding):
        # newline="\n": no translation, and no other character ends a line.
        for piece in io.StringIO(text, newline="\n"):
            pending.append(piece)
            if piece.endswith("\n"):
                yield "".join(pending)
                pending.clear()
    if pending:
        yield "".join(pending)


def _decode(source: str | Path, encoding: str | None) -> Iterator[str]:
    """Decoded text, in pieces that may end anywhere."""
    name = name_of(source)
    pieces = _pieces(source)
    first = next(pieces)
    mark = next((named for mark, named in _MARKS if first.startswith(mark)), None)
    codec = encoding or mark or "utf-8"
    decoder = _decoder(codec)
    num_bytes, num_ends, num_returns, at_start = 0, 0, 0, True
    for piece in chain([first], pieces):
        state = decoder.getstate()
        num_bytes += len(piece)
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeError as error:
            # A codec that needs a byte-order mark and finds none raises an error without a position.
            start, length = (
                (error.start, len(error.object)) if isinstance(error, UnicodeDecodeError) else (0, num_bytes)
            )
            decoder.setstate(state)
            good = decoder.decode(piece[: max(0, start - len(state[0]))]) if start else ""
            line = num_ends + good.count("\n") + 1
            raise DataError(_undecodable(name, line, num_bytes - length + start, codec, mark)) from None
        if at_start and text:
            text, at_start = text.removeprefix("\ufeff"), False
        nul = text.find("\0")
        if nul >= 0:
            line = num_ends + text.count("\n", 0, nul) + 1
            raise DataError(
                f"{name}, line {line}: a NUL character, so this is not {codec} text. "
                f"Expected text; if it is UTF-16 without a mark, pass {read_option('encoding', 'utf-16-le')}."
            )
        num_ends += text.count("\n")
        num_returns += text.count("\r")
        yield text
    if num_returns and not num_ends:
        raise DataError(
            f"{name}: all its line ends are carriage returns alone (\\r, as old Macintosh programs wrote them)."
            " Expected \\n or \\r\\n; save the file with one of these."
        )


def read_option(name: str, value: str | None = None) -> str:
    """Name of a field of `ReadOptions` in messages."""
    return setting(name, value, inside="options=ReadOptions({})")


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    try:
        b"a".decode(encoding, "ignore")  # refuses codecs that do not produce text, such as hex
        return codecs.getincrementaldecoder(encoding)("strict")
    except LookupError:
        raise ConfigError(
            f"{setting('encoding', encoding)} is not known; expected a name such as utf-8 or cp1252."
        ) from None


def _undecodable(name: str, line: int, at: int, encoding: str, mark: str | None) -> str:
    likely = "utf-16-le" if encoding == "utf-16" else "cp1252"
    if mark is not None and mark != encoding:
        likely = mark
    remedy = read_option("encoding", likely)
    return (
        f"{name}, line {line}: not {encoding} (at byte {at}). "
        f"Save the file as UTF-8, or pass its encoding, for example {remedy}."
    )


def _pieces(source: str | Path) -> Iterator[bytes]:
    """Decompressed bytes of a file; only the last piece is empty."""
    with opened(source) as stream:
        while True:
            piece = stream.read(_PIECE)
            yield piece
            if not piece:
                return


def refuse_reference(source: str | Path) -> None:
    """Raises `DataError` for what is no file and looks like a reference to a dataset."""
    if re.fullmatch(r"\w[\w-]+(:[\w-]+){1,2}", str(source)) and not Path(source).exists():
        raise DataError(
            f"{source}: no such file. References to datasets are for the command line and experiments; in Python use"
            f" glotprompt.dataset({str(source).split(':')[0]!r})"
        )


def similar_file(path: Path) -> str:
    """A hint to append to a message about a missing file: a file beside it with a similar name, "" without one."""
    names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    # Names are not alike by their endings.
    return nearest(path.name, [name for name in names if nearest(path.stem, [Path(name).stem])])


@contextmanager
def opened(source: str | Path) -> Generator[io.BufferedIOBase]:
    """Context with the decompressed bytes of a file, or of standard input for "-"; read errors become `DataError`."""
    try:
        if str(source) == "-":
            # A reader of our own, because a replacement of standard input may not support `peek`.
            raw = io.BufferedReader(cast(Any, sys.stdin.buffer), _PIECE)
            try:
                yield _unpack(raw, source, must_be=False)
            finally:
                raw.detach()  # else standard input would be closed, too
        else:
            with Path(source).open("rb") as raw:
                yield _unpack(raw, source, must_be=Path(source).suffix.lower() == ".gz")
    except FileNotFoundError:
        refuse_reference(source)
        hint = similar_file(Path(source))
        raise DataError(f"{source}: no such file.{hint} Expected the path of a file of text.") from None
    except IsADirectoryError:
        raise DataError(f"{source}: a folder. Expected a file of text; name the files in it.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{name_of(source)}: not a whole gzip file. Expected one; fetch it again.") from None
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}). Check the path and its rights.") from None


def _refuse_stand_in(stream: Any, source: str | Path) -> io.BufferedIOBase:
    """The stream; `DataError` if it is a placeholder, such as a Git LFS pointer."""
    if what := stand_in(stream.peek(256)):
        raise DataError(f"{name_of(source)}: {what}")
    return stream


def _unpack(raw: io.BufferedReader[Any], source: str | Path, must_be: bool) -> io.BufferedIOBase:
    packed = must_be or raw.peek(len(_GZIP)).startswith(_GZIP)
    _refuse_stand_in(raw, source)
    return _refuse_stand_in(gzip.GzipFile(fileobj=raw, mode="rb"), source) if packed else raw
