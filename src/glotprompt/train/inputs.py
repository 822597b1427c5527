"""What the two stages read: texts and examples, checked, split, and for stage 1 tokenised and packed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerFast

from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.data.characters import CharacterMap
from glotprompt.data.records import Example, content_hash, shots_per_class, split_held_out
from glotprompt.errors import ConfigError, DataError
from glotprompt.model.delta import Delta
from glotprompt.model.encoder import Encoder
from glotprompt.model.soft_prompt import SoftPrompt
from glotprompt.model.tokens import Sequences
from glotprompt.templates import Task
from glotprompt.train.batches import MaskingCorpus, balance, source_rows, token_sequences
from glotprompt.train.characters import MAX_LINES, Unknown, unknown_in, unknown_in_tokens
from glotprompt.train.token_text import HeldOut, TokenText

_Line = TypeVar("_Line")
Text = Sequence[str] | TokenText
"""Unlabelled text: lines, or (where they are too many for memory) what `token_cache.token_text` made of them."""


def masking_corpus(
    encoder: Encoder, target: Text, source: Text, config: AdaptConfig
) -> tuple[MaskingCorpus, tuple[list[Any], list[Any]]]:
    """Packed training text of both languages, and the target's held-out sequences: those that choose the step, and
    those that report. Raises `ConfigError` for a batch too small for both."""
    source_rows(config.batch_size, config.source_share)
    # What is trained on source text alone (the control) is judged on it too, or its choice would know the target.
    judge, name = (source, "source") if config.source_share == 1 else (target, "target")
    kept, held = _split(judge, config)
    if not held or not kept:
        raise DataError(f"the {name} text has {len(judge)} line(s); stage 1 needs at least two different ones")
    texts = (target, kept, held) if name == "source" else (kept, source, held)
    target_pieces, source_pieces, whole = (_sequences(text, encoder, config) for text in texts)
    if config.source_share > 0 and not source_pieces:
        raise DataError("there is no source-language text; give some, or set source_share=0 for the target alone")
    if config.source_share < 1 and not target_pieces:
        raise DataError("the target text holds no token; give text in the target language")
    target_pieces, source_pieces = balance(target_pieces, source_pieces, config)
    parts = [list(_sequences(half, encoder, config)) for half in halves(held)]
    choosing, reporting = parts if all(parts) else (list(whole), list(whole))
    return MaskingCorpus(target_pieces, source_pieces, config, encoder.tokenizer), (choosing, reporting)


def halves(held_out: Sequence[str] | HeldOut) -> tuple[Sequence[str] | HeldOut, Sequence[str] | HeldOut]:
    """Every other held-out line, and the rest; lines that say the same stay together. One line alone is both."""
    if isinstance(held_out, HeldOut):
        one, other = _halves(held_out.lines, [line.tobytes() for line in held_out.lines])
        return replace(held_out, lines=one), replace(held_out, lines=other)
    return _halves(held_out, [" ".join(line.split()) for line in held_out])


def _halves(lines: Sequence[_Line], keys: Sequence[Hashable]) -> tuple[list[_Line], list[_Line]]:
    place = {key: number % 2 for number, key in enumerate(dict.fromkeys(keys))}
    parts = [[line for line, key in zip(lines, keys, strict=True) if place[key] == side] for side in (0, 1)]
    return (parts[0], parts[1] or parts[0])


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


def unknown_of(text: Text, tokenizer: PreTrainedTokenizerFast) -> Unknown:
    """What of a text, as the tokenizer is to see it, is unknown. Of a cached one that was not counted when it was
    read the characters cannot be had back."""
    if not isinstance(text, TokenText):
        return unknown_in(text, tokenizer)
    if text.unknown is not None:
        return text.unknown
    step = max(1, text.num_lines // MAX_LINES)
    return unknown_in_tokens([text.line(number).tolist() for number in range(0, text.num_lines, step)], tokenizer)


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
            raise DataError(f"an example has the label {example.label!r}; task {task.name!r} has {known}")
    chosen, held = (list(examples), list(dev)) if dev else split_held_out(list(examples), config.dev_share, config.seed)
    if config.shots_per_class is not None:
        chosen = shots_per_class(chosen, config.shots_per_class, config.seed)
    if not chosen or not held:
        raise DataError(f"{len(examples)} labelled example(s) are too few to train on and to choose the best epoch")
    return chosen, held
