"""What a person should know of a text before its label is believed: characters the model cannot read, and a cut end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerFast

from glotprompt.classifier import Input, fields_of
from glotprompt.serve.predictor import Query
from glotprompt.serve.served import Served
from glotprompt.train.batches import plain
from glotprompt.train.characters import knows

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
        self._tokenizer = tokenizer
        self._knows = lru_cache(maxsize=_REMEMBERED)(knows(tokenizer))

    def of(self, queries: Sequence[Query], item: Input) -> dict[Served, Remark]:
        """Remarks on an item, for every classifier that may read it."""
        made: dict[tuple[Any, ...], Remark] = {}
        found: dict[Served, Remark] = {}
        for query in queries:
            served = query.served
            key = (served.characters, served.task.template, served.max_length, served.words is None)
            if key not in made:
                made[key] = Remark(self._unknown(served, item), self._truncated(query, item))
            found[served] = made[key]
        return found

    def _unknown(self, served: Served, item: Input) -> list[str]:
        text = "".join(fields_of(item).values())
        characters = (one for one in dict.fromkeys(text) if not one.isspace())
        return [one for one in characters if not all(map(self._knows, _as_read(served, one)))]

    def _truncated(self, query: Query, item: Input) -> bool:
        """What was cut nearly fills its classifier's length, so only texts that fill half of it are tokenised again."""
        served = query.served
        if query.num_tokens < served.max_length / 2:
            return False
        texts = {name: plain(_as_read(served, text), self._tokenizer) for name, text in fields_of(item).items()}
        if served.words is None:
            first, *second = (texts[name] for name in served.task.template.fields)
            ids = self._tokenizer(first, text_pair=second[0] if second else None, verbose=False)["input_ids"]
        else:
            rendered = served.task.template.render(texts, str(self._tokenizer.mask_token))
            ids = self._tokenizer(rendered, verbose=False)["input_ids"]
        return len(ids) > served.max_length


def _as_read(served: Served, text: str) -> str:
    return text if served.characters is None else served.characters.apply(text)
