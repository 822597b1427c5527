"""Every setting of the two stages. What changes a number is in `AdaptConfig` and `TuneConfig`; what does
not (where and how a run executes) is in `RuntimeConfig`, so that the two can never be mixed up.

Defaults are the paper's (Chen and Chen, EMNLP 2024); `presets` holds named departures from them.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from glotprompt.errors import ConfigError, nearest, setting
from glotprompt.method_registry import DESCRIPTIONS, Description, Stage

Rate = Annotated[float, Field(gt=0)]
"""A learning rate."""

Schedule = Literal["linear", "cosine", "constant", "wsd"]
"""How a learning rate falls after its warm-up (`AdaptConfig.schedule`)."""


def _known(method: str) -> str:
    if method not in DESCRIPTIONS:
        *others, last = map(repr, DESCRIPTIONS)
        expected = f"{', '.join(others)} or {last}"
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
    return method


MethodName = Annotated[str, AfterValidator(_known)]
"""A method of `glotprompt.methods`, or one that was registered there."""


class Config(BaseModel):
    """A frozen, validated group of settings. Unknown keys are errors that name the nearest key."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_one_line(type(self), error)) from None

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated again."""
        return type(self)(**{**self.model_dump(exclude_unset=True), **changes})

    def identity(self) -> str:
        """Hash of all fields: two configs with one identity give the same numbers."""
        return identity_of(self.model_dump(mode="json"))


def identity_of(value: Any) -> str:
    """First 16 hex digits of the sha256 of a JSON value, keys sorted."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _rated(stage: Stage, known: dict[str, Any]) -> Description:
    """The method whose default rate a config has: its own; where that has none for the stage, soft-prompt."""
    prompts = DESCRIPTIONS["soft-prompt"]
    method = DESCRIPTIONS.get(known.get("method", ""), prompts)
    return method if stage in method.rates else prompts


def _auto_rates(known: dict[str, Any]) -> tuple[float, ...]:
    method = _rated("adapt", known)
    factors = (1, 2, 4, 8, 16, 32) if method.adapts_prompt else (1, 4, 16, 64)
    return tuple(round(factor * method.rates["adapt"], 10) for factor in factors)


def _one_line(config: type[Config], error: ValidationError) -> str:
    first, *more = error.errors()
    if not first["loc"]:
        return f"{config.__name__}: {first['msg'].removeprefix('Value error, ')}"
    key = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        hint = nearest(key, config.model_fields) or f" Expected one of {', '.join(config.model_fields)}."
        return f"{config.__name__} has no setting {key!r}.{hint}"
    # A field that takes a number or a word has an error for each of them.
    same = [e["msg"] for e in more if e["type"] == "literal_error" and e["loc"][0] == key]
    message = " or ".join([first["msg"], *(other.removeprefix("Input should be ") for other in same)])
    given, hint = first["input"], ""
    if first["type"] == "tuple_type":
        message = f"Input should be a list such as {json.dumps([given], default=str)}"
    elif first["type"] == "literal_error" and isinstance(given, str):
        hint = nearest(given, re.findall("'([^']+)'", first["msg"]))
    return f"{setting(key, of=config.__name__)}: {message}, not {given!r}.{hint}"


