"""Command lines in processes of their own that start in a moment: forked from a server that has imported torch.

The import takes a new interpreter four seconds of processor time. How the program itself starts is tested in
tests/cli/test_program.py, and how the installed one is killed among the long tests of tests/cli/test_interruption.py.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Sequence
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest

IMPORTED = ["glotprompt.cli.backbone", "glotprompt.cli.files", "glotprompt.protocol", "glotprompt.serve.api"]
CODE = """
import gc, os, signal, sys
from importlib.metadata import entry_points
gc.freeze()
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
os.environ.update({environment!r})
os.chdir({folder!r})
os.dup2(os.open({err!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
sys.argv = ["glotprompt", *{words!r}]
(script,) = entry_points(group="console_scripts", name="glotprompt")
sys.exit(script.load()())
"""
"""As text, because the process cannot import what lies in this folder."""


@cache
def context() -> ForkServerContext:
    """Whose processes come from the server."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        # Threads that wait for each other make a busy machine crawl, and tiny backbones need none.
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return found


def start(words: Sequence[str | Path], err: Path, **environment: str) -> ForkServerProcess:
    """Start a command line in this working directory; it writes its standard error at the end of `err`."""
    line = list(map(str, words))
    code = CODE.format(environment=environment, folder=str(Path.cwd()), err=str(err), words=line)
    process = context().Process(target=exec, args=(code,))
    process.start()
    return process


def wait_for(pattern: str, err: Path, process: ForkServerProcess) -> str:
    """What of its standard error matches, once it does."""
    while True:
        has_ended = process.exitcode is not None
        text = err.read_text(encoding="utf-8") if err.exists() else ""
        if found := re.search(pattern, text, re.MULTILINE):
            return found[0]
        assert not has_ended, f"it ended with status {process.exitcode}: {text}"
        time.sleep(0.01)


def interrupt(process: ForkServerProcess) -> None:
    """As Ctrl-C does, and wait for the end."""
    assert process.pid
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
