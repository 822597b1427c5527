"""`self-train`: a classifier learns its target language from its own predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glotprompt.cli.backbone import open_classifier, train_once
from glotprompt.cli.declare import Params
from glotprompt.cli.decontamination import check_training_files, unlabelled_to_check
from glotprompt.cli.files import how_to_read, label_prior
from glotprompt.cli.screen import definitions, note, suggest, write_json
from glotprompt.cli.settings import given
from glotprompt.cli.tables import warn
from glotprompt.cli.tune import classifier_figures, labelled_data
from glotprompt.config import RuntimeConfig
from glotprompt.data.languages import name_of
from glotprompt.data.sources import inputs_of
from glotprompt.errors import counted
from glotprompt.inference.classifier import PromptClassifier, load_adapted, task_of
from glotprompt.records import SelfTrainingReport, TextReport
from glotprompt.stages.self_training import SelfTrainConfig, SelfTraining, run_self_training
from glotprompt.storage.metadata import describe


def self_train_command(params: Params) -> None:
    """Train, save and report a classifier."""
    path, output, prompt = (params[name] for name in ("classifier", "output", "prompt"))
    targets = [params["target_labels"]] if params["target_labels"] is not None else []
    described = describe(path, ("classifier",))
    record = check_training_files([*params["train"], *targets], str(described["language"]), params)
    task, prior = task_of(described, path), params["label_prior"]
    data = labelled_data(task, params, params["unlabelled"])
    config = SelfTrainConfig(
        rounds=params["rounds"],
        keep=params["keep"],
        label_prior=None if prior == "uniform" else label_prior(prior, task.labels),
    )
    held_out = unlabelled_to_check(params["unlabelled"], params)
    unlabelled = inputs_of(params["unlabelled"], how_to_read(params), task.template.fields)
    opened = open_classifier(path, params["model"], params["precision"], params["device"], params["normalise"])
    training = SelfTraining.of(
        opened,
        unlabelled,
        data.examples,
        config,
        adapted=None if prompt is None else load_adapted(prompt, opened.backbone),
        dev=data.dev,
        target_examples=data.target,
        held_out=held_out,
    )
    runtime = RuntimeConfig(**given(params, RuntimeConfig.model_fields))
    classifier = _train(training, _text_report(record, training, data.counts), runtime, output)
    _show(classifier)
    write_json(params["json"], classifier_figures(classifier, output))
    suggest("evaluate", "--classifier", output, "--data", "TARGET-TEST.tsv", "--against", path)


def _text_report(record: TextReport, training: SelfTraining, counts: dict[str, Any]) -> TextReport:
    """How the text was prepared: which examples, and what was removed from the unlabelled text."""
    check = training.decontamination
    if check is None:
        return record.replace(**counts)
    switches = record.decontamination.to_json() if record.decontamination else {}
    return TextReport.model_validate({**record.to_json(), **counts, "decontamination": {**check.to_json(), **switches}})


def _train(training: SelfTraining, record: TextReport, runtime: RuntimeConfig, output: Path) -> PromptClassifier:
    def train(runtime: RuntimeConfig) -> PromptClassifier:
        examples = (
            f"{counted(len(training.unlabelled), 'unlabelled text')}, {counted(len(training.examples), 'example')}"
        )
        note(f"{training.classifier.language}: {examples}")
        return run_self_training(training, runtime)

    return train_once(
        training.spec(),
        output,
        lambda path: PromptClassifier.load(path, training.classifier.backbone),
        train,
        text=record,
        runtime=runtime,
    )


def _show(classifier: PromptClassifier) -> None:
    training, task = classifier.training, classifier.task
    report = training.self_training
    assert report is not None
    rounds = {
        f"round {number}": f"kept {', '.join(f'{label} {one.kept[label]:,}' for label in task.labels)};"
        f" {one.agreement:.1f} % of the texts kept their label"
        for number, one in enumerate(report.rounds, start=1)
    }
    definitions(
        {
            "task": f"{task.name}, {len(task.labels)} labels",
            "language": f"{name_of(classifier.language)}, {classifier.method}",
            "unlabelled texts": f"{report.texts:,}",
            **rounds,
            "dev accuracy": f"{training.dev_accuracy:.1f} % of {counted(training.dev_examples, 'example')}",
        }
    )
    warn(_warnings(report))


def _warnings(report: SelfTrainingReport) -> list[str]:
    if report.stopped is None:
        return []
    last = len(report.rounds)
    outcome = f"the classifier is that of round {last}" if last else "the classifier is unchanged"
    return [f"stopped: predictions collapsed ({report.stopped}); {outcome}"]
