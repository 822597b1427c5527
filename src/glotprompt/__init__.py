"""glotprompt: teach a frozen multilingual language model a language it has never seen with a small soft prompt.

The public names stand in `__init__.pyi`. Each is imported on first use, so that `glotprompt --help` and the data room
never wait for torch.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
