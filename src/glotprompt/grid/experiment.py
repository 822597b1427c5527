"""An experiment as data: a short TOML file, a scale, and what the command line changes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from glotprompt.config import AdaptConfig, Config, MethodName, TuneConfig
from glotprompt.data import MAX_LINES
from glotprompt.data.datasets.catalog import parse_reference
from glotprompt.data.datasets.dataset import Dataset
from glotprompt.data.languages import checked_code
from glotprompt.data.readers.layout import Input
from glotprompt.data.readers.lines import similar_file
from glotprompt.data.sources import Reading
from glotprompt.errors import ConfigError, nearest, toml_fault, visible
from glotprompt.grid.scales import ScaleName, scaled
from glotprompt.methods import METHODS

Draw = Literal["accuracy", "table1", "table2", "table3", "figure3", "figure4", "figure5", "figure6", "controls", "dev"]
TextShare = Annotated[float, Field(gt=0, le=1)]
Several = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""Files or references; one may stand alone."""
PromptOf = Literal["target", "another language"]
SHOTS = "{shots}"
"""In `train` and `dev`: the number of examples per class that `varies.shots` gives."""
_TABLES = {"adapt": AdaptConfig, "tune": TuneConfig}
_OF_TARGETS = ("tests", "texts", "pairs", "centre", "target_labels")
"""Tables whose keys are targets."""
READING_KEYS = tuple(one.name for one in fields(Reading) if one.name not in ("report", "data_dir", "revision", "input"))
_VARIED: dict[str, TypeAdapter[Any]] = {
    "text_share": TypeAdapter(TextShare),
    "prompt_of": TypeAdapter(PromptOf),
    "shots": TypeAdapter(Annotated[int, Field(ge=1)]),
    "source_texts": TypeAdapter(list[str]),
    "task": TypeAdapter(str),
    "model": TypeAdapter(str),
}
"""Settings outside `adapt` and `tune` that may be varied, with the type of their values."""


@dataclass(frozen=True)
class Target:
    """One language that is scored."""

    language: str
    dataset: Dataset | None
    """None: a file is scored."""
    tests: tuple[str, ...]
    """The labelled examples that are scored: references, or a file."""
    texts: str | None
    """Unlabelled text: a reference, or a file; None: there is none."""
    pairs: tuple[str, ...]
    """Translations: references and files."""
    centre: str | None
    """Text like the scored one that the experiment names: a reference, or a file."""
    labels: str | None
    """Labelled examples in the language that the experiment names: a reference, or a file."""

    @property
    def dataset_name(self) -> str | None:
        return None if self.dataset is None else self.dataset.name


class System(Config):
    """A method with settings of its own. Settings that are left out are the experiment's."""

    method: MethodName
    """The method of stage 2 (`glotprompt methods`)."""
    adapted_by: MethodName | None = None
    """The method of stage 1, if not that of `method`: embedding reads sentence vectors of any adapted backbone."""
    model: str | None = None
    """The backbone."""
    preset: str | None = None
    """Settings to start from, instead of the experiment's `preset`, `adapt` and `tune` (but for the number of labelled
    examples); "alignment" aligns on `pairs`."""
    seeds: tuple[int, ...] | None = None
    """Seeds of both stages."""
    centred: bool = False
    """embedding: sentence vectors are centred by the mean of unlabelled target text."""
    ridge: bool = False
    """embedding: sentence vectors are mapped to those of the source by a ridge map, fitted on `pairs`."""
    target_labels: int | None = Field(default=None, ge=1)
    """Stage 2 learns from so many labelled examples (or all, if there are fewer) of each label in the target language
    as well, sampled by seed from those of the experiment's `target_labels`."""
    self_train: bool = False
    """The classifier is self-trained on unlabelled target text, that of `centred`."""
    adapt: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Settings of stage 1, on top of the experiment's."""
    tune: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Settings of stage 2, on top of the experiment's."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name in ("centred", "ridge"):
            if getattr(self, name) and not METHODS[self.method].reads_vectors:
                raise ValueError(f"{name} is for sentence vectors (method embedding), not for {self.method}")
        if self.ridge and (self.self_train or self.target_labels is not None):
            raise ValueError("a ridge map goes with source labels alone: leave self_train and target_labels out")
        for table in _TABLES:
            for name in getattr(self, table):
                _check_setting(table, name)
        return self


