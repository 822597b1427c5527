"""Training: the loop, checkpoints, learning rates and calibration; objectives are in `objectives`."""
