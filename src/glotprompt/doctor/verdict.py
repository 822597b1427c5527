"""From figures to words: what is well, what needs care, what stands in the way, and what to do about it.

The limits are rules of thumb and say so. Where one was measured, docs/doctor.md has the figures.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from glotprompt.config import AdaptConfig
from glotprompt.data.languages import Exposure, name_of
from glotprompt.doctor.markup import KINDS
from glotprompt.doctor.text import SHORT_WORDS, TextStatistics, UnknownCharacter, references
from glotprompt.errors import counted
from glotprompt.estimate.forecast import LONGEST, Forecast
from glotprompt.quantities import DAY, duration, size
from glotprompt.training.objectives.unknown import MOST_UNKNOWN, NEGLIGIBLE
from glotprompt.training.objectives.unknown import percent as _share

Level = Literal["ok", "warn", "bad"]

PAPER_LINES = (600, 125_000)
"""Lines of target text with which the paper adapted: Lingala's 608 articles to Quechua's 125,008 lines."""

NUM_EXAMPLES = 1000
"""Labelled examples for which stage 2 is estimated: how many there are is not known yet."""

VERDICTS: dict[Level, str] = {
    "ok": "will work",
    "warn": "will work with care",
    "bad": "will not work as it is",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Level
    figure: str
    """The number, with its unit."""
    meaning: str
    """What it says, in a sentence."""
    remedy: str = ""
    """What to do; "" where there is nothing to do."""


def worst(findings: Sequence[Finding]) -> Level:
    levels = {finding.level for finding in findings}
    return "bad" if "bad" in levels else "warn" if "warn" in levels else "ok"


def text_findings(text: TextStatistics, pieces: Mapping[str, float], config: AdaptConfig) -> list[Finding]:
    """What the text alone says; of mark-up and encoding only where there is something to say."""
    return [
        _amount(text),
        *_markup(text),
        *_encoding(text),
        _scripts(text),
        _unknown(text),
        _pieces(text, pieces),
        _duplicates(text),
        _short(text),
        _long(text, config),
        _mixture(text),
    ]


def _amount(text: TextStatistics) -> Finding:
    least, most = PAPER_LINES
    figure = f"{text.num_unique:,} different lines, {text.num_words:,} words"
    if text.num_counted < text.num_lines:
        figure += f" in {text.num_counted:,} of {text.num_lines:,} lines"
    where = f"The paper adapted with {least:,} to {most:,} lines."
    if text.num_unique < 100:
        return Finding("amount", "bad", figure, f"Far too little. {where}", "Collect at least some hundred lines.")
    if text.num_unique < least:
        return Finding(
            "amount",
            "warn",
            figure,
            f"Little. {where}",
            "Collect more if you can; compare with tune --model, without stage 1.",
        )
    return Finding("amount", "ok", figure, where)


def _markup(text: TextStatistics) -> list[Finding]:
    shares = {KINDS[name]: count / max(1, text.num_counted) for name, count in text.markup.items()}
    found = {kind: share for kind, share in shares.items() if share >= kind.least}
    if not found:
        return []
    figure = ", ".join(
        f"{kind.name}: {text.markup[kind.name]:,} lines ({_share(share)})" for kind, share in found.items()
    )
    # Of a line of JSON or CoNLL the model reads more that is no text than text.
    level: Level = "bad" if sum(share for kind, share in found.items() if not kind.is_sentence) >= 0.5 else "warn"
    remedies = " ".join(f"{kind.remedy[0].upper()}{kind.remedy[1:]}." for kind in found)
    return [Finding("mark-up", level, figure, "The model would learn it as if it were the language.", remedies)]


def _encoding(text: TextStatistics) -> list[Finding]:
    share = text.num_mojibake / max(1, text.num_counted)
    if share < 0.01:
        return []
    seen, meant = text.mojibake
    return [
        Finding(
            "encoding", "warn" if share < 0.5 else "bad", f"{text.num_mojibake:,} lines ({_share(share)})",
            f"UTF-8 that was read as Latin-1 or cp1252: {_visible(seen)} stands for {meant}.",
            "Save the text again from where it came, as UTF-8; else undo it with iconv -f utf-8 -t cp1252 (or latin1), "
            "or, where that stops, with the Python package ftfy.",
        )
    ]  # fmt: skip


def _visible(text: str) -> str:
    """The text; a character without a shape by its code point."""
    return "".join(char if char.isprintable() else f"<U+{ord(char):04X}>" for char in text)


def _scripts(text: TextStatistics) -> Finding:
    shares = ", ".join(f"{name.capitalize()} {_share(share)}" for name, share in list(text.scripts.items())[:4])
    if not text.scripts:
        return Finding("script", "bad", "no letters", "There is no text in it.", "Look at the file.")
    if not text.spaced:
        return Finding("script", "ok", shares, "No spaces between words: figures per word are figures per phrase.")
    if text.num_other_script > 0.01 * text.num_counted:
        lines = f"{text.num_other_script:,} lines are mostly in another script than the rest."
        return Finding(
            "script", "warn", shares, lines, "Look at these lines; take them out if they are another language."
        )
    return Finding("script", "ok", shares, "One script." if len(text.scripts) == 1 else "One main script.")


def _unknown(text: TextStatistics) -> Finding:
    name, share = "unknown characters", text.touched_share
    if not text.unknown:
        return Finding(name, "ok", "none", "The tokenizer knows every character.")
    figure = f"in {_share(share)} of the words, {_share(text.unknown_share)} of the tokens"
    meaning = f"The model reads a hole in the place of {_some(text.unknown)}."
    if share < NEGLIGIBLE:
        return Finding(name, "ok", figure, meaning)
    return Finding(name, "warn" if share <= MOST_UNKNOWN else "bad", figure, meaning, _way_out(text))


def _some(unknown: Sequence[UnknownCharacter]) -> str:
    shown = ", ".join(f"{char.shown} {char.code_points} ({char.count:,})" for char in unknown[:5])
    return f"{shown} and {len(unknown) - 5} more" if len(unknown) > 5 else shown


def _way_out(text: TextStatistics) -> str:
    """What to do about the unknown characters of this text."""
    if _encoding(text):
        return "Mend the encoding first, then ask again."
    mapped = "glotprompt adapt --map-characters auto writes the nearest known characters in their place"
    if not text.far:
        return f"{mapped}."
    other = (
        "take a backbone whose tokenizer falls back to bytes or has a larger vocabulary with this script, or write the"
        " text in a script that it knows (romanisation)"
    )
    if len(text.far) == len(text.unknown):
        return f"Nothing known is near them, so a character map does not help: {other}."
    return f"{mapped}, except {_some(text.far)}, to which nothing known is near; for these {other}."


def _pieces(text: TextStatistics, pieces: Mapping[str, float]) -> Finding:
    usual, own = statistics.median(pieces.values()), text.pieces_per_word
    length = text.num_characters / max(1, text.num_tokens)
    figure = f"{own:.2f} sub-words per word, {length:.1f} characters per sub-word"
    meaning = f"Ten languages that models have read: {usual:.2f} in the middle, {min(pieces.values()):.2f} to "
    meaning += f"{max(pieces.values()):.2f}."
    if not text.spaced:
        return Finding("sub-words", "ok", figure, "Without spaces there is nothing to compare with.")
    if own < 2 * usual:
        return Finding("sub-words", "ok", figure, meaning)
    if own >= 3 * usual and length < 1.25:
        return Finding(
            "sub-words", "bad", figure, f"Words are spelled letter by letter. {meaning}",
            "Take a backbone whose vocabulary has this script, or write the text in a script that it has.",
        )  # fmt: skip
    return Finding(
        "sub-words", "warn", figure, f"Words break into many pieces: {own / usual:.1f} times the usual. {meaning}",
        "Sentences take more of the model's length: give texts room with --max-length, and expect slower learning.",
    )  # fmt: skip


def _duplicates(text: TextStatistics) -> Finding:
    share = text.duplicate_share
    figure = f"{text.num_lines - text.num_unique:,} of {text.num_lines:,} lines ({_share(share)})"
    if share < 0.1:
        return Finding("duplicates", "ok", figure, "Lines that repeat an earlier one.")
    return Finding(
        "duplicates", "warn", figure, "Lines that repeat an earlier one: the text is smaller than it looks.",
        "Keep each line once, for example with sort -u.",
    )  # fmt: skip


def _short(text: TextStatistics) -> Finding:
    share = text.num_short / max(1, text.num_counted)
    figure = f"{text.num_short:,} lines ({_share(share)})"
    meaning = f"Lines of fewer than {SHORT_WORDS} words."
    if share < 0.2:
        return Finding("short lines", "ok", figure, meaning)
    remedy = "Word lists and headings teach little: keep sentences, or at least do not judge by these lines."
    return Finding("short lines", "warn", figure, meaning, remedy)


def _long(text: TextStatistics, config: AdaptConfig) -> Finding:
    room = config.max_length - 2
    longer = sum(length > room for length in text.line_tokens)
    share = longer / max(1, text.num_counted)
    figure = f"{longer:,} lines ({_share(share)}), the longest has {max(text.line_tokens, default=0):,} tokens"
    aligned = config.objective == "alignment"
    if config.packing == "full" and not aligned:
        meaning = f"Lines of more than {room} tokens are cut into pieces; nothing is lost."
        return Finding("long lines", "ok", figure, meaning)
    meaning = (
        f"Of lines of more than {room} tokens the rest is not read ({'alignment' if aligned else 'packing none'})."
    )
    if share < 0.05:
        return Finding("long lines", "ok", figure, meaning)
    remedy = f"Take {'' if aligned else 'packing full, '}a larger --max-length, or split the lines."
    return Finding("long lines", "warn", figure, meaning, remedy)


def _mixture(text: TextStatistics) -> Finding:
    total = sum(text.foreign.values())
    share = total / max(1, text.num_counted)
    shown = ", ".join(f"{references()[code].name} {count:,}" for code, count in list(text.foreign.items())[:3])
    figure = f"{total:,} lines ({_share(share)}){': ' + shown if shown else ''}"
    meaning = "Lines that read like one of ten large languages by their function words; some are missed."
    if share < 0.01:
        return Finding("language mix", "ok", figure, meaning)
    if share < 0.5:
        remedy = "Look at these lines; the model learns nothing of the target from them. Take them out of the text."
        return Finding("language mix", "warn", figure, meaning, remedy)
    language = references()[next(iter(text.foreign))].name
    return Finding(
        "language mix", "bad", figure, f"Most of the text reads like {language}.",
        f"Is it the right file? If the language is {language}, the model has read it: stage 1 is not needed.",
    )  # fmt: skip


def language_finding(language: str | None, exposure: Exposure | None) -> Finding:
    """What the model has read of the language; `exposure` is None where its family is not known."""
    if language is None:
        return Finding(
            "language", "ok", "not named", "Whether the model has read it is not known.",
            "Name it with --language CODE (ISO 639-3).",
        )  # fmt: skip
    if exposure is None:
        return Finding("language", "ok", language, "Our tables do not say whether this backbone has read it.")
    if exposure.verdict == "not known":
        unsure = f"Our tables do not say whether {exposure.family} has read it. {exposure.evidence}".rstrip()
        return Finding("language", "ok", name_of(language), unsure)
    figure = f"{name_of(language)}: {exposure.verdict} {'by' if exposure.verdict == 'read' else 'on'} {exposure.family}"
    if exposure.verdict == "read":
        remedy = "Compare with tune --model, without stage 1: there is less to win here."
        meaning = f"{exposure.evidence} The model has read this language already.".lstrip()
        return Finding("language", "warn", figure, meaning, remedy)
    return Finding("language", "ok", figure, exposure.evidence or "What stage 1 is for.")


def label_finding(problems: Sequence[str], num_labels: int, several: Sequence[str]) -> Finding:
    """Whether the model can spell the task's label words, and which of them are `several` tokens."""
    if not problems and not several:
        return Finding("label words", "ok", f"{num_labels} labels", "Every label word is one token.")
    if not problems:
        figure = f"{counted(len(several), 'word')} of several tokens in {num_labels} labels"
        return Finding("label words", "ok", figure, " ".join(f"{sentence}." for sentence in several))
    return Finding(
        "label words", "bad", f"{counted(len(problems), 'problem')} in {num_labels} labels",
        " ".join(f"{p}." for p in problems), "Write other words into the task's verbalizer.",
    )  # fmt: skip


