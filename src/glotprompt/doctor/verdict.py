"""Findings: judges each figure as ok, warn or bad, with a suggested fix.

The limits are rules of thumb. Where one was measured, docs/doctor.md has the figures.
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
from glotprompt.errors import counted, setting
from glotprompt.estimate.forecast import LONGEST, Forecast
from glotprompt.quantities import DAY, duration, size
from glotprompt.training.objectives.unknown import MOST_UNKNOWN, NEGLIGIBLE
from glotprompt.training.objectives.unknown import percent as _share

Level = Literal["ok", "warn", "bad"]

PAPER_LINES = (600, 125_000)
"""Least and most lines of target text in the paper: Lingala's 608 articles, Quechua's 125,008 lines."""

NUM_EXAMPLES = 1000
"""Labelled examples for which stage 2 is estimated; their real number is not known yet."""

VERDICTS: dict[Level, str] = {
    "ok": "will work",
    "warn": "will work with care",
    "bad": "will not work as it is",
}


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    level: Level
    figure: str
    """The number, with its unit."""
    meaning: str
    """Its meaning, in a sentence."""
    remedy: str = ""
    """The suggested fix; "" if none is needed."""


def worst(findings: Sequence[Finding]) -> Level:
    levels = {finding.level for finding in findings}
    return "bad" if "bad" in levels else "warn" if "warn" in levels else "ok"


def text_findings(text: TextStatistics, pieces: Mapping[str, float], config: AdaptConfig) -> list[Finding]:
    """Findings on the text alone; on mark-up and encoding only if there are problems."""
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
    context = f"The paper used {least:,} to {most:,} lines."
    if text.num_unique < 100:
        remedy = (
            "Collect at least a few hundred lines, or classify without stage 1 (`glotprompt compare` tries it first)."
        )
        return Finding("amount", "bad", figure, f"Far too little for stage 1. {context}", remedy)
    if text.num_unique < least:
        return Finding(
            "amount",
            "warn",
            figure,
            f"Little. {context}",
            "Collect more if you can, and compare with training without stage 1.",
        )
    return Finding("amount", "ok", figure, context)


def _markup(text: TextStatistics) -> list[Finding]:
    shares = {KINDS[name]: count / max(1, text.num_counted) for name, count in text.markup.items()}
    kinds = {kind: share for kind, share in shares.items() if share >= kind.least}
    if not kinds:
        return []
    figure = ", ".join(
        f"{kind.name}: {text.markup[kind.name]:,} lines ({_share(share)})" for kind, share in kinds.items()
    )
    # Most of a line of JSON or CoNLL is not text.
    level: Level = "bad" if sum(share for kind, share in kinds.items() if not kind.is_sentence) >= 0.5 else "warn"
    remedies = " ".join(f"{kind.remedy[0].upper()}{kind.remedy[1:]}." for kind in kinds)
    return [Finding("mark-up", level, figure, "The model would learn it as part of the language.", remedies)]


def _encoding(text: TextStatistics) -> list[Finding]:
    share = text.num_mojibake / max(1, text.num_counted)
    if share < 0.01:
        return []
    damaged, correct = text.mojibake
    return [
        Finding(
            "encoding",
            "warn" if share < 0.5 else "bad",
            f"{text.num_mojibake:,} lines ({_share(share)})",
            f"UTF-8 that was read as Latin-1 or cp1252: {_visible(damaged)} should be {correct}.",
            "Export the text again as UTF-8; if you cannot, repair it with iconv -f utf-8 -t cp1252 (or latin1) or with"
            " the Python package ftfy.",
        )
    ]


def _visible(text: str) -> str:
    """The text, with code points for characters that cannot be printed."""
    return "".join(char if char.isprintable() else f"<U+{ord(char):04X}>" for char in text)


def _scripts(text: TextStatistics) -> Finding:
    shares = ", ".join(f"{name.capitalize()} {_share(share)}" for name, share in list(text.scripts.items())[:4])
    if not text.scripts:
        return Finding("script", "bad", "no letters", "The file contains no text.", "Check the file.")
    if not text.spaced:
        return Finding("script", "ok", shares, "No spaces between words: figures per word are per phrase.")
    if text.num_other_script > 0.01 * text.num_counted:
        lines = f"{text.num_other_script:,} lines are mostly in another script."
        return Finding(
            "script", "warn", shares, lines, "Check these lines; remove them if they are in another language."
        )
    return Finding("script", "ok", shares, "One script." if len(text.scripts) == 1 else "One main script.")


def _unknown(text: TextStatistics) -> Finding:
    name, share = "unknown characters", text.touched_share
    if not text.unknown:
        meaning = "It reads bytes, so every script." if text.is_byte_level else "The vocabulary covers every character."
        return Finding(name, "ok", "none", meaning)
    figure = f"in {_share(share)} of the words, {_share(text.unknown_share)} of the tokens"
    meaning = f"These become the unknown token: {_some(text.unknown)}."
    if share < NEGLIGIBLE:
        return Finding(name, "ok", figure, meaning)
    return Finding(name, "warn" if share <= MOST_UNKNOWN else "bad", figure, meaning, _fix_unknown(text))


def _some(unknown: Sequence[UnknownCharacter]) -> str:
    names = ", ".join(f"{char.shown} {char.code_points} ({char.count:,})" for char in unknown[:5])
    return f"{names} and {len(unknown) - 5} more" if len(unknown) > 5 else names


def _fix_unknown(text: TextStatistics) -> str:
    """The suggested fix for the unknown characters of a text."""
    if _encoding(text):
        return "Repair the encoding first, then run the doctor again."
    mapped = f"In stage 1 {setting('characters')} replaces them with the most similar known characters"
    if not text.far:
        return f"{mapped}."
    other = (
        "use a byte-level backbone (ByT5, such as google/byt5-small), which reads every script, or one whose vocabulary"
        " has this one, or write the text in a script that it covers (romanisation)"
    )
    if len(text.far) == len(text.unknown):
        return f"No known characters are similar, so a character map does not help: {other}."
    return f"{mapped}, except {_some(text.far)}, which have no similar ones; for these, {other}."


def _pieces(text: TextStatistics, pieces: Mapping[str, float]) -> Finding:
    usual, own = statistics.median(pieces.values()), text.pieces_per_word
    length = text.num_characters / max(1, text.num_tokens)
    figure = f"{own:.2f} sub-words per word, {length:.1f} characters per sub-word"
    low, high = min(pieces.values()), max(pieces.values())
    meaning = f"Reference ({len(pieces)} pre-training languages): median {usual:.2f}, range {low:.2f}-{high:.2f}."
    if text.is_byte_level:
        meaning = f"A token is a byte: sentences are long, and {setting('max_length')} counts bytes."
        return Finding("sub-words", "ok", f"{own:.2f} bytes per word", meaning)
    if not text.spaced:
        return Finding("sub-words", "ok", figure, "Without spaces, sub-words per word cannot be compared.")
    if own < 2 * usual:
        return Finding("sub-words", "ok", figure, meaning)
    if own >= 3 * usual and length < 1.25:
        return Finding(
            "sub-words",
            "bad",
            figure,
            f"Words are split letter by letter. {meaning}",
            "Use a backbone whose vocabulary has this script, or write the text in a script that it has.",
        )
    return Finding(
        "sub-words",
        "warn",
        figure,
        f"Words are split into many sub-words: {own / usual:.1f} times the usual. {meaning}",
        f"Sentences take more tokens: raise {setting('max_length')}, and expect slower learning.",
    )


def _duplicates(text: TextStatistics) -> Finding:
    share = text.duplicate_share
    figure = f"{text.num_lines - text.num_unique:,} of {text.num_lines:,} lines ({_share(share)})"
    meaning = "Lines that repeat an earlier one, after folding white space"
    if share < 0.1:
        return Finding("duplicates", "ok", figure, f"{meaning}.")
    return Finding(
        "duplicates",
        "warn",
        figure,
        f"{meaning}: the text is smaller than it looks.",
        "Keep each line once, for example with sort -u.",
    )


def _short(text: TextStatistics) -> Finding:
    share = text.num_short / max(1, text.num_counted)
    figure = f"{text.num_short:,} lines ({_share(share)})"
    meaning = f"Lines of fewer than {SHORT_WORDS} words."
    if share < 0.2:
        return Finding("short lines", "ok", figure, meaning)
    remedy = "Word lists and headings teach the model little: keep sentences."
    return Finding("short lines", "warn", figure, meaning, remedy)


def _long(text: TextStatistics, config: AdaptConfig) -> Finding:
    room = config.max_length - 2
    longer = sum(length > room for length in text.line_tokens)
    share = longer / max(1, text.num_counted)
    figure = f"{longer:,} lines ({_share(share)}), the longest has {max(text.line_tokens, default=0):,} tokens"
    aligned = config.objective == "alignment"
    if config.packing == "full" and not aligned:
        meaning = f"Lines of more than {room} tokens are split into sequences; nothing is lost."
        return Finding("long lines", "ok", figure, meaning)
    meaning = f"Lines are cut after {room} tokens ({'alignment' if aligned else 'packing none'})."
    if share < 0.05:
        return Finding("long lines", "ok", figure, meaning)
    remedy = f"Use {'' if aligned else 'packing full, '}a larger {setting('max_length')}, or split the lines."
    return Finding("long lines", "warn", figure, meaning, remedy)


def _mixture(text: TextStatistics) -> Finding:
    total = sum(text.foreign.values())
    share = total / max(1, text.num_counted)
    languages = ", ".join(f"{references()[code].name} {count:,}" for code, count in list(text.foreign.items())[:3])
    figure = f"{total:,} lines ({_share(share)}){': ' + languages if languages else ''}"
    meaning = "Lines that look like one of ten large languages by their function words; a lower bound."
    if share < 0.01:
        return Finding("language mix", "ok", figure, meaning)
    if share < 0.5:
        remedy = "Check these lines and remove them: the model learns nothing of the target from them."
        return Finding("language mix", "warn", figure, meaning, remedy)
    language = references()[next(iter(text.foreign))].name
    return Finding(
        "language mix",
        "bad",
        figure,
        f"Most of the text looks like {language}.",
        f"Is it the right file? If the language is {language}, the model was pre-trained on it: no stage 1 is needed.",
    )


def language_finding(language: str | None, exposure: Exposure | None) -> Finding:
    """Whether the model was pre-trained on the language; `exposure` is None if the model's family is unknown."""
    if language is None:
        return Finding(
            "language",
            "ok",
            "not given",
            "Without it, the doctor cannot tell whether the model was pre-trained on it.",
            f"Pass {setting('language', 'CODE')} (ISO 639-3).",
        )
    if exposure is None:
        return Finding("language", "ok", language, "It is not known whether this backbone was pre-trained on it.")
    if exposure.verdict == "not known":
        unsure = f"It is not known whether {exposure.family} was pre-trained on it. {exposure.evidence}".rstrip()
        return Finding("language", "ok", name_of(language), unsure)
    if exposure.verdict == "read":
        figure = f"{name_of(language)}: in the pre-training of {exposure.family}"
        remedy = "Compare with training without stage 1, which has less to gain here."
        meaning = f"{exposure.evidence} The model was already pre-trained on this language.".lstrip()
        return Finding("language", "warn", figure, meaning, remedy)
    figure = f"{name_of(language)}: {exposure.verdict} on {exposure.family}"
    return Finding("language", "ok", figure, exposure.evidence or "Stage 1 is meant for such languages.")


