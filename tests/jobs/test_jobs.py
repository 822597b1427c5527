"""Jobs: one at a time, on disk, stopped and resumed; what is sent, and the command lines that are made of it."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import glotprompt
from glotprompt.cli.program import all_options
from glotprompt.cli.wording import wording_of
from glotprompt.compare import choice as compare_choice
from glotprompt.compare.candidates import EMBEDDING
from glotprompt.errors import ArtifactError, ConfigError, DataError, in_words_of, setting
from glotprompt.jobs import runner as runner_module
from glotprompt.jobs import workspace as workspace_module
from glotprompt.jobs.job import Choice, Job, Status, Step
from glotprompt.jobs.runner import Runner
from glotprompt.jobs.ways import WAYS, BackboneOptions
from glotprompt.jobs.wording import IN_BROWSER
from glotprompt.jobs.workbench import Workbench
from glotprompt.jobs.workspace import Use, Workspace, slug
from glotprompt.task import Task

FAKE = (sys.executable, str(Path(__file__).with_name("fake.py")))
TRAIN = b"text\tlabel\n" + b"".join(f"text {i}\t{'ab'[i % 2]}\n".encode() for i in range(10))
FEW = 'text\tlabel\n\u01c3kwi "one\ta\nmaji two\ta\nmaji three\tb\nmaji four\tb\n'.encode()


def until(holds: Callable[[], object]) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to be in 10 s")


def step(*words: str) -> Step:
    return Step(title=" ".join(words), words=list(words))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs").mkdir()
    return tmp_path


@pytest.fixture
def started(folder: Path) -> Iterator[Callable[..., Runner]]:
    """Makes runners that end with the test."""
    made: list[Runner] = []

    def start(done: Callable[[Job], None] = lambda job: None) -> Runner:
        made.append(Runner(folder / "jobs", done, FAKE))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.close()


def state(runner: Runner, number: int) -> str:
    return runner.status(number).state


def test_one_job_at_a_time_in_order(folder: Path, started: Callable[..., Runner]) -> None:
    done: list[int] = []
    runner = started(lambda job: done.append(job.number))
    (folder / "hold").touch()
    runner.add(1, "train", "first", [step("adapt", "x"), step("tune", "y")])
    runner.add(2, "train", "second", [step("tune", "z")])
    until(lambda: (found := runner.progress(1)) and found.steps)
    assert (state(runner, 1), state(runner, 2)) == ("running", "waiting")
    found = runner.progress(1)
    assert found is not None
    assert (found.stage, found.step, found.steps, found.loss) == ("adapt", 3, 10, 1.5)
    (folder / "jobs" / "0001" / "progress.json").unlink()
    silent = runner.progress(1)  # while texts are read
    assert silent is not None
    assert (silent.steps, silent.seconds > found.seconds) == (0, True)
    assert runner.progress(2) is None
    (folder / "hold").unlink()
    until(lambda: state(runner, 2) == "finished")
    assert done == [1, 2]
    assert runner.status(1).step == 2
    log = runner.log(1).splitlines()
    assert [line for line in log if line in ("adapt x", "tune y")] == ["adapt x", "tune y"]


def test_cancelled_and_resumed(folder: Path, started: Callable[..., Runner]) -> None:
    runner = started()
    (folder / "hold").touch()
    runner.add(1, "train", "first", [step("adapt")])
    runner.add(2, "train", "second", [step("tune")])
    until(lambda: state(runner, 1) == "running")
    runner.cancel(2)
    assert state(runner, 2) == "cancelled"
    runner.cancel(1)
    until(lambda: state(runner, 1) == "cancelled")
    (folder / "hold").unlink()
    runner.resume(2)
    runner.resume(1)
    until(lambda: state(runner, 1) == state(runner, 2) == "finished")
    assert runner.log(1).splitlines().count("adapt") == 2
    runner.resume(1)
    assert state(runner, 1) == "finished"


def test_a_failure_is_told_in_the_commands_words(folder: Path, started: Callable[..., Runner]) -> None:
    runner = started()
    (folder / "fail").touch()
    runner.add(1, "train", "first", [step("adapt"), step("tune")])
    until(lambda: state(runner, 1) == "failed")
    assert runner.status(1).message == "this does not work; do something else (exit status 2)"
    assert "tune" not in runner.log(1)
    (folder / "fail").write_text("error: out of memory; try a smaller --batch-size", encoding="utf-8")
    runner.add(2, "train", "second", [step("adapt")])
    until(lambda: state(runner, 2) == "failed")
    (folder / "fail").rename(folder / "killed")
    runner.add(3, "train", "third", [step("adapt")])
    until(lambda: state(runner, 3) == "failed")
    for number, status in ((2, 2), (3, -9)):
        said = runner.status(number).message
        assert said.startswith("the computer's memory ran out;")
        assert said.endswith(f"(exit status {status})")


@pytest.mark.parametrize("done", [0, 1])
def test_a_service_that_starts_again_resumes(folder: Path, started: Callable[..., Runner], done: int) -> None:
    """From the first step: what it made may be another job's by now, and finds itself done where it is not."""
    first = started()
    (folder / "hold").touch()
    first.add(1, "train", "first", [step("adapt"), step("tune")])
    until(lambda: state(first, 1) == "running")
    first.close()
    assert state(first, 1) == "running"  # as after a kill
    killed = first.status(1).replace(step=done).model_dump_json()
    (folder / "jobs" / "0001" / "status.json").write_text(killed, encoding="utf-8")
    before = first.log(1).splitlines().count("adapt")
    (folder / "hold").unlink()
    Runner(folder / "jobs", lambda job: None, FAKE)
    assert state(first, 1) == "running", "until it is started: the folder may be another service's"
    second = started()
    until(lambda: state(second, 1) == "finished")
    assert second.log(1).splitlines().count("adapt") == before + 1
    assert second.jobs == first.jobs
    assert second.next_number() == 2