class AdaptConfig(Config):
    """Stage 1: masked language modelling on unlabelled text (section 3.1), or alignment on parallel text."""

    objective: Literal["mlm", "alignment"] = "mlm"
    """"mlm": masked language modelling. "alignment": a target sentence behind what is trained goes where the frozen
    model puts its translation; needs parallel text, and the preset alignment has its settings."""
    method: MethodName = "soft-prompt"
    """What is trained (`glotprompt methods`)."""
    prompt_length: int = Field(default=32, ge=1)
    """Key/value vectors in front of every layer's attention (section 4.2: 32)."""
    steps: int = Field(default=100_000, ge=1)
    """Optimiser steps (section 4.2: 100 K)."""
    batch_size: int = Field(default=32, ge=1)
    """Sequences per step (section 4.2: 32)."""
    max_length: int = Field(default=256, ge=8)
    """Tokens per sequence, `<s>` and `</s>` included. Not stated in the paper; assumption."""
    learning_rate: Rate | Literal["auto"] = Field(default_factory=lambda known: _rated("adapt", known).rates["adapt"])
    """Peak learning rate of AdamW; the default is the method's (section 4.2: 5e-3 for prompts, 1e-4 for MAD-X). Small
    backbones want far more (preset `quick`); "auto" tries `auto_rates` in rounds of short runs, of
    which the better half goes on, until one is left."""
    auto_rates: tuple[Rate, ...] = Field(default_factory=lambda known: _auto_rates(known), min_length=1)
    """Rates tried by `learning_rate="auto"`: the method's default and 2, 4, 8, 16 and 32 times it (prompts), or 4, 16
    and 64 times it (other methods, whose defaults are for models far larger than the bundled one)."""
    auto_steps: int = Field(default=40, ge=1)
    """Steps of each round of `learning_rate="auto"`, shared evenly by the rates that are still in it: of six rates each
    runs for 6 steps, then the best three for 13 and the best two for 20."""
    schedule: Schedule = "linear"
    """How the rate falls after the warm-up: in a line to 0, along half a "cosine" to 0, not at all ("constant"), or not
    before the last fifth of the steps and then in a line to 0 ("wsd": warm-up, stable, decay)."""
    warmup_ratio: float = Field(default=0.06, ge=0, le=1)
    """Share of the steps over which the rate rises linearly from 0 (RoBERTa's 6 %); then it follows `schedule`."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of what is trained."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest gradient norm; longer gradients are scaled down to it."""
    dropout: bool = False
    """Whether the body drops values out in training, by its own rates. Off for every method alike."""
    mask_rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of the tokens that are predicted; of these 80 % are masked, 10 % replaced, 10 % kept."""
    packing: Literal["full", "none"] = "full"
    """"full": lines joined and cut to `max_length`, no padding (RoBERTa's full sentences). "none": one line each."""
    source_share: float = Field(default=0.5, ge=0, le=1)
    """Share of source-language sequences in every batch (section 3.1: equal amounts). 0: target only;
    1: source only (the control)."""
    balance: Literal["subsample", "repeat"] = "subsample"
    """What happens to the larger of the two texts: "subsample" draws from it as much as the other has; "repeat" keeps
    all of it and goes through the smaller one more often."""
    held_out_share: float = Field(default=0.05, gt=0, lt=1)
    """Share of the target lines kept from training. Half of them chooses the best step, on the other half the loss
    before and after is measured. (Of the source lines when `source_share` is 1; of the pairs with alignment, at most
    `eval_sequences` of them.)"""
    eval_every: int = Field(default=100, ge=1)
    """Steps between evaluations on the held-out text; the best prompt seen is kept."""
    eval_sequences: int = Field(default=128, ge=1)
    """Most held-out sequences on which the best step is chosen. With alignment the largest number of held-out pairs,
    for both halves."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many evaluations without improvement; None: never. The plan of the learning rate stays that of all
    `steps`, so a run that stops early has not seen the low rates of its end."""
    initialise: Literal["noise", "text", "prompt"] = "noise"
    """What the prompts start as. "noise": normal, of `init_std`. "text": the keys and values that the frozen model
    itself has at `prompt_length` tokens of the source text (of the target's where there is no other). "prompt": a saved
    prompt, or the sum of several, handed over beside the settings."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the noise (P-tuning v2 in effect 0.02, PEFT 1)."""
    positions: Literal["plain", "shifted"] = "plain"
    """"plain": the text keeps its position ids. "shifted": they start after the prompt, as in P-tuning v2 and PEFT,
    which shortens the longest input by `prompt_length`."""
    adapter_reduction: int = Field(default=2, ge=1)
    """mad-x: the language adapter's bottleneck is so many times narrower than the hidden states (Pfeiffer et al. 2020,
    section 4.2 of the paper: 2)."""
    invertible_reduction: int | None = Field(default=2, ge=1)
    """mad-x: the same of the invertible adapter's two nets, against half the hidden states (2); None: no invertible
    adapter."""
    drop_last_adapter: bool = False
    """mad-x: no language adapter in the last layer (MAD-X 2.0; Pfeiffer et al. 2021, "UNKs Everywhere")."""
    train_lm_head: bool = False
    """mad-x: train the masked-token head's dense layer and norm with the adapter, as the `adapters` library does by
    default (table 3 counts 27 M with them)."""
    lora_rank: int = Field(default=8, ge=1)
    """lora: rank of the updates (Hu et al. 2022: 8)."""
    lora_alpha: float = Field(default=16.0, gt=0)
    """lora: the updates are scaled by alpha / rank."""
    lora_layers: Literal["attention", "all"] = "attention"
    """lora: which linear layers are updated: queries and values (Hu et al. 2022), or all of every layer."""
    seed: int = Field(default=0, ge=0)
    """Seed of initialisation, subsampling, order and masking."""


class TuneConfig(Config):
    """Stage 2: the task as a cloze, trained on labelled source text (section 3.2)."""

    method: MethodName | None = None
    """What is trained (`glotprompt methods`). None: the method of stage 1; without a stage 1, prompt-tuning."""
    epochs: int = Field(default=10, ge=1)
    """Passes over the labelled examples (section 4.2: 10)."""
    batch_size: int = Field(default=32, ge=1)
    """Examples per step (section 4.2: 32)."""
    max_length: int = Field(default=256, ge=8)
    """Tokens per example; the text is shortened, never the template. Not stated in the paper; assumption."""
    learning_rate: Rate = Field(default_factory=lambda known: _rated("tune", known).rates["tune"])
    """Peak learning rate of AdamW; the default is the method's (section 4.2: 1e-3 for prompts, 1e-4 for MAD-X, 1e-6 for
    fine-tuning). Small backbones want more (preset `quick`)."""
    warmup_ratio: float = Field(default=0.06, ge=0, le=1)
    """Share of the steps over which the rate rises linearly from 0; then it falls linearly to 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of what is trained."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    dropout: bool = False
    """Whether the body drops values out in training, by its own rates. Off for every method alike."""
    top_k_layers: int | None = Field(default=None, ge=1)
    """Prompts: train only those of the top K layers (section 3.2; 18 of 24). None: three quarters of the layers when
    a language prompt is given, all of them when the prompt starts from noise."""
    bottom_k_layers: int | None = Field(default=None, ge=1)
    """Prompts: train only those of the bottom K layers (the comparison of figure 6)."""
    task_adapter_reduction: int = Field(default=16, ge=1)
    """mad-x, soft-prompt+task-adapter: the task adapter's bottleneck is so many times narrower than the hidden states
    (Pfeiffer et al. 2020, section 4.2 of the paper: 16)."""
    head: Literal["cloze", "linear", "pooled"] = "cloze"
    """"cloze": template and verbalizer. "linear": a classification head on the first token, without a template.
    "pooled": a linear layer on the mean of all tokens' states, which starts as the logistic regression of method
    `embedding` and is trained with the rest; needs no LM head."""
    layer: int | None = Field(default=None, ge=0)
    """embedding, head "pooled": the states behind so many layers are read (0: the embeddings). None: all.
    Source-language dev examples choose lower layers, which read the target language worse (docs/log.md, 2026-11-29), so
    they are not asked."""
    loss_over: Literal["labels", "vocabulary"] = "labels"
    """"labels": softmax over the labels' scores. "vocabulary": over the whole vocabulary (equation 1)."""
    dev_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the examples held out to choose the best epoch, when no dev examples are given."""
    shots_per_class: int | None = Field(default=None, ge=1)
    """Few-shot: train on so many examples per label, drawn by `seed`; smaller draws lie inside larger ones. Of the
    source language alone."""
    target_weight: float | None = Field(default=None, gt=0)
    """Target labels: how much one counts for in the loss, where an example of the source language counts 1. None: 1,
    too. A few labels that weigh as much as all of the source's did harm (docs/log.md, 2026-11-30)."""
    prompt_length: int = Field(default=32, ge=1)
    """Length of a prompt that starts from noise (no language prompt given)."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of that noise."""
    seed: int = Field(default=0, ge=0)
    """Seed of initialisation, draws and order."""

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.top_k_layers is not None and self.bottom_k_layers is not None:
            raise ValueError("give top_k_layers or bottom_k_layers, not both")
        return self


class RuntimeConfig(Config):
    """How a run executes; nothing here is part of a run's identity. (Precision and device are properties of
    the loaded `Backbone` and are recorded in what it trains.)"""

    checkpoint_dir: Path | None = None
    """Folder for checkpoints; None: none are written. A killed run started again goes on from here. The caller removes
    it when the result is saved: until then it may be needed."""
    checkpoint_every: float = Field(default=20.0, ge=0)
    """Least seconds between two checkpoints; 0: after every step."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Largest number of sequences in one forward pass; a batch beyond it is accumulated: the same loss with less
    memory (with `dropout`, other values are dropped). Halved, and said, where memory runs out."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    eval_batch_size: int = Field(default=32, ge=1)
    """Sequences per forward pass when nothing is trained."""
    state_cache: int = Field(default=2**30, ge=0)
    """Stage 2: bytes of memory for what the layers below the lowest trained one give, computed once per example. What
    needs more goes to a file beside the checkpoints (else in the system's temporary folder) that ends with the process;
    0: nothing is kept."""
    no_samples: bool = False
    """Keep no example texts in what is saved. By default three short texts that were not trained on, at most 200
    characters each, go into the file in plain words, and `glotprompt serve` shows them: give this where the text is
    private."""
    allow_unknown: bool = False
    """Stage 1: train on text although the tokenizer lacks characters of more than a fifth of its words. Without
    it such text is refused: there is nothing to learn in it."""
    progress: bool = True
    """Show a progress line on a terminal, plain lines when piped."""


@cache
def presets() -> dict[str, dict[str, dict[str, Any]]]:
    """Named departures from the defaults, `presets/*.toml`, by name and stage; "paper" has none. A parameter that
    differs between methods is a table by method, in which "others" are those that it does not name."""
    found = sorted((path.name, path) for path in (files("glotprompt") / "presets").iterdir())
    return {name.removesuffix(".toml"): tomllib.loads(path.read_text(encoding="utf-8")) for name, path in found}


def preset(name: str, stage: Stage, method: str = "soft-prompt") -> dict[str, Any]:
    """The settings of preset `name` that differ from the defaults of a stage and method."""
    if name not in presets():
        raise ConfigError(f"no preset {name!r}; there are {', '.join(presets())}.{nearest(name, presets())}")
    chosen = {
        key: value.get(method, value.get("others")) if isinstance(value, dict) else value
        for key, value in presets()[name][stage].items()
    }
    return {key: value for key, value in chosen.items() if value is not None}
