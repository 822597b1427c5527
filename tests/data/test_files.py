"""A person's files, with the dirt that real files have."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from glotprompt.data.readers import lines
from glotprompt.data.readers.files import read_examples, read_texts
from glotprompt.data.readers.records import Example
from glotprompt.data.readers.tables import ReadOptions
from glotprompt.errors import ConfigError, DataError, MissingExtraError, UserError

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write("a.tsv", "text or bytes") -> its path."""

    def _write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write


def texts_of(examples: list[Example]) -> list[str]:
    return [example.fields["text"] for example in examples]


# --- plain text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("one\ntwo\n", ["one", "two"]),
        ("one\r\ntwo", ["one", "two"]),
        ("\ufeffone\ntwo", ["one", "two"]),
        ("one\n\n \t\n\u00a0\n\ufeff\n\u200b\ntwo\n\n", ["one", "two"]),
        ("a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n", ["a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"]),
        ("a\rb\r\n", ["a\rb"]),
        (" edge \u00a0\n", [" edge \u00a0"]),
        ("mid\ufeffdle\n", ["mid\ufeffdle"]),
        ('"quoted\n', ['"quoted']),
    ],
    ids=["lf", "crlf", "bom", "blank", "not line ends", "lone cr", "edge spaces", "bom inside", "quote"],
)
def test_one_text_per_line(write: Write, content: str, expected: list[str]) -> None:
    assert read_texts(write("a.txt", content)) == expected
    assert read_texts(write("train.quy", content)) == expected
    assert read_texts(write("a.txt.gz", gzip.compress(content.encode()))) == expected


