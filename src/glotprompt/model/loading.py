"""Backbones by name, opened as ordinary transformers models: the two bundled ones, GGUF files, folders, hub names.

A bundled backbone is a list of GGUF files beside one tokenizer and config; the two share the file of their embeddings
and lower layers.
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
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file

from glotprompt.errors import ModelError, UserError, in_a_line, is_out_of_memory, stand_in_at
from glotprompt.model.devices import refuse_too_little_memory
from glotprompt.model.gguf import read_gguf
from glotprompt.model.tokens import missing_tokens
from glotprompt.storage.metadata import is_finite

# Where a hub name has pickled weights alone, transformers would ask the hub to have them converted.
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"

Pooling = Literal["mean", "cls"]
"""How the states of a text's tokens become one vector: their mean, or the first token's."""

HEADS = ("lm_head.", "cls.predictions.", "head.", "decoder.")
"""What the names of an LM head's weights start with: XLM-R, BERT, ModernBERT."""


@dataclass(frozen=True)
class Bundled:
    """A backbone inside the package."""

    files: tuple[str, ...]
    """Its GGUF files."""
    has_lm_head: bool
    purpose: str
    """What it is for, in a line."""


BUNDLED = {
    "mini": Bundled(
        ("shared.gguf", "masked.gguf"), True, "masked language model: the paper's method, and every method with a cloze"
    ),
    "mini-sentence": Bundled(
        ("shared.gguf", "sentence.gguf"), False, "sentence encoder without an LM head: sentence vectors, linear heads"
    ),
}
"""By name. `MINI` is the default of most commands."""
MINI, MINI_SENTENCE = BUNDLED

_OWN_ATTENTION = ("eager", "sdpa", "flex_attention")
"""What transformers computes attention with by itself; for other names it loads further code, from the hub, too."""
WORKING = "XLM-R, XLM-R XL, BERT, ModernBERT (mmBERT) and EuroBERT work"

KNOWN_NAMES = (
    "give 'mini' or 'mini-sentence' (inside the package), a folder with config.json, model.safetensors and"
    " tokenizer.json, GGUF files beside config.json and tokenizer.json (a.gguf,b.gguf), or a hub name (with"
    " HF_HUB_OFFLINE=1 only what is already downloaded)"
)


@dataclass(frozen=True)
class Opened:
    """A backbone as transformers has it."""

    model: PreTrainedModel
    """In fp32; with its LM head where it has one."""
    tokenizer: PreTrainedTokenizerFast
    pooling: Pooling


def folder_of(name: str) -> str:
    """Where config and tokenizer of a backbone are: a folder, or the hub name itself."""
    if name in BUNDLED:
        return str(files("glotprompt") / "assets" / MINI)
    paths = _gguf_files(name)
    return str(paths[0].parent) if paths else name


def name_of(name: str | Path | Sequence[str | Path]) -> str:
    """The name under which a backbone is recorded: paths of several GGUF files are joined by commas."""
    return str(name) if isinstance(name, str | Path) else ",".join(str(part) for part in name)


def absolute(name: str) -> str:
    """The name with which a process in another folder opens the same backbone."""
    paths = _gguf_files(name)
    if name not in BUNDLED and (paths or Path(name).is_dir()):
        return name_of([path.absolute() for path in paths or [Path(name)]])
    return name


def open_backbone(name: str) -> Opened:
    """Model and tokenizer of a name, or one line (`ModelError`) that says why not."""
    transformers_logging.disable_progress_bar()
    loudness = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # what it would report about weights is in our own line
    origin, gguf_files = folder_of(name), _gguf_files(name)
    try:
        with in_one_line(name):
            config = read_config(origin)  # first: it fails at once where nothing is
            if gguf_files:
                weights = read_gguf(gguf_files)
                has_head = any(key.startswith(HEADS) for key in weights)
                model, report = _load(None, config, has_head, state_dict=weights)
            else:
                folder = _transformer_folder(origin)
                files = Path(origin, folder).glob("*.safetensors")
                refuse_too_little_memory(name, 2 * sum(file.stat().st_size for file in files))  # read, then copied
                model, report = _load(origin, config, has_lm_head(config), subfolder=folder)
                for value in (*model.parameters(), *model.buffers()):
                    value.data = value.data.clone()  # transformers maps the file, which another may change
            tokenizer = read_tokenizer(origin)
            pooling = _pooling(origin, name)
    finally:
        transformers_logging.set_verbosity(loudness)
    missing = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if missing:  # transformers would put noise in their place
        what = "all files of the backbone are" if gguf_files else "a whole masked language model or sentence encoder is"
        raise ModelError(
            f"{name}: {len(missing)} of its weights are not in the file or have other shapes there"
            f" ({', '.join(missing[:3])}); {what} needed"
        )
    _refuse_senseless(name, model, report["unexpected_keys"])
    _try_tokenizer(name, model, tokenizer)
    return Opened(model, tokenizer, pooling)


def read_config(origin: str) -> PreTrainedConfig:
    """The config of a folder or hub name. No code of others is run for it or fetched, here or later: raises
    `ModelError` where it names an attention kernel, besides what transformers raises."""
    with _without_code(origin):
        config = AutoConfig.from_pretrained(origin, subfolder=_transformer_folder(origin), trust_remote_code=False)
    for part in (config, *(getattr(config, name, None) for name in config.sub_configs)):
        kernel: Any = getattr(part, "_attn_implementation", None)
        if kernel is not None and kernel not in _OWN_ATTENTION:
            raise ModelError(
                f"{origin}: its config.json has the attention done by {str(kernel)[:80]!r}, code of others, which is"
                " never run; take attn_implementation out of it"
            )
    return config


