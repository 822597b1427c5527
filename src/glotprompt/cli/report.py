"""`report`: tables and figures of what a grid found."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from glotprompt.cli.screen import check_output, note, say
from glotprompt.errors import MissingExtraError, UserError


def report(
    results: Annotated[
        str, typer.Argument(metavar="DIR|URL", help="What `glotprompt grid --output` wrote, or the URL it wrote to.")
    ],
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for index.html, results.md, figures/ and tables/.")
    ] = Path("report"),
    markdown: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Another place for results.md, such as docs/results.md; links follow."),
    ] = None,
) -> None:
    """Make the tables and figures of a grid: one HTML page, Markdown, CSV and LaTeX.

    What is missing stands as a dash and is listed; a grid that is under way can be reported at any time. A file
    reading.md in DIR, what a person makes of the results, is put in front.
    """
    for module in ("jinja2", "matplotlib"):
        if find_spec(module) is None:
            raise MissingExtraError("The report", "report")
    from glotprompt.grid.remote import copy_results, named

    place = named(results)
    if isinstance(place, Path) and not place.is_dir():
        raise UserError(f"{place} is no folder; give what `glotprompt grid ... --output` wrote")
    if output.is_file():
        raise UserError(f"--output {output} is a file; give a folder")
    if markdown is not None:
        check_output(markdown, "--markdown")
    from glotprompt.report.report_files import MARKDOWN, PAGE, write_report

    with TemporaryDirectory() as copied:
        if isinstance(place, str):
            copy_results(place, Path(copied))
        folder = place if isinstance(place, Path) else Path(copied)
        made = write_report(folder, output, markdown, lambda name: note(f"drawing {name}"))
    say(f"{made.title}: {made.lead}")
    note(f"wrote {output / MARKDOWN if markdown is None else markdown} and {output / PAGE} (open it in a browser)")
