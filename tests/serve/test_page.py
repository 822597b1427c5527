"""The page in a real browser: what people do with it, and that nobody is shut out."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright (extra dev)")

from playwright.sync_api import Browser, Locator, Page, expect  # noqa: E402

from .fake_service import BAD_WORD, FakeService, running  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page's tests need Chromium (apt install chromium)")

ACCESSIBILITY = (Path(__file__).parent / "accessibility.js").read_text(encoding="utf-8")
SHOTS = os.environ.get("GLOTPROMPT_SCREENSHOTS")
"""A folder for pictures of the page, for a person to look at."""

expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as started:
        # Chromium's sandbox does not start as root, which continuous integration often is.
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def service() -> Iterator[FakeService]:
    with running() as service:
        yield service


class Visit:
    """A browser window on the service; at the end it must have asked nobody else and met no error."""

    def __init__(self, browser: Browser, service: FakeService) -> None:
        self._browser, self.service = browser, service
        self.complaints: list[str] = []
        self._asked: list[str] = []
        self._contexts: list[Any] = []

    def open(self, path: str = "", width: int = 1280, height: int = 900, **options: Any) -> Page:
        context = self._browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", **options
        )
        self._contexts.append(context)
        page: Page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._asked.append(request.url))
        page.goto(self.service.url + path)
        page.locator("body[data-ready]").wait_for(state="attached")
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        ours = (self.service.url, f"blob:{self.service.url}")
        assert [url for url in self._asked if not url.startswith(ours)] == []
        assert self._asked, "a page that asks for nothing was not watched"


@pytest.fixture
def visit(browser: Browser, service: FakeService) -> Iterator[Visit]:
    visit = Visit(browser, service)
    yield visit
    visit.close()
    # Chromium writes each answer of 4xx and 5xx to the console by itself.
    assert [said for said in visit.complaints if "the server responded with a status of" not in said] == []


def text_area(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Text", exact=True)


def choose(page: Page, title: str, query: str, label: str = "Language and task") -> None:
    field = page.get_by_role("combobox", name=label)
    field.click()
    field.fill(query)
    page.get_by_role("option", name=title).click()


def take_file(page: Page, name: str, text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    page.get_by_label("File", exact=True).set_input_files({"name": name, "mimeType": "text/plain", "buffer": data})


def downloaded(page: Page) -> list[dict[str, str]]:
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download the predictions").click()
    text = Path(waiting.value.path()).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


def test_classifies_a_text(visit: Visit) -> None:
    page = visit.open()
    choose(page, "Shona (sna) · news", "shona")
    text_area(page).fill("health and health, then sports")
    page.get_by_role("button", name="Classify").click()
    result = page.locator("article.result")
    expect(result.get_by_role("heading")).to_have_text("Shona (sna) · news")
    expect(result.locator(".answer")).to_have_text("health 51.6 %")
    expect(result.locator(".bars li")).to_have_count(5)
    expect(page.get_by_role("status").filter(has_text="Shona")).to_have_text("Shona (sna) · news: health, 51.6 %.")
    expect(page.locator("mark")).to_have_count(0)
    widths = [bar.bounding_box()["width"] for bar in page.locator(".fill").all()]  # type: ignore[index]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.01)
    assert visit.complaints == []


@pytest.mark.slow
def test_search_finds_names_codes_and_tasks(visit: Visit) -> None:
    page = visit.open()
    field = page.get_by_role("combobox", name="Language and task")
    for query, titles in {
        "yoruba": ["Yorùbá (yor) · news"],
        "quy": ["Quechua (quy) · nli"],
        "nli": ["Quechua (quy) · nli"],
        "news xxx": ["xxx · news"],
        "find": ["Find the language · news"],
        "klingon": [],
    }.items():
        field.fill(query)
        found = page.get_by_role("listbox").get_by_role("option")
        expect(found).to_have_count(len(titles))
        assert [option.locator("span").first.text_content() for option in found.all()] == titles
    expect(page.get_by_text("Nothing found")).to_be_visible()
    field.press("Escape")
    expect(field).to_have_value("Hausa (hau) · news")


@pytest.mark.slow
def test_marks_what_the_model_cannot_read_and_takes_texts_as_texts(visit: Visit) -> None:
    page = visit.open()
    text_area(page).fill("ǃkwi <img src=x onerror=alert(1)> aǁǁb")
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("mark")).to_have_text(["ǃ", "ǁǁ"])
    expect(page.locator(".read")).to_have_text("ǃkwi <img src=x onerror=alert(1)> aǁǁb")
    expect(page.locator(".note")).to_contain_text("2 characters that the model cannot read: ǃ (U+01C3), ǁ (U+01C1)")
    assert page.locator("main img").count() == 0


@pytest.mark.slow
def test_pairs_and_examples(visit: Visit) -> None:
    page = visit.open()
    choose(page, "Quechua (quy) · nli", "quy")
    expect(text_area(page)).to_have_count(0)
    page.get_by_role("button", name="It rains. / The street is wet.").click()
    expect(page.get_by_label("Premise")).to_have_value("It rains.")
    expect(page.get_by_label("Hypothesis")).to_have_value("The street is wet.")
    page.keyboard.press("Enter")
    expect(page.locator(".answer strong")).to_have_text("contradiction")
    choose(page, "Shona (sna) · news", "sna")
    page.get_by_role("button", name="<b>Not</b> bold").click()
    expect(text_area(page)).to_have_value("<b>Not</b> bold & long " * 8)


@pytest.mark.slow
def test_compares_several_languages(visit: Visit) -> None:
    page = visit.open()
    text_area(page).fill("sports")
    page.get_by_text("Compare with other languages").click()
    choose(page, "Yorùbá (yor) · news", "yor", "Add a classifier")
    page.get_by_role("button", name="Add all of this task").click()
    expect(page.get_by_role("list", name="Compared with").get_by_role("listitem")).to_have_count(4)
    page.get_by_role("button", name="Remove xxx · news").click()
    page.get_by_role("button", name="Compare 4 classifiers").click()
    expect(page.locator("article.result h4")).to_have_text(
        ["Hausa (hau) · news", "Yorùbá (yor) · news", "Shona (sna) · news", "Tigrinya (tir) · news"]
    )
    expect(page.locator("#results-status")).to_have_text("4 classifiers say: sports 3, politics 1.")
    choose(page, "Quechua (quy) · nli", "quy")  # reads pairs: nothing to compare it with
    expect(page.get_by_role("button", name="Classify")).to_be_visible()


@pytest.mark.slow
def test_finds_the_language(visit: Visit) -> None:
    page = visit.open()
    choose(page, "Find the language · news", "find")
    text_area(page).fill("culture")
    page.get_by_role("button", name="Classify").click()
    expect(page.locator(".candidates li")).to_have_count(5)
    page.get_by_role("button", name="Use Shona (sna) · news").click()
    expect(page.locator("article.result h4")).to_have_text("Shona (sna) · news")
    expect(page.get_by_role("combobox", name="Language and task")).to_have_value("Shona (sna) · news")


@pytest.mark.slow
def test_a_whole_file(visit: Visit) -> None:
    visit.service.busy = 1
    page = visit.open("#file")
    rows = [f"{number}\tsports {number}" for number in range(40)]
    rows[7] = "7\t" + BAD_WORD
    rows[9] = "9\t "
    rows[11] = "11\tculture\tone cell too many"
    rows[13] = '13\t"culture, ""quoted"""'
    rows[15] = "15\t" + "a long text " * 300
    take_file(page, "news.tsv", "id\ttext\n" + "\n".join(rows) + "\n")
    expect(page.locator("#table-size")).to_have_text("news.tsv: 40 rows, 2 columns.")
    expect(page.get_by_label("Text is in")).to_have_value("1")
    page.clock.install()
    page.get_by_role("button", name="Classify all rows").click()
    expect(page.locator("#run-status")).to_contain_text("going on in 1 s")
    page.clock.run_for(1000)
    expect(page.locator("#run-status")).to_have_text(
        "Done: 36 rows classified. 4 rows could not be classified; the column “error” says why."
    )
    found = downloaded(page)
    assert [row["id"] for row in found] == [str(number) for number in range(40)]
    assert {number: row["error"] for number, row in enumerate(found) if row["error"]} == {
        7: "the text cannot be read; leave it out",
        9: "no text",
        11: "the row has 3 cells, the table 2 columns",
        15: "more than 2000 characters; send fewer",
    }
    assert found[13]["text"] == 'culture, "quoted"'
    assert (found[13]["predicted"], found[12]["predicted"], found[7]["predicted"]) == ("culture", "sports", "")
    assert found[12]["probability"] == found[12]["probability:sports"] == "0.5161"
    assert found[12]["classifier"] == "hau-news"
    assert sum(visit.service.batches) == 36
    assert max(visit.service.batches) == visit.service.limits["items"]
    expect(page.locator("#run-summary li").first).to_contain_text("sports 97.2 % (35)")


