"""The table of languages, and who has read them."""

from __future__ import annotations

import pytest

from glotprompt.data.catalog import DATASETS
from glotprompt.data.languages import FAMILIES, MBERT, XLM_R, family_of, language, same_language, seen_by
from glotprompt.errors import ConfigError, DataError
from glotprompt.model.shapes import Shell


def test_lists_have_the_published_sizes() -> None:
    # Besides: Chinese in a second script, Burmese in Zawgyi, five romanized languages of India.
    assert len(XLM_R) + 1 + 1 + 5 == 100
    assert len(MBERT) + 1 == 104


def test_unseen_languages_of_the_paper() -> None:
    news = [code for code in DATASETS["masakhanews"].languages if not seen_by(code, "xlm-r")]
    assert news == ["ibo", "lin", "lug", "pcm", "run", "sna", "tir", "yor"]
    for code in DATASETS["americasnli"].languages:
        assert seen_by(code, "xlm-r") is False
        assert seen_by(code, "mbert") is False
        assert seen_by(code, "mmbert") is True
    assert [code for code in news if seen_by(code, "mbert")] == ["yor"]
    assert [seen_by(code, "glot500") for code in ("quy", "bzd", "nah", "oto", "tar")] == [
        True,
        False,
        None,
        None,
        False,
    ]


@pytest.mark.parametrize(
    ("code", "family", "expected"),
    [
        ("hau", "mmbert", None),  # missing from the published counts
        ("hau", "mbert", False),
        ("swh", "xlm-r", True),  # the standard variety of swa
        ("sw", "xlm-r", True),
        ("arz", "xlm-r", None),  # some Arabic was read, nobody knows how much of it Egyptian
        ("arz", "mmbert", True),
        ("azb", "mbert", True),
        ("ace-Arab", "mmbert", None),  # its other script
        ("zho-Hant", "xlm-r", True),
        ("zho_Hant", "mmbert", None),
        ("nor", "mbert", True),  # listed as nob and nno
        ("aym", "mmbert", True),
        ("bre", "glot500", True),  # goes on from XLM-R; no dataset has Breton
        ("bre", "mmbert", None),
        ("qqq", "xlm-r", None),
    ],
)
def test_seen_by(code: str, family: str, expected: bool | None) -> None:
    assert seen_by(code, family) is expected


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
            assert all(seen_by(code, family) in (True, False, None) for family in FAMILIES)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("FacebookAI/xlm-roberta-large", "xlm-r"),
        ("facebook/xlm-roberta-xl", "xlm-r"),
        ("models/xlm-roberta-base/", "xlm-r"),
        ("C:\\models\\xlm-roberta-base", "xlm-r"),
        ("mini", "xlm-r"),
        ("bert-base-multilingual-cased", "mbert"),
        ("google-bert/bert-base-multilingual-uncased", "mbert"),
        ("cis-lmu/glot500-base", "glot500"),
        ("jhu-clsp/mmBERT-base", "mmbert"),
        ("facebook/xlm-v-base", None),
        ("Davlan/afro-xlmr-large", None),  # has read more than XLM-R
        ("minimal", None),
        ("xlm-roberta-largest", None),
    ],
)
def test_family_of(name: str, family: str | None) -> None:
    assert family_of(name) == family


def test_the_bundled_backbone_is_of_a_known_family() -> None:
    assert family_of(Shell.named("mini").name) == "xlm-r"


def test_mistakes() -> None:
    with pytest.raises(DataError, match=r"'quyy' is not in the table\. Did you mean 'quy'\?"):
        language("quyy")
    with pytest.raises(DataError, match="'quy-Arab' is not in the table"):
        language("quy-Arab")
    with pytest.raises(ConfigError, match=r"family='xlmr' is not known\. Did you mean 'xlm-r'\?"):
        seen_by("quy", "xlmr")
