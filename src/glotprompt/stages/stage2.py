"""Stage 2: what it reads and how (`Stage2`), and its training: a cloze or a linear head on labelled examples, or
logistic regression on sentence vectors."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig
from glotprompt.data.characters import CharacterMap
from glotprompt.data.languages import NOT_NAMED
from glotprompt.data.readers.records import Example, content_hash, content_of_pairs
from glotprompt.data.samples import Samples
from glotprompt.errors import ConfigError, setting
from glotprompt.inference.classifier import Adapted, PromptClassifier
from glotprompt.methods import Method, method_of_tune, refuse_other_backbone
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.classification import EmbeddingHead, Head, LinearHead
from glotprompt.model.modules.module import Module
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.modules.stack import trained_of
from glotprompt.records import TuneReport, UnknownShare
from glotprompt.spec import RunSpec, digests_of, tune_spec
from glotprompt.stages.stage1 import SentencePairs, count_unknown
from glotprompt.task import Task
from glotprompt.training.checkpoint import Checkpoint, same_precision
from glotprompt.training.loop import Evaluation, History, Optimisation, fit
from glotprompt.training.memory import PeakMemory, gradient_checkpointing
from glotprompt.training.objectives.alignment import split_pairs
from glotprompt.training.objectives.batches import ClozeCorpus
from glotprompt.training.objectives.cloze import Cloze, encode_without_mask, weights_of
from glotprompt.training.objectives.embedding import (
    STRENGTHS,
    Chosen,
    Examples,
    PairVectors,
    RidgeMap,
    fit_embedding_head,
    fit_ridge,
    layer_read,
)
from glotprompt.training.objectives.inputs import (
    check_length,
    group_weights,
    labelled_examples,
    read_inputs,
    rewritten_fields,
    split_target,
)
from glotprompt.training.objectives.losses import label_losses
from glotprompt.training.objectives.lower_layers import below_trained_layers
from glotprompt.training.objectives.micro_batch import MicroBatch
from glotprompt.training.objectives.scoring import accuracy_and_loss, log_probabilities
from glotprompt.training.progress import StepLine


@dataclass(frozen=True)
class Stage2:
    """A stage 2 that is ready to run: settings that fit together, and examples with labels that the task knows."""

    method: Method
    config: TuneConfig
    adapted: Adapted | None
    examples: Sequence[Example]
    """As they were given, from which `train` and, without dev examples, `dev` are drawn."""
    train: Sequence[Example]
    dev: Sequence[Example]
    has_own_dev: bool
    task: Task
    language: str
    target: Sequence[Example] = ()
    """Labelled examples of the target language as they were given, which are those of `target_train` and
    `target_dev`."""
    target_train: Sequence[Example] = ()
    target_dev: Sequence[Example] = ()
    strengths: Sequence[float] = STRENGTHS
    """C of logistic regression, of which the judged examples choose one."""
    pairs: SentencePairs = ()
    """(source, target) sentences, by which vectors of the target are mapped to those of the source."""

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        adapted: Adapted | None,
        examples: Sequence[Example],
        task: Task,
        config: TuneConfig | None = None,
        dev: Sequence[Example] | None = None,
        *,
        target_examples: Sequence[Example] = (),
        parallel: SentencePairs = (),
        language: str = "",
    ) -> Stage2:
        """The arguments are those of `protocol.tune`, which says what is refused."""
        method, config = method_of_tune(config or TuneConfig(), adapted, backbone)
        if config.head == "cloze" and not method.reads_vectors:
            backbone.require_lm_head("a template with label words (heads 'linear' and 'pooled' do without)")
        if adapted is not None:
            if language:
                raise ConfigError(f"stage 1 says that the language is {adapted.language}; leave language out")
            refuse_other_backbone(adapted, backbone)
        language = (language or NOT_NAMED) if adapted is None else adapted.language
        train, held = labelled_examples(examples, dev, task, config)
        if config.target_weight is not None and not target_examples:
            raise ConfigError(
                f"{setting('target_weight')}: there are no target labels to weigh; give some, or leave it out"
            )
        if parallel and (not method.reads_vectors or target_examples):
            raise ConfigError(
                "parallel text maps sentence vectors in stage 2, for method embedding without target labels; leave"
                f" {setting('parallel')} out, or align in stage 1"
            )
        of_target = split_target(target_examples, task, config)
        made = cls(
            method, config, adapted, examples, train, held, bool(dev), task, language, target_examples, *of_target
        )
        return replace(made, pairs=parallel)

    @property
    def learned(self) -> list[Example]:
        """The examples of both languages that it is trained on."""
        return [*self.train, *self.target_train]

    @property
    def judged(self) -> list[Example]:
        """The examples of both languages on which the best epoch is chosen."""
        return [*self.dev, *self.target_dev]

    @property
    def target_weight(self) -> float:
        """What an example of the target counts for, where one of the source counts 1."""
        return 1.0 if self.config.target_weight is None else self.config.target_weight

    def weighted(self, clozes: Sequence[Cloze], *, judged: bool = False) -> list[Cloze]:
        """`learned`, or `judged`, as the model reads them, with what each weighs. In judging both languages weigh the
        same."""
        of_source, of_target = (self.dev, self.target_dev) if judged else (self.train, self.target_train)
        one, other = group_weights(len(of_source), len(of_target), None if judged else self.target_weight)
        return [replace(cloze, weight=one if row < len(of_source) else other) for row, cloze in enumerate(clozes)]

    @property
    def characters(self) -> CharacterMap | None:
        """What is rewritten in every text."""
        return None if self.adapted is None else self.adapted.characters

    def spec(self, backbone: Backbone) -> RunSpec:
        """It as a run, which builds on the values of stage 1."""
        contents = {"train": content_hash(self.examples)}
        if self.has_own_dev:
            contents["dev"] = content_hash(self.dev)
        if self.target:
            contents["target_labels"] = content_hash(self.target)
        if self.pairs:
            contents["pairs"] = content_of_pairs(self.pairs)
        builds_on = [] if self.adapted is None else digests_of(self.adapted)
        origin = backbone.fingerprint, backbone.asked_precision
        return tune_spec(
            self.config, self.task, contents, self.language, origin, builds_on=builds_on, characters=self.characters
        )


def train_stage2(
    backbone: Backbone, stage2: Stage2, runtime: RuntimeConfig | None = None, identity: str | None = None
) -> PromptClassifier:
    """Train a classifier. `identity`: of the run, where it is known already; it names the checkpoints."""
    runtime, memory = runtime or RuntimeConfig(), PeakMemory()
    config, method, adapted, task = stage2.config, stage2.method, stage2.adapted, stage2.task
    parts = {} if adapted is None else {name: part.restored(backbone) for name, part in adapted.parts.items()}
    body = method.begin_tune(backbone, parts, config).to(backbone.device)
    check_length(backbone, config.max_length, body)
    _check_layer(backbone, stage2, body)
    checkpoint = Checkpoint(runtime, identity or stage2.spec(backbone).identity)
    same_precision(backbone, checkpoint)
    unknown = _unknown(backbone, stage2, runtime)
    head, history, chosen = _fitted(backbone, body, stage2, runtime, checkpoint)
    report = TuneReport(
        config=config.model_dump(mode="json"),
        precision=backbone.precision,
        examples=len(stage2.learned),
        dev_examples=len(stage2.judged),
        labels=_counts(stage2.learned, task),
        dev_labels=_counts(stage2.judged, task),
        unknown=unknown,
        trained_layers=None if method.reads_vectors else _trained_layers(body),
        dev_accuracy=max(entry["dev_accuracy"] for _, entry in history.evaluations),
        trained_parameters=sum(values.numel() for values in trained_of(body, head)),
        peak_memory_bytes=memory.bytes(),
        language_prompt=None if adapted is None else adapted.report,
        **history.figures(),
    )
    if chosen is not None:
        report = report.replace(layer=chosen.layer, strength=chosen.strength)
    if stage2.pairs:
        report = report.replace(pairs=len(stage2.pairs))
    if stage2.target:
        report = report.replace(
            target_examples=len(stage2.target_train),
            target_dev_examples=len(stage2.target_dev),
            target_weight=stage2.target_weight,
        )
    delivered = method.deliver(body, parts).requires_grad_(False)
    if head is not None:
        head.requires_grad_(False)
    known = None if adapted is None else adapted.samples
    samples = None if runtime.no_samples else Samples.of_task(known, stage2.dev, task.template.fields)
    return PromptClassifier(
        backbone, delivered, task, stage2.language, config.max_length, head,
        report=report, method=method.name, characters=stage2.characters, samples=samples,
    )  # fmt: skip


def _unknown(backbone: Backbone, stage2: Stage2, runtime: RuntimeConfig) -> dict[str, UnknownShare]:
    rewritten = rewritten_fields([one.fields for one in (*stage2.learned, *stage2.judged)], stage2.characters)
    texts = [text for fields in rewritten for text in fields.values()]
    return count_unknown(backbone, {"labelled": texts}, runtime.replace(allow_unknown=True))


def _counts(examples: Sequence[Example], task: Task) -> dict[str, int]:
    counts = Counter(str(one.label) for one in examples)
    return {label: counts[label] for label in task.labels}


def _check_layer(backbone: Backbone, stage2: Stage2, body: Module) -> None:
    """Raises `ConfigError` where a pooled head would read below all that is trained."""
    layer, lowest = layer_read(backbone, stage2.config), body.first_layer
    if stage2.config.head == "pooled" and not stage2.method.reads_vectors and lowest is not None and layer <= lowest:
        raise ConfigError(
            f"layer is {layer}, and what is trained begins above it, in layer {lowest + 1}; give {lowest + 1} to"
            f" {backbone.num_state_layers}"
        )


def _trained_layers(body: Module) -> tuple[int, int] | None:
    return (body.trained_layers.start, body.trained_layers.stop) if isinstance(body, SoftPrompt) else None


def _fitted(
    backbone: Backbone, body: Module, stage2: Stage2, runtime: RuntimeConfig, checkpoint: Checkpoint
) -> tuple[Head | None, History, Chosen | None]:
    """What reads the labels (None: the label words do), trained together with the body; and what logistic regression
    chose, where a head starts with it or is it."""
    config = stage2.config
    if stage2.method.reads_vectors:
        return _fit_vectors(backbone, body, stage2, runtime)
    if config.head != "pooled":
        size = backbone.hidden_size, len(stage2.task.labels)
        head = LinearHead(*size, config.seed).to(backbone.device) if config.head == "linear" else None
        return head, _fit_labels(backbone, body, head, stage2, runtime, checkpoint), None
    # From zeros the first epochs would only find what is known in closed form. The start counts as an epoch, so the
    # result is no worse on dev examples than `embedding`.
    fitted, before, chosen = _fit_vectors(backbone, body, stage2, runtime)
    head = fitted.to_be_trained()
    history = _fit_labels(backbone, body, head, stage2, runtime, checkpoint)
    history.seconds += before.seconds
    return head, history, chosen


def _fit_labels(
    backbone: Backbone,
    body: Module,
    head: Head | None,
    stage2: Stage2,
    runtime: RuntimeConfig,
    checkpoint: Checkpoint,
) -> History:
    """Train body and head on labelled examples, and leave in them the best epoch by dev accuracy, then loss."""
    config, task = stage2.config, stage2.task
    parts = stage2.learned, stage2.judged
    fields, dev_fields = ([one.fields for one in part] for part in parts)
    gold, dev_gold = ([task.labels.index(str(one.label)) for one in part] for part in parts)
    reader, clozes = read_inputs(backbone, fields, task, head, config.max_length, stage2.characters)
    _, dev_clozes = read_inputs(backbone, dev_fields, task, head, config.max_length, stage2.characters)
    clozes, dev_clozes = stage2.weighted(clozes), stage2.weighted(dev_clozes, judged=True)
    began = time.perf_counter()
    if not config.dropout and config.head != "pooled":
        both = below_trained_layers(backbone, [*clozes, *dev_clozes], body, runtime)
        clozes, dev_clozes = both[: len(clozes)], both[len(clozes) :]
    before = time.perf_counter() - began
    corpus = ClozeCorpus(clozes, gold, config.batch_size, config.seed)
    micro_batch = MicroBatch(runtime)

    def losses(step: int) -> Generator[tuple[Tensor, int]]:
        with backbone.dropping_out(config.dropout, (config.seed, step)):
            yield from label_losses(backbone, body, *corpus.batch(step), reader, config.loss_over, micro_batch)

    @torch.no_grad()
    def evaluate() -> Evaluation:
        with body.attached(backbone) as prefix:
            log_probs = log_probabilities(backbone, dev_clozes, prefix, reader, runtime.eval_batch_size)
        accuracy, loss = accuracy_and_loss(log_probs, dev_gold, weights_of(dev_clozes))
        return Evaluation((-accuracy, loss), {"dev_accuracy": accuracy, "dev_loss": loss})

    steps = config.epochs * corpus.steps_per_epoch
    optimisation = Optimisation.of(config, steps, config.learning_rate, corpus.steps_per_epoch)
    progress = StepLine(f"tune {config.method}", steps, runtime.progress)
    with gradient_checkpointing(backbone, runtime):
        history = fit(trained_of(body, head), losses, evaluate, optimisation, checkpoint, progress, micro_batch)
    history.seconds += before
    return history


def _fit_vectors(
    backbone: Backbone, body: Module, stage2: Stage2, runtime: RuntimeConfig
) -> tuple[EmbeddingHead, History, Chosen]:
    """Logistic regression on the vectors behind a frozen body, by dev accuracy; and what was chosen."""
    began = time.perf_counter()
    config, task = stage2.config, stage2.task

    def read(part: Sequence[Example], *, judged: bool = False) -> Examples:
        fields = rewritten_fields([one.fields for one in part], stage2.characters)
        gold = [task.labels.index(str(one.label)) for one in part]
        clozes = encode_without_mask(fields, task, backbone.tokenizer, config.max_length)
        return Examples(stage2.weighted(clozes, judged=judged), gold)

    train, held = read(stage2.learned), read(stage2.judged, judged=True)
    layer = layer_read(backbone, config)
    with torch.no_grad(), body.attached(backbone) as prefix:
        head, chosen = fit_embedding_head(
            backbone, prefix, train, held, len(task.labels), layer, runtime.eval_batch_size, stage2.strengths
        )
    if stage2.pairs:
        head = _ridge(backbone, body, stage2, runtime).folded(head)
    tokens = sum(len(cloze.input_ids) for part in (train, held) for cloze in part.clozes)
    figures = {"dev_accuracy": chosen.dev_accuracy, "dev_loss": chosen.dev_loss}
    history = History(seconds=time.perf_counter() - began, tokens=tokens, evaluations=[(0, figures)])
    return head, history, chosen


def _ridge(backbone: Backbone, body: Module, stage2: Stage2, runtime: RuntimeConfig) -> RidgeMap:
    """The map from the pairs' target side to their source side, by the vectors that the head reads."""
    config = stage2.config

    def read(pairs: SentencePairs) -> PairVectors:
        sides = [rewritten_fields([{"text": pair[side]} for pair in pairs], stage2.characters) for side in (0, 1)]
        layer, most = layer_read(backbone, config), runtime.eval_batch_size
        how: dict[str, Any] = {"layer": layer, "max_length": config.max_length, "batch_size": most}
        return PairVectors(*(backbone.embed([row["text"] for row in side], body, **how) for side in sides))

    kept, held = split_pairs(stage2.pairs, AdaptConfig(seed=config.seed))
    return fit_ridge(read(kept), read(held))
