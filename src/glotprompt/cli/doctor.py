"""`doctor`: what will happen, said before anything is trained."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glotprompt.cli import options
from glotprompt.cli.screen import console, note, say, suggest, table, write_json
from glotprompt.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from glotprompt.doctor import Diagnosis, Finding

MOST_CHARACTERS = 20
"""Unknown characters shown on a screen; the files have all."""

WILL_NOT_WORK, WARNED = 3, 1
"""Exit status by the verdict; with care only with --strict. 2 is an error, as everywhere."""

_OF_ADAPT = (
    *("method", "preset", "steps", "prompt_length", "batch_size", "max_length", "set", "text_column", "data_dir"),
    *("revision", "read", "on_bad_row", "normalise", "precision", "device"),
)
"""Options that adapt has, too: the command that is suggested repeats those that were given."""


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
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit status 1, not 0, where it will work with care only.")
    ] = False,
    json: options.Json = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a page with plots: one file, no outside requests.", **options.to_write()),
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
) -> int:
    """Look at a model and your text before any training, and say what will happen.

    Scripts, unknown characters, sub-words per word, duplicates, lines in other languages, label words; then time,
    memory and file size on this machine, from a few real steps. The settings are those of adapt.

    Exit status: 0 when it will work, also with care (then 1 with --strict), 3 when it will not work as it is.
    """
    from glotprompt.cli.files import check_reading, how_to_read
    from glotprompt.cli.settings import settings
    from glotprompt.config import AdaptConfig, TuneConfig
    from glotprompt.data.languages import checked_code
    from glotprompt.data.sources import texts_of
    from glotprompt.templates import Task

    if html is not None and (find_spec("jinja2") is None or find_spec("matplotlib") is None):
        raise MissingExtraError("The doctor's page", "report")
    if language is not None:
        checked_code(language)
    if top_k_layers is not None and task is None:
        raise ConfigError("--top-k is of stage 2, which is looked at with --task; give both, or leave it out")
    loaded = None if task is None else Task.load(task)
    adapt, runtime = settings(AdaptConfig, ctx.params, model, "soft-prompt")
    chosen = {"preset": preset, "top_k_layers": top_k_layers}
    tune, _ = settings(TuneConfig, chosen, model, adapt.method)
    how = how_to_read(ctx.params)
    check_reading(ctx.params, text)
    lines = texts_of(text, how)

    from glotprompt.doctor import PROBE_SECONDS, examine

    diagnosis = examine(
        model, lines, language=language, task=loaded, adapt=adapt, tune=tune, runtime=runtime,
        probe_seconds=0 if no_probe else PROBE_SECONDS, precision=precision, device=device,
    )  # fmt: skip
    _show(diagnosis)
    if json is not None:
        write_json(json, diagnosis.to_dict())
    if html is not None:
        from glotprompt.doctor.page import write_doctor_page

        write_doctor_page(diagnosis, html)
        note(f"wrote {html} (open it in a browser)")
    if diagnosis.level == "bad":
        return WILL_NOT_WORK
    _suggest(ctx, adapt.objective == "alignment")
    return WARNED if strict and diagnosis.level == "warn" else 0


def _suggest(ctx: typer.Context, aligned: bool) -> None:
    """The next commands, with the files, the task and the options that were given. Alignment asks for translations,
    whose file is not known."""
    given: dict[str, Any] = ctx.params
    code = given["language"] or "CODE"
    prompt = f"{code}.safetensors"
    targets = [word for file in given["text"] for word in ("--target", file)]
    words = ["--model", given["model"], *(["--parallel", "PAIRS.tsv"] if aligned else targets)]
    for parameter in ctx.command.params:
        value = given[parameter.name] if parameter.name in _OF_ADAPT else None
        if not value or value == parameter.default:
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [parameter.opts[0]] if one is True else [parameter.opts[0], str(one)]
    words += [] if aligned else ["--source", "SOURCE.txt"]
    suggest("adapt", *words, "--language", code, "--output", prompt)
    if given["task"] is not None:
        layers = [] if given["top_k_layers"] is None else ["--top-k", str(given["top_k_layers"])]
        words = ["--prompt", prompt, "--train", "LABELLED.tsv", "--task", given["task"], *layers]
        suggest("tune", *words, "--output", f"{code}-{Path(given['task']).stem}.safetensors")


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
