"""`tune` (stage 2): learn a task from labelled source-language examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from glotprompt.cli import options
from glotprompt.cli.screen import facts, note, suggest, warn, write_json
from glotprompt.errors import ConfigError, counted

if TYPE_CHECKING:
    from glotprompt.classifier import Adapted, PromptClassifier
    from glotprompt.config import RuntimeConfig, TuneConfig
    from glotprompt.data.records import Example
    from glotprompt.model.encoder import Encoder
    from glotprompt.templates import Task


def tune(
    ctx: typer.Context,
    train: options.Train,
    task: options.Task,
    output: options.ClassifierOutput,
    prompt: options.Prompt = None,
    model: options.ModelToTune = None,
    language: options.LanguageOfClassifier = None,
    method: options.Method = None,
    head: options.Head = None,
    dev: options.Dev = None,
    target_text: options.TargetText = None,
    json: options.Json = None,
    preset: options.Preset = None,
    top_k_layers: options.TopK = None,
    bottom_k_layers: options.BottomK = None,
    loss_over: options.LossOver = None,
    shots_per_class: options.Shots = None,
    epochs: options.Epochs = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    seed: options.Seed = None,
    set: options.Set = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    premise_column: options.PremiseColumn = None,
    hypothesis_column: options.HypothesisColumn = None,
    data_dir: options.DataDir = None,
    revision: options.Revision = None,
    read: options.Read = None,
    on_bad_row: options.OnBadRow = "error",
    normalise: options.Normalise = False,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    micro_batch_size: options.MicroBatchSize = None,
    gradient_checkpointing: options.GradientCheckpointing = False,
    checkpoint_every: options.CheckpointEvery = None,
    eval_batch_size: options.EvalBatchSize = None,
    no_samples: options.NoSamples = False,
    allow_evaluation_text: options.AllowEvaluationText = False,
) -> None:
    """Stage 2: learn a task from labelled source-language examples.

    It starts from what adapt wrote and goes on with its method, or with --model alone from noise (no adaptation); with
    --method fine-tuning the whole model is trained. A killed run, started again with
    the same words, goes on.
    """
    from glotprompt.cli.backbone import STAGE1_KINDS, open_start, recorded_backbone
    from glotprompt.cli.guards import check_training_file
    from glotprompt.cli.settings import settings
    from glotprompt.config import TuneConfig
    from glotprompt.data.languages import checked_code
    from glotprompt.methods import METHODS, default_method
    from glotprompt.model.backbones import MINI_SENTENCE, predicts_tokens
    from glotprompt.templates import Task
    from glotprompt.train.cloze import words_of_several_tokens

    if language is not None and prompt is not None:
        raise ConfigError(f"--language has no effect: {prompt} says which language it is; leave --language out")
    if language is not None:
        checked_code(language)
    loaded = Task.load(task)
    if prompt is not None:
        name, adapted_by = recorded_backbone(prompt, STAGE1_KINDS)
    elif model is not None or method == "embedding":
        name, adapted_by = model or MINI_SENTENCE, None
    else:
        raise ConfigError("give --prompt FILE (what adapt wrote), or --model NAME to tune without adaptation")
    made_by = default_method(adapted_by, predicts_tokens(model or name))
    config, runtime = settings(TuneConfig, ctx.params, name, made_by)
    if target_text and not METHODS[config.method or made_by].reads_vectors:
        raise ConfigError("--target-text is for --method embedding alone; leave it out")
    record = check_training_file(train, prompt, ctx.params)
    examples, held = _stage2_data(loaded, ctx.params)
    start, encoder = open_start(prompt, model if prompt else name, precision, device)
    if config.head == "words" and not METHODS[config.method or made_by].reads_vectors:
        for remark in words_of_several_tokens(loaded, encoder.tokenizer, encoder.input_embeddings):
            note(remark)
    unlabelled = _target_text(loaded, ctx.params)
    classifier = _tune_one(
        encoder, start, examples, held, loaded, config, runtime, output, precision, unlabelled, record, language or ""
    )
    _show_classifier(classifier)
    if json is not None:
        write_json(json, _classifier_figures(classifier, output))
    suggest("evaluate", "--classifier", output, "--data", "TARGET-TEST.tsv")


def _stage2_data(task: Task, params: Mapping[str, Any]) -> tuple[list[Example], list[Example] | None]:
    """Training and dev examples, as tune's parameters ask for them."""
    from glotprompt.cli.files import check_reading, examples_of, how_to_read

    dev = params["dev"]
    labelled = [params["train"], *([] if dev is None else [dev])]
    pairs = "premise" in task.template.fields
    check_reading(params, [*labelled, *(params["target_text"] or ())], pairs=pairs, labelled=labelled)
    how = how_to_read(params)
    examples = examples_of(params["train"], task.template, params, how, task.labels)
    return examples, None if dev is None else examples_of(dev, task.template, params, how, task.labels)


