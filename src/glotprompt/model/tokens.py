"""Token ids: special tokens, padding, batches by length, and escaping of special tokens in text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from glotprompt.errors import ModelError

Objective = Literal["mlm", "clm", "spans"]
"""What a language model was pre-trained for: masked tokens, the next token (causal language modelling), or masked spans
that a decoder generates (span corruption)."""

LENGTH_STEP = 16
"""Padded lengths are multiples of this: on a CPU every new shape compiles a new kernel."""

LONG = 2**14
"""Texts up to this many characters are tokenised whole."""
MARGIN = 128
"""Tokens that must follow the requested ones of a beginning: more than the 100 characters beyond which WordPiece maps a
word to the unknown token, so that cutting such a word does no harm."""

_AFTER_A_WORD = re.compile(r"(?<=\S) ")

Sequences = Sequence[NDArray[np.int64]]
"""Token ids of texts, with special tokens."""


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the special tokens, without the unknown token, which stands for text."""

    objective: Objective
    """What the tokenizer is made for: masked tokens, the next one, or spans that sentinels stand for."""
    front: tuple[int, ...]
    """Before every text."""
    back: tuple[int, ...]
    """Behind every text."""
    separator: int
    """Between the lines of one sequence."""
    mask: int
    """The mask token or, of T5, the first sentinel; of a decoder, which masks nothing, the separator."""
    pad: int
    all: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> SpecialIds:
        """The special ids of a tokenizer. They are found once: a call of a tokenizer undoes the truncation that another
        thread has set."""
        if tokenizer not in _SPECIAL_IDS:
            _SPECIAL_IDS[tokenizer] = cls._found(tokenizer)
        return _SPECIAL_IDS[tokenizer]

    @classmethod
    def _found(cls, tokenizer: PreTrainedTokenizerFast) -> SpecialIds:
        # Its attributes have no reliable types.
        others = tuple(sorted({int(token) for token in tokenizer.all_special_ids if token != tokenizer.unk_token_id}))
        if not missing_tokens(tokenizer, "mlm"):
            first, last, mask, pad_id = (int(str(getattr(tokenizer, f"{name}_token_id"))) for name in NEEDED["mlm"])
            return cls("mlm", (first,), (last,), last, mask, pad_id, others)
        separator = int(str(tokenizer.eos_token_id))
        pad_id = separator if tokenizer.pad_token_id is None else int(str(tokenizer.pad_token_id))
        framed, bare = (tokenizer("a", add_special_tokens=more)["input_ids"] for more in (True, False))
        start = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
        front, back = tuple(framed[:start]), tuple(framed[start + len(bare) :])
        # Some decoders have sentinels too, but a text of theirs is open at its end.
        if back == (separator,) and tokenizer.convert_tokens_to_ids(SENTINEL) not in (None, tokenizer.unk_token_id):
            return cls("spans", front, back, separator, sentinel(tokenizer, 0), pad_id, others)
        return cls("clm", front, back, separator, separator, pad_id, others)


_SPECIAL_IDS: WeakKeyDictionary[PreTrainedTokenizerFast, SpecialIds] = WeakKeyDictionary()
NEEDED = {"mlm": ("cls", "sep", "mask", "pad"), "clm": ("eos",), "spans": ("eos", "pad")}
"""Required special tokens by objective, by their names in transformers."""
SENTINEL = "<extra_id_0>"
"""The first of the tokens that stand for a masked span in T5."""


def missing_tokens(tokenizer: PreTrainedTokenizerFast, objective: str) -> list[str]:
    """Required special tokens that a tokenizer lacks."""
    return [name for name in NEEDED[objective] if getattr(tokenizer, f"{name}_token_id") is None]


