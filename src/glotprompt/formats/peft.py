"""Language prompts in the folder format of PEFT's prefix tuning (tested with PEFT 0.21, which is not required).

A folder holds `adapter_config.json` and `adapter_model.safetensors` with one tensor, `prompt_embeddings` [prompt, 2 *
layer * hidden]: for every position k0, v0, k1, v1 ..., each [head, dim]. PEFT shifts the position ids of the text by
the prompt length, so prompts from PEFT have positions="shifted". It stores neither language nor training metadata, and
supports masked language models only with the task type FEATURE_EXTRACTION; decoders have CAUSAL_LM. With grouped-query
heads, heads and hidden size are those of keys and values.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors.torch import load_file, save
from torch import Tensor

from glotprompt.errors import ArtifactError, ConfigError, in_a_line, is_out_of_memory, setting
from glotprompt.inference.classifier import LanguagePrompt
from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import BUNDLED
from glotprompt.records import AdaptReport, Converted
from glotprompt.storage import artifact, atomic
from glotprompt.storage.metadata import is_finite

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
TENSOR = "prompt_embeddings"
PEFT_TYPE, CAUSAL = "PREFIX_TUNING", "CAUSAL_LM"


def to_peft(prompt: LanguagePrompt, folder: str | Path, *, allow_plain: bool = False) -> Path:
    """Write a language prompt as a PEFT adapter folder.

    PEFT always shifts positions: a prompt trained with positions="plain" gives other results there and is refused
    (`ConfigError`) unless `allow_plain`. A prompt with a character map is refused: PEFT cannot store the map; so is
    that of an encoder-decoder, which PEFT gives vectors in the decoder only.
    """
    task_type = _task_type(prompt)
    if prompt.positions == "plain" and not allow_plain:
        raise ConfigError(
            "the prompt was trained with plain positions, but PEFT shifts positions by the prompt length, so its"
            f" results there would differ; adapt with {setting('positions', 'shifted')}, or convert it anyway"
            f" with {setting('allow_plain', 'True')}"
        )
    if prompt.characters is not None:
        raise ConfigError(
            "the prompt was trained on text with rewritten characters, which PEFT cannot do; adapt without the"
            " character map"
        )
    layers, _, heads, length, dim = prompt.key_values.shape
    name = prompt.backbone.get("name")
    config = {
        "base_model_name_or_path": None if name in BUNDLED else name,
        "inference_mode": True,
        "num_attention_heads": heads,
        "num_layers": layers,
        "num_transformer_submodules": 1,
        "num_virtual_tokens": length,
        "peft_type": PEFT_TYPE,
        "prefix_projection": False,
        "task_type": task_type,
        "token_dim": heads * dim,
    }
    folder = Path(folder)
    atomic.write(folder / WEIGHTS, save({TENSOR: _flat(prompt.key_values)}, metadata={"format": "pt"}))
    atomic.write(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    return folder


def _task_type(prompt: LanguagePrompt) -> str:
    """PEFT's name for the kind of model that a prompt is for, as far as its report says."""
    report = prompt.report
    objective = report.objective if isinstance(report, AdaptReport) else None
    _refuse_encoder_decoder(objective)
    was_causal = isinstance(report, Converted) and report.origin.get("task_type") == CAUSAL
    return CAUSAL if objective == "clm" or was_causal else "FEATURE_EXTRACTION"


def _refuse_encoder_decoder(objective: str | None) -> None:
    if objective == "spans":
        raise ConfigError(
            "PEFT's prefix tuning has no vectors for an encoder, whose prompts are half of these; keep ours"
        )


