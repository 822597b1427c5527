"""`report`: tables and figures of a grid's results."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

from glotprompt.cli.declare import Params
from glotprompt.cli.screen import note, say
from glotprompt.cluster.remote import copy_results, named
from glotprompt.errors import UserError
from glotprompt.grid.pack import ENDING, unpack
from glotprompt.grid.pack import pack as write_packed
from glotprompt.grid.store import Store
from glotprompt.report.results import READING
from glotprompt.report.results_page import MARKDOWN, PAGE, write_report


def report(params: Params) -> None:
    """Make the report of a folder, of a copy from a URL, or of what is in a packed file."""
    output, markdown, pack = params["output"], params["markdown"], params["pack"]
    place = named(params["results"])
    packed = isinstance(place, Path) and place.name.endswith(ENDING)
    if isinstance(place, Path) and not (packed or place.is_dir()):
        raise UserError(
            f"{place} is no folder; give what `glotprompt grid ... --output` wrote, or a file of --pack (*{ENDING})"
        )
    if pack is not None and not pack.name.endswith(ENDING):
        raise UserError(f"--pack {pack}: the name must end in {ENDING}")
    if output.is_file():
        raise UserError(f"--output {output} is a file; give a folder")

    with TemporaryDirectory() as copied:
        folder = Path(copied)
        if isinstance(place, str):
            copy_results(place, folder)
        elif packed:
            unpack(place, Store(folder))
            with suppress(FileNotFoundError):  # what a person made of them lies beside the file
                copy(place.with_name(f"{place.name.removesuffix(ENDING)}.md"), folder / READING)
        else:
            folder = place
        if pack is not None:
            write_packed(Store(folder), pack)
        page = write_report(folder, output, markdown, lambda name: note(f"drawing {name}"))
    say(f"{page.title}: {page.lead}")
    if pack is not None:
        note(f"wrote {pack}")
    note(f"wrote {output / MARKDOWN if markdown is None else markdown} and {output / PAGE} (open it in a browser)")
