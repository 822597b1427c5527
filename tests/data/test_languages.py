"""The table of languages, and who has read them."""

from __future__ import annotations

from typing import get_args

import pytest

from glotprompt.data.datasets.catalog import DATASETS
from glotprompt.data.languages import (
    FAMILIES,
    Verdict,
    checked_code,
    exposure,
    exposure_family,
    language,
    name_of,
    same_language,
)
from glotprompt.data.pretraining import lists_of, text_lists
from glotprompt.errors import ConfigError, DataError
from glotprompt.model.shapes import Shell


def test_lists_have_the_published_sizes() -> None:
    sizes = {found.name: len(found.languages) for found in text_lists()}
    # Besides: Chinese in a second script, Burmese in Zawgyi, five romanized languages of India.
    assert sizes["CC100"] + 1 + 1 + 5 == 100
    assert sizes["mBERT's Wikipedia"] + 1 == 104
    assert sizes["mC4"] == 101
    assert sizes["CC News"] == 173
    assert sizes["xP3"] + 1 == 46, "one of the 46 is code"


def test_every_list_has_a_source_and_codes_that_look_right() -> None:
    assert len({found.name for found in text_lists()}) == len(text_lists())
    for found in text_lists():
        assert len(found.source) > 20, found.name
        assert set(found.families) <= set(FAMILIES)
        assert found.use in ("pre-training", "training", "possible", "unknown")
        assert bool(found.languages) == (found.use != "unknown"), found.name
        assert all(len(code) == 3 and code.isascii() and code.islower() for code in found.languages | found.absent)
        assert not found.absent or found.use == "unknown"


def test_unseen_languages_of_the_paper() -> None:
    news = [code for code in DATASETS["masakhanews"].languages if exposure(code, "xlm-r").verdict == "unseen"]
    assert news == ["ibo", "lin", "lug", "pcm", "run", "sna", "tir", "yor"]
    for code in DATASETS["americasnli"].languages:
        assert [exposure(code, family).verdict for family in ("xlm-r", "mbert", "mmbert")] == [
            *("unseen", "unseen", "read")
        ]
    assert [code for code in news if exposure(code, "mbert").verdict != "unseen"] == ["yor"]
    assert [exposure(code, "glot500").verdict for code in ("quy", "bzd", "nah", "oto", "tar")] == [
        *("read", "unseen", "not known", "not known", "unseen")
    ]


@pytest.mark.parametrize(
    ("code", "family", "verdict"),
    [
        ("hau", "mmbert", "not known"),  # missing from the published counts
        ("hau", "mbert", "unseen"),
        ("swh", "xlm-r", "read"),  # the standard variety of swa
        ("sw", "xlm-r", "read"),
        ("arz", "xlm-r", "not known"),  # some Arabic was read, nobody knows how much of it Egyptian
        ("arz", "mmbert", "read"),
        ("azb", "mbert", "read"),
        ("ace-Arab", "mmbert", "not known"),  # its other script
        ("zho-Hant", "xlm-r", "read"),
        ("zho_Hant", "mmbert", "not known"),
        ("nor", "mbert", "read"),  # listed as nob and nno
        ("aym", "mmbert", "read"),
        ("bre", "glot500", "read"),  # goes on from XLM-R; no dataset has Breton
        ("bre", "mmbert", "not known"),
        ("qqq", "xlm-r", "not known"),
        ("pt-BR", "xlm-r", "read"),
        ("zh-Hant-TW", "xlm-r", "read"),
    ],
)
def test_verdicts(code: str, family: str, verdict: str) -> None:
    assert exposure(code, family).verdict == verdict


