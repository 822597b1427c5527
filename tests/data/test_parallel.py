"""Parallel text: read in every form, checked, and kept apart from what is scored."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from glotprompt.data.check import check
from glotprompt.data.datasets.bitext import verse_id
from glotprompt.data.datasets.catalog import dataset, parse_reference
from glotprompt.data.decontamination import evaluation_beside, evaluation_set, held_out_ids
from glotprompt.data.pairs import check_pairs, out_of_step, shared_words, stage1_pairs
from glotprompt.data.parallel import read_parallel
from glotprompt.data.readers.records import Pair
from glotprompt.data.readers.tables import ReadOptions
from glotprompt.data.sources import Reading, texts_to_compare
from glotprompt.errors import ConfigError, DataError

ONE, TWO = Pair("It rains.", "Kukugwa mvula."), Pair('He said "no".', 'Anati "ayi".')


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOTPROMPT_DATA", raising=False)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    return path


def some_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Different sentences of 3 to 40 words, and translations whose lengths follow theirs."""
    draw = random.Random(seed)
    lengths = [draw.randint(3, 40) for _ in range(count)]
    return [
        Pair(
            " ".join(f"a{draw.randrange(10_000)}" for _ in range(length)),
            " ".join(f"b{draw.randrange(10_000)}" for _ in range(max(1, length + draw.randint(-3, 3)))),
        )
        for length in lengths
    ]


def shifted(pairs: list[Pair], by: int = 1) -> list[Pair]:
    """Each source with the target `by` earlier, as when so many lines were lost on the source side."""
    return [Pair(one.source, other.target) for one, other in zip(pairs[by:], pairs[:-by], strict=True)]


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_table_without_a_header(tmp_path: Path) -> None:
    told: list[str] = []
    path = write(tmp_path / "a.tsv", "It rains.\tKukugwa mvula.\n\nIt ends.\t \n")
    assert read_parallel(path, options=ReadOptions(report=told.append)) == [ONE, Pair("It ends.", "")]
    assert told == [
        f"{path}: no header line with source and target, so its two columns are these, and the first line is a pair"
    ]
    write(path, 'It rains.\tKukugwa mvula.\nHe said "no".\tAnati "ayi".\n')
    assert read_parallel(path, options=ReadOptions(quoting="none")) == [ONE, TWO]
    write(path, '"It rains.\tKukugwa mvula.\n')
    with pytest.raises(DataError, match=r"pass options=ReadOptions\(quoting=\"none\"\)"):
        read_parallel(path)


def test_tables_with_a_header(tmp_path: Path) -> None:
    csv = write(
        tmp_path / "a.csv", 'target,n,source\nKukugwa mvula.,1,It rains.\n"Anati ""ayi"".",2,"He said ""no""."\n'
    )
    assert read_parallel(csv) == [ONE, TWO]
    named = write(tmp_path / "b.tsv", "eng\tnya\nIt rains.\tKukugwa mvula.\n")
    half = write(tmp_path / "c.tsv", "source\ttarge\nIt rains.\tKukugwa mvula.\n")
    remedy = "Did you mean 'targe'\\?.* Name the right one with the word target in the header line, or, when"
    with pytest.raises(DataError, match=rf"no column 'target'\. {remedy}"):
        read_parallel(half)
    wide = write(tmp_path / "d.tsv", "40.1.1\tIt rains.\tKukugwa mvula.\n")
    with pytest.raises(DataError, match=r"no column 'source'.*columns="):
        read_parallel(wide)
    assert read_parallel(wide, options=ReadOptions(columns=["verse", "source", "target"])) == [ONE]
    assert read_parallel([csv, named]) == [ONE, TWO, Pair("eng", "nya"), ONE]


def test_json_lines_and_parquet(tmp_path: Path) -> None:
    rows = [{"source": ONE.source, "target": ONE.target}, {"source": "a", "target": 7}, {"source": "b"}]
    lines = write(tmp_path / "a.jsonl", "\n".join(json.dumps(row) for row in rows))
    with pytest.raises(DataError, match="line 2: a value that is not text in the columns source and target"):
        read_parallel(lines)
    assert read_parallel(lines, options=ReadOptions(on_bad_row="skip")) == [ONE, Pair("b", "")]
    write(lines, '{"source": "\\ud800", "target": "a"}\n')
    with pytest.raises(DataError, match="a value that is not text"):
        read_parallel(lines)
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(rows[:1]), tmp_path / "a.parquet")
    assert read_parallel(tmp_path / "a.parquet") == [ONE]


