"""Datasets by name: descriptions, folders in the publishers' layouts (small ones of our own), references."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import glotprompt as gp
from glotprompt.data.check import check
from glotprompt.data.datasets.catalog import DATASETS, dataset, parse_reference
from glotprompt.data.datasets.dataset import Dataset
from glotprompt.data.readers.records import Example
from glotprompt.data.sources import Reading, examples_of, texts_of
from glotprompt.errors import ConfigError, DataError

WITH_FILES = [found for found in DATASETS.values() if found.layout is not None]


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOTPROMPT_DATA", raising=False)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")


# ---------------------------------------------------------------------------------------------------------------
# Descriptions


def test_the_catalog_is_whole() -> None:
    assert list(DATASETS) == [
        *("masakhanews", "americasnli", "americasnlp2021", "multinli", "nli_en", "xnli"),
        *("sib200", "afrisenti", "nusax", "taxi1500", "bible_verses", "mafand", "files"),
    ]
    assert gp.dataset("sib200") is dataset("sib200")
    assert {found.name: len(found.languages) for found in WITH_FILES} == {
        "masakhanews": 16, "americasnli": 10, "americasnlp2021": 10, "multinli": 1, "nli_en": 1, "xnli": 15,
        "sib200": 205, "afrisenti": 14, "nusax": 12, "taxi1500": 0, "bible_verses": 0, "mafand": 15,
    }  # fmt: skip


@pytest.mark.parametrize("found", WITH_FILES, ids=lambda found: found.name)
def test_a_description_agrees_with_itself(found: Dataset) -> None:
    layout = found.layout
    assert layout is not None
    assert set(layout.files) == {*found.splits, *found.extra_splits}
    assert set(layout.folders) <= {*found.languages}
    assert set(found.labels_by_language) <= {*found.languages}
    assert all(set(found.labels_of(code)) <= {*found.labels} for code in found.languages)
    assert bool(layout.columns.label) == bool(found.labels)
    places = [str(layout.path(Path("d"), code, split)) for code in found.languages for split in found.splits]
    assert len(set(places)) == len(places)
    assert all((found.licence, found.citation, found.homepage, found.get, found.unlabelled))
    for name in [*found.overlaps, *(found.source_overlap or ())[:1]]:
        assert "test" in dataset(name).splits
    if found.task is not None:
        task = gp.Task.load(found.task)
        assert {*found.labels} == {*task.labels}
        assert {*layout.columns.fields} == {*task.template.fields}
    if found.hub is not None:
        assert set(found.hub.files) <= {*found.splits}
        assert set(layout.columns.fields) == set(found.hub.columns.fields)
        assert found.hub.revision is None or len(found.hub.revision) == 40


def test_codes_that_people_use() -> None:
    americas, sib = dataset("americasnli"), dataset("sib200")
    assert [americas.language(code) for code in ("gn", "gug", "hñähñu", "quy")] == ["grn", "grn", "oto", "quy"]
    assert [sib.language(code) for code in ("quy_Latn", "sw", "ace_Arab", "ace", "zh")] == [
        *("quy", "swh", "ace-Arab", "ace", "zho"),
    ]
    assert dataset("xnli").language("swh") == "swa"
    with pytest.raises(DataError, match=r"americasnli has no language 'quyy'\. Did you mean 'quy'\?"):
        americas.language("quyy")
    assert dataset("taxi1500").language("abt") == "abt"


def test_labels_of_a_language() -> None:
    news = dataset("masakhanews")
    assert news.labels_of("sna") == ("business", "health", "politics", "sports")
    assert news.labels_of("hau") == news.labels


# ---------------------------------------------------------------------------------------------------------------
# Reading folders


def test_news_from_a_folder(tmp_path: Path) -> None:
    header = "category\theadline\ttext\turl\n"
    write(tmp_path / "masakhanews/lin/train.tsv", header + 'sports\tA "one"\t"x\ny"\tu\nhealth\tB\tbody\tu\n')
    write(tmp_path / "masakhanews/lin/dev.tsv", header + "sports\tOther\telse\tu\n")
    write(tmp_path / "masakhanews/lin/test.tsv", header + "health\tb!\tmore\tu\n")
    news = dataset("masakhanews")
    assert news.examples("lin", "train", tmp_path) == [
        Example.of('A "one"', "sports", "1"),
        Example.of("B", "health", "2"),
    ]
    assert news.examples("lin", "train", tmp_path, input="article")[0] == Example.of('A "one"\nx\ny', "sports", "1")
    told: list[str] = []
    assert news.texts("lin", data_dir=tmp_path, report=told.append) == ['A "one"', "x", "y"]
    assert told == [
        "masakhanews lin: 1 of 2 training articles left out of stage 1 because its dev or test split repeats their"
        " headline or text"
    ]
    assert news.texts("lin", "test", tmp_path) == ["b!", "more"]
    with (tmp_path / "masakhanews/lin/test.tsv").open("a") as file:
        file.write("alone\n")
    reference = parse_reference("masakhanews:lin:test")
    assert reference is not None
    with pytest.raises(DataError, match="line 3: 1 column where 4"):
        texts_of([str(reference)], Reading(data_dir=tmp_path))
    assert texts_of([str(reference)], Reading(data_dir=tmp_path, on_bad_row="skip")) == ["b!", "more"]


def test_a_clone_of_the_publishers_repository_will_do(tmp_path: Path) -> None:
    write(tmp_path / "sib-200/data/annotated/quy_Latn/test.tsv", "index_id\tcategory\ttext\n7\ttravel\tQosqo\n")
    assert dataset("sib200").examples("quy", "test", tmp_path) == [Example.of("Qosqo", "travel", "7")]


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "nusax/toba_batak/valid.csv", 'id,text,label\n9,"a, b",positive\n')
    monkeypatch.setenv("GLOTPROMPT_DATA", str(tmp_path))
    assert dataset("nusax").examples("bbc", "dev") == [Example.of("a, b", "positive", "9")]


def test_quotes_are_literal_where_the_publisher_means_them(tmp_path: Path) -> None:
    write(tmp_path / "americasnli/test/gn.tsv", 'id\tlanguage\tpremise\thypothesis\tlabel\n3\tgn\t "a\t" \tneutral\n')
    # The blank premise of a published row is kept.
    assert dataset("americasnli").examples("grn", "test", tmp_path) == [Example.of((' "a', '" '), "neutral", "3")]
    write(tmp_path / "xnli/dev-sw.tsv", 'moja\t"mbili\tentailment\r\n')
    assert dataset("xnli").examples("sw", "dev", tmp_path) == [Example.of(("moja", '"mbili'), "entailment", "1")]


def test_rows_that_are_not_examples(tmp_path: Path) -> None:
    rows = [("-", "p"), ("neutral", "q")]
    lines = [
        json.dumps({"gold_label": label, "sentence1": text, "sentence2": "h", "pairID": "7n"}) for label, text in rows
    ]
    write(tmp_path / "multinli_1.0/multinli_1.0_dev_matched.jsonl", "\n".join(lines))
    told: list[str] = []
    assert dataset("multinli").examples("en", "dev", tmp_path, report=told.append) == [
        Example.of(("q", "h"), "neutral", "7n")
    ]
    assert len(told) == 1
    assert "1 row labelled - is no example" in told[0]
    with (tmp_path / "multinli_1.0/multinli_1.0_dev_matched.jsonl").open("a") as file:
        file.write('\n{"gold_label": ["neutral"], "sentence1": "p", "sentence2": "h", "pairID": "8n"}\n')
    with pytest.raises(DataError, match=r"line 3: unknown label"):
        dataset("multinli").examples("en", "dev", tmp_path)


def test_texts_of_a_labelled_dataset(tmp_path: Path) -> None:
    for split, rows in {
        "train": "Kai!\tnegative\nnagode\tpositive\nnagode\tneutral\n\u00a0\tneutral\n",
        "dev": "kai\tnegative\n",
        "test": "wani\tneutral\n",
    }.items():
        write(tmp_path / f"afrisenti/hau/{split}.tsv", "tweet\tlabel\n" + rows)
    told: list[str] = []
    assert dataset("afrisenti").texts("ha", data_dir=tmp_path, report=told.append) == ["nagode"]
    assert [line.split(" left out")[0] for line in told] == [
        "afrisenti hau: 1 of 4 training examples",
        "afrisenti hau: 1 of 2 texts",
    ]


def test_texts_that_another_dataset_has(tmp_path: Path) -> None:
    folder = tmp_path / "americasnlp2021/hñähñu-spanish"
    write(folder / "train.oto", "one\u2028line\r\n\n \ntwo")
    assert dataset("americasnli").texts("oto", data_dir=tmp_path) == ["one\u2028line", "two"]
    with pytest.raises(DataError, match="americasnlp2021 has no examples, only texts"):
        dataset("americasnlp2021").examples("oto", "train", tmp_path)
    write(folder / "train.oto", "\n")
    with pytest.raises(DataError, match="no text in it"):
        dataset("americasnlp2021").texts("oto", data_dir=tmp_path)


def test_any_language_of_taxi1500(tmp_path: Path) -> None:
    write(tmp_path / "taxi1500/dev/abt.tsv", '40001001\tFaith\ta "b"\n40001002\tSin\t \n')
    told: list[str] = []
    found = dataset("taxi1500").examples("abt", "dev", tmp_path, report=told.append)
    assert found == [Example.of('a "b"', "Faith", "40001001")]
    # A verse that the edition lacks is no example, and still shows in a check.
    assert told == [f"{tmp_path / 'taxi1500/dev/abt.tsv'}: rows without text, which are not examples: 1"]
    (checked,) = check(dataset("taxi1500"), tmp_path, ["abt"]).files
    assert (checked.rows, checked.problems) == (2, {"blank text": 1})


@pytest.mark.parametrize(
    ("name", "language", "split", "message"),
    [
        ("masakhanews", "sna", "test", r"test\.tsv: no such file\. Expected MasakhaNEWS .*github.com/masakhane-io"),
        ("masakhanews", "sna", "tets", r"no split 'tets' of sna\. Did you mean 'test'\?"),
        ("afrisenti", "tir", "train", r"no split 'train' of tir\. It has: dev, test\."),
        ("files", "sna", "test", r"files is not one dataset\. Name the files themselves"),
    ],
)
def test_what_is_not_there(name: str, language: str, split: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        dataset(name).examples(language, split, tmp_path)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no dataset 'masakanews'\. Did you mean 'masakhanews'\?"):
        dataset("masakanews")
    with pytest.raises(DataError, match=r"no data folder is given\. .*data_dir= or the variable GLOTPROMPT_DATA"):
        dataset("afrisenti").examples("hau", "test")
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        dataset("afrisenti").examples("hau", "test", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"source='hubb' is not known\. Did you mean 'hub'\?"):
        dataset("afrisenti").examples("hau", "test", source="hubb")  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=r"xnli has no unlabelled text: it has dev and test splits only\."):
        dataset("xnli").texts("sw", data_dir=tmp_path)
    path = tmp_path / "afrisenti/hau/dev.tsv"
    write(path, "tweet\tlabel\na\tpositive\nb\tpositiv\nc\n")
    with pytest.raises(DataError, match=r"dev\.tsv, line \d: "):
        dataset("afrisenti").examples("hau", "dev", tmp_path)
    told: list[str] = []
    kept = dataset("afrisenti").examples("hau", "dev", tmp_path, on_bad_row="skip", report=told.append)
    assert kept == [Example.of("a", "positive", "1")]
    assert "2 bad rows skipped" in told[-1]
    write(path, "text\tlabel\na\tpositive\n")
    with pytest.raises(DataError, match=r"no column 'tweet'\."):
        dataset("afrisenti").examples("hau", "dev", tmp_path)


# ---------------------------------------------------------------------------------------------------------------
# References


def test_references(tmp_path: Path) -> None:
    write(tmp_path / "xnli/test-sw.tsv", "a\tb\tneutral\n")
    write(tmp_path / "americasnlp2021/guarani-spanish/train.gn", "peteĩ\n")
    reference = parse_reference("xnli:sw:test")
    assert reference is not None
    assert (reference.dataset.name, reference.language, reference.split) == ("xnli", "swa", "test")
    assert str(reference) == "xnli:swa:test"
    assert examples_of(str(reference), Reading(data_dir=tmp_path), ("premise", "hypothesis")) == [
        Example.of(("a", "b"), "neutral", "1")
    ]
    whole = parse_reference("americasnli:gn")
    assert whole is not None
    assert str(whole) == "americasnli:grn"
    assert texts_of([str(whole)], Reading(data_dir=tmp_path)) == ["peteĩ"]
    with pytest.raises(DataError, match=r"americasnli:grn: which split\? .*\(dev, test\): americasnli:grn:test"):
        examples_of(str(whole), Reading(data_dir=tmp_path))


@pytest.mark.parametrize(
    "word", ["nya.txt", "data/nya.tsv", "-", "nya=nya.txt", r"C:\texts\nya.txt", "C:nya.txt", "a:b", "masakhanews"]
)
def test_what_is_no_reference(word: str) -> None:
    assert parse_reference(word) is None


def test_a_file_comes_before_a_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("masakhanew:sna"), "a")
    assert parse_reference("masakhanew:sna") is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("masakhanew:sna:test", r"neither a file nor a dataset of the catalog\. Did you mean 'masakhanews'\?"),
        ("masakhanews:snaa", r"no language 'snaa'\. Did you mean 'sna'\?"),
        ("masakhanews:sna:tst", r"no split 'tst' of sna\. Did you mean 'test'\?"),
        ("masakhanews:sna:test:1", r"is no reference\. Expected NAME:LANGUAGE or NAME:LANGUAGE:SPLIT"),
        ("masakhanews:", "is no reference"),
        ("files:mine", "files is not one dataset"),
    ],
)
def test_a_reference_with_a_mistake(word: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_reference(word)


# ---------------------------------------------------------------------------------------------------------------
# Checks


def test_check_counts_what_is_odd(tmp_path: Path) -> None:
    header = "category\theadline\ttext\turl\n"
    rows = [
        "sports\tOne\tbody one\tu", "sports\tOne\tbody one\tu", "health\tOne\tother\tu", "religion\t Two \t.\tu",
        'sports\t\u00a0\t"line\nbreak and\ttab"\tu',
        "sports\te\u0301t\u00e9\ta\u2028b\u00a0c\u00add\ufeff\u0096\ue000\ufffd\tu",
        "sport\tThree\tx y\tu",
    ]  # fmt: skip
    write(tmp_path / "masakhanews/lin/train.tsv", header + "\n".join(rows) + "\n")
    write(tmp_path / "masakhanews/lin/test.tsv", header + "sports\tone!\tnew\tu\nhealth\tNine\tnine\tu\n")
    write(
        tmp_path / "masakhanews_few_shot/5_samples/lin/train.tsv", "category\theadline\ttext\nsports\tOne\tbody one\n"
    )
    told: list[str] = []
    found = check(dataset("masakhanews"), tmp_path, ["lin"], told.append)
    assert [(file.split, file.rows) for file in found.files] == [("train", 7), ("test", 2), ("5-shot", 1)]
    assert len(told) == 3
    assert found.missing == ("masakhanews/lin/dev.tsv",)
    train = found.files[0]
    assert train.labels == {
        "business": 0, "health": 1, "politics": 0, "sports": 4, "religion": 1, "sport": 1
    }  # fmt: skip
    assert train.problems == {
        "U+2028 and other separators": 1,
        "also in test": 3,
        "an earlier row with another label": 1,
        "blank text": 1,
        "byte order marks": 1,
        "control characters": 1,
        "invisible characters": 1,
        "label outside the language's set": 2,
        "line breaks inside": 1,
        "no-break spaces": 2,
        "not NFC": 1,
        "private-use characters": 1,
        "repeats an earlier row": 1,
        "replacement characters (U+FFFD)": 1,
        "spaces at the edges": 1,
        "tabs inside": 1,
        "text of one character": 1,
    }
    assert found.files[1].problems == {}
    assert found.files[2].problems == {}
    assert len(train.sha256) == 64
    assert json.loads(json.dumps(found.to_dict()))["files"][0]["rows"] == 7


def test_check_of_pairs_and_lines(tmp_path: Path) -> None:
    write(tmp_path / "xnli/dev-sw.tsv", "a\tb\tneutral\na\tc\tneutral\n")
    write(tmp_path / "xnli/test-sw.tsv", "A!\tB\tneutral\na\td\tneutral\nbad\n")
    dev, test = check(dataset("xnli"), tmp_path, ["swa"]).files
    assert dev.problems == {"also in test": 1, "text of one character": 2}
    assert test.rows == 2
    assert "line 3: 1 column where 3 were expected" in test.error
    write(tmp_path / "americasnlp2021/bribri-spanish/train.bzd", "a b\n\n a b\na b\n")
    lines, *_ = check(dataset("americasnlp2021"), tmp_path, ["bzd"]).files
    assert (lines.rows, lines.labels) == (4, {})
    assert lines.problems == {"blank text": 1, "repeats an earlier row": 1, "spaces at the edges": 1}


def test_check_finds_the_languages_of_an_open_dataset(tmp_path: Path) -> None:
    write(tmp_path / "taxi1500/train/abt.tsv", "1\tFaith\tab\n")
    write(tmp_path / "taxi1500/eng_train.tsv", "1\tSin\tab\n")
    found = check(dataset("taxi1500"), tmp_path)
    assert [file.language for file in found.files] == ["abt", "eng"]
    with pytest.raises(DataError, match="no file of taxi1500 in it"):
        check(dataset("taxi1500"), tmp_path / "taxi1500")
    with pytest.raises(DataError, match=r"no file of nusax in it, for example nusax/acehnese/train\.csv"):
        check(dataset("nusax"), tmp_path)


# ---------------------------------------------------------------------------------------------------------------
# Documentation


@pytest.mark.parametrize("found", WITH_FILES, ids=lambda found: found.name)
def test_the_documentation_says_the_same(found: Dataset) -> None:
    assert found.layout is not None
    place = next(iter(found.layout.files.values()))[0].replace("{", "<").replace("}", ">")
    title = found.title if found.homepage == "-" else f"[{found.title}]({found.homepage})"
    row = f"| `{found.name}` | {title} | `{place}` | {found.licence} | {found.citation} |"
    page = Path(__file__).parents[2] / "docs" / "data.md"
    assert row in page.read_text(encoding="utf-8").splitlines()
