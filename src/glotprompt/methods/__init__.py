"""The methods. All share one protocol (`protocol`), one loop (`training.loop`), the same batches, losses, selection and
scores; each family has a file with the differences.

To add a method: docs/extending.md.

From another package, of modules and settings that exist: name the method in your pyproject.toml, and every command
knows it. `register(METHOD)` does the same for one process.

    [project.entry-points."glotprompt.methods"]
    my-method = "my_package:METHOD"
"""

from glotprompt.method_registry import Look
from glotprompt.methods import embedding, fine_tuning, input_prompt, lora, mad_x, soft_prompt, tfidf
from glotprompt.methods.method import METHODS, Method, Parts, register
from glotprompt.methods.stages import (
    default_method,
    departures,
    for_language,
    method_of_adapt,
    method_of_tune,
    reads_source,
    refuse_other_backbone,
    switched_off,
    without_effect,
)

__all__ = (
    "METHODS",
    "Look",
    "Method",
    "Parts",
    "default_method",
    "departures",
    "for_language",
    "method_of_adapt",
    "method_of_tune",
    "reads_source",
    "refuse_other_backbone",
    "register",
    "switched_off",
    "without_effect",
)

for _method in (  # in the order of lists
    soft_prompt.SOFT_PROMPT,
    soft_prompt.PROMPT_TUNING,
    input_prompt.INPUT_PROMPT,
    fine_tuning.FINE_TUNING,
    fine_tuning.FINE_TUNING_MLM,
    mad_x.MAD_X,
    lora.LORA,
    soft_prompt.SOURCE_PROMPT,
    mad_x.SOFT_PROMPT_TASK_ADAPTER,
    embedding.EMBEDDING,
    tfidf.TFIDF,
):
    register(_method)
