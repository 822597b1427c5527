"""Plans that are run: results, resumption, failures. On a backbone of three random layers."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.errors import ArtifactError, DataError
from glotprompt.grid import work
from glotprompt.grid.experiment import Experiment, load
from glotprompt.grid.plan import Plan, add_experiment
from glotprompt.grid.steps import AdaptStep, CostStep, EvaluateStep, PlannedBackbone, Step, TuneStep, Workplace
from glotprompt.grid.store import ADAPTED, CLASSIFIER, RESULT, STEP, Store
from glotprompt.grid.work import SerialEngine, attempt, forget_shared, loaded_backbone, scored_classifier
from glotprompt.methods import METHODS
from glotprompt.report.results import read_results
from glotprompt.report.sections import make_section
from glotprompt.stages.stage1 import Stage1
from glotprompt.storage import artifact
from glotprompt.training.objectives.batches import ClozeCorpus, MaskingCorpus


def planned(file: Path, place: Workplace, *changes: str) -> Plan:
    experiment, plan = load(file, "paper", changes), Plan()

    def opened(name: str, of: Experiment) -> tuple[PlannedBackbone, int]:
        backbone = loaded_backbone(name, of.precision, place.device)
        return PlannedBackbone(backbone.fingerprint, of.precision, name), backbone.num_layers

    add_experiment(plan, experiment, opened, place.data_dir)
    return plan


def run(plan: Plan, place: Workplace) -> dict[str, int]:
    """How many steps came to what."""
    steps = plan.missing(place.store.finished())
    outcomes = SerialEngine().run(steps, place, lambda step, outcome: None)
    return dict(Counter(outcome.status for outcome in outcomes))


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, toy_data: Path, write_experiment: Callable[[Path], Path]
) -> tuple[Plan, Workplace]:
    """A grid with shared and unshared steps, run to its end."""
    root = tmp_path_factory.mktemp("finished")
    place = Workplace(Store(root / "grid"), toy_data, device="cpu")
    plan = planned(write_experiment(root / "toy.toml"), place)
    assert run(plan, place) == {"done": len(plan.steps)}
    return plan, place


def results(plan: Plan, place: Workplace) -> list[dict[str, Any]]:
    found = [place.store.result(cell) for cell in plan.records[0]["cells"]]
    assert None not in found
    return [result for result in found if result is not None]


@pytest.mark.slow
def test_results_say_what_was_done(finished: tuple[Plan, Workplace]) -> None:
    plan, place = finished
    for cell, result in zip(plan.records[0]["cells"], results(plan, place), strict=True):
        info, found = result["run_info"], result["predictions"]
        assert (info["method"], info["target"], info["seed"]) == (cell["method"], cell["target"], cell["seed"])
        assert len(found["ids"]) == len(found["gold"]) == len(found["all"]) == len(found["own"]) == 9
        right = sum(gold == guess for gold, guess in zip(found["gold"], found["all"], strict=True))
        assert result["scores"]["all"]["accuracy"] == pytest.approx(100 * right / 9)
        assert result["majority"]["share"] == pytest.approx(100 / 3)
        assert result["train_info"]["tune"]["trained_parameters"] > 0
        adapted = cell["method"] != "prompt-tuning"
        assert (result["train_info"]["adapt"] is not None) == adapted
        assert (info["config"]["adapt"] is not None) == (info["steps"]["adapt"] is not None) == adapted
        assert not info["data"]["language"] or info["data"]["language"] == cell["target"]
        assert contents(info["data"]) == expected_contents(plan.steps[str(cell["result"])])
        assert len(result["prompt_change"] or ()) == (3 if cell["method"] == "soft-prompt" else 0)


def contents(data: dict[str, Any]) -> dict[str, Any]:
    parts = ("target_texts", "source_texts", "train", "dev", "test")
    return {name: data[name]["content"] for name in parts if data[name] is not None}


def expected_contents(step: Step) -> dict[str, Any]:
    """From the identities, which stand in the steps' own files, too."""
    assert isinstance(step, EvaluateStep)
    found = {**step.tuned.spec.contents, **step.spec.contents}
    if step.adapted is not None:
        read = step.adapted.contents
        found |= {"target_texts": read["target"], "source_texts": read["source"]}
    assert all(len(content) == 64 for content in found.values())
    return found