def test_several_files_are_read_in_their_order(write: Write) -> None:
    paths = [write("b.txt", "1\n2\n"), str(write("a.tsv", "text\tn\n3\tx\n"))]
    assert read_texts(paths) == ["1", "2", "3"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\ufeffmoni\r\ndziko\n".encode())))
    assert read_texts("-") == ["moni", "dziko"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "moni"}\n')))
    assert read_texts("-", options=ReadOptions(format="jsonl")) == ["moni"]


def test_a_column_of_a_table_without_its_blank_cells(write: Write) -> None:
    path = write("a.csv", 'body,n\n"one, two",1\n\u00a0,2\nthree,3\n')
    assert read_texts(path, text="body") == ["one, two", "three"]
    assert read_texts(write("a.jsonl", '{"body": "one"}\n{"body": null}\n{"body": ""}\n'), text="body") == ["one"]


def test_nothing_is_passed_over_in_silence(write: Write) -> None:
    reports: list[str] = []
    path = write("a.tsv", "text\tn\na\t1\n\t2\n \t3\n")
    assert read_texts(path, options=ReadOptions(report=reports.append)) == ["a"]
    assert reports == [f"{path}: 2 blank cells passed over"]
    path = write("a.jsonl", '{"text": "a"}\n{"txt": "b"}\n{"text": null}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: no 'text' in it\. Fix the row"):
        read_texts(path)
    with pytest.raises(DataError, match=r"no column 'txxt'\. Did you mean 'text'\? It has: text\."):
        read_texts(path, "txxt")
    reports.clear()
    assert read_texts(path, options=ReadOptions(on_bad_row="skip", report=reports.append)) == ["a"]
    assert reports == [
        f"{path}, line 2: no 'text' in it; skipped",
        f"{path}: 1 bad row skipped",
        f"{path}: 1 blank cell passed over",
    ]
    with pytest.raises(DataError, match="no column 'body'"):
        read_texts(path, "body", options=ReadOptions(on_bad_row="skip"))


def test_another_encoding(write: Write) -> None:
    assert read_texts(write("a.txt", "café\n".encode("cp1252")), options=ReadOptions(encoding="cp1252")) == ["café"]
    assert read_texts(write("b.txt", "café\n".encode("utf-16-le")), options=ReadOptions(encoding="utf-16-le")) == [
        "café"
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(write: Write, encoding: str) -> None:
    content = "text\tlabel\ncafé ṣáṣà\tx\r\n".encode(encoding)
    for path in (write("a.tsv", content), write("a.tsv.gz", gzip.compress(content))):
        expected = [Example.of("café ṣáṣà", "x", f"{path.name}:2")]
        assert read_examples(path) == read_examples(path, options=ReadOptions(encoding=encoding)) == expected


def test_gzip_is_known_by_its_bytes(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(b"one\n") + gzip.compress(b"two\n")  # as `cat a.gz b.gz` makes it
    assert read_texts(write("train.quy", packed)) == ["one", "two"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(packed)))
    assert read_texts("-") == ["one", "two"]
    assert not sys.stdin.buffer.closed


def test_texts_that_occur_again_are_kept_and_counted(write: Write) -> None:
    reports: list[str] = []
    path = write("a.txt", "one\ntwo\none\n\none\n")
    assert read_texts(path, options=ReadOptions(report=reports.append)) == ["one", "two", "one", "one"]
    assert reports == [
        f"{path}: 1 blank line passed over",
        f"{path}: 2 of 4 texts repeat an earlier one; they are kept",
    ]
    reports.clear()
    table = write("a.tsv", "text\tlabel\na\tx\na\ty\na\tx\nb\tx\n")
    assert [(e.fields["text"], e.label) for e in read_examples(table, options=ReadOptions(report=reports.append))] == [
        ("a", "x"), ("a", "y"), ("a", "x"), ("b", "x"),
    ]  # fmt: skip
    assert reports == [
        f"{table}: 2 of 4 examples repeat an earlier one; they are kept",
        f"{table}: 1 text has more than one label",
    ]


def test_a_label_outside_the_set_is_a_bad_row(write: Write) -> None:
    path = write("a.tsv", "text\tlabel\na\tsports\nb\tsprts\n")
    with pytest.raises(DataError) as caught:
        read_examples(path, labels=["health", "sports"])
    assert str(caught.value) == (
        f"{path}, line 3: unknown label 'sprts'; expected one of health, sports. Did you mean 'sports'? "
        "If the label is right, the task does not know it: make a task file that does. "
        'Else mend the row, or pass options=ReadOptions(on_bad_row="skip").'
    )
    assert read_examples(path, labels=["health", "sports"], options=ReadOptions(on_bad_row="skip")) == [
        Example.of("a", "sports", "a.tsv:2")
    ]
    assert len(read_examples(path, label=None, labels=["health"])) == 2
    path = write("b.tsv", "text\tlabel\na\tcafe\u0301\n")
    assert read_examples(path, labels=["caf\u00e9", "bar"])[0].label == "caf\u00e9", "written otherwise"


def test_twenty_bad_rows_are_listed_and_the_others_counted(write: Write) -> None:
    path = write("a.tsv", "text\tlabel\nok\tx\n" + "bad\n" * 1_234)
    reports: list[str] = []
    read_examples(path, options=ReadOptions(on_bad_row="skip", report=reports.append))
    assert len(reports) == 21
    assert reports[0].startswith(f"{path}, line 3: 1 column")
    assert reports[19].startswith(f"{path}, line 22: ")
    assert reports[20] == f"{path}: 1,234 bad rows skipped, of which the first 20 are listed"


def test_pieces_may_end_anywhere(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_PIECE", 3)
    text = "\ufeffé\r\n\U0001f600 náà\u2028x\n\nlast"
    for encoding in ("utf-8", "utf-16"):
        assert read_texts(write("a.txt", text.removeprefix("\ufeff").encode(encoding))) == [
            "é",
            "\U0001f600 náà\u2028x",
            "last",
        ]
    with pytest.raises(DataError, match=r"line 3: not utf-8 \(at byte 10\)"):
        read_texts(write("b.txt", "éa\nbçd\ne".encode() + b"\xe9f\n"))
    with pytest.raises(DataError, match=r"line 2: not utf-8 \(at byte 2\)"):
        read_texts(write("c.txt", "a\né".encode()[:-1]))
    with pytest.raises(DataError, match="line 3: a NUL"):
        read_texts(write("d.txt", "abc\ndefg\nh\0\n"))


# --- parquet ------------------------------------------------------------------------------------------------------


def write_parquet(path: Path, columns: dict[str, list[object]]) -> Path:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path, row_group_size=2)
    return path


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a\nb", " c ", "d"], "label": [0, 1, 0]})
    expected = [Example.of(text, label, f"a.parquet:{row}") for row, text, label in
                [(1, "a\nb", "0"), (2, " c ", "1"), (3, "d", "0")]]  # fmt: skip
    assert read_examples(path) == expected
    assert read_texts(path) == ["a\nb", " c ", "d"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert read_texts("-", options=ReadOptions(format="parquet")) == ["a\nb", " c ", "d"]
    with pytest.raises(DataError, match=r"no column 'txt'\. Did you mean 'text'\?"):
        read_texts(path, "txt")


def test_a_bad_row_of_parquet_has_a_number(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a", None, "d"], "label": ["x", "x", "y"]})
    with pytest.raises(DataError, match=r"a\.parquet, row 2: nothing in the column 'text'"):
        read_examples(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a whole parquet file"):
        read_texts(path)


def test_parquet_needs_its_extra(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(MissingExtraError) as caught:
        read_texts(write("a.parquet", "x"))
    assert str(caught.value).endswith('a parquet file, needs an optional part: pip install "glotprompt[parquet]"')


# --- tables -------------------------------------------------------------------------------------------------------


def test_quoted_cells_hold_newlines_tabs_and_quotes(write: Write) -> None:
    path = write("a.tsv", 'label\ttext\nx\t"one\n\ntwo\t""three""\u2028four"\ny\tfi"ve\n')
    examples = read_examples(path)
    assert texts_of(examples) == ['one\n\ntwo\t"three"\u2028four', 'fi"ve']
    assert [e.label for e in examples] == ["x", "y"]
    assert [e.id for e in examples] == ["a.tsv:2", "a.tsv:5"]


def test_quotes_can_be_plain_characters(write: Write) -> None:
    path = write("a.tsv", 'text\tlabel\n"Open\tx\na "b" c\ty\n')
    assert texts_of(read_examples(path, options=ReadOptions(quoting="none"))) == ['"Open', 'a "b" c']


def test_bom_crlf_blank_lines_and_nbsp(write: Write) -> None:
    path = write("a.csv", "\ufefftext,label\r\n\r\n a\u00a0,x \r\n,\r\nb,y\r\n")
    assert read_examples(path) == [Example.of(" a\u00a0", "x", "a.csv:3"), Example.of("b", "y", "a.csv:5")]


def test_a_cell_longer_than_csv_allows(write: Write) -> None:
    limit = csv.field_size_limit(131_072)
    try:
        assert len(texts_of(read_examples(write("a.tsv", "text\tlabel\n" + "a" * 200_000 + "\tx\n")))[0]) == 200_000
    finally:
        csv.field_size_limit(limit)


def test_pairs_ids_and_unlabelled(write: Write) -> None:
    path = write("nli.tsv", "id\tp\th\tlabel\n7\tit rains\tit is wet\tentailment\n")
    (pair,) = read_examples(path, premise="p", hypothesis="h", row_id="id")
    assert pair == Example.of(("it rains", "it is wet"), "entailment", "7")
    (unlabelled,) = read_examples(path, text="p", label=None)
    assert unlabelled == Example.of("it rains", None, "nli.tsv:2")


def test_a_table_without_header_or_with_another_delimiter(write: Write) -> None:
    path = write("a.csv", "moni;greeting\n")
    assert read_examples(path, options=ReadOptions(delimiter=";", columns=["text", "label"])) == [
        Example.of("moni", "greeting", "a.csv:1")
    ]


def test_json_lines_with_numbers_as_labels(write: Write) -> None:
    rows = [{"text": "a\nb", "label": 0}, {"text": "c", "label": True}, {"text": "d", "label": " x "}]
    path = write("a.jsonl.gz", gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert [(e.fields["text"], e.label) for e in read_examples(path)] == [("a\nb", "0"), ("c", "true"), ("d", "x")]


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).map(lambda s: "x" + s)


@pytest.mark.slow
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), st.sampled_from(["tsv", "csv"]))
def test_what_csv_wrote_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], kind: str
) -> None:
    delimiter = "\t" if kind == "tsv" else ","
    cells = "".join(cell for row in rows for cell in row)
    assume(delimiter not in cells or not {"\n", "\r"} & {*cells})  # lines that could be rows are asked about
    path = tmp_path_factory.mktemp("csv") / f"a.{kind}"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *rows])
    assert [(e.fields["text"], e.label) for e in read_examples(path)] == [(t, name.strip()) for t, name in rows]


# --- mistakes -----------------------------------------------------------------------------------------------------

BAD_ROWS = {
    "too few columns": ("a.tsv", "text\tlabel\nok\tx\nalone\n", "line 3: 1 column where 2 were expected"),
    "too many columns": ("a.csv", 'text,label\n"ok\n",x\na,b,c\n', "line 4: 3 columns where 2 were expected"),
    "quote not doubled": ("a.tsv", 'text\tlabel\nok\tx\n"a" b\tx\n', "line 3: a quote that is not doubled"),
    "lone carriage return": ("a.tsv", "text\tlabel\nok\tx\na\rb\tx\n", "line 3: a carriage return inside a cell"),
    "empty text": ("a.tsv", "text\tlabel\nok\tx\n \u00a0\tx\n", "line 3: nothing in the column 'text'"),
    "missing label": ("a.tsv", "text\tlabel\nok\tx\na\t\n", "line 3: nothing in the column 'label'"),
    "not JSON": ("a.jsonl", '{"text": "ok", "label": "x"}\n{"text": \n', "line 2: not JSON"),
    "JSON list": ("a.jsonl", '{"text": "ok", "label": "x"}\n\n["a"]\n', "line 3: a JSON list where an object"),
    "JSON number as text": (
        "a.jsonl",
        '{"text": "ok", "label": "x"}\n{"text": 3, "label": "x"}\n',
        "line 2: a value of type int in the column 'text'",
    ),
    "JSON label missing": (
        "a.jsonl",
        '{"text": "ok", "label": "x"}\n{"text": "a"}\n',
        "line 2: nothing in the column 'label'",
    ),
    "half a character": (
        "a.jsonl",
        '{"text": "ok", "label": "x"}\n{"text": "\\ud800", "label": "x"}\n',
        "line 2: half a surrogate",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named_or_skipped_and_counted(write: Write, case: str) -> None:
    name, content, message = BAD_ROWS[case]
    path = write(name, content)
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert f"{path}, {message}" in str(caught.value)
    assert "\n" not in str(caught.value)
    reports: list[str] = []
    examples = read_examples(path, options=ReadOptions(on_bad_row="skip", report=reports.append))
    assert [text.strip() for text in texts_of(examples)] == ["ok"]
    listed, counted = reports
    assert listed.startswith(f"{path}, {message}")
    assert listed.endswith("; skipped")
    assert counted == f"{path}: 1 bad row skipped"


MISTAKES = {
    "missing column": (
        ("a.tsv", "category\ttext\nx\ta\n"),
        {"label": "categry"},
        "no column 'categry'. Did you mean 'category'? It has: category, text",
    ),
    "no header": (("a.tsv", "x\ta\n"), {}, "no column 'text'. It has: x, a"),
    "column twice": (("a.csv", "text,text\n"), {}, "the column 'text' occurs twice"),
    "header only": (("a.csv", "text,label\n"), {}, "no examples in it"),
    "empty": (("a.csv", "\ufeff\n"), {}, "empty. Expected a header line"),
    "empty JSON lines": (("a.jsonl", "\n"), {}, "no rows in it. Expected at least one."),
    "only bad rows": (("a.csv", "text,label\na\n"), {"on_bad_row": "skip"}, "the only row is bad, at line 2"),
    "quote never closed": (
        ("a.tsv", 'text\tlabel\na\tx\n"b\tx\nc\tx\n'),
        {},
        "line 3: a quote opens here and is never closed; if quotes mean nothing in this file, pass"
        ' options=ReadOptions(quoting="none")',
    ),
    "not UTF-8": (("a.tsv", b"text\tlabel\ncaf\xe9\tx\n"), {}, "line 2: not utf-8 (at byte 14)"),
    "UTF-16 read as UTF-8": (
        ("a.tsv", "text\tlabel\n".encode("utf-16")),
        {"encoding": "utf-8"},
        "line 1: not utf-8 (at byte 0). Save the file as UTF-8, or pass its encoding, for example"
        ' options=ReadOptions(encoding="utf-16").',
    ),
    "UTF-16 without mark": (
        ("a.tsv", "text\tlabel\n".encode("utf-16-le")),
        {},
        'pass options=ReadOptions(encoding="utf-16-le")',
    ),
    "no UTF-16": (("a.tsv", "text\tlabel\n".encode("utf-16-le")), {"encoding": "utf-16"}, "line 1: not utf-16"),
    "no encoding of text": (("a.tsv", "x"), {"encoding": "hex"}, 'encoding="hex" is not known'),
    "not a table": (("a.txt", "a\n"), {}, "not a table by its ending"),
    "old line ends": (("a.tsv", "text\tlabel\ra\tx\r"), {}, "all its line ends are carriage returns alone"),
    "json": (("a.json", "[]"), {}, 'If it has one object a line, pass options=ReadOptions(format="jsonl")'),
    "cut gzip": (("a.tsv.gz", gzip.compress(b"text\tlabel\n")[:-6]), {}, "not a whole gzip file"),
    "no gzip": (("a.tsv.gz", b"text\tlabel\n"), {}, "not a whole gzip file"),
    "half a pair": (("a.tsv", ""), {"premise": "p"}, "premise= was given without hypothesis="),
    "unknown encoding": (("a.tsv", "x"), {"encoding": "utf8x"}, 'encoding="utf8x" is not known'),
    "unknown quoting": (("a.tsv", "x"), {"quoting": "off"}, 'quoting="off" is not known'),
    "unknown policy": (("a.tsv", "x"), {"on_bad_row": "skp"}, "Did you mean 'skip'?"),
    "long delimiter": (("a.tsv", "x"), {"delimiter": "||"}, 'delimiter="||" is not one character'),
    "columns as a text": (("a.tsv", "x"), {"columns": "text"}, "columns is the text 'text'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_clear_line(write: Write, case: str) -> None:
    (name, content), given, message = MISTAKES[case]
    options: dict[str, Any] = dict(given)
    named = {
        name: options.pop(name) for name in ("premise", "hypothesis", "labels", "label", "text") if name in options
    }
    with pytest.raises(UserError) as caught:
        read_examples(write(name, content), **named, options=ReadOptions(**options))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(write: Write, tmp_path: Path) -> None:
    write("train.tsv", "")
    with pytest.raises(DataError, match=r"no such file\. Did you mean 'train.tsv'\?"):
        read_examples(tmp_path / "trian.tsv")
    with pytest.raises(DataError, match="a folder"):
        read_texts(tmp_path)
    with pytest.raises(DataError, match=r"for the command line .* in Python use glotprompt\.dataset\('masakhanews'\)"):
        read_examples("masakhanews:sna:test")


def test_mistakes_of_read_texts(write: Write) -> None:
    with pytest.raises(DataError, match="no text in it"):
        read_texts(write("a.txt", "\n \n"))
    with pytest.raises(DataError, match="not a table by its ending"):
        read_texts(write("b.txt", "a\n"), text="body")
    with pytest.raises(DataError, match="no texts in it"):
        read_texts(write("a.tsv", "text\tn\n\tx\n"))
    with pytest.raises(DataError, match="carriage returns alone"):
        read_texts(write("a.txt", "one\rtwo\r"))
    for name in ("a.json", "a.JSON.gz"):
        with pytest.raises(DataError, match="neither lines of text nor rows"):
            read_texts(write(name, '{"text": "moni"}\n'))
    assert read_texts(write("a.json", '{"text": "moni"}\n'), options=ReadOptions(format="jsonl")) == ["moni"]
    with pytest.raises(ConfigError, match="No file was given"):
        read_texts([])


# --- other people's files -----------------------------------------------------------------------------------------


def test_real_pairs_with_blank_cells_and_stray_quotes(corpora: Path) -> None:
    path = corpora / "americasnli" / "test" / "nah.tsv"
    reports: list[str] = []
    pairs = read_examples(
        path,
        premise="premise",
        hypothesis="hypothesis",
        row_id="id",
        options=ReadOptions(quoting="none", on_bad_row="skip", report=reports.append),
    )
    assert len(pairs) == 738 - 3
    assert reports[:4] == [
        *(f"{path}, line {line}: nothing in the column 'premise'; skipped" for line in (520, 521, 522)),
        f"{path}: 3 bad rows skipped",
    ]
    assert len(read_texts(corpora / "americasnlp2021" / "nahuatl-spanish" / "train.nah")) == 16_145 - 82


def test_real_pairs_without_header(corpora: Path) -> None:
    columns = ["premise", "hypothesis", "label"]
    path = corpora / "xnli" / "test-en.tsv"
    assert (
        len(
            read_examples(
                path, premise="premise", hypothesis="hypothesis", options=ReadOptions(columns=columns, quoting="none")
            )
        )
        == 5010
    )
