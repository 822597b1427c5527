"""Tensors: the frozen backbone, what methods add to it, and the heads. Knows no dataset.

Shape letters used in signatures: batch seq prompt layer head dim hidden vocab label.

What methods are made of stands in `__init__.pyi`, each imported on first use: a method is described without torch.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