@pytest.mark.slow
def test_every_method_runs_in_a_grid(experiment_file: Path, place: Workplace) -> None:
    """Those that start from one stage 1 share it."""
    methods = list(METHODS)
    plan = planned(experiment_file, place, f"methods={json.dumps(methods)}", 'targets=["sna"]')
    assert run(plan, place) == {"done": len(plan.steps)}
    found = {result["run_info"]["method"]: result for result in results(plan, place)}
    assert list(found) == methods
    trained = {name: result["train_info"]["tune"]["trained_parameters"] for name, result in found.items()}
    assert trained["soft-prompt"] < trained["prompt-tuning"], "the top layers against all of them"
    assert trained["soft-prompt+task-adapter"] == trained["mad-x"]
    assert trained["fine-tuning"] == trained["fine-tuning-mlm"] == max(trained.values())
    stage_1 = {name: result["run_info"]["steps"]["adapt"] for name, result in found.items()}
    assert stage_1["soft-prompt+task-adapter"] == stage_1["soft-prompt"]
    alone = ["prompt-tuning", "input-prompt", "fine-tuning", "embedding", "tf-idf"]
    assert [name for name, step in stage_1.items() if step is None] == alone
    losses = {name: str(result["train_info"]["tune"]["losses"]) for name, result in found.items()}
    in_closed_form = sum(METHODS[name].closed_form for name in methods)
    assert len(set(losses.values())) == len(methods) - in_closed_form + 1, "two methods trained the same"


@pytest.mark.slow
def test_text_that_was_not_read_has_no_content(experiment_file: Path, place: Workplace) -> None:
    plan = planned(experiment_file, place, 'methods=["source-prompt"]', 'targets=["sna"]')
    run(plan, place)
    (result,) = results(plan, place)
    found = contents(result["run_info"]["data"])
    assert found["target_texts"] is None
    assert len(found["source_texts"]) == 64


@pytest.mark.slow
def test_nothing_in_the_store_holds_a_sentence(finished: tuple[Plan, Workplace], toy_data: Path) -> None:
    """Neither results nor what was trained, whose files elsewhere hold examples."""
    _, place = finished
    files = [path for path in place.store.root.rglob("*") if path.is_file()]
    assert {RESULT, ADAPTED, CLASSIFIER} <= {path.name for path in files}
    text = b"".join(path.read_bytes() for path in files)
    for file in [*toy_data.glob("masakhanews/sna/*.tsv"), *toy_data.glob("masakhanews/hau/*.tsv")]:
        for line in file.read_text(encoding="utf-8").splitlines()[1:]:
            headline, article = line.split("\t")[1:3]
            assert headline.encode() not in text
            assert article.encode() not in text


def test_the_sources_adapter_is_trained_once(finished: tuple[Plan, Workplace]) -> None:
    plan, place = finished
    store = place.store
    parts: list[Any] = []
    for step in plan.steps.values():
        if isinstance(step, AdaptStep) and step.method == "mad-x":
            tensors, _ = artifact.read(store.folder(step.name) / ADAPTED, "language module")
            parts.append({name: value for name, value in tensors.items() if name.startswith("source.")})
    assert all((parts[0][name] == parts[1][name]).all() for name in parts[0])
    (shared,) = (path for path in (store.root / "work").iterdir() if path.is_dir())
    steps = list(plan.steps.values())
    with store.claimed(shared.name, shared=True):  # another grid reads it
        forget_shared(steps, store)
        assert shared.exists()
    forget_shared(steps, store)
    assert list((store.root / "work").iterdir()) == []


