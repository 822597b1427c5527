"""What the command line offers: its list of options, its help, its completion, and `--config`. No training."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from glotprompt.cli import screen
from glotprompt.cli import settings as settings_module
from glotprompt.cli.commands import COMMANDS, GROUPS
from glotprompt.cli.declare import Option
from glotprompt.cli.fields import fields_of
from glotprompt.cli.files import how_to_read
from glotprompt.cli.options import PRESET, reading
from glotprompt.cli.program import all_options, also, options_of, other_settings
from glotprompt.config import AdaptConfig, presets
from glotprompt.data.sources import Reading
from glotprompt.errors import nearest

from .conftest import Program

FROZEN = Path(__file__).with_name("options.txt")
MOST_LINES = 40
"""Of help on a screen of 80 columns."""


def listed() -> list[str]:
    """Every command with its options; a star behind those that `--help-all` alone shows."""
    lines: list[str] = []
    for name in COMMANDS:
        lines.append(name)
        for heading, options in {**options_of(name), "of all": also(name)}.items():
            star = " *" if heading not in ("", "of all") else ""
            lines += [f"    {' '.join([*option.spellings, option.metavar]).strip()}{star}" for option in options]
    return lines


def test_the_list_of_options_is_frozen(record: bool) -> None:
    """An option more is one more to learn for everybody, so that adding one is a decision."""
    if record:
        FROZEN.write_text("\n".join(listed()) + "\n", encoding="utf-8")
    assert listed() == FROZEN.read_text(encoding="utf-8").splitlines(), (
        "the options are not those in tests/cli/options.txt; where that is meant, run"
        " `pytest tests/cli/test_options.py --record` and add a line to CHANGELOG.md"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_a_screen(name: str, glotprompt: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown, everything = (glotprompt(*name.split(), option).out for option in ("--help", "--help-all"))
    lines = shown.splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= 80
    assert not [line for line in everything.splitlines() if line.endswith("-")], "a name is broken"
    assert len(options_of(name)[""]) <= 14, "a dozen is what people need; give the others a heading"
    for option in all_options(name):
        assert (option.row(False)[0] in shown) == (option in options_of(name)[""]), option.name
        assert option.row(True)[0] in everything
    for setting in other_settings(name):
        assert f"\n  {setting} " in everything


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_name_options_that_exist(name: str) -> None:
    for example in COMMANDS[name].examples:
        assert example.split()[: len(name.split())] == name.split()
        words = {word for word in shlex.split(example) if word.startswith("--")}
        assert words <= {option.spellings[0] for option in all_options(name) if option.spellings}
        needed = {
            option.spellings[0]
            for option in all_options(name)
            if option.spellings and option.row(True)[1].find("(required)") > 0
        }
        assert needed <= words, "an example can be run"


def kind_of(option: Option) -> str:
    """A flag, a number, a place to read or write, or a word."""
    if not option.metavar:
        return "flag"
    if option.metavar.startswith("N") and "NAME" not in option.metavar:
        return "number"
    return "place" if re.search("FILE|DIR", option.metavar) else "word"


def test_an_option_means_one_thing_in_all_commands() -> None:
    """A flag in one command and a file in another would be two options of one name."""
    kinds: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in COMMANDS:
        for option in all_options(name):
            for spelling in option.spellings[:1]:
                kinds[spelling][kind_of(option)].append(name)
    assert not {spelling: dict(found) for spelling, found in kinds.items() if len(found) > 1}


def test_options_of_reading_are_the_fields_of_reading() -> None:
    fields = {field.name for field in dataclasses.fields(Reading)} - {"report"}
    named = {option.name.removesuffix("_column") for option in reading("text", "label", "premise", "hypothesis")}
    (read,) = (option for option in reading() if option.name == "read")
    assert named - {"read"} | {key for key in fields if f"{key}=" in f"{read.help}"} == fields
    assert how_to_read({"read": None}).on_bad_row == Reading().on_bad_row == "error"


@pytest.mark.slow
def test_every_command_has_its_function() -> None:
    for name, command in COMMANDS.items():
        module, _, function = command.run.partition(":")
        found = getattr(import_module(f"glotprompt.cli.{module}"), function)
        assert [*inspect.signature(found).parameters] == ["params"], name


def test_the_presets_are_named() -> None:
    assert all(name in PRESET.help for name in presets())


def test_json_on_standard_output_is_alone_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with screen.json_alone():
        print("a table")
        screen.write_json(Path("-"), {"accuracy": 50.0})
        screen.write_lines(Path("-"), [1, "ẽ"], "lines")
    print("later")
    assert capsys.readouterr().out == '{\n "accuracy": 50.0\n}\n1\n"ẽ"\nlater\n'
    screen.write_lines(tmp_path / "a.jsonl", [1, 2], "lines")
    screen.write_json(None, 3)
    assert (tmp_path / "a.jsonl").read_text() == "1\n2\n"


def test_a_stage_has_no_settings_of_the_other() -> None:
    assert {*fields_of("adapt")} - {*fields_of("tune")} >= {"allow_unknown", "objective"}
    assert {*fields_of("tune")} - {*fields_of("adapt")} >= {"state_cache", "epochs"}
    assert "allow_unknown" not in other_settings("tune")
    assert {option.name for option in all_options("adapt")} | other_settings("adapt").keys() >= {
        *AdaptConfig.model_fields
    }


@pytest.mark.slow
def test_only_the_command_that_is_called_is_imported() -> None:
    script = (
        "import sys; from glotprompt.cli import main; sys.argv[1:] and main(sys.argv[1:]); print('heavy:', sorted("
        "{'torch', 'pydantic', 'rich', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    for words, heavy in (
        ("--help", []),
        ("predict --help", []),
        ("data --help", []),
        ("tune --help-all", ["pydantic"]),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *words.split()], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == f"heavy: {heavy}", words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("glotprompt ad", {"adapt"}),
        ("glotprompt adapt --targ", {"--target"}),
        ("glotprompt tune --to", {"--top-k"}),
        ("glotprompt convert to-p", {"to-peft"}),
        ("glotprompt demo --scenario m", {"manx"}),
    ],
)
def test_a_shell_completes(typed: str, found: set[str]) -> None:
    words = {"_GLOTPROMPT_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    program = Path(sys.executable).with_name("glotprompt")
    done = subprocess.run([program], env={**os.environ, **words}, capture_output=True, text=True)
    assert {*done.stdout.split()} == found
    assert not done.stderr


@pytest.mark.slow
def test_completion_can_be_shown() -> None:
    program = Path(sys.executable).with_name("glotprompt")
    told = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run([program, "--show-completion", "bash"], env=told, capture_output=True, text=True)
    assert "_GLOTPROMPT_COMPLETE=complete_bash" in done.stdout


# --- --config


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command is called with, in the place of being run."""
    found: dict[str, Any] = {}
    for module, function in (("adapt", "adapt"), ("tune", "tune"), ("scoring", "evaluate")):
        monkeypatch.setattr(f"glotprompt.cli.{module}.{function}", lambda params: found.update(params))
    return found


