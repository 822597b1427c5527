"""The service under load: clients on loopback that ask for languages at random, against one request at a time and PEFT.

Everything is run in turn, in every round: the service with all clients at once (its dynamic batching); the same service
with one client, so one request at a time; and PEFT behind the same kind of server, a lock and `set_adapter` for every
request, which is how several languages are served with it. Times are those that the clients see. Every answer of the
product is checked against the prediction made offline with the classifier alone.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import torch
import uvicorn
from backbones import RandomModel
from peft import PrefixTuningConfig
from report import DTYPES, parser, positive, precision_of, range_text, show, spread, write
from sides import prefix_tuning
from stage2 import peft_label_scores
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from texts import find_data

from glotprompt.inference.classifier import PromptClassifier
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.tokens import SpecialIds
from glotprompt.serve.api import make_app
from glotprompt.serve.registry import Registry
from glotprompt.task import Task
from glotprompt.training.objectives.cloze import label_words
from glotprompt.training.objectives.inputs import encode

TASK = Task.load("news")
TOLERANCE = {"fp32": 1e-4, "bf16": 0.05}
"""Largest difference of a probability from the offline prediction; in bf16 other batches round otherwise."""
PROMPT_SCALE = 5.0
"""So large that languages differ in their answers, although the weights are random."""
WORDS = ("the", "people", "water", "market", "of", "music", "team", "doctor", "new", "and", "church", "minister")


Make = Callable[[argparse.Namespace, str], Any]
"""From options and the folder of classifiers to an ASGI application."""


@dataclass(frozen=True)
class Question:
    language: int
    text: str


@dataclass(frozen=True)
class Load:
    """What clients saw in one run."""

    seconds: float
    latencies: list[float]
    answers: list[dict[str, float]]

    def figures(self) -> dict[str, float]:
        cuts = statistics.quantiles(self.latencies, n=100, method="inclusive")
        return {
            "per_second": len(self.latencies) / self.seconds,
            "p50": cuts[49], "p95": cuts[94], "p99": cuts[98],
        }  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    options.precision = precision_of(options)
    questions = _questions(options)
    few = questions[: max(1, len(questions) // 4)]  # for the slow ways: rates and quantiles, not totals, are compared
    with tempfile.TemporaryDirectory() as folder:
        expected, apart = _save_and_predict(Path(folder), questions, options)
        with _server(_ours, options, folder) as ours, _server(_peft, options, folder) as peft:
            ways: dict[str, Callable[[], Load]] = {
                "ours": lambda: _load(ours, questions, options.clients),
                "ours, one request at a time": lambda: _load(ours, few, 1),
                "PEFT, switching": lambda: _load(peft, few, options.clients),
            }
            for way in ways.values():
                way()
            rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
            worst = 0.0
            for _ in range(options.rounds):
                for name, way in ways.items():
                    load = way()
                    rounds[name].append(load.figures())
                    if name.startswith("ours"):
                        worst = max(worst, _largest_difference(load.answers, questions, expected))
    if worst > TOLERANCE[options.precision]:
        raise SystemExit(f"an answer differs from the offline prediction by {worst:.2g}: something was mixed up")
    figures = _figures(rounds) | {
        "largest_difference": worst,
        "languages_apart": apart,
        "answers_checked": options.rounds * (len(questions) + len(few)),
    }
    _print(figures, options)
    write(options, "serving", figures)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    options = parser(__doc__ or "", length=128, rounds=3)
    options.add_argument("--languages", type=positive, default=18, help="each with a prompt of its own")
    options.add_argument("--clients", type=positive, default=16, help="that ask at once, each its next after an answer")
    options.add_argument("--requests", type=positive, default=320, help="of a round")
    return options.parse_args(arguments)


def _questions(options: argparse.Namespace) -> list[Question]:
    """Languages at random; lines of real text where a data folder is at hand, else words at random lengths."""
    generator = np.random.default_rng(7)
    languages = generator.integers(0, options.languages, options.requests).tolist()
    data = find_data(options.data_dir)
    if data is not None:
        lines = (data / "text" / "spa.txt").read_text(encoding="utf-8").split("\n")
        lines = [line for line in lines if line.strip()]
        picks = generator.choice(len(lines), options.requests, replace=len(lines) < options.requests)
        texts = [lines[i] for i in picks]
    else:
        lengths = np.maximum(3, generator.lognormal(3.2, 0.6, options.requests)).astype(int)
        texts = [" ".join(generator.choice(WORDS, length)) for length in lengths]
    return [Question(*one) for one in zip(languages, texts, strict=True)]


def _backbone(options: argparse.Namespace) -> Backbone:
    """The same weights in every process."""
    return RandomModel.of(options.shape, options.vocabulary).backbone(DTYPES[options.precision])


def _name(language: int) -> str:
    return f"language-{language:02d}"


def _save_and_predict(
    folder: Path, questions: Sequence[Question], options: argparse.Namespace
) -> tuple[dict[Question, dict[str, float]], float]:
    """Write the classifiers, and predict with each alone. Also how far the probabilities of one text lie apart between
    any two languages, at least: if that is little, answers that were mixed up would not show."""
    backbone = _backbone(options)
    shape = backbone.prompt_shape(options.prompt_length)
    scores: dict[Question, dict[str, float]] = {}
    same_text: list[list[float]] = []
    for language in range(options.languages):
        prompt = SoftPrompt.initialise(shape, PROMPT_SCALE, language)
        classifier = PromptClassifier(backbone, prompt, TASK, "und", options.length)
        classifier.save(folder / f"{_name(language)}.safetensors")
        same_text.append(list(classifier.predict([questions[0].text])[0].scores.values()))
        own = [question for question in questions if question.language == language]
        predictions = classifier.predict([question.text for question in own])
        scores |= {question: one.scores for question, one in zip(own, predictions, strict=True)}
    rows = np.array(same_text)
    distances = np.abs(rows[:, None] - rows[None]).max(axis=2)[~np.eye(len(rows), dtype=bool)]
    return scores, float(distances.min()) if len(rows) > 1 else 1.0


# --- servers, each in a process of its own


@contextmanager
def _server(make: Make, options: argparse.Namespace, folder: str) -> Generator[str]:
    """The address of an application that runs in another process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(make, options, folder, there), daemon=True)
    process.start()
    try:
        if not here.poll(300):
            raise SystemExit("a server did not start within five minutes")
        yield f"http://127.0.0.1:{here.recv()}/v1/predict"
    finally:
        process.terminate()
        process.join()


