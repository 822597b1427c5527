"""Many languages behind one frozen model: `predictor` classifies mixed batches, `language` finds a text's language."""
