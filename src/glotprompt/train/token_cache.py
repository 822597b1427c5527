"""A text too large for memory, tokenised once into files that later runs map into memory.

A cache is a folder named by what it holds: the files' contents (sha256), how they were read, the tokenizer and the
character map. In it lie `tokens` (every line's ids, each line closed by the separator), `ends` (where each line ends),
`hashes` (what each line says, for an honest held-out share) and `facts.json`. It appears whole or not at all, and one
that is damaged is made again. A stamp of the files' paths, sizes and times saves hashing them at the next start.
Caches stay until a person deletes them, which is safe whenever nothing runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from transformers import PreTrainedTokenizerFast

from glotprompt import artifact, atomic
from glotprompt.config import identity_of
from glotprompt.data.characters import CharacterMap
from glotprompt.errors import ArtifactError, DataError
from glotprompt.model.tokens import SpecialIds, plain
from glotprompt.train.progress import TextLine
from glotprompt.train.token_text import NUMBER, TokenText

FORMAT = 1
FOLDER_VARIABLE = "GLOTPROMPT_CACHE"
_BATCH = 2**20
"""Characters that are tokenised at once."""
_CHUNK = 2**20
"""Bytes that are read at once from a file."""
_ABANDONED = 3600.0
"""Seconds without a write after which a half-made cache counts as left by a kill."""
_FILES = ("tokens", "ends", "hashes")


def token_text(
    sources: Sequence[str | Path],
    read: Callable[[], Iterable[str]],
    options: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerFast,
    *,
    characters: CharacterMap | None = None,
    notes: Callable[[], Mapping[str, Any]] = dict,
    folder: str | Path | None = None,
    progress: bool = True,
) -> TokenText:
    """The texts of `sources`, which `read` yields, as tokens on disk: from the cache, or made and left there.

    `options` are all settings, as JSON values, on which it depends what `read` makes of the sources' bytes. `notes` is
    asked when all is read; what it says stays with the cache. `folder` is where caches lie (None: `tokens` in
    `cache_folder()`). Raises `DataError` for a source that cannot be read or changes meanwhile, `ArtifactError` where
    the folder cannot be written.
    """
    folder = cache_folder() / "tokens" if folder is None else Path(folder)
    setting = [FORMAT, dict(options), tokenizer_fingerprint(tokenizer), characters and characters.to_dict()]
    seen = [_stamp_of(source) for source in sources]

    def unchanged() -> None:
        if [_stamp_of(source) for source in sources] != seen:
            raise DataError(f"{', '.join(map(str, sources))} changed while being read; run it again")

    stamp = folder / "stamps" / f"{identity_of([seen, setting])}.json"
    key = _stamped(stamp) or identity_of([[_content_of(source) for source in sources], setting])
    made = _opened(folder / key, key, tokenizer, characters)
    if made is None:
        _make(folder, key, _reported(read(), sources, progress), tokenizer, characters, notes, unchanged)
        made = _opened(folder / key, key, tokenizer, characters)
        if made is None:
            raise ArtifactError(f"the token cache in {folder / key} is damaged when just written; check the disk")
    unchanged()
    if _stamped(stamp) != key:
        # A shared cache may be closed to us; without a stamp the next start hashes again.
        with suppress(ArtifactError):
            atomic.write(stamp, json.dumps({"key": key}))
    return made


def cache_folder() -> Path:
    """Where caches of all kinds lie unless another folder is named: $GLOTPROMPT_CACHE, or in the platform's own."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "glotprompt"


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """16 hex digits of all that decides a text's tokens, the version of the `tokenizers` library included."""
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    for passing in ("truncation", "padding"):  # whatever the last call asked for
        described.pop(passing, None)
    return identity_of([described, list(tokenizer.all_special_tokens), artifact.versions()["tokenizers"]])


def _make(
    folder: Path,
    key: str,
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    characters: CharacterMap | None,
    notes: Callable[[], Mapping[str, Any]],
    unchanged: Callable[[], None],
) -> None:
    """Tokenise `texts` into a new cache, which takes the place of a damaged one. It appears only when `unchanged`,
    asked after the last text, does not raise: the key speaks of the sources as they were before."""
    special = SpecialIds.of(tokenizer)
    dtype = np.dtype("<u2" if len(tokenizer) <= 2**16 else "<u4")
    final = folder / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        beside = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=folder))
        try:
            with _Writer(beside, dtype) as writer:
                for batch in _batches(texts):
                    seen = batch if characters is None else [characters.apply(text) for text in batch]
                    rows = _ids([plain(text, tokenizer) for text in seen], tokenizer)
                    writer.add(batch, rows, special.last)
                writer.notes = dict(notes())
            unchanged()
            if _opened(final, key, tokenizer, characters) is None:
                shutil.rmtree(final, ignore_errors=True)
                try:
                    os.rename(beside, final)
                except OSError:  # another process may have been faster
                    if _opened(final, key, tokenizer, characters) is None:
                        raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise ArtifactError(
            f"cannot write the token cache in {folder} ({error.strerror or error}); name another folder with"
            f" --cache-dir or ${FOLDER_VARIABLE}"
        ) from None


