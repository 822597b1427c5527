"""A step that runs out of memory is done again in smaller parts; one sequence that does not fit ends in plain words."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as distributed
from torch import Tensor

import glotprompt as gp
from glotprompt.config import RuntimeConfig
from glotprompt.errors import UserError, is_out_of_memory
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.training import micro_batch
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.alignment import alignment_corpus, alignment_losses

from ..toys import QUIET, SOURCE, TASK, TOY, TRANSLATIONS, topics

ADAPT = gp.AdaptConfig(
    steps=4, batch_size=8, max_length=16, prompt_length=2, learning_rate=0.05, eval_every=2, held_out_share=0.1
)
TUNE = gp.TuneConfig(epochs=1, batch_size=8, max_length=24, prompt_length=2, learning_rate=0.05)
MORE_THAN_ANY_MACHINE_HAS = 2**60
CPU = torch.device("cpu")


def torch_runs_out() -> None:
    """The error is the allocator's own."""
    torch.empty(MORE_THAN_ANY_MACHINE_HAS, dtype=torch.uint8)


class FailsOnTheWayBack(torch.autograd.Function):
    """Does nothing; its gradient needs more memory than there is."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:
        return hidden.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        torch_runs_out()
        return gradients[0]


class Memory:
    """A backbone's forward and backward passes in training, which fit up to `room` sequences."""

    def __init__(self, backbone: Backbone, monkeypatch: pytest.MonkeyPatch, room: int, backward: bool = False) -> None:
        self.room, self.backward = room, backward
        self.seen: list[int] = []
        self.first_failure = 0
        """So many passes fit whatever their size."""
        original = backbone.states_at

        def states_at(input_ids: Tensor, *words: Any) -> Tensor:
            hidden = original(input_ids, *words)
            if not hidden.requires_grad:
                return hidden
            self.seen.append(len(input_ids))
            if len(input_ids) <= self.room or len(self.seen) <= self.first_failure:
                return hidden
            if not self.backward:
                torch_runs_out()
            return FailsOnTheWayBack.apply(hidden)

        monkeypatch.setattr(backbone, "states_at", states_at)


@pytest.fixture
def backbone(own_backbone: Callable[[str], Backbone]) -> Backbone:
    return own_backbone("xlm-roberta")


