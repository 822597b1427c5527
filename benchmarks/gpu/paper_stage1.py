"""The paper's stage 1 on the bundled backbone, by the command line: some steps, and what all 100,000 would take.

The text is a file that the user names, or made of the backbone's own vocabulary: tokens by Zipf's law, which is enough
for time and memory and says nothing of accuracy.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glotprompt.cli import main as glotprompt
from glotprompt.config import AdaptConfig
from glotprompt.model.loading import MINI, folder_of, read_tokenizer

LINES, TOKENS_A_LINE = 2000, 60


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=AdaptConfig().batch_size)
    parser.add_argument("--length", type=int, default=AdaptConfig().max_length)
    parser.add_argument("--text", type=Path, help="unlabelled target text, a text a line")
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        target = options.text or synthetic_text(folder / "target.txt", 0)
        words = [
            "adapt",
            "--model",
            MINI,
            "--preset",
            "paper",
            "--target",
            target,
            "--source",
            synthetic_text(folder / "source.txt", 1),
        ]
        words += ["--language", "und", "--steps", options.steps, "--device", options.device]
        words += ["--batch-size", options.batch, "--max-length", options.length]
        words += ["--output", folder / "und.safetensors", "--json", folder / "adapt.json"]
        if status := glotprompt([str(word) for word in words]):
            raise SystemExit(status)
        (report,) = json.loads((folder / "adapt.json").read_text(encoding="utf-8"))["prompts"]
    a_step, of_paper = report["seconds"] / report["steps"], AdaptConfig().steps
    figures = {
        "backbone": MINI, "text": "given" if options.text else "synthetic", "settings": report["config"],
        "steps": report["steps"], "seconds": report["seconds"],
        "tokens_per_second": report["tokens"] / report["seconds"],
        "seconds_a_step": a_step, "paper_steps": of_paper, "projected_hours": a_step * of_paper / 3600,
        "losses": report["losses"], "peak_memory_bytes": report.get("peak_memory_bytes"),
    }  # fmt: skip
    options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"{a_step * 1000:.1f} ms a step, {of_paper:,} steps: {figures['projected_hours']:.2f} hours")


def synthetic_text(path: Path, seed: int) -> Path:
    """A file of synthetic lines."""
    tokenizer = read_tokenizer(folder_of(MINI))
    generator = np.random.default_rng(seed)
    free = generator.permutation(np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids))
    weights = 1 / np.arange(1, len(free) + 1)
    picked = generator.choice(free, (LINES, TOKENS_A_LINE), p=weights / weights.sum())
    lines = [str(tokenizer.decode(row.tolist())).replace("\n", " ") for row in picked]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    main(sys.argv[1:])
