"""`doctor`: what will happen, said before anything is trained."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glotprompt.cli import options
from glotprompt.cli.screen import check_output, console, note, say, suggest, table, write_json
from glotprompt.errors import MissingExtraError

if TYPE_CHECKING:
    from glotprompt.doctor import Diagnosis, Finding

MOST_CHARACTERS = 20
"""Unknown characters shown on a screen; the files have all."""


def doctor(
    ctx: typer.Context,
    text: Annotated[
        list[str],
        typer.Option("--text", metavar="FILE", help="Unlabelled target text, one text per line; may be repeated."),
    ],
    model: options.Model = "mini",
    language: options.Language = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.toml", help="news, nli, or a TOML file: look its label words up, and estimate stage 2."
        ),
    ] = None,
    no_probe: Annotated[
        bool, typer.Option("--no-probe", help="Time nothing. The probe takes about ten seconds for each stage.")
    ] = False,
    json: options.Json = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page with plots: one file, no outside requests."),
    ] = None,
    method: options.Method = None,
    preset: options.Preset = None,
    steps: options.Steps = None,
    prompt_length: options.PromptLength = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    top_k_layers: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            help="Stage 2: train the prompts of the top K layers. Its other settings are the preset's.",
            rich_help_panel=options.SETTINGS,
            show_default=False,
        ),
    ] = None,
    set: options.Set = None,
    text_column: options.TextColumn = None,
    data_dir: options.DataDir = None,
    revision: options.Revision = None,
    read: options.Read = None,
    on_bad_row: options.OnBadRow = "error",
    normalise: options.Normalise = False,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
) -> None:
    """Look at a model and your text before any training, and say what will happen.

    Scripts, unknown characters, sub-words per word, duplicates, lines in other languages, label words; then time,
    memory and file size on this machine, from a few real steps. The settings are those of adapt.
    """
    from glotprompt.cli.files import check_column, how_to_read, texts_of
    from glotprompt.cli.settings import settings
    from glotprompt.config import AdaptConfig, TuneConfig
    from glotprompt.templates import Task

    for path, option in ((json, "--json"), (html, "--html")):
        if path is not None:
            check_output(path, option)
    if html is not None and (find_spec("jinja2") is None or find_spec("matplotlib") is None):
        raise MissingExtraError("The doctor's page", "report")
    loaded = None if task is None else Task.load(task)
    adapt, runtime = settings(AdaptConfig, ctx.params, model, "soft-prompt")
    chosen = {"preset": preset, "top_k_layers": top_k_layers}
    tune, _ = settings(TuneConfig, chosen, model, adapt.method)
    how = how_to_read(ctx.params)
    check_column(text, text_column, how)
    lines = texts_of(text, text_column, how)

    from glotprompt.doctor import PROBE_SECONDS, examine

    diagnosis = examine(
        model, lines, language=language, task=loaded, adapt=adapt, tune=tune, runtime=runtime,
        probe_seconds=0 if no_probe else PROBE_SECONDS, precision=precision, device=device,
    )  # fmt: skip
    _show(diagnosis)
    if json is not None:
        write_json(json, diagnosis.to_dict())
    if html is not None:
        from glotprompt.report.doctor_page import write_doctor_page

        write_doctor_page(diagnosis.to_dict(), html)
        note(f"wrote {html} (open it in a browser)")
    if diagnosis.level != "bad":
        code = language or "CODE"
        words = ("--model", model, *(word for file in text for word in ("--target", file)), "--source", "SOURCE.txt")
        suggest("adapt", *words, "--language", code, "--output", f"{code}.safetensors")


def _show(diagnosis: Diagnosis) -> None:
    """The findings, the unknown characters, the verdict: a table on a terminal, one line each when piped."""
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
    from rich.text import Text

    styles = {"ok": "green", "warn": "yellow", "bad": "bold red"}
    made = table(["", diagnosis.model, diagnosis.language or ""], left=3)
    for finding in diagnosis.findings:
        shown = Text.assemble((finding.figure, "bold"), "\n", _words(finding))
        made.add_row(Text(finding.level, style=styles[finding.level]), finding.name, shown)
    console().print(made)


def _words(finding: Finding) -> str:
    return f"{finding.meaning}{' To do: ' + finding.remedy if finding.remedy else ''}"