@pytest.mark.parametrize(
    ("code", "verdict", "evidence"),
    [
        ("swa", "read", "In CC100, mC4, CC News, NLLB, xP3, MIRACL, Mr. TyDi and mini's own text."),
        ("hau", "read", "In CC100, mC4, NLLB and mini's own text."),
        ("nya", "low-resource", "In mC4, NLLB and xP3, not in CC100."),
        ("yor", "low-resource", "In mC4, CC News, NLLB and xP3, not in CC100."),
        ("ibo", "low-resource", "In mC4, NLLB and xP3, not in CC100."),
        ("sna", "low-resource", "In mC4, NLLB and xP3, not in CC100."),
        ("lug", "low-resource", "In NLLB and xP3, not in CC100."),
        ("lin", "low-resource", "In NLLB and xP3, not in CC100."),
        ("run", "low-resource", "In NLLB and xP3, not in CC100."),
        ("tir", "low-resource", "In NLLB, not in CC100."),
        ("quy", "low-resource", "In NLLB, not in CC100."),
        ("ayr", "low-resource", "In NLLB, not in CC100."),
        ("aym", "low-resource", "In NLLB, not in CC100."),  # written ayr there
        ("grn", "low-resource", "In CC News and NLLB, not in CC100."),
        ("gn", "low-resource", "In CC News and NLLB, not in CC100."),
        ("kab", "low-resource", "In NLLB, not in CC100."),
        ("dik", "low-resource", "In NLLB, not in CC100."),
        ("nah", "low-resource", "In CC News (by automatic labels), not in CC100."),
        ("glv", "low-resource", "In CC News (by automatic labels), not in CC100."),
        ("arz", "low-resource", "In CC News (by automatic labels), perhaps in CC100."),
        ("acm", "not known", "CC100, mC4, CC News, xP3, MIRACL and Mr. TyDi may have it with a relative's text"),
        ("ace-Arab", "not known", "NLLB may have it with a relative's text, or in another script."),
        ("qqq", "not known", ""),
        ("pcm", "unseen", "Wikipedia (it has an edition in this one), Reddit, Stack Exchange and SBERT's data were"),
        *((code, "unseen", "Reddit, Stack Exchange and SBERT's data were") for code in ("bzd", "cni", "hch", "oto")),
        *((code, "unseen", "Reddit, Stack Exchange and SBERT's data were") for code in ("shp", "tar")),
        ("quc", "unseen", "Reddit, Stack Exchange, SBERT's data and Tatoeba were"),
    ],
)
def test_what_mini_has_read(code: str, verdict: str, evidence: str) -> None:
    found = exposure(code, "mini")
    assert found.verdict == verdict
    if verdict == "unseen":
        start = "On none of the 9 lists that are published of its training text. In which languages "
        evidence = f"{start}{evidence} read is not known."
    assert found.evidence.startswith(evidence)
    assert bool(found.evidence) == bool(evidence)
    for parent in ("multilingual-e5", "mini-sentence"):  # what mini read besides is in CC100, or was not recorded
        assert exposure(code, parent).verdict == verdict


def test_mini_and_its_parent_have_read_the_same_languages() -> None:
    """`data show` has one column for the three."""
    for dataset in DATASETS.values():
        for code in dataset.languages:
            assert len({exposure(code, family).verdict for family in FAMILIES[-3:]}) == 1, code
    own = next(found for found in text_lists() if found.name == "mini's own text")
    assert own.languages <= lists_of("xlm-r")[0].languages


def test_evidence_of_the_others() -> None:
    assert exposure("swa", "xlm-r").evidence == "In CC100."
    assert exposure("nya", "xlm-r").evidence == "Not in CC100."
    assert exposure("yor", "mbert").evidence == "In mBERT's Wikipedia."
    assert exposure("nya", "mmbert").evidence == "", "by languages.tsv"
    assert exposure("nya", "mini").to_dict()["absent"][0] == "CC100"
    assert name_of("nya") == "Chichewa (nya)"
    assert name_of("qqq") == "qqq"


