# What methods are made of. `__init__.py` reads this file.

from .adapters import Adapter as Adapter
from .backbone import Backbone as Backbone
from .delta import Delta as Delta
from .deltas import Together as Together
from .lora import Lora as Lora
from .soft_prompt import SoftPrompt as SoftPrompt
from .weights import Weights as Weights
from .weights import is_head_transform as is_head_transform
