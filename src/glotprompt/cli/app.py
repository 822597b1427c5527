"""The program `glotprompt`: its commands, its errors, its exit status.

0: done. 2: something a person can mend, said in one line. 3: the doctor's verdict is that it will not work (`--strict`:
1 where it asks for care). 130: interrupted. Standard output carries results only;
progress, notes and errors go to standard error.
"""

from __future__ import annotations

import io
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from glotprompt.cli.commands import COMMANDS, GROUPS
from glotprompt.cli.program import built
from glotprompt.cli.screen import Interrupted, note
from glotprompt.cli.wording import wording_of
from glotprompt.errors import ConfigError, UserError, in_words_of, is_out_of_memory
from glotprompt.processes import is_first, launched
from glotprompt.version import FINGERPRINTS, __version__


class _Group(TyperGroup):
    """Commands that are built only when they are called; the list of them needs their lines alone, and no rich."""

    def __init__(self, *, before: str = "", **more: Any) -> None:
        super().__init__(**more)
        self.before, self.rich_markup_mode = before, None
        names = (name.removeprefix(before) for name in COMMANDS if name.startswith(before))
        self.commands = dict.fromkeys(name.split()[0] for name in names)  # pyright: ignore[reportAttributeAccessIssue]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            return None
        if cmd_name in GROUPS and not self.before:
            return _Group(before=f"{cmd_name} ", name=cmd_name, help=GROUPS[cmd_name])
        return built(self.before + cmd_name)

    def get_params(self, ctx: Any) -> Any:
        flags: Any = super().get_params(ctx)
        for flag in flags:
            flag.default = False  # Typer has pydantic read a None, whose import takes as long as all the rest
        return flags

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = [(name, GROUPS.get(name) or COMMANDS[self.before + name].line) for name in self.commands]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


app = typer.Typer(
    name="glotprompt",
    cls=_Group,
    help="Teach a frozen multilingual backbone a language it was not pre-trained on, with one small soft prompt.",
    epilog="Start with `glotprompt demo`, or with your own text: adapt, tune, evaluate, predict. Each has --help.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)

_STOPPED = "stopped before the end"
_TOGETHER = ("adapt", "tune")
"""The commands that several processes can run together."""


def _show_version(value: bool) -> None:
    if value:
        libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
        backbones = ", ".join(f"{name} {fingerprint}" for name, fingerprint in FINGERPRINTS.items())
        print(f"glotprompt {__version__}\nPython {platform.python_version()}, {libraries}\nbackbones: {backbones}")
        raise typer.Exit


@app.callback()
def _start(  # pyright: ignore[reportUnusedFunction]
    ctx: typer.Context,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show versions, and fingerprints of the bundled backbones.",
        ),
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
    elif launched() and ctx.invoked_subcommand not in _TOGETHER:
        raise ConfigError(
            f"several processes can run {' and '.join(_TOGETHER)} together, not {ctx.invoked_subcommand}; start it"
            " without torchrun"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` when none is given) and return its exit status."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # Any text may come out, and names of files that are no text; another setting would raise half-way.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    results = nullcontext() if is_first() else redirect_stdout(io.StringIO())
    try:
        with results, in_words_of(wording_of(sys.argv[1:] if arguments is None else arguments)):
            status: Any = app(arguments, standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # `glotprompt predict ... | head`: nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Interrupted as interruption:
        return _fail("interrupted", str(interruption), 130)
    except UserError as error:
        return _fail("error", str(error))
    except UnicodeEncodeError as error:
        return _fail("error", f"{error.object!r} is not valid UTF-8; rename it, or check the terminal's encoding")
    except typer.TyperException as error:
        return _fail("error", _usage(error))
    except typer.Abort:
        return _fail("interrupted", _STOPPED, 130)
    except (OSError, RuntimeError, ImportError, MemoryError, UserWarning) as error:
        if is_out_of_memory(error):
            return _fail(
                "error",
                "out of memory; try a smaller --eval-batch-size (in training) or --batch-size (of texts to score), a"
                " shorter --max-length, a smaller backbone, or a higher limit (ulimit -v)",
            )
        if not isinstance(error, OSError):
            raise
        return _fail("error", f"{error.filename or 'a file'}: {error.strerror or error}")
    if status == 130:  # what typer makes of Ctrl-C
        return _fail("interrupted", _STOPPED, 130)
    return status if isinstance(status, int) else 0


def _open_closed_streams() -> None:
    """Replace closed streams (`>&-`) by /dev/null: a file that is opened later would otherwise get their number, and
    what is printed."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def _fail(kind: str, message: str, status: int = 2) -> int:
    note(f"{kind}: {' '.join(message.split())}", from_all=True)
    return status


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the command line, the nearest option, and where help is."""
    message = error.format_message().rstrip()
    option, near = getattr(error, "option_name", None), getattr(error, "possibilities", None)
    if option and near:
        message = f"No such option: {option}. Did you mean {near[0]!r}?"
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "glotprompt"
    return f"{message} (see {where} --help)"
