"""XLM beside what all backbones promise (`kind` in conftest.py): its languages, its head, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast, XLMModel

import glotprompt as gp
from glotprompt.errors import ModelError
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.lora import Lora
from glotprompt.model.modules.real_tokens import key_values_of_text
from glotprompt.model.prefix import Prefix
from glotprompt.model.shapes import Shell

from ..conftest import random_model, tiny_config
from ..toys import QUIET, SOURCE, TOY
from ..variants import ADAPT, VARIANTS

MakeBatch = Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture
def xlm(tiny_backbone: Callable[[str], Backbone]) -> Backbone:
    return tiny_backbone("xlm")


def test_words_are_those_of_the_stock_model(
    xlm: Backbone, stock: Callable[[str], PreTrainedModel], make_batch: MakeBatch
) -> None:
    ids, mask = make_batch(xlm, [9, 5])
    with torch.no_grad():
        expected = stock("xlm")(input_ids=ids, attention_mask=mask).logits[mask == 1]
        found = xlm.token_logits(xlm.hidden_states(ids, mask)[mask == 1])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_language_embeddings_are_not_added(xlm: Backbone, make_batch: MakeBatch) -> None:
    body: Any = xlm.model.base_model
    assert body.lang_embeddings.weight.abs().min() > 0
    ids, _ = make_batch(xlm, [9])
    with torch.no_grad():
        before = xlm.hidden_states(ids)
        kept = body.lang_embeddings.weight.clone()
        body.lang_embeddings.weight.zero_()
        assert torch.equal(xlm.hidden_states(ids), before)
        body.lang_embeddings.weight.copy_(kept)


def test_nothing_of_a_pass_is_left(xlm: Backbone, make_batch: MakeBatch) -> None:
    prefix = Prefix.shared(torch.zeros(xlm.prompt_shape(2)), torch.float32)
    body: Any = xlm.model.base_model
    xlm.hidden_states(*make_batch(xlm, [9, 5]), prefix)
    with pytest.raises(IndexError):
        xlm.hidden_states(torch.full((1, 3), 10**6), None, prefix)
    assert not any("attend" in vars(attention) for attention in body.attentions)


def test_a_prompt_from_real_tokens_makes_these_tokens(
    xlm: Backbone, stock: Callable[[str], PreTrainedModel], make_batch: MakeBatch
) -> None:
    """Of the first layer: its keys and values of the embedded text."""
    ids, _ = make_batch(xlm, [7])
    special = torch.tensor(xlm.tokenizer.all_special_ids)
    found = key_values_of_text(xlm, [ids[0]], special, 4)
    body: Any = stock("xlm").base_model
    with torch.no_grad():
        states = body.layer_norm_emb(body.embeddings(ids[0]) + body.position_embeddings(torch.arange(7)))
        key = body.attentions[0].k_lin(states).unflatten(-1, (4, 12)).transpose(0, 1)
    torch.testing.assert_close(found[0, 0], key[:, 1:5])


@pytest.mark.slow
def test_both_stages(own_backbone: Callable[[str], Backbone], tmp_path: Path) -> None:
    backbone = own_backbone("xlm")
    variant = VARIANTS["soft-prompt"]
    settings = {"steps": 3, "learning_rate": 0.1, "initialise": "text", "dropout": True}
    adapted = gp.adapt(backbone, TOY, SOURCE, "xxx", ADAPT.replace(**settings), QUIET)
    assert adapted.training.improved
    classifier = variant.stage_2(backbone, adapted, epochs=1, dropout=True)
    again = gp.PromptClassifier.load(classifier.save(tmp_path / "file"), backbone)
    assert (again.log_probabilities(["water", "the king"]) == classifier.log_probabilities(["water", "the king"])).all()


def test_lora_reaches_queries_and_values(xlm: Backbone) -> None:
    assert sorted(name.split("/")[-2] for name in Lora(xlm, 2, 4.0).pairs) == ["q_lin"] * 6 + ["v_lin"] * 6
    assert len(Lora(xlm, 2, 4.0, "all").pairs) == 2 * 3 * 6


def test_saved_and_loaded(xlm: Backbone, tmp_path: Path) -> None:
    """As transformers' own classes, without and with LM head; its shape is known without weights."""
    xlm.save_pretrained(tmp_path / "words")
    again = Backbone.load(tmp_path / "words", precision="fp32", device="cpu")
    assert (again.fingerprint, again.has_lm_head) == (xlm.fingerprint, True)
    assert Shell.named(str(tmp_path / "words")).num_parameters == xlm.num_parameters
    body = Backbone(random_model(tiny_config("xlm")).base_model, xlm.tokenizer, "XLM without a head")
    body.save_pretrained(tmp_path / "states")
    loaded = Backbone.load(tmp_path / "states", precision="fp32", device="cpu")
    assert not loaded.has_lm_head
    assert isinstance(loaded.model, XLMModel)
    assert (loaded.embed(["the king"]) == body.embed(["the king"])).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"causal": True}, "a prompt reaches 0 of the 3 layers of a 'xlm' model"),
        (
            {"asm": True, "asm_cutoffs": [50, 100], "asm_div_value": 4.0},
            "the LM head of 'xlm' has a layout we do not know",
        ),
    ],
)
def test_others_of_its_kind_are_refused(
    changes: dict[str, Any], message: str, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Backbone(random_model(tiny_config("xlm", **changes)), tiny_tokenizer, "it")
    assert "\n" not in str(caught.value)
