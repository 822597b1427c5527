"""Rivals without a language model."""

from __future__ import annotations

import pytest

import glotprompt as gp
from glotprompt.errors import DataError
from glotprompt.stages.rivals import fit_tfidf, majority
from glotprompt.training.objectives.scoring import report

from .toys import topics


def test_tfidf_learns_what_letters_tell() -> None:
    examples, test = topics(6), topics(12)[18:]
    found = report([str(one.label) for one in test], fit_tfidf(examples)(test))
    assert found.accuracy == 100
    assert fit_tfidf(examples)(["play field", "the king"]) == ["sports", "culture"]
    assert fit_tfidf(examples)([]) == []


def test_tfidf_of_one_example_a_label_and_of_one_label() -> None:
    assert fit_tfidf(topics(1))(["water day"]) == ["health"]
    with pytest.raises(DataError, match="all labelled examples have one label"):
        fit_tfidf(topics(1)[:1])


def test_tfidf_reads_both_texts_of_a_pair() -> None:
    pairs = [gp.Example.of(("the day", "king" if i % 2 else "water"), "yes" if i % 2 else "no") for i in range(8)]
    assert fit_tfidf(pairs)([("the day", "water"), ("the day", "king")]) == ["no", "yes"]


def test_majority() -> None:
    examples = [*topics(2), gp.Example.of("water", "sports")]
    assert majority(examples)(["a", "b"]) == ["sports", "sports"]
    assert majority(topics(2))(["a"]) == ["culture"], "the first of those that are equally frequent"
    with pytest.raises(DataError, match="no labelled example"):
        majority([])