def adapted(backbone: Backbone, runtime: RuntimeConfig = QUIET, config: gp.AdaptConfig = ADAPT) -> dict[str, Tensor]:
    made = gp.adapt(backbone, TOY, SOURCE, "xxx", config, runtime)
    return {f"{name}.{key}": value for name, part in made.parts.items() for key, value in part.tensors.items()}


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_says_that_memory_ran_out() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch_runs_out()
    assert is_out_of_memory(raised.value)
    for words in (
        "MPS backend out of memory (MPS allocated: 18.04 GB, other allocations: 14 MB, max allowed: 18.13 GB).",
        "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "could not create a primitive",
        "could not execute a primitive",
        "std::bad_alloc",
        "can't start new thread",
    ):
        assert is_out_of_memory(RuntimeError(words))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(UserWarning("mkldnn_matmul failed, switching to BLAS gemm:could not create a primitive"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(OSError("out of memory"))
    assert not is_out_of_memory(RuntimeError("could not create a primitive descriptor for a matmul primitive"))
    assert is_out_of_memory(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
    assert is_out_of_memory(ImportError("libx.so: failed to map segment from shared object"))


@pytest.mark.slow
@pytest.mark.parametrize("backward", [False, True])
def test_parts_are_halved_until_they_fit(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], backward: bool
) -> None:
    whole, in_twos = adapted(backbone), adapted(backbone, QUIET.replace(micro_batch_size=2))
    memory = Memory(backbone, monkeypatch, room=3, backward=backward)
    found = adapted(backbone, RuntimeConfig())
    assert memory.seen == [8, 4, *[2] * 4 * 4], "the first step is done again, the later ones go on so"
    assert same_bits(found, in_twos)
    assert not same_bits(found, whole)
    for name, value in found.items():
        assert torch.allclose(value, whole[name], atol=1e-3), "accumulated: the same but for rounding"
    said = [line for line in capsys.readouterr().err.splitlines() if "memory" in line]
    assert said == [
        "out of memory with 8 sequences at once; continuing with 4 (accumulated: the same loss; set a micro-batch size"
        " of 4 to start with it)",
        "out of memory with 4 sequences at once; continuing with 2 (accumulated: the same loss; set a micro-batch size"
        " of 2 to start with it)",
    ]


def onednn_raises() -> None:
    raise RuntimeError("could not create a primitive")


def torch_gives_onednn_up() -> None:
    """What torch does when oneDNN raises in a bf16 product: from then on it multiplies by itself, for minutes."""
    torch.backends.mkldnn.enabled = False


@pytest.mark.slow
@pytest.mark.parametrize("refuse", [onednn_raises, torch_gives_onednn_up])
def test_what_onednn_is_refused_halves_too(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, refuse: Callable[[], None]
) -> None:
    monkeypatch.setitem(globals(), "torch_runs_out", refuse)
    in_twos = adapted(backbone, QUIET.replace(micro_batch_size=2))
    memory = Memory(backbone, monkeypatch, room=3, backward=True)
    assert same_bits(adapted(backbone), in_twos)
    assert memory.seen[:3] == [8, 4, 2]
    assert torch.backends.mkldnn.enabled


def test_a_backbone_that_the_limit_leaves_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (mapped + 300 * 2**20, resource.RLIM_INFINITY))
    with pytest.raises(UserError, match=r"shared.gguf needs 387 MiB to be opened, and the limit .* raise it"):
        Backbone.load("mini")


@pytest.mark.slow
def test_what_the_failed_step_summed_is_dropped(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    in_twos = adapted(backbone, QUIET.replace(micro_batch_size=2))
    memory = Memory(backbone, monkeypatch, room=2, backward=True)
    memory.first_failure = 1
    assert same_bits(adapted(backbone, QUIET.replace(micro_batch_size=4)), in_twos)
    assert memory.seen == [4, 4, *[2] * 4 * 4], "the second part failed, the first had left its gradient"


@pytest.mark.slow
def test_the_size_is_that_of_the_part(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(backbone, monkeypatch, room=3)
    adapted(backbone, QUIET.replace(micro_batch_size=100))
    assert memory.seen[:3] == [8, 4, 2]


@pytest.mark.slow
@pytest.mark.parametrize("head", ["cloze", "linear"])
def test_stage_2_is_halved_too(backbone: Backbone, monkeypatch: pytest.MonkeyPatch, head: Any) -> None:
    config = TUNE.replace(head=head)
    in_twos = gp.tune(backbone, None, topics(4), TASK, config, QUIET.replace(micro_batch_size=2))
    memory = Memory(backbone, monkeypatch, room=2, backward=True)
    found = gp.tune(backbone, None, topics(4), TASK, config, QUIET)
    assert memory.seen[:3] == [8, 4, 2]
    assert found.training.losses == in_twos.training.losses


@pytest.mark.parametrize(("asked", "sizes"), [(None, [8, 4, 4]), (8, [4, 4])])
def test_alignment_is_halved_in_the_pass_before_its_parts_too(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, asked: int | None, sizes: list[int]
) -> None:
    config = gp.AdaptConfig(objective="alignment", batch_size=16, max_length=16)
    corpus = alignment_corpus(backbone, TRANSLATIONS, config, 32)
    prompt = SoftPrompt.initialise(backbone.prompt_shape(2), 0.5, 0)
    fits, parts = backbone.pooled_states, MicroBatch(QUIET.replace(micro_batch_size=asked))
    monkeypatch.setattr(
        backbone, "pooled_states", lambda rows, *more: fits(rows, *more) if len(rows) <= 4 else torch_runs_out()
    )
    for size in sizes:
        try:
            for loss, _ in alignment_losses(backbone, prompt, corpus.batch(0), corpus.centre, parts):
                loss.backward()
            ran_out = False
        except RuntimeError:
            ran_out = True
        parts.halve_if(ran_out, CPU)
        assert parts.halved_to == size


@pytest.mark.slow
@pytest.mark.parametrize("method", ["soft-prompt", "mad-x", "lora", "fine-tuning-mlm"])
def test_one_sequence_that_does_not_fit(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, method: gp.config.MethodName
) -> None:
    model = backbone.model
    modules, training = dict(model.named_modules()), model.training
    Memory(backbone, monkeypatch, room=0, backward=True)
    with pytest.raises(UserError, match=r"single sequence; try gradient_checkpointing=True, a smaller max_length="):
        adapted(backbone, config=ADAPT.replace(method=method, batch_size=2))
    assert dict(model.named_modules()) == modules, "nothing is left attached"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules.values())
    assert backbone.model.training == training


@pytest.mark.slow
def test_the_remedies_are_those_that_are_left(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    Memory(backbone, monkeypatch, room=0)
    with pytest.raises(UserError, match=r"single sequence; try a smaller max_length="):
        adapted(backbone, QUIET.replace(gradient_checkpointing=True, micro_batch_size=1))


def test_other_errors_are_not_repeated(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def broken(*words: Any) -> Tensor:
        nonlocal calls
        calls += 1
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(backbone, "masked_token_loss", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        adapted(backbone)
    assert calls == 1


@pytest.mark.slow
@pytest.mark.parametrize("stop", [5, 6, 11])
def test_a_resumed_training_goes_on_with_its_size(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stop: int
) -> None:
    """Memory runs out in the third step; the run is stopped some passes later, and then there is memory enough."""
    memory = Memory(backbone, monkeypatch, room=3)
    memory.first_failure = 2
    whole = adapted(backbone)
    assert memory.seen == [8, 8, 8, 4, *[2] * 8]
    memory.seen.clear()
    loss = backbone.masked_token_loss

    def stopped(*words: Any) -> Tensor:
        if len(memory.seen) == stop:
            raise KeyboardInterrupt
        return loss(*words)

    runtime = QUIET.replace(checkpoint_dir=tmp_path, checkpoint_every=3600)
    monkeypatch.setattr(backbone, "masked_token_loss", stopped)
    with pytest.raises(KeyboardInterrupt):
        adapted(backbone, runtime)
    monkeypatch.setattr(backbone, "masked_token_loss", loss)
    memory.room = 8
    memory.seen.clear()
    assert same_bits(adapted(backbone, runtime), whole)
    assert memory.seen == [2] * 8


def test_a_smaller_size_can_be_asked_for_when_resuming() -> None:
    for asked, halved_to, size in [(4, 8, 4), (4, 2, 2), (4, None, 4), (None, None, None), (None, 8, 8)]:
        resumed = MicroBatch(RuntimeConfig(micro_batch_size=asked))
        resumed.resume(halved_to)
        assert resumed.size == size


@pytest.mark.slow
def test_all_processes_take_the_smallest_size(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process needs parts of 2 in the first step, and gets through in the others."""
    in_twos = adapted(backbone, QUIET.replace(micro_batch_size=2))
    others = [2]

    def all_reduce(tensor: Tensor, op: Any) -> None:
        assert op == distributed.ReduceOp.MIN
        tensor.clamp_(max=others.pop() if others else MORE_THAN_ANY_MACHINE_HAS)

    memory = Memory(backbone, monkeypatch, room=100)
    monkeypatch.setattr(micro_batch, "together", lambda: True)
    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    assert same_bits(adapted(backbone), in_twos)
    assert memory.seen == [8, *[2] * 4 * 4]


TWO_PROCESSES = """
import sys, torch
from accelerate import PartialState
import glotprompt as gp
from glotprompt.training.micro_batch import MicroBatch

state = PartialState(cpu=True)
micro_batch = MicroBatch(gp.RuntimeConfig())
ran_out = state.process_index == 1
assert [rows.stop - rows.start for rows in micro_batch.parts(8)] == [4]
assert micro_batch.halve_if(ran_out, torch.device("cpu"))
assert [rows.stop - rows.start for rows in micro_batch.parts(8)] == [2, 2]
assert not micro_batch.halve_if(False, torch.device("cpu"))
list(micro_batch.parts(8))
assert micro_batch.halve_if(ran_out, torch.device("cpu"))
assert micro_batch.size == 1
list(micro_batch.parts(8))
try:
    micro_batch.halve_if(ran_out, torch.device("cpu"))
except gp.errors.UserError as error:
    print(f"both stop: {error}\\n", end="")  # one write: two processes print at once
state.destroy_process_group()
"""


@pytest.mark.long
def test_two_processes_agree(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("both stop: out of memory with a single sequence") == 2
    assert done.stderr.count("out of memory with") == 2, "one process speaks for all"
