"""Languages in a report: the text that stage 1 read of each (table 4), and what adaptation gained on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import StatisticsError, correlation, fmean
from typing import TYPE_CHECKING, Any

from glotprompt.data.datasets.catalog import DATASETS
from glotprompt.data.languages import genealogy, name_of
from glotprompt.report.figures import INK, RULE, draw_panels
from glotprompt.report.paper_figures import LEGEND_ROW, add_legend, stem
from glotprompt.report.results import REFERENCE, Experiment, Run, shared_seeds
from glotprompt.report.table_files import Table, number_cell, word_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEFORE = "prompt-tuning"
"""What the adapted soft prompt is compared with: the same without stage 1."""
MARKERS = "osD^vP*X<>phd8"
"""Markers of language families."""


def text_table(experiment: Experiment) -> Table | None:
    """Table 4 (appendix B): languages, sources of their unlabelled text, and lines after decontamination; None where
    no stage 1 read text."""
    checks: dict[tuple[str, ...], tuple[str, Mapping[str, Any]]] = {}
    """By references: the languages in words, and the decontamination of the text."""
    for run in experiment.done:
        if run.evaluation is None or run.evaluation.train_info.adapt is None:
            continue
        data, extras = run.evaluation.run_info.data, run.evaluation.train_info.adapt.model_extra or {}
        checked = extras.get("decontamination") or {}
        roles = (("source", run.evaluation.run_info.source), ("target", data.get("language")))
        for role, code in roles:
            text = data.get(f"{role}_texts")
            if code and text and text["content"] and checked.get(role):
                references = tuple(text["references"])
                codes = dict.fromkeys(_language(reference) or code for reference in references)
                checks.setdefault(references, (", ".join(map(name_of, codes)), checked[role]))
    if not checks:
        return None
    rows = [
        (word_cell(names), word_cell(", ".join(references)), *_counts(checked))
        for references, (names, checked) in checks.items()
    ]
    return Table(
        name=stem(experiment.name, "text"),
        caption="Table 4: unlabelled text of stage 1. Lines: what is left after decontamination; removed:"
        " lines of evaluation text. Of these an experiment reads at most its max_lines.",
        headings=("Language", "text", "lines", "removed"),
        rows=tuple(rows),
        text_columns=2,
    )


def _language(reference: str) -> str:
    """The code in masakhanews:sna:train; "" for a file, whose language is that of its role."""
    name, _, rest = reference.partition(":")
    return rest.partition(":")[0] if name in DATASETS else ""


def _counts(checked: Mapping[str, Any]) -> tuple[Any, Any]:
    return number_cell(checked["kept"], 0), number_cell(checked["removed"], 0)


@dataclass(frozen=True)
class Gain:
    """What the adapted soft prompt gained on a language over prompt tuning without adaptation, in points."""

    language: str
    family: str
    points: float
    factors: Mapping[str, float | None]
    """By factor: tokens per word, unknown tokens in per cent, lines of text."""


def gains(experiments: Sequence[Experiment]) -> list[Gain]:
    """The gain on each language and dataset of the experiments that have both methods, mean over their common seeds."""
    by_language: dict[tuple[str | None, str | None], Gain] = {}
    for experiment in experiments:
        lines = {line.method: line for line in experiment.lines if not line.varied}
        if {REFERENCE, BEFORE} <= {*lines}:
            for target in experiment.targets:
                gain = _gain(target, *shared_seeds(lines[REFERENCE].of(target), lines[BEFORE].of(target)))
                if gain is not None:
                    by_language.setdefault((experiment.plan["dataset"], target), gain)
    return [*by_language.values()]


def _gain(target: str, adapted: Sequence[Run], before: Sequence[Run]) -> Gain | None:
    pairs = [(one.score(), other.score()) for one, other in zip(adapted, before, strict=True)]
    points = [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]
    result = adapted[0].evaluation if adapted else None
    if not points or result is None or result.train_info.adapt is None:
        return None
    code = target.rpartition(":")[2]
    factors = {
        "tokens per word (fertility)": result.fertility,
        "unknown tokens, per cent": None if result.unknown_share is None else 100 * result.unknown_share,
        "lines of unlabelled text": (result.train_info.adapt.model_extra or {}).get("target_lines"),
    }
    return Gain(code, genealogy(code) or "other", fmean(points), factors)


def factors_figure(found: Sequence[Gain]) -> tuple[str, str]:
    """The gain against each factor, a panel each, with families as markers; and its caption. "" with fewer than three
    languages."""
    factors = [name for name in (found[0].factors if found else ()) if len(_points(found, name)) > 2]
    if not factors:
        return "", ""
    families = sorted({gain.family for gain in found})

    def paint(figure: Figure, panels: list[Axes]) -> None:
        for axes, name in zip(panels, factors, strict=True):
            for gain, x in _points(found, name):
                marker = MARKERS[families.index(gain.family) % len(MARKERS)]
                axes.plot(x, gain.points, color=INK, marker=marker, linestyle="none", label=gain.family)
                axes.annotate(gain.language, (x, gain.points), (4, 3), textcoords="offset points", fontsize=9)
            axes.axhline(0, color=RULE, linewidth=1)
            axes.set_xlabel(name)
        figure.supylabel("gain, points")
        add_legend(figure, panels, ncols=2)

    shown = "; ".join(f"{name}: rank correlation {_rank_correlation(_points(found, name))}" for name in factors)
    caption = f"Gain of the adapted soft prompt over prompt tuning without adaptation, on {len(found)} tests. {shown}."
    spoken = "; ".join(f"{gain.language} ({gain.family}) {gain.points:+.1f}" for gain in found)
    height = 40 + 210 * len(factors) + LEGEND_ROW * -(-len(families) // 2)
    svg = draw_panels("factors", height, paint, f"{caption} {spoken}.", (len(factors), 1), share_x=False)
    return svg, caption


def _points(found: Sequence[Gain], factor: str) -> list[tuple[Gain, float]]:
    values = [(gain, gain.factors[factor]) for gain in found]
    return [(gain, value) for gain, value in values if value is not None and math.isfinite(value)]


def _rank_correlation(points: Sequence[tuple[Gain, float]]) -> str:
    """Spearman's, in print."""
    try:
        value = correlation(_ranks([x for _, x in points]), _ranks([gain.points for gain, _ in points]))
    except StatisticsError:  # a factor that is the same everywhere
        return "-"
    return f"{value:+.2f}".replace("-", "−")


def _ranks(values: Sequence[float]) -> list[float]:
    """Rank of each value; equal ones share the mean of theirs."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]
