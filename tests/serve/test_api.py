"""The service over HTTP: answers as offline, with what a person should know; and what is refused."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import glotprompt as gp
from glotprompt.inference.language import LanguageFinder
from glotprompt.inference.predictor import Predictor
from glotprompt.model.modules.classification import LinearHead
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.serve.api import PAGE, Access, make_app
from glotprompt.serve.observed import JsonLines
from glotprompt.serve.registry import Registry
from glotprompt.serve.schemas import Limits
from glotprompt.serve.service import ServiceSettings
from glotprompt.training.objectives.scoring import score_masked_tokens

from ..tiny_backbones import random_model, tokenizer_of
from ..toys import QUIET, topics
from .asking import PAIR, TEXT, Four, assert_as_offline, error_of, item
from .conftest import TOPIC, make_classifier


@pytest.fixture
def client(registry: Registry, backbone: gp.Backbone) -> Generator[TestClient]:
    limits = Limits(items=5, characters=400, body_bytes=2000)
    with TestClient(make_app(backbone, registry, ServiceSettings(limits))) as client:
        yield client


def reload(client: TestClient) -> None:
    app: Any = client.app
    app.state.service.registry.reload()


# --- answers


def test_answers_are_those_of_the_classifiers_alone(client: TestClient, four: Four) -> None:
    items = [item("nya"), item("nya-nli", PAIR), {"language": "yor", "task": "topic", "text": TEXT}]
    body = client.post("/v1/predict", json={"items": items}).json()
    nya, nli, yor = body["results"]
    assert_as_offline(nya, four["nya"])
    assert_as_offline(nli, four["nya-nli"], PAIR)
    assert_as_offline(yor, four["yor"])
    assert (yor["classifier"], yor["language"], yor["candidates"]) == ("yor", "yor", None)
    assert 0 <= body["queue_seconds"] <= body["seconds"]
    top = client.post("/v1/predict", json={"items": items[:1], "top_k": 1}).json()["results"][0]
    assert [score["label"] for score in top["scores"]] == [nya["label"]]


def test_unknown_characters_and_cut_ends_are_named(client: TestClient) -> None:
    items = [item("nya", "water ǃ ǂ ǃ"), item("sna", "the king " * 8), item("nya", "the king " * 8)]
    odd, cut, whole = client.post("/v1/predict", json={"items": items}).json()["results"]
    assert odd["unknown"] == ["ǃ", "ǂ"]
    assert (odd["truncated"], cut["truncated"], whole["truncated"]) == (False, True, False)
    assert (cut["unknown"], whole["unknown"]) == ([], [])


def test_what_a_map_rewrites_is_not_unknown(tmp_path: Path, backbone: gp.Backbone, four: Four) -> None:
    mapped = gp.CharacterMap.fitted({"ǃ": "k"}, ["ǃ"])
    replace(four["nya"], characters=mapped).save(tmp_path / "nya.safetensors")
    with TestClient(make_app(backbone, Registry(tmp_path, backbone))) as client:
        (found,) = client.post("/v1/predict", json={"items": [item("nya", "water ǃ ǂ")]}).json()["results"]
    assert found["unknown"] == ["ǂ"]


def test_the_cards(client: TestClient, saved_four: Path) -> None:
    (saved_four / "broken.safetensors").write_bytes(b"no")
    reload(client)
    body = client.get("/v1/classifiers").json()
    cards = {card["name"]: card for card in body["classifiers"]}
    assert set(cards) == {"nya", "nya-nli", "sna", "yor"}
    assert cards["nya"]["language_name"] == "Chichewa" or "Nyanja" in cards["nya"]["language_name"]
    assert cards["nya-nli"]["fields"] == ["premise", "hypothesis"]
    assert (cards["yor"]["offsets"], cards["nya"]["offsets"]) == (True, False)
    assert cards["nya"]["backbone"] == "tiny xlm-roberta"
    (error,) = body["errors"]
    assert error["file"] == "broken.safetensors"
    assert str(saved_four) not in client.get("/v1/classifiers").text
    assert body["limits"]["items"] == 5
    assert body["auto"] is True


def test_a_name_that_is_not_utf_8_spoils_no_list(client: TestClient, saved_four: Path) -> None:
    odd = os.fsdecode(os.fsencode(saved_four) + b"/n\xffya.safetensors")
    shutil.copy(saved_four / "nya.safetensors", odd)
    reload(client)
    body = client.get("/v1/classifiers").raise_for_status().json()
    assert {card["name"] for card in body["classifiers"]} == {"nya", "nya-nli", "sna", "yor"}
    (error,) = body["errors"]
    assert error["file"] == r"n\udcffya.safetensors"
    assert error["error"] == rf"{error['file']} has a name that is not UTF-8, or with control characters; rename it"


def test_no_folder_is_told(
    backbone: gp.Backbone, own_backbone: Any, saved_four: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Neither of files of one name, nor of backbones that were given as folders."""
    second, home = tmp_path_factory.mktemp("second"), "/home/some body/models/bert"
    make_classifier(backbone, 9).save(second / "nya.safetensors")
    foreign = own_backbone("bert")
    foreign.name = home
    make_classifier(foreign, 1).save(second / "foreign.safetensors")
    monkeypatch.setattr(backbone, "name", f"{saved_four}/backbones/tiny")
    make_classifier(backbone, 5).save(saved_four / "lin.safetensors")
    with TestClient(make_app(backbone, Registry([saved_four, second], backbone))) as client:
        answer = client.get("/v1/classifiers")
    body = answer.json()
    assert {card["name"]: card["backbone"] for card in body["classifiers"]}["lin"] == "tiny"
    errors = {one["file"]: one["error"] for one in body["errors"]}
    assert errors["nya.safetensors"] == (
        f"nya.safetensors has the name of a file in '{saved_four.name}', which is served; give one of them another"
    )
    assert "was made for 'bert' (" in errors["foreign.safetensors"]
    assert "loaded backbone is 'tiny' (" in errors["foreign.safetensors"]
    for folder in (str(saved_four.parent), str(second.parent), "/home"):
        assert folder not in answer.text


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch, bad: float) -> None:
    """JSON has no NaN, and null is no score. The others of a batch are answered."""
    right = Predictor.log_probabilities

    def odd(self: Predictor, queries: Any) -> Any:
        found = right(self, queries)
        return [row * bad if one.served.name == "yor" else row for one, row in zip(queries, found, strict=True)]

    monkeypatch.setattr(Predictor, "log_probabilities", odd)
    error = error_of(client.post("/v1/predict", json={"items": [item("nya"), item("yor")]}), 422, "not_finite")
    assert error["item"] == 1
    assert "classifier 'yor' gives NaN or infinity" in error["message"]
    assert client.post("/v1/predict", json={"items": [item("nya")]}).status_code == 200
    monkeypatch.setattr(LanguageFinder, "_losses", lambda _, candidates, __: [bad] * len(candidates))
    asked = {"items": [{"language": "auto", "task": "topic", "text": TEXT}]}
    error_of(client.post("/v1/predict", json=asked), 422, "not_finite")


