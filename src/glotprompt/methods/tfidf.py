"""Character n-grams and logistic regression, without a language model: a baseline where there are target labels."""

from __future__ import annotations

from glotprompt import model
from glotprompt.method_registry import Look
from glotprompt.methods.method import Method

TFIDF = Method(
    name="tf-idf",
    citation="Cavnar and Trenkle 1994: character n-grams; Spärck Jones 1972: idf",
    look=Look(name="Character n-grams + logistic regression", colour="#6f7a1f", marker="1", place=1),
    stage2="logistic regression on tf-idf of character n-grams, meant for target labels",
    begin_tune=lambda backbone, parts, config: model.ModuleStack({}),
    reads_characters=True,
)
