"""Commands that train, and what is trained: adapt, tune, self-train, combine, show."""

from __future__ import annotations

from pathlib import Path

from glotprompt.cli.declare import REQUIRED, Command, Option, to_write
from glotprompt.cli.options import (
    CLASSIFIER,
    DECONTAMINATION,
    DEV,
    FILES,
    JSON,
    LABEL_PRIOR,
    LANGUAGE,
    MODEL_PLACE,
    PRESET,
    PROMPT,
    SET,
    TARGET_LABELS,
    TASK,
    TRAIN,
    TRAINING_MACHINE,
    machine,
    reading,
)
from glotprompt.data import MAX_LINES

TRAINING = {
    "adapt": Command(
        "Stage 1: learn a language from unlabelled text or translations.",
        "adapt:adapt",
        (
            "adapt --target nya.txt --source eng.txt --language nya --output nya.safetensors",
            "adapt --parallel bible_verses:cni --output cni.safetensors",
        ),
        (
            Option(
                "--output FILE",
                "The language prompt or module to write; a folder for several languages.",
                Path,
                REQUIRED,
            ),
            Option(
                "--target FILE",
                "Unlabelled target text, one text per line; CODE=FILE names its language."
                " May be repeated, also with several languages.",
                list[str],
            ),
            Option("--source FILE", "Unlabelled text in the source language. May be repeated.", list[str]),
            Option(
                "--parallel FILE",
                "Translations, usually instead of --target and --source. A table with the columns source and target (or"
                " two columns without names), or a reference such as bible_verses:cni. Two files are source and target"
                " text, line by line. The objective is then alignment; with --target and --source as well, both:"
                " --set objective=mlm+alignment.",
                list[str],
            ),
            LANGUAGE,
            Option(
                "--model NAME",
                "The frozen backbone: bundled, folder or hub name. `glotprompt backbones` lists the bundled.",
                shown_default="mini; with --parallel alone mini-sentence",
            ),
            "method",
            PRESET,
            "steps",
            "learning_rate",
            "seed",
            SET,
            JSON,
        ),
        {
            "Settings": ("prompt_length", "initialise", "batch_size", "max_length"),
            "Text": (
                Option(
                    "--source-adapter FOLDER",
                    "For --method mad-x, instead of --source: a ready adapter of the source language in AdapterHub's"
                    " format, or its hub name.",
                ),
                Option(
                    "--init-prompt FILE[=WEIGHT]",
                    "Start from a saved prompt of another language instead of noise. Repeated: from their weighted sum;"
                    " without weights, the mean.",
                    list[str],
                ),
                Option(
                    "--map-characters auto|FILE",
                    "Rewrite characters that the tokenizer does not know, from here to the last prediction."
                    " auto takes similar known ones. A TOML or JSON file has lines of character = spelling.",
                ),
                "allow_unknown",
                Option(
                    "--text-share SHARE",
                    "Read this share of the target text, such as 0.25. Shares of one seed are nested.",
                    float,
                ),
                Option(
                    "--max-lines N", "Most lines of each text; of a larger one a sample by the seed.", int, MAX_LINES, 1
                ),
            ),
            "Decontamination": DECONTAMINATION,
            FILES: reading("text"),
            "Machine": (*machine(), *TRAINING_MACHINE),
        },
        "The model stays frozen; by default a soft prompt is trained (`glotprompt methods`). An interrupted run resumes"
        " when you rerun the same command.",
        "adapt",
        True,
    ),
    "tune": Command(
        "Stage 2: learn a task from labelled source-language examples.",
        "tune:tune",
        (
            "tune --prompt nya.safetensors --train train.tsv --task news --output news.safetensors",
            "tune --model mini --train train.tsv --task task.toml --top-k 6 --output topic.safetensors",
        ),
        (
            TRAIN,
            TASK,
            to_write("--output FILE", "The classifier to write.", REQUIRED),
            PROMPT,
            Option(
                "--model NAME",
                "Without --prompt: the backbone, tuned without adaptation. With it: the backbone's place, where it is"
                " not found under the name that the prompt recorded.",
            ),
            DEV,
            TARGET_LABELS,
            "method",
            "head",
            "top_k_layers",
            "epochs",
            "learning_rate",
            SET,
            JSON,
        ),
        {
            "Settings": (
                PRESET,
                "seed",
                "bottom_k_layers",
                "shots_per_class",
                "loss_over",
                "batch_size",
                "max_length",
            ),
            "Text": (
                Option(
                    "--language CODE", "Without --prompt: ISO 639-3 code of the classifier's language, such as nya."
                ),
                Option(
                    "--target-text FILE",
                    "For --method embedding: unlabelled target text, other than what is scored later. May be repeated."
                    " Sentence vectors are then centred by its mean instead of the source examples'.",
                    list[str],
                ),
                Option(
                    "--parallel FILE",
                    "For --method embedding: translations, as adapt reads them. A ridge map from target to source"
                    " vectors, fitted on them, becomes part of the classifier.",
                    list[str],
                ),
                *DECONTAMINATION,
            ),
            FILES: reading("text", "label", "premise", "hypothesis"),
            "Machine": (*machine(), *TRAINING_MACHINE),
        },
        "It starts from what adapt wrote and keeps its method; with --model alone, from noise. --method tf-idf needs"
        " neither. An interrupted run"
        " resumes when you rerun the same command.",
        "tune",
        True,
    ),
    "self-train": Command(
        "Teach a classifier its target language by its own predictions.",
        "self_train:self_train_command",
        (
            "self-train --classifier a.safetensors --unlabelled nya.txt --train train.tsv --output b.safetensors",
            "self-train --classifier a.safetensors --prompt nya.safetensors --unlabelled sib200:nya:train"
            " --held-out sib200:nya:test --train train.tsv --output b.safetensors",
        ),
        (
            CLASSIFIER,
            Option("--unlabelled FILE", "Unlabelled target text. May be repeated.", list[str], REQUIRED),
            TRAIN,
            to_write("--output FILE", "The classifier to write.", REQUIRED),
            Option("--prompt FILE", "What adapt wrote, where the classifier was tuned from it.", Path),
            DEV,
            TARGET_LABELS,
            DECONTAMINATION[0],
            Option("--rounds N", "How often the text is labelled and trained on.", int, 1, 1),
            Option("--keep SHARE", "Share of each predicted label's texts that are trained on.", float, 0.5),
            Option(
                LABEL_PRIOR,
                "How frequent the labels are in the target text. Predictions are first calibrated to it: uniform, or a"
                " number for each label. A TOML or JSON file has a line for each label.",
                default="uniform",
            ),
            JSON,
        ),
        {
            "Decontamination": DECONTAMINATION[1:],
            FILES: reading("text", "label", "premise", "hypothesis"),
            "Machine": (MODEL_PLACE, *machine(), *TRAINING_MACHINE),
        },
        "Each round takes the surest predictions as labels and trains stage 2 anew, with the classifier's settings, on"
        " --train and these. On average it gains little; measure it. An interrupted run resumes when you rerun the same"
        " command.",
        config=True,
    ),
    "combine": Command(
        "Combine prompts into their weighted sum; nothing is trained.",
        "combine:combine",
        (
            "combine sna.safetensors nya.safetensors --output mean.safetensors",
            "combine sna.safetensors nya.safetensors --weights 0.75,0.25 --language bem --output bem.safetensors",
        ),
        (
            Option("PROMPT...", "Language prompts, as adapt wrote them.", list[Path], REQUIRED, parameter="prompts"),
            to_write("--output FILE", "The language prompt to write.", REQUIRED),
            Option(
                "--weights A,B,...",
                "The weight of each prompt, used as it is: weights that sum to 1 make an average. Default: the mean.",
            ),
            Option("--language CODE", "ISO 639-3 code of the language it is meant for. Default: all of theirs."),
            Option(
                "--map-characters FILE",
                "Where the prompts rewrite characters differently: the TOML or JSON file"
                " that holds. Its lines are character = spelling.",
                Path,
            ),
        ),
        text="tune starts from it as from any other prompt.",
    ),
    "show": Command(
        "Say what a trained file is, or print the TOML that made it.",
        "show:show",
        ("show nya.safetensors", "show nya.safetensors --toml > run.toml"),
        (
            Option("FILE", "What adapt, combine, tune or convert wrote.", Path, REQUIRED, parameter="file"),
            Option(
                "--toml",
                "Print a file for --config of adapt or tune, with the settings that it was trained with.",
                bool,
            ),
        ),
    ),
}
