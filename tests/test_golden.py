"""Golden losses: the history of every method, both stages, held against the records in `golden/`.

A change meant to keep results keeps them: to the bit on the kind of machine that made a record (torch version, CPU
capability and kernels), to 1e-4 elsewhere. A change meant to move them makes them anew, in the same commit and with a
line in CHANGELOG.md:

    pytest tests/test_golden.py --record
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch

import glotprompt as gp

from . import records
from .conftest import make_tiny_backbone
from .toys import topics
from .variants import VARIANTS, Variant

FOLDER = Path(__file__).parent / "golden"
STEPS = 20
TEXTS = ["water play king", "play", "the king the day", "water water day the play"]
FROM_TEXT = {"initialise": "text", "packing": "none", "schedule": "cosine", "balance": "repeat", "weight_decay": 0.1}
TINY = {
    # A pooled head starts from a regression that scikit-learn ends near its optimum, on each machine elsewhere.
    **{name: variant for name, variant in VARIANTS.items() if variant.tune.get("head") != "pooled"},
    "soft-prompt, ModernBERT": Variant("soft-prompt", (0.1, 1.0), kind="modernbert"),
    "soft-prompt, from text": Variant(
        "soft-prompt", (0.1, 1.0), adapt=FROM_TEXT, tune={"loss_over": "vocabulary", "bottom_k_layers": 2}
    ),
    "prompt-tuning, few shots": Variant("prompt-tuning", (None, 1.0), tune={"shots_per_class": 4, "batch_size": 3}),
    # As fast as it is in VARIANTS, rounding errors grow past the tolerance.
    "lora, aligned": replace(VARIANTS["lora, aligned"], rates=(1e-2, 5e-3)),
    "input-prompt": Variant("input-prompt", (None, 0.1), tune={"prompt_length": 20}),
    "embedding": Variant("embedding", (None, 1.0)),
    "tf-idf": Variant("tf-idf", (None, 1.0)),
}
MINI = {
    "soft-prompt": Variant("soft-prompt", (0.08, 0.04)),
    "fine-tuning": Variant("fine-tuning", (None, 1e-4)),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over several threads have other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def history(metadata: dict[str, Any]) -> dict[str, Any]:
    """The first losses of a training, one a step, and the figures of all its evaluations."""
    assert all(step == number for number, (step, _) in enumerate(metadata["losses"], 1)), (
        "not every step's loss is kept"
    )
    found = {name: [seen[name] for _, seen in metadata["evaluations"]] for name in metadata["evaluations"][0][1]}
    return {"losses": [loss for _, loss in metadata["losses"][:STEPS]], **found}


def histories(variant: Variant, backbone: gp.Backbone) -> dict[str, Any]:
    """Both stages, and what comes out of them."""
    found: dict[str, Any] = {}
    adapted = variant.stage_1(backbone, steps=STEPS)
    if adapted is not None:
        metadata = adapted.training.to_json()
        trainings = {"adapt": metadata, "adapt, source": metadata.get("source_training")} if variant.has_stage_1 else {}
        found |= {name: history(training) for name, training in trainings.items() if training}
        found["adapted"] = metadata["held_out_after"]
    classifier = variant.stage_2(backbone, adapted)
    report = gp.evaluate(classifier, topics()).to_json()
    scores = dict(zip(TEXTS, classifier.log_probabilities(TEXTS).tolist(), strict=True))
    return {
        **found,
        "tune": history(classifier.training.to_json()),
        "evaluate": {name: report[name] for name in ("accuracy", "macro_f1")},
        "log_probabilities": scores,
    }


def machine_kind() -> dict[str, str]:
    """What bits depend on. Processors of one capability can multiply by different kernels (MKL chooses by maker), so a
    product tells which ones are at work."""
    bits = 0
    for rows, inner, columns in ((16, 48, 64), (128, 48, 418), (64, 384, 1536)):
        one, other = (torch.arange(rows * inner) % 97 / 97, torch.arange(inner * columns) % 89 / 89 - 0.5)
        bits = crc32((one.view(rows, inner) @ other.view(inner, columns)).numpy().tobytes(), bits)
    capability = torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "cpu_capability": capability, "product": f"{bits:08x}"}


def check(name: str, found: dict[str, Any], record: bool) -> None:
    """Hold what was found against the record of that name, or make it the record."""
    path, made_by = FOLDER / f"{name}.json", machine_kind()
    if record:
        records.write(path, {"made_by": made_by, "courses": found})
        return
    recorded = records.read(path)
    same_kind = recorded["made_by"] == made_by
    apart = list(records.differences(recorded["courses"], found, 0 if same_kind else records.TOLERANCE))
    how = "to the bit" if same_kind else f"to {records.TOLERANCE:g}; it was made by {recorded['made_by']}"
    assert not apart, "\n".join([f"{path.name} is not met {how}, in {len(apart)} places:", *apart[:10]])


QUICK = ("soft-prompt", "prompt-tuning", "embedding")
"""Methods whose history is followed at every change; the others' take seconds each."""


@pytest.mark.parametrize(
    "method", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in gp.METHODS]
)
def test_tiny(method: str, record: bool) -> None:
    variants = {name: variant for name, variant in TINY.items() if variant.method == method}
    check(method, {name: histories(one, make_tiny_backbone(one.kind)) for name, one in variants.items()}, record)


@pytest.mark.long
@pytest.mark.parametrize("method", MINI)
def test_mini(method: str, mini: gp.Backbone, record: bool) -> None:
    check(f"mini-{method}", {method: histories(MINI[method], mini)}, record)


def test_no_record_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {*gp.METHODS, *(f"mini-{method}" for method in MINI)}
