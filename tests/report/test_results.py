"""From a grid's folder to rows, means, tables and curves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glotprompt.errors import DataError
from glotprompt.report import languages, paper_tables
from glotprompt.report.paper_figures import setting_curve, setting_panels
from glotprompt.report.results import Experiment, Run, key_name, read_results, value_name, varied_name
from glotprompt.report.sections import make_section, significance_table
from glotprompt.report.series import along_layers, along_setting
from glotprompt.report.table_files import Table
from glotprompt.report.tables import look

from .stores import (
    COST,
    NUM_EXAMPLES,
    Cell,
    accuracy_of,
    answer,
    cell,
    cost_result,
    full_plans,
    plan,
    result,
    write_store,
)


def read(folder: Path, record: dict[str, Any], found: Callable[[Cell], dict[str, Any] | None] = answer) -> Experiment:
    """The one experiment of a new store."""
    return read_results(write_store(folder / record["name"], [record], found)).experiments[0]


def texts(table: Table) -> dict[str, list[str]]:
    """What is printed in each row, by its name; bold within stars."""
    return {row[0].text: [f"*{each.text}*" if each.bold else each.text for each in row[1:]] for row in table.rows}


def cells(method: str, *targets: str, seeds: tuple[int, ...] = (0,), **varied: Any) -> list[Cell]:
    return [cell(method, target, seed, **varied) for target in targets for seed in seeds]


def scored(scores: dict[tuple[str, str, int], float | None]) -> Callable[[Cell], dict[str, Any] | None]:
    """Results by (method, target, seed)."""

    def found(one: Cell) -> dict[str, Any] | None:
        accuracy = scores.get((one["method"], one["target"], one["seed"]))
        return None if accuracy is None else result(one, accuracy)

    return found


def test_experiments_come_in_the_papers_order(tmp_path: Path) -> None:
    found = read_results(write_store(tmp_path / "grid", full_plans(seeds=(0,)), lambda one: None))
    draws = ["table1", "table2", "table3", "figure3", "figure4", "figure5", "figure6", "controls"]
    assert [experiment.plan["draw"] for experiment in found.experiments] == draws
    assert all(not experiment.done for experiment in found.experiments)


def test_an_empty_folder_is_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no experiment"):
        read_results(tmp_path)


def renamed(value: Any, old: str) -> Any:
    """A JSON value in which a key has another name."""
    if isinstance(value, dict):
        return {("of_another_version" if key == old else key): renamed(item, old) for key, item in value.items()}
    return [renamed(item, old) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("trained_parameters", "train_info.adapt.trained_parameters"),
        ("losses", "train_info.adapt.losses"),
        ("accuracy", "scores.all.accuracy"),
        ("own", "scores.own"),
        ("gold", "predictions.gold"),
        ("share", "majority.share"),
        ("relative_l2", "prompt_change.0.relative_l2"),
        ("fingerprint", "run_info.backbone.fingerprint"),
        ("meta_info", "meta_info"),
    ],
)
def test_results_that_lack_a_key_are_refused_and_no_dash(tmp_path: Path, key: str, place: str) -> None:
    record = plan("t", "table2", cells("soft-prompt", "sna"))
    said = rf"^results of another version: evaluate-\w+ \({place}: Field required\); delete"
    with pytest.raises(DataError, match=said):
        read(tmp_path, record, lambda one: renamed(result(one, 50.0), key))


def test_costs_and_plans_that_lack_a_key_are_refused(tmp_path: Path) -> None:
    record = plan("t", "table3", [cell("soft-prompt", None, None)])
    with pytest.raises(DataError, match=r"another version: cost-\w+ \(cost\.adapt\.share: Field required\)"):
        read(tmp_path / "costs", record, lambda one: renamed(answer(one), "share"))
    with pytest.raises(DataError, match=r"t\.json is no plan of this .* \(it lacks draw, groups\); delete"):
        read(tmp_path / "plan", renamed(renamed(record, "draw"), "groups"))


def test_mean_over_languages_is_taken_seed_by_seed_and_only_where_it_is_whole(tmp_path: Path) -> None:
    scores = {("mad-x", "sna", 0): 40.0, ("mad-x", "yor", 0): 60.0, ("mad-x", "sna", 1): 50.0}
    experiment = read(tmp_path, plan("t", "table2", cells("mad-x", "sna", "yor", seeds=(0, 1))), scored({**scores}))
    (line,) = experiment.lines
    assert line.spread(["sna", "yor"], Run.score).values == (50.0, None)
    assert line.spread(["sna"], Run.score).values == (40.0, 50.0)
    assert line.spread([], Run.score).values == (None, None)


def test_accuracy_table(tmp_path: Path) -> None:
    record = plan("t", "table2", [*cells("soft-prompt", "sna", "yor", seeds=(0, 1)), *cells("mad-x", "sna", "yor")])
    scores = {("soft-prompt", "sna", 0): 40.0, ("soft-prompt", "sna", 1): 50.0, ("soft-prompt", "yor", 0): 60.0,
              ("mad-x", "sna", 0): 52.5}  # fmt: skip
    table = paper_tables.accuracy_table(read(tmp_path, record, scored({**scores})), "all")
    assert table.headings == ("Method", "mean", "sna", "yor")
    assert texts(table) == {
        "Majority class": ["35.0", "35.0", "35.0"],
        "MAD-X": ["-", "52.5", "-"],
        "Adapted soft prompt": ["50.0 (1 of 2)", "45.0 ± 7.1", "60.0 (1 of 2)"],
    }
    assert "2 seeds, 1 of “MAD-X”, 2 languages" in table.caption
    assert "± standard deviation over seeds (" in table.caption


def test_a_single_seed_does_not_compete_with_means_of_three(tmp_path: Path) -> None:
    several = [one for name in ("soft-prompt", "prompt-tuning") for one in cells(name, "sna", seeds=(0, 1, 2))]
    scores = {(name, "sna", seed): 40.0 for name in ("soft-prompt", "prompt-tuning") for seed in (0, 1, 2)}
    scores |= {("soft-prompt", "sna", 2): 43.0, ("mad-x", "sna", 0): 60.0}
    record = plan("t", "table2", [*several, *cells("mad-x", "sna")])
    table = paper_tables.accuracy_table(read(tmp_path, record, scored({**scores})), "all")
    assert texts(table) == {
        "Majority class": ["35.0", "35.0"],
        "MAD-X": ["60.0", "60.0"],
        "Prefix tuning, no adaptation": ["40.0 ± 0.0", "40.0 ± 0.0"],
        "Adapted soft prompt": ["*41.0 ± 1.7*", "*41.0 ± 1.7*"],
    }
    assert "Bold: the best method of a column, of those with 3 seeds." in table.caption


def test_table_1_has_no_mean_over_languages_of_all_groups(tmp_path: Path) -> None:
    experiment = read(tmp_path, plan("t", "table1", cells("mad-x", "hau", "sna")))
    table = paper_tables.accuracy_table(experiment, "all")
    assert table.headings == ("Method", "hau", "sna")
    assert {len(row) for row in table.rows} == {3}


@pytest.mark.slow
def test_seeds_that_share_stage_1_are_called_so(tmp_path: Path) -> None:
    for draw in ("table2", "figure3", "figure5"):
        runs = cells("soft-prompt", "sna", seeds=(0, 1), text_share=0.5)
        said: dict[int | None, str] = {}
        for adapt_seed in (None, 0):
            made = make_section(read(tmp_path / f"{draw}{adapt_seed}", plan("t", draw, runs, adapt_seed=adapt_seed)))
            parts = [*made.tables, *made.minor_tables, *made.figures]
            said[adapt_seed] = " ".join(part.caption for part in parts if "standard deviation" in part.caption)
        assert said[None]
        assert "stage 2, which share" not in said[None]
        assert said[0].count("over seeds of stage 2, which share one stage 1") == said[0].count("standard deviation")


@pytest.mark.slow
def test_seeds_of_a_method_without_stage_1_share_none(tmp_path: Path) -> None:
    runs = cells("fine-tuning", "sna", seeds=(0, 1))
    captions = [
        table.caption
        for draw in ("table1", "table2")
        for table in make_section(read(tmp_path / draw, plan("t", draw, runs, adapt_seed=0))).tables
        if "accuracy" in table.name or "gap" in table.name or "published" in table.name
    ]
    assert len(captions) >= 4
    for caption in captions:
        assert "± standard deviation over seeds" in caption
        assert "stage 1" not in caption


def test_a_collapse_is_marked_where_it_was_judged(tmp_path: Path) -> None:
    record = plan("t", "table2", cells("mad-x", "sna"))
    experiment = read(tmp_path, record, lambda one: result(one, 40.0, own=50.0, collapsed="one label"))
    everything, own = (paper_tables.accuracy_table(experiment, labels) for labels in ("all", "own"))
    assert (texts(everything)["MAD-X"], texts(own)["MAD-X"]) == (["40.0 †", "40.0 †"], ["50.0", "50.0"])
    assert ("†" in everything.caption, "†" in own.caption) == (True, False)


@pytest.mark.slow
def test_one_seed_has_no_deviation_in_words_or_numbers(tmp_path: Path) -> None:
    experiment = read(tmp_path, plan("t", "table2", cells("mad-x", "sna")), scored({("mad-x", "sna", 0): 42.5}))
    made = make_section(experiment)
    captions = [table.caption for table in made.tables] + [figure.caption for figure in made.figures]
    assert "±" not in "".join(captions)
    assert "standard deviation" not in "".join(captions)
    assert "1 seed, 1 language)" in captions[0]


@pytest.mark.slow
def test_methods_with_fewer_seeds_are_named(tmp_path: Path) -> None:
    record = plan("t", "table2", [*cells("soft-prompt", "sna", seeds=(0, 1, 2)), *cells("mad-x", "sna")])
    assert paper_tables.seeds_and_languages(read(tmp_path, record)) == "3 seeds, 1 of “MAD-X”, 1 language"


@pytest.mark.slow
def test_own_labels_only_where_they_differ(tmp_path: Path) -> None:
    record = plan("t", "table2", cells("mad-x", "sna"))

    def headed(name: str, own: float | None) -> tuple[int, str]:
        made = make_section(read(tmp_path / name, record, lambda one: result(one, 40.0, own=own)))
        accuracies = [table for table in made.tables if table.name.startswith("t-accuracy")]
        return len(accuracies), " ".join(made.notes)

    assert headed("other", 50.0) == (2, "")
    assert headed("same", 40.0) == (
        1,
        "Every label occurs in every test set, so the target's own labels give the same figures.",
    )


@pytest.mark.slow
def test_where_nothing_beats_the_majority_it_is_said(tmp_path: Path) -> None:
    scores = {("mad-x", "sna", 0): 30.0, ("mad-x", "yor", 0): 40.0}
    made = make_section(read(tmp_path, plan("t", "table2", cells("mad-x", "sna", "yor")), scored({**scores})))
    assert made.notes[-1] == "No method reaches the majority class in: sna."


def test_gap_by_the_plans_groups_and_by_what_the_backbone_read(tmp_path: Path) -> None:
    scores = {("mad-x", "swa", 0): 70.0, ("mad-x", "sna", 0): 40.0, ("mad-x", "pcm", 0): 50.0}
    scores |= {("mad-x", "hau", 0): 80.0}
    runs = cells("mad-x", "hau", "swa", "sna", "pcm")
    stated = {"seen": ["hau", "swa"], "unseen": ["sna", "pcm"]}
    experiment = read(tmp_path / "stated", plan("t", "table1", runs, groups=stated), scored({**scores}))
    assert experiment.groups() == {"source": ["hau"], "seen": ["swa"], "unseen": ["sna", "pcm"]}
    table = paper_tables.gap_table(experiment)
    assert table.headings == ("Method", "source", "seen target", "unseen target")
    assert texts(table) == {"MAD-X": ["80.0", "70.0", "45.0"]}, "the source is no seen target"
    assert table.caption.startswith("Accuracy in per cent (1 seed, 4 languages) on the source language (hau)")
    assert table.caption.endswith("Low-resource on this backbone rather than unseen: sna.")
    experiment = read(tmp_path / "looked-up", plan("t", "table1", runs), scored({**scores}))
    assert experiment.groups()["unseen"] == ["pcm"], "Shona is in other text of the training of mini"
    assert texts(paper_tables.gap_table(experiment)) == {"MAD-X": ["80.0", "70.0", "50.0"]}


def test_a_target_of_another_dataset_keeps_its_dataset(tmp_path: Path) -> None:
    runs = cells("mad-x", "sna", "swa")
    runs[1]["dataset"] = "xnli"
    experiment = read(tmp_path, plan("t", "table1", runs, groups={"seen": ["swa"], "unseen": ["sna"]}))
    assert experiment.targets == ["sna", "xnli:swa"]
    assert experiment.groups() == {"source": [], "seen": ["xnli:swa"], "unseen": ["sna"]}


def test_an_experiment_on_a_bundled_backbone_of_its_own_has_no_scale(tmp_path: Path) -> None:
    def on(backbone: str, scale: str) -> str:
        def found(one: Cell) -> dict[str, Any]:
            made = result(one, 50.0)
            made["run_info"]["backbone"]["name"] = backbone
            return made

        record = plan(f"{backbone}-{scale}".replace("/", "-"), "table2", cells("mad-x", "sna"), scale=scale)
        return read(tmp_path, record, found).scale

    assert (on("mini", "paper"), on("mini-sentence", "paper"), on("mini-sentence", "mini")) == ("", "", "")
    assert (on("mini", "mini"), on("FacebookAI/xlm-roberta-large", "paper")) == ("mini", "paper")


def test_significance_of_ours(tmp_path: Path) -> None:
    record = plan("t", "table2", [cell(method, target, seed) for method in ("soft-prompt", "mad-x", "prompt-tuning")
                                  for target in ("sna", "yor") for seed in (0, 1)])  # fmt: skip
    accuracy = {"soft-prompt": 75.0, "mad-x": 25.0, "prompt-tuning": 75.0}

    def found(one: Cell) -> dict[str, Any] | None:
        if (one["method"], one["target"]) == ("prompt-tuning", "yor"):
            return None
        same = {**one, "method": "soft-prompt"} if one["method"] == "prompt-tuning" else one
        return result(same, accuracy[one["method"]])

    table = significance_table(read(tmp_path, record, found))
    assert table is not None
    shown = texts(table)
    assert shown["Prefix tuning, no adaptation"] == ["-", "-", "0.0 [0.0, 0.0]", "-"]  # the same predictions
    mean, own, *languages = shown["MAD-X"]
    assert mean.startswith("*+50.0 [+")
    assert len(languages) == 2
    assert own.startswith("*+50.0 [+")
    assert "10,000 resamples" in table.caption
    assert "95 % intervals" in table.caption
    assert "for the mean, each language is resampled separately. Bold" in table.caption


def test_translations_of_the_same_items_are_drawn_together(tmp_path: Path) -> None:
    def captioned(*shared: str) -> str:
        def found(one: Cell) -> dict[str, Any]:
            made = result(one, 50.0)
            if one["target"] in shared:
                made["predictions"]["ids"] = [f"{number}" for number in range(NUM_EXAMPLES)]
            return made

        runs = [*cells("soft-prompt", "sna", "yor", "ibo"), *cells("mad-x", "sna", "yor", "ibo")]
        table = significance_table(read(tmp_path / "-".join(shared), plan("t", "table2", runs), found))
        assert table is not None
        return table.caption

    assert "all languages have the same test items, and each draw takes the same ones" in captioned("sna", "yor", "ibo")
    some = (
        "each draw takes the same items for languages that share their test items (sna, ibo), the others are resampled"
    )
    assert some in captioned("sna", "ibo")


def test_no_significance_without_ours(tmp_path: Path) -> None:
    other = read(tmp_path / "a", plan("t", "table2", [*cells("mad-x", "sna"), *cells("fine-tuning", "sna")]))
    assert significance_table(other) is None
    record = plan("t", "table2", [*cells("mad-x", "sna"), *cells("soft-prompt", "sna")])
    undone = read(tmp_path / "b", record, scored({("mad-x", "sna", 0): 50.0}))
    assert significance_table(undone) is None


def test_controls_compare_with_the_targets_own_prompt(tmp_path: Path) -> None:
    record = plan("controls", "controls", [*cells("soft-prompt", "sna", prompt_of="another language"),
                                           *cells("soft-prompt", "sna", prompt_of="target")])  # fmt: skip
    table = significance_table(read(tmp_path, record))
    assert table is not None
    assert [row[0].text for row in table.rows] == ["Adapted soft prompt, prompt of another language"]


def test_costs_in_both_countings(tmp_path: Path) -> None:
    fine = {"adapt": None, "tune": {"trained_parameters": 5, "trained_parameters_paper": 8, "share": 1.0,
                                      "file_bytes": 20},
            "language_bytes": None, "refusal": None}  # fmt: skip
    costs = {"soft-prompt": COST, "fine-tuning": fine}
    methods, models = ("soft-prompt", "fine-tuning", "mad-x"), ("FacebookAI/xlm-roberta-large", "mini")
    record = plan("t", "table3", [cell(method, None, None, model=model) for method in methods for model in models])

    def found(one: Cell) -> dict[str, Any] | None:
        known = one["method"] in costs and one["varied"]["model"] != "mini"
        return cost_result(one, costs[one["method"]]) if known else None

    experiment = read(tmp_path, record, found)
    large, mini = paper_tables.cost_tables(experiment)
    assert [table.name for table in (large, mini)] == ["t-cost-FacebookAI_xlm_roberta_large", "t-cost-mini"]
    assert "model mini; counted" in mini.caption
    assert {text for row in texts(mini).values() for text in row} == {"-"}
    assert texts(large) == {
        "Fine-tuning, no adaptation": ["5", "8", "100 %", "20 B", "5", "20 B"],
        "MAD-X": ["-"] * 6,
        "Adapted soft prompt": ["1,572,864", "1,572,864", "0.28 %", "6.29 MB", "1,179,648", "6.29 MB"],
    }
    assert make_section(experiment).missing == [
        "Fine-tuning, no adaptation, model mini",
        "MAD-X, model FacebookAI/xlm-roberta-large",
        "MAD-X, model mini",
        "Adapted soft prompt, model mini",
    ]
    published = paper_tables.published_table(experiment)
    assert published is not None
    assert [row[-1].text for row in published.rows] == ["5", "-", "1,572,864"]


def test_curves_and_levels(tmp_path: Path) -> None:
    shots = [one for num in (20, 5) for one in cells("soft-prompt", "sna", seeds=(0, 1), tune__shots_per_class=num)]
    experiment = read(tmp_path, plan("t", "figure4", [*shots, *cells("prompt-tuning", "sna")]))
    curves = along_setting(experiment, ["sna"])
    ((name, points),) = [(one.name, one.points) for one in curves.series]
    assert (curves.label, name) == ("labelled examples per class", "Adapted soft prompt")
    assert [(x, spread.values) for x, spread in points] == [
        (x, tuple(accuracy_of(cell("soft-prompt", "sna", seed, tune__shots_per_class=int(x))) for seed in (0, 1)))
        for x in (5.0, 20.0)
    ]
    assert [one.name for one in curves.levels] == ["Prefix tuning, no adaptation", "Majority class"]
    table = paper_tables.curve_table(experiment, curves, "", 1)
    assert table.headings == ("Method", "5", "20")
    assert len({*texts(table)["Prefix tuning, no adaptation"]}) == 1
    assert texts(table)["Majority class"] == ["35.0", "35.0"]


@pytest.mark.slow
def test_a_figure_has_the_majority_level_and_says_where_it_is_not_reached(tmp_path: Path) -> None:
    for draw in ("figure3", "figure4", "figure6"):
        runs = [one for x in (1, 2) for one in cells("mad-x", "sna", "yor", tune__key=x)]
        scores = {("mad-x", "sna", 0): 30.0, ("mad-x", "yor", 0): 40.0}
        made = make_section(read(tmp_path / draw, plan("t", draw, runs), scored({**scores})))
        assert made.notes == ["No method reaches the majority class in: sna."]
        assert [figure.svg.count(">Majority class<") for figure in made.figures] == [1, 1]
        assert "Thin line: the share of the most frequent label." in made.figures[0].caption
        assert "Dashed" not in made.figures[0].caption
        undone = make_section(read(tmp_path / f"un{draw}", plan("u", draw, runs), scored({("mad-x", "sna", 0): 30.0})))
        assert [figure.name for figure in undone.figures] == ["u-languages"], "no mean, and no line by itself"


@pytest.mark.slow
def test_a_missing_point_breaks_the_line_and_one_seed_has_no_band(tmp_path: Path) -> None:
    def drawn(seeds: tuple[int, ...], without: float | None) -> tuple[int, int]:
        """Number of strokes of the line, and of bands."""
        runs = [one for x in (1, 2, 3, 4, 5) for one in cells("mad-x", "sna", seeds=seeds, tune__shots_per_class=x)]
        key = "tune.shots_per_class"
        folder = tmp_path / f"{len(seeds)}{without}"
        record = plan("t", "figure4", runs)
        experiment = read(folder, record, lambda one: None if one["varied"][key] == without else answer(one))
        svg = setting_curve(experiment)
        colour = look("mad-x").colour
        paths = re.findall(rf'd="([^"]+)"[^>]*style="fill: none; stroke: {colour}; stroke-width: 2[;"]', svg)
        return max(path.count("M") for path in paths), svg.count("fill-opacity: 0.16")

    assert drawn((0, 1), None) == (1, 1)
    assert drawn((0, 1), 3) == (2, 2)
    assert drawn((0,), None) == (1, 0)


@pytest.mark.parametrize(("last", "ticks"), [(6, [1, 2, 3, 4, 5, 6]), (12, [1, 3, 6, 9, 12]), (24, [1, 6, 12, 18, 24])])
def test_ticks_of_layers_include_the_quarters(tmp_path: Path, last: int, ticks: list[int]) -> None:
    each = range(1, last + 1)
    runs = [
        one
        for key in ("tune__top_k_layers", "tune__bottom_k_layers")
        for k in each
        for one in cells("soft-prompt", "sna", **{key: k})
    ]
    experiment = read(tmp_path, plan("t", "figure6", runs))
    svg = setting_curve(experiment)
    assert [int(text) for text in re.findall(r'id="t-mean-xtick_\d+".*?<text[^>]*>(\d+)<', svg, re.DOTALL)] == ticks
    assert svg.count(">K, number of tuned layers<") == 1


@pytest.mark.slow
def test_a_panel_above_an_empty_place_has_numbers_of_x(tmp_path: Path) -> None:
    for targets, rows_with_numbers in ((("sna", "yor", "lin"), 2), (("sna", "yor", "lin", "ibo"), 2)):
        runs = [one for share in (0.25, 0.5) for one in cells("mad-x", *targets, text_share=share)]
        experiment = read(tmp_path / str(len(targets)), plan("t", "figure3", runs))
        svg = setting_panels(experiment)
        assert svg.count(">25 %<") == rows_with_numbers, targets
        assert svg.count(">share of the unlabelled text<") == 1


def test_top_and_bottom_are_two_curves_of_one_method(tmp_path: Path) -> None:
    tops, bottoms = (
        [one for k in (3, 6) for one in cells("soft-prompt", "sna", **{key: k})]
        for key in ("tune__top_k_layers", "tune__bottom_k_layers")
    )
    curves = along_setting(read(tmp_path, plan("t", "figure6", [*tops, *bottoms])), ["sna"])
    assert [(one.name, one.style) for one in curves.series] == [("top K layers", 0), ("bottom K layers", 1)]
    assert len({one.colour for one in curves.series}) == 1


def test_change_of_layers_counts_them_from_one(tmp_path: Path) -> None:
    record = plan("t", "figure5", [*cells("soft-prompt", "sna", "yor"), *cells("mad-x", "sna", "yor")])
    (series,) = along_layers(read(tmp_path, record), "relative_l2", ["sna", "yor"]).series
    assert series.method == "soft-prompt"
    assert [x for x, _ in series.points] == [1.0, 2.0, 3.0, 4.0]
    assert [spread.mean for _, spread in series.points] == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.slow
def test_what_is_missing_is_listed(tmp_path: Path) -> None:
    runs = [
        *cells("mad-x", "sna", "yor", seeds=(0, 1)),
        *cells("fine-tuning", "sna", "yor"),
        cell("soft-prompt", "sna", 0),
    ]
    runs[-1]["result"] = None  # a step that cannot be planned
    scores = {("mad-x", "sna", 0): 1.0, ("mad-x", "yor", 1): 1.0}
    made = make_section(read(tmp_path, plan("t", "table2", runs), scored({**scores})))
    assert made.missing == [
        "Fine-tuning, no adaptation: all 2",
        "MAD-X: sna seed 1, yor seed 0",
        "Adapted soft prompt",
    ]


def test_published_numbers_stand_beside_ours(tmp_path: Path) -> None:
    tops = [one for k in (3, 6) for one in cells("soft-prompt", "sna", tune__top_k_layers=k)]
    older = plan("older", "figure6", tops)
    for record, ours in (
        (plan("large", "figure6", tops, num_layers=24), "60.0"),
        (plan("small", "figure6", tops, num_layers=12), "-"),
        (older, "-"),
    ):
        experiment = read(tmp_path, record, lambda one: result(one, 10.0 * one["varied"]["tune.top_k_layers"]))
        table = paper_tables.published_table(experiment)
        assert table is not None
        assert texts(table) == {
            "Top 6 of 24 layers tuned": ["the paper's backbone, mean of 8 unseen languages", "80.53", ours],
            "Bottom 6 of 24 layers tuned": ["the paper's backbone, mean of 8 unseen languages", "63.04", "-"],
        }
    assert paper_tables.published_table(read(tmp_path, plan("u", "figure3", cells("mad-x", "sna")))) is None


def test_the_published_gap_stands_beside_ours(tmp_path: Path) -> None:
    scores = {("fine-tuning", "swa", 0): 70.0, ("fine-tuning", "sna", 0): 40.0, ("fine-tuning", "yor", 0): 50.0}
    groups = {"seen": ["swa"], "unseen": ["sna", "yor"]}
    record = plan("t", "table1", cells("fine-tuning", "swa", "sna", "yor"), groups=groups)
    table = paper_tables.published_table(read(tmp_path, record, scored({**scores})))
    assert table is not None
    shown = [tuple(cell.text for cell in row[2:]) for row in table.rows]
    assert shown == [("79", "70.0"), ("42.58 (43 in the paper's text)", "45.0"), ("43.35", "-")]


def test_the_published_number_of_a_language_stands_beside_its_own(tmp_path: Path) -> None:
    runs = cells("fine-tuning-mlm", "grn", "quy", "aym")
    scores = {("fine-tuning-mlm", target, 0): 50.0 + 10 * place for place, target in enumerate(("grn", "quy", "aym"))}
    record = plan("t", "table2", runs, dataset="americasnli")
    for one in runs:
        one["dataset"] = "americasnli"
    table = paper_tables.published_table(read(tmp_path, record, scored({**scores})))
    assert table is not None
    shown = {row[2].text: row[3].text for row in table.rows}
    assert (shown["53"], shown["61"], shown["43.85"]) == ("50.0", "60.0", "60.0")


def test_every_run_is_in_the_csv(tmp_path: Path) -> None:
    experiment = read(tmp_path, plan("t", "figure3", cells("mad-x", "sna", seeds=(0, 1), text_share=0.25)),
                      scored({("mad-x", "sna", 0): 40.0}))  # fmt: skip
    table = paper_tables.runs_table(experiment)
    first, second = ({head: each.value for head, each in zip(table.headings, row, strict=True)} for row in table.rows)
    assert (first["seed"], first["text_share"], first["accuracy_all"]) == (0, 0.25, 40.0)
    assert (second["seed"], second["accuracy_all"], second["step"]) == (1, None, None)


def test_names_of_what_varies() -> None:
    assert varied_name({"source_texts": ["a:eng:train", "b:eng:train"]}) == "source texts a:eng:train, b:eng:train"
    assert key_name("tune.top_k_layers") == "top K layers"
    assert value_name("text_share", 0.25) == "25 %"
    assert value_name("tune.steps", 1000) == "1,000"
    assert value_name("prompt_of", "another language") == "another language"


def with_text(one: Cell, source: str = "masakhanews:hau:train") -> dict[str, Any]:
    """A result whose stage 1, if there is one, read the target's training text and `source`."""
    made = result(one, 50.0)
    if one["method"] == "soft-prompt":
        made["train_info"]["adapt"]["decontamination"] = {
            "source": {"kept": 90 if "hau" in source else 70, "removed": 0, "ngram": 13, "held_out": {}},
            "target": {"kept": 1200, "removed": 3, "ngram": 13, "held_out": {}},
        }
        texts = {"target_texts": f"masakhanews:{one['target']}:train", "source_texts": source}
        data = {role: {"references": [reference], "content": "hash"} for role, reference in texts.items()}
        made["run_info"]["data"] = {**data, "language": one["target"]}
    return made


