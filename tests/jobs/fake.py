"""Stands for the command line in tests of jobs: says its words, waits while a file `hold` is there, ends as it is told.

A file `fail` makes it fail, `fail-COMMAND` that command. Classifiers are copies of `made.safetensors`, figures those of
`COMMAND.json`, if any.
"""

import json
import os
import select
import shutil
import signal
import sys
from itertools import pairwise
from pathlib import Path

words = sys.argv[1:]
print(" ".join(words), flush=True)
state = {"stage": words[0], "step": 3, "steps": 10, "loss": 1.5, "seconds_left": 7.0}
Path(os.environ["GLOTPROMPT_PROGRESS_FILE"]).write_text(json.dumps(state))
while Path("hold").exists():
    if select.select([0], [], [], 0.02)[0]:
        sys.exit(130)
for fail in (Path("fail"), Path(f"fail-{words[0]}")):
    if fail.exists():
        print(fail.read_text() or "error: this does not work; do something else", file=sys.stderr)
        sys.exit(2)
if Path("killed").exists():
    os.kill(os.getpid(), signal.SIGKILL)
given = dict(pairwise(words))
source = Path(f"{words[0]}.json")
figures = source.read_text() if source.exists() else '{"accuracy": 50.0}'
if "--output" in given and Path("made.safetensors").exists():
    output = Path(given["--output"])
    if words[0] == "compare":
        output = output / "classifier.safetensors"
    output.parent.mkdir(parents=True, exist_ok=True)
    if words[0] == "compare":
        (output.parent / "compare.json").write_text(figures)
    shutil.copyfile("made.safetensors", output)
if "--json" in given:
    Path(given["--json"]).write_text(figures)
sys.exit(3 if words[0] == "doctor" else 0)
