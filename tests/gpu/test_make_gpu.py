"""`make gpu` and `make gpu-wheels` themselves: what is fetched, what is skipped, what is cut short."""

from __future__ import annotations

import json
import sys
import tarfile
import time
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"))
needs, run, wheels = (import_module(name) for name in ("needs", "run", "wheels"))


@pytest.mark.slow
def test_only_what_the_machine_lacks_or_has_too_old_is_fetched(tmp_path: Path) -> None:
    has = tmp_path / "machine.txt"
    rest = "numpy scikit-learn scipy tokenizers safetensors regex huggingface-hub rich fsspec"
    has.write_text("transformers==5.17.0\nPyYAML\ntorch @ file:///torch.whl\n# a comment\n" + "\n".join(rest.split()))
    lacked = wheels.lacked(wheels.present(has), "3.12")
    assert {"transformers", "pydantic", "pydantic-core", "gguf", "fastapi", "peft", "pytest"} <= lacked
    assert not {"torch", "triton", "pyyaml", "tomli", *rest.split()} & lacked
    assert not [name for name in lacked if name.startswith("nvidia-")]
    assert not {"matplotlib", "ray", "playwright", "pyright"} & wheels.lacked(wheels.present(None), "3.12")


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert needs.missing() == []
    monkeypatch.setattr(needs, "version", lambda name: "0.1")
    assert "transformers<6,>=5.23 is needed, 0.1 is installed" in needs.missing()


def test_wheels_travel_in_one_archive(tmp_path: Path) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a/one.py", "x = 1\n" * 1000)
        made.writestr("a-1.dist-info/RECORD", "")
    wheels.pack([wheel], tmp_path / "wheels.tar.xz")
    with tarfile.open(tmp_path / "wheels.tar.xz") as tar:
        tar.extractall(tmp_path / "out", filter="data")
    with zipfile.ZipFile(tmp_path / "out" / wheel.name) as found:
        assert found.read("a/one.py") == b"x = 1\n" * 1000
    assert set(wheels.travelling()) >= {needs.ROOT / "Makefile"}


@pytest.mark.slow
def test_a_part_is_skipped_or_cut_short_when_time_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_looked_at", lambda environment, dry: ({}, []))
    sleeper = '-c "import time; time.sleep({})"'.format
    parts = [
        run.Part("tests", 0, 9, "", sleeper(0)),
        run.Part("stage1", 0, 9, "", sleeper(60)),
        run.Part("stage2", 9, 9, "", ""),
    ]
    monkeypatch.setattr(run, "PARTS", parts)
    monkeypatch.setattr(run, "SPARE", 0)
    began = time.monotonic()
    words = ["--dry", "--minutes", "0.05", "--wheels", str(tmp_path / "none"), "--output", str(tmp_path / "out")]
    assert run.main(words) == 1
    assert time.monotonic() - began < 30
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())["parts"]
    assert [part["status"] for part in found.values()] == ["done", "cut short", "skipped"]
    assert "9 are needed" in found["stage2"]["note"]


def test_a_machine_that_lacks_something_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "_looked_at", lambda environment, dry: ({}, ["gguf>=0.17 is not installed"]))
    assert run.main(["--wheels", str(tmp_path / "none"), "--output", str(tmp_path)]) == 1
    assert "lacking: gguf>=0.17 is not installed" in capsys.readouterr().err
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"] == {}