def _target_text(task: Task, params: Mapping[str, Any]) -> list[Example]:
    """The texts of --target-text; none without it."""
    from glotprompt.cli.files import how_to_read, inputs_of

    return inputs_of(params["target_text"] or [], task.template, params, how_to_read(params))


def _tune_one(
    encoder: Encoder,
    start: Adapted | None,
    examples: Sequence[Example],
    dev: Sequence[Example] | None,
    task: Task,
    config: TuneConfig,
    runtime: RuntimeConfig,
    output: Path,
    precision: str,
    target_text: Sequence[Example],
    record: Mapping[str, Any],
    language: str,
) -> PromptClassifier:
    """The classifier: trained and saved, or as an earlier run of the same words left it."""
    from glotprompt import artifact, run
    from glotprompt.classifier import PromptClassifier
    from glotprompt.cli.backbone import train_once
    from glotprompt.data.records import content_hash

    def train(folder: Path) -> PromptClassifier:
        counts = Counter(example.label for example in examples)
        shown = ", ".join(f"{label} {counts[label]:,}" for label in task.labels)
        note(f"{counted(len(examples), 'example')} of {task.name}: {shown}")
        resumed = runtime.replace(checkpoint_dir=folder)
        made = run.tune(encoder, start, examples, task, config, resumed, dev, language=language)
        if target_text:
            made = made.with_target_text(target_text)
        return replace(made, facts={**made.facts, **record})

    begun: list[Any] = []
    if start is not None:
        parts = start.parts.values()
        begun = [start.language, *(artifact.digest(part.tensors, part.description) for part in parts)]
        begun += [] if start.characters is None else [start.characters.to_dict()]
    data: list[Any] = [content_hash(examples), None if dev is None else content_hash(dev)]
    words = [config.identity(), task.identity(), data, begun, encoder.fingerprint, precision]
    words += [content_hash(target_text)] if target_text else []
    words += [dict(record)] if record else []
    words += [language] if language else []
    return train_once(PromptClassifier.load, output, words, encoder, train, runtime)


def _show_classifier(classifier: PromptClassifier) -> None:
    from glotprompt.data.languages import name_of
    from glotprompt.report.tables import duration, size

    found: Mapping[str, Any] = classifier.facts
    chosen_values = {"best step": f"{found['best_step']} of {found['steps']}"}
    if "strength" in found:
        chosen_values = {"sentence vectors": f"behind layer {found['layer']}, C {found['strength']:g} by dev accuracy"}
    trained = f"{found['trained_values']:,}"
    if found["trained_layers"] is not None:
        first, stop = found["trained_layers"]
        layers = f"{stop - first} of {counted(classifier.encoder.num_layers, 'layer')} ({first + 1} to {stop})"
        trained += f", prompts of {layers}"
    facts(
        {
            "task": f"{classifier.task.name}, {len(classifier.task.labels)} labels",
            "language": f"{name_of(classifier.language)}, {classifier.method}",
            "dev accuracy": f"{found['dev_accuracy']:.1f} % of"
            f" {counted(found['dev_examples'], 'source-language example')}",
            **chosen_values,
            "trained values": trained,
            "time": f"{duration(found['seconds'])}, {found['tokens'] / max(found['seconds'], 1e-9):,.0f} tokens/s",
            "peak memory": size(found["peak_memory_bytes"]),
        }
    )
    warn(_warnings(found))


def _warnings(found: Mapping[str, Any]) -> Generator[str]:
    """What a person should know before the classifier is believed; `found` are its facts."""
    missing = [label for label, count in found.get("labels", {}).items() if not count]
    if missing:
        yield f"no example of {', '.join(missing)} was trained on; the classifier has not learned when to answer so"
    for name, which in (("labels", "training"), ("dev_labels", "dev")):
        occurring = [label for label, count in found.get(name, {}).items() if count]
        if len(occurring) == 1:
            yield f"only one label, {occurring[0]!r}, occurs among the {which} examples; dev accuracy says little"
    if found["steps"] and not found["best_step"]:
        yield "no epoch was better than the start, which is what is saved; try another learning rate or more epochs"


def _classifier_figures(classifier: PromptClassifier, output: Path) -> dict[str, Any]:
    return {
        "output": str(output), "file_bytes": output.stat().st_size, "language": classifier.language,
        "task": classifier.task.to_dict(), **classifier.facts,
    }  # fmt: skip
