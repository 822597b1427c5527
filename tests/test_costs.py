"""What the methods take, counted without weights: published figures, real modules, and a measured peak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from transformers import AutoConfig

from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.errors import ConfigError, ModelError
from glotprompt.estimate.costs import MethodCost, activation_bytes, adapt_cost, method_costs, tune_cost
from glotprompt.methods import METHODS
from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import MINI_SENTENCE
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.shapes import BUILT_IN, Shell
from glotprompt.training.memory import PeakMemory

from .conftest import TINY_KINDS, tiny_config

ADAPT, TUNE = AdaptConfig(batch_size=4, max_length=16), TuneConfig(batch_size=4, max_length=16)


def by_name(costs: list[MethodCost]) -> dict[str, MethodCost]:
    return {cost.method.name: cost for cost in costs}


@pytest.fixture(scope="module")
def shells() -> Callable[[str], Shell]:
    """From a tiny kind to its shape."""
    return lambda kind: Shell(tiny_config(kind), f"tiny {kind}")


@pytest.fixture(scope="module")
def tiny_costs(shells: Callable[[str], Shell]) -> dict[str, MethodCost]:
    """All methods on a tiny XLM-R."""
    return by_name(method_costs(shells("xlm-roberta"), ADAPT, TUNE))


class TestShapes:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", list(BUILT_IN))
    def test_published_counts(self, name: str) -> None:
        """All weights, tied ones once; of XLM-V those of the body."""
        published = {
            "FacebookAI/xlm-roberta-large": (560_142_482, (24, 2, 16, 32, 64)),
            "FacebookAI/xlm-roberta-base": (278_295_186, (12, 2, 12, 32, 64)),
            "facebook/xlm-v-base": (777_902_592, (12, 2, 12, 32, 64)),
            "facebook/xlm-roberta-xl": (pytest.approx(3.5e9, rel=0.01), (36, 2, 32, 32, 80)),
            "google-bert/bert-base-multilingual-cased": (pytest.approx(178e6, rel=0.01), (12, 2, 12, 32, 64)),
            "jhu-clsp/mmBERT-small": (pytest.approx(140e6, rel=0.01), (22, 2, 6, 32, 64)),
            "jhu-clsp/mmBERT-base": (pytest.approx(307e6, rel=0.01), (22, 2, 12, 32, 64)),
        }
        shell = Shell.named(name)
        model = shell.model.base_model if "xlm-v" in name else shell.model
        assert (sum(value.numel() for value in model.parameters()), shell.prompt_shape(32)) == published[name]
        assert shell.max_positions == (8192 if "mmBERT" in name else 512)
        assert shell.device.type == "meta"
        Shell(shell.model.config, name)  # passes the checks that the built-in ones are spared

    @pytest.mark.slow
    def test_the_shape_of_mini_is_its_own(self, mini: Backbone) -> None:
        shell = Shell.named("mini")
        assert shell.num_parameters == mini.num_parameters
        assert shell.prompt_shape(5) == mini.prompt_shape(5)
        assert shell.max_positions == mini.max_positions

    def test_an_unknown_name_is_one_line(self) -> None:
        with pytest.raises(ModelError, match="Did you mean 'FacebookAI/xlm-roberta-large'") as caught:
            Shell.named("FacebookAI/xlm-roberta-lagre")
        assert all(name in str(caught.value) for name in ("mini", *BUILT_IN))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("kind", ["deberta-v2", "bloom", "bart", "vit"])
    def test_what_a_backbone_refuses_a_shape_refuses_too(self, kind: str) -> None:
        with pytest.raises(ModelError, match="ModernBERT"):
            Shell(AutoConfig.for_model(kind), "it")


class TestCounts:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.reads_characters])
    def test_the_counts_are_those_of_the_real_deltas(
        self, name: str, tiny_costs: dict[str, MethodCost], own_backbone: Callable[[str], Backbone]
    ) -> None:
        method, backbone, cost = METHODS[name], own_backbone("xlm-roberta"), tiny_costs[name]
        assert cost.tune is not None
        adapt, tune = ADAPT.replace(method=name), TUNE.replace(method=name)
        begin = method.begin_adapt
        parts = {} if begin is None else {part: begin(backbone, adapt) for part in method.parts}
        if parts:
            assert cost.adapt is not None
            assert cost.adapt.trained_parameters == parts["language"].num_trained
            assert cost.language_bytes == sum(value.nbytes for value in parts["language"].tensors().values())
        tuned = method.begin_tune(backbone, parts, tune)
        if method.reads_vectors:
            assert cost.tune.trained_parameters == 4 * (backbone.hidden_size + 1), "four labels"
            assert cost.tune.file_bytes == 4 * (4 * (backbone.hidden_size + 1) + backbone.hidden_size + 1)
            return
        assert cost.tune.trained_parameters == tuned.num_trained
        delivered = method.deliver(tuned, parts).tensors().values()
        assert cost.tune.file_bytes == sum(value.nbytes for value in delivered)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", TINY_KINDS)
    def test_every_method_has_figures_or_a_reason(self, kind: str, shells: Callable[[str], Shell]) -> None:
        costs = method_costs(shells(kind), ADAPT, TUNE)
        assert [cost.method.name for cost in costs] == list(METHODS)
        refused = {cost.method.name for cost in costs if cost.refusal}
        assert refused == {"tf-idf"} | ({"mad-x", "soft-prompt+task-adapter"} if kind == "modernbert" else set())
        for cost in costs:
            assert (cost.tune is None) == bool(cost.refusal)
            assert cost.adapt is None or cost.method.stage1 is not None

    @pytest.mark.slow
    def test_the_shell_is_left_as_it_was(
        self, shells: Callable[[str], Shell], tiny_costs: dict[str, MethodCost]
    ) -> None:
        shell = shells("xlm-roberta")
        before = [name for name, _ in shell.model.named_modules()]
        for _ in range(2):
            assert by_name(method_costs(shell, ADAPT, TUNE)) == tiny_costs
        assert [name for name, _ in shell.model.named_modules()] == before

    @pytest.mark.slow
    def test_a_pooled_head_counts_beside_the_body(self) -> None:
        """Also of a backbone without an LM head."""
        shell, head = Shell.named(MINI_SENTENCE), 4 * (384 + 1)
        weights = tune_cost(shell, TUNE.replace(method="fine-tuning", head="pooled"), None, "cpu")
        assert weights.trained_parameters == shell.num_parameters + head
        prompts = tune_cost(shell, TUNE.replace(method="prompt-tuning", head="pooled"), None, "cpu")
        assert prompts.trained_parameters == 12 * 2 * 32 * 384 + head
        assert prompts.file_bytes == 4 * (prompts.trained_parameters + 384 + 1)

    def test_a_length_that_the_backbone_does_not_read(self, shells: Callable[[str], Shell]) -> None:
        with pytest.raises(ConfigError, match="max_length 513 is more than tiny bert reads"):
            method_costs(shells("bert"), ADAPT.replace(max_length=513), TUNE)


MEASURE = """
import json, sys, torch
from glotprompt.config import AdaptConfig
from glotprompt.estimate.costs import activation_bytes
from glotprompt.methods import METHODS
from glotprompt.model.backbone import Backbone
from glotprompt.training.memory import PeakMemory

