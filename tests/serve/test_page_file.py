"""Whole files on the page, in a real browser on the real service: chosen or dropped, classified, taken home."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright (extra dev)")

from playwright.sync_api import Page, expect

from .browser import Visit, choose, downloaded, take_file
from .live import LIMITS, broken, busy, refused, slow

pytestmark = pytest.mark.long


def opened(visit: Visit) -> Page:
    page = visit.open("#file")
    choose(page, "Hausa (hau) · news", "hausa")
    return page


def test_a_whole_file(visit: Visit) -> None:
    page = opened(visit)
    texts = [f"the water of day {'night ' * (number % 7)}" for number in range(40)]
    rows = [f"{number}\t{text}" for number, text in enumerate(texts)]
    rows[9] = "9\t "
    rows[11] = "11\tculture\tone cell too many"
    texts[13], rows[13] = 'culture, "quoted"', '13\t"culture, ""quoted"""'
    rows[15] = "15\t" + "a long text " * 300
    take_file(page, "news.tsv", "id\ttext\n" + "\n".join(rows) + "\n")
    expect(page.locator("#table-size")).to_have_text("news.tsv: 40 rows, 2 columns.")
    expect(page.get_by_label("Text is in")).to_have_value("1")
    page.clock.install()
    page.route("**/v1/predict", busy, times=1)
    page.get_by_role("button", name="Classify all rows").click()
    expect(page.locator("#run-status")).to_contain_text("retrying in 1 s")
    page.clock.run_for(1000)
    expect(page.locator("#run-status")).to_have_text(
        "Done: 37 rows classified. 3 rows could not be classified; the column “error” says why."
    )
    found = downloaded(page)
    assert [row["id"] for row in found] == [str(number) for number in range(40)]
    assert {number: row["error"] for number, row in enumerate(found) if row["error"]} == {
        9: "no text",
        11: "the row has 3 cells, the table 2 columns",
        15: "more than 2,000 characters in one request; send fewer or shorter texts",
    }
    assert found[13]["text"] == texts[13]
    expected = {number: visit.service.expected("hau-news", texts[number]) for number in range(40)}
    classified = [number for number, row in enumerate(found) if not row["error"]]
    assert [found[number]["predicted"] for number in classified] == [expected[number].label for number in classified]
    for label, score in expected[12].scores.items():
        assert float(found[12][f"probability:{label}"]) == pytest.approx(score, abs=1e-4)
    assert found[12]["probability"] == found[12][f"probability:{found[12]['predicted']}"]
    assert (found[12]["classifier"], found[9]["predicted"]) == ("hau-news", "")
    assert sum(visit.batches) == 37
    assert max(visit.batches) == LIMITS.items
    label, number = Counter(expected[number].label for number in classified).most_common(1)[0]
    expect(page.locator("#run-summary li").first).to_contain_text(f"{label} {100 * number / 37:.1f} % ({number})")


def test_a_file_can_be_stopped_and_goes_on(visit: Visit) -> None:
    page = opened(visit)
    take_file(page, "lines.txt", "\ufeff" + "".join("water and day\n\n" for _ in range(300)))
    expect(page.locator("#table-size")).to_have_text("lines.txt: 300 rows, 1 column.")
    page.route("**/v1/predict", slow)
    page.get_by_role("button", name="Classify all rows").click()
    expect(page.locator("#run-count")).to_contain_text("left")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#run-status")).to_contain_text("Stopped after")
    half = downloaded(page)
    done = [row for row in half if row["predicted"]]
    assert len(half) == 300
    assert 0 < len(done) < 300
    assert half[-1]["error"] == "not classified"
    page.unroute("**/v1/predict")
    visit.batches.clear()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#run-status")).to_have_text("Done: 300 rows classified.")
    # A batch that was under way when the button was pressed may have been answered to nobody.
    assert 300 - len(done) <= sum(visit.batches) <= 300 - len(done) + LIMITS.items
    assert {row["predicted"] for row in downloaded(page)} == {visit.service.expected("hau-news", "water and day").label}


