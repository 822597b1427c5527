"""`compare`: the ways to classify a person's own data, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from glotprompt.cli.backbone import open_backbone
from glotprompt.cli.declare import Params
from glotprompt.cli.decontamination import Stage1Text, check_training_files, parallel_text, unlabelled_to_check
from glotprompt.cli.files import check_reading, how_to_read, idle_reading
from glotprompt.cli.options import FILES
from glotprompt.cli.program import all_options, options_of, words_of
from glotprompt.cli.screen import note, resumable, say, write_json
from glotprompt.cli.tables import console, table
from glotprompt.cli.tune import tell_few, without_examples
from glotprompt.compare.budget import Budget
from glotprompt.compare.candidates import Typed
from glotprompt.compare.choice import label_folds
from glotprompt.compare.figure import accuracy_plot
from glotprompt.compare.result import CompareResult, CompareRow, Gain
from glotprompt.compare.run import PLOT, RESULT
from glotprompt.compare.run import compare as compare_candidates
from glotprompt.compare.training import Material, Trainer
from glotprompt.config import RuntimeConfig
from glotprompt.data.decontamination import OverlapReport, decontaminated_examples, held_out_texts
from glotprompt.data.languages import checked_code, name_of
from glotprompt.data.readers.records import Example
from glotprompt.data.sources import examples_of, inputs_of
from glotprompt.errors import MissingExtraError, UserError
from glotprompt.model.loading import MINI, MINI_SENTENCE, predicts_tokens
from glotprompt.records import OverlapCheck, TextReport
from glotprompt.report.figures import as_file
from glotprompt.report.tables import DASH, duration, number
from glotprompt.spec import alone
from glotprompt.storage import atomic
from glotprompt.task import Task

_MACHINE = ("precision", "device")
_FLAGS = {"allow_unknown", "allow_evaluation_text", "no_samples"}


def compare(params: Params) -> None:
    """Run what fits into the time, show it, save the winner, and advise."""
    budget = Budget(params["minutes"])
    output: Path = params["output"]
    if output.is_file():
        raise UserError(f"--output {output} is a file; give a folder")
    checked_code(params["language"])
    model = params["model"] or MINI_SENTENCE
    names = model, model if params["model"] and predicts_tokens(model) else MINI
    runtime = RuntimeConfig(allow_unknown=bool(params["allow_unknown"]), no_samples=bool(params["no_samples"]))
    material = _material(params)

    def models(name: str) -> Any:
        return open_backbone(name, params["precision"], params["device"])

    output.mkdir(parents=True, exist_ok=True)
    with alone(output / "work", output, note), resumable(output / "work"):
        trainer = Trainer(material, models, names, output / "work", runtime)
        result = compare_candidates(trainer, _typed(params, material.task), output, budget, note)
        _show(result, material.num_scored_twice)
        _write_plot(result, output / PLOT)
    note(f"wrote {output / RESULT} (figures)")
    write_json(params["json"], result.to_json())


def _typed(params: Params, task: Task) -> Typed:
    lists = {name: [*dict.fromkeys(params[name] or ())] for name in ("train", "target", "parallel", "held_out")}
    reads_pairs = "premise" in task.template.fields

    def reading(files: Sequence[str], labelled: Sequence[str], compared: Sequence[str]) -> list[str]:
        options = [option.name for option in options_of("compare" if labelled else "adapt")[FILES]]
        idle = idle_reading(params, files, pairs=reads_pairs, labelled=labelled, compared=compared)
        read = [pair for pair in params["read"] or () if f"read {pair.partition('=')[0]}=" not in idle]
        return words_of("compare", {**params, "read": read}, {*options} - idle.keys())

    def flags(command: str) -> list[str]:
        return words_of("compare", params, _FLAGS & {option.name for option in all_options(command)})

    return Typed(
        language=params["language"],
        task=params["task"],
        labels=params["target_labels"] or "",
        dev=params["dev"] or "",
        reading=reading,
        machine=words_of("compare", params, _MACHINE),
        flags=flags,
        **lists,
    )


def _material(params: Params) -> Material:
    """What is read: nothing that will be scored is in what is trained on."""
    task, how = Task.load(params["task"]), how_to_read(params)
    labels_file, dev_file = params["target_labels"], params["dev"]
    target_files, pair_files = params["target"] or [], params["parallel"] or []
    labelled = [*params["train"], *(file for file in (dev_file, labels_file) if file)]
    fields, pairs = task.template.fields, "premise" in task.template.fields
    files, compared = [*labelled, *target_files, *pair_files], params["held_out"] or ()
    check_reading(params, files, pairs=pairs, labelled=labelled, compared=compared)
    check_training_files(params["train"], params["language"], params)
    train = [one for file in dict.fromkeys(params["train"]) for one in examples_of(file, how, fields, task.labels)]
    dev = None if dev_file is None else examples_of(dev_file, how, fields, task.labels)
    labels = [] if labels_file is None else examples_of(labels_file, how, fields, task.labels)
    if labels:
        label_folds(labels)  # what is wrong with them is said before anything is trained
        tell_few(labels, "target labels")
    scored = [*(params["held_out"] or ()), *([labels_file] if labels_file else [])]
    held_out = held_out_texts((), scored, how)
    num = len(train) + len(dev or ())
    train, _ = _without(train, held_out, "training examples")
    dev = None if dev is None else _without(dev, held_out, "dev examples")[0]
    learned = Counter(str(one.label) for one in [*train, *labels])
    for warning in without_examples({label: learned[label] for label in task.labels}):
        note(f"note: {warning}")
    pairs_text = Stage1Text(TextReport())
    if pair_files:
        pairs_text = parallel_text(params["language"], pair_files, {**params, "held_out": scored})
    target, report = _target(target_files, scored, params, fields) if target_files else ([], None)
    return Material(
        task,
        params["language"],
        train,
        dev,
        target,
        pairs=pairs_text.pairs,
        pairs_record=pairs_text.record,
        labels=labels,
        target_check=OverlapCheck.model_validate(report.to_json()) if report and report.overlaps else None,
        num_scored_twice=num - len(train) - len(dev or ()),
    )


def _target(
    files: Sequence[str], scored: Sequence[str], params: Params, fields: Sequence[str]
) -> tuple[list[Example], OverlapReport]:
    """The unlabelled target text without what is scored, and what lies beside it as dev and test text."""
    held_out = unlabelled_to_check(files, {**params, "held_out": scored})
    texts = [Example(one.fields) for one in inputs_of(files, how_to_read(params), fields)]
    return _without(texts, held_out, "target text")


def _without(
    examples: Sequence[Example], held_out: Mapping[str, Sequence[str]], name: str
) -> tuple[list[Example], OverlapReport]:
    """The examples none of whose texts is scored."""
    clean, report = decontaminated_examples(examples, held_out, name)
    if report.num_removed or name == "target text":
        note(f"{name}: {report.sentence()}")
    return clean, report


# ---------------------------------------------------------------------------------------------------------------
# What is shown


def _show(result: CompareResult, num_scored_twice: int) -> None:
    out = console()
    out.print(_table(result))
    left_out = [row for row in result.rows if row.not_run is not None]
    for row in left_out:
        say(f"not run: {row.title} ({row.not_run})")
    out.print()
    for sentence in result.advice:
        out.print(Text(sentence))
    if result.commands:
        out.print()
        say("What is saved can be made again with:")
        for command in result.commands:
            say(f"  {command}")
        if num_scored_twice:
            say(f"They read all labelled examples; here {num_scored_twice:,} were left out, as they are scored, too.")
    if result.saved is not None:
        note(f"wrote {result.saved.file} (classifier)")


def _table(result: CompareResult) -> Any:
    rows = [row for row in result.rows if row.not_run is None]
    measured = bool(result.target_labels)
    headings = ["", f"{name_of(result.language)}, %", "95 % interval", "over baseline"] if measured else [""]
    headings += ["source dev, %"] if not measured else []
    aligned = any(row.retrieval for row in rows)
    headings += ["translations found, %"] if aligned else []
    listing = table([*headings, "seeds", "time"])
    for row in sorted(rows, key=lambda row: -(row.accuracy or 0)) if measured else rows:
        cells = [row.title]
        cells += _scores(row) if measured else [number(row.source_dev_accuracy)]
        cells += [DASH if row.retrieval is None else "{:.0f} to {:.0f}".format(*row.retrieval)] if aligned else []
        seeds = str(max(1, len(row.accuracies)))
        listing.add_row(*cells, seeds, duration(row.seconds), style="bold" if row.name == result.winner else None)
    return listing


def _scores(row: CompareRow) -> list[str]:
    low, high = row.interval or (0.0, 0.0)
    return [number(row.accuracy), f"{low:.1f} to {high:.1f}", DASH if row.gain is None else _gain(row.gain)]


def _gain(gain: Gain) -> str:
    return f"{gain.mean:+.1f} ({gain.low:+.1f} to {gain.high:+.1f})"


def _write_plot(result: CompareResult, path: Path) -> None:
    try:
        plot = accuracy_plot(result)
    except MissingExtraError as error:
        note(f"no plot: {error}")
        return
    if plot:
        atomic.write(path, as_file(plot))
        note(f"wrote {path} (plot)")
