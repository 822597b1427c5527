"""A store behind a URL: the numbers of a folder, steps that are finished when their marker is there, machines that
share nothing else, messages. In fsspec's `memory://` within a process, in `file://` between processes."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from glotprompt.cluster import remote, workers
from glotprompt.cluster.machines import Share
from glotprompt.cluster.remote import RemoteStore, copy_results, named, open_store
from glotprompt.errors import ArtifactError, ConfigError, DataError
from glotprompt.grid import work
from glotprompt.grid.steps import EvaluateStep, Workplace
from glotprompt.grid.store import RESULT, STEP, Store
from glotprompt.grid.work import attempt, forget_shared

from ..grid.test_engine import planned, results
from .test_workers import Actors, told


@pytest.fixture
def url() -> Generator[str]:
    """A place that is empty before and after."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield "memory://bucket/runs"
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each question was put to the place behind the URL."""
    count: Counter[str] = Counter()
    for name in ("files", "has", "read", "receive", "send", "remove"):
        real = getattr(remote._Remote, name)

        def counted(self: Any, *words: Any, name: str = name, real: Any = real) -> Any:
            count[name] += 1
            return real(self, *words)

        monkeypatch.setattr(remote._Remote, name, counted)
    return count


def fill(store: Store, step: str = "tune-1", text: str = "{}") -> None:
    """What a step leaves."""
    folder = store.outcome(step)
    for name in ("a.safetensors", RESULT, STEP):
        (folder / name).write_text(text, encoding="utf-8")


def files(url: str) -> dict[str, bytes]:
    """All files behind the URL, by their paths from it."""
    system, root = fsspec.core.url_to_fs(url)
    return {path.removeprefix(f"{root}/"): system.cat_file(path) for path in system.find(root)}


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what differs between two runs: times, memory, versions and hardware."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(one) for key, one in value.items() if key not in ("seconds", "peak_memory_bytes")}
        return value

    return {key: without(value) for key, value in result.items() if key != "meta_info"}


@pytest.mark.slow
def test_two_machines_that_share_a_url_give_the_numbers_of_a_folder(
    experiment_file: Path,
    place: Workplace,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: Counter[str],
) -> None:
    changes = 'methods=["soft-prompt", "mad-x"]'
    plan = planned(experiment_file, place, changes)
    for step in plan.steps.values():
        assert attempt(step, place).status == "done"

    def on(machine: str) -> Workplace:
        monkeypatch.setenv("GLOTPROMPT_CACHE", str(tmp_path / machine))
        return replace(place, store=open_store(url))

    store = on("a").store
    assert plan.missing(store.finished()) == list(plan.steps.values())
    assert asked == {"files": 1}
    for number, step in enumerate(plan.steps.values()):
        assert attempt(step, on("ab"[number % 2])).status == "done"
    # For each step: is it there, are its needs, did it fail; then its files, and once more whether it is there.
    assert asked["has"] + asked["read"] <= 5 * len(plan.steps)
    assert asked["send"] <= 2 * len(plan.steps)
    for record in plan.records:
        store.write_experiment(record)
    for machine in "abc":
        assert plan.missing(on(machine).store.finished()) == []
        assert attempt(next(iter(plan.steps.values())), on(machine)).status == "cached"
    for machine in "ab":
        forget_shared(list(plan.steps.values()), on(machine).store)
    assert list(tmp_path.glob("[ab]/grids/*/work/*")) == []

    copy_results(url, tmp_path / "copy")
    copied = {path.name for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert copied == {"toy.json", RESULT}
    for one, two in zip(
        results(plan, place), results(plan, replace(place, store=Store(tmp_path / "copy"))), strict=True
    ):
        assert json.dumps(numbers(one)) == json.dumps(numbers(two))

    # What is lost there is made again by a machine that has nothing, from what is left.
    (lost,) = (step for step in plan.steps.values() if isinstance(step, EvaluateStep) and str(step).endswith("0")
               and (step.method, step.target) == ("soft-prompt", "yor"))  # fmt: skip
    before = json.loads(files(url)[f"steps/{lost.name}/{RESULT}"])
    fsspec.filesystem("memory").rm(f"/bucket/runs/steps/{lost.name}", recursive=True)
    assert plan.missing(on("new").store.finished()) == [lost]
    assert attempt(lost, on("new")).status == "done"
    assert numbers(json.loads(files(url)[f"steps/{lost.name}/{RESULT}"])) == numbers(before)


def test_a_step_half_sent_is_not_finished(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    system = type(fsspec.filesystem("memory"))
    real, left = system.put_file, 0

    def put_file(self: Any, *words: Any, **more: Any) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        real(self, *words, **more)

    monkeypatch.setattr(system, "put_file", put_file)
    store = RemoteStore(url, tmp_path / "one")
    for sent in range(3):
        store, left = RemoteStore(url, tmp_path / "one"), sent
        fill(store)
        with pytest.raises(Killed):
            store.publish("tune-1")
        assert len(files(url)) == sent
        for other in (RemoteStore(url, tmp_path / "one"), RemoteStore(url, tmp_path / f"fresh-{sent}")):
            assert not other.has("tune-1")
            assert other.finished() == set()
    left = 3
    fill(store, text='{"whole": 1}')
    store.publish("tune-1")
    assert store.has("tune-1")
    assert store.finished() == {"tune-1"}
    assert set(files(url).values()) == {b'{"whole": 1}'}
    assert not store.work("tune-1").exists()


def test_machines_share_the_precision(url: str, tmp_path: Path) -> None:
    one, other = RemoteStore(url, tmp_path / "one"), RemoteStore(url, tmp_path / "other")
    assert other.precision() is None
    assert one.settle_precision(lambda: "bf16") == "bf16"
    assert other.settle_precision(lambda: "fp32") == other.precision() == "bf16"


def test_a_marker_without_words_counts_for_nothing(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/runs"
    marker = tmp_path / "runs" / "steps" / "tune-1" / STEP
    marker.parent.mkdir(parents=True)
    marker.touch()
    store = RemoteStore(url, tmp_path / "scratch")
    assert not store.has("tune-1")
    assert store.finished() == set()


@pytest.mark.slow
def test_killed_while_sending(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from glotprompt.cluster.remote import RemoteStore, _Remote\n"
        "store, real = RemoteStore(sys.argv[1], Path(sys.argv[2])), _Remote.send\n"
        "for name in ('a.safetensors', 'step.json'):\n"
        "    (store.outcome('tune-1') if name[0] == 'a' else store.work('tune-1') / 'outcome').joinpath(name)"
        ".write_text('{}')\n"
        "def send(self, file, path):\n"
        "    if sys.argv[3] == path.rpartition('/')[2]: os.kill(os.getpid(), 9)\n"
        "    real(self, file, path)\n"
        "_Remote.send = send\n"
        "with store.claimed('tune-1'): store.publish('tune-1')"
    )
    url = f"file://{tmp_path}/runs"
    for kill_at, status in ((STEP, -signal.SIGKILL), ("nothing", 0)):
        command = [sys.executable, "-c", code, url, str(tmp_path / "scratch"), kill_at]
        assert subprocess.run(command, check=False).returncode == status
        assert RemoteStore(url, tmp_path / kill_at).has("tune-1") == (status == 0)
        assert (tmp_path / "runs" / "steps" / "tune-1" / "a.safetensors").is_file()


def test_two_machines_at_one_step(url: str, tmp_path: Path) -> None:
    one, two = (RemoteStore(url, tmp_path / name) for name in "ab")
    fill(one, text="1")
    fill(two, text="2")
    for store in (one, two):
        store.publish("tune-1")
    assert set(files(url).values()) == {b"1"}
    two.keep_failure("tune-1", "it broke", "Traceback ...")  # too late to count
    assert "failed/tune-1.json" not in files(url)
    # A failure of one machine is known to the other, and made good by it.
    for store in (one, two):
        store.keep_failure("tune-2", "it broke", "Traceback ...")
    failure = RemoteStore(url, tmp_path / "c").failure("tune-2")
    assert failure is not None
    assert failure["attempts"] == 2
    fill(two, "tune-2")
    two.publish("tune-2")
    assert one.failure("tune-2") is None
    assert "failed/tune-2.json" not in files(url)


def test_what_another_step_needs_is_fetched_once(url: str, tmp_path: Path, asked: Counter[str]) -> None:
    one, two = (RemoteStore(url, tmp_path / name) for name in "ab")
    fill(one)
    one.publish("tune-1")
    for _ in range(2):
        two.fetch("tune-1")
        one.fetch("tune-1")
    assert (asked["receive"], asked["files"]) == (1, 1)
    assert {path.name for path in two.folder("tune-1").iterdir()} == {"a.safetensors", RESULT, STEP}
    assert list((tmp_path / "b" / "work").iterdir()) == []
    with pytest.raises(DataError, match="steps/tune-2 is gone from memory://bucket/runs; run the grid again"):
        two.fetch("tune-2")
    assert not two.folder("tune-2").exists()


def test_what_lies_behind_the_url_counts_and_not_an_older_copy(url: str, tmp_path: Path) -> None:
    one, two = (RemoteStore(url, tmp_path / name) for name in "ab")
    fill(one, text="1")
    one.publish("tune-1")
    two.fetch("tune-1")
    fsspec.filesystem("memory").rm("/bucket/runs/steps/tune-1", recursive=True)  # to have it done again
    fill(one, text="2")
    one.publish("tune-1")
    fill(two, "tune-2", text="mine")
    fill(one, "tune-2", text="first")
    for store in (one, two):
        store.publish("tune-2")
    for store in (one, two):
        for step, text in (("tune-1", "2"), ("tune-2", "first")):
            store.fetch(step)
            assert (store.folder(step) / "a.safetensors").read_text(encoding="utf-8") == text


def test_workers_of_ray_get_the_url(
    experiment_file: Path, place: Workplace, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOTPROMPT_CACHE", str(tmp_path / "cache"))
    away = replace(place, store=open_store(url))
    (step, *_) = planned(experiment_file, away, 'methods=["prompt-tuning"]').steps.values()
    monkeypatch.setattr(workers, "ray", Actors(0))
    said: list[Any] = []
    monkeypatch.setattr(work, "attempt", lambda step, place: said.append((place.store, files(url))))
    workers._Pool(Share(1, 1, 0), away, told).run([step])
    ((given, seen),) = said
    assert given is away.store
    assert [path.startswith("work/shared-") for path in seen] == [True]
    assert files(url) == {}

    def unreachable(step: Any, place: Workplace) -> None:
        raise ArtifactError("memory://bucket/runs cannot be used")

    monkeypatch.setattr(work, "attempt", unreachable)
    with pytest.raises(ArtifactError, match="cannot be used"):
        workers._Pool(Share(1, 1, 0), away, told).run([step])


def test_a_store_that_is_sent_works_where_it_comes_to(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOTPROMPT_CACHE", str(tmp_path / "here"))
    sent = pickle.dumps(open_store(url))
    monkeypatch.setenv("GLOTPROMPT_CACHE", str(tmp_path / "there"))
    store: Store = pickle.loads(sent)
    fill(store)
    store.publish("tune-1")
    assert store.root.is_relative_to(tmp_path / "there")
    assert "steps/tune-1/step.json" in files(url)
    assert str(store) == url
    assert str(open_store("memory://me:secret@bucket/runs")) == "memory://me:***@bucket/runs"
    # That a driver is missing there is said by what asks the store, and not by what unpacks it.
    store = pickle.loads(pickle.dumps(RemoteStore("memry://runs", tmp_path)))
    with pytest.raises(ConfigError, match="fsspec knows no memry"):
        store.has("tune-1")


@pytest.mark.long
def test_two_grids_at_one_url(experiment_file: Path, place: Workplace, tmp_path: Path, toy_data: Path) -> None:
    """At the same time, in processes that share nothing else."""
    plan = planned(experiment_file, place, 'methods=["soft-prompt", "mad-x"]')
    for step in plan.steps.values():
        assert attempt(step, place).status == "done"
    command = [sys.executable, "-m", "glotprompt", "grid", str(experiment_file), "--data-dir", str(toy_data)]
    command += ["--output", f"file://{tmp_path}/runs", "--device", "cpu", "--set", 'methods=["soft-prompt", "mad-x"]']
    machines = [{**os.environ, "OMP_NUM_THREADS": "1", "GLOTPROMPT_CACHE": str(tmp_path / name)} for name in "ab"]
    both = [subprocess.Popen(command, env=environment) for environment in machines]
    assert [process.wait() for process in both] == [0, 0]
    assert Store(tmp_path / "runs").failures() == []
    for one, two in zip(
        results(plan, place), results(plan, replace(place, store=Store(tmp_path / "runs"))), strict=True
    ):
        assert json.dumps(numbers(one)) == json.dumps(numbers(two))


def test_a_place_that_does_not_answer(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RemoteStore(url, tmp_path)

    def deaf(self: Any, path: str, **more: Any) -> None:
        raise TimeoutError("connection\nrefused")

    for name in ("info", "find", "cat_file"):
        monkeypatch.setattr(type(fsspec.filesystem("memory")), name, deaf)
    questions: list[Callable[[], Any]] = [lambda: store.has("a"), store.finished, lambda: store.failure("a")]
    for question in questions:
        with pytest.raises(ArtifactError, match="bucket/runs cannot be used: TimeoutError: connection refused; look"):
            question()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("s3://bucket/runs", "the driver for s3:// is not installed: pip install s3fs"),
        ("gs://bucket/runs", "the driver for gs:// is not installed: pip install gcsfs"),
        ("sftp://host/runs", 'not installed: SFTPFileSystem requires "paramiko" to be installed'),
        ("memry://runs", r"fsspec knows no memry://. Did you mean 'memory'"),
        ("memory://", "memory:// names no folder"),
        ("sftp://me:secret@host/runs", r"^sftp://me:\*\*\*@host/runs: "),
    ],
)
def test_urls_that_cannot_be_used(words: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("s3fs", "gcsfs", "paramiko"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=said):
        open_store(words)


def test_folders_and_urls() -> None:
    assert named("s3://bucket/runs") == "s3://bucket/runs"
    assert named("a/b") == Path("a/b")
    assert type(open_store(Path("a/b"))) is Store


def test_a_url_without_results(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="memory://bucket/runs holds no experiment"):
        copy_results(url, tmp_path)


def test_where_copies_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLOTPROMPT_CACHE", str(tmp_path))
    assert remote._cache_folder() == tmp_path
    monkeypatch.delenv("GLOTPROMPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert remote._cache_folder() == tmp_path / "glotprompt"
