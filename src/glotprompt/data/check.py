"""Check of a dataset's files: rows, labels, checksums, and problems in the text."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from glotprompt.data.datasets.dataset import Dataset
from glotprompt.data.readers.layout import Record, Report, read_records
from glotprompt.data.readers.lines import is_blank, read_lines, without_line_end
from glotprompt.data.readers.normalise import letters, script_of
from glotprompt.data.readers.records import Example
from glotprompt.data.readers.tables import or_skip
from glotprompt.errors import DataError

_CHARACTERS = {
    "line breaks inside": ("\n", "\r"),
    "tabs inside": ("\t",),
    "control characters": ("\x00-\x08", "\x0b-\x0c", "\x0e-\x1f", "\x7f-\x84", "\x86-\x9f"),
    "U+2028 and other separators": ("\x85", "\u2028-\u2029"),
    "byte order marks": ("\ufeff",),
    "no-break spaces": ("\u00a0", "\u202f"),
    "invisible characters": ("\u00ad", "\u200b", "\u2060-\u2064"),
    "private-use characters": ("\ue000-\uf8ff", "\U000f0000-\U0010ffff"),
    "replacement characters (U+FFFD)": ("\ufffd",),
}
"""Characters and ranges by problem. Joiners (U+200C, U+200D) belong to many scripts and are no problem."""


@dataclass(frozen=True)
class FileCheck:
    """Result for one file."""

    language: str
    split: str
    path: str
    sha256: str
    num_bytes: int
    rows: int
    """Number of rows, or lines of plain text, including blank ones."""
    labels: dict[str, int]
    """Rows by label, in the dataset's order; unexpected labels come last."""
    problems: dict[str, int]
    """Number of rows by problem."""
    error: str = ""
    """Error of the first unreadable row; such rows count nowhere else."""
    script: str = ""
    """Unicode name of the most frequent script."""


@dataclass(frozen=True)
class Check:
    """Result of the check of a dataset in a data folder."""

    dataset: str
    data_dir: str
    files: tuple[FileCheck, ...]
    missing: tuple[str, ...]
    """Paths of missing splits, relative to the data folder."""

    def to_dict(self) -> dict[str, Any]:
        """JSON value of the check."""
        return asdict(self)


def check(
    dataset: Dataset,
    data_dir: str | Path | None = None,
    languages: Iterable[str] = (),
    report: Report | None = None,
) -> Check:
    """Counts, checksums and problems of all the dataset's files in the data folder, or of some `languages` only.
    `report` gets each path before the file is read."""
    data_dir = dataset.folder(data_dir)
    assert dataset.layout is not None
    checks: list[FileCheck] = []
    missing: list[str] = []
    named = tuple(dataset.language(code) for code in languages)
    for language in named or dataset.languages or _languages_there(dataset, data_dir):
        records: dict[str, list[Record]] = {}
        files: dict[str, FileCheck] = {}
        for split in (*dataset.splits_of(language), *dataset.extra_splits):
            path = dataset.layout.path(data_dir, language, split)
            if path.is_file():
                if report is not None:
                    report(str(path))
                files[split], records[split] = _check_file(dataset, language, split, path)
            elif split not in dataset.extra_splits:
                missing.append(str(path.relative_to(data_dir)))
        keys = {split: [_keys(record) for record in records[split]] for split in records}
        scripts = Counter(file.script for file in files.values())
        checks += [
            replace(
                file,
                problems=file.problems
                | dict(_in_other_splits(split, keys, dataset))
                | dict(_in_another_script(file, scripts, list(files.values()))),
            )
            for split, file in files.items()
        ]
    if not checks:
        raise DataError(f"{data_dir}: no file of {dataset.name} in it, for example {missing[0]}. {dataset.get}.")
    return Check(dataset.name, str(data_dir), tuple(_with_equal_files(checks)), tuple(missing))


def _languages_there(dataset: Dataset, data_dir: Path) -> tuple[str, ...]:
    """Languages with files in the data folder, for a dataset of any language."""
    assert dataset.layout is not None
    patterns = [Path(pattern) for split in dataset.layout.files.values() for pattern in split]
    codes: set[str] = set()
    for pattern in patterns:
        written = re.compile(re.escape(pattern.name).replace(re.escape("{language}"), "(.+)"))
        folder = data_dir / pattern.parent
        if folder.is_dir():
            codes.update(name[1] for name in map(written.fullmatch, sorted(p.name for p in folder.iterdir())) if name)
    if not codes:
        raise DataError(f"{data_dir}: no file of {dataset.name} in it, for example {patterns[0]}. {dataset.get}.")
    return tuple(sorted(codes))


