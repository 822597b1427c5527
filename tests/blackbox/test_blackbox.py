"""The program seen from outside: command lines, held against what they came to when they were recorded.

Nothing here knows the inside: the program is what the package installs as `glotprompt`, and what counts is its exit
status, its figures (JSON, CSV and NumPy files, standard output), the names of the files it makes, and its errors. A
change of behaviour makes the record anew, in the same commit and with a line in CHANGELOG.md:

    pytest tests/blackbox --record
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from .. import forked, records, shapes
from . import world
from .commands import ITEMS, KILLED, SERVE, SERVED, STORIES
from .outcomes import files_of, normal, outcome

ASSETS = Path(__file__).parents[1] / "assets"
RECORD = Path(__file__).with_name("records.json")
Run = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def imports_begin() -> None:
    """Those of the processes below, beside the stories."""
    forked.context()


@pytest.fixture
def here(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of `world`, in which the program runs."""
    folder = tmp_path / "here"
    world.build(folder, tiny_folder, ASSETS)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("GLOTPROMPT_DATA", raising=False)
    for name, value in (("GLOTPROMPT_CACHE", str(tmp_path / "cache")), ("OMP_NUM_THREADS", "1"), ("COLUMNS", "200")):
        monkeypatch.setenv(name, value)
    return folder


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command line in this process, by the console script."""
    (script,) = entry_points(group="console_scripts", name="glotprompt")
    program = script.load()
    monkeypatch.setattr(shapes, "ENOUGH", 0)  # checks of shapes are of the inside, and cost a third of the time
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)  # `python -m pytest` is not the program's name

    def line(words: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["glotprompt", *shlex.split(words)])
        before = files_of(here)
        capsys.readouterr()
        try:
            status: Any = program()
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return outcome(words, here, before, status or 0, out, err)

    return line


def check(name: str, found: Any, record: bool) -> None:
    """Hold what was found against the record of that name, or make it the record."""
    known = records.read(RECORD) if RECORD.exists() else {}
    if record:
        kept = {**STORIES, "killed": {}, "served": {}}
        records.write(RECORD, {key: value for key, value in {**known, name: found}.items() if key in kept})
        return
    apart = list(records.differences(known.get(name), found))
    assert not apart, "\n".join([f"{name!r} came to something else in {len(apart)} places:", *apart[:20]])


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_story(story: str, run: Run, record: bool) -> None:
    check(story, {name: run(words) for name, words in STORIES[story].items()}, record)


@pytest.fixture
def said(here: Path) -> Path:
    """Where processes write their standard error."""
    return here.parent / "said.txt"


@pytest.fixture
def start(here: Path, said: Path) -> Iterator[Callable[[str], ForkServerProcess]]:
    """A command line in a process of its own, killed when the test is over."""
    begun: list[ForkServerProcess] = []

    def begin(words: str) -> ForkServerProcess:
        begun.append(forked.start(shlex.split(words), said))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.join()


@pytest.mark.slow
def test_killed_and_started_again(here: Path, run: Run, start: Callable[..., Any], record: bool) -> None:
    """The record is that of a run that nobody killed."""
    if record:
        check("killed", run(KILLED), record)
        return
    given = files_of(here)
    process = start(KILLED)
    while process.exitcode is None and not files_of(here).keys() - given.keys():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it was over before it could be killed"
    left = files_of(here).keys() - given.keys()
    assert left, "nothing to go on from"
    assert "killed.st" not in left
    again = run(KILLED)
    assert not left & files_of(here).keys(), "what it went on from is still there"
    check("killed", again, record)


@pytest.mark.slow
def test_served(here: Path, run: Run, start: Callable[..., Any], said: Path, record: bool) -> None:
    """One request in many languages, and a stop by Ctrl-C."""
    for adapt, tune in SERVED.values():
        assert run(adapt)["status"] == run(tune)["status"] == 0
    process = start(SERVE)
    address = forked.wait_for(r"http://\S+", said, process)
    body, kind = json.dumps({"items": ITEMS}).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/v1/predict", body, kind)
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.load(answer)
    forked.interrupt(process)
    last = said.read_text(encoding="utf-8").splitlines()[-1]
    check("served", normal({"answer": found, "status": process.exitcode, "last": last}, here), record)


def test_no_record_is_left_over() -> None:
    assert records.read(RECORD).keys() == {*STORIES, "killed", "served"}
