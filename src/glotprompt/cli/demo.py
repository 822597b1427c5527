"""`demo`: the whole story on real text."""

from __future__ import annotations

from glotprompt.cli.declare import Params
from glotprompt.cli.program import as_typed
from glotprompt.cli.screen import note, resumable, write_json
from glotprompt.cli.tables import console
from glotprompt.data.datasets.dataset import given_folder
from glotprompt.data.datasets.github import verse_folder
from glotprompt.demo.output import RESULT
from glotprompt.demo.page import write_demo_page
from glotprompt.demo.run import run_demo
from glotprompt.demo.terminal import print_demo
from glotprompt.errors import ConfigError, UserError
from glotprompt.spec import alone

PAGE = "demo.html"
_CHANGE_NOTHING = ("output", "json", "precision")
"""Options that do not belong to the command in the result."""


def demo(params: Params) -> None:
    """Train everything, and write the page."""
    scenario, output, fast = params["scenario"], params["output"], params["fast"]
    target, data_dir = params["language"], params["data_dir"]
    seeds, steps = params["seed"], params["steps"]
    if scenario == "bible" and (target, data_dir) != (None, None):
        raise ConfigError("--language and --data-dir belong to --scenario news and manx; bible is English to Chichewa")
    if scenario != "manx" and (seeds, steps) != (None, None):
        raise ConfigError("--seed and --steps belong to --scenario manx; --fast makes the others shorter")
    if output.is_file():
        raise UserError(f"--output {output} is a file; give a folder")
    typed = {name: value for name, value in params.items() if name not in _CHANGE_NOTHING}
    with alone(output, output, note), resumable(output):
        for name in (RESULT, PAGE):  # if this run is killed, those of an earlier one are not its
            (output / name).unlink(missing_ok=True)
        if scenario == "manx" and given_folder(data_dir) is None:
            data_dir = verse_folder(target or "glv", output / "data", note)
        result = run_demo(
            scenario=scenario,
            target=target,
            data_dir=data_dir,
            fast=fast,
            seeds=seeds,
            steps=steps,
            output=output,
            command=as_typed("demo", typed),
            precision=params["precision"],
            tell=note,
        )
    page = output / PAGE
    write_demo_page(result, page)
    print_demo(result, console())
    write_json(params["json"], result.to_json())
    note(f"wrote {page} (open it in a browser)")
