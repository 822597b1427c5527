"""What anybody would try first on a few target labels, without a language model: tf-idf, and the largest label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from glotprompt.data.readers.records import Example, labels_of
from glotprompt.errors import DataError
from glotprompt.inference.classifier import Input, fields_of

STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""scikit-learn's C, inverse strengths of the penalty, of which cross-validation chooses one."""
MOST_FOLDS = 5
CHARACTERS = (2, 5)
"""Lengths of the character n-grams, which reach over the edges of words."""

Labeller = Callable[[Sequence[Input]], list[str]]
"""From inputs to their labels."""


def fit_tfidf(examples: Sequence[Example]) -> Labeller:
    """Logistic regression on tf-idf of character n-grams. The penalty is chosen by cross-validation on the examples, in
    as many folds as the rarest label has examples, at most five; with a label of one example it is C = 1. Raises
    `DataError` for one label alone."""
    # A second to import, and few runs need it.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    labels = [str(example.label) for example in examples]
    if len(labels_of(examples)) < 2:
        raise DataError("all labelled examples have one label; give examples of at least two")
    # sublinear: a text is short, and what it repeats says little more.
    tfidf = TfidfVectorizer(analyzer="char", ngram_range=CHARACTERS, sublinear_tf=True)
    model: Any = make_pipeline(tfidf, LogisticRegression(max_iter=2000))
    folds = min(MOST_FOLDS, *Counter(labels).values())
    if folds > 1:
        grid = {"logisticregression__C": STRENGTHS}
        # Of equally good ones the first, which is the strongest penalty.
        model = GridSearchCV(model, grid, cv=folds)
    model.fit(np.array(_texts(examples), dtype=object), labels)
    return lambda inputs: [str(label) for label in model.predict(_texts(inputs))] if inputs else []


def majority(examples: Sequence[Example]) -> Labeller:
    """Always the most frequent label; of several the first in alphabetical order. Raises `DataError` without any."""
    counts = Counter(str(example.label) for example in examples)
    if not counts:
        raise DataError("there is no labelled example, so no label is the most frequent; give at least one")
    most = min(counts, key=lambda label: (-counts[label], label))
    return lambda inputs: [most] * len(inputs)


def _texts(inputs: Sequence[Input]) -> list[str]:
    """All fields of an input, one behind the other."""
    return ["\n".join(fields_of(item).values()) for item in inputs]
