"""Topics of verses: nothing that is scored is trained on, and every verse is scored once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glotprompt.config import RuntimeConfig
from glotprompt.data.datasets.bitext import verse_id
from glotprompt.demo.verse_topics import NUM_FOLDS, VerseExperiment, verse_topics
from glotprompt.model.backbone import Backbone

QUIET = RuntimeConfig(progress=False)


@pytest.fixture
def backbone(tiny_backbone: Callable[[str], Backbone]) -> Backbone:
    return tiny_backbone("xlm-roberta")


def test_no_scored_verse_is_trained_on(verse_data: Path) -> None:
    data = verse_topics("glv", verse_data)
    assert {pair.id.split(".")[0] for pair in data.pairs} == {"40"}
    assert [one.id for one in data.source] == [one.id for one in data.target]
    assert "43.1.5" not in {verse_id(one.id) for one in data.source}  # an edition's blank verse is not scored
    assert len(data.source) == 19


def test_other_languages_leave_verses_out_by_id(verse_data: Path) -> None:
    for file in (*verse_data.glob("taxi1500/*/glv.tsv"), verse_data / "parallel" / "bible" / "eng-glv.tsv"):
        file.rename(file.with_name(file.name.replace("glv", "quc")))
    data = verse_topics("quc", verse_data)
    kept = {pair.id for pair in data.pairs if pair.id.startswith("43")}
    assert kept == {f"43.1.{n}" for n in range(21, 31)}  # also not the verse that Taxi1500 has in English alone


def test_every_verse_is_scored_once(verse_data: Path, backbone: Backbone) -> None:
    experiment = VerseExperiment(backbone, verse_topics("glv", verse_data))
    folds = experiment._folds(seed=0)
    assert len(folds) == NUM_FOLDS
    assert sorted(row for _, _, test in folds for row in test) == list(range(19))
    for train, dev, test in folds:
        assert not {*train} & {*dev}
        assert not {*test} & {*train, *dev}
        assert len(train) + len(dev) + len(test) == 19
    assert experiment._folds(seed=1) != folds


@pytest.mark.parametrize("method", ["embedding", "soft-prompt"])
def test_figures_of_a_method(method: str, verse_data: Path, backbone: Backbone) -> None:
    experiment = VerseExperiment(backbone, verse_topics("glv", verse_data))
    figures = experiment.figures(method, seed=0, steps=2, num_pairs=20, runtime=QUIET)
    assert figures["num_verses"] == 19
    for name in ("source", "target", "target_centred"):
        right = figures["right"][name]
        assert figures[f"{name}_accuracy"] == pytest.approx(100 * sum(right) / 19)
        low, high = figures[f"{name}_interval"]
        assert low < figures[f"{name}_accuracy"] < high
    assert figures["majority"] == pytest.approx(100 * 10 / 19)
    if method == "soft-prompt":
        assert figures["pairs"] + figures["held_out_pairs"] == 20
        assert figures["steps"] == 2
        assert [set(fold) for fold in figures["chosen"]] == [{"strength", "dev_accuracy", "dev_loss"}] * 5
    else:
        assert "retrieval_after" not in figures


def test_the_same_run_gives_the_same_figures(verse_data: Path, backbone: Backbone) -> None:
    def run() -> dict[str, object]:
        figures = VerseExperiment(backbone, verse_topics("glv", verse_data)).figures("embedding", seed=3)
        return {name: value for name, value in figures.items() if name != "tokens_read"}

    assert run() == run()
