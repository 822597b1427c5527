"""A few of the files and folders of `artifacts`, which tries any number."""

from __future__ import annotations

from pathlib import Path

import pytest

from .artifacts import run


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_nobody_would_write_is_taken_as_it_is_or_refused(tmp_path: Path) -> None:
    result = run(36, 5, seed=0, folder=tmp_path)
    assert result.wrong == []
    assert result.counts["refused"] >= 25, "else nothing is crafted"
    assert result.counts["taken"] >= 1
