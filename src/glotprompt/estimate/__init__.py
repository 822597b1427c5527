"""Estimates of parameters, files, memory and time before training."""
