"""Runs docs/tutorial.md as it stands, in an empty folder with `glotprompt` on the path, and says how long each step took.

    python .ci/tutorial.py FOLDER
"""

from __future__ import annotations

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


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
    step, seconds, server = "", dict[str, float](), None
    for heading, kind, title, content in BLOCK.findall(text):
        step = heading or step
        start = time.monotonic()
        if title:
            (folder / title).write_text(content, encoding="utf-8")
            if title.endswith(".py"):
                subprocess.run([sys.executable, title], cwd=folder, check=True)
        elif kind == "bash":
            for line in content.splitlines():
                if not line.startswith("pip install"):  # it is installed already
                    server = run(line, folder) or server
        seconds[step] = seconds.get(step, 0) + time.monotonic() - start
    if server is not None:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    for name, spent in seconds.items():
        if spent > 0.05:
            print(f"{spent / 60:6.1f} min  {name}")
    print(f"{sum(seconds.values()) / 60:6.1f} min  all")


main(Path(sys.argv[1]))
