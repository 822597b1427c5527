"""Texts as token ids: of real lines where a data folder is at hand, else lengths drawn from a stated distribution."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from backbones import WideTokenizer
from numpy.typing import NDArray

from glotprompt.data.datasets.dataset import DATA_DIR_VARIABLE
from glotprompt.model.tokens import SpecialIds, plain
from glotprompt.task import Task
from glotprompt.training.objectives.batches import pack
from glotprompt.training.objectives.cloze import Cloze, Words, label_words
from glotprompt.training.objectives.inputs import encode

TARGET, SOURCE = "americasnlp2021/quechua-spanish/train.quy", "text/spa.txt"
"""One pair of languages, as a training has it. Lines of ten languages mixed would differ more in length and leave
padded batches emptier, which would flatter packing."""
NLI = "nli_en/train.tsv"
LINES_PER_SIDE = 2000
TASK = Task.load("nli")

LINE_MEDIAN, LINE_SPREAD = 33, 0.6
"""Synthetic lines: lengths in tokens are log-normal with this median and standard deviation of the logarithm, near
those of the two real texts in the bundled tokenizer's tokens (medians 29 and 37, means 32 and 42)."""
PAIR_MEDIANS, PAIR_SPREAD = (24, 12), 0.5
"""The same of premises and hypotheses."""


@dataclass(frozen=True)
class Lines:
    """Token ids of unlabelled lines, without special tokens, half for the target language and half for the source."""

    target: list[NDArray[np.int64]]
    source: list[NDArray[np.int64]]
    origin: str
    """"real" or "synthetic"."""

    def packed(self, special: SpecialIds, length: int) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
        """As the product trains on them: joined and cut to `length`. Lines are first cut to what a padded row of
        `length` holds, so that both sides read the same."""
        room = length - 2
        target, source = (
            pack([line[:room].tolist() for line in part], special, length, "full")
            for part in (self.target, self.source)
        )
        return target, source

    def rows(self, special: SpecialIds, length: int) -> tuple[list[list[int]], list[list[int]]]:
        """As they are mostly used: one line a row, cut to `length`, special tokens included."""
        target, source = (
            [sequence.tolist() for sequence in pack([line.tolist() for line in part], special, length, "none")]
            for part in (self.target, self.source)
        )
        return target, source


def find_data(folder: Path | None) -> Path | None:
    """The data folder: the given one, that of the environment, or None."""
    if folder is not None and not _holds_all(folder):
        raise SystemExit(f"--data-dir {folder} lacks one of {TARGET}, {SOURCE}, {NLI}; give another, or leave it out")
    for place in (folder, os.environ.get(DATA_DIR_VARIABLE)):
        if place and _holds_all(Path(place)):
            return Path(place)
    return None


def _holds_all(place: Path) -> bool:
    return all((place / name).is_file() for name in (TARGET, SOURCE, NLI))


def unlabelled(data: Path | None, tokenizer: WideTokenizer) -> Lines:
    """Lines of `TARGET` and `SOURCE`, or synthetic ones."""
    if data is None:
        generator = np.random.default_rng(0)
        spread = _Spread(tokenizer)
        target, source = (
            [spread(line) for line in _synthetic(generator, LINE_MEDIAN, LINE_SPREAD, tokenizer, LINES_PER_SIDE)]
            for _ in range(2)
        )
        return Lines(target, source, "synthetic")
    target, source = (_tokens(_some_lines(data / name), tokenizer) for name in (TARGET, SOURCE))
    return Lines(target, source, "real")


def pairs(data: Path | None, tokenizer: WideTokenizer, length: int, count: int) -> tuple[list[Cloze], list[int], str]:
    """`count` NLI examples as clozes of at most `length` tokens, their labels, and where they are from."""
    generator = np.random.default_rng(1)
    if data is not None:
        header, *rows = (data / NLI).read_text(encoding="utf-8").split("\n")
        columns = [header.split("\t").index(name) for name in ("premise", "hypothesis")]
        picked = [rows[i].split("\t") for i in np.linspace(0, len(rows) - 2, count).astype(int)]
        fields = [{"premise": row[columns[0]], "hypothesis": row[columns[1]]} for row in picked]
        clozes, origin = encode(fields, TASK, tokenizer, length), "real"
    else:
        special = SpecialIds.of(tokenizer)
        half = length // 2 - 2
        premises, hypotheses = (
            [line[:half] for line in _synthetic(generator, median, PAIR_SPREAD, tokenizer, count)]
            for median in PAIR_MEDIANS
        )
        clozes = [
            Cloze(np.array([*special.front, *premise, special.mask, *hypothesis, *special.back]), len(premise) + 1)
            for premise, hypothesis in zip(premises, hypotheses, strict=True)
        ]
        origin = "synthetic"
    spread = _Spread(tokenizer)
    wide = [Cloze(spread(cloze.input_ids), cloze.position) for cloze in clozes]
    return wide, generator.integers(0, len(TASK.labels), count).tolist(), origin


def words(tokenizer: WideTokenizer) -> Words:
    """The label words, at their places in the wide vocabulary."""
    narrow = label_words(TASK, tokenizer)
    return Words(narrow.token_ids.new_tensor(_Spread(tokenizer)(narrow.token_ids.numpy())), narrow.average)


class _Spread:
    """From the tokenizer's ids to places all over the vocabulary; special tokens keep theirs. Rows of a large matrix
    that lie together would be read too cheaply."""

    def __init__(self, tokenizer: WideTokenizer) -> None:
        special = tokenizer.all_special_ids
        self.places = np.arange(tokenizer.num_pieces)
        text = np.setdiff1d(self.places, special)
        free = np.setdiff1d(np.arange(len(tokenizer)), special)
        self.places[text] = np.random.default_rng(2).permutation(free)[: len(text)]

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.places[ids]


def _some_lines(path: Path) -> list[str]:
    """`LINES_PER_SIDE` lines, evenly spaced over the file."""
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    return [lines[i] for i in np.linspace(0, len(lines) - 1, min(LINES_PER_SIDE, len(lines))).astype(int)]


def _tokens(lines: Sequence[str], tokenizer: WideTokenizer) -> list[NDArray[np.int64]]:
    clean = [plain(line, tokenizer) for line in lines]
    spread = _Spread(tokenizer)
    rows = tokenizer(clean, add_special_tokens=False, verbose=False)["input_ids"]
    return [spread(np.array(row, dtype=np.int64)) for row in rows if row]


def _synthetic(
    generator: np.random.Generator, median: int, deviation: float, tokenizer: WideTokenizer, count: int
) -> list[NDArray[np.int64]]:
    """Random ids of the tokenizer's own, in lines of log-normal length."""
    free = np.setdiff1d(np.arange(tokenizer.num_pieces), tokenizer.all_special_ids)
    lengths = np.maximum(1, generator.lognormal(np.log(median), deviation, count).round().astype(int))
    return [generator.choice(free, length) for length in lengths]
