"""The page in a real browser, on the real service: what people do with it, and that nobody is shut out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright (extra dev)")

from playwright.sync_api import Page, expect

import glotprompt as gp

from .browser import Visit, choose, classify, controls_of, look, take_file, text_area, tree_of
from .live import LIMITS, broken, changing, running

TEXT = "the king and the water, then the market"
TOO_LONG = "word " * (LIMITS.characters // 5 + 1)
CARDS = ["Hausa (hau) · news", "Kabiyè (kbp) · news", "Shona (sna) · news", "Tigrinya (tir) · news", "xxx · news"]
"""Titles of what classifies news, in the order of `NAMES`."""
NAMES = ["hau-news", "kbp-news", "sna-news", "tir-news", "xxx-news"]


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def expect_answer(page: Page, prediction: gp.Prediction) -> None:
    best = prediction.scores[prediction.label]
    expect(page.locator("article.result .answer")).to_have_text(f"{prediction.label} {percent(best)}")


def test_classifies_a_text(visit: Visit) -> None:
    page = visit.open()
    choose(page, "Shona (sna) · news", "shona")
    classify(page, TEXT)
    expected = visit.service.expected("sna-news", TEXT)
    said = f"Shona (sna) · news: {expected.label}, {percent(max(expected.scores.values()))}."
    expect(page.get_by_role("status").filter(has_text="Shona")).to_have_text(said)
    expect_answer(page, expected)
    result = page.locator("article.result")
    expect(result.get_by_role("heading")).to_have_text("Shona (sna) · news")
    order = sorted(expected.scores, key=lambda label: -expected.scores[label])
    expect(result.locator(".bars .label")).to_have_text(order)
    expect(page.locator("mark")).to_have_count(0)
    first, second = sorted(expected.scores.values(), reverse=True)[:2]
    expect(result).to_have_class("result unsure" if first - second < 0.2 else "result")
    expect(result.locator(".doubt")).to_have_count(int(first - second < 0.2))
    page.set_viewport_size({"width": 390, "height": 844})
    box = page.get_by_role("button", name="Classify", exact=True).bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 844, "on a phone the button is seen"
    widths = [bar.bounding_box()["width"] for bar in page.locator(".fill").all()]  # type: ignore[index]
    assert widths == sorted(widths, reverse=True)
    shares = [expected.scores[label] for label in order]
    assert widths[0] / widths[1] == pytest.approx(shares[0] / shares[1], rel=0.05)
    assert visit.complaints == []


@pytest.mark.long
def test_search_finds_names_codes_and_tasks(visit: Visit) -> None:
    page = visit.open()
    field = page.get_by_role("combobox", name="Language and task")
    for query, titles in {
        "kabiye": ["Kabiyè (kbp) · news"],
        "quy": ["Ayacucho Quechua (quy) · nli"],
        "nli": ["Ayacucho Quechua (quy) · nli"],
        "news xxx": ["xxx · news"],
        "find": ["Detect the language · news"],
        "klingon": [],
    }.items():
        field.fill(query)
        found = page.get_by_role("listbox").get_by_role("option")
        expect(found).to_have_count(len(titles))
        assert [option.locator("span").first.text_content() for option in found.all()] == titles
    expect(page.get_by_text("Nothing found")).to_be_visible()
    field.press("Escape")
    expect(field).to_have_value("Ayacucho Quechua (quy) · nli")


@pytest.mark.long
def test_marks_what_the_model_cannot_read_and_takes_texts_as_texts(visit: Visit) -> None:
    page = visit.open()
    choose(page, "Hausa (hau) · news", "hausa")
    classify(page, "ǃkwi <img src=x onerror=alert(1)> aǁǁb")
    expect(page.locator("mark")).to_have_text(["ǃ", "<", "=", "=", "(1)>", "ǁǁ"])
    expect(page.locator(".read")).to_have_text("ǃkwi <img src=x onerror=alert(1)> aǁǁb")
    expect(page.locator(".note")).to_contain_text("8 characters that the model cannot read: ǃ (U+01C3), < (U+003C)")
    assert page.locator("main img").count() == 0
    classify(page, "water " * 200)
    expect(page.locator(".note")).to_have_text("The text is longer than the classifier's maximum length and was cut.")


@pytest.mark.long
def test_pairs_and_examples(visit: Visit) -> None:
    page = visit.open()
    choose(page, "Ayacucho Quechua (quy) · nli", "quy")
    expect(text_area(page)).to_have_count(0)
    title = page.get_by_role("heading", name="Examples in")
    expect(title).to_have_text("Examples in the language that it learnt the task in")
    page.get_by_role("button", name="there was water / the street was wet").click()
    expect(page.get_by_label("Premise")).to_have_value("there was water")
    expect(page.get_by_label("Hypothesis")).to_have_value("the street was wet")
    page.keyboard.press("Enter")
    expect_answer(page, visit.service.expected("quy-nli", ("there was water", "the street was wet")))
    choose(page, "Shona (sna) · news", "sna")
    expect(title).to_have_text("Examples in Shona (sna)")
    page.get_by_role("button", name="<b>not</b> bold").click()
    expect(text_area(page)).to_have_value("<b>not</b> bold & long " * 8)
    choose(page, "Detect the language · news", "find")  # those in the languages themselves
    expect(page.locator("#examples button")).to_have_count(2)
    choose(page, "xxx · news", "xxx")
    expect(page.locator("#examples")).to_be_hidden()


@pytest.mark.long
def test_compares_several_languages(visit: Visit) -> None:
    page = visit.open()
    choose(page, "Hausa (hau) · news", "hausa")
    page.get_by_text("Compare with other languages").click()
    choose(page, "Kabiyè (kbp) · news", "kbp", "Add a classifier")
    page.get_by_role("button", name="Add all of this task").click()
    expect(page.get_by_role("list", name="Compared with").get_by_role("listitem")).to_have_count(4)
    page.get_by_role("button", name="Remove xxx · news").click()
    classify(page, TEXT)
    expect(page.locator("article.result h4")).to_have_text(CARDS[:4])
    labels = [visit.service.expected(name, TEXT).label for name in NAMES[:4]]
    expect(page.locator("article.result .answer strong")).to_have_text(labels)
    votes = ", ".join(f"{label} {number}" for label, number in Counter(labels).most_common())
    expect(page.locator("#results-status")).to_have_text(f"4 classifiers say: {votes}.")
    choose(page, "Ayacucho Quechua (quy) · nli", "quy")  # reads pairs: nothing to compare it with
    expect(page.get_by_role("button", name="Classify")).to_be_visible()


@pytest.mark.long
def test_finds_the_language(visit: Visit) -> None:
    page = visit.open()
    choose(page, "Detect the language · news", "find")
    classify(page, TEXT)
    expect(page.locator(".candidates li")).to_have_count(5)
    losses = [float(text.removeprefix("loss ")) for text in page.locator(".candidates .share").all_text_contents()]
    assert losses == sorted(losses)
    nearest = page.locator(".candidates .grow").first.text_content()
    expect(page.locator("article.result h4")).to_have_text(str(nearest))
    page.get_by_role("button", name="Use Shona (sna) · news").click()
    expect(page.locator("article.result h4")).to_have_text("Shona (sna) · news")
    expect(page.get_by_role("combobox", name="Language and task")).to_have_value("Shona (sna) · news")


@pytest.mark.long
def test_errors_in_plain_words(visit: Visit) -> None:
    page = visit.open()
    choose(page, "Hausa (hau) · news", "hausa")
    button, error = page.get_by_role("button", name="Classify"), page.locator("#classify-error")
    button.click()
    expect(error).to_have_text("There is nothing to classify yet: type or paste a text.")
    expect(text_area(page)).to_be_focused()
    classify(page, TOO_LONG)
    expect(error).to_have_text("more than 2,000 characters in one request; send fewer or shorter texts")
    page.route("**/v1/predict", broken)
    classify(page, TEXT)
    expect(error).to_contain_text("The service failed (500)")
    page.unroute("**/v1/predict")
    page.route("**/v1/predict", changing)
    button.click()
    expect(error).to_have_text("this classifier's file is being changed")
    page.unroute("**/v1/predict")
    page.route("**/v1/predict", lambda route: route.abort())
    button.click()
    expect(error).to_contain_text("The service does not answer")
    page.unroute("**/v1/predict")
    button.click()
    expect_answer(page, visit.service.expected("hau-news", TEXT))
    expect(error).to_be_hidden()
    visit.complaints = [said for said in visit.complaints if "ERR_FAILED" not in said]  # what `abort` writes


@pytest.fixture
def locked(browser: Any, backbone: gp.Backbone, tmp_path: Path) -> Iterator[Visit]:
    """A visit to a service that asks for a token."""
    with running(backbone, tmp_path, token="open sesame") as service:
        visit = Visit(browser, service)
        yield visit
        visit.close()


@pytest.mark.long
def test_a_token_only_where_it_is_asked_for(visit: Visit, locked: Visit) -> None:
    expect(visit.open().get_by_label("Token")).to_be_hidden()
    page = locked.open()
    expect(page.get_by_label("Token")).to_be_focused()
    expect(page.get_by_role("combobox")).to_have_count(1)  # that of the colours
    page.keyboard.type("sésame")
    page.keyboard.press("Enter")
    expect(page.locator("#token-error")).to_contain_text("This cannot be the token")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#token-error")).to_have_text("The service does not accept this token.")
    page.goto(f"{locked.service.url}docs")
    expect(page.get_by_role("alert")).to_contain_text("does not accept this token. Open “Classify” above")
    page.get_by_role("link", name="Classify").click()
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type("open sesame")
    page.keyboard.press("Enter")
    choose(page, "Shona (sna) · news", "shona")
    classify(page, TEXT)
    expect(page.locator(".answer strong")).to_be_visible()
    page.reload()
    expect(page.get_by_role("combobox", name="Language and task")).to_be_visible()
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"
    page.get_by_role("link", name="the service’s description").click()
    expect(page.locator("#post-v1-predict")).to_be_visible()


@pytest.mark.long
def test_a_browser_that_keeps_nothing(locked: Visit) -> None:
    page = locked.open()
    page.add_init_script(
        """Object.defineProperty(window, "sessionStorage", {
            get() { throw new DOMException("", "SecurityError"); },
        });"""
    )
    page.reload()
    page.get_by_label("Token").fill("open sesame")
    page.keyboard.press("Enter")
    choose(page, "Shona (sna) · news", "shona")
    classify(page, TEXT)
    expect(page.locator(".answer strong")).to_be_visible()


@pytest.mark.long
def test_many_classifiers_and_some_without_a_prompt(visit: Visit) -> None:
    page = visit.open()
    found = page.evaluate("fetch('v1/classifiers').then((answer) => answer.json())")
    one = {**found["classifiers"][0], "finds_language": False}
    others = [{**one, "name": f"c{number}", "language": f"l{number}"} for number in range(50)]
    found["classifiers"] = [one, *others]
    page.route("**/v1/classifiers", lambda route: route.fulfill(json=found))
    page.reload()
    page.get_by_role("combobox", name="Language and task").fill("find")
    expect(page.get_by_text("Nothing found")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_text("Compare with other languages").click()
    page.get_by_role("button", name="Add all of this task").click()
    expect(page.locator("#compare-left")).to_have_text(
        "11 left out: at most 40 are compared at once. Add those that you need."
    )
    page.get_by_role("button", name="Remove all").click()
    expect(page.locator("#compare-left")).to_be_hidden()


@pytest.mark.slow
def test_a_classifier_without_adaptation_says_so_and_not_und(visit: Visit) -> None:
    page = visit.open()
    found = page.evaluate("fetch('v1/classifiers').then((answer) => answer.json())")
    found["classifiers"] = [{**found["classifiers"][0], "language": "und", "language_name": None}]
    page.route("**/v1/classifiers", lambda route: route.fulfill(json=found))
    page.goto(visit.service.url + "#classifiers")
    page.reload()
    expect(page.locator("#cards h3")).to_have_text("Not adapted to a language")
    expect(page.locator("body")).not_to_contain_text("und ·")


@pytest.mark.long
def test_cards(visit: Visit) -> None:
    page = visit.open("#classifiers")
    expect(page.locator("#cards > li")).to_have_count(6)
    expect(page.locator("#unreadable li")).to_contain_text("broken.safetensors is damaged")
    page.get_by_label("Search").fill("entailment")
    card = page.locator("#cards > li")
    expect(card).to_have_count(1)
    for fact in ("Ayacucho Quechua (quy)", "73.4 %", "2,200", "4,210", "4,300", "128 tokens", " kB"):
        expect(card).to_contain_text(fact)
    page.get_by_role("button", name="Use Ayacucho Quechua (quy) · nli").click()
    expect(page.get_by_label("Premise")).to_be_visible()
    expect(page.get_by_role("heading", name="Classify a text")).to_be_focused()

    found = page.evaluate("fetch('v1/classifiers').then((answer) => answer.json())")
    found["classifiers"] = [{**found["classifiers"][0], "name": f"c{number}"} for number in range(2000)]
    found["classifiers"][7]["labels"] = ["Siyasá", "스포츠"]
    page.route("**/v1/classifiers", lambda route: route.fulfill(json=found))
    page.get_by_role("link", name="Classifiers").click()
    page.get_by_role("button", name="Refresh").click()
    for label in ("siyasa", "스포츠"):
        page.get_by_label("Search").fill(label)
        expect(page.locator("#cards-status")).to_have_text("1 of 2,000 classifiers")
    page.get_by_label("Search").fill("")
    expect(page.locator("#cards-status")).to_have_text("2,000 of 2,000 classifiers")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#cards > li")).to_have_count(120)


@pytest.mark.long
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
    page.keyboard.type(TEXT)
    page.keyboard.press("Control+Enter")
    expect_answer(page, visit.service.expected("xxx-news", TEXT))
    style = "getComputedStyle(document.activeElement)"
    assert page.evaluate(f"{style}.outlineStyle + {style}.outlineWidth") == "solid3px"
    page.get_by_role("link", name="Whole file").press("Enter")
    expect(page.get_by_role("heading", name="Classify a whole file")).to_be_focused()
    assert page.title() == "Classify a whole file · glotprompt"


@pytest.mark.long
def test_what_a_screen_reader_gets(visit: Visit) -> None:
    page = visit.open()
    choose(page, "Shona (sna) · news", "shona")
    found = controls_of(page)
    assert [role for role, name in found if not name.strip()] == []
    for wanted in (
        ("link", "Classify"), ("link", "Whole file"), ("link", "Classifiers"), ("combobox", "Language and task"),
        ("textbox", "Text"), ("button", "a text of the file itself"), ("button", "Classify"),
    ):  # fmt: skip
        assert wanted in found, found
    classify(page, TEXT)
    expected = visit.service.expected("sna-news", TEXT)
    expect(page.locator("#results-status")).to_contain_text(expected.label)
    live = [node for node in tree_of(page) if node["role"] == "status" and node.get("live") == "polite"]
    assert live, "a region that is read aloud when it changes"
    spoken = [node["name"] for node in tree_of(page) if node["role"] == "StaticText"]
    assert f"Shona (sna) · news: {expected.label}, {percent(max(expected.scores.values()))}." in spoken
    text_area(page).fill(" ")
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#classify-error")).to_be_visible()
    (alert,) = [node for node in tree_of(page) if node["role"] == "alert"]
    assert alert["live"] == "assertive"
    for place, wanted in {
        "Whole file": [("combobox", "Language and task"), ("button", "File")],
        "Classifiers": [("searchbox", "Search"), ("button", "Use Shona (sna) · news")],
    }.items():
        page.get_by_role("link", name=place, exact=True).click()
        expect(page.get_by_role(wanted[-1][0], name=wanted[-1][1])).to_be_visible()
        found = controls_of(page)
        assert [role for role, name in found if not name.strip()] == []
        for one in wanted:
            assert any(role == one[0] and name.startswith(one[1]) for role, name in found), found


@pytest.mark.long
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_view_can_be_read_and_fits(visit: Visit, width: int, colours: str) -> None:
    page = visit.open(width=width, height=844, color_scheme=colours)
    box = page.get_by_role("button", name="Classify").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 844  # nobody has to look for it
    choose(page, "Shona (sna) · news", "shona")
    classify(page, "health ǃkwi ǁ " + "x" * 200)
    page.locator(".answer").wait_for()
    look(page, "result")
    page.get_by_role("combobox", name="Language and task").click()
    look(page, "search")
    page.keyboard.press("Escape")
    choose(page, "Detect the language · news", "find")
    page.get_by_text("Compare with other languages").click()
    page.get_by_role("button", name="Add all of this task").click()
    classify(page, "ጥዕና culture ǁ " + "ሰላም ኩሉ " * 20)
    expect(page.locator("article.result")).to_have_count(6)
    look(page, "compare")
    classify(page, TOO_LONG)
    page.locator("#classify-error").wait_for()
    look(page, "refused")
    page.get_by_role("link", name="Whole file").click()
    cells = "نص قصير من اليمين إلى اليسار"
    take_file(page, "long-name-of-a-file.tsv", "id\ttext\tsource\n" + f"1\t{cells}\t{'http://' + 'x' * 90}\n" * 30)
    page.get_by_role("button", name="Classify all rows").click()
    page.get_by_role("link", name="Download the predictions").wait_for()
    look(page, "file")
    page.get_by_role("link", name="Classifiers").click()
    look(page, "classifiers")


@pytest.mark.long
def test_right_to_left_texts_and_the_choice_of_colours(visit: Visit) -> None:
    page = visit.open(color_scheme="light")
    choose(page, "Hausa (hau) · news", "hausa")
    area = text_area(page)
    area.fill("نص قصير")
    assert area.evaluate("(element) => getComputedStyle(element).direction") == "rtl"
    page.get_by_label("Colours").select_option("dark")
    page.reload()
    expect(page.get_by_label("Colours")).to_have_value("dark")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
