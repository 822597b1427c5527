"""Examples and pairs, and pure functions that sample from them.

Every sample depends only on the arguments and a seed. Each purpose has its own random stream (see `generator`), so that
a held-out share does not change the few-shot sample of the same seed. Samples keep the original order.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from glotprompt.errors import ConfigError, DataError, in_a_line

_Item = TypeVar("_Item")
_Record = TypeVar("_Record", "str", "Example")


@dataclass(frozen=True, slots=True)
class Example:
    """An input of a task, with its label if known."""

    fields: Mapping[str, str]
    """Texts by template field: {"text": ...}, or {"premise": ..., "hypothesis": ...}."""

    label: str | None = None
    """Label name; None if unknown (text to predict)."""

    id: str = ""
    """Origin, to show beside a prediction ("Genesis 1:1-4", "dev.tsv:12"); ignored in comparisons."""

    def __post_init__(self) -> None:
        # A copy, so that nobody can change a frozen record from outside.
        object.__setattr__(self, "fields", dict(self.fields))

    def __hash__(self) -> int:
        return hash((tuple(sorted(self.fields.items())), self.label, self.id))

    @classmethod
    def of(cls, text: str | tuple[str, str], label: str | None = None, id: str = "") -> Example:
        """`Example.of("text", label)` or `Example.of(("premise", "hypothesis"), label)`."""
        if isinstance(text, str):
            return cls({"text": text}, label, id)
        premise, hypothesis = text
        return cls({"premise": premise, "hypothesis": hypothesis}, label, id)


class Frame(Protocol):
    """A table in memory, such as a pandas DataFrame."""

    @property
    def columns(self) -> Any: ...

    def to_dict(self, orient: Any) -> Any: ...


Labelled = Iterable[Example | tuple[Any, ...] | Mapping[str, Any]] | Frame
"""What `examples_from` reads."""


def examples_from(rows: Labelled, fields: Sequence[str] = ("text",)) -> list[Example]:
    """Examples from what holds them in memory: examples, tuples, dicts, a `datasets.Dataset` or a pandas DataFrame.

    A tuple ends with its label, a dict or a column has the name of its field or "label". A label that is missing or NaN
    is None; the numbers of a dataset become their names. Raises `DataError`, which names the row.

    >>> examples_from([("a goal in the last minute", "sports")])[0].label
    'sports'
    >>> examples_from([{"text": "rain tomorrow", "label": None}])
    [Example(fields={'text': 'rain tomorrow'}, label=None, id='')]
    """
    if len(fields) > 1:
        fields = ("premise", "hypothesis")  # as `Example.of` has them, whatever the template's order
    names = getattr(getattr(rows, "features", {}).get("label"), "names", None)
    is_frame = hasattr(rows, "columns") and hasattr(rows, "to_dict")
    table: Iterable[Any] = cast(Any, rows).to_dict("records") if is_frame else cast(Any, rows)
    examples: list[Example] = []
    for number, row in enumerate(table, start=1):
        if isinstance(row, Example):
            examples.append(row)
            continue
        if isinstance(row, tuple) and row and isinstance(row[0], tuple):
            row = (*row[0], *row[1:])
        if isinstance(row, tuple) and len(row) == len(fields) + 1:
            row = dict(zip((*fields, "label"), row, strict=True))
        if not isinstance(row, Mapping) or not all(isinstance(row.get(name), str) for name in fields):
            raise DataError(
                f"row {number} of the examples, {in_a_line(row, 100)}, is no example; expected"
                f" {' and '.join(fields)} with label, as an Example, a tuple or a dict"
            )
        examples.append(Example({name: row[name] for name in fields}, _label(row.get("label"), names)))
    return examples


def _label(value: Any, names: Sequence[str] | None) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType":
        return None  # a DataFrame's empty cell
    if names is None and isinstance(value, bool):
        return str(value).lower()  # as files have it
    if isinstance(value, float) and value.is_integer():  # whole numbers beside an empty cell
        value = int(value)
    if names is not None and isinstance(value, int):
        if value >= len(names):
            raise DataError(f"label {value} of the examples has no name; the dataset names {len(names)} labels")
        return str(names[value]) if value >= 0 else None  # datasets: -1 is no label
    return str(value)


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and its translation."""

    source: str
    target: str
    id: str = ""
    """The publisher's id, such as the verse "55.2.24"; "" if there is none."""


def generator(seed: int, *purpose: str) -> np.random.Generator:
    """Random generator that depends only on the seed and the purpose."""
    if seed < 0:
        raise ConfigError(f"The seed is {seed}; expected 0 or more.")
    # A digest, not the joined strings: ("ab", "c") and ("a", "bc") must be different streams.
    digest = hashlib.sha256(json.dumps(purpose).encode()).digest()
    return np.random.default_rng(np.random.SeedSequence([seed, int.from_bytes(digest[:8], "big")]))


def content_hash(items: Iterable[str | Example]) -> str:
    """sha256 of texts or examples, in order: their texts and labels, not their ids."""
    digest = hashlib.sha256()
    for item in items:
        # JSON escapes every newline, so one record is one line and no two lists share a serialization.
        value = item if isinstance(item, str) else {"fields": dict(item.fields), "label": item.label}
        digest.update(json.dumps(value, sort_keys=True).encode("ascii") + b"\n")
    return digest.hexdigest()


