"""A tiny backbone in a folder, and data of nonsense words in the publishers' layouts."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from glotprompt.data.datasets.catalog import dataset
from glotprompt.grid.steps import Workplace
from glotprompt.grid.store import Store

FILES = sorted((Path(__file__).resolve().parents[2] / "experiments").glob("*.toml"))
HELPS = [path for path in FILES if path.stem.startswith("helps_")]
EXPERIMENTS = [path for path in FILES if path not in HELPS]
"""The paper's, and ours on its datasets, which are all among the toy data."""
WORDS = {"sports": "win play field", "health": "hear walk slept", "business": "market bank people"}
NLI = ("entailment", "neutral", "contradiction")
NEWS = ("eng", "hau", "ibo", "lin", "lug", "pcm", "run", "sna", "tir", "yor")


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All datasets that the experiments read, a few rows each."""
    root = tmp_path_factory.mktemp("data")
    draw = random.Random(0)

    def words(number: int) -> str:
        return " ".join("".join(draw.choices("abdegiklmnoru", k=draw.randint(2, 7))) for _ in range(number))

    def write(path: str, rows: list[str]) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("\n".join(rows) + "\n", encoding="utf-8")

    def news(language: str, file: str, count: int, folder: str = "masakhanews") -> None:
        rows = [f"{label}\t{WORDS[label]} {words(3)}\t{words(9)}\turl" for label in WORDS for _ in range(count)]
        write(f"{folder}/{language}/{file}.tsv", ["category\theadline\ttext\turl", *rows])

    for language in NEWS:
        for split, count in (("train", 8), ("dev", 2), ("test", 3)):
            news(language, split, count)
    news("hau", "train.headlines", 3)
    for shots in (5, 10, 20, 50):
        news("hau", "train", shots, f"masakhanews_few_shot/{shots}_samples")
        news("hau", "dev", 2, f"masakhanews_few_shot/{shots}_samples")
    for code in dataset("americasnli").languages:
        for split in ("dev", "test"):
            rows = [f"{n}\t{code}\t{words(5)}\t{words(4)}\t{label}" for n, label in enumerate(NLI * 2)]
            layout = dataset("americasnli").layout
            assert layout is not None
            place = layout.path(root, code, split).relative_to(root)
            write(str(place), ["id\tlanguage\tpremise\thypothesis\tlabel", *rows])
        texts = dataset("americasnlp2021").layout
        assert texts is not None
        for split in ("train", "dev"):
            write(str(texts.path(root, code, split).relative_to(root)), [words(8) for _ in range(20)])
    pairs = [f"{words(5)}\t{words(4)}\t{label}\ttoy\t{n}\tgenre" for n, label in enumerate(NLI * 10)]
    write("nli_en/train.tsv", ["premise\thypothesis\tlabel\tsource\tpairID\tgenre", *pairs])
    for code in ("en", "es", "fr", "sw"):
        for split in ("dev", "test"):
            write(f"xnli/{split}-{code}.tsv", [f"{words(5)}\t{words(4)}\t{label}" for label in NLI])
    return root


@pytest.fixture
def place(tmp_path: Path, toy_data: Path) -> Workplace:
    return Workplace(Store(tmp_path / "grid"), toy_data, device="cpu")


@pytest.fixture(scope="session")
def write_experiment(tiny_folder: Path) -> Callable[[Path], Path]:
    """Writes a small experiment on the tiny backbone, and its task of three topics beside it."""

    def write(path: Path) -> Path:
        path.write_text(_TOY.format(model=tiny_folder, folder=path.parent), encoding="utf-8")
        (path.parent / "task.toml").write_text(
            'template = "{mask} : {text}"\n[verbalizer]\nsports = "Sports"\nhealth = "Health"\nbusiness = "Business"\n',
            encoding="utf-8",
        )
        return path

    return write


_TOY = """
title = "Toy"
draw = "table2"
dataset = "masakhanews"
source = "hau"
targets = ["sna", "yor"]
train = ["masakhanews:hau:train", "masakhanews:hau:headlines"]
dev = "masakhanews:hau:dev"
source_texts = ["masakhanews:hau:train"]
task = "{folder}/task.toml"
methods = ["soft-prompt", "prompt-tuning", "mad-x"]
seeds = [0]
input = "headline"
model = "{model}"
precision = "fp32"

[adapt]
steps = 3
batch_size = 4
max_length = 16
prompt_length = 4
eval_sequences = 4

[tune]
epochs = 3
learning_rate = 0.02
batch_size = 16
max_length = 16
prompt_length = 4
"""


@pytest.fixture
def experiment_file(tmp_path: Path, write_experiment: Callable[[Path], Path]) -> Path:
    return write_experiment(tmp_path / "toy.toml")


FOLDS = """
title = "Verses"
dataset = "taxi1500"
source = "eng"
targets = ["glv"]
train = ["taxi1500:eng:train", "taxi1500:eng:dev", "taxi1500:eng:test"]
folds = 3
task = "verses.toml"
methods = ["embedding", "taught"]
seeds = [0]
model = "{model}"
precision = "fp32"
preset = "alignment"
reference = "embedding"
[pairs]
glv = ["bible_verses:glv"]
[read]
on_bad_row = "skip"
[systems.taught]
method = "embedding"
self_train = true
centred = true
"""


@pytest.fixture
def verse_file(tmp_path: Path, verse_data: Path, tiny_folder: Path) -> Path:
    labels = "\n".join(f'{label} = "{label}"' for label in dataset("taxi1500").labels)
    (tmp_path / "verses.toml").write_text(f'template = "{{mask}} : {{text}}"\n[verbalizer]\n{labels}\n', "utf-8")
    (tmp_path / "folds.toml").write_text(FOLDS.format(model=tiny_folder), encoding="utf-8")
    return tmp_path / "folds.toml"
