"""Saved files: atomic writes, tensors with their metadata, and the checks of that metadata."""
