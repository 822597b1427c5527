"""MasakhaNEWS in the publisher's layout: the real files where they are, and small ones of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from glotprompt.data.masakhanews import (
    LABELS,
    LANGUAGES,
    Article,
    articles_text,
    headlines,
    load,
    unlabelled,
    without_held_out,
)
from glotprompt.data.records import Example, labels_of
from glotprompt.errors import DataError

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
    splits = [load(corpora, language, split) for split in ("train", "dev", "test")]
    assert tuple(map(len, splits)) == COUNTS[language]
    examples = [example for split in splits for example in headlines(split)]
    assert set(labels_of(examples)) <= set(LABELS)
    assert all(example.fields["text"].strip() for example in examples)


def test_facts_of_the_real_files(corpora: Path) -> None:
    assert labels_of(headlines(load(corpora, "sna", "test"))) == ["business", "health", "politics", "sports"]
    assert any("\u2028" in article.text for article in load(corpora, "amh", "test"))
    assert any("\n" in article.text for article in load(corpora, "xho", "test"))
    assert max(len(article.text) for article in load(corpora, "fra", "train")) == 46_502


@pytest.mark.slow
def test_shared_documents_are_left_out_of_stage_one(corpora: Path) -> None:
    reports: list[str] = []
    texts = unlabelled(corpora, "ibo", reports.append)
    (report,) = reports
    assert "41 of 1356 training articles" in report
    assert {article.headline.strip() for article in load(corpora, "ibo", "test")}.isdisjoint(texts)


def write_split(folder: Path, split: str, rows: str) -> None:
    path = folder / "masakhanews" / "lin" / f"{split}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("category\theadline\ttext\turl\n" + rows, encoding="utf-8", newline="")


def test_load_and_headlines(tmp_path: Path) -> None:
    write_split(tmp_path, "train", 'sports\t Ndembo \t"a\tb\n\n""c"""\t\nhealth\tLopitalo\td\tu\n')
    articles = load(tmp_path, "lin", "train")
    assert articles == [Article("sports", " Ndembo ", 'a\tb\n\n"c"'), Article("health", "Lopitalo", "d")]
    assert headlines(articles) == [Example.of(" Ndembo ", "sports", "1"), Example.of("Lopitalo", "health", "2")]


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


def test_unlabelled_reports_nothing_when_nothing_is_left_out(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("dev", "b"), ("test", "c")):
        write_split(tmp_path, split, f"sports\thead {name}\ttext {name}\tu\n")
    reports: list[str] = []
    assert unlabelled(tmp_path, "lin", reports.append) == ["head a", "text a"]
    assert reports == []


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"masakhanews/<language>/.*github.com/masakhane-io/masakhane-news"):
        load(tmp_path, "sna", "test")
    with pytest.raises(DataError, match=r"no language 'snaa'\. Did you mean 'sna'\?"):
        load(tmp_path, "snaa", "test")
    with pytest.raises(DataError, match=r"no split 'tset'\. Did you mean 'test'\?"):
        load(tmp_path, "lin", "tset")  # pyright: ignore[reportArgumentType]
    write_split(tmp_path, "dev", "sport\ta\tb\tu\n")
    with pytest.raises(DataError, match=r"line 2: the category 'sport' is unknown\. Did you mean 'sports'\?"):
        load(tmp_path, "lin", "dev")
