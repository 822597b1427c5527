"""Decontamination: training text without evaluation text. Evaluation text is recognised by its path in a publisher's
layout (`refuse_evaluation_text`) and by its content (`without_overlap`); `stage1_texts` does both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from glotprompt.data.datasets.americas import AMERICASNLI
from glotprompt.data.datasets.catalog import DATASETS, Reference, dataset, parse_reference
from glotprompt.data.languages import same_language
from glotprompt.data.readers.normalise import in_pieces, words
from glotprompt.data.readers.records import Example
from glotprompt.data.sources import Reading, texts_of, texts_to_compare
from glotprompt.errors import ConfigError, DataError, setting

Purpose = Literal["adapt", "tune"]

NGRAM = 13
"""Number of consecutive words that two overlapping texts share, as in Brown et al. 2020 (GPT-3), appendix C, and much
later work."""

_PIECE = 12
"""`NGRAM` of these in a row are 24 characters, about as many Chinese or Japanese words. A guess."""

# ---------------------------------------------------------------------------------------------------------------
# By content


@dataclass(slots=True)
class Overlap:
    """Texts that were removed because of one evaluation set."""

    same: int = 0
    """Texts identical to one of the set: the same letters, marks and digits in NFKC, ignoring case."""
    shared: int = 0
    """Other texts that share `NGRAM` words in a row with one of the set."""
    first: int | None = None
    """Index of the first of both among the checked texts."""


@dataclass(slots=True)
class OverlapReport:
    """Counts of checked and removed texts."""

    overlaps: dict[str, Overlap]
    """Overlaps by evaluation set. A text that overlaps with two sets counts in both."""
    num_kept: int = 0
    num_removed: int = 0

    def sentence(self) -> str:
        """The report in one line."""
        counts = [
            f"{name}: {overlap.same:,} the same, {overlap.shared:,} sharing {NGRAM} words in a row"
            f" (the first is text {overlap.first + 1:,})"
            for name, overlap in self.overlaps.items()
            if overlap.first is not None
        ]
        sets = "1 evaluation set" if len(self.overlaps) == 1 else f"{len(self.overlaps)} evaluation sets"
        total = self.num_kept + self.num_removed
        what = f"{self.num_removed:,} of {total:,} texts removed after a check against {sets}"
        return f"{what} ({'; '.join(counts)})" if counts else what

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON value for saved files."""
        sets = {name: {"same": overlap.same, "shared": overlap.shared} for name, overlap in self.overlaps.items()}
        return {"ngram": NGRAM, "kept": self.num_kept, "removed": self.num_removed, "held_out": sets}


@dataclass(frozen=True, slots=True)
class CleanText:
    """The remaining texts, and the report."""

    texts: list[str]
    report: OverlapReport


class OverlapCheck:
    """Index of evaluation text, against which texts are checked one at a time.

    `held_out` has the texts of each evaluation set by name; `report` is updated with every text.
    """

    def __init__(self, held_out: Mapping[str, Sequence[str]]) -> None:
        self.report = OverlapReport({name: Overlap() for name in held_out})
        self._same: dict[str, set[str]] = {}
        self._shared: dict[tuple[str, ...], set[str]] = {}
        for name, items in held_out.items():
            for item in items:
                found = words(item)
                self._same.setdefault("".join(found), set()).add(name)
                for gram in _grams(in_pieces(found, _PIECE)):
                    self._shared.setdefault(gram, set()).add(name)
        self._same.pop("", None)
        self._vocabulary = {word for gram in self._shared for word in gram}

    def holds(self, text: str) -> bool:
        """Whether a text occurs in an evaluation set, or shares `NGRAM` words in a row with it; counted in `report`."""
        report = self.report
        found = words(text)
        same = self._same.get("".join(found), set[str]())
        shared = self._sets_sharing(in_pieces(found, _PIECE))
        for name in same | shared:
            overlap = report.overlaps[name]
            overlap.same += name in same
            overlap.shared += name not in same
            if overlap.first is None:
                overlap.first = report.num_kept + report.num_removed
        overlaps = bool(same or shared)
        report.num_removed += overlaps
        report.num_kept += not overlaps
        return overlaps

    def _sets_sharing(self, tokens: list[str]) -> set[str]:
        # Any `NGRAM` words in a row include one of these, so most texts need no further check.
        if self._vocabulary.isdisjoint(tokens[NGRAM - 1 :: NGRAM]):
            return set()
        return set[str]().union(*(self._shared[gram] for gram in _grams(tokens) if gram in self._shared))


