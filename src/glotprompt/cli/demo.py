"""`demo`: the whole story on real text."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from glotprompt.cli import options
from glotprompt.cli.screen import console, note, resumable, write_json
from glotprompt.errors import ConfigError, MissingExtraError, UserError

if TYPE_CHECKING:
    from glotprompt.grid.steps import Step
    from glotprompt.grid.work import Outcome

PAGE = "demo.html"


def demo(
    ctx: typer.Context,
    scenario: Annotated[
        Literal["bible", "manx", "news"],
        typer.Option(
            "--scenario",
            "--task",
            help="bible: English to Chichewa. manx: topics of English verses to Manx. news: MasakhaNEWS headlines from"
            " Hausa, from --data-dir.",
        ),
    ] = "bible",
    target: Annotated[
        str | None,
        typer.Option(
            metavar="CODE", help="Another target language: of news (default sna), of manx (default glv; cni, quc ...)."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Folder that holds masakhanews/, or taxi1500/ and parallel/bible/. Default for manx: GLOTPROMPT_DATA,"
            " else fetched from GitHub (7 MB).",
        ),
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="manx: seed of stage 1 and of the folds; give it again for more.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="manx: steps of the alignment. Default: 300.")] = None,
    pairs: Annotated[
        int | None, typer.Option(min=10, metavar="N", help="manx: align on N pairs drawn by the seed. Default: all.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Less training and one seed.")] = False,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the page, the two saved files and unfinished work.")
    ] = Path("demo-output"),
    json: options.Json = None,
    precision: options.Precision = "auto",
) -> None:
    """Classify a language that the bundled models know little of, in every way there is, and say what to use.

    Everything is trained here, on this machine. A killed demo, started again with the same words, goes on.
    """
    if scenario == "bible" and (target, data_dir) != (None, None):
        raise ConfigError("--target and --data-dir belong to --scenario news and manx; bible is English to Chichewa")
    if scenario != "manx" and (seeds, steps, pairs) != (None, None, None):
        raise ConfigError("--seed, --steps and --pairs belong to --scenario manx; --fast makes the others shorter")
    for module in ("jinja2", "matplotlib"):
        if find_spec(module) is None:  # said now, not after the training
            raise MissingExtraError("The demo's page", "demo")
    if output.is_file():
        raise UserError(f"--output {output} is a file; give a folder")
    from glotprompt.demo.page import write_demo_page
    from glotprompt.demo.terminal import print_demo
    from glotprompt.spec import alone

    with alone(output, output, note), resumable(output):
        where: dict[str, Any] = {"output": output, "command": _as_typed(ctx), "precision": precision}
        if scenario == "manx":
            from glotprompt.data.dataset import given_folder
            from glotprompt.data.github import verse_folder
            from glotprompt.demo.verses import run_verses

            language = target or "glv"
            if given_folder(data_dir) is None:
                data_dir = verse_folder(language, output / "data", note)
            sizes: dict[str, Any] = {
                "seeds": seeds or ([0] if fast else [0, 1, 2]),
                "steps": steps or (60 if fast else 300),
            }
            result = run_verses(language=language, data_dir=data_dir, num_pairs=pairs, **sizes, **where)
        else:
            from glotprompt.demo.run import run_demo

            result = run_demo(scenario=scenario, target=target, data_dir=data_dir, fast=fast, tell=_tell, **where)
    page = output / PAGE
    write_demo_page(result, page)
    print_demo(result, console())
    if json is not None:
        write_json(json, result.to_json())
    note(f"wrote {page} (open it in a browser)")


def _tell(step: Step, outcome: Outcome | None) -> None:
    """What begins."""
    if outcome is None:
        note(f"{step} ...")


def _as_typed(ctx: typer.Context) -> str:
    """The command with the options that change its result."""
    words = ["glotprompt", "demo"]
    given: dict[str, Any] = ctx.params
    for name in ("scenario", "target", "data_dir", "steps", "pairs", "fast"):
        value = given[name]
        if value not in (None, False, "bible"):
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    words += [word for seed in given["seeds"] or () for word in ("--seed", str(seed))]
    return shlex.join(words)
