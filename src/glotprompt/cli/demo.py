"""`demo`: the whole story on real text."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from glotprompt.cli import options
from glotprompt.cli.screen import console, note, resumable, write_json
from glotprompt.errors import ConfigError, MissingExtraError, UserError

PAGE = "demo.html"


def demo(
    ctx: typer.Context,
    task: Annotated[
        Literal["bible", "news"],
        typer.Option(help="bible: English to Chichewa. news: MasakhaNEWS headlines from Hausa, found in --data-dir."),
    ] = "bible",
    target: Annotated[
        str | None, typer.Option(metavar="CODE", help="Target language of --task news, such as sna. Default: sna.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder that holds masakhanews/, as published.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Less training and one seed.")] = False,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the page, the two saved files and unfinished work.")
    ] = Path("demo-output"),
    json: options.Json = None,
    precision: options.Precision = "auto",
) -> None:
    """Teach the bundled model a language that it knows little of and show it.

    Everything is trained here, on this machine. A killed demo, started again with the same words, goes on.
    """
    if task == "bible" and (target, data_dir) != (None, None):
        raise ConfigError("--target and --data-dir belong to --task news; the bible demo is English to Chichewa")
    for module in ("jinja2", "matplotlib"):
        if find_spec(module) is None:  # said now, not after the training
            raise MissingExtraError("The demo's page", "demo")
    if output.is_file():
        raise UserError(f"--output {output} is a file; give a folder")
    from glotprompt.demo import run_demo
    from glotprompt.report.page import write_demo_page
    from glotprompt.report.terminal import print_demo

    with resumable(output):
        result = run_demo(
            task=task,
            target=target,
            data_dir=data_dir,
            fast=fast,
            output=output,
            command=_as_typed(ctx),
            precision=precision,
        )
    page = output / PAGE
    write_demo_page(result, page)
    print_demo(result, console())
    if json is not None:
        write_json(json, result)
    note(f"wrote {page} (open it in a browser)")


def _as_typed(ctx: typer.Context) -> str:
    """The command with the options that change its result."""
    words = ["glotprompt", "demo"]
    given: dict[str, Any] = ctx.params
    for name in ("task", "target", "data_dir", "fast"):
        value = given[name]
        if value not in (None, False, "bible"):
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return shlex.join(words)
