"""The protocol, to be read in one sitting: adapt (stage 1), tune (stage 2), evaluate."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from accelerate import PartialState
from torch import Tensor
from torch.nn import functional as F

from glotprompt.classifier import Input, LanguagePrompt, PromptClassifier, to_cpu
from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig, identity_of
from glotprompt.data.records import Example, content_hash, shots_per_class, split_held_out
from glotprompt.errors import ConfigError, DataError
from glotprompt.model.encoder import Encoder
from glotprompt.model.soft_prompt import Positions, Prefix, SoftPrompt
from glotprompt.templates import Task
from glotprompt.train.batches import MaskedBatch, MaskingCorpus, balance, split_rows, token_sequences
from glotprompt.train.checkpoint import Checkpoint
from glotprompt.train.cloze import Cloze, ClozeCorpus, Words, encode, label_words
from glotprompt.train.loop import Evaluation, History, Optimisation, fit
from glotprompt.train.memory import PeakMemory
from glotprompt.train.progress import StepLine
from glotprompt.train.scoring import (
    Report,
    evaluation_batches,
    label_scores,
    log_probabilities,
    mask_states,
    report,
    score_masked_words,
)

# ---------------------------------------------------------------------------------------------------------------
# Stage 1


def adapt(
    encoder: Encoder,
    target: Sequence[str],
    source: Sequence[str],
    language: str,
    config: AdaptConfig | None = None,
    runtime: RuntimeConfig | None = None,
) -> LanguagePrompt:
    """Learn one language's prompt from unlabelled text (section 3.1).

    `target` and `source` are lines of text; a share of the target's is held out, on which the masked-word loss is
    measured before and after and the best step chosen. `language` is the target's ISO 639-3 code. Raises `DataError`
    when there is too little text.
    """
    config, runtime = config or AdaptConfig(), runtime or RuntimeConfig()
    memory = PeakMemory()
    corpus, held_out = _corpus(encoder, target, source, config)
    identity = identity_of(
        ["adapt", config.identity(), content_hash(target), content_hash(source), encoder.fingerprint, language,
         encoder.asked_precision]
    )  # fmt: skip
    checkpoint = Checkpoint(runtime, identity)
    _same_precision(encoder, checkpoint)
    watched, batches = (
        evaluation_batches(part, encoder, config.mask_rate, runtime.eval_batch_size)
        for part in (held_out[: config.eval_sequences], held_out)
    )
    before = score_masked_words(encoder, batches, None)
    rate = config.learning_rate
    if rate == "auto":
        rate = _best_rate(encoder, corpus, watched, config, runtime, identity)
    prompt, history = _adapt_at(encoder, corpus, watched, config, runtime, rate, checkpoint, f"adapt {language}")
    after = score_masked_words(encoder, batches, prompt.key_values(), config.positions)
    facts = {
        "config": config.model_dump(mode="json"), "learning_rate": rate, "precision": encoder.precision,
        "target_lines": len(target), "source_lines": len(source),
        "target_sequences": len(corpus.target), "source_sequences": len(corpus.source),
        "held_out_before": vars(before), "held_out_after": vars(after),
        "trained_values": prompt.num_trained, **_course(history), "peak_memory_bytes": memory.bytes(),
    }  # fmt: skip
    backbone = {"name": encoder.name, "fingerprint": encoder.fingerprint}
    return LanguagePrompt(to_cpu(prompt.key_values()), language, backbone, config.positions, facts)


def _check_length(encoder: Encoder, max_length: int, prompt_length: int, positions: Positions) -> None:
    longest = encoder.max_positions - (prompt_length if positions == "shifted" else 0)
    if max_length > longest:
        raise ConfigError(f"max_length {max_length} is more than this model reads ({longest} tokens); lower it")


def _corpus(
    encoder: Encoder, target: Sequence[str], source: Sequence[str], config: AdaptConfig
) -> tuple[MaskingCorpus, list[Any]]:
    """Packed training text of both languages, and the target's held-out sequences."""
    _check_length(encoder, config.max_length, config.prompt_length, config.positions)
    # What is trained on source text alone (the control) is judged on it too, or its choice would know the target.
    judge, name = (source, "source") if config.source_share == 1 else (target, "target")
    kept, held = split_held_out(list(judge), config.held_out, config.seed)
    if not held or not kept:
        raise DataError(f"the {name} text has {len(judge)} line(s); stage 1 needs at least two different ones")
    texts = (target, kept, held) if name == "source" else (kept, source, held)
    pieces = [token_sequences(lines, encoder.tokenizer, config.max_length, config.packing) for lines in texts]
    target_pieces, source_pieces, held_out = pieces
    if config.source_share > 0 and not source_pieces:
        raise DataError("there is no source-language text; give some, or set source_share=0 for the target alone")
    if config.source_share < 1 and not target_pieces:
        raise DataError("the target text holds no token; give text in the target language")
    target_pieces, source_pieces = balance(target_pieces, source_pieces, config)
    return MaskingCorpus(target_pieces, source_pieces, config, encoder.tokenizer), held_out


