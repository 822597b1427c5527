"""Classifiers with prompts of noise, which cost nothing to make."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import glotprompt as gp
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.prefix import Positions
from glotprompt.serve.registry import Registry

TOPIC = gp.Task("topic", "{mask} : {text}", {"health": ["Health", "health"], "sports": "Sports", "culture": "Culture"})
ANSWER = gp.Task("answer", "{premise} ? {mask} , {hypothesis}", {"yes": "Yes", "no": "No"})


@pytest.fixture(scope="session")
def backbone(tiny_backbone: Callable[[str], gp.Backbone]) -> gp.Backbone:
    return tiny_backbone("xlm-roberta")


def make_classifier(
    backbone: gp.Backbone, seed: int, task: gp.Task = TOPIC, prompt_length: int = 4, positions: Positions = "plain",
    language: str = "nya", max_length: int = 48,
) -> gp.PromptClassifier:  # fmt: skip
    """Large prompts, so that no two classifiers agree by chance."""
    drawn = torch.randn(backbone.prompt_shape(prompt_length), generator=torch.Generator().manual_seed(seed))
    return gp.PromptClassifier(backbone, SoftPrompt(drawn, positions=positions), task, language, max_length)


@pytest.fixture
def four(backbone: gp.Backbone) -> dict[str, gp.PromptClassifier]:
    """Four classifiers that differ in all that a classifier can differ in."""
    rewritten = gp.CharacterMap.fitted({"w": "v"}, ["water"])
    return {
        "nya": make_classifier(backbone, 1),
        "yor": replace(make_classifier(backbone, 2, prompt_length=9, language="yor"), offsets=(0.5, -1.0, 0.25)),
        "nya-nli": make_classifier(backbone, 3, ANSWER, 6, "shifted", max_length=40),
        "sna": replace(make_classifier(backbone, 4, max_length=12, language="sna"), characters=rewritten),
    }


@pytest.fixture
def saved_four(tmp_path: Path, four: dict[str, gp.PromptClassifier]) -> Path:
    for name, classifier in four.items():
        classifier.save(tmp_path / f"{name}.safetensors")
    return tmp_path


@pytest.fixture
def registry(saved_four: Path, backbone: gp.Backbone) -> Registry:
    return Registry(saved_four, backbone)


# Of one module each: while Playwright runs, no other event loop can be started in its thread.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright (extra dev)")
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("the page's tests need Chromium (apt install chromium)")
    with playwright.sync_playwright() as started:
        # Chromium's sandbox does not start as root, which continuous integration often is.
        browser = started.chromium.launch(executable_path=found[0], args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(backbone: gp.Backbone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The application on a port; a `live.Live`."""
    from .live import running

    with running(backbone, tmp_path_factory.mktemp("classifiers")) as service:
        yield service


@pytest.fixture
def visit(browser: Any, service: Any) -> Iterator[Any]:
    """A `browser.Visit` to the service."""
    from .browser import Visit

    visit = Visit(browser, service)
    yield visit
    visit.close()
