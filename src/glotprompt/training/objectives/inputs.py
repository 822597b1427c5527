"""Inputs of both stages and of classifiers: checked, split and tokenised texts and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.data.characters import CharacterMap
from glotprompt.data.readers.records import Example, most_per_label, shots_per_class, split_held_out, text_key
from glotprompt.errors import ConfigError, DataError, counted, nearest, setting
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.classification import Head
from glotprompt.model.modules.module import Module
from glotprompt.model.modules.ngrams import NgramHead
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.tokens import SENTINEL, Sequences, SpecialIds, beginning, plain
from glotprompt.task import Task
from glotprompt.training.objectives.batches import MaskingCorpus, balance, source_rows, token_sequences
from glotprompt.training.objectives.cloze import Cloze, Words, encode_without_mask, label_words, read_lengths
from glotprompt.training.objectives.scoring import LabelHead

Input = str | tuple[str, str] | Example
"""A text, a (premise, hypothesis) pair, or an example (its label is ignored)."""


def masking_corpus(
    backbone: Backbone, target: Sequence[str], source: Sequence[str], config: AdaptConfig
) -> tuple[MaskingCorpus, tuple[Sequences, Sequences], list[str]]:
    """Packed training text of both languages; the held-out sequences of the target, for choosing the step and for the
    report; and their lines. Raises `ConfigError` for a batch too small for both languages."""
    source_rows(config.batch_size, config.source_share)
    # Training on source text only (the control) is also evaluated on it: its best step must not depend on the target.
    judge, name = (source, "source") if config.source_share == 1 else (target, "target")
    training, held_out = split_held_out(list(judge), config.held_out_share, config.seed)
    if not held_out or not training:
        different = f", {counted(len(set(judge)), 'different text')}"
        raise DataError(
            f"the {name} text has {counted(len(judge), 'line')}{different}; stage 1 needs at least two different ones"
        )
    texts = (target, training) if name == "source" else (training, source)
    target_pieces, source_pieces = (_sequences(text, backbone, config) for text in texts)
    if config.source_share > 0 and not source_pieces:
        alone = setting("source_share", "0")
        raise DataError(f"there is no source-language text; give some, or {alone} for the target alone")
    if config.source_share < 1 and not target_pieces:
        raise DataError("the target text holds no token; give text in the target language")
    target_pieces, source_pieces = balance(target_pieces, source_pieces, config)
    choosing, reporting = (_sequences(half, backbone, config) for half in halves(held_out))
    if not choosing or not reporting:
        choosing = reporting = _sequences(held_out, backbone, config)
    return MaskingCorpus(target_pieces, source_pieces, config, backbone.tokenizer), (choosing, reporting), held_out


def halves(held_out: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split held-out lines into two halves; lines that are equal after folding white space stay together. A single line
    is in both."""
    keys = [text_key(line) for line in held_out]
    half_of = {key: number % 2 for number, key in enumerate(dict.fromkeys(keys))}
    one, other = ([line for line, key in zip(held_out, keys, strict=True) if half_of[key] == side] for side in (0, 1))
    return one, other or one


def _sequences(text: Sequence[str], backbone: Backbone, config: AdaptConfig) -> Sequences:
    return token_sequences(text, backbone.tokenizer, config.max_length, config.packing)


def check_length(backbone: Backbone, max_length: int, module: Module) -> None:
    """Raise `ConfigError` if `max_length` exceeds the model's limit, which shifted prompt positions reduce."""
    prompts = [part for part in module.modules() if isinstance(part, SoftPrompt) and part.positions == "shifted"]
    longest = backbone.max_positions - sum(prompt.prompt_length for prompt in prompts)
    if max_length > longest:
        raise ConfigError(f"max_length {max_length} is more than this model reads ({longest} tokens); lower it")


TARGET_DEV_SHARE, FEWEST_TO_HOLD_OUT = 0.2, 5
"""Share of the target examples of a label that are held out to choose the best epoch; none of fewer than five."""


