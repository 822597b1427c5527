"""`tune` (stage 2): learn a task from labelled source-language examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glotprompt.cli.backbone import open_start, recorded_backbone, train_once
from glotprompt.cli.declare import Params
from glotprompt.cli.decontamination import Stage1Text, check_training_files, parallel_text, unlabelled_to_check
from glotprompt.cli.files import check_reading, how_to_read
from glotprompt.cli.screen import definitions, note, suggest, write_json
from glotprompt.cli.settings import settings
from glotprompt.cli.tables import warn
from glotprompt.config import RuntimeConfig, TuneConfig
from glotprompt.data.decontamination import decontaminated_examples
from glotprompt.data.languages import checked_code, name_of
from glotprompt.data.readers.records import Example, content_hash, text_key
from glotprompt.data.sources import examples_of, inputs_of
from glotprompt.errors import ConfigError, counted
from glotprompt.inference.classifier import PromptClassifier
from glotprompt.methods import METHODS, default_method
from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import MINI, MINI_SENTENCE, predicts_tokens
from glotprompt.model.shapes import Shell
from glotprompt.records import Decontamination, TextReport, TuneReport
from glotprompt.report.tables import duration, size
from glotprompt.stages.stage2 import train_stage2
from glotprompt.stages.stage2_data import Stage2
from glotprompt.storage.kinds import STAGE1_KINDS
from glotprompt.storage.metadata import describe
from glotprompt.task import Task
from glotprompt.training.objectives.cloze import words_of_several_tokens

FEW = 5
"""Examples of a label below which a person is warned. A guess: the fewest that a figure of ours has."""


def tune(params: Params) -> None:
    """Train, save and report a classifier."""
    prompt, model, language, output = (params[name] for name in ("prompt", "model", "language", "output"))
    targets = [params["target_labels"]] if params["target_labels"] is not None else []
    if language is not None and prompt is not None:
        raise ConfigError(f"--language has no effect: {prompt} says which language it is; leave --language out")
    if language is not None:
        checked_code(language)
    loaded = Task.load(params["task"])
    reads_characters = params["method"] in METHODS and METHODS[params["method"]].reads_characters
    if reads_characters:
        _refuse_for_characters(params)
        name, adapted_by = MINI, None  # in name only
    elif prompt is not None:
        name, adapted_by = recorded_backbone(prompt, STAGE1_KINDS)
    elif model is not None or params["method"] == "embedding":
        name, adapted_by = model or MINI_SENTENCE, None
    else:
        raise ConfigError("give --prompt FILE (what adapt wrote), or --model NAME to tune without adaptation")
    made_by = default_method(adapted_by, predicts_tokens(model or name))
    config, runtime = settings(TuneConfig, params, name, made_by)
    method, parallel = METHODS[config.method or made_by], params["parallel"] or []
    for option in ("target_text", "parallel"):
        if params[option] and not method.reads_vectors:
            raise ConfigError(f"--{option.replace('_', '-')} is for --method embedding alone; leave it out")
    for option in ("held_out", "no_overlap_check"):
        if params[option] and not (parallel or params["target_text"]):
            raise ConfigError(f"--{option.replace('_', '-')} is for --parallel and --target-text; leave it out")
    if parallel and targets:
        raise ConfigError("--parallel (a ridge map) and --target-labels do not go together; leave one of them out")
    target_language = language if prompt is None else str(describe(prompt, STAGE1_KINDS)["language"])
    record = check_training_files([*params["train"], *targets], target_language, params)
    data = labelled_data(loaded, params, [*(params["target_text"] or ()), *parallel])
    pairs = parallel_text("tune", parallel, params) if parallel else Stage1Text(record)
    record = pairs.record.replace(**data.counts)
    if reads_characters:
        start, backbone = None, Shell.named(name)
    else:
        start, backbone = open_start(prompt, model if prompt else name, params["precision"], params["device"])
    if method.reads_words(config):
        for remark in words_of_several_tokens(loaded, backbone.tokenizer, backbone.input_embeddings):
            note(remark)
    target_text, checked = _target_text(loaded, params)
    if checked:
        earlier = {} if record.decontamination is None else record.decontamination.to_json()
        record = record.replace(decontamination=Decontamination.model_validate({**earlier, "target": checked}))
    stage2 = Stage2.of(
        backbone, start, data.examples, loaded, config, data.dev, target_examples=data.target,
        parallel=pairs.pairs or (), language=language or "",
    )  # fmt: skip
    classifier = _tune_one(backbone, stage2, target_text, record, runtime, output)
    _show_classifier(classifier)
    write_json(params["json"], classifier_figures(classifier, output))
    suggest("evaluate", "--classifier", output, "--data", "TARGET-TEST.tsv")


def _target_text(task: Task, params: Params) -> tuple[list[Example], dict[str, Any]]:
    """The text of `--target-text` without evaluation text, and the check for the report; {} without one."""
    files = params["target_text"] or ()
    held_out = unlabelled_to_check(files, params) if files else {}
    texts = inputs_of(files, how_to_read(params), task.template.fields)
    if not held_out:
        return texts, {}
    texts, report = decontaminated_examples(texts, held_out, "target text")
    note(f"target text: {report.sentence()}")
    return texts, report.to_json()


def _refuse_for_characters(params: Params) -> None:
    for name in ("model", "prompt", "target_text", "parallel"):
        if params[name]:
            raise ConfigError(
                f"--{name.replace('_', '-')} has no effect: {params['method']} reads characters, and no backbone; leave"
                " it out"
            )
    if params["target_labels"]:
        raise ConfigError(
            f"{params['method']} learns from one file, as the source's characters say little of the target's; give the"
            " target labels as --train"
        )


@dataclass(frozen=True)
class LabelledData:
    """Training and dev examples of stage 2."""

    examples: list[Example]
    dev: list[Example] | None
    target: list[Example]
    """Of the target language."""
    counts: dict[str, Any]
    """Field of the report that says how many are of each file, where there are several."""


def labelled_data(task: Task, params: Params, unlabelled: Sequence[str]) -> LabelledData:
    """Read the files of `--train`, `--dev` and `--target-labels`; `unlabelled` are the command's other files."""
    dev, target = params["dev"], params["target_labels"]
    labelled = [*params["train"], *(one for one in (dev, target) if one is not None)]
    pairs, compared = "premise" in task.template.fields, params["held_out"] or ()
    check_reading(params, [*labelled, *unlabelled], pairs=pairs, labelled=labelled, compared=compared)

    def read(source: str) -> list[Example]:
        return examples_of(source, how_to_read(params), task.template.fields, task.labels)

    of_each = {source: read(source) for source in params["train"]}
    if len(of_each) < len(params["train"]):
        raise ConfigError("--train names a file twice; give each once")
    counts = {source: len(examples) for source, examples in of_each.items()}
    if len(counts) > 1:
        note("; ".join(f"{source}: {counted(count, 'example')}" for source, count in counts.items()))
    train, few = [one for examples in of_each.values() for one in examples], [] if target is None else read(target)
    tell_few(train, "training examples")
    tell_few(few, "target labels")
    judged = None if dev is None else read(dev)
    if judged is not None:
        _tell_both(train, judged)
    counted_by_file = {"train_sources": counts} if len(counts) > 1 else {}
    return LabelledData(train, judged, few, counted_by_file)


