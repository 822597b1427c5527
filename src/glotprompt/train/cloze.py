"""From examples to token ids with one mask, and from label words to rows of the vocabulary (section 3.2)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from glotprompt.errors import ConfigError
from glotprompt.model.encoder import Encoder
from glotprompt.model.tokens import SpecialIds, beginning, plain
from glotprompt.templates import Task


@dataclass(frozen=True)
class Words:
    """The vocabulary rows that a task's labels need."""

    token_ids: Int[Tensor, " word"]
    """All words of all labels."""
    average: Float[Tensor, "label word"]
    """Row y averages the words of label y: a label's score is the mean of its words' scores."""

    @property
    def num_labels(self) -> int:
        return len(self.average)

    def scores(self, encoder: Encoder, hidden: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch label"]:
        """A label's score: the mean of the logits of its words at the mask."""
        logits = encoder.token_logits(hidden, self.token_ids.to(encoder.device))
        return logits @ self.average.T.to(encoder.device)


def label_words(task: Task, tokenizer: PreTrainedTokenizerFast) -> Words:
    """Look the verbalizer's words up. A word that is not one token is a `ConfigError` naming close ones that are."""
    rows = [[token_of(word, label, task, tokenizer) for word in words] for label, words in task.verbalizer.items()]
    flat = [token for row in rows for token in row]
    for token in flat:
        if flat.count(token) > 1:
            word = tokenizer.convert_ids_to_tokens(token)
            labels = [label for label, row in zip(task.labels, rows, strict=True) for found in row if found == token]
            raise ConfigError(
                f"task {task.name!r}: token {word!r} stands for {' and '.join(map(repr, labels))}; a word may stand for"
                " one label, once"
            )
    average = torch.zeros(len(rows), len(flat))
    start = 0
    for index, row in enumerate(rows):
        average[index, start : start + len(row)] = 1 / len(row)
        start += len(row)
    return Words(torch.tensor(flat), average)


def token_of(word: str, label: str, task: Task, tokenizer: PreTrainedTokenizerFast) -> int:
    """The one token of a label word, spelled as the template needs it; `ConfigError` naming close words if it has
    more."""
    spelled = f" {word}" if task.template.space_before_mask else word
    tokens = tokenizer.encode(spelled, add_special_tokens=False)
    if len(tokens) == 1 and tokens[0] != tokenizer.unk_token_id:
        return tokens[0]
    pieces = " ".join(tokenizer.convert_ids_to_tokens(tokens))
    near = ", ".join(single_token_words(word, tokenizer)) or "none found"
    raise ConfigError(
        f"label {label!r}: the word {word!r} is {len(tokens)} tokens ({pieces}) for this model; a label word must be"
        f" one. Close single-token words: {near}"
    )


def single_token_words(word: str, tokenizer: PreTrainedTokenizerFast, count: int = 6) -> list[str]:
    """Words near `word` in spelling that the tokenizer keeps whole."""
    marks = ("▁", "Ġ")
    vocabulary = tokenizer.get_vocab()
    starts_words = any(token.startswith(marks) for token in vocabulary)
    wanted = word.casefold()
    candidates: dict[str, str] = {}
    for token in sorted(vocabulary):  # its own order differs from run to run
        if token.startswith(marks) != starts_words or token.startswith("##"):
            continue
        bare = token.lstrip("▁Ġ")
        if bare.isalpha() and abs(len(bare) - len(word)) <= 4 and bare[:1].casefold() == wanted[:1]:
            candidates.setdefault(bare.casefold(), bare)
    return [candidates[match] for match in difflib.get_close_matches(wanted, candidates, n=count, cutoff=0.5)]


@dataclass(frozen=True)
class Entering:
    """What enters a layer for one example, so that the layers below it need not run."""

    layer: int
    states: Float[Tensor, "seq hidden"]


@dataclass(frozen=True)
class Cloze:
    """One example as the model reads it."""

    input_ids: NDArray[np.int64]
    position: int
    """Where the label is read: at the mask, or at the first token."""
    truncated: bool = False
    """Whether the end of a text was cut off."""
    entering: Entering | None = None
    """Made by `lower_layers`, for all examples of a training or none."""


def encode(
    fields: Sequence[Mapping[str, str]], task: Task, tokenizer: PreTrainedTokenizerFast, max_length: int
) -> list[Cloze]:
    """Render and tokenise; what is longer than `max_length` tokens loses the end of its longest text field, never
    part of the template or the mask."""
    assert tokenizer.mask_token is not None
    mask: str = str(tokenizer.mask_token)
    # With so many tokens of a field it is cut as the whole field would be, and known to be.
    clean = [
        {name: beginning(plain(text, tokenizer), tokenizer, max_length) for name, text in row.items()} for row in fields
    ]
    rendered = [task.template.render(row, mask) for row in clean]
    ids = tokenizer(rendered)["input_ids"] if rendered else []
    mask_id = SpecialIds.of(tokenizer).mask
    clozes: list[Cloze] = []
    for row, tokens in zip(clean, ids, strict=True):
        truncated = len(tokens) > max_length
        fitting = _shorten(row, task, tokenizer, max_length) if truncated else tokens
        clozes.append(Cloze(np.array(fitting, dtype=np.int64), fitting.index(mask_id), truncated))
    return clozes


def encode_without_mask(
    fields: Sequence[Mapping[str, str]], task: Task, tokenizer: PreTrainedTokenizerFast, max_length: int
) -> list[Cloze]:
    """The bare texts (or pairs) for a head that reads the first token; the longer text is cut first."""
    if not fields:
        return []
    clean = [
        _beginnings([plain(row[name], tokenizer) for name in task.template.fields], tokenizer, max_length)
        for row in fields
    ]
    first, *second = map(list, zip(*clean, strict=True))
    pairs = second[0] if second else None
    found = tokenizer(first, text_pair=pairs, truncation="longest_first", max_length=max_length)
    return [Cloze(np.array(one.ids, dtype=np.int64), 0, bool(one.overflowing)) for one in found.encodings or ()]


def _beginnings(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_length: int) -> list[str]:
    """`beginning` of each. Of a pair the text with more tokens keeps more, as it gets the odd one."""
    cut = [beginning(text, tokenizer, max_length) for text in texts]
    shortened = [part != text for part, text in zip(cut, texts, strict=True)]
    if len(texts) == 1 or not any(shortened):
        return cut
    longer = shortened.index(True)
    if all(shortened):  # rare, and slow: which one has more tokens shows only in the whole texts
        longer = int(_num_tokens(texts[0], tokenizer) <= _num_tokens(texts[1], tokenizer))
    other = _num_tokens(cut[1 - longer], tokenizer)
    cut[longer] = beginning(texts[longer], tokenizer, max(max_length, other + 1))
    return cut


def _num_tokens(text: str, tokenizer: PreTrainedTokenizerFast) -> int:
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _shorten(row: Mapping[str, str], task: Task, tokenizer: PreTrainedTokenizerFast, max_length: int) -> list[int]:
    mask = str(tokenizer.mask_token)
    names = task.template.fields
    ends = {
        name: [
            end
            for _, end in tokenizer(row[name], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        ]
        for name in names
    }
    bare = len(tokenizer(task.template.render(dict.fromkeys(names, ""), mask))["input_ids"])
    if bare >= max_length:
        raise ConfigError(
            f"max_length {max_length} leaves no room for text beside the template {task.template.pattern!r}"
            f" ({bare} tokens); give a larger max_length"
        )
    # A cut text may have more tokens than were counted before the cut, so we look again; without any text it fits.
    room = max_length - bare
    while True:
        keep = {name: len(ends[name]) for name in names}
        while sum(keep.values()) > room:
            longest = max(names, key=lambda name: keep[name])
            others = sum(count for name, count in keep.items() if name != longest)
            second = max((count for name, count in keep.items() if name != longest), default=0)
            keep[longest] = max(room - others, min(second, keep[longest] - 1), 0)
        cut = {name: row[name][: ends[name][keep[name] - 1]] if keep[name] else "" for name in names}
        tokens: list[int] = tokenizer(task.template.render(cut, mask))["input_ids"]
        if len(tokens) <= max_length:
            return tokens
        room = max(0, room - (len(tokens) - max_length))


@dataclass(frozen=True)
class ClozeCorpus:
    """Labelled examples as the model reads them, from which every step of stage 2 is drawn."""

    clozes: Sequence[Cloze]
    gold: Sequence[int]
    """Index of each example's label."""
    batch_size: int
    seed: int
    _epochs: dict[int, list[list[int]]] = field(default_factory=dict[int, list[list[int]]], repr=False)

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.clozes) // self.batch_size)

    def batch(self, step: int) -> tuple[list[Cloze], Int[Tensor, " batch"]]:
        """The examples of a step and their labels."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch not in self._epochs:
            self._epochs.clear()
            lengths = [len(cloze.input_ids) for cloze in self.clozes]
            self._epochs[epoch] = epoch_batches(lengths, self.batch_size, self.seed, epoch)
        rows = self._epochs[epoch][place]
        return [self.clozes[i] for i in rows], torch.tensor([self.gold[i] for i in rows])


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Every example once, in batches of similar length (little padding), in an order of this seed and epoch alone."""
    generator = np.random.default_rng([seed, epoch, 4])
    order = generator.permutation(len(lengths))
    window = 16 * batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window].tolist(), key=lambda i: lengths[i])
        batches += [near[first : first + batch_size] for first in range(0, len(near), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]
