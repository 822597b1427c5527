"""The protocol: adapt (stage 1), tune (stage 2), evaluate. The differences between methods are in `methods`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig
from glotprompt.data.characters import CharacterMap
from glotprompt.data.decontamination import EvaluationText
from glotprompt.data.readers.records import Labelled, examples_from
from glotprompt.data.samples import Samples
from glotprompt.errors import ConfigError, DataError, setting
from glotprompt.inference.classifier import Adapted, LanguageModule, LanguagePrompt, Part, PromptClassifier
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.module import Module
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.records import EvaluationReport
from glotprompt.spec import digest_of
from glotprompt.stages.initial import Initial
from glotprompt.stages.stage1 import Stage1, count_unknown, train_part
from glotprompt.stages.stage1_objectives import SentencePairs
from glotprompt.stages.stage2 import train_stage2
from glotprompt.stages.stage2_data import Stage2
from glotprompt.task import Task
from glotprompt.training.objectives.inputs import Input
from glotprompt.training.objectives.scoring import report

# ---------------------------------------------------------------------------------------------------------------
# Stage 1


def adapt(
    backbone: Backbone,
    target: Sequence[str] = (),
    source: Sequence[str] = (),
    language: str = "",
    config: AdaptConfig | None = None,
    runtime: RuntimeConfig | None = None,
    characters: CharacterMap | None = None,
    initial: Initial | None = None,
    *,
    parallel: SentencePairs | None = None,
    held_out: EvaluationText = (),
    source_adapter: Module | None = None,
) -> Adapted:
    """Learn one language from unlabelled text (section 3.1) or from translations, by the config's method.

    `target` and `source` are lines of text; a share of the target's is held out, on which the MLM loss is
    measured before and after and the best step chosen.
    `parallel` are (source, target) pairs instead: the objective is then alignment, for which settings that the config
    leaves open are those of the preset alignment, and held-out pairs choose the step and give the figures.
    `language` is the target's ISO 639-3 code. `characters` rewrites both texts and, saved in the result, all texts that
    are later used with it. `initial` is a saved prompt to start from, or several with weights. `held_out` are test
    texts: lines equal to one of them, or that share a 13-word sequence with one, are removed. `source_adapter`, for
    mad-x, is a ready adapter of the source language (`formats.adapter_hub`), for which nothing is trained. Raises
    `DataError` when there is too little text.
    """
    stage1 = Stage1.of(
        backbone, target, source, language, config, characters, initial,
        parallel=parallel, held_out=held_out, source_adapter=source_adapter,
    )  # fmt: skip
    return run_stage1(backbone, stage1, runtime)


def run_stage1(backbone: Backbone, stage1: Stage1, runtime: RuntimeConfig | None = None) -> Adapted:
    """Run stage 1 on prepared data (`adapt`)."""
    runtime = runtime or RuntimeConfig()
    unknown = count_unknown(backbone, stage1.texts_read(), runtime)
    specs = stage1.specs(backbone)
    trained = {part: train_part(backbone, stage1, part, spec, runtime) for part, spec in specs.items()}
    own = trained["language"]
    about = own.report.replace(unknown=unknown)
    if stage1.decontamination is not None:
        about = about.replace(decontamination=stage1.decontamination)
    if stage1.start is not None:
        about = about.replace(initial=stage1.start.ingredients)
    if "source" in trained:
        about = about.replace(source_training=trained["source"].report)
    samples = None if runtime.no_samples else Samples.of_lines(_not_trained_on(stage1, own.held_out))
    prompt, method = own.module, stage1.method.name
    if isinstance(prompt, SoftPrompt):
        (tensors,) = Part.of(prompt).tensors.values()
        return LanguagePrompt(
            tensors, stage1.language, backbone.reference, prompt.positions, about, method, stage1.characters, samples
        )
    parts = {name: Part.of(part.module) for name, part in trained.items()}
    if stage1.source_adapter is not None:
        parts = {"source": stage1.source_adapter, **parts}
        about = about.replace(source_adapter=digest_of(stage1.source_adapter))
    return LanguageModule(method, parts, stage1.language, backbone.reference, about, stage1.characters, samples)


def _not_trained_on(stage1: Stage1, held_out: Sequence[str]) -> list[str]:
    """Held-out target text in its original form, without character maps."""
    lines = stage1.texts_read().get("target")
    if lines is None:
        return list(stage1.given)
    # Text that is not read stands first.
    unseen, given = set(held_out), stage1.given[len(stage1.given) - len(lines) :]
    return [original for original, line in zip(given, lines, strict=True) if line in unseen]


# ---------------------------------------------------------------------------------------------------------------
# Stage 2


def tune(
    backbone: Backbone,
    adapted: Adapted | None,
    examples: Labelled,
    task: Task,
    config: TuneConfig | None = None,
    runtime: RuntimeConfig | None = None,
    dev: Labelled | None = None,
    *,
    target_examples: Labelled = (),
    parallel: SentencePairs = (),
    language: str = "",
) -> PromptClassifier:
    """Learn a task from labelled source-language examples, starting from the result of `adapt` (section 3.2).

    Examples are a list of `Example`, tuples (text, label) or dicts, a `datasets.Dataset` or a pandas DataFrame.
    The method is that of stage 1; without one (None), prompt tuning from noise or, by the config, fine-tuning. The best
    epoch is chosen by accuracy (then loss) on `dev`, or on a held-out share of the examples. Examples of several source
    languages are one list; each weighs the same. `target_examples` are a few labelled examples of the target language,
    which weigh as `TuneConfig.target_weight` says: of each label that has five or more a fifth is held out, and the
    best epoch is chosen by the mean of both languages' accuracies. (tf-idf learns from them alone, if there are any.)
    `parallel` are (source, target) pairs, for method embedding: a ridge map from target vectors to source vectors
    becomes part of the head, which then reads the target alone (of use where the backbone does not know the language:
    docs/does_it_help.md). It is fitted for classifiers of source labels: `ConfigError` with `target_examples`, which
    would be read unmapped. `language`: the ISO 639-3 code of a classifier without stage 1. `DataError`: labels that the
    task lacks; `ConfigError`: settings that do not fit.
    """
    fields = task.template.fields
    stage2 = Stage2.of(
        backbone,
        adapted,
        examples_from(examples, fields),
        task,
        config,
        None if dev is None else examples_from(dev, fields),
        target_examples=examples_from(target_examples, fields),
        parallel=parallel,
        language=language,
    )
    if dev is not None and stage2.is_target:
        raise ConfigError(f"{stage2.method.name} judges by folds of the target labels; leave {setting('dev')} out")
    return train_stage2(backbone, stage2, runtime)


# ---------------------------------------------------------------------------------------------------------------
# Zero-shot


def evaluate(
    classifier: PromptClassifier,
    examples: Labelled,
    *,
    labels: Sequence[str] | None = None,
    label_prior: Mapping[str, float] | None = None,
    prior_text: Sequence[Input] | None = None,
    batch_size: int = 32,
) -> EvaluationReport:
    """Score a classifier on examples of any language (in any form that `tune` takes); figures in per cent.

    `labels` restricts the predictions (a target may have fewer labels than the source). With `prior_text`, unlabelled
    texts other than the examples, one offset per label is fitted first so that the predictions meet `label_prior`
    (None: uniform over those of `labels` that the classifier has learned)."""
    if label_prior is not None and prior_text is None:
        raise ConfigError("label_prior needs prior_text, unlabelled texts other than the examples, to fit offsets on")
    if prior_text is not None:
        prior = dict(label_prior or classifier.uniform_prior(labels))
        classifier = classifier.with_label_prior(prior_text, prior, batch_size)
    scored = examples_from(examples, classifier.task.template.fields)
    for example in scored:
        if example.label is None:
            raise DataError(
                f"example {example.id or dict(example.fields)} has no label; evaluate needs them, predict does not"
            )
        if example.label not in classifier.task.labels:
            labels_text = ", ".join(classifier.task.labels)
            raise DataError(f"an example has the label {example.label!r}; the classifier has {labels_text}")
    predictions = classifier.predict(scored, labels=labels, batch_size=batch_size)
    return report([str(example.label) for example in scored], [prediction.label for prediction in predictions])