class Experiment(Config):
    """An experiment: data, methods, settings and the settings that vary. Defaults are the paper's scale."""

    name: str = ""
    """The file's name without its ending."""
    title: str
    """One line for people."""
    draw: Draw = "accuracy"
    """How a report shows it: accuracies, or a table or figure of the paper."""
    dataset: str | None = None
    """A dataset of the catalog to score. A target may name another one (xnli:spa) or a file of its own."""
    source: str | None = None
    """Language of the labelled examples, ISO 639-3."""
    targets: tuple[str, ...] = ()
    """Languages that are scored, ISO 639-3: on the dataset's test split, or on the file in `tests`."""
    tests: dict[str, str] = Field(default_factory=dict[str, str])
    """Labelled examples to score, by target: a file, or a reference. Default: the dataset's test split."""
    texts: dict[str, str] = Field(default_factory=dict[str, str])
    """Unlabelled text of stage 1, by target: a file, or a reference. Default: the dataset's text."""
    pairs: dict[str, Several] = Field(default_factory=dict[str, Several])
    """Translations (source and target) to align on or to fit a ridge map on, by target: a table, or a reference such as
    bible_verses:glv; or a list of them, which may have different source languages."""
    centre: dict[str, str] = Field(default_factory=dict[str, str])
    """Unlabelled text that centres sentence vectors (`centred`), by target, one input a line, similar to the test
    examples. Default: the text of `texts` or `pairs`."""
    target_labels: dict[str, str] = Field(default_factory=dict[str, str])
    """Labelled examples that systems with `target_labels` sample from, by target: a file, or a reference. Default: the
    dataset's training split."""
    read: Reading = Field(default_factory=Reading)
    """How your own tables are read, all alike: names of the columns `text`, `label`, `premise`, `hypothesis`;
    `delimiter`, `quoting`, `columns` (of tables without a header line), `encoding`, `on_bad_row`, `normalise`."""
    reference: str | None = None
    """The method that the others are compared with in the report. Default: soft-prompt."""
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict[str, tuple[str, ...]])
    """Groups of targets in the report, such as seen and unseen."""
    methods: tuple[str, ...] = Field(min_length=1)
    """The methods that are compared (`glotprompt methods`), and names of `systems`."""
    systems: dict[str, System] = Field(default_factory=dict[str, System])
    """Methods with settings of their own, by names that you choose."""
    train: tuple[str, ...] = ()
    """Labelled source examples: files, or references NAME:LANGUAGE:SPLIT. {shots} in a name stands for the numbers of
    `varies.shots`, as of published few-shot samples: masakhanews:hau:{shots}-shot."""
    dev: str | None = None
    """Labelled source examples that choose the best epoch, also with {shots}. Default: a share of `train`."""
    source_texts: tuple[str, ...] = ()
    """Unlabelled source text of stage 1: files, or references."""
    task: str | None = None
    """Template and label words: a built-in task, one of `tasks` or a TOML file. Default: the dataset's task."""
    tasks: dict[str, dict[str, Any]] = Field(default_factory=dict[str, dict[str, Any]])
    """Tasks with a `template` and a `verbalizer`, by names that you choose."""
    folds: int | None = Field(default=None, ge=2)
    """Cross-fitting: the examples of `train` are scored in the target languages, each by a classifier that was trained
    on the other folds."""
    disjoint: bool = False
    """For a dataset with the same texts in all languages: every other example of `train` is left out, and the target's
    text and labels of stage 2 are of these alone."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds of both stages (section 4.2: 3 runs)."""
    adapt_seed: int | None = None
    """One seed of stage 1 for all seeds of stage 2; None: the seed of stage 2."""
    input: Input = "article"
    """The part of a news item that is classified."""
    text_share: TextShare = 1.0
    """Share of the target's unlabelled text that stage 1 trains on."""
    prompt_of: PromptOf = "target"
    """The language whose stage 1 a target uses; "another language": the next target in the list (a control)."""
    max_lines: int = Field(default=MAX_LINES, ge=1)
    """Largest number of lines of each unlabelled text; of a larger one a sample by the seed of stage 1 (`adapt
    --max-lines`)."""
    model: str = "FacebookAI/xlm-roberta-large"
    """The backbone."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the frozen body."""
    preset: str = "paper"
    """The preset to start from; its settings depend on the method."""
    adapt: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Settings of stage 1, on top of the preset's."""
    tune: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Settings of stage 2, on top of the preset's. Numbers of layers apply only to methods with prompts."""
    varies: dict[str, tuple[Any, ...]] = Field(default_factory=dict[str, tuple[Any, ...]])
    """Settings and their values, one setting at a time: "tune.top_k_layers", "text_share", "shots", "task",
    "source_texts" ..."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.draw != "table3":
            for key in ("source", "targets", "train"):
                if not getattr(self, key):
                    raise ValueError(f"{key} is missing")
            for word in self.targets:
                if self.dataset is None and ":" not in word and word not in self.tests:
                    raise ValueError(
                        f"target {word!r} has nothing to score; name a file for it in tests, or a dataset (targets are"
                        " ISO 639-3 codes)"
                    )
            for key in _OF_TARGETS:
                for word in getattr(self, key):
                    if word not in self.targets:
                        raise ValueError(f"{key}: {word!r} is none of the targets.{nearest(word, self.targets)}")
        for key in ("methods", "targets", "seeds"):
            _check_once(key, getattr(self, key))
        for name in self.methods:
            names = (*self.systems, *METHODS)
            if name not in names:
                raise ValueError(f"methods: {name!r} is neither a method nor one of systems.{nearest(name, names)}")
            _check_stages(name, self.system(name))
        if self.reference is not None and self.reference not in self.methods:
            raise ValueError(
                f"reference: {self.reference!r} is none of the methods.{nearest(self.reference, self.methods)}"
            )
        if "/" in self.name:
            raise ValueError(f"name {self.name!r} becomes the name of a file; leave out the /")
        for key, values in self.varies.items():
            _check_once(f"varies.{key}", values)
            table, _, name = key.partition(".")
            if name:
                _check_setting(table, name)
            else:
                self._check_varied(key, values)
        for table in _TABLES:
            for name in getattr(self, table):
                _check_setting(table, name)
        return self

    def labelled(self, varied: Mapping[str, Any]) -> tuple[tuple[str, ...], str | None]:
        """`train` and `dev` with the varied number of shots filled in."""
        shots = str(varied.get("shots", next(iter(self.varies.get("shots", ())), "")))
        dev = None if self.dev is None else self.dev.replace(SHOTS, shots)
        return tuple(word.replace(SHOTS, shots) for word in self.train), dev

    def system(self, name: str) -> System:
        """The system of a name."""
        return self.systems[name] if name in self.systems else System(method=name)

    def target(self, word: str) -> Target:
        """One of `targets`. Raises `ConfigError` for what is no language of a dataset."""
        own, texts = self.tests.get(word), self.texts.get(word)
        more = self.pairs.get(word, ()), self.centre.get(word, texts), self.target_labels.get(word)
        name = f"{word if ':' in word else f'{self.dataset}:{word}'}:test" if own is None else own
        reference = parse_reference(name)
        if own is None and reference is None:
            raise ConfigError(f"target {word!r} is no language of a dataset; expected its code, or NAME:LANGUAGE")
        if reference is None:
            return Target(checked_code(word), None, (name,), texts, *more)
        tests = (str(reference),)
        if self.folds is not None and own is None:
            trained = [parse_reference(one) for one in self.train]
            tests = tuple(f"{one.dataset.name}:{reference.language}:{one.split}" for one in trained if one is not None)
        elif texts is None:
            texts = f"{(reference.dataset.texts_from or reference.dataset).name}:{reference.language}:train"
        return Target(reference.language, reference.dataset, tests, texts, *more)

    def _check_varied(self, key: str, values: Sequence[Any]) -> None:
        if key not in _VARIED:
            names = (*_VARIED, "adapt.*", "tune.*")
            raise ValueError(f"varies: {key!r} cannot be varied; expected one of {', '.join(names)}")
        if key == "model" and self.draw != "table3":  # elsewhere every step is planned for the one backbone
            raise ValueError("varies: model can be varied in table3 alone; run the grid once for each --set model=...")
        if key == "shots" and not any(SHOTS in word for word in self.train):
            example = f"masakhanews:hau:{SHOTS}-shot"
            raise ValueError(f"varies: shots has no effect; write {SHOTS} into train, as in {example}")
        for value in values:
            try:
                _VARIED[key].validate_python(value, strict=True)
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise ValueError(f"varies.{key}: {value!r} is not possible: {reason}") from None


def _check_stages(name: str, system: System) -> None:
    """Refuse a stage 2 that cannot start from its stage 1."""
    if system.adapted_by is None:
        return
    before, method = METHODS[system.adapted_by], METHODS[system.method]
    if before.stage1 is None or before.takes:
        raise ValueError(f"{name}: {before.name} has no stage 1 of its own; leave adapted_by out, or name another")
    if not method.reads_vectors and method.start != before:
        raise ValueError(f"{name}: {method.name} starts from what {method.start.name} left; leave adapted_by out")


def _check_once(key: str, values: Sequence[Any]) -> None:
    repeated = next((value for index, value in enumerate(values) if value in values[:index]), None)
    if repeated is not None:
        raise ValueError(f"{key} has {repeated!r} more than once")


def _check_setting(table: str, name: str) -> None:
    if table not in _TABLES:
        raise ValueError(f"there is no {table}.{name}; settings are adapt.* or tune.*")
    names = _TABLES[table].model_fields
    if name not in names:
        raise ValueError(f"{table} has no setting {name!r}.{nearest(name, names)}")
    if name in ("method", "seed"):
        raise ValueError(f"{table}.{name} is given by {name}s")


def load(path: Path, scale: ScaleName = "paper", changes: Sequence[str] = ()) -> Experiment:
    """Load an experiment's file at a scale, with `key=value` changes. A name that is no path is looked for among the
    experiments of the package, which a wheel has. Raises a one-line `ConfigError` that names the file for anything
    wrong with it."""
    packaged = Path(str(files("glotprompt"))) / "experiments" / path.name
    if not path.exists() and path.parent == Path() and packaged.is_file():
        path = packaged
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; expected an experiment, such as experiments/fig4_few_shot.toml"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {toml_fault(error, path)}") from None
    written = values.get("targets")
    values = scaled({"name": visible(path.stem), **values}, scale)
    of_targets = {key: values.get(key) for key in _OF_TARGETS}
    for change in changes:
        _change(values, change)
    _drop_targets(values, written, of_targets)
    reading = values.get("read")
    for key in cast(Mapping[str, Any], reading) if isinstance(reading, Mapping) else ():
        if key not in READING_KEYS:
            raise ConfigError(f"{path}: read has no key {key!r}.{nearest(key, READING_KEYS)}")
    try:
        return _with_paths(Experiment(**values), path.absolute().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _with_paths(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with the full paths of its own files, which are relative to its folder."""
    shots = str(next(iter(experiment.varies.get("shots", ())), ""))

    def whole(word: str, key: str) -> str:
        sample = word.replace(SHOTS, shots)
        if parse_reference(sample) is not None:
            return word
        if not (folder / sample).exists():
            hint = similar_file(folder / sample)
            raise ConfigError(f"{key}: {folder / sample}: no such file.{hint} Paths are relative to the experiment.")
        return str(folder / word)

    def of_targets(key: str) -> dict[str, str]:
        return {target: whole(word, f"{key}.{target}") for target, word in getattr(experiment, key).items()}

    task = experiment.task
    return experiment.replace(
        train=tuple(whole(word, "train") for word in experiment.train),
        dev=None if experiment.dev is None else whole(experiment.dev, "dev"),
        source_texts=tuple(whole(word, "source_texts") for word in experiment.source_texts),
        **{key: of_targets(key) for key in ("tests", "texts", "centre", "target_labels")},
        pairs={one: tuple(whole(word, f"pairs.{one}") for word in words) for one, words in experiment.pairs.items()},
        task=str(folder / task) if task is not None and (folder / task).is_file() else task,
    )


