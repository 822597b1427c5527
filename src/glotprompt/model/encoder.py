"""A frozen multilingual masked language model and its tokenizer, loaded once and never changed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from accelerate import PartialState
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging as transformers_logging

from glotprompt.errors import ConfigError, ModelError, in_a_line
from glotprompt.model.body import LayeredBody, ReadPositions, layered_body
from glotprompt.model.heads import head_transform, masked_word_loss
from glotprompt.model.soft_prompt import ATTENTION, Prefix, layers_reached
from glotprompt.processes import join

Precision = Literal["auto", "fp32", "bf16"]
WORKING = "XLM-R, XLM-R XL, BERT, ModernBERT (mmBERT) and EuroBERT work"
BUNDLED = "mini"
"""Name of the small backbone inside the package."""


class Encoder:
    """A masked language model with frozen weights: hidden states behind a prompt, and words at masked positions.

    All tensors it takes and returns live on `device`; the body computes in `dtype`, logits and losses are fp32.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, name: str = "unnamed") -> None:
        """Freeze `model` and route its attention so that prompts can reach it. Raises `ModelError` for an
        architecture that hands its attention to nobody, or a tokenizer without a mask token."""
        if tokenizer.mask_token_id is None:
            raise ModelError(f"{name}: its tokenizer has no mask token; a masked language model is needed")
        self._take(model, name)
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint(model, tokenizer)
        # Vocabularies are rounded up, but not to twice their size; from a folder without one, transformers makes a
        # tokenizer of a handful of tokens.
        if not self.vocab_size / 2 <= len(tokenizer) <= self.vocab_size:
            raise ModelError(
                f"{name}: its tokenizer has {len(tokenizer)} tokens, the model {self.vocab_size}; they do not belong"
                " together, give a folder that holds both"
            )
        self._refuse_out_of_reach(tokenizer.mask_token_id)

    def _take(self, model: PreTrainedModel, name: str) -> None:
        """Freeze the model and read its shape; `ModelError` for what is no plain encoder."""
        self.name = name
        self._where: str | None = None
        self.asked_precision: Precision = "auto"
        """What `load` was asked for: part of the identity of a run, so that "bf16" never goes on with an fp32 one."""
        self.model = model.eval().requires_grad_(False)
        config: Any = model.config
        wanted = ("num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size", "max_position_embeddings")
        if config.is_encoder_decoder or any(getattr(config, key, None) is None for key in wanted):
            raise ModelError(f"{name}: a {config.model_type!r} model is no plain encoder; {WORKING}")
        self.num_layers: int = config.num_hidden_layers
        self.num_heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        """Key/value heads: what a prompt has to fill."""
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.hidden_size: int = config.hidden_size
        self.vocab_size: int = config.vocab_size
        self._first_position = _first_position(model)
        self.max_positions: int = config.max_position_embeddings - self._first_position
        """Longest input in tokens, special tokens included."""

    @classmethod
    def load(cls, name: str | Path, *, precision: Precision = "auto", device: str = "auto") -> Encoder:
        """Open a backbone: "mini" (inside the package), a folder, or a hub name (offline with HF_HUB_OFFLINE=1).

        `precision` is that of the frozen body: "auto" takes bf16 where this machine multiplies it faster. Raises
        `ModelError` with one line if it cannot be had or cannot be used."""
        if precision not in get_args(Precision):
            raise ConfigError(f"precision is {precision!r}; give one of {', '.join(get_args(Precision))}")
        where = place_of(str(name))
        place = device_of(device)
        encoder = cls(*_open(where, str(name)), str(name))
        encoder._where, encoder.asked_precision = where, precision
        encoder.model.to(place)  # pyright: ignore[reportArgumentType]
        encoder.use_precision(choose_precision(place) if precision == "auto" else precision)
        return encoder

    def use_precision(self, precision: Literal["fp32", "bf16"]) -> None:
        """Compute in another precision from now on; weights lost to bf16 are read again from where they came."""
        if precision == "fp32" and self.dtype != torch.float32:
            if self._where is None:
                raise ModelError(f"{self.name} was not loaded by Encoder.load; load it again with precision='fp32'")
            fresh = AutoModelForMaskedLM.from_pretrained(self._where, dtype=torch.float32)
            self._cast(torch.float32)
            self.model.load_state_dict(fresh.state_dict())
        self._cast(torch.bfloat16 if precision == "bf16" else torch.float32)

    def _cast(self, dtype: torch.dtype) -> None:
        # Only the weights: the wave lengths of rotary positions are buffers, and in bf16 far positions would blur.
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(dtype)

    def checkpoint_gradients(self, on: bool) -> None:
        """Recompute activations in the backward pass, layer by layer. Only the layers themselves enter training mode,
        in which alone transformers recomputes: nothing below them drops anything out."""
        if on:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
            # It also makes the embeddings ask for gradients, for the sake of `use_reentrant`, and leaves them so.
            self.model.disable_input_require_grads()
        else:
            self.model.activation_checkpointing_disable()
        for module in self.model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.training = on

    @contextmanager
    def dropping_out(self, on: bool, seed: tuple[int, ...]) -> Generator[None]:
        """Training with the body's own dropout, drawn by `seed` and the number of the process; without `on` nothing
        happens."""
        if not on:
            yield
            return
        modules = list(self.model.modules())
        were = [module.training for module in modules]
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(
                int(hashlib.sha256(repr((*seed, PartialState().process_index)).encode()).hexdigest()[:15], 16)
            )
            self.model.train()
            try:
                yield
            finally:
                for module, was in zip(modules, were, strict=True):
                    module.training = was

    def _refuse_out_of_reach(self, token_id: Any) -> None:
        """Look once, on a text of one token, whether a prompt reaches every layer, and whether our masked-word head is
        the model's own."""
        kind = self.model.config.model_type
        unknown = ModelError(f"{self.name}: the masked-word head of {kind!r} has a layout we do not know; {WORKING}")
        transform, decoder = head_transform(self.model), self.model.get_output_embeddings()
        if transform is None or decoder is None:
            raise unknown
        self._transform, self._decoder = transform, cast(Any, decoder)
        self._body: LayeredBody | None = None
        ids = torch.full((1, 2), token_id, device=self.model.device)
        try:
            self.model.set_attn_implementation(ATTENTION)
            reached = layers_reached(self.model, ids)
        except (ValueError, TypeError, AssertionError):
            reached = set[int]()
        if reached != set(range(self.num_layers)):
            raise ModelError(
                f"{self.name}: a prompt reaches {len(reached)} of the {self.num_layers} layers of a {kind!r} model;"
                f" {WORKING}"
            )
        if not self._head_is_the_models_own(ids):
            raise unknown
        self._body = layered_body(self.model, ids)

    @torch.no_grad()
    def _head_is_the_models_own(self, ids: Tensor) -> bool:
        """Whether our scores of the vocabulary are those of the whole model."""
        own: Tensor = self.model(input_ids=ids).logits[0].float()
        hidden = self.model.base_model(input_ids=ids).last_hidden_state[0]
        if hidden.shape[-1] != self.hidden_size or self._transform(hidden).shape[-1] != self._decoder.weight.shape[1]:
            return False
        ours = self.token_logits(hidden)
        if ours.is_meta:
            return ours.shape == own.shape
        return ours.shape == own.shape and torch.allclose(ours, own, rtol=1e-3, atol=1e-3 * float(own.std()))

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def precision(self) -> str:
        """What the frozen body computes in, bf16 or fp32."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    @property
    def num_values(self) -> int:
        """Weights of the backbone, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def prompt_shape(self, prompt_length: int) -> tuple[int, int, int, int, int]:
        """[layer, 2, head, prompt, dim] of a prompt for this backbone."""
        return (self.num_layers, 2, self.num_heads, prompt_length, self.head_dim)

    def hidden_states(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None = None,
        prefix: Prefix | None = None,
    ) -> Float[Tensor, "batch seq hidden"]:
        """Last layer's output. `attention_mask` is 1 for text and 0 for padding; None when nothing is padded."""
        if self.is_layered:
            return self.states_below(self.num_layers, input_ids, attention_mask, prefix)
        arguments: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask, "prefix": prefix}
        position_ids = self._position_ids(input_ids, prefix)
        if position_ids is not None:
            arguments["position_ids"] = position_ids
        return self.model.base_model(**arguments).last_hidden_state

    def states_at(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None,
        prefix: Prefix | None,
        positions: Int[Tensor, " n"],
    ) -> Float[Tensor, "n hidden"]:
        """Last layer's output at some positions, which index the flattened [batch * seq] states row by row. As
        `hidden_states`, but where the model is built like BERT its last layer leaves the other positions out."""
        if not self.is_layered:
            return self.hidden_states(input_ids, attention_mask, prefix).flatten(0, 1)[positions]
        hidden = self.states_below(0, input_ids, attention_mask, prefix)
        return self.states_from(0, hidden, attention_mask, prefix, positions)

    def states_below(
        self,
        layer: int,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None,
        prefix: Prefix | None,
    ) -> Float[Tensor, "batch seq hidden"]:
        """What enters a layer, as `states_from` takes it up. Only where `is_layered`."""
        assert self._body is not None
        hidden = self._body.embed(input_ids, self._position_ids(input_ids, prefix))
        return self._body.run(hidden, attention_mask, prefix, range(layer))

    def states_from(
        self,
        layer: int,
        hidden: Float[Tensor, "batch seq hidden"],
        attention_mask: Int[Tensor, "batch seq"] | None,
        prefix: Prefix | None,
        positions: Int[Tensor, " n"],
    ) -> Float[Tensor, "n hidden"]:
        """As `states_at`, from what enters a layer instead of from tokens. Only where `is_layered`."""
        assert self._body is not None
        read = ReadPositions(positions, *hidden.shape[:2])
        layers = range(layer, self.num_layers)
        return read.drop_filling(self._body.run(hidden, attention_mask, prefix, layers, read))

    @property
    def is_layered(self) -> bool:
        """Whether the layers can be run from and up to any of them now: BERT, XLM-R and their kin, without dropout."""
        return self._body is not None and self._body.usable

    def _position_ids(self, input_ids: Tensor, prefix: Prefix | None) -> Tensor | None:
        """The position ids behind a prompt with "shifted" positions; None: the model's own."""
        if prefix is None or prefix.shift is None:
            return None
        shift = prefix.shift
        if self._first_position:  # RoBERTa counts text tokens only, from the padding id + 1; padding keeps its id
            padding = self._first_position - 1
            text = (input_ids != padding).long()
            return (text.cumsum(dim=1) + shift) * text + padding
        return torch.arange(input_ids.shape[1], device=input_ids.device) + shift

    def token_logits(
        self, hidden: Float[Tensor, "n hidden"], token_ids: Int[Tensor, " k"] | None = None
    ) -> Float[Tensor, "n vocab_or_k"]:
        """Scores of the vocabulary, or of `token_ids` alone, at the given last-layer states; fp32."""
        weight, bias = self._decoder.weight, self._decoder.bias
        if token_ids is not None:
            weight, bias = weight[token_ids], None if bias is None else bias[token_ids]
        return F.linear(self._transform(hidden), weight, bias).float()

    def masked_word_loss(self, hidden: Float[Tensor, "n hidden"], targets: Int[Tensor, " n"]) -> Float[Tensor, ""]:
        """Sum of the masked words' cross-entropies (natural log), at the given last-layer states."""
        return masked_word_loss(self._transform(hidden), self._decoder.weight, self._decoder.bias, targets)