# --- a language that is not given


def test_the_language_is_that_of_the_prompt_that_reads_best(client: TestClient, four: Four) -> None:
    items = [{"language": "auto", "task": "topic", "text": TEXT}, item("nya")]
    found, beside = client.post("/v1/predict", json={"items": items}).json()["results"]
    candidates = found["candidates"]
    assert {one["language"] for one in candidates} == {"nya", "yor", "sna"}
    losses = [one["loss"] for one in candidates]
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]
    assert found["classifier"] == candidates[0]["classifier"]
    assert_as_offline(found, four[found["classifier"]])
    assert_as_offline(beside, four["nya"])
    again = client.post("/v1/predict", json={"items": items[:1]}).json()["results"][0]
    assert [one["loss"] for one in again["candidates"]] == pytest.approx(losses, abs=1e-5)


def test_a_text_without_a_token_to_mask_has_no_language(tmp_path: Path) -> None:
    decoder = gp.Backbone(random_model("qwen3"), tokenizer_of("qwen3"), "tiny decoder")
    make_classifier(decoder, 1).save(tmp_path / "nya.safetensors")
    asked = [item("nya", "a"), {"language": "auto", "task": "topic", "text": "a"}]  # one token, before which is none
    with TestClient(make_app(decoder, Registry(tmp_path, decoder))) as client:
        refused = error_of(client.post("/v1/predict", json={"items": asked}), 422, "cannot_be_read")
    assert (refused["message"], refused["item"]) == ("this text has no token that can be masked; name a language", 1)


