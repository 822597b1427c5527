"""Languages in a report: the text that stage 1 read of each (table 4), and what adaptation gained on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import StatisticsError, correlation, fmean
from typing import TYPE_CHECKING, Any

from glotprompt.data.datasets.catalog import DATASETS
from glotprompt.data.languages import genealogy, name_of
from glotprompt.report.figures import INK, RULE, WIDTH, draw_panels
from glotprompt.report.paper_figures import LEGEND_ROW, add_legend, amount, stem
from glotprompt.report.results import REFERENCE, Experiment, Run, shared_seeds
from glotprompt.report.table_files import Table, number_cell, word_cell
from glotprompt.report.tables import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEFORE = "prompt-tuning"
"""What the adapted soft prompt is compared with: the same without stage 1."""
LOOKS = (("#2f7fc1", "o"), ("#c0632c", "s"), ("#4a8f7b", "^"), ("#a25bd8", "D"))
"""Colours and markers of datasets."""
LINES = "lines of unlabelled text that were read"
FAMILY = "family"
LEAST = 5
"""Fewest languages of a dataset that a factor is shown for."""
PANEL = 210
"""Height of a panel in the figure's units."""


def text_table(experiment: Experiment) -> Table | None:
    """Table 4 (appendix B): languages, sources of their unlabelled text, and lines after decontamination; None where
    no stage 1 read text."""
    # by references, since one language may have several texts: the languages in words, and the decontamination
    checks: dict[tuple[str, ...], tuple[str, Mapping[str, Any]]] = {}
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

    dataset: str
    language: str
    family: str
    points: float
    factors: Mapping[str, float | None]
    """By factor: tokens per word, unknown tokens in per cent, lines of text of stage 1."""


def gains(experiments: Sequence[Experiment]) -> list[Gain]:
    """The gain on each language and dataset of the experiments that have both methods, mean over their common seeds."""
    by_language: dict[tuple[str, str], Gain] = {}
    for experiment in experiments:
        lines = {line.method: line for line in experiment.lines if not line.varied}
        if {REFERENCE, BEFORE} <= {*lines}:
            for target in experiment.targets:
                dataset, _, code = target.rpartition(":")
                dataset = dataset or experiment.plan["dataset"] or "files"
                gain = _gain(dataset, code, *shared_seeds(lines[REFERENCE].of(target), lines[BEFORE].of(target)))
                if gain is not None:
                    by_language.setdefault((dataset, code), gain)
    return [*by_language.values()]


def _gain(dataset: str, code: str, adapted: Sequence[Run], before: Sequence[Run]) -> Gain | None:
    pairs = [(one.score(), other.score()) for one, other in zip(adapted, before, strict=True)]
    points = [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]
    result = adapted[0].evaluation if adapted else None
    if not points or result is None or result.train_info.adapt is None:
        return None
    factors: dict[str, float | None] = {
        "tokens per word (fertility)": result.fertility,
        "unknown tokens, per cent": None if result.unknown_share is None else 100 * result.unknown_share,
        LINES: (result.train_info.adapt.model_extra or {}).get("target_lines"),
    }
    return Gain(dataset, code, genealogy(code) or "other", fmean(points), factors)


def factors_figure(found: Sequence[Gain]) -> tuple[str, str]:
    """The gain against each factor and by family, a panel each, with datasets as colours; and its caption. Datasets
    have different gains, so each has a correlation of its own. "" with nothing to show."""
    languages = Counter(gain.dataset for gain in found)
    enough = [gain for gain in found if languages[gain.dataset] >= LEAST]
    families = sorted({gain.family for gain in enough})
    values = {name: [(gain, gain.factors[name]) for gain in found] for name in (found[0].factors if found else ())}
    values[FAMILY] = [(gain, families.index(gain.family)) for gain in enough]
    factors = {name: points for name, pairs in values.items() if (points := _points(name, pairs))}
    if not factors:
        return "", ""
    datasets = sorted({dataset for points in factors.values() for dataset in points})

    def paint(figure: Figure, panels: list[Axes]) -> None:
        for axes, (name, points) in zip(panels, factors.items(), strict=True):
            for dataset, pairs in points.items():
                colour, marker = LOOKS[datasets.index(dataset) % len(LOOKS)]
                xs, ys = [x for _, x in pairs], [gain.points for gain, _ in pairs]
                axes.plot(xs, ys, color=colour, marker=marker, linestyle="none", label=dataset)
            if name == LINES:
                axes.set_xscale("log")
                ticks = _steps([x for pairs in points.values() for _, x in pairs])
                axes.set_xticks(ticks, [amount(tick) for tick in ticks])
                axes.set_xticks([], minor=True)
            if name == FAMILY:
                axes.set_xticks(range(len(families)), families, rotation=30, ha="right", fontsize=10)
            axes.axhline(0, color=RULE, linewidth=1)
            axes.margins(y=0.12)
            axes.set_xlabel(name)
        for axes, points in zip(panels, factors.values(), strict=True):  # once the common y axis is settled
            _write_codes(axes, [pair for pairs in points.values() for pair in pairs])
        figure.supylabel("gain, points")
        add_legend(figure, panels)

    shown = "; ".join(f"{name}: {_correlations(points)}" for name, points in factors.items() if name != FAMILY)
    caption = (
        "Gain of the adapted soft prompt over prompt tuning without adaptation, by language. "
        + f"Rank correlations, of each dataset by itself: {shown}. " * bool(shown)
        + f"Means by family: {_by_family(enough)}. A factor that"
        f" is the same everywhere, or known of fewer than {LEAST} languages of a dataset, is left out, and so are codes"
        " that would overlap."
    )
    spoken = "; ".join(f"{gain.dataset} {gain.language} ({gain.family}) {gain.points:+.1f}" for gain in found)
    height = 40 + PANEL * len(factors) + LEGEND_ROW * len(datasets)
    svg = draw_panels("factors", height, paint, f"{caption} {spoken}.", (len(factors), 1), share_x=False)
    return svg, caption


