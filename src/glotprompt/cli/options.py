"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from glotprompt.cli.declare import REQUIRED, Option, to_write

# Texts, examples and what is made of them
LANGUAGE = Option("--language CODE", "ISO 639-3 code of the target language, such as nya.")
TASK = Option("--task NAME|FILE.toml", "news, nli, or a TOML file with template and verbalizer.", default=REQUIRED)
TRAIN = Option(
    "--train FILE",
    "Labelled examples in the source language: a table. May be repeated, also with several languages.",
    list[str],
    REQUIRED,
)
DEV = Option("--dev FILE", "Labelled source examples to choose the best epoch; else some of --train.")
TARGET_LABELS = Option(
    "--target-labels FILE",
    "Labelled examples in the target language: a table. Of each label with five or more, a fifth chooses the epoch, and"
    " the others are trained on. With --method embedding all are trained on, and cross-validation chooses the penalty."
    " target_weight says how much one counts.",
)
PROMPT = Option("--prompt FILE", "What adapt wrote, to start from.", Path)
CLASSIFIER = Option("--classifier FILE", "The classifier that tune wrote.", Path, REQUIRED)
JSON = to_write("--json FILE", "Write the figures as JSON; - is standard output, with nothing else on it.")
MODEL = Option(
    "--model NAME",
    "The frozen backbone: bundled (`glotprompt backbones`), folder or hub name.",
    default="mini",
)
MODEL_PLACE = Option("--model NAME", "The backbone, where it is not found under the name that the file recorded.")
LABELS = Option(
    "--labels A,B,...",
    "Choose among these labels only (one with a comma in quotes). A target may have fewer than the source.",
)
LABEL_PRIOR = "--label-prior uniform|FILE|LABEL=N,..."
PRIOR = (
    Option(
        LABEL_PRIOR,
        "Fit one offset per label on --prior-text. The mean predictions then meet this prior: uniform, or a number"
        " for each label. A TOML or JSON file has a line for each label. A wrong prior hurts.",
    ),
    Option(
        "--prior-text FILE",
        "Unlabelled target text for calibration, other than what is scored. May be repeated.",
        list[str],
    ),
)
PRESET = Option(
    "--preset NAME",
    "Named settings to start from instead of the defaults shown here; if not given, quick for mini (adapt with"
    " --parallel alone: alignment). There are defaults, paper, quick, alignment, americasnli and masakhanews.",
)
SET = Option("--set KEY=VALUE", "Any setting by its name; may be repeated.", list[str])

# Files
FILES = "Files (.txt, .tsv, .csv, .jsonl, each also .gz, and .parquet)"
DATA_DIR = Option(
    "--data-dir DIR",
    "Folder of datasets, for references such as masakhanews:sna:test. In their publishers' layouts; else the variable"
    " GLOTPROMPT_DATA, else the hub.",
    Path,
)


def reading(*columns: str) -> tuple[Option, ...]:
    """How files and references are read (`data.sources.Reading`): the columns that a command reads, and the rest."""
    return (
        *(Option(f"--{name}-column NAME", f"Column of the {name} in tables.", shown_default=name) for name in columns),
        DATA_DIR,
        Option("--revision COMMIT", "Commit of the hub's repository, where the catalog's is not wanted."),
        Option(
            "--read KEY=VALUE",
            "How to read the files; may be repeated. format=txt|tsv|csv|jsonl|parquet, delimiter=; quoting=csv|none,"
            " columns=a,b,c (no header line), encoding=cp1252 (default: by the byte-order mark, else utf-8)."
            " Of references: input=article (news with their bodies; default: headlines).",
            list[str],
        ),
        Option("--on-bad-row", "What a row that cannot be used does.", Literal["error", "skip"], "error"),
        Option(
            "--normalise",
            "Clean every text: NFC, no control or invisible characters, single spaces. Recorded in what is saved.",
            bool,
        ),
    )


# Decontamination
ALLOW_EVALUATION_TEXT = Option(
    "--allow-evaluation-text", "Read files that are evaluation text in a publisher's layout.", bool
)
DECONTAMINATION = (
    Option(
        "--held-out FILE",
        "Text that will be scored, to be taken out of unlabelled text. Lines, a table, or a reference such as"
        " masakhanews:ibo:test (below the folder GLOTPROMPT_DATA); may be repeated. Texts that are the same or share 13"
        " words in a row are removed. dev.* and test.* beside a train.* are found without it.",
        list[str],
    ),
    Option("--no-overlap-check", "Do not look for evaluation text in what is read.", bool),
    ALLOW_EVALUATION_TEXT,
)

# Where it runs
DEVICE = Option("--device NAME", "auto, cpu, cuda, cuda:1, mps ...", default="auto")


def machine(precision: str = "auto") -> tuple[Option, ...]:
    """Arithmetic and device."""
    kind = Literal["auto", "fp32", "bf16"]
    text = "Arithmetic of the frozen body; auto takes bf16 where it is faster."
    return (Option("--precision", text, kind, precision), DEVICE)


SCORING_BATCH = Option("--batch-size N", "Texts per forward pass.", int, 32, 1)
TRAINING_MACHINE = (
    "micro_batch_size",
    "gradient_checkpointing",
    "checkpoint_every",
    "eval_batch_size",
    "no_samples",
    "log_with",
)
"""Settings of `RuntimeConfig` that training commands have options for."""
