"""Stage 2: what it reads and how (`Stage2`), and its training: a cloze or a linear head on labelled examples, or
logistic regression on sentence vectors."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glotprompt.classifier import Adapted, PromptClassifier
from glotprompt.config import RuntimeConfig, TuneConfig
from glotprompt.data.characters import CharacterMap
from glotprompt.data.languages import NOT_NAMED
from glotprompt.data.records import Example, content_hash
from glotprompt.data.samples import Samples
from glotprompt.errors import ConfigError
from glotprompt.methods import Method, method_of_tune, refuse_other_backbone
from glotprompt.model.classification import Head, LinearHead
from glotprompt.model.delta import Delta
from glotprompt.model.deltas import trained_of
from glotprompt.model.encoder import Encoder
from glotprompt.model.soft_prompt import SoftPrompt
from glotprompt.records import TuneReport, UnknownShare
from glotprompt.spec import RunSpec, digests_of, tune_spec
from glotprompt.stage1 import count_unknown
from glotprompt.templates import Task
from glotprompt.train.checkpoint import Checkpoint, same_precision
from glotprompt.train.cloze import ClozeCorpus, encode_without_mask
from glotprompt.train.embedding import Chosen, Examples, fit_embedding_head
from glotprompt.train.inputs import check_length, labelled_examples, read_inputs, rewritten_fields
from glotprompt.train.loop import Evaluation, History, Optimisation, fit
from glotprompt.train.losses import label_losses
from glotprompt.train.lower_layers import below_trained_layers
from glotprompt.train.memory import PeakMemory, gradient_checkpointing
from glotprompt.train.micro_batch import MicroBatch
from glotprompt.train.progress import StepLine
from glotprompt.train.scoring import log_probabilities


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

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        adapted: Adapted | None,
        examples: Sequence[Example],
        task: Task,
        config: TuneConfig | None = None,
        dev: Sequence[Example] | None = None,
        *,
        language: str = "",
    ) -> Stage2:
        """The arguments are those of `run.tune`, which says what is refused."""
        method, config = method_of_tune(config or TuneConfig(), adapted, encoder)
        if config.head == "words" and not method.reads_vectors:
            encoder.require_lm_head("a template with label words (head 'linear' does without)")
        if adapted is not None:
            if language:
                raise ConfigError(f"stage 1 says that the language is {adapted.language}; leave language out")
            refuse_other_backbone(adapted, encoder)
        language = (language or NOT_NAMED) if adapted is None else adapted.language
        train, held = labelled_examples(examples, dev, task, config)
        return cls(method, config, adapted, examples, train, held, bool(dev), task, language)

    @property
    def characters(self) -> CharacterMap | None:
        """What is rewritten in every text."""
        return None if self.adapted is None else self.adapted.characters

    def spec(self, encoder: Encoder) -> RunSpec:
        """It as a run, which builds on the values of stage 1."""
        contents = {"train": content_hash(self.examples)}
        if self.has_own_dev:
            contents["dev"] = content_hash(self.dev)
        builds_on = [] if self.adapted is None else digests_of(self.adapted)
        backbone = encoder.fingerprint, encoder.asked_precision
        return tune_spec(
            self.config, self.task, contents, self.language, backbone, builds_on=builds_on, characters=self.characters
        )


def train_stage2(
    encoder: Encoder, stage2: Stage2, runtime: RuntimeConfig | None = None, identity: str | None = None
) -> PromptClassifier:
    """Train a classifier. `identity`: of the run, where it is known already; it names the checkpoints."""
    runtime, memory = runtime or RuntimeConfig(), PeakMemory()
    config, method, adapted, task = stage2.config, stage2.method, stage2.adapted, stage2.task
    parts = {} if adapted is None else {name: part.restored(encoder) for name, part in adapted.parts.items()}
    body = method.begin_tune(encoder, parts, config).to(encoder.device)
    head: Head | None = None
    if config.head == "linear" and not method.reads_vectors:
        head = LinearHead(encoder.hidden_size, len(task.labels), config.seed).to(encoder.device)
    check_length(encoder, config.max_length, body)
    checkpoint = Checkpoint(runtime, identity or stage2.spec(encoder).identity)
    same_precision(encoder, checkpoint)
    unknown = _unknown(encoder, stage2, runtime)
    chosen: Chosen | None = None
    if method.reads_vectors:
        head, history, chosen = _fit_vectors(encoder, body, stage2, runtime)
    else:
        history = _fit_labels(encoder, body, head, stage2, runtime, checkpoint)
    report = TuneReport(
        config=config.model_dump(mode="json"),
        precision=encoder.precision,
        examples=len(stage2.train),
        dev_examples=len(stage2.dev),
        labels=_counts(stage2.train, task),
        dev_labels=_counts(stage2.dev, task),
        unknown=unknown,
        trained_layers=_trained_layers(body) if chosen is None else None,
        dev_accuracy=max(entry["dev_accuracy"] for _, entry in history.evaluations),
        trained_values=sum(values.numel() for values in trained_of(body, head)),
        peak_memory_bytes=memory.bytes(),
        language_prompt=None if adapted is None else adapted.report,
        **history.figures(),
    )
    if chosen is not None:
        report = report.replace(layer=chosen.layer, strength=chosen.strength)
    delivered = method.deliver(body, parts).requires_grad_(False)
    if head is not None:
        head.requires_grad_(False)
    known = None if adapted is None else adapted.samples
    samples = None if runtime.no_samples else Samples.of_task(known, stage2.dev, task.template.fields)
    return PromptClassifier(
        encoder, delivered, task, stage2.language, config.max_length, head,
        report=report, method=method.name, characters=stage2.characters, samples=samples,
    )  # fmt: skip


def _unknown(encoder: Encoder, stage2: Stage2, runtime: RuntimeConfig) -> dict[str, UnknownShare]:
    rewritten = rewritten_fields([one.fields for one in (*stage2.train, *stage2.dev)], stage2.characters)
    texts = [text for fields in rewritten for text in fields.values()]
    return count_unknown(encoder, {"labelled": texts}, runtime.replace(allow_unknown=True))


def _counts(examples: Sequence[Example], task: Task) -> dict[str, int]:
    counts = Counter(str(one.label) for one in examples)
    return {label: counts[label] for label in task.labels}


def _trained_layers(body: Delta) -> tuple[int, int] | None:
    return (body.trained_layers.start, body.trained_layers.stop) if isinstance(body, SoftPrompt) else None


def _fit_labels(
    encoder: Encoder,
    body: Delta,
    head: Head | None,
    stage2: Stage2,
    runtime: RuntimeConfig,
    checkpoint: Checkpoint,
) -> History:
    """Train body and head on labelled examples, and leave in them the best epoch by dev accuracy, then loss."""
    config, task = stage2.config, stage2.task
    fields, dev_fields = ([one.fields for one in part] for part in (stage2.train, stage2.dev))
    gold, dev_gold = ([task.labels.index(str(one.label)) for one in part] for part in (stage2.train, stage2.dev))
    reader, clozes = read_inputs(encoder, fields, task, head, config.max_length, stage2.characters)
    _, dev_clozes = read_inputs(encoder, dev_fields, task, head, config.max_length, stage2.characters)
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


def _fit_vectors(encoder: Encoder, body: Delta, stage2: Stage2, runtime: RuntimeConfig) -> tuple[Head, History, Chosen]:
    """Logistic regression on the vectors behind a frozen body, by dev accuracy; and what was chosen."""
    began = time.perf_counter()
    config, task = stage2.config, stage2.task

    def read(part: Sequence[Example]) -> Examples:
        fields = rewritten_fields([one.fields for one in part], stage2.characters)
        gold = [task.labels.index(str(one.label)) for one in part]
        return Examples(encode_without_mask(fields, task, encoder.tokenizer, config.max_length), gold)

    train, held = read(stage2.train), read(stage2.dev)
    layer = encoder.num_layers if config.layer is None else config.layer
    with torch.no_grad(), body.attached(encoder) as prefix:
        head, chosen = fit_embedding_head(
            encoder, prefix, train, held, len(task.labels), layer, runtime.eval_batch_size
        )
    tokens = sum(len(cloze.input_ids) for part in (train, held) for cloze in part.clozes)
    figures = {"dev_accuracy": chosen.dev_accuracy, "dev_loss": chosen.dev_loss}
    history = History(seconds=time.perf_counter() - began, tokens=tokens, evaluations=[(0, figures)])
    return head, history, chosen
