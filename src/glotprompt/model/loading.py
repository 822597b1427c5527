"""Loading of backbones by name, as transformers models: the two bundled ones, GGUF files, folders, hub names.

A bundled backbone is a list of GGUF files beside one tokenizer and config; both bundled ones share a file with the
embeddings and lower layers.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoTokenizer,
    ByT5Tokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file

from glotprompt.errors import ModelError, UserError, in_a_line, is_out_of_memory, stand_in_at
from glotprompt.model.devices import refuse_too_little_memory
from glotprompt.model.families import family_of
from glotprompt.model.gguf import read_gguf
from glotprompt.model.tokens import BYTES, byte_tokenizer
from glotprompt.storage.metadata import is_finite

# For a hub name with pickled weights only, transformers would ask the hub to convert them.
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"

Pooling = Literal["mean", "cls"]
"""Pooling of token states into one vector: their mean, or the first token's state."""

HEADS = ("lm_head.", "cls.predictions.", "head.", "decoder.", "pred_layer.")
"""Name prefixes of LM head weights: XLM-R, BERT, ModernBERT, XLM."""


IN_A_LAYER = re.compile(r"\b(layers?|attentions|ffns)\.\d+\.")
"""Found in the names of weights of a layer; the last two are XLM's."""


@dataclass(frozen=True)
class Bundled:
    """A backbone inside the package."""

    files: tuple[str, ...]
    """GGUF files."""
    has_lm_head: bool
    purpose: str
    """Purpose, in one line."""


BUNDLED = {
    "mini": Bundled(
        ("shared.gguf", "masked.gguf"), True, "masked language model: the paper's method, and every method with a cloze"
    ),
    "mini-sentence": Bundled(
        ("shared.gguf", "sentence.gguf"), False, "sentence encoder without an LM head: sentence vectors, linear heads"
    ),
}
"""Bundled backbones by name. `MINI` is the default of most commands."""
MINI, MINI_SENTENCE = BUNDLED

_OWN_ATTENTION = ("eager", "sdpa", "flex_attention")
"""Attention implementations inside transformers; for other names it would load code, even from the hub."""
WORKING = (
    "XLM-R, XLM-R XL, XLM, BERT, ModernBERT (mmBERT) and EuroBERT work, as do Llama, Qwen3, Gemma 3, T5, mT5, umT5 and"
    " ByT5"
)

KNOWN_NAMES = (
    "give 'mini' or 'mini-sentence' (inside the package), a folder with config.json, model.safetensors and"
    " tokenizer.json, GGUF files beside config.json and tokenizer.json (a.gguf,b.gguf), or a hub name (with"
    " HF_HUB_OFFLINE=1 only what is already downloaded)"
)


@dataclass(frozen=True)
class LoadedModel:
    """A loaded transformers model with its tokenizer."""

    model: PreTrainedModel
    """In fp32, with its LM head if it has one."""
    tokenizer: PreTrainedTokenizerFast
    pooling: Pooling


def folder_of(name: str) -> str:
    """The location of a backbone's config and tokenizer: a folder, or the hub name itself."""
    if name in BUNDLED:
        return str(files("glotprompt") / "assets" / MINI)
    paths = _gguf_files(name)
    return str(paths[0].parent) if paths else name


def name_of(name: str | Path | Sequence[str | Path]) -> str:
    """The name under which a backbone is recorded; paths of several GGUF files are joined by commas."""
    return str(name) if isinstance(name, str | Path) else ",".join(str(part) for part in name)


def absolute(name: str) -> str:
    """The name by which a process in another folder loads the same backbone."""
    paths = _gguf_files(name)
    if name not in BUNDLED and (paths or Path(name).is_dir()):
        return name_of([path.absolute() for path in paths or [Path(name)]])
    return name


def open_backbone(name: str) -> LoadedModel:
    """Load model and tokenizer by name; raises a one-line `ModelError` if that fails."""
    transformers_logging.disable_progress_bar()
    loudness = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # missing weights are reported below
    origin, gguf_files = folder_of(name), _gguf_files(name)
    try:
        with in_one_line(name):
            config = read_config(origin)  # first: fails at once for a name that does not exist
            if gguf_files:
                weights = read_gguf(gguf_files)
                # A decoder shares its head's weights with the embeddings.
                has_head = family_of(config).objective != "mlm" or any(key.startswith(HEADS) for key in weights)
                model, report = _load(None, config, has_head, state_dict=weights)
            else:
                folder = _transformer_folder(origin)
                files = Path(origin, folder).glob("*.safetensors")
                refuse_too_little_memory(name, 2 * sum(file.stat().st_size for file in files))  # read, then copied
                model, report = _load(origin, config, has_lm_head(config), subfolder=folder)
                for value in (*model.parameters(), *model.buffers()):
                    value.data = value.data.clone()  # transformers maps the file, which another process may change
            tokenizer = read_tokenizer(origin)
            pooling = _pooling(origin, name)
    finally:
        transformers_logging.set_verbosity(loudness)
    missing = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if missing:  # transformers would initialise them randomly
        what = "all files of the backbone are" if gguf_files else "a whole language model or sentence encoder is"
        raise ModelError(
            f"{name}: {len(missing)} of its weights are not in the file or have other shapes there"
            f" ({', '.join(missing[:3])}); {what} needed"
        )
    _refuse_senseless(name, model, report["unexpected_keys"])
    _try_tokenizer(name, model, tokenizer)
    return LoadedModel(model, tokenizer, pooling)


