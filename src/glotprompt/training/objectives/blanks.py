"""Blanked words and the model's guesses: a demonstration of masked language modelling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from glotprompt.model.backbone import Backbone
from glotprompt.model.prefix import Prefix
from glotprompt.model.tokens import plain


@dataclass(frozen=True)
class Blank:
    """A sentence with one word masked."""

    reference: str
    left: str
    answer: str
    right: str
    ids: list[int]


def blank_words(
    texts: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerFast, count: int, seed: int
) -> list[Blank]:
    """`count` sentences of 8 to 30 words, sampled by seed, each with one masked word of at least four letters that is a
    single token (one mask cannot stand for several)."""
    generator = np.random.default_rng(seed)
    blanks: list[Blank] = []
    for index in generator.permutation(len(texts)):
        reference, sentence = texts[int(index)]
        text = plain(sentence, tokenizer)
        if not 8 <= len(text.split()) <= 30:
            continue
        coded = tokenizer(text, return_offsets_mapping=True)
        ids, spans = list(coded["input_ids"]), coded["offset_mapping"]
        whole = [index_of_word for index_of_word, (first, last) in enumerate(spans) if _is_word(text, first, last)]
        if not whole:
            continue
        index_of_word = int(generator.choice(whole))
        first, last = spans[index_of_word]
        ids[index_of_word] = tokenizer.mask_token_id
        blanks.append(Blank(reference, text[:first], text[first:last].strip(), text[last:], ids))
        if len(blanks) == count:
            break
    return blanks


def _is_word(text: str, first: int, last: int) -> bool:
    word = text[first:last].strip()
    before, after = text[:first][-1:], text[last : last + 1]
    starts = text[first : first + 1].isspace() or not before.isalnum()
    return len(word) >= 4 and word.isalpha() and starts and not after.isalnum() and after not in ("'", "’")


@torch.inference_mode()
def guess_words(
    backbone: Backbone, texts: Sequence[Sequence[int]], prefix: Prefix | None, count: int = 5
) -> list[list[tuple[str, float]]]:
    """The `count` most likely tokens at each text's mask, with their probabilities (0 to 1)."""
    guesses: list[list[tuple[str, float]]] = []
    for ids in texts:
        batch = torch.tensor([list(ids)], device=backbone.device)
        hidden = backbone.hidden_states(batch, None, prefix)[batch == backbone.tokenizer.mask_token_id]
        top = backbone.token_logits(hidden).softmax(dim=-1)[0].topk(count)
        words = [str(backbone.tokenizer.decode([token])).strip() for token in top.indices.tolist()]
        guesses.append(list(zip(words, top.values.tolist(), strict=True)))
    return guesses
