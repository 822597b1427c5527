"""A few short example texts that are saved with a prompt or classifier, to try it on."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from glotprompt.data.readers.records import Example

NUM_SAMPLES = 3
MOST_CHARACTERS = 200
"""Largest length of a text; longer ones are cut at a word."""
TELLING_CHARACTERS = 30
"""Shorter texts, such as headings and verse numbers, are used only if there are no others."""

Side = Literal["target", "source"]


@dataclass(frozen=True)
class Samples:
    """Example texts without labels."""

    side: Side
    """Language of the texts: that of the target text, or that of the labelled examples."""
    texts: tuple[str | tuple[str, ...], ...]
    """Single texts, or one text per task field, in template order."""

    @classmethod
    def of_lines(cls, lines: Iterable[str]) -> Samples | None:
        """Samples of target text, spread over all lines; None if there is no text."""
        return cls._of("target", ((line,) for line in lines))

    @classmethod
    def of_task(cls, language: Samples | None, examples: Sequence[Example], fields: Sequence[str]) -> Samples | None:
        """Samples for a classifier with these `fields`: those of the target language if it reads single texts, else
        some of the `examples`."""
        if language is not None and len(fields) == 1:
            return language
        return cls._of("source", (tuple(example.fields[name] for name in fields) for example in examples))

    @classmethod
    def _of(cls, side: Side, rows: Iterable[tuple[str, ...]]) -> Samples | None:
        short = (tuple(map(_shorten, row)) for row in rows)
        texts = list(dict.fromkeys(row for row in short if all(row)))
        texts = [row for row in texts if sum(map(len, row)) >= TELLING_CHARACTERS] or texts
        count = min(NUM_SAMPLES, len(texts))
        samples = [texts[len(texts) * number // count] for number in range(count)]
        return cls(side, tuple(row[0] if len(row) == 1 else row for row in samples)) if samples else None

    def to_dict(self) -> dict[str, Any]:
        """JSON value of the samples."""
        return {"side": self.side, "texts": self.texts}

    @classmethod
    def in_file(cls, metadata: Mapping[str, Any]) -> Samples | None:
        """The samples in a file's metadata; None in older files."""
        stored = metadata.get("samples")
        if stored is None or stored["side"] not in get_args(Side):
            return None
        return cls(stored["side"], tuple(text if isinstance(text, str) else tuple(text) for text in stored["texts"]))


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    if len(text) <= MOST_CHARACTERS:
        return text
    beginning, _, _ = text[: MOST_CHARACTERS + 1].rpartition(" ")
    if len(beginning) > MOST_CHARACTERS // 2:  # not in scripts that write without spaces
        return beginning
    end = MOST_CHARACTERS
    while unicodedata.category(text[end]) in ("Mn", "Mc", "Me", "Cf"):  # marks belong to the letter before them
        end -= 1
    return text[:end]