def read_config(origin: str) -> PreTrainedConfig:
    """The config of a folder or hub name. No code of its own is ever fetched or run: raises `ModelError` if it names an
    attention kernel, besides the errors of transformers."""
    with _without_code(origin):
        config = AutoConfig.from_pretrained(origin, subfolder=_transformer_folder(origin), trust_remote_code=False)
    for part in (config, *(getattr(config, name, None) for name in config.sub_configs)):
        kernel: Any = getattr(part, "_attn_implementation", None)
        if kernel is not None and kernel not in _OWN_ATTENTION:
            raise ModelError(
                f"{origin}: its config.json asks for the attention of {str(kernel)[:80]!r}, external code, which is"
                " never run; remove attn_implementation from it"
            )
    return config


def read_tokenizer(origin: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder or hub name; no code of its own is run."""
    subfolder = _transformer_folder(origin)
    with _without_code(origin):
        tokenizer = AutoTokenizer.from_pretrained(origin, subfolder=subfolder, use_fast=True, trust_remote_code=False)
    if isinstance(tokenizer, ByT5Tokenizer):
        return byte_tokenizer(len(tokenizer) - len(BYTES) - BYTES.start)
    if not tokenizer.is_fast:
        raise ValueError("its tokenizer has no tokenizer.json")
    return tokenizer


@contextmanager
def _without_code(origin: str) -> Generator[None]:
    """Context that turns the advice of transformers to trust remote code into a `ModelError`."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ModelError(
            f"{origin} needs code of its own (auto_map), which is never run; give a model that transformers knows"
        ) from None


def unsupported(name: str, error: BaseException) -> str:
    """The message for a model type that transformers does not know or has no masked language model for; "" for any
    other error."""
    message = str(error)
    kind = re.search(r"model type `([^`]+)`|a '([^']+)' model is no", message)
    if kind is not None:
        return f"{name}: a {kind[1] or kind[2]!r} model is not supported; {WORKING}"
    folder = Path(folder_of(name))
    if "Unrecognized model in" in message and (not folder.is_dir() or (folder / "config.json").is_file()):
        return f"{name}: its config.json names no model_type that is supported; {WORKING}"
    return ""