def test_aliases_and_scripts() -> None:
    assert language("gn") == language("grn")
    assert language("hñähñu").code == "oto"
    assert language("ace").scripts == ("Latn", "Arab")
    assert language("ace_Arab").scripts == ("Arab",)
    assert language("swh").macrolanguage == "swa"
    assert same_language("swh", "sw")
    assert same_language("zh", "zho-Hans")
    assert not same_language("zho", "zho-Hant")
    assert not same_language("arz", "ara")
    assert not same_language("qqq", "ara")


def test_every_language_of_every_dataset_has_a_row() -> None:
    for dataset in DATASETS.values():
        for code in dataset.languages:
            assert language(code).name
            assert all(exposure(code, family).verdict in get_args(Verdict) for family in FAMILIES)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("FacebookAI/xlm-roberta-large", "xlm-r"),
        ("facebook/xlm-roberta-xl", "xlm-r"),
        ("models/xlm-roberta-base/", "xlm-r"),
        ("C:\\models\\xlm-roberta-base", "xlm-r"),
        ("mini", "mini"),
        ("backbones/mini-sentence", "mini-sentence"),
        ("intfloat/multilingual-e5-small", "multilingual-e5"),
        ("intfloat/multilingual-e5-large", "multilingual-e5"),
        ("intfloat/multilingual-e5-large-instruct", None),  # has read synthetic text of 93 languages besides
        ("bert-base-multilingual-cased", "mbert"),
        ("google-bert/bert-base-multilingual-uncased", "mbert"),
        ("cis-lmu/glot500-base", "glot500"),
        ("jhu-clsp/mmBERT-base", "mmbert"),
        ("facebook/xlm-v-base", None),
        ("Davlan/afro-xlmr-large", None),  # has read more than XLM-R
        ("minimal", None),
        ("Davlan/bert-base-multilingual-cased-finetuned-yoruba", None),
        ("Davlan/xlm-roberta-base-finetuned-swahili", None),
        ("xlm-roberta-largest", None),
    ],
)
def test_exposure_family(name: str, family: str | None) -> None:
    assert exposure_family(name) == family


@pytest.mark.slow
def test_the_bundled_backbone_is_of_a_known_family() -> None:
    assert exposure_family(Shell.named("mini").name) == "mini"


def test_mistakes() -> None:
    with pytest.raises(DataError, match=r"'quyy' is not in languages\.tsv\. Did you mean 'quy'\?"):
        language("quyy")
    with pytest.raises(DataError, match=r"'quy-Arab' is not in languages\.tsv"):
        language("quy-Arab")
    with pytest.raises(ConfigError, match=r"family='xlmr' is not known\. Did you mean 'xlm-r'\?"):
        exposure("quy", "xlmr")


@pytest.mark.parametrize("code", ["nya", "lg", "gaa", "ace-Arab", "ace_Arab", "crk-Cans", "pt-BR", "nah", "qaa"])
def test_codes_of_iso_639_with_or_without_a_script(code: str) -> None:
    assert checked_code(code) == code


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("luganda", "Did you mean Luganda (lug)"),
        ("Inuktitut", "Did you mean Inuktitut (iku)?"),
        ("kiswahili", "Swahili (swa)?"),
        ("nyaa", "Did you mean Chichewa (nya)?"),
        ("xqz", "such as nya, or with a script ace-Arab"),
        ("nya-chichewa", "Did you mean Chichewa (nya)?"),
        ("", "such as nya"),
    ],
)
def test_what_is_no_code_names_near_languages(code: str, hint: str) -> None:
    with pytest.raises(DataError, match=f"^{code!r} is no language code; expected one of ISO 639-3") as found:
        checked_code(code)
    assert hint in str(found.value)


def test_names_with_their_codes() -> None:
    shown = [name_of(code) for code in ("lug", "ace-Arab", "gaa", "nya+sna", "und", "xxx")]
    assert shown == [
        "Luganda (lug)", "Acehnese (ace-Arab)", "Ga (gaa)", "Chichewa (nya) + Shona (sna)",
        "language not named (und)", "xxx",
    ]  # fmt: skip
