"""Commands that list what there is, and those that convert it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from glotprompt.cli.declare import REQUIRED, Command, Option, to_write
from glotprompt.cli.options import DEVICE, JSON, MODEL, MODEL_PLACE

REFERENCE = {
    "backbones": Command(
        "List the bundled backbones, and which others can be loaded.",
        "backbones:backbones",
        ("backbones", "backbones | cat"),
    ),
    "methods": Command(
        "Show what each method trains: parameters, files, memory.",
        "methods:methods",
        ("methods", "methods --model FacebookAI/xlm-roberta-large --precision bf16 --json costs.json"),
        (
            Option(
                "--model NAME",
                "The backbone: mini, a hub name, or a folder. Of XLM-R, XLM-R XL, XLM-V, mBERT and mmBERT the shape is"
                " built in; of others only config.json is read, never the weights.",
                default="mini",
            ),
            Option("--batch-size N", "Sequences per step.", int, 32, 1),
            Option("--max-length --length N", "Tokens per sequence.", int, 256, 8),
            Option("--prompt-length N", "Vectors of a soft prompt.", int, 32, 1),
            Option("--precision", "Arithmetic of the backbone's body.", Literal["fp32", "bf16"], "fp32"),
            Option(
                "--device", "Where attention runs; on cuda its weights are never kept.", Literal["cpu", "cuda"], "cpu"
            ),
            JSON,
        ),
        text="The figures are counted on the backbone's shape, with the settings of the paper unless given here.",
    ),
    "data list": Command(
        "List the datasets that are known by name.", "data:list_datasets", ("data list", "data list | grep topic")
    ),
    "data show": Command(
        "Show a dataset: languages, labels, licence, citation, where its files belong.",
        "data:show",
        ("data show masakhanews", "data show sib200"),
        (Option("NAME", "A dataset of `glotprompt data list`.", default=REQUIRED),),
        text="For each language it says which models were pre-trained on it.",
    ),
    "data check": Command(
        "Count rows per language, split and label, and report what is odd in the files.",
        "data:check",
        ("data check sib200 --data-dir data", "data check xnli --language swa --json check.json"),
        (
            Option("NAME", "A dataset of `glotprompt data list`.", default=REQUIRED),
            Option("--data-dir DIR", "The folder that the dataset's own folder is in; else GLOTPROMPT_DATA.", Path),
            Option("--language CODE", "Only this language; may be repeated.", list[str]),
            to_write("--json FILE", "Write all figures, with whole checksums, as JSON; - is standard output."),
        ),
        text="Nothing is changed. What is reported is mostly the publisher's: it is there to be known before training.",
    ),
    "convert to-transformers": Command(
        "Write a backbone as a folder that transformers opens.",
        "convert:to_transformers",
        ("convert to-transformers --output mini", "convert to-transformers --model mini-sentence --output sentence"),
        (Option("--output DIR", "The folder to write.", Path, REQUIRED), MODEL),
        text="Weights in fp32, config and tokenizer.",
    ),
    "convert to-peft": Command(
        "Write a language prompt as a PEFT adapter folder.",
        "convert:to_peft",
        ("convert to-peft nya.safetensors nya-peft", "convert to-peft nya.safetensors nya-peft --allow-plain"),
        (
            Option("PROMPT", "The language prompt, as adapt wrote it.", Path, REQUIRED),
            Option("FOLDER", "The adapter folder to write.", Path, REQUIRED),
            Option(
                "--allow-plain",
                "Also convert a prompt with plain positions. PEFT will run it with shifted ones: figures differ.",
                bool,
            ),
        ),
    ),
    "convert from-peft": Command(
        "Read a PEFT adapter folder as a language prompt for its backbone.",
        "convert:from_peft",
        (
            "convert from-peft nya-peft nya.safetensors --language nya --model FacebookAI/xlm-roberta-base",
            "convert from-peft nya-peft nya.safetensors --language nya --model mini --device cpu",
        ),
        (
            Option("FOLDER", "The adapter folder that PEFT wrote.", Path, REQUIRED),
            to_write("OUTPUT", "The language prompt to write.", REQUIRED),
            Option("--language CODE", "ISO 639-3 code of the prompt's language.", default=REQUIRED),
            Option("--model NAME", MODEL.help, default=REQUIRED),
            DEVICE,
        ),
    ),
    "convert to-adapter-hub": Command(
        "Write a MAD-X language adapter as an AdapterHub folder.",
        "convert:to_adapter_hub",
        (
            "convert to-adapter-hub nya.safetensors nya-adapter",
            "convert to-adapter-hub nya.safetensors eng-adapter --of-source",
        ),
        (
            Option("MODULE", "What adapt --method mad-x wrote.", Path, REQUIRED),
            Option("FOLDER", "The adapter folder to write.", Path, REQUIRED),
            Option("--of-source --source", "Write the source language's adapter instead of the target's.", bool),
            MODEL_PLACE,
            DEVICE,
        ),
    ),
    "convert from-adapter-hub": Command(
        "Read the two language adapters that MAD-X needs from AdapterHub folders.",
        "convert:from_adapter_hub",
        (
            "convert from-adapter-hub nya eng nya.safetensors --language nya --model FacebookAI/xlm-roberta-base",
            "convert from-adapter-hub nya eng nya.safetensors --language nya --model copy --device cpu",
        ),
        (
            Option("TARGET", "Folder of the target language's adapter.", Path, REQUIRED),
            Option("SOURCE", "Folder of the source language's adapter.", Path, REQUIRED),
            to_write("OUTPUT", "The language module to write.", REQUIRED),
            Option("--language CODE", "ISO 639-3 code of the target language.", default=REQUIRED),
            Option("--model NAME", MODEL.help, default=REQUIRED),
            DEVICE,
        ),
        text="The result is as if adapt had made it.",
    ),
}
