"""Evaluation text is found by its place and by what it says."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glotprompt.data import decontamination
from glotprompt.data.datasets.catalog import DATASETS, dataset
from glotprompt.data.decontamination import (
    NGRAM,
    Overlap,
    decontaminated_pairs,
    evaluation_beside,
    evaluation_set,
    refuse_evaluation_text,
    without_overlap,
)
from glotprompt.data.readers.files import read_for_comparison, read_texts
from glotprompt.data.readers.normalise import words
from glotprompt.data.readers.tables import ReadOptions
from glotprompt.data.sources import Reading, texts_to_compare
from glotprompt.errors import DataError

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"

# --- by content ---------------------------------------------------------------------------------------------------


def test_what_is_removed_and_why() -> None:
    texts = [
        "kept",
        "“MONI”, dziko…",
        f"before {LONG} after",
        LONG.partition(" ")[2],
        LONG.rpartition(" fourteen")[0].replace("seven", "SEVEN,"),
        LONG.replace("seven", "7"),
        "?!",
        "moni dziko lapansi",
        "mo\u00adni dzi\u200bko",
    ]
    found = without_overlap(texts, {"dev": ["moni dziko", "?"], "test": ["Moni, dziko!", LONG], "other": ["abc"]})
    assert found.texts == [texts[0], texts[5], texts[6], texts[7]]
    assert found.report.num_removed == 5
    assert found.report.overlaps == {"dev": Overlap(2, 0, 1), "test": Overlap(2, 3, 1), "other": Overlap()}
    assert found.report.sentence() == (
        "5 of 9 texts removed after a check against 3 evaluation sets (dev: 2 the same, 0 sharing 13 words in a row "
        "(the first is text 2); test: 2 the same, 3 sharing 13 words in a row (the first is text 2))"
    )
    counts = {"dev": {"same": 2, "shared": 0}, "test": {"same": 2, "shared": 3}, "other": {"same": 0, "shared": 0}}
    assert found.report.to_json() == {"ngram": 13, "kept": 4, "removed": 5, "held_out": counts}


def test_a_pair_goes_if_either_side_is_evaluation_text() -> None:
    pairs = [("a", "b"), ("scored", "c"), ("d", "scored"), ("scored", "scored")]
    rest, reports = decontaminated_pairs(pairs, ["Scored!"])
    assert rest == pairs[:1]
    assert [(side, report["kept"], report["removed"]) for side, report in reports.items()] == [
        ("source", 2, 2),
        ("target", 2, 2),
    ], "both sides are always counted"
    with pytest.raises(DataError, match="all pairs are evaluation text"):
        decontaminated_pairs(pairs[1:3], ["scored"])


@pytest.mark.parametrize(
    "scored",
    [
        "今天下午国家气象局在北京宣布明天全国大部分地区将有大雨和雷暴天气",
        "นักวิจัยพบว่าอากาศในเมืองหลวงร้อนขึ้นทุกปีและฝนตกน้อยลงมาก",
    ],
)
def test_a_scored_sentence_within_a_line_without_spaces(scored: str) -> None:
    inside, part = f"昨天{scored}。新华社", scored[3:15]
    found = without_overlap([inside, part, "moni " + scored[::-1]], {"test": [scored]})
    assert found.texts == [part, "moni " + scored[::-1]]
    assert found.report.overlaps["test"].shared == 1


def test_nothing_to_remove() -> None:
    found = without_overlap(["a", "b"], {"test": ["c"]})
    assert (found.texts, found.report.num_removed) == (["a", "b"], 0)
    assert found.report.sentence() == "0 of 2 texts removed after a check against 1 evaluation set"
    assert without_overlap([], {"test": ["c"]}).texts == []


# Few different words, so that texts share some in a row.
SOME_TEXTS = st.lists(st.lists(st.sampled_from("abc"), max_size=7).map(" ".join), max_size=8)


@pytest.mark.slow
@given(SOME_TEXTS, SOME_TEXTS, st.integers(1, 4))
def test_it_removes_what_the_definition_says(texts: list[str], held_out: list[str], ngram: int) -> None:
    def grams(text: str) -> set[tuple[str, ...]]:
        found = text.split()
        return {tuple(found[i : i + ngram]) for i in range(len(found) - ngram + 1)}

    same = [bool(text) and any("".join(text.split()) == "".join(held.split()) for held in held_out) for text in texts]
    shared = [any(grams(text) & grams(held) for held in held_out) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decontamination, "NGRAM", ngram)
        found = without_overlap(texts, {"test": held_out})
    assert found.texts == [t for t, s, g in zip(texts, same, shared, strict=True) if not s and not g]
    assert found.report.overlaps["test"].same == sum(same)
    assert found.report.overlaps["test"].shared == sum(g and not s for s, g in zip(same, shared, strict=True))


@pytest.mark.slow
def test_a_hundred_thousand_lines_take_about_a_second() -> None:
    vocabulary = [f"w{number}" for number in range(1_000)]
    texts = [" ".join(vocabulary[start % 980 : start % 980 + 14]) for start in range(100_000)]
    vocabulary.reverse()  # the same words, so that every text has to be looked at
    held_out = [" ".join(vocabulary[start : start + 20]) for start in range(0, 1_000, 20)]
    begun = time.process_time()
    found = without_overlap(texts, {"test": held_out})
    seconds = time.process_time() - begun
    assert found.report.num_removed == 0
    assert seconds < 6  # about one on a machine at rest


# --- by place -----------------------------------------------------------------------------------------------------

PLACES = {
    "data/americasnlp2021/aymara-spanish/dev.aym": "americasnlp2021",
    "aymara-spanish/test.aym.gz": "americasnlp2021",
    "hñähñu-spanish/dev.oto": "americasnlp2021",
    "americasnli/dev/aym.tsv": "americasnli",
    "AmericasNLI/test/quy.tsv": "americasnli",
    "americasnli/data/anli_final/test/quy.tsv": "americasnli",
    "masakhanews/ibo/test.tsv": "masakhanews",
    "masakhane-news/data/ibo/dev.tsv": "masakhanews",
    "masakhanews_few_shot/5_samples/hau/dev.tsv": "masakhanews",
    "xnli/dev-en.tsv": "xnli",
    "XNLI-1.0/xnli.test.jsonl": "xnli",
    "elsewhere/xnli.dev.tsv": "xnli",
    "americasnli:quy:dev": "americasnli",
    "americasnlp2021:quy:dev": "americasnlp2021",
    "masakhanews:ibo:test": "masakhanews",
    "xnli:eng:test": "xnli",
    "sib200:nya:dev": "sib200",
    "masakhanews:hau:5-shot-dev": "masakhanews",
    "multinli:eng:dev-mismatched": "multinli",
    "masakhanews:hau:5-shot": None,
    "americasnlp2021/aymara-spanish/train.aym": None,
    "masakhanews/ibo/train.tsv": None,
    "masakhanews/hau/train.headlines.tsv": None,
    "masakhanews:ibo:train": None,
    "masakhanews:ibo": None,
    "C:test": None,
    "test.tsv": None,
    "mine/dev.txt": None,
    "americasnli/quechua.txt": None,
    "xnli-notes/developers.txt": None,
    "xnli/developers.txt": None,
    "-": None,
    "sib-200/test.tsv": "sib200",
    "elsewhere/xnli_test.tsv": "xnli",
    "sib200-dev2.txt": "sib200",
    "sib200/train-without-dev.tsv": None,
    "sib200.txt": None,
    "dev/sib200_train.txt": None,
    "dev/sib200.txt": "sib200",
}
DOMUNG = "dev"
for one in DATASETS.values():  # every file of the catalog, and of copies of the hub's repositories
    if one.layout is not None:
        code = (*one.languages, DOMUNG)[0]
        files = [(split, one.layout.shown(code, path)) for split, paths in one.layout.files.items() for path in paths]
        if one.hub is not None:
            files += [(split, f"{one.hub.repo.split('/')[1]}/{one.hub.file(code, split)}") for split in one.hub.files]
        PLACES.update({file: None if "dev" not in split and split != "test" else one.name for split, file in files})


@pytest.mark.parametrize("place", PLACES)
def test_evaluation_text_is_known_by_its_place(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = PLACES[place]
    assert evaluation_set(place) == found
    if found is None:
        refuse_evaluation_text(place, "adapt")
    else:
        with pytest.raises(DataError) as caught:
            refuse_evaluation_text(place, "adapt")
        assert str(caught.value).startswith(f"{place}: evaluation text by its path")
        assert str(caught.value).endswith("Give the training split.")
        assert "\n" not in str(caught.value)


def test_a_path_is_looked_at_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "aymara-spanish"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert evaluation_set("dev.aym") == "americasnlp2021"


@pytest.mark.parametrize(
    "language", ["quy", "aym", "gn", "grn", "tar", "que", "qu", "quz", "ayr", "nhe", "quy-PE", "quz_Latn", "sna+ayr"]
)
def test_xnli_is_refused_as_training_data_for_americasnli(language: str) -> None:
    for source in ("xnli/dev-en.tsv", "xnli/test-es.tsv", "xnli:eng:test"):
        with pytest.raises(DataError, match=f"those of AmericasNLI.* target language is {re.escape(language)}"):
            refuse_evaluation_text(source, "tune", language)
    for source, target in (
        ("xnli/train-en.tsv", language),
        ("xnli/dev-en.tsv", "swa"),
        ("xnli/dev-en.tsv", None),
        ("masakhanews/hau/dev.tsv", language),
    ):
        refuse_evaluation_text(source, "tune", target)


def test_what_lies_beside_a_training_file(tmp_path: Path) -> None:
    for name in (
        "a/train.tsv", "a/dev.tsv", "a/test.tsv", "a/test.txt", "b/train-en.tsv", "b/dev-en.tsv", "b/dev-fr.tsv",
        "c/train.tsv", "nlp/aymara-spanish/train.aym", "nlp/aymara-spanish/dev.aym", "americasnli/dev/aym.tsv",
        "americasnli/test/aym.tsv", "americasnli/test/quy.tsv", "a/train.headlines.tsv", "a/trainer.tsv",
        "nlp/bribri-spanish/train", "nlp/bribri-spanish/dev",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def beside(name: str) -> list[str]:
        return [str(Path(path).relative_to(tmp_path)) for path in evaluation_beside(tmp_path / name)]

    assert beside("a/train.tsv") == beside("a/train.headlines.tsv") == ["a/dev.tsv", "a/test.tsv", "a/test.txt"]
    assert beside("b/train-en.tsv") == ["b/dev-en.tsv"]
    assert beside("c/train.tsv") == beside("a/dev.tsv") == beside("a/trainer.tsv") == beside("c/-") == []
    assert beside("nlp/aymara-spanish/train.aym") == [
        "nlp/aymara-spanish/dev.aym", "americasnli/dev/aym.tsv", "americasnli/test/aym.tsv",
    ]  # fmt: skip

    assert beside("nlp/bribri-spanish/train") == ["nlp/bribri-spanish/dev"]


def test_what_belongs_to_a_reference() -> None:
    held_out = ["masakhanews:hau:dev", "masakhanews:hau:test"]
    for split in ("", ":train", ":headlines", ":5-shot"):
        assert evaluation_beside(f"masakhanews:hau{split}") == held_out
    for split in ("dev", "test", "5-shot-dev"):
        assert evaluation_beside(f"masakhanews:hau:{split}") == []
    assert evaluation_beside("multinli:eng") == ["multinli:eng:dev", "multinli:eng:dev-mismatched"]


def test_all_text_of_a_table_is_compared(tmp_path: Path) -> None:
    table = tmp_path / "a.tsv"
    table.write_text('id\tlabel\tp\th\n1\tx y\t"it rains"\tshort\n2\tx\t"the "sun\tit is wet\n3\tx\t\tit is dry\n')
    # A quote that csv does not allow makes all quotes characters; the column h holds text, label does not.
    assert read_for_comparison(table) == ['"it rains"', '"the "sun', "short", "it is wet", "it is dry"]
    table.write_text("it rains\tit is wet\tyes\nit shines\tit is dry\tno\n")
    assert read_for_comparison(table) == ["it rains", "it is wet", "it shines", "it is dry"]
    table.write_text("text\tlabel\ngoal\tworld sports\nvirus\tpublic health\n")
    assert read_for_comparison(table) == ["goal", "virus", "world sports", "public health"]
    table.write_text("word\tlabel\ngoal\tsports\nvirus\thealth\n")
    assert texts_to_compare(str(table), Reading(text="word")) == ["goal", "virus"]
    table.write_text("text,label\nit rains, it pours,x\n")  # by a wrong ending: the label may be on either side
    assert read_for_comparison(table) == ["it rains, it pours,x", "it rains, it pours", " it pours,x"]
    table.write_text("text\nit rains, it pours\nit is dry\n")
    assert read_for_comparison(table) == ["it rains, it pours", "it is dry"]
    lines = tmp_path / "a.txt"
    lines.write_text("one\n\ntwo words\n")
    assert read_for_comparison(lines) == ["one", "two words"]
    table.write_text("id\n1\n")
    with pytest.raises(DataError, match="no texts in it"):
        read_for_comparison(table)


def test_a_ragged_row_does_not_undo_quotes(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text('text,label\n"it rains, it pours",x\nalone\n')
    with pytest.raises(DataError, match="line 3: 1 column where 2"):
        read_for_comparison(table)
    assert read_for_comparison(table, options=ReadOptions(on_bad_row="skip")) == ["it rains, it pours"]


def test_a_table_is_compared_as_it_is_read(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    for delimiter, shown in ((";", ";"), ("\t", "\\t"), ("|", "|")):
        table.write_text(f"text{delimiter}label\ncafé bar{delimiter}x\n", encoding="cp1252")
        with pytest.raises(DataError, match="one column only") as caught:
            read_for_comparison(table, options=ReadOptions(encoding="cp1252"))
        assert f'delimiter="{shown}"' in str(caught.value)
        assert read_for_comparison(table, options=ReadOptions(delimiter=delimiter, encoding="cp1252")) == ["café bar"]
    table.write_text("it rains; it pours\n")
    assert read_for_comparison(table, options=ReadOptions(columns=["text"])) == ["it rains; it pours"]


def test_scripts_without_spaces_are_text(tmp_path: Path) -> None:
    table = tmp_path / "a.tsv"
    table.write_text("text\tlabel\n今天的天气非常好啊\t体育\nวันนี้อากาศดีมาก\tกีฬา\n", encoding="utf-8")
    assert read_for_comparison(table) == ["今天的天气非常好啊", "วันนี้อากาศดีมาก"]


# --- other people's files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "num_shared"), [("ibo", 21), ("pcm", 4)])
def test_news_articles_that_train_and_test_share(corpora: Path, language: str, num_shared: int) -> None:
    splits = (dataset("masakhanews").examples(language, split, corpora) for split in ("train", "test"))
    train, test = ([example.fields["text"] for example in split] for split in splits)
    found = without_overlap(train, {"test": test})
    assert found.report.overlaps["test"].same == num_shared


@pytest.mark.slow
def test_news_articles_are_found_from_the_published_files(corpora: Path) -> None:
    path = corpora / "masakhanews" / "pcm" / "train.tsv"
    dev, test = map(Path, evaluation_beside(path))
    assert (dev.name, test.name) == ("dev.tsv", "test.tsv")
    found = without_overlap(read_texts(path), {"test": read_for_comparison(test)})
    # One article more than by headlines: published twice, under two of them.
    assert found.report.overlaps["test"].same == 5


@pytest.mark.slow
def test_americasnlp_dev_is_americasnli(corpora: Path) -> None:
    folder = corpora / "americasnlp2021" / "bribri-spanish"
    with pytest.raises(DataError, match="whose sentences are AmericasNLI's"):
        refuse_evaluation_text(folder / "dev.bzd", "adapt")
    beside = list(map(Path, evaluation_beside(folder / "train.bzd")))
    assert [file.relative_to(corpora).parts[0] for file in beside] == [
        "americasnlp2021",
        "americasnli",
        "americasnli",
    ]
    held_out = {file.parent.name: read_for_comparison(file) for file in beside[1:]}
    found = without_overlap(read_texts(folder / "dev.bzd"), held_out)
    assert (len(found.texts), found.report.num_removed) == (6, 990)
    assert found.report.overlaps["dev"] == Overlap(989, 1, 0)
    # What is left in training text are short phrases, too short for anything but coincidence.
    train = read_texts(folder / "train.bzd")
    found = without_overlap(train, {"dev": held_out["dev"]})
    removed = found.report.overlaps["dev"]
    assert (removed.same, removed.shared) == (5, 0)
    assert all(len(words(text)) < NGRAM for text in set(train).difference(found.texts))