def without_overlap(texts: Sequence[str], held_out: Mapping[str, Sequence[str]]) -> CleanText:
    """Remove texts that occur in an evaluation set, or share `NGRAM` words in a row with it.

    `held_out` has the texts of each evaluation set by name. Texts without letters or digits are never removed. The time
    is linear in the number of words.
    """
    check = OverlapCheck(held_out)
    return CleanText([text for text in texts if not check.holds(text)], check.report)


def sides_overlapping(
    pairs: Iterable[tuple[str, str]], held_out: Mapping[str, Sequence[str]]
) -> tuple[list[bool], dict[str, OverlapReport]]:
    """Whether either side of each pair (source, target) overlaps with evaluation text as in `without_overlap`, and the
    reports by side. Both sides are always checked, so that the counts are those of the whole text."""
    source, target = OverlapCheck(held_out), OverlapCheck(held_out)
    overlaps = [any([source.holds(one), target.holds(other)]) for one, other in pairs]
    return overlaps, {"source": source.report, "target": target.report}


def _grams(tokens: list[str]) -> list[tuple[str, ...]]:
    return [tuple(tokens[start : start + NGRAM]) for start in range(len(tokens) - NGRAM + 1)]


# ---------------------------------------------------------------------------------------------------------------
# By path

_WHY = {"americasnlp2021": ", whose sentences are AmericasNLI's"}
_HELD_OUT = ("dev", "test", "valid", "validation")
_ENDINGS = (".txt", ".tsv", ".csv", ".jsonl", ".parquet")
"""Endings of evaluation files beside a training file of any ending."""
_VARIETIES = """
    que qu quz quh qub qud quf qug quk qul qup qur qus quw qux qva qvc qve qvh qvi qvj qvl qvm qvn qvo qvp qvs qvw qvz
    qwa qwc qwh qws qxa qxc qxh qxl qxn qxo qxp qxr qxt qxu qxw ay ayr ayc gn gug gui gun gnw nhd
    azd azn azz naz nch nci ncj ncl ncx ngu nhc nhe nhg nhi nhk nhm nhn nhp nhq nht nhv nhw nhx nhy nhz nlv npl nsu nuz
    ppl ote otl otm otn otq ots ott otx otz tac tcu thh twr
"""
"""Other codes (ISO 639-1, -3 and -5) of AmericasNLI's Quechua, Aymara, Guarani, Nahuatl, Otomi and Tarahumara: a prompt
for one of them would be scored on AmericasNLI."""
_DEPTH = 4
"""Number of parent folders to look at: the largest depth of a layout."""


def evaluation_set(source: str | Path) -> str | None:
    """The dataset of the catalog that a source is dev or test text of; None for any other text.

    Recognised by a reference such as masakhanews:ibo:test, or by the names of the file and its folders.
    """
    reference = parse_reference(str(source))
    if reference is not None:
        return reference.dataset.name if _is_held_out(reference.split) else None
    path = Path(source).absolute()
    *folders, file = (part.casefold() for part in path.parts[-_DEPTH - 1 :])
    folder, parts = folders[-1] if folders else "", re.split(r"[^a-z0-9]+", file)
    splits = {part.strip("0123456789") for part in parts}
    # A file of a training folder may be named by its language: dev is Domung.
    by_file = folder != "train" and "train" not in splits and not splits.isdisjoint(_HELD_OUT)
    if by_file and folder.endswith("-spanish"):
        return "americasnlp2021"
    if by_file or (folder in _HELD_OUT and "train" not in splits):
        names = _datasets_by_folder()
        return next((names[part] for part in (*parts, *reversed(folders)) if part in names), None)
    return None


