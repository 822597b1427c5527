"""Costs of methods on a backbone: trained parameters, files and memory, counted before training.

Every number comes from the method's own modules on a backbone without weights (`model.shapes`), so none is kept here
that could differ from what a training does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor

from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.errors import ConfigError, UserError
from glotprompt.methods import METHODS, Method
from glotprompt.model.backbone import Backbone
from glotprompt.model.families import DecoderInput
from glotprompt.model.heads import CACHED_LOGITS_BUDGET, LOGITS_BUDGET
from glotprompt.model.modules.classification import EmbeddingHead
from glotprompt.model.modules.module import Module
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.modules.stack import packed, trained_of
from glotprompt.model.modules.weights import Weights
from glotprompt.model.shapes import Shell

Attention = Literal["cpu", "cuda"]
"""Device of the attention, which decides whether its weights are stored."""

FP32 = 4
"""Bytes of a trained or saved parameter."""

_NUM_LABELS = 4
"""Number of labels (and label words) of the estimated task; a few more or less make no difference."""


@dataclass(frozen=True)
class StageCost:
    """One training of one stage."""

    trained_parameters: int
    """Trainable parameters, tied weights counted once."""
    trained_parameters_paper: int
    """The same in the counting of Chen and Chen 2024, table 3: a tied decoder counts beside the embeddings, and mad-x
    trains the masked-token head's dense layer and norm too (`train_lm_head`)."""
    share: float
    """Share of the backbone's parameters, 0 to 1."""
    file_bytes: int
    """Bytes of the tensors in the stage's file, fp32."""
    activation_bytes: int
    """Memory of activations (`activation_bytes`)."""
    backbone_bytes: int
    """Memory of the frozen backbone, in the precision of its body."""
    trained_layers: tuple[int, int] | None
    """First layer whose prompts are trained, and the one behind the last; None without prompts."""

    def to_dict(self) -> dict[str, Any]:
        """All figures, with derived ones; JSON."""
        derived = ("gradient_bytes", "optimiser_bytes", "copies_bytes", "memory_bytes")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}

    @property
    def gradient_bytes(self) -> int:
        return FP32 * self.trained_parameters

    @property
    def optimiser_bytes(self) -> int:
        """Memory of AdamW's two moments."""
        return 2 * FP32 * self.trained_parameters

    @property
    def copies_bytes(self) -> int:
        """The values themselves, which stand beside the backbone, and the best ones so far."""
        return 2 * FP32 * self.trained_parameters

    @property
    def memory_bytes(self) -> int:
        """Everything that a step needs, at most: gradients and activations have their peaks at different times."""
        held = self.backbone_bytes + self.copies_bytes + self.optimiser_bytes
        return held + self.gradient_bytes + self.activation_bytes


@dataclass(frozen=True)
class MethodCost:
    """Both stages of one method."""

    method: Method
    adapt: StageCost | None = None
    """Costs of stage 1; None without one."""
    tune: StageCost | None = None
    language_bytes: int | None = None
    """What one more language takes of the file of stage 1: all of it, but for mad-x, whose file also holds the source
    language's adapter."""
    refusal: str = ""
    """Why there are no figures: what the method lacks on this backbone, or that it uses none; both stages are then
    None."""

    def to_dict(self) -> dict[str, Any]:
        """The figures without the method; JSON."""
        return {
            "adapt": None if self.adapt is None else self.adapt.to_dict(),
            "tune": None if self.tune is None else self.tune.to_dict(),
            "language_bytes": self.language_bytes,
            "refusal": self.refusal or None,
        }


def method_costs(
    backbone: Shell, adapt: AdaptConfig, tune: TuneConfig, attention: Attention = "cpu"
) -> list[MethodCost]:
    """The costs of all methods, in their order; see `method_cost`."""
    return [method_cost(backbone, method, adapt, tune, attention) for method in METHODS.values()]


def method_cost(
    backbone: Shell, method: Method, adapt: AdaptConfig, tune: TuneConfig, attention: Attention
) -> MethodCost:
    """One method's costs with the settings of the two configs (their `method` is not read).

    Raises `ModelError` for a backbone without an LM head, `ConfigError` for a length that the backbone does not read.
    """
    backbone.require_lm_head("masked language modelling")
    _check_length(backbone, max(adapt.max_length, tune.max_length))
    adapt, tune = adapt.replace(method=method.name), tune.replace(method=method.name)
    begun = None if method.begin_adapt is None else adapt
    if method.reads_characters:
        return MethodCost(method, refusal="a weight for each label and n-gram of its examples, on any model")
    try:
        stage1 = None if begun is None else adapt_cost(backbone, begun, attention)
        stage2 = tune_cost(backbone, tune, begun, attention)
        with backbone.device:
            language = None if begun is None else _num_bytes(fresh_parts(backbone, begun)["language"])
    except UserError as error:
        return MethodCost(method, refusal=str(error))
    return MethodCost(method, stage1, stage2, language)


