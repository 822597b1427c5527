"""Batches of stage 1: every token where it belongs, and a pure function of records, seed and step."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from glotprompt.config import AdaptConfig, RuntimeConfig
from glotprompt.errors import ConfigError
from glotprompt.model.tokens import LENGTH_STEP, Sequences, SpecialIds, by_length, pad, plain
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.batches import (
    MaskedBatch,
    MaskingCorpus,
    balance,
    mask_tokens,
    sample_indices,
    source_rows,
    token_sequences,
)

Tokenizer = PreTrainedTokenizerFast
SPECIAL = (0, 1, 2, 417)
"""<s> <pad> </s> <mask> of the tests' tokenizer; <unk>, 3, counts as text."""


def text_ids(count: int, length: int, seed: int = 0) -> Sequences:
    """Sequences of ordinary tokens between <s> and </s>."""
    generator = np.random.default_rng(seed)
    return [np.array([0, *generator.integers(4, 417, length - 2), 2], dtype=np.int64) for _ in range(count)]


def assert_same(left: MaskedBatch, right: MaskedBatch) -> None:
    assert torch.equal(left.input_ids, right.input_ids)
    assert torch.equal(left.positions, right.positions)
    assert torch.equal(left.targets, right.targets)


def test_special_ids(tiny_tokenizer: Tokenizer) -> None:
    special = SpecialIds.of(tiny_tokenizer)
    (first,), (last,) = special.front, special.back
    assert (first, special.pad, last, special.mask) == SPECIAL
    assert special.separator == last
    assert special.objective == "mlm"
    assert special.all == SPECIAL
    assert tiny_tokenizer.unk_token_id == 3


# --- packing


@pytest.mark.parametrize("max_length", [8, 13, 64])
def test_full_packing_uses_every_token_in_order(
    tiny_tokenizer: Tokenizer, english_lines: list[str], max_length: int
) -> None:
    pieces = token_sequences(english_lines, tiny_tokenizer, max_length, "full")
    expected = [
        token for line in english_lines for token in (*tiny_tokenizer.encode(line, add_special_tokens=False), 2)
    ]
    assert all(len(piece) == max_length and piece[0] == 0 and piece[-1] == 2 for piece in pieces)
    found = [token for piece in pieces for token in piece[1:-1].tolist()]
    room = max_length - 2
    assert len(pieces) == len(expected) // room, "a shorter last piece is left out"
    assert found == expected[: len(found)]


def test_a_last_piece_that_fits_is_kept(tiny_tokenizer: Tokenizer) -> None:
    line = "the day the day the"  # five tokens and a separator
    assert len(tiny_tokenizer.encode(line, add_special_tokens=False)) == 5
    pieces = token_sequences([line] * 4, tiny_tokenizer, 14, "full")
    assert [len(piece) for piece in pieces] == [14, 14]
    assert [len(piece) for piece in token_sequences([line] * 4, tiny_tokenizer, 13, "full")] == [13, 13]


def test_a_short_piece_is_kept_when_it_is_the_only_one(tiny_tokenizer: Tokenizer) -> None:
    (piece,) = token_sequences(["the day"], tiny_tokenizer, 64, "full")
    words = tiny_tokenizer.encode("the day", add_special_tokens=False)
    assert piece.tolist() == [0, *words, 2, 2]


def test_without_packing_each_line_is_a_sequence(tiny_tokenizer: Tokenizer, english_lines: list[str]) -> None:
    pieces = token_sequences(english_lines, tiny_tokenizer, 20, "none")
    assert len(pieces) == len(english_lines)
    for piece, line in zip(pieces, english_lines, strict=True):
        assert piece.tolist() == [0, *tiny_tokenizer.encode(line, add_special_tokens=False)[:18], 2]
    assert max(map(len, pieces)) == 20


@pytest.mark.parametrize("packing", ["full", "none"])
def test_lines_without_tokens_are_no_text(tiny_tokenizer: Tokenizer, packing: str) -> None:
    assert token_sequences([], tiny_tokenizer, 20, packing) == []
    assert token_sequences(["", "  ", "\n"], tiny_tokenizer, 20, packing) == []
    with_blanks = token_sequences(["the day", "", "a night"], tiny_tokenizer, 8, packing)
    without = token_sequences(["the day", "a night"], tiny_tokenizer, 8, packing)
    assert [piece.tolist() for piece in with_blanks] == [piece.tolist() for piece in without]