def test_losses_of_one_pass_are_those_of_each_prompt_alone(backbone: gp.Backbone, four: Four) -> None:
    """Against the scores that stage 1 reports, on the same masks."""
    text = " ".join(["the king water day play field"] * 4)
    finder = LanguageFinder(Predictor(backbone, four), readings=3)
    query = finder.read(text, ["nya", "yor", "sna"])
    assert query.readings[0] is query.readings[1], "the same text"
    assert query.queries[0].cloze is query.queries[1].cloze, "and tokenised once"
    assert query.readings[0] is not query.readings[2], "rewritten by sna's map"
    for loss, reading in zip(finder.losses(query), query.readings, strict=True):
        prompt = four[loss.served.name].body
        assert isinstance(prompt, SoftPrompt)
        with prompt.attached(backbone) as prefix:
            alone = score_masked_tokens(backbone, [reading], prefix)
        assert loss.loss == pytest.approx(alone.loss, abs=1e-4)
        assert len(reading.targets) == alone.num_masked > 3


def test_a_language_is_not_found_among_nothing_or_too_many(registry: Registry, backbone: gp.Backbone) -> None:
    few = ServiceSettings(Limits(candidates=2))
    with TestClient(make_app(backbone, registry, few)) as client:
        wanted = {"language": "auto", "task": "topic", "text": TEXT}
        error_of(client.post("/v1/predict", json={"items": [wanted]}), 422, "too_many_candidates")
        wanted["task"] = "topics"
        refused = error_of(client.post("/v1/predict", json={"items": [wanted]}), 404, "unknown_classifier")
        assert "Did you mean 'topic'" in refused["message"]