def split_target(examples: Sequence[Example], task: Task, config: TuneConfig) -> tuple[list[Example], list[Example]]:
    """Training and dev examples of the target language: a fifth of every label with enough examples is held out."""
    refuse_unknown_labels(examples, task)
    dev_ids: set[int] = set()
    for label in task.labels:
        members = [example for example in examples if example.label == label]
        if len(members) >= FEWEST_TO_HOLD_OUT:
            dev_ids |= {id(example) for example in split_held_out(members, TARGET_DEV_SHARE, config.seed)[1]}
    training = [example for example in examples if id(example) not in dev_ids]
    return training, [example for example in examples if id(example) in dev_ids]


def group_weights(num_source: int, num_target: int, of_target: float | None) -> tuple[float, float]:
    """Weights of a source and a target example: the latter `of_target` times the former, or (None) such that both
    languages get the same total weight; the mean over all examples is 1."""
    if not num_target:
        return 1.0, 1.0
    ratio = num_source / num_target if of_target is None else of_target
    of_source = (num_source + num_target) / (num_source + ratio * num_target)
    return of_source, ratio * of_source


def refuse_unknown_labels(examples: Sequence[Example], task: Task) -> None:
    """Raise `DataError` for a label that the task lacks."""
    for example in examples:
        if example.label not in task.labels:
            labels = ", ".join(task.labels)
            raise DataError(
                f"an example has the label {example.label!r}, which task {task.name!r} does not know; it has {labels}."
                f"{nearest(str(example.label), task.labels)} Give a task with the labels of the examples"
            )


def labelled_examples(
    examples: Sequence[Example], dev: Sequence[Example] | None, task: Task, config: TuneConfig
) -> tuple[list[Example], list[Example]]:
    """Training and dev examples, validated against the task's labels."""
    refuse_unknown_labels([*examples, *(dev or ())], task)
    if config.most_per_label is not None:
        examples = most_per_label(examples, config.most_per_label, config.seed)
    training, held_out = (
        (list(examples), list(dev)) if dev else split_held_out(list(examples), config.dev_share, config.seed)
    )
    if config.shots_per_class is not None:
        training = shots_per_class(training, config.shots_per_class, config.seed)
    if not training or not held_out:
        texts = counted(len({tuple(example.fields.items()) for example in examples}), "different text")
        raise DataError(
            f"{counted(len(examples), 'labelled example')}, {texts}: too few to train on and to choose the best epoch;"
            " give at least two different ones"
        )
    return training, held_out


def rewritten_fields(
    fields: Sequence[Mapping[str, str]], characters: CharacterMap | None
) -> Sequence[Mapping[str, str]]:
    """Input texts with the character map applied."""
    if characters is None:
        return fields
    return [{name: characters.apply(text) for name, text in row.items()} for row in fields]


@dataclass(frozen=True)
class _Reader:
    """How a tokenizer's kind of model reads a template."""

    task: Task
    tokenizer: PreTrainedTokenizerFast
    num_masks: int
    """Masks in the template of a masked language model."""
    special: SpecialIds

    def tokens(self, rows: Sequence[Mapping[str, str]]) -> list[list[int]]:
        """Token ids of rendered examples."""
        objective, back = self.special.objective, len(self.special.back)
        template = self.task.template.for_decoder if objective == "clm" else self.task.template
        mask = {"mlm": self.num_masks * str(self.tokenizer.mask_token), "clm": "", "spans": SENTINEL}[objective]
        texts = [template.render(row, mask) for row in rows]
        if objective == "clm":  # the space is the label word's
            tokens: list[list[int]] = self.tokenizer([text.rstrip() for text in texts])["input_ids"] if texts else []
            return [ids[: len(ids) - back] for ids in tokens]
        tokens = self.tokenizer(texts)["input_ids"] if texts else []
        if objective == "mlm":
            return tokens
        written = self.tokenizer.convert_tokens_to_ids(SENTINEL)  # ByT5's own cannot be written
        return [[self.special.mask if token == written else token for token in ids] for ids in tokens]

    def cloze(self, ids: list[int], truncated: bool, words: Words | None) -> Cloze:
        """An example from its tokens."""
        array, objective = np.array(ids, dtype=np.int64), self.special.objective
        if objective == "mlm":
            return Cloze(array, ids.index(self.special.mask), truncated, num_reads=self.num_masks)
        start = (self.special.pad, self.special.mask) if objective == "spans" else ()
        continuations = ((),) if words is None else words.continuations
        num_reads = sum(map(len, read_lengths(continuations)))
        return Cloze(
            array, len(start or ids) - 1, truncated, num_reads=num_reads, continuations=continuations, decoder_ids=start
        )


