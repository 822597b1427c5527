"""What the two stages read: texts and examples, checked, split, and for stage 1 tokenised and packed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.data.characters import CharacterMap
from glotprompt.data.records import Example, content_hash, shots_per_class, split_held_out
from glotprompt.errors import ConfigError, DataError, counted, nearest
from glotprompt.model.delta import Delta
from glotprompt.model.encoder import Encoder
from glotprompt.model.soft_prompt import SoftPrompt
from glotprompt.model.tokens import Sequences
from glotprompt.templates import Task
from glotprompt.train.batches import MaskingCorpus, balance, source_rows, token_sequences
from glotprompt.train.token_text import HeldOut, TokenText

Text = Sequence[str] | TokenText
"""Unlabelled text: lines, or (where they are too many for memory) what `token_cache.token_text` made of them."""


def masking_corpus(
    encoder: Encoder, target: Text, source: Text, config: AdaptConfig
) -> tuple[MaskingCorpus, list[Any]]:
    """Packed training text of both languages, and the target's held-out sequences. Raises `ConfigError` for a batch too
    small for both."""
    source_rows(config.batch_size, config.source_share)
    # What is trained on source text alone (the control) is judged on it too, or its choice would know the target.
    judge, name = (source, "source") if config.source_share == 1 else (target, "target")
    kept, held = _split(judge, config)
    if not held or not kept:
        different = "" if isinstance(judge, TokenText) else f", {counted(len(set(judge)), 'different text')}"
        raise DataError(
            f"the {name} text has {counted(len(judge), 'line')}{different}; stage 1 needs at least two different ones"
        )
    texts = (target, kept, held) if name == "source" else (kept, source, held)
    target_pieces, source_pieces, held_out = (_sequences(text, encoder, config) for text in texts)
    if config.source_share > 0 and not source_pieces:
        raise DataError("there is no source-language text; give some, or set source_share=0 for the target alone")
    if config.source_share < 1 and not target_pieces:
        raise DataError("the target text holds no token; give text in the target language")
    target_pieces, source_pieces = balance(target_pieces, source_pieces, config)
    return MaskingCorpus(target_pieces, source_pieces, config, encoder.tokenizer), list(held_out)


def held_out_lines(target: Text, config: AdaptConfig, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The target's held-out text as it was written; of a cached one, the lines that can be had back from its tokens."""
    _, held = _split(target, config)
    if not isinstance(held, HeldOut):
        return list(held)
    characters = target.characters if isinstance(target, TokenText) else None
    invert = str if characters is None else characters.invert
    lines = [line for line in held.lines if tokenizer.unk_token_id not in line]
    return [invert(str(tokenizer.decode(line))) for line in lines]


def _split(text: Text, config: AdaptConfig) -> tuple[Text, Sequence[str] | HeldOut]:
    if isinstance(text, TokenText):
        return text.split(config.held_out, config.seed, config.max_length, config.packing)
    return split_held_out(list(text), config.held_out, config.seed)


def _sequences(text: Text | HeldOut, encoder: Encoder, config: AdaptConfig) -> Sequences:
    if isinstance(text, TokenText | HeldOut):
        return text.sequences(config.max_length, config.packing)
    return token_sequences(text, encoder.tokenizer, config.max_length, config.packing)


def content_of(text: Text) -> str:
    """Hash of what a text says."""
    return text.key if isinstance(text, TokenText) else content_hash(text)


def rewritten(text: Text, characters: CharacterMap | None) -> Text:
    """The text as the tokenizer is to see it. A cached one was rewritten when it was made; `ConfigError` where that was
    by another map."""
    if not isinstance(text, TokenText):
        return text if characters is None else [characters.apply(line) for line in text]
    if text.characters != characters:
        raise ConfigError("a cached text was rewritten by another character map; hand token_text the same characters=")
    return text


def check_length(encoder: Encoder, max_length: int, delta: Delta) -> None:
    """Raises `ConfigError` for inputs longer than the model reads, behind a prompt with shifted positions less."""
    prompts = [part for part in delta.modules() if isinstance(part, SoftPrompt) and part.positions == "shifted"]
    longest = encoder.max_positions - sum(prompt.prompt_length for prompt in prompts)
    if max_length > longest:
        raise ConfigError(f"max_length {max_length} is more than this model reads ({longest} tokens); lower it")


def labelled_examples(
    examples: Sequence[Example], dev: Sequence[Example] | None, task: Task, config: TuneConfig
) -> tuple[list[Example], list[Example]]:
    """Training and dev examples, checked against the task's labels."""
    for example in (*examples, *(dev or ())):
        if example.label not in task.labels:
            known = ", ".join(task.labels)
            raise DataError(
                f"an example has the label {example.label!r}, which task {task.name!r} does not know; it has {known}."
                f"{nearest(str(example.label), task.labels)} Give a task with the labels of the examples"
            )
    chosen, held = (list(examples), list(dev)) if dev else split_held_out(list(examples), config.dev_share, config.seed)
    if config.shots_per_class is not None:
        chosen = shots_per_class(chosen, config.shots_per_class, config.seed)
    if not chosen or not held:
        texts = counted(len({tuple(example.fields.items()) for example in examples}), "different text")
        raise DataError(
            f"{counted(len(examples), 'labelled example')}, {texts}: too few to train on and to choose the best epoch;"
            " give at least two different ones"
        )
    return chosen, held
