"""glotprompt: teach a frozen multilingual language model a language it has never seen with a small soft prompt.

The public names stand in `__init__.pyi`. Each is imported on first use, so that `glotprompt --help` and the data room
never wait for torch.
"""

import os

from lazy_loader import attach_stub

# Read when torch is imported: threads sleep while they wait for each other. Where other programs keep the processors
# busy, threads that spin, as they do by default, make a training more than ten times slower (docs/facts.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