def _reason(name: str, error: BaseException) -> str:
    """The reason why a backbone could not be loaded."""
    message = in_a_line(error, 200) or type(error).__name__
    if "file named model.safetensors" not in message:
        return message
    names = sorted(path.name for path in Path(name).iterdir()) if Path(name).is_dir() else ["pytorch_model.bin"]
    if files := [file for file in names if file.endswith(".gguf")]:
        return f"it has no model.safetensors; name GGUF files ({', '.join(files)}) themselves"
    weights = [file for file in names if file.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    pickles = (
        f"; weights in pickles ({', '.join(weights)}), which may run code, are never read: write them as safetensors"
        " with save_pretrained of transformers"
    )
    return "it has no model.safetensors" + pickles * bool(weights)


@contextmanager
def in_one_line(name: str) -> Generator[None]:
    """Context in which any error of loading becomes a one-line `ModelError`: a damaged folder may fail anywhere inside
    transformers."""
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # panics of tokenizers are not an `Exception`
        if isinstance(error, Exception) and is_out_of_memory(error):
            raise
        raise ModelError(
            _find_stand_in(name)
            or unsupported(name, error)
            or f"cannot load {name!r}: {_reason(name, error)} -- {KNOWN_NAMES}"
        ) from None


def _find_stand_in(name: str) -> str | None:
    """The message for a folder with a placeholder instead of a file (such as a Git LFS pointer); None if there is
    none."""
    folder = Path(folder_of(name))
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        what = stand_in_at(file) if file.suffix in (".json", ".safetensors", ".gguf") else None
        if what is not None:
            return f"{file}: {what}"
    return None


def _try_tokenizer(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Tokenise one text, to find ids out of range; raises `ModelError`."""
    with in_one_line(name):
        ids: list[int] = tokenizer("a", truncation=True, max_length=8)["input_ids"]
        rows = len(cast(Any, model.get_input_embeddings()).weight)
    if not ids or max(ids) >= rows:
        raise ModelError(f"{name}: its tokenizer gives the tokens {ids}, the model has {rows}; get or copy both again")


def _refuse_senseless(name: str, model: PreTrainedModel, unexpected: Collection[str]) -> None:
    more = sorted(key for key in unexpected if IN_A_LAYER.search(key))
    if more:
        raise ModelError(
            f"{name}: its file has {len(more)} weights of layers that config.json does not have ({more[0]}); get"
            " or copy both again"
        )
    for key, values in model.named_parameters():
        if not is_finite(values.detach()):
            raise ModelError(f"{name}: its weights {key} hold NaN or infinity; get or copy it again")


def has_lm_head(config: PreTrainedConfig) -> bool:
    """Whether the weights of a config should include an LM head: not if they were saved as a bare model, as sentence
    encoders are ("XLMRobertaModel")."""
    return not any(name.endswith("Model") and not name.endswith("LMHeadModel") for name in config.architectures or ())


def predicts_tokens(name: str) -> bool:
    """Whether a backbone has an LM head, as far as is known before loading."""
    if name in BUNDLED:
        return BUNDLED[name].has_lm_head
    try:
        origin = folder_of(name)
        return bool(_gguf_files(name)) or has_lm_head(read_config(origin))
    except Exception:  # loading reports the error
        return True


def model_class(config: PreTrainedConfig, lm_head: bool) -> type[PreTrainedModel]:
    """The transformers class of a config. Raises `ValueError` if there is none."""
    mapping: Any = family_of(config).classes if lm_head else MODEL_MAPPING
    if type(config) not in mapping:
        raise ValueError(f"a {config.model_type!r} model is no language model that is known")
    return mapping[type(config)]


def without_pooler(kind: type[PreTrainedModel]) -> dict[str, Any]:
    """Arguments that omit the unused pooler (a dense layer on the first token) of BERT-like classes."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}


def _load(origin: str | None, config: PreTrainedConfig, lm_head: bool, **more: Any) -> tuple[PreTrainedModel, Any]:
    kind = model_class(config, lm_head)
    return kind.from_pretrained(  # pyright: ignore[reportReturnType]  # a pair, with output_loading_info
        origin,
        config=config,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        use_safetensors=True,
        **without_pooler(kind),
        **more,
    )


def fingerprint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> str:
    """sha256 (16 hex digits) of config, tokenizer and up to 64 evenly spaced values of every weight in fp32:
    distinguishes, in milliseconds, backbones whose prompts must not be mixed. Computed before any cast to bf16."""
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


def _gguf_files(name: str) -> list[Path]:
    """The GGUF files of a name; empty for any other name."""
    if name in BUNDLED:
        folder = Path(folder_of(name))
        return [folder / file for file in BUNDLED[name].files]
    paths = [Path(part) for part in name.split(",")]
    return paths if all(path.suffix == ".gguf" for path in paths) else []


# ---------------------------------------------------------------------------------------------------------------
# sentence-transformers


def _transformer_folder(origin: str) -> str:
    """The subfolder with the transformer in a sentence-transformers folder; "" for any other backbone, and on the hub,
    where it is at the top."""
    return _modules(origin).get("Transformer", "") if Path(origin).is_dir() else ""


def _pooling(origin: str, name: str) -> Pooling:
    """The pooling in the configuration of sentence-transformers; mean if there is none. Layers after the pooling
    (LaBSE's dense one) are not applied."""
    folder = _modules(origin).get("Pooling")
    settings: Mapping[str, Any] = (None if folder is None else _json(origin, "config.json", folder)) or {}
    on = [key.removeprefix("pooling_mode_") for key, value in settings.items() if value is True]
    on = [key.removesuffix("_tokens").removesuffix("_token") for key in on if key != "include_prompt"]
    modes = on or [str(settings.get("pooling_mode", "mean"))]
    if len(modes) != 1 or modes[0] not in get_args(Pooling):
        raise ModelError(f"{name} pools its states by {' and '.join(modes)}; backbones that pool by mean or cls work")
    return cast(Pooling, modes[0])


def _modules(origin: str) -> dict[str, str]:
    """The folders of a sentence-transformers model by the kind of module in each; empty for any other backbone."""
    modules: Any = _json(origin, "modules.json") or []
    return {str(module["type"]).rsplit(".", 1)[-1]: str(module["path"]) for module in modules}


def _json(origin: str, file: str, subfolder: str = "") -> Any:
    """The content of a JSON file of a folder or hub name; None if there is no such file."""
    path = cached_file(
        origin,
        file,
        subfolder=subfolder,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