def test_a_language_is_not_found_without_an_lm_head(
    tmp_path: Path, new_stock: Callable[[str], PreTrainedModel], tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    sentence = gp.Backbone(new_stock("xlm-roberta").base_model, tiny_tokenizer, "tiny sentence encoder")
    classifier = make_classifier(sentence, 1)
    replace(classifier, head=LinearHead(sentence.hidden_size, 3)).save(tmp_path / "nya.safetensors")
    with TestClient(make_app(sentence, Registry(tmp_path, sentence))) as client:
        assert client.get("/v1/classifiers").json()["auto"] is False
        items = [item("nya"), {"language": "auto", "task": "topic", "text": TEXT}]
        refused = error_of(client.post("/v1/predict", json={"items": items}), 422, "cannot_be_read")
        assert refused["item"] == 1
        assert refused["message"].endswith("the backbone has no LM head; name a language")
        assert client.post("/v1/predict", json={"items": items[:1]}).status_code == 200


# --- what is refused


@pytest.mark.parametrize(
    ("items", "status", "code", "said", "place"),
    [
        ([item("nya"), item("nyaa")], 404, "unknown_classifier", "Did you mean 'nya'?", 1),
        ([{"language": "yro", "task": "topic", "text": "a"}], 404, "unknown_classifier", "Did you mean 'yor'?", 0),
        ([item("nya", PAIR)], 422, "wrong_fields", "'nya' reads text, not premise and hypothesis", 0),
        ([item("nya")] * 6, 413, "too_many_items", "at most 5", None),
        ([item("nya"), item("nya", "a " * 300)], 413, "too_many_characters", "more than 400", 1),
        ([item("nya", "a " * 150)] * 2, 413, "too_many_characters", "more than 400", 1),
        ([], 422, "invalid_request", "items", None),
        ([item("nya", " \n")], 422, "invalid_request", "a text is empty", 0),
        ([{"text": "a"}], 422, "invalid_request", "give classifier, or language and task", 0),
        ([{**item("nya"), "language": "nya"}], 422, "invalid_request", "give classifier, or language and task", 0),
        ([{"classifier": "nya", "premise": "a"}], 422, "invalid_request", "give text, or premise and hypothesis", 0),
        ([{**item("nya"), "txet": "a"}], 422, "invalid_request", "Did you mean 'text'?", 0),
        ([item("../../etc/passwd")], 404, "unknown_classifier", "no classifier", 0),
        (["nya"], 422, "invalid_request", "items.0", 0),
    ],
)
def test_what_is_refused(client: TestClient, items: Any, status: int, code: str, said: str, place: int | None) -> None:
    error = error_of(client.post("/v1/predict", json={"items": items}), status, code)
    assert said in error["message"]
    assert error["item"] == place


def test_bodies_that_are_no_request(client: TestClient) -> None:
    def post(content: bytes, kind: str = "application/json") -> httpx2.Response:
        return client.post("/v1/predict", content=content, headers={"Content-Type": kind})

    error_of(post(b"x" * 2001), 413, "body_too_large")
    error_of(post(b"{"), 422, "invalid_request")
    error_of(post(b"[" * 1900), 400, "invalid_request")
    error_of(post(b""), 422, "invalid_request")
    error_of(post(b'{"items": [{"classifier": "nya", "text": "\\ud800"}]}'), 422, "invalid_request")
    error_of(post(b'{"items": [{"classifier": "\\ud800", "text": "a"}]}'), 422, "invalid_request")
    error_of(post(b'{"items": [{"classifier": "nya", "text": "a", "\\ud800": 1}]}'), 422, "invalid_request")
    valid = json.dumps({"items": [item("nya")]}).encode()
    assert "Content-Type" in error_of(post(valid, "text/plain"), 422, "invalid_request")["message"]
    assert post(valid).status_code == 200


def test_other_paths_and_methods(client: TestClient) -> None:
    error_of(client.get("/v1/nothing"), 404, "not_found")
    error_of(client.get("/static/../api.py"), 404, "not_found")
    error_of(client.get("/static/%2e%2e/api.py"), 404, "not_found")
    refused = client.get("/v1/predict")
    error_of(refused, 405, "method_not_allowed")
    assert refused.headers["Allow"] == "POST"


def test_a_token_is_asked_for_where_there_is_data(registry: Registry, backbone: gp.Backbone) -> None:
    with TestClient(make_app(backbone, registry, access=Access("sesame"))) as client:
        for path in ("/v1/classifiers", "/metrics", "/openapi.json", "/nothing"):
            assert error_of(client.get(path), 401, "unauthorized")
        refused = client.post("/v1/predict", json={"items": [item("nya")]})
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        for wrong in ("Bearer sesam", "Basic sesame", "sesame", "Bearer", "Bearer sésame"):
            found = client.get("/v1/classifiers", headers={"Authorization": wrong.encode("latin-1")})
            assert found.status_code == 401
        for path in ("/healthz", "/readyz", "/", "/docs", "/static/index.html"):
            assert client.get(path).status_code == 200, path
        right = {"Authorization": "Bearer sesame"}
        assert client.post("/v1/predict", json={"items": [item("nya")]}, headers=right).status_code == 200
        described = client.get("/openapi.json", headers=right).json()
        assert described["paths"]["/v1/predict"]["post"]["security"] == [{"HTTPBearer": []}]


def test_browsers_of_other_origins_get_nothing_unless_they_are_allowed(
    client: TestClient, registry: Registry, backbone: gp.Backbone
) -> None:
    asks = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    closed = client.options("/v1/predict", headers=asks)
    assert not any(name.lower().startswith("access-control") for name in closed.headers)
    with TestClient(make_app(backbone, registry, access=Access("t", ("https://a.example",)))) as open_one:
        allowed = open_one.options("/v1/predict", headers=asks)
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://a.example"


# --- the page, the description, the state


def test_the_page_and_the_description_need_nothing_from_elsewhere(client: TestClient) -> None:
    for path, file in (("/", "index.html"), ("/docs", "docs.html")):
        page = client.get(path)
        assert page.content == (PAGE / file).read_bytes()
        assert page.headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert page.headers["X-Content-Type-Options"] == "nosniff"
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/v1/predict", "/v1/classifiers", "/healthz", "/readyz", "/metrics"}


def test_ready_means_that_there_is_something_to_ask(client: TestClient, saved_four: Path) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    for path in saved_four.iterdir():
        path.unlink()
    reload(client)
    assert error_of(client.get("/readyz"), 503, "not_ready")
    assert client.get("/healthz").status_code == 200


def test_metrics_count_what_happened(client: TestClient) -> None:
    client.post("/v1/predict", json={"items": [item("nya"), item("yor")]})
    client.post("/v1/predict", json={"items": [item("none")]})
    client.get("/v1/water%20king")
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }
    assert found[("glotprompt_items_total",)] == 2
    assert found[("glotprompt_classifiers",)] == 4
    assert found[("glotprompt_queue_tokens",)] == 0
    assert found[("glotprompt_batch_items_count",)] == 1
    assert found[("glotprompt_requests_total", ("route", "/v1/predict"), ("status", "404"))] == 1
    assert found[("glotprompt_requests_total", ("route", "other"), ("status", "404"))] == 1


