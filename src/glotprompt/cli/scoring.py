"""The two commands that use a classifier: evaluate and predict."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from glotprompt import protocol
from glotprompt.cli.against import predictions_against, show_difference
from glotprompt.cli.backbone import open_classifier
from glotprompt.cli.characters import tell_unknown, unknown_of_each
from glotprompt.cli.declare import Params
from glotprompt.cli.files import check_reading, chosen_labels, how_to_read
from glotprompt.cli.files import label_prior as read_prior
from glotprompt.cli.screen import definitions, note, say, suggest, write_json, write_lines
from glotprompt.cli.tables import console, table, warn, wrote
from glotprompt.data.datasets.catalog import parse_reference
from glotprompt.data.languages import NOT_NAMED, checked_code, same_language
from glotprompt.data.readers.normalise import normalise
from glotprompt.data.readers.records import Example, content_hash
from glotprompt.data.seen import num_seen
from glotprompt.data.sources import examples_of, inputs_of
from glotprompt.errors import ConfigError, DataError, counted
from glotprompt.inference.classifier import Prediction, PromptClassifier, task_of
from glotprompt.inference.measurements import keep, sentence
from glotprompt.records import EvaluationReport
from glotprompt.spec import alone
from glotprompt.storage.metadata import Measurement, describe
from glotprompt.training.objectives.inputs import read_inputs

_AT_ONCE = 512
"""Inputs that are predicted before their results are shown."""
MOST_SEEN = 0.1
"""Share of the scored examples that may have been trained on where the accuracy is recorded. A guess."""


def evaluate(params: Params) -> None:
    """Score a classifier, compare it with another, and write the requested files."""
    data, against, prior_text = params["data"], params["against"], params["prior_text"]
    if params["save_offsets"] is not None and prior_text is None:
        raise ConfigError("--save-offsets has no offsets to save; fit them on --prior-text FILE")
    _check_record(params)
    file = describe(params["classifier"], ("classifier",))
    digest, task = file["digest"], task_of(file, params["classifier"])
    spoken = _language_of(params, file["language"]) if params["record"] else ""
    labels = chosen_labels(params["labels"], task)
    pairs = "premise" in task.template.fields
    check_reading(params, [data, *(prior_text or ())], pairs=pairs, labelled=[data])
    examples = examples_of(data, how_to_read(params), task.template.fields, task.labels)
    _check_seen(examples, file.get("seen", ""), params)
    opened = _opened(params)
    unknown = tell_unknown(opened, examples)
    theirs = None if against is None else predictions_against(against, opened, examples, labels, params)
    opened, prior = _with_prior(opened, labels, examples, params)
    report = protocol.evaluate(opened, examples, labels=labels, batch_size=params["batch_size"])
    _show_report(report)
    difference = None
    if against is not None and theirs is not None:
        difference = show_difference(against, examples, report, theirs)
    about: dict[str, Any] = {
        "classifier": str(params["classifier"]), "data": data, "content": content_hash(examples),
        "language": opened.language, "labels": list(labels or opened.task.labels), "label_prior": prior,
        "unknown": unknown.to_dict(),
    }  # fmt: skip
    write_json(params["json"], {**about, **report.to_json(), "against": difference})
    if (offsets := params["save_offsets"]) is not None:
        opened.save(offsets)
        digest = describe(offsets, ("classifier",))["digest"]
        wrote(offsets, "classifier with label offsets")
    if params["record"]:
        _record(offsets or params["classifier"], digest, Measurement(
            language=spoken, content=about["content"], num_examples=report.num_examples,
            accuracy=report.accuracy, interval=report.interval,
        ))  # fmt: skip
    suggest("predict", "--classifier", offsets or params["classifier"], "TEXT")


def _check_record(params: Params) -> None:
    """Refuse to record a figure that does not describe the file, and options that only a record uses."""
    if not params["record"]:
        if params["language"] is not None:
            raise ConfigError("--language is for --record; leave it out")
    elif params["labels"] is not None:
        raise ConfigError(
            "--record keeps what the file itself does, which chooses among all labels; leave --labels out"
        )
    elif params["prior_text"] and params["save_offsets"] is None:
        raise ConfigError(
            "--record keeps what the file itself does, which does not hold these offsets; give --save-offsets FILE, and"
            " the figure is kept there"
        )


def _check_seen(examples: Sequence[Example], digests: str, params: Params) -> None:
    """Note how many of the examples the classifier was trained on, and refuse to record where these are more than a
    few: many collections contain some texts twice."""
    count = num_seen(examples, digests)
    if not count:
        return
    what = f"{params['classifier']} was trained or chosen on {count:,} of {counted(len(examples), 'example')}"
    if params["record"] and count > MOST_SEEN * len(examples):
        raise DataError(f"{what}, so its accuracy there is none of new texts; leave them out, or leave --record out")
    note(f"note: {what}; figures are fairer without them")


def _language_of(params: Params, of_classifier: str) -> str:
    """The language of the examples that are scored: the reference's, or what --language says, or the classifier's."""
    data, language = params["data"], params["language"]
    reference = parse_reference(data)
    if reference is not None:
        if language is not None and not same_language(language, reference.language):
            raise ConfigError(f"--language {language} and --data {data} disagree; leave --language out")
        return reference.language
    if language is not None:
        return checked_code(language)
    if of_classifier == NOT_NAMED or "+" in of_classifier:
        raise ConfigError(f"which language is {data} in? Say it with --language CODE")
    return of_classifier


def _record(path: Path, digest: str, measurement: Measurement) -> None:
    with alone(path.with_name(f"{path.name}.checkpoints"), path, note):
        keep(path, digest, measurement)
    words = sentence([measurement], measurement.language)
    note(f"recorded in {path}: {words} ({measurement.language}; of another language, say --language CODE)")


def _opened(params: Params) -> PromptClassifier:
    return open_classifier(*(params[name] for name in ("classifier", "model", "precision", "device", "normalise")))


def _with_prior(
    classifier: PromptClassifier, labels: Sequence[str] | None, scored: Sequence[Example], params: Params
) -> tuple[PromptClassifier, dict[str, Any] | None]:
    """The classifier, calibrated if requested, and a record of the calibration for the figures."""
    label_prior, prior_text = params["label_prior"], params["prior_text"]
    if not prior_text:
        if label_prior is not None:
            raise ConfigError("--label-prior is fitted on unlabelled target text; give it with --prior-text FILE")
        return classifier, None
    names = labels or classifier.task.labels
    is_uniform = label_prior in (None, "uniform")
    prior = classifier.uniform_prior(names) if is_uniform else read_prior(label_prior, names)
    texts = inputs_of(prior_text, how_to_read(params), classifier.task.template.fields)
    scored_fields = {tuple(sorted(example.fields.items())) for example in scored}
    shared = sum(tuple(sorted(text.fields.items())) in scored_fields for text in texts)
    fitted = classifier.with_label_prior(texts, prior)
    shares = ", ".join(f"{name} {share / sum(prior.values()):.2f}" for name, share in prior.items())
    note(f"label offsets fitted on {len(texts):,} unlabelled texts to the prior {shares}")
    if shared:
        note(f"note: {shared:,} of these texts are among those being scored; figures are fairer with other text")
    offsets = dict(zip(classifier.task.labels, fitted.offsets or (), strict=True))
    return fitted, {"prior": prior, "num_texts": len(texts), "num_texts_scored_too": shared, "offsets": offsets}


def _show_report(report: EvaluationReport) -> None:
    low, high = report.interval
    occurring = sum(one.support > 0 for one in report.per_label.values())
    figures = {
        "accuracy": f"{report.accuracy:.1f} %, 95 % interval {low:.1f} to {high:.1f},"
        f" {counted(report.num_examples, 'example')}",
        "majority class": f"{report.majority:.1f} %, by answering {report.majority_label!r} every time",
        "macro-F1": f"{report.macro_f1:.1f} % over the {counted(occurring, 'label that occurs', 'labels that occur')},"
        f" {report.macro_f1_all:.1f} % over the {len(report.per_label)} of examples and predictions",
    }
    definitions(figures)
    scores = table(["label", "precision", "recall", "F1", "examples"])
    for label, one in report.per_label.items():
        figures = (f"{value:.1f}" for value in (one.precision, one.recall, one.f1))
        scores.add_row(label, *figures, f"{one.support:,}")
    names = list(report.per_label)
    confusion = table(["is \\ predicted", *names])
    for truth in (name for name in names if name in report.confusion):
        row = report.confusion[truth]
        confusion.add_row(truth, *(f"{row[name]:,}" if name in row else "." for name in names))
    console().print(Group("", scores, "", confusion))
    warn(_warnings(report, occurring))


def _warnings(report: EvaluationReport, num_occurring: int) -> Generator[str]:
    """Warnings about figures that say less than they seem to."""
    if num_occurring == 1:
        yield f"only one label, {report.majority_label!r}, occurs among the examples; these figures say little"
    elif report.accuracy < report.majority:
        yield f"below the majority class: answering {report.majority_label!r} every time is right more often"
    if report.collapsed_label is not None:
        share = f"{report.largest_share:.0f} %"
        yield f"collapse: {share} of the examples were labelled {report.collapsed_label!r}; these figures say little"


def predict(params: Params) -> None:
    """Classify texts, and print or write the predictions."""
    sources = _sources(params["texts"], params["input"])
    task = task_of(describe(params["classifier"], ("classifier",)), params["classifier"])
    fields, labels = task.template.fields, chosen_labels(params["labels"], task)
    check_reading(params, [*sources, *(params["prior_text"] or ())], pairs="premise" in fields, labelled=sources)
    typed = [] if sources else _arguments(params["texts"] or [], fields, params["normalise"])
    inputs = inputs_of(sources, how_to_read(params), fields) if sources else typed
    opened = _opened(params)
    opened, _ = _with_prior(opened, labels, inputs, params)
    tell_unknown(opened, inputs)
    _tell_cut(opened, inputs)
    if labels is None and not params["prior_text"]:
        note(f"accuracy: {sentence(opened.measurements, opened.language)}")
    parts = [inputs[start : start + _AT_ONCE] for start in range(0, len(inputs), _AT_ONCE)]
    results = ((part, opened.predict(part, labels=labels, batch_size=params["batch_size"])) for part in parts)
    if params["json"] is not None:
        write_lines(params["json"], (line for result in results for line in _lines(opened, *result)), "predictions")
        return
    for part, predictions in results:
        _print_table(part, predictions)
    suggest("evaluate", "--classifier", params["classifier"], "--data", "LABELLED.tsv")


def _tell_cut(classifier: PromptClassifier, inputs: Sequence[Example]) -> None:
    """Note how many texts are too long for the classifier."""
    if classifier.reads_characters:
        return
    fields = [item.fields for item in inputs]
    _, clozes = read_inputs(
        classifier.backbone, fields, classifier.task, classifier.head, classifier.max_length, classifier.characters
    )
    count = sum(cloze.truncated for cloze in clozes)
    if count:
        verb = "is longer than" if count == 1 else "are longer than"
        note(f"{count:,} of {counted(len(inputs), 'text')} {verb} {classifier.max_length} tokens; the end is not read")


def _sources(texts: Sequence[str] | None, files: Sequence[str] | None) -> list[str]:
    """The files to read; none when the texts stand on the command line."""
    if texts and files:
        raise ConfigError("texts and --input were both given; give one of them")
    if files:
        return list(files)
    if texts:
        return ["-"] if list(texts) == ["-"] else []
    if sys.stdin.isatty():
        raise ConfigError("nothing to classify; give texts, --input FILE, or pipe lines in")
    return ["-"]


def _arguments(texts: Sequence[str], fields: Sequence[str], clean: bool) -> list[Example]:
    """Inputs that were typed, normalised where they are to be `clean`."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(f"the text {text!r} is not valid UTF-8; check the terminal's encoding") from None
        if not text.strip():
            raise DataError("one of the texts is empty; give something to classify")
    texts = [normalise(text) for text in texts] if clean else texts
    if "premise" not in fields:
        return [Example.of(text) for text in texts]
    if len(texts) % 2:
        raise DataError(
            f"this classifier reads pairs; give premise and hypothesis in turn, not {counted(len(texts), 'text')}"
        )
    return [Example.of((texts[i], texts[i + 1])) for i in range(0, len(texts), 2)]


def _lines(
    classifier: PromptClassifier, inputs: Sequence[Example], predictions: Sequence[Prediction]
) -> Iterator[dict[str, Any]]:
    for item, prediction, unknown in zip(inputs, predictions, unknown_of_each(classifier, inputs), strict=True):
        place = {"id": item.id} if item.id else {}
        yield {**place, **item.fields, "label": prediction.label, "scores": prediction.scores, **unknown}


def _print_table(inputs: Sequence[Example], predictions: Sequence[Prediction]) -> None:
    """A table on a terminal; label, probability and text separated by tabs when piped."""
    rows = [
        (
            prediction.label,
            f"{prediction.scores[prediction.label]:.3f}",
            " ".join(" / ".join(item.fields.values()).split()),
        )
        for item, prediction in zip(inputs, predictions, strict=True)
    ]
    if not sys.stdout.isatty():
        for row in rows:
            say(*row)
        sys.stdout.flush()
        return
    listing = table(["label", "probability", "text"])
    listing.columns[2].justify = "left"
    for row in rows:
        listing.add_row(*(Text(cell) for cell in row))
    console().print(listing)
