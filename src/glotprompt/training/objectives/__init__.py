"""Objectives: their inputs, batches, losses and scores."""
