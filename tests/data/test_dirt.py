"""Every kind of dirt that public files were found to have, each in a small file of our own, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from glotprompt.data.readers.files import read_examples, read_texts
from glotprompt.data.readers.records import Example
from glotprompt.data.readers.tables import ReadOptions
from glotprompt.errors import DataError

HEADER = "label\ttext\n"


def raw(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# name -> (the file after its header, the texts that come out as they stand, the same with normalise=True)
IN_TABLES: dict[str, tuple[str, list[str], list[str]]] = {
    "newlines inside quoted cells": ('x\t"one\n\ntwo\r\nthree"\n', ["one\n\ntwo\r\nthree"], ["one two three"]),
    "tabs inside quoted cells": ('x\t"one\ttwo"\n', ["one\ttwo"], ["one two"]),
    "doubled quotes": ('x\t"he said ""moni"""\n', ['he said "moni"'], ['he said "moni"']),
    "a quote inside a cell": ('x\the said "moni"\n', ['he said "moni"'], ['he said "moni"']),
    "U+2028": ("x\tone\u2028two\n", ["one\u2028two"], ["one two"]),
    "BOM at the start": ("x\tone\n", ["one"], ["one"]),
    "BOM in mid-text": ("x\tmi\ufeffd\n", ["mi\ufeffd"], ["mid"]),
    "CRLF": ("x\tone\r\nx\ttwo\r\n", ["one", "two"], ["one", "two"]),
    "C1 controls": ("x\t\x93one\x94 \x96 two\n", ["\x93one\x94 \x96 two"], ["“one” – two"]),
    "NBSP": ("x\tone\u00a0two\n", ["one\u00a0two"], ["one two"]),
    "ZWSP and soft hyphen": ("x\to\u200bne tw\u00ado\n", ["o\u200bne tw\u00ado"], ["one two"]),
    "a private-use character": ("x\tone \ue001\n", ["one \ue001"], ["one \ue001"]),
    "not NFC": ("x\to\u0323\u0300ro\u0323\u0300\n", ["o\u0323\u0300ro\u0323\u0300"], ["\u1ecd\u0300r\u1ecd\u0300"]),
    "one character": ("x\t.\nx\ta\n", [".", "a"], [".", "a"]),
    "edge spaces": ("x\t one  \n", [" one  "], ["one"]),
    "duplicate rows": ("x\tone\nx\tone\n", ["one", "one"], ["one", "one"]),
    "blank lines": ("\nx\tone\n\n \t\n\u00a0\nx\ttwo\n\n", ["one", "two"], ["one", "two"]),
    "U+FFFD": ("x\tcaf\ufffd\n", ["caf\ufffd"], ["caf\ufffd"]),
    "html entities": ("x\tR&amp;D &lt;mask&gt;\n", ["R&amp;D &lt;mask&gt;"], ["R&amp;D &lt;mask&gt;"]),
    "a very long cell": ("x\t" + "moni " * 40_000 + "\n", ["moni " * 40_000], [("moni " * 40_000).rstrip()]),
    "no line end at the end": ("x\tone", ["one"], ["one"]),
}


@pytest.mark.parametrize("kind", IN_TABLES)
def test_dirt_in_a_table(tmp_path: Path, kind: str) -> None:
    rows, as_they_stand, cleaned = IN_TABLES[kind]
    start = "\ufeff" if kind == "BOM at the start" else ""
    path = raw(tmp_path / "a.tsv", start + HEADER + rows)
    assert read_texts(path) == as_they_stand
    assert [example.fields["text"] for example in read_examples(path)] == as_they_stand
    assert read_texts(path, options=ReadOptions(normalise=True)) == cleaned
    assert [example.fields["text"] for example in read_examples(path, options=ReadOptions(normalise=True))] == cleaned
    assert {example.label for example in read_examples(path)} == {"x"}


def test_rows_keep_the_line_they_start_on(tmp_path: Path) -> None:
    path = raw(tmp_path / "a.tsv", HEADER + '\nx\t"one\n\u2028\ntwo"\nx\tthree\n')
    assert [example.id for example in read_examples(path)] == ["a.tsv:3", "a.tsv:6"]


def test_quotes_that_are_literal(tmp_path: Path) -> None:
    rows = 'x\t"Moni\ny\tmoni", she said\nx\t""\n'
    path = raw(tmp_path / "a.tsv", HEADER + rows)
    assert read_texts(path, options=ReadOptions(quoting="none")) == ['"Moni', 'moni", she said', '""']
    with pytest.raises(DataError) as caught:
        read_texts(path)
    assert str(caught.value) == (
        f"{path}, lines 2-3: a quote that is not doubled inside a cell; if quotes mean nothing in this file, pass "
        'options=ReadOptions(quoting="none"). Fix the row, or pass options=ReadOptions(on_bad_row="skip").'
    )


