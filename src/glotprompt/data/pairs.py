"""Filter of parallel text: pairs whose sides can be translations of each other, without repeats and evaluation text.
All removals are counted by reason."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from glotprompt.data.datasets.bitext import verse_id
from glotprompt.data.decontamination import OverlapReport, held_out_ids, held_out_texts, sides_overlapping
from glotprompt.data.readers.lines import is_blank
from glotprompt.data.readers.normalise import in_pieces, letters
from glotprompt.data.readers.records import Pair
from glotprompt.data.sources import Reading, pairs_of
from glotprompt.errors import DataError

LENGTH_FACTOR = 4.0
"""Largest factor between the length ratio of a pair and the median ratio. Moses' clean-corpus-n drops pairs
beyond 9 to 1 in words (a limit of GIZA++); counted in characters and against the median ratio of the text, a tighter
one leaves free translations alone: of 21 corpora it drops 0 to 0.6 % (one of dictionary entries: 2.7 %), while 2 would
drop up to 15 %."""

_BLOCK = 200
"""Pairs per block in the test for shifted stretches."""
_FEWEST = 100
"""Smallest block to test."""
_SHIFTS = (-2, -1, 1, 2)
_CLEARLY = 0.1
"""Margin by which a shift must raise the correlation. On 900 blocks of 200 pairs from 21 corpora there was no false
alarm, and every block shifted by one was detected; without a margin, blocks of 100 had one false alarm in 1,800."""

Reason = Literal[
    "a held-out verse",
    "an empty side",
    "the same on both sides",
    "a repeat",
    "a length ratio far off",
    "evaluation text",
]


@dataclass(frozen=True, slots=True)
class OutOfStep:
    """A stretch of pairs whose sides match better when one is shifted."""

    first: int
    """First and last pair, from 1."""
    last: int
    shift: int
    """Shift by which the source of pair k matches the target of pair k + shift."""
    correlation: float
    """Correlation of the log lengths without the shift, and with it."""
    shifted: float

    def sentence(self) -> str:
        """The warning in one line."""
        direction = f"{abs(self.shift)} {'later' if self.shift > 0 else 'earlier'}"
        return (
            f"pairs {self.first:,}-{self.last:,} look shifted: their sources match the target {direction} better"
            f" (length correlation {self.shifted:.2f}, unshifted {self.correlation:.2f}); check whether a line is"
            " missing on one side"
        )


@dataclass(slots=True)
class PairReport:
    """Counts of checked and removed pairs."""

    num_read: int
    num_kept: int = 0
    removed: dict[Reason, int] = field(default_factory=dict[Reason, int])
    """Removed pairs by the first reason that applies."""
    length_ratio: float | None = None
    """Median of the target's length divided by the source's, in characters."""
    overlaps: dict[str, OverlapReport] = field(default_factory=dict[str, OverlapReport])
    """Report of the check against evaluation text, by side."""
    out_of_step: list[OutOfStep] = field(default_factory=list[OutOfStep])

    def sentence(self) -> str:
        """The report in one line, without the warnings."""
        removed = ", ".join(f"{count:,} for {reason}" for reason, count in self.removed.items())
        sets = [
            f"{side} in {name}: {overlap.same + overlap.shared:,}"
            for side, report in self.overlaps.items()
            for name, overlap in report.overlaps.items()
            if overlap.first is not None
        ]
        details = f" ({'; '.join(sets)})" if sets else ""
        return f"{self.num_kept:,} of {self.num_read:,} pairs kept; removed: {removed or 'none'}{details}"

    def warnings(self) -> list[str]:
        """Warnings to look at before training, one sentence each."""
        return [stretch.sentence() for stretch in self.out_of_step]

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON value for saved files."""
        return {
            "read": self.num_read,
            "kept": self.num_kept,
            "removed": dict(self.removed),
            "length_ratio": self.length_ratio,
            "held_out": {side: report.to_json()["held_out"] for side, report in self.overlaps.items()},
            "out_of_step": [asdict(stretch) for stretch in self.out_of_step],
        }


@dataclass(frozen=True, slots=True)
class CheckedPairs:
    """The remaining pairs, and the report."""

    pairs: list[Pair]
    report: PairReport
    has_been_compared: bool = False
    """Whether there was evaluation text to check against."""


def check_pairs(
    pairs: Sequence[Pair],
    held_out: Mapping[str, Sequence[str]] | None = None,
    held_out_ids: Collection[str] = (),
) -> CheckedPairs:
    """The pairs to train on, in order.

    Removed, in this order: pairs named in `held_out_ids` (Bible verses as 55.2.24 or 55002024); with an empty side;
    with the same letters and digits on both sides; that repeat an earlier one; whose lengths in characters have a ratio
    more than `LENGTH_FACTOR` times above or below the median ratio; and those of which either side is a text of
    `held_out` (texts by the name of their evaluation set) or shares `NGRAM` words in a row with one. Stretches that
    look out of step are reported, not removed. Raises `DataError` when nothing is left.
    """
    report = PairReport(len(pairs), out_of_step=out_of_step(pairs))
    rest = _with(pairs, report, "a held-out verse", _match_ids(pairs, held_out_ids))
    rest = _with(rest, report, "an empty side", [is_blank(pair.source) or is_blank(pair.target) for pair in rest])
    keys = [(letters(pair.source), letters(pair.target)) for pair in rest]
    same = [source == target for source, target in keys]
    rest = _with(rest, report, "the same on both sides", same)
    keys = [key for key, untranslated in zip(keys, same, strict=True) if not untranslated]
    first = {key: index for index, key in reversed(list(enumerate(keys)))}
    rest = _with(rest, report, "a repeat", [first[key] < index for index, key in enumerate(keys)])
    rest = _with(rest, report, "a length ratio far off", _far_off(rest, report))
    if held_out:
        scored, report.overlaps = sides_overlapping([(pair.source, pair.target) for pair in rest], held_out)
        rest = _with(rest, report, "evaluation text", scored)
    report.num_kept = len(rest)
    if not rest:
        raise DataError(f"no pair can be used: {report.sentence()}. Give other parallel text.")
    return CheckedPairs(list(rest), report, bool(held_out or held_out_ids))