def test_pairs_and_found_languages_in_a_file(visit: Visit) -> None:
    page = visit.open("#file")
    choose(page, "Ayacucho Quechua (quy) · nli", "quy")
    take_file(page, "pairs.csv", 'sentence1;sentence2\n"water; day";night\nking;day\n')
    expect(page.get_by_label("Premise is in")).to_have_value("0")
    page.get_by_label("Hypothesis is in").select_option("sentence2")
    page.get_by_role("button", name="Classify all rows").click()
    expect(page.locator("#run-status")).to_have_text("Done: 2 rows classified.")
    found = downloaded(page)
    for row, pair in zip(found, [("water; day", "night"), ("king", "day")], strict=True):
        expected = visit.service.expected("quy-nli", pair)
        assert row["predicted"] == expected.label
        assert float(row["probability"]) == pytest.approx(expected.scores[expected.label], abs=1e-4)
    choose(page, "Detect the language · news", "find")
    expect(page.locator("#run")).to_be_hidden()
    page.get_by_label("The first line names the columns").uncheck()
    page.get_by_label("Text is in").select_option("column 2")
    page.get_by_role("button", name="Classify all rows").click()
    expect(page.locator("#run-status")).to_have_text("Done: 3 rows classified.")
    first = downloaded(page)[0]
    assert first["column 2"] == "sentence2"
    assert first["predicted"] == visit.service.expected(first["classifier"], "sentence2").label


