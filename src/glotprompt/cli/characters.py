"""Characters that the tokenizer does not know: what is said of them, and `--map-characters`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from transformers import PreTrainedTokenizerFast

from glotprompt.cli.screen import note
from glotprompt.data.characters import CharacterMap, name_of
from glotprompt.data.readers.records import Example
from glotprompt.inference.classifier import PromptClassifier
from glotprompt.training.objectives.inputs import rewritten_fields
from glotprompt.training.objectives.unknown import (
    Unknown,
    knows,
    map_to_known,
    refuse_unknown,
    unknown_characters,
    unknown_in,
    unknown_tokens,
)

MOST_NAMED = 5
"""Number of unmapped characters that are named."""


def character_map(
    option: str | None, target: Sequence[str], tokenizer: PreTrainedTokenizerFast, allow_unknown: bool
) -> CharacterMap | None:
    """The map that the option asks for, fitted on the target's text; None where there is nothing to rewrite. Raises
    `DataError` where too much stays unknown, unless `allow_unknown`."""
    if option is None:
        return None
    mapping = map_to_known(target, tokenizer) if option == "auto" else CharacterMap.load(option, target)
    if not allow_unknown:
        refuse_unknown("the target text", unknown_in([mapping.apply(text) for text in target], tokenizer), tokenizer)
    if mapping.left:
        names = ", ".join(map(name_of, mapping.left[:MOST_NAMED]))
        more = f" and {len(mapping.left) - MOST_NAMED:,} more" if len(mapping.left) > MOST_NAMED else ""
        note(f"unknown to the tokenizer, nothing known is near, so they stay: {names}{more}")
    if not mapping.rewritings:
        if not mapping.left:
            note("every character is known; nothing is rewritten")
        return None
    for entry in mapping.rewritings:
        back = "" if entry.reversible else "; not reversible, for the text holds that spelling already"
        note(f"{name_of(entry.character)} becomes {entry.spelling!r} ({entry.reason}{back})")
    before, after = (unknown_tokens(texts, tokenizer) for texts in (target, [mapping.apply(text) for text in target]))
    note(f"unknown tokens: {before[0]:,} of {before[1]:,} before, {after[0]:,} of {after[1]:,} after")
    return mapping


def tell_unknown(classifier: PromptClassifier, inputs: Sequence[Example]) -> Unknown:
    """Unknown tokens of the texts to classify, with a note where they matter."""
    if classifier.reads_characters:
        return Unknown(0, 0, 0, 0, ())
    fields = rewritten_fields([item.fields for item in inputs], classifier.characters)
    unknown = unknown_in([text for row in fields for text in row.values()], classifier.backbone.tokenizer)
    if unknown.matters:
        note(unknown.sentence())
    return unknown


def unknown_of_each(classifier: PromptClassifier, inputs: Sequence[Example]) -> Iterator[dict[str, Any]]:
    """Unknown characters of each text, as `serve` names them, and their share of the tokens (0 to 1)."""
    if classifier.reads_characters:
        yield from ({} for _ in inputs)
        return
    tokenizer = classifier.backbone.tokenizer
    is_known = cache(knows(tokenizer))
    for item, row in zip(
        inputs, rewritten_fields([item.fields for item in inputs], classifier.characters), strict=True
    ):
        share = unknown_in(list(row.values()), tokenizer).unknown_share
        text = "".join(item.fields.values())
        yield {"unknown": unknown_characters(text, is_known, classifier.characters), "unknown_share": share}
