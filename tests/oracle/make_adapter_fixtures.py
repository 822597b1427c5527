"""Make, or check against, what the `adapters` library 1.3.0 computes and saves. Run by hand; see README.md.

    python make_adapter_fixtures.py                   write fixtures/ anew
    python make_adapter_fixtures.py --check FOLDER    load the adapters that glotprompt wrote below FOLDER
                                                      and compare what the library computes with them

It needs its own virtual environment, and nothing of glotprompt.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import adapters
import torch
from adapters.composition import Stack
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM, XLMRobertaConfig, XLMRobertaForMaskedLM

FIXTURES = Path(__file__).parent / "fixtures"
LAYERS = 2
SHAPE = {
    "vocab_size": 32, "hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 20,
}  # fmt: skip
KINDS: dict[str, tuple[Any, Any]] = {
    "xlm-roberta": (
        XLMRobertaForMaskedLM,
        XLMRobertaConfig(**SHAPE, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2),
    ),
    "bert": (BertForMaskedLM, BertConfig(**SHAPE, type_vocab_size=2, pad_token_id=1)),
}
LANGUAGE = adapters.SeqBnInvConfig(reduction_factor=2, inv_adapter_reduction_factor=2)
TASK = adapters.SeqBnConfig(reduction_factor=4)
SHORT = adapters.SeqBnInvConfig(reduction_factor=2, inv_adapter_reduction_factor=2, leave_out=[LAYERS - 1])
CONFIGS = {"source": LANGUAGE, "target": LANGUAGE, "short": SHORT, "task": TASK}
# Name of the case: what is active, and which of it is trained.
CASES: dict[str, tuple[Any, str]] = {
    "source": ("source", "source"),
    "task": ("task", "task"),
    "stack": (Stack("source", "task"), "task"),
    "swap": (Stack("target", "task"), "task"),
    "short": ("short", "short"),
}
PICKLED = ("source", "task")
"""Saved a second time as the library does by default, with pickle."""


def randomised(model: torch.nn.Module, std: float, seed: int) -> None:
    """Weights and biases far from zero, and norms far from the identity, so that an error in any of them shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator) * std
            parameter.copy_(noise + 1 if "norm" in name.lower() and name.endswith("weight") else noise)


def make_batch() -> dict[str, Tensor]:
    """Two rows, one padded; three words to predict."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, SHAPE["vocab_size"], (2, 6), generator=generator)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    labels = torch.full_like(ids, -100)
    labels[0, 1], labels[0, 4], labels[1, 2] = 7, 21, 30
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask, "labels": labels}


def reference(kind: str) -> Any:
    """The library's model with a flexible head: of its two ways to predict words the only one that undoes the coupling
    before the vocabulary (README.md)."""
    model = adapters.AutoAdapterModel.from_pretrained(FIXTURES / kind / "model").eval()
    stock = KINDS[kind][0].from_pretrained(FIXTURES / kind / "model")
    # Turning the static head into the flexible one loses the bias of the vocabulary.
    model.heads["default"][-1].bias = torch.nn.Parameter(stock.get_output_embeddings().bias.detach().clone())
    return model


def computed(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Last hidden states [batch, seq, hidden], and logits [3, vocab] of the words to predict."""
    output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True)
    return output.hidden_states[-1], output.logits[batch["labels"] >= 0]


