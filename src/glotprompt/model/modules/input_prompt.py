"""The input prompt: trained vectors in front of the word embeddings, and nowhere else (prompt tuning, Lester et al.
2021), as a module."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from glotprompt.errors import ConfigError
from glotprompt.model.backbone import Backbone
from glotprompt.model.body import first_position, text_positions
from glotprompt.model.modules.module import Module, check_shapes


class InputPrompt(Module):
    """Trainable vectors [prompt, hidden] that stand where word embeddings of as many tokens would, before every text.

    Every layer computes them as it computes tokens, and they are read nowhere: only states of the text come back. They
    have the positions of the first `prompt_length` tokens, and the text keeps its own ("plain", as behind a soft
    prompt), so the longest text stays as long as without them.
    """

    kind = "input prompt"

    def __init__(self, vectors: Float[Tensor, "prompt hidden"]) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors.detach().float().clone())

    @classmethod
    def initialise(cls, backbone: Backbone, prompt_length: int, std: float | None, seed: int) -> InputPrompt:
        """Normal noise of this standard deviation, or (None) embeddings of different tokens, sampled from the whole
        vocabulary; equal for equal seeds on every device. Raises `ConfigError` for more vectors than positions, and for
        decoders and the T5 family."""
        if backbone.objective != "mlm":
            raise ConfigError(f"{backbone.name}: an input prompt is for masked encoders; train a soft prompt")
        if prompt_length > min(backbone.max_positions, backbone.vocab_size):
            raise ConfigError(
                f"prompt_length is {prompt_length}; {backbone.name} has {backbone.max_positions} positions for an input"
                " prompt, give 20 to 100"
            )
        generator = torch.Generator("cpu").manual_seed(seed)
        if std is not None:
            shape = prompt_length, backbone.hidden_size
            return cls(torch.randn(shape, generator=generator, device="cpu") * std)
        tokens = torch.randperm(backbone.vocab_size, generator=generator, device="cpu")[:prompt_length]
        return cls(backbone.input_embeddings[tokens.to(backbone.device)])

    @contextmanager
    def attached(self, backbone: Backbone) -> Generator[None]:
        """Context in which the body reads every text behind the vectors."""
        body: nn.Module = backbone.model.base_model
        length, first = len(self.vectors), first_position(backbone.model)

        def prepend(body: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            ids, mask = options.pop("input_ids"), options["attention_mask"]
            words = body.get_input_embeddings()(ids)
            vectors = self.vectors.to(words.dtype).expand(len(ids), -1, -1)
            own = torch.arange(length, device=ids.device).expand(len(ids), -1) + first
            options["inputs_embeds"] = torch.cat([vectors, words], dim=1)
            options["position_ids"] = torch.cat([own, text_positions(ids, first).expand(ids.shape)], dim=1)
            options["attention_mask"] = None if mask is None else F.pad(mask, (length, 0), value=1)
            return arguments, options

        def drop(body: Any, arguments: tuple[Any, ...], output: Any) -> None:
            output.last_hidden_state = output.last_hidden_state[:, length:]
            if output.hidden_states is not None:
                output.hidden_states = tuple(states[:, length:] for states in output.hidden_states)

        with body.register_forward_pre_hook(prepend, with_kwargs=True), body.register_forward_hook(drop):
            yield

    def settings(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, Tensor]:
        return {"vectors": self.vectors}

    @classmethod
    def restore(cls, backbone: Backbone, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> InputPrompt:
        length = min(len(tensors.get("vectors", ())), backbone.max_positions)
        check_shapes("an input prompt", tensors, {"vectors": (max(1, length), backbone.hidden_size)})
        return cls(tensors["vectors"])
