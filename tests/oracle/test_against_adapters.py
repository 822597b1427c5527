"""MAD-X adapters against the library `adapters` 1.3.0: what it computed (README.md), and its folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast

from glotprompt.errors import ArtifactError, ConfigError
from glotprompt.formats.adapter_hub import from_adapter_hub, has_head, library_names, to_adapter_hub
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.adapters import Adapter

FIXTURES = Path(__file__).parent / "fixtures"
KINDS = ("xlm-roberta", "bert")
CASES: dict[str, tuple[str, ...]] = {
    "source": ("source",), "task": ("task",), "short": ("short",), "stack": ("source", "task"),
    "swap": ("target", "task"),
}  # fmt: skip
"""Name of the case to what is attached, first to last; the last is trained."""


def small_tokenizer() -> PreTrainedTokenizerFast:
    """32 words for the oracle's models."""
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, **{f"w{i}": i for i in range(5, 32)}}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    names = {"mask_token": "<mask>", "pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, sep_token="</s>", **names)


@cache
def oracle_backbone(kind: str, dtype: torch.dtype = torch.float64) -> Backbone:
    """The model with which the fixtures were computed; not to be changed."""
    model = AutoModelForMaskedLM.from_pretrained(FIXTURES / kind / "model", dtype=torch.float32).to(dtype)
    return Backbone(model, small_tokenizer(), f"oracle {kind}")


@cache
def expected(kind: str) -> dict[str, Tensor]:
    return load_file(FIXTURES / kind / "expected.safetensors")


def attached(backbone: Backbone, adapters: Sequence[Adapter]) -> ExitStack:
    with ExitStack() as stack:
        for adapter in adapters:
            stack.enter_context(adapter.attached(backbone))
        return stack.pop_all()


def assert_near(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    assert found.shape == wanted.shape
    difference = (found - wanted).abs().max() / wanted.abs().max()
    assert difference <= tolerance, f"largest relative difference {float(difference):.2e}"


@pytest.mark.parametrize("kind", KINDS)
class TestAgainstTheLibrary:
    @pytest.mark.parametrize("case", CASES)
    def test_states_words_and_gradients(self, kind: str, case: str) -> None:
        """In float64 the library's figures to rounding; gradients as fp32 holds them."""
        backbone, wanted = oracle_backbone(kind), expected(kind)
        adapters = [from_adapter_hub(FIXTURES / kind / name, backbone) for name in CASES[case]]
        for adapter in adapters[:-1]:
            adapter.requires_grad_(False)
        ids, mask, labels = wanted["input_ids"], wanted["attention_mask"], wanted["labels"]
        places = labels >= 0
        with attached(backbone, adapters):
            hidden = backbone.hidden_states(ids, mask)
            logits = backbone.model(input_ids=ids, attention_mask=mask).logits[places]
            ours = backbone.token_logits(hidden[places])
            F.cross_entropy(logits, labels[places]).backward()
        assert_near(hidden, wanted[f"{case}/hidden"], 1e-12)
        assert_near(logits, wanted[f"{case}/logits"], 1e-12)
        assert_near(ours, wanted[f"{case}/logits"].float(), 1e-6)
        prefix = f"{case}/gradient/{backbone.model.base_model_prefix}."
        theirs = {name.removeprefix(prefix): value for name, value in wanted.items() if name.startswith(prefix)}
        names = library_names(adapters[-1], CASES[case][-1])
        assert set(theirs) == set(names.values())
        for name, values in adapters[-1].named_parameters():
            assert_near(values.grad, theirs[names[name]], 1e-6)
        assert all(values.grad is None for adapter in adapters[:-1] for values in adapter.parameters())

    @pytest.mark.parametrize("case", CASES)
    def test_our_own_loss_in_fp32(self, kind: str, case: str) -> None:
        """The way training takes: hidden states at the masked tokens, then the loss without logits."""
        backbone, wanted = oracle_backbone(kind, torch.float32), expected(kind)
        adapters = [from_adapter_hub(FIXTURES / kind / name, backbone) for name in CASES[case]]
        places = wanted["labels"] >= 0
        with attached(backbone, adapters):
            hidden = backbone.hidden_states(wanted["input_ids"], wanted["attention_mask"])
            loss = backbone.masked_token_loss(hidden[places], wanted["labels"][places]) / places.sum()
            loss.backward()
        assert_near(hidden, wanted[f"{case}/hidden"].float(), 1e-5)
        assert_near(loss, F.cross_entropy(wanted[f"{case}/logits"], wanted["labels"][places]).float(), 1e-5)
        names = library_names(adapters[-1], CASES[case][-1])
        for name, values in adapters[-1].named_parameters():
            key = f"{case}/gradient/{backbone.model.base_model_prefix}.{names[name]}"
            assert_near(values.grad, wanted[key], 1e-5)

    def test_the_cases_differ(self, kind: str) -> None:
        """So that one computed in place of another would show."""
        states = [expected(kind)[f"{case}/hidden"] for case in CASES]
        for index, one in enumerate(states):
            assert all((one - other).abs().max() > 0.1 for other in states[:index])


class TestFolders:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", ["source", "task"])
    def test_a_pickle_holds_the_same(self, kind: str, name: str) -> None:
        backbone = oracle_backbone(kind)
        safe, pickled = (from_adapter_hub(FIXTURES / kind / f, backbone) for f in (name, f"{name}-pickled"))
        assert pickled.settings() == safe.settings()
        assert all(torch.equal(value, safe.tensors()[key]) for key, value in pickled.tensors().items())

    def test_settings_are_read(self) -> None:
        backbone = oracle_backbone("bert")
        shape = {"hidden_size": 16, "num_layers": 2}
        language = {**shape, "reduction": 2, "invertible_reduction": 2, "drop_last": False}
        wanted = {
            "source": language,
            "short": {**language, "drop_last": True},
            "task": {**shape, "reduction": 4, "invertible_reduction": None, "drop_last": False},
        }
        assert {name: from_adapter_hub(FIXTURES / "bert" / name, backbone).settings() for name in wanted} == wanted

    def test_names_of_old_folders(self) -> None:
        """adapter-transformers 1 and 2, as most published language adapters are; the library reads this one alike."""
        backbone = oracle_backbone("xlm-roberta")
        old, new = (from_adapter_hub(FIXTURES / "xlm-roberta" / f, backbone) for f in ("source-legacy", "source"))
        assert old.settings() == new.settings()
        assert all(torch.equal(value, new.tensors()[key]) for key, value in old.tensors().items())

    def test_an_old_task_adapter_says_that_it_has_a_coupling(self, tmp_path: Path) -> None:
        folder = changed(FIXTURES / "bert" / "task", tmp_path, inv_adapter="nice", inv_adapter_reduction_factor=2)
        with pytest.raises(ArtifactError, match=r"lacks invertible_adapters\.task\.F\.0\.bias"):
            from_adapter_hub(folder, oracle_backbone("bert"))
        metadata = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**metadata, "type": "text_task"}))
        assert from_adapter_hub(folder, oracle_backbone("bert")).coupling is None

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", ["source", "target", "short", "task"])
    def test_written_as_the_library_writes(self, kind: str, name: str, tmp_path: Path) -> None:
        """The same files, keys, values and configuration; but for the name, which the oracle's model has not."""
        backbone, theirs = oracle_backbone(kind), FIXTURES / kind / name
        adapter = from_adapter_hub(theirs, backbone)
        ours = to_adapter_hub(adapter, backbone, tmp_path / "out", name)
        assert {path.name for path in ours.iterdir()} == {"adapter_config.json", "adapter.safetensors"}
        metadata = [json.loads((folder / "adapter_config.json").read_text()) for folder in (ours, theirs)]
        assert metadata[0].pop("model_name") == f"oracle {kind}"
        assert metadata[1].pop("model_name") == ""
        assert metadata[0] == metadata[1]
        found, wanted = (load_file(folder / "adapter.safetensors") for folder in (ours, theirs))
        assert set(found) == set(wanted)
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
        again = from_adapter_hub(ours, backbone)
        assert again.settings() == adapter.settings()
        assert all(torch.equal(value, adapter.tensors()[key]) for key, value in again.tensors().items())

    def test_the_pickle_s_files_are_those_of_the_library(self) -> None:
        names = {path.name for path in (FIXTURES / "bert" / "task-pickled").iterdir()}
        assert names == {"adapter_config.json", "pytorch_adapter.bin"}

    def test_a_head_beside_it_is_left_aside(self, tmp_path: Path) -> None:
        folder = changed(FIXTURES / "bert" / "task", tmp_path)
        assert not has_head(folder)
        (folder / "pytorch_model_head.bin").write_bytes(b"not even read")
        assert has_head(folder)
        from_adapter_hub(folder, oracle_backbone("bert"))

    @pytest.mark.parametrize("name", ["", "a.b", "a/b", "haus a"])
    def test_names_that_the_library_cannot_hold(self, name: str, tmp_path: Path) -> None:
        backbone = oracle_backbone("bert")
        with pytest.raises(ConfigError, match="cannot name an adapter"):
            to_adapter_hub(Adapter.initialise(16, 2, 2), backbone, tmp_path, name)

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        backbone = oracle_backbone("bert")
        with pytest.raises(ArtifactError, match="cannot write"):
            to_adapter_hub(Adapter.initialise(16, 2, 2), backbone, tmp_path / "file", "nya")


