"""Commands around the training: compare, demo, doctor, grid, report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from glotprompt.cli.declare import REQUIRED, Command, Option, to_write
from glotprompt.cli.options import (
    DATA_DIR,
    DECONTAMINATION,
    DEVICE,
    FILES,
    JSON,
    LANGUAGE,
    MODEL,
    PRESET,
    SET,
    TASK,
    TRAINING_MACHINE,
    machine,
    reading,
)

EXPERIMENTS = {
    "compare": Command(
        "Compare what can be done with your data, and save the best.",
        "compare:compare",
        (
            "compare --train eng.tsv --language nya --task news --target nya.txt --target-labels few.tsv --output nya",
            "compare --train train.tsv --language cni --task topics.toml --parallel bible_verses:cni --output cni",
        ),
        (
            Option("--train FILE", "Labelled examples in the source language. May be repeated.", list[str], REQUIRED),
            replace(LANGUAGE, default=REQUIRED),
            replace(TASK, default="news"),
            Option("--output DIR", "Folder for the classifier, the figures and the work so far.", Path, REQUIRED),
            Option("--target FILE", "Unlabelled target text, one text per line. May be repeated.", list[str]),
            Option("--parallel FILE", "Translations, source and target; see adapt. May be repeated.", list[str]),
            Option(
                "--target-labels FILE",
                "A few labelled examples in the target language, to train and to choose on. By cross-validation;"
                " without them it cannot know which is best.",
            ),
            Option("--dev FILE", "Labelled source examples to choose settings on; else some of --train."),
            Option("--minutes N", "Time for all of it; what does not fit is left out.", float, 30.0, 0),
            Option("--model NAME", "The backbone whose sentence vectors are read.", shown_default="mini-sentence"),
            JSON,
        ),
        {
            "Text": ("allow_unknown",),
            "Decontamination": (DECONTAMINATION[0], DECONTAMINATION[2]),
            FILES: reading("text", "label", "premise", "hypothesis"),
            "Machine": (*machine(), "no_samples"),
        },
        "Without a language model, zero-shot, aligned (--parallel), self-trained (--target), with your labels"
        " (--target-labels). It resumes when you rerun the same command.",
    ),
    "demo": Command(
        "Classify a new language with every method, on this machine.",
        "demo:demo",
        ("demo --fast", "demo --scenario manx --output manx"),
        (
            Option(
                "--scenario --task",
                "What is learned. bible: English to Chichewa. manx: topics of English verses to Manx. news: MasakhaNEWS"
                " headlines from Hausa, from --data-dir.",
                Literal["bible", "manx", "news"],
                "bible",
            ),
            Option("--language --target CODE", "Another target language, of news (sna) or manx (glv; cni, quc ...)."),
            Option(
                "--data-dir DIR",
                "Folder that holds masakhanews/, or taxi1500/ and parallel/bible/. Default for manx: GLOTPROMPT_DATA,"
                " else fetched from GitHub (7 MB).",
                Path,
            ),
            Option("--seed N", "manx: seed of stage 1 and of the folds; may be repeated.", list[int]),
            Option("--steps N", "manx: steps of each alignment; default: those of the preset alignment.", int, least=1),
            Option("--fast", "Less training and one seed.", bool),
            Option(
                "--output DIR", "Folder for the page, the two saved files and checkpoints.", Path, Path("demo-output")
            ),
            JSON,
            machine()[0],
        ),
        text="The bundled models were hardly pre-trained on it. An interrupted demo resumes when you rerun the same"
        " command.",
        needs=("The demo's page", "demo", ("matplotlib",)),
    ),
    "doctor": Command(
        "Look at a model and your text before any training.",
        "doctor:doctor",
        (
            "doctor --text nya.txt --language nya",
            "doctor --model FacebookAI/xlm-roberta-large --text nya.txt --task news --html nya.html",
        ),
        (
            Option("--text FILE", "Unlabelled target text, one text per line. May be repeated.", list[str], REQUIRED),
            MODEL,
            LANGUAGE,
            Option("--task NAME|FILE.toml", "Look its label words up, and estimate stage 2."),
            Option("--no-probe", "Time nothing. The probe takes about ten seconds for each stage.", bool),
            Option("--strict", "Exit status 1, not 0, where it will work with care only.", bool),
            to_write("--html FILE", "Write a page with plots: one file, no outside requests."),
            "method",
            PRESET,
            "steps",
            "batch_size",
            "max_length",
            SET,
            JSON,
        ),
        {
            "Settings": (
                "prompt_length",
                Option(
                    "--top-k N",
                    "Stage 2: train the prompts of the top K layers. Its other settings are the preset's.",
                    int,
                    parameter="top_k_layers",
                ),
            ),
            FILES: reading("text"),
            "Machine": machine(),
        },
        "It checks scripts, unknown tokens, fertility, duplicates, other languages and label words. A few real steps"
        " then give time, memory and file size on this machine. The settings are those of adapt.\n\nExit status: 0 when"
        " it will work, also with care (then 1 with --strict). 3 when it will not work without changes.",
        "adapt",
        True,
    ),
    "grid": Command(
        "Run experiments: the paper's tables and figures, or your own.",
        "grid:grid",
        (
            "grid experiments/table1_gap.toml --output results --dry-run",
            "grid mine.toml --output results --scale mini --set 'seeds=[0]'",
        ),
        (
            Option(
                "EXPERIMENT.toml...",
                "What to run; steps they share are run once.",
                list[Path],
                REQUIRED,
                parameter="experiments",
            ),
            Option(
                "--output DIR|URL",
                "Where all steps and results are kept; one for many grids. s3://... too.",
                default=REQUIRED,
            ),
            Option(
                "--scale",
                "paper: as the file says; mini: the bundled backbone, minutes on two cores.",
                Literal["paper", "mini"],
                "paper",
            ),
            Option(
                "--set KEY=VALUE",
                "Another value for a key of the experiments, in TOML. May be repeated: adapt.steps=300, seeds=[0].",
                list[str],
            ),
            Option("--dry-run", "Show the plan, its time and memory, and run nothing.", bool),
            Option(
                "--commands",
                "Print the plain commands (adapt, tune, evaluate) that give each cell's numbers, and run nothing.",
                bool,
            ),
            Option("--retry-failed", "Try steps again that failed in an earlier run.", bool),
            Option(
                "--known FILE.jsonl.gz",
                "Results that need not be found again. A file of `glotprompt report --pack`.",
                Path,
            ),
            DATA_DIR,
            DEVICE,
        ),
        {
            "Machine": (
                Option(
                    "--engine",
                    "Who runs the steps: this process, or workers of Ray.",
                    Literal["serial", "ray"],
                    "serial",
                ),
                Option(
                    "--workers N",
                    "Ray: steps at a time. Default: one for each GPU, else for each machine.",
                    int,
                    least=1,
                ),
                Option("--address URL", "Ray: the cluster to join. Default: one on this machine."),
                *TRAINING_MACHINE[:4],
            ),
        },
        "Every step is done once. An interrupted grid resumes when you rerun the same command. A failed step is kept"
        " with its error while the others run; the exit status is then 1.",
    ),
    "report": Command(
        "Make a grid's tables and figures: HTML, Markdown, CSV, LaTeX.",
        "report:report",
        ("report results --output report", "report results --pack results.jsonl.gz --markdown docs/results.md"),
        (
            Option(
                "DIR|URL|FILE",
                "What `glotprompt grid --output` or `report --pack` wrote.",
                default=REQUIRED,
                parameter="results",
            ),
            Option("--output DIR", "Folder for index.html, results.md, figures/ and tables/.", Path, Path("report")),
            to_write("--markdown FILE", "Another place for results.md, such as docs/results.md; links follow."),
            to_write(
                "--pack FILE.jsonl.gz", "Keep all results in one small file. To report them again, or for grid --known."
            ),
        ),
        text="What is missing is a dash and is listed; a grid that still runs can be reported at any time. A file"
        " reading.md in DIR (NAME.md beside NAME.jsonl.gz), what a person makes of the results, is put in front.",
        needs=("The report", "report", ("matplotlib",)),
    ),
}
