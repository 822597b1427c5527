"""The routes of a workspace: a training from upload to served classifier, limits, and who may call them."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import glotprompt as gp
from glotprompt.cli import main, serve
from glotprompt.jobs.ways import BackboneOptions
from glotprompt.jobs.workbench import Workbench
from glotprompt.serve import api
from glotprompt.serve.api import Access, make_app
from glotprompt.serve.registry import Registry

from .asking import error_of
from .conftest import make_classifier

FAKE = (sys.executable, str(Path(__file__).parent.parent / "jobs" / "fake.py"))
TRAIN = b"text\tlabel\n" + b"".join(f"text {i}\t{('health', 'sports', 'culture')[i % 3]}\n".encode() for i in range(9))
BINARY = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def client(backbone: gp.Backbone, tmp_path: Path) -> Iterator[TestClient]:
    """Of a service whose workspace is `tmp_path`; what trains there is a fake."""
    with _serving(backbone, tmp_path, Access()) as client:
        yield client


@contextmanager
def _serving(backbone: gp.Backbone, folder: Path, access: Access) -> Generator[TestClient]:
    (folder / "classifiers").mkdir(exist_ok=True)
    registry = Registry(folder / "classifiers", backbone)
    bench = Workbench.of(folder, BackboneOptions("tiny", 3, True), registry.reload, FAKE)
    with bench.open(), TestClient(make_app(backbone, registry, access=access, bench=bench)) as client:
        yield client


def upload(client: TestClient, use: str, content: bytes, name: str = "mine.tsv") -> Any:
    answer = client.post(f"/v1/uploads?use={use}&name={name}", content=content, headers=BINARY)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(client: TestClient, number: int) -> Any:
    for _ in range(1000):
        found = client.get(f"/v1/jobs/{number}").json()
        if found["status"]["state"] not in ("waiting", "running"):
            return found
        time.sleep(0.01)
    raise AssertionError("the job did not end in 10 s")


def order(client: TestClient, **changes: Any) -> Any:
    body = {"way": "embedding", "language": "nya", "task": "topic", "uploads": [1], **changes}
    return client.post("/v1/jobs/train", json=body)


def test_from_an_upload_to_a_served_classifier(client: TestClient, backbone: gp.Backbone, tmp_path: Path) -> None:
    make_classifier(backbone, 1).save(tmp_path / "made.safetensors")
    assert client.get("/v1/classifiers").json()["trains"] is True
    assert upload(client, "train", TRAIN)["labels"] == {"health": 3, "sports": 3, "culture": 3}
    made = order(client)
    assert made.status_code == 200, made.text
    found = ended(client, made.json()["job"]["number"])
    assert found["status"]["state"] == "finished"
    (card,) = client.get("/v1/classifiers").json()["classifiers"]
    assert card["name"] == found["job"]["classifier"] == "nya-topic-1"
    assert card["measured"] == "not measured in Chichewa"
    assert client.get("/v1/jobs/1/log").text.startswith(found["status"]["started"][:10])

    # A label that measures, one that trains, and the next training reads it
    label = {"language": "nya", "task": "topic", "text": "the king", "label": "health"}
    assert client.post("/v1/labels", json={**label, "side": "test"}).json() == {"test": 1, "train": 0}
    error_of(client.post("/v1/labels", json={**label, "side": "train"}), 422, "cannot_be_used")
    client.post("/v1/labels", json={**label, "text": "water", "side": "train"})
    assert client.get("/v1/labels?language=nya&task=topic").json()["train"] == {"water": "health"}
    ended(client, client.post("/v1/jobs/evaluate", json={"classifier": "nya-topic-1"}).json()["job"]["number"])
    again = ended(client, client.post("/v1/jobs/again", json={"classifier": "nya-topic-1"}).json()["job"]["number"])
    assert again["results"]["evaluation"] == {"accuracy": 50.0}
    words = [word for step in again["job"]["steps"] for word in step["words"]]
    assert words[words.index("--target-labels") + 1] == "jobs/0003/labels.tsv"
    assert words[words.index("--against") + 1] == "classifiers/nya-topic-1.safetensors"
    state = client.get("/v1/workspace").json()
    assert [one["job"]["number"] for one in state["jobs"]] == [3, 2, 1]
    assert {path.name for path in tmp_path.iterdir()} == {
        "classifiers", "jobs", "labels", "uploads", "made.safetensors", ".lock",
    }  # fmt: skip


@pytest.mark.slow
def test_check_cancel_and_resume(client: TestClient, tmp_path: Path) -> None:
    upload(client, "target", b"one\ntwo\n")
    assert client.get("/v1/uploads/1/texts").json() == ["one", "two"]
    (tmp_path / "hold").touch()
    assert client.post("/v1/jobs/check", json={"upload": 1, "language": "nya"}).status_code == 200
    client.post("/v1/jobs/1/cancel", json={})
    assert ended(client, 1)["status"]["state"] == "cancelled"
    (tmp_path / "hold").unlink()
    client.post("/v1/jobs/1/resume", json={})
    found = ended(client, 1)
    assert found["status"]["state"] == "finished"  # status 3 is a verdict and no failure
    assert found["results"] == {"doctor": {"accuracy": 50.0}}
    client.post("/v1/uploads/1/remove", json={})
    error_of(client.get("/v1/uploads/1/texts"), 422, "cannot_be_used")


def test_refusals(client: TestClient) -> None:
    for kind in ("text/plain", "", "application/x-www-form-urlencoded"):  # what a page elsewhere may send unasked
        answer = client.post("/v1/uploads?use=target&name=x", content=b"a\n", headers={"Content-Type": kind})
        error_of(answer, 422, "invalid_request")
        for path in ("/v1/jobs/1/cancel", "/v1/jobs/train", "/v1/labels", "/v1/uploads/1/remove"):
            error_of(client.post(path, content=b"{}", headers={"Content-Type": kind}), 422, "invalid_request")
    assert "no upload 1" in error_of(order(client), 422, "cannot_be_used")["message"]
    for answer, said in (
        (order(client, minutes=-1), "minutes: Input should be greater than 0"),
        (order(client, minuets=3), "minuets: unknown; known are way, language, task, uploads, minutes"),
        (order(client, uploads=[1, "x"]), "uploads.1: Input should be a valid integer"),
        (client.post("/v1/jobs/1/cancel", json={"top_k": 1}), "top_k: unknown; known are none."),
        (client.post("/v1/uploads?use=mine&name=x", content=b"a\n", headers=BINARY), "use: Input should be 'target'"),
        (client.get("/v1/jobs/first"), "number: Input should be a valid integer"),
        (client.get("/v1/labels?language=lug"), "task: Field required"),
    ):
        found = error_of(answer, 422, "invalid_request")
        assert found["message"].startswith(said), found
        assert found["item"] is None
    error_of(client.get("/v1/jobs/7"), 404, "unknown_job")
    error_of(client.post("/v1/jobs/again", json={"classifier": "nya"}), 404, "unknown_classifier")
    error_of(client.post("/v1/jobs/evaluate", json={"classifier": "../nya"}), 404, "unknown_classifier")
    assert ["lug", "Luganda"] in client.get("/v1/languages").json()


@pytest.mark.slow
def test_uploads_are_larger_than_other_bodies_and_bounded(
    backbone: gp.Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "UPLOAD_BYTES", 2_000_000)
    with _serving(backbone, tmp_path, Access()) as client:
        assert upload(client, "target", b"a text\n" * 200_000)["rows"] == 200_000
        answer = client.post("/v1/uploads?use=target&name=x", content=b"a" * 2_000_001, headers=BINARY)
        error_of(answer, 413, "body_too_large")
        error_of(client.post("/v1/labels", content=b"a" * 1_000_001, headers=BINARY), 413, "body_too_large")


def test_a_token_is_asked_for_and_without_a_workspace_there_are_no_routes(
    backbone: gp.Backbone, tmp_path: Path
) -> None:
    with _serving(backbone, tmp_path, Access(token="sesame")) as client:
        error_of(client.get("/v1/workspace"), 401, "unauthorized")
        error_of(order(client), 401, "unauthorized")
        assert client.get("/v1/workspace", headers={"Authorization": "Bearer sesame"}).status_code == 200
    with TestClient(make_app(backbone, Registry(tmp_path / "classifiers", backbone))) as client:
        assert client.get("/v1/classifiers").json()["trains"] is False
        error_of(client.get("/v1/workspace"), 404, "not_found")


def test_who_may_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text("sesame\n", encoding="utf-8")
    folder, token = str(tmp_path / "work"), str(tmp_path / "token")
    for words, said in (
        ([], "nothing to serve"),
        (["--workspace", token], "is a file; give a folder"),
        (["--workspace", folder, "--host", "0.0.0.0"], "others could train on this machine"),
        (["--workspace", folder, "--host", "0.0.0.0", "--token-file", token], "others could train"),
        (["--workspace", folder, "--host", "0.0.0.0", "--allow-training"], "others could train"),
        (["--workspace", folder, "--allow-host", "mine.example"], "others could train"),
        (["--workspace", folder, "--allow-origin", "http://a.example"], "others could train"),
        (["--workspace", folder, "--allow-training"], "has no effect"),
        (["--allow-training", folder], "has no effect without --workspace"),
        (["--workspace", folder, "--engine", "ray"], "--workspace is for --engine uvicorn"),
    ):
        assert main(["serve", *words]) == 2
        assert said in capsys.readouterr().err
    assert not Path(folder).exists()


def test_the_backbone_is_that_of_the_workspace_not_of_what_it_chose(
    backbone: gp.Backbone, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`compare` may leave a classifier for another backbone, or for none."""
    asked: list[str] = []

    def opened(model: str, *machine: Any) -> gp.Backbone:
        asked.append(model)
        return backbone

    monkeypatch.setattr(serve, "open_backbone", opened)
    monkeypatch.setattr(serve, "log_to_stderr", lambda: None)
    monkeypatch.setattr(serve, "_run", lambda *served: None)
    (tmp_path / "classifiers").mkdir()
    make_classifier(backbone, 1).save(tmp_path / "classifiers" / "nya-topic-1.safetensors")
    words = ["serve", "--workspace", str(tmp_path), "--port", "0"]
    assert main(words) == 0
    assert main([*words, "--model", str(tiny_folder)]) == 0
    assert main(words) == 0
    assert asked == ["mini-sentence", str(tiny_folder), str(tiny_folder)]