def _tell_both(train: Sequence[Example], dev: Sequence[Example]) -> None:
    """Note how many dev examples are trained on."""
    trained = {text_key(one) for one in train}
    if both := sum(text_key(one) in trained for one in dev):
        note(f"{both:,} of {counted(len(dev), 'dev example')} stand among the training examples, too")


def tell_few(examples: Sequence[Example], which: str) -> None:
    """Note the labels with fewer than `FEW` examples."""
    few = [f"{label} {count}" for label, count in Counter(one.label for one in examples).items() if count < FEW]
    if few:
        note(f"few {which} of a label ({', '.join(few)}): with fewer than {FEW} it is learned and judged by chance")


def _tune_one(
    backbone: Backbone,
    stage2: Stage2,
    target_text: Sequence[Example],
    record: TextReport,
    runtime: RuntimeConfig,
    output: Path,
) -> PromptClassifier:
    """The classifier: trained and saved now, or by an earlier run. `record`: how its text was prepared, for the
    report."""
    spec = stage2.spec(backbone)
    of_training = spec.identity
    if target_text:
        spec = replace(spec, contents={**spec.contents, "target_text": content_hash(target_text)})

    def train(runtime: RuntimeConfig) -> PromptClassifier:
        counts = Counter(example.label for example in stage2.examples)
        numbers = ", ".join(f"{label} {counts[label]:,}" for label in stage2.task.labels)
        note(f"{counted(len(stage2.examples), 'example')} of {stage2.task.name}: {numbers}")
        if stage2.target:
            note(f"{counted(len(stage2.target), 'target-language example')} besides")
        classifier = train_stage2(backbone, stage2, runtime, of_training)
        if target_text:
            classifier = classifier.with_target_text(target_text)
        return classifier

    return train_once(
        spec, output, lambda path: PromptClassifier.load(path, backbone), train, text=record, runtime=runtime
    )


