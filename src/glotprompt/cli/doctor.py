"""`doctor`: checks a model and a text, and estimates costs, before anything is trained."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from rich.text import Text

from glotprompt.cli.declare import Params
from glotprompt.cli.files import check_reading, how_to_read
from glotprompt.cli.program import words_of
from glotprompt.cli.screen import note, say, suggest, write_json
from glotprompt.cli.settings import settings
from glotprompt.cli.tables import console, table
from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.data.languages import checked_code
from glotprompt.data.sources import texts_of
from glotprompt.doctor import PROBE_SECONDS, Diagnosis, Finding, examine
from glotprompt.errors import ConfigError, MissingExtraError
from glotprompt.methods import reads_source
from glotprompt.model.loading import predicts_tokens
from glotprompt.task import Task

MOST_CHARACTERS = 20
"""Unknown characters shown on a screen; the files have all."""

WILL_NOT_WORK, WARNED = 3, 1
"""Exit status by the verdict; with care only with --strict. 2 is an error, as everywhere."""

_OF_ADAPT = (
    *("method", "preset", "steps", "prompt_length", "batch_size", "max_length", "set", "text_column", "data_dir"),
    *("revision", "read", "on_bad_row", "normalise", "precision", "device"),
)
"""Options that adapt has, too: the command that is suggested repeats those that were given."""


def doctor(params: Params) -> int:
    """Examine, show the findings, and suggest the next commands."""
    model, language, task, html = (params[name] for name in ("model", "language", "task", "html"))
    if html is not None and find_spec("matplotlib") is None:
        raise MissingExtraError("The doctor's page", "report")
    if language is not None:
        checked_code(language)
    if params["top_k_layers"] is not None and task is None:
        raise ConfigError("--top-k is of stage 2, which is looked at with --task; give both, or leave it out")
    loaded = None if task is None else Task.load(task)
    # A sentence encoder has no masked tokens to learn from; stage 1 aligns it on translations.
    preset = params["preset"] or (None if predicts_tokens(model) else "alignment")
    adapt, runtime = settings(AdaptConfig, {**params, "preset": preset}, model, "soft-prompt")
    chosen = {"preset": preset, "top_k_layers": params["top_k_layers"]}
    tune = None if task is None else settings(TuneConfig, chosen, model, adapt.method)[0]
    how = how_to_read(params)
    check_reading(params, params["text"])
    lines = texts_of(params["text"], how)

    diagnosis = examine(
        model, lines, language=language, task=loaded, adapt=adapt, tune=tune, runtime=runtime,
        probe_seconds=0 if params["no_probe"] else PROBE_SECONDS,
        precision=params["precision"], device=params["device"],
    )  # fmt: skip
    _show(diagnosis)
    write_json(params["json"], diagnosis.to_dict())
    if html is not None:
        from glotprompt.doctor.page import write_doctor_page  # with matplotlib, which may not be installed

        write_doctor_page(diagnosis, html)
        note(f"wrote {html} (open it in a browser)")
    if diagnosis.level == "bad":
        return WILL_NOT_WORK
    _suggest(params, adapt, preset)
    return WARNED if params["strict"] and diagnosis.level == "warn" else 0


def _suggest(params: Params, config: AdaptConfig, preset: str | None) -> None:
    """Suggest the next commands with the given files, task and options. Alignment needs translations, whose file is not
    known."""
    aligned = config.objective == "alignment"
    code = params["language"] or "CODE"
    prompt = f"{code}.safetensors"
    targets = [word for file in params["text"] for word in ("--target", file)]
    words = ["--model", params["model"], *(["--parallel", "PAIRS.tsv"] if aligned else targets)]
    words += words_of("doctor", params, _OF_ADAPT)
    words += ["--source", "SOURCE.txt"] if not aligned and reads_source(config) else []
    suggest("adapt", *words, "--language", code, "--output", prompt)
    if params["task"] is not None:
        words = ["--prompt", prompt, "--train", "LABELLED.tsv", "--task", params["task"]]
        words += words_of("doctor", {**params, "preset": preset}, ("preset", "top_k_layers"))
        suggest("tune", *words, "--output", f"{code}-{Path(params['task']).stem}.safetensors")


def _show(diagnosis: Diagnosis) -> None:
    """Print findings, unknown characters and verdict: a table on a terminal, one line each when piped."""
    if sys.stdout.isatty():
        _table(diagnosis)
    else:
        for finding in diagnosis.findings:
            say(f"{finding.level:<4}  {finding.name:<18}  {finding.figure}. {_words(finding)}")
    unknown = diagnosis.text.unknown
    for char in unknown[:MOST_CHARACTERS]:
        say(f"unknown  {char.count:>7,}  {char.shown}  {char.code_points}  {char.name}")
    if len(unknown) > MOST_CHARACTERS:
        say(f"unknown  and {len(unknown) - MOST_CHARACTERS} more characters (--json FILE has all)")
    care = [finding.name for finding in diagnosis.findings if finding.level == diagnosis.level != "ok"]
    say(f"verdict  {diagnosis.verdict}{': look at ' + ', '.join(care) if care else ''}")


def _table(diagnosis: Diagnosis) -> None:
    styles = {"ok": "green", "warn": "yellow", "bad": "bold red"}
    listing = table(["", diagnosis.model, diagnosis.language or ""], left=3)
    for finding in diagnosis.findings:
        cell = Text.assemble((finding.figure, "bold"), "\n", _words(finding))
        listing.add_row(Text(finding.level, style=styles[finding.level]), finding.name, cell)
    console().print(listing)


def _words(finding: Finding) -> str:
    return f"{finding.meaning}{' To do: ' + finding.remedy if finding.remedy else ''}"