@pytest.mark.slow
def test_what_languages_share_is_claimed_while_it_is_read(
    experiment_file: Path, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glotprompt.grid import work

    plan = planned(experiment_file, place, 'methods=["mad-x"]')
    store, real, claims = place.store, work.run_stage1, list[str]()

    def adapt(backbone: Any, *words: Any) -> Any:
        for how in ("shared", "alone"):
            try:
                with store.claimed(words[-1].checkpoint_dir.name, shared=how == "shared", wait=False):
                    claims.append(how)
            except BlockingIOError:
                pass
        return real(backbone, *words)

    monkeypatch.setattr(work, "run_stage1", adapt)
    assert set(run(plan, place)) == {"done"}
    assert claims == ["shared"], "the first trains it alone, the second reads it, perhaps with others"


def test_everything_is_finished(finished: tuple[Plan, Workplace]) -> None:
    plan, place = finished
    assert plan.missing(place.store.finished()) == []
    step = next(iter(plan.steps.values()))
    assert attempt(step, place).status == "cached"
    about = json.loads((place.store.folder(step.name) / STEP).read_text(encoding="utf-8"))
    assert (about["kind"], about["needs"]) == ("adapt", [])


def test_what_no_cell_needs_can_be_deleted(finished: tuple[Plan, Workplace], tmp_path: Path) -> None:
    """A cell with a result wants nothing; a new experiment makes again what it shares with it."""
    plan, place = finished
    copy = replace(place, store=Store(tmp_path / "grid"))
    shutil.copytree(place.store.root, copy.store.root)
    store = copy.store
    for step in plan.steps.values():
        if not isinstance(step, EvaluateStep):
            shutil.rmtree(store.folder(step.name))
    assert plan.missing(store.finished()) == []
    other = planned(
        place.store.root.parent / "toy.toml", copy, 'methods=["soft-prompt"]', 'targets=["sna"]', "tune.epochs=1"
    )
    assert [step.kind for step in other.missing(store.finished())] == ["adapt", "tune", "evaluate"]
    assert run(other, copy) == {"done": 3}
    (again,) = (step for step in other.steps.values() if isinstance(step, AdaptStep))
    one, two = (artifact.read(at.store.folder(again.name) / ADAPTED, "language prompt")[0] for at in (place, copy))
    assert all((one[name] == two[name]).all() for name in one)


def test_steps_travel_to_other_processes(finished: tuple[Plan, Workplace]) -> None:
    plan, place = finished
    for name, step in plan.steps.items():
        copy: Step = pickle.loads(pickle.dumps(step))
        assert copy.name == name
        assert copy == step
    travelled: Workplace = pickle.loads(pickle.dumps(place))
    assert replace(travelled, store=place.store) == place
    assert travelled.store.root == place.store.root


@pytest.mark.slow
def test_costs_are_counted(place: Workplace, tiny_folder: Path) -> None:
    step = CostStep(str(tiny_folder), AdaptConfig(prompt_length=4), TuneConfig(method="soft-prompt", top_k_layers=2))
    assert attempt(step, place).status == "done"
    found = json.loads((place.store.folder(step.name) / RESULT).read_text(encoding="utf-8"))
    one_layer = 2 * 4 * 48  # keys and values, 4 vectors, of width 48
    assert found["cost"]["adapt"]["trained_parameters"] == 3 * one_layer
    assert found["cost"]["tune"]["trained_parameters"] == 2 * one_layer
    assert found["cost"]["language_bytes"] == 4 * 3 * one_layer
    assert found["run_info"]["method"] == "soft-prompt"


@pytest.mark.slow
def test_a_failure_is_kept_and_the_rest_goes_on(
    experiment_file: Path, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glotprompt.grid import work

    plan = planned(experiment_file, place, 'methods=["soft-prompt", "prompt-tuning"]')
    real = work.run_stage1

    def breaks(backbone: Any, stage1: Stage1, *rest: Any) -> Any:
        if stage1.language == "sna":
            raise RuntimeError("out of\nluck")
        return real(backbone, stage1, *rest)

    monkeypatch.setattr(work, "run_stage1", breaks)
    assert run(plan, place) == {"failed": 1, "skipped": 2, "done": 6}
    (failure,) = place.store.failures()
    assert (failure["error"], failure["attempts"]) == ("RuntimeError: out of luck", 1)
    assert "in breaks" in failure["traceback"]
    monkeypatch.undo()
    assert run(plan, place) == {"failed": 1, "skipped": 2}  # not tried again unless asked for
    retried = Workplace(place.store, place.data_dir, place.device, place.runtime, retry_failed=True)
    assert run(plan, retried) == {"done": 3}
    assert place.store.failures() == []


def test_what_changed_since_the_plan(experiment_file: Path, place: Workplace) -> None:
    plan = planned(experiment_file, place, 'methods=["prompt-tuning"]', 'targets=["sna"]')
    (tuned,) = (step for step in plan.steps.values() if isinstance(step, TuneStep))
    object.__setattr__(tuned, "train_content", "0" * 64)
    assert run(plan, place) == {"failed": 1, "skipped": 1}
    error = place.store.failures()[0]["error"]
    assert error.endswith("has changed since the step was planned; run the grid again with --retry-failed")
    moved = replace(tuned.backbone, fingerprint="f" * 16)
    with pytest.raises(DataError, match=f"fingerprint {tuned.backbone.fingerprint}, .* planned for {'f' * 16};"):
        work.backbone_of(moved, place.device)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["adapt", "tune"])
def test_killed_during_a_training_it_goes_on_from_its_checkpoint(
    kind: str, experiment_file: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ['methods=["soft-prompt"]', 'targets=["sna"]', "adapt.steps=40", "tune.epochs=30"]
    killed, whole = (Workplace(Store(tmp_path / name), toy_data, device="cpu") for name in ("killed", "whole"))
    command = [sys.executable, "-m", "glotprompt", "grid", str(experiment_file), "--output", str(killed.store)]
    command += ["--data-dir", str(toy_data), "--device", "cpu", "--checkpoint-every", "0"]
    command += [word for change in changes for word in ("--set", change)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    while _step_reached(killed, kind) < 2:
        assert process.poll() is None, "it came to its end before it could be killed"
        time.sleep(0.005)
    process.kill()
    process.wait()
    reached = _step_reached(killed, kind)
    steps = {"adapt": _steps_of(MaskingCorpus, monkeypatch), "tune": _steps_of(ClozeCorpus, monkeypatch)}
    plan = planned(experiment_file, killed, *changes)
    assert not any(step.kind == kind for step in plan.steps.values() if killed.store.has(step.name))
    run(plan, killed)
    assert steps[kind][0] == reached > 0
    run(plan, whole)
    ((one,), (two,)) = (results(plan, place) for place in (killed, whole))
    assert one["predictions"] == two["predictions"]
    for stage in ("adapt", "tune"):
        assert one["train_info"][stage]["losses"] == two["train_info"][stage]["losses"]


def _step_reached(place: Workplace, kind: str) -> int:
    """Of the checkpoint of a step of this kind; 0 without one."""
    for path in place.store.root.glob(f"work/{kind}-*/*.checkpoint"):
        with suppress(ArtifactError):  # the step may come to its end while we look
            return artifact.read(path, "checkpoint")[1].get("history", {}).get("step", 0)
    return 0


def _steps_of(corpus: type[MaskingCorpus | ClozeCorpus], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with the steps whose batches are asked for."""
    asked: list[int] = []
    real = corpus.batch

    def batch(self: Any, step: int) -> Any:
        asked.append(step)
        return real(self, step)

    monkeypatch.setattr(corpus, "batch", batch)
    return asked


@pytest.mark.long
def test_killed_between_steps_it_ends_with_the_same_numbers(
    finished: tuple[Plan, Workplace], tmp_path: Path, toy_data: Path
) -> None:
    plan, place = finished
    file = place.store.root.parent / "toy.toml"
    command = [sys.executable, "-m", "glotprompt", "grid", str(file), "--output", str(tmp_path / "grid")]
    command += ["--data-dir", str(toy_data), "--device", "cpu", "--checkpoint-every", "0"]
    kills = 0
    while True:
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
        done = len(list((tmp_path / "grid" / "steps").glob("*"))) if (tmp_path / "grid").exists() else 0
        while process.poll() is None and kills < 6:
            time.sleep(0.05)
            steps = len(list((tmp_path / "grid" / "steps").glob("*"))) if (tmp_path / "grid").exists() else 0
            if steps >= done + 2:
                process.send_signal(signal.SIGKILL)
                kills += 1
        if process.wait() == 0:
            break
    assert kills >= 2
    again = Workplace(Store(tmp_path / "grid"), toy_data)
    for one, two in zip(results(plan, place), results(plan, again), strict=True):
        assert one["predictions"] == two["predictions"]
        assert one["train_info"]["tune"]["losses"] == two["train_info"]["tune"]["losses"]
    for name, step in plan.steps.items():
        if isinstance(step, TuneStep):
            tensors, others = (
                artifact.read(at.store.folder(name) / CLASSIFIER, "classifier")[0] for at in (place, again)
            )
            assert all((tensors[key] == others[key]).all() for key in tensors)


@pytest.mark.long
def test_two_grids_in_one_folder(finished: tuple[Plan, Workplace], tmp_path: Path, toy_data: Path) -> None:
    plan, place = finished
    file = place.store.root.parent / "toy.toml"
    command = [sys.executable, "-m", "glotprompt", "grid", str(file), "--output", str(tmp_path / "grid")]
    command += ["--data-dir", str(toy_data), "--device", "cpu"]
    both = [subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    again = Workplace(Store(tmp_path / "grid"), toy_data)
    assert again.store.failures() == []
    for one, two in zip(results(plan, place), results(plan, again), strict=True):
        assert one["predictions"] == two["predictions"]


@pytest.mark.slow
def test_a_system_aligns_and_is_centred(experiment_file: Path, place: Workplace) -> None:
    """From pairs to figures: a prompt aligned on them, logistic regression behind it, read in two ways."""
    words = "win play field hear walk slept market bank people the day king".split()
    said = [f"{word} play field\t{word} falala" for word in words]
    for name, part in (("pairs.tsv", said[:9]), ("more.tsv", said[9:])):
        (experiment_file.parent / name).write_text("\n".join(["source\ttarget", *part]), encoding="utf-8")
    adapt = "{steps=2, max_length=16, prompt_length=4}"
    system = f'method="embedding", adapted_by="soft-prompt", preset="alignment", adapt={adapt}'
    plan = planned(
        experiment_file, place, 'targets=["sna"]',
        'methods=["embedding", "aligned", "aligned-centred", "mapped", "tf-idf"]',
        f"systems.aligned={{{system}}}", f"systems.aligned-centred={{{system}, centred=true}}",
        'systems.mapped={method="embedding", ridge=true}', 'pairs={sna=["pairs.tsv", "more.tsv"]}',
    )  # fmt: skip
    assert set(run(plan, place)) == {"done"}
    scored = [step for step in plan.steps.values() if isinstance(step, EvaluateStep)]
    plain, aligned, centred, mapped, baseline = (place.store.result_of(step.name) or {} for step in scored)
    assert plain["train_info"]["adapt"] is None
    assert aligned["train_info"]["adapt"] == centred["train_info"]["adapt"], "one training, read in two ways"
    told = aligned["train_info"]["adapt"]
    assert (told["pairs"] + told["held_out_pairs"], told["decontamination"]["parallel"]["kept"]) == (12, 12)
    assert aligned["run_info"]["data"]["pairs"]["content"] == scored[1].adapted.contents["pairs"]  # pyright: ignore
    assert mapped["train_info"]["tune"]["pairs"] == 12
    assert mapped["train_info"]["tune"]["decontamination"]["parallel"]["kept"] == 12
    assert mapped["run_info"]["data"]["pairs"]["content"] == aligned["run_info"]["data"]["pairs"]["content"]
    assert "folds" not in baseline["train_info"]["tune"], "dev examples are named"
    assert (plain["majority"], baseline["run_info"]["method"]) == (baseline["majority"], "tf-idf")
    behind, again = (scored_classifier(step, place.store, place)[1] for step in scored[1:3])
    assert behind.training.centred_on is None
    assert again.training.centred_on


@pytest.mark.slow
def test_every_verse_is_scored_by_a_classifier_that_did_not_learn_it(
    verse_file: Path, verse_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Workplace(Store(verse_file.parent / "grid"), verse_data, device="cpu")
    trained: list[list[str]] = []
    train_stage2 = work.train_stage2

    def watched(backbone: Any, stage2: Any, *more: Any) -> Any:
        trained.append([one.id for one in stage2.examples])
        return train_stage2(backbone, stage2, *more)

    monkeypatch.setattr(work, "train_stage2", watched)
    plan = planned(verse_file, place)
    assert run(plan, place) == {"done": 2}
    plain, taught = results(plan, place)
    assert len(trained) == 6, "a start for self-training is trained in each fold, too"
    for result in (plain, taught):
        assert sorted(result["predictions"]["ids"]) == [f"43001{n:03}" for n in range(1, 21) if n != 5]
        assert 0 <= result["source_accuracy"] <= 100
    for fold in trained[:3]:
        assert len(fold) in (12, 13)
    assert sum(map(len, trained[:3])) == 2 * 19
    assert (plain["run_info"]["data"]["unlabelled"], plain["run_info"]["data"]["centre"]) == (None, None)
    assert taught["run_info"]["data"]["unlabelled"]["content"] == taught["run_info"]["data"]["centre"]["content"]
    place.store.write_experiment(plan.records[0])
    (section,) = map(make_section, read_results(place.store.root).experiments)
    assert [table.name for table in section.tables][-2:] == ["folds-source", "folds-significance"]
    again = Workplace(Store(verse_file.parent / "again"), verse_data, device="cpu")
    assert run(planned(verse_file, again), again) == {"done": 2}
    assert [one["predictions"] for one in results(plan, again)] == [one["predictions"] for one in (plain, taught)]


@pytest.mark.slow
def test_target_labels_and_self_training_in_a_grid(experiment_file: Path, place: Workplace) -> None:
    plan = planned(
        experiment_file, place, 'targets=["sna"]', 'methods=["few", "taught"]',
        'systems.few={method="embedding", target_labels=2}', 'systems.taught={method="embedding", self_train=true}',
    )  # fmt: skip
    assert run(plan, place) == {"done": 5}
    few, taught = results(plan, place)
    assert few["train_info"]["tune"]["target_examples"] == 6
    assert "self_training" not in few["train_info"]["tune"]
    assert taught["train_info"]["tune"]["self_training"]["texts"] == 24