def _drop_targets(values: dict[str, Any], written: Any, of_targets: Mapping[str, Any]) -> None:
    """Leave out what a file says of targets that a scale or the command line dropped: `written` are the file's targets,
    `of_targets` its tables. What the command line says of them stays, and is an error."""
    targets = values.get("targets")
    both = isinstance(written, list) and isinstance(targets, list)
    dropped = [word for word in written if word not in targets] if both else []
    for key, table in of_targets.items():
        if isinstance(table, dict) and isinstance(now := values[key], dict):
            values[key] = {word: one for word, one in now.items() if word not in dropped or one is not table.get(word)}


def _change(values: dict[str, Any], change: str) -> None:
    """Set `key=value` in an experiment's settings; a dotted key sets a key of a table, or of a table in it."""
    key, equals, text = change.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set {change!r} is not key=value, for example --set adapt.steps=300")
    *tables, name = key.split(".", 1 if key.startswith("varies.") else -1)  # whose keys are dotted themselves
    inside = values
    for table in tables:
        content = inside.get(table, {})
        if not isinstance(content, Mapping):
            raise ConfigError(f"--set {change}: {table} is no table")
        inside[table] = {**cast(Mapping[str, Any], content)}
        inside = inside[table]
    inside[name] = _value(text)


def _value(text: str) -> Any:
    """A TOML value (`300`, `5e-3`, `[0, 1]`, `"sna"`, `true`), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text.strip()
