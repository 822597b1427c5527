"""`glotprompt serve` as a process: what it refuses to start with, how it stops, and what a kill leaves."""

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
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2
import pytest

import glotprompt as gp
from glotprompt.cli import main

from .conftest import make_classifier

TEXTS = [f"the king {'water ' * (i % 5)}day {'field ' * (i % 3)}" for i in range(15)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """Three classifiers, and in the folder "tiny" the backbone they were made for."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(tiny_folder, folder / "tiny")
    backbone = gp.Backbone.load(folder / "tiny", precision="fp32", device="cpu")
    for seed, name in enumerate(("nya", "yor", "sna")):
        make_classifier(backbone, seed, language=name).save(folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    """From classifier and text to the scores offline."""
    backbone = gp.Backbone.load(folder / "tiny", precision="fp32", device="cpu")
    found: dict[tuple[str, str], dict[str, float]] = {}
    for name in ("nya", "yor", "sna"):
        classifier = gp.PromptClassifier.load(folder / f"{name}.safetensors", backbone)
        found |= {(name, text): one.scores for text, one in zip(TEXTS, classifier.predict(TEXTS), strict=True)}
    return found


# --- what it does not start with


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    capsys.readouterr()
    assert main(["serve", *map(str, words)]) == 2
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.slow
def test_what_it_does_not_start_with(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "nowhere does not exist" in refusal(capsys, tmp_path / "nowhere")
    assert f"no classifier in {tmp_path}; `glotprompt tune` makes one" in refusal(capsys, tmp_path)
    for token in ("two words\n", "sésame\n"):
        (tmp_path / "token").write_text(token, encoding="utf-8")
        assert "holds no token" in refusal(capsys, folder, "--token-file", tmp_path / "token")
    assert "no address of this machine" in refusal(capsys, folder, "--host", "not a host")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(capsys, folder, "--port", str(port))
    assert f"cannot listen on 127.0.0.1, port {port}" in said
    assert "give another --port" in said
    assert "say where it is with --model" not in refusal(capsys, folder, "--port", "0", "--model", str(tmp_path))


# --- a running one


class Running:
    """The program, and its address."""

    def __init__(self, folder: Path, port: int = 0, files: str = "unlimited") -> None:
        words = ["serve", str(folder), "--port", str(port), "--precision", "fp32", "--device", "cpu"]
        limited = ["sh", "-c", 'test "$0" = unlimited || ulimit -n "$0"; exec "$@"', files]
        self.process = subprocess.Popen(
            [*limited, sys.executable, "-m", "glotprompt", *words],
            stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.lines: list[str] = []
        self.ready = threading.Event()
        self.port = port
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self.ready.wait(600), "".join(self.lines)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"at http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                self.ready.set()
        self.ready.set()

    def end(self, how: signal.Signals) -> str:
        """Stop it and give all that it wrote."""
        self.process.send_signal(how)
        self.process.wait(300)
        self._reader.join(10)
        return "".join(self.lines)


@pytest.fixture
def start(folder: Path) -> Generator[Callable[..., Running]]:
    made: list[Running] = []

    def begin(port: int = 0, files: str = "unlimited") -> Running:
        made.append(Running(folder, port, files))
        return made[-1]

    yield begin
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        assert one.process.stderr is not None
        one._reader.join(10)
        one.process.stderr.close()


def ask(client: httpx2.Client, port: int, name: str, text: str) -> dict[str, float]:
    body = {"items": [{"classifier": name, "text": text}]}
    answer = client.post(f"http://127.0.0.1:{port}/v1/predict", json=body).raise_for_status()
    (result,) = answer.json()["results"]
    assert result["classifier"] == name
    return {score["label"]: score["score"] for score in result["scores"]}


@pytest.mark.long
def test_stopped_in_the_middle_of_requests_it_answers_them(
    start: Callable[..., Running], expected: dict[tuple[str, str], dict[str, float]]
) -> None:
    running = start()
    begun, ended = threading.Barrier(9), list[str]()

    def keep_asking(number: int) -> None:
        """Until the service no longer takes connections: what it took it must answer."""
        with httpx2.Client(timeout=60) as client:
            ask(client, running.port, "nya", TEXTS[number])
            begun.wait(300)
            for turn in range(10_000):
                name, text = ("nya", "yor", "sna")[turn % 3], TEXTS[(turn + number) % len(TEXTS)]
                try:
                    found = ask(client, running.port, name, text)
                except httpx2.TransportError as error:
                    ended.append(type(error).__name__)
                    return
                assert found == pytest.approx(expected[name, text], abs=1e-5)

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(keep_asking, number) for number in range(8)]
        begun.wait(300)
        time.sleep(0.3)
        written = running.end(signal.SIGTERM)
        for one in clients:
            one.result()
    # A connection that was idle is closed; no answer that was begun is left out.
    assert set(ended) <= {"ConnectError", "RemoteProtocolError", "ReadError"}, ended
    assert '"event": "request"' in written
    assert "king" not in written
    assert "Traceback" not in written


@pytest.mark.long
@pytest.mark.timeout(1500)  # a busy machine may take minutes to start it again
def test_clients_that_try_again_lose_nothing_to_a_kill(
    start: Callable[..., Running], expected: dict[tuple[str, str], dict[str, float]]
) -> None:
    first = start()
    port, again = first.port, list[int]()
    questions = [(name, text) for name in ("nya", "yor", "sna") for text in TEXTS] * 8

    def ask_until_answered(place: int) -> dict[str, float]:
        name, text = questions[place]
        for attempt in range(6000):
            try:
                with httpx2.Client(timeout=60) as client:
                    return ask(client, port, name, text)
            except httpx2.TransportError:
                again.append(attempt)
                time.sleep(0.1)
        raise AssertionError("never answered")

    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(ask_until_answered, place) for place in range(len(questions))]
        while sum(one.done() for one in answers) < len(questions) // 8:
            time.sleep(0.005)
        first.end(signal.SIGKILL)
        assert not all(one.done() for one in answers), "killed too late to matter"
        start(port)
        for (name, text), one in zip(questions, answers, strict=True):
            assert one.result() == pytest.approx(expected[name, text], abs=1e-5)
    assert again, "nobody met the dead service"


@pytest.mark.long
def test_hundreds_of_half_requests_and_few_files(
    start: Callable[..., Running], expected: dict[tuple[str, str], dict[str, float]]
) -> None:
    """Nobody is locked out, and foreign names are not answered."""
    running = start(files="256")
    body = (
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{"
    )
    for half in (b"GET /v1/clas", body):
        with ExitStack() as held:
            for _ in range(300):
                client = held.enter_context(socket.create_connection(("127.0.0.1", running.port)))
                with suppress(OSError):  # it may have been closed by now
                    client.sendall(half)
            for turn in range(5):
                with httpx2.Client(timeout=10) as client:
                    found = ask(client, running.port, "nya", TEXTS[turn])
                assert found == pytest.approx(expected["nya", TEXTS[turn]], abs=1e-5)
    for host, status in (("evil.example", 400), (f"localhost:{running.port}", 200), ("[::1]", 200)):
        answer = httpx2.get(f"http://127.0.0.1:{running.port}/v1/classifiers", headers={"Host": host}, timeout=10)
        assert answer.status_code == status
    assert "Traceback" not in running.end(signal.SIGTERM)