@cache
def _datasets_by_folder() -> dict[str, str]:
    """Dataset by the name of a folder with evaluation text: in layouts, and of a copy of the hub's repository."""
    found: dict[str, str] = {}
    for one in DATASETS.values():
        if one.layout is not None and any(map(_is_held_out, one.splits)):
            paths = [pattern for patterns in one.layout.files.values() for pattern in patterns]
            paths += [] if one.hub is None else [one.hub.repo.partition("/")[2]]
            found |= {path.partition("/")[0].casefold(): one.name for path in paths}
    return found


def refuse_evaluation_text(
    source: str | Path, purpose: Purpose, target_language: str | None = None, *, or_else: str = ""
) -> None:
    """Raise `DataError` if a source is evaluation text that must not be trained on.

    For stage 1 ("adapt") that is any `evaluation_set`. For labelled training data ("tune") it is XNLI's dev and test
    split if the target language is one of AmericasNLI, whose items are translations of them. `or_else`: an alternative,
    for the message.
    """
    name = evaluation_set(source)
    if name is None:
        return
    if purpose == "adapt":
        what = f"dev or test of {dataset(name).title}{_WHY.get(name, '')}"
        raise DataError(
            f"{source}: evaluation text by its path ({what}), which stage 1 must not read. Give the training"
            f" split{or_else}."
        )
    # A sum of prompts has several languages: quy+aym.
    codes = [re.split("[-_]", code)[0] for code in (target_language or "").split("+")]
    if name == "xnli" and any(map(_is_of_americasnli, codes)):
        raise DataError(
            f"{source}: XNLI's dev and test items are those of AmericasNLI in another language, and the target language"
            f" is {target_language}. Train on MultiNLI{or_else}."
        )


def _is_of_americasnli(code: str) -> bool:
    return code in _VARIETIES.split() or any(same_language(code, own) for own in AMERICASNLI.languages)


def evaluation_beside(source: str | Path, *, parallel: bool = False) -> list[Path] | list[str]:
    """Existing dev and test files of a training file (train.tsv, train.quy, train-en.tsv): those beside it, and for
    AmericasNLP 2021 those of AmericasNLI in the same language if its folder lies beside it. For a reference: references
    to its own dev and test splits and to those known to overlap with it, available or not. With `parallel`
    also to the same items in the source language."""
    reference = parse_reference(str(source))
    if reference is not None:
        return _evaluation_references(reference, parallel)
    path = Path(source)
    if re.split(r"[^a-z]", path.name)[0] != "train":
        return []
    endings = (path.name[5:], path.suffix, *_ENDINGS)
    paths = [path.with_name(f"{split}{ending}") for split in _HELD_OUT for ending in endings]
    folder = path.absolute().parent
    if folder.name.endswith("-spanish"):
        code = path.name.partition(".")[2].partition(".")[0]
        paths += [folder.parent.parent / "americasnli" / split / f"{code}.tsv" for split in _HELD_OUT]
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def held_out_ids(
    source: str | Path, data_dir: str | Path | None = None, report: Callable[[str], None] | None = None
) -> set[str]:
    """Ids of the pairs of a reference that are in an evaluation set, in whatever wording: for bible_verses:LANGUAGE the
    verses of Taxi1500 in that language, whose edition may differ. `report` gets what could not be looked up. Empty for
    any other source."""
    reference = parse_reference(str(source))
    if reference is None or reference.dataset.held_out_ids is None:
        return set()
    return reference.dataset.held_out_ids(reference.language, data_dir, report)


def _evaluation_references(reference: Reference, parallel: bool) -> list[str]:
    if _is_held_out(reference.split):
        return []
    pairs = [(reference.dataset, reference.language)]
    for other in map(dataset, reference.dataset.overlaps):
        with suppress(DataError):  # a language that it lacks
            pairs.append((other, other.language(reference.language)))
    translated = reference.dataset.texts_from or reference.dataset
    if parallel and translated.source_overlap is not None:
        name, code = translated.source_overlap
        pairs.append((dataset(name), code))
    return [
        f"{other.name}:{code}:{split}"
        for other, code in pairs
        for split in other.splits_of(code)
        if _is_held_out(split)
    ]


