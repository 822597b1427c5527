"""Runs docs/tutorial.md in an empty folder, with `glotprompt` on the path, and says how long each step took.

python .ci/tutorial.py FOLDER
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

BLOCK = re.compile(r'^## ([^\n]*)$|^```(\w+)(?: title="(\S+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"


def run(line: str, folder: Path) -> subprocess.Popen[bytes] | None:
    """Run one line of the tutorial; `serve` stays, and is returned."""
    print(f"$ {line}", flush=True)
    if not line.startswith("glotprompt serve"):
        subprocess.run(line, shell=True, cwd=folder, check=True)
        return None
    server = subprocess.Popen(["exec " + line], shell=True, cwd=folder)
    for _ in range(600):
        try:
            with urllib.request.urlopen(ADDRESS, timeout=1):
                return server
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server does not answer")


def now() -> tuple[float, float]:
    """Minutes by the clock, and of processor time in the programs that have ended."""
    times = os.times()
    return times.elapsed / 60, (times.children_user + times.children_system) / 60


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
    step, minutes, server = "", dict[str, list[float]](), None
    for heading, kind, title, content in BLOCK.findall(text):
        step = heading or step
        start = now()
        if title:
            (folder / title).write_text(content, encoding="utf-8")
            if title.endswith(".py"):
                subprocess.run([sys.executable, title], cwd=folder, check=True)
        elif kind == "bash":
            for line in content.splitlines():
                if not line.startswith("pip install"):  # it is installed already
                    server = run(line, folder) or server
        spent = [end - begin for begin, end in zip(start, now(), strict=True)]
        minutes[step] = [sum(both) for both in zip(minutes.get(step, [0, 0]), spent, strict=True)]
    if server is not None:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    total = [sum(column) for column in zip(*minutes.values(), strict=True)]
    for name, (elapsed, processor) in {**minutes, "all": total}.items():
        if elapsed > 0.001:
            print(f"{elapsed:6.1f} min, {processor:5.1f} min of processor time  {name}")


main(Path(sys.argv[1]))
