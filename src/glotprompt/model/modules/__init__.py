"""Modules that methods add to the frozen backbone: soft prompts, adapters, LoRA, weights, heads."""
