"""The bundled backbone on real news: short runs that must beat having learned nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import glotprompt as gp
from glotprompt.data.datasets.catalog import dataset

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
QUIET = gp.RuntimeConfig(progress=False)


def test_hausa_headlines_beat_the_majority_class(mini: gp.Backbone, corpora: Path) -> None:
    train, dev = (dataset("masakhanews").examples("hau", split, corpora) for split in ("train", "dev"))
    config = gp.TuneConfig(
        epochs=3, learning_rate=2e-2, max_length=24, shots_per_class=25, prompt_length=8, batch_size=16
    )
    classifier = gp.tune(mini, None, train, gp.Task.load("news"), config, QUIET, dev=dev[:30])
    report = gp.evaluate(classifier, dev[30:130])
    majority = 100 * Counter(example.label for example in dev[30:130]).most_common(1)[0][1] / len(dev[30:130])
    assert report.accuracy > majority + 10
    assert report.collapsed_label is None


def test_stage_1_reads_shona_better_than_before(mini: gp.Backbone, corpora: Path) -> None:
    target, source = (dataset("masakhanews").texts(code, data_dir=corpora)[:200] for code in ("sna", "hau"))
    config = gp.AdaptConfig(
        steps=20, batch_size=8, max_length=48, learning_rate=4e-2, prompt_length=8, eval_every=20, eval_sequences=8
    )
    metadata = gp.adapt(mini, target, source, "sna", config, QUIET).training.to_json()
    assert metadata["held_out_after"]["loss"] < metadata["held_out_before"]["loss"] - 0.2
    assert metadata["held_out_after"]["num_masked"] > 50
