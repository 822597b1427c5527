"""The hub's files, from a cache of our own making that huggingface_hub itself looks into, offline."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import constants, errors

from glotprompt.data.datasets.catalog import dataset, parse_reference
from glotprompt.data.datasets.dataset import Dataset
from glotprompt.data.readers.records import Example
from glotprompt.data.sources import Reading, examples_of
from glotprompt.errors import ConfigError, DataError, MissingExtraError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("GLOTPROMPT_DATA", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def place(cache: Path, found: Dataset, language: str, split: str, commit: str | None = None) -> Path:
    """Where the cache has a file of a dataset's repository."""
    assert found.hub is not None
    folder = f"datasets--{found.hub.repo.replace('/', '--')}"
    path = cache / folder / "snapshots" / (commit or str(found.hub.revision)) / found.hub.file(language, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_parquet(path: Path, columns: Mapping[str, Sequence[object]]) -> None:
    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), path)


def test_parquet_has_the_records_of_the_folder(cache: Path, tmp_path: Path) -> None:
    xnli = dataset("xnli")
    rows = [('a "one"', "b\u2028c", 2, "contradiction"), (" d", "e", 0, "entailment"), ("f", "g", 1, "neutral")]
    path = place(cache, xnli, "swa", "test")
    assert path.name == "test-00000-of-00001.parquet"
    assert path.parent.name == "sw"
    write_parquet(path, dict(zip(("premise", "hypothesis", "label"), zip(*rows, strict=True), strict=False)))
    folder = tmp_path / "data" / "xnli"
    folder.mkdir(parents=True)
    lines = [f"{premise}\t{hypothesis}\t{name}\n" for premise, hypothesis, _, name in rows]
    (folder / "test-sw.tsv").write_text("".join(lines), encoding="utf-8", newline="")
    expected = [Example.of(row[:2], row[3], str(number)) for number, row in enumerate(rows, 1)]
    assert xnli.examples("sw", "test", source="hub") == expected
    assert xnli.examples("sw", "test", tmp_path / "data") == expected


def test_no_folder_means_the_hub(cache: Path, tmp_path: Path) -> None:
    write_parquet(place(cache, dataset("xnli"), "fra", "dev"), {"premise": ["a"], "hypothesis": ["b"], "label": [1]})
    reference = parse_reference("xnli:fr:dev")
    assert reference is not None
    assert examples_of(str(reference), Reading(), ("premise", "hypothesis")) == [Example.of(("a", "b"), "neutral", "1")]
    with pytest.raises(DataError, match="no such file"):  # a folder that is named is not passed over
        examples_of(str(reference), Reading(data_dir=tmp_path))


def test_tsv_and_texts_from_the_hub(cache: Path) -> None:
    news = dataset("masakhanews")
    for split, headline in (("train", "Ndembo"), ("dev", "Mbula"), ("test", "NDEMBO.")):
        text = f'category\theadline\ttext\turl\nsports\t{headline}\t"body ""{split}""\n"\tu\n'
        place(cache, news, "lin", split).write_text(text, encoding="utf-8")
    assert news.examples("lin", "dev", source="hub") == [Example.of("Mbula", "sports", "1")]
    assert news.texts("lin", "dev", source="hub") == ["Mbula", 'body "dev"']
    told: list[str] = []
    assert news.texts("lin", source="hub", report=told.append) == []
    assert "1 of 1 training articles left out" in told[0]


def test_a_commit_that_the_catalog_does_not_know(cache: Path) -> None:
    nusax = dataset("nusax")
    with pytest.raises(ConfigError, match=r"no commit of indonlp/NusaX-senti .*pass it as revision="):
        nusax.examples("ace", "dev", source="hub")
    with pytest.raises(ConfigError, match=r'revision="main" is no commit\.'):
        nusax.examples("ace", "dev", source="hub", revision="main")
    path = place(cache, nusax, "ace", "dev", COMMIT)
    write_parquet(path, {"id": ["7", "8"], "text": ["get", "hana get"], "label": [2, 0]})
    expected = [Example.of("get", "positive", "7"), Example.of("hana get", "negative", "8")]
    assert nusax.examples("ace", "dev", revision=COMMIT) == expected
    with pytest.raises(DataError, match=r"no data folder is given\. .*source=\"hub\" and revision="):
        nusax.examples("ace", "dev")


def test_what_the_repository_does_not_have(cache: Path) -> None:
    write_parquet(place(cache, dataset("xnli"), "ell", "dev"), {"premise": ["a"], "label": [1]})
    with pytest.raises(DataError, match=r"parquet: no column 'hypothesis'\. .*the word hypothesis in the header line"):
        dataset("xnli").examples("el", "dev", source="hub")
    write_parquet(place(cache, dataset("xnli"), "ell", "test"), {"premise": ["a"], "hypothesis": ["b"], "label": [3]})
    with pytest.raises(DataError, match=r"row 1: unknown label '3'"):
        dataset("xnli").examples("el", "test", source="hub")
    with pytest.raises(DataError, match=r"on the hub has no split '5-shot' of masakhanews\."):
        dataset("masakhanews").examples("hau", "5-shot", source="hub")
    with pytest.raises(DataError, match=r"afrisenti has no files on the hub that can be read\. Pass the folder"):
        dataset("afrisenti").examples("hau", "dev", source="hub")


def test_offline_and_not_cached() -> None:
    message = r"fr/validation-.* of facebook/xnli at b8dd5d7a: not in the cache, .*HF_HUB_OFFLINE"
    with pytest.raises(DataError, match=message):
        dataset("xnli").examples("fr", "dev", source="hub")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (errors.RevisionNotFoundError, r"not on the hub\. Its name is known from: commit and file names"),
        (errors.RemoteEntryNotFoundError, r"not on the hub\."),
        (errors.RepositoryNotFoundError, r"not on the hub\."),
        (errors.GatedRepoError, r"wants its terms accepted"),
        (ConnectionResetError, r"cannot be fetched \(.*\)\. Try again, or read a folder\."),
    ],
)
def test_errors_of_the_hub_are_one_line(kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        error = kind.__new__(kind, "the line is cut")  # without the response that its __init__ wants
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(DataError, match=message) as raised:
        dataset("xnli").examples("fr", "dev", source="hub")
    assert "\n" not in str(raised.value)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'Reading xnli from the hub .*pip install "glotprompt\[hub\]"'):
        dataset("xnli").examples("fr", "dev", source="hub")