def label_finding(problems: Sequence[str], num_labels: int, several: Sequence[str], by_token: bool = False) -> Finding:
    """Whether the model can spell the task's label words; `several` are those of several tokens, unless the model reads
    all `by_token`, as decoders do."""
    if not problems and not several:
        meaning = "Label words are read token by token." if by_token else "Every label word is one token."
        return Finding("label words", "ok", f"{num_labels} labels", meaning)
    if not problems:
        figure = f"{counted(len(several), 'word')} of several tokens in {num_labels} labels"
        return Finding("label words", "ok", figure, " ".join(f"{sentence}." for sentence in several))
    return Finding(
        "label words",
        "bad",
        f"{counted(len(problems), 'problem')} in {num_labels} labels",
        " ".join(f"{problem}." for problem in problems),
        "Change these words in the task's verbalizer.",
    )


def cost_findings(adapt: Forecast, tune: Forecast | None, machine_bytes: int | None) -> list[Finding]:
    """Findings on time, memory and files on this machine."""
    stages = [(1, adapt, f"{adapt.sequences:,} training sequences of the target")]
    if tune is not None:
        stages.append((2, tune, f"per {NUM_EXAMPLES:,} labelled examples"))
    times = [_time(number, stage, of) for number, stage, of in stages]
    return [*times, _memory([stage for _, stage, _ in stages], machine_bytes), _files(adapt, tune)]