STRAY_QUOTES = {
    "never closed": ('x\tone\ny\t"two\nx\tthree\n', 3, "line 3: a quote opens here and is never closed"),
    "closed by another": ('x\tone\n"y\ttwo\nx\tthree\nx"\tfour\n', 3, "lines 3-5: a quote makes one row of lines"),
    "columns": ('x\tone\n"a\tx\nb"\tc\tx\nx\ttwo\n', 3, "lines 3-4: 3 columns where 2 were expected"),
    "not doubled": ('x\tone\ny\t"two" of\nx\tthree\n', 3, "line 3: a quote that is not doubled inside a cell"),
}


@pytest.mark.parametrize("case", STRAY_QUOTES)
def test_a_stray_quote_takes_no_other_line_with_it(tmp_path: Path, case: str) -> None:
    rows, line, message = STRAY_QUOTES[case]
    path = raw(tmp_path / "a.tsv", HEADER + rows)
    with pytest.raises(DataError) as caught:
        read_texts(path)
    assert message in str(caught.value)
    assert 'quoting="none"' in str(caught.value)
    reports: list[str] = []
    kept = read_texts(path, options=ReadOptions(on_bad_row="skip", report=reports.append))
    lines = (HEADER + rows).splitlines()
    assert len(kept) == len([one for number, one in enumerate(lines[1:], 2) if number != line and one.count("\t") == 1])
    assert reports[-1].endswith(" skipped")


def test_a_cell_of_several_lines_is_one_cell(tmp_path: Path) -> None:
    path = raw(tmp_path / "a.tsv", HEADER + 'x\t"one\ntwo, ""three""\n\nfour"\nx\tfive\n')
    assert read_texts(path) == ['one\ntwo, "three"\n\nfour', "five"]


STAND_INS = {
    "LFS": ("a.tsv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer"),
    "LFS, named as packed": (
        "a.tsv.gz",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "a Git LFS pointer",
    ),
    "annex": ("a.txt", b"/annex/objects/SHA256E-s1--0.txt\n", "a git-annex pointer"),
    "page": ("a.txt", b"\n<!DOCTYPE html>\n<html><body>404</body></html>\n", "a web page"),
    "semicolons": ("a.csv", b"text;label\none;x\n", 'Pass options=ReadOptions(delimiter=";")'),
    "commas": ("a.tsv", b"text,label\none,x\n", 'Pass options=ReadOptions(delimiter=",")'),
    "semicolons, a comma in a text": ("a.csv", b"text;label\none, two;x\n", 'Pass options=ReadOptions(delimiter=";")'),
    "array": ("a.jsonl", b'[{"text": "one", "label": "x"}]\n', "a JSON array, not JSON lines"),
    "array over lines": ("a.jsonl", b'[\n  {"text": "one",\n "label": "x"}\n]\n', "a JSON array, not JSON lines"),
}


@pytest.mark.parametrize("case", STAND_INS)
def test_a_file_of_another_kind_is_named(tmp_path: Path, case: str) -> None:
    name, content, message = STAND_INS[case]
    path = raw(tmp_path / name, content)
    for how in ("error", "skip"):
        with pytest.raises(DataError) as caught:
            (read_texts if name.endswith("txt") else read_examples)(path, options=ReadOptions(on_bad_row=how))
        assert message in str(caught.value)


def test_columns_that_nobody_wants_may_repeat(tmp_path: Path) -> None:
    path = raw(tmp_path / "a.csv", "text,label,,,note,note\none,x,,,1,2\n")
    assert read_texts(path) == ["one"]
    with pytest.raises(DataError, match="the column 'note' occurs twice"):
        read_texts(path, text="note")