def adapt_cost(backbone: Shell, config: AdaptConfig, attention: Attention) -> StageCost:
    """Stage 1 by the config's method, which has one. Raises `ConfigError` and `ModelError` for what does not fit."""
    words = 0
    if config.objective != "alignment":
        backbone.require_lm_head("masked language modelling")
        share = 1.0 if backbone.objective == "clm" else config.mask_rate
        words = max(1, round(share * config.batch_size * config.max_length))
    _check_length(backbone, config.max_length)
    size = (config.batch_size * (1 if words else 2), config.max_length)  # both sides of a pair
    with backbone.device:
        parts = fresh_parts(backbone, config)
        paper = fresh_parts(backbone, config.replace(train_lm_head=True))["language"]
        saved = sum(_num_bytes(part) for part in parts.values())
        module = parts["language"].requires_grad_()
        return _stage_cost(backbone, module, paper, saved, activation_bytes(backbone, module, *size, words, attention))


def tune_cost(backbone: Shell, config: TuneConfig, adapt: AdaptConfig | None, attention: Attention) -> StageCost:
    """Stage 2 by the config's method, behind what a stage 1 left (None: behind none). Raises as `adapt_cost` does."""
    method = METHODS[str(config.method)]
    words = None if method.reads_words(config) else 0
    if words is None:
        backbone.require_lm_head("a template with label words (heads 'linear' and 'pooled' do without)")
    _check_length(backbone, config.max_length)
    with backbone.device:
        parts = {} if adapt is None else fresh_parts(backbone, adapt)
        tuned = method.begin_tune(backbone, parts, config).to(backbone.device)
        pools = method.reads_vectors or config.head == "pooled"
        head = EmbeddingHead.empty(backbone.hidden_size, _NUM_LABELS) if pools else None
        size, saved = (config.batch_size, config.max_length), _num_bytes(method.deliver(tuned, parts), head)
        activations = activation_bytes(backbone, tuned, *size, words, attention) if tuned.num_trained else 0
        return _stage_cost(backbone, tuned, tuned, saved, activations, head)


def _check_length(backbone: Shell, max_length: int) -> None:
    if max_length > backbone.max_positions:
        raise ConfigError(
            f"max_length {max_length} is more than {backbone.name} reads ({backbone.max_positions} tokens); lower it"
        )


def fresh_parts(backbone: Backbone, config: AdaptConfig) -> dict[str, Module]:
    """The modules of stage 1, untrained, by part."""
    method = METHODS[config.method]
    assert method.begin_adapt is not None
    return {part: method.begin_adapt(backbone, config).to(backbone.device) for part in method.source_shares(config)}


def _stage_cost(
    backbone: Shell,
    module: Module,
    paper: Module,
    file_bytes: int,
    activations: int,
    head: EmbeddingHead | None = None,
) -> StageCost:
    num_trained = sum(values.numel() for values in trained_of(module, head))
    prompt = next((part for part in module.modules() if isinstance(part, SoftPrompt)), None)
    layers = None if prompt is None or not prompt.trained.requires_grad else prompt.trained_layers
    return StageCost(
        trained_parameters=num_trained,
        trained_parameters_paper=num_trained - module.num_trained + _with_tied_twice(backbone, paper),
        share=num_trained / backbone.num_parameters,
        file_bytes=file_bytes,
        activation_bytes=activations,
        backbone_bytes=backbone.num_parameters * backbone.dtype.itemsize,
        trained_layers=None if layers is None else (layers.start, layers.stop),
    )


def tied_parameters(backbone: Backbone) -> int:
    """Size of the vocabulary matrix where embeddings and decoder share it, else 0."""
    model: Any = backbone.model
    shared, decoder = model.get_input_embeddings().weight, model.get_output_embeddings()
    return shared.numel() if decoder is not None and decoder.weight is shared else 0


