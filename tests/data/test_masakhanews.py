"""MasakhaNEWS in the publisher's layout: the real files where they are, and small ones of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from glotprompt.data.datasets.catalog import dataset
from glotprompt.data.datasets.masakhanews import LABELS, LANGUAGES, Article, articles_text, without_held_out
from glotprompt.data.readers.records import labels_of

NEWS = dataset("masakhanews")

# train, dev, test. The training sets of amh, eng, fra, hau, swa and tir are recovered from the few-shot draws, so
# smaller than the originals.
COUNTS = {
    "amh": (769, 188, 376),
    "eng": (1893, 472, 948),
    "fra": (797, 211, 422),
    "hau": (1272, 317, 637),
    "ibo": (1356, 194, 390),
    "lin": (608, 87, 175),
    "lug": (771, 110, 223),
    "orm": (1128, 162, 325),
    "pcm": (1060, 152, 305),
    "run": (1117, 159, 322),
    "sna": (1288, 185, 369),
    "som": (1021, 148, 294),
    "swa": (985, 237, 476),
    "tir": (622, 137, 272),
    "xho": (1032, 147, 297),
    "yor": (1433, 206, 411),
}


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_row_counts_of_the_real_files(corpora: Path, language: str) -> None:
    splits = [NEWS.examples(language, split, corpora) for split in ("train", "dev", "test")]
    assert tuple(map(len, splits)) == COUNTS[language]
    examples = [example for split in splits for example in split]
    assert set(labels_of(examples)) <= set(LABELS)
    assert all(example.fields["text"].strip() for example in examples)


@pytest.mark.slow
def test_facts_of_the_real_files(corpora: Path) -> None:
    assert labels_of(NEWS.examples("sna", "test", corpora)) == ["business", "health", "politics", "sports"]
    assert any("\u2028" in text for text in NEWS.texts("amh", "test", corpora)), "a line separator is no line end"


def test_articles_text_is_headline_and_paragraphs() -> None:
    articles = [
        Article("sports", " Head ", "one \n\n\u00a0\ntwo"),
        Article("health", "Same", "Same"),
        Article("health", "Quiz", "."),
    ]
    assert articles_text(articles) == ["Head", "one", "two", "Same", "Quiz"]


def test_without_held_out_compares_letters() -> None:
    train = [
        Article("sports", "Copied headline!", "a"),
        Article("sports", "b", "Copied\ntext"),
        Article("sports", "Quiz of May", "."),
        Article("sports", "own", "own text"),
    ]
    held = [
        Article("health", "copied HEADLINE", "x"),
        Article("health", "y", "copied text"),
        Article("health", "Quiz", "."),
    ]
    assert without_held_out(train, held) == train[2:]
