"""Commands that use what was trained: evaluate, predict, embed, serve."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from glotprompt.cli.declare import REQUIRED, Command, Option, to_write
from glotprompt.cli.options import (
    CLASSIFIER,
    DATA_DIR,
    FILES,
    JSON,
    LABELS,
    MODEL_PLACE,
    PRIOR,
    PROMPT,
    SCORING_BATCH,
    machine,
    reading,
)

SCORING = {
    "evaluate": Command(
        "Score a classifier on labelled examples of any language.",
        "scoring:evaluate",
        (
            "evaluate --classifier news.safetensors --data test.tsv",
            "evaluate --classifier a.safetensors --data masakhanews:sna:test --against b.safetensors",
        ),
        (
            CLASSIFIER,
            Option("--data FILE", "Labelled examples: a table, or a reference.", default=REQUIRED),
            LABELS,
            *PRIOR,
            to_write("--save-offsets FILE", "Write a classifier that holds the fitted label offsets."),
            Option(
                "--against FILE",
                "Another classifier with the same labels, to compare with. Or what evaluate --json wrote of one: how"
                " much better is --classifier? The other is taken as saved; --prior-text is for --classifier alone.",
                Path,
            ),
            Option(
                "--record", "Keep the accuracy in the classifier's file; predict, show and serve then say it.", bool
            ),
            DATA_DIR,
            JSON,
        ),
        {
            "Record": (
                Option(
                    "--language CODE",
                    "ISO 639-3 code of the examples' language, for --record. Default: a reference's own, else the"
                    " classifier's.",
                ),
            ),
            FILES: tuple(one for one in reading("text", "label", "premise", "hypothesis") if one is not DATA_DIR),
            "Machine": (MODEL_PLACE, *machine(), SCORING_BATCH),
        },
        config=True,
    ),
    "predict": Command(
        "Classify texts given as arguments, files or standard input.",
        "scoring:predict",
        (
            "predict --classifier news.safetensors 'Boma lakonza msewu'",
            "predict --classifier news.safetensors --input texts.txt --json predictions.jsonl",
        ),
        (
            Option(
                "TEXT...",
                "Texts, or - for standard input; of pairs, premise and hypothesis in turn.",
                list[str],
                parameter="texts",
            ),
            CLASSIFIER,
            Option("--input FILE", "Texts, one per line, or a table; - is standard input.", list[str]),
            to_write(
                "--json FILE", "Write one JSON object per line, with every label's probability; - is standard output."
            ),
            LABELS,
            *PRIOR,
        ),
        {
            FILES: reading("text", "premise", "hypothesis"),
            "Machine": (MODEL_PLACE, *machine(), SCORING_BATCH),
        },
        "The probabilities of a text's labels sum to 1. When piped, each line holds label, probability and text between"
        " tabs.",
        config=True,
    ),
    "embed": Command(
        "Write the sentence vectors of texts as a NumPy file.",
        "backbones:embed",
        (
            "embed --input texts.txt --output texts.npy",
            "embed --prompt nya.safetensors --input nya.txt --layer 8 --output nya.npy",
        ),
        (
            Option("--input FILE", "Texts, one per line, or a table.", list[str], REQUIRED),
            to_write("--output FILE.npy", "The vectors: NumPy, float32.", REQUIRED),
            Option(
                "--model NAME",
                "The backbone: bundled, folder or hub name. With --prompt: its place, where it is"
                " not found under the name that the prompt recorded.",
                shown_default="mini-sentence",
            ),
            PROMPT,
            Option("--layer N", "The states behind so many layers; 0: the embeddings. Default: all.", int, least=0),
            Option("--max-length N", "Tokens per text. Default: what the backbone reads.", int, least=3),
            SCORING_BATCH,
        ),
        {FILES: reading("text"), "Machine": machine("fp32")},
        "They are mean-pooled states [text, hidden] in float32.",
        config=True,
    ),
    "serve": Command(
        "Serve classifiers over HTTP, with a page for the browser.",
        "serve:serve",
        ("serve --workspace mine", "serve nya.safetensors --host 0.0.0.0 --port 80 --token-file token.txt"),
        (
            Option("DIR|FILE...", "Classifiers that tune wrote, or folders with some.", list[Path], parameter="places"),
            Option(
                "--workspace FOLDER",
                "Train, measure and correct classifiers in the browser. All of it is kept in this folder, and what is"
                " trained there is served.",
                Path,
            ),
            Option("--host ADDRESS", "Address to listen on; 0.0.0.0 for all of this machine's.", default="127.0.0.1"),
            Option("--port N", "0 takes a free one.", int, 8000, 0),
            Option("--token-file FILE", "Answer only those who send the token in this file.", Path),
            Option("--poll SECONDS", "How often to look for new files; 0: never.", float, 2.0, 0),
            Option("--engine", "Who answers: this process, or replicas on Ray.", Literal["uvicorn", "ray"], "uvicorn"),
            MODEL_PLACE,
            *machine(),
        ),
        {
            "Network": (
                Option(
                    "--allow-origin URL",
                    "Pages from there may call the service from a browser. May be repeated. Default: only its own.",
                    list[str],
                ),
                Option(
                    "--allow-host NAME",
                    "Name by which the service is asked for, as behind a proxy. May be"
                    " repeated. Known without it: this machine's own (localhost), and what --host says.",
                    list[str],
                ),
            ),
            "Training": (
                Option(
                    "--allow-training",
                    "Let those train, too, who reach the service from elsewhere. With --workspace and --token-file.",
                    bool,
                ),
            ),
            "Limits": (
                Option(
                    "--max-connections N",
                    "Connections at a time. Default: 1024, or what the limit of open files"
                    " (ulimit -n) leaves room for.",
                    int,
                    least=1,
                ),
                Option("--max-items N", "Items in one request.", int, least=1),
                Option("--max-characters N", "Characters of all texts of a request.", int, least=1),
                Option("--max-body N", "Bytes of a request's body.", int, least=1),
                Option(
                    "--queue-tokens N", "Tokens that may wait; beyond, requests are told to come again.", int, least=1
                ),
                Option("--cache-megabytes N", "Memory for decoded classifiers.", int, 256, 0),
            ),
            "Ray": (
                Option(
                    "--replicas N",
                    "Processes that each hold the backbone. Default: one for each GPU, else for each machine.",
                    int,
                    least=1,
                ),
                Option("--address URL", "The cluster to join. Default: one on this machine."),
                Option("--take-over", "Take the place of the service that runs there.", bool),
            ),
        },
        "POST /v1/predict takes texts of any languages and tasks, mixed; GET /openapi.json describes everything. New,"
        " changed and removed files are noticed while it runs. Ctrl-C answers what was accepted, then stops.",
    ),
}
