"""What stage 1 reads, checked before anything is trained on it: what the options ask for, and what is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from glotprompt.cli.declare import Params
from glotprompt.cli.files import check_reading, how_to_read
from glotprompt.cli.screen import note
from glotprompt.config import AdaptConfig
from glotprompt.data import decontamination
from glotprompt.data.decontamination import (
    CleanText,
    evaluation_set,
    held_out_texts,
    refuse_evaluation_text,
)
from glotprompt.data.pairs import stage1_pairs
from glotprompt.data.readers.records import share_of, subsample
from glotprompt.errors import ConfigError, DataError
from glotprompt.methods import METHODS, reads_source
from glotprompt.records import TextReport

_SWITCHES = {"no_overlap_check": "--no-overlap-check", "allow_evaluation_text": "--allow-evaluation-text"}
_ALLOW = ", or pass --allow-evaluation-text, which is recorded in what is saved"


@dataclass(frozen=True)
class Stage1Text:
    """Training text of stage 1 for one language: lines of both languages, or pairs."""

    record: TextReport
    """For the report in what is saved; empty when nothing was checked, removed, drawn or switched."""
    target: Sequence[str] = ()
    source: Sequence[str] = ()
    pairs: Sequence[tuple[str, str]] | None = None
    """(source, target)."""


def stage1_texts(
    targets: Mapping[str, Sequence[str]],
    source: Sequence[str],
    config: AdaptConfig,
    params: Params,
    parallel: Sequence[str] = (),
) -> dict[str, Stage1Text]:
    """Language code -> what its stage 1 reads, from the files of each target and of the source language. `params` are
    adapt's parameters; `parallel`: files of pairs, which are read besides."""
    reading = how_to_read(params)
    files = [*chain.from_iterable(targets.values()), *source]
    check_reading(params, [*files, *parallel], compared=params["held_out"] or ())
    _check_unlabelled(files, params)
    is_ready = params["source_adapter"] is not None and "source" in METHODS[config.method].parts
    reads = reads_source(config) and not is_ready
    if source and not reads:
        other = "--source-adapter" if is_ready else "source_share 0"
        raise ConfigError(f"--source has no effect: no source text is read with {other}; leave one of them out")
    if not source and reads:
        other = "" if config.method in ("mad-x", "source-prompt") else ", or leave it out with --set source_share=0"
        raise ConfigError(f"give text in the source language with --source{other}")
    held_out = _held_out(files, params)
    paths_by_name = {"source text": source, **{f"{code}, target text": paths for code, paths in targets.items()}}
    texts = decontamination.stage1_texts(paths_by_name, reading, held_out, allow_evaluation_text=True)
    if held_out:
        for name, text in texts.items():
            if text.texts:
                note(f"{name}: {text.report.sentence()}")
    return {code: _some_of(texts, code, params, config.seed) for code in targets}


def _held_out(files: Sequence[str], params: Params) -> dict[str, list[str]]:
    """Evaluation texts to remove from the text of files, by set; empty where nothing is to be checked."""
    if params.get("no_overlap_check"):
        return {}
    sets = held_out_texts(files, params["held_out"] or (), how_to_read(params))
    if not sets:
        note("not checked against evaluation text; say with --held-out FILE what will be scored")
    return sets


def unlabelled_to_check(files: Sequence[str], params: Params) -> dict[str, list[str]]:
    """Evaluation texts to remove from unlabelled text, by set. Raises `DataError` for files of evaluation text.
    `params` are the parameters of tune, self-train or compare."""
    _check_unlabelled(files, params)
    return _held_out(files, params)


def _some_of(texts: Mapping[str, CleanText], code: str, params: Params, seed: int) -> Stage1Text:
    """Sample the target's text to --text-share, and each text to --max-lines."""
    record = _switches(params)
    clean = {"target": texts[f"{code}, target text"], "source": texts["source text"]}
    checked = {role: text.report.to_json() for role, text in clean.items() if text.texts and text.report.overlaps}
    if checked:
        record.setdefault("decontamination", {}).update(checked)
    lines = {role: text.texts for role, text in clean.items()}
    if params["text_share"] is not None:
        lines["target"] = share_of(lines["target"], params["text_share"], seed)
        record["text_share"] = params["text_share"]
    for role, all_lines in lines.items():
        lines[role] = subsample(all_lines, params["max_lines"], seed)
        if len(lines[role]) < len(all_lines):
            counts = f"{len(lines[role]):,} of {len(all_lines):,} lines are read, sampled by seed {seed}"
            note(f"{code}, {role} text: {counts}; --max-lines sets how many")
            record.setdefault("drawn_from_lines", {})[role] = len(all_lines)
    return Stage1Text(TextReport.model_validate(record), lines["target"], lines["source"])


def parallel_text(code: str, sources: Sequence[str], params: Params) -> Stage1Text:
    """The pairs of a table, of two files or of references, decontaminated on both sides. `params` are the parameters of
    adapt, tune or compare."""
    _check_unlabelled(sources, params)
    is_checked = not params.get("no_overlap_check")
    checked = stage1_pairs(sources, params["held_out"] or (), how_to_read(params), check=is_checked)
    if is_checked and not checked.has_been_compared:
        note("not checked against evaluation text; say with --held-out FILE what will be scored")
    for line in (checked.report.sentence(), *checked.report.warnings()):
        note(f"{code}, parallel text: {line}")
    record = _switches(params)
    record["decontamination"] = {**record.get("decontamination", {}), "parallel": checked.report.to_json()}
    return Stage1Text(TextReport.model_validate(record), pairs=[(pair.source, pair.target) for pair in checked.pairs])


def _check_unlabelled(files: Sequence[str], params: Params) -> None:
    """Refuse evaluation text by its place, and flags that contradict each other."""
    if params.get("no_overlap_check") and params["held_out"]:
        raise ConfigError("--held-out names text to check against and --no-overlap-check forbids it; give one of them")
    for file in files:
        refuse_evaluation_file(file, "adapt", None, params)


def check_training_files(train: Sequence[str], target_language: str | None, params: Params) -> TextReport:
    """Refuse XNLI's evaluation items where they are those of the target language; returns what to record. `params` are
    the parameters of tune, self-train or compare."""
    for file in train:
        refuse_evaluation_file(file, "tune", target_language, params)
        if target_language is None and evaluation_set(file) == "xnli":
            note(
                f"{file}: these items are AmericasNLI's in another language; do not score the classifier on AmericasNLI"
            )
    return TextReport.model_validate(_switches(params))


def refuse_evaluation_file(file: str, purpose: Any, target_language: str | None, params: Params) -> None:
    """Raises `DataError` for evaluation text by its place, unless `--allow-evaluation-text` is among the parameters."""
    try:
        refuse_evaluation_text(file, purpose, target_language, or_else=_ALLOW)
    except DataError:
        if not params["allow_evaluation_text"]:
            raise
        note(f"{file}: evaluation text, read all the same (--allow-evaluation-text)")


def _switches(params: Params) -> dict[str, Any]:
    """Record of the checks that options switched off, for the report; empty where none was."""
    thrown = [flag for name, flag in _SWITCHES.items() if params.get(name)]
    record: dict[str, Any] = {"decontamination": {"switches": thrown}} if thrown else {}
    return {**record, "normalised": True} if params["normalise"] else record