@pytest.mark.parametrize("packing", ["full", "none"])
@pytest.mark.parametrize("text", ["a <mask> b", "<s>x</s>", "<pad><pad>", "<<mask>mask>", "<mask><mask>", "<unk>"])
def test_a_special_token_spelled_out_stays_text(tiny_tokenizer: Tokenizer, packing: str, text: str) -> None:
    (piece,) = token_sequences([text], tiny_tokenizer, 64, packing)
    inside = piece[1 : -2 if packing == "full" else -1]
    assert not np.isin(inside, SPECIAL).any()
    spelled = "".join(tiny_tokenizer.convert_ids_to_tokens(inside.tolist())).replace("▁", "").replace("<unk>", "?")
    assert "mask" in spelled or "mask" not in text


def test_plain_leaves_ordinary_text_alone(tiny_tokenizer: Tokenizer) -> None:
    for text in ("", "a < b > c", "mask", "<b>bold</b>", "ñ 日本"):
        assert plain(text, tiny_tokenizer) == text


# --- order


@pytest.mark.parametrize(("size", "count"), [(10, 5), (10, 3), (7, 7), (3, 8), (1, 4)])
def test_every_record_once_per_epoch(size: int, count: int) -> None:
    epochs = 3 * count
    drawn = [index for step in range(3 * size) for index in sample_indices(size, count, 0, step, 0)]
    orders = [drawn[first : first + size] for first in range(0, len(drawn), size)]
    assert len(orders) == epochs
    assert all(sorted(order) == list(range(size)) for order in orders)
    assert size < 7 or len({tuple(order) for order in orders}) > 1, "every epoch has its own order"


def test_draw_is_a_pure_function_of_seed_step_and_stream() -> None:
    forwards = [sample_indices(50, 8, 3, step, 0) for step in range(100)]
    backwards = [sample_indices(50, 8, 3, step, 0) for step in reversed(range(100))]
    assert forwards == backwards[::-1]
    assert forwards[4] != sample_indices(50, 8, 4, 4, 0)
    assert forwards[4] != sample_indices(50, 8, 3, 4, 1)


def corpus_of(tokenizer: Tokenizer, target: Sequences, source: Sequences, **settings: Any) -> MaskingCorpus:
    return MaskingCorpus(target, source, AdaptConfig(**settings), tokenizer)


@pytest.mark.parametrize(("share", "num_source"), [(0, 0), (0.25, 2), (0.5, 4), (1, 8)])
def test_a_batch_has_its_share_of_source_rows(tiny_tokenizer: Tokenizer, share: float, num_source: int) -> None:
    target = [np.array([0, *[10] * 10, 2], dtype=np.int64)] * (share < 1)
    source = [np.array([0, *[20] * 10, 2], dtype=np.int64)] * (share > 0)
    corpus = corpus_of(tiny_tokenizer, target, source, batch_size=8, source_share=share)
    batch = corpus.batch(3)
    assert batch.input_ids.shape == (8, 12)
    rows = [Counter(row.tolist()).most_common(1)[0][0] for row in batch.input_ids]
    assert rows.count(20) == num_source
    assert rows.count(10) == 8 - num_source


def test_a_step_of_the_corpus_is_a_pure_function(tiny_tokenizer: Tokenizer) -> None:
    target, source = text_ids(9, 12), text_ids(9, 12, seed=1)
    corpus = corpus_of(tiny_tokenizer, target, source, batch_size=4, seed=5)
    fifth = corpus.batch(5)
    for step in (0, 7, 3):
        assert not torch.equal(corpus.batch(step).input_ids, fifth.input_ids)
    again = corpus_of(tiny_tokenizer, target, source, batch_size=4, seed=5)
    assert_same(again.batch(5), fifth)
    other = corpus_of(tiny_tokenizer, target, source, batch_size=4, seed=6)
    assert not torch.equal(other.batch(5).input_ids, fifth.input_ids)


def test_one_text_is_masked_anew_at_every_step(tiny_tokenizer: Tokenizer) -> None:
    corpus = corpus_of(tiny_tokenizer, text_ids(1, 40), [], batch_size=1, source_share=0)
    assert len({tuple(corpus.batch(step).positions.tolist()) for step in range(20)}) > 15


# --- balance


