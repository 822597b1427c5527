"""Training corpora of backbones: the lists of pretraining.toml, each with its source."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Use = Literal["pre-training", "training", "possible", "unknown"]


@dataclass(frozen=True, slots=True)
class TextList:
    """A corpus and its languages; pretraining.toml explains the fields."""

    name: str
    families: tuple[str, ...]
    use: Use
    languages: frozenset[str]
    """ISO 639-3 codes; empty if `use` is "unknown"."""
    source: str
    remark: str = ""
    absent: frozenset[str] = frozenset()


@cache
def text_lists() -> tuple[TextList, ...]:
    """All lists, in file order."""
    text = files("glotprompt.data").joinpath("pretraining.toml").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = tomllib.loads(text)["lists"]
    return tuple(
        TextList(
            row["name"],
            tuple(row["families"]),
            row["use"],
            frozenset(row.get("languages", "").split()),
            " ".join(row["source"].split()),
            row.get("remark", ""),
            frozenset(row.get("absent", "").split()),
        )
        for row in entries
    )


def lists_of(family: str) -> tuple[TextList, ...]:
    """Lists of a family's training; empty if only languages.tsv knows it."""
    return tuple(entry for entry in text_lists() if family in entry.families)
