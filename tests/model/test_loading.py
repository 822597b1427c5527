"""Bundled backbones, GGUF files, sentence encoders and sentence vectors, against transformers itself."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from glotprompt.errors import ConfigError, ModelError
from glotprompt.inference.classifier import LanguagePrompt
from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import (
    BUNDLED,
    MINI,
    MINI_SENTENCE,
    absolute,
    fingerprint,
    folder_of,
    name_of,
    open_backbone,
)
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.shapes import Shell

NewStock = Callable[[str], Any]
Tiny = Callable[[str], Backbone]

SCRIPTS = {
    "Latin": (0x61, 0x7A), "Greek": (0x3B1, 0x3C9), "Cyrillic": (0x430, 0x44F), "Arabic": (0x627, 0x64A),
    "Hebrew": (0x5D0, 0x5EA), "Devanagari": (0x905, 0x939), "Thai": (0xE01, 0xE2E), "Ethiopic": (0x1200, 0x1248),
    "Han": (0x4E00, 0x4F00), "Hangul": (0xAC00, 0xAD00),
}  # fmt: skip


def lines_in_ten_scripts() -> list[str]:
    draw = random.Random(0)
    return [
        " ".join("".join(chr(draw.randint(*bounds)) for _ in range(draw.randint(1, 9))) for _ in range(8))
        for bounds in SCRIPTS.values()
        for _ in range(100)
    ]


FINGERPRINTS = {"mini": "8ccdf49fd012f689", "mini-sentence": "342d454845771607"}
"""Whoever changes one makes all that was trained on it useless."""


@pytest.fixture(scope="module")
def mini_sentence() -> Backbone:
    return Backbone.load(MINI_SENTENCE, precision="fp32", device="cpu")


@pytest.fixture(scope="module", params=[MINI, MINI_SENTENCE])
def bundled(request: pytest.FixtureRequest) -> Backbone:
    return request.getfixturevalue(request.param.replace("-", "_"))


@pytest.fixture(scope="module")
def written(bundled: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    bundled.save_pretrained(folder)
    return folder


class TestBundled:
    @pytest.mark.slow
    def test_transformers_opens_what_was_written_and_computes_the_same(self, bundled: Backbone, written: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(written)
        lines = lines_in_ten_scripts()
        assert len(lines) == 1000
        assert tokenizer(lines)["input_ids"] == bundled.tokenizer(lines)["input_ids"]
        theirs = (AutoModelForMaskedLM if bundled.has_lm_head else AutoModel).from_pretrained(written).eval()
        inputs = tokenizer(lines[::100], padding=True, truncation=True, max_length=32, return_tensors="pt")
        assert not inputs["attention_mask"].all()
        with torch.no_grad():
            expected, found = theirs(**inputs)[0], bundled.model(**inputs)[0]
        real = inputs["attention_mask"].bool()
        torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-5)
        if not bundled.has_lm_head:
            states = bundled.hidden_states(inputs["input_ids"], inputs["attention_mask"])
            torch.testing.assert_close(states[real], expected[real], atol=1e-5, rtol=1e-5)

    @pytest.mark.slow
    def test_the_folder_is_the_same_backbone(self, bundled: Backbone, written: Path) -> None:
        again = open_backbone(str(written))
        assert fingerprint(again.model, again.tokenizer) == bundled.fingerprint == FINGERPRINTS[bundled.name]
        assert (again.model.base_model is not again.model) == bundled.has_lm_head == BUNDLED[bundled.name].has_lm_head

    @pytest.mark.slow
    def test_its_files_by_their_paths(self, mini_sentence: Backbone) -> None:
        folder = Path(folder_of(MINI_SENTENCE))
        again = open_backbone(name_of([folder / file for file in BUNDLED[MINI_SENTENCE].files]))
        assert fingerprint(again.model, again.tokenizer) == mini_sentence.fingerprint
        assert absolute(MINI_SENTENCE) == MINI_SENTENCE

    @pytest.mark.slow
    def test_both_share_their_lower_half(self, mini: Backbone, mini_sentence: Backbone) -> None:
        texts = ["the day", "a much longer sentence than the other one"]
        np.testing.assert_array_equal(mini.embed(texts, layer=6), mini_sentence.embed(texts, layer=6))
        assert np.abs(mini.embed(texts, layer=7) - mini_sentence.embed(texts, layer=7)).max() > 1e-3


# ---------------------------------------------------------------------------------------------------------------


def write_gguf(path: Path, tensors: dict[str, np.ndarray], kind: GGMLQuantizationType | None = None) -> None:
    writer = GGUFWriter(path, "xlm-roberta")
    for name, value in tensors.items():
        if kind is None or value.ndim < 2 or value.shape[1] % 32:
            writer.add_tensor(name, value)
        else:
            writer.add_tensor(name, quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def gguf_folder(new_stock: NewStock, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """A tiny XLM-R as two GGUF files beside its config and tokenizer, and the same weights for comparison."""
    model = new_stock("xlm-roberta")
    model.config.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    values = {name: value.detach().numpy() for name, value in model.named_parameters()}
    lower = {name: value for name, value in values.items() if "embeddings" in name or "layer.0" in name}
    write_gguf(tmp_path / "lower.gguf", lower)
    write_gguf(tmp_path / "upper.gguf", {name: value for name, value in values.items() if name not in lower})
    return tmp_path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "upper.gguf does not exist; expected a GGUF file"),
    "truncated": (truncate, "upper.gguf is damaged or no GGUF file"),
    "empty": (lambda path: path.write_bytes(b""), "upper.gguf is damaged or no GGUF file"),
    "text": (lambda path: path.write_text("version https"), "upper.gguf is damaged or no GGUF file"),
    "pointer": (lambda path: path.write_text(POINTER), "upper.gguf: a Git LFS pointer, not the file itself"),
    "the other part": (lambda path: shutil.copy(path.with_name("lower.gguf"), path), "as does another of the files"),
    "of nothing": (lambda path: write_gguf(path, {"x": np.ones((2, 2), np.float32)}), "all files of the backbone are"),
    "no tokenizer": (lambda path: path.with_name("tokenizer.json").unlink(), "cannot load|its tokenizer has"),
    "no config": (lambda path: path.with_name("config.json").unlink(), "cannot load"),
}


class TestGguf:
    def test_files_are_read_exactly(
        self, gguf_folder: Path, new_stock: NewStock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths = [gguf_folder / "lower.gguf", gguf_folder / "upper.gguf"]
        monkeypatch.chdir(gguf_folder)
        expected = new_stock("xlm-roberta").state_dict()
        for name in (paths, "lower.gguf,upper.gguf"):
            model = Backbone.load(name, precision="fp32", device="cpu").model
            assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
        assert absolute("lower.gguf,upper.gguf") == ",".join(map(str, paths))

    def test_writing_from_bf16_writes_the_exact_weights(
        self, gguf_folder: Path, new_stock: NewStock, tmp_path: Path
    ) -> None:
        paths = [gguf_folder / "lower.gguf", gguf_folder / "upper.gguf"]
        Backbone.load(paths, precision="bf16", device="cpu").save_pretrained(tmp_path / "written")
        model = AutoModelForMaskedLM.from_pretrained(tmp_path / "written")
        expected = new_stock("xlm-roberta").state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())

    def test_blocks_are_dequantised(self, gguf_folder: Path, new_stock: NewStock) -> None:
        values = {name: value.detach().numpy() for name, value in new_stock("xlm-roberta").named_parameters()}
        write_gguf(gguf_folder / "all.gguf", values, GGMLQuantizationType.Q8_0)
        model = Backbone.load(gguf_folder / "all.gguf", precision="fp32", device="cpu").model
        found = model.state_dict()["roberta.encoder.layer.0.output.dense.weight"].numpy()  # 48 x 64: two blocks a row
        expected = values["roberta.encoder.layer.0.output.dense.weight"]
        assert 0 < np.abs(found - expected).max() < np.abs(expected).max() / 100

    @pytest.mark.parametrize("fault", FAULTS)
    def test_what_cannot_be_read_is_refused_in_one_line(self, fault: str, gguf_folder: Path) -> None:
        break_it, words = FAULTS[fault]
        break_it(gguf_folder / "upper.gguf")
        with pytest.raises(ModelError, match=words) as caught:
            Backbone.load([gguf_folder / "lower.gguf", gguf_folder / "upper.gguf"], precision="fp32", device="cpu")
        assert "\n" not in str(caught.value)

    def test_a_file_that_changes_later_does_not_change_the_model(self, gguf_folder: Path) -> None:
        paths = [gguf_folder / "lower.gguf", gguf_folder / "upper.gguf"]
        backbone = Backbone.load(paths, precision="fp32", device="cpu")
        before = backbone.embed(["the day"])
        for path in paths:
            with path.open("r+b") as file:
                file.write(bytes(path.stat().st_size))
        np.testing.assert_array_equal(backbone.embed(["the day"]), before)


# ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["xlm-roberta", "bert", "modernbert"])
def sentence_folder(
    request: pytest.FixtureRequest, new_stock: NewStock, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> Path:
    """A bare backbone, as sentence encoders are published."""
    new_stock(request.param).base_model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    return tmp_path


def as_sentence_transformers(folder: Path, settings: dict[str, object]) -> None:
    modules = [
        {"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    for module in modules:
        (folder / str(module["path"])).mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(folder / "0_Transformer" / path.name)
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))


TEXTS = ["the day", "a man and a woman went to the house of the king on that day", "", "water"]


class TestSentenceEncoder:
    def test_vectors_are_transformers_own_whatever_the_batch(self, sentence_folder: Path) -> None:
        backbone = Backbone.load(sentence_folder, precision="fp32", device="cpu")
        assert not backbone.has_lm_head
        tokenizer, model = AutoTokenizer.from_pretrained(sentence_folder), AutoModel.from_pretrained(sentence_folder)
        for layer in (None, 0, 2):
            expected: list[np.ndarray] = []
            for text in TEXTS:
                with torch.no_grad():
                    output = model.eval()(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
                states = output.last_hidden_state if layer is None else output.hidden_states[layer]
                expected.append(states[0].mean(dim=0).numpy())
            for batch_size in (1, 3, 32):
                found = backbone.embed(TEXTS, layer=layer, batch_size=batch_size)
                assert found.dtype == np.float32
                np.testing.assert_allclose(found, np.stack(expected), atol=1e-5, rtol=1e-5)

    def test_a_prompt_changes_them(self, sentence_folder: Path) -> None:
        backbone = Backbone.load(sentence_folder, precision="fp32", device="cpu")
        prompt = SoftPrompt.initialise(backbone.prompt_shape(4), 1.0, seed=0)
        behind = backbone.embed(TEXTS, prompt)
        assert np.abs(behind - backbone.embed(TEXTS)).max() > 1e-2
        np.testing.assert_allclose(backbone.embed(TEXTS, prompt, batch_size=1), behind, atol=1e-5, rtol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("settings", "pooling"),
        [
            ({"word_embedding_dimension": 48, "pooling_mode_cls_token": True, "include_prompt": True}, "cls"),
            ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
            ({"pooling_mode": "cls"}, "cls"),
            ({}, "mean"),
        ],
    )
    def test_a_folder_of_sentence_transformers(
        self, settings: dict[str, object], pooling: str, sentence_folder: Path
    ) -> None:
        plain = Backbone.load(sentence_folder, precision="fp32", device="cpu")
        states = plain.hidden_states(torch.tensor(plain.tokenizer("the day")["input_ids"])[None])[0].detach().numpy()
        as_sentence_transformers(sentence_folder, settings)
        backbone = Backbone.load(sentence_folder, precision="fp32", device="cpu")
        assert (backbone.pooling, backbone.fingerprint) == (pooling, plain.fingerprint)
        expected = states[0] if pooling == "cls" else states.mean(axis=0)
        np.testing.assert_allclose(backbone.embed(["the day"])[0], expected, atol=1e-5, rtol=1e-5)

    def test_a_pooling_that_is_not_known(self, sentence_folder: Path) -> None:
        as_sentence_transformers(sentence_folder, {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True})
        with pytest.raises(ModelError, match=r"pools its states by (max and mean|mean and max)"):
            Backbone.load(sentence_folder, device="cpu")

    def test_what_needs_an_lm_head_refuses_it(self, sentence_folder: Path) -> None:
        backbone = Backbone.load(sentence_folder, precision="fp32", device="cpu")
        with pytest.raises(ModelError, match=r"sentence encoder without an LM head.*'mini'"):
            backbone.token_logits(torch.zeros(1, backbone.hidden_size))
        with pytest.raises(ModelError, match="without an LM head"):
            backbone.masked_token_loss(torch.zeros(1, backbone.hidden_size), torch.tensor([5]))

    @pytest.mark.parametrize("layer", [-1, 4, 99])
    def test_a_layer_that_is_not_there(self, layer: int, tiny_backbone: Tiny) -> None:
        with pytest.raises(ConfigError, match="tiny bert has 3 layers, give 0 to 3"):
            tiny_backbone("bert").embed(["the day"], layer=layer)

    def test_no_text_and_text_that_is_too_long(self, tiny_backbone: Tiny) -> None:
        backbone = tiny_backbone("xlm-roberta")
        assert backbone.embed([]).shape == (0, 48)
        assert backbone.embed(["day " * 2000]).shape == (1, 48)
        np.testing.assert_allclose(
            backbone.embed(["day " * 50], max_length=12), backbone.embed(["day " * 10]), atol=1e-6
        )

    def test_a_prompt_that_takes_room_or_belongs_to_another_backbone(self, tiny_backbone: Tiny) -> None:
        backbone, long = tiny_backbone("xlm-roberta"), ["day " * 2000]
        values = torch.zeros(backbone.prompt_shape(8))
        shifted = LanguagePrompt(values, "xxx", backbone.reference, "shifted")
        np.testing.assert_array_equal(backbone.embed(long, shifted), backbone.embed(long, shifted, max_length=504))
        with pytest.raises(ConfigError, match="the prompt is for 'tiny xlm-roberta'"):
            tiny_backbone("bert").embed(["day"], shifted)


# --- code of others


EVIL = "from pathlib import Path\nPath('{ran}').touch()\n"


@pytest.fixture
def odd_folder(tiny_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A whole backbone, but for some entries of its config.json, with code beside it that says when it is run."""

    def make(**changes: object) -> Path:
        folder = tmp_path / "odd"
        shutil.copytree(tiny_folder, folder)
        for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py"):
            (folder / name).write_text(EVIL.format(ran=tmp_path / "ran"), encoding="utf-8")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def nothing_foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody is asked, no code is run, nothing is unpickled."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a person was asked, or a pickle or kernel opened")

    monkeypatch.setattr("builtins.input", asked)
    monkeypatch.setattr(torch, "load", asked)
    monkeypatch.setattr("transformers.integrations.hub_kernels.load_and_register_attn_kernel", asked, raising=False)
    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", asked, raising=False)
    yield
    assert not (tmp_path / "ran").exists()