def test_two_files_line_by_line(tmp_path: Path) -> None:
    eng = write(tmp_path / "eng.txt", 'It  rains.\r\n\nHe said "no".\u2028')
    nya = tmp_path / "nya.txt.gz"
    nya.write_bytes(gzip.compress(b'Kukugwa mvula.\n\nAnati "ayi".\n'))
    assert read_parallel([eng, nya]) == [
        Pair("It  rains.", ONE.target),
        Pair("", ""),
        Pair(TWO.source + "\u2028", TWO.target),
    ]
    assert read_parallel([eng, nya], options=ReadOptions(normalise=True)) == [ONE, Pair("", ""), TWO]
    longer = write(tmp_path / "longer.txt", "a\nb\nc\nd\n")
    with pytest.raises(DataError, match=r"eng\.txt has 3 lines and .*longer\.txt has 4\."):
        read_parallel([eng, longer])
    for words, counts in (([eng], "1 of 1"), ([eng, nya, longer], "3 of 3"), ([eng, "mafand:nya"], "1 of 2")):
        with pytest.raises(
            DataError, match=rf"eng\.txt: plain text by its ending, and {counts} given are\. Expected two"
        ):
            read_parallel(words)
    with pytest.raises(ConfigError, match="No parallel text was given"):
        read_parallel([])
    with pytest.raises(ConfigError, match=r"columns is the text 'source'"):
        read_parallel(eng, options=ReadOptions(columns="source"))


def test_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "parallel/bible/eng-xyz.tsv", '40.1.1\tThe "book\tBuku\n55.2.24\tAnd\tNdi\n')
    write(tmp_path / "parallel/mafand/eng-lug.tsv", 'He said "no".\tAnati "ayi".\n')
    spanish = tmp_path / "americasnlp2021/guarani-spanish"
    write(spanish / "train.gn", "Oky\n\n")
    write(spanish / "train.es", "Llueve\n\n")
    write(tmp_path / "americasnlp2021/quechua-spanish/train.quy", "Paran\n")
    verses = [Pair('The "book', "Buku", "40.1.1"), Pair("And", "Ndi", "55.2.24")]
    assert read_parallel(["bible_verses:xyz", "mafand:lug"], data_dir=tmp_path) == [*verses, TWO]
    monkeypatch.setenv("GLOTPROMPT_DATA", str(tmp_path))
    assert (
        read_parallel("americasnlp2021:gn") == read_parallel("americasnli:gn") == [Pair("Llueve", "Oky"), Pair("", "")]
    )
    with pytest.raises(DataError, match=r"americasnlp2021:quy is no parallel text here: .*train\.es does not exist"):
        read_parallel("americasnlp2021:quy")
    with pytest.raises(DataError, match="sib200 has no parallel text"):
        read_parallel("sib200:lug")
    # As plain text it is the target side.
    told: list[str] = []
    assert dataset("bible_verses").texts("xyz", report=told.append) == ["Buku", "Ndi"]
    assert len(told) == 1
    assert "verses of Taxi1500 in xyz (train, dev, test) not held out: " in told[0]
    for split in ("train", "dev", "test"):
        write(tmp_path / f"taxi1500/{split}/xyz.tsv", f"5500202{'4' if split == 'dev' else '5'}\tFaith\tother words\n")
    told.clear()
    assert dataset("bible_verses").texts("xyz", report=told.append) == ["Buku"]
    assert told == [
        "bible_verses xyz: 1 of 2 pairs left out of stage 1 because an evaluation set has them",
    ]
    with pytest.raises(DataError, match="mafand has no examples, only texts"):
        dataset("mafand").examples("lug", "train")
    (checked,) = check(dataset("mafand"), tmp_path, ["lug"]).files
    assert (checked.rows, checked.labels, checked.problems) == (1, {}, {})


# --- checks -------------------------------------------------------------------------------------------------------


def test_what_is_removed_and_why() -> None:
    held_out = "one two three four five six seven eight nine ten eleven twelve thirteen"
    usual = [Pair(f"word number {number}", f"mawu nambala {number}", f"1.1.{number}") for number in range(20)]
    unfit = [
        Pair("it rains", "\u00a0"),
        Pair("\u200b", "mvula"),
        Pair("Same - same", "same, SAME"),
        Pair("...", "!"),
        Pair("Word number 3.", "mawu nambala 3"),
        Pair("yes", "a whole sentence of another size"),
        Pair("a whole sentence of another size", "ayi"),
        Pair("Kept out", "by the source"),
        Pair("by the target", "kept out!"),
        Pair(f"and {held_out}", "b" * 70),
        Pair("a verse", "vesi", "55.2.24"),
        Pair("of a dev set", "vesi lina", "40.1.1"),
    ]
    checked = check_pairs([*usual, *unfit], {"test": ["Kept out", held_out]}, ["55002024", "40.1.1", "66.1.1"])
    assert checked.pairs == usual
    report = checked.report
    assert (report.num_read, report.num_kept, report.out_of_step, report.warnings()) == (32, 20, [], [])
    assert report.removed == {
        "a held-out verse": 2, "an empty side": 2, "the same on both sides": 2, "a repeat": 1,
        "a length ratio far off": 2, "evaluation text": 3,
    }  # fmt: skip
    assert report.sentence() == (
        "20 of 32 pairs kept; removed: 2 for a held-out verse, 2 for an empty side, 2 for the same on both sides, 1"
        " for a repeat, 2 for a length ratio far off, 3 for evaluation text (source in test: 2; target in test: 1)"
    )
    metadata = report.to_json()
    assert json.loads(json.dumps(metadata)) == metadata
    assert metadata["held_out"] == {
        "source": {"test": {"same": 1, "shared": 1}}, "target": {"test": {"same": 1, "shared": 0}},
    }  # fmt: skip
    assert check_pairs(usual).report.sentence() == "20 of 20 pairs kept; removed: none"
    assert check_pairs(usual).report.length_ratio == 1.074


