"""Saved files: whole or not there, and refused in one line when they are not what was saved."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import glotprompt
from glotprompt.errors import ArtifactError
from glotprompt.storage import artifact, atomic

KIND = "language prompt"
METADATA: dict[str, Any] = {
    "language": "nya", "backbone": {"name": "b", "fingerprint": "abc"}, "numbers": [0.1, 1e-300, -3], "nothing": None,
    "text": "Moni! ñ 日本 \n\"quoted\"",
}  # fmt: skip


def tensors() -> dict[str, torch.Tensor]:
    values = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    return {
        "key_values": values, "half": values.bfloat16(), "count": torch.tensor(7.0), "ids": torch.arange(3),
        "turned": values.T, "empty": torch.zeros(0, 4), "flags": torch.tensor([True, False]),
    }  # fmt: skip


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return artifact.write(tmp_path / "a.safetensors", KIND, tensors(), METADATA)


def refused(path: Path, kind: str = KIND) -> str:
    """What `read` says; `read_copy` refuses the same."""
    texts: list[str] = []
    for read in (artifact.read, artifact.read_copy):
        with pytest.raises(ArtifactError) as caught:
            read(path, kind)
        texts.append(str(caught.value))
        assert str(path) in texts[-1]
        assert "\n" not in texts[-1]
    assert texts[0].split("(")[0] == texts[1].split("(")[0]
    return texts[0]


@pytest.mark.parametrize("read", [artifact.read, artifact.read_copy])
def test_round_trip(read: Callable[[Path, str], Any], saved: Path) -> None:
    found, metadata = read(saved, KIND)
    expected = tensors()
    assert set(found) == set(expected)
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name])
    assert {key: metadata[key] for key in METADATA} == METADATA
    assert (metadata["kind"], metadata["format"]) == (KIND, artifact.FORMAT)


@pytest.mark.parametrize("read", [artifact.read, artifact.read_copy])
def test_what_was_read_stays_when_somebody_writes_into_the_file(read: Callable[[Path, str], Any], saved: Path) -> None:
    found, _ = read(saved, KIND)
    saved.write_bytes(b"")
    assert found["key_values"].equal(tensors()["key_values"])


def test_special_numbers_survive(tmp_path: Path) -> None:
    values = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    path = artifact.write(tmp_path / "a", KIND, {"x": values}, {})
    found, _ = artifact.read(path, KIND)
    assert torch.equal(found["x"].view(torch.int32), values.view(torch.int32))


def test_same_content_same_bytes(tmp_path: Path, saved: Path) -> None:
    metadata = dict(reversed(METADATA.items()))
    assert artifact.write(tmp_path / "b", KIND, tensors(), metadata).read_bytes() == saved.read_bytes()


def test_the_bytes_are_those_of_safetensors(tmp_path: Path) -> None:
    """Of tensors of one size; others it may put in another order."""
    values = {"b": torch.ones(2, 3), "a": torch.zeros(()), "none": torch.zeros(0, 4)}
    path = artifact.write(tmp_path / "a", KIND, values, METADATA)
    with safe_open(path, framework="pt") as file:
        save_file(values, tmp_path / "b", file.metadata())
    assert path.read_bytes() == (tmp_path / "b").read_bytes()


def test_a_trained_parameter_can_be_saved(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    found, _ = artifact.read(artifact.write(tmp_path / "a", KIND, {"x": parameter}, {}), KIND)
    assert torch.equal(found["x"], torch.ones(2, 2))
    assert not found["x"].requires_grad


def test_the_digest_covers_names_types_and_shapes() -> None:
    values = torch.arange(6.0)
    different = [{"x": values}, {"y": values}, {"x": values.view(torch.int32)}, {"x": values.view(2, 3)}]
    assert len({artifact.digest(each, {}) for each in different}) == len(different)


def test_no_pickle(saved: Path) -> None:
    data = saved.read_bytes()
    header = int.from_bytes(data[:8], "little")
    assert json.loads(data[8 : 8 + header])["__metadata__"].keys() == {artifact.KEY}, "plain safetensors"
    with safe_open(saved, framework="np") as file:
        assert json.loads(file.metadata()[artifact.KEY])["language"] == "nya"


# --- damage


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, -100, -8, -1])
def test_truncated(saved: Path, keep: int) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[:keep])
    assert "damaged or no safetensors file" in refused(saved)
    with pytest.raises(ArtifactError, match="damaged or no safetensors file"):
        artifact.describe(saved, (KIND,))


def test_something_at_the_end(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"\0")
    refused(saved)


@pytest.mark.slow
def test_any_flipped_bit_is_noticed(saved: Path) -> None:
    data = saved.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    places = [*range(0, start, 7), *range(start - 3, len(data))]
    assert len(data) - start > 60
    for place in places:
        for bit in (0, 5):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            if data[place - 1 : place + 5] == b"1e-300":  # as 1E-300 it is the same number
                continue
            saved.write_bytes(changed)
            refused(saved)


def test_a_changed_value_is_said_to_be_changed(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-1] ^= 1
    saved.write_bytes(data)
    assert "has been changed since it was saved" in refused(saved)


def test_a_changed_fact_is_said_to_be_changed(saved: Path) -> None:
    data = saved.read_bytes()
    assert data.count(b"nya") == 1
    saved.write_bytes(data.replace(b"nya", b"nyb"))
    assert "has been changed since it was saved" in refused(saved)


# --- the wrong file


def test_missing(tmp_path: Path) -> None:
    assert "does not exist; expected a language prompt" in refused(tmp_path / "none.safetensors")


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path)


def test_a_file_that_may_not_be_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which safetensors says that there is none."""

    def forbidden(path: Path, mode: str) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", forbidden)
    assert refused(saved) == f"{saved} cannot be read (Permission denied); look at its permissions and its disk"


