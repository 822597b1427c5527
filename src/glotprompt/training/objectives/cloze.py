"""Clozes: examples as token ids with masks, and label words as rows of the vocabulary (section 3.2).

A decoder reads the template up to the label word, and the decoder of an encoder-decoder begins with the sentinel that
stands in the template. There the words are *continuations*: a token of a word is read behind those before it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from glotprompt.errors import ConfigError, setting
from glotprompt.model.backbone import Backbone
from glotprompt.model.tokens import SpecialIds, beginning, plain
from glotprompt.task import BUILT_IN_TASKS, Task


@dataclass(frozen=True)
class Words:
    """Label words of a task as vocabulary rows, and the read positions: those whose states predict their tokens.

    In a masked language model these are masks: the template has as many as the longest word has tokens, all predicted
    in one pass, and a shorter word uses the first of them (PET with several masks: Schick and Schütze 2021, "It's Not
    Just Size That Matters"). In a decoder they are the last position of the template, and those of the tokens of
    `continuations`, each of which predicts the token behind it."""

    token_ids: Int[Tensor, " token"]
    """Tokens of all label words."""
    average: Float[Tensor, "label token"]
    """Row y averages over the words of label y, and over the tokens of each word."""
    reads: Int[Tensor, " token"] | None = None
    """Number of each token's read position, from 0; None: there is only one, as every word is one token."""
    continuations: tuple[tuple[int, ...], ...] = ()
    """Decoders: tokens behind the template, each in a row of its own, so that every word's last token is read at the
    end of one or inside it; ((),) where every word is one token. Empty for masked language models."""

    @property
    def num_labels(self) -> int:
        return len(self.average)

    @property
    def num_reads(self) -> int:
        """Number of read positions of an example."""
        return 1 if self.reads is None else int(self.reads.max()) + 1

    def scores(self, backbone: Backbone, hidden: Float[Tensor, "read hidden"]) -> Float[Tensor, "batch label"]:
        """Label scores from the states at every example's read positions: with one the mean logit of a label's words,
        else `log_probabilities`, as logits of different positions are not comparable."""
        if self.reads is not None:
            return self.log_probabilities(backbone, hidden)
        logits = backbone.token_logits(hidden, self.token_ids.to(backbone.device))
        return logits @ self.average.T.to(backbone.device)

    def log_probabilities(
        self, backbone: Backbone, hidden: Float[Tensor, "read hidden"]
    ) -> Float[Tensor, "batch label"]:
        """Mean log-probability of each label's words over the whole vocabulary (equation 1); that of a word is the mean
        over its tokens, so that long words are not at a disadvantage."""
        token_ids, average = self.token_ids.to(backbone.device), self.average.to(backbone.device)
        log_probs = backbone.token_logits(hidden).log_softmax(dim=-1)
        if self.reads is None:
            return log_probs[:, token_ids] @ average.T
        of_example = log_probs.unflatten(0, (-1, self.num_reads))
        return of_example[:, self.reads.to(backbone.device), token_ids] @ average.T


def label_words(
    task: Task, tokenizer: PreTrainedTokenizerFast, embeddings: Float[Tensor, "vocab hidden"] | None = None
) -> Words:
    """Look up the label words of the verbalizer. Raises `ConfigError` for a word with unknown tokens; with the model's
    input `embeddings` the message suggests words of similar meaning."""
    by_label = [
        [tokens_of(word, label, task, tokenizer, embeddings) for word in words]
        for label, words in task.verbalizer.items()
    ]
    _refuse_double(task, by_label, tokenizer)
    decodes = SpecialIds.of(tokenizer).objective != "mlm"
    continuations = _continuations([word for words in by_label for word in words]) if decodes else ()
    tokens_before = [  # each read position of a decoder, in their order
        own[:length]
        for own, lengths in zip(continuations, read_lengths(continuations), strict=True)
        for length in lengths
    ]
    token_ids, reads, labels, shares = list[int](), list[int](), list[int](), list[float]()
    for label, words in enumerate(by_label):
        for word in words:
            token_ids += word
            reads += [tokens_before.index(word[:i]) if decodes else i for i in range(len(word))]
            labels += [label] * len(word)
            shares += [1 / (len(words) * len(word))] * len(word)
    average = torch.zeros(len(by_label), len(token_ids))
    average[labels, range(len(token_ids))] = torch.tensor(shares)
    return Words(torch.tensor(token_ids), average, torch.tensor(reads) if any(reads) else None, continuations)


def _continuations(words: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """All words without their last tokens, less those that another one begins with."""
    heads = sorted({word[:-1] for word in words})
    return tuple(head for head in heads if not any(one != head and one[: len(head)] == head for one in heads))


def read_lengths(continuations: Sequence[tuple[int, ...]]) -> list[range]:
    """Behind how many tokens of each continuation a state is read; behind none only in the first row, as that state is
    the same in all of them."""
    return [range(min(row, 1), len(own) + 1) for row, own in enumerate(continuations)]


def _refuse_double(
    task: Task, by_label: Sequence[Sequence[tuple[int, ...]]], tokenizer: PreTrainedTokenizerFast
) -> None:
    labels_of: dict[tuple[int, ...], list[str]] = {}
    for label, words in zip(task.labels, by_label, strict=True):
        for word in words:
            labels_of.setdefault(word, []).append(label)
    for word, labels in labels_of.items():
        if len(labels) > 1:
            pieces = " ".join(tokenizer.convert_ids_to_tokens(list(word)))
            raise ConfigError(
                f"task {task.name!r}: the word {pieces!r} stands for {' and '.join(map(repr, labels))}; use"
                " each word for one label only"
            )


def tokens_of(
    word: str,
    label: str,
    task: Task,
    tokenizer: PreTrainedTokenizerFast,
    embeddings: Float[Tensor, "vocab hidden"] | None = None,
) -> tuple[int, ...]:
    """Tokens of a label word, spelled as the template needs it; `ConfigError` with suggestions if a token is
    unknown."""
    tokens = _spelled(word, task, tokenizer)
    if tokens and not set(tokens) & set(tokenizer.all_special_ids):
        return tuple(tokens)
    pieces = " ".join(tokenizer.convert_ids_to_tokens(tokens)) or "no token at all"
    wordless = "linear" if SpecialIds.of(tokenizer).objective == "mlm" else "pooled"
    raise ConfigError(
        f"label {label!r}: this model cannot spell the word {word!r} ({pieces}). Take another word"
        f"{_instead(word, label, tokens, tokenizer, embeddings)}; or do without label words:"
        f" {setting('head', wordless)}"
    )


def _spelled(word: str, task: Task, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    objective = SpecialIds.of(tokenizer).objective
    if objective == "spans":  # the space stays in front of the sentinel
        return tokenizer.encode(word, add_special_tokens=False)
    template = task.template if objective == "mlm" else task.template.for_decoder
    spelled = f" {word}" if template.space_before_mask else word
    tokens = tokenizer.encode(spelled, add_special_tokens=False)
    if objective == "mlm":
        return tokens
    # Some tokenizers put a space of their own in front of a text, which the word does not begin.
    before, whole = (tokenizer.encode(text, add_special_tokens=False) for text in (":", f":{spelled}"))
    return whole[len(before) :] if whole[: len(before)] == before else tokens


def words_of_several_tokens(
    task: Task, tokenizer: PreTrainedTokenizerFast, embeddings: Float[Tensor, "vocab hidden"] | None = None
) -> list[str]:
    """A warning for every label word of several tokens, which suggests similar single-token words; none for decoders,
    which read such words token by token."""
    sentences: list[str] = []
    if SpecialIds.of(tokenizer).objective != "mlm":
        return sentences
    for label, words in task.verbalizer.items():
        for word in words:
            tokens = tokens_of(word, label, task, tokenizer, embeddings)
            if len(tokens) > 1:
                pieces = " ".join(tokenizer.convert_ids_to_tokens(list(tokens)))
                near = _instead(word, label, tokens, tokenizer, embeddings)
                sentences.append(
                    f"label {label!r}: the word {word!r} is {len(tokens)} tokens ({pieces}), each read at a mask of"
                    f" its own. Words of one token can do better{near}"
                )
    return sentences


def _instead(
    word: str,
    label: str,
    tokens: Sequence[int],
    tokenizer: PreTrainedTokenizerFast,
    embeddings: Float[Tensor, "vocab hidden"] | None,
) -> str:
    """Single-token words to use instead of a label word, by their origin, for a message."""
    own_tokens = [token for token in tokens if token not in tokenizer.all_special_ids]
    near = {
        "in the built-in tasks": built_in_words(word, label, tokenizer),
        "near in meaning": []
        if embeddings is None or not own_tokens
        else words_like(own_tokens, tokenizer, embeddings),
        "near in spelling": single_token_words(word, tokenizer),
    }
    return "".join(f"; {origin}: {', '.join(words)}" for origin, words in near.items() if words)


def built_in_words(word: str, label: str, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Single-token label words of built-in tasks for a label with the same name or word."""
    names = {word.casefold(), label.casefold()}
    words_of_label = [
        own
        for task in BUILT_IN_TASKS.values()
        for name, words in task.verbalizer.items()
        for own in words
        if own != word and {name.casefold(), own.casefold()} & names
    ]
    return [own for own in words_of_label if len(tokenizer.encode(own, add_special_tokens=False)) == 1]


def words_like(
    tokens: Sequence[int],
    tokenizer: PreTrainedTokenizerFast,
    embeddings: Float[Tensor, "vocab hidden"],
    count: int = 6,
) -> list[str]:
    """Whole words whose input embeddings are nearest, by cosine, to the mean of some tokens."""
    whole = {token: bare for token, bare in _whole_words(tokenizer) if token not in tokens}
    if not whole:
        return []
    rows = embeddings[torch.tensor(list(whole), device=embeddings.device)].float()
    mean = embeddings[torch.tensor(tokens, device=embeddings.device)].float().mean(dim=0)
    order = torch.nn.functional.cosine_similarity(rows, mean[None]).argsort(descending=True).tolist()
    bare = list(whole.values())
    different = {bare[row].casefold(): bare[row] for row in reversed(order[: 4 * count])}
    return list(reversed(different.values()))[:count]


def _whole_words(tokenizer: PreTrainedTokenizerFast) -> list[tuple[int, str]]:
    """Tokens that are whole words, with their spelling."""
    marks = ("▁", "Ġ")
    vocabulary = tokenizer.get_vocab()
    starts_words = any(token.startswith(marks) for token in vocabulary)
    bare = [
        (vocabulary[token], token.lstrip("▁Ġ"))
        for token in sorted(vocabulary)  # its own order differs from run to run
        if token.startswith(marks) == starts_words and not token.startswith("##")
    ]
    return [(token, word) for token, word in bare if word.isalpha()]


def single_token_words(word: str, tokenizer: PreTrainedTokenizerFast, count: int = 6) -> list[str]:
    """Single-token words similar to `word` in spelling."""
    folded = word.casefold()
    candidates: dict[str, str] = {}
    for _, bare in _whole_words(tokenizer):
        if abs(len(bare) - len(word)) <= 4 and bare[:1].casefold() == folded[:1]:
            candidates.setdefault(bare.casefold(), bare)
    return [candidates[match] for match in difflib.get_close_matches(folded, candidates, n=count, cutoff=0.5)]


@dataclass(frozen=True)
class Entering:
    """Stored input of a layer for one example, so that the layers below it need not run."""

    layer: int
    states: Float[Tensor, "seq hidden"]


@dataclass(frozen=True)
class Cloze:
    """One tokenised example."""

    input_ids: NDArray[np.int64]
    position: int
    """The first read position (`Words`): that of the first mask, of a decoder the last one before the label word; 0 for
    a classification head."""
    truncated: bool = False
    """Whether a text was truncated."""
    entering: Entering | None = None
    """Set by `lower_layers`, for all examples of a training or none."""
    num_reads: int = 1
    """Number of read positions; consecutive in a masked language model."""
    weight: float = 1.0
    """Weight in losses and accuracies; the mean over all examples is 1."""
    continuations: tuple[tuple[int, ...], ...] = ()
    """`Words.continuations`."""
    decoder_ids: tuple[int, ...] = ()
    """What the decoder of an encoder-decoder reads before the label word."""

    @property
    def num_tokens(self) -> int:
        """Tokens that a forward pass reads."""
        each = len(self.decoder_ids or self.input_ids)
        beside = sum(map(len, self.continuations)) + each * max(1, len(self.continuations))
        return beside + (len(self.input_ids) if self.decoder_ids else 0)


def weights_of(clozes: Sequence[Cloze]) -> NDArray[np.float64] | None:
    """Weights of the examples; None if all are equal, so that sums stay unweighted to the bit."""
    weights = np.array([cloze.weight for cloze in clozes])
    return None if (weights == 1).all() else weights


def encode_without_mask(
    fields: Sequence[Mapping[str, str]], task: Task, tokenizer: PreTrainedTokenizerFast, max_length: int
) -> list[Cloze]:
    """Tokenise texts (or pairs) without template, for a classification head; the longer text is truncated first."""
    if not fields:
        return []
    clean = [
        _beginnings([plain(text, tokenizer) for text in task.template.texts_of(row)], tokenizer, max_length)
        for row in fields
    ]
    first, *second = map(list, zip(*clean, strict=True))
    pairs = second[0] if second else None
    encoded = tokenizer(first, text_pair=pairs, truncation="longest_first", max_length=max_length)
    return [Cloze(np.array(one.ids, dtype=np.int64), 0, bool(one.overflowing)) for one in encoded.encodings or ()]


def _beginnings(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_length: int) -> list[str]:
    """`beginning` of each text. Of a pair the text with more tokens keeps one more, as truncation may."""
    cut = [beginning(text, tokenizer, max_length) for text in texts]
    shortened = [part != text for part, text in zip(cut, texts, strict=True)]
    if len(texts) == 1 or not any(shortened):
        return cut
    longer = shortened.index(True)
    if all(shortened):  # rare and slow: only the whole texts show which one has more tokens
        longer = int(_num_tokens(texts[0], tokenizer) <= _num_tokens(texts[1], tokenizer))
    other = _num_tokens(cut[1 - longer], tokenizer)
    cut[longer] = beginning(texts[longer], tokenizer, max(max_length, other + 1))
    return cut


def _num_tokens(text: str, tokenizer: PreTrainedTokenizerFast) -> int:
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
