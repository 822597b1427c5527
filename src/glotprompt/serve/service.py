"""The service: limits, classifiers, one thread that tokenises, one that runs the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache

from glotprompt.errors import ArtifactError, ConfigError, ModelError, nearest
from glotprompt.inference.classifier import Prediction
from glotprompt.inference.language import LanguageFinder, LanguageQuery, Loss
from glotprompt.inference.predictor import NotFinite, Predictor, Query
from glotprompt.inference.served import Served
from glotprompt.model.backbone import Backbone
from glotprompt.serve.batching import Batcher, Closed, QuestionFailed, QueueFull
from glotprompt.serve.observed import Metrics
from glotprompt.serve.registry import Registry
from glotprompt.serve.schemas import (
    AUTO,
    Candidate,
    Item,
    LabelScore,
    Limits,
    PredictRequest,
    PredictResponse,
    Refusal,
    Result,
)
from glotprompt.training.objectives.inputs import Input, fields_of
from glotprompt.training.objectives.unknown import knows, unknown_characters

CHARACTERS_OF_A_TOKEN = 4
"""About so many in the languages that tokenizers know best; in others fewer, and there the tokens decide."""

_REMEMBERED = 2**16
"""Characters; a text in an unknown script has a few dozen new ones."""


@dataclass(frozen=True)
class ServiceSettings:
    """Settings of a service; none of them changes a prediction."""

    limits: Limits = field(default_factory=Limits)
    queue_tokens: int = 65_536
    """Tokens that may wait for the model, over all requests; and `CHARACTERS_OF_A_TOKEN` times as many characters for
    the tokenizer."""
    wait_seconds: float = 0.002
    """Seconds that the first request of a batch waits for others."""
    poll_seconds: float | None = None
    """How often the disk is looked at for classifiers that came, changed or went; None: never."""


@dataclass(frozen=True)
class _Answer:
    query: Query
    prediction: Prediction
    candidates: tuple[Loss, ...] | None


@dataclass(frozen=True)
class Timed:
    """An answer with figures of its request."""

    response: PredictResponse
    tokens: int


@dataclass(frozen=True)
class Remark:
    """Unknown characters and truncation of one item under one classifier."""

    unknown: list[str]
    """Characters that the tokenizer does not know and the classifier's map does not rewrite to known ones, in the
    order in which they come."""
    truncated: bool
    """Whether the item has more tokens than the classifier's maximum."""