def test_table_4_has_the_lines_that_decontamination_left(tmp_path: Path) -> None:
    runs = [*cells("soft-prompt", "sna", "yor"), *cells("prompt-tuning", "sna", "yor")]
    table = languages.text_table(read(tmp_path, plan("t", "table2", runs), with_text))
    assert table is not None
    assert texts(table) == {
        "Hausa (hau)": ["masakhanews:hau:train", "90", "0"],
        "Shona (sna)": ["masakhanews:sna:train", "1,200", "3"],
        "Yoruba (yor)": ["masakhanews:yor:train", "1,200", "3"],
    }
    assert languages.text_table(read(tmp_path / "none", plan("u", "table2", cells("prompt-tuning", "sna")))) is None


def test_table_4_names_each_source_text_by_its_own_language(tmp_path: Path) -> None:
    references = ("masakhanews:hau:train", "masakhanews:eng:train", "my text.txt")
    runs = [one for each in references for one in cells("soft-prompt", "sna", source_texts=each)]
    record = plan("t", "accuracy", runs)
    table = languages.text_table(read(tmp_path, record, lambda one: with_text(one, one["varied"]["source_texts"])))
    assert table is not None
    assert [tuple(each.text for each in row) for row in table.rows] == [
        ("Hausa (hau)", "masakhanews:hau:train", "90", "0"),
        ("Shona (sna)", "masakhanews:sna:train", "1,200", "3"),
        ("English (eng)", "masakhanews:eng:train", "70", "0"),
        ("Hausa (hau)", "my text.txt", "70", "0"),
    ]


