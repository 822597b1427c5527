"""What stage 2 reads and how (`Stage2`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from glotprompt.config import TuneConfig
from glotprompt.data.characters import CharacterMap
from glotprompt.data.languages import NOT_NAMED
from glotprompt.data.readers.records import (
    MOST_FOLDS,
    Example,
    content_hash,
    content_of_pairs,
    most_per_label,
    rows_by_text,
    shots_per_class,
    stratified_folds,
)
from glotprompt.errors import ConfigError, setting
from glotprompt.inference.classifier import Adapted
from glotprompt.methods import Method, method_of_tune, refuse_other_backbone
from glotprompt.model.backbone import Backbone
from glotprompt.spec import RunSpec, digests_of, tune_spec
from glotprompt.stages.stage1_objectives import SentencePairs
from glotprompt.task import Task
from glotprompt.training.objectives.cloze import Cloze
from glotprompt.training.objectives.embedding import (
    STRENGTHS,
)
from glotprompt.training.objectives.inputs import (
    group_weights,
    labelled_examples,
    refuse_unknown_labels,
    split_target,
)
from glotprompt.training.objectives.ngrams import STRENGTHS as NGRAM_STRENGTHS


@dataclass(frozen=True)
class Stage2:
    """A stage 2 that is ready to run: settings that fit together, and examples with labels that the task knows."""

    method: Method
    config: TuneConfig
    adapted: Adapted | None
    examples: Sequence[Example]
    """As they were given, from which `train` and, without dev examples, `dev` are drawn."""
    train: Sequence[Example]
    dev: Sequence[Example]
    has_own_dev: bool
    task: Task
    language: str
    target: Sequence[Example] = ()
    """Labelled examples of the target language as they were given, which are those of `target_train` and
    `target_dev`."""
    target_train: Sequence[Example] = ()
    target_dev: Sequence[Example] = ()
    strengths: Sequence[float] = STRENGTHS
    """C of logistic regression, of which the judged examples choose one."""
    folds: Sequence[Sequence[int]] = ()
    """Rows of `learned` that are judged in turn, each fold by a fit on the others (methods in closed form)."""
    is_target: bool = False
    """Whether `examples` are of the target language (methods that read characters)."""
    pairs: SentencePairs = ()
    """(source, target) sentences, by which vectors of the target are mapped to those of the source."""

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        adapted: Adapted | None,
        examples: Sequence[Example],
        task: Task,
        config: TuneConfig | None = None,
        dev: Sequence[Example] | None = None,
        *,
        target_examples: Sequence[Example] = (),
        parallel: SentencePairs = (),
        language: str = "",
    ) -> Stage2:
        """The arguments are those of `protocol.tune`, which says what is refused."""
        method, config = method_of_tune(config or TuneConfig(), adapted, backbone)
        if method.reads_words(config):
            backbone.require_lm_head("a template with label words (heads 'linear' and 'pooled' do without)")
        if adapted is not None:
            if language:
                raise ConfigError(f"stage 1 says that the language is {adapted.language}; leave language out")
            refuse_other_backbone(adapted, backbone)
        language = (language or NOT_NAMED) if adapted is None else adapted.language
        if parallel and (not method.reads_vectors or target_examples):
            raise ConfigError(
                "parallel text maps sentence vectors in stage 2, for method embedding without target labels; leave"
                f" {setting('parallel')} out, or align in stage 1"
            )
        if method.reads_characters:
            sets = (target_examples, None) if target_examples else (examples, dev)
            of_one = cls._of_characters(method, config, task, language, *sets)
            return replace(of_one, is_target=bool(target_examples))
        train, held = labelled_examples(examples, dev, task, config)
        of_target = split_target(target_examples, task, config)
        stage2 = cls(
            method, config, adapted, examples, train, held, bool(dev), task, language, target_examples, *of_target
        )
        if method.reads_vectors and target_examples:
            folds = [[len(train) + row for row in fold] for fold in _folds(target_examples, config, train)]
            judged = target_examples if folds else ()
            stage2 = replace(stage2, target_train=target_examples, target_dev=judged, folds=folds)
        return replace(stage2, pairs=parallel)

    @classmethod
    def _of_characters(
        cls,
        method: Method,
        config: TuneConfig,
        task: Task,
        language: str,
        examples: Sequence[Example],
        dev: Sequence[Example] | None,
    ) -> Stage2:
        """Without dev examples all examples are trained on, and judge the penalty in folds. Where there can be none,
        there are no dev examples."""
        refuse_unknown_labels([*examples, *(dev or ())], task)
        train = examples
        if config.most_per_label is not None:
            train = most_per_label(train, config.most_per_label, config.seed)
        if config.shots_per_class is not None:
            train = shots_per_class(train, config.shots_per_class, config.seed)
        folds = [] if dev else _folds(train, config)
        judging = dev or (train if folds else ())
        stage2 = cls(method, config, None, examples, train, judging, bool(dev), task, language)
        return replace(stage2, strengths=NGRAM_STRENGTHS, folds=folds)

    @property
    def learned(self) -> list[Example]:
        """The examples of both languages that it is trained on."""
        return [*self.train, *self.target_train]

    @property
    def judged(self) -> list[Example]:
        """The examples of both languages on which the best epoch is chosen."""
        return [*self.dev, *self.target_dev]

    @property
    def target_weight(self) -> float:
        """What an example of the target counts for, where one of the source counts 1."""
        return 1.0 if self.config.target_weight is None else self.config.target_weight

    def weights(self, *, judged: bool = False) -> list[float]:
        """What each of `learned`, or `judged`, weighs. In judging both languages weigh the same."""
        of_source, of_target = (self.dev, self.target_dev) if judged else (self.train, self.target_train)
        one, other = group_weights(len(of_source), len(of_target), None if judged else self.target_weight)
        return [one] * len(of_source) + [other] * len(of_target)

    def weighted(self, clozes: Sequence[Cloze], *, judged: bool = False) -> list[Cloze]:
        """`learned`, or `judged`, as the model reads them, with what each weighs."""
        weights = self.weights(judged=judged)
        return [replace(cloze, weight=weight) for cloze, weight in zip(clozes, weights, strict=True)]

    def gold(self, examples: Sequence[Example]) -> list[int]:
        """The index of each example's label."""
        return [self.task.labels.index(str(one.label)) for one in examples]

    @property
    def characters(self) -> CharacterMap | None:
        """What is rewritten in every text."""
        return None if self.adapted is None else self.adapted.characters

    def spec(self, backbone: Backbone) -> RunSpec:
        """It as a run, which builds on the values of stage 1."""
        contents = {"train": content_hash(self.examples)}
        if self.has_own_dev:
            contents["dev"] = content_hash(self.dev)
        if self.target:
            contents["target_labels"] = content_hash(self.target)
        if self.pairs:
            contents["pairs"] = content_of_pairs(self.pairs)
        builds_on = [] if self.adapted is None else digests_of(self.adapted)
        origin = backbone.fingerprint, backbone.asked_precision
        return tune_spec(
            self.config, self.task, contents, self.language, origin, builds_on=builds_on, characters=self.characters
        )


def _folds(examples: Sequence[Example], config: TuneConfig, beside: Sequence[Example] = ()) -> list[list[int]]:
    """Folds of a cross-validation, of which a fit on the other examples, and on those `beside`, knows two labels."""
    num = min(MOST_FOLDS, sum(map(len, rows_by_text(examples).values())))
    folds = stratified_folds(examples, num, config.seed) if num > 1 else []
    others = {one.label for one in beside}
    rest = [others | {one.label for row, one in enumerate(examples) if row not in fold} for fold in folds]
    return [fold for fold, labels in zip(folds, rest, strict=True) if len(labels) > 1]
