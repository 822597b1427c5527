"""The demo in the terminal, the same facts as on the page; plain text when piped."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from glotprompt.report.tables import (
    DASH,
    MethodSummary,
    Part,
    Record,
    accuracy_columns,
    around_gap,
    duration,
    is_right,
    items,
    mean_sd,
    number,
    part,
    percent,
    size,
    summarise,
)

NUM_CONTEXT = 26
"""Characters of a verse shown on each side of its hidden word."""

ONLY_ON_PAGE = ("target_dev_accuracy", "macro_f1")
"""Columns left out here, so that the table fits 80 characters."""


def print_demo(result: Record, console: Console) -> None:
    """Print a demo's result: reading, guesses, methods, data, conclusion, saved files with commands to try."""
    task, language = part(result, "task"), part(result, "language")
    source, target = task["source_name"] or "the source language", task["target_name"] or "the target language"
    summaries = summarise(items(result, "rows"))
    _heading(console, result.get("title") or "glotprompt demo")
    _heading(console, f"1. Reading {target}, before and after")
    _print_reading(language, console)
    _print_guesses(items(result, "guesses"), console)
    if summaries:
        _heading(console, f"2. Classifying {target} {task['unit'] or 'passages'} with {source} labels only")
        _print_accuracies(result, summaries, console)
        console.print()
        _print_costs(summaries, console)
    if items(result, "data"):
        _heading(console, "Data")
        _print_data(items(result, "data"), console)
    if items(result, "conclusion"):
        _heading(console, "Result")
    for sentence in items(result, "conclusion"):
        console.print(Text(sentence))
    _print_saved(part(result, "saved"), console)


def _table(*headings: str, left: tuple[str, ...] = ()) -> Table:
    """An empty table; the first column and those named in `left` stand to the left, the others to the right."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if index == 0 or heading in left else "right", overflow="fold")
    return table


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _print_reading(language: Part, console: Console) -> None:
    table = _table("", "before", "after")
    rows = (
        ("loss of masked words (nats)", "mlm_loss", 2),
        ("first guess right (%)", "top1", 1),
        ("one of five guesses right (%)", "top5", 1),
    )
    for name, key, digits in rows:
        before, after = (number(language[f"{key}_{when}"], digits) for when in ("before", "after"))
        table.add_row(name, before, Text(after, style="bold"))
    if language["source_prompt_loss"] is not None:
        table.add_row("loss after a source-only prompt (control)", "", number(language["source_prompt_loss"], 2))
    console.print(table)
    console.print()
    facts = (
        (language["num_masked"], f"{number(language['num_masked'], 0)} hidden words and pieces of words"),
        (language["steps"], f"{number(language['steps'], 0)} steps"),
        (language["seconds"], duration(language["seconds"])),
        (language["tokens_per_second"], f"{number(language['tokens_per_second'], 0)} tokens/s"),
        (language["trained_values"], f"{number(language['trained_values'], 0)} trained values"),
        (language["file_bytes"], f"file {size(language['file_bytes'])}"),
        (language["peak_memory_bytes"], f"peak memory {size(language['peak_memory_bytes'])}"),
    )
    console.print(Text(" · ".join(text for value, text in facts if value is not None), style="dim"))


def _print_guesses(guesses: list[Part], console: Console) -> None:
    for guess in guesses:
        left, right = around_gap(guess["left"] or "", guess["right"] or "")
        left = left if len(left) <= NUM_CONTEXT else "…" + left[-NUM_CONTEXT:]
        right = right if len(right) <= NUM_CONTEXT else right[:NUM_CONTEXT] + "…"
        console.print()
        console.print(Text.assemble((f"{guess['reference']}  ", "dim"), left, (f"[{guess['answer']}]", "bold"), right))
        for when in ("before", "after"):
            line = Text.assemble((f"  {when:>6}", "dim"))
            for word, probability in items(guess, when):
                hit = is_right(word, guess["answer"])
                line.append(f"   {word}{' ✓' if hit else ''} {percent(probability)}", "bold green" if hit else None)
            console.print(line)


def _print_accuracies(result: Record, summaries: list[MethodSummary], console: Console) -> None:
    columns = [(key, heading) for key, heading in accuracy_columns(result, summaries) if key not in ONLY_ON_PAGE]
    table = _table("method", *(heading for _, heading in columns))
    for summary in summaries:
        table.add_row(_name(summary), *(mean_sd(summary.columns[key]) for key, _ in columns))
    console.print(table)
    console.print()
    console.print(Text("accuracy in per cent, mean ± standard deviation over seeds", style="dim"))
    for summary in summaries:
        for collapse in summary.collapses:
            what = f"{percent(collapse.share)} of the texts were labelled “{collapse.label}”"
            console.print(Text(f"! {summary.name}, seed {collapse.seed}, collapsed: {what}", style="yellow"))


def _print_costs(summaries: list[MethodSummary], console: Console) -> None:
    table = _table("method", "seeds", "trained", "file", "time", "memory")
    for summary in summaries:
        mean = {key: spread.mean for key, spread in summary.columns.items()}
        table.add_row(
            _name(summary),
            str(len(summary.seeds)),
            number(mean["trained_values"], 0),
            size(mean["file_bytes"]),
            duration(mean["seconds"]),
            size(mean["peak_memory_bytes"]),
        )
    console.print(table)
    console.print()
    console.print(Text("trained values, file size, time and peak memory of one run, mean over seeds", style="dim"))


def _name(summary: MethodSummary) -> Text:
    return Text(summary.name, style=summary.colour)


def _print_data(rows: list[Part], console: Console) -> None:
    table = _table("split", "language", "items", "chapters", "note", left=("language", "note"))
    for row in rows:
        counts = (number(row["items"], 0), number(row["chapters"], 0))
        table.add_row(
            *(Text(str(cell)) for cell in (row["split"] or DASH, row["language"] or DASH, *counts, row["note"] or ""))
        )
    console.print(table)


def _print_saved(saved: Record, console: Console) -> None:
    """The two files and the commands, each on a line of its own that can be copied."""
    _heading(console, "Saved")
    for name, key in (("language prompt", "prompt"), ("classifier", "classifier")):
        console.print(Text(f"{name:<16} {saved.get(key) or DASH}"), soft_wrap=True)
    if items(saved, "try"):
        _heading(console, "Try")
    for command in items(saved, "try"):
        console.print(Text(f"  {command}"), soft_wrap=True)
