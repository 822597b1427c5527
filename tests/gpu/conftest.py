"""The device on which every seam is held against the CPU in fp32: one that is pretended, on any machine, and a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from glotprompt.model.backbone import Backbone

from ..conftest import make_tiny_backbone
from .pretend import PRETEND, moved, pretending


@pytest.fixture(scope="session")
def card(request: pytest.FixtureRequest) -> str:
    """Name of the GPU for the command line: "cuda", or "cpu" with --gpu-dry, which tries the tests themselves."""
    if request.config.getoption("--gpu-dry"):
        return "cpu"
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return "cuda"


@pytest.fixture(params=["pretended", pytest.param("card", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where the seam is tried."""
    if request.param == "card":
        yield torch.device(request.getfixturevalue("card"))
        return
    with pretending():
        yield PRETEND


@pytest.fixture
def there(device: torch.device) -> Callable[[str], Backbone]:
    """From a tiny kind to a fresh backbone on that device; its weights are those of `tiny_backbone`."""
    return lambda kind: moved(make_tiny_backbone(kind), device)
