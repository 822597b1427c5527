"""Typer commands from their declarations: options, help, and `--config`."""

from __future__ import annotations

import inspect
import json
import shlex
import textwrap
import tomllib
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import typer
from typer.core import TyperCommand

from glotprompt.cli.commands import COMMANDS
from glotprompt.cli.declare import Command, Option, Params
from glotprompt.cli.screen import json_alone
from glotprompt.errors import ConfigError, MissingExtraError, nearest, toml_fault

_EVERYTHING, _SETTINGS_OF_FILE = "everything", "settings of the file"
"""Of a context: whether its help is that of `--help-all`, and what `--config` names besides options."""
_OF_PROGRAM = ("config", "help_all")
"""Options that no command reads."""


@cache
def options_of(name: str) -> dict[str, list[Option]]:
    """A command's options by heading, "" for those of `--help`."""
    command = COMMANDS[name]
    return {
        heading: [one if isinstance(one, Option) else _settings_of(command.stage)[one] for one in options]
        for heading, options in {"": command.options, **command.more}.items()
    }


@cache
def _settings_of(stage: Literal["adapt", "tune", ""]) -> dict[str, Option]:
    from glotprompt.cli.fields import fields_of, option_of  # with pydantic, for which other help need not wait

    return {name: option_of(name, field) for name, field in fields_of(stage).items()}


def other_settings(name: str) -> dict[str, Option]:
    """The settings that `--set` alone reaches; none where there is no `--set`."""
    stage, names = COMMANDS[name].stage, {option.name for option in all_options(name)}
    return {key: one for key, one in _settings_of(stage).items() if key not in names} if stage else {}


def all_options(name: str) -> list[Option]:
    """A command's options in one list."""
    return [option for options in options_of(name).values() for option in options]


class _Command(TyperCommand):
    """A command whose help fits a screen; the rest is under `--help-all`."""

    declared: Command
    full_name: str

    def format_help(self, ctx: Any, formatter: Any) -> None:
        everything = _EVERYTHING in ctx.meta
        self.format_usage(ctx, formatter)
        for paragraph in f"{self.declared.line} {self.declared.text}".strip().split("\n\n"):
            formatter.write("\n" + _wrapped(paragraph, formatter.width, ""))
        with formatter.section("Examples"):
            for example in self.declared.examples:
                formatter.write(_folded(f"glotprompt {example}", formatter.width))
        sections = options_of(self.full_name)
        sections = {"Options": [*sections[""], *also(self.full_name)], **(sections if everything else {})}
        for heading, options in sections.items():
            if heading:
                _write_rows(formatter, heading, [option.row(everything) for option in options])
        if everything and (others := other_settings(self.full_name)):
            _write_rows(formatter, "Settings for --set", [(key, one.row(True)[1]) for key, one in others.items()])


def _write_rows(formatter: Any, heading: str, rows: list[tuple[str, str]]) -> None:
    width = min(26, max(len(name) for name, _ in rows))
    with formatter.section(heading):
        for name, text in rows:
            if len(name) > width:  # it has a line of its own
                formatter.write(f"  {name}\n")
                name = ""
            formatter.write(_wrapped(text, formatter.width, f"  {name:<{width}}  "))


def _wrapped(text: str, width: int, start: str) -> str:
    """A paragraph behind `start`; names of options are not broken at their hyphens, as click's own would be."""
    indent = " " * len(start)
    return textwrap.fill(text, width, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False) + "\n"


def _folded(line: str, width: int) -> str:
    """An example, broken so that it can be pasted."""
    lines = textwrap.wrap(line, width - 8, break_long_words=False, break_on_hyphens=False)
    return "".join(f"  {line}\n" for line in " \\\n    ".join(lines).split("\n"))