@pytest.mark.parametrize("reason", ["folder", "disk"])
def test_a_job_that_cannot_be_written_stops_no_other(
    folder: Path, started: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    runner = started()
    (folder / "hold").touch()
    runner.add(1, "train", "first", [step("adapt")])
    runner.add(2, "train", "second", [step("tune")])
    until(lambda: runner.progress(1) and runner.log(1))
    if reason == "folder":
        shutil.rmtree(folder / "jobs" / "0001")
    else:
        write = runner._write

        def full(number: int, status: Status) -> None:
            if number == 1:
                raise ArtifactError("cannot write: No space left on device")
            write(number, status)

        monkeypatch.setattr(runner, "_write", full)
    (folder / "hold").unlink()
    until(lambda: state(runner, 2) == "finished")
    assert state(runner, 1) == "failed"
    assert {"folder": "cannot be read", "disk": "No space left"}[reason] in runner.status(1).message
    monkeypatch.undo()
    runner.resume(1)
    until(lambda: state(runner, 1) == "finished")


def test_ctrl_c_of_a_terminal_reaches_no_command(folder: Path) -> None:
    leads = "import os; print('leads', os.getsid(0) == os.getpid())"
    runner = Runner(folder / "jobs", lambda job: None, (sys.executable, "-c", leads))
    runner.add(1, "train", "first", [step()])
    runner.start()
    until(lambda: state(runner, 1) == "finished")
    assert "leads True" in runner.log(1)
    runner.close()


def test_what_measures_costs_no_classifier(folder: Path, started: Callable[..., Runner]) -> None:
    done: list[int] = []
    runner = started(lambda job: done.append(job.number))
    (folder / "fail-evaluate").write_text("error: unknown label 'c'", encoding="utf-8")
    measure = step("evaluate").replace(measures=True)
    (folder / "made.safetensors").touch()
    runner.add(1, "train", "first", [step("tune", "--output", "x"), measure], output="x")
    until(lambda: state(runner, 1) == "finished")
    assert runner.status(1).message == "unknown label 'c' (exit status 2)"
    runner.add(2, "train", "nothing was better than the majority", [step("compare"), measure], output="y")
    until(lambda: state(runner, 2) == "finished")
    assert (runner.status(2).message, "evaluate" in runner.log(2)) == ("", False)
    assert done == [1, 2]
    runner.add(3, "evaluate", "alone", [step("evaluate")])
    until(lambda: state(runner, 3) == "failed")


def test_a_workspace_has_one_service_and_so_many_jobs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benches = [Workbench.of(folder, BackboneOptions("mini", 3, True), lambda: None, FAKE) for _ in range(2)]
    with benches[0].open(), pytest.raises(ConfigError, match="in use by another service"), benches[1].open():
        pass
    monkeypatch.setattr(runner_module, "MOST_JOBS", 0)
    with pytest.raises(ConfigError, match="another --workspace"):
        benches[0].runner.next_number()


# --- what is sent


def test_uploads_are_read_before_they_are_kept(folder: Path) -> None:
    workspace = Workspace(folder)
    train = workspace.add_upload("train", "../../etc/passwd\x1b.tsv", TRAIN)
    assert (train.name, train.file) == ("../../etc/passwd\\x1b.tsv", "uploads/0001.tsv")
    assert train.labels == {"a": 5, "b": 5}
    few = workspace.add_upload("labels", "few", FEW)
    assert workspace.labels_in(few)['\u01c3kwi "one'] == "a"  # a quote is a character
    pairs = workspace.add_upload("parallel", "pairs", b"source\ttarget\nwater\tmaji\nfire\tmoto\n")
    assert workspace.texts(pairs.number) == ["maji", "moto"]
    bad: tuple[tuple[Use, bytes], ...] = (
        ("target", b"\xff\xfe\xff"),
        ("target", b"\n\n"),
        ("train", b"text\tlabel\none\ta\n"),
        ("labels", b"text\none\n"),
    )
    for use, content in bad:
        with pytest.raises(DataError, match="bad") as caught:
            workspace.add_upload(use, "bad", content)
        assert str(folder) not in str(caught.value)
    assert sorted(path.name for path in (folder / "uploads").iterdir()) == [
        "0001.json", "0001.tsv", "0002.json", "0002.tsv", "0003.json", "0003.tsv", "last",
    ]  # fmt: skip
    assert Workspace(folder).uploads == workspace.uploads
    workspace.remove_upload(1)
    with pytest.raises(DataError, match="no upload 1"):
        workspace.texts(1)
    workspace.remove_upload(pairs.number)
    # A job may wait for the file that had the number.
    assert Workspace(folder).add_upload("train", "other", TRAIN).number > pairs.number
    with pytest.raises(ConfigError, match="is packed"):
        workspace.add_upload("train", "a.gz", gzip.compress(TRAIN))


def test_an_upload_that_cannot_be_written_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(folder)
    number = workspace._number

    def then_full(size: int) -> int:
        found = number(size)
        monkeypatch.setattr(workspace_module.atomic, "write", full)
        return found

    def full(path: Path, data: Any) -> None:
        raise ArtifactError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(workspace, "_number", then_full)
    with pytest.raises(DataError, match="cannot write mine: No space left"):
        workspace.add_upload("target", "mine", b"a\n")


def test_uploads_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(folder)
    monkeypatch.setattr(workspace_module, "MOST_BYTES", 10)
    with pytest.raises(ConfigError, match="at most 10 bytes"):
        workspace.add_upload("target", "x", b"a text of more\n")
    monkeypatch.setattr(workspace_module, "MOST_UPLOADS", 0)
    with pytest.raises(ConfigError, match="has 0 files"):
        workspace.add_upload("target", "x", b"a\n")


def test_nobody_waits_for_an_upload_that_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(folder)
    earlier = workspace.add_upload("target", "earlier", b"one\n")
    given: list[object] = []

    def reading(use: Use, place: Path) -> dict[str, object]:
        """Other requests come meanwhile."""
        monkeypatch.undo()
        monkeypatch.setattr(workspace_module, "MOST_BYTES", 10)
        other = Thread(target=others, daemon=True)
        other.start()
        other.join(10)
        return {"rows": 1}

    def others() -> None:
        given.append(workspace.give_label("lug", "topics", "train", "text", "a"))
        given.append(workspace.remove_upload(earlier.number))
        with pytest.raises(ConfigError, match="at most 10 bytes"):
            workspace.add_upload("target", "other", b"six by")
        given.append("refused")

    monkeypatch.setattr(workspace_module, "_described", reading)
    assert workspace.add_upload("target", "mine", b"a text\n").number == 2
    assert len(given) == 3
    assert workspace.add_upload("target", "more", b"ab\n").number == 3  # an order that was refused takes no room


def test_what_measures_is_not_trained_on(folder: Path) -> None:
    workspace = Workspace(folder)
    assert workspace.give_label("lug", "topics", "test", "one\ttext", "a") == {"test": 1, "train": 0}
    with pytest.raises(DataError, match="what measures is not trained on"):
        workspace.give_label("lug", "topics", "train", "One  text!", "b")
    with pytest.raises(DataError, match="control characters"):
        workspace.give_label("lug", "topics", "train", "one\0", "b")
    for text, label in (("\u200b", "a"), ("one more", "\u200f")):
        with pytest.raises(DataError, match="only invisible characters"):
            workspace.give_label("lug", "topics", "train", text, label)
    workspace.give_label("lug", "topics", "train", "another", "a")
    assert workspace.give_label("lug", "topics", "train", "another", "b") == {"test": 1, "train": 1}
    assert workspace.labels("lug", "topics", "train") == {"another": "b"}
    assert workspace.labels("lug", "news", "train") == {}


def test_names_of_files() -> None:
    assert slug("lug", "topics") == "lug-topics"
    hashed = {
        slug("lug", "../x"),
        slug("lug", "/x"),
        slug("lug", "Topics"),
        slug("lug", "topics "),
        slug("lug", "x" * 90),
    }
    assert len(hashed) == 5
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(name) <= 40 for name in hashed)


