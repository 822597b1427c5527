"""Opening backbones: which work, which are refused, and how they are told apart."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from glotprompt.errors import ConfigError, ModelError
from glotprompt.model import devices
from glotprompt.model.backbone import Backbone
from glotprompt.model.devices import choose_precision
from glotprompt.model.heads import head_transform
from glotprompt.model.loading import WORKING, fingerprint
from glotprompt.model.modules.soft_prompt import SoftPrompt

Tiny = Callable[[str], Backbone]
NewStock = Callable[[str], PreTrainedModel]


def random_config(kind: str, tokenizer: PreTrainedTokenizerFast, **changes: object) -> PreTrainedConfig:
    shape = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"intermediate_size": 32, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    return AutoConfig.for_model(kind, **{**shape, **special, **changes})


class TestWhatWorks:
    @pytest.mark.slow
    def test_facts_of_the_mini(self, mini: Backbone) -> None:
        assert (mini.num_layers, mini.num_heads, mini.head_dim, mini.hidden_size) == (12, 12, 32, 384)
        assert (mini.vocab_size, mini.max_positions, mini.precision) == (70_098, 512, "fp32")
        assert round(mini.num_parameters / 1e6, 2) == 48.63
        assert mini.prompt_shape(32) == (12, 2, 12, 32, 32)
        assert mini.name == "mini"

    @pytest.mark.parametrize("kind", ["xlm-roberta-xl", "roberta", "camembert", "xmod", "eurobert"])
    def test_kin_of_the_tested_kinds(self, kind: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
        """EuroBERT shares keys between heads: a prompt fills the fewer key/value heads."""
        more: dict[str, dict[str, object]] = {
            "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
            "eurobert": {
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "mask_token_id": tiny_tokenizer.mask_token_id,
            },
        }
        config = random_config(kind, tiny_tokenizer, **more.get(kind, {}))
        backbone = Backbone(AutoModelForMaskedLM.from_config(config), tiny_tokenizer)
        assert backbone.prompt_shape(4) == (2, 2, 2, 4, 8 if kind == "eurobert" else 16)
        prompt = SoftPrompt.initialise(backbone.prompt_shape(4), 1.0, seed=0)
        ids = torch.tensor([[0, 50, 60, 2]])
        with torch.no_grad():
            behind, bare = backbone.hidden_states(ids, None, prompt.prefix(backbone.dtype)), backbone.hidden_states(ids)
        assert (behind - bare).abs().max() > 0.01


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("distilbert", "head of 'distilbert' has a layout we do not know"),
            ("deberta-v2", "reaches 0 of the 2 layers of a 'deberta-v2' model"),
            ("rembert", "head of 'rembert' has a layout we do not know"),
            ("electra", "head of 'electra' has a layout we do not know"),
            ("bart", "a 'bart' model is not supported as a backbone"),
            ("esm", "reaches 0 of the 2 layers"),
        ],
    )
    def test_other_architectures(self, kind: str, words: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
        small: dict[str, Any] = {
            "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
            "rembert": {"input_embedding_size": 32, "output_embedding_size": 32},
            "electra": {"embedding_size": 32},
            "bart": {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32,
                     "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
            "esm": {"mask_token_id": tiny_tokenizer.mask_token_id},
        }.get(kind, {})  # fmt: skip
        model = AutoModelForMaskedLM.from_config(random_config(kind, tiny_tokenizer, **small))
        with pytest.raises(ModelError, match=words) as caught:
            Backbone(model, tiny_tokenizer, "it")
        assert str(caught.value).endswith(WORKING)
        assert "\n" not in str(caught.value)

    def test_a_head_that_only_looks_like_one_we_know(
        self, new_stock: NewStock, tiny_tokenizer: PreTrainedTokenizerFast
    ) -> None:
        model: Any = new_stock("bert")
        head = model.cls.predictions

        kind: Any = type(head)

        class Louder(kind):
            def forward(self, hidden: torch.Tensor) -> torch.Tensor:
                return 2 * super().forward(hidden)

        head.__class__ = Louder
        assert head_transform(model) is not None
        with pytest.raises(ModelError, match="head of 'bert' has a layout we do not know"):
            Backbone(model, tiny_tokenizer)

    def test_a_layer_that_a_prompt_does_not_reach(
        self, new_stock: NewStock, tiny_tokenizer: PreTrainedTokenizerFast
    ) -> None:
        model: Any = new_stock("xlm-roberta")
        attention = model.roberta.encoder.layer[1].attention.self
        forward = attention.forward
        attention.forward = lambda *args, prefix=None, **kwargs: forward(*args, **kwargs)
        with pytest.raises(ModelError, match="reaches 2 of the 3 layers"):
            Backbone(model, tiny_tokenizer)

    def test_a_tokenizer_without_a_mask(self, new_stock: NewStock, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
        tokenizer = copy.deepcopy(tiny_tokenizer)
        tokenizer.mask_token = None
        with pytest.raises(ModelError, match="no mask token"):
            Backbone(new_stock("bert"), tokenizer)

    @pytest.mark.parametrize("vocab_size", [417, 1000])
    def test_a_tokenizer_of_another_model(self, vocab_size: int, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
        config = random_config("bert", tiny_tokenizer, vocab_size=vocab_size)
        with pytest.raises(ModelError, match=f"has 418 tokens, the model {vocab_size}; they do not belong together"):
            Backbone(AutoModelForMaskedLM.from_config(config), tiny_tokenizer)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """A folder as save_pretrained writes it."""
    folder = tmp_path_factory.mktemp("backbone")
    config = random_config("xlm-roberta", tiny_tokenizer, max_position_embeddings=66, type_vocab_size=1)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "backbone"))


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def drop_head(folder: Path) -> None:
    path = folder / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if not name.startswith("lm_head")}
    save_file(kept, path, metadata={"format": "pt"})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def drop_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "cannot load"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "cannot load"),
    "config is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "not a valid JSON file"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "it has no model.safetensors -- give"),
    "truncated weights": (lambda folder: truncate(folder / "model.safetensors"), "incomplete metadata"),
    "no head": (drop_head, "6 of its weights are not in the file .*lm_head.bias"),
    "other shapes": (lambda folder: change_config(folder, hidden_size=64), "have other shapes there"),
    "more layers": (lambda folder: change_config(folder, num_hidden_layers=3), "16 of its weights are not in the file"),
    "unknown kind": (
        lambda folder: change_config(folder, model_type="nobert"),
        "a 'nobert' model is not supported; XLM-R,",
    ),
    "no masked model": (
        lambda folder: change_config(folder, model_type="vit"),
        "a 'vit' model is not supported; XLM-R,",
    ),
    "no kind": (lambda folder: (folder / "config.json").write_text("{}"), "names no model_type that is supported"),
    "no tokenizer": (drop_tokenizer, "its tokenizer has 5 tokens, the model 418"),
    "tokenizer is no JSON": (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot load"),
    "tokenizer is empty": (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot load"),
}


class TestLoad:
    def test_a_folder_by_text_and_by_path(self, folder: Path) -> None:
        backbone = Backbone.load(folder, precision="fp32", device="cpu")
        assert backbone.name == str(folder)
        assert backbone.max_positions == 64
        assert Backbone.load(str(folder), precision="fp32", device="cpu").fingerprint == backbone.fingerprint

    @pytest.mark.parametrize("fault", FAULTS)
    def test_what_cannot_be_loaded_is_refused_in_one_line(
        self, fault: str, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)  # so that caplog hears it
        transformers_logging.set_verbosity_warning()  # its default
        break_it, words = FAULTS[fault]
        break_it(folder)
        with pytest.raises(ModelError, match=words) as caught:
            Backbone.load(folder, precision="fp32", device="cpu")
        message = str(caught.value)
        assert str(folder) in message
        assert "\n" not in message
        assert len(message) < 600
        assert not caplog.records, "transformers reports the same in many lines"
        assert transformers_logging.get_verbosity() == transformers_logging.WARNING

    def test_a_hub_name_without_a_network(self) -> None:
        with pytest.raises(ModelError, match=r"cannot load 'nobody/nothing'.*HF_HUB_OFFLINE=1") as caught:
            Backbone.load("nobody/nothing", device="cpu")
        assert "\n" not in str(caught.value)

    def test_an_unknown_precision(self) -> None:
        unchecked = inspect.unwrap(Backbone.load.__func__)  # past the type checks that only tests have
        with pytest.raises(ConfigError, match="'fp16'; give one of auto, fp32, bf16"):
            unchecked(Backbone, "mini", precision="fp16", device="cpu")


class TestFingerprint:
    @pytest.mark.slow
    def test_one_model_in_two_precisions(self, mini: Backbone, mini_bf16: Backbone) -> None:
        assert mini.fingerprint == mini_bf16.fingerprint
        assert len(mini.fingerprint) == 16

    def test_routing_attention_and_saving_again_keep_it(
        self, new_stock: NewStock, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
    ) -> None:
        model = new_stock("xlm-roberta")
        first = Backbone(model, tiny_tokenizer).fingerprint
        assert fingerprint(model, tiny_tokenizer) == first
        model.save_pretrained(tmp_path)
        tiny_tokenizer.save_pretrained(tmp_path)
        assert Backbone.load(tmp_path, precision="fp32", device="cpu").fingerprint == first

    @pytest.mark.slow
    def test_another_weight(self, new_stock: NewStock, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
        model = new_stock("bert")
        before = fingerprint(model, tiny_tokenizer)
        for name, parameter in model.named_parameters():
            with torch.no_grad():
                kept = parameter.clone()
                parameter.mul_(1.0001).add_(1e-6)
            assert fingerprint(model, tiny_tokenizer) != before, name
            with torch.no_grad():
                parameter.copy_(kept)
        assert fingerprint(model, tiny_tokenizer) == before

    def test_another_number_of_heads(self, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
        """The weights have the same shapes, but a prompt does not fit."""
        prints: set[str] = set()
        for heads in (2, 4):
            torch.manual_seed(0)
            config = random_config("bert", tiny_tokenizer, num_attention_heads=heads)
            prints.add(fingerprint(AutoModelForMaskedLM.from_config(config), tiny_tokenizer))
        assert len(prints) == 2

    def test_another_vocabulary(
        self, new_stock: NewStock, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
    ) -> None:
        """Two pieces change places."""
        tiny_tokenizer.save_pretrained(tmp_path)
        path = tmp_path / "tokenizer.json"
        description = json.loads(path.read_text(encoding="utf-8"))
        pieces = description["model"]["vocab"]
        pieces[100], pieces[101] = pieces[101], pieces[100]
        path.write_text(json.dumps(description), encoding="utf-8")
        other = AutoTokenizer.from_pretrained(tmp_path)
        model = new_stock("bert")
        assert fingerprint(model, other) != fingerprint(model, tiny_tokenizer)


class TestPrecision:
    def test_there_and_back_is_the_same_to_the_bit(self, folder: Path) -> None:
        backbone = Backbone.load(folder, precision="bf16", device="cpu")
        assert (backbone.precision, backbone.dtype) == ("bf16", torch.bfloat16)
        backbone.use_precision("fp32")
        fresh = Backbone.load(folder, precision="fp32", device="cpu")
        states = fresh.model.state_dict()
        assert all(torch.equal(value, states[name]) for name, value in backbone.model.state_dict().items())
        assert not any(parameter.requires_grad for parameter in backbone.model.parameters())

    def test_tied_weights_stay_tied(self, folder: Path) -> None:
        model: Any = Backbone.load(folder, precision="bf16", device="cpu").model
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight

    def test_weights_that_were_not_loaded_cannot_come_back(
        self, new_stock: NewStock, tiny_tokenizer: PreTrainedTokenizerFast
    ) -> None:
        backbone = Backbone(new_stock("bert"), tiny_tokenizer, "mine")
        backbone.use_precision("fp32")
        backbone.use_precision("bf16")
        with pytest.raises(ModelError, match=r"mine was not loaded by Backbone.load"):
            backbone.use_precision("fp32")

    def test_rotary_wave_lengths_are_not_rounded(self, own_backbone: Tiny) -> None:
        backbone = own_backbone("modernbert")
        before = {name: value.clone() for name, value in backbone.model.named_buffers() if value.is_floating_point()}
        assert before
        backbone.use_precision("bf16")
        after = dict(backbone.model.named_buffers())
        assert all(torch.equal(after[name], value) for name, value in before.items())

    @pytest.mark.parametrize(("bf16_seconds", "chosen"), [(0.5, "bf16"), (0.9, "fp32"), (2.0, "fp32")])
    def test_bf16_where_it_is_clearly_faster(
        self, bf16_seconds: float, chosen: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seconds = {torch.float32: 1.0, torch.bfloat16: bf16_seconds}
        monkeypatch.setattr(devices, "_matmul_seconds", lambda dtype, device, **_: seconds[dtype])
        assert choose_precision.__wrapped__(torch.device("cpu")) == chosen

    @pytest.mark.parametrize("in_hardware", [True, False])
    def test_a_gpu_that_emulates_bf16_computes_in_fp32(
        self, in_hardware: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation or in_hardware
        )
        assert choose_precision.__wrapped__(torch.device("cuda")) == ("bf16" if in_hardware else "fp32")

    def test_the_probe_measures_time(self) -> None:
        assert 0 < devices._matmul_seconds(torch.float32, torch.device("cpu")) < 5

    def test_a_hopeless_precision_is_timed_three_times(self, monkeypatch: pytest.MonkeyPatch) -> None:
        products: list[Tensor] = []
        monkeypatch.setattr(torch, "matmul", lambda states, _: products.append(states))
        assert devices._matmul_seconds(torch.float32, torch.device("cpu"), hopeless=0.0) > 0
        assert len(products) == 3
        devices._matmul_seconds(torch.float32, torch.device("cpu"), hopeless=60.0)
        assert len(products) == 3 + 12