def stage1_pairs(
    sources: Sequence[str], scored: Sequence[str], reading: Reading, *, check: bool = True
) -> CheckedPairs:
    """Parallel text of stage 1 from files and references, decontaminated against the sources `scored`, those beside the
    training sources, and verses of evaluation sets. Without `check` there is no decontamination. Raises `DataError` if
    no pair remains."""
    held_out, ids = dict[str, list[str]](), set[str]()
    if check:
        held_out = held_out_texts(sources, scored, reading, parallel=True)
        ids = set[str]().union(*(held_out_ids(source, reading.data_dir, reading.report) for source in sources))
    return check_pairs(pairs_of(sources, reading), held_out, ids)


def shared_words(target_sides: Iterable[str], texts: Iterable[str]) -> float | None:
    """How much of texts is spelt as in translations: their words (case and punctuation aside) that occur in the target
    sides, in per cent of all their words. Orders seven languages nearly as the gain of alignment did
    (docs/does_it_help.md). In scripts without spaces, every three characters in a row count as a word, so figures are
    higher there. None where the texts have no word."""
    counts, known = _word_counts(texts), _word_counts(target_sides)
    words = counts.total()
    return 100 * sum(count for word, count in counts.items() if word in known) / words if words else None


def _word_counts(texts: Iterable[str]) -> Counter[str]:
    lines = (unicodedata.normalize("NFC", text.casefold()) for text in texts)
    words = ([bare for word in line.split() if (bare := _bare(word))] for line in lines)
    return Counter(piece for one in words for piece in in_pieces(one, 3))


def _bare(word: str) -> str:
    """A word without punctuation around it; marks on a last letter (accents, vowel signs) are none."""
    word = re.sub(r"^[^\w']+", "", word)
    while word and re.match(r"[^\w']", word[-1]) and not unicodedata.category(word[-1]).startswith("M"):
        word = word[:-1]
    return word


def out_of_step(pairs: Sequence[Pair]) -> list[OutOfStep]:
    """Stretches of pairs whose sides look shifted by one or two, as after a lost line on one side.

    Lengths of translations correlate (Gale and Church 1993); lengths of neighbours hardly do. In blocks of `_BLOCK`,
    the correlation of the log lengths is compared with that at each shift. Fewer than `_FEWEST` pairs are not tested.

    """
    lengths = np.log1p([[len(pair.source.strip()), len(pair.target.strip())] for pair in pairs]).reshape(-1, 2)
    starts = range(0, max(1, len(pairs) - _FEWEST + 1), _BLOCK)
    ends = [*starts[1:], len(pairs)]
    stretches: list[tuple[int, int, int]] = []
    for start, end in zip(starts, ends, strict=True):
        shift = 0 if end - start < _FEWEST else _best_shift(*lengths[start:end].T)
        if shift and stretches and stretches[-1][1:] == (start, shift):
            start = stretches.pop()[0]
        if shift:
            stretches.append((start, end, shift))
    result: list[OutOfStep] = []
    for start, end, shift in stretches:
        source, target = lengths[start:end].T
        in_step, shifted = (round(_correlation(source, target, by), 3) for by in (0, shift))
        result.append(OutOfStep(start + 1, end, shift, in_step, shifted))
    return result


def _best_shift(source: np.ndarray, target: np.ndarray) -> int:
    """A shift that is clearly better than none, or 0."""
    best = max(_SHIFTS, key=lambda by: _correlation(source, target, by))
    return best if _correlation(source, target, best) - _correlation(source, target) > _CLEARLY else 0


def _correlation(source: np.ndarray, target: np.ndarray, by: int = 0) -> float:
    """Pearson correlation of each source with the target `by` later; 0 if one side is constant."""
    one = source[max(0, -by) : len(source) - max(0, by)]
    other = target[max(0, by) : len(target) - max(0, -by)]
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / scale if scale else 0.0


def _match_ids(pairs: Sequence[Pair], ids: Collection[str]) -> list[bool]:
    names = {verse_id(name) for name in ids}
    return [verse_id(pair.id) in names for pair in pairs]


def _far_off(pairs: Sequence[Pair], report: PairReport) -> list[bool]:
    if not pairs:
        return []
    ratios = np.array([len(pair.target.strip()) / len(pair.source.strip()) for pair in pairs])
    median = float(np.median(ratios))
    report.length_ratio = round(median, 3)
    return [not median / LENGTH_FACTOR <= ratio <= median * LENGTH_FACTOR for ratio in ratios.tolist()]


def _with(pairs: Sequence[Pair], report: PairReport, reason: Reason, unfit: Sequence[bool]) -> list[Pair]:
    """The pairs that are not `unfit`; the others are counted under the reason."""
    if any(unfit):
        report.removed[reason] = sum(unfit)
    return [pair for pair, removed in zip(pairs, unfit, strict=True) if not removed]
