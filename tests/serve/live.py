"""The real application on a port of this machine, with a classifier of noise for each of six languages."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn

import glotprompt as gp
from glotprompt.data.samples import Samples
from glotprompt.records import AdaptReport, AlignmentScores, TuneReport
from glotprompt.serve.api import Access, make_app
from glotprompt.serve.registry import Registry
from glotprompt.serve.schemas import Limits
from glotprompt.serve.service import ServiceSettings

from .conftest import make_classifier

NEWS = gp.Task("news", "{mask} : {text}", {
    "business": "Business", "culture": "Culture", "health": "Health", "politics": "Politics", "sports": "Sports",
})  # fmt: skip
NLI = gp.Task("nli", "{premise} ? {mask} , {hypothesis}", {
    "entailment": "Yes", "neutral": "Maybe", "contradiction": "No",
})  # fmt: skip
LIMITS = Limits(items=8, characters=2000, body_bytes=8000)
TRAINED: dict[str, Any] = {
    "config": {}, "precision": "fp32", "trained_parameters": 0, "steps": 0, "best_step": 0, "seconds": 0.0, "tokens": 0,
    "losses": [], "evaluations": [], "peak_memory_bytes": 0,
}  # fmt: skip
SCORES = AlignmentScores(50.0, 0.5, 0.5, 1.0, 10)
ADAPTED = AdaptReport(
    **TRAINED, learning_rate=0.0, rates_tried=[], target_lines=4210, source_lines=4300, improved=True,
    held_out_before=SCORES, held_out_after=SCORES,
)  # fmt: skip
TUNED = TuneReport(
    **TRAINED, examples=2200, dev_examples=0, labels={}, dev_labels={}, dev_accuracy=73.4, language_prompt=ADAPTED
)
SAMPLES = {
    "hau": Samples("target", ("the market was open late by the water",)),
    "sna": Samples("target", ("a text of the file itself", "<b>not</b> bold & long " * 8)),
    "tir": Samples("source", ("the king was near the bridge",)),
    "quy": Samples("source", (("there was water", "the street was wet"),)),
}  # fmt: skip


@dataclass(frozen=True)
class Live:
    """A service that runs, and what its classifiers say offline."""

    url: str
    folder: Path
    classifiers: dict[str, gp.PromptClassifier]

    def expected(self, name: str, content: str | tuple[str, str]) -> gp.Prediction:
        (found,) = self.classifiers[name].predict([content])
        return found

    def labels(self, name: str, contents: Sequence[str | tuple[str, str]]) -> list[str]:
        return [self.expected(name, content).label for content in contents]


def make_classifiers(backbone: gp.Backbone) -> dict[str, gp.PromptClassifier]:
    """By name; what a card may lack is missing in one of them each."""
    made: dict[str, gp.PromptClassifier] = {}
    for seed, language in enumerate(("hau", "sna", "tir", "kbp", "xxx", "quy")):
        task = NLI if language == "quy" else NEWS
        noise = make_classifier(backbone, seed, task, language=language, max_length=128)
        made[f"{language}-{task.name}"] = replace(noise, report=TUNED, samples=SAMPLES.get(language))
    bare = TUNED.replace(language_prompt=None)
    made["tir-news"] = replace(made["tir-news"], report=bare, offsets=(0.5, 0.0, -0.5, 0.25, 0.0))
    return made


@contextmanager
def running(backbone: gp.Backbone, folder: Path, token: str | None = None) -> Generator[Live]:
    """Until the block ends."""
    classifiers = make_classifiers(backbone)
    for name, classifier in classifiers.items():
        classifier.save(folder / f"{name}.safetensors")
    (folder / "broken.safetensors").write_bytes(b"cut off")
    app = make_app(backbone, Registry(folder, backbone), ServiceSettings(LIMITS), Access(token))
    with on_a_port(app) as url:
        yield Live(url, folder, classifiers)


@contextmanager
def on_a_port(app: Any) -> Generator[str]:
    """The address of an application that runs until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def broken(route: Any) -> None:
    """Answers a browser's request with 500, in place of the service."""
    route.fulfill(status=500, json={"error": {"code": "internal", "message": "something broke", "item": None}})


def busy(route: Any) -> None:
    """The same with 429: in one second there may be room."""
    said = {"error": {"code": "queue_full", "message": "too many requests wait", "item": None}}
    route.fulfill(status=429, json=said, headers={"Retry-After": "1"})


def refused(route: Any) -> None:
    """The same with 401, as where the token has been changed."""
    route.fulfill(status=401, json={"error": {"code": "unauthorized", "message": "give the token", "item": None}})


def changing(route: Any) -> None:
    """The same with 503: a classifier's file is being written."""
    said = {"code": "classifier_unavailable", "message": "this classifier's file is being changed", "item": 0}
    route.fulfill(status=503, json={"error": said}, headers={"Retry-After": "2"})


def slow(route: Any) -> None:
    """Lets the service answer, a little later."""
    time.sleep(0.1)
    route.continue_()