@pytest.mark.slow
def test_figures_have_table_4_too(tmp_path: Path) -> None:
    for draw in ("figure3", "figure4", "figure5", "figure6"):
        runs = [one for x in (1, 2) for one in cells("soft-prompt", "sna", tune__key=x)]
        made = make_section(read(tmp_path / draw, plan("t", draw, runs), with_text))
        assert "t-text" in [table.name for table in made.minor_tables]
        assert made.minor_title == ("Numbers of the figure, and text" if draw == "figure5" else "Text")


@pytest.mark.slow
def test_gain_is_of_common_seeds_and_against_each_factor(tmp_path: Path) -> None:
    targets = ("sna", "yor", "lin", "grn", "ibo")
    runs = [*cells("soft-prompt", *targets, seeds=(0, 1)), *cells("prompt-tuning", *targets)]
    scores = {
        ("soft-prompt", target, seed): 40.0 + 10 * number + 20 * seed
        for number, target in enumerate(targets)
        for seed in (0, 1)
    } | {("prompt-tuning", target, 0): 35.0 for target in targets}
    found = languages.gains([read(tmp_path, plan("t", "table2", runs), scored(scores))])
    assert [(gain.dataset, gain.language, gain.family, gain.points) for gain in found] == [
        ("masakhanews", "sna", "Atlantic-Congo", 5.0),
        ("masakhanews", "yor", "Atlantic-Congo", 15.0),
        ("masakhanews", "lin", "Atlantic-Congo", 25.0),
        ("masakhanews", "grn", "Tupian", 35.0),
        ("masakhanews", "ibo", "Atlantic-Congo", 45.0),
    ]
    svg, caption = languages.factors_figure(found)
    assert svg.startswith("<svg")
    assert "fertility): masakhanews" in caption
    assert "unknown tokens" not in caption, "the same everywhere"
    assert "lines of unlabelled text" not in caption, "not recorded by these runs"
    assert "family: masakhanews Atlantic-Congo +22.5 (4), Tupian +35.0 (1). A factor" in caption
    assert [svg.count(f">{name}<") for name in ("Atlantic-Congo", "Tupian")] == [1, 1]
    assert languages.factors_figure(found[:4]) == ("", "")