def test_metrics_of_a_replica(registry: Registry, backbone: gp.Backbone) -> None:
    with TestClient(make_app(backbone, registry, replica="abc")) as client:
        client.get("/readyz")
        lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    assert all('replica="abc"' in line for line in lines)
    assert 'glotprompt_requests_total{replica="abc",route="/readyz",status="200"} 1.0' in lines
    with TestClient(make_app(backbone, registry)) as client:
        assert "replica" not in client.get("/metrics").text


def test_logs_tell_what_was_done_without_a_text(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "glotprompt.serve"):
        client.post("/v1/predict", json={"items": [item("nya", "kilimba twidi")]})
        client.post("/v1/predict", json={"items": [{**item("nya", "kilimba"), "kilimba": "twidi"}]})
        client.get("/kilimba")
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    assert [(line["event"], line["route"], line["status"]) for line in lines] == [
        ("request", "/v1/predict", 200),
        ("request", "/v1/predict", 422),
        ("request", "other", 404),
    ]
    assert lines[0]["items"] == 1
    assert lines[0]["tokens"] > 2
    assert "kilimba" not in json.dumps(lines)
    assert "twidi" not in json.dumps(lines)


def test_scores_are_never_null(saved_four: Path, backbone: gp.Backbone, four: Four) -> None:
    huge = SoftPrompt(torch.full(backbone.prompt_shape(4), 3e38))
    replace(four["nya"], body=huge, language="huge").save(saved_four / "huge.safetensors")
    with TestClient(make_app(backbone, Registry(saved_four, backbone))) as client:
        answer = client.post("/v1/predict", json={"items": [item("nya"), item("huge")]})
        refused = error_of(answer, 422, "not_finite")
        assert (refused["item"], "null" in answer.text) == (1, False)
        assert "classifier 'huge' gives NaN or infinity" in refused["message"]
        found = client.post("/v1/predict", json={"items": [{"language": "auto", "task": "topic", "text": "the king"}]})
        assert "classifier 'huge'" in error_of(found, 422, "not_finite")["message"]


def test_what_reads_characters_and_went_is_refused_as_others_are(saved_four: Path, backbone: gp.Backbone) -> None:
    config = gp.TuneConfig(method="tf-idf", max_length=48)
    path = gp.tune(backbone, None, topics(3), TOPIC, config, QUIET).save(saved_four / "characters.safetensors")
    with TestClient(make_app(backbone, Registry(saved_four, backbone, byte_budget=0))) as client:
        path.unlink()
        items = [item("nya"), item("characters")]
        refused = error_of(client.post("/v1/predict", json={"items": items}), 503, "classifier_unavailable")
    assert (refused["item"], "try again in a moment" in refused["message"]) == (1, True)


def test_what_goes_wrong_inside_is_logged_without_its_message(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("cannot read 'kilimba twidi'")

    monkeypatch.setattr(Predictor, "answer", fail)
    refused = client.post("/v1/predict", json={"items": [item("nya")]})
    error_of(refused, 500, "internal")
    assert "kilimba" not in refused.text
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    (failure,) = [line for line in lines if line["event"] == "failure"]
    assert failure["error"] == ["QuestionFailed", "RuntimeError"]
    assert any(" fail" in place for place in failure["where"])
    assert "kilimba" not in json.dumps(lines)
    monkeypatch.undo()
    assert client.post("/v1/predict", json={"items": [item("nya")]}).status_code == 200
