"""Saved results as people meet them: one line, a model card, and the hub and back."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

import glotprompt as gp
from glotprompt.data.samples import Samples
from glotprompt.errors import ArtifactError, ConfigError
from glotprompt.model.backbone import Backbone
from glotprompt.storage.metadata import Measurement

from .toys import QUIET, SOURCE, TASK, TOY, topics

SECRET = "a private sentence"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as is asked: repositories that take commits of small files and give them back."""

    files: dict[str, bytes]
    refuses: bool

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.refuses:
            return self.answer(b'{"error": "You are not logged in"}', 401)
        if self.path.endswith("/preupload/main"):
            paths = [file["path"] for file in json.loads(asked)["files"]]
            files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            return self.answer(json.dumps({"files": files}).encode())
        repo = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
        if self.path.endswith("/commit/main"):
            for line in map(json.loads, asked.splitlines()):
                if line["key"] == "file":
                    self.files[f"{repo}/{line['value']['path']}"] = base64.b64decode(line["value"]["content"])
        address = f"http://{self.headers['Host']}/me/name"
        commit = {
            "commitUrl": f"{address}/commit/main",
            "commitOid": "0" * 40,
            "url": address,
            "errors": [],
            "warnings": [],
        }
        return self.answer(json.dumps(commit).encode())

    def do_GET(self) -> None:
        content = self.files.get(unquote(self.path).removeprefix("/").replace("/resolve/main", ""))
        if content is None:
            return self.answer(b"", 404, X_Error_Code="RepoNotFound")
        return self.answer(content, ETag='"one"', X_Repo_Commit="0" * 40)

    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[type[Hub]]:
    class Fresh(Hub):
        files, refuses = {}, False

    with ThreadingHTTPServer(("127.0.0.1", 0), Fresh) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        huggingface_hub.utils.close_session()
        yield Fresh
        server.shutdown()
        thread.join()
    huggingface_hub.utils.close_session()


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Callable[[str], Backbone]) -> Backbone:
    return tiny_backbone("xlm-roberta")


@pytest.fixture(scope="module")
def prompt(backbone: Backbone) -> gp.LanguagePrompt:
    config = gp.AdaptConfig(prompt_length=2, steps=2, batch_size=4, max_length=16, eval_every=2)
    made = gp.adapt(backbone, TOY, SOURCE, "nya", config, QUIET)
    assert isinstance(made, gp.LanguagePrompt)
    return replace(made, samples=Samples("target", (SECRET,)))


@pytest.fixture(scope="module")
def classifier(backbone: Backbone, prompt: gp.LanguagePrompt) -> gp.PromptClassifier:
    config = gp.TuneConfig(epochs=1, max_length=16, top_k_layers=1)
    found = Measurement(language="nya", content="0" * 64, num_examples=150, accuracy=71.3, interval=(63.5, 78.1))
    return replace(gp.tune(backbone, prompt, topics(4), TASK, config, QUIET), measurements=(found,))


def test_one_line_says_what_it_is(
    backbone: Backbone, prompt: gp.LanguagePrompt, classifier: gp.PromptClassifier
) -> None:
    size = f"{backbone.num_parameters:,} parameters"
    assert repr(backbone) == f"<Backbone {backbone.name}: {backbone.num_layers} layers, {size}, fp32>"
    about = f"soft-prompt, on {backbone.name}, {prompt.key_values.numel():,} parameters"
    assert repr(prompt) == f"<LanguagePrompt Chichewa, {about}>"
    assert repr(classifier) == f"<PromptClassifier Chichewa, topic (3 labels), {about}>"
    assert {"adapt", "tune", "Backbone"} <= set(dir(gp))


def test_a_prompt_goes_to_the_hub_and_comes_back(hub: type[Hub], backbone: Backbone, prompt: gp.LanguagePrompt) -> None:
    assert prompt.push_to_hub("me/nya").endswith("/me/name")
    assert set(hub.files) == {"me/nya/README.md", "me/nya/glotprompt.safetensors"}
    assert not any(SECRET.encode() in content for content in hub.files.values())
    for loaded in (gp.LanguagePrompt.load("me/nya", backbone), gp.load_adapted("me/nya")):
        assert isinstance(loaded, gp.LanguagePrompt)
        assert torch.equal(loaded.key_values, prompt.key_values)
        assert loaded.samples is None
    prompt.push_to_hub("me/nya-samples", samples=True)
    assert all(
        SECRET.encode() in hub.files[f"me/nya-samples/{name}"] for name in ("README.md", "glotprompt.safetensors")
    )


def test_a_classifier_goes_to_the_hub_with_a_card(
    hub: type[Hub], backbone: Backbone, classifier: gp.PromptClassifier
) -> None:
    classifier.push_to_hub("me/topics")
    loaded = gp.PromptClassifier.load("me/topics", backbone)
    assert loaded.predict(["the king"]) == classifier.predict(["the king"])
    card = hub.files["me/topics/README.md"].decode()
    front, _, body = card.removeprefix("---\n").partition("---\n")
    assert "- nya\n" in front
    assert "library_name: glotprompt\n" in front
    expected = [
        "# Chichewa: classifier",
        "Held-out MLM loss: ",
        "71.3 % [63.5, 78.1] of 150 examples in Chichewa",
        " labelled examples (culture ",
        "as one of: health, sports, culture",
        backbone.fingerprint,
        'gp.PromptClassifier.load("me/topics", backbone)',
    ]
    assert [text for text in expected if text not in body] == [], body
    assert SECRET not in card


def test_what_the_hub_refuses_is_said_in_one_line(hub: type[Hub], prompt: gp.LanguagePrompt) -> None:
    hub.refuses = True
    with pytest.raises(ConfigError, match=r"^the hub does not take me/nya \(.*401.*\); check the name, and log in"):
        prompt.push_to_hub("me/nya")
    with pytest.raises(ConfigError, match="'nya' is no repository of the hub; expected user/name"):
        prompt.push_to_hub("nya")
    with pytest.raises(ArtifactError, match=r"^me/other is no file here and cannot be had from the hub"):
        gp.LanguagePrompt.load("me/other")
    with pytest.raises(ArtifactError, match=r"^me/nya\.safetensors does not exist"):  # a file's name, not asked for
        gp.LanguagePrompt.load("me/nya.safetensors")
