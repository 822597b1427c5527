"""The options that several commands share, and commands whose options are settings.

A parameter that is named after a field of a config and has no help of its own gets the field's description, looked up
only when help is asked for: so no fact stands twice, and `glotprompt --help` need not wait for pydantic.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from glotprompt.config import Stage

SETTINGS, MACHINE = "Settings", "Machine"
TABLES, GUARDS = "Files (.txt, .tsv, .csv, .jsonl, each also .gz, and .parquet)", "Honest splits"
_SETTING: dict[str, Any] = {"rich_help_panel": SETTINGS, "show_default": False}
_TABLE: dict[str, Any] = {"rich_help_panel": TABLES}
_GUARD: dict[str, Any] = {"rich_help_panel": GUARDS}
_MACHINE: dict[str, Any] = {"rich_help_panel": MACHINE, "show_default": False}


def _can_be_written(ctx: typer.Context, param: typer.CallbackParam, value: Path | None) -> Path | None:
    if value is not None and not ctx.resilient_parsing:  # a shell that completes words makes no folders
        from glotprompt.cli.screen import check_output

        check_output(value, param.opts[0] if param.param_type_name == "option" else str(param.metavar))
    return value


def to_write(metavar: str = "FILE") -> dict[str, Any]:
    """What an option for a file to write has in common with its kin: a place that cannot be written to is refused
    before any work is done."""
    return {"metavar": metavar, "callback": _can_be_written}


# Texts, examples and what is made of them
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target", metavar="FILE", help="Unlabelled target text, one text per line; CODE=FILE names its language."
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Option("--source", metavar="FILE", help="Unlabelled text in the source language, mixed with the target's."),
]
Parallel = Annotated[
    list[str] | None,
    typer.Option(
        "--parallel",
        metavar="FILE",
        help="Translations instead of --target and --source: a table with the columns source and target (or two "
        "columns without names), source text and target text line by line as two files, or a reference such as "
        "bible_verses:cni. The objective is then alignment.",
    ),
]
Language = Annotated[
    str | None, typer.Option("--language", metavar="CODE", help="ISO 639-3 code of the target language, such as nya.")
]
LanguageOfClassifier = Annotated[
    str | None,
    typer.Option(
        "--language",
        metavar="CODE",
        help="Without --prompt: ISO 639-3 code of the language that the classifier is for, such as nya.",
    ),
]
PromptOutput = Annotated[
    Path,
    typer.Option(
        "--output",
        metavar="FILE",
        help="What to write: the language prompt (or module); a folder for several languages.",
    ),
]
MapCharacters = Annotated[
    str | None,
    typer.Option(
        "--map-characters",
        metavar="auto|FILE",
        help="Rewrite characters that the tokenizer does not know, in all texts from here to the last prediction: to "
        "the nearest known ones of each target's text, or by a TOML or JSON file of character = spelling.",
    ),
]
AllowUnknown = Annotated[bool, typer.Option("--allow-unknown", show_default=False)]
MapOfCombined = Annotated[
    Path | None,
    typer.Option(
        "--map-characters",
        metavar="FILE",
        help="Where the prompts rewrite characters differently: the TOML or JSON file of character = spelling that "
        "holds.",
    ),
]
InitPrompt = Annotated[
    list[str] | None,
    typer.Option(
        "--init-prompt",
        metavar="FILE[=WEIGHT]",
        help="Start from a saved prompt of another language instead of noise; repeated: from their weighted sum. "
        "Without weights: the mean.",
    ),
]
Train = Annotated[
    str, typer.Option("--train", metavar="FILE", help="Labelled examples in the source language: a table.")
]
Dev = Annotated[
    str | None,
    typer.Option(
        "--dev", metavar="FILE", help="Labelled source examples to choose the best epoch; else some of --train."
    ),
]
Task = Annotated[
    str,
    typer.Option(
        "--task", metavar="NAME|FILE.toml", help="news, nli, or a TOML file with template and a table verbalizer."
    ),
]
Prompt = Annotated[Path | None, typer.Option("--prompt", metavar="FILE", help="What adapt wrote, to start from.")]
ModelToTune = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Without --prompt: the backbone (mini, a folder, a hub name), tuned without adaptation. With it: the "
        "backbone's place, where it is not found under the name that the prompt recorded.",
    ),
]
ModelToEmbed = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The backbone: mini-sentence (the default), a folder, a hub name. With --prompt: its place, where it is "
        "not found under the name that the prompt recorded.",
    ),
]
TargetText = Annotated[
    list[str] | None,
    typer.Option(
        "--target-text",
        metavar="FILE",
        help="For --method embedding: unlabelled target text, other than what is scored later; may be repeated. "
        "Sentence vectors are then centred by its mean instead of the source examples'.",
    ),
]
ClassifierOutput = Annotated[Path, typer.Option("--output", help="The classifier to write.", **to_write())]

# Settings: the parameter's name is the field's
Method = Annotated[str | None, typer.Option("--method", metavar="NAME", **_SETTING)]
Head = Annotated[str | None, typer.Option("--head", metavar="words|linear", **_SETTING)]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Named settings to start from: paper, quick, alignment, americasnli or masakhanews. Default: alignment "
        "with --parallel, quick for the model mini, else paper.",
        **_SETTING,
    ),
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", **_SETTING)]
LearningRate = Annotated[str | None, typer.Option("--learning-rate", metavar="NUMBER", **_SETTING)]
Initialise = Annotated[str | None, typer.Option("--init", metavar="noise|text", **_SETTING)]
PromptLength = Annotated[int | None, typer.Option("--prompt-length", **_SETTING)]
BatchSize = Annotated[int | None, typer.Option("--batch-size", **_SETTING)]
MaxLength = Annotated[int | None, typer.Option("--max-length", **_SETTING)]
Seed = Annotated[int | None, typer.Option("--seed", **_SETTING)]
Steps = Annotated[int | None, typer.Option("--steps", **_SETTING)]
Epochs = Annotated[int | None, typer.Option("--epochs", **_SETTING)]
TopK = Annotated[int | None, typer.Option("--top-k", **_SETTING)]
BottomK = Annotated[int | None, typer.Option("--bottom-k", **_SETTING)]
LossOver = Annotated[str | None, typer.Option("--loss-over", metavar="labels|vocabulary", **_SETTING)]
Shots = Annotated[int | None, typer.Option("--shots", **_SETTING)]

# Tables
TextColumn = Annotated[str | None, typer.Option("--text-column", help="Column of the text. Default: text.", **_TABLE)]
LabelColumn = Annotated[
    str | None, typer.Option("--label-column", help="Column of the label. Default: label.", **_TABLE)
]
PremiseColumn = Annotated[
    str | None,
    typer.Option(
        "--premise-column", help="Column of the premise, where the task reads pairs. Default: premise.", **_TABLE
    ),
]
HypothesisColumn = Annotated[
    str | None,
    typer.Option(
        "--hypothesis-column",
        help="Column of the hypothesis, where the task reads pairs. Default: hypothesis.",
        **_TABLE,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Where references such as masakhanews:sna:test are looked up: a folder of datasets in their publishers' "
        "layouts (else the variable GLOTPROMPT_DATA, else the hub).",
        **_TABLE,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision",
        metavar="COMMIT",
        help="Commit of the hub's repository that references are read from, where the catalog's is not wanted or it "
        "has none.",
        **_TABLE,
    ),
]
Read = Annotated[
    list[str] | None,
    typer.Option(
        "--read",
        metavar="KEY=VALUE",
        help="How to read the files, may be repeated: format=txt|tsv|csv|jsonl|parquet, delimiter=; quoting=csv|none, "
        "columns=a,b,c (no header line), encoding=cp1252 (default: by the byte-order mark, else utf-8).",
        **_TABLE,
    ),
]
OnBadRow = Annotated[
    Literal["error", "skip"],
    typer.Option(
        "--on-bad-row", help="A row that cannot be used stops the command, or is named and left out.", **_TABLE
    ),
]
Normalise = Annotated[
    bool,
    typer.Option(
        "--normalise",
        help="Clean every text: NFC, no control or invisible characters, single spaces. Recorded in what is saved.",
        **_TABLE,
    ),
]

# Honest splits
HeldOut = Annotated[
    list[str] | None,
    typer.Option(
        "--held-out",
        metavar="FILE",
        help="Text that will be scored, may be repeated: lines, a table, or a reference such as masakhanews:ibo:test "
        "(below the folder GLOTPROMPT_DATA). What stage 1 reads is checked against it: "
        "texts that are the same or share 13 words in a row are removed. dev.* and test.* beside a train.* are found "
        "without it.",
        **_GUARD,
    ),
]
NoOverlapCheck = Annotated[
    bool, typer.Option("--no-overlap-check", help="Do not look for evaluation text in what is read.", **_GUARD)
]
AllowEvaluationText = Annotated[
    bool,
    typer.Option(
        "--allow-evaluation-text", help="Read files that are evaluation text in a publisher's layout.", **_GUARD
    ),
]
TextShare = Annotated[
    float | None,
    typer.Option(
        "--text-share",
        metavar="SHARE",
        help="Read this share of the target text, such as 0.25. Shares of one seed are nested.",
        **_SETTING,
    ),
]

MAX_LINES = 200_000
MaxLines = Annotated[
    int,
    typer.Option(
        "--max-lines",
        min=1,
        help="Read at most so many lines of each text: of a larger one they are drawn by the seed.",
        **_SETTING,
    ),
]

# The backbone, and where it runs
ModelToAdapt = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The frozen backbone: bundled (`glotprompt backbones`), a folder, or a hub name such as "
        "FacebookAI/xlm-roberta-large. Default: mini; with --parallel: mini-sentence.",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        help="The frozen backbone: bundled (`glotprompt backbones`), a folder, or a hub name such as "
        "FacebookAI/xlm-roberta-large."
    ),
]
ModelPlace = Annotated[
    str | None,
    typer.Option(
        "--model", help="The backbone, where it is not found under the name that the file recorded.", **_MACHINE
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"],
    typer.Option(
        help="Arithmetic of the frozen body; auto takes bf16 where it is faster here.", rich_help_panel=MACHINE
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...", rich_help_panel=MACHINE)]
MicroBatchSize = Annotated[int | None, typer.Option("--micro-batch-size", **_MACHINE)]
GradientCheckpointing = Annotated[bool, typer.Option("--gradient-checkpointing", **_MACHINE)]
CheckpointEvery = Annotated[float | None, typer.Option("--checkpoint-every", metavar="SECONDS", **_MACHINE)]
ScoringBatchSize = Annotated[
    int, typer.Option("--batch-size", min=1, help="Texts per forward pass.", rich_help_panel=MACHINE)
]
NoSamples = Annotated[bool, typer.Option("--no-samples", rich_help_panel="Privacy", show_default=False)]
EvalBatchSize = Annotated[int | None, typer.Option("--eval-batch-size", **_MACHINE)]

# Files and figures
Json = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as JSON.", **to_write())]
Classifier = Annotated[Path, typer.Option(metavar="FILE", help="The classifier that tune wrote.")]
Against = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Another classifier with the same labels, or what evaluate --json wrote of one: how much better is "
        "--classifier? The other is taken as saved; --prior-text is for --classifier alone.",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(metavar="A,B,...", help="Choose among these labels only (a target may have fewer than the source)."),
]
LabelPrior = Annotated[
    str | None,
    typer.Option(
        "--label-prior",
        metavar="uniform|FILE",
        help="Fit one offset per label on --prior-text, so that the mean predictions meet this prior: the same for all "
        "labels, or a TOML or JSON file of label = number. A wrong prior hurts.",
    ),
]
PriorText = Annotated[
    list[str] | None,
    typer.Option(
        "--prior-text",
        metavar="FILE",
        help="Unlabelled text in the target language, other than what is scored; may be repeated.",
    ),
]


class _SettingsCommand(TyperCommand):
    """A command whose parameters are settings of one stage."""

    stage: ClassVar[Stage]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from glotprompt.cli.settings import help_of_settings

        parameters: Sequence[Any] = self.params
        self.epilog = help_of_settings(self.stage, parameters)
        super().format_help(ctx, formatter)


class AdaptCommand(_SettingsCommand):
    """`adapt`, with the settings of stage 1."""

    stage = "adapt"


class TuneCommand(_SettingsCommand):
    """`tune`, with the settings of stage 2."""

    stage = "tune"
