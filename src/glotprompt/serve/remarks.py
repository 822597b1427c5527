"""What a person should know of a text before its label is believed: characters the model cannot read, and a cut end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from transformers import PreTrainedTokenizerFast

from glotprompt.classifier import Input, fields_of
from glotprompt.serve.predictor import Query
from glotprompt.serve.served import Served
from glotprompt.train.characters import knows, unknown_characters

_REMEMBERED = 2**16
"""Characters; a text in an unknown script has a few dozen new ones."""


@dataclass(frozen=True)
class Remark:
    """Of one item and one classifier."""

    unknown: list[str]
    """Characters that the tokenizer does not know and the classifier's map does not rewrite to known ones, in the
    order in which they come."""
    truncated: bool
    """Whether the item has more tokens than the classifier reads."""


class Remarks:
    """Of one tokenizer. To be used from one thread."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._knows = lru_cache(maxsize=_REMEMBERED)(knows(tokenizer))

    def of(self, queries: Sequence[Query], item: Input) -> dict[Served, Remark]:
        """Remarks on an item, for every classifier that may read it."""
        text = "".join(fields_of(item).values())
        rewritings = {query.served.characters for query in queries}
        unknown = {rewriting: unknown_characters(text, self._knows, rewriting) for rewriting in rewritings}
        return {query.served: Remark(unknown[query.served.characters], query.cloze.truncated) for query in queries}
