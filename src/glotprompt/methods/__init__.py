"""The methods. All share one protocol (`protocol`), one loop (`training.loop`), the same batches, losses, selection and
scores; each family has a file with the differences.

Add a method:

1. Write one file here with a `Method`: what it is called, in print and in plots, citation, default rates, what each
   stage trains, and one or two functions. `begin_adapt` returns the `Module` that stage 1 trains (there are
   prompts, adapters, LoRA and weights; another kind is a file in `model/modules`, named in `model/modules/stack.py`,
   `model/__init__.pyi` and `storage/metadata.py`), `begin_tune` that of stage 2, by default the same. The
   file imports no torch (`model` loads on first use): descriptions are read without. `lora.py` is the shortest.
2. Add one line to the tuple below. Settings of its own go into `AdaptConfig` or `TuneConfig`, and their names into
   the method's `settings`, so that they are refused with other methods.
3. Add a variant to tests/variants.py (a test says so), and record its golden losses with `make record`. Then run
   tests/test_methods.py, test_methods_contract.py, test_costs.py and test_golden.py; add a row to
   docs/reference/methods.md.

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
