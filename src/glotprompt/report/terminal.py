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
    interval,
    is_right,
    items,
    look,
    mean_sd,
    method_name,
    number,
    part,
    percent,
    size,
    summarise,
)

NUM_CONTEXT = 26
"""Characters of a verse shown on each side of its hidden word."""

ONLY_ON_PAGE = ("source_dev_accuracy", "macro_f1")
"""Columns left out here, so that the table fits 80 characters."""


def print_demo(result: Record, console: Console) -> None:
    """Print a demo's result: reading, guesses, alignment, methods, data, conclusion, saved files, commands to try."""
    task, language = part(result, "task"), part(result, "language")
    source, target = task["source_name"] or "the source language", task["target_name"] or "the target language"
    summaries = summarise(items(result, "rows"))
    _heading(console, result.get("title") or "glotprompt demo")
    if language:
        _heading(console, f"Reading {target}, before and after")
        _print_reading(language, console)
        _print_guesses(items(result, "guesses"), console)
    if items(result, "alignment"):
        _heading(console, f"Aligning {target} with {source}, before and after")
        _print_alignment(items(result, "alignment"), console)
    if summaries:
        _heading(console, f"Classifying {target} {task['unit'] or 'passages'} with {source} labels only")
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
        ("MLM loss (nats)", "mlm_loss", 2),
        ("first guess right (%)", "top1", 1),
        ("one of five guesses right (%)", "top5", 1),
    )
    for name, key, digits in rows:
        before, after = (number(language[f"{key}_{when}"], digits) for when in ("before", "after"))
        table.add_row(name, before, Text(after, style="bold"))
    console.print(table)
    console.print()
    facts = (
        (language["num_masked"], f"{number(language['num_masked'], 0)} masked tokens"),
        (language["steps"], f"{number(language['steps'], 0)} steps"),
        (language["seconds"], duration(language["seconds"])),
        (language["tokens_per_second"], f"{number(language['tokens_per_second'], 0)} tokens/s"),
        (language["trained_values"], f"{number(language['trained_values'], 0)} parameters"),
        (language["file_bytes"], f"file {size(language['file_bytes'])}"),
        (language["peak_memory_bytes"], f"peak memory {size(language['peak_memory_bytes'])}"),
    )
    console.print(Text(" · ".join(text for value, text in facts if value is not None), style="dim"))


def _print_alignment(courses: list[Part], console: Console) -> None:
    table = _table("held-out translations found, %", "before", "after", "steps", "tokens", "time")
    for course in courses:
        name = Text(method_name(course["method"]), style=look(course["method"]).colour)
        before, after = (number(course[f"retrieval_{when}"]) for when in ("before", "after"))
        costs = number(course["steps"], 0), number(course["tokens"], 0), duration(course["seconds"])
        table.add_row(name, before, Text(after, style="bold"), *costs)
    console.print(table)
    console.print()
    pairs, held_out = (number(courses[0][name], 0) for name in ("pairs", "held_out_pairs"))
    console.print(Text(f"{pairs} pairs trained on, {held_out} held out", style="dim"))


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
        table.add_row(_name(summary), *(_accuracy(summary, key) for key, _ in columns))
    console.print(table)
    console.print()
    console.print(Text("per cent [95 % interval]; ±: standard deviation over seeds", style="dim"))
    for summary in summaries:
        for collapse in summary.collapses:
            what = f"{percent(collapse.share)} of the texts were labelled “{collapse.label}”"
            console.print(Text(f"! {summary.name}, seed {collapse.seed}, collapsed: {what}", style="yellow"))


def _accuracy(summary: MethodSummary, key: str) -> str:
    return f"{mean_sd(summary.columns[key])} {interval(summary, key)}".strip()


def _print_costs(summaries: list[MethodSummary], console: Console) -> None:
    table = _table("method", "seeds", "parameters", "tokens", "file", "time", "memory")
    for summary in summaries:
        mean = {key: spread.mean for key, spread in summary.columns.items()}
        table.add_row(
            _name(summary),
            str(len(summary.seeds)),
            number(mean["trained_values"], 0),
            number(mean["tokens"], 0),
            size(mean["file_bytes"]),
            duration(mean["seconds"]),
            size(mean["peak_memory_bytes"]),
        )
    console.print(table)
    console.print()
    console.print(Text("of one run, both stages, mean over seeds; parameters: trained; peak memory", style="dim"))


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
        if key == "classifier" or saved.get(key):
            console.print(Text(f"{name:<16} {saved.get(key) or DASH}"), soft_wrap=True)
    if items(saved, "try"):
        _heading(console, "Try")
    for command in items(saved, "try"):
        console.print(Text(f"  {command}"), soft_wrap=True)
