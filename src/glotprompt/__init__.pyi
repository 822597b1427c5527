# The promise: the public names and where each lives. `__init__.py` reads this file; what is not listed may move.

from .classifier import LanguageModule as LanguageModule
from .classifier import LanguagePrompt as LanguagePrompt
from .classifier import Prediction as Prediction
from .classifier import PromptClassifier as PromptClassifier
from .classifier import load_adapted as load_adapted
from .combination import combine as combine
from .config import PRESETS as PRESETS
from .config import AdaptConfig as AdaptConfig
from .config import RuntimeConfig as RuntimeConfig
from .config import TuneConfig as TuneConfig
from .data.catalog import dataset as dataset
from .data.characters import CharacterMap as CharacterMap
from .data.files import read_examples as read_examples
from .data.files import read_texts as read_texts
from .data.records import Example as Example
from .errors import UserError as UserError
from .methods import METHODS as METHODS
from .methods import for_language as for_language
from .model.encoder import Encoder as Encoder
from .report.significance import compare_predictions as compare_predictions
from .run import adapt as adapt
from .run import evaluate as evaluate
from .run import tune as tune
from .serve.predictor import Predictor as Predictor
from .templates import Task as Task
from .train.scoring import Report as Report