def test_wrong_kind(saved: Path) -> None:
    assert "is a language prompt; expected a classifier" in refused(saved, "classifier")


def test_wrong_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "FORMAT", 99)
    path = artifact.write(tmp_path / "a", KIND, tensors(), METADATA)
    monkeypatch.undo()
    assert f"has format 99, this glotprompt reads format {artifact.FORMAT}" in refused(path)


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"format": "pt"}, *({artifact.KEY: text} for text in ("", "{", "{}", "[]", "3", '"x"', '{"kind": 1}'))],
)
def test_foreign_safetensors(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"x": torch.ones(1)}, path, metadata=metadata)
    assert "was not written by glotprompt" in refused(path)


@pytest.mark.parametrize("depth", [65, 500, 5000, 200_000])
def test_a_description_without_end(tmp_path: Path, depth: int) -> None:
    """Python gives up at some depth, and later at another one than when it read the file."""
    path = tmp_path / "deep.safetensors"
    metadata = f'{{"format": 2, "kind": "{KIND}", "digest": "0", "x": {"[" * depth}{"]" * depth}}}'
    save_file({"x": torch.ones(1)}, path, metadata={artifact.KEY: metadata})
    assert "was not written by glotprompt" in refused(path) or "is damaged" in refused(path)
    with pytest.raises(ArtifactError):
        artifact.describe(path, (KIND,))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}q\x00.", b"\xff" * 64])
def test_no_safetensors_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    assert "damaged or no safetensors file" in refused(path)


def test_another_backbone() -> None:
    artifact.check_backbone("p", METADATA, "b", "abc")
    artifact.check_backbone("p", METADATA, "renamed", "abc")
    for metadata, fingerprint in ((METADATA, "abd"), ({}, "abc")):
        with pytest.raises(ArtifactError) as caught:
            artifact.check_backbone("p.safetensors", metadata, "other", fingerprint)
        assert "p.safetensors was made for" in str(caught.value)
        assert f"'other' (fingerprint {fingerprint})" in str(caught.value)


def test_another_version_of_the_backbone() -> None:
    with pytest.raises(ArtifactError) as caught:
        artifact.check_backbone("p.safetensors", METADATA, "b", "abd")
    assert str(caught.value) == (
        "p.safetensors was made for another version of 'b' (fingerprint abc) than the one loaded (abd); create it again"
        " with the adapt and tune commands that made it"
    )


# --- writing


