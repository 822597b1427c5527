"""Stage 1 side by side: the product by both objectives, PEFT's prefix tuning (fp32 and all bf16), full MLM fine-tuning.

Every round makes one timed step of each side in turn, in one process, on the same lines; figures are medians over the
rounds, ratios medians of the rounds' ratios. Real tokens are counted, not padding: PEFT and fine-tuning read padded
batches of single lines, as transformers' collator makes them; the product packs. Peak memory is from
separate processes (what is counted: memory.py), on a GPU from its own count. `ratio` is against PEFT in fp32,
`ratio_same_dtype` in the product's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import torch
from arithmetic import GemmRate, attention_flop, done_flop, square_rate, step_flop
from backbones import RandomModel
from memory import beyond, in_own_process
from report import DTYPES, add_device, add_dropout, parser, precision_of, range_text, ratio_of, show, spread, write
from sides import Side, Step, Work, dtype_of_side, stage1_sides
from texts import Lines, find_data, unlabelled

SIDES = ("ours", "alignment", "peft", "peft-bf16", "fine-tuning", "compiled")
NAMES = {
    "ours": "glotprompt",
    "alignment": "glotprompt, alignment",
    "peft": "PEFT prefix tuning, fp32",
    "peft-bf16": "PEFT prefix tuning, bf16",
    "fine-tuning": "full MLM fine-tuning, fp32",
    "compiled": "glotprompt, layers compiled",
}
MEMORY_STEPS = 2
"""The second step has the optimiser's state beside the activations."""


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    options.precision = precision_of(options)
    if options.memory_of:
        print(json.dumps({"bytes": memory_of(options, options.memory_of)}))
        return
    random = RandomModel.of(options.shape, options.vocabulary, options.device)
    lines = unlabelled(find_data(options.data_dir), random.tokenizer)
    figures = time_sides(random, _work(options, lines), options)
    figures["texts"] = lines.origin
    if not options.skip_memory:
        # The probe behind "auto" may find something else in another process.
        fixed = [*arguments, "--precision", options.precision]
        measure = memory_of if options.device == "cuda" else None  # a GPU's is counted to the byte in any process
        figures["memory"] = {
            side: in_own_process(__file__, fixed, side) if measure is None else measure(options, side)
            for side in figures["sides"]
        }
    _summarise(figures, options)
    _print(figures, options)
    write(options, "stage1", figures)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    options = parser(__doc__ or "")
    options.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES[:-1]), help="which to measure")
    add_dropout(options)
    add_device(options)
    options.add_argument("--skip-memory", action="store_true", help="measure time alone")
    options.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    return options.parse_args(arguments)


def _work(options: argparse.Namespace, lines: Lines) -> Work:
    return Work(options.batch, options.length, options.prompt_length, lines, not options.no_dropout)


def memory_of(options: argparse.Namespace, side: str) -> int:
    """Peak bytes of one side beyond its loaded model; see `memory`."""
    dtype = DTYPES[options.precision]
    random = RandomModel.of(options.shape, options.vocabulary, options.device)
    lines = unlabelled(find_data(options.data_dir), random.tokenizer)
    small = RandomModel.of("tiny", random.tokenizer.num_pieces, options.device)
    stage1_sides(small, dtype, Work(2, 16, 2, unlabelled(None, small.tokenizer)))[side]().step()
    del small
    model = random.model(dtype_of_side(side, dtype))

    def steps() -> Side:
        one = stage1_sides(random, dtype, _work(options, lines))[side]()
        for _ in range(MEMORY_STEPS):
            one.step()
        return one

    size = beyond(steps)
    del model
    return size


def time_sides(random: RandomModel, work: Work, options: argparse.Namespace) -> dict[str, Any]:
    """Alternate between the sides, and measure matrix products before and after ours."""
    makers = stage1_sides(random, DTYPES[options.precision], work)
    sides: dict[str, Side] = {}
    first: dict[str, Step] = {}
    too_large: list[str] = []
    for name in options.sides:
        try:
            side = makers[name]()
            first[name] = side.step()  # not counted
        except torch.OutOfMemoryError:  # on a GPU; on a CPU the system ends the process
            too_large.append(name)
        else:
            sides[name] = side
    gemm = None
    if "ours" in sides:
        tokens, masked = first["ours"].tokens, first["ours"].masked
        gemm = GemmRate(random.shape, random.vocabulary, tokens, masked, DTYPES[options.precision], options.device)
    steps: dict[str, list[Step]] = {name: [] for name in sides}
    rates: list[float] = []
    for _ in range(options.rounds):
        for name, side in sides.items():
            if gemm is not None and name == "ours":
                gemm.measure()
            steps[name].append(side.step())
            if gemm is not None and name == "ours":
                gemm.measure()
                rates.append(gemm.end_round())
    figures: dict[str, Any] = {"sides": {name: _side_figures(side_steps) for name, side_steps in steps.items()}}
    figures["out_of_memory"] = too_large
    if gemm is not None:
        figures["gemm"] = _gemm_figures(random, work, steps["ours"], rates, gemm.best_rate)
        square = square_rate(DTYPES[options.precision], random.device)
        figures["gemm"] |= {
            "square_flop_per_second": square,
            "share_of_square": figures["gemm"]["step_flop"] / square / figures["sides"]["ours"]["seconds"]["median"],
        }
    return figures