def test_words_that_texts_share_with_translations() -> None:
    sides = ["Ayns y toshiaght,", "v'er e chroo"]
    assert shared_words(sides, ["ayns y thie", "«V'er» e"]) == pytest.approx(80.0)
    assert shared_words(["cafe\u0301"], ["CAF\u00c9!"]) == 100
    assert shared_words(["\u0915\u0940, \u092e\u0940"], ["\u0915\u093e \u092e\u093e"]) == 0, "vowel signs of Devanagari"
    assert shared_words(["\u0915\u0940, \u092e\u0940\u0964"], ["\u0915\u0940 \u092e\u0940"]) == 100
    assert shared_words(sides, ["?!"]) is None, "there is no word"


def test_a_script_without_spaces_shares_parts_of_its_lines() -> None:
    this, that = "\u0e04\u0e33\u0e19\u0e35\u0e49", "\u0e04\u0e33\u0e19\u0e31\u0e49\u0e19"
    assert shared_words([this], [that]) == pytest.approx(100 / 4)
    assert shared_words([this], ["\u0e01\u0e02\u0e04\u0e07\u0e08"]) == 0


def test_the_length_ratio_is_measured_against_the_texts_own() -> None:
    # A target of a tenth of the length is usual here, and one of the same length is not.
    pairs = [Pair("x" * 100 + f" {number}", "y" * 9 + f"{number}") for number in range(10, 30)]
    odd = Pair("z" * 100, "w" * 90)
    assert check_pairs([*pairs, odd]).pairs == pairs


def test_when_nothing_is_left() -> None:
    with pytest.raises(DataError, match="no pair can be used: 0 of 2 pairs kept; removed: 2 for an empty side"):
        check_pairs([Pair("", "a"), Pair("b", "")])
    with pytest.raises(DataError, match="0 of 0 pairs kept"):
        check_pairs([])


@pytest.mark.parametrize("count", [100, 199, 250, 1_000])
@pytest.mark.parametrize("by", [1, 2])
def test_sides_out_of_step_are_found(count: int, by: int) -> None:
    pairs = some_pairs(count + by)
    assert out_of_step(pairs) == []
    later = shifted(pairs, by)
    (found,) = out_of_step(later)
    assert (found.first, found.last, found.shift) == (1, count, by)
    assert found.shifted > 0.9 > 0.3 > found.correlation
    (found,) = out_of_step([Pair(pair.target, pair.source) for pair in later])
    assert found.shift == -by
    assert f"match the target {by} earlier better" in found.sentence()
    assert check_pairs(later).report.warnings() == [out_of_step(later)[0].sentence()]


def test_a_line_lost_in_the_middle() -> None:
    pairs = some_pairs(1_001)
    (found,) = out_of_step([*pairs[:400], *shifted(pairs[400:])])
    assert (found.first, found.last, found.shift) == (401, 1_000, 1)


def test_too_little_to_be_out_of_step() -> None:
    assert out_of_step([]) == []
    assert out_of_step(shifted(some_pairs(100))) == []
    assert out_of_step([Pair("same length", "in all")] * 300) == []


# --- verses -------------------------------------------------------------------------------------------------------


def test_verses_by_number() -> None:
    assert [verse_id(name) for name in ("55002024", "1001001", "40.1.1", "12", "GEN 1:1")] == [
        *("55.2.24", "1.1.1", "40.1.1", "12", "GEN 1:1"),
    ]


# --- what is scored -----------------------------------------------------------------------------------------------