def failing(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    saved: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    before = saved.read_bytes()
    monkeypatch.setattr(os, broken, failing)
    with pytest.raises(ArtifactError, match=r"cannot write .*: No space left on device"):
        artifact.write(saved, KIND, tensors(), {"language": "sna"})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_new_file_is_complete_when_its_name_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    seen: list[bool] = []
    replace: Callable[..., None] = os.replace

    def watched(beside: Path, final: Path) -> None:
        seen.append(final.exists())
        assert artifact.read(beside, KIND)[1]["language"] == "nya"
        replace(beside, final)

    monkeypatch.setattr(os, "replace", watched)
    artifact.write(path, KIND, tensors(), METADATA)
    assert seen == [False]


def test_an_existing_file_is_replaced_in_a_folder_made_on_the_way(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.safetensors"
    artifact.write(path, KIND, tensors(), METADATA)
    artifact.write(path, KIND, {}, {"language": "sna"})
    assert artifact.read(path, KIND)[1]["language"] == "sna"
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("below", ["x.safetensors", "deep/x.safetensors"])
def test_a_folder_that_cannot_be_made(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(ArtifactError, match="cannot write"):
        artifact.write(tmp_path / "file" / below, KIND, tensors(), METADATA)


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot write"):
        artifact.write(tmp_path, KIND, tensors(), METADATA)
    assert not list(tmp_path.iterdir())
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}*"))


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_the_mode_is_that_of_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = artifact.write(tmp_path / "a", KIND, tensors(), METADATA)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.slow
def test_a_kill_while_writing_leaves_nothing_for_ever(tmp_path: Path) -> None:
    code = (
        "import os, sys, torch; from pathlib import Path; from glotprompt.storage import artifact\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        "artifact.write(Path(sys.argv[1]), 'classifier', {'x': torch.ones(1000)}, {})"
    )
    path = tmp_path / "a.safetensors"
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -signal.SIGKILL
    assert [left.name for left in tmp_path.iterdir()] == [".a.safetensors.tmp"]
    artifact.write(path, KIND, tensors(), METADATA)
    assert list(tmp_path.iterdir()) == [path]
    artifact.read(path, KIND)


def test_file_and_name_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bool, bool]] = []

    def sync(descriptor: int) -> None:
        is_writable = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), is_writable))

    monkeypatch.setattr(os, "fsync", sync)
    artifact.write(tmp_path / "a", KIND, tensors(), METADATA)
    assert synced == [(False, True), (True, False)], "Windows syncs only a file that is open for writing"


@pytest.mark.parametrize("there", [True, False])
def test_of_a_link_the_target_is_written(tmp_path: Path, there: bool) -> None:
    target, link = tmp_path / "deep" / "target", tmp_path / "link"
    if there:
        artifact.write(target, KIND, {}, {"language": "sna"})
    link.symlink_to("deep/target")
    artifact.write(link, KIND, tensors(), METADATA)
    assert link.is_symlink()
    assert not target.is_symlink()
    assert artifact.read(target, KIND)[1]["language"] == "nya"
    assert {path.name for path in (tmp_path, *target.parent.iterdir())} == {tmp_path.name, "target"}


def test_only_files_are_replaced(tmp_path: Path) -> None:
    pipe, loop, folder = tmp_path / "pipe", tmp_path / "loop", tmp_path / "folder"
    os.mkfifo(pipe)
    loop.symlink_to("loop")
    folder.mkdir()
    for path in (pipe, loop, folder, Path("/dev/null")):
        before = path.lstat()
        with pytest.raises(ArtifactError, match=r"cannot write .*expected a file or nothing"):
            artifact.write(path, KIND, tensors(), METADATA)
        assert os.path.samestat(path.lstat(), before)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.slow
def test_who_writes_the_same_file_waits(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from glotprompt.storage import artifact\n"
        "for _ in range(60): artifact.write(Path(sys.argv[1]), 'classifier', {'x': torch.ones(9)}, {'language': 'nya'})"
    )
    path = tmp_path / "a"
    writers = [subprocess.Popen([sys.executable, "-c", code, path]) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]
    artifact.read(path, "classifier")


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", none)
    assert artifact.read(artifact.write(tmp_path / "a", KIND, tensors(), METADATA), KIND)[0].keys() == tensors().keys()


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "a").write_text("a")
        assert not (tmp_path / "new").exists()

    def fail(folder: Path) -> None:
        fill(folder)
        raise OSError(28, "No space left on device")

    (tmp_path / ".new.tmp").mkdir()  # what a kill left
    (tmp_path / ".new.tmp" / "old").write_text("old")
    with pytest.raises(ArtifactError, match="No space left on device"):
        atomic.write_folder(tmp_path / "new", fail)
    assert not list(tmp_path.iterdir())
    atomic.write_folder(tmp_path / "new", fill)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]


def test_versions_name_what_numbers_depend_on() -> None:
    assert set(artifact.versions()) == {"python", "glotprompt", "torch", "transformers", "tokenizers"}


def test_the_version_stands_in_the_citation_and_the_changelog() -> None:
    root = Path(__file__).parents[1]
    assert f"\nversion: {glotprompt.__version__}\n" in (root / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## [{glotprompt.__version__}] - " in (root / "CHANGELOG.md").read_text(encoding="utf-8")