torch.set_num_threads(1)
backbone = Backbone.load("mini", precision="fp32", device="cpu")

def step(module, batch, length, words):
    with module.attached(backbone) as prefix:
        hidden = backbone.hidden_states(torch.full((batch, length), 50), None, prefix).flatten(0, 1)
        backbone.masked_token_loss(hidden[:words], torch.arange(words)).backward()
    module.zero_grad()

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

found = {}
for name in sys.argv[1:]:
    module = METHODS[name].begin_adapt(backbone, AdaptConfig(method=name))
    step(module, 1, 8, 1)  # what the libraries set up once
    before, peak = resident(), PeakMemory()
    step(module, 8, 64, 77)
    found[name] = [peak.bytes() - before, activation_bytes(backbone, module, 8, 64, 77)]
print(json.dumps(found))
"""


class TestMemory:
    def test_a_gpu_that_is_left_alone_is_not_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        assert PeakMemory().bytes() > 2**20

    @pytest.mark.skipif(sys.platform != "linux", reason="reads the peak where Linux keeps it")
    @pytest.mark.long
    def test_the_estimate_is_near_the_measured_peak(self) -> None:
        """One step on the mini, in a process of its own whose allocator gives memory back at once."""
        allocator = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, "soft-prompt", "mad-x"],
            capture_output=True, text=True, check=True, env={**os.environ, **allocator},
        )  # fmt: skip
        for name, (measured, estimated) in json.loads(done.stdout).items():
            assert 1 / 1.4 < measured / estimated < 1.4, (name, measured, estimated)

    @pytest.mark.slow
    def test_an_empty_model_counts_what_a_full_one_keeps(
        self, shells: Callable[[str], Shell], tiny_backbone: Callable[[str], Backbone]
    ) -> None:
        """With a prompt and with adapters; of the latter's attention only the output, as the fused kernel does."""
        for name in ("soft-prompt", "mad-x"):
            counted: list[int] = []
            for backbone in (shells("xlm-roberta"), tiny_backbone("xlm-roberta")):
                begin = METHODS[name].begin_adapt
                assert begin is not None
                module = begin(backbone, ADAPT.replace(method=name)).to(backbone.device)
                counted.append(activation_bytes(backbone, module, 4, 64, 38))
            assert counted[0] == pytest.approx(counted[1], rel=0.1), name

    @pytest.mark.slow
    def test_what_it_follows(self, shells: Callable[[str], Shell]) -> None:
        """The trained layers, the batch, the length, the precision, and where attention runs."""
        shell, half = shells("xlm-roberta"), shells("xlm-roberta")
        half.use_precision("bf16")
        every, top = (SoftPrompt(torch.zeros(shell.prompt_shape(32), device="meta"), range(k, 3)) for k in (0, 1))
        base = activation_bytes(shell, every, 8, 64, 76)
        assert activation_bytes(shell, top, 8, 64, 76) < 0.8 * base  # 2 of 3 layers
        assert activation_bytes(shell, every, 16, 64, 152) == pytest.approx(2 * base, rel=0.05)
        assert activation_bytes(shell, every, 8, 128, 152) > 2.3 * base  # attention weights grow with the square
        assert activation_bytes(shell, every, 8, 64, 76, "cuda") < 0.8 * base
        assert activation_bytes(half, every, 8, 64, 76) == pytest.approx(base / 2, rel=0.2)

    @pytest.mark.slow
    def test_a_pair_is_two_sentences(self, shells: Callable[[str], Shell]) -> None:
        shell, config = shells("xlm-roberta"), ADAPT.replace(objective="alignment")
        begin = METHODS["soft-prompt"].begin_adapt
        assert begin is not None
        expected = activation_bytes(shell, begin(shell, config).to(shell.device), 2 * 4, 16, 0)
        assert adapt_cost(shell, config, "cpu").activation_bytes == expected

    @pytest.mark.slow
    def test_what_is_held_beside_them(self, shells: Callable[[str], Shell], tiny_costs: dict[str, MethodCost]) -> None:
        """AdamW has two moments; in bf16 only the backbone takes half."""
        shell, half = shells("xlm-roberta"), shells("xlm-roberta")
        half.use_precision("bf16")
        full, halved = tiny_costs["fine-tuning"].tune, by_name(method_costs(half, ADAPT, TUNE))["fine-tuning"].tune
        assert full is not None
        assert halved is not None
        assert full.optimiser_bytes == full.copies_bytes == 2 * full.gradient_bytes == 8 * shell.num_parameters
        assert full.optimiser_bytes == halved.optimiser_bytes
        assert full.backbone_bytes == 2 * halved.backbone_bytes == 4 * shell.num_parameters
        held = full.backbone_bytes + full.copies_bytes + full.optimiser_bytes + full.gradient_bytes
        assert full.memory_bytes == held + full.activation_bytes

    @pytest.mark.slow
    def test_nothing_is_computed(self, shells: Callable[[str], Shell]) -> None:
        """A batch that no machine holds."""
        shell = shells("bert")
        begin = METHODS["soft-prompt"].begin_adapt
        assert begin is not None
        module = begin(shell, ADAPT).to(torch.device("meta"))
        assert activation_bytes(shell, module, 2**20, 512, None) > 2**40
