"""The demo as one self-contained HTML file: no scripts, no outside requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glotprompt.data.languages import tag_of
from glotprompt.demo import figures, summary
from glotprompt.demo.result import DemoExample, DemoGuess, DemoReading, DemoResult
from glotprompt.demo.summary import MethodSummary
from glotprompt.report import tables
from glotprompt.report.tables import template
from glotprompt.storage import atomic

TEMPLATE = Path(__file__).with_name("demo.html.j2")


def write_demo_page(result: DemoResult, path: Path) -> None:
    """Write the page for a demo's result; the file appears only when it is complete."""
    atomic.write(path, demo_page(result))


def demo_page(result: DemoResult) -> str:
    """The page for a demo's result, as text."""
    return template(TEMPLATE).render(_context(result))


def _context(result: DemoResult) -> dict[str, Any]:
    """Names of the template besides the result itself."""
    summaries = summary.summarise(result.rows)
    return {
        "result": result,
        "task": result.task,
        "tag": tag_of(result.task.target),
        "language": result.language,
        "meta": result.meta,
        "measures": [] if result.language is None else _measures(result.language),
        "loss_svg": figures.loss_curve(result),
        "guesses": _guesses(result.guesses),
        "summaries": summaries,
        "retrieval_svg": figures.retrieval_curve(result),
        "interval": summary.interval,
        "look": tables.look,
        "several_seeds": any(len(one.seeds) > 1 for one in summaries),
        "columns": summary.accuracy_columns(result.task, summaries),
        "collapses": [(one, collapse) for one in summaries for collapse in one.collapses],
        "accuracy_svg": figures.accuracy_bars(result),
        "examples": [_example(example, summaries) for example in result.examples],
    }


def _measures(language: DemoReading) -> list[dict[str, str]]:
    """The before and after of reading, as text."""
    loss = language.mlm_loss_before, language.mlm_loss_after
    top1, top5 = (language.top1_before, language.top1_after), (language.top5_before, language.top5_after)
    rows = [
        ("MLM loss", "nats, lower is better", loss, 2, ""),
        ("Masked token guessed", "first guess right", top1, 1, " %"),
        ("Masked token among five", "one of the first five right", top5, 1, " %"),
    ]
    return [
        {
            "name": name,
            "note": note,
            "before": tables.number(before, digits),
            "after": tables.number(after, digits, unit),
        }
        for name, note, (before, after), digits, unit in rows
    ]


def _guesses(guesses: list[DemoGuess]) -> list[dict[str, Any]]:
    """The guesses with, for each word, whether it is right and how long its bar is (1: the likeliest of them all)."""
    largest = max((share for guess in guesses for _, share in (*guess.before, *guess.after)), default=0) or 1
    return [_guess(guess, largest) for guess in guesses]


def _guess(guess: DemoGuess, largest: float) -> dict[str, Any]:
    guesses_of = {
        when: [
            {
                "word": word,
                "probability": probability,
                "bar": probability / largest,
                "right": summary.is_right(word, guess.answer),
            }
            for word, probability in guesses
        ]
        for when, guesses in (("before", guess.before), ("after", guess.after))
    }
    left, right = summary.around_gap(guess.left, guess.right)
    return {"reference": guess.reference, "answer": guess.answer, "left": left, "right": right, **guesses_of}


def _example(example: DemoExample, summaries: list[MethodSummary]) -> dict[str, Any]:
    """A passage with its predictions in the order of the table's rows."""
    predictions = example.predictions
    order = [one.method for one in summaries if one.method in predictions]
    order += [method for method in predictions if method not in order]
    rows = [
        {
            "name": tables.method_name(method),
            "colour": tables.look(method).colour,
            "label": predictions[method][0],
            "probability": predictions[method][1],
            "right": predictions[method][0] == example.gold,
        }
        for method in order
    ]
    return {"reference": example.reference, "text": example.text, "gold": example.gold, "predictions": rows}
