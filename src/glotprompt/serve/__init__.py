"""Many languages behind one frozen model: `predictor` classifies mixed batches, `registry` keeps classifiers
on disk."""