def _side_figures(steps: Sequence[Step]) -> dict[str, Any]:
    return {
        "tokens_per_second": spread([step.tokens_per_second for step in steps]),
        "seconds": spread([step.seconds for step in steps]),
        "tokens": spread([step.tokens for step in steps]),
        "filled": sum(step.tokens for step in steps) / sum(step.positions for step in steps),
        "masked_share": sum(step.masked for step in steps) / sum(step.tokens for step in steps),
        "rounds": [step.tokens_per_second for step in steps],
    }


def _gemm_figures(
    random: RandomModel, work: Work, steps: Sequence[Step], rates: Sequence[float], best: float
) -> dict[str, Any]:
    """The step's arithmetic against what matrix products reached in the same round."""
    plain, all_flop = (
        [count(random.shape, random.vocabulary, step.tokens, step.masked) for step in steps]
        for count in (step_flop, done_flop)
    )
    reached = [flop / step.seconds for flop, step in zip(plain, steps, strict=True)]
    reached_done = [flop / step.seconds for flop, step in zip(all_flop, steps, strict=True)]
    return {
        "flop_per_second": spread(rates),
        "best_flop_per_second": best,
        "share": ratio_of(reached, rates),
        "share_done": ratio_of(reached_done, rates),
        "share_of_best": spread([value / best for value in reached]),
        "step_flop": plain[-1],
        "done_flop": all_flop[-1],
        "attention_flop": attention_flop(random.shape, work.batch, work.length, work.prompt_length),
    }


def _summarise(figures: dict[str, Any], options: argparse.Namespace) -> None:
    """The figures that are asked for by name, at the top level; null where a side was left out."""
    sides, memory, gemm = figures["sides"], figures.get("memory", {}), figures.get("gemm")

    def speed(name: str) -> float | None:
        return sides[name]["tokens_per_second"]["median"] if name in sides else None

    def ratio(other: str) -> dict[str, float] | None:
        return ratio_of(sides["ours"]["rounds"], sides[other]["rounds"]) if {"ours", other} <= set(sides) else None

    same = "peft-bf16" if options.precision == "bf16" else "peft"
    ratios = {name: ratio(name) for name in SIDES[1:]}
    figures["ratios"] = {name: values for name, values in ratios.items() if values is not None}
    medians = {name: None if values is None else values["median"] for name, values in ratios.items()}
    both = {"ours", "peft"} <= set(memory)
    figures |= {
        "tokens_per_second": speed("ours"),
        "peft_tokens_per_second": speed("peft"),
        "peft_bf16_tokens_per_second": speed("peft-bf16"),
        "fine_tuning_tokens_per_second": speed("fine-tuning"),
        "ratio": medians["peft"],
        "ratio_same_dtype": medians[same],
        "ratio_fine_tuning": medians["fine-tuning"],
        "memory_ratio": memory["ours"] / memory["peft"] if both else None,
        "share_of_gemm": None if gemm is None else gemm["share"]["median"],
        "share_of_gemm_done": None if gemm is None else gemm["share_done"]["median"],
    }


def _print(figures: dict[str, Any], options: argparse.Namespace) -> None:
    memory = figures.get("memory", {})
    rows: list[list[str]] = []
    for name, row in figures["sides"].items():
        ratio = figures["ratios"].get(name)
        rows.append(
            [
                f"{NAMES[name]}, {options.precision}" if name in ("ours", "alignment", "compiled") else NAMES[name],
                range_text(row["tokens_per_second"]),
                range_text(row["seconds"], ".2f"),
                f"{row['tokens']['median']:,.0f}",
                f"{row['filled']:.2f}",
                "-" if ratio is None else range_text(ratio, ".1f"),
                f"{memory[name] / 2**20:,.0f}" if name in memory else "-",
            ]
        )
    title = (
        f"Stage 1: shape {options.shape}, {options.vocabulary:,} words, {options.batch} x {options.length},"
        f" {figures['texts']} line lengths, {torch.get_num_threads()} threads"
    )
    columns = ("side", "real tokens/s", "s/step", "tokens", "filled", "ours: times as fast", "peak MB beyond model")
    show(title, columns, rows)
    gemm = figures.get("gemm")
    if gemm is None:
        return
    giga = {key: value / 1e9 for key, value in gemm["flop_per_second"].items()}
    rows = [
        ["matrix products at these sizes, GFLOP/s", range_text(giga)],
        ["step, share of that rate", range_text(gemm["share"], ".2f")],
        ["step, share, arithmetic that is needed alone", range_text(gemm["share_done"], ".2f")],
        ["step, share of the best rate of the run", range_text(gemm["share_of_best"], ".2f")],
        ["one large square product, GFLOP/s", f"{gemm['square_flop_per_second'] / 1e9:,.0f}"],
        ["step, share of that rate", f"{gemm['share_of_square']:.2f}"],
        ["GFLOP of a step: plain count, needed, attention", " / ".join(
            f"{gemm[key] / 1e9:,.0f}" for key in ("step_flop", "done_flop", "attention_flop"))],
    ]  # fmt: skip
    show(f"Share of the machine, {options.precision}", ("what", "median (range over rounds)"), rows)


if __name__ == "__main__":
    main(sys.argv[1:])
