"""A byte-level decoder from scratch, and what prompts teach it of two languages that it was not pre-trained on.

A Qwen3 of 6 M parameters over ByT5's bytes is trained on `text/*.txt` of the data folder (English, Hausa, Spanish).
Then each method of `METHODS` learns Cherokee, whose script it has never seen, and Manx from `parallel/bible`, mixed
with as much English; bits per byte of held-out verses before and after. Everything lies in --output, and the same
command resumes what was interrupted, from the last checkpoint.

    python benchmarks/byte_decoder.py --output byte-decoder                       # an hour and a half on one quiet core
    python benchmarks/byte_decoder.py --output try --pretraining-steps 20 --steps 10 --batch 4 --length 128
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import add_outputs, positive, show, write
from transformers import Qwen3Config, Qwen3ForCausalLM

import glotprompt as gp
from glotprompt.data.datasets.dataset import DATA_DIR_VARIABLE
from glotprompt.model.devices import choose_precision
from glotprompt.model.tokens import BYTES, byte_tokenizer
from glotprompt.records import NextTokenScores

SOURCES = ("eng", "hau", "spa")
LANGUAGES = {"chr": "Cherokee", "glv": "Manx"}
METHODS = {
    "soft-prompt": {"learning_rate": 3e-2},
    "lora": {"learning_rate": 3e-3, "lora_layers": "all"},
    "fine-tuning-mlm": {"learning_rate": 3e-4},
}
"""With rates for a small model; "fine-tuning-mlm" is full fine-tuning on the objective of the backbone."""
RATE, WARMUP = 1e-3, 0.05
"""Peak learning rate of the pre-training, and the share of steps in which it is reached."""
SAVE_EVERY = 120.0
"""Seconds between two checkpoints."""


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    data = options.data_dir or (Path(os.environ[DATA_DIR_VARIABLE]) if DATA_DIR_VARIABLE in os.environ else None)
    if data is None:
        raise SystemExit("byte_decoder.py needs real texts; give --data-dir")
    folder = options.output / "model"
    if not folder.is_dir():
        pretrain(data, options)
    backbone = gp.Backbone.load(folder, precision=options.precision)
    rows: list[dict[str, Any]] = []
    for code, name in LANGUAGES.items():
        target = [line.split("\t")[2] for line in _lines(data / "parallel" / "bible" / f"eng-{code}.tsv")]
        source = _lines(data / "text" / "eng.txt")
        for method, settings in METHODS.items():
            report = adapt(backbone, code, (target, source), method, settings, options).training
            before, after = report.held_out_before, report.held_out_after
            assert isinstance(before, NextTokenScores)
            assert isinstance(after, NextTokenScores)
            rows.append(
                {
                    "language": name, "method": method, "parameters": report.trained_parameters,
                    "bits per byte before": round(before.bits_per_byte, 3), "after": round(after.bits_per_byte, 3),
                    "step": f"{report.best_step} of {report.steps}", "seconds": round(report.seconds),
                }
            )  # fmt: skip
    title = f"bits per byte of held-out verses, {backbone.num_parameters / 1e6:.1f} M parameters"
    show(title, list(rows[0]), [list(map(str, row.values())) for row in rows])
    write(options, "byte_decoder", {"parameters": backbone.num_parameters, "rows": rows})


def adapt(
    backbone: gp.Backbone,
    code: str,
    text: tuple[list[str], list[str]],
    method: str,
    settings: dict[str, Any],
    options: argparse.Namespace,
) -> Any:
    """Stage 1, or what an earlier run of it left."""
    file = options.output / f"{code}-{method}.safetensors"
    if file.is_file():
        return gp.load_adapted(file, backbone)
    config = gp.AdaptConfig(
        method=method, steps=options.steps, batch_size=options.batch, max_length=options.length, eval_every=100,
        eval_sequences=64, **settings,
    )  # fmt: skip
    checkpoints = options.output / f"{file.stem}.checkpoints"
    adapted = gp.adapt(backbone, *text, code, config, gp.RuntimeConfig(checkpoint_dir=checkpoints))
    adapted.save(file)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return adapted


def pretrain(data: Path, options: argparse.Namespace) -> None:
    """Train the decoder on all sources alike and save it; resumes from its checkpoint."""
    tokenizer: Any = byte_tokenizer(num_sentinels=0)  # whose attributes have no reliable types
    length = options.length
    streams = [_stream(data / "text" / f"{code}.txt", int(tokenizer.eos_token_id)) for code in SOURCES]
    torch.manual_seed(0)
    model: Any = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=256, intermediate_size=704, num_hidden_layers=8,
            num_attention_heads=4, num_key_value_heads=2, head_dim=64, max_position_embeddings=2048,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=True,
        )
    ).train()  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    checkpoint, first = options.output / "pretraining.pt", 0
    if checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    bf16 = choose_precision(torch.device("cpu")) == "bf16"
    total, began, saved_at = options.pretraining_steps, time.perf_counter(), time.perf_counter()
    for step in range(first, total):
        for group in optimizer.param_groups:
            group["lr"] = RATE * _schedule(step, total)
        ids = _batch(streams, options.batch, length, step)
        with torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext():
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0 or step + 1 == total:
            each = (time.perf_counter() - began) / (step - first + 1)
            print(
                f"step {step} of {total}: {loss.item() / math.log(2):.3f} bits per byte, {each:.2f} s a step",
                flush=True,
            )
        if time.perf_counter() - saved_at > SAVE_EVERY and step + 1 < total:
            _save(checkpoint, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
            saved_at = time.perf_counter()
    unfinished = options.output / "model.part"
    model.eval().save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(options.output / "model")
    checkpoint.unlink(missing_ok=True)


def _stream(path: Path, end: int) -> np.ndarray:
    """All bytes of a text as token ids, `end` behind every line."""
    lines = [np.frombuffer(line.encode(), dtype=np.uint8).astype(np.int64) + BYTES.start for line in _lines(path)]
    return np.concatenate([part for line in lines for part in (line, [end])])


def _batch(streams: Sequence[np.ndarray], batch: int, length: int, step: int) -> torch.Tensor:
    """Rows of the sources in turn; a function of the step alone."""
    generator = np.random.default_rng([0, step])
    rows = []
    for row in range(batch):
        stream = streams[(step * batch + row) % len(streams)]
        start = int(generator.integers(0, len(stream) - length))
        rows.append(stream[start : start + length])
    return torch.from_numpy(np.stack(rows))


def _schedule(step: int, total: int) -> float:
    warmup = max(1, round(WARMUP * total))
    return min((step + 1) / warmup, 0.1 + 0.45 * (1 + math.cos(math.pi * step / total)))


def _save(path: Path, state: dict[str, Any]) -> None:
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    beside.rename(path)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder of the model, the results and the checkpoints"
    )
    parser.add_argument("--pretraining-steps", type=positive, default=1200, help="(default: 1200)")
    parser.add_argument("--steps", type=positive, default=100, help="of each adaptation (default: 100)")
    parser.add_argument("--batch", type=positive, default=16, help="sequences in a step (default: 16)")
    parser.add_argument("--length", type=positive, default=512, help="bytes of a sequence (default: 512)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of the frozen body")
    parser.add_argument("--data-dir", type=Path, help=f"the data folder (else the variable {DATA_DIR_VARIABLE})")
    add_outputs(parser)
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    main(sys.argv[1:])
