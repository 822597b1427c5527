"""Parallel text by name: Bible verses and MAFAND, each with English as the source side. (AmericasNLP 2021, which has
Spanish, is in `americas`.)"""

from __future__ import annotations

import re
from pathlib import Path

from glotprompt.data.datasets.dataset import Dataset
from glotprompt.data.datasets.topics import TAXI1500
from glotprompt.data.readers.layout import Columns, Layout, Report
from glotprompt.errors import DataError


def verse_id(name: str) -> str:
    """Verse id as book, chapter and number, "55.2.24", from that or from Taxi1500's 55002024."""
    if re.fullmatch(r"\d{7,8}", name):
        return ".".join(str(int(part)) for part in (name[:-6], name[-6:-3], name[-3:]))
    return name


def _verses_of_taxi1500(language: str, data_dir: str | Path | None, report: Report | None) -> set[str]:
    """Ids of Taxi1500's verses in the language, of all splits: classifiers learn from its train verses, and some
    evaluations use them."""
    ids: set[str] = set()
    lacking: dict[str, DataError] = {}
    for split in TAXI1500.splits:
        try:
            ids.update(verse_id(one.id) for one in TAXI1500.examples(language, split, data_dir))
        except DataError as error:
            lacking[split] = error
    if lacking and report is not None:
        report(f"verses of Taxi1500 in {language} ({', '.join(lacking)}) not held out: {next(iter(lacking.values()))}")
    return ids


_SIDES = {"source": "source", "target": "target"}

BIBLE_VERSES = Dataset(
    name="bible_verses",
    title="Bible verses",
    kind="parallel text",
    languages=(),
    labels=(),
    splits=("train",),
    layout=Layout(
        {"train": ("parallel/bible/eng-{language}.tsv",)},
        Columns(_SIDES, row_id="verse", header=("verse", "source", "target"), quoting="none"),
    ),
    citation="Christodouloupoulos and Steedman 2015, A massively parallel corpus: the Bible in 100 languages. Language"
    " Resources and Evaluation.",
    licence="CC0 1.0 for the corpus; an edition may have terms of its own",
    homepage="https://github.com/christos-c/bible-corpus",
    get="From https://github.com/christos-c/bible-corpus, write a line for each verse that English and the other"
    " language have (book.chapter.verse, the English, the other; tabs between them, no header, quotes literal) to"
    " parallel/bible/eng-<ISO 639-3>.tsv (of glv, cni and quc the demo's scenario manx does it)",
    unlabelled="the target side of its pairs, without the verses that Taxi1500 has in the language",
    held_out_ids=_verses_of_taxi1500,
    overlaps=("taxi1500",),
    source_overlap=("taxi1500", "eng"),
    notes=(
        "Verses are named 55.2.24: book 55 (Matthew is 40), chapter 2, verse 24.",
        "Any code is taken, and the folder decides.",
    ),
)

MAFAND = Dataset(
    name="mafand",
    title="MAFAND-MT",
    kind="parallel text",
    languages=tuple("amh hau ibo kin lug luo nya pcm sna swa tsn twi xho yor zul".split()),
    labels=(),
    splits=("train",),
    layout=Layout(
        {"train": ("parallel/mafand/eng-{language}.tsv",)},
        Columns(_SIDES, header=("source", "target"), quoting="none"),
    ),
    citation="Adelani et al. 2022, A Few Thousand Translations Go a Long Way! Leveraging Pre-trained Models for African"
    " News Translation. NAACL.",
    licence="CC BY-NC 4.0",
    homepage="https://github.com/masakhane-io/lafand-mt",
    get="From https://github.com/masakhane-io/lafand-mt, write the pairs of English and a language (English, the other;"
    " a tab between them, no header, quotes literal) to parallel/mafand/eng-<ISO 639-3>.tsv",
    unlabelled="the target side of its pairs",
    overlaps=("masakhanews", "sib200"),
    source_overlap=("sib200", "eng"),
    notes=(
        "News, like MasakhaNEWS: pairs are checked against its dev and test articles and SIB-200's sentences.",
        "The languages translated from English; those from French (bam, bbj, ewe, fon, mos, wol) are not among them.",
    ),
)