def _check_file(dataset: Dataset, language: str, split: str, path: Path) -> tuple[FileCheck, list[Record]]:
    assert dataset.layout is not None
    error = ""
    records: list[Record] = []
    try:
        records = _read(dataset, path, strict=True)
    except DataError as first:
        error = str(first).removesuffix(f" Fix the row{or_skip()}")  # this command has no such option
        try:
            records = _read(dataset, path, strict=False)
        except DataError as nothing_left:
            error = str(nothing_left)
    expected = dataset.labels_of(language)
    counts = Counter(record.example.label for record in records if record.example.label is not None)
    unexpected = sorted(set(counts) - set(expected))
    labels = {label: counts[label] for label in (*expected, *unexpected)} if dataset.labels else {}
    problems = Counter[str]()
    for record in records:
        problems.update(_problems_of(record))
        problems["label outside the language's set"] += bool(dataset.labels) and record.example.label not in expected
    problems.update(_count_repeats(records))
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return (
        FileCheck(
            language,
            split,
            str(path),
            digest,
            len(data),
            len(records),
            labels,
            _some(problems),
            error,
            _script_of(records),
        ),
        records,
    )


def _read(dataset: Dataset, path: Path, *, strict: bool) -> list[Record]:
    assert dataset.layout is not None
    columns = dataset.layout.columns
    if not columns.fields:
        return [Record(Example({"text": without_line_end(line)}), ()) for line in read_lines(path)]
    return read_records(path, columns, dataset.labels, "error" if strict else "skip", every_row=True)


def _problems_of(record: Record) -> Iterator[str]:
    """Problems of one row, each once."""
    fields = list(record.example.fields.values())
    texts = (*fields, *record.unread)
    if any(is_blank(text) for text in fields):
        yield "blank text"
    if any(len(text.strip()) == 1 for text in texts):
        yield "text of one character"
    if any(text != text.strip() and not is_blank(text) for text in fields):
        yield "spaces at the edges"
    if not all(unicodedata.is_normalized("NFC", text) for text in texts):
        yield "not NFC"
    yield from {name for char in set[str]().union(*texts) if (name := _character_problem(char))}


@cache
def _character_problem(char: str) -> str:
    ranges = ((name, span) for name, spans in _CHARACTERS.items() for span in spans)
    return next((name for name, span in ranges if span[0] <= char <= span[-1]), "")


def _count_repeats(records: Iterable[Record]) -> dict[str, int]:
    """Numbers of rows that repeat an earlier row, with the same label and with another."""
    labels: dict[tuple[str, ...], set[str | None]] = {}
    same = other = 0
    for record in records:
        key = tuple(record.example.fields.values())
        if all(is_blank(text) for text in key):
            continue
        before = labels.setdefault(key, set())
        same += record.example.label in before
        other += bool(before - {record.example.label})
        before.add(record.example.label)
    return {"repeats an earlier row": same, "an earlier row with another label": other}


def _keys(record: Record) -> set[str]:
    """Keys of a row, by which rows of one document match: its texts; in pairs, both together."""
    fields = [letters(text) for text in record.example.fields.values()]
    if len(fields) > 1:
        return {"\n".join(fields)} if all(fields) else set()
    return record.keys()


def _in_other_splits(split: str, keys: dict[str, list[set[str]]], dataset: Dataset) -> Iterator[tuple[str, int]]:
    """Numbers of rows that also occur in the language's dev or test splits. Few-shot samples are parts of others."""
    if split not in dataset.splits:
        return
    for other in dataset.splits:
        if other != split and other != "train" and other in keys:
            others = set[str]().union(*keys[other])
            count = sum(not others.isdisjoint(mine) for mine in keys[split])
            if count:
                yield f"also in {other}", count


def _script_of(records: Iterable[Record]) -> str:
    """The most frequent script; "" if there is no letter."""
    count = Counter[str]()
    for record in records:
        for text in record.example.fields.values():
            count.update(text)
    letters_of = Counter[str]()
    for char, times in count.items():
        letters_of[script_of(char)] += times
    del letters_of[""]
    return max(letters_of, key=lambda script: letters_of[script], default="")


def _in_another_script(
    file: FileCheck, scripts: Counter[str], of_language: Sequence[FileCheck]
) -> Iterator[tuple[str, int]]:
    """All rows of a file, as a problem, if at least as many files of its language have another script."""
    others = [other for other in of_language if other.script and other.script != file.script]
    if file.script and others and 2 * scripts[file.script] <= scripts.total() - scripts[""]:
        names = ", ".join(f"{other.language} {other.split}" for other in others)
        yield f"in another script than {names}", file.rows


def _with_equal_files(files: Sequence[FileCheck]) -> Iterator[FileCheck]:
    """The files with byte-identical other files of the dataset added to their problems."""
    same: dict[str, list[FileCheck]] = {}
    for file in files:
        same.setdefault(file.sha256, []).append(file)
    for file in files:
        others = [f"{other.language} {other.split}" for other in same[file.sha256] if other is not file]
        duplicates = {f"same file as {', '.join(others)}": file.rows} if others and file.num_bytes else {}
        yield replace(file, problems=file.problems | duplicates)


def _some(problems: Counter[str]) -> dict[str, int]:
    return {name: problems[name] for name in sorted(problems) if problems[name]}
