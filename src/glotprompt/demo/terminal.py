"""The demo in the terminal, the same metadata as on the page; plain text when piped."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from glotprompt.demo.result import DemoAlignment, DemoFiles, DemoGuess, DemoReading, DemoResult, DemoSplit
from glotprompt.demo.summary import MethodSummary, accuracy_columns, around_gap, interval, is_right, summarise
from glotprompt.report.tables import duration, look, mean_sd, method_name, number, percent, size

NUM_CONTEXT = 26
"""Characters of a verse shown on each side of its hidden word."""

ONLY_ON_PAGE = ("source_dev_accuracy", "macro_f1")
"""Columns left out here, so that the table fits 80 characters."""


def print_demo(result: DemoResult, console: Console) -> None:
    """Print a demo's result: reading, guesses, alignment, methods, data, conclusion, saved files, commands to try."""
    source, target = result.task.source_name, result.task.target_name
    summaries = summarise(result.rows)
    _heading(console, result.title)
    if result.language is not None:
        _heading(console, f"Reading {target}, before and after")
        _print_reading(result.language, console)
        _print_guesses(result.guesses, console)
    if result.alignment:
        _heading(console, f"Aligning {target} with {source}, before and after")
        _print_alignment(result.alignment, console)
    _heading(console, f"Classifying {target} {result.task.unit} with {source} labels")
    _print_accuracies(result, summaries, console)
    console.print()
    _print_costs(summaries, console)
    _heading(console, "Data")
    _print_data(result.data, console)
    _heading(console, "Result")
    for sentence in result.conclusion:
        console.print(Text(sentence))
    _print_saved(result.saved, console)


def _table(*headings: str, left: tuple[str, ...] = ()) -> Table:
    """An empty table; the first column and those named in `left` stand to the left, the others to the right."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if index == 0 or heading in left else "right", overflow="fold")
    return table


def _with_note(table: Table, note: str) -> Group:
    return Group(table, "", Text(note, style="dim"))


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _print_reading(language: DemoReading, console: Console) -> None:
    table = _table("", "before", "after")
    rows = (
        ("MLM loss (nats)", language.mlm_loss_before, language.mlm_loss_after, 2),
        ("first guess right (%)", language.top1_before, language.top1_after, 1),
        ("one of five guesses right (%)", language.top5_before, language.top5_after, 1),
    )
    for name, before, after, digits in rows:
        table.add_row(name, number(before, digits), Text(number(after, digits), style="bold"))
    costs = (
        f"{number(language.num_masked, 0)} masked tokens",
        f"{number(language.steps, 0)} steps",
        duration(language.seconds),
        f"{number(language.tokens_per_second, 0)} tokens/s",
        f"{number(language.trained_parameters, 0)} parameters",
        f"file {size(language.file_bytes)}",
        f"peak memory {size(language.peak_memory_bytes)}",
    )
    console.print(_with_note(table, " · ".join(costs)))


def _print_alignment(alignments: list[DemoAlignment], console: Console) -> None:
    table = _table("held-out translations found, %", "before", "after", "steps", "tokens", "time")
    for one in alignments:
        name = Text(method_name(one.method), style=look(one.method).colour)
        costs = number(one.steps, 0), number(one.tokens, 0), duration(one.seconds)
        table.add_row(name, number(one.retrieval_before), Text(number(one.retrieval_after), style="bold"), *costs)
    pairs, held_out = number(alignments[0].pairs, 0), number(alignments[0].held_out_pairs, 0)
    console.print(_with_note(table, f"{pairs} pairs trained on, {held_out} held out"))


def _print_guesses(guesses: list[DemoGuess], console: Console) -> None:
    for guess in guesses:
        left, right = around_gap(guess.left, guess.right)
        left = left if len(left) <= NUM_CONTEXT else "…" + left[-NUM_CONTEXT:]
        right = right if len(right) <= NUM_CONTEXT else right[:NUM_CONTEXT] + "…"
        console.print()
        console.print(Text.assemble((f"{guess.reference}  ", "dim"), left, (f"[{guess.answer}]", "bold"), right))
        for when, guesses_then in (("before", guess.before), ("after", guess.after)):
            line = Text.assemble((f"  {when:>6}", "dim"))
            for word, probability in guesses_then:
                hit = is_right(word, guess.answer)
                line.append(f"   {word}{' ✓' if hit else ''} {percent(probability)}", "bold green" if hit else None)
            console.print(line)


def _print_accuracies(result: DemoResult, summaries: list[MethodSummary], console: Console) -> None:
    columns = [(key, heading) for key, heading in accuracy_columns(result.task, summaries) if key not in ONLY_ON_PAGE]
    table = _table("method", *(heading for _, heading in columns))
    for summary in summaries:
        table.add_row(_name(summary), *(_accuracy(summary, key) for key, _ in columns))
    console.print(_with_note(table, "per cent [95 % interval]; ±: standard deviation over seeds"))
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
            number(mean["trained_parameters"], 0),
            number(mean["tokens"], 0),
            size(mean["file_bytes"]),
            duration(mean["seconds"]),
            size(mean["peak_memory_bytes"]),
        )
    console.print(_with_note(table, "of one run, both stages, mean over seeds; parameters: trained; peak memory"))


def _name(summary: MethodSummary) -> Text:
    return Text(summary.name, style=summary.colour)


def _print_data(splits: list[DemoSplit], console: Console) -> None:
    table = _table("split", "language", "items", "chapters", "note", left=("language", "note"))
    for one in splits:
        counts = number(one.items, 0), number(one.chapters, 0)
        table.add_row(*map(Text, (one.split, one.language, *counts, one.note)))
    console.print(table)


def _print_saved(saved: DemoFiles, console: Console) -> None:
    """The two files and the commands, each on a line of its own that can be copied."""
    _heading(console, "Saved")
    for name, path in (("language prompt", saved.prompt), ("classifier", saved.classifier)):
        if path is not None:
            console.print(Text(f"{name:<16} {path}"), soft_wrap=True)
    _heading(console, "Try")
    for command in saved.commands:
        console.print(Text(f"  {command}"), soft_wrap=True)
