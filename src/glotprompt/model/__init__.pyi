# What methods are made of. `__init__.py` reads this file.

from .backbone import Backbone as Backbone
from .modules.adapters import Adapter as Adapter
from .modules.adapters import HoulsbyAdapter as HoulsbyAdapter
from .modules.input_prompt import InputPrompt as InputPrompt
from .modules.lora import Lora as Lora
from .modules.module import Module as Module
from .modules.soft_prompt import SoftPrompt as SoftPrompt
from .modules.stack import ModuleStack as ModuleStack
from .modules.weights import Weights as Weights
from .modules.weights import is_head_transform as is_head_transform