def changed(folder: Path, tmp_path: Path, **config: Any) -> Path:
    """A copy of a folder with other words in its configuration."""
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    metadata = json.loads((copied / "adapter_config.json").read_text())
    metadata["config"] |= config
    (copied / "adapter_config.json").write_text(json.dumps(metadata))
    return copied


def assert_refused(folder: Path, says: str, backbone: Backbone | None = None) -> None:
    with pytest.raises(ArtifactError, match=says) as caught:
        from_adapter_hub(folder, backbone or oracle_backbone("bert"))
    assert "\n" not in str(caught.value)


class TestFoldersThatAreRefused:
    @pytest.mark.parametrize(
        ("key", "value", "says"),
        [
            ("non_linearity", "swish", "non_linearity 'swish', only 'relu'"),
            ("non_linearity", None, "non_linearity None"),
            ("is_parallel", True, "is_parallel True"),
            ("mh_adapter", True, "mh_adapter True"),
            ("output_adapter", False, "output_adapter False"),
            ("original_ln_before", False, "original_ln_before False"),
            ("original_ln_after", False, "original_ln_after False"),
            ("residual_before_ln", "post_add", "residual_before_ln 'post_add'"),
            ("ln_before", True, "ln_before True"),
            ("ln_after", True, "ln_after True"),
            ("scaling", "learned", "scaling 'learned', only 1.0"),
            ("use_gating", True, "use_gating True"),
            ("phm_layer", True, "phm_layer True"),
            ("inv_adapter", "glow", "inv_adapter 'glow'"),
            ("leave_out", [0], r"leave_out \[0\], only \[\] or the last layer \[1\]"),
            ("reduction_factor", {"default": 2}, "reduction_factor {'default': 2}"),
            ("reduction_factor", 0.5, "reduction_factor 0.5"),
            ("reduction_factor", None, "reduction_factor None"),
            ("architecture", "lora", "holds no bottleneck adapter"),
        ],
    )
    def test_another_architecture(self, key: str, value: Any, says: str, tmp_path: Path) -> None:
        assert_refused(changed(FIXTURES / "bert" / "source", tmp_path, **{key: value}), says)

    def test_a_configuration_that_leaves_out_what_matters(self, tmp_path: Path) -> None:
        folder = changed(FIXTURES / "bert" / "source", tmp_path)
        metadata = json.loads((folder / "adapter_config.json").read_text())
        del metadata["config"]["original_ln_before"]
        (folder / "adapter_config.json").write_text(json.dumps(metadata))
        assert_refused(folder, "original_ln_before None")

    def test_another_model(self, tiny_backbone: Callable[[str], Backbone]) -> None:
        assert_refused(FIXTURES / "xlm-roberta" / "source", "model_type 'xlm-roberta', oracle bert needs 'bert'")
        assert_refused(FIXTURES / "bert" / "source", "hidden_size 16, tiny bert needs 48", tiny_backbone("bert"))

    @pytest.mark.parametrize("name", ["adapter_config.json", "adapter.safetensors"])
    def test_missing_and_damaged_files(self, name: str, tmp_path: Path) -> None:
        folder = changed(FIXTURES / "bert" / "source", tmp_path)
        whole = (folder / name).read_bytes()
        (folder / name).unlink()
        assert_refused(folder, "does not exist|has neither")
        for damaged in (whole[: len(whole) // 2], b"", b"[1, 2]"):
            (folder / name).write_bytes(damaged)
            assert_refused(folder, "is not JSON|is damaged|describes no adapter")

    def test_a_damaged_pickle(self, tmp_path: Path) -> None:
        folder = changed(FIXTURES / "bert" / "source-pickled", tmp_path)
        path = folder / "pytorch_adapter.bin"
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], b"", b"junk"):
            path.write_bytes(damaged)
            assert_refused(folder, "is damaged")
        torch.save([1, 2], path)
        assert_refused(folder, "holds no weights by name")

    def test_a_pickle_that_would_run_code(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "ran",))

        folder = changed(FIXTURES / "bert" / "source-pickled", tmp_path)
        torch.save({"weights": Trap()}, folder / "pytorch_adapter.bin")
        assert_refused(folder, "is damaged or holds no weights")
        assert not (tmp_path / "ran").exists()

    def test_weights_that_lack_or_exceed(self, tmp_path: Path) -> None:
        folder = changed(FIXTURES / "bert" / "source", tmp_path)
        path = folder / "adapter.safetensors"
        tensors = load_file(path)
        save_file({**tensors, "bert.encoder.layer.0.attention.more": torch.zeros(1)}, path)
        assert_refused(folder, "holds encoder.layer.0.attention.more")
        key = "bert.encoder.layer.1.output.adapters.source.adapter_up.bias"
        save_file({name: value for name, value in tensors.items() if name != key}, path)
        assert_refused(folder, r"lacks encoder\.layer\.1\.output\.adapters\.source\.adapter_up\.bias")
        save_file({**tensors, key: torch.zeros(15)}, path)
        assert_refused(folder, r"adapter_up\.bias is \[15\], expected \[16\]")

    def test_no_name(self, tmp_path: Path) -> None:
        folder = changed(FIXTURES / "bert" / "source", tmp_path)
        metadata = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**metadata, "name": None}))
        assert_refused(folder, "does not name its adapter")
        (folder / "adapter_config.json").write_text(json.dumps({**metadata, "config": "pfeiffer"}))
        assert_refused(folder, "holds no bottleneck adapter")