def test_a_file_holds_options_and_settings(
    here: Path, glotprompt: Program, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "runs").mkdir()
    (here / "runs" / "eng.txt").write_text("the king")
    (here / "runs" / "run.toml").write_text(
        'target = "nya=../nya.txt"\nsource = ["eng.txt", "masakhanews:eng:train"]\noutput = "nya.st"\nsteps = 7\n'
        'learning-rate = 0.5\nmodel = "mini"\nwarmup_ratio = 0.1\npatience = "null"\npacking = "none"\n'
        "normalise = true\n"
    )
    assert glotprompt("adapt", "--config", "runs/run.toml").status == 0
    assert given["target"] == ["nya=runs/../nya.txt"], "paths are relative to the file"
    assert given["source"] == ["runs/eng.txt", "masakhanews:eng:train"]
    assert given["output"] == Path("runs/nya.st")
    assert (given["steps"], given["learning_rate"], given["normalise"], given["model"]) == (7, "0.5", True, "mini")
    config, _ = settings_module.settings(AdaptConfig, given, "xlm-r", "soft-prompt")
    assert (config.steps, config.learning_rate, config.warmup_ratio, config.packing) == (7, 0.5, 0.1, "none")
    typed = ("--steps", "9", "--set", "warmup_ratio=0", "--set", "learning_rate=0.1", "--output", "here.st")
    assert glotprompt("adapt", "--config", "runs/run.toml", *typed).status == 0, "the command line wins"
    assert given["output"] == Path("here.st")
    config, _ = settings_module.settings(AdaptConfig, given, "xlm-r", "soft-prompt")
    assert (config.steps, config.learning_rate, config.warmup_ratio, config.packing) == (9, 0.1, 0, "none")


