"""`make gpu`: check and measure everything on a machine with one GPU, within a limit of minutes and without a network.

First imports are checked. Where some are missing, wheels that travelled along (`make gpu-wheels`) are unpacked into a
temporary folder; nothing is installed. Then every part runs in processes of its own and writes JSON into the output
folder. A part that there is no time left for is skipped, and gpu.json says so. `--dry` runs all of it on the CPU with
tiny shapes.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
SPARE = 10
"""Seconds kept for the summary."""
LARGE = "--shape large --batch 32 --precision bf16 --device cuda --json {out}"
TINY = (
    "--shape tiny --vocabulary 70098 --batch 2 --length 32 --prompt-length 4 --precision bf16 --device cpu --json {out}"
)
COMPILED = "--skip-memory --sides ours compiled"
SIDES = "--sides ours peft-bf16 peft"
VERSIONS = """
import json, sys
import gguf, numpy, peft, torch, transformers
import glotprompt.protocol, glotprompt.serve.api
gpu = torch.cuda.is_available()
print(json.dumps({
    "python": sys.version.split()[0], "torch": torch.__version__, "transformers": transformers.__version__,
    "numpy": numpy.__version__, "cuda": torch.version.cuda, "gpu": torch.cuda.get_device_name() if gpu else None,
    "memory": torch.cuda.get_device_properties(0).total_memory if gpu else None,
}))
"""


@dataclass(frozen=True)
class Part:
    """One thing to run: words after the Python interpreter, on a GPU and in a dry run."""

    name: str
    least: int
    """Seconds that it needs to be worth starting."""
    most: int
    """Seconds after which it is cut short, so that others get their turn; in a dry run, five times as many."""
    words: str
    dry: str


PARTS = (
    Part("tests", 60, 200, "-m pytest -q -W default -m gpu -n 4 --junitxml {work}/tests.xml tests/gpu",
         "-m pytest -q -W default -m 'gpu and not slow' -n 0 --gpu-dry --junitxml {work}/tests.xml tests/gpu"),
    Part("stage1", 60, 150, f"{{b}}/stage1.py --length 256 --rounds 5 {SIDES} {LARGE}",
         f"{{b}}/stage1.py --rounds 1 --skip-memory {SIDES} {TINY}"),
    Part("paper_stage1", 40, 90, "{b}/gpu/paper_stage1.py --json {out}/paper_stage1.json {text}",
         "{b}/gpu/paper_stage1.py --steps 3 --batch 2 --length 16 --device cpu --json {out}/paper_stage1.json {text}"),
    Part("stage2", 40, 90, f"{{b}}/stage2.py --rounds 3 --examples 512 {LARGE}",
         f"{{b}}/stage2.py --rounds 1 --examples 8 {TINY}"),
    Part("prediction", 40, 90, f"{{b}}/prediction.py --rounds 3 --examples 128 {LARGE}",
         f"{{b}}/prediction.py --rounds 1 --examples 8 --languages 3 {TINY}"),
    Part("profile", 30, 60, f"{{b}}/gpu/step_profile.py --length 256 {LARGE}/profile.json",
         f"{{b}}/gpu/step_profile.py --rounds 1 {TINY}/profile.json"),
    Part("compiled", 60, 150, f"{{b}}/stage1.py --length 256 --rounds 3 {COMPILED} {LARGE}/compiled.json",
         f"{{b}}/stage1.py --rounds 1 {COMPILED} {TINY}/compiled.json"),
)  # fmt: skip
"""In the order of what is wanted most."""


def main(arguments: Sequence[str]) -> int:
    started = time.monotonic()
    options = _options(arguments)
    out: Path = options.output.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        environment = _environment()
        machine, lacking = _looked_at(environment, options.dry)
        if lacking and options.wheels.is_file():
            environment = _environment(_unpacked(options.wheels, work))
            machine, lacking = _looked_at(environment, options.dry)
        summary: dict[str, Any] = {"dry": options.dry, "machine": machine, "lacking": lacking, "parts": {}}
        if not lacking:
            deadline = started + 60 * options.minutes - SPARE
            run = _runner(options, out, work, environment)
            for part in PARTS:
                if not options.only or part.name in options.only:
                    summary["parts"][part.name] = _run(part, deadline, run)
                    summary["parts"].get("tests", {}).update(_test_figures(work / "tests.xml"))
                    _write(summary, out, started)  # after each: whoever watches over the time may end it all
    _write(summary, out, started)
    print(json.dumps({name: summary[name] for name in ("figures", "seconds")}, indent=2))
    for line in lacking:
        print(f"lacking: {line}", file=sys.stderr)
    if lacking:
        print(
            "make gpu-wheels fetches packages for a machine without a network; see docs/howto/gpu.md", file=sys.stderr
        )
    return int(bool(lacking) or any(part["status"] != "done" for part in summary["parts"].values()))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("gpu-output"), help="folder for the JSON files")
    parser.add_argument("--dry", action="store_true", help="on the CPU, with tiny shapes")
    parser.add_argument("--minutes", type=float, default=9, help="when to have ended (default: 9)")
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS], help="these parts alone")
    parser.add_argument(
        "--wheels", type=Path, default=ROOT / ".gpu" / "wheels.tar.xz", help="what make gpu-wheels wrote"
    )
    parser.add_argument("--text", type=Path, help="target text of paper_stage1 (default: synthetic)")
    return parser.parse_args(arguments)


def _environment(site: Path | None = None) -> dict[str, str]:
    """What the parts' processes see: this checkout before unpacked wheels before what the machine has."""
    paths = [str(ROOT / "src"), *([] if site is None else [str(site)]), os.environ.get("PYTHONPATH", "")]
    ours = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **ours, "TOKENIZERS_PARALLELISM": "false"}


