"""Digests of the texts that a classifier was trained on, in its file: `evaluate` says where such texts are scored."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterable

from glotprompt.data.readers.records import Example, text_key

MOST, BYTES = 1000, 4
"""Digests in a file (of more texts the smallest, which are a sample by content), and the bytes of one: 5 kB at most.
One text in some millions has a digest that it should not have."""


def seen_of(examples: Iterable[Example]) -> str:
    """The digests of the examples' texts, without their labels, as base64."""
    return b64encode(b"".join(sorted(set(map(_digest, examples)))[:MOST])).decode("ascii")


def num_seen(examples: Iterable[Example], seen: str) -> int:
    """How many of the examples have a text with one of these digests: of a training on more than `MOST` texts those
    that are in its sample."""
    digests = b64decode(seen)
    known = {digests[start : start + BYTES] for start in range(0, len(digests), BYTES)}
    return sum(_digest(one) in known for one in examples)


def _digest(example: Example) -> bytes:
    return hashlib.blake2b("\n".join(text_key(example)).encode(), digest_size=BYTES).digest()