def _is_held_out(split: str | None) -> bool:
    """Whether a split is evaluation text by a part of its name, as in "dev-mismatched" and "5-shot-dev"."""
    return split is not None and not set(_HELD_OUT).isdisjoint(split.split("-"))


# ---------------------------------------------------------------------------------------------------------------
# Both, for sources of stage 1


def stage1_texts(
    sources: Mapping[str, Sequence[str]],
    reading: Reading,
    held_out: Mapping[str, Sequence[str]],
    *,
    allow_evaluation_text: bool = False,
) -> dict[str, CleanText]:
    """Unlabelled text of stage 1 by name ("target text"), from files and references, decontaminated against `held_out`
    (texts by evaluation set).

    Raises `DataError` for a source that is evaluation text by its path, unless allowed, and if no text remains.
    """
    for source in [source for paths in sources.values() for source in paths]:
        if not allow_evaluation_text:
            refuse_evaluation_text(source, "adapt")
    return {name: decontaminated(texts_of(paths, reading), held_out, name) for name, paths in sources.items()}


def decontaminated(texts: Sequence[str], held_out: EvaluationText, name: str) -> CleanText:
    """`without_overlap`, which raises `DataError` if nothing remains of the text called `name`."""
    sets = _by_name(held_out)
    result = without_overlap(texts, sets)
    if texts and not result.texts:
        raise DataError(
            f"{name}: all of it is evaluation text ({', '.join(sets)}); give other text, or take that set out of"
            f" {setting('held_out')}"
        )
    return result


def decontaminated_examples(
    examples: Sequence[Example], held_out: EvaluationText, name: str
) -> tuple[list[Example], OverlapReport]:
    """The examples none of whose texts `decontaminated` removes, and its report."""
    clean = decontaminated([text for one in examples for text in one.fields.values()], held_out, name)
    texts = set(clean.texts)
    return [one for one in examples if texts.issuperset(one.fields.values())], clean.report


EvaluationText = Mapping[str, Sequence[str]] | Sequence[str]
"""Evaluation texts by the name of their set, or those of a single set."""


def decontaminated_pairs(
    pairs: Sequence[tuple[str, str]], held_out: EvaluationText
) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Pairs (source, target) without overlap with evaluation text on either side, and a report by side. Raises
    `DataError` if none remains."""
    scored, reports = sides_overlapping(pairs, _by_name(held_out))
    rest = [pair for pair, overlaps in zip(pairs, scored, strict=True) if not overlaps]
    if not rest:
        raise DataError(f"all pairs are evaluation text; give others, or take some out of {setting('held_out')}")
    return rest, {side: report.to_json() for side, report in reports.items()}


def _by_name(held_out: EvaluationText) -> Mapping[str, Sequence[str]]:
    sets = held_out if isinstance(held_out, Mapping) else {"held_out": held_out}
    for name, texts in sets.items():
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"{name} is {type(texts).__name__} of other things than texts; give a list of texts")
    return sets


def held_out_texts(
    sources: Sequence[str], scored: Sequence[str], reading: Reading, *, parallel: bool = False
) -> dict[str, list[str]]:
    """Evaluation texts by a short name of their source: those of `scored`, and those beside the training `sources`
    (`evaluation_beside`). `reading.report` gets a message for each of the latter that is unavailable."""
    sets: dict[str, list[str]] = {}
    for source in scored:
        sets.setdefault(_short(source), []).extend(texts_to_compare(source, reading))
    beside = [str(path) for source in sources for path in evaluation_beside(source, parallel=parallel)]
    for source in dict.fromkeys(path for path in beside if path not in scored):
        try:
            texts = texts_to_compare(source, reading)
        except DataError as error:
            if parse_reference(source) is None:
                raise
            if reading.report is not None:  # not requested by the user, so its absence is no error
                reading.report(f"not checked against {source}: {error}")
        else:
            sets.setdefault(_short(source), []).extend(texts)
    return sets


def _short(source: str) -> str:
    return "/".join(Path(source).parts[-3:])
