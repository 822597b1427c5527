"""Experiments as data: files, scales, changes, and errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glotprompt.data import MAX_LINES
from glotprompt.data.sources import Reading
from glotprompt.errors import ConfigError
from glotprompt.grid import experiment
from glotprompt.grid.experiment import Experiment, System, load
from glotprompt.task import Task

from .conftest import EXPERIMENTS, HELPS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "experiments.md"
KEYS = "## Keys\n"


def test_every_file_of_the_project_loads_at_both_scales() -> None:
    assert len(EXPERIMENTS) == 14
    for path in EXPERIMENTS:
        paper, mini = load(path), load(path, "mini")
        assert paper.model == "FacebookAI/xlm-roberta-large"
        assert paper.seeds == (0, 1, 2)
        assert "steps" not in paper.adapt  # the paper's are the defaults
        assert mini.model == ("mini" if mini.draw != "table3" else paper.model)
        assert (mini.methods[: len(paper.methods)], mini.train) == (paper.methods, paper.train), "its own stand below"
        assert {*mini.targets} <= {*paper.targets}


def test_a_wheel_finds_its_experiments_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^table1_gap\.toml: no such file"):
        load(Path("table1_gap.toml"))
    monkeypatch.setattr(experiment, "files", lambda package: ROOT)
    assert load(Path("table1_gap.toml")) == load(ROOT / "experiments" / "table1_gap.toml")
    Path("table1_gap.toml").write_text("own", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(Path("table1_gap.toml"))


def test_the_files_of_our_own_questions_are_small_already() -> None:
    assert len(HELPS) == 6
    for found in map(load, HELPS):
        assert found.model in ("mini-sentence", "mini")
        assert "embedding" in found.methods
        assert Task.load(str(found.task)) if found.task else found.dataset == "masakhanews"


def test_what_differs_at_the_mini_scale() -> None:
    by_name = {path.stem: load(path, "mini") for path in EXPERIMENTS}
    assert by_name["fig5_prompt_change"].tune.get("top_k_layers") is None
    assert by_name["fig6_top_k"].varies["tune.bottom_k_layers"] == tuple(range(1, 13))
    assert by_name["table1_gap"].tune["most_per_label"] > by_name["table2_americasnli"].tune["most_per_label"]
    assert by_name["fig4_few_shot"].tune["epochs"] > by_name["table2_masakhanews"].tune["epochs"]
    assert by_name["fig3_text_amount"].max_lines == MAX_LINES
    for name in ("table1_gap", "table2_americasnli", "fig3_text_amount"):
        prompts = [one for one in by_name[name].methods if "prompt" in one]
        rates = {by_name[name].system(one).tune["learning_rate"] for one in prompts}
        assert rates == {1e-2}, "with which it was learned (docs/log.md)"
    assert by_name["table2_masakhanews"].system("fine-tuning-mlm").seeds == (0,)


def test_the_table_mini_is_for_its_scale_alone(experiment_file: Path) -> None:
    text = experiment_file.read_text(encoding="utf-8") + '[mini]\ntargets = ["sna"]\n[mini.adapt]\nsteps = 5\n'
    experiment_file.write_text(text, encoding="utf-8")
    paper, mini = load(experiment_file), load(experiment_file, "mini")
    assert (paper.targets, paper.adapt["steps"]) == (("sna", "yor"), 3)
    assert (mini.targets, mini.adapt["steps"], mini.adapt["patience"]) == (("sna",), 5, 3)
    assert mini.adapt["prompt_length"] == 4, "what neither the scale nor the table sets stays"
    experiment_file.write_text(text.replace('targets = ["sna"]\n[mini', 'target = ["sna"]\n[mini'), encoding="utf-8")
    with pytest.raises(ConfigError, match="Did you mean 'targets'"):
        load(experiment_file, "mini")


def test_changes_come_last(experiment_file: Path) -> None:
    words = [
        "adapt.steps=7",
        "seeds=[4, 5]",
        "source = eng",
        'varies."tune.top_k_layers"=[1]',
        "adapt.learning_rate=auto",
    ]
    with pytest.raises(ConfigError, match="top_k_layers"):  # quotes are TOML's, not the command line's
        load(experiment_file, "mini", words)
    words[3] = "varies.tune.top_k_layers=[1]"
    found = load(experiment_file, "mini", words)
    assert (found.adapt["steps"], found.adapt["learning_rate"]) == (7, "auto")
    assert (found.seeds, found.source) == ((4, 5), "eng")
    assert found.varies == {"tune.top_k_layers": (1,)}
    assert found.adapt["batch_size"] == 8  # the scale's, over the file's


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("target=[]", "Did you mean 'targets'"),
        ("adapt.stepz=3", "Did you mean 'steps'"),
        ("tune.seed=3", "given by seeds"),
        ('methods=["soft-prmpt"]', "Did you mean 'soft-prompt'"),
        ('methods=["mad-x", "soft-prompt", "mad-x"]', "methods has 'mad-x' more than once"),
        ("seeds=[0, 1, 0]", "seeds has 0 more than once"),
        ("seeds=2020-01-01", r'should be a list such as \["2020-01-01"\]'),
        ("varies={text_share=[0.5, 0.5]}", "varies.text_share has 0.5 more than once"),
        ("targets=sna", r'should be a list such as \["sna"\]'),
        ("zzz=1", "has no setting 'zzz'. Expected one of name, title, draw"),
        ('varies={shot=[1]}', "'shot' cannot be varied"),
        ('varies={"tune.shots"=[1]}', "tune has no setting 'shots'"),
        ('varies={model=["mini"]}', "model can be varied in table3 alone"),
        ('varies={prompt_of=["another langage"]}', "'another langage' is not possible: Input should be 'target' or"),
        ("varies={text_share=[0.5, 0]}", "text_share: 0 is not possible"),
        ("varies={shots=[5]}", "shots has no effect; write {shots} into train"),
        ("varies={source_texts=[1]}", "varies.source_texts: 1 is not possible"),
        ("varies={text_share=[1.5]}", "text_share: 1.5 is not possible"),
        ("name=a/b", "leave out the /"),
        ("reference=mad-y", "reference: 'mad-y' is none of the methods. Did you mean 'mad-x'"),
        ("folds=1", "folds: Input should be greater than or equal to 2"),
        ('read.normalise="yes"', "read: Expected true or false, not {'normalise': 'yes'}"),
        ('disjoint="yes"', "disjoint: Expected true or false"),
        ('systems.one={method="embedding", centred="no"}', "centred: Expected true or false"),
        ("targets=[]", "targets is missing"),
        ("title.x=1", "title is no table"),
        ("adapt.steps.x=1", "steps is no table"),
        ("seeds", "not key=value"),
    ],
)  # fmt: skip
def test_errors_are_one_line(experiment_file: Path, change: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load(experiment_file, "paper", [change])
    assert "\n" not in str(caught.value)


def test_a_change_reaches_tables_in_tables(experiment_file: Path) -> None:
    table = '[systems.one]\nmethod = "embedding"\nseeds = [0]\n[systems.one.tune]\nlayer = 3\n'
    experiment_file.write_text(experiment_file.read_text(encoding="utf-8") + table, encoding="utf-8")
    words = ["systems.one.seeds=[1, 2]", "systems.one.tune.epochs=4", "systems.two.method=lora"]
    found = load(experiment_file, "paper", words).systems
    assert (found["one"].seeds, found["one"].tune) == ((1, 2), {"layer": 3, "epochs": 4})
    assert found["two"] == System(method="lora")


def test_fewer_targets_leave_out_what_the_file_says_of_the_others(experiment_file: Path) -> None:
    table = '[centre]\nsna = "masakhanews:sna:train"\nyor = "masakhanews:yor:train"\n'
    text = experiment_file.read_text(encoding="utf-8") + table
    experiment_file.write_text(text, encoding="utf-8")
    for words in (['targets=["sna"]'], ["centre.sna=masakhanews:sna:train", 'targets=["sna"]']):
        assert load(experiment_file, "paper", words).centre == {"sna": "masakhanews:sna:train"}
    for words in (["centre.yor=masakhanews:yor:dev", 'targets=["sna"]'], ['targets=["sna"]', "centre.you=x:y:z"]):
        with pytest.raises(ConfigError, match=r"centre: 'yo[ru]' is none of the targets"):
            load(experiment_file, "paper", words)
    with pytest.raises(ConfigError, match="should be a list"):
        load(experiment_file, "paper", ["targets=sna"])
    experiment_file.write_text(text.replace("yor =", "you ="), encoding="utf-8")
    with pytest.raises(ConfigError, match="centre: 'you' is none of the targets"):
        load(experiment_file, "paper", ['targets=["sna"]'])


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "gone.toml")
    (tmp_path / "bad.toml").write_text("title = ", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(tmp_path / "bad.toml")


@pytest.mark.parametrize("key", ["train", "dev", "source_texts", "tests.nya", "texts.nya"])
def test_a_file_that_is_missing_is_named_with_its_key(tmp_path: Path, key: str) -> None:
    (tmp_path / "there.tsv").write_text("text\tlabel\n", encoding="utf-8")
    files = {name: "gone.tsv" if name == key else "there.tsv" for name in ("train", "dev", "tests.nya", "texts.nya")}
    files["source_texts"] = "gone.tsv" if key == "source_texts" else "there.tsv"
    lists = {name: f'["{file}"]' if name in ("train", "source_texts") else f'"{file}"' for name, file in files.items()}
    told = "\n".join(f"{name} = {value}" for name, value in lists.items())
    (tmp_path / "own.toml").write_text(
        f'title = "own"\ndraw = "table1"\nsource = "eng"\ntargets = ["nya"]\nmethods = ["embedding"]\n{told}\n',
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match=rf"own\.toml: {key}: .*gone\.tsv: no such file"):
        load(tmp_path / "own.toml")


OF_SYSTEMS = "A table `[systems.NAME]` has"


def keys_of(config: type[Experiment] | type[System]) -> str:
    """A table of `PAGE`."""
    rows = ["| key | default | |", "|---|---|---|"]
    for name, field in config.model_fields.items():
        default = "" if field.is_required() else in_toml(field.get_default(call_default_factory=True))
        rows.append(f"| `{name}` | {default} | {' '.join((field.description or '').split())} |")
    return "\n".join(rows) + "\n"


def in_toml(value: object) -> str:
    """A default as a file would have it; nothing where leaving it out says it best."""
    if value in (None, "", (), {}) or isinstance(value, Reading):
        return ""
    return "`" + json.dumps(value) + "`"


def test_the_page_has_every_key(record: bool) -> None:
    """Made anew by `make record ARGS="-k page_has_every_key"`."""
    before, heading, after = PAGE.read_text(encoding="utf-8").partition(KEYS)
    told = after.partition("| key")[0]
    page = f"{before}{heading}{told}{keys_of(Experiment)}\n{OF_SYSTEMS}\n\n{keys_of(System)}"
    if record:
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page