def _with_tied_twice(backbone: Backbone, module: Module) -> int:
    model: Any = backbone.model
    shared = model.get_input_embeddings().weight
    name = next(name for name, value in model.named_parameters() if value is shared)
    whole = any(isinstance(part, Weights) and name in part.names for part in module.modules())
    return module.num_trained + (tied_parameters(backbone) if whole else 0)


def _num_bytes(body: Module, head: EmbeddingHead | None = None) -> int:
    return FP32 * sum(value.numel() for value in packed(body, head)[1].values())


def activation_bytes(
    backbone: Backbone, module: Module, batch: int, length: int, num_words: int | None, attention: Attention = "cpu"
) -> int:
    """Memory of one step beyond weights, gradients and optimiser, in bytes: kept + working.

    `kept` is what autograd holds between the forward and the backward pass of `batch` sequences of `length` tokens,
    counted by running the forward pass with the module attached; on the meta device that computes nothing. So it
    follows each method by itself: behind frozen weights a linear layer keeps no input, below the lowest trained prompt
    nothing is kept, and a trained vocabulary matrix has its gradient made in the forward pass. Attention with a prompt
    keeps its weights [batch, head, seq, prompt + seq] on a CPU; fused attention (no prompt, or CUDA) keeps its output
    instead. `working` is what stands beside it at the widest point: three tensors as large as the largest one kept, or
    two pieces of the vocabulary's logits.

    `num_words` is the number of masked tokens in stage 1, None in stage 2 (a few label words a sequence), 0 where none
    is predicted (alignment, a linear head).

    Measured on the bundled backbone, CPU, 8 x 256 tokens in fp32: 776 MB for a soft prompt, and 756 MB of the process
    where the allocator gives memory back at once; with glibc's defaults its fragments make that 0.99 GB.
    """
    memory = _AutogradMemory(
        backbone, module, fused=attention == "cuda" or not _has_prompt(module), size=(batch, length)
    )
    ids = torch.zeros(batch, length, dtype=torch.long, device=backbone.device)
    places = torch.zeros(num_words or batch, dtype=torch.long, device=backbone.device)
    with torch.autograd.graph.saved_tensors_hooks(memory.note, _as_it_is), module.attached(backbone) as prefix:
        if backbone.objective == "spans":  # spans with their sentinels, or label words: about a fifth of the text
            decoder = DecoderInput(ids[:, : -(-length // 5)])
            hidden = backbone.states_at(ids, None, prefix, places, decoder)
        else:
            hidden = backbone.hidden_states(ids, None, prefix).flatten(0, 1)[places]
        if num_words is None:
            backbone.token_logits(hidden, places[:1].expand(_NUM_LABELS))
        elif num_words:
            backbone.masked_token_loss(hidden, places)
    budget = LOGITS_BUDGET if attention == "cuda" else CACHED_LOGITS_BUDGET
    chunk = min(FP32 * backbone.vocab_size * (num_words or 0), budget)
    sizes = [num_bytes for _, num_bytes in memory.storages.values()]
    return sum(sizes) + max(3 * max(sizes, default=0), 2 * chunk)


def _has_prompt(module: Module) -> bool:
    return any(isinstance(part, SoftPrompt) for part in module.modules())


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


class _AutogradMemory:
    """Counts the memory that autograd stores, each storage once, without weights."""

    def __init__(self, backbone: Backbone, module: Module, fused: bool, size: tuple[int, int]) -> None:
        weights = chain(backbone.model.parameters(), backbone.model.buffers(), module.parameters(), module.buffers())
        storages = [value.untyped_storage() for value in weights]
        self._weights = {id(storage): storage for storage in storages}
        self._fused, self._head_dim = fused, backbone.head_dim
        batch, length = size
        heads: int = backbone.model.config.num_attention_heads
        self._weights_shape = (batch * heads, length)
        self.storages: dict[int, tuple[Any, int]] = {}
        """By id, which stays taken as long as the storage stands beside it; with its bytes."""

    def note(self, tensor: Tensor) -> Tensor:
        """Hook that autograd calls for every tensor that it stores."""
        storage = tensor.untyped_storage()
        if id(storage) in self._weights or id(storage) in self.storages:
            return tensor
        num_bytes = storage.nbytes()
        # Attention weights: the only softmax in a body, or with a prompt [batch * head, seq, keys].
        ours = tensor.dim() == 3 and tensor.shape[:2] == self._weights_shape
        if self._fused and (ours or "Softmax" in type(tensor.grad_fn).__name__):
            num_bytes = num_bytes // tensor.shape[-1] * self._head_dim
        self.storages[id(storage)] = storage, num_bytes
        return tensor