def gained(dataset: str, code: str, points: float, lines: float) -> languages.Gain:
    return languages.Gain(dataset, code, "a family", points, {languages.LINES: lines})


def test_lines_of_text_are_those_that_were_read(tmp_path: Path) -> None:
    def read_less(one: Cell) -> dict[str, Any]:
        made = with_text(one)
        if one["method"] == "soft-prompt":
            made["train_info"]["adapt"]["target_lines"] = 500
        return made

    runs = [*cells("soft-prompt", "sna"), *cells("prompt-tuning", "sna")]
    (gain,) = languages.gains([read(tmp_path, plan("t", "table2", runs), read_less)])
    assert gain.factors[languages.LINES] == 500, "of 1,200 that decontamination left"


@pytest.mark.slow
def test_datasets_are_not_pooled(tmp_path: Path) -> None:
    """The one with more text gains more; within each of them more text gains less."""
    small = [gained("americasnli", f"a{i}", 5.0 - i, 100.0 + i) for i in range(5)]
    large = [gained("masakhanews", f"b{i}", 50.0 - i, 10_000.0 + i) for i in range(5)]
    few = [gained("sib200", f"c{i}", 1.0 * i, 10.0 * i) for i in range(4)]
    svg, caption = languages.factors_figure([*small, *large, *few])
    assert "read: americasnli −1.00 (5 languages), masakhanews −1.00 (5 languages). Means" in caption
    assert [svg.count(f">{name}<") for name in ("americasnli", "masakhanews", "sib200")] == [1, 1, 0]
    assert ">c1<" not in svg


@pytest.mark.slow
def test_codes_of_points_at_one_place_are_left_out(tmp_path: Path) -> None:
    crowd = [gained("masakhanews", f"x{i}", 5.0, 100.0) for i in range(9)]
    svg, _ = languages.factors_figure([*crowd, gained("masakhanews", "far", 0.0, 9_000.0)])
    assert 1 <= sum(svg.count(f">x{i}<") for i in range(9)) <= 4
    assert svg.count(">far<") == 1


def test_choices_are_shown_with_their_dev_accuracy(tmp_path: Path) -> None:
    def found(one: Cell) -> dict[str, Any]:
        made = result(one, 50.0)
        made["train_info"]["tune"]["dev_accuracy"] = 1000 * one["varied"]["tune.learning_rate"]
        return made

    runs = [one for rate in (0.04, 0.06) for one in cells("prompt-tuning", "sna", tune__learning_rate=rate)]
    shown, *_ = make_section(read(tmp_path, plan("t", "dev", runs), found)).tables
    assert texts(shown) == {
        "Prefix tuning, no adaptation, learning rate 0.04": ["40.0"],
        "Prefix tuning, no adaptation, learning rate 0.06": ["*60.0*"],
    }
