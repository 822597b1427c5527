"""Natural language inference datasets: for training (MultiNLI, a public substitute) and comparison (XNLI)."""

from __future__ import annotations

from glotprompt.data.datasets.dataset import Dataset
from glotprompt.data.readers.layout import Columns, HubFiles, Layout, placed

LABELS = ("entailment", "neutral", "contradiction")
"""Labels, in the numbering of hub repositories."""

PAIR = {"premise": "premise", "hypothesis": "hypothesis"}
NUMBERED = Columns(PAIR, "label", names=dict(enumerate(LABELS)))
"""Columns in hub repositories."""

MULTINLI = Dataset(
    name="multinli",
    title="MultiNLI",
    kind="NLI",
    languages=("eng",),
    labels=LABELS,
    splits=("train", "dev", "dev-mismatched"),
    source_languages=("eng",),
    task="nli",
    layout=Layout(
        placed(
            ("multinli", "multinli_1.0"),
            "multinli_1.0_{split}.jsonl",
            **{"train": "train", "dev": "dev_matched", "dev-mismatched": "dev_mismatched"},
        ),
        Columns({"premise": "sentence1", "hypothesis": "sentence2"}, "gold_label", "pairID", not_examples=("-",)),
    ),
    hub=HubFiles(
        "nyu-mll/multi_nli",
        "da70db2af9d09693783c3320c4249840212ee221",
        "commit and file names: as many public programs pin them",
        {
            split: f"data/{written}-00000-of-00001.parquet"
            for split, written in (
                ("train", "train"),
                ("dev", "validation_matched"),
                ("dev-mismatched", "validation_mismatched"),
            )
        },
        Columns(PAIR, "label", "pairID", names=dict(enumerate(LABELS))),
    ),
    citation="Williams et al. 2018, A Broad-Coverage Challenge Corpus for Sentence Understanding through"
    " Inference. NAACL.",
    licence="mixed: most under OANC's terms, the fiction under CC BY 3.0, CC BY-SA 3.0, MIT and others",
    homepage="https://cims.nyu.edu/~sbowman/multinli/",
    get="Unpack multinli_1.0.zip from https://cims.nyu.edu/~sbowman/multinli/ into the data folder",
    unlabelled="its own sentences, as source text",
    notes=('Rows of the two dev splits on which annotators did not agree (label "-") are not examples.',),
)

NLI_EN = Dataset(
    name="nli_en",
    title="English NLI pairs",
    kind="NLI",
    languages=("eng",),
    labels=LABELS,
    splits=("train",),
    source_languages=("eng",),
    task="nli",
    layout=Layout({"train": ("nli_en/train.tsv",)}, Columns(PAIR, "label", quoting="none")),
    citation="that of each source; the column source names it",
    licence="per source, research use",
    homepage="-",
    get="Put a table with premise, hypothesis and label (quotes literal) there as nli_en/train.tsv, or take multinli",
    unlabelled="its own sentences, as source text",
    notes=(
        "A stand-in for MultiNLI where that cannot be had: pairs of several public sets (MultiNLI items, hypotheses"
        " written for MultiNLI premises, counterfactual SNLI, SICK). Figures from it are not figures from MultiNLI.",
    ),
)

_XNLI = {
    "ara": "ar",
    "bul": "bg",
    "deu": "de",
    "ell": "el",
    "eng": "en",
    "fra": "fr",
    "hin": "hi",
    "rus": "ru",
    "spa": "es",
    "swa": "sw",
    "tha": "th",
    "tur": "tr",
    "urd": "ur",
    "vie": "vi",
    "zho": "zh",
}

XNLI = Dataset(
    name="xnli",
    title="XNLI",
    kind="NLI",
    languages=tuple(_XNLI),
    labels=LABELS,
    splits=("dev", "test"),
    source_languages=("eng",),
    task="nli",
    layout=Layout(
        placed(("xnli",), "{split}-{language}.tsv", dev="dev", test="test"),
        Columns(PAIR, "label", header=("premise", "hypothesis", "label"), quoting="none"),
        _XNLI,
    ),
    hub=HubFiles(
        "facebook/xnli",
        "b8dd5d7af51114dbda02c0e3f6133f332186418e",
        "commit and file names: as several public programs pin them",
        {
            split: f"{{language}}/{written}-00000-of-00001.parquet"
            for split, written in (("dev", "validation"), ("test", "test"))
        },
        NUMBERED,
        _XNLI,
    ),
    citation="Conneau et al. 2018, XNLI: Evaluating Cross-lingual Sentence Representations. EMNLP.",
    licence="CC BY-NC 4.0",
    homepage="https://github.com/facebookresearch/XNLI",
    get="Put XTREME's files dev-<language>.tsv and test-<language>.tsv (three columns, no header) into xnli;"
    " https://github.com/google-research/xtreme has the script",
    unlabelled="it has dev and test splits only",
    notes=(
        "The items are those of AmericasNLI: do not train on XNLI when AmericasNLI is the target.",
        "XTREME's test files come without labels; put those of XNLI 1.0 in their third column.",
    ),
)