AUTO_MAP = {
    "AutoConfig": "configuration_evil.EvilConfig", "AutoModelForMaskedLM": "modeling_evil.EvilModel",
    "AutoModel": "modeling_evil.EvilModel", "AutoTokenizer": ["tokenization_evil.Slow", "tokenization_evil.Fast"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "evil", "auto_map": AUTO_MAP}, "needs code of its own (auto_map), which is never run"),
        ({"attn_implementation": "evil/kernel"}, "asks for the attention of 'evil/kernel', external code, which is"),
        ({"_attn_implementation": "evil/kernel:forward"}, "asks for the attention of 'evil/kernel:forward'"),
        ({"_attn_implementation_internal": "evil/kernel"}, ""),
        ({"attn_implementation": "flash_attention_2"}, "asks for the attention of 'flash_attention_2'"),
        ({"attn_implementation": "paged|evil/kernel"}, "asks for the attention of 'paged|evil/kernel'"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, ""),
        ({"num_attention_heads": "many"}, ""),
        ({"hidden_size": -1}, ""),
    ],
)
@pytest.mark.usefixtures("nothing_foreign")
def test_a_config_runs_no_code_of_others(odd_folder: Callable[..., Path], changes: dict[str, Any], reason: str) -> None:
    folder = str(odd_folder(**changes))
    for opened in (Backbone.load, Shell.named):
        if not reason:  # which of the two refuses it is all the same
            with suppress(ModelError):
                opened(folder)
            continue
        with pytest.raises(ModelError) as caught:
            opened(folder)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "trust_remote_code" not in str(caught.value)


