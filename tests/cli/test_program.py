"""The program's surface: quick to start, errors in one line, options that are settings. No training."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from glotprompt import protocol
from glotprompt.cli import demo, files, main
from glotprompt.cli.commands import COMMANDS, GROUPS
from glotprompt.cli.program import all_options, also
from glotprompt.cli.settings import given, settings
from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig, preset, presets
from glotprompt.demo.result import DemoResult
from glotprompt.errors import ConfigError, DataError, in_words_of, setting, visible
from glotprompt.methods import METHODS
from glotprompt.task import Task

from ..demo.invented import demo_result
from .conftest import Program

PROGRAM = Path(sys.executable).with_name("glotprompt")


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["--version"], []])
def test_answers_at_once(words: list[str]) -> None:
    """Processor time, because a busy machine says nothing about the program; best of three for the same reason."""
    seconds: list[float] = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=True)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert "glotprompt" in done.stdout
    assert min(seconds) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--help", "--version", "adapt --help", "predict --help", "adpt", "tune --stepz 1"])
def test_help_and_mistakes_need_no_tensors(words: str) -> None:
    script = (
        "import sys; from glotprompt.cli import main; main(sys.argv[1:]);"
        " print('heavy:', sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, *words.split()], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_mistakes_in_what_is_named_are_said_before_torch_is_imported(files: Path) -> None:
    """Torch takes seconds, and a large file minutes."""
    (files / "few.tsv").write_text("text\tlabel\na goal\tsprots\n", encoding="utf-8")
    named = "--train train.tsv --task task.toml --output x --language"
    script = (
        "import sys; from glotprompt.cli import main\n"
        "for words in sys.argv[1:]: main(words.split())\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    words = [
        f"tune {named} luganda",
        f"compare {named} lug --target-labels few.tsv",
        f"tune {named} lug --dev nowhere.tsv",
        "self-train --classifier a --train train.tsv --output x --unlabelled nyaa.txt",
        "evaluate --classifier x --data tset.tsv",
        "predict --classifier x --input tset.tsv",
        "predict --classifier none.st text",
        f"tune {named} lug --prompt none.st",
        "adapt --target nya.txt --language nya --output x --init-prompt none.st=0.5",
        "adapt --target nya.txt --language nya --output ./nya.txt",
        f"tune {named} lug --json train.tsv",
        f"compare {named} lug --target-labels ./train.tsv",
    ]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, cwd=files, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    said = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in said] == ["error"] * len(words)
    for line, part in zip(
        said,
        ("Did you mean Luganda (lug)", "few.tsv, line 2", "nowhere.tsv: no such file", "Did you mean 'nya.txt'?",
         "Did you mean 'test.tsv'?", "Did you mean 'test.tsv'?", "none.st does not exist; expected a classifier saved",
         "none.st does not exist; expected a language prompt or a language module saved",
         "none.st does not exist; expected a language prompt saved",
         "--output nya.txt is what --target reads; give another name", "--json train.tsv is what --train reads",
         "--target-labels train.tsv is what --train reads, too; give examples in the target language"),
        strict=True,
    ):  # fmt: skip
        assert part in line


@pytest.mark.slow
def test_help_describes_every_setting_once(glotprompt: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for command, config in (("adapt", AdaptConfig), ("tune", TuneConfig)):
        shown = " ".join(re.sub("[│╭╮╰╯─]", " ", glotprompt(command, "--help-all").out).split())
        for name, field in config.model_fields.items():
            opening = " ".join((field.description or "").split())[:25]
            assert opening, f"{name} has no docstring"
            assert opening in shown, name
        assert "checkpoint_dir" not in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("adpt", "No such command 'adpt'. Did you mean 'adapt'?"),
        ("tune --tpo-k 3", "No such option: --tpo-k. Did you mean '--top-k'?"),
        ("adapt --output x", "with --target FILE, or translations with --parallel FILE"),
        ("adapt --steps many", "Invalid value for '--steps'"),
        ("convert to-pef", "Did you mean 'to-peft'"),
        ("convert", "Missing command"),
        ("adapt --target nya.txt --output x", "which language is nya.txt in?"),
        ("adapt --target nya=nya.txt --language sna --output x", "disagree"),
        ("adapt --target nya=nya.txt --output x", "--source"),
        ("adapt --target nya.txt --language luganda --output x", "Did you mean Luganda (lug)"),
        ("doctor --text nya.txt --language luganda", "Did you mean Luganda (lug)"),
        ("tune --train train.tsv --task news --model mini --language luganda --output x", "Did you mean Luganda (lug)"),
        ("tune --train train.tsv --task news --prompt nya.txt --language lug --output x", "leave --language out"),
        ("combine a.st b.st --language luganda --output x", "Did you mean Luganda (lug)"),
        ("adapt --target nya=nyaa.txt --source eng.txt --output x", "no such file. Did you mean 'nya.txt'?"),
        ("adapt --target nya=nya.txt --source eng.txt --output . --set stepz=3", "Did you mean 'steps'?"),
        ("adapt --target nya=nya.txt --source eng.txt --output x --preset quik", "Did you mean 'quick'?"),
        ("adapt --target nya=nya.txt --source eng.txt --output x --text-column t", "none of the files is a table"),
        ("adapt --target nya=nya.txt --source eng.txt --output x --read formt=tsv", "Did you mean 'format'?"),
        ("adapt --target nya=nya.txt --source eng.txt --output x --device cuda:99", "--device cuda:99 cannot be used"),
        ("adapt --target nya=nya.txt --target sna=nya.txt --source eng.txt --output nya.txt", "must be a folder"),
        ("adapt --target nya=nya.txt --source eng.txt --output nya.txt/x", "cannot make the folder"),
        ("tune --train train.tsv --task task.toml --output x", "give --prompt FILE"),
        ("tune --train train.tsv --task newz --model mini --output x", "Did you mean 'news'?"),
        ("tune --train train.tsv --task news --model mini --output .", "is a folder"),
        ("tune --train eng.txt --task news --model mini --output x", "pass --read format="),
        ("tune --train train.tsv --task news --model mini --output x --label-column lable", "with --label-column"),
        ("tune --train train.tsv --task news --model mini --output x --top-k 3 --bottom-k 3", "not both"),
        ("tune --train train.tsv --task news --prompt none.safetensors --output x", "does not exist"),
        ("evaluate --classifier eng.txt --data test.tsv", "no safetensors file"),
        ("evaluate --classifier nya.txt --data test.tsv --save-offsets y", "--prior-text"),
        ("predict --classifier nya.txt --input eng.txt word", "give one of them"),
        ("predict --classifier x --json --input eng.txt", "--json takes a file, not --input; - is standard output"),
        ("demo --target sna", "belong to --scenario news and manx"),
        ("demo --steps 5", "belong to --scenario manx"),
        ("demo --scenario manx --data-dir nowhere", "no such folder"),
        (
            "demo --scenario manx --target xyz",
            "no edition of 'xyz' can be downloaded, only",
        ),
    ],
)
def test_a_mistake_is_one_line(
    words: str, message: str, glotprompt: Program, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    monkeypatch.delenv("GLOTPROMPT_DATA", raising=False)
    outcome = glotprompt(*words.split())
    assert message in outcome.error
    assert outcome.status == 2
    assert outcome.out == ""


def test_damaged_bytes_of_a_file_are_a_line_too(glotprompt: Program, files: Path) -> None:
    path = files / "broken.safetensors"
    path.write_bytes(b"\0" * 200)
    assert "damaged" in glotprompt("predict", "--classifier", path, "text").error


def test_presets_options_and_set_make_the_configs(capsys: pytest.CaptureFixture[str]) -> None:
    options = {"steps": 7, "gradient_checkpointing": False, "set": ["warmup_ratio=0", "packing=none", "patience=null"]}
    config, runtime = settings(AdaptConfig, options, "mini", "soft-prompt")
    given = {"steps": 7, "warmup_ratio": 0, "packing": "none", "patience": None}
    assert config == AdaptConfig(**{**preset("quick", "adapt"), **given})
    assert config.learning_rate == 8e-2
    assert runtime == RuntimeConfig()
    assert "preset quick" in capsys.readouterr().err
    config, _ = settings(AdaptConfig, {"init_prompt": ["other.safetensors"]}, "mini", "soft-prompt")
    assert "initialise" not in config.model_fields_set, "a start that is handed over stands above the preset's"
    config, _ = settings(AdaptConfig, {"learning_rate": "auto"}, "FacebookAI/xlm-roberta-large", "soft-prompt")
    assert config == AdaptConfig(learning_rate="auto")
    options = {"parallel": ["pairs.tsv"]}
    config, _ = settings(AdaptConfig, options, "mini", "soft-prompt")
    assert config == AdaptConfig(**preset("alignment", "adapt"))
    options |= {"target": ["text.txt"], "set": ["objective=mlm+alignment"]}
    config, _ = settings(AdaptConfig, options, "mini", "soft-prompt")
    assert config == AdaptConfig(**preset("quick", "adapt"), objective="mlm+alignment"), "beside text as text alone"
    options = {"preset": "paper", "top_k_layers": 9, "set": ["checkpoint_every=0", "dev_share=.25"]}
    config, runtime = settings(TuneConfig, options, "mini", "prompt-tuning")
    assert settings(TuneConfig, {"parallel": ["pairs.tsv"]}, "e5", "embedding")[0] == TuneConfig(method="embedding")
    aligned, _ = settings(AdaptConfig, {"parallel": ["pairs.tsv"]}, "mini", "soft-prompt+task-adapter")
    assert (aligned.initialise, aligned.learning_rate) == ("text", 8e-2), "its stage 1 is a soft prompt's"
    assert config == TuneConfig(method="prompt-tuning", top_k_layers=9, dev_share=0.25, loss_over="vocabulary")
    assert runtime == RuntimeConfig(checkpoint_every=0)


def test_a_value_of_zero_is_given() -> None:
    params = {"checkpoint_every": 0, "micro_batch_size": None, "gradient_checkpointing": False, "no_samples": True}
    assert given(params, ("checkpoint_every", "micro_batch_size", "gradient_checkpointing", "no_samples", "steps")) == {
        "checkpoint_every": 0,
        "no_samples": True,
    }


@pytest.mark.parametrize(
    ("options", "made_by", "expected"),
    [
        ({}, "mad-x", {"method": "mad-x", "learning_rate": 1e-2, "top_k_layers": None}),
        ({}, "prompt-tuning", {"method": "prompt-tuning", "learning_rate": 4e-2, "top_k_layers": 12}),
        ({"method": "soft-prompt+task-adapter"}, "soft-prompt", {"learning_rate": 1e-2, "top_k_layers": None}),
        ({"method": "fine-tuning", "learning_rate": "3e-5"}, "prompt-tuning", {"learning_rate": 3e-5}),
        ({"set": ["method=fine-tuning"]}, "prompt-tuning", {"method": "fine-tuning", "learning_rate": 1e-4}),
        (
            {"method": "fine-tuning", "preset": "masakhanews"}, "prompt-tuning",
            {"learning_rate": 2e-5, "head": "linear", "dropout": True, "warmup_ratio": 0},
        ),
        ({"preset": "masakhanews"}, "soft-prompt", {"learning_rate": 1e-3, "head": "cloze", "dropout": False}),
    ],
)  # fmt: skip
def test_the_method_chooses_among_a_preset_s_values(
    options: dict[str, object], made_by: str, expected: dict[str, object]
) -> None:
    config, _ = settings(TuneConfig, options, "mini", made_by)
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 3, "set": ["steps=4"]}, "given twice"),
        ({"set": ["steps=4", "steps=4"]}, "twice"),
        ({"set": ["steps"]}, "not key=value"),
        ({"set": ["checkpoint_dir=x"]}, "no setting 'checkpoint_dir'"),
        ({"method": "mad-x", "set": ["method=mad-x"]}, "given twice"),
        ({"method": "madx"}, "AdaptConfig.method: .*'mad-x'.* not 'madx'"),
        ({"steps": 0}, "AdaptConfig.steps"),
    ],
)
def test_contradicting_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(AdaptConfig, options, "mini", "soft-prompt")


@pytest.mark.parametrize(
    ("stage", "made_by", "options", "idle"),
    [
        (AdaptConfig, "soft-prompt", {"set": ["lora_rank=4"]}, "lora_rank"),
        (AdaptConfig, "lora", {"prompt_length": 4}, "prompt_length"),
        (AdaptConfig, "soft-prompt", {"initialise": "text", "set": ["init_std=1"]}, "init_std"),
        (AdaptConfig, "soft-prompt", {"init_prompt": ["a.st"], "set": ["init_std=1"]}, "init_std"),
        (AdaptConfig, "soft-prompt", {"parallel": ["a.tsv"], "set": ["mask_rate=0.2"]}, "mask_rate"),
        (AdaptConfig, "soft-prompt", {"set": ["source_share=0", "balance=repeat"]}, "balance"),
        (AdaptConfig, "soft-prompt", {"set": ["auto_steps=4"]}, "auto_steps"),
        (AdaptConfig, "soft-prompt", {"set": ["state_cache=0"]}, "state_cache"),
        (TuneConfig, "embedding", {"epochs": 3}, "epochs"),
        (TuneConfig, "embedding", {"gradient_checkpointing": True}, "gradient_checkpointing"),
        (TuneConfig, "soft-prompt", {"set": ["prompt_length=4"]}, "prompt_length"),
        (TuneConfig, "lora", {"head": "linear", "loss_over": "vocabulary"}, "loss_over"),
        (TuneConfig, "lora", {"set": ["task_adapter_reduction=4"]}, "task_adapter_reduction"),
        (TuneConfig, "lora", {"dev": "dev.tsv", "set": ["dev_share=0.3"]}, "dev_share"),
        (TuneConfig, "lora", {"set": ["allow_unknown=true"]}, "allow_unknown"),
        (TuneConfig, "tf-idf", {"set": ["dev_share=0.3"]}, "dev_share"),
    ],
)
def test_a_setting_that_changes_nothing_is_refused(
    stage: type[AdaptConfig] | type[TuneConfig], made_by: str, options: dict[str, object], idle: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{idle} has no effect here: .*; leave it out"):
        settings(stage, options, "xlm-roberta-base", made_by)


@pytest.mark.parametrize("name", presets())
def test_what_a_preset_sets_in_vain_is_dropped(name: str) -> None:
    for method in METHODS:
        settings(TuneConfig, {"preset": name}, "xlm-roberta-base", method)
        settings(AdaptConfig, {"preset": name}, "xlm-roberta-base", method)


def test_label_prior_from_files(tmp_path: Path) -> None:
    labels = ("sports", "health")
    (tmp_path / "prior.toml").write_text("sports = 0.25\nhealth = 3", encoding="utf-8-sig")
    (tmp_path / "prior.json").write_text('{"sports": 1}')
    assert files.label_prior(str(tmp_path / "prior.toml"), labels) == {"sports": 0.25, "health": 3.0}
    assert files.label_prior(str(tmp_path / "prior.json"), labels) == {"sports": 1.0}
    for text, message in (("sport = 1", "Did you mean 'sports'"), ("sports = -1", "0 or more"), ("sports = 0", "all")):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(DataError, match=message):
            files.label_prior(str(tmp_path / "bad.toml"), labels)
    with pytest.raises(DataError, match="no such file"):
        files.label_prior("unifrom", labels)


def test_a_label_with_a_comma_stands_in_quotes() -> None:
    task = Task("t", "{mask} {text}", {"arts, culture": "Arts", "health": "Health", "sports": "Sports"})
    assert files.chosen_labels('health,"arts, culture"', task) == ["health", "arts, culture"]
    assert files.chosen_labels(' health, "arts, culture" ,', task) == ["health", "arts, culture"]


def test_interruption_says_that_the_command_can_go_on(
    glotprompt: Program, files: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(protocol, "run_stage1", stop)
    monkeypatch.chdir(files)
    words = f"adapt --model {tiny_folder} --target nya=nya.txt --source eng.txt --output nya.st --precision fp32"
    outcome = glotprompt(*words.split())
    assert outcome.status == 130
    assert "rerun the same command to resume from the last checkpoint (in nya.st.checkpoints)" in outcome.error


@pytest.mark.slow
def test_demo_hands_its_options_on(glotprompt: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def run_demo(**options: object) -> DemoResult:
        given.update(options)
        (tmp_path / "out").mkdir(exist_ok=True)  # the lock lies in it
        return DemoResult.of({**demo_result(), "title": "A demo"}, "invented")

    monkeypatch.setattr(demo, "run_demo", run_demo)
    words = ["demo", "--task", "news", "--target", "lug", "--data-dir", "d", "--fast"]
    outcome = glotprompt(*words, "--output", tmp_path / "out", "--json", tmp_path / "demo.json")
    assert outcome.status == 0
    assert given["scenario"] == "news"
    assert given["target"] == "lug"
    assert given["fast"] is True
    assert given["command"] == "glotprompt demo --scenario news --language lug --data-dir d --fast"
    assert "A demo" in outcome.out
    assert json.loads((tmp_path / "demo.json").read_text())["title"] == "A demo"
    assert "<html" in (tmp_path / "out" / "demo.html").read_text()


def test_a_demo_that_is_stopped_leaves_no_figures_of_an_earlier_one(
    glotprompt: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(**_: object) -> None:
        raise KeyboardInterrupt

    for name in ("result.json", "demo.html", "mine.txt"):
        (tmp_path / name).write_text("earlier", encoding="utf-8")
    monkeypatch.setattr(demo, "run_demo", stop)
    assert glotprompt("demo", "--output", tmp_path).status == 130
    assert not {"result.json", "demo.html"} & {one.name for one in tmp_path.iterdir()}
    assert (tmp_path / "mine.txt").is_file()


def test_main_takes_the_words_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["glotprompt", "--version"])
    assert main() == 0
    shown = r"glotprompt \d\S*\nPython \d\S*, torch \d\S*, transformers \d\S*\nbackbones: mini \w{16}, .*\n"
    assert re.fullmatch(shown, capsys.readouterr().out)


def options_of(name: str) -> set[str]:
    """Every spelling of a command's options."""
    return {word for option in (*all_options(name), *also(name)) for word in option.spellings}


