"""From figures to words: each finding at its limit, label words, and a probe that takes real steps."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.data.languages import exposure
from glotprompt.data.readers.files import read_texts
from glotprompt.doctor import Diagnosis, examine, length_histogram, verdict
from glotprompt.doctor.text import TextStatistics, UnknownCharacter
from glotprompt.doctor.verdict import NUM_EXAMPLES, Finding, cost_findings, language_finding, text_findings, worst
from glotprompt.errors import ConfigError, DataError, ModelError
from glotprompt.estimate.forecast import Forecast
from glotprompt.model.backbone import Backbone
from glotprompt.task import Task

from .toys import SOURCE, TASK, TOY

GOOD = TextStatistics(
    num_lines=1000, num_unique=1000, num_counted=1000, num_words=10_000, num_tokens=15_000, num_characters=50_000,
    unknown_tokens=0, touched_words=0, unknown=(), scripts={"LATIN": 1.0}, line_tokens=(15,) * 1000, num_short=0,
    num_other_script=0, foreign={}, far=(), markup={}, num_mojibake=0, mojibake=("", ""),
)  # fmt: skip
"""A text with which nothing is wrong."""
PIECES = {"eng": 1.2, "spa": 1.4, "rus": 2.0}
TINY: dict[str, Any] = {"prompt_length": 2, "batch_size": 4, "max_length": 16}
ADAPT, TUNE = AdaptConfig(steps=50, eval_every=20, **TINY), TuneConfig(epochs=2, top_k_layers=2, **TINY)


def of_text(name: str, config: AdaptConfig = ADAPT, **changes: Any) -> Finding:
    """One finding on a text that differs from the good one."""
    findings = text_findings(replace(GOOD, **changes), PIECES, config)
    return next(finding for finding in findings if finding.name == name)


def test_a_good_text_has_nothing_to_do() -> None:
    findings = text_findings(GOOD, PIECES, ADAPT)
    assert [finding.level for finding in findings] == ["ok"] * 8
    assert not any(finding.remedy for finding in findings)


@pytest.mark.parametrize(
    ("name", "changes", "level", "said"),
    [
        ("amount", {"num_unique": 600}, "ok", "600 to 125,000"),
        ("amount", {"num_unique": 599}, "warn", "599 different lines"),
        ("amount", {"num_unique": 99}, "bad", "Far too little"),
        ("amount", {"num_lines": 5000}, "ok", "in 1,000 of 5,000 lines"),
        ("unknown characters", {"touched_words": 9, "unknown_tokens": 9}, "ok", "0.09 % of the words"),
        ("unknown characters", {"touched_words": 10, "unknown_tokens": 12}, "warn", "characters="),
        ("unknown characters", {"touched_words": 2001, "unknown_tokens": 2001}, "bad", "ŋ U+014B (7)"),
        ("sub-words", {"num_tokens": 27_999}, "ok", "(3 pre-training languages): median 1.40, range 1.20-2.00."),
        ("sub-words", {"num_tokens": 28_000}, "warn", "2.0 times the usual"),
        ("sub-words", {"num_tokens": 42_000}, "bad", "letter by letter"),
        ("sub-words", {"num_tokens": 41_000}, "warn", "2.9 times the usual"),
        ("sub-words", {"num_tokens": 90_000, "is_byte_level": True}, "ok", "A token is a byte"),
        ("unknown characters", {"is_byte_level": True}, "ok", "It reads bytes, so every script."),
        ("duplicates", {"num_unique": 901}, "ok", "99 of 1,000 lines (9.9 %)"),
        ("duplicates", {"num_unique": 900}, "warn", "sort -u"),
        ("short lines", {"num_short": 199}, "ok", "19.9 %"),
        ("short lines", {"num_short": 200}, "warn", "Lines of fewer than 3 words."),
        ("long lines", {"line_tokens": (14,) * 1000}, "ok", "0 lines (0.00 %), the longest has 14 tokens"),
        ("long lines", {}, "ok", "1,000 lines (100.0 %)"),  # packed: nothing is lost
        ("language mix", {"foreign": {"spa": 9}}, "ok", "Spanish 9"),
        ("language mix", {"foreign": {"spa": 8, "eng": 2}}, "warn", "Spanish 8, English 2"),
        ("language mix", {"foreign": {"eng": 500}}, "bad", "Most of the text looks like English."),
        ("script", {"scripts": {"LATIN": 0.9, "CYRILLIC": 0.1}}, "ok", "Latin 90.0 %, Cyrillic 10.0 %"),
        ("script", {"num_other_script": 11}, "warn", "11 lines are mostly in another script"),
        ("script", {"scripts": {"THAI": 1.0}}, "ok", "No spaces between words"),
        ("script", {"scripts": {}}, "bad", "no letters"),
        ("mark-up", {"markup": {"USFM markers": 10}}, "warn", "USFM markers: 10 lines (1.0 %)"),
        ("mark-up", {"markup": {"USFM markers": 1000}}, "warn", "Export plain text"),
        ("mark-up", {"markup": {"JSON": 499, "USFM markers": 501}}, "warn", "JSON: 499 lines (49.9 %), USFM"),
        ("mark-up", {"markup": {"JSON": 500}}, "bad", "the file .jsonl"),
        ("encoding", {"num_mojibake": 10, "mojibake": ("Ã±", "ñ")}, "warn", "10 lines (1.0 %) UTF-8 that was read"),
        ("encoding", {"num_mojibake": 500, "mojibake": ("Ã\x81", "Á")}, "bad", "Ã<U+0081> should be Á"),
    ],
)
def test_limits(name: str, changes: dict[str, Any], level: str, said: str) -> None:
    if "touched_words" in changes:
        changes = {**changes, "unknown": (UnknownCharacter("ŋ", 7),)}
    finding = of_text(name, **changes)
    assert finding.level == level
    assert said in f"{finding.figure} {finding.meaning} {finding.remedy}"
    assert bool(finding.remedy) == (level != "ok")


@pytest.mark.parametrize("changes", [{}, {"markup": {"USFM markers": 9}, "num_mojibake": 9, "mojibake": ("Ã±", "ñ")}])
def test_clean_text_has_no_word_on_markup_and_encoding(changes: dict[str, Any]) -> None:
    findings = text_findings(replace(GOOD, **changes), PIECES, ADAPT)
    assert {finding.name for finding in findings}.isdisjoint({"mark-up", "encoding"})


def test_the_remedy_for_unknown_characters_is_one_that_works() -> None:
    """A map where something is near, another backbone or script where nothing is, neither before a mended encoding."""
    near, far = UnknownCharacter("ɨ", 7), UnknownCharacter("ߗ", 5)
    hit = {"touched_words": 2000, "unknown_tokens": 2000}
    both = of_text("unknown characters", **hit, unknown=(near, far), far=(far,)).remedy
    assert "characters=" in both
    assert "except ߗ U+07D7 (5)" in both
    nothing = of_text("unknown characters", **hit, unknown=(far,), far=(far,)).remedy
    assert "characters=" not in nothing
    for said in ("ByT5", "whose vocabulary has this one", "romanisation"):
        assert nothing.count(said) == 1
    first = of_text("unknown characters", **hit, unknown=(near,), num_mojibake=900, mojibake=("Ã±", "ñ")).remedy
    assert first == "Repair the encoding first, then run the doctor again."


def test_what_is_cut_off_is_lost_without_packing() -> None:
    cut = of_text("long lines", ADAPT.replace(packing="none"))
    assert cut.level == "warn"
    assert "Lines are cut after" in cut.meaning
    assert of_text("sub-words", num_tokens=42_000, scripts={"THAI": 1.0}).level == "ok"


@pytest.mark.parametrize(
    ("code", "family", "level", "said"),
    [
        ("sna", "xlm-r", "ok", "Shona (sna): unseen on xlm-r. Not in CC100."),
        (
            "swa",
            "xlm-r",
            "warn",
            "Swahili (swa): in the pre-training of xlm-r. In CC100. The model was already pre-trained on this",
        ),
        (
            "arz",
            "xlm-r",
            "ok",
            "Egyptian Arabic (arz). It is not known whether xlm-r was pre-trained on it. CC100 may",
        ),
        ("nya", "mini", "ok", "Chichewa (nya): low-resource on mini. In mC4, NLLB and xP3, not in CC100."),
        ("hch", "mini", "ok", "Wixarika (Huichol) (hch): unseen on mini. On none of the 9 lists"),
        ("bzd", "glot500", "ok", "Bribri (bzd): unseen on glot500. Stage 1 is meant for such languages."),
        ("qqq", "mini", "ok", "qqq. It is not known whether mini was pre-trained on it."),
    ],
)
def test_language(code: str, family: str, level: str, said: str) -> None:
    finding = language_finding(code, exposure(code, family))
    assert finding.level == level
    assert f"{finding.figure}. {finding.meaning}".startswith(said)


def test_language_of_an_unknown_backbone() -> None:
    assert language_finding("sna", None).meaning == "It is not known whether this backbone was pre-trained on it."


def test_costs_against_the_machine() -> None:
    stage = Forecast(100, 40, 5_000, 10**9, 0.5, 86_400.0, 3, 2 * 10**9)
    time, second, memory, files = cost_findings(stage, replace(stage, seconds=86_399.0), 4 * 10**9)
    assert (time.name, time.level, second.level, memory.level) == ("time, stage 1", "warn", "ok", "ok")
    assert "1 day 0 h for 100 steps" in time.figure
    assert "0.5 s per step, timed over 3" in time.meaning
    assert "1 GB for the training; 2 GB measured" in memory.figure
    assert files.figure == "language 5 kB, classifier 5 kB"
    for machine, level in ((2.4e9, "warn"), (1.9e9, "bad")):
        assert cost_findings(stage, None, int(machine))[1].level == level
    long = cost_findings(replace(stage, seconds=4 * 86_400.0), None, None)[0]
    assert (long.level, "too slow" in long.meaning) == ("warn", True)
    untimed = cost_findings(Forecast(100, 40, 5_000, 10**9), None, None)
    assert untimed[0].meaning == "Not timed; 40 training sequences of the target."
    assert untimed[1].meaning == "The memory of this machine is unknown."


def test_the_verdict_is_the_worst_finding() -> None:
    ok, warn, bad = (Finding("", level, "", "") for level in ("ok", "warn", "bad"))
    assert [worst(found) for found in ([ok], [ok, warn], [warn, bad, ok])] == ["ok", "warn", "bad"]
    assert verdict.VERDICTS["bad"] == "will not work as it is"


@pytest.fixture(scope="module")
def diagnosis(tiny_backbone: Callable[[str], Backbone]) -> Diagnosis:
    """A probe of less than a second."""
    backbone = tiny_backbone("xlm-roberta")
    return examine(backbone, TOY, language="sna", task=TASK, adapt=ADAPT, tune=TUNE, probe_seconds=0.1)


@pytest.mark.slow
def test_a_probe_foretells_both_stages(diagnosis: Diagnosis) -> None:
    adapt, tune = diagnosis.adapt, diagnosis.tune
    assert tune is not None
    assert adapt.steps == 50
    assert tune.steps == 2 * 9 * NUM_EXAMPLES // 10 // 4, "a tenth chooses the epoch"
    assert adapt.file_bytes == 4 * 3 * 2 * 48 * 2
    assert adapt.seconds_per_step is not None
    assert adapt.seconds is not None
    # The steps, and on top of them evaluations.
    assert adapt.seconds > 50 * adapt.seconds_per_step > 0
    assert adapt.probe_steps >= 1
    assert adapt.measured_bytes is not None
    assert adapt.measured_bytes > 10**7
    assert tune.seconds is not None
    assert tune.seconds > 450 * (tune.seconds_per_step or 0) > 0


@pytest.mark.slow
def test_all_label_words_are_looked_up(tiny_backbone: Callable[[str], Backbone]) -> None:
    task = Task("t", "{mask} : {text}", {"a": ["Health日", "Sports"], "b": "Sportz日", "c": "Culture"})
    found = examine(tiny_backbone("xlm-roberta"), TOY, task=task, adapt=ADAPT, tune=TUNE, probe_seconds=0.01)
    finding = next(finding for finding in found.findings if finding.name == "label words")
    assert (found.level, finding.level) == ("bad", "bad")
    for said in ("label 'a': this model cannot spell the word 'Health日'", "label 'b': ", "Health", "Sports"):
        assert said in finding.meaning
    assert found.tune is not None
    assert found.tune.seconds is None  # what cannot be read cannot be timed
    assert found.adapt.seconds is not None
    several = Task("t", "{mask} : {text}", {"sports": "Sportz", "b": "Culture"})
    found = examine(tiny_backbone("xlm-roberta"), TOY, task=several, adapt=ADAPT, tune=TUNE, probe_seconds=0.01)
    finding = next(finding for finding in found.findings if finding.name == "label words")
    assert (finding.level, finding.figure) == ("ok", "1 word of several tokens in 2 labels")
    assert "in the built-in tasks: Sports" in finding.meaning
    assert found.tune is not None
    assert found.tune.seconds is not None
    twice = Task("t", "{mask} : {text}", {"a": "Sports", "b": "Sports"})
    found = examine(tiny_backbone("xlm-roberta"), TOY, task=twice, adapt=ADAPT, tune=TUNE, probe_seconds=0)
    assert any("stands for 'a' and 'b'" in finding.meaning for finding in found.findings)


@pytest.mark.parametrize("head", ["linear", "pooled"])
def test_another_head_is_of_the_method_of_stage_1(tiny_backbone: Callable[[str], Backbone], head: Any) -> None:
    task = Task("t", "{mask} {text}", {"sports": "Sports", "b": "Culture"})
    found = examine(
        tiny_backbone("xlm-roberta"), TOY, task=task, adapt=ADAPT, tune=TuneConfig(head=head), probe_seconds=0
    )
    assert found.tune is not None


def test_one_line_is_too_little_to_time(tiny_backbone: Callable[[str], Backbone]) -> None:
    found = examine(tiny_backbone("xlm-roberta"), ["the king"] * 3, adapt=ADAPT, probe_seconds=0.01)
    assert found.adapt.seconds is None
    assert found.verdict == "will not work as it is"


@pytest.mark.slow
def test_the_bundled_backbone_without_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Backbone, "load")
    found = examine("mini", SOURCE, language="swa", adapt=ADAPT, probe_seconds=0)
    assert found.exposure is not None
    assert found.exposure.verdict == "read"
    assert found.findings[0].level == "warn"
    assert found.adapt.estimated_bytes > 48_628_434 * 2
    assert found.adapt.file_bytes == 4 * 12 * 2 * 384 * 2


def test_figures_as_json(diagnosis: Diagnosis) -> None:
    found = json.loads(json.dumps(diagnosis.to_dict()))
    assert found["text"]["num_lines"] == len(TOY)
    assert found["text"]["pieces_per_word"] == diagnosis.text.pieces_per_word
    assert sum(count for _, count in found["text"]["line_lengths"]) == len(TOY)
    assert found["adapt"]["steps"] == 50
    assert found["level"] == diagnosis.level
    assert found["exposure"] is None, "of no known family"
    assert [finding["name"] for finding in found["findings"]][:2] == ["language", "amount"]


CASES = {
    "markup_verse_ref_tab.txt": ("mark-up", "a verse reference in front: 700 lines (100.0 %)"),
    "markup_usfm.txt": ("mark-up", "USFM markers: 700 lines"),
    "markup_conllu.txt": ("mark-up", "CoNLL columns, one word a line: 1,309 lines"),
    "markup_sentencepiece.txt": ("mark-up", "pieces of SentencePiece (▁): 700 lines"),
    "markup_json_in_txt.txt": ("mark-up", "JSON: 700 lines"),
    "markup_tsv_in_txt.txt": ("mark-up", "columns of a table: 700 lines"),
    "markup_entities.txt": ("mark-up", "entities such as &amp;: 700 lines"),
    "mojibake.txt": ("encoding", "UTF-8 that was read as Latin-1 or cp1252: Ã± should be ñ."),
    "nko_60_random_lines.txt": (
        "unknown characters",
        "No known characters are similar, so a character map does not help",
    ),
}
"""Inputs that failed once -> the finding that is due, and what it says."""


@pytest.fixture(scope="module")
def cases() -> Path:
    if "GLOTPROMPT_CASES" not in os.environ:
        pytest.skip("needs inputs that failed once: set GLOTPROMPT_CASES to their folder")
    return Path(os.environ["GLOTPROMPT_CASES"])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_inputs_that_failed_once(name: str, cases: Path) -> None:
    finding, said = CASES[name]
    found = {one.name: one for one in examine("mini", read_texts(cases / name), probe_seconds=0).findings}
    assert found[finding].level in ("warn", "bad")
    assert said in f"{found[finding].figure} {found[finding].meaning} {found[finding].remedy}"
    assert not any("characters=" in one.remedy for one in found.values())


@pytest.mark.slow
def test_a_clean_input(cases: Path) -> None:
    found = examine("mini", read_texts(cases / "markup_none.txt"), probe_seconds=0)
    assert found.verdict == "will work"
    assert {"mark-up", "encoding"}.isdisjoint(finding.name for finding in found.findings)


def test_length_histogram() -> None:
    assert length_histogram([1, 2, 3, 4, 5, 8, 9]) == [(1, 1), (2, 1), (4, 2), (8, 2), (16, 1)]
    assert length_histogram([]) == [(1, 0)]


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"texts": []}, DataError, "no text to look at"),
        ({"adapt": AdaptConfig(max_length=600)}, ConfigError, "is more than tiny xlm-roberta reads"),
        ({"adapt": AdaptConfig(method="prompt-tuning")}, ConfigError, "has no stage 1"),
        ({"model": "nowhere/at-all"}, ModelError, "cannot load the config.json of 'nowhere/at-all'"),
    ],
)
def test_mistakes(
    words: dict[str, Any], error: type[Exception], message: str, tiny_backbone: Callable[[str], Backbone]
) -> None:
    given = {"model": tiny_backbone("xlm-roberta"), "texts": TOY, "adapt": ADAPT, "probe_seconds": 0, **words}
    with pytest.raises(error, match=message):
        examine(given.pop("model"), given.pop("texts"), **given)
