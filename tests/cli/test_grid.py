"""`grid`: every experiment of the project is planned, a toy one is run, errors are one line."""

from __future__ import annotations

import gzip
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from glotprompt.cli.grid import _summary
from glotprompt.estimate import costs, forecast
from glotprompt.grid import work
from glotprompt.grid.pack import unpack
from glotprompt.grid.store import Store
from glotprompt.training.pace import Pace, Work

from ..grid.conftest import FILES, toy_data, write_experiment  # noqa: F401 (fixtures)
from .conftest import Program

COST = next(path for path in FILES if path.stem == "table3_cost")


@pytest.fixture
def cost(tiny_folder: Path) -> list[str | Path]:
    """The start of a command line that counts what methods take on a tiny backbone."""
    return ["grid", COST, "--set", "varies={}", "--set", f'model="{tiny_folder}"']


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """Kinds of training that would have been timed; none is."""
    asked: list[Work] = []

    def pace(backbone: object, work: Work, *how: object) -> Pace:
        asked.append(work)
        return Pace(1e-3, 1e-4, 1e-4, 1e-2, 1, None)

    monkeypatch.setattr(forecast, "pace_of", pace)
    return asked


@pytest.mark.slow
def test_a_dry_run_times_trainings_and_writes_nothing(
    glotprompt: Program,
    toy_data: Path,  # noqa: F811
    tmp_path: Path,
    timed: list[Work],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(costs, "activation_bytes", lambda *_: 1)  # most of the time of a plan
    path = COST.with_name("fig3_text_amount.toml")
    words = ["grid", path, "--scale", "mini", "--dry-run", "--output", tmp_path / "grid", "--data-dir", toy_data]
    outcome = glotprompt(*words)
    assert outcome.status == 0, outcome.err
    assert "to do" in outcome.out
    assert "on this machine as it is now" in outcome.err
    assert not (tmp_path / "grid").exists()
    assert timed
    assert all(work.is_whole for work in timed)


@pytest.mark.slow
def test_known_results_are_not_found_again(glotprompt: Program, cost: list[str | Path], tmp_path: Path) -> None:
    known = tmp_path / "mini.jsonl.gz"
    one, other = [*cost, "--set", 'methods=["soft-prompt"]', "--output", tmp_path / "one"], tmp_path / "other"
    assert glotprompt(*one).status == 0
    assert glotprompt("report", tmp_path / "one", "--output", tmp_path / "page", "--pack", known).status == 0
    assert str(tmp_path) not in gzip.decompress(known.read_bytes()).decode(), "a folder of this machine"
    again = [*one[:-1], other, "--known", known]
    assert ", 0 to do" in glotprompt(*again, "--dry-run").err
    assert not other.exists()
    assert ", 0 to do" in glotprompt(*again).err
    same = [[json.loads(path.read_bytes()) for path in at.rglob("result.json")] for at in (tmp_path / "one", other)]
    assert same[0] == same[1] != []
    assert "is no file of results" in glotprompt(*again[:-1], COST).error
    (step,) = Store(other).finished()
    shared = Store(tmp_path / "shared")
    with shared.claimed(step):  # another grid unpacks the same file
        unpack(known, shared)
        assert not shared.has(step)
    unpack(known, shared)
    assert shared.has(step)


@pytest.mark.long
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_experiment_is_planned_on_real_data(
    glotprompt: Program, corpora: Path, tmp_path: Path, path: Path, timed: list[Work]
) -> None:
    words = ["grid", path, "--scale", "mini", "--dry-run", "--output", tmp_path, "--data-dir", corpora]
    outcome = glotprompt(*words)
    assert outcome.status == 0, outcome.err


@pytest.mark.long
def test_real_text_on_the_bundled_backbone(glotprompt: Program, corpora: Path, tmp_path: Path) -> None:
    path = COST.with_name("table2_masakhanews.toml")
    words = ["grid", path, "--scale", "mini", "--output", tmp_path, "--data-dir", corpora]
    changes = ['targets=["lin"]', "seeds=[0]", "adapt.steps=2", "tune.epochs=1", "tune.most_per_label=8"]
    outcome = glotprompt(*words, *(word for change in changes for word in ("--set", change)))
    assert outcome.status == 0, outcome.err
    assert len(list((tmp_path / "steps").glob("evaluate-*/result.json"))) == 7


@pytest.mark.slow
def test_a_backbone_that_is_not_here_is_planned_by_its_shape(
    glotprompt: Program,
    toy_data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = next(path for path in FILES if path.stem == "fig6_top_k")
    words = ["grid", path, "--dry-run", "--output", tmp_path, "--data-dir", toy_data, "--set", 'targets=["sna"]']
    words += ["--set", "model=FacebookAI/xlm-roberta-base", "--set", "seeds=[0]"]
    outcome = glotprompt(*words)
    assert outcome.status == 0, outcome.err
    assert "planned by its shape" in outcome.err
    assert "this will fail: tune soft-prompt behind sna, seed 0: top_k_layers is 13; this model has 12" in outcome.err
    # 24 from either end; with all of the 12 layers top and bottom are one. And fine-tuning.
    assert [line.split()[2] for line in outcome.out.splitlines() if line.startswith("tune ")] == ["47", "1"]


@pytest.mark.slow
def test_embedding_is_planned_with_its_time(
    glotprompt: Program,
    toy_data: Path,  # noqa: F811
    write_experiment: Callable[[Path], Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    """It trains nothing of the model, so there is only reading to time."""
    words = ["grid", write_experiment(tmp_path / "toy.toml"), "--dry-run", "--output", tmp_path / "grid"]
    outcome = glotprompt(*words, "--data-dir", toy_data, "--set", 'methods=["embedding"]')
    assert outcome.status == 0, outcome.err
    (row,) = (line.split() for line in outcome.out.splitlines() if line.startswith("tune "))
    assert row[1:3] == ["embedding", "1"]
    assert (row[-3], row[-1]) == ("s", "kB"), "time and memory"


@pytest.mark.slow
def test_a_plan_that_is_too_much_says_so(
    glotprompt: Program,
    toy_data: Path,  # noqa: F811
    write_experiment: Callable[[Path], Path],  # noqa: F811
    tmp_path: Path,
    timed: list[Work],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["grid", write_experiment(tmp_path / "toy.toml"), "--dry-run", "--output", tmp_path / "grid"]
    words += ["--data-dir", toy_data, "--device", "cpu", "--set", 'methods=["soft-prompt"]']
    assert "not for this machine" not in glotprompt(*words).err
    long = glotprompt(*words, "--set", "seeds=[0,1]", "--set", "adapt.steps=10000000").err.splitlines()[-1]
    assert "this is not for this machine: it would take about" in long
    for said in (" days ", "--scale mini", "fewer seeds", "--engine ray --address"):
        assert said in long
    monkeypatch.setattr(forecast.os, "sysconf", lambda name: 100)
    assert "of memory, and there are 10 kB; take" in glotprompt(*words).err


@pytest.mark.slow
def test_run_and_run_again(
    glotprompt: Program,
    toy_data: Path,  # noqa: F811
    write_experiment: Callable[[Path], Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy, output = write_experiment(tmp_path / "toy.toml"), tmp_path / "grid"
    words = ["grid", toy, "--output", output, "--data-dir", toy_data, "--device", "cpu"]
    words += ["--set", 'methods=["prompt-tuning"]', "--set", 'targets=["sna"]']
    outcome = glotprompt(*words)
    assert outcome.status == 0, outcome.err
    assert "[2/2] " in outcome.err
    record = json.loads((output / "experiments" / "toy.json").read_text(encoding="utf-8"))
    program, *recorded = shlex.split(record["command"])
    assert program == "glotprompt"
    assert sorted(recorded) == sorted(map(str, words)), "the words that were given, and no others"
    assert not list((output / "work").iterdir())
    again = glotprompt(*recorded)
    assert again.status == 0
    assert "0 to do" in again.err
    assert "leave the report" not in again.err
    # Other words for what is finished: the record has them.
    assert glotprompt(*words, "--micro-batch-size", "2", "--gradient-checkpointing").status == 0
    record = json.loads((output / "experiments" / "toy.json").read_text(encoding="utf-8"))
    assert {*shlex.split(record["command"])} >= {"--micro-batch-size", "2", "--gradient-checkpointing"}
    # Another seed: what fails is kept, and the exit status tells.
    monkeypatch.setattr(work, "train_stage2", lambda *words: 1 / 0)
    failed = glotprompt(*words, "--set", "seeds=[1]")
    assert failed.status == 1
    assert "toy: 1 results of its earlier plan are not in this one and leave the report" in failed.err
    assert "--set name=toy-2 would keep both" in failed.err
    assert "failed: ZeroDivisionError: division by zero" in failed.err
    assert "1 step failed and 1 was skipped for it" in failed.err


@pytest.mark.slow
def test_cells_are_redone_with_the_plain_commands(
    glotprompt: Program,
    toy_data: Path,  # noqa: F811
    write_experiment: Callable[[Path], Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    """Five cells, to the bit: whole articles, the caps of the mini scale and a share of the text among them."""
    toy, output, plain = write_experiment(tmp_path / "toy.toml"), tmp_path / "grid", tmp_path / "plain"
    text = toy.read_text(encoding="utf-8").replace("epochs = 3", "epochs = 3\nmost_per_label = 6")
    text = text.replace('input = "headline"\n', "")
    text = text.replace('targets = ["sna", "yor"]', 'targets = ["sna", "yor"]\nmax_lines = 11\ntext_share = 0.9')
    toy.write_text(text.replace("steps = 3", "steps = 3\npatience = 1\nmin_improvement = 0.01"), encoding="utf-8")
    words = ["grid", toy, "--data-dir", toy_data, "--device", "cpu", "--set", "seeds=[1]"]
    assert glotprompt(*words, "--output", output).status == 0
    plain.mkdir()
    shown = glotprompt(*words, "--output", plain, "--commands")
    assert shown.status == 0, shown.err
    assert shown.out.count("--read input=article") == 12
    script = tmp_path / "redo.sh"
    script.write_text(shown.out, encoding="utf-8")
    tell = f"glotprompt() {{ printf '%s\\0' \"$@\" END; }}; . {script}"  # the shell reads it as a person's would
    told = subprocess.run(["bash", "-ec", tell], stdout=subprocess.PIPE, check=True, text=True).stdout
    commands = [call.split("\0")[:-1] for call in told.split("END\0")[:-1]]
    assert len(commands) == 16, "and the folder"
    for command in commands[:13]:
        outcome = glotprompt(*command)
        assert outcome.status == 0, outcome.err
    for path in plain.glob("*.json"):
        redone = json.loads(path.read_bytes())
        result = json.loads((output / "steps" / path.stem / "result.json").read_bytes())
        assert redone["predictions"] == result["predictions"]["all"]
        name = result["run_info"]["steps"]["tune"]
        (classifier,) = plain.glob(f"{name}-{result['run_info']['target']}.safetensors")
        of_grid = load_file(output / "steps" / name / "classifier.safetensors")
        of_command = load_file(classifier)
        if result["run_info"]["method"] != "mad-x":  # a grid's one has another language's adapter, swapped later
            assert all(torch.equal(of_grid[key], of_command[key]) for key in of_grid)
    assert len(list(plain.glob("*.json"))) == 5


def test_cells_that_have_no_plain_commands_are_told(
    glotprompt: Program,
    toy_data: Path,  # noqa: F811
    write_experiment: Callable[[Path], Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    words = ["grid", write_experiment(tmp_path / "toy.toml"), "--data-dir", toy_data, "--output", tmp_path / "new dir"]
    words += ["--set", 'methods=["few", "prompt-tuning"]', "--set", 'targets=["sna"]', "--commands"]
    outcome = glotprompt(*words, "--set", 'systems.few={method="embedding", target_labels=2}')
    assert outcome.status == 1, "it is not all"
    (reason,) = (line for line in outcome.err.splitlines() if line.startswith("not written"))
    assert reason.startswith("not written: evaluate embedding (few) on sna, seed 0: only a grid samples target labels")
    made, *commands = [shlex.split(line) for line in outcome.out.splitlines() if not line.startswith(("template", "["))]
    assert made == ["mkdir", "-p", str(tmp_path / "new dir")]
    (tune,) = (command for command in commands if command[:2] == ["glotprompt", "tune"])
    assert tune[tune.index("--language") + 1] == "sna"


@pytest.mark.parametrize(
    ("statuses", "said"),
    [(["failed"], "1 step failed; see out/failed"), (["failed", "skipped"], "1 step failed and 1 was skipped for it;"),
     (["failed", "failed", "skipped", "skipped"], "2 steps failed and 2 were skipped for them;")],
)  # fmt: skip
def test_how_a_grid_ended(statuses: list[work.Status], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _summary([work.Outcome(status, status) for status in statuses], "out", "out") == 1
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.slow
def test_the_first_grid_settles_what_auto_means(
    glotprompt: Program,
    toy_data: Path,  # noqa: F811
    write_experiment: Callable[[Path], Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine a probe may find another precision each time."""
    probed = iter(["bf16", "fp32", "fp32", "fp32"])
    monkeypatch.setattr("glotprompt.cli.grid.choose_precision", lambda device: next(probed))
    toy, output = write_experiment(tmp_path / "toy.toml"), tmp_path / "grid"
    words = ["grid", toy, "--output", output, "--data-dir", toy_data, "--device", "cpu", "--set", "precision=auto"]
    words += ["--set", 'targets=["sna"]']
    for method in ("prompt-tuning", "soft-prompt"):
        work.loaded_backbone.cache_clear()
        outcome = glotprompt(*words, "--set", f'methods=["{method}"]')
        assert outcome.status == 0, outcome.err
    found = [json.loads(file.read_text(encoding="utf-8")) for file in output.glob("steps/evaluate-*/result.json")]
    assert [result["run_info"]["backbone"]["precision"] for result in found] == ["bf16", "bf16"]
    assert [result["train_info"]["tune"]["precision"] for result in found] == ["bf16", "bf16"]


@pytest.mark.slow
def test_a_name_keeps_two_plans_in_one_folder(glotprompt: Program, cost: list[str | Path], tmp_path: Path) -> None:
    words = [*cost, "--output", tmp_path / "grid", "--set"]
    assert glotprompt(*words, 'methods=["soft-prompt"]').status == 0
    other = glotprompt(*words, 'methods=["mad-x"]', "--set", "name=other")
    assert "leave the report" not in other.err
    assert {path.name for path in (tmp_path / "grid" / "experiments").iterdir()} == {"table3_cost.json", "other.json"}
    assert "1 results of its earlier plan" in glotprompt(*words, 'methods=["mad-x"]').err


@pytest.mark.slow
def test_no_password_is_recorded(
    glotprompt: Program, cost: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOTPROMPT_CACHE", str(tmp_path / "cache"))
    url = "memory://me:secret@host/recorded"
    outcome = glotprompt(*cost, "--set", 'methods=["soft-prompt"]', "--output", url)
    assert outcome.status == 0
    (file,) = (tmp_path / "cache").rglob("table3_cost.json")
    text = file.read_text(encoding="utf-8")
    assert "secret" not in text
    assert "--output 'memory://me:***@host/recorded'" in text
    assert "secret" not in outcome.out + outcome.err


@pytest.mark.slow
def test_a_url_as_output(
    glotprompt: Program, cost: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOTPROMPT_CACHE", str(tmp_path / "cache"))
    words = [*cost, "--set", 'methods=["soft-prompt"]', "--output"]
    outcome = glotprompt(*words, f"file://{tmp_path}/runs")
    assert outcome.status == 0, outcome.err
    assert f"next: glotprompt report file://{tmp_path}/runs --output report" in outcome.err
    assert len(list((tmp_path / "runs" / "steps").glob("cost-*/result.json"))) == 1
    assert "0 to do" in glotprompt(*words, f"file://{tmp_path}/runs").err
    (tmp_path / "file").touch()
    closed = f"file://{tmp_path}/file/runs"
    assert f"{closed} cannot be used: " in glotprompt(*words, closed).error
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert "pip install s3fs" in glotprompt(*words, "s3://bucket/runs").error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone.toml"], "gone.toml: no such file"),
        ([str(COST), "--set", "methdos=[]"], "Did you mean 'methods'"),
        ([str(COST), str(COST)], "two experiments have the name table3_cost"),
        ([str(COST), "--workers", "2"], "--workers and --address are for --engine ray"),
        ([str(COST), "--scale", "big"], "'big' is not one of"),
        ([str(COST.with_name("table2_americasnli.toml")), "--scale", "mini"], "no data folder is given"),
    ],
)
def test_errors(
    glotprompt: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.delenv("GLOTPROMPT_DATA", raising=False)
    outcome = glotprompt("grid", *words, "--output", tmp_path / "grid")
    assert outcome.status == 2
    assert said in outcome.error
