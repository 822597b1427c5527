"""The files that the command lines of `commands` find where they run: text, tables, a task, a grid, two datasets."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

TOPICS = {"sports": "play", "health": "water", "business": "king"}
"""From a label to the word that texts of it repeat: so plain that prompts on random weights can learn it."""
TASK = 'template = "{mask} : {text}"\n[verbalizer]\nsports = "Sports"\nhealth = "Health"\nbusiness = "Business"\n'
GRID = """
title = "Toy"
draw = "table2"
dataset = "masakhanews"
source = "hau"
targets = ["sna", "yor"]
train = ["masakhanews:hau:train"]
dev = "masakhanews:hau:dev"
source_texts = ["masakhanews:hau:train"]
task = "task.toml"
methods = ["soft-prompt", "prompt-tuning", "mad-x"]
seeds = [0]
input = "headline"
model = "tiny"
precision = "fp32"
[adapt]
steps = 3
batch_size = 4
max_length = 16
prompt_length = 4
learning_rate = 0.05
[tune]
epochs = 4
learning_rate = 0.1
clip_norm = 100
batch_size = 8
max_length = 16
prompt_length = 4
init_std = 0.5
"""


def build(folder: Path, backbone: Path, assets: Path) -> None:
    """Always the same files. `backbone` is a tiny one in a folder, copied to `tiny`."""
    shutil.copytree(backbone, folder / "tiny")
    english, invented = ((assets / name).read_text(encoding="utf-8") for name in ("english.txt", "invented.txt"))
    sides = zip(english.splitlines(), invented.splitlines(), strict=True)
    draw = random.Random(0)
    files = {
        "eng.txt": english, "nya.txt": invented, "sna.txt": invented.replace("a", "o"),
        "pairs.tsv": "".join(f"{one}\t{other}\n" for one, other in sides),
        "train.tsv": _table(draw, 10), "test.tsv": _table(draw, 7), "task.toml": TASK, "toy.toml": GRID,
        "other-labels.tsv": "text\tlabel\nplay\tweather\n", "no-label.tsv": "text\ttopic\nplay\tsports\n",
        "data/xnli/dev-sw.tsv": "moja\tmbili\tneutral\n" * 2,
        "data/xnli/test-sw.tsv": "tatu\tnne\tentailment\ntano\tsita\tmaybe\nsaba\n",
    }  # fmt: skip
    for language in ("hau", "sna", "yor"):
        for split, count in (("train", 8), ("dev", 2), ("test", 4)):
            files[f"data/masakhanews/{language}/{split}.tsv"] = _news(draw, count)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def _words(draw: random.Random, label: str) -> str:
    words = [TOPICS[label]] * draw.randint(2, 7)
    return " ".join([*words, *draw.choices(("the", "day"), k=draw.randint(0, 1))])


def _table(draw: random.Random, count: int) -> str:
    rows = [f"{_words(draw, label)}\t{label}" for _ in range(count) for label in TOPICS]
    return "\n".join(["text\tlabel", *rows]) + "\n"


def _news(draw: random.Random, count: int) -> str:
    text = ("the", "king", "water", "day", "night", "river", "bridge", "house", "old", "man", "woman")
    rows = [
        f"{label}\t{_words(draw, label)}\t{' '.join(draw.choices(text, k=9))}\turl"
        for label in TOPICS
        for _ in range(count)
    ]
    return "\n".join(["category\theadline\ttext\turl", *rows]) + "\n"
