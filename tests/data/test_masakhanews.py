"""MasakhaNEWS in the publisher's layout: the real files where they are, and small ones of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from glotprompt.data.datasets.catalog import dataset
from glotprompt.data.datasets.masakhanews import LABELS, LANGUAGES, article_texts
from glotprompt.data.readers.layout import Record
from glotprompt.data.readers.records import Example, labels_of

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


def article(headline: str, body: str) -> Record:
    return Record(Example.of(headline), (body,))


def test_the_text_of_articles_is_headlines_and_paragraphs() -> None:
    articles = [article(" Head ", "one \n\n\u00a0\ntwo"), article("Same", "Same"), article("Quiz", ".")]
    assert article_texts("hau", articles, [], None) == ["Head", "one", "two", "Same", "Quiz"]


def test_held_out_articles_are_compared_by_letters() -> None:
    train = [
        article("Copied headline!", "a"),
        article("b", "Copied\ntext"),
        article("Quiz of May", "."),
        article("own", "own text"),
    ]
    held = [article("copied HEADLINE", "x"), article("y", "copied text"), article("Quiz", ".")]
    told: list[str] = []
    assert article_texts("hau", train, held, told.append) == ["Quiz of May", "own", "own text"]
    assert told == [
        "hau: 2 of 4 training articles left out of stage 1 because its dev or test split repeats their headline or text"
    ]
