"""Draws: what they promise for every list and every seed."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glotprompt.data.readers.files import read_examples
from glotprompt.data.readers.records import (
    Example,
    content_hash,
    examples_from,
    generator,
    labels_of,
    share_of,
    shots_per_class,
    split_held_out,
    subsample,
)
from glotprompt.errors import ConfigError, DataError

SEEDS = st.integers(0, 2**32)
# Few different texts, so that duplicates are the rule.
TEXTS = st.lists(st.sampled_from(["a", "b", " b", "c d", "c  d", "e", "f"]), max_size=40)


def test_example_of_one_text_or_a_pair() -> None:
    assert Example.of("news", "sports").fields == {"text": "news"}
    pair = Example.of(("it rains", "it is wet"), "entailment", "dev:1")
    assert pair.fields == {"premise": "it rains", "hypothesis": "it is wet"}
    assert (pair.label, pair.id) == ("entailment", "dev:1")


class Frame:
    """A pandas DataFrame, as far as it is used: iterating over one gives the names of its columns."""

    columns = ("text", "label")

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return self.rows


class Numbered(list[dict[str, Any]]):
    """A `datasets.Dataset` whose labels are numbers of a ClassLabel."""

    features: ClassVar = {"label": SimpleNamespace(names=["health", "sports"])}


ROWS = [{"text": "rain", "label": "health"}, {"text": "goal", "label": "sports"}, {"text": "?", "label": None}]


@pytest.mark.parametrize(
    "given",
    [
        [Example.of(row["text"], row["label"]) for row in ROWS],
        [(row["text"], row["label"]) for row in ROWS],
        ROWS,
        iter(ROWS),
        Frame([*ROWS[:2], {"text": "?", "label": float("nan"), "other": 1}]),
        Numbered([{"text": "rain", "label": 0}, {"text": "goal", "label": 1}, {"text": "?", "label": -1}]),
    ],
    ids=["examples", "tuples", "dicts", "iterator", "frame", "dataset"],
)
def test_examples_from_what_is_in_memory(given: Any) -> None:
    assert examples_from(given) == [Example.of(row["text"], row["label"]) for row in ROWS]


def test_numbers_that_stand_for_labels() -> None:
    """Beside an empty cell a frame makes floats of whole numbers; a number beyond the names is named."""
    frame = Frame([{"text": "rain", "label": 1.0}, {"text": "goal", "label": float("nan")}])
    assert [one.label for one in examples_from(frame)] == ["1", None]
    missing = type("NAType", (), {"__str__": lambda self: "<NA>"})()
    frame = Frame([{"text": "rain", "label": True}, {"text": "goal", "label": missing}])
    assert [one.label for one in examples_from(frame)] == ["true", None], "as files have them"
    with pytest.raises(DataError, match="label 2 of the examples has no name"):
        examples_from(Numbered([{"text": "rain", "label": 2}]))


def test_pairs_from_what_is_in_memory() -> None:
    expected = [Example.of(("a", "b"), "1")]
    for row in (("a", "b", "1"), (("a", "b"), 1), {"premise": "a", "hypothesis": "b", "label": 1}):
        assert examples_from([row], ("hypothesis", "premise")) == expected


@pytest.mark.parametrize("row", ["text alone", ("text",), ("a", "b", "c"), {"body": "a", "label": "b"}, {"text": None}])
def test_a_row_that_is_no_example_is_named(row: Any) -> None:
    with pytest.raises(DataError, match=r"^row 2 of the examples, .* expected text with label"):
        examples_from([("a", "b"), row])


def test_example_cannot_be_changed_from_outside_and_survives_pickling() -> None:
    fields = {"text": "news"}
    example = Example(fields)
    fields["text"] = "other"
    assert example.fields == {"text": "news"}
    assert pickle.loads(pickle.dumps(example)) == example
    assert len({example, Example.of("news")}) == 1


def test_content_hash_tells_lists_apart() -> None:
    lists: list[list[str | Example]] = [
        [],
        [""],
        ["", ""],
        ["a", "b"],
        ["b", "a"],
        ["ab"],
        ["a\nb"],
        ['a"\n"b'],
        ["\u2028"],
        [Example.of("a")],
        [Example.of("a", "b")],
        [Example.of("a", "null")],
        [Example.of(("a", "b"))],
        [Example.of(("b", "a"))],
    ]
    assert len({content_hash(items) for items in lists}) == len(lists)


def test_content_hash_is_of_content_only_and_never_changes() -> None:
    assert content_hash([Example.of("a", "x", id="1")]) == content_hash([Example.of("a", "x", id="2")])
    one_order, other_order = Example({"premise": "p", "hypothesis": "h"}), Example({"hypothesis": "h", "premise": "p"})
    assert content_hash([one_order]) == content_hash([other_order])
    assert content_hash(["Moni", "ʼ"]) == hashlib.sha256(b'"Moni"\n"\\u02bc"\n').hexdigest()


def test_generator_is_pinned() -> None:
    # Saved results depend on these draws: a numpy that draws otherwise must be noticed.
    assert generator(3, "subsample").permutation(8).tolist() == [0, 1, 3, 5, 4, 2, 6, 7]
    assert generator(3, "ab", "c").integers(2**31) != generator(3, "a", "bc").integers(2**31)


@given(st.lists(st.integers(), max_size=30), st.integers(0, 40), SEEDS)
def test_subsample_keeps_order_and_nests(items: list[int], n: int, seed: int) -> None:
    positions = list(range(len(items)))
    chosen = subsample(positions, n, seed)
    assert chosen == sorted(chosen)
    assert len(chosen) == min(n, len(items))
    assert set(chosen) <= set(subsample(positions, n + 1, seed))
    assert chosen == subsample(positions, n, seed)


@pytest.mark.slow
@given(st.integers(1, 200), SEEDS)
def test_shares_nest(size: int, seed: int) -> None:
    items = list(range(size))
    quarter, half, whole = (share_of(items, share, seed) for share in (0.25, 0.5, 1))
    assert (len(quarter), len(half), whole) == (max(1, round(size / 4)), max(1, round(size / 2)), items)
    assert set(quarter) <= set(half)
    assert quarter == sorted(quarter)


@pytest.mark.slow
@given(TEXTS, st.floats(0.01, 0.99), SEEDS)
def test_held_out_texts_are_never_kept(texts: list[str], share: float, seed: int) -> None:
    kept, held = split_held_out(texts, share, seed)
    assert sorted(kept + held) == sorted(texts)
    assert {" ".join(t.split()) for t in kept}.isdisjoint(" ".join(t.split()) for t in held)
    if len({" ".join(t.split()) for t in texts}) > 1:
        assert held
        assert kept
    assert (kept, held) == split_held_out(texts, share, seed)


def test_held_out_share_of_different_texts_is_exact_and_in_order() -> None:
    texts = [f"{i:03}" for i in range(200)]
    kept, held = split_held_out(texts, 0.05, seed=1)
    assert len(held) == 10
    assert kept == sorted(kept)
    assert held == sorted(held)
    assert held != split_held_out(texts, 0.05, seed=2)[1]


def test_held_out_is_not_one_line_repeated() -> None:
    texts = ["advertisement"] * 500 + [f"line {i}" for i in range(500)]
    _, held = split_held_out(texts, 0.1, seed=0)
    assert len(set(held)) == 100


def test_held_out_examples_with_one_text_and_two_labels_stay_together() -> None:
    examples = [Example.of("same", "a"), Example.of("same", "b"), Example.of("other", "a")]
    for seed in range(5):
        kept, held = split_held_out(examples, 0.34, seed)
        assert {e.fields["text"] for e in kept}.isdisjoint(e.fields["text"] for e in held)


def test_held_out_of_nothing_or_one() -> None:
    assert split_held_out(["a"], 0.5, 0) == (["a"], [])
    assert split_held_out(["a", "b"], 0, 0) == (["a", "b"], [])
    for share in (0.01, 0.99):
        assert [len(side) for side in split_held_out(["a", "b"], share, 0)] == [1, 1]


@pytest.mark.slow
@given(SEEDS)
def test_shots_nest_and_are_balanced(seed: int) -> None:
    examples = [Example.of(f"text {i}", "abc"[i % 3]) for i in range(75)]
    five, ten, twenty = (shots_per_class(examples, n, seed) for n in (5, 10, 20))
    assert set(five) < set(ten) < set(twenty)
    assert [e.label for e in five].count("a") == [e.label for e in five].count("b") == 5
    assert [examples.index(e) for e in ten] == sorted(examples.index(e) for e in ten)


def test_our_shots_nest_like_the_published_ones(corpora: Path) -> None:
    sizes = (5, 10, 20, 50)
    published = [
        read_examples(corpora / f"masakhanews_few_shot/{size}_samples/hau/train.tsv", "headline", "category")
        for size in sizes
    ]
    labels = labels_of(published[-1])
    ours = [shots_per_class(published[-1], size, seed=0) for size in sizes[:-1]]
    for draws in (published, ours):
        for size, draw in zip(sizes, draws, strict=False):
            assert Counter(example.label for example in draw) == dict.fromkeys(labels, size)
        for small, large in pairwise(draws):
            assert not Counter(map(said, small)) - Counter(map(said, large))
    assert [said(example) for example in ours[0]] != [said(example) for example in published[0]]


def said(example: Example) -> tuple[str, str | None]:
    return example.fields["text"], example.label


def test_shots_of_a_class_do_not_depend_on_other_classes() -> None:
    sports = [Example.of(f"sport {i}", "sports") for i in range(30)]
    health = [Example.of(f"health {i}", "health") for i in range(30)]
    both = shots_per_class(health + sports, 5, seed=4)
    assert [e for e in both if e.label == "sports"] == shots_per_class(sports, 5, seed=4)


def test_shots_count_different_texts() -> None:
    examples = [Example.of("same", "a")] * 9 + [Example.of("other", "a")]
    assert {e.fields["text"] for e in shots_per_class(examples, 2, 0)} == {"same", "other"}
    with pytest.raises(DataError, match="'a' has 2 different examples, 3 per class"):
        shots_per_class(examples, 3, 0)


def test_labels_are_sorted_and_unknown_ones_left_out() -> None:
    assert labels_of([Example.of("x", "b"), Example.of("y"), Example.of("z", "a"), Example.of("w", "b")]) == ["a", "b"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: subsample(["a", "b"], -1, 0), "Cannot sample -1"),
        (lambda: subsample(["a", "b"], 1, -1), "seed is -1"),
        (lambda: share_of(["a"], 0, 0), "share is 0; expected a number above 0, up to 1"),
        (lambda: share_of(["a"], 1.5, 0), "share is 1.5"),
        (lambda: split_held_out(["a"], 1.0, 0), "share is 1.0"),
        (lambda: shots_per_class([Example.of("a", "x")], 0, 0), "0 examples per class"),
    ],
    ids=["count", "seed", "no share", "large share", "share", "shots"],
)
def test_impossible_draws_are_one_line(draw: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        draw()
    assert "\n" not in str(caught.value)
