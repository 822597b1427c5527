"""One thread for the model and its queue: questions of many requests share a batch, and the queue is bounded.

A batch begins when enough tokens wait, or a few milliseconds after the oldest request came; while the model is busy
requests gather by themselves. Requests are taken in turn but cut anywhere, so that a large one is no single batch.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Costed(Protocol):
    @property
    def num_tokens(self) -> int:
        """Cost of the answer, in tokens that the model reads."""
        ...


Question = TypeVar("Question", bound=Costed)
Answer = TypeVar("Answer")


class QueueFull(Exception):
    """The queue has no room for these questions now."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"try again in {retry_after} s")
        self.retry_after = retry_after
        """Seconds until about half the queue will be answered."""


class Closed(Exception):
    """The queue accepts no more questions."""


class QuestionFailed(Exception):
    """One question of a request could not be answered; its reason is the cause."""

    def __init__(self, place: int) -> None:
        super().__init__(f"question {place}")
        self.place = place


@dataclass(frozen=True)
class Reply(Generic[Answer]):
    """The answers to a request, in the order of its questions."""

    answers: list[Answer]
    queue_seconds: float
    """Seconds until the model began with the first of them."""


@dataclass(frozen=True)
class Pass:
    """A batch of questions that were answered together."""

    questions: int
    tokens: int
    seconds: float


@dataclass(eq=False)
class _Request(Generic[Answer]):
    missing: int
    arrived: float
    future: Future[Reply[Answer]] = field(default_factory=Future[Reply[Answer]])
    answers: dict[int, Answer] = field(default_factory=dict[int, Answer])
    began: float | None = None

    def begin(self) -> bool:
        """Mark the request as begun; returns whether a client still waits for it."""
        if self.began is None:
            self.began = time.monotonic()
            return self.future.set_running_or_notify_cancel()
        return not self.future.done()

    def put(self, place: int, answer: Answer) -> None:
        self.answers[place] = answer
        if len(self.answers) == self.missing and not self.future.done():
            assert self.began is not None
            in_order = [self.answers[i] for i in range(self.missing)]
            self.future.set_result(Reply(in_order, self.began - self.arrived))

    def fail(self, place: int, error: Exception) -> None:
        if not self.future.done():
            failure = QuestionFailed(place)
            failure.__cause__ = error
            self.future.set_exception(failure)


@dataclass(frozen=True)
class _Waiting(Generic[Question, Answer]):
    question: Question
    place: int
    request: _Request[Answer]


class Batcher(Generic[Question, Answer]):
    """Hands questions to `answer` in batches, from one thread of its own. Threads may share it."""

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], Sequence[Answer]],
        *,
        batch_tokens: int,
        queue_tokens: int,
        wait_seconds: float,
        on_pass: Callable[[Pass], None] = lambda _: None,
    ) -> None:
        """`queue_tokens` bounds what waits; `on_pass` is told of every batch. Where `answer` raises, the batch is
        asked again one by one, so that one bad question fails its own request alone."""
        self._answer, self._on_pass = answer, on_pass
        self._batch_tokens, self._queue_tokens, self._wait_seconds = batch_tokens, queue_tokens, wait_seconds
        self._waiting: deque[_Waiting[Question, Answer]] = deque()
        self._tokens = 0
        self._tokens_per_second = 0.0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting_tokens(self) -> int:
        """Tokens that wait for the model."""
        return self._tokens

    @property
    def is_open(self) -> bool:
        """Whether it accepts questions, and its thread is alive."""
        return not self._closed and self._thread.is_alive()

    def check_room(self, tokens: int = 1) -> None:
        """Check whether `submit` would take so many tokens now. Raises `QueueFull` or `Closed`. A request larger than
        the whole queue is taken when nothing waits."""
        if self._closed:
            raise Closed
        if self._tokens and self._tokens + tokens > self._queue_tokens:
            seconds = self._tokens / 2 / self._tokens_per_second if self._tokens_per_second else 1.0
            raise QueueFull(min(60, max(1, math.ceil(seconds))))

    def submit(self, questions: Sequence[Question]) -> Future[Reply[Answer]]:
        """Submit all questions or none; the future raises `QuestionFailed`. `close` still answers pending ones."""
        tokens = sum(question.num_tokens for question in questions)
        request = _Request[Answer](len(questions), time.monotonic())
        with self._changed:
            self.check_room(tokens)
            self._waiting += [_Waiting(question, place, request) for place, question in enumerate(questions)]
            self._tokens += tokens
            self._changed.notify()
        return request.future

    def close(self) -> None:
        """Answer pending questions and accept no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            start = time.monotonic()
            self._settle(batch)
            seconds = time.monotonic() - start
            tokens = sum(one.question.num_tokens for one in batch)
            recent = tokens / max(seconds, 1e-6)
            before = self._tokens_per_second
            self._tokens_per_second = 0.8 * before + 0.2 * recent if before else recent
            self._on_pass(Pass(len(batch), tokens, seconds))

    def _next(self) -> list[_Waiting[Question, Answer]]:
        """The next batch; empty only when there will be no more."""
        batch: list[_Waiting[Question, Answer]] = []
        while not batch:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return []
                begin = self._waiting[0].request.arrived + self._wait_seconds
                while self._tokens < self._batch_tokens and not self._closed:
                    seconds = begin - time.monotonic()
                    if seconds <= 0:
                        break
                    self._changed.wait(seconds)
                requests = self._take()
            batch = [one for one in requests if one.request.begin()]
        return batch

    def _take(self) -> list[_Waiting[Question, Answer]]:
        batch = [self._waiting.popleft()]
        tokens = batch[0].question.num_tokens
        while self._waiting and tokens + self._waiting[0].question.num_tokens <= self._batch_tokens:
            batch.append(self._waiting.popleft())
            tokens += batch[-1].question.num_tokens
        self._tokens -= tokens
        return batch

    def _settle(self, batch: Sequence[_Waiting[Question, Answer]]) -> None:
        try:
            answers = self._answer([one.question for one in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].request.fail(batch[0].place, error)
                return
            for one in batch:
                self._settle([one])
            return
        for one, answer in zip(batch, answers, strict=True):
            one.request.put(one.place, answer)
