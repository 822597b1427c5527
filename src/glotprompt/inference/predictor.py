"""Many classifiers behind one frozen backbone: every row of a batch has its own prompt, template and labels."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from glotprompt.errors import ArtifactError, ConfigError, nearest
from glotprompt.inference.classifier import Prediction, PromptClassifier
from glotprompt.inference.served import ClassifierSource, Decoded, Served
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.ngrams import NgramHead
from glotprompt.model.prefix import Positions, Prefix
from glotprompt.model.tokens import padded_width
from glotprompt.training.calibration import with_offsets
from glotprompt.training.objectives.cloze import Cloze, Words, encode_without_mask
from glotprompt.training.objectives.inputs import Input, encode, fields_of, ngrams_read
from glotprompt.training.objectives.scoring import label_states, log_probabilities

PASS_COST = 64
"""Fixed cost of a forward pass, in tokens: a second pass must save more padding than this."""

Item = tuple[str, Input]
"""The name of a classifier, and the input to classify."""

Scores = Float[NDArray[np.float64], " label"]


@dataclass(frozen=True)
class Query:
    """A tokenised item, bound to the version of its classifier at that time."""

    served: Served
    cloze: Cloze

    @property
    def num_tokens(self) -> int:
        """Cost: its tokens, with template and special tokens; next to nothing without a backbone."""
        return 1 if self.served.reads_characters else self.cloze.num_tokens


class NotFinite(ArtifactError):
    """A classifier gave NaN or infinity; its message is one line."""

    def __init__(self, name: str) -> None:
        super().__init__(f"classifier {name!r} gives NaN or infinity for this text; its file is damaged, tune it again")


class Predictor:
    """Classifies texts of any languages and tasks, mixed in any way; every answer is what the item's own classifier
    would give alone (to 1e-5 in fp32). Threads may share it."""

    def __init__(
        self,
        backbone: Backbone,
        classifiers: Mapping[str, PromptClassifier] | ClassifierSource,
        *,
        batch_tokens: int = 4096,
    ) -> None:
        """`classifiers` by name, or a `serve.registry.Registry`; `batch_tokens` bounds the padded tokens of one forward
        pass. Raises `ArtifactError` for a classifier of another backbone.

        Modules other than prompts (adapters, LoRA, fine-tuned weights) change the body for a whole batch. Such
        classifiers run one after the other, each on its own items, and nothing else may use the backbone meanwhile."""
        if batch_tokens < 1:
            raise ConfigError(f"batch_tokens is {batch_tokens}; give at least 1, such as 4096")
        self.backbone = backbone
        self.batch_tokens = batch_tokens
        self._classifiers = _InMemory(backbone, classifiers) if isinstance(classifiers, Mapping) else classifiers
        self.computing = threading.Lock()
        """Held while something runs on the backbone."""

    def predict(self, items: Sequence[Item], *, top_k: int | None = None) -> list[Prediction]:
        """Classify items such as ("nya", "a text") or ("nya-nli", ("a premise", "a hypothesis")), in their order.

        With `top_k` the scores hold that many labels, the most probable first. Raises `ConfigError` for an unknown
        classifier and for a text where a pair is wanted (or the reverse), `NotFinite` for what is no number."""
        return self.answer(self.read(items), top_k=top_k)

    def read(self, items: Sequence[Item]) -> list[Query]:
        """Tokenise items for `answer`; raises what `predict` raises. All of them see the same set of classifiers."""
        served = self._classifiers.snapshot()
        classifiers = [served[name] if name in served else _unknown(name, served) for name, _ in items]
        texts = [_texts_for(one, item) for one, (_, item) in zip(classifiers, items, strict=True)]
        clozes: dict[int, Cloze] = {}
        keys = [
            one if one.reads_characters else (one.task.template, one.max_length, one.num_reads, one.continuations)
            for one in classifiers
        ]
        for rows in grouped(keys):
            first = classifiers[rows[0]]
            contents = [tuple(texts[i].values()) for i in rows]
            each = dict(zip(contents, (texts[i] for i in rows), strict=True))
            fields, tokenizer = list(each.values()), self.backbone.tokenizer
            if first.reads_characters:
                encoded = ngrams_read(cast(NgramHead, first.decoded().head), fields, first.task)
            elif first.num_reads:
                encoded = encode(fields, first.task, tokenizer, first.max_length, first.words)
            else:
                encoded = encode_without_mask(fields, first.task, tokenizer, first.max_length)
            of_content = dict(zip(each, encoded, strict=True))  # one text for many classifiers is tokenised once
            clozes |= zip(rows, (of_content[content] for content in contents), strict=True)
        return [Query(one, clozes[i]) for i, one in enumerate(classifiers)]

    def answer(self, queries: Sequence[Query], *, top_k: int | None = None) -> list[Prediction]:
        """Classify queries, in their order; they may come from several calls of `read`."""
        if top_k is not None and top_k < 1:
            raise ConfigError(f"top_k is {top_k}; give at least 1, or leave it out for all labels")
        log_probs = self.log_probabilities(queries)
        return [_prediction(query.served, row, top_k) for query, row in zip(queries, log_probs, strict=True)]

    def log_probabilities(self, queries: Sequence[Query]) -> list[Scores]:
        """log P(label | item) without offsets, each in the order of its task's labels."""
        scores: dict[int, Scores] = {}
        mixing = [i for i, query in enumerate(queries) if query.served.mixes]
        alone = [i for i, query in enumerate(queries) if not query.served.mixes]
        for group in grouped([(queries[i].served.pooled_layer, queries[i].cloze.num_reads) for i in mixing]):
            alike = [mixing[index] for index in group]
            for indices in buckets([queries[i].num_tokens for i in alike], self.batch_tokens):
                rows = [alike[index] for index in indices]
                scores |= zip(rows, self._mixed([queries[i] for i in rows]), strict=True)
        for indices in grouped([queries[i].served for i in alone]):
            rows = [alone[index] for index in indices]
            scores |= zip(rows, self._alone([queries[i] for i in rows]), strict=True)
        return [scores[i] for i in range(len(queries))]

    def _mixed(self, queries: Sequence[Query]) -> list[Scores]:
        """One forward pass, each row behind its own prompt; all rows read the same number of states."""
        each = list(dict.fromkeys(query.served for query in queries))
        decoded = {served: served.decoded() for served in each}
        prompts = [cast(Tensor, decoded[served].prompt) for served in each]
        number_of = {served: number for number, served in enumerate(each)}
        rows = torch.tensor([number_of[query.served] for query in queries], device=self.backbone.device)
        positions: list[Positions] = [decoded[served].positions for served in each]
        with self.computing, torch.inference_mode():
            prefix = Prefix.per_row(prompts, rows, self.backbone.dtype, positions)
            clozes, pooled_layer = [query.cloze for query in queries], queries[0].served.pooled_layer
            hidden = label_states(self.backbone, clozes, prefix, pooled_layer)
            scores = self._label_scores([query.served for query in queries], decoded, hidden)
        return [_log_softmax(row) for row in scores]

    def _label_scores(
        self, served: Sequence[Served], decoded: Mapping[Served, Decoded], hidden: Float[Tensor, "read hidden"]
    ) -> list[Scores]:
        """Each row's scores of its own labels. The words of all rows are looked up at once, except words of several
        tokens, which need the whole vocabulary."""
        by_row: dict[int, Scores] = {}
        if len(hidden) > len(served):
            of_row = hidden.unflatten(0, (len(served), -1))
            for rows in grouped(served):
                words = cast(Words, served[rows[0]].words)
                scores = words.scores(self.backbone, of_row[rows].flatten(0, 1))
                by_row |= zip(rows, scores.double().cpu().numpy(), strict=True)
            return [by_row[row] for row in range(len(served))]
        words = {one: one.words for one in dict.fromkeys(served) if one.words is not None}
        if words:
            tokens = sorted({token for own in words.values() for token in own.token_ids.tolist()})
            logits = self.backbone.token_logits(hidden, torch.tensor(tokens, device=hidden.device)).cpu().numpy()
            columns = {one: np.searchsorted(tokens, own.token_ids.numpy()) for one, own in words.items()}
            for row, one in enumerate(served):
                if one in words:
                    by_row[row] = _averages(words[one]) @ logits[row, columns[one]]
        for rows in grouped([one if one.words is None else None for one in served]):
            head = decoded[served[rows[0]]].head
            if head is not None:
                by_row |= zip(rows, head.scores(self.backbone, hidden[rows]).double().cpu().numpy(), strict=True)
        return [by_row[row] for row in range(len(served))]

    def _alone(self, queries: Sequence[Query]) -> list[Scores]:
        """Rows of one classifier that changes the body itself."""
        served = queries[0].served
        decoded = served.decoded()
        assert decoded.body is not None
        head = cast(Any, decoded.head or served.words)
        clozes = [query.cloze for query in queries]
        rows = max(1, self.batch_tokens // max(query.num_tokens for query in queries))
        with self.computing, torch.no_grad(), decoded.body.attached(self.backbone) as prefix:
            return list(log_probabilities(self.backbone, clozes, prefix, head, rows))


class _InMemory:
    """Classifiers in memory; they never change."""

    def __init__(self, backbone: Backbone, classifiers: Mapping[str, PromptClassifier]) -> None:
        self._served: dict[str, Served] = {}
        for name, classifier in classifiers.items():
            decoded = Decoded.of(classifier, backbone)
            self._served[name] = Served.of(name, classifier.description(), backbone, lambda decoded=decoded: decoded)

    def snapshot(self) -> Mapping[str, Served]:
        return self._served


def _unknown(name: str, served: Mapping[str, Served]) -> Served:
    number = f"there are {len(served)}" if served else "there is none"
    raise ConfigError(f"no classifier {name!r}; {number}.{nearest(name, served)}")


def _texts_for(served: Served, item: Input) -> dict[str, str]:
    """An item's texts under the names of the template, rewritten as in training."""
    texts, fields = fields_of(item), served.task.template.fields
    if not set(fields) <= set(texts):
        raise ConfigError(f"classifier {served.name!r} reads {' and '.join(fields)}, the item has {', '.join(texts)}")
    apply = str if served.characters is None else served.characters.apply
    return {name: apply(texts[name]) for name in fields}


def _averages(words: Words) -> Float[NDArray[np.float64], "label word"]:
    return words.average.double().numpy()


def _log_softmax(scores: Scores) -> Scores:
    with np.errstate(invalid="ignore"):  # NaN is refused later, with the classifier's name
        shifted = scores - scores.max()
        return shifted - np.log(np.exp(shifted).sum())


def _prediction(served: Served, log_probs: Scores, top_k: int | None) -> Prediction:
    offsets = None if served.offsets is None else np.array(served.offsets)
    with np.errstate(invalid="ignore"):
        probabilities = with_offsets(log_probs[None], offsets)[0]
    if not np.isfinite(probabilities).all():
        raise NotFinite(served.name)
    labels = served.task.labels
    scores = dict(zip(labels, probabilities.tolist(), strict=True))
    if top_k is not None:
        scores = dict(sorted(scores.items(), key=lambda entry: -entry[1])[:top_k])
    return Prediction(labels[int(probabilities.argmax())], scores)


def buckets(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Indices in groups of similar length, the longest first, such that padded tokens and `PASS_COST` for each group
    come to the least. No group has more than `most_tokens` padded tokens, unless it is a single text."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    widths = [padded_width(lengths[i]) for i in order]
    # The best cut of the first n texts, for n where the width changes: no other cut saves padding.
    edges = [i for i, width in enumerate(widths) if i == 0 or width != widths[i - 1]] + [len(order)]
    best: dict[int, tuple[int, int]] = {0: (0, 0)}
    for number, end in enumerate(edges[1:], start=1):
        best[end] = min((best[start][0] + (end - start) * widths[start] + PASS_COST, start) for start in edges[:number])
    groups: list[list[int]] = []
    end = len(order)
    while end:
        start = best[end][1]
        rows = max(1, most_tokens // widths[start])
        groups += reversed([order[first : min(first + rows, end)] for first in range(start, end, rows)])
        end = start
    return groups[::-1]


def grouped(keys: Sequence[Hashable]) -> list[list[int]]:
    """Indices of equal keys together."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return list(groups.values())
