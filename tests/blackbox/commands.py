"""The command lines, in stories: those of one story run one after the other in a folder of their own (`world`)."""

from __future__ import annotations

FP32 = "--precision fp32"
SMALL = f"--batch-size 4 --max-length 24 {FP32}"
STAGE_1 = f"{SMALL} --steps 6 --set eval_every=3"
FAST = "--learning-rate 0.5 --set clip_norm=100"
PROMPT = f"--prompt-length 4 --set init_std=0.5 {FAST}"
NYA = f"adapt --model tiny --target nya=nya.txt --source eng.txt {STAGE_1}"
TUNE = f"tune --train train.tsv --task task.toml --epochs 4 {SMALL}"
FREELY = "--learning-rate 1 --set clip_norm=100 --set dev_share=0.3"
SCORE = f"{FP32} --data test.tsv"

STORIES = {
    "what there is": {
        "version": "--version",
        "backbones": "backbones",
        "methods": "methods --model tiny --json -",
        "datasets": "data list",
        "a dataset": "data show xnli",
        "a copy of it": "data check xnli --data-dir data --language swa --json check.json",
        "doctor": f"doctor --model tiny --text nya.txt --language nya --task task.toml --no-probe {FP32} --json d.json",
    },
    "a soft prompt": {
        "adapt": f"{NYA} {PROMPT} --output nya.st --json adapt.json",
        "adapt again": f"{NYA} {PROMPT} --output nya.st --json again.json",
        "adapt from it": f"{NYA} {FAST} --init-prompt nya.st=0.5 --output next.st --json next.json",
        "adapt, two languages": f"{NYA} --target sna=sna.txt {PROMPT} --output both --json both.json",
        "combine": "combine nya.st next.st --weights 0.75,0.25 --output mean.st",
        "tune": f"{TUNE} --prompt nya.st {FREELY} --output topic.st --json tune.json",
        "evaluate": f"evaluate --classifier topic.st {SCORE} --json evaluate.json",
        "embed": f"embed --prompt nya.st --input eng.txt --layer 2 {FP32} --output eng.npy",
    },
    "classifiers": {
        "tune, fine-tuning": (
            f"{TUNE} --model tiny --method fine-tuning --learning-rate 0.005 --output fine.st --json fine.json"
        ),
        "tune, prompt-tuning": (
            f"{TUNE} --model tiny --shots 6 --learning-rate 0.5 --set clip_norm=100 --set prompt_length=4 --top-k 2"
            " --output other.st --json other.json"
        ),
        "evaluate": f"evaluate --classifier fine.st {SCORE} --json evaluate.json",
        "evaluate, two labels": f"evaluate --classifier fine.st {SCORE} --labels sports,health --json two.json",
        "evaluate, a prior": (
            f"evaluate --classifier fine.st {SCORE} --label-prior uniform --prior-text nya.txt"
            " --save-offsets offsets.st --json prior.json"
        ),
        "evaluate, against": f"evaluate --classifier fine.st {SCORE} --against other.st --json against.json",
        "predict": f"predict --classifier offsets.st {FP32} --json - 'play play' 'water water the' 'the king'",
        "predict a file": f"predict --classifier fine.st {FP32} --input test.tsv",
    },
    "other methods": {
        "adapt, mad-x": f"{NYA} --method mad-x --learning-rate 0.004 --output mad.st --json adapt-mad.json",
        "tune, mad-x": f"{TUNE} --prompt mad.st --learning-rate 0.02 --output mad-topic.st --json mad.json",
        "evaluate, mad-x": f"evaluate --classifier mad-topic.st {SCORE} --json mad-evaluate.json",
        "adapt, translations": (
            f"adapt --model tiny --language nya --parallel pairs.tsv --method lora {STAGE_1} --learning-rate 0.001"
            " --output lora.st --json adapt-lora.json"
        ),
        "tune, lora": f"{TUNE} --prompt lora.st --learning-rate 0.01 --output lora-topic.st --json lora.json",
        "tune, embedding": (
            f"tune --train train.tsv --task task.toml --max-length 24 {FP32} --prompt lora.st --method embedding"
            " --output vectors.st --json vectors.json"
        ),
        "predict, embedding": (
            f"predict --classifier vectors.st {FP32} --json - 'play play' 'water water the' 'the king'"
        ),
    },
    "exchange": {
        "adapt, shifted": f"{NYA} {PROMPT} --set positions=shifted --output nya.st --json adapt.json",
        "to PEFT": "convert to-peft nya.st peft",
        "from PEFT": "convert from-peft peft back.st --language nya --model tiny",
        "tune what came back": f"{TUNE} --prompt back.st {FREELY} --output topic.st --json tune.json",
        "adapt, mad-x": f"{NYA} --method mad-x --learning-rate 0.004 --output mad.st --json adapt-mad.json",
        "to AdapterHub": "convert to-adapter-hub mad.st target",
        "to AdapterHub, the source's": "convert to-adapter-hub mad.st source --source",
        "from AdapterHub": "convert from-adapter-hub target source mad-back.st --language nya --model tiny",
        "to transformers": "convert to-transformers --model tiny --output copy",
        "embed by the copy": "embed --model copy --input test.tsv --text-column text --output test.npy",
    },
    "a grid": {
        "run": "grid toy.toml --output grid --data-dir data --device cpu",
        "run again": "grid toy.toml --output grid --data-dir data --device cpu",
        "report": "report grid --output report --markdown tables.md",
    },
    "refusals": {
        "no such command": "adpt --target nya=nya.txt",
        "no such option": "tune --tpo-k 3",
        "no such setting": f"{NYA} --set stepz=3 --output x.st",
        "no such file": f"evaluate --classifier none.st {SCORE}",
        "no such dataset": "data show masakhanew",
        "no source text": "adapt --model tiny --target nya=nya.txt --output x.st",
        "no such language": "adapt --model tiny --target nya.txt --source eng.txt --output x.st",
        "no such column": f"{TUNE} --model tiny --label-column lable --output x.st",
        "no stage 1": f"{NYA} --method fine-tuning --output x.st",
        "not that start": f"{TUNE} --model tiny --method mad-x --output x.st",
        "options that exclude each other": f"{TUNE} --model tiny --top-k 1 --bottom-k 1 --output x.st",
        "no classifier": f"predict --classifier eng.txt {FP32} word",
        "not a vector file": "embed --model tiny --input eng.txt --output eng.npz",
        "no grid": "grid gone.toml --output grid",
        "no results": "report nowhere --output report",
        "nothing to serve": "serve nowhere",
        "an option of another scenario": "demo --target sna",
    },
    "help": {
        words or "all": f"{words} --help-all" if words else "--help"
        for words in (
            "", "demo", "adapt", "combine", "tune", "self-train", "evaluate", "predict", "compare", "doctor", "show",
            "grid", "report", "serve", "embed",
            "backbones", "methods", "data list", "data show", "data check", "convert to-transformers",
            "convert to-peft", "convert from-peft", "convert to-adapter-hub", "convert from-adapter-hub",
        )
    },
}  # fmt: skip

KILLED = (  # with a checkpoint after every step
    f"adapt --model tiny --target nya=nya.txt --source eng.txt {SMALL} {PROMPT} --steps 60 --set eval_every=20"
    " --checkpoint-every 0 --output killed.st --json killed.json"
)
SERVED = {
    language: (
        f"adapt --model tiny --target {language}={language}.txt --source eng.txt {STAGE_1} {PROMPT}"
        f" --output {language}.st",
        f"{TUNE} --prompt {language}.st {FREELY} --output served/{language}.safetensors",
    )
    for language in ("nya", "sna")
}
"""From a language to the commands that make its classifier."""
SERVE = f"serve served --port 0 --poll 0 {FP32} --device cpu"
ITEMS = [
    {"classifier": "nya", "text": "play play play"},
    {"language": "sna", "task": "task", "text": "king king the"},
    {"classifier": "sna", "text": "water ǃ water"},
    {"language": "auto", "task": "task", "text": "the river was wide and the people walked"},
]
