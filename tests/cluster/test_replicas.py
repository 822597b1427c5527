"""The service as a deployment of Ray Serve: what it refuses, and two replicas on this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

import glotprompt as gp
from glotprompt.cli import main
from glotprompt.errors import ConfigError, MissingExtraError
from glotprompt.serve.api import Blueprint
from glotprompt.serve.schemas import Limits
from glotprompt.serve.service import ServiceSettings

from ..serve.conftest import make_classifier

NAMES = ("nya", "yor", "sna")
TEXTS = [f"the king {'water ' * (i % 5)}day {'field ' * (i % 3)}" for i in range(15)]
BODY_BYTES = 20_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """Three classifiers, and in the folder "tiny" the backbone they were made for."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(tiny_folder, folder / "tiny")
    backbone = gp.Backbone.load(folder / "tiny", precision="fp32", device="cpu")
    for seed, name in enumerate(NAMES):
        make_classifier(backbone, seed, language=name).save(folder / f"{name}.safetensors")
    return folder


# --- without Ray being started


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    capsys.readouterr()
    assert main(["serve", *map(str, words)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.slow
def test_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "are for --engine ray" in refusal(capsys, folder, "--replicas", "2")
    assert "are for --engine ray" in refusal(capsys, folder, "--address", "auto")
    assert "are for --engine ray" in refusal(capsys, folder, "--take-over")
    assert "--replicas" in refusal(capsys, folder, "--engine", "ray", "--replicas", "0")
    ray = (folder, "--engine", "ray", "--port", "0")
    assert "with --address give a number" in refusal(capsys, *ray, "--address", "auto")
    assert "Ray chooses the GPU" in refusal(capsys, *ray, "--device", "cuda:1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1, port {port}" in refusal(capsys, *ray[:-1], str(port))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        said = refusal(capsys, folder, "--engine", "ray", "--address", address)
    assert f"no Ray cluster answers at --address {address}" in said


@pytest.mark.parametrize("absent", ["ray", "ray.serve"])
def test_without_ray(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import glotprompt.cluster.replicas as replicas

    monkeypatch.setitem(sys.modules, absent, None)
    monkeypatch.delattr(sys.modules["ray"], "serve", raising=False) if absent == "ray.serve" else None
    monkeypatch.delitem(sys.modules, replicas.__name__)
    with pytest.raises(MissingExtraError, match=r'pip install "glotprompt\[ray\]"'):
        import glotprompt.cluster.replicas  # noqa: F401  # pyright: ignore[reportUnusedImport]


def test_replicas_find_the_backbone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import glotprompt.cluster.replicas as replicas

    opened: list[str] = []
    monkeypatch.setattr(replicas.RayServe, "run", lambda self, backbone, *rest: not opened.append(backbone.model))
    monkeypatch.chdir(folder)
    Path("mini").mkdir()
    for model in ("tiny", "mini"):
        assert main(["serve", ".", "--engine", "ray", "--port", "0", "--model", model]) == 0
    assert opened == [str(folder / "tiny"), "mini"], "a folder by its full path; mini is the one in the package"
    Path("mini").rmdir()


def test_a_service_that_runs_on_the_cluster_is_not_replaced_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    import glotprompt.cluster.replicas as replicas

    running = SimpleNamespace(applications={replicas.NAME: object()}, proxies={"a node": "HEALTHY"})
    started, told = list[object](), list[str]()
    monkeypatch.setattr(replicas.serve, "status", lambda: running)
    monkeypatch.setattr(replicas.serve, "start", lambda **options: started.append(options))
    place = replicas.RayServe(None, "auto", "127.0.0.1", 8000, 1.0, take_over=False)
    with pytest.raises(ConfigError, match="--take-over"), place._proxies(told.append):
        pass
    assert not started, "nothing of the cluster was touched"
    with replace(place, take_over=True)._proxies(told.append):
        pass
    running.applications.clear()
    with place._proxies(told.append):
        pass
    assert len(started) == 2
    assert len(told) == 2
    assert "host and the port" in told[0]


def test_why_replicas_did_not_start() -> None:
    from glotprompt.cluster.replicas import _reason

    message = (
        "The deployment failed to start 1 times in a row. Error:\nray::ServeReplica() (pid=1)\n  File \"x\", line 1\n"
        "glotprompt.errors.ModelError: cannot load 'nowhere': gone\n\nDuring handling ...\n"
        "glotprompt.errors.ModelError: cannot load 'nowhere': gone; say with --model where\n"
    )  # fmt: skip
    error = _reason(message)
    assert isinstance(error, ConfigError)
    assert str(error) == "the replicas cannot start: cannot load 'nowhere': gone; say with --model where"
    assert "MemoryError: all gone" in str(_reason("Traceback\nMemoryError: all\n gone"))


def test_the_state_of_replicas_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import glotprompt.cluster.replicas as replicas

    stop, said = threading.Event(), list[str]()

    def tell(line: str) -> None:
        said.append(line)
        stop.set()

    for name in ("_LOOK_SECONDS", "_WATCH_SECONDS", "_PATIENCE_SECONDS"):
        monkeypatch.setattr(replicas, name, 0.001)
    state = replicas.ApplicationStatus.DEPLOYING, "Traceback\n  File x\nOSError: gone"
    monkeypatch.setattr(replicas, "_status", lambda: state)
    for wait in (replicas._started, replicas._watch):
        stop.clear()
        wait(stop, tell)
    assert said == [
        "the replicas are not there yet: Traceback File x OSError: gone",
        "the service is deploying: Traceback File x OSError: gone",
    ]


# --- two replicas


def processes_of(session: int) -> dict[int, str]:
    """The command lines of all processes that belong to a session, which a program started for itself."""
    found: dict[int, str] = {}
    for place in Path("/proc").iterdir():
        try:
            if place.name.isdecimal() and os.getsid(int(place.name)) == session:
                found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue  # it ended meanwhile
    return {process: line for process, line in found.items() if line}  # what ended and waits has none


class Replicated:
    """The program in a session of its own, so that whatever it starts can be found."""

    def __init__(self, folder: Path, log: Path) -> None:
        words = ["--engine", "ray", "--replicas", "2", "--port", "0", "--precision", "fp32", "--device", "cpu"]
        self.command = [sys.executable, "-m", "glotprompt", "serve", str(folder), *words, "--max-body", str(BODY_BYTES)]
        self.log = log
        for _ in range(5):
            self.process, url = self._start()
            if url is not None:
                self.url = url
                return
            # On a busy machine Ray gives up on itself after 30 seconds.
            assert "timed out during startup" in log.read_text(), log.read_text()
        raise AssertionError("this machine is too busy for Ray")

    def _start(self) -> tuple[subprocess.Popen[bytes], str | None]:
        with self.log.open("w") as written:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(self.command, stderr=written, env=environment, start_new_session=True)
        while process.poll() is None:
            if found := re.search(r"2 replicas at (http://127\.0\.0\.1:\d+)", self.log.read_text()):
                return process, found[1]
            time.sleep(0.2)
        return process, None

    def replicas(self) -> list[int]:
        return [number for number, line in processes_of(self.process.pid).items() if "ServeReplica" in line]


@pytest.fixture
def service(folder: Path, tmp_path: Path) -> Generator[Replicated]:
    service = Replicated(folder, tmp_path / "log")
    yield service
    for number in processes_of(service.process.pid):
        os.kill(number, signal.SIGKILL)
    service.process.wait()


def served_by(client: httpx2.Client, url: str) -> dict[str, float]:
    """From the replicas' names to how many predictions they made, asked until both were met."""
    found: dict[str, float] = {}
    pattern = r'requests_total{replica="(\w+)",route="/v1/predict",status="200"} (\S+)'
    for _ in range(100):
        found |= {name: float(count) for name, count in re.findall(pattern, client.get(f"{url}/metrics").text)}
        if len(found) == 2:
            break
    return found


def ask(client: httpx2.Client, url: str, items: list[tuple[str, str]]) -> list[dict[str, float]]:
    body = {"items": [{"classifier": name, "text": text} for name, text in items]}
    answer = client.post(f"{url}/v1/predict", json=body).raise_for_status().json()["results"]
    assert [one["classifier"] for one in answer] == [name for name, _ in items]
    return [{score["label"]: score["score"] for score in one["scores"]} for one in answer]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="finds the replicas in /proc")
def test_two_replicas(folder: Path, service: Replicated) -> None:
    backbone = gp.Backbone.load(folder / "tiny", precision="fp32", device="cpu")
    predictor = gp.Predictor(
        backbone, {name: gp.PromptClassifier.load(folder / f"{name}.safetensors", backbone) for name in NAMES}
    )
    questions = [(name, text) for name in NAMES for text in TEXTS]
    offline = {
        question: one.scores for question, one in zip(questions, predictor.predict(questions), strict=True)
    }  # fmt: skip
    again: Counter[str] = Counter()

    def ask_until_answered(start: int) -> None:
        """Three languages in one request, like a client that tries again where the service itself failed."""
        items = [questions[(start * 7 + step * 16) % len(questions)] for step in range(3)]
        for _ in range(600):
            try:
                with httpx2.Client(timeout=60) as client:
                    for found, item in zip(ask(client, service.url, items), items, strict=True):
                        assert found == pytest.approx(offline[item], abs=1e-5)
                    return
            except httpx2.HTTPStatusError as error:
                if error.response.status_code < 500:
                    raise
                again[str(error.response.status_code)] += 1
            except httpx2.TransportError as error:
                again[type(error).__name__] += 1
            time.sleep(0.1)
        raise AssertionError("never answered")

    # Many at once: the offline answers, from both replicas, and nobody need ask twice.
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask_until_answered, range(120)))
    assert not again
    with httpx2.Client(timeout=60) as client:
        counts = served_by(client, service.url)
        assert len(counts) == 2
        assert min(counts.values()) > 0
        assert sum(counts.values()) == 120
        # A refusal is that of the service in one process, to the byte.
        blueprint = Blueprint((folder,), ServiceSettings(Limits(body_bytes=BODY_BYTES)))
        with TestClient(blueprint.app(backbone, blueprint.registry(backbone))) as plain:
            for method, path, content in [
                ("POST", "/v1/predict", b"x" * (BODY_BYTES + 1)), ("POST", "/v1/predict", b"{"), ("GET", "/none", b""),
                ("POST", "/v1/predict", b'{"items": [{"classifier": "nyb", "text": "day"}]}'), ("GET", "/", b""),
            ]:  # fmt: skip
                sent: dict[str, Any] = {"content": content, "headers": {"Content-Type": "application/json"}}
                one, two = plain.request(method, path, **sent), client.request(method, service.url + path, **sent)
                assert (one.status_code, one.content) == (two.status_code, two.content)
                assert one.headers["Content-Security-Policy"] == two.headers["Content-Security-Policy"]

    # One of them is killed: clients that try again lose nothing, and it is replaced.
    before = service.replicas()
    assert len(before) == 2
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask_until_answered, place) for place in range(400)]
        while sum(answer.done() for answer in answers) < 40:
            time.sleep(0.005)
        os.kill(before[0], signal.SIGKILL)
        assert not all(answer.done() for answer in answers), "killed too late to matter"
        for answer in answers:
            answer.result()
    until = time.monotonic() + 300
    while len(set(service.replicas())) < 2 and time.monotonic() < until:
        time.sleep(0.5)
    after = service.replicas()
    assert len(after) == 2
    assert before[0] not in after

    # Told to stop while it is asked: what it took is answered, and no process stays.
    begun, ended = threading.Barrier(5), list[str]()

    def keep_asking(number: int) -> None:
        with httpx2.Client(timeout=60) as client:
            ask(client, service.url, [questions[number]])
            begun.wait(60)
            for turn in range(100_000):
                item = questions[(turn * 5 + number) % len(questions)]
                try:
                    (found,) = ask(client, service.url, [item])
                except httpx2.HTTPStatusError as error:
                    ended.append(str(error.response.status_code))
                    return
                except httpx2.TransportError as error:
                    ended.append(type(error).__name__)
                    return
                assert found == pytest.approx(offline[item], abs=1e-5)

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(keep_asking, number) for number in range(4)]
        begun.wait(60)
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        for one in clients:
            one.result()
    # Ray's proxy no longer knows the service, or is gone; no answer that was begun is left out.
    assert set(ended) <= {"404", "503", "ConnectError", "RemoteProtocolError"}, ended
    assert service.process.wait(120) == 0
    until = time.monotonic() + 30
    while (left := processes_of(service.process.pid)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not left
    written = service.log.read_text()
    assert '"event": "request"' in written
    assert "king" not in written
    assert "Traceback" not in written


@pytest.mark.long
@pytest.mark.timeout(600)
def test_replicas_that_cannot_start(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(folder), "--engine", "ray", "--replicas", "1", "--port", "0", "--device", "cpu"]
    said = subprocess.run(
        [sys.executable, "-m", "glotprompt", "serve", *words, "--model", str(tmp_path)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert said.returncode == 2
    last = said.stderr.splitlines()[-1]
    assert last.startswith("error: the replicas cannot start: ")
    assert last.endswith("say with --model where all machines find the backbone")
    assert "Traceback" not in said.stderr
