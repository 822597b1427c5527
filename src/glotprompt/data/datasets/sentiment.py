"""Sentiment datasets: AfriSenti, NusaX."""

from __future__ import annotations

from glotprompt.data.datasets.dataset import Dataset
from glotprompt.data.readers.layout import Columns, HubFiles, Layout, placed

LABELS = ("negative", "neutral", "positive")

AFRISENTI = Dataset(
    name="afrisenti",
    title="AfriSenti",
    kind="sentiment",
    languages=tuple("amh arq ary hau ibo kin orm pcm por swa tir tso twi yor".split()),
    labels=LABELS,
    splits=("train", "dev", "test"),
    lacking={"train": ("orm", "tir")},
    source_languages=("hau",),
    layout=Layout(
        placed(
            ("afrisenti", "afrisent-semeval-2023/data"),
            "{language}/{split}.tsv",
            train="train",
            dev="dev",
            test="test",
        ),
        Columns({"text": "tweet"}, "label", quoting="none"),
    ),
    citation="Muhammad et al. 2023, AfriSenti: A Twitter Sentiment Analysis Benchmark for African Languages. EMNLP.",
    licence="CC BY 4.0 in the repository's README",
    homepage="https://github.com/afrisenti-semeval/afrisent-semeval-2023",
    get="Clone https://github.com/afrisenti-semeval/afrisent-semeval-2023 and copy or link its folder data as"
    " afrisenti",
    unlabelled="the training tweets, without those that dev or test repeats",
    notes=(
        "orm and tir have no training tweets: the publishers meant them for zero-shot scoring; 239 of orm's"
        " 396 dev tweets are in test, too. por is that of Mozambique.",
        "Quotes are literal: most files have single ones. The test files of arq, ary, kin, por and tso put some tweets"
        " between quotes, which then stay part of the text.",
        "On the hub it is a program that fetches these files, which is not run here.",
    ),
)

_NUSAX = {
    "ace": "acehnese",
    "ban": "balinese",
    "bbc": "toba_batak",
    "bjn": "banjarese",
    "bug": "buginese",
    "eng": "english",
    "ind": "indonesian",
    "jav": "javanese",
    "mad": "madurese",
    "min": "minangkabau",
    "nij": "ngaju",
    "sun": "sundanese",
}

NUSAX = Dataset(
    name="nusax",
    title="NusaX-senti",
    kind="sentiment",
    languages=tuple(_NUSAX),
    labels=LABELS,
    splits=("train", "dev", "test"),
    source_languages=("ind", "eng"),
    layout=Layout(
        placed(
            ("nusax", "nusax/datasets/sentiment"),
            "{language}/{split}.csv",
            train="train",
            dev="valid",
            test="test",
        ),
        Columns({"text": "text"}, "label", "id"),
        _NUSAX,
    ),
    hub=HubFiles(
        "indonlp/NusaX-senti",
        None,
        "file names: the branch refs/convert/parquet, as public programs fetch them; that branch is made anew at will",
        {
            split: f"{{language}}/{written}/0000.parquet"
            for split, written in (("train", "train"), ("dev", "validation"), ("test", "test"))
        },
        Columns({"text": "text"}, "label", "id", names=dict(enumerate(LABELS))),
    ),
    citation="Winata et al. 2023, NusaX: Multilingual Parallel Sentiment Dataset for 10 Indonesian Local Languages."
    " EACL.",
    licence="CC BY-SA 4.0",
    homepage="https://github.com/IndoNLP/nusax",
    get="Clone https://github.com/IndoNLP/nusax and copy or link its folder datasets/sentiment as nusax",
    unlabelled="the 500 training texts, which is little; the same texts are in all languages",
)
