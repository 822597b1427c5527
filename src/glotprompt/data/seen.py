"""Digests of the texts that a classifier was trained on, in its file: `evaluate` says where such texts are scored."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterable

from glotprompt.data.readers.records import Example, text_key

MOST, BYTES = 1000, 4
"""Digests in a file (of more texts the smallest, which are a sample by content), and the bytes of one: 5 kB at most.
One text in some millions has a digest that it should not have."""


def seen_of(examples: Iterable[Example], seen: str = "") -> str:
    """The digests of the examples' texts, without their labels, and those of `seen`, as base64."""
    digests = {*map(_digest, examples)} | _digests(seen)
    return b64encode(b"".join(sorted(digests)[:MOST])).decode("ascii")


def num_seen(examples: Iterable[Example], seen: str) -> int:
    """How many of the examples have a text that a classifier was trained on, by its digests. Where these are a sample,
    an estimate: the share among the examples that would be in the sample, if they had been trained on."""
    known, ours = _digests(seen), [_digest(one) for one in examples]
    comparable = [one for one in ours if len(known) < MOST or one <= max(known)]
    found = sum(one in known for one in comparable)
    return round(found / len(comparable) * len(ours)) if found else 0


def _digests(seen: str) -> set[bytes]:
    content = b64decode(seen)
    return {content[start : start + BYTES] for start in range(0, len(content), BYTES)}


def _digest(example: Example) -> bytes:
    return hashlib.blake2b("\n".join(text_key(example)).encode(), digest_size=BYTES).digest()
