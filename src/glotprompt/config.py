"""Settings of the two stages. `AdaptConfig` and `TuneConfig` hold everything that changes a number; `RuntimeConfig`
holds where and how a run executes. The two are never mixed.

Defaults are the paper's (Chen and Chen, EMNLP 2024) but for `loss_over`, which the preset "paper" sets, and the rate of
the MLM of fine-tuning-mlm (2e-5 for a printed 5e-3); `presets` returns named departures from them.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from glotprompt.errors import ConfigError, nearest, setting
from glotprompt.method_registry import DESCRIPTIONS, Description, Stage

Rate = Annotated[float, Field(gt=0)]
"""A learning rate."""

Schedule = Literal["linear", "cosine", "constant", "wsd"]
"""Learning-rate schedule after the warm-up (`AdaptConfig.schedule`)."""


def _check_method(method: str) -> str:
    if method not in DESCRIPTIONS:
        *others, last = map(repr, DESCRIPTIONS)
        expected = f"{', '.join(others)} or {last}"
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
    return method


MethodName = Annotated[str, AfterValidator(_check_method)]
"""A method of `glotprompt.methods`, or one that was registered there."""


class Config(BaseModel):
    """A frozen, validated group of settings. Unknown keys are errors that name the nearest key."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_one_line(type(self), error)) from None

    @field_validator("*", mode="before")
    @classmethod
    def _no_words_for_flags(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic takes "yes", "off" and numbers for true and false, too, also in a dataclass that is a field."""
        kind, flags = cls.model_fields[str(info.field_name)].annotation, [value]
        if kind is not bool:
            inside = fields(kind) if is_dataclass(kind) and isinstance(value, dict) else ()
            flags = [value.get(one.name, False) for one in inside if isinstance(one.default, bool)]
        if not all(isinstance(flag, bool) for flag in flags):
            raise PydanticCustomError("bool_type", "Expected true or false")
        return value

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


def _with_rate(stage: Stage, values: dict[str, Any]) -> Description:
    """The method whose default rate a config takes: its own, or soft-prompt where its own has none for the stage."""
    prompts = DESCRIPTIONS["soft-prompt"]
    method = DESCRIPTIONS.get(values.get("method", ""), prompts)
    return method if stage in method.rates else prompts


def _auto_rates(values: dict[str, Any]) -> tuple[float, ...]:
    method = _with_rate("adapt", values)
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
    # A field that takes a number or a string has one error for each.
    same = [e["msg"] for e in more if e["type"] == "literal_error" and e["loc"][0] == key]
    message = " or ".join([first["msg"], *(other.removeprefix("Input should be ") for other in same)])
    value, hint = first["input"], ""
    if first["type"] == "tuple_type":
        message = f"Input should be a list such as {json.dumps([value], default=str)}"
    elif first["type"] == "literal_error" and isinstance(value, str):
        hint = nearest(value, re.findall("'([^']+)'", first["msg"]))
    return f"{setting(key, of=config.__name__)}: {message}, not {value!r}.{hint}"


ObjectiveName = Literal["mlm", "clm", "spans", "alignment", "mlm+alignment"]
"""What stage 1 learns."""


class AdaptConfig(Config):
    """Stage 1: language modelling on unlabelled text (section 3.1: of masked tokens), or alignment on parallel text."""

    objective: ObjectiveName = "mlm"
    """"mlm": masked language modelling. "clm", "spans": causal language modelling and span corruption, which decoders
    and models of the T5 family get instead, without being asked. "alignment": move the vector of a target sentence to
    the vector that the frozen model gives its translation; needs parallel text (preset alignment). "mlm+alignment":
    both, on text and parallel text; needs an LM head."""
    method: MethodName = "soft-prompt"
    """Method to train (`glotprompt methods`)."""
    prompt_length: int = Field(default=32, ge=1)
    """Key/value vectors in front of every layer's attention (section 4.2: 32)."""
    steps: int = Field(default=100_000, ge=1)
    """Optimiser steps (section 4.2: 100 K)."""
    batch_size: int = Field(default=32, ge=1)
    """Sequences per step (section 4.2: 32)."""
    max_length: int = Field(default=256, ge=8)
    """Tokens per sequence, `<s>` and `</s>` included. Not stated in the paper; assumption."""
    learning_rate: Rate | Literal["auto"] = Field(
        default_factory=lambda values: _with_rate("adapt", values).rates["adapt"]
    )
    """Peak learning rate of AdamW; the default is the method's (section 4.2: 5e-3 for prompts, 1e-4 for MAD-X). Small
    backbones need far more (preset `quick`); "auto" runs successive halving over `auto_rates`: short trial runs,
    keeping the better half each round."""
    auto_rates: tuple[Rate, ...] = Field(default_factory=lambda values: _auto_rates(values), min_length=1)
    """Rates tried by `learning_rate="auto"`: the method's default and 2, 4, 8, 16 and 32 times it (prompts), or 4, 16
    and 64 times it (other methods, whose defaults are for models far larger than the bundled one)."""
    auto_steps: int = Field(default=40, ge=1)
    """Steps per round of `learning_rate="auto"`, shared evenly by the remaining rates: six rates run for 6 steps each,
    then the best three for 13 and the best two for 20."""
    schedule: Schedule = "linear"
    """Learning-rate schedule after the warm-up: "linear" decay to 0, "cosine" decay to 0, "constant", or "wsd"
    (warm-up, stable, decay: constant, then linear to 0 over the last fifth of the steps)."""
    warmup_ratio: float = Field(default=0.06, ge=0, le=1)
    """Share of the steps in which the rate rises linearly from 0 (RoBERTa: 6 %); after that `schedule` applies."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of the trained parameters."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest gradient norm; larger gradients are scaled down to it."""
    dropout: bool = False
    """Use the backbone's own dropout rates in training. Off for every method."""
    mask_rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of the tokens to predict; of these 80 % are masked, 10 % replaced and 10 % left unchanged. With "spans" all
    of them are masked, in spans; with "clm" every token is predicted."""
    packing: Literal["full", "none"] = "full"
    """"full": lines joined and cut to `max_length`, no padding (RoBERTa's full sentences). "none": one line per
    sequence."""
    source_share: float = Field(default=0.5, ge=0, le=1)
    """Share of source-language sequences in every batch (section 3.1: equal amounts). 0: target only;
    1: source only (the control)."""
    balance: Literal["subsample", "repeat"] = "subsample"
    """Balance of the two texts: "subsample" takes a random part of the larger one; "repeat" keeps all of it and
    repeats the smaller one."""
    alignment_weight: float = Field(default=1.0, gt=0)
    """mlm+alignment: weight of the alignment loss, where the MLM loss has weight 1."""
    mlm_hold: float = Field(default=0.0, ge=0)
    """MLM: weight of 1 - cosine between pooled states of unmasked source text with and without what is trained, which
    keeps the meaning of the source language in place; 0: none."""
    held_out_share: float = Field(default=0.05, gt=0, lt=1)
    """Share of the target lines held out from training. One half chooses the best step, the other half measures the
    loss before and after. (Source lines when `source_share` is 1; pairs with alignment, at most `eval_sequences`.)"""
    eval_every: int = Field(default=100, ge=1)
    """Steps between evaluations on the held-out text; the best step is saved."""
    eval_sequences: int = Field(default=128, ge=1)
    """Largest number of held-out sequences for choosing the best step. With alignment: of held-out pairs, both halves
    together."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many evaluations in a row without improvement (`min_improvement`); None: never. The learning-rate
    schedule still covers all `steps`, so a run that stops early misses the low rates at its end."""
    min_improvement: float = Field(default=0.0, ge=0, lt=1)
    """Least improvement that `patience` counts, as a share of the fall of the held-out loss since the start; 0: any.
    The best step is saved even if its improvement is smaller."""
    initialise: Literal["noise", "text", "prompt"] = "noise"
    """Initial prompts. "noise": normal noise with `init_std`. "text": the frozen model's own keys and
    values at `prompt_length` tokens of the source text (of the target text where there is no source text). "prompt": a
    saved prompt, or a weighted sum of several, passed beside the settings."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the noise (P-tuning v2: in effect 0.02, PEFT: 1)."""
    reparameterisation: int | None = Field(default=None, ge=1)
    """Hidden width of an MLP that makes the prompts in training and is folded away in the saved file (Li and Liang
    2021: 512 or 800; `prefix_projection` of P-tuning v2). None: the prompts are trained themselves."""
    positions: Literal["plain", "shifted"] = "plain"
    """"plain": the text keeps its position ids. "shifted": they start after the prompt, as in P-tuning v2 and PEFT,
    which shortens the longest input by `prompt_length`."""
    adapter_reduction: int = Field(default=2, ge=1)
    """mad-x: reduction factor of the language adapter, hidden size / bottleneck size (Pfeiffer et al. 2020, section
    4.2 of the paper: 2)."""
    invertible_reduction: int | None = Field(default=2, ge=1)
    """mad-x: reduction factor of the invertible adapter, half the hidden size / bottleneck size (2); None: no
    invertible adapter."""
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
    """lora: linear layers to update: "attention": queries and values (Hu et al. 2022); "all": all of every layer."""
    seed: int = Field(default=0, ge=0)
    """Random seed of initialisation, subsampling, order and masking."""


class TuneConfig(Config):
    """Stage 2: the task as a cloze, trained on labelled source text (section 3.2)."""

    method: MethodName | None = None
    """Method to train (`glotprompt methods`). None: the method of stage 1; without a stage 1, prompt-tuning."""
    epochs: int = Field(default=10, ge=1)
    """Passes over the labelled examples (section 4.2: 10)."""
    batch_size: int = Field(default=32, ge=1)
    """Examples per step (section 4.2: 32)."""
    max_length: int = Field(default=256, ge=8)
    """Tokens per example; the text is truncated, never the template. Not stated in the paper; assumption."""
    learning_rate: Rate = Field(default_factory=lambda values: _with_rate("tune", values).rates["tune"])
    """Peak learning rate of AdamW; the default is the method's (section 4.2: 1e-3 for prompts, 1e-4 for MAD-X, 1e-6 for
    fine-tuning). Small backbones need more (preset `quick`)."""
    warmup_ratio: float = Field(default=0.06, ge=0, le=1)
    """Share of the steps in which the rate rises linearly from 0; after that it falls linearly to 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of the trained parameters."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    dropout: bool = False
    """Use the backbone's own dropout rates in training. Off for every method."""
    top_k_layers: int | None = Field(default=None, ge=1)
    """Prompts: train only those of the top K layers (section 3.2; 18 of 24). None: three quarters of the layers when
    a language prompt is given, all of them when the prompt starts from noise."""
    bottom_k_layers: int | None = Field(default=None, ge=1)
    """Prompts: train only those of the bottom K layers (the comparison of figure 6)."""
    task_adapter: Literal["pfeiffer", "houlsby"] = "pfeiffer"
    """mad-x, soft-prompt+task-adapter: "pfeiffer": one bottleneck a layer (Pfeiffer et al. 2020, as in the paper).
    "houlsby": two, after attention and after the feed-forward (Houlsby et al. 2019)."""
    task_adapter_reduction: int = Field(default=16, ge=1)
    """mad-x, soft-prompt+task-adapter: reduction factor of the task adapter, hidden size / bottleneck size (Pfeiffer et
    al. 2020, section 4.2 of the paper: 16)."""
    head: Literal["cloze", "linear", "pooled"] = "cloze"
    """"cloze": template and verbalizer. "linear": a classification head on the first token, without a template.
    "pooled": a linear layer on the mean of all token states, trained with the rest. It starts as the logistic
    regression of method `embedding` and needs no LM head."""
    layer: int | None = Field(default=None, ge=0)
    """embedding, head "pooled": the layer whose output is pooled (0: the embeddings; None: the last). It is not chosen
    on dev examples: those of the source language prefer lower layers, which are worse on the target language
    (docs/log.md, 2026-11-29)."""
    loss_over: Literal["labels", "vocabulary"] = "labels"
    """"labels": softmax over the labels' scores. "vocabulary": over the whole vocabulary (equation 1)."""
    dev_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the examples held out to choose the best epoch when no dev examples are given."""
    most_per_label: int | None = Field(default=None, ge=1)
    """Largest number of labelled examples per label, including dev examples that are held out from them; more are
    sampled down by `seed`. None: all."""
    shots_per_class: int | None = Field(default=None, ge=1)
    """Few-shot: train on this many source-language examples per label, sampled by `seed`; smaller samples are subsets
    of larger ones."""
    target_weight: float | None = Field(default=None, gt=0)
    """Target labels: weight of a target example in the loss, where a source example has weight 1. None: 1. A few labels
    that weigh as much as all source examples did harm (docs/log.md, 2026-11-30)."""
    prompt_length: int = Field(default=32, ge=1)
    """Length of a prompt that starts from noise (no language prompt is given); of input-prompt's vectors, where 20 to
    100 are usual (Lester et al. 2021)."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the noise of such a prompt."""
    reparameterisation: int | None = Field(default=None, ge=1)
    """prompt-tuning: as in stage 1."""
    initialise: Literal["vocabulary", "noise"] = "vocabulary"
    """input-prompt: initial vectors: the embeddings of random tokens (Lester et al. 2021: better than noise), or normal
    noise with `init_std`."""
    seed: int = Field(default=0, ge=0)
    """Random seed of initialisation, sampling and order."""

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.top_k_layers is not None and self.bottom_k_layers is not None:
            raise ValueError("give top_k_layers or bottom_k_layers, not both")
        return self


class RuntimeConfig(Config):
    """Execution of a run; nothing here is part of a run's identity. (Precision and device are properties of the loaded
    `Backbone` and are recorded in the files it trains.)"""

    checkpoint_dir: Path | None = None
    """Folder for checkpoints; None: no checkpoints. An interrupted run resumes from it. The caller removes it once the
    result is saved."""
    checkpoint_every: float = Field(default=20.0, ge=0)
    """Minimum seconds between two checkpoints; 0: one after every step."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Largest number of sequences in one forward pass; larger batches are accumulated: the same loss with less memory
    (with `dropout`, other states are dropped). Halved with a message when memory runs out."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third slower."""
    eval_batch_size: int = Field(default=32, ge=1)
    """Sequences per forward pass when nothing is trained."""
    state_cache: int = Field(default=2**30, ge=0)
    """Stage 2: bytes of memory for the states below the lowest trained layer, computed once per example. Larger states
    go to a file beside the checkpoints (else in the temporary folder) that is deleted with the process; 0: no
    cache."""
    no_samples: bool = False
    """Save no example texts. By default the saved file holds three texts that were not trained on, readable to anyone,
    and `glotprompt serve` shows them; each has at most 200 characters. A classifier's file also holds short digests of
    labelled texts, by which `evaluate` knows those that it was trained on. Set this for private text."""
    allow_unknown: bool = False
    """Stage 1: train even where more than a fifth of the words contain characters unknown to the tokenizer. Such text
    is refused by default: there is nothing to learn from it."""
    progress: bool = True
    """Show a progress line on a terminal or in a notebook, plain lines when the output is piped."""
    metrics: Path | None = None
    """File of JSON lines with the figures of every step and evaluation; None: no file. A resumed run continues it. The
    command line writes it beside the output."""
    log_with: Literal["tensorboard", "wandb"] | None = None
    """Also send these figures to TensorBoard (files in the folder `tensorboard` beside the output) or Weights & Biases
    (project `glotprompt`). Needs the package of that name."""
    on_step: Callable[[dict[str, Any]], None] | None = None
    """Function that is called after every step with what `metrics` gets as a line: "run" (its identity), "title",
    "step", "loss" and "tokens" (so far)."""
    on_evaluation: Callable[[dict[str, Any]], None] | None = None
    """Function that is called after every evaluation with "run", "title", "step" and the scores by name, as reports
    have them in `evaluations`. An exception of either function ends the training."""


@cache
def presets() -> dict[str, dict[str, dict[str, Any]]]:
    """Named departures from the defaults, `presets/*.toml`, by name and stage. A setting that differs between methods
    is a table by method, in which "others" stands for the methods not named."""
    paths = sorted((path.name, path) for path in (files("glotprompt") / "presets").iterdir())
    return {name.removesuffix(".toml"): tomllib.loads(path.read_text(encoding="utf-8")) for name, path in paths}


def preset(name: str, stage: Stage, method: str = "soft-prompt") -> dict[str, Any]:
    """The settings of preset `name` that differ from the defaults of a stage and method."""
    if name not in presets():
        raise ConfigError(f"no preset {name!r}; there are {', '.join(presets())}.{nearest(name, presets())}")
    settings = {
        key: value.get(method, value.get("others")) if isinstance(value, dict) else value
        for key, value in presets()[name][stage].items()
    }
    return {key: value for key, value in settings.items() if value is not None}