def content_of_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """`content_hash` of (source, target) pairs."""
    return content_hash(text for pair in pairs for text in pair)


def subsample(items: Sequence[_Item], n: int, seed: int) -> list[_Item]:
    """Sample `n` items, or all if there are fewer. Samples of one seed are nested."""
    if n < 0:
        raise ConfigError(f"Cannot sample {n} items; expected 0 or more.")
    if n >= len(items):
        return list(items)
    indices = generator(seed, "subsample").permutation(len(items))[:n]
    return [items[i] for i in sorted(indices.tolist())]


def share_of(items: Sequence[_Item], share: float, seed: int) -> list[_Item]:
    """Sample a share of the items, at least one. Samples of one seed are nested: a quarter is part of the half."""
    if not 0 < share <= 1:
        raise ConfigError(f"The share is {share}; expected a number above 0, up to 1.")
    return subsample(items, max(1, round(share * len(items))), seed)


def split_held_out(items: Sequence[_Record], share: float, seed: int) -> tuple[list[_Record], list[_Record]]:
    """Split items into (training, held out), with about `share` of them held out.

    Items with equal texts (ignoring labels, and edge or repeated spaces) stay on one side, so a held-out text is never
    trained on. At least one item is held out unless there is only one text; a share of 0 holds out none.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"The held-out share is {share}; expected a number from 0 up to, not including, 1.")
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(text_key(item), []).append(index)
    if share == 0 or len(groups) < 2:
        return list(items), []
    target = max(1, round(share * len(items)))
    members = list(groups.values())
    shuffled = [members[i] for i in generator(seed, "held-out").permutation(len(members)).tolist()]
    indices: set[int] = set()
    for group in shuffled:
        # A group that is too large is skipped: one line repeated 500 times must not be the held-out text.
        if len(indices) + len(group) <= target and len(indices) + len(group) < len(items):
            indices.update(group)
    if not indices:
        indices.update(min(shuffled, key=len))
    training = [item for i, item in enumerate(items) if i not in indices]
    return training, [item for i, item in enumerate(items) if i in indices]


def most_per_label(examples: Sequence[Example], n: int, seed: int) -> list[Example]:
    """Sample at most `n` examples of each label, in their order. Samples of one seed are nested."""
    members: dict[str | None, list[int]] = {}
    for index, example in enumerate(examples):
        members.setdefault(example.label, []).append(index)
    sample = [index for indices in members.values() for index in subsample(indices, n, seed)]
    return [examples[index] for index in sorted(sample)]


def folds_of(num_items: int, num_folds: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Rows of `num_items` items for cross-fitting, a (rest, held out) for each fold, sorted; every row is held out
    once."""
    order = generator(seed, "folds").permutation(num_items).tolist()
    held = [sorted(order[fold::num_folds]) for fold in range(num_folds)]
    return [(sorted(set(order) - set(rows)), rows) for rows in held]


def shots_per_class(examples: Sequence[Example], n: int, seed: int) -> list[Example]:
    """Sample `n` examples with distinct texts per label; for one seed 5 are part of 10, and 10 of 20."""
    if n < 1:
        raise ConfigError(f"Cannot sample {n} examples per class; expected 1 or more.")
    sample: list[int] = []
    for label in labels_of(examples):
        members = [i for i, example in enumerate(examples) if example.label == label]
        unique: dict[tuple[str, ...], int] = {}
        for i in members:
            unique.setdefault(text_key(examples[i]), i)
        if len(unique) < n:
            raise DataError(
                f"Label {label!r} has {len(unique)} different examples, {n} per class were asked for; "
                f"ask for {len(unique)} or fewer, or give more examples."
            )
        order = generator(seed, "shots", label).permutation(len(unique)).tolist()
        indices = list(unique.values())
        sample.extend(indices[i] for i in order[:n])
    return [examples[i] for i in sorted(sample)]


MOST_FOLDS = 5
"""Of a cross-validation."""


def stratified_folds(examples: Sequence[Example], num: int, seed: int = 0) -> list[list[int]]:
    """The rows of each of `num` folds. Every label is spread evenly, and examples with one text lie in one fold."""
    folds: list[list[int]] = [[] for _ in range(num)]
    dealt = 0  # on from label to label, so that the folds are equally large
    for label, members in rows_by_text(examples).items():
        for member in generator(seed, "folds", label).permutation(len(members)).tolist():
            folds[dealt % num] += members[member]
            dealt += 1
    return [sorted(fold) for fold in folds]


def rows_by_text(examples: Sequence[Example]) -> dict[str, list[list[int]]]:
    """The rows of each different text, by the label of its first row; labels are sorted."""
    texts: dict[tuple[str, ...], list[int]] = {}
    for row, example in enumerate(examples):
        texts.setdefault(text_key(example), []).append(row)
    groups: dict[str, list[list[int]]] = {label: [] for label in labels_of(examples)}
    for rows in texts.values():
        groups[str(examples[rows[0]].label)].append(rows)
    return groups


def labels_of(examples: Iterable[Example]) -> list[str]:
    """The labels that occur, sorted."""
    return sorted({example.label for example in examples if example.label is not None})


def text_key(item: str | Example) -> tuple[str, ...]:
    """Texts of an item after folding white space, as a key: without label and id. Case and code points differ still."""
    if isinstance(item, str):
        return (" ".join(item.split()),)
    return tuple(f"{name}={' '.join(text.split())}" for name, text in sorted(item.fields.items()))
