"""Thousands of classifiers behind one random: how much memory do they take, and how long until all are served?

The files are copies of one classifier of noise on the bundled random, with a card and example texts; the disk is as
warm as writing them left it. Counted is what the process holds beyond the loaded backbone and its first predictions:
after opening all files, and at its peak while each of them is asked once, mapped files included.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from memory import resident
from report import positive

import glotprompt as gp
from glotprompt.data.samples import MOST_CHARACTERS, NUM_SAMPLES, Samples
from glotprompt.inference.predictor import Predictor
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.serve.registry import Registry
from glotprompt.training.memory import PeakMemory

TOGETHER = 50
"""Classifiers in one batch."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classifiers", type=positive, default=2000)
    parser.add_argument("--cache-megabytes", type=positive, default=256, help="as of `glotprompt serve`")
    parser.add_argument("--folder", type=Path, default=None, help="where to write the files; default: a temporary one")
    options = parser.parse_args(arguments)
    backbone = gp.Backbone.load("mini", device="cpu")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, budget = Path(name), options.cache_megabytes * 2**20
        first = _first(backbone, folder)
        for number in range(1, options.classifiers):
            shutil.copyfile(first, folder / f"{number}.safetensors")
        whole = first.stat().st_size * options.classifiers
        gp.Predictor(backbone, {"0": gp.PromptClassifier.load(first, backbone)}).predict([("0", "a text")] * TOGETHER)
        before, start = resident(), time.perf_counter()
        registry = Registry(folder, backbone, budget)
        opened, count = time.perf_counter() - start, len(registry.snapshot())
        assert count == options.classifiers, registry.errors()
        memory, peak, start = resident() - before, PeakMemory(), time.perf_counter()
        predictor = Predictor(backbone, registry)
        for first_one in range(0, count, TOGETHER):
            numbers = range(first_one, min(first_one + TOGETHER, count))
            predictor.predict([(str(number), "a text") for number in numbers])
            assert registry.cached_bytes <= budget
        seconds = time.perf_counter() - start
        print(f"{count:,} files of {whole / 2**20 / count:.2f} MB, {whole / 2**20:,.0f} MB together")
        print(f"opened in {opened:.1f} s; {memory / 2**20:,.0f} MB held, {memory / 2**10 / count:.1f} kB each")
        print(
            f"each asked once in {seconds:.1f} s; at most {(peak.bytes() - before) / 2**20:,.0f} MB beyond the random,"
        )
        print(f"of which {registry.cached_bytes / 2**20:,.0f} MB decoded (the limit is {options.cache_megabytes} MB)")
        start = time.perf_counter()
        registry.reload()
        print(f"a look at the disk that finds nothing new: {time.perf_counter() - start:.2f} s")


def _first(backbone: gp.Backbone, folder: Path) -> Path:
    vectors = torch.randn(backbone.prompt_shape(32), generator=torch.Generator().manual_seed(0))
    samples = Samples("target", ("x" * MOST_CHARACTERS,) * NUM_SAMPLES)
    task = gp.Task.load("news")
    classifier = gp.PromptClassifier(backbone, SoftPrompt(vectors), task, "sna", 128, samples=samples)
    return classifier.save(folder / "0.safetensors")


if __name__ == "__main__":
    main(sys.argv[1:])
