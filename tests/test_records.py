"""Reports of trainings and evaluations: their schema in the docs, and files that hold something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

import glotprompt as gp
from glotprompt.errors import ArtifactError
from glotprompt.records import (
    AdaptReport,
    Combined,
    Converted,
    EvaluationReport,
    TuneReport,
    stage1_report,
)
from glotprompt.storage.metadata import Measurement
from glotprompt.training.objectives.scoring import report

SCHEMAS = Path(__file__).parents[1] / "docs" / "reports.schema.json"
ADAPTED: dict[str, Any] = {
    "config": {"objective": "mlm"}, "precision": "fp32", "trained_parameters": 1, "steps": 2, "best_step": 1,
    "seconds": 0.1, "tokens": 3, "losses": [[1, None]], "evaluations": [[0, {"held_out_loss": 1.5}]],
    "peak_memory_bytes": 4, "learning_rate": 0.1, "rates_tried": [], "improved": True,
    "held_out_before": {"loss": 2.0, "top1": 1.0, "top5": 2.0, "num_masked": 9},
    "held_out_after": {"loss": 1.5, "top1": 1.0, "top5": 2.0, "num_masked": 9},
}  # fmt: skip


def schemas() -> str:
    """JSON schemas of the reports of the three commands, and of what one of them keeps in a classifier's file."""
    found = {
        "AdaptReport": AdaptReport, "TuneReport": TuneReport, "EvaluationReport": EvaluationReport,
        "Measurement": Measurement,
    }  # fmt: skip
    return json.dumps({name: TypeAdapter(kind).json_schema() for name, kind in found.items()}, indent=1) + "\n"


def test_the_docs_have_the_schemas(record: bool) -> None:
    """Made anew by `make record ARGS="-k have_the_schemas"`."""
    if record:
        SCHEMAS.write_text(schemas(), encoding="utf-8")
    assert SCHEMAS.read_text(encoding="utf-8") == schemas()


def test_a_report_is_read_as_it_was_written() -> None:
    found = stage1_report(ADAPTED, "x")
    assert isinstance(found, AdaptReport)
    assert found.to_json() == ADAPTED, "what nobody set is not written"
    assert found.objective == "mlm"
    combined = {"combined": [{"language": "nya", "weight": 0.5, "digest": "0"}]}
    assert isinstance(stage1_report(combined, "x"), Combined)
    assert isinstance(stage1_report({"converted_from": "PEFT", "origin": {}}, "x"), Converted)
    assert stage1_report({}, "x") is None
    later = AdaptReport.of({**ADAPTED, "of a later version": 1}, "x")
    assert later == found


def test_a_report_that_lacks_something_is_named() -> None:
    with pytest.raises(ArtifactError, match=r"^p\.safetensors is intact but invalid \(steps: .*\); create it again"):
        stage1_report({name: value for name, value in ADAPTED.items() if name != "steps"}, "p.safetensors")


def test_an_evaluation_says_of_itself_what_its_command_writes() -> None:
    found = gp.EvaluationReport.of(report(["a", "a", "b"], ["a", "b", "b"]).to_json(), "x")
    assert (found.num_examples, found.per_label["a"].support, found.interval[0] < found.accuracy) == (3, 2, True)
    with pytest.raises(ArtifactError, match="accuracy"):
        gp.EvaluationReport.of({**found.to_json(), "accuracy": None}, "x")
