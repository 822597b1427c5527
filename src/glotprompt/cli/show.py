"""`show`: prints the metadata of a trained file, or the TOML that made it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glotprompt.cli.declare import Params
from glotprompt.cli.screen import definitions, say
from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.data.languages import NOT_NAMED, name_of, same_language
from glotprompt.errors import ArtifactError, counted
from glotprompt.inference.measurements import measurements_of, sentence
from glotprompt.methods import departures
from glotprompt.records import (
    AdaptReport,
    Combined,
    Converted,
    NextTokenScores,
    Stage1Report,
    TuneReport,
    stage1_report,
)
from glotprompt.report.tables import duration, size
from glotprompt.storage.artifact import NO_BACKBONE
from glotprompt.storage.kinds import STAGE1_KINDS
from glotprompt.storage.metadata import describe
from glotprompt.training.objectives.alignment import AlignmentScores

_CLASSIFIER = "classifier"


def show(params: Params) -> None:
    """Print figures, or a file for `--config`."""
    path: Path = params["file"]
    metadata = describe(path, (*STAGE1_KINDS, _CLASSIFIER))
    training, is_classifier = metadata["training"], metadata["kind"] == _CLASSIFIER
    report = (TuneReport.of if training and is_classifier else stage1_report)(training, str(path))
    if not params["toml"]:
        definitions({"file": f"{metadata['kind']}, {size(path.stat().st_size)}", **_about(metadata, report)})
        return
    if not isinstance(report, AdaptReport | TuneReport):
        raise ArtifactError(f"{path} was not trained by glotprompt: it has no settings that a TOML file could hold")
    for line in _toml(metadata, report):
        say(line)


def _about(metadata: Mapping[str, Any], report: Stage1Report | TuneReport | None) -> dict[str, str]:
    about = {
        "language": name_of(metadata["language"]),
        "backbone": metadata["backbone"]["name"],
        "method": metadata["method"],
    }
    if metadata["kind"] == _CLASSIFIER:
        about["task"] = f"{metadata['task']['name']}: {', '.join(metadata['labels'])}"
        about["accuracy"] = _accuracies(metadata)
    if isinstance(report, Combined):
        about["sum of"] = ", ".join(f"{one.weight:g} {one.language}" for one in report.combined)
    if isinstance(report, Converted):
        about["converted from"] = report.converted_from
    if isinstance(report, AdaptReport | TuneReport):
        about["parameters"] = f"{report.trained_parameters:,} trained"
        steps = f"step {report.best_step} of {report.steps}" if report.steps else "in closed form"
        about["training"] = f"{steps}, {duration(report.seconds)}, {report.precision}"
    if isinstance(report, AdaptReport):
        before, after = report.held_out_before, report.held_out_after
        about[report.loss_name] = f"{before.loss:.3f} before, {after.loss:.3f} after (held-out text)"
        if isinstance(before, NextTokenScores) and isinstance(after, NextTokenScores):
            about["bits per byte"] = f"{before.bits_per_byte:.3f} before, {after.bits_per_byte:.3f} after"
        if isinstance(before, AlignmentScores) and isinstance(after, AlignmentScores):
            about["translations found"] = f"{before.retrieval:.1f} % before, {after.retrieval:.1f} % after"
    if isinstance(report, TuneReport):
        about["dev accuracy"] = f"{report.dev_accuracy:.1f} % of {report.dev_examples:,} examples"
        if (itself := report.self_training) is not None:
            rounds = counted(len(itself.rounds), "round")
            about["self-training"] = f"{rounds} on {counted(itself.texts, 'unlabelled text')}"
    return about


def _accuracies(metadata: Mapping[str, Any]) -> str:
    """The newest accuracy on each language, that on the classifier's own first."""
    measurements, language = measurements_of(metadata), metadata["language"]
    newest = {one.language: one for one in measurements}
    others = [sentence([one], code) for code, one in newest.items() if not same_language(code, language)]
    return "; ".join(dict.fromkeys([sentence(measurements, language), *others]))


def _toml(metadata: Mapping[str, Any], report: AdaptReport | TuneReport) -> Iterator[str]:
    """Lines of TOML with the settings that differ from the defaults."""
    command = "adapt" if isinstance(report, AdaptReport) else "tune"
    yield f"# For `glotprompt {command} --config`: the settings of a saved {metadata['kind']}."
    yield f"# The files that were read are not recorded; give them as before: {_inputs(metadata, report)}."
    yield f"# It was trained in {report.precision}; give --precision as before."
    if metadata.get("characters") is not None:
        yield "# Characters were rewritten: give --map-characters as before."
    if isinstance(report, TuneReport) and report.self_training is not None:
        yield "# It was self-trained since: give what this makes to self-train."
    if report.drawn_from_lines:
        yield "# The text was sampled: give --max-lines as before."
    place = Path(metadata["backbone"]["name"])
    options = dict[str, Any]()
    if metadata["backbone"] != NO_BACKBONE:
        options["model"] = str(place.absolute()) if place.is_dir() else metadata["backbone"]["name"]
    if isinstance(report, AdaptReport) or (report.language_prompt is None and metadata["language"] != NOT_NAMED):
        options["language"] = metadata["language"]
    options |= {"text-share": report.text_share} if report.text_share is not None else {}
    options |= {"normalise": True} if report.normalised else {}
    switches = (report.decontamination.switches if report.decontamination else None) or ()
    options |= {switch.lstrip("-"): True for switch in switches}
    config = (AdaptConfig if isinstance(report, AdaptReport) else TuneConfig)(**report.config)
    for key, value in {**options, "preset": "defaults", **departures(config)}.items():
        # Its strings are JSON's; TOML has no null, which settings take as a word.
        yield f"{key} = {json.dumps('null' if value is None else value, ensure_ascii=False)}"


def _inputs(metadata: Mapping[str, Any], report: AdaptReport | TuneReport) -> str:
    if isinstance(report, AdaptReport):
        start = " --init-prompt" if report.initial else ""
        source = "--source-adapter" if report.source_adapter else "--source"
        options = {"mlm": f"--target and {source}", "alignment": "--parallel"}
        return options.get(report.objective, f"--target, {source} and --parallel") + start
    start = "--train and --task" if report.language_prompt is None else "--prompt, --train and --task"
    # tf-idf reads target labels as --train.
    has_labels = report.target_examples is not None and metadata["backbone"] != NO_BACKBONE
    labels = ", --target-labels" if has_labels and report.self_training is None else ""
    pairs = ", --parallel" if report.pairs is not None else ""
    centre = ", --target-text" if report.centred_on is not None else ""
    return f"{start} ({metadata['task']['name']}){labels}{pairs}{centre}"
