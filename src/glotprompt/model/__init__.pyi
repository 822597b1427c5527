# What methods are made of. `__init__.py` reads this file.

from .adapters import Adapter as Adapter
from .backbone import Backbone as Backbone
from .lora import Lora as Lora
from .module import Module as Module
from .modules import ModuleStack as ModuleStack
from .soft_prompt import SoftPrompt as SoftPrompt
from .weights import Weights as Weights
from .weights import is_head_transform as is_head_transform
