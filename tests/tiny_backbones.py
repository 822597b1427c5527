"""Tiny random backbones of every family, for tests and to try the commands: `python tests/tiny_backbones.py DIR KIND`.

They are untrained and useless for anything else. Kinds: those of `CONFIGS`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    ByT5Tokenizer,
    Gemma3TextConfig,
    LlamaConfig,
    MT5Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    T5Config,
    UMT5Config,
    XLMRobertaConfig,
)

ASSETS = Path(__file__).parent / "assets"
SIZES: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
SPREAD = 0.1
"""Standard deviation of weights, five times the usual: else attention would barely matter."""
GROUPED: dict[str, Any] = {"num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": SPREAD}
T5_SIZES: dict[str, Any] = {
    "d_model": 48, "d_kv": 12, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16, "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False, "decoder_start_token_id": 1,
}  # fmt: skip
CONFIGS: dict[str, Callable[[int], PreTrainedConfig]] = {
    "xlm-roberta": lambda vocab: XLMRobertaConfig(
        **SIZES, vocab_size=vocab, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1, bos_token_id=0,
        eos_token_id=2, initializer_range=SPREAD,
    ),
    "llama": lambda vocab: LlamaConfig(**SIZES, **GROUPED, vocab_size=vocab, pad_token_id=1, eos_token_id=2),
    "qwen3": lambda vocab: Qwen3Config(
        **SIZES, **GROUPED, vocab_size=vocab, head_dim=16, tie_word_embeddings=True, pad_token_id=1, eos_token_id=2
    ),
    # One layer in two sees 8 tokens only.
    "gemma3": lambda vocab: Gemma3TextConfig(
        **SIZES, **GROUPED, vocab_size=vocab, head_dim=16, query_pre_attn_scalar=16, sliding_window=8, pad_token_id=1,
        layer_types=["full_attention", "sliding_attention", "full_attention"], eos_token_id=2,
    ),
    "mt5": lambda vocab: MT5Config(**T5_SIZES, vocab_size=vocab, pad_token_id=1, eos_token_id=2),
    "umt5": lambda vocab: UMT5Config(**T5_SIZES, vocab_size=vocab, pad_token_id=1, eos_token_id=2),
    "byt5": lambda vocab: T5Config(**{**T5_SIZES, "tokenizer_class": "ByT5Tokenizer"}, vocab_size=vocab),
}  # fmt: skip
AUTO = {"xlm-roberta": AutoModelForMaskedLM, "mt5": AutoModelForSeq2SeqLM, "umt5": AutoModelForSeq2SeqLM,
        "byt5": AutoModelForSeq2SeqLM}  # fmt: skip


@cache
def tokenizer_of(kind: str) -> Any:
    """The tests' tokenizer without what the family's own lack; ByT5's is transformers' own."""
    if kind == "byt5":
        return ByT5Tokenizer()
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "tokenizer")
    if kind == "xlm-roberta":
        return tokenizer
    backend = tokenizer.backend_tokenizer
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    if kind in ("mt5", "umt5"):
        from tokenizers.processors import TemplateProcessing

        backend.post_processor = TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 2)])
        sentinels = [f"<extra_id_{number}>" for number in range(100)]
        return PreTrainedTokenizerFast(tokenizer_object=backend, additional_special_tokens=sentinels, **special)
    if kind == "qwen3":  # adds nothing to a text
        from tokenizers.processors import ByteLevel

        backend.post_processor = ByteLevel(trim_offsets=False)
        return PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    from tokenizers.processors import TemplateProcessing

    backend.post_processor = TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", **special)


def random_model(kind: str) -> PreTrainedModel:
    """Random weights, always the same; norms are off 1, so that an error in them would show."""
    tokenizer = tokenizer_of(kind)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AUTO.get(kind, AutoModelForCausalLM).from_config(CONFIGS[kind](len(tokenizer)))
        for name, parameter in model.named_parameters():
            if "norm" in name:
                torch.nn.init.normal_(parameter, mean=1.0 if kind != "gemma3" else 0.0, std=0.1)
            elif "relative_attention_bias" in name:
                torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def save(folder: Path, kind: str) -> Path:
    """Write model and tokenizer as transformers does."""
    random_model(kind).save_pretrained(folder)
    tokenizer_of(kind).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    _, folder, kind = sys.argv
    print(save(Path(folder), kind))
