"""Saved files and model folders that nobody would write: each is opened as the commands open it, and must work or be
refused in one line; what makes no sense must be refused. The test beside it tries a few, this program any number:

    python tests/fuzz/artifacts.py --artifacts 1000 --folders 200 [--seed 0]

Files that go wrong are kept in the folder that it names, and it ends with status 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForMaskedLM, AutoTokenizer, XLMRobertaConfig

import glotprompt as gp
from glotprompt.errors import UserError, is_out_of_memory
from glotprompt.inference.classifier import LanguageModule, Part, load_adapted
from glotprompt.model.modules.adapters import Adapter
from glotprompt.model.modules.classification import EmbeddingHead, LinearHead
from glotprompt.model.modules.lora import Lora
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.modules.stack import ModuleStack
from glotprompt.model.modules.weights import Weights
from glotprompt.serve.registry import Registry
from glotprompt.storage import artifact

TOKENIZER = Path(__file__).parent.parent / "assets" / "tokenizer"
TASK = gp.Task("topic", "{mask} : {text}", {"health": ["Health", "health"], "sports": "Sports", "culture": "Culture"})
TEXT = "the king water day"
HIDDEN, LAYERS = 48, 3
FREE = {"training", "versions", "samples", "prompt_length", "language"}
"""Metadata that changes no number: anything that is not refused will do."""
MAY_BE_NONE = {"offsets", "characters", "targets", "invertible_reduction"}
JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 1, 7, 10**15, 0.5, float("nan"), float("inf"), 1e308, "", "x", "plain", "a\nb", "\x1b[31m", [],
    [None], [0, 1], ["x", "y"], {}, {"kind": "prompt"}, {"kind": "stack", "parts": []}, [["body", {}], ["head", {}]],
)  # fmt: skip

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """What was done to a file, and whether it may still be taken."""

    what: str
    must_refuse: bool


@dataclass
class Result:
    counts: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class World:
    """A tiny backbone, one file of each kind and method, a model folder."""

    backbone: gp.Backbone
    files: list[Path]
    model: Path


def make_world(folder: Path) -> World:
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=130, type_vocab_size=1, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForMaskedLM.from_config(config).eval()
        backbone = gp.Backbone(model, tokenizer, "tiny")
        plain = gp.PromptClassifier(backbone, SoftPrompt(torch.randn(backbone.prompt_shape(4))), TASK, "nya", 48)
        head = LinearHead(HIDDEN, 3)
        vectors = torch.randn(3, HIDDEN)
        embedding = EmbeddingHead(vectors, torch.zeros(3), torch.zeros(HIDDEN), torch.ones(()), 2)
        adapters = [
            Adapter.initialise(HIDDEN, LAYERS, reduction, 2 if reduction == 2 else None) for reduction in (2, 16)
        ]
        language, task = adapters
        lora = Lora(backbone, 2, 4.0)
        made = {
            "prompt": gp.LanguagePrompt(torch.randn(backbone.prompt_shape(4)), "nya", backbone.reference, "shifted"),
            "lora": LanguageModule("lora", {"language": Part.of(lora)}, "nya", backbone.reference),
            "mad-x": LanguageModule(
                "mad-x", dict.fromkeys(("language", "source"), Part.of(language)), "nya", backbone.reference
            ),
            "clf-prompt": replace(plain, offsets=(0.5, -1.0, 0.25), characters=gp.CharacterMap.fitted({"w": "v"}, [])),
            "clf-linear": replace(plain, head=head),
            "clf-embedding": replace(plain, body=ModuleStack({}), head=embedding, method="embedding"),
            "clf-lora": replace(plain, body=lora, method="lora"),
            "clf-mad-x": replace(plain, body=ModuleStack({"language": language, "task": task}), method="mad-x"),
            "clf-weights": replace(plain, body=Weights.of(backbone), method="fine-tuning"),
        }
    files = [one.save(folder / f"{name}.safetensors") for name, one in made.items()]
    backbone.save_pretrained(folder / "model")
    return World(backbone, files, folder / "model")


# ---------------------------------------------------------------------------------------------------------------
# Saved files


def craft(source: Path, target: Path, draw: random.Random) -> Case:
    """Write a changed copy of a file."""
    kind = next(kind for kind in ("language prompt", "language module", "classifier") if _is(source, kind))
    tensors, metadata = artifact.read_copy(source, kind)
    way = draw.choice((_changed_facts, _changed_facts, _changed_tensor, _changed_tensor, None, None))
    if way is None:
        return draw.choice((_damaged, _changed_header))(source, target, draw)
    case = way(tensors, metadata, draw)
    artifact.write(target, kind, tensors, metadata)
    return case


def _is(path: Path, kind: str) -> bool:
    return artifact.describe(path, ("language prompt", "language module", "classifier"))["kind"] == kind


def _changed_facts(tensors: Tensors, metadata: dict[str, Any], draw: random.Random) -> Case:
    """Something else, or nothing, somewhere in the description, under a right digest."""
    place: Any = metadata
    path: list[Any] = []
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        path.append(draw.choice(keys))
        below = place[path[-1]]
        if not isinstance(below, dict | list) or not below or draw.random() < 0.4:
            break
        place = below
    name, free = ".".join(map(str, path)), bool({*path} & FREE)
    if draw.random() < 0.25:
        old = place.pop(path[-1])
        optional = free or name in (
            "characters",
            "format",
            "kind",
        )  # the last two are written anyway or isinstance(place, list)
        return Case(f"without {name}", not optional)
    old, new = place[path[-1]], _nested(draw.choice((40, 500))) if draw.random() < 0.1 else draw.choice(JUNK)
    place[path[-1]] = json.loads(json.dumps(new))
    same_type = type(new) is type(old) or {type(new), type(old)} == {int, float}
    sensible = free or new == old or (new is None and path[-1] in MAY_BE_NONE) or same_type
    return Case(f"{name} = {str(new)[:40]}", not sensible)


def _nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def _changed_tensor(tensors: Tensors, metadata: dict[str, Any], draw: random.Random) -> Case:
    """Another shape, dtype or name, NaN or infinity, one too few or too many, under a right digest."""
    name = draw.choice(list(tensors))
    value = tensors[name]
    reshaped: dict[str, Callable[[Tensor], Tensor]] = {
        "empty": lambda value: value[:0] if value.ndim else value.reshape(1)[:0],
        "first row": lambda value: value[:1] if value.ndim else value.reshape(1),
        "one head": lambda value: value[:, :, :1] if value.ndim == 5 else value.flatten(),
        "twice": lambda value: torch.cat([value.reshape(-1), value.reshape(-1)]),
        "turned": lambda value: value.movedim(0, -1) if value.ndim > 1 else value[None],
        "deeper": lambda value: value[None],
        "flat": lambda value: value.reshape(1, -1),
    }
    wrong = {"nan": float("nan"), "infinity": float("inf"), "-infinity": -float("inf")}
    dtypes = torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool
    what = draw.choice([*reshaped, *wrong, "dtype", "dropped", "renamed", "added"])
    if what in reshaped:
        tensors[name] = reshaped[what](value).contiguous().clone()
        return Case(f"{name}: {what}", tensors[name].shape != value.shape)
    if what in wrong:
        flat = value.clone().reshape(-1)
        flat[draw.randrange(len(flat))] = wrong[what]
        tensors[name] = flat.reshape(value.shape)
    elif what == "dtype":
        tensors[name] = value.to(draw.choice(dtypes))
    elif what == "added":
        tensors[draw.choice(("x", "key_values.x", "body.x", f"{name}x"))] = torch.ones(2)
    else:
        del tensors[name]
        if what == "renamed":
            tensors[f"{name}."] = value
    return Case(f"{name}: {what}", True)


def _damaged(source: Path, target: Path, draw: random.Random) -> Case:
    """Other bytes."""
    data = bytearray(source.read_bytes())
    end = 8 + int.from_bytes(data[:8], "little")
    what = draw.choice(("bit", "bit", "cut", "more", "length", "zeros"))
    if what == "bit":
        data[draw.randrange(end if draw.random() < 0.7 else len(data))] ^= 1 << draw.randrange(8)
    elif what == "cut":
        del data[draw.randrange(len(data)) :]
    elif what == "more":
        data += bytes(draw.randrange(1, 100))
    elif what == "length":
        data[:8] = draw.choice((0, 1, 2**31, 2**63, 2**64 - 1, end)).to_bytes(8, "little")
    else:
        start = draw.randrange(len(data))
        data[start : start + 16] = bytes(len(data[start : start + 16]))
    target.write_bytes(data)
    return Case(f"damaged: {what}", bytes(data) != source.read_bytes())


def _changed_header(source: Path, target: Path, draw: random.Random) -> Case:
    """Another header before the same bytes."""
    data = source.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8:end])
    name = draw.choice([name for name in header if name != "__metadata__"])
    what = draw.choice(("dtype", "shape", "data_offsets", "metadata", "text", "deep", "entry"))
    text = None
    if what == "dtype":
        header[name]["dtype"] = draw.choice(("I32", "F8_E4M3", "F4", "U16", "U64", "C64", "F6_E2M3", "XX", 3, None))
    elif what in ("shape", "data_offsets"):
        header[name][what] = draw.choice(
            ([], [0], [-1, 4], [0, 2**62], [2**70], ["0", "4"], [0, "x"], {}, None, [0.5, 1])
        )
    elif what == "metadata":
        header["__metadata__"] = draw.choice(JUNK)
    elif what == "text":
        header["__metadata__"][artifact.KEY] = draw.choice(
            ("", "{", "[]", "3", '{"kind": [], "digest": 3}', "[" * 99999)
        )
    elif what == "entry":
        header[name] = draw.choice(JUNK)
    else:
        text = b'{"__metadata__":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    text = json.dumps(header).encode() if text is None else text
    target.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    return Case(f"header: {what}", True)


def open_file(world: World, path: Path) -> str | None:
    """Open a file as the commands do. None: it was refused; else what is wrong with what came of it, or ""."""
    if not path.name.startswith("clf"):
        adapted = _said(lambda: load_adapted(path, world.backbone))
        _said(lambda: gp.LanguagePrompt.load(path))
        if adapted is None:
            return None
        _said(lambda: world.backbone.embed([TEXT], adapted))
        return ""
    registry = Registry(path, world.backbone)
    errors = list(registry.errors().values())
    if any("cannot be used: " in error for error in errors):  # what the registry says of an exception
        raise AssertionError(errors[0])
    served = _said(lambda: gp.Predictor(world.backbone, registry).predict([(path.stem, TEXT)])) if not errors else None
    loaded = _said(lambda: gp.PromptClassifier.load(path, world.backbone))
    if (loaded is None) != bool(errors):
        return f"serve says {errors}, predict loads {loaded}"
    predicted = None if loaded is None else _said(lambda: loaded.predict([TEXT]))
    if predicted is None or served is None:
        return None if predicted is served else f"serve answers {served}, predict {predicted}"
    assert loaded is not None
    (one,), (other,) = predicted, served
    if list(one.scores) != list(loaded.task.labels) or abs(sum(one.scores.values()) - 1) > 1e-6:
        return f"no probabilities: {one}"
    if any(abs(one.scores[label] - other.scores[label]) > 1e-4 for label in one.scores):
        return f"predict says {one}, serve {other}"
    return ""


def _said(call: Callable[[], Any]) -> Any:
    """What a call gives; None where it refuses in one line."""
    try:
        return call()
    except UserError as error:
        line = str(error)
    assert line.strip(), "an error without words"
    assert len(line) < 1200, f"a line of {len(line)} characters"
    return None


# ---------------------------------------------------------------------------------------------------------------
# Model folders


def craft_folder(source: Path, target: Path, draw: random.Random) -> Case:
    """Write a changed copy of a model folder."""
    shutil.copytree(source, target)
    name = draw.choice(("config.json", "config.json", "model.safetensors", "model.safetensors", "tokenizer.json",
                        "tokenizer_config.json"))  # fmt: skip
    path = target / name
    what, optional = draw.choice(("inside",) * 4 + ("cut", "gone", "deep", "other")), name == "tokenizer_config.json"
    if what == "cut":
        path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])
        return Case(f"{name}: cut", not optional)
    if what == "gone":
        path.unlink()
        return Case(f"{name}: gone", not optional)
    if what == "deep" or what == "other":
        path.write_text("[" * 100_000 if what == "deep" else draw.choice(("[]", "{}", "3", "null", '"x"', "<html>")))
        return Case(f"{name}: {what}", not optional)
    if name == "model.safetensors":
        tensors = {key: value.clone() for key, value in load_file(path).items()}
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        case = _changed_tensor(tensors, {}, draw)
        save_file(tensors, path, metadata)
        return Case(f"{name}: {case.what}", case.must_refuse and not case.what.endswith(("dtype", "added")))
    content: dict[str, Any] = json.loads(path.read_text())
    case = _changed_facts({}, content, draw)
    path.write_text(json.dumps(content))
    return Case(f"{name}: {case.what}", False)


def open_folder(path: Path) -> str | None:
    """As `open_file`, of a model folder."""
    try:
        backbone = _said(lambda: gp.Backbone.load(path, precision="fp32", device="cpu"))
        if backbone is None:
            return None
        _said(lambda: backbone.embed([TEXT, "a"]))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):  # for which the command line has its own sentence
            raise
        return None
    return ""


def run(num_files: int, num_folders: int, seed: int, folder: Path) -> Result:
    """Try so many of each, reproducibly."""
    world, result = make_world(folder), Result()
    for number in range(num_files + num_folders):
        draw = random.Random(f"{seed} {number}")
        if number < num_files:
            source = world.files[number % len(world.files)]
            path = folder / "crafted" / f"{source.stem}-{number}.safetensors"
            path.parent.mkdir(exist_ok=True)
            make, opened = lambda s=source, p=path, d=draw: craft(s, p, d), lambda p=path: open_file(world, p)
        else:
            path = folder / f"model-{number}"
            make, opened = lambda p=path, d=draw: craft_folder(world.model, p, d), lambda p=path: open_folder(p)
        case = make()
        if _tried(case, path, opened, result) and path.is_dir():
            shutil.rmtree(path)
        elif path.is_file() and not any(str(path) in line for line in result.wrong):
            path.unlink()
    return result


def _tried(case: Case, path: Path, opened: Callable[[], str | None], result: Result) -> bool:
    """Whether a case went as it should."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = opened()
    except Exception:
        result.wrong.append(f"{path} ({case.what}): {traceback.format_exc(limit=-4)[-1500:]}")
        result.counts["traceback"] += 1
        return False
    result.counts["refused" if found is None else "taken"] += 1
    wrong = found or ("was taken" if found is not None and case.must_refuse else "")
    if wrong:
        result.wrong.append(f"{path} ({case.what}): {wrong}")
    return not wrong


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--artifacts", type=int, default=1000)
    parser.add_argument("--folders", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args(arguments)
    logging.disable()
    start, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="glotprompt-fuzz-"))
    result = run(words.artifacts, words.folders, words.seed, folder)
    print("\n".join(result.wrong))
    print(
        f"{words.artifacts} files, {words.folders} folders in {time.monotonic() - start:.0f} s: {dict(result.counts)}"
    )
    if not result.wrong:
        shutil.rmtree(folder)
    return int(bool(result.wrong))


if __name__ == "__main__":
    sys.exit(main())
