"""A guard against adaptation that hurts, without target labels: tune from several starts, keep the classifier that
reads unlabelled target text best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from glotprompt.classifier import Adapted, Input, LanguagePrompt, PromptClassifier
from glotprompt.config import RuntimeConfig, TuneConfig
from glotprompt.data.records import Example
from glotprompt.errors import ConfigError, DataError
from glotprompt.methods import METHODS
from glotprompt.model.encoder import Encoder
from glotprompt.run import tune
from glotprompt.templates import Task
from glotprompt.train.criteria import Criterion, scores

UNADAPTED = "unadapted"


def tune_selected(
    encoder: Encoder,
    starts: Sequence[Adapted],
    examples: Sequence[Example],
    task: Task,
    texts: Sequence[Input],
    config: TuneConfig | None = None,
    runtime: RuntimeConfig | None = None,
    dev: Sequence[Example] | None = None,
    labels: Sequence[str] | None = None,
    criterion: Criterion = "mutual-information",
) -> PromptClassifier:
    """Stage 2 from every one of `starts` and from no adaptation, with one config; of these classifiers the best by
    `criterion` on `texts`, unlabelled target texts that are not to be scored later. `labels` are those that the target
    has (None: all of the task's). How often such a choice was right: docs/log.md.

    The choice and every candidate's score stand in the classifier's facts under "selection". At a tie the unadapted one
    is kept. Raises `ConfigError` when there is nothing to choose from.
    """
    if not starts:
        raise ConfigError("there is nothing to choose from; give a language prompt beside the texts to choose on")
    if not texts:
        raise DataError("choosing needs unlabelled target texts; give some")
    config, allowed = config or TuneConfig(), task.indices(labels)
    candidates: dict[str, PromptClassifier] = {}
    for start in (None, *starts):
        name = UNADAPTED if start is None else f"{start.language} {start.method}"
        number = sum(known == name or known.startswith(f"{name} #") for known in candidates)
        name = f"{name} #{number + 1}" if number else name
        candidates[name] = tune(encoder, start, examples, task, _config_for(start, starts, config), runtime, dev)
    found = {name: classifier.log_probabilities(texts) for name, classifier in candidates.items()}
    judged = scores(criterion, found, allowed)
    # The first, unadapted, at a tie; a run that went astray never.
    chosen = max(judged, key=lambda name: -math.inf if math.isnan(judged[name]) else judged[name])
    selection: Mapping[str, object] = {
        "criterion": criterion, "labels": None if labels is None else list(labels), "num_texts": len(texts),
        "scores": judged, "chosen": chosen,
        "dev_accuracy": {name: classifier.facts["dev_accuracy"] for name, classifier in candidates.items()},
    }  # fmt: skip
    classifier = candidates[chosen]
    return replace(classifier, facts={**classifier.facts, "selection": selection})


def _config_for(start: Adapted | None, starts: Sequence[Adapted], config: TuneConfig) -> TuneConfig:
    """Without adaptation, the same training from the bare model: prompts from noise, or its own weights."""
    if start is not None:
        return config
    name = config.method or starts[0].method
    unadapted = METHODS[name].unadapted
    if unadapted is None:
        raise ConfigError(f"{name} has no unadapted rival of its kind; choosing is for prompts and fine-tuning-mlm")
    first = starts[0]
    length = first.prompt_length if isinstance(first, LanguagePrompt) else config.prompt_length
    return config.replace(method=unadapted, prompt_length=length)
