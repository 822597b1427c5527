"""The rows of a demo over their seeds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glotprompt.demo import summary as tables
from glotprompt.demo.conclusions import Reading
from glotprompt.demo.result import DemoResult, DemoRow
from glotprompt.demo.run import _Demo
from glotprompt.report.tables import mean_sd
from glotprompt.training.objectives.scoring import report


def rows(method: str, *accuracies: float, **others: Any) -> list[DemoRow]:
    """Rows of one method with seeds 0, 1, ..."""
    return [
        DemoRow(method=method, seed=seed, target_test_accuracy=accuracy, **others)
        for seed, accuracy in enumerate(accuracies)
    ]


def test_a_seed_s_centred_figures_are_its_own() -> None:
    demo: Any = object.__new__(_Demo)
    demo.gold, demo.right, demo.store = ["a", "b"] * 5, {}, SimpleNamespace(folder=lambda name: Path("nowhere"))
    demo.data = SimpleNamespace(own_labels="ab", task=SimpleNamespace(labels="ab"))
    amounts = dict.fromkeys(("dev_accuracy", "trained_parameters", "tokens", "seconds", "peak_memory_bytes"), 1)
    info = SimpleNamespace(adapt=None, tune=SimpleNamespace(**amounts))

    def step(seed: int, right: int) -> SimpleNamespace:
        tuned = SimpleNamespace(config=SimpleNamespace(seed=seed), name="t")
        return SimpleNamespace(right=right, folds=None, adapted=None, backbone=SimpleNamespace(name="m"), tuned=tuned)

    def result(step: Any) -> Any:
        predicted = [*demo.gold[: step.right], *("?" for _ in demo.gold[step.right :])]
        return SimpleNamespace(source_accuracy=None, train_info=info), report(demo.gold, predicted)

    demo._result = result
    demo._scored = {"x": [step(0, 5), step(1, 5)], "x-centred": [step(0, 4), step(1, 8)]}
    assert [demo._row("x", one).target_test_accuracy_centred for one in demo._scored["x"]] == [40, 80]
    assert len(demo.right[Reading("x", centred=True)]) == 2, "one for each seed"


def test_mean_and_sample_deviation() -> None:
    (summary,) = tables.summarise(rows("soft-prompt", 40.0, 44.0, 48.0))
    spread = summary.columns["target_test_accuracy"]
    assert (spread.mean, spread.sd, spread.num, spread.values) == (44.0, 4.0, 3, (40.0, 44.0, 48.0))
    assert mean_sd(spread) == "44.0 ± 4.0"


def test_one_seed_has_no_deviation() -> None:
    (summary,) = tables.summarise(rows("soft-prompt", 40.0))
    spread = summary.columns["target_test_accuracy"]
    assert (spread.mean, spread.sd, spread.num) == (40.0, None, 1)
    assert mean_sd(spread) == "40.0"


def test_missing_is_not_zero() -> None:
    first, second, third = rows("soft-prompt", 40.0, 41.0, 42.0)
    changed = [first.replace(macro_f1=40.0), second, third.replace(macro_f1=42.0)]
    (summary,) = tables.summarise(changed)
    assert summary.columns["macro_f1"].values == (40.0, None, 42.0)
    assert mean_sd(summary.columns["macro_f1"]) == "41.0 ± 1.4 (2 of 3)"
    assert summary.columns["tokens"].mean is None


def test_order_of_methods_and_seeds() -> None:
    unsorted = [*rows("new", 1.0), *reversed(rows("soft-prompt", 1.0, 2.0)), *rows("majority", 3.0)]
    summaries = tables.summarise(unsorted)
    assert [summary.method for summary in summaries] == ["majority", "soft-prompt", "new"]
    assert summaries[1].seeds == (0, 1)
    assert summaries[1].columns["target_test_accuracy"].values == (1.0, 2.0)
    assert [summary.name for summary in summaries][-1] == "new"


def test_collapses_are_kept_with_their_seed() -> None:
    first, second = rows("soft-prompt", 40.0, 41.0)
    (summary,) = tables.summarise([first, second.replace(collapsed_label="law", collapsed_share=0.95)])
    assert summary.collapses == (tables.Collapse(1, "law", 0.95),)


def test_nothing_gives_nothing() -> None:
    assert tables.summarise([]) == []


def test_own_label_column_appears_only_when_filled(result: DemoResult) -> None:
    def headings(row: DemoRow) -> list[str]:
        return [heading for _, heading in tables.accuracy_columns(result.task, tables.summarise([row]))]

    (row,) = rows("soft-prompt", 40.0)
    assert headings(row) == ["Chichewa test"]
    assert headings(row.replace(target_test_accuracy_centred=50.0)) == ["Chichewa test", "test, centred"]
    assert headings(row.replace(target_test_accuracy_own_labels=50.0))[-1] == "test, own labels"


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [("a b", "c", "a b __ c"), ("m'", "; d", "m'__; d"), ("a ", " b", "a __ b"), ("", "", "__")],
)
def test_gap_is_apart_from_letters_only(left: str, right: str, expected: str) -> None:
    before, after = tables.around_gap(left, right)
    assert f"{before}__{after}" == expected


def test_right_word_ignores_only_the_word_mark() -> None:
    assert tables.is_right("▁madzi", "madzi")
    assert not tables.is_right("Madzi", "madzi")