@pytest.mark.slow
def test_a_file_can_be_stopped_and_goes_on(visit: Visit) -> None:
    visit.service.seconds = 0.1
    page = visit.open("#file")
    take_file(page, "lines.txt", "\ufeff" + "".join(f"health {number}\n\n" for number in range(300)))
    expect(page.locator("#table-size")).to_have_text("lines.txt: 300 rows, 1 column.")
    page.get_by_role("button", name="Classify all rows").click()
    expect(page.locator("#run-count")).to_contain_text("left")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#run-status")).to_contain_text("Stopped after")
    half = downloaded(page)
    done = [row for row in half if row["predicted"]]
    assert len(half) == 300
    assert 0 < len(done) < 300
    assert half[-1]["error"] == "not classified"
    visit.service.seconds = 0
    visit.service.batches.clear()
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#run-status")).to_have_text("Done: 300 rows classified.")
    # A batch that was under way when the button was pressed may have been answered to nobody.
    assert 300 - len(done) <= sum(visit.service.batches) <= 300 - len(done) + visit.service.limits["items"]
    assert all(row["predicted"] == "health" for row in downloaded(page))


@pytest.mark.slow
def test_pairs_and_found_languages_in_a_file(visit: Visit) -> None:
    page = visit.open("#file")
    choose(page, "Quechua (quy) · nli", "quy")
    take_file(page, "pairs.csv", 'sentence1;sentence2\n"neutral; neutral";b\nc;entailment\n')
    expect(page.get_by_label("Premise is in")).to_have_value("0")
    page.get_by_label("Hypothesis is in").select_option("sentence2")
    page.get_by_role("button", name="Classify all rows").click()
    expect(page.locator("#run-status")).to_have_text("Done: 2 rows classified.")
    assert [row["predicted"] for row in downloaded(page)] == ["neutral", "entailment"]
    choose(page, "Find the language · news", "find")
    expect(page.locator("#run")).to_be_hidden()
    page.get_by_label("The first line names the columns").uncheck()
    page.get_by_label("Text is in").select_option("column 2")
    page.get_by_role("button", name="Classify all rows").click()
    expect(page.locator("#run-status")).to_have_text("Done: 3 rows classified.")
    assert downloaded(page)[0]["column 2"] == "sentence2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("table.xlsx", b"PK", "expected a file that ends in .txt, .tsv or .csv"),
        ("latin.csv", "text\ncaf\u00e9\n".encode("latin-1"), "latin.csv: it is not text in UTF-8"),
        ("open.csv", 'id,text\n1,"never closed\n2,b\n', "open.csv, line 2: a quote is opened"),
        ("empty.txt", b"\n \n", "there is no text in it"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read(visit: Visit, name: str, data: str | bytes, said: str) -> None:
    page = visit.open("#file")
    take_file(page, name, data)
    expect(page.locator("#file-error")).to_contain_text(said)
    expect(page.locator("#table")).to_be_hidden()
    take_file(page, "fine.tsv", 'text\nhe said "no\n')  # in a TSV a quote may be a character like any other
    expect(page.locator("#file-error")).to_be_hidden()
    expect(page.locator("#preview td")).to_have_text(['he said "no'])


@pytest.mark.slow
def test_a_file_that_is_too_large(visit: Visit, tmp_path: Path) -> None:
    large = tmp_path / "large.tsv"
    with large.open("wb") as file:
        file.truncate(21 * 2**20)
    page = visit.open("#file")
    page.get_by_label("File", exact=True).set_input_files(large)
    said = "large.tsv has 21.0 MB; at most 20.0 MB are read here. Cut it into parts"
    expect(page.get_by_role("alert").filter(has_text=said)).to_be_visible()
    expect(page.locator("#table")).to_be_hidden()


@pytest.mark.slow
def test_a_file_survives_a_service_that_fails(visit: Visit) -> None:
    page = visit.open("#file")
    take_file(page, "lines.txt", "health\n" * 10)
    page.clock.install()
    visit.service.failing = True
    page.get_by_role("button", name="Classify all rows").click()
    for _ in range(3):
        expect(page.locator("#run-status")).to_contain_text("going on in")
        page.clock.run_for(5000)
    expect(page.locator("#run-error")).to_contain_text("The service failed (500)")
    visit.service.failing = False
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#run-status")).to_have_text("Done: 10 rows classified.")


@pytest.mark.slow
def test_errors_in_plain_words(visit: Visit) -> None:
    page = visit.open()
    button, error = page.get_by_role("button", name="Classify"), page.locator("#classify-error")
    button.click()
    expect(error).to_have_text("There is nothing to classify yet: type or paste a text.")
    expect(text_area(page)).to_be_focused()
    text_area(page).fill(BAD_WORD)
    button.click()
    expect(error).to_have_text("the text cannot be read; leave it out")
    visit.service.failing = True
    text_area(page).fill("health")
    button.click()
    expect(error).to_contain_text("The service failed (500)")
    visit.service.failing = False
    page.route("**/v1/predict", lambda route: route.abort())
    button.click()
    expect(error).to_contain_text("The service does not answer")
    page.unroute("**/v1/predict")
    button.click()
    expect(page.locator(".answer strong")).to_have_text("health")
    expect(error).to_be_hidden()
    visit.complaints = [said for said in visit.complaints if "ERR_FAILED" not in said]  # what `abort` writes


@pytest.mark.slow
def test_a_token_only_where_it_is_asked_for(visit: Visit) -> None:
    page = visit.open()
    expect(page.get_by_label("Token")).to_be_hidden()
    visit.service.token = "open sesame"
    page = visit.open()
    expect(page.get_by_label("Token")).to_be_focused()
    expect(page.get_by_role("combobox")).to_have_count(1)  # that of the colours
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#token-error")).to_have_text("The service does not know this token.")
    page.keyboard.type("open sesame")
    page.keyboard.press("Enter")
    text_area(page).fill("health")
    page.get_by_role("button", name="Classify").click()
    expect(page.locator(".answer strong")).to_have_text("health")
    page.reload()
    expect(text_area(page)).to_be_visible()
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"


@pytest.mark.slow
def test_cards(visit: Visit) -> None:
    page = visit.open("#classifiers")
    expect(page.locator("#cards > li")).to_have_count(6)
    expect(page.locator("#unreadable")).to_contain_text("broken.safetensors: it is cut off; copy it again")
    page.get_by_label("Search").fill("entailment")
    card = page.locator("#cards > li")
    expect(card).to_have_count(1)
    for fact in ("Quechua (quy)", "73.4 %", "2,200", "4,210", "1.1 MB", "Nov 20, 2026"):
        expect(card).to_contain_text(fact)
    page.get_by_role("button", name="Use Quechua (quy) · nli").click()
    expect(page.get_by_label("Premise")).to_be_visible()
    expect(page.get_by_role("heading", name="Classify a text")).to_be_focused()
    visit.service.cards = [{**visit.service.cards[0], "name": f"c{number}"} for number in range(2000)]
    page.get_by_role("link", name="Classifiers").click()
    page.get_by_role("button", name="Ask again").click()
    page.get_by_label("Search").fill("")
    expect(page.locator("#cards-status")).to_have_text("2,000 of 2,000 classifiers")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#cards > li")).to_have_count(120)


@pytest.mark.slow
def test_by_keyboard_alone(visit: Visit) -> None:
    page = visit.open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    field = page.get_by_role("combobox", name="Language and task")
    expect(field).to_be_focused()
    page.keyboard.type("tig")
    option = page.get_by_role("option", name="Tigrinya")
    expect(option).to_have_id(field.get_attribute("aria-activedescendant") or "")
    page.keyboard.press("Enter")
    expect(field).to_have_value("Tigrinya (tir) · news")
    expect(field).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(field).to_have_value("xxx · news")
    page.keyboard.press("Tab")
    expect(text_area(page)).to_be_focused()
    page.keyboard.type("politics")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".answer strong")).to_have_text("politics")
    style = "getComputedStyle(document.activeElement)"
    assert page.evaluate(f"{style}.outlineStyle + {style}.outlineWidth") == "solid3px"
    page.get_by_role("link", name="Whole file").press("Enter")
    expect(page.get_by_role("heading", name="Classify a whole file")).to_be_focused()
    assert page.title() == "Classify a whole file · glotprompt"


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_view_can_be_read_and_fits(visit: Visit, width: int, colours: str) -> None:
    visit.service.failing = False
    page = visit.open(width=width, height=844, color_scheme=colours)

    def look(name: str) -> None:
        assert page.evaluate(ACCESSIBILITY) == [], name
        sideways = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert sideways == 0, f"{name} scrolls sideways by {sideways} px"
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/{name}-{width}-{colours}.png", full_page=True)

    choose(page, "Shona (sna) · news", "shona")
    text_area(page).fill("health ǃkwi ǁ " + "x" * 200)
    page.get_by_role("button", name="Classify").click()
    page.locator(".answer").wait_for()
    look("result")
    page.get_by_role("combobox", name="Language and task").click()
    look("search")
    page.keyboard.press("Escape")
    choose(page, "Find the language · news", "find")
    text_area(page).fill("ጥዕና culture ǁ " + "ሰላም ኩሉ " * 20)
    page.get_by_text("Compare with other languages").click()
    page.get_by_role("button", name="Add all of this task").click()
    page.get_by_role("button", name="Compare 6 classifiers").click()
    expect(page.locator("article.result")).to_have_count(6)
    look("compare")
    text_area(page).fill(BAD_WORD)
    page.get_by_role("button", name="Compare 6 classifiers").click()
    page.locator("#classify-error").wait_for()
    look("refused")
    page.get_by_role("link", name="Whole file").click()
    cells = "نص قصير من اليمين إلى اليسار"
    take_file(page, "long-name-of-a-file.tsv", "id\ttext\tsource\n" + f"1\t{cells}\t{'http://' + 'x' * 90}\n" * 30)
    page.get_by_role("button", name="Classify all rows").click()
    page.get_by_role("link", name="Download the predictions").wait_for()
    look("file")
    page.get_by_role("link", name="Classifiers").click()
    look("classifiers")


@pytest.mark.slow
def test_right_to_left_texts_and_the_choice_of_colours(visit: Visit) -> None:
    page = visit.open(color_scheme="light")
    area = text_area(page)
    area.fill("نص قصير")
    assert area.evaluate("(element) => getComputedStyle(element).direction") == "rtl"
    page.get_by_label("Colours").select_option("dark")
    page.reload()
    expect(page.get_by_label("Colours")).to_have_value("dark")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
