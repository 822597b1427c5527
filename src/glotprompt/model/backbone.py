"""A frozen multilingual backbone with its tokenizer, loaded once and never changed."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from accelerate import PartialState
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from glotprompt.errors import ConfigError, ModelError, setting
from glotprompt.model.body import LayeredBody, ReadPositions, first_position, layered_body, text_positions
from glotprompt.model.devices import Precision, choose_precision, device_of
from glotprompt.model.families import DecoderInput, family_of
from glotprompt.model.heads import head_transform, is_the_models_own, masked_token_loss
from glotprompt.model.loading import MINI, WORKING, Pooling, fingerprint, in_one_line, name_of, open_backbone
from glotprompt.model.prefix import ATTENTION, Attachable, Prefix, layers_reached
from glotprompt.model.recomputation import layers_drop, recompute
from glotprompt.model.tokens import (
    Objective,
    Sequences,
    SpecialIds,
    beginning,
    by_length,
    pad,
    plain,
    refuse_other_tokenizer,
)
from glotprompt.model.xlm import speak_interface
from glotprompt.storage.artifact import other_backbone


class Backbone:
    """A language model or sentence encoder with frozen weights: hidden states with a prompt, sentence vectors and,
    where it has an LM head, masked or next tokens (`families`).

    All tensors it takes and returns live on `device`; the body computes in `dtype`, logits and losses are fp32.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        name: str = "unnamed",
        pooling: Pooling = "mean",
    ) -> None:
        """Freeze `model` and replace its attention function so that prompts reach it; `pooling` is used by `embed`.
        Raises `ModelError` where that attention cannot be replaced, or the tokenizer lacks a special token."""
        self._take(model, name)
        refuse_other_tokenizer(name, tokenizer, self.objective, self.vocab_size)
        self.tokenizer = tokenizer
        self.pooling: Pooling = pooling
        self.fingerprint = fingerprint(model, tokenizer)
        self._attach(SpecialIds.of(tokenizer).mask)

    def __repr__(self) -> str:
        return f"<Backbone {self.name}: {self.num_layers} layers, {self.num_parameters:,} parameters, {self.precision}>"

    def _take(self, model: PreTrainedModel, name: str) -> None:
        """Freeze the model and read its shape; `ModelError` for a model of another kind."""
        self.name = name
        self._is_loaded = False
        self.asked_precision: Precision = "auto"  # part of a run's identity: "bf16" never resumes an fp32 run
        self.model = model.eval().requires_grad_(False)
        config: Any = model.config
        kind = family_of(config)
        if not kind.takes(config):
            raise ModelError(f"{name}: a {config.model_type!r} model is not supported as a backbone; {WORKING}")
        self.family = kind(model)
        self.objective: Objective = kind.objective
        self.has_lm_head = self.family.has_lm_head  # a sentence encoder has states only
        self.num_layers, self.num_state_layers = self.family.num_layers, self.family.num_state_layers
        self.num_heads, self.head_dim = self.family.num_heads, self.family.head_dim
        self.hidden_size, self.vocab_size = int(config.hidden_size), int(config.vocab_size)
        self._first_position = first_position(model)
        self.max_positions: int = self.family.num_positions - self._first_position
        """Longest input in tokens, special tokens included."""

    @classmethod
    def load(
        cls, name: str | Path | Sequence[str | Path], *, precision: Precision = "auto", device: str = "auto"
    ) -> Backbone:
        """Open a backbone: "mini" or "mini-sentence" (inside the package), a folder, GGUF files beside config.json and
        tokenizer.json (a list, or "a.gguf,b.gguf"), or a hub name (offline with HF_HUB_OFFLINE=1).

        `precision` is that of the frozen body: "auto" uses bf16 where it is faster on this machine. Raises `ModelError`
        if the backbone cannot be loaded or used."""
        if precision not in get_args(Precision):
            raise ConfigError(f"precision is {precision!r}; give one of {', '.join(get_args(Precision))}")
        label, torch_device = name_of(name), device_of(device)
        opened = open_backbone(label)
        with in_one_line(label):
            backbone = cls(opened.model, opened.tokenizer, label, opened.pooling)
        backbone._is_loaded, backbone.asked_precision = True, precision
        backbone.model.to(torch_device)  # pyright: ignore[reportArgumentType]
        backbone.use_precision(choose_precision(torch_device) if precision == "auto" else precision)
        return backbone

    def use_precision(self, precision: Literal["fp32", "bf16"]) -> None:
        """Switch the precision of the body; fp32 weights that were rounded to bf16 are loaded again."""
        if precision == "fp32" and self.dtype != torch.float32:
            exact = self._in_fp32()
            self._cast(torch.float32)
            self.model.load_state_dict(exact.state_dict())
        self._cast(torch.bfloat16 if precision == "bf16" else torch.float32)

    def _in_fp32(self) -> PreTrainedModel:
        if self.dtype == torch.float32:
            return self.model
        if not self._is_loaded:
            raise ModelError(f"{self.name} was not loaded by Backbone.load; load it again with precision='fp32'")
        return open_backbone(self.name).model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model (fp32) and tokenizer as a folder that transformers opens with `Family.auto_class`, or `AutoModel`
        for a backbone without an LM head."""
        self._in_fp32().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        for path in Path(folder).glob("*.safetensors"):  # safetensors makes them readable by their owner only
            path.chmod((Path(folder) / "config.json").stat().st_mode)

    def _cast(self, dtype: torch.dtype) -> None:
        # Only the weights: rotary frequencies are buffers, and in bf16 distant positions would become imprecise.
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(dtype)

    def checkpoint_gradients(self, on: bool) -> None:
        """Recompute activations in the backward pass; `ConfigError` for a model that cannot, or would drop states."""
        ids = torch.full((1, 8), SpecialIds.of(self.tokenizer).mask, device=self.device)
        possible = self.model.supports_gradient_checkpointing
        if on and (not possible or layers_drop(self.model, lambda: self.family.read(ids, None, None))):
            what = setting("gradient_checkpointing")
            raise ConfigError(f"{self.name} cannot recompute activations; leave {what} out, or lower the batch")
        recompute(self.model, on)

    @contextmanager
    def dropping_out(self, on: bool, seed: tuple[int, ...]) -> Generator[None]:
        """Context with the body's own dropout, seeded by `seed` and the process number; no effect unless `on`."""
        if not on:
            yield
            return
        modules = list(self.model.modules())
        were = [module.training for module in modules]
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            digest = hashlib.sha256(repr((*seed, PartialState().process_index)).encode())
            torch.manual_seed(int(digest.hexdigest()[:15], 16))
            self.model.train()
            try:
                yield
            finally:
                for module, was in zip(modules, were, strict=True):
                    module.training = was

    def _attach(self, token_id: Any) -> None:
        """Find the model's LM head and layers, and let its attention take prompts."""
        if self.has_lm_head:
            self._transform, self._decoder = cast(Any, (head_transform(self.model), self.model.get_output_embeddings()))
        speak_interface(self.model)
        ids = torch.full((1, 2), token_id, device=self.model.device)
        self._refuse_out_of_reach(ids)
        self._body: LayeredBody | None = layered_body(self.model, ids) if self.objective == "mlm" else None

    def _refuse_out_of_reach(self, ids: Tensor) -> None:
        """Raise `ModelError` unless a prompt reaches every layer and our LM head matches the model's."""
        kind = self.model.config.model_type
        unknown = ModelError(f"{self.name}: the LM head of {kind!r} has a layout we do not know; {WORKING}")
        if self.has_lm_head and (self._transform is None or self._decoder is None):
            raise unknown
        try:
            self.model.set_attn_implementation(ATTENTION)
            zeros = torch.zeros(self.prompt_shape(1), device=self.device, dtype=self.dtype)
            reached = layers_reached(lambda prefix: self.family.read(ids, None, prefix), zeros)
        except (ValueError, TypeError, AssertionError):
            reached = set[int]()
        if reached != set(range(self.num_layers)):
            raise ModelError(
                f"{self.name}: a prompt reaches {len(reached)} of the {self.num_layers} layers of a {kind!r} model;"
                f" {WORKING}"
            )
        if self.has_lm_head and not self._head_is_the_models_own(ids):
            raise unknown
        if not self.family.is_exact():
            raise ModelError(f"{self.name}: a prompt does not act as it should in a {kind!r} model; {WORKING}")

    @torch.no_grad()
    def _head_is_the_models_own(self, ids: Tensor) -> bool:
        hidden = self.family.read(ids, None, None)[0]
        if hidden.shape[-1] != self.hidden_size or self._transform(hidden).shape[-1] != self._decoder.weight.shape[1]:
            return False
        return is_the_models_own(self.token_logits(hidden), self.family.logits(ids)[0].float())

    def require_lm_head(self, purpose: str) -> None:
        """Raise `ModelError` for a backbone without an LM head; `purpose` names what needs it."""
        if not self.has_lm_head:
            raise ModelError(
                f"{self.name} is a sentence encoder without an LM head, which {purpose} needs; take a masked language"
                f" model, such as {MINI!r}"
            )

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def input_embeddings(self) -> Float[Tensor, "vocab hidden"]:
        """Input embedding matrix of the frozen model."""
        return cast(Any, self.model.get_input_embeddings()).weight

    @property
    def precision(self) -> Literal["fp32", "bf16"]:
        """Precision of the frozen body."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    @property
    def reference(self) -> dict[str, str]:
        """Name and fingerprint, as files made for this backbone record them."""
        return {"name": self.name, "fingerprint": self.fingerprint}

    @property
    def num_parameters(self) -> int:
        """Number of parameters; tied ones count once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def prompt_shape(self, prompt_length: int) -> tuple[int, int, int, int, int]:
        """Shape [layer, 2, head, prompt, dim] of a prompt for this backbone."""
        return (self.num_layers, 2, self.num_heads, prompt_length, self.head_dim)

    def hidden_states(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None = None,
        prefix: Prefix | None = None,
    ) -> Float[Tensor, "batch seq hidden"]:
        """Last layer's output, of an encoder-decoder the encoder's. `attention_mask` is 1 for text and 0 for padding;
        None when nothing is padded."""
        if self.is_layered:
            return self.states_below(self.num_layers, input_ids, attention_mask, prefix)
        more = self._positions(input_ids, prefix)
        return self.family.encode(input_ids, attention_mask, prefix, **more).last_hidden_state

    def _positions(self, input_ids: Tensor, prefix: Prefix | None) -> dict[str, Tensor]:
        """Position ids as an argument of the model's forward pass; none where they are its own."""
        position_ids = self._position_ids(input_ids, prefix)
        return {} if position_ids is None else {"position_ids": position_ids}

    def states_at(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None,
        prefix: Prefix | None,
        positions: Int[Tensor, " n"],
        decoder: DecoderInput | None = None,
    ) -> Float[Tensor, "n hidden"]:
        """States that the LM head reads, at some positions, which index the flattened [batch * seq] states row by row;
        BERT-like models skip the others in the last layer. Of an encoder-decoder those of the decoder, which reads
        `decoder`."""
        if not self.is_layered:
            more = self._positions(input_ids, prefix)
            return self.family.read(input_ids, attention_mask, prefix, decoder, **more).flatten(0, 1)[positions]
        hidden = self.states_below(0, input_ids, attention_mask, prefix)
        return self.states_from(0, hidden, attention_mask, prefix, positions)

    def states_below(
        self,
        layer: int,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None,
        prefix: Prefix | None,
    ) -> Float[Tensor, "batch seq hidden"]:
        """Input of a layer, which `states_from` continues from. Only where `is_layered`."""
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
        """Like `states_at`, but from the input of a layer instead of tokens. Only where `is_layered`."""
        assert self._body is not None
        picks = ReadPositions(positions, *hidden.shape[:2])
        layers = range(layer, self.num_layers)
        return picks.drop_filling(self._body.run(hidden, attention_mask, prefix, layers, picks))

    @torch.no_grad()
    def embed(
        self,
        texts: Sequence[str],
        prompt: Attachable | None = None,
        layer: int | None = None,
        *,
        max_length: int | None = None,
        batch_size: int = 32,
    ) -> Float[NDArray[np.float32], "text hidden"]:
        """Sentence vectors: the output of `layer` layers (None: all; 0: the embeddings), pooled as the backbone does:
        the mean over all tokens, special ones included, or the first token; fp32.

        `prompt` is a result of `adapt`. Texts are truncated at `max_length` tokens (None: the model's limit)."""
        made_for = getattr(prompt, "backbone", self.reference)
        if made_for.get("fingerprint") != self.fingerprint:  # shapes alone would not reveal it
            raise ConfigError(f"the prompt is for {other_backbone(made_for, self.name, self.fingerprint)}")
        with nullcontext(None) if prompt is None else prompt.attached(self) as prefix:
            longest = self.max_positions - (0 if prefix is None or prefix.shift is None else prefix.prompt_length)
            sequences = self.sequences(texts, min(max_length or longest, longest))
            vectors = self.vectors(sequences, prefix, layer, batch_size).cpu().numpy()
        if not np.isfinite(vectors).all():
            raise ModelError(f"{self.name} gives vectors with NaN or infinity; the model or its prompt is damaged")
        return vectors

    def sequences(self, texts: Sequence[str], max_length: int) -> Sequences:
        """Token ids of texts, truncated, with special tokens."""
        clean = [beginning(plain(text, self.tokenizer), self.tokenizer, max_length) for text in texts]
        ids = self.tokenizer(clean, truncation=True, max_length=max_length)["input_ids"] if clean else []
        return [np.array(row, dtype=np.int64) for row in ids]

    def vectors(
        self, sequences: Sequences, prefix: Prefix | None, layer: int | None, batch_size: int
    ) -> Float[Tensor, "text hidden"]:
        """`pooled_states` of any number of sequences, in their order."""
        vectors = torch.zeros(len(sequences), self.hidden_size, device=self.device)
        for rows in by_length(sequences, batch_size):
            vectors[rows] = self.pooled_states([sequences[i] for i in rows], prefix, layer)
        return vectors

    def pooled_states(
        self, sequences: Sequences, prefix: Prefix | None, layer: int | None = None
    ) -> Float[Tensor, "batch hidden"]:
        """Like `embed`, for token ids in one batch; fp32, differentiable in the prefix. An empty one is read as the
        separator, without which it would have no state."""
        special = SpecialIds.of(self.tokenizer)
        sequences = [row if len(row) else np.array([special.separator]) for row in sequences]
        ids, mask = (
            None if array is None else torch.from_numpy(array).to(self.device) for array in pad(sequences, special.pad)
        )
        assert ids is not None
        states = self._states_behind(layer, ids, mask, prefix)
        if self.pooling == "cls":
            return states[:, 0].float()
        if mask is None:
            return states.float().mean(dim=1)
        weights = (mask / mask.sum(dim=1, keepdim=True)).float()
        return torch.einsum("bs,bsh->bh", weights, states.float())

    def _states_behind(
        self, layer: int | None, ids: Tensor, mask: Tensor | None, prefix: Prefix | None
    ) -> Float[Tensor, "batch seq hidden"]:
        most = self.num_state_layers
        if layer is None or layer == most:
            return self.hidden_states(ids, mask, prefix)
        if not 0 <= layer < most:
            raise ConfigError(f"layer is {layer}; {self.name} has {most} layers, give 0 to {most}")
        if self.is_layered:
            return self.states_below(layer, ids, mask, prefix)
        more = self._positions(ids, prefix)
        return self.family.encode(ids, mask, prefix, **more, output_hidden_states=True).hidden_states[layer]

    @property
    def is_layered(self) -> bool:
        """Whether the layers can be run separately: BERT, XLM-R and similar models, without dropout."""
        return self._body is not None and self._body.usable

    def _position_ids(self, input_ids: Tensor, prefix: Prefix | None) -> Tensor | None:
        """Position ids of a text after a prompt with "shifted" positions; None: the model's own."""
        if prefix is None or prefix.shift is None:
            return None
        return text_positions(input_ids, self._first_position, prefix.shift)

    def token_logits(
        self, hidden: Float[Tensor, "n hidden"], token_ids: Int[Tensor, " k"] | None = None
    ) -> Float[Tensor, "n vocab_or_k"]:
        """Logits (fp32) of the vocabulary, or of `token_ids`, from last-layer states; `ModelError` without an LM
        head."""
        self.require_lm_head("predicting tokens")
        weight, bias = self._decoder.weight, self._decoder.bias
        if token_ids is not None:
            weight, bias = weight[token_ids], None if bias is None else bias[token_ids]
        return F.linear(self._transform(hidden), weight, bias).float()

    def masked_token_loss(self, hidden: Float[Tensor, "n hidden"], targets: Int[Tensor, " n"]) -> Float[Tensor, ""]:
        """Sum of the masked tokens' cross-entropies (natural log) from last-layer states; raises as `token_logits`
        does."""
        self.require_lm_head("masked language modelling")
        return masked_token_loss(self._transform(hidden), self._decoder.weight, self._decoder.bias, targets)