def test_the_browser_knows_no_options(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wording_of(["compare"])("minutes", None) == "--minutes"
    monkeypatch.setenv(IN_BROWSER, "1")  # as in a command that a job runs
    wording = wording_of(["compare"])
    with in_words_of(wording):
        said = [
            *compare_choice.advice_without_labels(EMBEDDING, None, "Luganda", False),
            *compare_choice.left_out(["tf-idf"], 30),
        ]
        said += [setting("max_length"), setting("micro_batch_size", "4"), setting("target_labels")]
    assert not [text for text in said if "--" in text or "=" in text]
    page = (Path(glotprompt.__file__).parent / "serve/page/words/en.js").read_text(encoding="utf-8")
    names = [name.strip("“”") for text in said for name in re.findall("“.*?”", text)]
    assert len(names) > 2
    assert [name for name in names if f'"{name}' not in page] == []
    bench = Workbench.of(folder, BackboneOptions("mini", 3, True), lambda: None, FAKE)
    with bench.open(), pytest.raises(DataError) as caught:
        bench.workspace.add_upload("labels", "few", b"text\tlabel\none\ta\n\ttwo\tb\tc\n")
    assert "--" not in str(caught.value)


# --- command lines


@pytest.fixture
def bench(folder: Path) -> Workbench:
    """With an upload of each kind; no job is run."""
    bench = Workbench.of(folder, BackboneOptions("mini", 3, True, ("--device", "cpu")), lambda: None, FAKE)
    bench.workspace.add_upload("train", "train.tsv", TRAIN)
    bench.workspace.add_upload("target", "lug.txt", b"maji\nmoto\n")
    bench.workspace.add_upload("labels", "few.tsv", FEW)
    bench.workspace.add_upload("parallel", "pairs.tsv", b"source\ttarget\nwater\tmaji\n")
    return bench


def choice(way: str, *uploads: int, **more: Any) -> Choice:
    return Choice(**{"way": way, "language": "lug", "task": "topics", "uploads": list(uploads), "minutes": 5, **more})


def test_every_command_line_is_one_of_the_programs(bench: Workbench) -> None:
    bench.workspace.give_label("lug", "topics", "test", "a measured text", "a")
    jobs = [bench.orders.train(choice(way, 1, 2, 3, 4, steps=7)) for way in WAYS]
    jobs.append(bench.orders.doctor(2, "lug", [1]))
    jobs.append(bench.orders.doctor(4, "lug", []))
    for one in (line for job in jobs for line in job.steps):
        known = {spelling for option in all_options(one.words[0]) for spelling in option.spellings}
        assert {word for word in one.words if word.startswith("--")} <= known, one.words
        assert one.words[-2:] == ["--device", "cpu"]
    assert [[line.words[0] for line in job.steps] for job in jobs[:4]] == [
        ["compare", "evaluate"], ["tune", "evaluate"], ["adapt", "tune", "evaluate"], ["adapt", "tune", "evaluate"],
    ]  # fmt: skip
    assert all(job.steps[-1].measures and "--model" not in job.steps[-1].words for job in jobs[:4])
    masked = jobs[3].steps
    assert masked[0].words[masked[0].words.index("--held-out") + 1] == "jobs/0004/measured.tsv"
    assert masked[1].words[masked[1].words.index("--top-k") + 1] == "3"


def test_corrections_are_target_labels_of_the_next_training(bench: Workbench) -> None:
    give = bench.workspace.give_label
    give("lug", "topics", "train", "maji three", "a")
    give("lug", "topics", "test", "maji two", "b")
    job = bench.orders.train(choice("embedding", 1, 3))
    words = job.steps[0].words
    read = bench.workspace.folder / words[words.index("--target-labels") + 1]
    assert read.read_text(encoding="utf-8").splitlines()[1:] == ['\u01c3kwi "one\ta', "maji three\ta", "maji four\tb"]
    alone = bench.orders.train(choice("embedding", 3)).steps[0].words  # no labels of another language
    assert "--target-labels" not in alone
    assert alone[alone.index("--train") + 1].endswith("labels.tsv")
    give("lug", "topics", "test", "a measured text", "c")  # a label that is only measured
    compared = bench.orders.train(choice("compare", 1, 3))
    few = compared.steps[0].words
    assert "--target-labels" not in few  # only one label has two texts: nothing can be chosen on them
    task = Task.load(bench.workspace.folder / few[few.index("--task") + 1])
    assert set(task.labels) == {"a", "b", "c"}


def test_labels_that_were_given_one_by_one_train_alone(bench: Workbench) -> None:
    bench.workspace.give_label("lug", "topics", "train", "maji one", "a")
    with pytest.raises(DataError, match="at least two labels"):
        bench.orders.train(choice("embedding", 2))
    bench.workspace.give_label("lug", "topics", "train", "maji two", "b")
    words = bench.orders.train(choice("embedding", 2)).steps[0].words
    read = bench.workspace.folder / words[words.index("--train") + 1]
    assert read.read_text(encoding="utf-8").splitlines()[1:] == ["maji one\ta", "maji two\tb"]


def test_the_gain_is_measured_beside_the_classifier_before(bench: Workbench) -> None:
    bench.workspace.give_label("lug", "topics", "test", "a measured text", "a")
    (bench.workspace.classifiers / "lug-topics-1.safetensors").touch()
    scored = bench.orders.train(choice("embedding", 1), "lug-topics-1").steps[-1].words
    assert scored[scored.index("--against") + 1] == "classifiers/lug-topics-1.safetensors"
    with pytest.raises(ConfigError, match="no classifier of this workspace"):
        bench.orders.train(choice("embedding", 1), "../../elsewhere")


def test_what_cannot_be_trained(bench: Workbench) -> None:
    for wrong, said in (
        (choice("magic", 1), "no way to train"),
        (choice("embedding", 1, language="nowhere"), "no language code"),
        (choice("embedding", 2), "needs labelled texts"),
        (choice("embedding", 9), "no upload 9"),
        (choice("aligned", 1, 2), "needs translations"),
        (choice("masked", 1, 4), "needs unlabelled text"),
    ):
        with pytest.raises((ConfigError, DataError), match=said):
            bench.orders.train(wrong)
    assert bench.runner.jobs == {}


def test_a_task_may_have_any_labels(bench: Workbench, folder: Path) -> None:
    labels = ['say "x"\\', "[a]", "\u01c3", "true"]
    table = "text\tlabel\n" + "".join(f"text {i}\t{label}\n" for i, label in enumerate(labels))
    upload = bench.workspace.add_upload("train", "odd", table.encode())
    bench.orders.train(choice("embedding", upload.number, task="what \u2028 is"))
    task = Task.load(folder / "jobs" / "0001" / "task.toml")
    assert sorted(task.labels) == sorted(labels)
    assert (
        json.loads((folder / "jobs" / "0001" / "job.json").read_text(encoding="utf-8"))["choice"]["way"] == "embedding"
    )
