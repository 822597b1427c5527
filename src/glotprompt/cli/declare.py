"""What is known of an option and of a command before anything heavy is imported: neither torch nor pydantic.

A setting is named by its field ("steps") where a command lists its options; its name, kind, default and help are then
those of the field (`fields`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from glotprompt.cli.screen import check_output
from glotprompt.errors import ConfigError

Params = Mapping[str, Any]
"""What a command was given, by parameter: `params["top_k_layers"]` for `--top-k 3`."""

REQUIRED: Any = inspect.Parameter.empty


@dataclass(frozen=True)
class Option:
    """An option, or an argument where its name has no dashes."""

    names: str
    """Spellings and metavar: "--target FILE", "PROMPT...". Spellings behind the first are older ones, not shown."""
    help: str
    """The first sentence stands in `--help`, all of it in `--help-all`."""
    kind: Any = str
    default: Any = None
    least: float | None = None
    """Smallest number."""
    parameter: str = ""
    """Name among the `Params` where it is not that of the option."""
    callback: Any = None
    is_eager: bool = False
    shown_default: Any = None
    """In help, where None stands for it."""

    @property
    def spellings(self) -> list[str]:
        """The option's names; none for an argument."""
        return [word for word in self.names.split() if word.startswith("-")]

    @property
    def name(self) -> str:
        """Its key among the `Params`."""
        return self.parameter or self.names.split()[0].strip("-.").replace("-", "_").lower()

    @property
    def metavar(self) -> str:
        """Placeholder of its value in help; "" for a flag."""
        if self.kind is bool:
            return ""
        words = [word for word in self.names.split() if not word.startswith("-")]
        return " ".join(words) or "|".join(get_args(self.kind)) or {int: "N", float: "NUMBER"}.get(self.kind, "NAME")

    def row(self, everything: bool) -> tuple[str, str]:
        """Its line in help."""
        default = self.default if self.shown_default is None else self.shown_default
        default_text = "" if default in (None, False, REQUIRED) else f" [{default}]"
        required = " (required)" if self.default is REQUIRED and self.spellings else ""
        name = f"{self.spellings[0]} {self.metavar}" if self.spellings else self.metavar
        first = re.sub(r" \(section [^)]*\)", "", re.split(r"(?<=[.?])\s", self.help, maxsplit=1)[0])
        return name.strip(), f"{self.help if everything else first}{required}{default_text}"

    def as_parameter(self) -> inspect.Parameter:
        """The option as a parameter for Typer."""
        more: dict[str, Any] = {"help": self.help, "metavar": self.metavar.strip(".") or None}
        more |= {"callback": self.callback, "is_eager": self.is_eager, "min": self.least}
        declaration = typer.Option(*self.spellings, **more) if self.spellings else typer.Argument(**more)
        kind = self.kind if self.default is not None or self.kind is bool else self.kind | None
        default = False if self.kind is bool else self.default
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declaration]
        )


def _can_be_written(ctx: typer.Context, param: typer.CallbackParam, value: Path | None) -> Path | None:
    if str(value).startswith("--"):  # the next option, where --json was once a flag
        raise ConfigError(f"{param.opts[0]} takes a file, not {value}; - is standard output")
    if value is not None and not ctx.resilient_parsing and str(value) != "-":  # completion makes no folders
        check_output(value, param.opts[0] if param.param_type_name == "option" else str(param.metavar))
    return value


def to_write(names: str, help: str, default: Any = None) -> Option:
    """An option for a file to write: a place that cannot be written to is refused before any work is done."""
    return Option(names, help, Path, default, callback=_can_be_written)


@dataclass(frozen=True)
class Command:
    """Declaration of a command, known before its module is imported."""

    line: str
    """In the list of commands, and first in its help."""
    run: str
    """The function that does the work, "module:function" in `glotprompt.cli`."""
    examples: tuple[str, str]
    options: tuple[Option | str, ...] = ()
    """Those in `--help`; a word is a setting's field."""
    more: Mapping[str, tuple[Option | str, ...]] = field(default_factory=dict[str, tuple[Option | str, ...]])
    """Those in `--help-all` alone, by heading."""
    text: str = ""
    """The rest of the help."""
    stage: Literal["adapt", "tune", ""] = ""
    """Whose settings it has."""
    config: bool = False
    """Whether `--config` gives its options in a file."""
    needs: tuple[str, str, tuple[str, ...]] = ("", "", ())
    """What needs an optional part, its name, and the modules in it."""
