"""`--map-characters`: the character map of one target, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

from glotprompt.cli.screen import note
from glotprompt.data.characters import CharacterMap, name_of
from glotprompt.train.characters import map_to_known, unknown_tokens

MOST_NAMED = 5
"""Characters that stay which are named."""


def character_map(option: str | None, target: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> CharacterMap | None:
    """The map that the option asks for, fitted on the target's text; None where there is nothing to rewrite."""
    if option is None:
        return None
    found = map_to_known(target, tokenizer) if option == "auto" else CharacterMap.load(option, target)
    if found.left:
        named = ", ".join(map(name_of, found.left[:MOST_NAMED]))
        more = f" and {len(found.left) - MOST_NAMED:,} more" if len(found.left) > MOST_NAMED else ""
        note(f"unknown to the tokenizer, nothing known is near, so they stay: {named}{more}")
    if not found.rewritings:
        note("no character is rewritten" if found.left else "every character is known; nothing is rewritten")
        return None
    for entry in found.rewritings:
        back = "" if entry.reversible else "; not reversible, for the text holds that spelling already"
        note(f"{name_of(entry.character)} becomes {entry.spelling!r} ({entry.reason}{back})")
    before, after = (unknown_tokens(texts, tokenizer) for texts in (target, [found.apply(text) for text in target]))
    note(f"unknown tokens: {before[0]:,} of {before[1]:,} before, {after[0]:,} of {after[1]:,} after")
    return found
