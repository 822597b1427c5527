"""The training of stage 2: a cloze or a linear head on labelled examples, or a fit in closed form (`closed_form`)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from glotprompt.config import RuntimeConfig
from glotprompt.data.readers.records import (
    Example,
)
from glotprompt.data.samples import Samples
from glotprompt.data.seen import seen_of
from glotprompt.errors import ConfigError, setting
from glotprompt.inference.classifier import PromptClassifier
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.classification import Head, LinearHead
from glotprompt.model.modules.module import Module
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.modules.stack import ModuleStack, trained_of
from glotprompt.records import TuneReport, UnknownShare
from glotprompt.stages.closed_form import fit_characters, fit_vectors
from glotprompt.stages.stage1 import count_unknown
from glotprompt.stages.stage2_data import Stage2
from glotprompt.task import Task
from glotprompt.training.checkpoint import Checkpoint, same_precision
from glotprompt.training.loop import Evaluation, History, Optimisation, fit
from glotprompt.training.memory import PeakMemory, gradient_checkpointing
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.batches import ClozeCorpus
from glotprompt.training.objectives.cloze import weights_of
from glotprompt.training.objectives.embedding import (
    Penalty,
    layer_read,
)
from glotprompt.training.objectives.inputs import (
    check_length,
    read_inputs,
    rewritten_fields,
)
from glotprompt.training.objectives.losses import label_losses
from glotprompt.training.objectives.lower_layers import below_trained_layers
from glotprompt.training.objectives.scoring import accuracy_and_loss, log_probabilities
from glotprompt.training.watch import Watch


def train_stage2(
    backbone: Backbone, stage2: Stage2, runtime: RuntimeConfig | None = None, identity: str | None = None
) -> PromptClassifier:
    """Train a classifier. `identity`: of the run, where it is known already; it names the checkpoints."""
    runtime, memory = runtime or RuntimeConfig(), PeakMemory()
    config, method, adapted, task = stage2.config, stage2.method, stage2.adapted, stage2.task
    if config.target_weight is not None and method.reads_characters:
        raise ConfigError(
            f"{setting('target_weight')}: {method.name} learns from one language, and weighs nothing; leave it out"
        )
    if config.target_weight is not None and not stage2.target:
        raise ConfigError(
            f"{setting('target_weight')}: there are no target labels to weigh; give some, or leave it out"
        )
    parts = {} if adapted is None else {name: part.restored(backbone) for name, part in adapted.parts.items()}
    if not method.reads_characters:
        check_length(backbone, config.max_length, ModuleStack(parts))
    checkpoint = Checkpoint(runtime, identity or stage2.spec(backbone).identity)
    same_precision(backbone, checkpoint)  # before fine-tuning starts from the weights
    body = method.begin_tune(backbone, parts, config).to(backbone.device)
    _check_layer(backbone, stage2, body)
    unknown = {} if method.reads_characters else _unknown(backbone, stage2, runtime)
    head, history, penalty = _fitted(backbone, body, stage2, runtime, checkpoint)
    report = TuneReport(
        config=config.model_dump(mode="json"),
        precision=backbone.precision,
        examples=len(stage2.learned),
        dev_examples=len(stage2.judged),
        labels=_counts(stage2.learned, task),
        dev_labels=_counts(stage2.judged, task),
        unknown=unknown,
        trained_layers=None if method.closed_form else _trained_layers(body),
        dev_accuracy=dict(history.evaluations)[history.best_step]["dev_accuracy"],
        trained_parameters=sum(values.numel() for values in trained_of(body, head)),
        peak_memory_bytes=memory.bytes(),
        language_prompt=None if adapted is None else adapted.report,
        **history.figures(),
        **_figures_of_some(backbone, stage2, penalty),
    )
    delivered = method.deliver(body, parts).requires_grad_(False)
    if head is not None:
        head.requires_grad_(False)
    known = None if adapted is None else adapted.samples
    learned = method.reads_characters and not stage2.has_own_dev
    samples = None if runtime.no_samples or learned else Samples.of_task(known, stage2.dev, task.template.fields)
    return PromptClassifier(
        backbone, delivered, task, stage2.language, config.max_length, head,
        report=report, method=method.name, characters=stage2.characters, samples=samples,
        seen="" if runtime.no_samples else seen_of([*stage2.learned, *stage2.judged]),
    )  # fmt: skip


def _figures_of_some(backbone: Backbone, stage2: Stage2, penalty: Penalty | None) -> dict[str, Any]:
    """The fields of a report that not every training has."""
    found: dict[str, Any] = {"folds": len(stage2.folds) or None, "pairs": len(stage2.pairs) or None}
    if penalty is not None:
        found["strength"] = penalty.strength
        found["layer"] = None if stage2.method.reads_characters else layer_read(backbone, stage2.config)
    if stage2.target or stage2.is_target:
        found["target_examples"] = len(stage2.learned if stage2.is_target else stage2.target_train)
        found["target_dev_examples"] = len(stage2.judged if stage2.is_target else stage2.target_dev)
        found["target_weight"] = stage2.target_weight
    return {name: value for name, value in found.items() if value is not None}


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
    if stage2.config.head == "pooled" and not stage2.method.closed_form and lowest is not None and layer <= lowest:
        most = backbone.num_state_layers
        give = f"give {lowest + 1} to {most}" if lowest < most else f"train lower layers, too: it has {most} to pool"
        raise ConfigError(f"layer is {layer}, and what is trained begins above it, in layer {lowest + 1}; {give}")


def _trained_layers(body: Module) -> tuple[int, int] | None:
    return (body.trained_layers.start, body.trained_layers.stop) if isinstance(body, SoftPrompt) else None


def _fitted(
    backbone: Backbone, body: Module, stage2: Stage2, runtime: RuntimeConfig, checkpoint: Checkpoint
) -> tuple[Head | None, History, Penalty | None]:
    """What reads the labels (None: the label words do), trained together with the body; and what logistic regression
    chose, where a head starts with it or is it."""
    config = stage2.config
    if stage2.method.reads_characters:
        return fit_characters(stage2, runtime, checkpoint.identity)
    if stage2.method.reads_vectors:
        return fit_vectors(backbone, body, stage2, runtime, checkpoint.identity)
    if config.head != "pooled":
        size = backbone.hidden_size, len(stage2.task.labels)
        head = LinearHead(*size, config.seed).to(backbone.device) if config.head == "linear" else None
        return head, _fit_labels(backbone, body, head, stage2, runtime, checkpoint), None
    # From zeros the first epochs would only find what is known in closed form. The start counts as an epoch, so the
    # result is no worse on dev examples than `embedding`.
    fitted, before, penalty = fit_vectors(backbone, body, stage2, runtime, checkpoint.identity)
    head = fitted.to_be_trained()
    history = _fit_labels(backbone, body, head, stage2, runtime, checkpoint)
    history.seconds += before.seconds
    return head, history, penalty


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
    gold, dev_gold = (stage2.gold(part) for part in parts)
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
    progress = Watch(f"tune {config.method}", steps, runtime, checkpoint.identity)
    with gradient_checkpointing(backbone, runtime):
        history = fit(trained_of(body, head), losses, evaluate, optimisation, checkpoint, progress, micro_batch)
    history.seconds += before
    return history