def _sweep(folder: Path) -> None:
    """Remove what kills left half made, of whatever text."""
    for left in folder.glob(".*.*"):
        with suppress(FileNotFoundError):  # another process is done with its own
            if time.time() - max(path.stat().st_mtime for path in (left, *left.iterdir())) > _ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def _ids(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """What the tokenizer itself would say, in half the time: without offsets, on all cores (rayon; as with any use of
    it TOKENIZERS_PARALLELISM=false takes one)."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return [found.ids for found in backend.encode_batch_fast(texts, add_special_tokens=False)]


class _Writer:
    """The files of a cache in the making."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        self._folder, self._dtype = folder, dtype
        self._files: dict[str, BinaryIO] = {name: (folder / name).open("wb") for name in _FILES}
        self._checks = dict.fromkeys(_FILES, 0)
        self._texts, self._end = 0, 0
        self.notes: dict[str, Any] = {}

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        sizes = {name: file.tell() for name, file in self._files.items()}
        for file in self._files.values():
            file.close()
        if failed is None:
            facts = {"texts": self._texts, "dtype": self._dtype.str, "sizes": sizes, "checks": self._checks}
            facts["notes"] = self.notes
            (self._folder / "facts.json").write_text(json.dumps(facts))

    def add(self, texts: Sequence[str], rows: Sequence[Sequence[int]], last: int) -> None:
        """Append lines; those without a token are only counted."""
        self._texts += len(texts)
        used = [(text, row) for text, row in zip(texts, rows, strict=True) if row]
        if not used:
            return
        ends = self._end + np.cumsum([len(row) + 1 for _, row in used], dtype=np.int64)
        self._end = int(ends[-1])
        tokens = np.fromiter(chain.from_iterable((*row, last) for _, row in used), self._dtype)
        hashes = b"".join(_line_hash(text) for text, _ in used)
        for name, data in zip(_FILES, (tokens.tobytes(), ends.astype(NUMBER).tobytes(), hashes), strict=True):
            self._files[name].write(data)
            self._checks[name] = zlib.crc32(data, self._checks[name])


def _opened(
    folder: Path, key: str, tokenizer: PreTrainedTokenizerFast, characters: CharacterMap | None
) -> TokenText | None:
    """A cache that is whole; None when there is none."""
    try:
        facts: dict[str, Any] = json.loads((folder / "facts.json").read_text())
        for name in _FILES:
            if (folder / name).stat().st_size != facts["sizes"][name] or _check(folder / name) != facts["checks"][name]:
                return None
        tokens, ends = _mapped(folder / "tokens", np.dtype(facts["dtype"])), _mapped(folder / "ends", NUMBER)
        about = key, facts["texts"], SpecialIds.of(tokenizer), characters
        return TokenText(*about, tokens, ends, facts["notes"], folder / "hashes")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mapped(path: Path, dtype: np.dtype[Any]) -> Any:
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)


def _check(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            found = zlib.crc32(piece, found)
    return found


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _reported(texts: Iterable[str], sources: Sequence[str | Path], progress: bool) -> Iterator[str]:
    """The texts, with a progress line; how much there is to come is known of files that are not packed."""
    packed = any(Path(source).suffix.lower() in (".gz", ".parquet") for source in sources)
    total = None if packed else sum(Path(source).stat().st_size for source in sources)
    line = TextLine(f"tokenise {', '.join(Path(source).name for source in sources)}", total, progress)
    for text in texts:
        line.advance(len(text.encode()) + 1)
        yield text
    line.finish()


def _line_hash(text: str) -> bytes:
    """What a line says, spaces that mean nothing aside."""
    return hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest()


def _stamp_of(source: str | Path) -> list[str | int]:
    try:
        found = Path(source).stat()
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}); check the path and its rights") from None
    # The last two: a copy that keeps size and time (rsync -t) is another file all the same.
    return [str(Path(source).resolve()), found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns]


def _stamped(stamp: Path) -> str | None:
    try:
        return str(json.loads(stamp.read_text())["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _content_of(source: str | Path) -> str:
    with Path(source).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
