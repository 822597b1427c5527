"""Threads within a container's quota of processor time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from glotprompt.cli import threads
from glotprompt.cli.threads import cpu_quota, keep_to_quota


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/jobs/one\n", {"jobs/one/cpu.max": "max 100000\n", "jobs/cpu.max": "300000 100000\n"}, 3),
        ("0::/jobs/one\n", {"jobs/one/cpu.max": "100000 50000\n", "jobs/cpu.max": "300000 100000\n"}, 2),
        ("0::/docker/of-the-host\n", {"cpu.max": "400000 100000\n"}, 4),
        (
            "5:cpuset:/\n4:cpu,cpuacct:/a\n1:name=systemd:/a:b\n0::/\n",
            {"cpu/a/cpu.cfs_quota_us": "250000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("4:cpuset:/\n", {"cpu.max": "100000 100000\n"}, None),
        ("nonsense\n", {"cpu.max": "100000 100000\n"}, None),
        ("0::/\n", {"cpu.max": "nonsense\n"}, None),
    ],
)
def test_the_quota_of_a_control_group(
    tmp_path: Path, membership: str, files: dict[str, str], quota: int | None
) -> None:
    (tmp_path / "cgroup").write_text(membership)
    assert cpu_quota(tmp_path / "cgroup", written(tmp_path / "groups", files)) == quota


def test_no_control_groups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "none", tmp_path) is None


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("quota", "expected"), [(2, 2), (4, 4), (64, 4), (None, 4)])
@pytest.mark.usefixtures("four_threads")
def test_threads_are_only_lowered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quota: int | None, expected: int
) -> None:
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    keep_to_quota()
    assert torch.get_num_threads() == expected
    assert ("threads: 2, as many" in capsys.readouterr().err) == (expected < 4)


@pytest.mark.usefixtures("four_threads")
def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cpu_quota", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    keep_to_quota()
    assert torch.get_num_threads() == 4