def encode(
    fields: Sequence[Mapping[str, str]],
    task: Task,
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    words: Words | None = None,
) -> list[Cloze]:
    """Render and tokenise examples, to read `words` (None: words of one token). Beyond `max_length` tokens the longest
    text field is truncated, never the template or the masks, which are consecutive."""
    reader = _Reader(task, tokenizer, 1 if words is None else words.num_reads, SpecialIds.of(tokenizer))
    # This many tokens of a field are truncated exactly as the whole field would be.
    clean = [
        {name: beginning(plain(text, tokenizer), tokenizer, max_length) for name, text in row.items()} for row in fields
    ]
    clozes: list[Cloze] = []
    for row, tokens in zip(clean, reader.tokens(clean), strict=True):
        truncated = len(tokens) > max_length
        clozes.append(reader.cloze(_shorten(row, reader, max_length) if truncated else tokens, truncated, words))
    return clozes


def _shorten(row: Mapping[str, str], reader: _Reader, max_length: int) -> list[int]:
    tokenizer, template = reader.tokenizer, reader.task.template
    names = template.fields
    ends = {
        name: [
            end
            for _, end in tokenizer(row[name], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        ]
        for name in names
    }
    bare = len(reader.tokens([dict.fromkeys(names, "")])[0])
    if bare >= max_length:
        raise ConfigError(
            f"max_length {max_length} leaves no room for text beside the template {template.pattern!r}"
            f" ({bare} tokens); give a larger max_length"
        )
    # A truncated text may have more tokens than counted, so this repeats; without any text it fits.
    room = max_length - bare
    while True:
        keep = {name: len(ends[name]) for name in names}
        while sum(keep.values()) > room:
            longest = max(names, key=lambda name: keep[name])
            others = sum(count for name, count in keep.items() if name != longest)
            second = max((count for name, count in keep.items() if name != longest), default=0)
            keep[longest] = max(room - others, min(second, keep[longest] - 1), 0)
        cut = {name: row[name][: ends[name][keep[name] - 1]] if keep[name] else "" for name in names}
        (tokens,) = reader.tokens([cut])
        if len(tokens) <= max_length:
            return tokens
        room = max(0, room - (len(tokens) - max_length))


def read_inputs(
    backbone: Backbone,
    fields: Sequence[Mapping[str, str]],
    task: Task,
    head: Head | None,
    max_length: int,
    characters: CharacterMap | None = None,
) -> tuple[LabelHead, list[Cloze]]:
    """The head, or the label words where there is none, and the tokenised inputs for it, with the character map
    applied."""
    fields = rewritten_fields(fields, characters)
    if isinstance(head, NgramHead):
        return head, ngrams_read(head, fields, task)
    if head is not None:
        return head, encode_without_mask(fields, task, backbone.tokenizer, max_length)
    words = label_words(task, backbone.tokenizer, backbone.input_embeddings)
    return words, encode(fields, task, backbone.tokenizer, max_length, words)


def characters_of(fields: Mapping[str, str], task: Task) -> str:
    """An input as one text: its fields, one behind the other."""
    return "\n".join(task.template.texts_of(fields))


def ngrams_read(head: NgramHead, fields: Sequence[Mapping[str, str]], task: Task) -> list[Cloze]:
    """Inputs as indices of the head's n-grams."""
    return [Cloze(head.read(characters_of(row, task)), position=0) for row in fields]


def fields_of(item: Input) -> dict[str, str]:
    """The texts of an input by template field."""
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, tuple):
        return {"premise": item[0], "hypothesis": item[1]}
    return dict(item.fields)
