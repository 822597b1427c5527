"""The folder of a person's work: uploads, labels that were given by hand, jobs, and the classifiers that came of them.

uploads/0001.txt, 0001.json     what was sent, in one of a few forms, and what it is
labels/lug-topics/test.tsv      texts that measure, chosen at random; no training reads them
labels/lug-topics/train.tsv     corrections, which the next training reads
jobs/0001/                      see `runner`
classifiers/                    what is served
model.txt                       the backbone that --model named last
"""

from __future__ import annotations

import re
import shutil
import threading
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from glotprompt.data.readers.files import read_examples, read_texts
from glotprompt.data.readers.lines import is_blank
from glotprompt.data.readers.normalise import letters
from glotprompt.data.sources import Reading, pairs_of
from glotprompt.errors import CONTROLS, ConfigError, DataError, UserError, counted, in_a_line, visible
from glotprompt.records import Record
from glotprompt.storage import atomic

Use = Literal["target", "train", "labels", "parallel"]
"""Texts of the target language; labelled texts of another; labelled texts of the target; translations."""
Side = Literal["test", "train"]

READING = Reading(quoting="none")
"""Uploads come as the page writes tables: no quotes, and no tabs inside a cell."""
READ_OPTIONS = ("--read", "quoting=none")
MOST_UPLOADS, MOST_BYTES = 100, 400 * 2**20
"""Limits of a workspace; the service bounds a single upload."""
FEWEST_LABELS = 2


class Upload(Record):
    """A file that a person sent."""

    number: int
    use: Use
    name: str
    """As the person calls it; it is no path."""
    rows: int
    bytes: int
    labels: dict[str, int] = Field(default_factory=dict[str, int])
    """Rows by label."""

    @property
    def file(self) -> str:
        """Path of the file, relative to the workspace."""
        return f"uploads/{self.number:04}{'.txt' if self.use == 'target' else '.tsv'}"