def from_peft(folder: str | Path, backbone: Backbone, language: str) -> LanguagePrompt:
    """Read a folder of PEFT's prefix tuning as a language prompt of `backbone`, with positions="shifted".

    The folder does not identify the weights that it was made for; only the shapes can be checked (`ArtifactError`).
    """
    folder = Path(folder)
    config = _config(folder)
    _refuse_encoder_decoder(backbone.objective)
    shape = backbone.prompt_shape(0)
    sizes = {"num_layers": shape[0], "num_attention_heads": shape[2], "token_dim": shape[2] * shape[4]}
    for key, expected in sizes.items():
        if config.get(key) != expected:
            raise ArtifactError(
                f"{folder} has {key} {config.get(key)}, {backbone.name} needs {expected}; load its backbone"
            )
    flat = _embeddings(folder)
    if flat.ndim != 2 or 0 in flat.shape or flat.shape[1] != 2 * sizes["num_layers"] * sizes["token_dim"]:
        expected = f"[prompt, {2 * sizes['num_layers'] * sizes['token_dim']}]"
        raise ArtifactError(f"{folder / WEIGHTS}: {TENSOR} is {list(flat.shape)}, {backbone.name} needs {expected}")
    if len(flat) >= backbone.max_positions:
        raise ArtifactError(
            f"{folder}: {len(flat)} prompt positions leave no room in the {backbone.max_positions} of {backbone.name}"
        )
    origin = {key: config.get(key) for key in ("base_model_name_or_path", "peft_version")}
    if backbone.objective == "clm":
        origin["task_type"] = CAUSAL
    return LanguagePrompt(
        key_values=flat.float().view(-1, *shape[:3], shape[4]).permute(1, 2, 3, 0, 4).contiguous(),
        language=language,
        backbone=backbone.reference,
        positions="shifted",
        report=Converted(converted_from="PEFT", origin=origin),
    )


def _flat(key_values: Float[Tensor, "layer 2 head prompt dim"]) -> Float[Tensor, "prompt values"]:
    return key_values.float().permute(3, 0, 1, 2, 4).flatten(1).contiguous()


def read_config(folder: Path, expected: str) -> dict[str, Any]:
    """The object in a folder's `adapter_config.json`; {} where it holds another value. Raises `ArtifactError`, which
    says what was `expected`."""
    path = folder / CONFIG
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; expected {expected}")
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON ({in_a_line(error)}); copy or make it again") from None
    return config if isinstance(config, dict) and artifact.is_shallow(config) else {}


def _config(folder: Path) -> dict[str, Any]:
    config = read_config(folder, "a folder that PEFT's save_pretrained wrote")
    kind = config.get("peft_type")
    if kind != PEFT_TYPE:
        raise ArtifactError(f"{folder} holds the PEFT type {kind!r}; only {PEFT_TYPE} can be converted")
    if config.get("prefix_projection"):
        raise ArtifactError(f"{folder} was trained with prefix_projection=True; only plain prefixes can be converted")
    return config


def _embeddings(folder: Path) -> Tensor:
    path = folder / WEIGHTS
    if not path.is_file():
        if (folder / PICKLED).is_file():
            raise ArtifactError(
                f"{folder} has only {PICKLED}, a pickle, which may run code when it is opened; save it again from PEFT"
                " with save_pretrained(..., safe_serialization=True)"
            )
        raise ArtifactError(f"{path} does not exist; expected a folder that PEFT's save_pretrained wrote")
    try:
        tensors = load_file(path)
    except Exception as error:  # besides its own error, safetensors raises many others for strange dtypes
        if is_out_of_memory(error):
            raise
        reason = in_a_line(error)
        raise ArtifactError(f"{path} is damaged or no safetensors file ({reason}); copy or make it again") from None
    if set(tensors) != {TENSOR}:
        names = ", ".join(sorted(tensors)[:4]) or "nothing"
        raise ArtifactError(f"{path} holds {names}; expected {TENSOR} alone")
    tensor = tensors[TENSOR]
    if not tensor.is_floating_point() or not is_finite(tensor.float()):
        raise ArtifactError(f"{path}: {TENSOR} is {tensor.dtype} or holds NaN or infinity; copy or make it again")
    return tensor
