"""Text in, records out. Nothing here knows a model, a tokenizer or torch."""