def test_a_file_that_is_dropped(visit: Visit) -> None:
    """By mouse: over the area, away again, and let go on it."""
    page = opened(visit)
    file = page.evaluate_handle(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["water\\nday\\n"], "dropped.txt", { type: "text/plain" }));
            return data;
        }"""
    )
    area = page.locator("#drop")
    area.dispatch_event("dragover", {"dataTransfer": file})
    expect(area).to_have_class("drop over")
    area.dispatch_event("dragleave", {"dataTransfer": file})
    expect(area).to_have_class("drop")
    page.locator("footer").dispatch_event("drop", {"dataTransfer": file})
    expect(page.locator("#table")).to_be_hidden()  # beside the area nothing happens, the page least of all
    area.dispatch_event("drop", {"dataTransfer": file})
    expect(page.locator("#table-size")).to_have_text("dropped.txt: 2 rows, 1 column.")
    expect(area).to_have_class("drop")
    page.get_by_role("button", name="Classify all rows").click()
    expect(page.locator("#run-status")).to_have_text("Done: 2 rows classified.")
    assert [row["predicted"] for row in downloaded(page)] == visit.service.labels("hau-news", ["water", "day"])


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("table.xlsx", b"PK", "expected a file that ends in .txt, .tsv or .csv"),
        ("latin.csv", "text\ncaf\u00e9\n".encode("latin-1"), "latin.csv: it is not text in UTF-8"),
        ("open.csv", 'id,text\n1,"never closed\n2,b\n', "open.csv, line 2: a quote is opened"),
        ("empty.txt", b"\n \n", "the file contains no text"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read(visit: Visit, name: str, data: str | bytes, said: str) -> None:
    page = opened(visit)
    take_file(page, name, data)
    expect(page.locator("#file-error")).to_contain_text(said)
    expect(page.locator("#table")).to_be_hidden()
    take_file(page, "fine.tsv", 'text\nhe said "no\n')  # in a TSV a quote may be a character like any other
    expect(page.locator("#file-error")).to_be_hidden()
    expect(page.locator("#preview td")).to_have_text(['he said "no'])


def test_a_file_that_is_too_large(visit: Visit, tmp_path: Path) -> None:
    large = tmp_path / "large.tsv"
    with large.open("wb") as file:
        file.truncate(21 * 2**20)
    page = opened(visit)
    page.get_by_label("File", exact=True).set_input_files(large)
    said = "large.tsv has 21.0 MB; at most 20.0 MB are read here. Cut it into parts"
    expect(page.get_by_role("alert").filter(has_text=said)).to_be_visible()
    expect(page.locator("#table")).to_be_hidden()


def test_quotes_of_a_tsv_take_no_rows(visit: Visit) -> None:
    page = opened(visit)
    take_file(page, "quotes.tsv", 'text\tid\n"left\t1\nwater\t2\nright"\t3\n')
    expect(page.locator("#table-size")).to_have_text("quotes.tsv: 3 rows, 2 columns.")
    take_file(page, "lines.tsv", 'text\tid\n"two\nlines"\t1\n')
    expect(page.locator("#table-size")).to_have_text("lines.tsv: 1 row, 2 columns.")


def test_asking_again_which_classifiers_there_are_keeps_what_was_done(visit: Visit) -> None:
    """Also while a file runs, and after the token was asked for in its middle."""
    page = opened(visit)
    take_file(page, "two.tsv", "note\ttext\n" + "a rather long note of somebody\twater\n" * 30)
    page.get_by_label("Text is in").select_option("note")
    page.route("**/v1/predict", refused, times=1)
    page.get_by_role("button", name="Classify all rows").click()
    expect(page.locator("#run-error")).to_contain_text("Finished rows are kept.")
    page.get_by_label("Token").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#token-form")).to_be_hidden()
    page.route("**/v1/predict", slow)
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#run-count")).to_contain_text("left")
    page.get_by_role("link", name="Classifiers", exact=True).click()
    with page.expect_response("**/v1/classifiers"):
        page.get_by_role("button", name="Refresh").click()
    page.get_by_role("link", name="Whole file").click()
    expect(page.locator("#run-status")).to_have_text("Done: 30 rows classified.")
    expect(page.get_by_label("Text is in")).to_have_value("0")
    assert {row["predicted"] for row in downloaded(page)} == set(
        visit.service.labels("hau-news", ["a rather long note of somebody"])
    )
    without = page.evaluate("fetch('v1/classifiers').then((answer) => answer.json())")
    without["classifiers"] = [card for card in without["classifiers"] if card["name"] != "hau-news"]
    page.route("**/v1/classifiers", lambda route: route.fulfill(json=without))
    page.get_by_role("link", name="Classifiers", exact=True).click()
    page.get_by_role("button", name="Refresh").click()
    expect(page.locator("#cards-status")).to_have_text("5 of 5 classifiers")
    page.get_by_role("link", name="Whole file").click()
    expect(page.locator("#run")).to_be_hidden()  # its classifier is gone


def test_the_file_that_was_chosen_last_is_taken(visit: Visit) -> None:
    page = opened(visit)
    take_file(page, "late.txt", "water\n" * 3)
    expect(page.locator("#table-size")).to_have_text("late.txt: 3 rows, 1 column.")
    with page.expect_file_chooser():
        page.get_by_label("File", exact=True).click()
    # Nothing chosen, so that a browser tells of the same file, mended, as of another.
    assert page.get_by_label("File", exact=True).evaluate("(input) => input.files.length") == 0
    page.evaluate(
        """() => {
            const read = File.prototype.arrayBuffer;
            window.slowly = [];
            File.prototype.arrayBuffer = function () {
                if (this.name !== "late.txt") return read.call(this);
                return new Promise((resolve) => window.slowly.push(() => resolve(read.call(this))));
            };
        }"""
    )
    take_file(page, "late.txt", "water\n" * 3)
    take_file(page, "soon.txt", "day\n")
    expect(page.locator("#table-size")).to_have_text("soon.txt: 1 row, 1 column.")
    page.evaluate("async () => { window.slowly[0](); await new Promise((done) => setTimeout(done, 50)); }")
    expect(page.locator("#table-size")).to_have_text("soon.txt: 1 row, 1 column.")
    expect(page.locator("#preview td")).to_have_text(["day"])


def test_a_row_is_blamed_for_too_many_characters_only_where_it_stands_alone(visit: Visit) -> None:
    """The service names the item at which the sum crosses its limit; the page may know an older limit."""
    page = visit.open()
    rows = page.evaluate(
        """async () => {
            const { classifyAll } = await import("./static/batches.js");
            const { ServiceError } = await import("./static/service.js");
            const rows = [3, 3, 3, 9, 3].map((length) => ({ item: { length }, result: null, error: null }));
            const predict = async (items) => {
                let sum = 0;
                items.forEach(({ length }, item) => {
                    sum += length;
                    const metadata = { status: 413, code: "too_many_characters", item };
                    if (sum > 6) throw new ServiceError("too many", metadata);
                });
                return items.map(({ length }) => length);
            };
            const limits = { items: 8, characters: 1000, body_bytes: 1000 };
            await classifyAll(rows, { predict, limits, signal: new AbortController().signal, report() {} });
            return rows.map(({ result, error }) => result ?? error);
        }"""
    )
    assert rows == [3, 3, 3, "too many", 3]


def test_a_file_survives_a_service_that_fails(visit: Visit) -> None:
    page = opened(visit)
    take_file(page, "lines.txt", "water\n" * 10)
    page.clock.install()
    page.route("**/v1/predict", broken)
    page.get_by_role("button", name="Classify all rows").click()
    for _ in range(3):
        expect(page.locator("#run-status")).to_contain_text("retrying in")
        page.clock.run_for(5000)
    expect(page.locator("#run-error")).to_contain_text("The service failed (500)")
    page.unroute("**/v1/predict")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#run-status")).to_have_text("Done: 10 rows classified.")