def test_commands_of_the_readme_and_the_docs_are_there() -> None:
    """Every line that a reader may copy names a command and options that exist."""
    root, checked = Path(__file__).parents[2], 0
    # The diary holds what was typed then.
    for file in (root / "README.md", *sorted(path for path in (root / "docs").rglob("*.md") if path.name != "log.md")):
        for line in re.findall(r"^(?:    )?glotprompt ([a-z].*)$", file.read_text(encoding="utf-8"), re.MULTILINE):
            words = line.split(" #")[0].split()
            name = " ".join(words[:2]) if words[0] in GROUPS else words[0]
            assert name in COMMANDS, f"{file.name}: {line}"
            used = {word.split("=")[0].strip("[]") for word in words if word.lstrip("[").startswith("--")}
            assert used <= options_of(name) | {"--help", "--help-all"}, f"{file.name}: {line}"
            checked += 1
    assert checked > 20


# --- control characters


RED = "\x1b[31m"
TRICKS = f"{RED}red\x07\x9b2J\x7f"


@pytest.mark.slow
def test_control_characters_never_reach_the_terminal_raw(
    here: Path, tiny_folder: Path, glotprompt: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of labels, nor of texts, names of files and what files say of themselves."""
    label = f"sports{TRICKS}"
    for name in ("train.tsv", "test.tsv"):
        table = (here / name).read_text(encoding="utf-8")
        (here / name).write_text(
            table.replace("\tsports", f"\t{label}").replace("win", f"win{TRICKS}"), encoding="utf-8"
        )
    spelled = label.encode("unicode_escape").decode().replace("\\x", "\\u00")
    task = (here / "task.toml").read_text(encoding="utf-8").replace("sports =", f'"{spelled}" =')
    odd = here / f"t{RED}"
    odd.with_suffix(".toml").write_text(task, encoding="utf-8")
    common = ["--precision", "fp32", "--device", "cpu"]
    made = glotprompt(
        "tune", "--model", tiny_folder, "--train", "train.tsv", "--task", odd.with_suffix(".toml"), *common,
        "--epochs", "1", "--batch-size", "8", "--max-length", "24", "--set", "prompt_length=3",
        "--output", odd.with_suffix(".st"), "--no-samples",
    )  # fmt: skip
    assert made.status == 0, made.err
    use = ("--classifier", odd.with_suffix(".st"), *common)
    text = f"win{TRICKS} play"
    done = [
        made,
        glotprompt("evaluate", "--data", "test.tsv", *use, "--json", odd.with_suffix(".json")),
        glotprompt("predict", text, *use),
        glotprompt("predict", text, "--json", "-", *use),
        glotprompt("predict", "--labels", TRICKS, text, *use),
        glotprompt("evaluate", "--data", TRICKS, *use),
        glotprompt("doctor", "--text", "test.tsv", "--language", "nya", "--no-probe", "--model", str(tiny_folder)),
        glotprompt("adapt", "--target", TRICKS, "--output", "x"),
        glotprompt(TRICKS),
        glotprompt("predict", f"--{TRICKS}", "x"),
        glotprompt("serve", odd.with_suffix(".st"), "--host", TRICKS),
    ]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)  # a table
    done.append(glotprompt("predict", text, *use))
    for outcome in done:
        for line in (outcome.out + outcome.err).replace("\t", " ").split("\n"):
            plain = re.sub(r"\x1b\[[0-9;]*m", "", line) if outcome is done[-1] else line
            assert visible(plain) == plain, f"{line!a} of {outcome!a}"
    assert [outcome.status for outcome in done[:4]] == [0] * 4, done[:4]
    found = json.loads(done[3].out)
    assert found["text"] == text, "JSON still holds the text itself"
    assert set(found["scores"]) == {label, "health", "business"}
    assert r"sports\x1b[31mred\x07\x9b2J\x7f" in done[1].out


# --- words of the command line


@pytest.mark.parametrize(
    ("words", "named", "shown"),
    [
        (["adapt"], ("initialise", "noise"), "--init noise"),
        (["adapt"], ("source_share", "0"), "--set source_share=0"),
        (["adapt"], ("warmup_ratio", None), "--set warmup_ratio"),
        (["tune"], ("head", "linear"), "--head linear"),
        (["adapt"], ("initial", None), "--init-prompt FILE"),
        (["convert", "to-peft"], ("allow_plain", "True"), "--allow-plain"),
        (["evaluate"], ("prior_text", None), "--prior-text FILE"),
        (["adapt"], ("gradient_checkpointing", "True"), "--gradient-checkpointing"),
        (["adapt"], ("max_length", None), "--max-length"),
        (["adapt"], ("characters", None), "--map-characters auto"),
        (["combine"], ("characters", None), "--map-characters FILE"),
        (["predict"], ("delimiter", ";"), "--read 'delimiter=;'"),
        (["predict"], ("delimiter", "\t"), r"--read 'delimiter=\t'"),
        (["predict"], ("encoding", "utf-16-le"), "--read encoding=utf-16-le"),
        (["predict"], ("on_bad_row", "skip"), "--on-bad-row skip"),
        (["grid"], ("steps", "300"), "steps=300"),
        (["compare"], ("held_out", None), "--held-out or --target-labels"),
    ],
)
def test_settings_are_named_as_the_command_line_has_them(
    words: list[str], named: tuple[str, str | None], shown: str
) -> None:
    from glotprompt.cli.wording import wording_of

    with in_words_of(wording_of(words)):
        assert setting(*named) == shown


def test_settings_are_named_as_python_has_them() -> None:
    found = [setting("delimiter", "\t"), setting("columns"), setting("seed", "1"), setting("steps", of="AdaptConfig")]
    assert found == [r'delimiter="\t"', "columns=", "seed=1", "AdaptConfig.steps"]


@pytest.mark.slow
def test_streams_may_be_closed(tmp_path: Path) -> None:
    for words in ("--version >&-", "--version 2>&-", "data list <&- >&- 2>&-"):
        command = f"{sys.executable} -m glotprompt {words}"
        assert subprocess.run(["bash", "-c", command], cwd=tmp_path).returncode == 0


def test_a_file_to_write_whose_name_is_no_text(glotprompt: Program) -> None:
    words = ["adapt", "--target", "eng=x", "--output"]
    assert "'\\udcff.st': the name is not valid UTF-8" in glotprompt(*words, "\udcff.st").error


@pytest.mark.parametrize(
    "words",
    [
        *(f"{command} --json" for command in ("adapt", "tune", "evaluate", "doctor", "demo", "data check sib200")),
        *(f"{command} --output" for command in ("tune", "combine a.st", "embed a.txt")),
        *("doctor --html", "evaluate --save-offsets", "report a --pack", "report a --markdown"),
        *("convert from-peft a", "convert from-adapter-hub a b"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_refused_first(words: str, glotprompt: Program, tmp_path: Path) -> None:
    name = words.split()[-1] if "--" in words else "OUTPUT"
    assert glotprompt(*words.split(), tmp_path).error == (
        f"error: {name} {tmp_path} is a folder; name the file that is to be written"
    )


@pytest.mark.parametrize("words", ["from-peft a x.st", "from-adapter-hub a b x.st"])
def test_a_language_is_checked_before_a_backbone_is_opened(words: str, glotprompt: Program) -> None:
    error = glotprompt("convert", *words.split(), "--model", "nowhere", "--language", "luganda").error
    assert "Did you mean Luganda (lug)" in error


@pytest.mark.parametrize("name", ["encoding=latin.txt", "on_bad_row=x.txt", "text=.tsv", "data_dir=a.txt"])
def test_a_file_may_be_called_like_a_setting(name: str, glotprompt: Program) -> None:
    words = ["doctor", "--no-probe", "--language", "nya", "--text", name]
    assert glotprompt(*words).error.startswith(f"error: {name}: no such file")