@pytest.mark.usefixtures("nothing_foreign")
def test_a_known_model_is_opened_without_the_code_beside_it(odd_folder: Callable[..., Path]) -> None:
    """As EuroBERT's are published."""
    folder = odd_folder(auto_map=AUTO_MAP)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["auto_map"] = {"AutoTokenizer": AUTO_MAP["AutoTokenizer"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert Backbone.load(folder, precision="fp32", device="cpu").num_layers == 3


@pytest.mark.usefixtures("nothing_foreign")
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_not_read(odd_folder: Callable[..., Path], name: str) -> None:
    folder = odd_folder()
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(ModelError, match=rf"no model\.safetensors; weights in pickles \({name}\), .*save_pretrained"):
        Backbone.load(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_file_that_stands_for_another_is_named(odd_folder: Callable[..., Path], name: str) -> None:
    folder = odd_folder()
    (folder / name).write_text(POINTER, encoding="utf-8")
    with pytest.raises(ModelError, match=rf"{name}: a Git LFS pointer, not the file itself\. Fetch it with"):
        Backbone.load(folder)


# --- folders


def edited_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def edited_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edited_ends(folder: Path, **changes: object) -> None:
    """What the tokenizer puts around a text."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"] |= changes
    path.write_text(json.dumps(content))


LAYER = "roberta.encoder.layer.1.output.dense.bias"
FOLDER_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no number": (lambda folder: edited_weights(folder, lambda found: found[LAYER].fill_(float("nan"))), "hold NaN"),
    "infinity": (lambda folder: edited_weights(folder, lambda found: found[LAYER].fill_(float("inf"))), "infinity"),
    "fewer layers": (lambda folder: edited_config(folder, num_hidden_layers=2), "weights of layers that config.json"),
    "no heads": (lambda folder: edited_config(folder, num_attention_heads=0), "cannot load"),
    "words for numbers": (lambda folder: edited_config(folder, layer_norm_eps={"a": 1}), "cannot load"),
    "no activation": (lambda folder: edited_config(folder, hidden_act=["x"]), "cannot load"),
    "a deep config": (lambda folder: (folder / "config.json").write_text("[" * 100_000), "cannot load"),
    "a deep tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("[" * 100_000), "cannot load"),
    "a tokenizer that panics": (lambda folder: edited_ends(folder, special_tokens={}), "cannot load"),
    "tokens from nowhere": (
        lambda folder: edited_ends(
            folder,
            special_tokens={
                "<s>": {"id": "<s>", "ids": [9999], "tokens": ["<s>"]},
                "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]},
            },
        ),
        "gives the tokens",
    ),
    "half a file": (lambda folder: truncate(folder / "model.safetensors"), "cannot load"),
}


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_a_folder_that_makes_no_sense_is_refused_in_one_line(fault: str, tiny_folder: Path, tmp_path: Path) -> None:
    break_it, words = FOLDER_FAULTS[fault]
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    break_it(folder)
    with pytest.raises(ModelError, match=words) as caught:
        Backbone.load(folder, precision="fp32", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_folder_may_be_written_into_while_it_is_used(tiny_folder: Path, tmp_path: Path) -> None:
    """As rsync --inplace and cp do; a mapped file that is cut ends the process."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    backbone = Backbone.load(folder, precision="fp32", device="cpu")
    before = backbone.embed(["the king"])
    assert str(folder) not in Path("/proc/self/maps").read_text() if sys.platform == "linux" else True
    os.truncate(folder / "model.safetensors", 0)
    assert (backbone.embed(["the king"]) == before).all()
