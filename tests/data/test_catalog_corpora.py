"""The catalog on other people's real files: rows as pinned here, labels as csv alone reads them."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Literal

import pytest

from glotprompt.data.check import check
from glotprompt.data.datasets.catalog import dataset
from glotprompt.data.readers.normalise import letters

NLI_TEST = {"nah": 738, "oto": 748}
NLI_DEV = {"nah": 585, "cni": 658, "oto": 222}
NLP_TRAIN = {
    "aym": 6_531, "bzd": 7_508, "cni": 3_883, "grn": 26_032, "hch": 8_966,
    "nah": 16_145, "oto": 4_889, "quy": 71_450, "shp": 14_592, "tar": 14_720,
}  # fmt: skip
NAH_BLANK = 82


def labels_in(path: Path, column: int, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> Counter[str]:
    """The labels of a file by csv alone, without anything of ours."""
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=quoting))
    return Counter(row[column] for row in rows[1:])


@pytest.mark.slow
@pytest.mark.parametrize("language", dataset("masakhanews").languages)
def test_news(corpora: Path, language: str) -> None:
    # The numbers of rows are pinned in test_masakhanews.py.
    news = dataset("masakhanews")
    folder = corpora / "masakhanews" / language
    for split in news.splits:
        found = Counter(example.label for example in news.examples(language, split, corpora))
        assert found == labels_in(folder / f"{split}.tsv", 0)
    assert list(news.labels_of(language)) == (folder / "labels.txt").read_text(encoding="utf-8").split()


def test_further_files_of_hausa(corpora: Path) -> None:
    news = dataset("masakhanews")
    assert len(news.examples("hau", "headlines", corpora)) == 1_065
    smaller: list[str] = []
    for shots in (5, 10, 20, 50):
        drawn = news.examples("hau", f"{shots}-shot", corpora)
        assert Counter(example.label for example in drawn) == dict.fromkeys(news.labels, shots)
        texts = [example.fields["text"] for example in drawn]
        assert not Counter(smaller) - Counter(texts)  # nested
        smaller = texts
        assert len(news.examples("hau", f"{shots}-shot-dev", corpora)) == 35


@pytest.mark.slow
def test_texts_of_igbo_news(corpora: Path) -> None:
    told: list[str] = []
    news = dataset("masakhanews")
    texts = {letters(text) for text in news.texts("ibo", data_dir=corpora, report=told.append)}
    assert "41 of 1356 training articles" in told[0]
    assert texts.isdisjoint(letters(example.fields["text"]) for example in news.examples("ibo", "test", corpora))


@pytest.mark.slow
def test_nli_of_the_americas(corpora: Path) -> None:
    nli = dataset("americasnli")
    for language in nli.languages:
        for split, size in (("dev", NLI_DEV.get(language, 743)), ("test", NLI_TEST.get(language, 750))):
            found = nli.examples(language, split, corpora)
            assert len(found) == size
            file = corpora / "americasnli" / split / f"{'gn' if language == 'grn' else language}.tsv"
            assert Counter(example.label for example in found) == labels_in(file, 4, csv.QUOTE_NONE)
    blank = [example.id for example in nli.examples("nah", "test", corpora) if not example.fields["premise"].strip()]
    assert blank == ["25576", "25577", "25578"]


@pytest.mark.slow
def test_lines_of_the_americas(corpora: Path) -> None:
    text, nli = dataset("americasnlp2021"), dataset("americasnli")
    for language, lines in NLP_TRAIN.items():
        blank = NAH_BLANK if language == "nah" else 0
        assert len(text.texts(language, data_dir=corpora)) == lines - blank
    guarani = nli.texts("gn", data_dir=corpora)
    assert (len(guarani), len(set(guarani))) == (26_032, 14_493)
    checked, _ = check(text, corpora, ["nah"]).files
    assert (checked.rows, checked.problems["blank text"]) == (NLP_TRAIN["nah"], NAH_BLANK)


@pytest.mark.slow
def test_xnli(corpora: Path) -> None:
    xnli = dataset("xnli")
    for language in ("eng", "spa", "fra", "swa"):
        for split, size in (("dev", 2_490), ("test", 5_010)):
            found = xnli.examples(language, split, corpora)
            assert Counter(example.label for example in found) == dict.fromkeys(xnli.labels, size // 3)
    checked, _ = check(xnli, corpora, ["swa"]).files
    assert (checked.rows, checked.error) == (2_490, "")
    # Item k of XNLI's dev split is item 12451 + k of AmericasNLI's.
    english = xnli.examples("eng", "dev", corpora)
    for example in dataset("americasnli").examples("quy", "dev", corpora):
        assert example.label == english[int(example.id) - 12_451].label


@pytest.mark.slow
def test_english_pairs(corpora: Path) -> None:
    found = Counter(example.label for example in dataset("nli_en").examples("eng", "train", corpora))
    assert found == labels_in(corpora / "nli_en/train.tsv", 2, csv.QUOTE_NONE)
    assert found.total() == 83_462
