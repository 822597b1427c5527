"""The tensor code: the frozen backbone, the modules that methods add to it, and the heads. Knows no dataset.

Shape letters used in signatures: batch seq prompt layer head dim hidden vocab label.

The parts of methods are listed in `__init__.pyi` and imported on first use, so that methods can be described without
torch.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
