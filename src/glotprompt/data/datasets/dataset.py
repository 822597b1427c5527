"""Published datasets: their descriptions, and their examples and texts, from a folder or from the hub alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from glotprompt.data.languages import same_language
from glotprompt.data.readers.layout import (
    Columns,
    HubFiles,
    Input,
    Layout,
    Record,
    Report,
    read_aligned,
    read_records,
    read_texts,
)
from glotprompt.data.readers.lines import is_blank
from glotprompt.data.readers.records import Example, Pair
from glotprompt.data.readers.tables import OnBadRow
from glotprompt.errors import ConfigError, DataError, nearest, setting

Source = Literal["auto", "folder", "hub"]
Kind = Literal["news topics", "topics", "sentiment", "NLI", "unlabelled text", "parallel text", "your own"]
MakeTexts = Callable[[str, Sequence[Record], Sequence[Record], Report | None], list[str]]
"""Function from a language, its training records and its held-out records to text for stage 1."""

HeldOutIds = Callable[[str, "str | Path | None", "Report | None"], set[str]]
"""Function from a language and the data folder to ids of pairs; the report gets what could not be looked up."""

DATA_DIR_VARIABLE = "GLOTPROMPT_DATA"
"""Environment variable with the default data folder."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset, as its publisher describes it. Languages are ISO 639-3 where the publisher's can be; one written in
    two scripts appears again as "ace-Arab"."""

    name: str
    title: str
    kind: Kind
    languages: tuple[str, ...]
    """Empty: any language, by the code that the file has."""

    labels: tuple[str, ...]
    """All labels; a language may have fewer (`labels_of`). Empty for unlabelled and for parallel text."""

    splits: tuple[str, ...]
    layout: Layout | None
    """None: not a dataset with a layout of its own (`files`)."""

    citation: str
    licence: str
    homepage: str
    get: str
    """Instructions to get the files, with the folder they belong in."""

    unlabelled: str
    """Description of the text for stage 1."""

    task: str | None = None
    """The built-in task of these labels: a name for `Task.load`."""

    labels_by_language: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    extra_splits: tuple[str, ...] = ()
    """Further splits that not every language has."""

    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Languages without a split, by split."""

    source_languages: tuple[str, ...] = ()
    """Usual source language of the task."""

    texts_from: Dataset | None = None
    """Dataset whose texts are the unlabelled text of this one."""

    make_texts: MakeTexts | None = None
    held_out_ids: HeldOutIds | None = None
    """Ids of parallel pairs that are in an evaluation set, in whatever wording."""

    overlaps: tuple[str, ...] = ()
    """Datasets with evaluation text that may contain sentences of this one in the same language."""

    source_overlap: tuple[str, str] | None = None
    """Parallel text: the dataset and language of evaluation text that may contain sentences of its source side, as it
    has the same items in every language."""

    hub: HubFiles | None = None
    notes: tuple[str, ...] = ()

    def examples(
        self,
        language: str,
        split: str,
        data_dir: str | Path | None = None,
        *,
        source: Source = "auto",
        revision: str | None = None,
        on_bad_row: OnBadRow = "error",
        input: Input = "headline",
        report: Report | None = None,
    ) -> list[Example]:
        """All examples of a split, in file order; of news the headlines, or headline and body (`input="article"`).

        `data_dir` is the data folder (default: the variable GLOTPROMPT_DATA). `source` is "folder", "hub" (extra `hub`;
        `revision` overrides the commit), or "auto": the folder if one is known, else the hub. Raises
        `DataError` in one line when files, columns or labels are not as the publisher has them; `on_bad_row="skip"`
        leaves out rows that cannot be used, and tells `report`.
        """
        if self.layout is not None and not self.labels:
            raise DataError(f"{self.name} has no examples, only texts: {self.unlabelled}.")
        code, split = self.language(language), self.split(language, split)
        read_split = self._reader(code, data_dir, source, revision, on_bad_row, report)
        return [record.read_as(input) for record in read_split(split)]

    def texts(
        self,
        language: str,
        split: str = "train",
        data_dir: str | Path | None = None,
        *,
        source: Source = "auto",
        revision: str | None = None,
        on_bad_row: OnBadRow = "error",
        report: Report | None = None,
    ) -> list[str]:
        """Unlabelled text for stage 1, without blank texts; the arguments are those of `examples`.

        Of a labelled dataset: the texts of its training split, without the examples of which a dev or test split has a
        text (letters and digits compared), each once. `report` is told how many those were. Another split than "train"
        is read as it is: whether it may be trained on is the caller's affair. Of parallel text: the target side,
        without the pairs that `held_out_ids` names.
        """
        if self.texts_from is not None:
            return self.texts_from.texts(
                language, split, data_dir, source=source, revision=revision, on_bad_row=on_bad_row, report=report
            )
        if self.labels and "train" not in self.splits:
            raise DataError(f"{self.name} has no unlabelled text: {self.unlabelled}.")
        code, split = self.language(language), self.split(language, split)
        if not self.labels:
            path, columns = self.place(code, split, data_dir, source, revision)
            if columns.fields:
                pairs = self.pairs(
                    code, split, data_dir, source=source, revision=revision, on_bad_row=on_bad_row, report=report
                )
                texts = self._target_side(code, pairs, data_dir, report)
            else:
                texts = list(read_texts(path))
            if not texts:
                raise DataError(f"{path}: no text in it. Expected one text per line; fetch it again.")
            return texts
        read_split = self._reader(code, data_dir, source, revision, on_bad_row, report)
        held_out = [part for part in self.splits if part != "train" and split == "train"]
        make = self.make_texts or own_texts
        return make(
            f"{self.name} {code}",
            read_split(split),
            [record for part in held_out for record in read_split(part)],
            report,
        )

    def pairs(
        self,
        language: str,
        split: str = "train",
        data_dir: str | Path | None = None,
        *,
        source: Source = "auto",
        revision: str | None = None,
        on_bad_row: OnBadRow = "error",
        report: Report | None = None,
    ) -> list[Pair]:
        """Parallel text: every pair in the file's order, with blank sides and repeats; the arguments are those of
        `examples`. Raises `DataError` for a dataset without, and for a language that lacks its source side."""
        if self.texts_from is not None:
            return self.texts_from.pairs(
                language, split, data_dir, source=source, revision=revision, on_bad_row=on_bad_row, report=report
            )
        if self.layout is None or not ("target" in self.layout.columns.fields or self.layout.source_side):
            raise DataError(f"{self.name} has no parallel text. Expected two files, a table, or a dataset that has it.")
        code, split = self.language(language), self.split(language, split)
        path, columns = self.place(code, split, data_dir, source, revision)
        if columns.fields:
            examples = [record.example for record in read_records(path, columns, (), on_bad_row, report)]
            named = columns.row_id is not None
            return [Pair(one.fields["source"], one.fields["target"], one.id if named else "") for one in examples]
        assert self.layout.source_side is not None
        side = path.with_name(self.layout.source_side.replace("{split}", split))
        if not side.is_file():
            raise DataError(
                f"{self.name}:{code} is no parallel text here: {side} does not exist. Expected the lines of"
                f" {path.name} in the source language; give another language, or two files of your own."
            )
        return read_aligned(side, path)

    def _target_side(
        self, code: str, pairs: Sequence[Pair], data_dir: str | Path | None, report: Report | None
    ) -> list[str]:
        held_out = set[str]() if self.held_out_ids is None else self.held_out_ids(code, data_dir, report)
        rest = [pair for pair in pairs if pair.id not in held_out]
        if report is not None and len(rest) < len(pairs):
            report(
                f"{self.name} {code}: {len(pairs) - len(rest):,} of {len(pairs):,} pairs left out of stage 1 because an"
                " evaluation set has them"
            )
        return [pair.target for pair in rest if not is_blank(pair.target)]

    def labels_of(self, language: str) -> tuple[str, ...]:
        """Labels of a language."""
        return self.labels_by_language.get(self.language(language), self.labels)

    def splits_of(self, language: str) -> tuple[str, ...]:
        """Splits of a language that every copy has."""
        return tuple(split for split in self.splits if language not in self.lacking.get(split, ()))

    def language(self, code: str) -> str:
        """The dataset's own code of a language that is given by any code ("gn", "swh"); `DataError` if it has none."""
        if code in self.languages or not self.languages:
            return code
        folders = {} if self.layout is None else self.layout.folders
        same = [own for own in self.languages if folders.get(own) == code]
        same = same or [own for own in self.languages if same_language(code, own)]
        if len(same) == 1:
            return same[0]
        names = ", ".join(self.languages[:30]) + (" ..." if len(self.languages) > 30 else "")
        raise DataError(f"{self.name} has no language {code!r}.{nearest(code, self.languages)} It has: {names}.")

    def split(self, language: str, split: str) -> str:
        """Validate a split; `DataError` if the language lacks it."""
        if self.layout is None:
            raise DataError(f"{self.name} is not one dataset. {self.get}.")
        splits = (*self.splits_of(self.language(language)), *self.extra_splits)
        if split not in splits:
            raise DataError(
                f"{self.name} has no split {split!r} of {language}.{nearest(split, splits)}"
                f" It has: {', '.join(splits)}."
            )
        return split

    def folder(self, data_dir: str | Path | None) -> Path:
        """The data folder: the given one, or that of the environment; `DataError` if there is none."""
        folder = given_folder(data_dir)
        if self.layout is None:
            raise DataError(f"{self.name} is not one dataset. {self.get}.")
        if folder is None:
            raise DataError(f"{self.name}: no data folder is given. {self._remedy()}")
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder. {self._remedy()}")
        return folder

    def _remedy(self) -> str:
        assert self.layout is not None
        pattern = next(iter(self.layout.files.values()))[0].replace("{language}", "<language>")
        hub = "" if self.hub is None else f", or pass {setting('source', 'hub')}"
        if self.hub is not None and not self.hub.revision:
            hub += f" and {setting('revision')}"
        folder = f"{setting('data_dir')} or the variable {DATA_DIR_VARIABLE}"
        return f"Pass the folder that has {pattern} ({folder}){hub}. {self.get}."

    def _reader(
        self,
        code: str,
        data_dir: str | Path | None,
        source: Source,
        revision: str | None,
        on_bad_row: OnBadRow,
        report: Report | None,
    ) -> Callable[[str], list[Record]]:
        def read(split: str) -> list[Record]:
            path, columns = self.place(code, split, data_dir, source, revision)
            return read_records(path, columns, self.labels, on_bad_row, report)

        return read

    def place(
        self, code: str, split: str, data_dir: str | Path | None, source: Source, revision: str | None
    ) -> tuple[Path, Columns]:
        """The file of a split, in the data folder or fetched from the hub, and its columns; `DataError` where there is
        none. `code` and `split` are checked already."""
        if source not in get_args(Source):
            hint = nearest(source, get_args(Source))
            raise ConfigError(f"source={source!r} is not known.{hint} Expected {', '.join(get_args(Source))}.")
        assert self.layout is not None
        on_hub = self.hub is not None and bool(revision or self.hub.revision)
        if source == "hub" or (source == "auto" and on_hub and given_folder(data_dir) is None):
            from glotprompt.data.datasets import hub

            if self.hub is None:
                raise DataError(f"{self.name} has no files on the hub that can be read. {self._remedy()}")
            return hub.fetch(self.name, self.hub, code, split, revision), self.hub.columns
        folder = self.folder(data_dir)
        if revision is not None:
            raise ConfigError(
                f"{setting('revision', revision)} is a commit of the hub, but {folder} is read; leave it out"
            )
        path = self.layout.path(folder, code, split)
        if not path.is_file():
            raise DataError(f"{path}: no such file. Expected {self.title} as its publisher has it. {self.get}.")
        return path, self.layout.columns


def given_folder(data_dir: str | Path | None) -> Path | None:
    """The given data folder, else that of the environment variable."""
    folder = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    return Path(folder) if folder else None


def without_held_out(train: Sequence[Record], held_out: Sequence[Record]) -> list[Record]:
    """The records that share no text with a held-out one (letters and digits compared, ignoring case)."""
    keys = set[str]().union(*(record.keys() for record in held_out))
    return [record for record in train if keys.isdisjoint(record.keys())]


def own_texts(where: str, train: Sequence[Record], held_out: Sequence[Record], report: Report | None) -> list[str]:
    """Unique texts of the training records, without records that share a text with a held-out one."""
    records = without_held_out(train, held_out)
    texts = [text for record in records for text in record.example.fields.values() if not is_blank(text)]
    once = list(dict.fromkeys(texts))
    if report is not None and len(records) < len(train):
        report(
            f"{where}: {len(train) - len(records):,} of {len(train):,} training examples left out of stage 1 because"
            " a dev or test split has a text of theirs"
        )
    if report is not None and len(once) < len(texts):
        report(f"{where}: {len(texts) - len(once):,} of {len(texts):,} texts left out of stage 1 because they repeat")
    return once