def run_cases(model: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hidden states, logits and gradients of every case, in float64."""
    model.double()
    found: dict[str, Tensor] = {}
    for case, (active, trained) in CASES.items():
        model.set_active_adapters(active)
        # Only the adapter's own values; train_adapter would also train a part of the head.
        names = [name for name, _ in model.named_parameters() if f"adapters.{trained}." in name]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
            parameter.grad = None
        hidden, logits = computed(model, batch)
        F.cross_entropy(logits, batch["labels"][batch["labels"] >= 0]).backward()
        found[f"{case}/hidden"], found[f"{case}/logits"] = hidden.detach(), logits.detach()
        for name in names:  # in fp32 like the adapters, at half the size
            found[f"{case}/gradient/{name}"] = model.get_parameter(name).grad.float()
    return found


def write_legacy(saved: Path, folder: Path) -> None:
    """The same language adapter as files of adapter-transformers 1 and 2 had it (most published MAD-X adapters)."""
    folder.mkdir()
    tensors = torch.load(saved / "pytorch_adapter.bin", weights_only=True)
    renamed = {
        name.removeprefix("roberta.")
        .replace(".adapters.", ".layer_text_lang_adapters.")
        .replace("invertible_adapters.", "invertible_lang_adapters."): tensor
        for name, tensor in tensors.items()
    }
    torch.save(renamed, folder / "pytorch_adapter.bin")
    metadata = json.loads((saved / "adapter_config.json").read_text())
    old = (
        "adapter_residual_before_ln ln_after ln_before mh_adapter non_linearity original_ln_after original_ln_before"
        " output_adapter reduction_factor residual_before_ln"
    )
    coupling = {"block_type": "nice", "non_linearity": "relu", "reduction_factor": 2}
    metadata["config"] = {key: metadata["config"][key] for key in old.split()} | {"invertible_adapter": coupling}
    metadata["type"] = "text_lang"
    del metadata["version"]
    (folder / "adapter_config.json").write_text(json.dumps(metadata, indent=2, sort_keys=True))


def report_static_class(kind: str, batch: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """The other way, `adapters.init` on transformers' own class: does it undo the coupling?"""
    model = KINDS[kind][0].from_pretrained(FIXTURES / kind / "model").eval()
    adapters.init(model)
    for case in ("task", "source"):
        model.load_adapter(str(FIXTURES / kind / case), use_safetensors=True, with_head=False, set_active=True)
        with torch.no_grad():
            found = computed(model.double(), batch)
        differences = [
            float((tensor - expected[f"{case}/{name}"]).abs().max())
            for name, tensor in zip(("hidden", "logits"), found, strict=True)
        ]
        print(f"{kind}, {case}: adapters.init(...ForMaskedLM) differs by {differences} (hidden, logits)")


def make(kind: str) -> None:
    folder = FIXTURES / kind
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    family, config = KINDS[kind]
    model = family(config).eval()
    randomised(model, 0.3, seed=2)
    model.save_pretrained(folder / "model")
    adapters.init(model)
    for index, (name, settings) in enumerate(CONFIGS.items()):
        model.add_adapter(name, config=settings)
        paths = [path for path, _ in model.named_modules() if path.endswith(f"adapters.{name}")]
        own = torch.nn.ModuleDict({path.replace(".", "/"): model.get_submodule(path) for path in paths})
        randomised(own, 0.3, seed=3 + index)
        model.save_adapter(str(folder / name), name, with_head=False, use_safetensors=True)
        if name in PICKLED:
            model.save_adapter(str(folder / f"{name}-pickled"), name, with_head=False)
    if kind == "xlm-roberta":
        write_legacy(folder / "source-pickled", folder / "source-legacy")
    oracle, batch = reference(kind), make_batch()
    for name in CONFIGS:
        oracle.load_adapter(str(folder / name), with_head=False, use_safetensors=True)
    found = run_cases(oracle, batch)
    tensors = {name: tensor.contiguous() for name, tensor in (batch | found).items()}
    save_file(tensors, folder / "expected.safetensors")
    report_static_class(kind, batch, found)
    check(folder)


@torch.no_grad()
def check(root: Path) -> None:
    """Does the library compute with the adapters below `root` what it computed with its own? Their files name the kind
    of model, and the adapter as CASES does."""
    found = sorted(path.parent for path in root.rglob("adapter_config.json"))
    for folder in found:
        metadata = json.loads((folder / "adapter_config.json").read_text())
        kind, name = metadata["model_type"], metadata["name"]
        expected = load_file(FIXTURES / kind / "expected.safetensors")
        fresh = reference(kind)
        info: dict[str, Any] = {}
        safe = (folder / "adapter.safetensors").is_file()
        fresh.load_adapter(str(folder), with_head=False, use_safetensors=safe, loading_info=info)
        assert not info["missing_keys"], info
        assert not info["unexpected_keys"], info
        if name == "target":  # no case has it alone
            fresh.load_adapter(str(FIXTURES / kind / "task"), with_head=False, use_safetensors=True)
            fresh.set_active_adapters(Stack("target", "task"))
        else:
            fresh.set_active_adapters(name)
        hidden, logits = computed(fresh.double(), expected)
        case = "swap" if name == "target" else name
        for what, tensor in (("hidden", hidden), ("logits", logits)):
            difference = float((tensor - expected[f"{case}/{what}"]).abs().max())
            assert difference < 1e-12, f"{folder}: {what} differs by {difference}"
    assert found, f"{root} holds no adapters"
    print(f"{root}: the library computes the same with all {len(found)} adapters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.check)
    else:
        for kind in KINDS:
            make(kind)


if __name__ == "__main__":
    main()
