"""`evaluate --against`: the difference to another classifier on the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glotprompt.cli.backbone import open_classifier
from glotprompt.cli.declare import Params
from glotprompt.cli.screen import say
from glotprompt.data.readers.files import read_mapping
from glotprompt.data.readers.records import Example, content_hash
from glotprompt.errors import ConfigError, DataError, ModelError
from glotprompt.inference.classifier import PromptClassifier
from glotprompt.records import EvaluationReport
from glotprompt.report.significance import compare_predictions
from glotprompt.storage.metadata import describe


def predictions_against(
    path: Path,
    classifier: PromptClassifier,
    examples: Sequence[Example],
    labels: Sequence[str] | None,
    params: Params,
) -> list[str]:
    """Predictions for the examples by the classifier saved in `path`, or those recorded in `path`, the JSON file of an
    evaluation.

    `params` are the command's parameters. A backbone that both classifiers share is not loaded again."""
    if path.suffix.lower() == ".json":
        return _recorded(path, examples, labels or classifier.task.labels)
    _check_labels(path, describe(path, ("classifier",))["labels"], classifier.task.labels)
    where = params["precision"], params["device"], params["normalise"]
    try:
        other = open_classifier(path, None, *where, loaded=classifier.backbone)
    except ModelError as error:
        raise ModelError(f"{error} and --json in an evaluate of its own, and give that file to --against") from None
    return [prediction.label for prediction in other.predict(examples, labels=labels, batch_size=params["batch_size"])]


def _recorded(path: Path, examples: Sequence[Example], labels: Sequence[str]) -> list[str]:
    """The predictions in a JSON file of `evaluate --json`."""
    expected = "what evaluate --json wrote"
    evaluation = read_mapping(path, expected)
    if not {"data", "content", "labels", "predictions"} <= evaluation.keys():
        raise DataError(f"{path} holds no evaluation that can be compared; expected {expected} with this version")
    if evaluation["content"] != content_hash(examples):
        raise DataError(
            f"--against {path}: its figures are of other examples ({evaluation['data']}); evaluate both on the same"
            " file with the same options"
        )
    _check_labels(path, evaluation["labels"], labels)
    return evaluation["predictions"]


def _check_labels(path: Path, theirs: Sequence[str], ours: Sequence[str]) -> None:
    if set(theirs) != set(ours):
        raise ConfigError(
            f"--against {path}: its labels are {', '.join(theirs)}, not {', '.join(ours)}; only classifiers that choose"
            " among the same labels can be compared"
        )


def show_difference(
    path: Path, examples: Sequence[Example], report: EvaluationReport, theirs: Sequence[str]
) -> dict[str, Any]:
    """Print the difference in accuracy to the classifier in `path`; returns it as JSON."""
    gap = compare_predictions([example.label for example in examples], report.predictions, theirs)
    accuracy = report.accuracy - gap.mean
    print()
    say(
        f"against {path}: {accuracy:.1f} %; difference {gap.mean:+.1f} points, 95 % interval {gap.low:+.1f} to"
        f" {gap.high:+.1f} (paired bootstrap over {gap.num_examples:,} examples)"
    )
    if gap.is_clear:
        which = "better" if gap.mean > 0 else "worse"
        say(f"zero is outside the interval: {which} than {path} on examples like these")
    else:
        say("zero is within the interval: these examples do not tell which one is better")
    return {"file": str(path), "accuracy": accuracy, "difference": gap.mean, "low": gap.low, "high": gap.high}