def _unpacked(wheels: Path, work: Path) -> Path:
    """A folder with the packages of an archive of wheels."""
    with tarfile.open(wheels) as tar:
        tar.extractall(work / "wheels", filter="data")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    pip += ["--disable-pip-version-check", "--target", str(work / "site")]
    subprocess.run([*pip, *map(str, (work / "wheels").glob("*.whl"))], check=True)
    return work / "site"


def _looked_at(environment: dict[str, str], dry: bool) -> tuple[dict[str, Any], list[str]]:
    """Versions and GPU of the machine, and a line for each thing that it lacks."""

    def output(*words: str) -> tuple[str, str]:
        ended = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
        return ended.stdout.strip(), ended.stderr.strip() if ended.returncode else ""

    lines, failed = output(str(BENCHMARKS / "gpu" / "needs.py"))
    lacking = failed.splitlines()[-1:] or lines.splitlines()
    versions, failed = output("-c", VERSIONS)
    if failed:
        return {}, [*lacking, failed.splitlines()[-1]]
    machine = json.loads(versions)
    if not dry and machine["gpu"] is None:
        lacking.append("a CUDA device (make gpu DRY=1 runs on the CPU)")
    return machine, lacking


def _runner(options: argparse.Namespace, out: Path, work: Path, environment: dict[str, str]) -> Callable[..., Any]:
    """A function that starts a part and returns its status and the end of what it printed."""
    text = [] if options.text is None else ["--text", str(options.text.absolute())]

    def run(part: Part, seconds: float) -> tuple[str, str]:
        line = part.dry if options.dry else part.words
        places = {"out": out, "work": work, "b": BENCHMARKS}
        words = [word.format(**places) for word in shlex.split(line) if word != "{text}"]
        words += text if "{text}" in line else []
        log = work / f"{part.name}.log"
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            most = part.most * (5 if options.dry else 1)
            try:
                status = "done" if process.wait(timeout=min(seconds, most)) == 0 else "failed"
            except subprocess.TimeoutExpired:
                status = "cut short"
            finally:  # also of an interrupted run
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        return status, log.read_text(encoding="utf-8", errors="replace")[-4000:]

    return run


def _run(part: Part, deadline: float, run: Callable[..., Any]) -> dict[str, Any]:
    """Status, seconds, and what was printed last."""
    seconds_left = deadline - time.monotonic()
    if seconds_left < part.least:
        print(f"{part.name}: skipped, {seconds_left:.0f} s left and {part.least} needed", flush=True)
        return {"status": "skipped", "note": f"{seconds_left:.0f} s were left, {part.least} are needed"}
    began = time.monotonic()
    status, log = run(part, seconds_left)
    seconds = round(time.monotonic() - began, 1)
    print(f"{part.name}: {status} after {seconds} s", flush=True)
    if status != "done":
        print(log, flush=True)
    return {"status": status, "seconds": seconds, "log": log.splitlines()[-30:]}


def _write(summary: dict[str, Any], out: Path, started: float) -> None:
    summary["figures"] = _figures(out)
    summary["seconds"] = round(time.monotonic() - started, 1)
    (out / "gpu.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _test_figures(path: Path) -> dict[str, Any]:
    """Counts, and the failures in a line each."""
    if not path.is_file():
        return {}
    cases = list(ElementTree.parse(path).iter("testcase"))
    failed = [(case, problem) for case in cases for kind in ("failure", "error") for problem in case.iter(kind)]
    return {
        "tests": len(cases),
        "skipped": sum(case.find("skipped") is not None for case in cases),
        "failures": [f"{case.get('name')}: {(problem.get('message') or '')[:300]}" for case, problem in failed],
    }


def _figures(out: Path) -> dict[str, Any]:
    """What is asked for by name, from the parts' files."""

    def read(name: str) -> dict[str, Any]:
        path = out / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    stage1, stage2, prediction = read("stage1"), read("stage2"), read("prediction")
    paper, compiled = read("paper_stage1"), read("compiled")
    a_step = stage1.get("sides", {}).get("ours", {}).get("seconds", {}).get("median")
    ratio = compiled.get("ratios", {}).get("compiled", {}).get("median")
    return {
        "stage1_tokens_per_second": stage1.get("tokens_per_second"),
        "stage1_times_peft_fp32": stage1.get("ratio"),
        "stage1_times_peft_bf16": stage1.get("ratio_same_dtype"),
        "stage1_share_of_matrix_rate": stage1.get("gemm", {}).get("share_of_square"),
        "stage1_share_of_rate_at_its_sizes": stage1.get("share_of_gemm"),
        "stage1_bytes_beyond_model": stage1.get("memory"),
        "stage1_hours_for_100000_steps": None if a_step is None else a_step * 100_000 / 3600,
        "stage2_times_peft": {name: row["ratio"] for name, row in stage2.get("k", {}).items()},
        "prediction_times_peft": prediction.get("ratio_same_dtype"),
        "bundled_hours_for_100000_steps": paper.get("projected_hours"),
        "compiled_times_as_fast": None if ratio is None else 1 / ratio,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