class Service:
    """The classifiers of a registry on one backbone, for one event loop."""

    def __init__(self, backbone: Backbone, registry: Registry, settings: ServiceSettings, metrics: Metrics) -> None:
        self.registry, self.settings = registry, settings
        self.finds_language = backbone.has_lm_head
        """Whether language "auto" is offered: it needs masked tokens."""
        self._predictor = Predictor(backbone, registry)
        self._finder = LanguageFinder(self._predictor)
        self._knows = lru_cache(maxsize=_REMEMBERED)(knows(backbone.tokenizer))
        self._metrics = metrics
        # Tokenizers are fast but not safe for several threads.
        self._reader = ThreadPoolExecutor(1, "tokenizer")
        self._unread = 0  # characters that wait for it; changed in the event loop alone
        self.batcher = Batcher[Query | LanguageQuery, _Answer](
            self._answer,
            batch_tokens=self._predictor.batch_tokens,
            queue_tokens=settings.queue_tokens,
            wait_seconds=settings.wait_seconds,
            on_pass=metrics.on_pass,
        )

    def close(self) -> None:
        """Answer pending requests and accept no more."""
        self._reader.shutdown()
        self.batcher.close()

    async def predict(self, request: PredictRequest) -> Timed:
        """Answer a request. Raises `Refusal`."""
        start = time.perf_counter()
        characters = self._checked_size(request)
        try:
            self.batcher.check_room()  # before any work goes into a request that cannot be taken
            questions, remarks = await self._read_in_turn(request.items, characters)
            reply = await asyncio.wrap_future(self.batcher.submit(questions))
        except QueueFull as full:
            raise Refusal(
                429,
                "queue_full",
                f"too many requests wait; try again in {full.retry_after} s",
                retry_after=full.retry_after,
            ) from None
        except Closed:
            raise Refusal(503, "shutting_down", "the service is stopping; try another", retry_after=1) from None
        except QuestionFailed as failure:
            if isinstance(failure.__cause__, NotFinite | ModelError):
                message = f"{failure.__cause__}; name another classifier"
                raise Refusal(422, "not_finite", message, failure.place) from None
            if not isinstance(failure.__cause__, ArtifactError):
                raise
            raise _unavailable(failure.place) from None
        results = [
            _result(answer, of_item, request.top_k) for answer, of_item in zip(reply.answers, remarks, strict=True)
        ]
        self._metrics.on_reply(len(results), reply.queue_seconds)
        seconds = time.perf_counter() - start
        tokens = sum(question.num_tokens for question in questions)
        return Timed(PredictResponse(results=results, seconds=seconds, queue_seconds=reply.queue_seconds), tokens)

    async def _read_in_turn(
        self, items: Sequence[Item], characters: int
    ) -> tuple[list[Query | LanguageQuery], list[dict[Served, Remark]]]:
        """`_read` in the tokenizer's thread. Raises `QueueFull` where too much waits for it; what is larger than that
        alone is taken when nothing waits. Raises `Closed` after `close`."""
        if self._unread and self._unread + characters > CHARACTERS_OF_A_TOKEN * self.settings.queue_tokens:
            raise QueueFull(1)  # a guess: the tokenizer is rarely what is slow
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._reader, self._read, items)
        except RuntimeError:  # the thread has ended
            raise Closed from None
        self._unread += characters
        try:
            return await reading
        finally:
            self._unread -= characters

    def _checked_size(self, request: PredictRequest) -> int:
        """Number of characters of a request. Raises `Refusal` where it is too large."""
        limits = self.settings.limits
        if len(request.items) > limits.items:
            raise Refusal(
                413, "too_many_items", f"{len(request.items)} items; send at most {limits.items} in one request"
            )
        count = 0
        for place, item in enumerate(request.items):
            count += sum(map(len, item.texts))
            if count > limits.characters:
                raise Refusal(
                    413,
                    "too_many_characters",
                    f"more than {limits.characters:,} characters in one request; send fewer or shorter texts",
                    place,
                )
        return count

    def _read(self, items: Sequence[Item]) -> tuple[list[Query | LanguageQuery], list[dict[Served, Remark]]]:
        """Tokenise items: questions for the model, and remarks on each item by classifier."""
        served = self.registry.snapshot()
        names_by_key: dict[tuple[str | None, str | None, str | None, tuple[str, ...]], list[str]] = {}
        for place, item in enumerate(items):
            key = (item.classifier, item.language, item.task, item.fields)
            if key not in names_by_key:
                names_by_key[key] = self._names(item, place, served)
        questions: list[Query | LanguageQuery] = []
        remarks: list[dict[Served, Remark]] = []
        try:
            with self.registry.tokenizing:
                for item in items:
                    names = names_by_key[(item.classifier, item.language, item.task, item.fields)]
                    texts = item.texts[0] if len(item.texts) == 1 else (item.texts[0], item.texts[1])
                    if item.language == AUTO:
                        question = self._finder.read(texts, names)
                        queries = question.queries
                    else:
                        queries = self._predictor.read([(names[0], texts)])
                        (question,) = queries
                    questions.append(question)
                    remarks.append(self._remarks(queries, texts))
        except ConfigError as error:  # a classifier that went in this moment, or one with no room for a text
            raise Refusal(422, "cannot_be_read", str(error), len(questions)) from None
        except ArtifactError:  # what reads characters needs its file already here
            raise _unavailable(len(questions)) from None
        return questions, remarks

    def _remarks(self, queries: Sequence[Query], item: Input) -> dict[Served, Remark]:
        """Remarks on an item by classifier."""
        text = "".join(fields_of(item).values())
        rewritings = {query.served.characters for query in queries}
        unknown = {rewriting: unknown_characters(text, self._knows, rewriting) for rewriting in rewritings}
        remarks = {query.served: Remark(unknown[query.served.characters], query.cloze.truncated) for query in queries}
        # No tokenizer reads what a classifier reads as characters.
        return {one: Remark([], False) if one.reads_characters else remark for one, remark in remarks.items()}

    def _names(self, item: Item, place: int, served: Mapping[str, Served]) -> list[str]:
        """The classifier of an item, or the candidates where its language is to be detected."""
        if item.language == AUTO:
            assert item.task is not None
            if not self.finds_language:
                message = "the language of a text cannot be detected: the backbone has no LM head; name a language"
                raise Refusal(422, "cannot_be_read", message, place)
            names = self._candidates(item.task, place, served)
        elif item.classifier is not None:
            names = [item.classifier]
            if item.classifier not in served:
                hint = nearest(item.classifier, served) or " GET /v1/classifiers lists them."
                raise Refusal(404, "unknown_classifier", f"no classifier {item.classifier!r}.{hint}", place)
        else:
            assert item.language is not None and item.task is not None  # noqa: PT018
            try:
                names = [self.registry.find(item.language, item.task)]
            except ConfigError as error:
                raise Refusal(404, "unknown_classifier", str(error), place) from None
        for name in names:
            fields = served[name].task.template.fields if name in served else item.fields
            if sorted(fields) != sorted(item.fields):
                message = f"classifier {name!r} reads {' and '.join(fields)}, not {' and '.join(item.fields)}"
                raise Refusal(422, "wrong_fields", message, place)
        return names

    def _candidates(self, task: str, place: int, served: Mapping[str, Served]) -> list[str]:
        of_task = [name for name, one in served.items() if one.task.name == task]
        prompts = [name for name in of_task if served[name].mixes]
        if not prompts:
            why = "none of its classifiers has a prompt; name a language." if of_task else "no classifier does it."
            raise Refusal(
                404,
                "unknown_classifier",
                f"the language of a text for task {task!r} cannot be detected: {why}"
                f"{'' if of_task else nearest(task, {one.task.name for one in served.values()})}",
                place,
            )
        most = self.settings.limits.candidates
        if len(prompts) > most:
            raise Refusal(
                422,
                "too_many_candidates",
                f"task {task!r} has {len(prompts):,} classifiers, more than the {most} that are compared; name a"
                " language",
                place,
            )
        return prompts

    def _answer(self, questions: Sequence[Query | LanguageQuery]) -> list[_Answer]:
        """Answer questions in the model's thread: first language detection, then all predictions together."""
        queries: list[Query] = []
        candidates: list[tuple[Loss, ...] | None] = []
        for question in questions:
            if isinstance(question, Query):
                queries.append(question)
                candidates.append(None)
                continue
            losses = self._finder.losses(question)
            order = sorted(range(len(losses)), key=lambda place, losses=losses: losses[place].loss)
            queries.append(question.queries[order[0]])
            candidates.append(tuple(losses[place] for place in order))
        predictions = self._predictor.answer(queries)
        return [_Answer(*one) for one in zip(queries, predictions, candidates, strict=True)]


def _unavailable(place: int) -> Refusal:
    """The refusal of an item whose classifier is not in memory, and whose file is not what it was."""
    # The next look at the disk finds a new version of its file, or none.
    message = "this classifier's file is being changed; try again in a moment"
    return Refusal(503, "classifier_unavailable", message, place, retry_after=2)


def _result(answer: _Answer, remarks: Mapping[Served, Remark], top_k: int | None) -> Result:
    served, prediction = answer.query.served, answer.prediction
    ranked = sorted(prediction.scores.items(), key=lambda entry: -entry[1])[:top_k]
    candidates = None
    if answer.candidates is not None:
        candidates = [
            Candidate(language=one.served.language, classifier=one.served.name, loss=one.loss)
            for one in answer.candidates
        ]
    return Result(
        classifier=served.name,
        language=served.language,
        label=prediction.label,
        scores=[LabelScore(label=label, score=score) for label, score in ranked],
        unknown=remarks[served].unknown,
        truncated=remarks[served].truncated,
        candidates=candidates,
    )
