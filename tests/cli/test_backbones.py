"""`backbones`, `embed` and `convert to-transformers`; and what needs an LM head refuses a backbone without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

import glotprompt as gp
from glotprompt.model.loading import BUNDLED
from glotprompt.version import FINGERPRINTS

from .conftest import Program

NewStock = Callable[[str], Any]

ADAPT = "--target nya=nya.txt --source eng.txt --steps 2 --batch-size 4 --max-length 24 --prompt-length 4"
TUNE = "--train train.tsv --task task.toml --epochs 1 --batch-size 8 --max-length 24"


@pytest.fixture
def sentence(here: Path, new_stock: NewStock, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """A tiny backbone without an LM head."""
    new_stock("xlm-roberta").base_model.save_pretrained(here / "sentence")
    tiny_tokenizer.save_pretrained(here / "sentence")
    return here / "sentence"


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BUNDLED])
def test_their_fingerprints_are_those_of_the_version(name: str) -> None:
    assert gp.Backbone.load(name, precision="fp32", device="cpu").fingerprint == FINGERPRINTS[name]
    assert [*FINGERPRINTS] == [*BUNDLED]


@pytest.mark.slow
def test_the_bundled_ones_and_what_each_is_for(glotprompt: Program) -> None:
    outcome = glotprompt("backbones")
    rows = {line.split()[0]: " ".join(line.split()) for line in outcome.out.splitlines() if line.startswith("mini")}
    assert rows == {
        "mini": f"mini 12 48.6 M {BUNDLED['mini'].purpose}",
        "mini-sentence": f"mini-sentence 12 48.4 M {BUNDLED['mini-sentence'].purpose}",
    }


class TestEmbed:
    @pytest.mark.slow
    def test_a_file_of_vectors(self, sentence: Path, english_lines: list[str], glotprompt: Program) -> None:
        outcome = glotprompt(*f"embed --input eng.txt --model {sentence} --output eng.npy".split())
        assert "wrote eng.npy" in outcome.err
        assert "60 vectors of 48" in outcome.err
        found = np.load("eng.npy")
        assert (found.dtype, found.shape) == (np.float32, (60, 48))
        backbone = gp.Backbone.load(sentence, precision="fp32", device="cpu")
        np.testing.assert_array_equal(found, backbone.embed(english_lines))

    @pytest.mark.slow
    def test_settings_and_a_column_of_a_table(self, sentence: Path, glotprompt: Program) -> None:
        words = f"embed --input test.tsv --text-column text --layer 2 --max-length 5 --model {sentence} --output t.npy"
        assert glotprompt(*words.split()).status == 0
        texts = [line.split("\t")[0] for line in Path("test.tsv").read_text().splitlines()[1:]]
        backbone = gp.Backbone.load(sentence, precision="fp32", device="cpu")
        np.testing.assert_array_equal(np.load("t.npy"), backbone.embed(texts, layer=2, max_length=5))

    @pytest.mark.slow
    def test_behind_a_prompt(
        self, here: Path, tiny_folder: Path, english_lines: list[str], glotprompt: Program
    ) -> None:
        """The backbone is the prompt's, and so is the map of characters."""
        assert glotprompt(*f"adapt --model {tiny_folder} {ADAPT} --precision fp32 --output nya.st".split()).status == 0
        backbone = gp.Backbone.load(tiny_folder, precision="fp32", device="cpu")
        prompt = gp.LanguagePrompt.load("nya.st", backbone)
        characters = gp.CharacterMap.fitted({"w": "v"}, english_lines)
        replace(prompt, characters=characters).save("mapped.st")
        for name in ("nya.st", "mapped.st"):
            assert glotprompt(*f"embed --input eng.txt --prompt {name} --output {name}.npy".split()).status == 0
        behind, mapped = np.load("nya.st.npy"), np.load("mapped.st.npy")
        np.testing.assert_array_equal(behind, backbone.embed(english_lines, prompt))
        np.testing.assert_array_equal(
            mapped, backbone.embed([characters.apply(text) for text in english_lines], prompt)
        )
        assert np.abs(behind - backbone.embed(english_lines)).max() > 1e-3
        assert np.abs(behind - mapped).max() > 1e-3

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("--input eng.txt --output eng.npz", "NumPy's files end in .npy; give eng.npy"),
            ("--input eng.txt --output eng.npy --layer 13 --model SENTENCE", "has 3 layers, give 0 to 3"),
            ("--input none.txt --output eng.npy", "no such file"),
            ("--input eng.txt --output eng.npy --text-column text", "none of the files is a table"),
        ],
    )
    def test_a_mistake_is_one_line(self, words: str, message: str, sentence: Path, glotprompt: Program) -> None:
        outcome = glotprompt("embed", *words.replace("SENTENCE", str(sentence)).split())
        assert message in outcome.error
        assert outcome.status == 2
        assert not Path("eng.npy").exists()


class TestToTransformers:
    def test_auto_model_opens_it(self, sentence: Path, glotprompt: Program) -> None:
        outcome = glotprompt(*f"convert to-transformers --model {sentence} --output copy".split())
        assert "wrote copy (transformers: AutoModel and AutoTokenizer open it)" in outcome.err
        inputs = AutoTokenizer.from_pretrained("copy")(["the day"], return_tensors="pt")
        with torch.no_grad():
            found, expected = (AutoModel.from_pretrained(path).eval()(**inputs)[0] for path in ("copy", sentence))
        torch.testing.assert_close(found, expected)

    def test_a_masked_language_model_keeps_its_head(self, here: Path, tiny_folder: Path, glotprompt: Program) -> None:
        outcome = glotprompt(*f"convert to-transformers --model {tiny_folder} --output {here / 'copy'}".split())
        assert "AutoModelForMaskedLM" in outcome.err
        first, second = (gp.Backbone.load(path, precision="fp32", device="cpu") for path in ("copy", tiny_folder))
        assert first.has_lm_head
        assert first.fingerprint == second.fingerprint

    @pytest.mark.parametrize("output", [".", "eng.txt"])
    def test_what_is_there_is_kept(self, output: str, here: Path, tiny_folder: Path, glotprompt: Program) -> None:
        before = sorted(here.iterdir())
        outcome = glotprompt(*f"convert to-transformers --model {tiny_folder} --output {output}".split())
        assert "is there already and not an empty folder; give a new one" in outcome.error
        assert sorted(here.iterdir()) == before


class TestWithoutAnLmHead:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "words",
        [
            f"adapt {ADAPT} --output x --model",
            f"tune {TUNE} --method prompt-tuning --output x --model",
            "methods --model",
        ],
    )
    def test_what_needs_one_refuses_it(self, words: str, sentence: Path, glotprompt: Program) -> None:
        outcome = glotprompt(*words.split(), sentence)
        assert "is a sentence encoder without an LM head, which " in outcome.error
        assert outcome.error.endswith("; take a masked language model, such as 'mini'")
        assert (outcome.status, outcome.out) == (2, "")
        assert not Path("x").exists()

    @pytest.mark.slow
    def test_the_bundled_one_without_its_weights(self, glotprompt: Program) -> None:
        assert "mini-sentence is a sentence encoder without" in glotprompt("methods", "--model", "mini-sentence").error

    @pytest.mark.slow
    def test_a_linear_head_does_without(self, sentence: Path, glotprompt: Program) -> None:
        words = f"tune {TUNE} --method prompt-tuning --set head=linear --output x --model {sentence}"
        assert glotprompt(*words.split()).status == 0
        assert glotprompt("evaluate", "--classifier", "x", "--data", "test.tsv").status == 0