def balanced(num_target: int, num_source: int, **settings: Any) -> tuple[int, int]:
    target, source = balance(text_ids(num_target, 8), text_ids(num_source, 8, 1), AdaptConfig(**settings))
    return len(target), len(source)


def test_the_larger_text_is_subsampled() -> None:
    assert balanced(10, 40) == (10, 10)
    assert balanced(40, 10) == (10, 10)
    assert balanced(10, 10) == (10, 10)
    assert balanced(30, 40, source_share=0.25) == (30, 10)
    assert balanced(30, 5, source_share=0.25) == (15, 5)


def test_repeat_keeps_all() -> None:
    assert balanced(10, 40, balance="repeat") == (10, 40)


@pytest.mark.parametrize("share", [0, 1])
def test_one_language_alone_is_kept_whole(share: float) -> None:
    assert balanced(10, 40, source_share=share) == (10, 40)
    assert balanced(40, 10, source_share=share) == (40, 10)


def test_the_subsample_is_drawn_by_seed_and_keeps_the_order() -> None:
    source = [np.array([i], dtype=np.int64) for i in range(100)]
    draws = {
        seed: [int(piece[0]) for piece in balance(text_ids(10, 8), source, AdaptConfig(seed=seed))[1]]
        for seed in (0, 1)
    }
    again = balance(text_ids(10, 8), source, AdaptConfig(seed=0))[1]
    assert draws[0] == [int(piece[0]) for piece in again]
    assert draws[0] != draws[1]
    assert draws[0] == sorted(set(draws[0]))
    assert max(draws[0]) > 20, "from all over the text"


# --- masking


