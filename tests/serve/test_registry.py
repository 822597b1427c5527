"""Classifiers on disk: taken up, replaced and removed while they are served; broken ones harm nobody."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

import glotprompt as gp
from glotprompt.data.samples import Samples
from glotprompt.errors import ArtifactError, ConfigError
from glotprompt.inference.measurements import keep
from glotprompt.inference.predictor import Item
from glotprompt.inference.served import Decoded
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.modules.stack import packed
from glotprompt.records import TuneReport
from glotprompt.serve.registry import MOST_READS, DecodedCache, Registry
from glotprompt.storage import artifact
from glotprompt.storage.metadata import Measurement

from ..toys import QUIET, TRANSLATIONS, topics
from .conftest import ANSWER, TOPIC, make_classifier

TEXT = "the king water day"


@pytest.fixture
def folder(tmp_path: Path, backbone: gp.Backbone) -> Path:
    """Classifiers "nya" and "yor", a prompt, and what is being written."""
    make_classifier(backbone, 1).save(tmp_path / "nya.safetensors")
    make_classifier(backbone, 2, language="yor").save(tmp_path / "yor.safetensors")
    gp.LanguagePrompt(torch.zeros(backbone.prompt_shape(2)), "nya", backbone.reference).save(
        tmp_path / "prompt.safetensors"
    )
    (tmp_path / ".sna.safetensors").write_bytes(b"half")
    return tmp_path


def scores(source: Registry, backbone: gp.Backbone, name: str) -> list[float]:
    (found,) = gp.Predictor(backbone, source).predict([(name, TEXT)])
    return list(found.scores.values())


def scores_alone(classifier: gp.PromptClassifier) -> list[float]:
    return list(classifier.predict([TEXT])[0].scores.values())


def changes(registry: Registry) -> tuple[list[str], list[str], list[str]]:
    """Names that a look at the disk adds, replaces and removes."""
    before = registry.snapshot()
    registry.reload()
    after = registry.snapshot()
    replaced = [name for name in after if name in before and after[name] is not before[name]]
    return [name for name in after if name not in before], replaced, [name for name in before if name not in after]


def test_serves_what_lies_in_folders_and_files(
    folder: Path, backbone: gp.Backbone, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = make_classifier(backbone, 3, ANSWER).save(tmp_path_factory.mktemp("other") / "nya-nli.safetensors")
    registry = Registry([folder, other], backbone)
    assert registry.names() == ["nya", "nya-nli", "yor"]
    assert registry.errors() == {}
    assert scores(registry, backbone, "yor") == pytest.approx(scores_alone(make_classifier(backbone, 2)), abs=1e-5)
    assert registry.find("yor", "topic") == "yor"
    with pytest.raises(ConfigError, match=r"no classifier for language 'yro' and task 'topic'\. Did you mean 'yor'"):
        registry.find("yro", "topic")
    make_classifier(backbone, 4).save(folder / "nya-too.safetensors")
    registry.reload()
    with pytest.raises(ConfigError, match="'nya' has 2 classifiers for 'topic'; name one: nya, nya-too"):
        registry.find("nya", "topic")
    with pytest.raises(ArtifactError, match="nowhere does not exist"):
        Registry(folder / "nowhere", backbone)


def told(**changes: Any) -> TuneReport:
    """A report of a training that nobody did."""
    return TuneReport(
        **{
            "config": {}, "precision": "fp32", "trained_parameters": 0, "steps": 0, "best_step": 0, "seconds": 0.0,
            "tokens": 0, "losses": [], "evaluations": [], "peak_memory_bytes": 0, "unknown": {}, "examples": 0,
            "dev_examples": 0, "labels": {}, "dev_labels": {}, "dev_accuracy": 0.0, **changes,
        }
    )  # fmt: skip


def test_a_card_says_what_the_file_says(folder: Path, backbone: gp.Backbone) -> None:
    report, samples = told(examples=12, dev_accuracy=75.0), Samples("source", (("play", "day"),))
    made = replace(make_classifier(backbone, 3, ANSWER, max_length=40), report=report, samples=samples)
    made.save(folder / "nya-nli.safetensors")
    _, card, plain = Registry(folder, backbone).cards()
    assert (card.name, card.language, card.task, card.labels) == ("nya-nli", "nya", "answer", ("yes", "no"))
    assert card.fields == ("premise", "hypothesis")
    assert (card.method, card.prompt_length, card.max_length) == ("soft-prompt", 4, 40)
    assert (card.num_examples, card.dev_accuracy) == (12, 75.0)
    assert card.finds_language
    assert (card.sample_texts, card.sample_side) == ((("play", "day"),), "source")
    assert card.num_bytes == (folder / "nya-nli.safetensors").stat().st_size
    assert abs(time.time() - datetime.fromisoformat(card.made).timestamp()) < 60
    assert (card.measured, card.measurements) == ("not measured in Chichewa", ())
    assert (plain.name, plain.num_examples, plain.dev_accuracy) == ("yor", None, None)
    assert (plain.sample_texts, plain.sample_side) == ((), None)


def test_a_recorded_accuracy_is_taken_up_as_another_version(folder: Path, backbone: gp.Backbone) -> None:
    registry, path = Registry(folder, backbone), folder / "nya.safetensors"
    before = scores(registry, backbone, "nya")
    source = Measurement(language="eng", content="0" * 64, num_examples=99, accuracy=90.0, interval=(82.4, 94.5))
    for one in (source, source.replace(language="nya", content="1" * 64, num_examples=150, accuracy=70.7)):
        keep(path, artifact.describe(path, ["classifier"])["digest"], one)
        registry.reload()
        said = registry.cards()[0].measured
        assert (
            said == {"eng": "not measured in Chichewa", "nya": "71 % [82, 94] of 150 texts in Chichewa"}[one.language]
        )
    assert [one.language for one in registry.cards()[0].checked().measurements] == ["eng", "nya"]
    assert scores(registry, backbone, "nya") == before


def test_what_no_answer_can_be_written_with_is_kept_out(folder: Path, backbone: gp.Backbone) -> None:
    """One odd file must not spoil the list of all."""
    whole = (folder / "nya.safetensors").read_bytes()
    for name in (b"\xff\xfe", b"red\x1b[31m"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name + b".safetensors")).write_bytes(whole)
    odd = make_classifier(backbone, 3)
    says = {**odd.description(), "training": {"examples": ["many"]}}
    artifact.write(folder / "odd.safetensors", "classifier", packed(odd.body, odd.head)[1], says)
    registry = Registry(folder, backbone)
    assert registry.names() == ["nya", "yor"]
    errors = {Path(path).name: error for path, error in registry.errors().items()}
    assert set(errors) == {r"\udcff\udcfe.safetensors", r"red\x1b[31m.safetensors", "odd.safetensors"}
    assert "name that is not UTF-8, or with control characters; rename it" in errors[r"\udcff\udcfe.safetensors"]
    assert "is intact but invalid" in errors["odd.safetensors"]
    assert all(error.isprintable() for error in errors.values())


def test_a_look_at_the_disk_waits_for_texts_that_are_tokenised(folder: Path, backbone: gp.Backbone) -> None:
    registry = Registry(folder, backbone)
    make_classifier(backbone, 7, language="sna").save(folder / "sna.safetensors")
    look = threading.Thread(target=registry.reload)
    with registry.tokenizing:
        look.start()
        look.join(0.2)
        assert look.is_alive()
    look.join(30)
    assert "sna" in registry.names()


def test_files_come_change_and_go_without_a_restart(folder: Path, backbone: gp.Backbone) -> None:
    registry = Registry(folder, backbone)
    assert changes(registry) == ([], [], [])
    first, before = scores(registry, backbone, "nya"), registry.snapshot()
    make_classifier(backbone, 7).save(folder / "nya.safetensors")
    make_classifier(backbone, 8).save(folder / "lin.safetensors")
    (folder / "yor.safetensors").unlink()
    assert scores(registry, backbone, "nya") == first, "not before it is reloaded"
    assert changes(registry) == (["lin"], ["nya"], ["yor"])
    assert scores(registry, backbone, "nya") == pytest.approx(scores_alone(make_classifier(backbone, 7)), abs=1e-5)
    assert registry.names() == ["lin", "nya"]
    assert [card.name for card in registry.cards()] == ["lin", "nya"]
    assert set(before) == {"nya", "yor"}, "a snapshot does not change"


def test_what_is_in_memory_goes_on_with_its_version(folder: Path, backbone: gp.Backbone) -> None:
    """Nobody has asked for the old files yet when they are replaced and removed."""
    registry = Registry(folder, backbone)
    predictor = gp.Predictor(backbone, registry)
    queries = predictor.read([("nya", TEXT), ("yor", TEXT)])
    make_classifier(backbone, 7).save(folder / "nya.safetensors")
    (folder / "yor.safetensors").unlink()
    registry.reload()
    found = predictor.answer(queries)
    for seed, prediction in zip((1, 2), found, strict=True):
        expected = scores_alone(make_classifier(backbone, seed))
        assert list(prediction.scores.values()) == pytest.approx(expected, abs=1e-5)


def test_what_is_not_in_memory_and_changed_is_refused_until_the_next_look(folder: Path, backbone: gp.Backbone) -> None:
    registry = Registry(folder, backbone, byte_budget=0)
    make_classifier(backbone, 7).save(folder / "nya.safetensors")
    (folder / "yor.safetensors").unlink()
    for name, reason in (("nya", "was changed since the last look"), ("yor", "does not exist")):
        with pytest.raises(ArtifactError, match=reason):
            scores(registry, backbone, name)
    registry.reload()
    assert scores(registry, backbone, "nya") == pytest.approx(scores_alone(make_classifier(backbone, 7)), abs=1e-5)


def test_broken_files_are_kept_out_and_the_old_version_goes_on(
    folder: Path, backbone: gp.Backbone, tiny_backbone: Callable[[str], gp.Backbone], caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(folder, backbone)
    before = scores(registry, backbone, "nya")
    foreign = make_classifier(tiny_backbone("bert"), 1).save(folder / "foreign.safetensors")
    whole = (folder / "nya.safetensors").read_bytes()
    bad = folder / "beside"
    bad.write_bytes(whole[:-100])
    os.replace(bad, folder / "nya.safetensors")
    bad.write_bytes(whole[:-4] + b"\x01\x02\x03\x04")
    os.replace(bad, folder / "changed.safetensors")
    artifact.write(folder / "odd.safetensors", "classifier", {"x": torch.zeros(1)}, {"language": "nya"})
    assert changes(registry) == ([], [], [])
    errors = registry.errors()
    assert {Path(path).stem for path in errors} == {"nya", "foreign", "changed", "odd"}
    assert "was made for" in errors[str(foreign)]
    assert "is damaged" in errors[str(folder / "nya.safetensors")]
    assert "has been changed since it was saved" in errors[str(folder / "changed.safetensors")]
    assert not any("\n" in error for error in errors.values())
    assert scores(registry, backbone, "nya") == before
    assert registry.names() == ["nya", "yor"]
    assert len(caplog.records) == 4
    registry.reload()
    assert len(caplog.records) == 4, "said once"
    make_classifier(backbone, 7).save(folder / "nya.safetensors")
    assert changes(registry)[1] == ["nya"]
    assert str(folder / "nya.safetensors") not in registry.errors()


def test_a_prompt_of_another_shape_is_kept_out(folder: Path, backbone: gp.Backbone) -> None:
    narrow = replace(make_classifier(backbone, 1), body=SoftPrompt(torch.zeros(3, 2, 4, 5, 7)))
    path = narrow.save(folder / "narrow.safetensors")
    assert (
        "a prompt of shape [3, 2, 4, 5, 7]; the backbone needs [3, 2, 4, 5, 12]"
        in Registry(folder, backbone).errors()[str(path)]
    )


def test_a_file_that_is_overwritten_in_place_is_served_from_memory(folder: Path, backbone: gp.Backbone) -> None:
    """What cp, scp and rsync --inplace do: cut to nothing, then written bit by bit."""
    registry = Registry(folder, backbone)
    path, before = folder / "nya.safetensors", scores(registry, backbone, "nya")
    new = make_classifier(backbone, 7)
    data = new.save(folder / "new").read_bytes()
    with path.open("r+b") as file:
        file.truncate(0)
        for start in range(0, len(data), len(data) // 3 + 1):
            assert scores(registry, backbone, "nya") == before
            registry.reload()
            assert scores(registry, backbone, "nya") == before, "the version in memory goes on"
            file.write(data[start : start + len(data) // 3 + 1])
            file.flush()
    registry.reload()
    assert scores(registry, backbone, "nya") == pytest.approx(scores_alone(new), abs=1e-5)


def test_a_file_that_is_written_into_is_refused_not_read(folder: Path, backbone: gp.Backbone) -> None:
    """Not how files are to be replaced, but what `cp` does."""
    registry = Registry(folder, backbone, byte_budget=0)
    path = folder / "nya.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:200])
    with pytest.raises(ArtifactError, match="is damaged"):
        scores(registry, backbone, "nya")
    assert changes(registry)[2] == ["nya"]
    assert "is damaged" in registry.errors()[str(path)]
    stamp = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert changes(registry)[0] == ["nya"]
    assert scores(registry, backbone, "nya") == pytest.approx(scores_alone(make_classifier(backbone, 1)), abs=1e-5)


def test_of_two_files_of_one_name_the_first_is_served(
    folder: Path, backbone: gp.Backbone, tmp_path_factory: pytest.TempPathFactory
) -> None:
    second = make_classifier(backbone, 9).save(tmp_path_factory.mktemp("second") / "nya.safetensors")
    registry = Registry([folder, second.parent], backbone)
    assert scores(registry, backbone, "nya") == pytest.approx(scores_alone(make_classifier(backbone, 1)), abs=1e-5)
    assert f"has the name of a file in '{folder}'" in registry.errors()[str(second)]
    (folder / "nya.safetensors").unlink()
    assert changes(registry) == ([], ["nya"], [])
    assert registry.errors() == {}


def test_a_folder_that_is_away_for_a_moment_takes_nothing_with_it(folder: Path, backbone: gp.Backbone) -> None:
    registry = Registry(folder, backbone)
    before = scores(registry, backbone, "nya")
    away = folder.rename(folder.with_name("away"))
    assert changes(registry) == ([], [], [])
    assert scores(registry, backbone, "nya") == before
    away.rename(folder)
    (folder / "nya.safetensors").unlink()
    assert changes(registry)[2] == ["nya"]


def test_a_disk_in_trouble_takes_nothing_with_it_and_the_watcher_goes_on(
    folder: Path, backbone: gp.Backbone, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(folder, backbone)
    fail_on, looks = set[Path](), list[Path]()

    def troubled(call: Callable[..., Any]) -> Callable[..., Any]:
        def ask(path: Path, **options: Any) -> Any:
            looks.append(path)
            if path in fail_on:
                raise OSError(errno.EIO, "Input/output error", str(path))
            return call(path, **options)

        return ask

    def looked_twice() -> None:
        """Until a look that began after this call has ended."""
        seen = looks.count(folder)
        while looks.count(folder) < seen + 6:
            assert len(looks) < 100_000, "the watcher has ended"
            time.sleep(0.002)

    for name in ("stat", "iterdir"):
        monkeypatch.setattr(Path, name, troubled(getattr(Path, name)))
    with registry.watched(seconds=0.002):
        fail_on.add(folder)
        looked_twice()
        assert registry.names() == ["nya", "yor"]
        assert [record.message for record in caplog.records] == [
            f"no look at the disk: [Errno 5] Input/output error: '{folder}'; what was known is served"
        ]
        fail_on.clear()
        fail_on.add(folder / "nya.safetensors")
        make_classifier(backbone, 8).save(folder / "lin.safetensors")
        while registry.names() != ["lin", "nya", "yor"]:
            time.sleep(0.002)
    assert "can be looked at again" in caplog.records[-1].message
    assert len(caplog.records) == 2


@pytest.mark.slow
def test_requests_see_the_old_version_or_the_new_one(folder: Path, backbone: gp.Backbone) -> None:
    """While a thread renames two versions over each other and a second one looks at the disk."""
    registry = Registry(folder, backbone)
    versions = [make_classifier(backbone, seed, prompt_length=length) for seed, length in ((1, 4), (7, 6))]
    saved = [one.save(folder / f"version-{n}.saved") for n, one in enumerate(versions)]
    expected = [pytest.approx(scores_alone(one), abs=1e-5) for one in versions]
    done = threading.Event()

    def replace_it() -> None:
        turn = 0
        while not done.is_set():
            turn = 1 - turn
            shutil.copy(saved[turn], folder / "beside")
            os.replace(folder / "beside", folder / "nya.safetensors")
            time.sleep(0.003)

    writer = threading.Thread(target=replace_it)
    seen = [0, 0]
    with registry.watched(seconds=0.002):
        writer.start()
        try:
            for _ in range(60):
                found = scores(registry, backbone, "nya")
                assert found in expected
                seen[expected.index(found)] += 1
        finally:
            done.set()
            writer.join()
    assert min(seen) > 0


@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_may_not_be_read_is_taken_up_once_it_may(
    known: bool, folder: Path, backbone: gp.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which changes neither its time nor its size."""
    path = folder / "nya.safetensors"
    registry = Registry(folder, backbone) if known else None
    make_classifier(backbone, 8).save(path)
    opened = Path.open

    def forbidden(asked: Path, *words: Any, **options: Any) -> Any:
        if asked == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(asked, *words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", forbidden)
        if registry is None:
            registry = Registry(folder, backbone)
        for _ in range(2):
            registry.reload()
            assert "cannot be read (Permission denied)" in registry.errors()[str(path)]
            assert ("nya" in registry.names()) == known
    registry.reload()
    assert registry.errors() == {}
    assert scores(registry, backbone, "nya") == pytest.approx(scores_alone(make_classifier(backbone, 8)), abs=1e-5)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("times", [1, MOST_READS - 1, MOST_READS])
def test_replaced_while_it_is_read(
    times: int, known: bool, folder: Path, backbone: gp.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version that was read is known by its own stamp, or left for the next look."""
    path = folder / "nya.safetensors"
    versions = [make_classifier(backbone, seed) for seed in range(30, 31 + times)]
    registry = Registry(folder, backbone) if known else None
    versions[0].save(path)
    read, reads = artifact.read_copy, list[Path]()

    def replaced(asked: Path, kind: str) -> Any:
        if asked == path and len(reads) < times:
            reads.append(asked)
            versions[len(reads)].save(path)
        return read(asked, kind)

    with monkeypatch.context() as patch:
        patch.setattr(artifact, "read_copy", replaced)
        if registry is None:
            registry = Registry(folder, backbone)
        else:
            registry.reload()
    if times == MOST_READS:
        assert "changed whenever it was read" in registry.errors()[str(path)]
        assert ("nya" in registry.names()) == known
        if known:
            before = scores_alone(make_classifier(backbone, 1))
            assert scores(registry, backbone, "nya") == pytest.approx(before, abs=1e-5)
        registry.reload()
    assert scores(registry, backbone, "nya") == pytest.approx(scores_alone(versions[-1]), abs=1e-5)
    assert registry.errors() == {}
    assert changes(registry) == ([], [], [])


@pytest.mark.slow
@pytest.mark.parametrize("count", [320, pytest.param(2000, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_thousands_in_bounded_memory(tmp_path: Path, backbone: gp.Backbone, count: int) -> None:
    """Every file is asked for; neither what is decoded nor what was read piles up."""
    length, budget = 160, 2**20
    first = make_classifier(backbone, 1, prompt_length=length).save(tmp_path / "0.safetensors")
    each = first.stat().st_size
    for number in range(1, count):
        shutil.copy(first, tmp_path / f"{number}.safetensors")
    gp.Predictor(backbone, {"0": gp.PromptClassifier.load(first, backbone)}).predict([("0", "water")] * 20)
    resident = _resident_bytes()
    registry = Registry(tmp_path, backbone, budget)
    assert len(registry.snapshot()) == count
    predictor = gp.Predictor(backbone, registry)
    for start in range(0, count, 20):
        predictor.predict([(str(number), "water") for number in range(start, start + 20)])
        assert registry.cached_bytes <= budget
    assert registry.cached_bytes > budget / 2
    assert _resident_bytes() - resident < count * each / 2, "as much as the files hold would show"


def _resident_bytes() -> int:
    """Of this process, mapped files included."""
    pages = Path("/proc/self/statm")
    if not pages.is_file():
        pytest.skip("needs /proc")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- what is decoded


def decoded(num_bytes: int) -> Decoded:
    return Decoded(None, "plain", None, None, num_bytes)


def test_what_was_used_longest_ago_leaves_first() -> None:
    cache, made = DecodedCache(100), []

    def get(key: str, num_bytes: int = 40) -> None:
        cache.get(key, lambda: made.append(key) or decoded(num_bytes))

    for key in ("a", "b", "a", "c", "a", "b"):
        get(key)
    assert made == ["a", "b", "c", "b"], "b was used before a when c came"
    assert cache.num_bytes == 80
    get("large", 101)
    assert cache.num_bytes == 80, "what has no room drives nothing out"
    get("b")
    get("a")
    assert made == ["a", "b", "c", "b", "large"]


@pytest.mark.slow
def test_baselines_and_aligned_ones_answer_in_one_batch_with_prompts(folder: Path, backbone: gp.Backbone) -> None:
    """Tuned on characters, mapped by a ridge map, behind an aligned MAD-X adapter with and without a task adapter."""
    adapt = gp.AdaptConfig(
        method="mad-x", objective="alignment", steps=2, batch_size=8, max_length=16, held_out_share=0.2,
        eval_sequences=8, learning_rate=1e-2,
    )  # fmt: skip
    aligned = gp.adapt(backbone, language="xxx", config=adapt, runtime=QUIET, parallel=TRANSLATIONS)

    def tuned(start: Any = None, **given: Any) -> gp.PromptClassifier:
        pairs = given.pop("parallel", ())
        config = gp.TuneConfig(epochs=1, max_length=48, **given)
        return gp.tune(backbone, start, topics(3), TOPIC, config, QUIET, dev=topics(3), parallel=pairs)

    made = {
        "characters": tuned(method="tf-idf"),
        "mapped": tuned(method="embedding", parallel=TRANSLATIONS),
        "aligned": tuned(aligned, method="embedding"),
        "aligned-task": tuned(aligned, head="pooled"),
    }
    for name, classifier in made.items():
        classifier.save(folder / f"{name}.safetensors")
    registry = Registry(folder, backbone)
    assert registry.errors() == {}
    classifiers = {**made, "nya": make_classifier(backbone, 1), "yor": make_classifier(backbone, 2, language="yor")}
    items: list[Item] = [(name, f"{text} {name}") for text in (TEXT, "play field", "") for name in classifiers]
    for found, (name, text) in zip(gp.Predictor(backbone, registry).predict(items), items, strict=True):
        (alone,) = classifiers[name].predict([text])
        assert found.label == alone.label
        assert found.scores == pytest.approx(alone.scores, abs=1e-5)
    (card,) = (one for one in registry.cards() if one.name == "characters")
    assert (card.backbone, card.method, card.finds_language) == ("none", "tf-idf", False)
