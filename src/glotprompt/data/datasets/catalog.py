"""Datasets by name, and references such as masakhanews:sna:test in place of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glotprompt.data.datasets.americas import AMERICASNLI, AMERICASNLP2021
from glotprompt.data.datasets.bitext import BIBLE_VERSES, MAFAND
from glotprompt.data.datasets.dataset import Dataset
from glotprompt.data.datasets.nli import MULTINLI, NLI_EN, XNLI
from glotprompt.data.datasets.sentiment import AFRISENTI, NUSAX
from glotprompt.data.datasets.topics import MASAKHANEWS, SIB200, TAXI1500
from glotprompt.errors import DataError, nearest

FILES = Dataset(
    name="files",
    title="Your own files",
    kind="your own",
    languages=(),
    labels=(),
    splits=(),
    layout=None,
    citation="-",
    licence="yours",
    homepage="-",
    get="Name the files themselves where a command or function asks for text or examples: text with one item per"
    " line, or .tsv, .csv, .jsonl and .parquet with named columns",
    unlabelled="your text",
)

_CATALOG = [
    MASAKHANEWS,
    AMERICASNLI,
    AMERICASNLP2021,
    MULTINLI,
    NLI_EN,
    XNLI,
    SIB200,
    AFRISENTI,
    NUSAX,
    TAXI1500,
    BIBLE_VERSES,
    MAFAND,
    FILES,
]
DATASETS = {dataset.name: dataset for dataset in _CATALOG}


def dataset(name: str) -> Dataset:
    """Look up a dataset by name; `DataError`, which suggests the nearest name, if there is none."""
    if name not in DATASETS:
        names = ", ".join(DATASETS)
        raise DataError(f"There is no dataset {name!r}.{nearest(name, DATASETS)} Known are {names}.")
    return DATASETS[name]


@dataclass(frozen=True, slots=True)
class Reference:
    """A validated reference NAME:LANGUAGE[:SPLIT]."""

    dataset: Dataset
    language: str
    """The dataset's own language code."""
    split: str | None
    """Split; None if the reference has none."""

    def __str__(self) -> str:
        return ":".join((self.dataset.name, self.language, *([] if self.split is None else [self.split])))


def parse_reference(word: str) -> Reference | None:
    """The reference in a string such as "masakhanews:sna:test"; None for a path or anything else. Raises `DataError`
    for a name that is nearly a dataset's, and for a language or split that the dataset lacks.
    """
    name, *others = word.split(":")
    if not others or Path(word).exists() or not name.replace("_", "").replace("-", "").isalnum():
        return None
    if name not in DATASETS:
        hint = nearest(name, DATASETS) if len(name) > 3 else ""  # C:\texts, or a language code
        if not hint:
            return None
        raise DataError(
            f"{word!r}: neither a file nor a dataset of the catalog.{hint} It lists: {', '.join(DATASETS)}."
        )
    entry = dataset(name)
    if entry.layout is None:
        raise DataError(f"{word!r}: {name} is not one dataset. {entry.get}.")
    if len(others) > 2 or not all(others):
        raise DataError(
            f"{word!r} is no reference. Expected NAME:LANGUAGE or NAME:LANGUAGE:SPLIT, as masakhanews:sna:test."
        )
    code = entry.language(others[0])
    return Reference(entry, code, entry.split(code, others[1]) if len(others) == 2 else None)