def test_parquet_is_as_strict_as_text(tmp_path: Path) -> None:
    pa, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))

    def written(*columns: Any, names: Sequence[str] = ("text", "label")) -> Path:
        parquet.write_table(pa.Table.from_arrays(list(columns), list(names)), tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    texts, labels = pa.array(["one", "two"]), pa.array([1.0, 0.0])
    assert [one.label for one in read_examples(written(texts, labels))] == ["1", "0"]
    with pytest.raises(DataError, match=r"the column 'text' occurs twice\. Rename one of them\.$"):
        read_examples(written(texts, texts, labels, names=["text", "text", "label"]))
    with pytest.raises(DataError, match=r"Name the right one with label=\.$"):
        read_examples(written(texts, names=["text"]))
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xf1ne", b"two"]).buffers())
    with pytest.raises(DataError, match="row 1: the column 'text' is not UTF-8"):
        read_examples(written(broken, labels))
    assert len(read_examples(written(broken, labels), options=ReadOptions(on_bad_row="skip"))) == 1


@pytest.mark.parametrize("blank", ["", " ", "\u00a0", "\ufeff", "\u200b\u200d"])
def test_an_empty_text_is_a_bad_row_or_nothing(tmp_path: Path, blank: str) -> None:
    path = raw(tmp_path / "a.tsv", f"{HEADER}x\tone\ny\t{blank}\n")
    assert read_texts(path) == ["one"]
    with pytest.raises(DataError, match="line 3: nothing in the column 'text'"):
        read_examples(path)
    reports: list[str] = []
    assert len(read_examples(path, options=ReadOptions(on_bad_row="skip", report=reports.append))) == 1
    assert reports == [f"{path}, line 3: nothing in the column 'text'; skipped", f"{path}: 1 bad row skipped"]


def test_a_missing_header(tmp_path: Path) -> None:
    path = raw(tmp_path / "a.tsv", "it rains\tit is wet\tentailment\r\n")
    pairs = {"premise": "premise", "hypothesis": "hypothesis"}
    with pytest.raises(DataError) as caught:
        read_examples(path, **pairs)
    assert str(caught.value) == (
        f"{path}: no column 'premise'. It has: it rains, it is wet, entailment. Name the right one with premise=, or, "
        "when the file has no header line, name them all with options=ReadOptions(columns=)."
    )
    found = read_examples(path, **pairs, options=ReadOptions(columns=["premise", "hypothesis", "label"]))
    assert found == [Example.of(("it rains", "it is wet"), "entailment", "a.tsv:1")]


@pytest.mark.parametrize("known", [("0", "1"), ("0.0", "1.0"), ("0", "1.0", "1.00")])
def test_a_whole_number_is_the_label_that_the_task_knows(tmp_path: Path, known: tuple[str, ...]) -> None:
    rows = '{"text": "one", "label": 0.0}\n{"text": "two", "label": "0"}\n{"text": "three", "label": "0.0"}\n'
    path = raw(tmp_path / "a.jsonl", rows)
    assert {one.label for one in read_examples(path, labels=known)} == {known[0]}
    path.write_text('{"text": "one", "label": 1}\n')
    if len(known) == 2:
        assert read_examples(path, labels=known)[0].label == known[1]
    else:  # either could be meant
        with pytest.raises(DataError, match=r"unknown label '1'; expected one of 0, 1\.0, 1\.00"):
            read_examples(path, labels=known)


def test_a_label_outside_the_set(tmp_path: Path) -> None:
    path = raw(tmp_path / "a.tsv", HEADER + " x \tone\nbusness\ttwo\n")
    assert [example.label for example in read_examples(path)] == ["x", "busness"]
    with pytest.raises(
        DataError, match=r"line 3: unknown label 'busness'; expected one of x, business\. Did you mean 'business'\?"
    ):
        read_examples(path, labels=["x", "business"])


@pytest.mark.parametrize(
    ("content", "as_they_stand", "cleaned"),
    [
        (b"one\r\n\r\n \xc2\xa0\xef\xbb\xbf\r\ntwo\r\n", ["one", "two"], ["one", "two"]),
        (b"\xef\xbb\xbfone\xe2\x80\xa8two\xc2\x85three\n", ["one\u2028two\x85three"], ["one two…three"]),
        (b'"one\ntwo"\n', ['"one', 'two"'], ['"one', 'two"']),
        (b"  one \xc2\xad\n", ["  one \u00ad"], ["one"]),
        (b"one\none\n", ["one", "one"], ["one", "one"]),
        (b"a" * 4_163, ["a" * 4_163], ["a" * 4_163]),
    ],
    ids=["blank lines", "no line ends", "quotes", "edges", "duplicates", "long"],
)
def test_dirt_in_plain_text(tmp_path: Path, content: bytes, as_they_stand: list[str], cleaned: list[str]) -> None:
    path = raw(tmp_path / "train.nah", content)
    assert read_texts(path) == as_they_stand
    assert read_texts(path, options=ReadOptions(normalise=True)) == cleaned