def _adapt_at(
    encoder: Encoder,
    corpus: MaskingCorpus,
    held_out: Sequence[MaskedBatch],
    config: AdaptConfig,
    runtime: RuntimeConfig,
    rate: float,
    checkpoint: Checkpoint,
    title: str,
) -> tuple[SoftPrompt, History]:
    """Train a fresh prompt at one learning rate."""
    prompt = SoftPrompt.initialise(encoder.prompt_shape(config.prompt_length), config.init_std, config.seed)
    prompt.to(encoder.device)

    def losses(step: int) -> Iterator[tuple[Tensor, int]]:
        return _masked_word_losses(encoder, prompt, corpus.batch(step), config, runtime)

    def evaluate() -> Evaluation:
        scores = score_masked_words(encoder, held_out, prompt.key_values(), config.positions)
        return Evaluation((scores.loss,), {"held_out_loss": scores.loss})

    optimisation = _optimisation(config, config.steps, rate, config.eval_every, config.patience)
    progress = StepLine(title, config.steps, runtime.progress)
    with _gradient_checkpointing(encoder, runtime):
        history = fit(prompt.trained, losses, evaluate, optimisation, checkpoint, progress)
    return prompt, history


def _masked_word_losses(
    encoder: Encoder, prompt: SoftPrompt, batch: MaskedBatch, config: AdaptConfig, runtime: RuntimeConfig
) -> Iterator[tuple[Tensor, int]]:
    """Parts of the mean loss over a batch's masked words; only masked positions reach the vocabulary."""
    rank, world = PartialState().process_index, PartialState().num_processes
    count, width = batch.input_ids.shape
    for number, rows in enumerate(split_rows(count, runtime.micro_batch_size or -(-count // world))):
        if number % world != rank:
            continue
        inside = (batch.positions >= rows.start * width) & (batch.positions < rows.stop * width)
        ids = batch.input_ids[rows].to(encoder.device)
        mask = None if batch.attention_mask is None else batch.attention_mask[rows].to(encoder.device)
        prefix = Prefix.shared(prompt.key_values(), encoder.dtype, config.positions)
        hidden = encoder.hidden_states(ids, mask, prefix).flatten(0, 1)
        places = (batch.positions[inside] - rows.start * width).to(encoder.device)
        loss = encoder.masked_word_loss(hidden[places], batch.targets[inside].to(encoder.device))
        yield loss / len(batch.targets), ids.numel() if mask is None else int(mask.sum())


def _best_rate(
    encoder: Encoder,
    corpus: MaskingCorpus,
    held_out: Sequence[MaskedBatch],
    config: AdaptConfig,
    runtime: RuntimeConfig,
    identity: str,
) -> float:
    """The rate of `auto_rates` whose short run ends with the lowest held-out loss."""
    found: dict[float, float] = {}
    short = config.replace(steps=min(config.auto_steps, config.steps), eval_every=config.auto_steps)
    for rate in config.auto_rates:
        trial = Checkpoint(runtime, f"{identity}-{rate:g}")
        title = f"try learning rate {rate:g}"
        _, history = _adapt_at(encoder, corpus, held_out, short, runtime, rate, trial, title)
        loss = history.evaluations[-1][1]["held_out_loss"]
        found[rate] = float("inf") if math.isnan(loss) else loss
    return min(found, key=lambda rate: found[rate])


# ---------------------------------------------------------------------------------------------------------------
# Stage 2


def tune(
    encoder: Encoder,
    prompt: LanguagePrompt | None,
    examples: Sequence[Example],
    task: Task,
    config: TuneConfig | None = None,
    runtime: RuntimeConfig | None = None,
    dev: Sequence[Example] | None = None,
) -> PromptClassifier:
    """Learn a task from labelled source-language examples, starting from a language prompt (section 3.2).

    Only the prompts of the top (or bottom) K layers are trained. Without a prompt (None) it starts from noise: prompt
    tuning without adaptation. The best epoch is chosen by accuracy (then loss) on `dev`, or on a held-out share of
    the examples. Raises `DataError` for labels that the task lacks.
    """
    config, runtime = config or TuneConfig(), runtime or RuntimeConfig()
    memory = PeakMemory()
    chosen, dev = _labelled(examples, dev, task, config)
    positions: Positions = "plain" if prompt is None else prompt.positions
    start = _starting_prompt(encoder, prompt, config)
    _check_length(encoder, config.max_length, start.key_values().shape[3], positions)
    prompt_bits = "" if prompt is None else str(prompt.key_values.numpy().tobytes())
    parts = [task.identity(), content_hash(chosen), content_hash(dev), content_hash([prompt_bits]), positions]
    identity = identity_of(["tune", config.identity(), *parts, encoder.fingerprint, encoder.asked_precision])
    checkpoint = Checkpoint(runtime, identity)
    _same_precision(encoder, checkpoint)
    words = label_words(task, encoder.tokenizer)
    (clozes, gold), (dev_clozes, dev_gold) = (_clozes(encoder, part, task, config) for part in (chosen, dev))
    corpus = ClozeCorpus(clozes, gold, config.batch_size, config.seed)

    def losses(step: int) -> Iterator[tuple[Tensor, int]]:
        prefix_of = partial(start.prefix, encoder.dtype, positions)
        return _label_losses(encoder, prefix_of, *corpus.batch(step), words, config, runtime)

    def evaluate() -> Evaluation:
        log_probs = log_probabilities(
            encoder, dev_clozes, start.key_values(), words, positions, runtime.eval_batch_size
        )
        accuracy = 100 * float((log_probs.argmax(axis=1) == dev_gold).mean())
        loss = -float(log_probs[np.arange(len(dev_gold)), dev_gold].mean())
        return Evaluation((-accuracy, loss), {"dev_accuracy": accuracy, "dev_loss": loss})

    steps = config.epochs * corpus.steps_per_epoch
    optimisation = _optimisation(config, steps, config.learning_rate, corpus.steps_per_epoch)
    language = "none" if prompt is None else prompt.language
    progress = StepLine(f"tune {language}", optimisation.steps, runtime.progress)
    with _gradient_checkpointing(encoder, runtime):
        history = fit(start.trained, losses, evaluate, optimisation, checkpoint, progress)
    facts = {
        "config": config.model_dump(mode="json"), "precision": encoder.precision,
        "examples": len(chosen), "dev_examples": len(dev),
        "trained_layers": [start.trained_layers.start, start.trained_layers.stop],
        "dev_accuracy": max(entry["dev_accuracy"] for _, entry in history.evaluations),
        "trained_values": start.num_trained, **_course(history), "peak_memory_bytes": memory.bytes(),
        "language_prompt": None if prompt is None else prompt.facts,
    }  # fmt: skip
    return PromptClassifier(
        encoder, to_cpu(start.key_values()), task, language, config.max_length, positions, facts=facts
    )


def _clozes(
    encoder: Encoder, examples: Sequence[Example], task: Task, config: TuneConfig
) -> tuple[list[Cloze], list[int]]:
    """Examples as the model reads them, and the indices of their labels."""
    clozes = encode([example.fields for example in examples], task, encoder.tokenizer, config.max_length)
    return clozes, [task.labels.index(str(example.label)) for example in examples]


def _labelled(
    examples: Sequence[Example], dev: Sequence[Example] | None, task: Task, config: TuneConfig
) -> tuple[list[Example], list[Example]]:
    """Training and dev examples, checked against the task's labels."""
    for example in (*examples, *(dev or ())):
        if example.label not in task.labels:
            known = ", ".join(task.labels)
            raise DataError(f"an example has the label {example.label!r}; task {task.name!r} has {known}")
    chosen, held = (list(examples), list(dev)) if dev else split_held_out(list(examples), config.dev_share, config.seed)
    if config.shots_per_class is not None:
        chosen = shots_per_class(chosen, config.shots_per_class, config.seed)
    if not chosen or not held:
        raise DataError(f"{len(examples)} labelled example(s) are too few to train on and to choose the best epoch")
    return chosen, held


def _starting_prompt(encoder: Encoder, prompt: LanguagePrompt | None, config: TuneConfig) -> SoftPrompt:
    """The prompt that stage 2 continues, with its trained layers marked."""
    layers = encoder.num_layers
    for name, value in (("top_k_layers", config.top_k_layers), ("bottom_k_layers", config.bottom_k_layers)):
        if value is not None and not 1 <= value <= layers:
            raise ConfigError(f"{name} is {value}; this model has {layers} layers, give 1 to {layers}")
    top = config.top_k_layers
    if config.bottom_k_layers is not None:
        trained = range(config.bottom_k_layers)
    elif top is not None:
        trained = range(layers - top, layers)
    else:
        trained = range(layers) if prompt is None else range(layers - round(0.75 * layers), layers)
    if prompt is None:
        shape = encoder.prompt_shape(config.prompt_length)
        start = SoftPrompt.initialise(shape, config.init_std, config.seed, trained)
    else:
        expected = encoder.prompt_shape(prompt.prompt_length)
        if tuple(prompt.key_values.shape) != expected:
            raise ConfigError(
                f"the prompt has the shape {tuple(prompt.key_values.shape)}, {encoder.name} needs {expected}"
            )
        start = SoftPrompt(prompt.key_values, trained)
    return start.to(encoder.device)


def _label_losses(
    encoder: Encoder,
    prefix_of: Callable[[], Prefix],
    clozes: Sequence[Cloze],
    gold: Tensor,
    words: Words,
    config: TuneConfig,
    runtime: RuntimeConfig,
) -> Iterator[tuple[Tensor, int]]:
    """Parts of a batch's mean cross-entropy, over the labels or over the whole vocabulary (equation 1)."""
    rank, world = PartialState().process_index, PartialState().num_processes
    count = len(clozes)
    for number, rows in enumerate(split_rows(count, runtime.micro_batch_size or -(-count // world))):
        if number % world != rank:
            continue
        if config.loss_over == "labels":
            scores = label_scores(encoder, clozes[rows], prefix_of(), words)
            loss = F.cross_entropy(scores, gold[rows].to(encoder.device), reduction="sum")
        else:
            token_ids, average = words.token_ids.to(encoder.device), words.average.to(encoder.device)
            hidden = mask_states(encoder, clozes[rows], prefix_of())
            log_probs = encoder.token_logits(hidden).log_softmax(dim=-1)[:, token_ids] @ average.T
            loss = F.nll_loss(log_probs, gold[rows].to(encoder.device), reduction="sum")
        yield loss / count, sum(len(cloze.input_ids) for cloze in clozes[rows])


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


# ---------------------------------------------------------------------------------------------------------------


def _optimisation(
    config: AdaptConfig | TuneConfig, steps: int, rate: float, eval_every: int, patience: int | None = None
) -> Optimisation:
    """What the loop needs of either stage's config."""
    return Optimisation(steps, rate, config.warmup_ratio, config.weight_decay, config.clip_norm, eval_every, patience)


def _same_precision(encoder: Encoder, checkpoint: Checkpoint) -> None:
    """A resumed run keeps the precision it was started with, whatever today's probe says."""
    started_with = checkpoint.note("precision", encoder.precision)
    if started_with != encoder.precision:
        encoder.use_precision("bf16" if started_with == "bf16" else "fp32")


def _course(history: History) -> dict[str, Any]:
    """The course of training, for artifacts and plots."""
    return {
        "steps": history.step, "best_step": history.best_step, "seconds": history.seconds, "tokens": history.tokens,
        "losses": history.losses, "evaluations": history.evaluations,
    }  # fmt: skip


@contextmanager
def _gradient_checkpointing(encoder: Encoder, runtime: RuntimeConfig) -> Generator[None]:
    """Recomputation of activations for the length of a run, if wished."""
    if runtime.gradient_checkpointing:
        encoder.checkpoint_gradients(True)
    try:
        yield
    finally:
        if runtime.gradient_checkpointing:
            encoder.checkpoint_gradients(False)