def refuse_other_tokenizer(
    name: str, tokenizer: PreTrainedTokenizerFast, objective: Objective, vocab_size: int
) -> None:
    """Raise `ModelError` for a tokenizer without a special token that is needed, or of another model."""
    if lacking := missing_tokens(tokenizer, objective):
        raise ModelError(f"{name}: its tokenizer has no {lacking[0]} token; get or copy its tokenizer files again")
    if (made_for := SpecialIds.of(tokenizer).objective) != objective:
        what = f"has the special tokens for objective {made_for!r}, the model is for {objective!r}"
    else:
        # Vocabulary sizes are rounded up, but never doubled; without tokenizer files transformers makes a tiny one.
        ids = set(tokenizer.get_vocab().values())
        if objective == "clm":  # Gemma 3's has a token for images beyond the vocabulary of its text model
            ids -= {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        if vocab_size / 2 <= len(tokenizer) and max(ids, default=0) < vocab_size:
            return
        what = f"has {len(tokenizer)} tokens, the model {vocab_size}"
    raise ModelError(f"{name}: its tokenizer {what}; they do not belong together, give a folder that holds both")


def sentinel(tokenizer: PreTrainedTokenizerFast, number: int) -> int:
    """Id of the token that stands for the masked span of this number. ByT5 takes the last bytes, which occur in no
    text, from 0xFF downwards."""
    if is_byte_level(tokenizer):
        return BYTES[-1] - number
    return int(str(tokenizer.convert_tokens_to_ids(f"<extra_id_{number}>")))


BYTES = range(3, 259)
"""Ids of the 256 bytes in ByT5's vocabulary, behind padding, end and unknown token."""


@lru_cache(maxsize=8)
def is_byte_level(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether every byte of UTF-8 is one token, so that every script is read."""
    text = "aé한\U0001f30d"
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids == [BYTES[byte] for byte in text.encode()]


def byte_tokenizer(num_sentinels: int = 125) -> PreTrainedTokenizerFast:
    """ByT5's vocabulary as a fast tokenizer; transformers has a slow one only, which knows no offsets. Without
    sentinels it is one for a decoder: no end is put behind a text."""
    spelled = bytes_to_unicode()
    names = ["<pad>", "</s>", "<unk>", *(spelled[byte] for byte in range(256))]
    backend = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    if num_sentinels:
        backend.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    more = [AddedToken(f"<extra_id_{number}>", special=True, normalized=False) for number in range(num_sentinels)]
    special: dict[str, Any] = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, additional_special_tokens=more, **special)


@lru_cache(maxsize=8)
def token_bytes(tokenizer: PreTrainedTokenizerFast) -> Int[NDArray[np.int64], " vocab"]:
    """Bytes of UTF-8 that each token stands for, by id: 1 for the separator of lines, 0 for other special tokens."""
    vocabulary = tokenizer.get_vocab()
    # ByteLevel spells each byte as one character.
    in_bytes = "ByteLevel" in str(tokenizer.backend_tokenizer.decoder)
    sizes = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
    for token, number in vocabulary.items():
        is_byte = re.fullmatch("<0x[0-9A-F]{2}>", token) is not None
        sizes[number] = 1 if is_byte else len(token if in_bytes else token.replace("▁", " ").encode())
    sizes[list(tokenizer.all_special_ids)] = 0
    sizes[int(str(tokenizer.eos_token_id))] = 1
    return sizes


def plain(text: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """`text` with special tokens broken up, so that a literal "<mask>" stays text."""
    return without_tokens(text, [*tokenizer.all_special_tokens, SENTINEL])  # of mT5 no special token


def without_tokens(text: str, special: Sequence[str]) -> str:
    """`plain`, for given special tokens."""
    for token in special:
        if token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def beginning(text: str, tokenizer: PreTrainedTokenizerFast, count: int) -> str:
    """A beginning of `text` with the same first `count` tokens as the whole text, without tokenising all of it.

    Exact: a tokenizer that splits at spaces never looks across one. For any other tokenizer (and text without spaces)
    some token ends within as many characters as the longest token has, and the tokens up to there are those of the part
    that ends there (Viterbi's best path, pair merges, longest match first). So if the parts that end at each of these
    characters have the same first tokens, the whole text has them too; if not, a longer part is tried, finally all.
    """
    if len(text) <= LONG:
        return text
    size = 4 * (count + MARGIN)
    while 2 * size * len(ends := _ends(text, size, tokenizer)) <= len(text):  # else the whole is as cheap
        starts: set[tuple[int, ...]] = set()
        for end in ends:
            tokens = tokenizer(text[:end], add_special_tokens=False, verbose=False)["input_ids"]
            starts.add(tuple(tokens[:count]))
            if len(starts) > 1 or len(tokens) < count + MARGIN:
                break
        else:
            return text[: ends[-1]]
        size *= 2
    return text


def _ends(text: str, size: int, tokenizer: PreTrainedTokenizerFast) -> Sequence[int]:
    """Possible ends of a part of about `size` characters; at least one is a token boundary of the whole text."""
    space = _AFTER_A_WORD.search(text, size, 2 * size)
    if space is not None and _splits_at_spaces(tokenizer):
        return [space.start()]
    return range(size, size + _longest_token(tokenizer))


@lru_cache(maxsize=8)
def _splits_at_spaces(tokenizer: PreTrainedTokenizerFast) -> bool:
    backend: Any = tokenizer.backend_tokenizer
    text = "a b" if backend.normalizer is None else backend.normalizer.normalize_str("a b")
    return backend.pre_tokenizer is not None and len(backend.pre_tokenizer.pre_tokenize_str(text)) > 1


@lru_cache(maxsize=8)
def _longest_token(tokenizer: PreTrainedTokenizerFast) -> int:
    return max(map(len, tokenizer.get_vocab()))


def pad(sequences: Sequences, pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Pad to one [batch, seq] array, with its mask (1 text, 0 padding); no mask for sequences of equal length."""
    longest = max(len(sequence) for sequence in sequences)
    if all(len(sequence) == longest for sequence in sequences):
        return np.stack(sequences), None
    width = padded_width(longest)
    input_ids = np.full((len(sequences), width), pad_id, dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for row, sequence in enumerate(sequences):
        input_ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return input_ids, mask


def padded_width(longest: int) -> int:
    """Width of a padded batch whose longest sequence has this many tokens."""
    return -(-longest // LENGTH_STEP) * LENGTH_STEP


def by_length(sequences: Sequences, batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first (so that memory runs out at once, if at all)."""
    order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