def _run(
    make: Callable[[argparse.Namespace, str], Any], options: argparse.Namespace, folder: str, to: Connection
) -> None:
    app = make(options, folder)
    # With the protocol said, asyncio turns Nagle's algorithm off, without which an answer may wait 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        to.send(listening.getsockname()[1])
        config = uvicorn.Config(app, log_config=None, access_log=False)
        uvicorn.Server(config).run(sockets=[listening])


def _ours(options: argparse.Namespace, folder: str) -> Any:
    backbone = _backbone(options)
    return make_app(backbone, Registry(folder, backbone))


def _peft(options: argparse.Namespace, folder: str) -> Any:
    """One adapter for each language; a request takes the model, switches, predicts. In the product's dtype."""
    random, dtype = RandomModel.of(options.shape, options.vocabulary), DTYPES[options.precision]
    model = prefix_tuning(random.model(dtype), options.prompt_length)
    settings = PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=options.prompt_length)
    names = ["default", *(_name(language) for language in range(1, options.languages))]
    for name in names[1:]:
        model.add_adapter(name, settings)
    model.to(dtype).eval()
    words, padding = label_words(TASK, random.tokenizer), SpecialIds.of(random.tokenizer).pad
    lock = threading.Lock()

    def predict(language: int, text: str) -> list[float]:
        with lock, torch.inference_mode():
            clozes = encode([{"text": text}], TASK, random.tokenizer, options.length)
            model.set_adapter(names[language])
            return peft_label_scores(model, clozes, words, padding)[0].softmax(dim=0).tolist()

    async def answer(request: Request) -> JSONResponse:
        (item,) = (await request.json())["items"]
        language = int(item["classifier"].rpartition("-")[2])
        scores = await run_in_threadpool(predict, language, item["text"])
        labels = [{"label": label, "score": score} for label, score in zip(TASK.labels, scores, strict=True)]
        return JSONResponse({"results": [{"classifier": item["classifier"], "scores": labels}]})

    return Starlette(routes=[Route("/v1/predict", answer, methods=["POST"])])


# --- clients


def _load(address: str, questions: Sequence[Question], clients: int) -> Load:
    """Every client asks, waits for the answer, and takes the next question that nobody has taken."""
    return asyncio.run(_ask_all(address, questions, clients))


async def _ask_all(address: str, questions: Sequence[Question], clients: int) -> Load:
    latencies, answers = [0.0] * len(questions), [dict[str, float]()] * len(questions)
    waiting = iter(range(len(questions)))
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)

    async def client(session: httpx2.AsyncClient) -> None:
        for place in waiting:
            question = questions[place]
            item = {"classifier": _name(question.language), "text": question.text}
            start = time.perf_counter()
            response = await session.post(address, json={"items": [item]})
            latencies[place] = time.perf_counter() - start
            (result,) = response.raise_for_status().json()["results"]
            if result["classifier"] != item["classifier"]:
                raise SystemExit(f"asked {item['classifier']}, answered by {result['classifier']}")
            answers[place] = {score["label"]: score["score"] for score in result["scores"]}

    async with httpx2.AsyncClient(timeout=120, limits=limits, trust_env=False) as session:
        start = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(clients)))
        return Load(time.perf_counter() - start, latencies, answers)


def _largest_difference(
    answers: Sequence[dict[str, float]], questions: Sequence[Question], expected: dict[Question, dict[str, float]]
) -> float:
    """Answers come in the order of the questions, of which a run may have asked the first few only."""
    return max(
        abs(answer[label] - score)
        for answer, question in zip(answers, questions, strict=False)
        for label, score in expected[question].items()
    )


# --- figures


def _figures(rounds: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    sides = {
        name: {key: spread([one[key] for one in loads]) for key in ("per_second", "p50", "p95", "p99")}
        for name, loads in rounds.items()
    }
    ratios = {
        name: spread([a["per_second"] / b["per_second"] for a, b in zip(rounds["ours"], loads, strict=True)])
        for name, loads in rounds.items()
        if name != "ours"
    }
    return {"sides": sides, "ratios": ratios}


def _print(figures: dict[str, Any], options: argparse.Namespace) -> None:
    rows = [
        [
            name, range_text(side["per_second"], ",.1f"),
            *(f"{1000 * side[key]['median']:,.0f}" for key in ("p50", "p95", "p99")),
            range_text(figures["ratios"][name], ".2f") if name in figures["ratios"] else "-",
        ]
        for name, side in figures["sides"].items()
    ]  # fmt: skip
    title = (
        f"Serving: shape {options.shape}, {options.vocabulary:,} words, {options.precision}, {options.clients} clients,"
        f" {options.languages} languages at random; {figures['answers_checked']:,} answers checked, largest difference"
        f" {figures['largest_difference']:.1e} (two languages: at least {figures['languages_apart']:.1e})"
    )
    show(title, ("way", "requests/s", "p50 ms", "p95 ms", "p99 ms", "ours: times as many"), rows)


if __name__ == "__main__":
    main(sys.argv[1:])
