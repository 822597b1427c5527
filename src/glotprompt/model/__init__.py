"""Tensors: the frozen encoder, the soft prompt, and the masked-word head. Knows no data set.

Shape letters used in signatures: batch seq prompt layer head dim hidden vocab label.
"""