@pytest.mark.parametrize(("length", "expected"), [(3, 1), (7, 1), (12, 2), (42, 6), (102, 15), (130, 19)])
def test_fifteen_per_cent_of_every_sequence(tiny_tokenizer: Tokenizer, length: int, expected: int) -> None:
    batch = mask_tokens(text_ids(5, length), tiny_tokenizer, 0.15, (0,))
    rows = Counter((batch.positions // length).tolist())
    assert rows == dict.fromkeys(range(5), expected)


def test_targets_are_the_words_that_stood_there_and_the_rest_is_untouched(tiny_tokenizer: Tokenizer) -> None:
    sequences = [piece for length in (9, 30, 17) for piece in text_ids(3, length, seed=length)]
    batch = mask_tokens(sequences, tiny_tokenizer, 0.3, (1,))
    original, mask = pad(sequences, 1)
    assert batch.attention_mask is not None
    assert mask is not None
    assert torch.equal(batch.attention_mask, torch.from_numpy(mask))
    flat = torch.from_numpy(original).reshape(-1)
    assert torch.equal(batch.targets, flat[batch.positions])
    restored = batch.input_ids.reshape(-1).clone()
    restored[batch.positions] = batch.targets
    assert torch.equal(restored, flat)
    assert len(set(batch.positions.tolist())) == len(batch.positions)


def test_special_tokens_are_never_chosen_nor_put_in(tiny_tokenizer: Tokenizer) -> None:
    line = np.array([0, *[9] * 6, 2, *[11] * 6, 2, 3, 3, 3, 2], dtype=np.int64)
    sequences = [line, line[:9], text_ids(1, 40)[0]] * 4
    put_in: set[int] = set()
    for seed in range(60):
        batch = mask_tokens(sequences, tiny_tokenizer, 0.9, (seed,))
        assert not np.isin(batch.targets.numpy(), SPECIAL).any()
        assert not (batch.targets == 3).any(), "what is unknown is nothing to guess"
        now = batch.input_ids.reshape(-1)[batch.positions]
        put_in |= set(now[now != batch.targets].tolist())
    assert put_in & set(SPECIAL) == {417}
    assert 3 not in put_in


def test_eighty_ten_ten(tiny_tokenizer: Tokenizer) -> None:
    sequences = text_ids(200, 202)
    batch = mask_tokens(sequences, tiny_tokenizer, 0.15, (3,))
    count = len(batch.targets)
    assert count == 200 * 30
    now = batch.input_ids.reshape(-1)[batch.positions]
    masked = int((now == 417).sum()) / count
    kept = int((now == batch.targets).sum()) / count
    random = 1 - masked - kept
    # Four standard deviations: 0.4 * sqrt(1/6000) and 0.3 * sqrt(1/6000).
    assert masked == pytest.approx(0.8, abs=0.021)
    assert kept == pytest.approx(0.1, abs=0.016)
    assert random == pytest.approx(0.1, abs=0.016)
    replaced = now[(now != 417) & (now != batch.targets)]
    assert len(set(replaced.tolist())) > 200, "any word of the vocabulary"


@pytest.mark.slow
def test_every_place_is_chosen_equally_often(tiny_tokenizer: Tokenizer) -> None:
    batch = mask_tokens(text_ids(2000, 22), tiny_tokenizer, 0.15, (4,))
    counts = Counter((batch.positions % 22).tolist())
    assert set(counts) == set(range(1, 21))
    assert min(counts.values()) > 220
    assert max(counts.values()) < 380


def test_masking_is_a_pure_function_of_its_seed(tiny_tokenizer: Tokenizer) -> None:
    sequences = text_ids(4, 30)
    before = [piece.copy() for piece in sequences]
    first = mask_tokens(sequences, tiny_tokenizer, 0.15, (0, 1, 2))
    assert_same(first, mask_tokens(sequences, tiny_tokenizer, 0.15, (0, 1, 2)))
    assert not torch.equal(first.positions, mask_tokens(sequences, tiny_tokenizer, 0.15, (0, 2, 2)).positions)
    assert all(np.array_equal(a, b) for a, b in zip(before, sequences, strict=True)), "the records are not changed"


def test_every_batch_has_both_languages_or_is_refused() -> None:
    refused = 0
    for size, share in product(range(1, 17), (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)):
        try:
            assert 0 < source_rows(size, share) < size
        except ConfigError as error:
            refused += 1
            enough = int(str(error).rsplit(" ", 1)[1])
            assert 0 < source_rows(enough, share) < enough
            with pytest.raises(ConfigError):
                source_rows(enough - 1, share)
    assert refused > 20
    assert [source_rows(5, share) for share in (0.0, 1.0)] == [0, 5]


def test_a_sequence_without_words_has_no_target(tiny_tokenizer: Tokenizer) -> None:
    batch = mask_tokens([np.array([0, 2], dtype=np.int64), text_ids(1, 12)[0]], tiny_tokenizer, 0.15, (0,))
    assert (batch.positions // batch.input_ids.shape[1]).tolist() == [1, 1]


def test_a_tokenizer_may_have_no_unknown_token(tiny_tokenizer: Tokenizer) -> None:
    other = copy.deepcopy(tiny_tokenizer)
    other.unk_token = None
    sequences = text_ids(2, 12)
    assert_same(mask_tokens(sequences, other, 0.15, (0,)), mask_tokens(sequences, tiny_tokenizer, 0.15, (0,)))


# --- padding and splitting


def test_equal_lengths_need_neither_padding_nor_mask() -> None:
    ids, mask = pad(text_ids(3, 13), 1)
    assert ids.shape == (3, 13)
    assert mask is None


@pytest.mark.parametrize(("longest", "width"), [(5, 16), (16, 16), (17, 32), (33, 48)])
def test_padded_lengths_are_rounded_up(longest: int, width: int) -> None:
    assert LENGTH_STEP == 16
    sequences = [*text_ids(1, longest), *text_ids(1, 4)]
    ids, mask = pad(sequences, 1)
    assert mask is not None
    assert ids.shape == mask.shape == (2, width)
    for row, sequence in enumerate(sequences):
        assert ids[row].tolist() == [*sequence.tolist(), *[1] * (width - len(sequence))]
        assert mask[row].tolist() == [1] * len(sequence) + [0] * (width - len(sequence))


def test_by_length_takes_each_once_longest_first() -> None:
    lengths = [3, 9, 3, 7, 9, 5, 4]
    sequences = [np.zeros(length, dtype=np.int64) for length in lengths]
    assert list(by_length(sequences, 3)) == [[1, 4, 3], [5, 6, 0], [2]]
    assert list(by_length([], 3)) == []


@pytest.mark.parametrize("size", [None, 1, 3, 4, 10, 11])
def test_micro_batches_cover_the_batch(size: int | None) -> None:
    parts = list(MicroBatch(RuntimeConfig(micro_batch_size=size)).parts(10))
    assert [row for part in parts for row in range(10)[part]] == list(range(10))
    assert all(part.stop - part.start <= (size or 10) for part in parts)
    assert parts[-1].stop == 10
