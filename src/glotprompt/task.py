"""The task as a cloze: a template turns an input into text with one mask, a verbalizer maps each label to
words of the vocabulary, and P(y|x) = P(<mask> = v(y)) (section 3.2, equation 1). No torch, no tokenizer.
"""

from __future__ import annotations

import json
import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from glotprompt.config import identity_of
from glotprompt.errors import ConfigError, counted, nearest, toml_fault, visible

MASK_FIELD = "mask"
TEXT_FIELDS = ("text", "premise", "hypothesis")


@dataclass(frozen=True)
class Template:
    """Text with `{mask}` once and either `{text}` or both `{premise}` and `{hypothesis}`, each once."""

    pattern: str

    def __post_init__(self) -> None:
        try:
            parsed = [part for part in string.Formatter().parse(self.pattern) if part[1] is not None]
        except ValueError as error:
            raise ConfigError(f"template {self.pattern!r}: {error}; write {{{{ for a literal brace") from None
        names = [str(name) for _, name, _, _ in parsed]
        for name, (_, _, spec, conversion) in zip(names, parsed, strict=True):
            if name != MASK_FIELD and name not in TEXT_FIELDS:
                choices = ("mask", *TEXT_FIELDS)
                raise ConfigError(
                    f"template {self.pattern!r} has an unknown field {{{name}}};"
                    f" known are {', '.join(choices)}.{nearest(name, choices)}"
                )
            if spec or conversion:
                raise ConfigError(f"template {self.pattern!r}: write a plain {{{name}}}, without : or ! after its name")
        if names.count(MASK_FIELD) != 1:
            raise ConfigError(f"template {self.pattern!r} has {names.count(MASK_FIELD)} {{mask}}; it needs exactly one")
        fields = [name for name in names if name != MASK_FIELD]
        if sorted(fields) not in (["text"], ["hypothesis", "premise"]):
            raise ConfigError(
                f"template {self.pattern!r} has the fields {fields}; it needs {{text}}, or {{premise}} and"
                " {hypothesis}, each once"
            )

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Names of the text fields, in template order."""
        parsed = string.Formatter().parse(self.pattern)
        return tuple(name for _, name, _, _ in parsed if name is not None and name != MASK_FIELD)

    def render(self, fields: Mapping[str, str], mask: str) -> str:
        """The pattern filled with the fields and the mask token.

        >>> Template("{mask} : {text}").render({"text": "a late goal"}, "<mask>")
        '<mask> : a late goal'
        """
        return self.pattern.format(**dict(zip(self.fields, self.texts_of(fields), strict=True)), mask=mask)

    def texts_of(self, fields: Mapping[str, str]) -> list[str]:
        """The texts of an input in template order; `ConfigError` where one is missing."""
        if not set(self.fields) <= set(fields):
            raise ConfigError(
                f"template {self.pattern!r} needs {', '.join(self.fields)}, the example has {', '.join(sorted(fields))}"
            )
        return [fields[name] for name in self.fields]

    @property
    def space_before_mask(self) -> bool:
        """Whether white space precedes the mask (byte-level vocabularies encode such words differently)."""
        before = next(text for text, name, _, _ in string.Formatter().parse(self.pattern) if name == MASK_FIELD)
        return before[-1:].isspace()

    @cached_property
    def for_decoder(self) -> Template:
        """The template with the mask at its end, for a model that reads from left to right: the mask changes places
        with what follows it ("{mask} : {text}" becomes "{text} : {mask}"); literal text behind it alone is left out."""
        parts: list[str] = []
        for literal, name, _, _ in string.Formatter().parse(self.pattern):
            parts += [literal.replace("{", "{{").replace("}", "}}"), "" if name is None else f"{{{name}}}"]
        index = parts.index(f"{{{MASK_FIELD}}}")
        before, after, spelled = "".join(parts[:index]), parts[index + 1 :], [f"{{{name}}}" for name in self.fields]
        field = next((i for i, part in enumerate(after) if part in spelled), len(after))
        literal = "".join(after[:field]) if field < len(after) else ""
        return Template(f"{before}{''.join(after[field:])}{literal}{{{MASK_FIELD}}}")


@dataclass(frozen=True)
class Task:
    """A classification task: name, template, and verbalizer (label words by label, in label order).

    >>> Task("topics", "{mask} : {text}", {"health": "Health", "sports": ["Sports", "football"]}).labels
    ('health', 'sports')
    """

    name: str
    template: Template
    verbalizer: dict[str, tuple[str, ...]]

    def __init__(self, name: str, template: str | Template, verbalizer: Mapping[str, str | Sequence[str]]) -> None:
        words = {str(label): _words(entry) for label, entry in verbalizer.items()}
        if len(words) < 2:
            raise ConfigError(f"task {name!r} has {counted(len(words), 'label')}; a classifier needs at least two")
        for label, entry in words.items():
            if not entry or not all(word.strip() for word in entry):
                raise ConfigError(
                    f"task {name!r}: label {label!r} needs a non-empty word or a list of such words (text in quotes)"
                )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "template", template if isinstance(template, Template) else Template(template))
        object.__setattr__(self, "verbalizer", words)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.verbalizer)

    def indices(self, labels: Sequence[str] | None) -> list[int] | None:
        """Indices of some labels (None: all of them); `ConfigError` for a label that the task lacks, and for none."""
        if labels is None:
            return None
        if not labels:
            raise ConfigError(f"there is no label to choose from; give some of {', '.join(self.labels)}")
        for label in labels:
            if label not in self.labels:
                expected = ", ".join(self.labels)
                raise ConfigError(
                    f"the classifier has no label {label!r}; it has {expected}.{nearest(label, self.labels)}"
                )
        return [self.labels.index(label) for label in labels]

    def to_dict(self) -> dict[str, Any]:
        """The task as a JSON value; the inverse of `from_dict`."""
        words = {label: list(entry) for label, entry in self.verbalizer.items()}
        return {"name": self.name, "template": self.template.pattern, "verbalizer": words}

    def to_toml(self) -> str:
        """The task as the text of a file for `load`."""
        words = [f"{_toml(label)} = {_toml(entry)}" for label, entry in self.verbalizer.items()]
        lines = [f"name = {_toml(self.name)}", f"template = {_toml(self.template.pattern)}", "[verbalizer]", *words]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], where: str = "task") -> Task:
        keys = ("name", "template", "verbalizer")
        for key in value:
            if key not in keys:
                raise ConfigError(f"{where}: unknown key {key!r}.{nearest(key, keys)}")
        for key in keys:
            if key not in value:
                raise ConfigError(f"{where}: {key!r} is missing; a task has {', '.join(keys)}")
        if not isinstance(value["verbalizer"], Mapping):
            raise ConfigError(f"{where}: verbalizer must map each label to its word or list of words")
        return cls(str(value["name"]), str(value["template"]), value["verbalizer"])

    @classmethod
    def load(cls, name: str | Path) -> Task:
        """A built-in task by name (`news`, `nli`, ...) or a TOML file with name, template and [verbalizer]."""
        if str(name) in BUILT_IN_TASKS:
            return BUILT_IN_TASKS[str(name)]
        path = Path(name)
        if not path.is_file():
            names = ", ".join(BUILT_IN_TASKS)
            raise ConfigError(
                f"no task {str(name)!r}: neither built in ({names}) nor a TOML file."
                f"{nearest(str(name), BUILT_IN_TASKS)}"
            )
        try:
            value = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{path} is not valid TOML: {toml_fault(error, path)}") from None
        return cls.from_dict({"name": visible(path.stem), **value}, where=str(path))

    def identity(self) -> str:
        """Hash of template and label words, with the labels in order (the order of a linear head's rows); without the
        name."""
        return identity_of([self.template.pattern, list(self.verbalizer.items())])


def _toml(value: str | Sequence[str]) -> str:
    """A string of TOML, or a list of strings."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _words(entry: object) -> tuple[str, ...]:
    """The label words of a verbalizer entry; empty unless it is a string or a list of strings."""
    if isinstance(entry, str):
        return (entry,)
    if isinstance(entry, list | tuple) and all(isinstance(word, str) for word in cast(Sequence[object], entry)):
        return tuple(cast(Sequence[str], entry))
    return ()


BUILT_IN_TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        # MasakhaNEWS's seven topics. `Politics` is no single piece of XLM-R's vocabulary; `political` is.
        Task(
            "news",
            "{mask} : {text}",
            {
                "business": "Business",
                "entertainment": "Entertainment",
                "health": "Health",
                "politics": "political",
                "religion": "religion",
                "sports": "Sports",
                "technology": "technology",
            },
        ),
        # `Neutral` is no single piece of XLM-R's vocabulary.
        Task(
            "nli",
            "{premise} ? {mask} , {hypothesis}",
            {"entailment": "Yes", "neutral": "Maybe", "contradiction": "No"},
        ),
    )
}
