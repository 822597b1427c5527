"""What memory runs out for outside of a training step: loading, evaluation, scoring."""

from __future__ import annotations

import errno
import os

import pytest
import torch

from glotprompt.cli import demo as command

from .conftest import Program

MORE_THAN_ANY_MACHINE_HAS = 2**60


def torch_runs_out(**options: object) -> None:
    torch.empty(MORE_THAN_ANY_MACHINE_HAS, dtype=torch.uint8)


def python_runs_out(**options: object) -> None:
    bytearray(MORE_THAN_ANY_MACHINE_HAS)


def onednn_runs_out(**options: object) -> None:
    raise RuntimeError("could not create a primitive")


def the_system_runs_out(**options: object) -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize("run_out", [torch_runs_out, python_runs_out, onednn_runs_out, the_system_runs_out])
def test_one_line_with_remedies(glotprompt: Program, monkeypatch: pytest.MonkeyPatch, run_out: object) -> None:
    monkeypatch.setattr(command, "run_demo", run_out)
    outcome = glotprompt("demo")
    assert outcome.status == 2
    assert outcome.error.startswith("error: out of memory; try a smaller --eval-batch-size")
    assert outcome.error.count("\n") <= 1


def test_other_errors_show_where_they_arose(glotprompt: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**options: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(command, "run_demo", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        glotprompt("demo")
