"""`report`: tables and figures of what a grid found."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from glotprompt.cli.options import to_write
from glotprompt.cli.screen import note, say
from glotprompt.errors import MissingExtraError, UserError


def report(
    results: Annotated[
        str,
        typer.Argument(
            metavar="DIR|URL|FILE",
            help="What `glotprompt grid --output` wrote, the URL it wrote to, or a file that --pack wrote.",
        ),
    ],
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for index.html, results.md, figures/ and tables/.")
    ] = Path("report"),
    markdown: Annotated[
        Path | None,
        typer.Option(help="Another place for results.md, such as docs/results.md; links follow.", **to_write()),
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(
            help="Keep all results in one small file, to report them again or go on from them (grid --known).",
            **to_write("FILE.jsonl.gz"),
        ),
    ] = None,
) -> None:
    """Make the tables and figures of a grid: one HTML page, Markdown, CSV and LaTeX.

    What is missing stands as a dash and is listed; a grid that is under way can be reported at any time. A file
    reading.md in DIR (or beside FILE), what a person makes of the results, is put in front.
    """
    for module in ("jinja2", "matplotlib"):
        if find_spec(module) is None:
            raise MissingExtraError("The report", "report")
    from glotprompt.cluster.remote import copy_results, named
    from glotprompt.grid.pack import ENDING, unpack
    from glotprompt.grid.pack import pack as write_packed
    from glotprompt.grid.store import Store

    place = named(results)
    packed = isinstance(place, Path) and place.name.endswith(ENDING)
    if isinstance(place, Path) and not (packed or place.is_dir()):
        raise UserError(
            f"{place} is no folder; give what `glotprompt grid ... --output` wrote, or a file of --pack (*{ENDING})"
        )
    if pack is not None and not pack.name.endswith(ENDING):
        raise UserError(f"--pack {pack}: the name must end in {ENDING}")
    if output.is_file():
        raise UserError(f"--output {output} is a file; give a folder")
    from glotprompt.report.results_page import MARKDOWN, PAGE, write_report

    with TemporaryDirectory() as copied:
        folder = Path(copied)
        if isinstance(place, str):
            copy_results(place, folder)
        elif packed:
            unpack(place, Store(folder))
            with suppress(FileNotFoundError):  # what a person made of them lies beside the file
                copy(place.with_name("reading.md"), folder)
        else:
            folder = place
        if pack is not None:
            write_packed(Store(folder), pack)
        made = write_report(folder, output, markdown, lambda name: note(f"drawing {name}"))
    say(f"{made.title}: {made.lead}")
    if pack is not None:
        note(f"wrote {pack}")
    note(f"wrote {output / MARKDOWN if markdown is None else markdown} and {output / PAGE} (open it in a browser)")
