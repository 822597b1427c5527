"""The ten American languages of AmericasNLI, and the shared task's text in them (AmericasNLP 2021)."""

from __future__ import annotations

from glotprompt.data.datasets import nli
from glotprompt.data.datasets.dataset import Dataset
from glotprompt.data.readers.layout import Columns, HubFiles, Layout, placed

_FOLDERS = {
    "aym": "aymara",
    "bzd": "bribri",
    "cni": "ashaninka",
    "grn": "guarani",
    "hch": "wixarika",
    "nah": "nahuatl",
    "oto": "hñähñu",
    "quy": "quechua",
    "shp": "shipibo_konibo",
    "tar": "raramuri",
}
_CODES = {"grn": "gn"}

AMERICASNLP2021 = Dataset(
    name="americasnlp2021",
    title="AmericasNLP 2021 shared task",
    kind="unlabelled text",
    languages=tuple(_FOLDERS),
    labels=(),
    splits=("train", "dev"),
    layout=Layout(
        placed(
            ("americasnlp2021", "americasnlp2021/data"), "{language}-spanish/{split}.{code}", train="train", dev="dev"
        ),
        Columns({}),
        _FOLDERS,
        _CODES,
        source_side="{split}.es",
    ),
    citation="Mager et al. 2021, Findings of the AmericasNLP 2021 Shared Task on Open Machine Translation for"
    " Indigenous Languages of the Americas. AmericasNLP.",
    licence="none stated; the Quechua text is JW300's",
    homepage="https://github.com/AmericasNLP/americasnlp2021",
    get="Clone https://github.com/AmericasNLP/americasnlp2021 and copy or link its folder data as americasnlp2021, with"
    " train.<code> beside each dev.<code> (some folders ask for further steps in their README)",
    unlabelled="one sentence a line",
    overlaps=("americasnli",),
    source_overlap=("xnli", "spa"),
    notes=(
        "The dev files are sentences of AmericasNLI: for scoring, never for stage 1.",
        "As parallel text: train.es beside train.<code> has the same lines in Spanish; quy's sources may lack it.",
        "nah and oto are codes of ISO 639-2: the texts mix varieties.",
    ),
)

AMERICASNLI = Dataset(
    name="americasnli",
    title="AmericasNLI",
    kind="NLI",
    languages=tuple(_FOLDERS),
    labels=nli.LABELS,
    splits=("dev", "test"),
    source_languages=("eng", "spa"),
    task="nli",
    layout=Layout(
        placed(("americasnli", "americasnli/data/anli_final"), "{split}/{language}.tsv", dev="dev", test="test"),
        Columns(nli.PAIR, "label", "id", quoting="none"),
        _CODES,
    ),
    hub=HubFiles(
        "nala-cub/americas_nli",
        None,
        "file names: the hub's usual ones for such repositories, not looked up",
        {
            split: f"{{language}}/{written}-00000-of-00001.parquet"
            for split, written in (("dev", "validation"), ("test", "test"))
        },
        nli.NUMBERED,
        _CODES,
    ),
    texts_from=AMERICASNLP2021,
    citation="Ebrahimi et al. 2022, AmericasNLI: Evaluating Zero-shot Natural Language Understanding of Pretrained"
    " Multilingual Models in Truly Low-resource Languages. ACL.",
    licence="CC BY-SA 4.0",
    homepage="https://github.com/abteen/americasnli",
    get="Clone https://github.com/abteen/americasnli and copy or link its folder data/anli_final as americasnli",
    unlabelled="the train files of americasnlp2021",
    notes=(
        "Three premises of nah's test split are blank. They stay, because a score over fewer rows is another score.",
    ),
)
