"""Training and scoring: batches as a pure function of (records, seed, step), the loop, checkpoints, scores."""
