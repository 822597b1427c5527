"""Text checked before anything is trained on it: what the flags ask for, what is said of it, what is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glotprompt.cli.backbone import STAGE1_KINDS
from glotprompt.cli.files import how_to_read, texts_to_compare
from glotprompt.cli.screen import note
from glotprompt.data.catalog import parse_reference
from glotprompt.data.characters import CharacterMap
from glotprompt.data.guards import evaluation_beside, evaluation_set, refuse_evaluation_text, without_overlap
from glotprompt.data.records import share_of, subsample
from glotprompt.errors import ConfigError, DataError
from glotprompt.facts import describe

_SWITCHES = {"no_overlap_check": "--no-overlap-check", "allow_evaluation_text": "--allow-evaluation-text"}


@dataclass(frozen=True)
class Stage1Text:
    """What one language's stage 1 may read."""

    target: list[str]
    source: list[str]
    record: dict[str, Any]
    """For the facts of what is saved; empty when nothing was checked, removed, drawn or switched."""
    characters: CharacterMap | None = None
    """What is rewritten in both before they are tokenised."""


def check_stage1_files(files: Sequence[str], options: Mapping[str, Any]) -> None:
    """Refuse evaluation text by its place, and flags that contradict each other; `options` are adapt's parameters."""
    if options["no_overlap_check"] and options["held_out_files"]:
        raise ConfigError("--held-out names text to check against and --no-overlap-check forbids it; give one of them")
    for file in files:
        _refuse(file, "adapt", None, options)


def stage1_text(
    code: str,
    target: list[str],
    source: list[str],
    held_out: Mapping[str, Sequence[str]],
    options: Mapping[str, Any],
    seed: int,
) -> Stage1Text:
    """The texts of both languages without those of `held_out`; of the target's the share that --text-share asks for,
    and of each no more than --max-lines."""
    record = switches_record(options)
    texts = {"target": target, "source": source}
    for role, given in texts.items():
        if held_out and given:
            guarded = without_overlap(given, held_out)
            note(f"{code}, {role} text: {guarded.sentence()}")
            if not guarded.texts:
                raise DataError(
                    f"all {role} text of {code} is evaluation text; give other text, or pass --no-overlap-check, which"
                    " is recorded in what is saved"
                )
            texts[role] = guarded.texts
            record.setdefault("guards", {})[role] = guarded.facts()
    if not held_out and not options["no_overlap_check"]:
        note(f"{code}: not checked against evaluation text; say with --held-out FILE what will be scored")
    if options["text_share"] is not None:
        texts["target"] = share_of(texts["target"], options["text_share"], seed)
        record["text_share"] = options["text_share"]
    for role, given in texts.items():
        texts[role] = subsample(given, options["max_lines"], seed)
        if len(texts[role]) < len(given):
            read = f"{len(texts[role]):,} of {len(given):,} lines are read, drawn by seed {seed}"
            note(f"{code}, {role} text: {read}; --max-lines sets how many")
            record.setdefault("drawn_from_lines", {})[role] = len(given)
    return Stage1Text(texts["target"], texts["source"], record)


def check_training_file(train: str, prompt: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse XNLI's evaluation items where they are those of the language that `prompt` was adapted to; returns what to
    record. `options` are tune's parameters."""
    target_language = None if prompt is None else str(describe(prompt, STAGE1_KINDS)["language"])
    _refuse(train, "tune", target_language, options)
    if target_language is None and evaluation_set(train) == "xnli":
        note(f"{train}: these items are AmericasNLI's in another language; do not score the classifier on AmericasNLI")
    return switches_record(options)


def _refuse(file: str, purpose: Any, target_language: str | None, options: Mapping[str, Any]) -> None:
    try:
        refuse_evaluation_text(file, purpose, target_language)
    except DataError as error:
        if not options["allow_evaluation_text"]:
            allow = "pass --allow-evaluation-text, which is recorded in what is saved"
            raise DataError(f"{str(error).removesuffix('.')}, or {allow}") from None
        note(f"{file}: evaluation text, read all the same (--allow-evaluation-text)")


def switches_record(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the flags switched off, to be recorded in what is saved; empty where nothing was."""
    thrown = [flag for name, flag in _SWITCHES.items() if options.get(name)]
    record: dict[str, Any] = {"guards": {"switches": thrown}} if thrown else {}
    return {**record, "normalised": True} if options["normalise"] else record


def held_out_texts(files: Sequence[str], options: Mapping[str, Any], *, parallel: bool = False) -> dict[str, list[str]]:
    """Evaluation texts by a short name of their file: those of --held-out, and those that lie beside training files;
    none with --no-overlap-check."""
    if options["no_overlap_check"]:
        return {}
    given: list[str] = options["held_out_files"] or []
    how = how_to_read(options)
    found: dict[str, list[str]] = {}
    for file in given:
        found.setdefault(_short(file), []).extend(texts_to_compare(file, how))
    beside = [str(path) for file in files for path in evaluation_beside(file, parallel=parallel)]
    for file in dict.fromkeys(path for path in beside if path not in given):
        try:
            found.setdefault(_short(file), []).extend(texts_to_compare(file, how))
        except DataError as error:
            if parse_reference(file) is None:
                raise
            # Nobody asked for it, so its absence stops nothing.
            note(f"not checked against {file}: {error}")
            del found[_short(file)]
    return found


def _short(file: str) -> str:
    return "/".join(Path(file).parts[-3:])
