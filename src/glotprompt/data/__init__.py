"""Data: datasets, readers, and checks of text. Independent of models, tokenizers and torch."""
