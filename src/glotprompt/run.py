"""The protocol, to be read in one sitting: adapt (stage 1), tune (stage 2), evaluate. What differs between methods
stands in `methods`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glotprompt import artifact
from glotprompt.classifier import (
    Adapted,
    Input,
    LanguageModule,
    LanguagePrompt,
    Part,
    PromptClassifier,
    read_inputs,
    rewritten_fields,
)
from glotprompt.combination import shared_characters
from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig, identity_of
from glotprompt.data.characters import CharacterMap
from glotprompt.data.languages import NOT_NAMED
from glotprompt.data.records import Example, content_hash, split_held_out
from glotprompt.data.samples import Samples
from glotprompt.errors import ConfigError, DataError
from glotprompt.initial import Initial, initial_prompt, weighted
from glotprompt.methods import method_of_adapt, method_of_tune, refuse_other_backbone
from glotprompt.model.classification import Head, LinearHead
from glotprompt.model.delta import Delta
from glotprompt.model.deltas import trained_of
from glotprompt.model.encoder import Encoder
from glotprompt.model.soft_prompt import SoftPrompt
from glotprompt.stage1 import SentencePairs, count_unknown, train_language, with_objective
from glotprompt.templates import Task
from glotprompt.train.alignment import split_pairs
from glotprompt.train.checkpoint import Checkpoint, same_precision
from glotprompt.train.cloze import ClozeCorpus, encode_without_mask
from glotprompt.train.embedding import Examples, fit_embedding_head
from glotprompt.train.inputs import check_length, labelled_examples
from glotprompt.train.loop import Evaluation, History, Optimisation, fit
from glotprompt.train.losses import label_losses
from glotprompt.train.lower_layers import below_trained_layers
from glotprompt.train.memory import PeakMemory, gradient_checkpointing
from glotprompt.train.micro_batch import MicroBatch
from glotprompt.train.progress import StepLine
from glotprompt.train.scoring import Report, log_probabilities, report

# ---------------------------------------------------------------------------------------------------------------
# Stage 1


def adapt(
    encoder: Encoder,
    target: Sequence[str] = (),
    source: Sequence[str] = (),
    language: str = "",
    config: AdaptConfig | None = None,
    runtime: RuntimeConfig | None = None,
    characters: CharacterMap | None = None,
    initial: Initial | None = None,
    *,
    parallel: SentencePairs | None = None,
) -> Adapted:
    """Learn one language from unlabelled text (section 3.1) or from translations, by the config's method.

    `target` and `source` are lines of text; a share of the target's is held out, on which the masked-word loss is
    measured before and after and the best step chosen.
    `parallel` are (source, target) pairs instead: the objective is then alignment, for which settings that the config
    leaves open are those of the preset alignment, and held-out pairs choose the step and give the figures.
    `language` is the target's ISO 639-3 code. `characters` rewrites both texts and, saved in the result, all that is
    read behind it later. `initial` is a saved prompt to start from, or several and their weights. Raises `DataError`
    when there is too little text.
    """
    config, runtime = with_objective(config, parallel is not None), runtime or RuntimeConfig()
    if parallel is not None and (len(target) or len(source)):
        raise ConfigError("parallel text is aligned by itself; leave target and source out")
    if not language:
        raise ConfigError("which language is it? Give its ISO 639-3 code as language=")
    method = method_of_adapt(config)
    config, start = initial_prompt(encoder, config, initial)
    backbone = {"name": encoder.name, "fingerprint": encoder.fingerprint}
    if initial is not None and characters is None:
        characters = shared_characters([prompt for prompt, _ in weighted(initial)])
    texts, pairs = (target, source), parallel
    if characters is not None:
        texts = [characters.apply(line) for line in target], [characters.apply(line) for line in source]
        if parallel is not None:
            pairs = [(characters.apply(one), characters.apply(other)) for one, other in parallel]
    held_out = [] if runtime.no_samples else _held_out_lines(target, texts[0], parallel, config)
    samples = Samples.of_lines(held_out)
    shares = method.source_shares(config)
    unknown = count_unknown(encoder, _texts_read(texts, pairs, list(shares.values())), runtime)
    made: dict[str, Delta] = {}
    courses: dict[str, dict[str, Any]] = {}
    for part, share in shares.items():
        settings = config.replace(method=method.name, source_share=share)
        made[part], courses[part] = train_language(
            encoder, method, texts, pairs, (part, language), settings, runtime, start
        )
    facts = {**courses.pop("language"), "config": config.model_dump(mode="json"), "unknown": unknown}
    facts |= {} if start is None else {"initial": start.facts}
    facts |= {f"{part}_training": course for part, course in courses.items()}
    prompt = made["language"]
    if isinstance(prompt, SoftPrompt):
        (tensors,) = Part.of(prompt).tensors.values()
        return LanguagePrompt(tensors, language, backbone, prompt.positions, facts, method.name, characters, samples)
    parts = {name: Part.of(delta) for name, delta in made.items()}
    return LanguageModule(method.name, parts, language, backbone, facts, characters, samples)


def _held_out_lines(
    target: Sequence[str], read: Sequence[str], pairs: SentencePairs | None, config: AdaptConfig
) -> list[str]:
    """Target text as it was given, that is not trained on. `read`: the target's lines as they are trained on, for lines
    that differ in rewritten characters alone are one there."""
    if pairs is not None:
        return [pair[1] for pair in split_pairs(pairs, config)[1]]
    held_out = set(split_held_out(list(read), config.held_out, config.seed)[1])
    return [given for given, line in zip(target, read, strict=True) if line in held_out]


def _texts_read(
    texts: tuple[Sequence[str], Sequence[str]], pairs: SentencePairs | None, source_shares: Sequence[float]
) -> dict[str, Sequence[str]]:
    """ "target", "source": what stage 1 reads of both languages."""
    if pairs is not None:
        return {"target": [target for _, target in pairs], "source": [source for source, _ in pairs]}
    read = {"target": any(share < 1 for share in source_shares), "source": any(share > 0 for share in source_shares)}
    return {name: text for (name, used), text in zip(read.items(), texts, strict=True) if used}


# ---------------------------------------------------------------------------------------------------------------
# Stage 2


def tune(
    encoder: Encoder,
    adapted: Adapted | None,
    examples: Sequence[Example],
    task: Task,
    config: TuneConfig | None = None,
    runtime: RuntimeConfig | None = None,
    dev: Sequence[Example] | None = None,
    *,
    language: str = "",
) -> PromptClassifier:
    """Learn a task from labelled source-language examples, starting from what `adapt` gave (section 3.2).

    The method is that of stage 1; without one (None), prompt tuning from noise or, by the config, fine-tuning. The best
    epoch is chosen by accuracy (then loss) on `dev`, or on a held-out share of the examples. `language`: the ISO 639-3
    code of a classifier without stage 1. `DataError`: labels that the task lacks; `ConfigError`: what does not fit.
    """
    config, runtime = config or TuneConfig(), runtime or RuntimeConfig()
    method, config = method_of_tune(config, adapted, encoder)
    if config.head == "words" and not method.reads_vectors:
        encoder.require_lm_head("a template with label words (head 'linear' does without)")
    language = _language_of(adapted, language)
    if adapted is not None:
        refuse_other_backbone(adapted, encoder)
    memory = PeakMemory()
    chosen, dev = labelled_examples(examples, dev, task, config)
    characters = None if adapted is None else adapted.characters
    counted = _counted(encoder, chosen, dev, task, characters, runtime)
    held = {} if adapted is None else adapted.parts
    parts = {name: part.restored(encoder) for name, part in held.items()}
    body = method.begin_tune(encoder, parts, config).to(encoder.device)
    head: Head | None = None
    if config.head == "linear" and not method.reads_vectors:
        head = LinearHead(encoder.hidden_size, len(task.labels), config.seed).to(encoder.device)
    check_length(encoder, config.max_length, body)
    begun = [artifact.digest(part.tensors, part.description) for part in held.values()]
    data = [task.identity(), content_hash(chosen), content_hash(dev), begun]
    data += [] if characters is None else [characters.to_dict()]
    identity = identity_of(["tune", config.identity(), *data, encoder.fingerprint, encoder.asked_precision])
    checkpoint = Checkpoint(runtime, identity)
    same_precision(encoder, checkpoint)
    about: dict[str, Any] = {}
    if method.reads_vectors:
        head, history, about = _fit_head(encoder, body, chosen, dev, task, config, runtime, characters)
    else:
        history = _fit_labels(encoder, body, head, chosen, dev, task, config, runtime, checkpoint, characters)
    facts = {
        "config": config.model_dump(mode="json"), "precision": encoder.precision, **counted,
        "trained_layers": _span(body.trained_layers) if isinstance(body, SoftPrompt) and not about else None,
        "dev_accuracy": max(entry["dev_accuracy"] for _, entry in history.evaluations),
        "trained_values": sum(values.numel() for values in trained_of(body, head)), **history.facts(),
        "peak_memory_bytes": memory.bytes(), "language_prompt": None if adapted is None else adapted.facts, **about,
    }  # fmt: skip
    delivered = method.deliver(body, parts).requires_grad_(False)
    if head is not None:
        head.requires_grad_(False)
    known = None if adapted is None else adapted.samples
    samples = None if runtime.no_samples else Samples.of_task(known, dev, task.template.fields)
    return PromptClassifier(
        encoder, delivered, task, language, config.max_length, head, facts=facts, method=method.name,
        characters=characters, samples=samples,
    )  # fmt: skip


def _language_of(adapted: Adapted | None, language: str) -> str:
    """The code of the language that a classifier is for; `ConfigError` where stage 1 and a person both name it."""
    if adapted is None:
        return language or NOT_NAMED
    if language:
        raise ConfigError(f"stage 1 says that the language is {adapted.language}; leave language out")
    return adapted.language


def _counted(
    encoder: Encoder,
    chosen: Sequence[Example],
    dev: Sequence[Example],
    task: Task,
    characters: CharacterMap | None,
    runtime: RuntimeConfig,
) -> dict[str, Any]:
    """What can be counted of the examples: how many, of each label, and what of them is unknown."""
    rewritten = rewritten_fields([example.fields for example in (*chosen, *dev)], characters)
    texts = [text for fields in rewritten for text in fields.values()]
    labels = [Counter(str(example.label) for example in part) for part in (chosen, dev)]
    return {
        "examples": len(chosen), "dev_examples": len(dev),
        "labels": {label: labels[0][label] for label in task.labels},
        "dev_labels": {label: labels[1][label] for label in task.labels},
        "unknown": count_unknown(encoder, {"labelled": texts}, runtime.replace(allow_unknown=True)),
    }  # fmt: skip


def _span(layers: range) -> list[int]:
    return [layers.start, layers.stop]


def _fit_labels(
    encoder: Encoder,
    body: Delta,
    head: Head | None,
    examples: Sequence[Example],
    dev: Sequence[Example],
    task: Task,
    config: TuneConfig,
    runtime: RuntimeConfig,
    checkpoint: Checkpoint,
    characters: CharacterMap | None,
) -> History:
    """Train body and head on labelled examples, and leave in them the best epoch by dev accuracy, then loss."""
    fields, dev_fields = ([example.fields for example in part] for part in (examples, dev))
    gold, dev_gold = ([task.labels.index(str(example.label)) for example in part] for part in (examples, dev))
    reader, clozes = read_inputs(encoder, fields, task, head, config.max_length, characters)
    _, dev_clozes = read_inputs(encoder, dev_fields, task, head, config.max_length, characters)
    began = time.perf_counter()
    if not config.dropout:
        both = below_trained_layers(encoder, [*clozes, *dev_clozes], body, runtime)
        clozes, dev_clozes = both[: len(clozes)], both[len(clozes) :]
    before = time.perf_counter() - began
    corpus = ClozeCorpus(clozes, gold, config.batch_size, config.seed)
    micro_batch = MicroBatch(runtime)

    def losses(step: int) -> Generator[tuple[Tensor, int]]:
        with encoder.dropping_out(config.dropout, (config.seed, step)):
            yield from label_losses(encoder, body, *corpus.batch(step), reader, config.loss_over, micro_batch)

    @torch.no_grad()
    def evaluate() -> Evaluation:
        with body.attached(encoder) as prefix:
            log_probs = log_probabilities(encoder, dev_clozes, prefix, reader, runtime.eval_batch_size)
        accuracy = 100 * float((log_probs.argmax(axis=1) == dev_gold).mean())
        loss = -float(log_probs[np.arange(len(dev_gold)), dev_gold].mean())
        return Evaluation((-accuracy, loss), {"dev_accuracy": accuracy, "dev_loss": loss})

    steps = config.epochs * corpus.steps_per_epoch
    optimisation = Optimisation.of(config, steps, config.learning_rate, corpus.steps_per_epoch)
    progress = StepLine(f"tune {config.method}", steps, runtime.progress)
    with gradient_checkpointing(encoder, runtime):
        history = fit(trained_of(body, head), losses, evaluate, optimisation, checkpoint, progress, micro_batch)
    history.seconds += before
    return history


def _fit_head(
    encoder: Encoder,
    body: Delta,
    examples: Sequence[Example],
    dev: Sequence[Example],
    task: Task,
    config: TuneConfig,
    runtime: RuntimeConfig,
    characters: CharacterMap | None,
) -> tuple[Head, History, dict[str, Any]]:
    """Logistic regression on the vectors behind a frozen body, by dev accuracy; and what was chosen."""
    began = time.perf_counter()

    def read(part: Sequence[Example]) -> Examples:
        fields = rewritten_fields([example.fields for example in part], characters)
        gold = [task.labels.index(str(example.label)) for example in part]
        return Examples(encode_without_mask(fields, task, encoder.tokenizer, config.max_length), gold)

    train, held = read(examples), read(dev)
    layer = encoder.num_layers if config.layer is None else config.layer
    with torch.no_grad(), body.attached(encoder) as prefix:
        head, chosen = fit_embedding_head(
            encoder, prefix, train, held, len(task.labels), layer, runtime.eval_batch_size
        )
    tokens = sum(len(cloze.input_ids) for part in (train, held) for cloze in part.clozes)
    figures = {name: chosen.pop(name) for name in ("dev_accuracy", "dev_loss")}
    history = History(seconds=time.perf_counter() - began, tokens=tokens, evaluations=[(0, figures)])
    return head, history, chosen


# ---------------------------------------------------------------------------------------------------------------
# Zero-shot


def evaluate(
    classifier: PromptClassifier,
    examples: Sequence[Example],
    *,
    labels: Sequence[str] | None = None,
    label_prior: Mapping[str, float] | None = None,
    prior_text: Sequence[Input] | None = None,
    batch_size: int = 32,
) -> Report:
    """Score a classifier as it is on examples of any language; figures in per cent.

    `labels` restricts the predictions (a target may have fewer labels than the source). With `prior_text`, unlabelled
    texts other than the examples, one offset per label is fitted first so that the predictions meet `label_prior`
    (None: uniform over `labels`)."""
    if label_prior is not None and prior_text is None:
        raise ConfigError("label_prior needs prior_text, unlabelled texts other than the examples, to fit offsets on")
    if prior_text is not None:
        uniform = dict.fromkeys(labels or classifier.task.labels, 1.0)
        classifier = classifier.with_label_prior(prior_text, dict(label_prior or uniform))
    for example in examples:
        if example.label is None:
            raise DataError(
                f"example {example.id or dict(example.fields)} has no label; evaluate needs them, predict does not"
            )
        if example.label not in classifier.task.labels:
            known = ", ".join(classifier.task.labels)
            raise DataError(f"an example has the label {example.label!r}; the classifier has {known}")
    predictions = classifier.predict(examples, labels=labels, batch_size=batch_size)
    return report([str(example.label) for example in examples], [prediction.label for prediction in predictions])