def cost_findings(adapt: Forecast, tune: Forecast | None, machine_bytes: int | None) -> list[Finding]:
    """Time, memory and files on this machine."""
    stages = [(1, adapt, f"{adapt.sequences:,} training sequences of the target")]
    if tune is not None:
        stages.append((2, tune, f"for every {NUM_EXAMPLES:,} labelled examples"))
    found = [_time(number, stage, of) for number, stage, of in stages]
    return [*found, _memory([stage for _, stage, _ in stages], machine_bytes), _files(adapt, tune)]


def _time(number: int, stage: Forecast, of: str) -> Finding:
    name, figure = f"time, stage {number}", f"{stage.steps:,} steps" if stage.steps else "nothing trained"
    if stage.seconds is None:
        return Finding(name, "ok", figure, f"Not timed; {of}.")
    figure = f"about {duration(stage.seconds)}{' for' if stage.steps else ','} {figure}"
    meaning = f"{of[0].upper()}{of[1:]}."
    if stage.seconds_per_step is not None:
        meaning = f"{stage.seconds_per_step:.3g} s a step, timed over {stage.probe_steps}; {of}."
    if stage.seconds < DAY:
        return Finding(name, "ok", figure, meaning)
    meaning += " That is not for this machine." if stage.seconds > LONGEST else ""
    remedy = "Take fewer steps (--steps, --preset quick), shorter sequences, a smaller backbone, or a GPU."
    return Finding(name, "warn", figure, meaning, remedy)


def _memory(stages: Sequence[Forecast], machine_bytes: int | None) -> Finding:
    estimated = max(stage.estimated_bytes for stage in stages)
    measured = max((stage.measured_bytes for stage in stages if stage.measured_bytes is not None), default=None)
    figure = f"about {size(estimated)} for the training"
    if measured is not None:
        figure += f"; {size(measured)} measured in the probe, with the program"
    needed = estimated if measured is None else measured
    if machine_bytes is None:
        return Finding("memory", "ok", figure, "How much this machine has is not known.")
    meaning = f"This machine has {size(machine_bytes)}."
    if needed < 0.8 * machine_bytes:
        return Finding("memory", "ok", figure, meaning)
    remedy = "Give --micro-batch-size 4 or --gradient-checkpointing to adapt, shorten --max-length, or take a smaller"
    level: Level = "warn" if needed < machine_bytes else "bad"
    return Finding("memory", level, figure, meaning, f"{remedy} backbone.")


def _files(adapt: Forecast, tune: Forecast | None) -> Finding:
    second = "" if tune is None else f", classifier {size(tune.file_bytes)}"
    return Finding("files", "ok", f"language {size(adapt.file_bytes)}{second}", "What is saved beside the backbone.")