Points = Sequence[tuple[Gain, float]]
"""Gains with their values of a factor."""


def _points(factor: str, values: Sequence[tuple[Gain, float | None]]) -> dict[str, Points]:
    """By dataset, where a factor is known of enough languages and differs among them."""
    by_dataset: dict[str, list[tuple[Gain, float]]] = {}
    for gain, value in values:
        if value is not None and math.isfinite(value) and (value > 0 or factor != LINES):
            by_dataset.setdefault(gain.dataset, []).append((gain, value))
    return {
        dataset: pairs
        for dataset, pairs in by_dataset.items()
        if len(pairs) >= LEAST and len({x for _, x in pairs}) > 1
    }


def _write_codes(axes: Axes, points: Points) -> None:
    """Write each language's code beside its point, where it fits; a box is (left, bottom, right, top) in units of the
    figure."""
    to_panel = axes.transData + axes.transAxes.inverted()
    width, height = WIDTH - 60, PANEL - 50  # about what labels leave of a panel
    places = [to_panel.transform((x, gain.points)) * (width, height) for gain, x in points]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    for (gain, value), (x, y) in zip(points, places, strict=True):
        long = 6 * len(gain.language)
        for right, up in ((5, 2), (5, -10), (-5 - long, 2), (-5 - long, -10)):
            box = (x + right, y + up, x + right + long, y + up + 8)
            if box[0] >= 0 and box[2] <= width and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                at = (value, gain.points)
                axes.annotate(gain.language, at, (right, up), textcoords="offset points", fontsize=9, color=INK)
                break


def _steps(values: Sequence[float]) -> list[float]:
    """Ticks of a logarithmic axis between its ends: 1, 2, 5, 10, 20 ...; over many powers of ten, those alone."""
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    parts = (1, 2, 5) if high < 200 * low else (1,)
    inside = [tick for power in powers for part in parts if low <= (tick := part * 10.0**power) <= high]
    return inside if len(inside) > 1 else [low, high]


Box = tuple[float, float, float, float]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _correlations(points: Mapping[str, Points]) -> str:
    return ", ".join(
        f"{dataset} {_rank_correlation(pairs)} ({len(pairs)} languages)" for dataset, pairs in points.items()
    )


def _by_family(found: Sequence[Gain]) -> str:
    """Mean gain and number of languages of each family, by dataset."""
    groups: dict[str, dict[str, list[float]]] = {}
    for gain in sorted(found, key=lambda gain: gain.family):
        groups.setdefault(gain.dataset, {}).setdefault(gain.family, []).append(gain.points)
    return "; ".join(
        f"{dataset} {', '.join(f'{family} {signed(fmean(one))} ({len(one)})' for family, one in by_family.items())}"
        for dataset, by_family in sorted(groups.items())
    )


def _rank_correlation(points: Points) -> str:
    """Spearman's, in print."""
    try:
        value = correlation(_ranks([x for _, x in points]), _ranks([gain.points for gain, _ in points]))
    except StatisticsError:  # the same gain everywhere
        return "-"
    return f"{value:+.2f}".replace("-", "−")


def _ranks(values: Sequence[float]) -> list[float]:
    """Rank of each value; equal ones share the mean of theirs."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]