def place_of(name: str) -> str:
    """What transformers calls a backbone: its folder where it is the bundled one, else the name itself."""
    return str(files("glotprompt") / "assets" / "mini") if name == BUNDLED else name


def _open(where: str, name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Model in fp32 and tokenizer, or one line that says why not."""
    transformers_logging.disable_progress_bar()
    loudness = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # what it would report about weights is in our own line
    try:
        AutoConfig.from_pretrained(where)
        model, report = AutoModelForMaskedLM.from_pretrained(
            where, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(where, use_fast=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = in_a_line(error, 200)
        raise ModelError(
            f"cannot load {name!r}: {reason} -- give 'mini', a folder with config.json, model.safetensors and"
            " tokenizer.json, or a hub name (with HF_HUB_OFFLINE=1 only what is already downloaded)"
        ) from None
    finally:
        transformers_logging.set_verbosity(loudness)
    missing = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if missing:  # transformers would put noise in their place
        raise ModelError(
            f"{name}: {len(missing)} of its weights are not in the file or have other shapes there"
            f" ({', '.join(missing[:3])}); a whole masked language model is needed, with the head that predicts words"
        )
    return model, tokenizer


def _first_position(model: PreTrainedModel) -> int:
    """The position id of the first token: RoBERTa's kin start after the padding id, others at 0."""
    embeddings = getattr(model.base_model, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else padding + 1


def fingerprint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> str:
    """sha256 (16 hex digits) of config, tokenizer and up to 64 evenly spaced values of every weight in fp32: tells
    backbones apart whose prompts must not be mixed, in milliseconds. Taken before any cast to bf16."""
    config = model.config.to_diff_dict()  # without the library's defaults, which grow from release to release
    for key in ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"):
        config.pop(key, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        if value.device.type != "meta":
            flat = value.detach().flatten()
            count = min(64, flat.numel())
            picks = torch.arange(count, device=flat.device) * (flat.numel() - 1) // max(1, count - 1)
            digest.update(flat[picks].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def device_of(name: str) -> torch.device:
    """What a name such as "auto", "cpu" or "cuda:1" means in this process."""
    auto = join(name)
    return auto if name == "auto" else torch.device(name)


def choose_precision(device: torch.device) -> Literal["fp32", "bf16"]:
    """bf16 where this device multiplies it at least 1.3 times faster than fp32, found by a short probe."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    seconds = {dtype: _matmul_seconds(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    return "bf16" if seconds[torch.float32] > 1.3 * seconds[torch.bfloat16] else "fp32"


def _matmul_seconds(dtype: torch.dtype, device: torch.device) -> float:
    """Best of several timings of a product of the size of a small body's feed-forward."""
    left = torch.randn(1024, 768, device=device).to(dtype)
    right = torch.randn(768, 768, device=device).to(dtype)
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        torch.matmul(left, right)
        if device.type == "mps":
            torch.mps.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