def _show_all(ctx: typer.Context, param: Any, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[_EVERYTHING] = True
        print(ctx.get_help())
        raise typer.Exit


def also(name: str) -> list[Option]:
    """The options that every command has."""
    config = Option(
        "--config FILE.toml",
        "Options and settings in a TOML file. The command line wins over it. Keys are the long names of options and the"
        " names of settings; paths are relative to the file.",
        Path,
        callback=_read_config,
        is_eager=True,
    )
    everything = Option("--help-all", "Show all options and settings.", bool, callback=_show_all, is_eager=True)
    return [config, everything] if COMMANDS[name].config else [everything]


@cache
def built(name: str) -> TyperCommand:
    """The command of that name, as Typer runs it."""
    declared = COMMANDS[name]

    def run(ctx: typer.Context, **params: Any) -> int | None:
        arguments = _with_settings_of_file(ctx, {key: one for key, one in params.items() if key not in _OF_PROGRAM})
        purpose, extra, modules = declared.needs
        if any(find_spec(module) is None for module in modules):  # said now, not after the training
            raise MissingExtraError(purpose, extra)
        if "on_bad_row" in arguments:  # it reads files
            import_module("glotprompt.cli.early").check(arguments)
        module, _, function = declared.run.partition(":")
        work = getattr(import_module(f"glotprompt.cli.{module}"), function)
        with json_alone() if str(arguments.get("json")) == "-" else nullcontext():
            return work(arguments)

    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    options = [option.as_parameter() for option in (*all_options(name), *also(name))]
    run.__signature__ = inspect.Signature([context, *options])  # pyright: ignore[reportFunctionMemberAccess]
    one = typer.Typer(add_completion=False, rich_markup_mode=None)
    one.command(name.split()[-1], cls=_Command, help=declared.line)(run)
    command = typer.main.get_command(one)
    assert isinstance(command, _Command)
    command.declared, command.full_name = declared, name
    return command


def words_of(name: str, params: Params, only: Collection[str] | None = None) -> list[str]:
    """The options (of `only`, if given) with other values than their defaults, as they would be typed."""
    words: list[str] = []
    for option in all_options(name):
        value = params.get(option.name)
        # Not `in`: 0 is no False.
        is_usual = value is None or value is False or value == option.default
        if is_usual or (only is not None and option.name not in only):
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [*option.spellings[:1], *([] if one is True else [str(one)])]
    return words


def as_typed(name: str, params: Params) -> str:
    """The command line that these params make."""
    return shlex.join(["glotprompt", *name.split(), *words_of(name, params)])


# ---------------------------------------------------------------------------------------------------------------
# --config


def _read_config(ctx: typer.Context, param: Any, path: Path | None) -> Path | None:
    """Take the file's options as defaults of the command's, and remember its settings."""
    if path is None or ctx.resilient_parsing or not isinstance(ctx.command, _Command):
        return path
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}; give a TOML file such as `show --toml` prints") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--config {path} is no TOML: {toml_fault(error, path)}") from None
    options = {option.name: option for option in all_options(ctx.command.full_name) if option.name != "set"}
    spelled = {word.strip("-").replace("-", "_"): one.name for one in options.values() for word in one.spellings}
    settings = other_settings(ctx.command.full_name)
    defaults, others = dict[str, Any](), dict[str, Any]()
    for key, value in table.items():
        word = key.replace("-", "_")
        name = spelled.get(word, word)
        if name not in options and name not in settings:
            hint = nearest(word, [*spelled, *settings])
            raise ConfigError(f"--config {path}: {ctx.command.full_name} has no option or setting {key!r}.{hint}")
        if isinstance(value, dict) or name in defaults or name in others:
            raise ConfigError(f"--config {path}: {key} is given twice, or as a table; expected {key} = VALUE once")
        if name in options:
            defaults[name] = _value(options[name], value, path.parent)
        else:
            others[name] = value
    ctx.default_map = defaults
    ctx.meta[_SETTINGS_OF_FILE] = others
    return path


def _value(option: Option, value: Any, folder: Path) -> Any:
    """A value of the file as it would be typed, its paths relative to where the program runs."""
    if option.kind is bool:
        return value
    words = [str(one) for one in (value if isinstance(value, list) else [value])]
    is_path = option.kind is Path or any(what in option.metavar for what in ("FILE", "DIR", "FOLDER"))
    if option.name == "task":  # a folder may have the name of a built-in task
        is_path = (folder / words[0]).is_file()
    if is_path or option.name == "model":
        words = [_placed(word, folder, must_be=option.kind is not Path) for word in words]
    return words if str(option.kind).startswith("list") else words[-1] if len(words) == 1 else value


def _placed(word: str, folder: Path, must_be: bool) -> str:
    """A path that is relative to a folder. `must_be`: other words than paths stand there, too, such as news, CODE=FILE
    and FILE=WEIGHT, so it is one where something lies there."""
    if word == "-":
        return word
    if not must_be or (folder / word).exists():
        return str(folder / word)
    first, equals, last = word.partition("=")
    if equals and (folder / last).exists():
        return f"{first}={folder / last}"
    return f"{folder / first}={last}" if equals and (folder / first).exists() else word


def _with_settings_of_file(ctx: typer.Context, params: dict[str, Any]) -> Params:
    """The params with the file's settings behind `--set`, where the command line does not name them."""
    from_file: Mapping[str, Any] = ctx.meta.get(_SETTINGS_OF_FILE, {})
    typed = {word.partition("=")[0].strip() for word in params.get("set") or ()}
    for name in typed & params.keys():
        if getattr(ctx.get_parameter_source(name), "name", "") == "DEFAULT_MAP":
            params[name] = None
    words = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in from_file.items()
        if key not in typed
    ]
    return {**params, "set": [*words, *(params["set"] or ())]} if words else params