def test_what_parallel_text_has_in_common_with() -> None:
    def beside(word: str, parallel: bool = True) -> list[str]:
        found = [str(place) for place in evaluation_beside(word, parallel=parallel)]
        assert all(evaluation_set(place) for place in found)
        return [place.removesuffix(":dev") for place in found if place.endswith(":dev")]

    assert beside("mafand:lug") == ["masakhanews:lug", "sib200:lug", "sib200:eng"]
    assert beside("mafand:lug", False) == ["masakhanews:lug", "sib200:lug"]
    assert beside("mafand:swa") == ["masakhanews:swa", "sib200:swh", "sib200:eng"]
    assert beside("mafand:luo") == ["sib200:luo", "sib200:eng"]
    assert beside("bible_verses:quc") == ["taxi1500:quc", "taxi1500:eng"]
    assert beside("americasnlp2021:quy") == ["americasnlp2021:quy", "americasnli:quy", "xnli:spa"]
    assert beside("americasnlp2021:quy", False) == ["americasnlp2021:quy", "americasnli:quy"]
    assert held_out_ids("mafand:lug") == held_out_ids("eng.txt") == set()


# --- other people's files -----------------------------------------------------------------------------------------

REFERENCES = [
    *(f"bible_verses:{code}" for code in ("chr", "cni", "dik", "glv", "nah", "quc", "swh")),
    *(f"mafand:{code}" for code in ("ibo", "lug", "nya", "sna", "yor")),
    *(f"americasnlp2021:{code}" for code in ("aym", "bzd", "cni", "gn", "hch", "nah", "oto", "shp", "tar")),
]


@pytest.mark.slow
@pytest.mark.parametrize("word", REFERENCES)
def test_published_pairs_are_in_step_until_they_are_shifted(corpora: Path, word: str) -> None:
    pairs = read_parallel(word, data_dir=corpora)
    for some in (pairs, pairs[:300]):
        assert out_of_step(some) == []
        found = out_of_step(shifted(some))
        assert [(one.first, one.last, one.shift) for one in found] == [(1, len(some) - 1, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "num_taxi1500", "num_verses", "num_kept"),
    [("glv", 1_077, 128, 3_645), ("cni", 1_069, 1_069, 6_685), ("quc", 1_077, 1_074, 6_426)],
)
def test_bible_verses_without_those_of_taxi1500(
    corpora: Path, language: str, num_taxi1500: int, num_verses: int, num_kept: int
) -> None:
    word = f"bible_verses:{language}"
    told: list[str] = []
    ids = held_out_ids(word, corpora, told.append)
    assert (len(ids), told) == (num_taxi1500, [])
    held_out = evaluation_text(word, corpora)
    checked = check_pairs(read_parallel(word, data_dir=corpora), held_out, ids)
    assert checked.report.removed["a held-out verse"] == num_verses
    assert len(checked.pairs) == num_kept
    assert ids.isdisjoint(pair.id for pair in checked.pairs)
    texts = dataset("bible_verses").texts(language, data_dir=corpora)
    assert len(texts) == checked.report.num_read - num_verses


@pytest.mark.slow
def test_news_without_what_is_scored(corpora: Path) -> None:
    language, word = "ibo", "mafand:ibo"
    checked = check_pairs(read_parallel(word, data_dir=corpora), evaluation_text(word, corpora))
    assert len(checked.pairs) == 9_369
    assert checked.report.removed.get("evaluation text", 0) == 129
    assert set(checked.report.to_json()["held_out"]["target"]) == {
        f"{name}:{split}"
        for name in (f"masakhanews:{language}", f"sib200:{language}", "sib200:eng")
        for split in ("dev", "test")
    }


def evaluation_text(word: str, data_dir: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for place in map(str, evaluation_beside(word, parallel=True)):
        reference = parse_reference(place)
        assert reference is not None
        found[place] = texts_to_compare(str(reference), Reading(data_dir=data_dir))
    return found


def test_word_lists_and_several_source_languages_are_pairs(tmp_path: Path) -> None:
    """All files are filtered and decontaminated, whatever their source language and however short their pairs."""
    tables = {
        "verses": [("the water is here", "ta ushtey ayns shoh"), ("the king", "yn ree")],
        "spanish": [("el agua", "yn ushtey"), ("el rey y la casa", "yn ree as y thie")],
        "words": [("water", "ushtey"), ("king", "ree"), ("water", "ushtey")],
    }
    files: list[str] = []
    for name, rows in tables.items():
        files.append(str(tmp_path / f"{name}.tsv"))
        Path(files[-1]).write_text("\n".join(["source\ttarget", *map("\t".join, rows)]), encoding="utf-8")
    scored = tmp_path / "scored.txt"
    scored.write_text("yn ushtey\nking\n", encoding="utf-8")
    found = stage1_pairs(files, [str(scored)], Reading())
    assert [pair.source for pair in found.pairs] == ["the water is here", "the king", "el rey y la casa", "water"]
    assert found.report.removed == {"a repeat": 1, "evaluation text": 2}