def _show_classifier(classifier: PromptClassifier) -> None:
    report = classifier.training
    chosen_values = {"best step": f"{report.best_step} of {report.steps}"}
    if report.strength is not None:
        chosen_by = "dev accuracy" if report.folds is None else f"cross-validation in {report.folds} folds"
        features = "n-grams" if report.layer is None else f"vectors behind layer {report.layer}"
        chosen_values = {"regression": f"on {features}, C {report.strength:g} by {chosen_by}"}
    trained = f"{report.trained_parameters:,}"
    if report.trained_layers is not None:
        first, stop = report.trained_layers
        layers = f"{stop - first} of {counted(classifier.backbone.num_layers, 'layer')} ({first + 1} to {stop})"
        trained += f", prompts of {layers}"
    judged = counted(report.dev_examples, "example" if classifier.reads_characters else "source-language example")
    learned = dict[str, str]()
    if report.target_examples is not None:
        judging = f"{report.target_dev_examples} in dev" if report.folds is None else f"judged in {report.folds} folds"
        of_target = f"{report.target_examples} in training, {judging}"
        learned = {"target labels": f"{of_target}; one weighs {report.target_weight:.3g} source examples"}
        judged = f"{counted(report.dev_examples, 'example')} of both languages"
    rate = f", {report.tokens / max(report.seconds, 1e-9):,.0f} tokens/s" if report.tokens else ""
    definitions(
        {
            "task": f"{classifier.task.name}, {len(classifier.task.labels)} labels",
            "language": f"{name_of(classifier.language)}, {classifier.method}",
            **learned,
            "dev accuracy": f"{report.dev_accuracy:.1f} % of {judged}",
            **chosen_values,
            "trained parameters": trained,
            "time": duration(report.seconds) + rate,
            "peak memory": size(report.peak_memory_bytes),
        }
    )
    warn(_warnings(report))


def _warnings(report: TuneReport) -> Generator[str]:
    """Warnings about a classifier's training."""
    yield from without_examples(report.labels)
    for counts, which in ((report.labels, "training"), (report.dev_labels, "dev")):
        occurring = [label for label, count in counts.items() if count]
        if len(occurring) == 1:
            yield f"only one label, {occurring[0]!r}, occurs among the {which} examples; dev accuracy says little"
    if report.steps and not report.best_step:
        yield "no epoch was better than the start, which is what is saved; try another learning rate or more epochs"


def without_examples(counts: Mapping[str, int]) -> Generator[str]:
    """A warning about the labels that have no training example."""
    missing = [label for label, count in counts.items() if not count]
    if missing:
        yield f"no example of {', '.join(missing)} was trained on; the classifier has not learned when to answer so"


def classifier_figures(classifier: PromptClassifier, output: Path) -> dict[str, Any]:
    """Figures of a saved classifier and its training, as JSON."""
    return {
        "output": str(output), "file_bytes": output.stat().st_size, "language": classifier.language,
        "task": classifier.task.to_dict(), **classifier.training.to_json(),
    }  # fmt: skip
