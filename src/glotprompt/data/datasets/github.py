"""Download of the Bible verse demo's files from two repositories on GitHub: fixed commits, verified, resumable.

Downloads are kept only until the data folder is made from them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen
from xml.etree import ElementTree

from glotprompt.data.datasets.bitext import BIBLE_VERSES
from glotprompt.data.datasets.dataset import Dataset
from glotprompt.data.datasets.topics import TAXI1500
from glotprompt.errors import ArtifactError, DataError, in_a_line, nearest
from glotprompt.storage import atomic

SERVER = "https://raw.githubusercontent.com"
TIMEOUT = 30
"""Seconds without data after which a connection counts as dead."""

OR_A_FOLDER = "or give a folder with taxi1500/ and parallel/bible/ by --data-dir"


@dataclass(frozen=True, slots=True)
class Remote:
    """A file in a commit."""

    repository: str
    commit: str
    path: str
    blob: str
    """Git's own hash of its content. The commit's tree lists it, so it is known of every file, also of English.xml,
    which the copies of the repositories that this was written with do not hold."""

    size: int
    """Bytes, for messages only."""

    @property
    def url(self) -> str:
        return f"{SERVER}/{self.repository}/{self.commit}/{quote(self.path)}"


def _taxi1500(path: str, blob: str, size: int) -> Remote:
    commit = "af199419f908f435efcb1521bf60dd035c79ef92"
    return Remote("cisnlp/Taxi1500", commit, f"corpus_obtain/{path}.tsv", blob, size)


def _bible(name: str, blob: str, size: int) -> Remote:
    commit = "44e5fca1bfb369a5da2ee23ebc6f421c88489c5c"
    return Remote("christos-c/bible-corpus", commit, f"bibles/{name}.xml", blob, size)


SPLITS: Mapping[str, Remote] = {
    "train": _taxi1500("train_dev_test/train/lan", "17baac1d0d2034b42bcbf48659948dab5ed181bd", 131_886),
    "dev": _taxi1500("train_dev_test/dev/lan", "8f1830c4389a1b522893074b82b3ebc3e8eaed55", 16_052),
    "test": _taxi1500("train_dev_test/test/lan", "3c1609dc23b106ed3983878a6800593ed03b7e34", 17_133),
}
"""Splits of one language; all languages share their ids."""

TOPICS: Mapping[str, Remote] = {
    "eng": _taxi1500("transfered/eng", "d354a8c512957c5f9852004c60900d14bf92b604", 160_628),
    "glv": _taxi1500("transfered/glv", "42afeb0a4240143b46a8d4b3dd6337fe8a76cb54", 177_715),
    "cni": _taxi1500("transfered/cni", "000048372db8aa69527af26f8a3713c6d86e0e50", 246_628),
    "quc": _taxi1500("transfered/quc", "814d9948242ffb659e23ee7af9c0fba09eb4a6a2", 206_073),
}
"""All verses of a language with their labels: id, label, verse."""

BIBLES: Mapping[str, Remote] = {
    # The size is from a pointer in the history, from before the corpus left Git LFS.
    "eng": _bible("English", "54b5013652fe7f11190bfe8aa2526230b68b2169", 6_015_841),
    "glv": _bible("Manx-PART", "760c12925dec7b012b5ab6f3965a166617a02462", 750_950),
    "cni": _bible("Ashaninka-NT", "9a6f3047632ad7efc86c30b8835695a39975058f", 1_894_553),
    "quc": _bible("K'iche'-NT", "ff8d251bd37c6e02a1585061b35b4d53b94b4403", 1_574_647),  # not the one of SIL
}

# fmt: off
BOOKS = {code: number for number, code in enumerate((
    "MAT", "MAR", "LUK", "JOH", "ACT", "ROM", "1CO", "2CO", "GAL", "EPH", "PHI", "COL", "1TH", "2TH", "1TI", "2TI",
    "TIT", "PHM", "HEB", "JAM", "1PE", "2PE", "1JO", "2JO", "3JO", "JUD", "REV",
), 40)}
# fmt: on
"""Numbers of the New Testament's books, by their names in the corpus."""