def test_spellings_and_names_of_fields_are_one(here: Path, glotprompt: Program, given: dict[str, Any]) -> None:
    for key in ("top-k", "top_k", "top_k_layers"):
        (here / "run.toml").write_text(f'{key} = 3\ntrain = "train.tsv"\ntask = "news"\noutput = "x.st"\n')
        assert glotprompt("tune", "--config", "run.toml", "--model", "mini").status == 0
        assert given["top_k_layers"] == 3
        assert given["task"] == "news"
    (here / "news").mkdir()
    with (here / "run.toml").open("a") as file:
        file.write('json = "-"\n')
    assert glotprompt("tune", "--config", "run.toml", "--model", "mini").status == 0
    assert (given["task"], given["json"]) == ("news", Path("-")), "neither a folder nor a file"
    (here / "run.toml").write_text('source_adapter = "news"\noutput = "x.st"\n')
    assert glotprompt("adapt", "--config", "run.toml", "--target", "nya=nya.txt").status == 0
    assert given["source_adapter"] == str(Path("news"))


def test_other_commands_have_files_too(here: Path, glotprompt: Program, given: dict[str, Any]) -> None:
    (here / "topic.st").touch()  # that it is there is all that is looked at before the command runs
    (here / "run.toml").write_text('classifier = "topic.st"\ndata = "test.tsv"\nbatch-size = 4\n')
    assert glotprompt("evaluate", "--config", "run.toml").status == 0
    assert (given["classifier"], given["data"], given["batch_size"]) == (Path("topic.st"), "test.tsv", 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 3", "--config run.toml: adapt has no option or setting 'stepz'. Did you mean 'steps'?"),
        ("warmup-ration = 3", "Did you mean 'warmup_ratio'?"),
        ("epochs = 3", "adapt has no option or setting 'epochs'."),
        ("set = ['steps=3']", "no option or setting 'set'"),
        ("steps = 3\n[adapt]\nsteps = 3", "no option or setting 'adapt'"),
        ("init = 'text'\ninitialise = 'text'", "initialise is given twice"),
        ("steps", "is no TOML"),
        ("output = 'x'\nsteps = 'many'", "Invalid value for '--steps'"),
        ("output = 'x'\nsteps = [1, 2]", "Invalid value for '--steps'"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(text: str, message: str, here: Path, glotprompt: Program) -> None:
    (here / "run.toml").write_text(text)
    outcome = glotprompt("adapt", "--config", "run.toml", "--target", "nya=nya.txt")
    assert message in outcome.error
    assert outcome.status == 2


def test_no_file(here: Path, glotprompt: Program) -> None:
    assert "--config gone.toml: No such file" in glotprompt("adapt", "--config", "gone.toml", "--output", "x").error


def test_groups_hold_their_commands(glotprompt: Program) -> None:
    assert {name.split()[0] for name in COMMANDS if " " in name} == {*GROUPS}
    for group in GROUPS:
        shown = glotprompt(group, "--help").out
        assert all(re.search(rf"^  {name.split()[1]} ", shown, re.M) for name in COMMANDS if name.startswith(group))
    assert nearest("adpt", COMMANDS) == " Did you mean 'adapt'?"