def _time(number: int, stage: Forecast, of: str) -> Finding:
    name, figure = f"time, stage {number}", f"{stage.steps:,} steps" if stage.steps else "nothing trained"
    if stage.seconds is None:
        return Finding(name, "ok", figure, f"Not timed; {of}.")
    figure = f"about {duration(stage.seconds)}{' for' if stage.steps else ','} {figure}"
    meaning = f"{of[0].upper()}{of[1:]}."
    if stage.seconds_per_step is not None:
        meaning = f"{stage.seconds_per_step:.3g} s per step, timed over {stage.probe_steps}; {of}."
    if stage.seconds < DAY:
        return Finding(name, "ok", figure, meaning)
    meaning += " This machine is too slow for it." if stage.seconds > LONGEST else ""
    remedy = f"Use fewer steps ({setting('steps')}), shorter sequences, a smaller backbone, or a GPU."
    return Finding(name, "warn", figure, meaning, remedy)


def _memory(stages: Sequence[Forecast], machine_bytes: int | None) -> Finding:
    estimated = max(stage.estimated_bytes for stage in stages)
    measured = max((stage.measured_bytes for stage in stages if stage.measured_bytes is not None), default=None)
    figure = f"about {size(estimated)} for the training"
    if measured is not None:
        figure += f"; {size(measured)} measured in the probe, including the program"
    needed = max(stage.needed_bytes for stage in stages)
    if machine_bytes is None:
        return Finding("memory", "ok", figure, "The memory of this machine is unknown.")
    meaning = f"This machine has {size(machine_bytes)}."
    if needed < 0.8 * machine_bytes:
        return Finding("memory", "ok", figure, meaning)
    less = [setting("micro_batch_size", "4"), setting("gradient_checkpointing", "True")]
    remedy = f"In stage 1 use {' or '.join(less)}; shorten {setting('max_length')}, or use a smaller"
    level: Level = "warn" if needed < machine_bytes else "bad"
    return Finding("memory", level, figure, meaning, f"{remedy} backbone.")


def _files(adapt: Forecast, tune: Forecast | None) -> Finding:
    second = "" if tune is None else f", classifier {size(tune.file_bytes)}"
    return Finding(
        "files", "ok", f"language {size(adapt.file_bytes)}{second}", "Files that are saved, without the backbone."
    )