def read_tokenizer(origin: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder or hub name; as `read_config`."""
    subfolder = _transformer_folder(origin)
    with _without_code(origin):
        tokenizer = AutoTokenizer.from_pretrained(origin, subfolder=subfolder, use_fast=True, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ValueError("its tokenizer has no tokenizer.json")
    return tokenizer


@contextmanager
def _without_code(origin: str) -> Generator[None]:
    """What transformers says of models that it does not know itself, without its advice to trust them."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ModelError(
            f"{origin} needs code of its own (auto_map), which is never run; give a model that transformers knows"
        ) from None


def unsupported(name: str, error: BaseException) -> str:
    """What is said of a model type that transformers does not know, or has no masked language model of; "" where the
    error is another."""
    message = str(error)
    kind = re.search(r"model type `([^`]+)`|a '([^']+)' model is no", message)
    if kind is not None:
        return f"{name}: a {kind[1] or kind[2]!r} model is not supported; {WORKING}"
    folder = Path(folder_of(name))
    if "Unrecognized model in" in message and (not folder.is_dir() or (folder / "config.json").is_file()):
        return f"{name}: its config.json names no model_type that is supported; {WORKING}"
    return ""


def _reason(name: str, error: BaseException) -> str:
    """Why something could not be loaded."""
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
    """Whatever goes wrong while a backbone is loaded is a `ModelError`: a damaged folder may fail in any way inside of
    transformers."""
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # panics of tokenizers are no `Exception`
        if isinstance(error, Exception) and is_out_of_memory(error):
            raise
        raise ModelError(
            _standing_in(name)
            or unsupported(name, error)
            or f"cannot load {name!r}: {_reason(name, error)} -- {KNOWN_NAMES}"
        ) from None


def _standing_in(name: str) -> str | None:
    """What is said of a folder with a file that only stands for the one that was wanted; None where there is none."""
    folder = Path(folder_of(name))
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        what = stand_in_at(file) if file.suffix in (".json", ".safetensors", ".gguf") else None
        if what is not None:
            return f"{file}: {what}"
    return None


def _try_tokenizer(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Read one text: what a tokenizer puts around it is looked up only then."""
    if lacking := [token for token in missing_tokens(tokenizer) if token != "mask"]:  # of that the backbone speaks
        raise ModelError(f"{name}: its tokenizer has no {lacking[0]} token; get or copy its tokenizer files again")
    with in_one_line(name):
        ids: list[int] = tokenizer("a", truncation=True, max_length=8)["input_ids"]
        rows = len(cast(Any, model.get_input_embeddings()).weight)
    if not ids or max(ids) >= rows:
        raise ModelError(f"{name}: its tokenizer gives the tokens {ids}, the model has {rows}; get or copy both again")


def _refuse_senseless(name: str, model: PreTrainedModel, unexpected: Collection[str]) -> None:
    more = sorted(key for key in unexpected if re.search(r"\blayers?\.\d+\.", key))
    if more:
        raise ModelError(
            f"{name}: its file has {len(more)} weights of layers that config.json does not have ({more[0]}); get"
            " or copy both again"
        )
    for key, values in model.named_parameters():
        if not is_finite(values.detach()):
            raise ModelError(f"{name}: its weights {key} hold NaN or infinity; get or copy it again")


def has_lm_head(config: PreTrainedConfig) -> bool:
    """Whether the weights beside a config should hold an LM head: not where they were saved as a bare backbone, as
    sentence backbones are ("XLMRobertaModel")."""
    return not any(name.endswith("Model") for name in config.architectures or ())


def predicts_tokens(name: str) -> bool:
    """Whether a backbone has an LM head, as far as can be said before it is loaded."""
    if name in BUNDLED:
        return BUNDLED[name].has_lm_head
    try:
        origin = folder_of(name)
        return bool(_gguf_files(name)) or has_lm_head(read_config(origin))
    except Exception:  # loading it will say what is wrong
        return True


def model_class(config: PreTrainedConfig, lm_head: bool) -> type[PreTrainedModel]:
    """The class of transformers for a config. Raises `ValueError` where there is none."""
    mapping: Any = MODEL_FOR_MASKED_LM_MAPPING if lm_head else MODEL_MAPPING
    if type(config) not in mapping:
        raise ValueError(f"a {config.model_type!r} model is no masked language model")
    return mapping[type(config)]


def without_pooler(kind: type[PreTrainedModel]) -> dict[str, Any]:
    """The arguments with which a class leaves out the dense layer behind the first token that BERT's kin have, and that
    nobody here reads."""
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


def _gguf_files(name: str) -> list[Path]:
    """The GGUF files that a name stands for; none for any other name."""
    if name in BUNDLED:
        folder = Path(folder_of(name))
        return [folder / file for file in BUNDLED[name].files]
    paths = [Path(part) for part in name.split(",")]
    return paths if all(path.suffix == ".gguf" for path in paths) else []


# ---------------------------------------------------------------------------------------------------------------
# sentence-transformers


def _transformer_folder(origin: str) -> str:
    """Where inside a folder of sentence-transformers the transformer is; "" for any other backbone, and on the hub,
    where it is at the top."""
    return _modules(origin).get("Transformer", "") if Path(origin).is_dir() else ""


def _pooling(origin: str, name: str) -> Pooling:
    """How sentence-transformers' own files pool the states; the mean where there are none. Layers behind the pooling
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
    """What a JSON file of a folder or hub name holds; None where there is none."""
    path = cached_file(
        origin,
        file,
        subfolder=subfolder,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
