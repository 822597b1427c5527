"""Plans: what moves a step's identity and what does not, what is shared, what is left to do."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glotprompt.cli.plain_commands import _of_stage1
from glotprompt.config import AdaptConfig
from glotprompt.data.readers.records import subsample
from glotprompt.errors import ConfigError, DataError
from glotprompt.estimate.forecast import Forecast, Forecaster, Text
from glotprompt.grid import reading
from glotprompt.grid.estimate import Estimator
from glotprompt.grid.experiment import load
from glotprompt.grid.plan import Plan, add_experiment
from glotprompt.grid.reading import ExampleSource, TextSource
from glotprompt.grid.scales import ScaleName
from glotprompt.grid.steps import AdaptStep, CostStep, EvaluateStep, PlannedBackbone, TuneStep, Workplace
from glotprompt.grid.store import Store

from .conftest import EXPERIMENTS

BACKBONE = PlannedBackbone("0123456789abcdef", "fp32", "anywhere")
LAYERS = 3


def planned(
    file: Path,
    data: Path,
    *changes: str,
    backbone: PlannedBackbone = BACKBONE,
    scale: ScaleName = "paper",
    layers: int = LAYERS,
) -> Plan:
    plan = Plan()
    add_experiment(plan, load(file, scale, changes), lambda name, _: (replace(backbone, name=name), layers), data)
    return plan


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "layers"), [("mini", 12), ("paper", 24)])
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_is_planned(path: Path, scale: ScaleName, layers: int, toy_data: Path) -> None:
    plan = planned(path, toy_data, scale=scale, layers=layers)
    (record,) = plan.records
    assert {cell["method"] for cell in record["cells"]} == {*record["methods"]}
    assert {cell["result"] for cell in record["cells"]} <= {*plan.steps}


def names(plan: Plan) -> dict[str, set[str]]:
    """Names of the steps by kind."""
    return {
        kind: {name for name, step in plan.steps.items() if step.kind == kind} for kind in ("adapt", "tune", "evaluate")
    }


def counts(plan: Plan) -> dict[tuple[str, str], int]:
    return dict(Counter((step.kind, step.method) for step in plan.steps.values()))


def test_each_identity_once(experiment_file: Path, toy_data: Path) -> None:
    plan = planned(experiment_file, toy_data)
    assert counts(plan) == {
        ("adapt", "soft-prompt"): 2, ("tune", "soft-prompt"): 2, ("evaluate", "soft-prompt"): 2,
        ("tune", "prompt-tuning"): 1, ("evaluate", "prompt-tuning"): 2,
        ("adapt", "mad-x"): 2, ("tune", "mad-x"): 1, ("evaluate", "mad-x"): 2,
    }  # fmt: skip
    first, second = (step for step in plan.steps.values() if isinstance(step, AdaptStep) and step.method == "mad-x")
    assert (first.after, second.after) == (None, first)
    order = list(plan.steps)
    for name, step in plan.steps.items():
        assert all(order.index(need.name) < order.index(name) for need in step.needs)


def test_stage_1_serves_every_k_and_shot_count(experiment_file: Path, toy_data: Path) -> None:
    varies = [
        "varies.tune.top_k_layers=[1, 2, 3]",
        "varies.tune.bottom_k_layers=[1, 3]",
        "varies.tune.shots_per_class=[5, 8]",
    ]
    plan = planned(experiment_file, toy_data, *varies, 'targets=["sna"]')
    # K = 3 is all of them, from either end; prompt-tuning has no stage 1 and is trained for every K, too.
    assert counts(plan) == {
        ("adapt", "soft-prompt"): 1, ("tune", "soft-prompt"): 6, ("evaluate", "soft-prompt"): 6,
        ("tune", "prompt-tuning"): 6, ("evaluate", "prompt-tuning"): 6,
        ("adapt", "mad-x"): 1, ("tune", "mad-x"): 2, ("evaluate", "mad-x"): 2,
    }  # fmt: skip
    cells = plan.records[0]["cells"]
    assert [cell["varied"] for cell in cells if cell["method"] == "mad-x"] == [
        {"tune.shots_per_class": 5}, {"tune.shots_per_class": 8},
    ]  # fmt: skip
    assert {"tune.bottom_k_layers": 3} in [cell["varied"] for cell in cells]


MOVES: dict[str, tuple[str, set[str]]] = {
    "adapt.steps=4": ("soft-prompt", {"adapt", "tune", "evaluate"}),
    "adapt.learning_rate=0.1": ("mad-x", {"adapt", "tune", "evaluate"}),
    "seeds=[1]": ("soft-prompt", {"adapt", "tune", "evaluate"}),
    "text_share=0.5": ("soft-prompt", {"adapt", "tune", "evaluate"}),
    "max_lines=20": ("soft-prompt", {"adapt", "tune", "evaluate"}),
    'source_texts=["masakhanews:tir:train"]': ("soft-prompt", {"adapt", "tune", "evaluate"}),
    "precision=bf16": ("soft-prompt", {"adapt", "tune", "evaluate"}),
    "tune.epochs=2": ("soft-prompt", {"tune", "evaluate"}),
    "tune.top_k_layers=2": ("soft-prompt", {"tune", "evaluate"}),
    "task=news": ("soft-prompt", {"tune", "evaluate"}),
    "tune.most_per_label=2": ("soft-prompt", {"tune", "evaluate"}),
    'train=["masakhanews:hau:train"]': ("soft-prompt", {"tune", "evaluate"}),
    "dev=masakhanews:tir:dev": ("prompt-tuning", {"tune", "evaluate"}),
    "prompt_of=another language": ("soft-prompt", {"evaluate"}),
    "input=article": ("mad-x", {"tune", "evaluate"}),
    # Nothing that changes a number:
    "title=another": ("soft-prompt", set()),
    "draw=controls": ("soft-prompt", set()),
    'groups={a=["sna"]}': ("soft-prompt", set()),
    "adapt_seed=0": ("soft-prompt", set()),
    "text_share=1.0": ("mad-x", set()),
    "max_lines=1000": ("soft-prompt", set()),
    'targets=["yor", "sna"]': ("mad-x", set()),
    'methods=["soft-prompt"]': ("soft-prompt", set()),
    # What concerns another method:
    "adapt.steps=5": ("prompt-tuning", set()),
    "text_share=0.25": ("prompt-tuning", set()),
    "tune.top_k_layers=1": ("mad-x", set()),
}
"""From a change to a method and the kinds of its steps that get other names."""


@pytest.mark.parametrize("change", MOVES)
def test_what_moves_the_identity(experiment_file: Path, toy_data: Path, change: str) -> None:
    method, expected = MOVES[change]
    only = f'methods=["{method}"]'
    before = names(planned(experiment_file, toy_data, only))
    backbone = BACKBONE
    if change.startswith("precision"):
        backbone = PlannedBackbone(BACKBONE.fingerprint, "bf16", BACKBONE.name)
    after = names(planned(experiment_file, toy_data, only, change, backbone=backbone))
    assert {kind for kind in before if before[kind] != after[kind]} == expected


def test_the_backbone_is_its_fingerprint(experiment_file: Path, toy_data: Path) -> None:
    before = names(planned(experiment_file, toy_data))
    moved = PlannedBackbone(BACKBONE.fingerprint, "fp32", "elsewhere")
    assert names(planned(experiment_file, toy_data, backbone=moved)) == before
    other = names(planned(experiment_file, toy_data, backbone=PlannedBackbone("f" * 16, "fp32", BACKBONE.name)))
    assert all(not before[kind] & other[kind] for kind in before)


def test_the_data_is_what_it_says(experiment_file: Path, toy_data: Path, tmp_path: Path) -> None:
    before = names(planned(experiment_file, toy_data))
    copy = tmp_path / "copy"
    shutil.copytree(toy_data, copy)
    assert names(planned(experiment_file, copy)) == before
    file = tmp_path / "changed" / "masakhanews" / "sna" / "test.tsv"
    shutil.copytree(toy_data, tmp_path / "changed")
    file.write_text(file.read_text(encoding="utf-8").replace("win", "won"), encoding="utf-8")
    after = names(planned(experiment_file, tmp_path / "changed"))
    assert (after["adapt"], after["tune"]) == (before["adapt"], before["tune"])
    assert len(after["evaluate"] & before["evaluate"]) == 3  # Yoruba's


def test_another_languages_prompt_costs_an_evaluation(experiment_file: Path, toy_data: Path) -> None:
    controls = ['varies.prompt_of=["target", "another language"]', 'methods=["soft-prompt", "source-prompt"]']
    plan = planned(experiment_file, toy_data, *controls)
    assert counts(plan) == {
        ("adapt", "soft-prompt"): 2, ("tune", "soft-prompt"): 2, ("evaluate", "soft-prompt"): 4,
        ("adapt", "source-prompt"): 1, ("tune", "source-prompt"): 1, ("evaluate", "source-prompt"): 2,
    }  # fmt: skip
    swapped = [step for step in plan.steps.values() if isinstance(step, EvaluateStep) and step.method == "soft-prompt"]
    assert {(step.target, step.adapted.language) for step in swapped if step.adapted} == {
        ("sna", "sna"), ("sna", "yor"), ("yor", "yor"), ("yor", "sna"),
    }  # fmt: skip
    with pytest.raises(ConfigError, match="more than one target"):
        planned(experiment_file, toy_data, "prompt_of=another language", 'targets=["sna"]')


def test_what_is_finished_is_not_done_again(experiment_file: Path, toy_data: Path, tmp_path: Path) -> None:
    plan, store = planned(experiment_file, toy_data), Store(tmp_path / "grid")
    assert [step.name for step in plan.missing(store.finished())] == list(plan.steps)
    for step in plan.steps.values():
        if isinstance(step, EvaluateStep) and step.method != "mad-x":
            store.outcome(step.name)
            store.publish(step.name)
    left = plan.missing(store.finished())  # no stage 1 whose results are all there, whether it lies there or not
    assert {(step.kind, step.method) for step in left} == {(kind, "mad-x") for kind in ("adapt", "tune", "evaluate")}


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ('source_texts=["masakhanews:hau:test"]', DataError, "evaluation text"),
        ('train=["masakhanews:hau:train", "xnli:eng:dev"]', DataError, "XNLI's dev and test items"),
        ("source=hua", ConfigError, r"toy: source is 'hua', but the labelled examples \(train\) are in hau"),
        ("adapt.steps=lots", ConfigError, "toy: AdaptConfig.steps: Input should be a valid integer"),
        ('targets=["ibo", "masakhanews:ibo"]', ConfigError, "targets has 'ibo' more than once"),
        ('train=["news.tsv"]', ConfigError, "news.tsv: no such file"),
        ("source_texts=[]", ConfigError, "reads source text"),
        ('targets=["snaa"]', DataError, "Did you mean 'sna'"),
    ],
)
def test_what_cannot_be_planned(
    experiment_file: Path, toy_data: Path, change: str, error: type[Exception], said: str
) -> None:
    more = ['targets=["americasnli:quy"]'] if "xnli" in change else []
    more += ['methods=["prompt-tuning"]'] if "train=" in change else []
    with pytest.raises(error, match=said):
        planned(experiment_file, toy_data, change, *more)


def test_evaluation_text_is_taken_out(experiment_file: Path, toy_data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(toy_data, copy)
    folder = copy / "masakhanews" / "sna"
    scored = (folder / "test.tsv").read_text(encoding="utf-8").splitlines()[1]
    with (folder / "train.tsv").open("a", encoding="utf-8") as file:
        file.write(scored.replace("\turl", "\telsewhere") + "\n")
    only = 'methods=["soft-prompt"]'
    assert names(planned(experiment_file, copy, only)) == names(planned(experiment_file, toy_data, only))


def test_costs_need_no_data(tmp_path: Path) -> None:
    file: Any = Path(__file__).resolve().parents[2] / "experiments" / "table3_cost.toml"
    plan = Plan()
    add_experiment(plan, load(file), lambda name, _: (BACKBONE, 24), None)
    assert all(cell["target"] is None and cell["result"] for cell in plan.records[0]["cells"])
    assert len(plan.steps) == len(plan.records[0]["cells"]) == 18
    assert load(file, "mini") == load(file), "counting is as quick at the paper's scale"


def test_tune_steps_of_mad_x_do_not_know_the_target(experiment_file: Path, toy_data: Path) -> None:
    plans = [planned(experiment_file, toy_data, f'targets=["{code}"]', 'methods=["mad-x"]') for code in ("sna", "yor")]
    tuned = [{name for name, step in plan.steps.items() if isinstance(step, TuneStep)} for plan in plans]
    assert tuned[0] == tuned[1]


LABELLED = ('methods=["embedding", "few", "taught"]', 'systems.few={method="embedding", target_labels=2}',
            'systems.taught={method="embedding", self_train=true}')  # fmt: skip


def test_target_labels_and_text_are_not_translations_of_the_source(experiment_file: Path, toy_data: Path) -> None:
    plan = planned(experiment_file, toy_data, *LABELLED, "disjoint=true", 'targets=["sna"]', "seeds=[0, 1]")
    tuned = [step for step in plan.steps.values() if isinstance(step, TuneStep)]
    few, other = (step for step in tuned if step.target is not None)
    assert few.target is not None
    assert few.name != other.name, "other labels for another seed"
    every = reading.examples(ExampleSource(("masakhanews:sna:train",), "headline"), toy_data)
    found = reading.examples(few.target, toy_data)
    assert Counter(one.label for one in found) == dict.fromkeys(LABELS, 2)
    assert {one.id for one in found} <= {one.id for one in every[1::2]}
    (taught,) = (step for step in tuned if step.start is not None and step.config.seed == 0)
    assert isinstance(taught.unlabelled, ExampleSource)
    assert reading.examples(taught.unlabelled, toy_data) == every[1::2]
    source = reading.examples(ExampleSource(few.train.references, "headline"), toy_data)
    assert reading.examples(few.train, toy_data) == source[::2]
    order = list(plan.steps)
    assert taught.start is not None
    assert order.index(taught.start.name) < order.index(taught.name)
    assert taught.start.name in [step.name for step in tuned if step.start is None], "embedding's own training"


def test_what_is_scored_is_no_target_label(experiment_file: Path, toy_data: Path, tmp_path: Path) -> None:
    data = shutil.copytree(toy_data, tmp_path / "data")
    folder = data / "masakhanews" / "sna"
    header, *rows = (folder / "train.tsv").read_text(encoding="utf-8").splitlines()
    (folder / "test.tsv").write_text("\n".join([header, *rows[::2]]) + "\n", encoding="utf-8")
    plan = planned(experiment_file, data, *LABELLED, 'targets=["sna"]')
    (few,) = (step.target for step in plan.steps.values() if isinstance(step, TuneStep) and step.target is not None)
    scored = {one.fields["text"] for one in reading.examples(ExampleSource(("masakhanews:sna:test",)), data)}
    assert len(scored) == 12
    assert not scored & {one.fields["text"] for one in reading.examples(few, data)}


def test_with_folds_the_source_examples_are_scored_in_the_target_language(verse_file: Path, verse_data: Path) -> None:
    plan = planned(verse_file, verse_data)
    assert counts(plan) == {("evaluate", "embedding"): 2}, "what is trained on a fold is no step"
    plain, taught = (step for step in plan.steps.values() if isinstance(step, EvaluateStep))
    assert plain.test.references == ("taxi1500:glv:train", "taxi1500:glv:dev", "taxi1500:glv:test")
    assert isinstance(taught.tuned.unlabelled, TextSource)
    assert taught.tuned.unlabelled == taught.centre
    lines = reading.texts(taught.tuned.unlabelled, verse_data).lines
    assert len(lines) == 41, "the target side of the pairs, without the scored verses"
    assert names(planned(verse_file, verse_data, "folds=4"))["evaluate"].isdisjoint(names(plan)["evaluate"])
    aligned = 'systems.taught={method="embedding", adapted_by="lora"}'
    (adapt,) = (one for one in planned(verse_file, verse_data, aligned).steps.values() if isinstance(one, AdaptStep))
    assert len(reading.pairs(adapt.texts["pairs"], verse_data).pairs) == 41


def test_folds_need_examples_with_the_same_ids(tmp_path: Path, verse_file: Path, verse_data: Path) -> None:
    for name in ("own.tsv", "scored.tsv"):
        rows = "\n".join(f"{name} {number}\tFaith" for number in range(9))
        (tmp_path / name).write_text(f"text\tlabel\n{rows}\n", encoding="utf-8")
    own = ('train=["own.tsv"]', 'tests={glv="scored.tsv"}', "pairs={}", 'methods=["embedding"]')
    with pytest.raises(DataError, match=r"0 examples with the id of an example of .*own\.tsv; folds = 3 needs as many"):
        planned(verse_file, verse_data, *own)


def test_target_labels_of_an_own_file(experiment_file: Path, toy_data: Path, tmp_path: Path) -> None:
    rows = [f"{label} {number}\t{label}" for label in LABELS for number in range(4)]
    (tmp_path / "few.tsv").write_text("\n".join(["text\tlabel", *rows, "", ""]), encoding="utf-8")
    own = f'target_labels={{sna="{tmp_path / "few.tsv"}"}}'
    plan = planned(experiment_file, toy_data, *LABELLED, 'targets=["sna"]', own)
    (few,) = (step.target for step in plan.steps.values() if isinstance(step, TuneStep) and step.target is not None)
    found = reading.examples(few, toy_data)
    assert Counter(one.label for one in found) == dict.fromkeys(LABELS, 2)
    assert {one.fields["text"] for one in found} <= {row.split("\t")[0] for row in rows}


def test_target_labels_need_a_training_split_apart(verse_file: Path, verse_data: Path) -> None:
    with pytest.raises(ConfigError, match="taught: target_labels is for datasets with a training split, and without"):
        planned(verse_file, verse_data, 'systems.taught={method="embedding", target_labels=5}')


LABELS = ("sports", "health", "business")
OWN = """
source = "eng"
title = "Topics of our own"
targets = ["nya"]
train = ["data/train.tsv"]
source_texts = ["data/eng.txt"]
task = "task.toml"
methods = ["soft-prompt", "embedding"]
seeds = [0]
[read]
text = "sentence"
[tests]
nya = "data/test.tsv"
[texts]
nya = "data/nya.txt"
"""


@pytest.fixture
def own_file(tmp_path: Path, experiment_file: Path) -> Path:
    """An experiment on own files, beside the task of the other one."""
    data = tmp_path / "data"
    data.mkdir()
    for name, count in (("train", 6), ("test", 3)):
        rows = [f"{name} about {label} {number}\t{label}" for label in LABELS for number in range(count)]
        (data / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows]), encoding="utf-8")
    for name in ("eng", "nya"):
        lines = [f"a line of {name} that has number {n} in it" for n in range(9)]
        (data / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    file = tmp_path / "own.toml"
    file.write_text(OWN, encoding="utf-8")
    return file


def test_own_files_lie_beside_the_experiment(own_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    plan = planned(own_file, elsewhere)
    assert counts(plan) == {
        ("adapt", "soft-prompt"): 1, ("tune", "soft-prompt"): 1, ("evaluate", "soft-prompt"): 1,
        ("tune", "embedding"): 1, ("evaluate", "embedding"): 1,
    }  # fmt: skip
    (adapt,) = (step for step in plan.steps.values() if isinstance(step, AdaptStep))
    assert len(reading.texts(adapt.texts["target"], None).lines) == 9
    (scored, _) = (step for step in plan.steps.values() if isinstance(step, EvaluateStep))
    assert [example.label for example in reading.examples(scored.test, None)] == [
        label for label in LABELS for _ in range(3)
    ]
    shutil.move(tmp_path / "data", elsewhere / "data")
    shutil.copy(own_file, elsewhere)
    shutil.copy(tmp_path / "task.toml", elsewhere)
    assert names(planned(elsewhere / "own.toml", elsewhere)) == names(plan), "what files say counts, not where they lie"


def test_own_text_that_is_scored_is_not_trained_on(own_file: Path) -> None:
    data = own_file.parent / "data"
    lines = [line.split("\t")[0] for line in (data / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    with (data / "nya.txt").open("a", encoding="utf-8") as file:
        file.write("\n" + "\n".join(lines[:4]))
    (adapt,) = (step for step in planned(own_file, data).steps.values() if isinstance(step, AdaptStep))
    found = reading.texts(adapt.texts["target"], None)
    assert len(found.lines) == 9
    assert found.checked["removed"] == 4


SYSTEMS = """
[systems.aligned]
method = "embedding"
adapted_by = "soft-prompt"
model = "elsewhere"
preset = "alignment"
seeds = [1]
centred = true
adapt = {steps = 7}
[pairs]
nya = "data/pairs.tsv"
"""


@pytest.fixture
def with_systems(own_file: Path) -> Path:
    """The same with a system that aligns on pairs, of which one holds a scored text."""
    said = [f"an english sentence {number}\ta sentence of nya {number}" for number in range(8)]
    said.append("something else\ttest about sports 1")
    (own_file.parent / "data" / "pairs.tsv").write_text("\n".join(["source\ttarget", *said]), encoding="utf-8")
    text = OWN.replace('"embedding"]', '"embedding", "aligned"]').replace("[read]", "[adapt]\nsteps = 5\n[read]")
    own_file.write_text(text + SYSTEMS, encoding="utf-8")
    return own_file


def test_a_system_has_settings_of_its_own(with_systems: Path) -> None:
    plan = planned(with_systems, with_systems.parent)
    cells = [(cell["method"], cell["seed"]) for cell in plan.records[0]["cells"]]
    assert cells == [("soft-prompt", 0), ("embedding", 0), ("aligned", 1)]
    other, aligned = (step for step in plan.steps.values() if isinstance(step, AdaptStep))
    assert (other.backbone.name, other.config.steps, other.config.objective) == (
        "FacebookAI/xlm-roberta-large", 5, "mlm"
    )  # fmt: skip
    assert (aligned.backbone.name, aligned.config.steps, aligned.config.objective) == ("elsewhere", 7, "alignment")
    assert aligned.config.seed == 1
    assert set(aligned.spec.contents) == {"pairs"}
    found = reading.pairs(aligned.texts["pairs"], None)
    assert len(found.pairs) == 8, "the scored text is taken out"
    assert found.checked["removed"] == {"evaluation text": 1}
    scored = [step for step in plan.steps.values() if isinstance(step, EvaluateStep)][-1]
    assert scored.tuned.config.method == "embedding"
    assert scored.tuned.spec.builds_on == [aligned.spec.identity]
    assert set(scored.spec.contents) == {"test", "centre"}
    order = [step.backbone.name for step in plan.missing(set()) if not isinstance(step, CostStep)]
    assert order == sorted(order), "steps on one backbone follow one another"
    assert str(scored.tuned.adapted).startswith("adapt soft-prompt (aligned) to ")
    assert str(scored.tuned).startswith("tune embedding (aligned)")
    assert str(scored).startswith("evaluate embedding (aligned) on ")
    assert str(other).startswith("adapt soft-prompt to "), "a plain method has no name of its own"


def test_a_system_with_its_own_preset_reads_as_many_examples_as_the_others(with_systems: Path) -> None:
    plan = planned(with_systems, with_systems.parent, "tune.most_per_label=3", "tune.max_length=99")
    tuned = {str(step): step.config for step in plan.steps.values() if isinstance(step, TuneStep)}
    assert {config.most_per_label for config in tuned.values()} == {3}
    assert [config.max_length == 99 for name, config in tuned.items() if "(aligned)" in name] == [False]


def test_the_plain_command_of_translations_and_text_beside_them(with_systems: Path) -> None:
    both = 'systems.both={method="soft-prompt", adapt={objective="mlm+alignment"}}'

    def words(*changes: str) -> Mapping[str, Any]:
        plan = planned(with_systems, with_systems.parent, 'methods=["both"]', both, *changes)
        (step,) = (step for step in plan.steps.values() if isinstance(step, AdaptStep))
        return _of_stage1(step)

    assert {"parallel", "target", "source"} <= words().keys()
    assert "objective=mlm+alignment" in words()["set"]
    with pytest.raises(ConfigError, match="read all translations"):
        words("text_share=0.5")


def test_what_varies_stands_above_a_system_s_own_settings(with_systems: Path) -> None:
    plan = planned(with_systems, with_systems.parent, 'methods=["aligned"]', "varies.adapt.steps=[3, 4]")
    assert [step.config.steps for step in plan.steps.values() if isinstance(step, AdaptStep)] == [3, 4]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("pairs={}", "aligned aligns, and there are no translations of nya; name some in pairs"),
        ("texts={}", "soft-prompt reads unlabelled text of nya"),
        ('methods=["alinged"]', "'alinged' is neither a method nor one of systems. Did you mean 'aligned'?"),
        ('systems.aligned={method="soft-prompt", centred=true}', "centred is for sentence vectors"),
        ('systems.aligned={method="soft-prompt", ridge=true}', "ridge is for sentence vectors"),
        ('systems.aligned={method="embedding", ridge=true, self_train=true}', "goes with source labels alone"),
        (
            'systems.aligned={method="embedding", adapt={stepps=3}}',
            "adapt has no setting 'stepps'. Did you mean 'steps'",
        ),
        ('systems.aligned={method="lora", adapted_by="soft-prompt"}', "lora starts from what lora left"),
        (
            'systems.aligned={method="embedding", adapted_by="prompt-tuning"}',
            "aligned: prompt-tuning has no stage 1 of its own",
        ),
    ],
)
def test_mistakes_with_systems(with_systems: Path, change: str, says: str) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        planned(with_systems, with_systems.parent, change)
    assert says in str(caught.value)


def test_sentence_vectors_are_centred_by_pairs_where_there_is_no_text(with_systems: Path) -> None:
    plan = planned(with_systems, with_systems.parent, 'methods=["aligned"]', "texts={}")
    (scored,) = (step for step in plan.steps.values() if isinstance(step, EvaluateStep))
    assert scored.centre is not None
    found = reading.texts(scored.centre, None)
    assert found.lines == [f"a sentence of nya {number}" for number in range(8)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("tests={}", "target 'nya' has nothing to score; name a file for it in tests, or a dataset"),
        ("texts={}", "soft-prompt reads unlabelled text of nya; name a file in texts"),
        ('texts={nia="x"}', "texts: 'nia' is none of the targets. Did you mean 'nya'?"),
        ('targets=["nya", "sna"]', "target 'sna' has nothing to score"),
        ('train=["data/trian.tsv"]', "no such file. Did you mean 'train.tsv'?"),
        ("read={}", "no column 'text'. It has: sentence, label. Name the right one with text = "),
        ("read.delimiter=;", r'Pass delimiter = "\t" (under [read] in the experiment)'),
        ("task=nli", "no column 'premise'. It has: sentence, label"),
        ('read={text="sentence", delimeter=";"}', "read has no key 'delimeter'. Did you mean 'delimiter'?"),
        ('train=["data/test.tsv"]', "9 of 9 examples stand among the training examples"),
        ('dataset="masakhanews"', ""),
    ],
)
def test_mistakes_with_own_files(own_file: Path, toy_data: Path, change: str, says: str) -> None:
    if not says:
        assert planned(own_file, toy_data, change).steps
        return
    with pytest.raises((ConfigError, DataError)) as caught:
        planned(own_file, toy_data, change)
    assert says in str(caught.value)


def test_own_tables_are_read_as_the_experiment_says(own_file: Path, toy_data: Path) -> None:
    """Also where they are only looked at, for text that must not be trained on."""
    data = own_file.parent / "data"
    for name in ("train", "test"):
        rows = (data / f"{name}.tsv").read_text(encoding="utf-8").replace("\t", ";").splitlines()[1:]
        (data / f"{name}.csv").write_text("\n".join(f'"{row}' for row in rows), encoding="latin-1")
    read = '{text="sentence", columns=["sentence", "label"], delimiter=";", quoting="none", encoding="latin-1"}'
    own = 'train=["data/train.csv"]', 'tests={nya="data/test.csv"}', f"read={read}"
    assert len(planned(own_file, toy_data, *own).steps) == 5


SHOTS = 'train=["masakhanews:hau:{shots}-shot"]', "dev=masakhanews:hau:{shots}-shot-dev", "varies={shots=[5, 10]}"
SOURCES = 'varies={source_texts=[["masakhanews:hau:train"], ["masakhanews:eng:train"]]}'
TASKS = 'varies={task=["news", "other"]}'
OTHER_TASK = """
[tasks.other]
template = "{text} {mask}"
[tasks.other.verbalizer]
sports = "wasanni"
health = "lafiya"
business = "kasuwanci"
"""


@pytest.mark.parametrize(
    ("changes", "adapted", "tuned"),
    [
        (SHOTS, {"soft-prompt": 1, "mad-x": 1}, {"soft-prompt": 2, "prompt-tuning": 2, "mad-x": 2}),
        ((SOURCES,), {"soft-prompt": 2, "mad-x": 2}, {"soft-prompt": 2, "prompt-tuning": 1, "mad-x": 2}),
        ((TASKS,), {"soft-prompt": 1, "mad-x": 1}, {"soft-prompt": 2, "prompt-tuning": 2, "mad-x": 2}),
    ],
)
def test_what_shots_source_texts_and_tasks_train_anew(
    experiment_file: Path, toy_data: Path, changes: tuple[str, ...], adapted: dict[str, int], tuned: dict[str, int]
) -> None:
    text = experiment_file.read_text(encoding="utf-8")
    experiment_file.write_text(text + OTHER_TASK, encoding="utf-8")
    plan = planned(experiment_file, toy_data, 'targets=["sna"]', *changes)
    found = counts(plan)
    assert {method: number for (kind, method), number in found.items() if kind == "adapt"} == adapted
    assert {method: number for (kind, method), number in found.items() if kind == "tune"} == tuned


def test_varied_shots_and_tasks_are_those_of_their_step(experiment_file: Path, toy_data: Path) -> None:
    text = experiment_file.read_text(encoding="utf-8")
    experiment_file.write_text(text + OTHER_TASK, encoding="utf-8")
    only = 'targets=["sna"]', 'methods=["prompt-tuning"]'
    shots = planned(experiment_file, toy_data, *only, *SHOTS).steps.values()
    read = [(step.train, step.dev) for step in shots if isinstance(step, TuneStep)]
    assert [(train.references, dev and dev.references) for train, dev in read] == [
        ((f"masakhanews:hau:{number}-shot",), (f"masakhanews:hau:{number}-shot-dev",)) for number in (5, 10)
    ]
    plan = planned(experiment_file, toy_data, *only, TASKS)
    tasks = [step.task for step in plan.steps.values() if isinstance(step, TuneStep)]
    assert [task.template.pattern for task in tasks] == ["{mask} : {text}", "{text} {mask}"]
    assert [cell["varied"] for cell in plan.records[0]["cells"]] == [{"task": "news"}, {"task": "other"}]


def test_text_is_sampled_as_by_adapt(experiment_file: Path, toy_data: Path) -> None:
    plan = planned(experiment_file, toy_data, "max_lines=5", "seeds=[3]", 'targets=["sna"]', 'methods=["soft-prompt"]')
    step = next(step for step in plan.steps.values() if isinstance(step, AdaptStep))
    every = reading.texts(replace(step.texts["target"], max_lines=200_000), toy_data).lines
    assert reading.texts(step.texts["target"], toy_data).lines == subsample(every, 5, 3)


def test_a_forecast_of_both_objectives_is_the_sum_of_theirs(
    with_systems: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forecast(_: Forecaster, config: AdaptConfig, text: Text, num_trainings: int | None) -> Forecast:
        return Forecast(3, len(text.lines), 0, 100, seconds={"mlm": 10.0, "alignment": 7.0}[config.objective])

    monkeypatch.setattr(Forecaster, "adapt", forecast)
    monkeypatch.setattr(Estimator, "_of", lambda self, backbone: Forecaster.__new__(Forecaster))
    monkeypatch.setattr(Forecaster, "backbone", None, raising=False)
    both = 'systems.both={method="soft-prompt", adapt={objective="mlm+alignment"}}'
    plan = planned(with_systems, with_systems.parent, 'methods=["both"]', both)
    (step,) = (step for step in plan.steps.values() if isinstance(step, AdaptStep))
    assert Estimator(Workplace(Store(with_systems.parent)))(step).seconds == 17.0
