"""The demo as one self-contained HTML file: no scripts, no outside requests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from glotprompt import atomic
from glotprompt.errors import MissingExtraError
from glotprompt.report import figures, tables
from glotprompt.report.tables import MethodSummary, Part, Record, items, part

if TYPE_CHECKING:
    import jinja2

TEMPLATE = "demo.html.j2"


def write_demo_page(result: Record, path: Path) -> None:
    """Write the page for a demo's result; the file appears only when it is complete."""
    atomic.write(path, demo_page(result))


def demo_page(result: Record) -> str:
    """The page for a demo's result, as text."""
    return template(TEMPLATE, "The demo's page", "demo").render(_context(result))


def template(name: str, what: str, extra: str) -> jinja2.Template:
    """A page's template from this folder, with the formats of `tables` as filters; a value that is missing becomes a
    dash, a name that is missing an error. Raises `MissingExtraError` that `what` needs the extra."""
    try:
        import jinja2
    except ModuleNotFoundError:
        raise MissingExtraError(what, extra) from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_or_dash,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (tables.number, tables.percent, tables.mean_sd, tables.size, tables.duration, tables.method_name)
    environment.filters.update({function.__name__: function for function in formats})
    return environment.get_template(name)


def _or_dash(value: Any) -> Any:
    return tables.DASH if value is None else value


def _context(result: Record) -> dict[str, Any]:
    """What the template may name. Missing numbers are `None`, missing lists empty."""
    task, language = part(result, "task"), part(result, "language")
    summaries = tables.summarise(items(result, "rows"))
    return {
        "title": result.get("title") or "glotprompt demo",
        "command": result.get("command") or "",
        "conclusion": items(result, "conclusion"),
        "task": task,
        "source_name": task.get("source_name") or "the source language",
        "target_name": task.get("target_name") or "the target language",
        "unit": task.get("unit") or "passages",
        "verbalizer": part(task, "verbalizer"),
        "language": language,
        "measures": _measures(language),
        "learned": _learned(language),
        "curve": items(language, "curve"),
        "loss_svg": figures.loss_curve(result),
        "guesses": _guesses(result),
        "summaries": summaries,
        "alignment": items(result, "alignment"),
        "retrieval_svg": figures.retrieval_curve(result),
        "interval": tables.interval,
        "look": tables.look,
        "several_seeds": any(len(summary.seeds) > 1 for summary in summaries),
        "columns": tables.accuracy_columns(result, summaries),
        "collapses": [(summary, collapse) for summary in summaries for collapse in summary.collapses],
        "accuracy_svg": figures.accuracy_bars(result),
        "examples": [_example(example, summaries) for example in items(result, "examples")],
        "data": items(result, "data"),
        "settings": part(result, "settings"),
        "meta": part(result, "meta"),
        "versions": part(part(result, "meta"), "versions"),
        "saved": part(result, "saved"),
        "tries": items(part(result, "saved"), "try"),
    }


def _measures(language: Record) -> list[dict[str, str]]:
    """The before and after of reading, as text."""
    rows = [
        ("mlm_loss", "MLM loss", "nats, lower is better", 2, ""),
        ("top1", "Masked token guessed", "first guess right", 1, " %"),
        ("top5", "Masked token among five", "one of the first five right", 1, " %"),
    ]
    return [
        {
            "name": name,
            "note": note,
            "before": tables.number(language.get(f"{key}_before"), digits),
            "after": tables.number(language.get(f"{key}_after"), digits, unit),
        }
        for key, name, note, digits, unit in rows
    ]


def _learned(language: Record) -> bool:
    """Whether the held-out loss fell."""
    before, after = (tables.finite(language.get(f"mlm_loss_{when}")) for when in ("before", "after"))
    return before is not None and after is not None and after < before


def _guesses(result: Record) -> list[Part]:
    """The guesses with, for each word, whether it is right and how long its bar is (1: the likeliest of them all)."""
    guesses = items(result, "guesses")
    pairs = [pair for guess in guesses for when in ("before", "after") for pair in items(guess, when)]
    largest = max((probability or 0 for _, probability in pairs), default=0) or 1
    return [_guess(guess, largest) for guess in guesses]


def _guess(guess: Part, largest: float) -> Part:
    words = {
        when: [
            {
                "word": word,
                "probability": probability,
                "bar": (probability or 0) / largest,
                "right": tables.is_right(word, guess["answer"]),
            }
            for word, probability in items(guess, when)
        ]
        for when in ("before", "after")
    }
    left, right = tables.around_gap(guess["left"] or "", guess["right"] or "")
    return Part({**guess, **words, "left": left, "right": right})


def _example(example: Record, summaries: list[MethodSummary]) -> Part:
    """A passage with its predictions in the order of the table's rows."""
    predictions = part(example, "predictions")
    order = [s.method for s in summaries if s.method in predictions]
    order += [method for method in predictions if method not in order]
    shown = [
        {
            "name": tables.method_name(method),
            "colour": tables.look(method).colour,
            "label": predictions[method][0],
            "probability": predictions[method][1],
            "right": predictions[method][0] == example["gold"],
        }
        for method in order
    ]
    return Part({**example, "predictions": shown})
