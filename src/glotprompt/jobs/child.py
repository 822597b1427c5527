"""`python -m glotprompt.jobs.child WORDS`: one command line, which ends with the program that started it.

Its standard input is a pipe that nobody writes to. The pipe closes when the parent says so or is gone, however it went.
The command is then interrupted as by Ctrl-C, so what it has trained lies in its checkpoints.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading
import time

GRACE_SECONDS = 10.0
"""How long an interrupted command may take to end."""


def main() -> None:
    """Run the command line of `sys.argv`."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(5)  # the page stays quick
    runpy.run_module("glotprompt", run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    os.read(0, 1)  # not through sys.stdin, whose lock the end of the program would wait for
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE_SECONDS)
    os._exit(130)


if __name__ == "__main__":
    main()
