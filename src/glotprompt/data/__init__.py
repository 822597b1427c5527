"""Data: datasets, readers, and checks of text. Independent of models, tokenizers and torch."""

MAX_LINES = 200_000
"""Lines of an unlabelled text that stage 1 reads, unless more are asked for."""
