"""LoRA against the layers of PEFT, in values and gradients."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from glotprompt.errors import ConfigError
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.lora import Lora

Tiny = Callable[[str], Backbone]
MakeBatch = Callable[..., tuple[Tensor, Tensor]]


def felt(backbone: Backbone, targets: Any = None) -> Lora:
    """LoRA whose updates are not 0."""
    lora = Lora(backbone, rank=3, alpha=9.0, targets=targets, seed=1)
    with torch.no_grad():
        for name, values in lora.tensors().items():
            if name.endswith(".B"):
                values.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))
    return lora


@pytest.mark.parametrize("targets", [None, "all"])
@pytest.mark.parametrize("kind", ["xlm-roberta", "bert", "modernbert"])
def test_states_and_gradients_are_those_of_peft(
    kind: str, targets: Any, tiny_backbone: Tiny, make_batch: MakeBatch
) -> None:
    peft = pytest.importorskip("peft")
    backbone = tiny_backbone(kind)
    lora = felt(backbone, targets)
    ids, mask = make_batch(backbone, [7, 5, 3])
    with lora.attached(backbone):
        ours = backbone.hidden_states(ids, mask)[mask == 1]
        weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0))
        (ours * weights).sum().backward()

    model = copy.deepcopy(backbone.model)
    layers = sorted({name.rpartition(".")[0] for name in lora.tensors()})
    peft.inject_adapter_in_model(peft.LoraConfig(r=3, lora_alpha=9.0, target_modules=layers), model)
    theirs = {name: model.get_submodule(name) for name in layers}
    with torch.no_grad():
        for name, values in lora.tensors().items():
            layer, _, side = name.rpartition(".")
            getattr(theirs[layer], f"lora_{side}")["default"].weight.copy_(values)  # pyright: ignore[reportArgumentType]
    states: Any = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state[mask == 1]
    assert torch.allclose(ours, states, rtol=1e-4, atol=1e-5)
    (states * weights).sum().backward()
    for name, values in lora.tensors().items():
        layer, _, side = name.rpartition(".")
        wanted = getattr(theirs[layer], f"lora_{side}")["default"].weight.grad
        assert torch.allclose(values.grad, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max())), name  # pyright: ignore[reportArgumentType]


def test_the_start_changes_nothing_and_the_end_leaves_nothing(tiny_backbone: Tiny, make_batch: MakeBatch) -> None:
    backbone = tiny_backbone("xlm-roberta")
    ids, mask = make_batch(backbone, [7, 5])
    plain = backbone.hidden_states(ids, mask)
    with Lora(backbone, rank=2, alpha=4.0, seed=0).attached(backbone), torch.no_grad():
        assert torch.equal(backbone.hidden_states(ids, mask), plain)
    with felt(backbone).attached(backbone), torch.no_grad():
        assert not torch.allclose(backbone.hidden_states(ids, mask), plain)
    assert torch.equal(backbone.hidden_states(ids, mask), plain)


def test_a_model_without_such_layers_is_refused(tiny_backbone: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="LoRA finds no layer to change"):
        Lora(tiny_backbone("xlm-roberta"), rank=2, alpha=4.0, targets=["Wqkv"])
    monkeypatch.setattr("glotprompt.model.modules.lora.IN_A_LAYER", re.compile("nowhere"))
    with pytest.raises(ConfigError, match="looked for linear ones"):
        Lora(tiny_backbone("xlm-roberta"), rank=2, alpha=4.0, targets="all")
