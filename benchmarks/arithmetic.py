"""How much arithmetic a step is, and how fast this machine multiplies matrices of the model's own sizes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from backbones import Shape
from torch import Tensor
from torch.nn import functional as F

AT_ONCE = 20
"""Products between two looks at the clock on a GPU, which is handed each long before it computes it."""

SQUARE = {"cuda": 8192, "cpu": 1024}
"""Rows and columns of the matrices whose product stands for the best that the device can do."""

HEAD_ROWS = 16_384
"""Rows of the vocabulary matrix in the product that stands for the head: as rows are independent, a piece is enough."""


def body_weights(shape: Shape) -> int:
    """Weights of the body's linear layers: queries, keys, values, output projection, feed-forward."""
    return shape.layers * (4 * shape.hidden**2 + 2 * shape.hidden * shape.feed_forward)


def step_flop(shape: Shape, vocabulary: int, tokens: int, masked: int) -> int:
    """FLOP of a stage-1 step by the plain count: a multiplication and an addition for each weight, forward and for the
    gradient of the input, of the body at every token and of the vocabulary matrix at every masked one. Attention's own
    products, the head's transform and everything element by element are left out."""
    return 4 * body_weights(shape) * tokens + 4 * shape.hidden * vocabulary * masked


def done_flop(shape: Shape, vocabulary: int, tokens: int, masked: int) -> int:
    """The same, without what no gradient or loss needs: the last layer's queries, output projection and feed-forward
    at positions that are not masked, and the gradient of the first layer's input."""
    read_only_at_masked = 2 * shape.hidden**2 + 2 * shape.hidden * shape.feed_forward
    input_gradient = 2 * 3 * shape.hidden**2 * tokens
    return step_flop(shape, vocabulary, tokens, masked) - 4 * read_only_at_masked * (tokens - masked) - input_gradient


def attention_flop(shape: Shape, batch: int, length: int, prompt_length: int) -> int:
    """FLOP of attention's own products in a training step: two forward (scores, mixture), four backward."""
    return 6 * 2 * shape.layers * batch * length * (length + prompt_length) * shape.hidden


@dataclass
class _Product:
    """Time of one matrix product: [rows, inner] by [inner, outer]."""

    rows: int
    inner: int
    outer: int
    share: float
    """Of the step's arithmetic."""
    forward: bool
    """x @ W.T, as in the forward pass, or g @ W, as for the gradient of the input."""
    left: Tensor = field(init=False)
    weight: Tensor = field(init=False)

    def make(self, dtype: torch.dtype, device: torch.device) -> None:
        generator = torch.Generator(device).manual_seed(0)
        self.left = torch.randn(self.rows, self.inner, generator=generator, device=device).to(dtype)
        size = (self.outer, self.inner) if self.forward else (self.inner, self.outer)
        self.weight = torch.randn(size, generator=generator, device=device).to(dtype)

    def rate(self, repeats: int) -> float:
        """FLOP per second, best of `repeats`."""
        best, count = float("inf"), AT_ONCE if self.left.is_cuda else 1
        for _ in range(repeats):
            start = time.perf_counter()
            for _ in range(count):
                if self.forward:
                    F.linear(self.left, self.weight)
                else:
                    torch.matmul(self.left, self.weight)
            if self.left.is_cuda:
                torch.cuda.synchronize()
            best = min(best, (time.perf_counter() - start) / count)
        return 2 * self.rows * self.inner * self.outer / best


def square_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP per second of one large square product, best of several after a warm-up."""
    size = SQUARE[device.type]
    product = _Product(size, size, size, 1.0, True)
    product.make(dtype, device)
    product.rate(1)
    return product.rate(5)


class GemmRate:
    """What the machine's matrix products reach at the sizes of a stage-1 step, in one dtype: the harmonic mean over the
    sizes, weighted by their share of the arithmetic, each the best of several."""

    def __init__(
        self, shape: Shape, vocabulary: int, tokens: int, masked: int, dtype: torch.dtype, device: str = "cpu"
    ) -> None:
        whole = step_flop(shape, vocabulary, tokens, masked) / 2  # one direction
        hidden, wide = shape.hidden, shape.feed_forward
        square = shape.layers * 4 * 2 * hidden**2 * tokens / whole
        oblong = shape.layers * 2 * hidden * wide * tokens / whole
        head = 2 * hidden * vocabulary * masked / whole
        rows = min(vocabulary, HEAD_ROWS)
        sizes = [(tokens, hidden, hidden, square), (tokens, hidden, wide, oblong), (tokens, wide, hidden, oblong)]
        self.products = [_Product(*size, forward) for size in sizes for forward in (True, False)]
        self.products += [_Product(masked, hidden, rows, head, True), _Product(masked, rows, hidden, head, False)]
        for product in self.products:
            product.make(dtype, torch.device(device))
        self.best = [0.0] * len(self.products)
        self._round = list(self.best)

    def measure(self, repeats: int = 5) -> None:
        """Once over all sizes."""
        rates = [product.rate(repeats) for product in self.products]
        self._round = [max(pair) for pair in zip(self._round, rates, strict=True)]
        self.best = [max(pair) for pair in zip(self.best, rates, strict=True)]

    def end_round(self) -> float:
        """FLOP per second of the measurements since the last call."""
        rate = self._mean(self._round)
        self._round = [0.0] * len(self.products)
        return rate

    @property
    def best_rate(self) -> float:
        """FLOP per second, the best of the whole run at every size."""
        return self._mean(self.best)

    def _mean(self, rates: list[float]) -> float:
        shares = [product.share for product in self.products]
        return sum(shares) / sum(share / rate for share, rate in zip(shares, rates, strict=True))