class Workspace:
    """A folder; nothing outside it is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._changing = threading.Lock()
        self._taking: dict[int, int] = {}
        """Bytes of uploads that are being read, by number."""
        for name in ("uploads", "labels", "jobs", "classifiers"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.uploads: dict[int, Upload] = {}
        for path in sorted((folder / "uploads").glob("*.json")):
            upload = Upload.model_validate_json(path.read_text(encoding="utf-8"))
            self.uploads[upload.number] = upload
        self._last = folder / "uploads" / "last"
        """The highest number so far: a job that waits must not find another file under the number of one that was
        removed."""

    @property
    def classifiers(self) -> Path:
        return self.folder / "classifiers"

    # -----------------------------------------------------------------------------------------------------------
    # Uploads

    def add_upload(self, use: Use, name: str, content: bytes) -> Upload:
        """Store a file after reading it as the commands will. Raises `UserError`."""
        name = visible(name)[:100]
        if content.startswith(b"\x1f\x8b"):  # its bound would be that of the packed file
            raise ConfigError(f"{name} is packed (gzip); unpack it first")
        number = self._number(len(content))
        upload = Upload(number=number, use=use, name=name, rows=0, bytes=len(content))
        place = self.folder / upload.file
        try:  # nobody waits for what is read here
            atomic.write(place, content)
            upload = upload.replace(**_described(use, place))
            atomic.write(place.with_suffix(".json"), upload.model_dump_json(indent=1))
            with self._changing:
                self.uploads[number] = upload
        except UserError as error:
            place.unlink(missing_ok=True)
            raise DataError(str(error).replace(str(place), name)) from None
        finally:
            with self._changing:
                del self._taking[number]
        return upload

    def _number(self, size: int) -> int:
        """The number of a new file of so many bytes, for which there is room as long as it is in `_taking`."""
        with self._changing:
            sizes = [*self._taking.values(), *(one.bytes for one in self.uploads.values())]
            if len(sizes) >= MOST_UPLOADS:
                raise ConfigError(f"the workspace has {MOST_UPLOADS} files; remove one that is not needed")
            if sum(sizes) + size > MOST_BYTES:
                raise ConfigError(f"the files of a workspace have at most {MOST_BYTES:,} bytes; remove one")
            last = int(self._last.read_text()) if self._last.is_file() else 0
            number = max([last, *self.uploads]) + 1
            atomic.write(self._last, str(number))
            self._taking[number] = size
        return number

    def remove_upload(self, number: int) -> Upload:
        """Forget a file; a job that needs it fails."""
        with self._changing:
            upload = self.upload(number)
            del self.uploads[number]
            place = self.folder / upload.file
            place.with_suffix(".json").unlink(missing_ok=True)
            place.unlink(missing_ok=True)
        return upload

    def upload(self, number: int) -> Upload:
        """The upload of that number. Raises `DataError` where there is none."""
        if number not in self.uploads:
            raise DataError(f"there is no upload {number}; send the file again")
        return self.uploads[number]

    def texts(self, number: int) -> list[str]:
        """The different texts of an upload in order, a line each; of translations the target's side."""
        upload = self.upload(number)
        return list(dict.fromkeys(map(in_a_line, _texts(upload.use, self.folder / upload.file), repeat(None))))

    def labels_in(self, upload: Upload) -> dict[str, str]:
        """Labels of a labelled upload, by text."""
        examples = read_examples(self.folder / upload.file, options=READING)
        return {in_a_line(one.fields["text"], None): str(one.label) for one in examples}

    # -----------------------------------------------------------------------------------------------------------
    # Labels given by hand

    def labels(self, language: str, task: str, side: Side) -> dict[str, str]:
        """Labels given by hand, by text."""
        place = self.labels_file(language, task, side)
        if not place.is_file():
            return {}
        return {one.fields["text"]: str(one.label) for one in read_examples(place, options=READING)}

    def give_label(self, language: str, task: str, side: Side, text: str, label: str) -> dict[Side, int]:
        """Keep a label, in the place of an earlier one of the text; returns the number of labels on each side. Raises
        `DataError` where the text is on the other side, since what measures is not trained on, and for what a table
        cannot hold."""
        text, label = in_a_line(text, None), in_a_line(label, None)
        if CONTROLS.search(text + label):
            raise DataError("the text or its label has control characters, which a table cannot hold")
        if is_blank(text) or is_blank(label):
            raise DataError("the text or its label has only invisible characters; give one with letters")
        other: Side = "train" if side == "test" else "test"
        with self._changing:
            if _key(text) in map(_key, self.labels(language, task, other)):
                raise DataError("this text was labelled for the other purpose: what measures is not trained on")
            table = {**self.labels(language, task, side), text: label}
            write_labels(self.labels_file(language, task, side), table)
        return {side: len(self.labels(language, task, side)) for side in get_args(Side)}

    def labels_file(self, language: str, task: str, side: Side) -> Path:
        return self.folder / "labels" / slug(language, task) / f"{side}.tsv"

    def keep_classifier(self, file: Path, name: str) -> None:
        """Copy a classifier to those that are served."""
        atomic.write(self.classifiers / f"{name}.safetensors", lambda beside: shutil.copyfile(file, beside))

    def below(self, path: Path) -> str:
        """A path of the workspace as commands get it, which run in its folder."""
        return path.relative_to(self.folder).as_posix()


def write_labels(path: Path, labels: dict[str, str]) -> None:
    rows = "".join(f"{text}\t{label}\n" for text, label in labels.items())
    atomic.write(path, f"text\tlabel\n{rows}")


def slug(*names: str) -> str:
    """A name for files: letters, digits and hyphens; of other names with a hash, so that no two meet."""
    plain = "-".join(re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-") for name in names)
    same = plain == "-".join(names)
    return plain[:40] if same and len(plain) <= 40 else f"{plain[:30]}-{sha256(repr(names).encode()).hexdigest()[:6]}"


def _texts(use: Use, place: Path) -> list[str]:
    """The texts of a file; of translations the target's side."""
    if use == "parallel":
        return [pair.target for pair in pairs_of([str(place)], READING)]
    return read_texts(place, None if use == "target" else "text", options=READING)


def _described(use: Use, place: Path) -> dict[str, object]:
    """Rows and labels of a file."""
    if use in ("target", "parallel"):
        return {"rows": len(_texts(use, place))}
    examples = read_examples(place, options=READING)
    labels = Counter(str(one.label) for one in examples)
    if len(labels) < FEWEST_LABELS:
        names = f"{counted(len(labels), 'label')}: {', '.join(labels)}"
        raise DataError(f"{place} has {names}; a classifier needs at least two")
    return {"rows": len(examples), "labels": dict(labels.most_common())}


def merged(labels: Sequence[dict[str, str]], without: dict[str, str]) -> dict[str, str]:
    """Labels of several sources, the last one of each text, without the texts that measure."""
    measuring = {*map(_key, without)}
    return {text: label for part in labels for text, label in part.items() if _key(text) not in measuring}


def _key(text: str) -> str:
    """Key under which two texts count as the same, as in decontamination: without case, spaces and punctuation."""
    return letters(text) or text