def verse_folder(language: str, folder: Path, say: Callable[[str], None]) -> Path:
    """Make `folder` a data folder with verse topics in English and the language, and their parallel text.

    Fetches what is missing. Raises `DataError` for a language of which no edition is known, and when a file cannot be
    downloaded or is not the right one; the next call resumes.
    """
    if language == "eng" or language not in BIBLES:
        editions = [code for code in BIBLES if code != "eng"]
        raise DataError(
            f"no edition of {language!r} can be downloaded, only of {', '.join(editions)}."
            f"{nearest(language, editions)} --data-dir takes a folder with any other."
        )
    codes, downloads = ("eng", language), folder / "downloads"
    topics = {(code, split): _place(TAXI1500, folder, code, split) for code in codes for split in SPLITS}
    bible = _place(BIBLE_VERSES, folder, language, "train")
    if not all(path.is_file() for path in (*topics.values(), bible)):
        _fetch_all([*SPLITS.values(), *(table[code] for table in (TOPICS, BIBLES) for code in codes)], downloads, say)
        ids = {split: {_id(row) for row in _lines(downloads / SPLITS[split].blob)} for split in SPLITS}
        for (code, split), path in topics.items():
            rows = _lines(downloads / TOPICS[code].blob)
            atomic.write(path, b"".join(row for row in rows if _id(row) in ids[split]))
        english, other = (read_verses(downloads / BIBLES[code].blob) for code in codes)
        both = sorted(english.keys() & other.keys())
        lines = (f"{'.'.join(map(str, verse))}\t{english[verse]}\t{other[verse]}\n" for verse in both)
        atomic.write(bible, "".join(lines).encode())
    shutil.rmtree(downloads, ignore_errors=True)
    return folder


def read_verses(path: Path) -> dict[tuple[int, int, int], str]:
    """The New Testament of a Bible of the corpus by book (Matthew is 40), chapter and verse: single spaces, no verse
    without text."""
    verses: dict[tuple[int, int, int], str] = {}
    for part in ElementTree.parse(path).iter("seg"):
        _, book, chapter, verse = part.attrib["id"].split(".")  # b.MAT.1.1
        text = " ".join("".join(part.itertext()).split())
        if book in BOOKS and text:
            verses[BOOKS[book], int(chapter), int(verse)] = text
    return verses


def _fetch_all(remotes: list[Remote], downloads: Path, say: Callable[[str], None]) -> None:
    missing = [remote for remote in remotes if not (downloads / remote.blob).is_file()]
    sources = " and ".join(dict.fromkeys(f"https://github.com/{remote.repository}" for remote in missing))
    total = sum(remote.size for remote in missing) / 1e6
    if missing:
        say(f"no data folder given: fetching {total:.1f} MB from {sources} into {downloads.parent}")
    try:
        downloads.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot make {downloads}: {error.strerror or error}") from None
    for number, remote in enumerate(missing, 1):
        say(f"file {number} of {len(missing)}: {remote.path} ({remote.size / 1e3:,.0f} kB)")
        _fetch(remote, downloads)


def _fetch(remote: Remote, downloads: Path) -> None:
    """Download a file to the downloads folder, named by its hash; an earlier partial download is resumed."""
    path = downloads / remote.blob
    part = path.with_suffix(".part")
    _receive(remote.url, part)
    content = part.read_bytes()
    if hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() != remote.blob:
        part.unlink()
        raise DataError(
            f"{remote.url}: what came is not the file of that commit (its hash is another) and was deleted. Try again,"
            f" {OR_A_FOLDER}."
        )
    os.replace(part, path)


def _receive(url: str, part: Path) -> None:
    """Append the missing bytes to a partial download; its hash then shows whether it is complete."""
    start = part.stat().st_size if part.is_file() else 0
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            # A server without range requests sends the whole file.
            with part.open("ab" if answer.status == HTTPStatus.PARTIAL_CONTENT else "wb") as file:
                shutil.copyfileobj(answer, file)
            if answer.length:  # bytes missing: urllib does not raise
                raise OSError(f"the connection was cut {answer.length:,} bytes before the end")
    except HTTPError as error:
        error.close()
        if not (start and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):  # the part is already complete
            raise _not_fetched(url, error) from None
    except (OSError, HTTPException) as error:
        raise _not_fetched(url, error) from None


def _not_fetched(url: str, error: Exception) -> DataError:
    reason = in_a_line(error).removeprefix("<urlopen error ").removesuffix(">")
    return DataError(f"{url}: cannot be fetched ({reason}). Try again (what came is kept), {OR_A_FOLDER}.")


def _place(dataset: Dataset, folder: Path, language: str, split: str) -> Path:
    assert dataset.layout is not None
    return dataset.layout.path(folder, language, split)


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def _id(row: bytes) -> bytes:
    return row.partition(b"\t")[0]
