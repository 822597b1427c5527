"""The service under many requests at once, while classifiers change, and while it stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import glotprompt as gp
from glotprompt.inference.predictor import Predictor
from glotprompt.serve.api import make_app
from glotprompt.serve.registry import Registry
from glotprompt.serve.service import CHARACTERS_OF_A_TOKEN, Service, ServiceSettings

from .asking import PAIR, TEXT, Four, assert_as_offline, error_of, item, running
from .conftest import make_classifier


class Held:
    """Keeps the model from answering until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.let_go, self.busy, self.sizes = threading.Event(), threading.Event(), list[int]()
        answer = Predictor.answer

        def held(predictor: Predictor, queries: Any, **options: Any) -> Any:
            self.sizes.append(len(queries))
            self.busy.set()
            assert self.let_go.wait(20)
            return answer(predictor, queries, **options)

        monkeypatch.setattr(Predictor, "answer", held)

    async def until_busy(self) -> None:
        assert await asyncio.to_thread(self.busy.wait, 20)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.mark.slow
def test_requests_share_a_batch(
    registry: Registry, backbone: gp.Backbone, four: Four, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all languages and tasks: what waits while the model is busy is answered together, each as if alone."""
    held = Held(monkeypatch)
    contents = {"nya": TEXT, "yor": TEXT, "nya-nli": PAIR, "sna": TEXT}

    async def main() -> None:
        app = make_app(backbone, registry)
        async with running(app) as client:
            names = list(contents) * 3
            asked = [asyncio.create_task(client.post("/v1/predict", json={"items": [item("nya")]}))]
            await held.until_busy()
            asked += [
                asyncio.create_task(client.post("/v1/predict", json={"items": [item(name, contents[name])]}))
                for name in names
            ]
            tokens = sum(query.num_tokens for query in Predictor(backbone, four).read([*contents.items()])) * 3
            await _until(lambda: app.state.service.batcher.waiting_tokens == tokens)
            held.let_go.set()
            answers = await asyncio.gather(*asked)
            for name, answer in zip(["nya", *names], answers, strict=True):
                assert_as_offline(answer.json()["results"][0], four[name], contents.get(name, TEXT))
        assert held.sizes == [1, 12]

    asyncio.run(main())


def test_a_full_queue_says_when_to_come_again(
    registry: Registry, backbone: gp.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def main() -> None:
        app = make_app(backbone, registry, ServiceSettings(queue_tokens=40))
        async with running(app) as client:
            asked = [asyncio.create_task(client.post("/v1/predict", json={"items": [item("nya")]}))]
            await held.until_busy()
            # Larger than the whole queue, but nothing waits.
            asked.append(asyncio.create_task(client.post("/v1/predict", json={"items": [item("nya")] * 8})))
            await _until(lambda: app.state.service.batcher.waiting_tokens > 40)
            refused = await client.post("/v1/predict", json={"items": [item("yor")]})
            error_of(refused, 429, "queue_full")
            assert int(refused.headers["Retry-After"]) >= 1
            held.let_go.set()
            assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200, 200]
            assert (await client.post("/v1/predict", json={"items": [item("yor")]})).status_code == 200

    asyncio.run(main())


def test_what_waits_for_the_tokenizer_is_bounded_too(
    registry: Registry, backbone: gp.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, read = threading.Event(), Service._read

    def held(service: Service, items: Any) -> Any:
        assert let_go.wait(20)
        return read(service, items)

    monkeypatch.setattr(Service, "_read", held)

    async def main() -> None:
        tokens = 2 * len(TEXT) // CHARACTERS_OF_A_TOKEN  # as many characters as two items have
        async with running(make_app(backbone, registry, ServiceSettings(queue_tokens=tokens))) as client:
            # The first is larger than all that may wait, but nothing does.
            bodies = [{"items": [item(name)] * number} for name, number in (("nya", 3), ("yor", 1), ("sna", 1))]
            asked = [asyncio.create_task(client.post("/v1/predict", json=body)) for body in bodies]
            for refused in await asyncio.gather(*asked[1:]):
                error_of(refused, 429, "queue_full")
                assert int(refused.headers["Retry-After"]) >= 1
            let_go.set()
            assert (await asked[0]).status_code == 200
            assert (await client.post("/v1/predict", json=bodies[1])).status_code == 200

    asyncio.run(main())


def test_stopping_answers_what_was_taken(
    registry: Registry, backbone: gp.Backbone, four: Four, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)

    async def main() -> None:
        app = make_app(backbone, registry)
        async with running(app) as client:
            asked = [asyncio.create_task(client.post("/v1/predict", json={"items": [item("nya")]}))]
            await held.until_busy()
            asked += [
                asyncio.create_task(client.post("/v1/predict", json={"items": [item("yor")] * 2})) for _ in range(5)
            ]
            batcher = app.state.service.batcher
            await _until(lambda: batcher.waiting_tokens > 0 and len(batcher._waiting) == 10)
            stopping = asyncio.create_task(asyncio.to_thread(app.state.service.close))
            await _until(lambda: not batcher.is_open)
            late = await client.post("/v1/predict", json={"items": [item("nya")]})
            error_of(late, 503, "shutting_down")
            assert (await client.get("/healthz")).status_code == 503
            held.let_go.set()
            await stopping
            for answer in await asyncio.gather(*asked):
                assert answer.status_code == 200
                result = answer.json()["results"][-1]
                assert_as_offline(result, four[result["classifier"]])

    asyncio.run(main())


def test_stopping_refuses_while_the_queue_is_still_open(
    registry: Registry, backbone: gp.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokenizer stops first."""

    async def main() -> None:
        app = make_app(backbone, registry)
        async with running(app) as client:
            service, tokenizer_stopped, let_go = app.state.service, threading.Event(), threading.Event()
            close = service.batcher.close

            def closed_late() -> None:
                tokenizer_stopped.set()
                assert let_go.wait(20)
                close()

            monkeypatch.setattr(service.batcher, "close", closed_late)
            stopping = asyncio.create_task(asyncio.to_thread(service.close))
            assert await asyncio.to_thread(tokenizer_stopped.wait, 20)
            error_of(await client.post("/v1/predict", json={"items": [item("nya")]}), 503, "shutting_down")
            let_go.set()
            await stopping

    asyncio.run(main())


@pytest.mark.slow
def test_classifiers_change_under_requests(saved_four: Path, backbone: gp.Backbone, four: Four) -> None:
    """A client sees the old version or the new one, and nothing fails."""
    versions = [four["nya"], make_classifier(backbone, 77, prompt_length=6)]
    expected = [pytest.approx(one.predict([TEXT])[0].scores, abs=1e-5) for one in versions]
    done = threading.Event()

    def replace_it() -> None:
        turn = 0
        while not done.wait(0.005):
            turn = 1 - turn
            versions[turn].save(saved_four / "nya.safetensors")

    app = make_app(backbone, Registry(saved_four, backbone), ServiceSettings(poll_seconds=0.005))
    with TestClient(app) as client, ThreadPoolExecutor(4) as pool:
        writer = pool.submit(replace_it)

        def ask(_: int) -> int:
            answer = client.post("/v1/predict", json={"items": [item("nya"), item("nya")]})
            assert answer.status_code == 200, answer.text
            one, other = ({s["label"]: s["score"] for s in result["scores"]} for result in answer.json()["results"])
            return expected.index(one) if one == other else -1

        try:
            seen = set[int]()
            for start in range(0, 400, 20):
                seen |= set(pool.map(ask, range(start, start + 20)))
                if {0, 1} <= seen:
                    break
        finally:
            done.set()
        writer.result()
    assert {0, 1} <= seen


def test_one_file_that_is_written_into_harms_only_its_own_requests(
    saved_four: Path, backbone: gp.Backbone, four: Four, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    registry = Registry(saved_four, backbone, byte_budget=0)
    path = saved_four / "yor.safetensors"

    async def main() -> None:
        app = make_app(backbone, registry)
        async with running(app) as client:
            first = asyncio.create_task(client.post("/v1/predict", json={"items": [item("nya")]}))
            await held.until_busy()
            path.write_bytes(path.read_bytes()[:200])
            bad = asyncio.create_task(client.post("/v1/predict", json={"items": [item("nya"), item("yor")]}))
            good = asyncio.create_task(client.post("/v1/predict", json={"items": [item("sna")]}))
            await _until(lambda: len(app.state.service.batcher._waiting) == 3)
            held.let_go.set()
            assert (await first).status_code == 200
            assert_as_offline((await good).json()["results"][0], four["sna"])
            refused = await bad
            assert error_of(refused, 503, "classifier_unavailable")["item"] == 1
            assert "Retry-After" in refused.headers

    asyncio.run(main())
