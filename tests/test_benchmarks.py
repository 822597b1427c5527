"""The benchmarks: that they run, that both sides do the same work, and that arithmetic is counted rightly."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import XLMRobertaConfig, XLMRobertaModel

from glotprompt.config import RuntimeConfig
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.tokens import SpecialIds
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.batches import MaskedBatch
from glotprompt.training.objectives.losses import masked_token_losses
from glotprompt.training.objectives.scoring import label_scores

# The scripts import each other by bare names, as they find themselves when they are run.
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
arithmetic, backbones, growth, memory, prediction = (
    import_module(name) for name in ("arithmetic", "backbones", "growth", "memory", "prediction")
)
sides, stage1, stage2, texts = (import_module(name) for name in ("sides", "stage1", "stage2", "texts"))
language, probe, report, serving = (import_module(name) for name in ("language", "probe", "report", "serving"))

WORDS = backbones.BUNDLED_WORDS
TINY = ["--shape", "tiny", "--vocabulary", str(WORDS), "--rounds", "1", "--length", "32", "--prompt-length", "4"]
FP32 = ["--precision", "fp32"]


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn lengths, on every machine."""
    monkeypatch.delenv("GLOTPROMPT_DATA", raising=False)


@pytest.fixture(scope="module")
def random() -> Any:
    return backbones.RandomModel.of("tiny", WORDS + 1000)


def written(folder: Path, name: str) -> dict[str, Any]:
    """The figures, with what every file has."""
    found = json.loads((folder / f"{name}.json").read_text())
    assert found["benchmark"] == name
    assert found["settings"]["rounds"] == 1
    assert found["settings"]["precision"] == "fp32"
    assert set(found["machine"]["versions"]) >= {"torch", "transformers", "peft", "glotprompt"}
    assert str(folder) not in json.dumps(found)
    return found


@pytest.mark.slow
def test_stage_1_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage1.main([*TINY, *FP32, "--batch", "4", "--skip-memory", "--json", str(tmp_path)])
    found = written(tmp_path, "stage1")
    speeds = [found[f"{side}tokens_per_second"] for side in ("", "peft_", "peft_bf16_", "fine_tuning_")]
    assert min(speeds) > 0
    # Of one round, a median is the round itself.
    assert found["ratio"] == pytest.approx(speeds[0] / speeds[1])
    assert found["ratio_same_dtype"] == found["ratio"]
    assert found["ratio_fine_tuning"] == pytest.approx(speeds[0] / speeds[3])
    assert found["memory_ratio"] is None
    flop = arithmetic.step_flop(backbones.SHAPES["tiny"], WORDS, 4 * 32, found["sides"]["ours"]["masked_share"] * 128)
    assert found["gemm"]["step_flop"] == pytest.approx(flop)
    rate = found["gemm"]["flop_per_second"]["median"]
    assert found["share_of_gemm"] == pytest.approx(flop / found["sides"]["ours"]["seconds"]["median"] / rate)
    assert 0 < found["share_of_gemm_done"] < found["share_of_gemm"]
    shown = capsys.readouterr().out
    assert "PEFT prefix tuning, fp32" in shown
    assert "synthetic" in shown


def test_the_history_grows_by_a_line(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    options = report.parser("").parse_args(["--history", str(history)])
    for speed in (1.0, 2.0):
        report.write(options, "stage1", {"speed": speed})
    lines = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    assert [(line["benchmark"], line["speed"]) for line in lines] == [("stage1", 1.0), ("stage1", 2.0)]
    assert set(lines[0]) >= {"date", "commit", "machine", "settings"}
    assert str(tmp_path) not in history.read_text(encoding="utf-8")


@pytest.mark.slow
def test_stage_1_of_one_side_leaves_ratios_empty(tmp_path: Path) -> None:
    stage1.main(
        [*TINY, *FP32, "--batch", "4", "--sides", "ours", "--skip-memory", "--json", str(tmp_path / "new" / "one.json")]
    )
    found = json.loads((tmp_path / "new" / "one.json").read_text())
    assert found["tokens_per_second"] > 0
    assert found["peft_tokens_per_second"] is found["ratio"] is found["ratio_same_dtype"] is None


@pytest.mark.slow
def test_stage_2_writes_its_figures(tmp_path: Path) -> None:
    stage2.main([*TINY, *FP32, "--batch", "4", "--examples", "8", "--json", str(tmp_path)])
    found = written(tmp_path, "stage2")
    assert [found["k"][name]["top_k_layers"] for name in ("N", "3N/4", "N/4")] == [3, 2, 1]
    for one in found["k"].values():
        speeds = {part: one["speeds"][part]["median"] for part in ("first", "later", "whole")}
        assert 10 / speeds["whole"] == pytest.approx(1 / speeds["first"] + 9 / speeds["later"])
        assert one["ratio"] == pytest.approx(speeds["whole"] / found["peft_examples_per_second"])


@pytest.mark.slow
def test_prediction_writes_its_figures(tmp_path: Path) -> None:
    few = ["--batch", "4", "--examples", "8", "--languages", "3"]
    prediction.main([*TINY, *FP32, *few, "--json", str(tmp_path)])
    found = written(tmp_path, "prediction")
    assert found["ratio"] == pytest.approx(found["examples_per_second"] / found["peft_examples_per_second"])
    assert found["ratio_same_dtype"] == found["ratio"]
    assert found["ratio_one_at_a_time"] > 0
    assert 1 <= found["languages_per_batch"] <= 3


@pytest.mark.long
def test_growth_writes_exponents(tmp_path: Path) -> None:
    growth.main([*TINY, *FP32, "--batch", "2", "--quick", "--json", str(tmp_path)])
    found = written(tmp_path, "growth")
    names = {"tokens", "languages", "prompt_length", "batch", "languages_in_batch"}
    assert set(found["exponents"]) == set(found["points"]) == names
    assert all(seconds > 0 for points in found["points"].values() for _, seconds, _ in points)
    together = found["stack"]
    assert together["tokens"] == 4 * 2 * 32
    # Of one round, a median is the round itself.
    apart, at_once = (together["seconds"][name]["median"] for name in ("apart", "at_once"))
    assert together["ratio"]["median"] == pytest.approx(apart / at_once)


@pytest.mark.long
def test_serving_checks_every_answer_and_writes_its_ratios(tmp_path: Path) -> None:
    few = ["--languages", "3", "--clients", "4", "--requests", "8"]
    serving.main([*TINY, *FP32, *few, "--json", str(tmp_path)])
    found = written(tmp_path, "serving")
    assert found["answers_checked"] == 8 + 2
    assert found["largest_difference"] < found["languages_apart"], "an answer of another language would show"
    speeds = {name: side["per_second"]["median"] for name, side in found["sides"].items()}
    assert found["ratios"]["PEFT, switching"]["median"] == pytest.approx(speeds["ours"] / speeds["PEFT, switching"])


def test_serving_sees_an_answer_that_belongs_to_another_question() -> None:
    first, second = serving.Question(0, "water"), serving.Question(1, "water")
    expected = {first: {"a": 0.75, "b": 0.25}, second: {"a": 0.25, "b": 0.75}}
    assert serving._largest_difference([expected[first]], [first, second], expected) == 0
    assert serving._largest_difference([expected[second], expected[second]], [first, second], expected) == 0.5


@pytest.mark.long
def test_language_counts_what_it_finds(tmp_path: Path, corpora: Path) -> None:
    few = ["--languages", "2", "--steps", "2", "--lines", "20", "--texts", "2", "--batch", "2", "--length", "32"]
    language.main([*FP32, *few, "--data-dir", str(corpora), "--json", str(tmp_path)])
    found = written(tmp_path, "language")
    assert found["chance"] == 50
    for way in found["readings"].values():
        assert way["accuracy"] == pytest.approx(np.mean(list(way["by_language"].values())))
        assert way["in_first_three"] == 100
        assert way["plain_predictions"] > 1


def test_retrieval_counts_both_directions() -> None:
    one = np.eye(3, dtype=np.float32)
    assert probe.retrieval(one, 7 * one) == 100
    other = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 0, 1]], dtype=np.float32)
    assert probe.retrieval(one, other) == pytest.approx(50 * (1 + 2 / 3))
    assert probe.retrieval(one, one[[1, 2, 0]]) == 0


def test_linear_probe_reads_a_language_less_its_own_mean() -> None:
    drawn = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    labels = ["high" if row[0] > drawn[:, 0].mean() else "low" for row in drawn]
    linear = probe.LinearProbe.fit(drawn, labels)
    assert set(linear.accuracies(drawn, labels)) == set(probe.PENALTIES)
    moved = drawn + 5
    found = linear.accuracies(moved, labels, moved.mean(axis=0))
    assert found == pytest.approx(linear.accuracies(drawn, labels))
    assert min(found.values()) > 85
    assert max(linear.accuracies(moved, labels).values()) < 70


@pytest.mark.long
def test_probe_loads_the_backbone_in_a_process_of_its_own() -> None:
    loaded = memory.figures_of(probe.__file__, ["--load-of", "mini-sentence"])
    assert loaded["model_bytes"] == 4 * 48_409_728
    assert loaded["model_bytes"] < loaded["peak_bytes"] < 2 * loaded["model_bytes"]


@pytest.mark.long
def test_probe_measures_what_the_card_says(tmp_path: Path, corpora: Path) -> None:
    few = ["--backbones", "mini-sentence", "--languages", "aym", "--data-dir", str(corpora)]
    probe.main([*few, "--json", str(tmp_path)])
    found = json.loads((tmp_path / "probe.json").read_text())["backbones"]["mini-sentence"]["languages"]
    assert found["eng"]["retrieval"] == 100
    assert found["ayr"]["retrieval"] == pytest.approx(67.9, abs=2)
    assert found["ayr"]["linear"]["1.0"] == pytest.approx(49.5, abs=2)
    assert "prompt_tuning" not in found["ayr"]


@pytest.mark.slow
def test_languages_in_one_batch_have_the_gradients_they_have_apart(random: Any) -> None:
    options = growth._options([*TINY, *FP32, "--batch", "3", "--languages", "2", "--series"])
    languages = growth.Languages(random, random.backbone(torch.float32), options)
    apart = [gradient.clone() for gradient in languages.gradients(languages.apart)]
    at_once = languages.gradients(languages.at_once)
    assert len(apart) == 2
    for one, other in zip(apart, at_once, strict=True):
        assert one.abs().max() > 0
        assert (one - other).norm() <= 1e-5 * one.norm()


def test_an_exponent_is_the_slope_of_the_logarithms() -> None:
    assert growth.exponent([(1, 3.0), (2, 12.0), (4, 48.0)]) == pytest.approx(2)
    assert growth.exponent([(1, 5), (10, 5)]) == pytest.approx(0)


@pytest.mark.slow
def test_memory_beyond_counts_the_peak_even_of_what_is_given_back() -> None:
    size = 64 * 2**20
    found = memory.beyond(lambda: np.ones(size, dtype=np.uint8).sum())
    assert 0.98 * size < found < 1.25 * size  # the system counts pages by the dozen


@pytest.mark.long
def test_memory_of_each_side_is_measured_in_its_own_process(tmp_path: Path) -> None:
    stage1.main([*TINY, *FP32, "--batch", "16", "--sides", "ours", "peft", "--json", str(tmp_path)])
    found = written(tmp_path, "stage1")
    # PEFT keeps the logits of the whole batch, and some copies of them; we at most a chunk.
    logits = 4 * WORDS * found["sides"]["peft"]["tokens"]["median"]
    assert found["memory"]["peft"] > 2 * logits
    assert found["memory_ratio"] == found["memory"]["ours"] / found["memory"]["peft"] < 0.8


# ---------------------------------------------------------------------------------------------------------------
# Arithmetic


def test_arithmetic_of_a_step_counted_by_hand() -> None:
    shape = backbones.Shape(hidden=2, layers=2, heads=1, feed_forward=3)
    assert arithmetic.body_weights(shape) == 2 * (4 * 4 + 2 * 6)
    assert arithmetic.step_flop(shape, 7, tokens=5, masked=1) == 4 * 56 * 5 + 4 * 2 * 7
    # In the last layer, queries and output projection (8 weights) and feed-forward (12) at one position, not at five;
    # in the first, no gradient of what queries, keys and values (12 weights) are made from.
    saved = 4 * 20 * 4 + 2 * 12 * 5
    assert arithmetic.done_flop(shape, 7, tokens=5, masked=1) == 1176 - saved
    assert arithmetic.attention_flop(shape, batch=1, length=5, prompt_length=3) == 6 * 2 * (2 * 5 * 8 * 2)


def test_arithmetic_is_what_torch_counts() -> None:
    shape = backbones.SHAPES["tiny"]
    sizes: dict[str, Any] = {
        "hidden_size": shape.hidden, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "intermediate_size": shape.feed_forward, "vocab_size": 8, "pad_token_id": 1,
        "attn_implementation": "eager",  # plain products, so that they can be counted
    }  # fmt: skip
    config = XLMRobertaConfig(**sizes)
    model = XLMRobertaModel(config, add_pooling_layer=False).eval().requires_grad_(False)
    batch, length = 2, 6
    embedded = torch.randn(batch, length, shape.hidden, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        model(inputs_embeds=embedded).last_hidden_state.sum().backward()
    counts = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    linear = sum(count for name, count in counts.items() if name in ("aten.addmm", "aten.mm"))
    assert linear == arithmetic.step_flop(shape, 0, batch * length, 0)
    assert counts["aten.bmm"] == arithmetic.attention_flop(shape, batch, length, 0)


def test_a_gemm_rate_is_the_harmonic_mean_by_share_of_the_arithmetic() -> None:
    gemm = arithmetic.GemmRate(backbones.SHAPES["tiny"], 512, tokens=32, masked=4, dtype=torch.float32)
    shares = [product.share for product in gemm.products]
    assert sum(shares) == pytest.approx(2)  # both directions
    gemm.measure(1)
    assert gemm.best_rate == pytest.approx(2 / sum(s / r for s, r in zip(shares, gemm.best, strict=True)))
    assert gemm.end_round() == pytest.approx(gemm.best_rate)


# ---------------------------------------------------------------------------------------------------------------
# The same work


def work(random: Any, **changes: Any) -> Any:
    lines = texts.unlabelled(None, random.tokenizer)
    return sides.Work(**{"batch": 8, "length": 32, "prompt_length": 4, "lines": lines, "dropout": False, **changes})


def collated(peft: Any) -> Any:
    rows = next(peft.batches)
    return peft.collator([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows])


@pytest.mark.slow
def test_peft_has_our_loss_and_gradient_on_the_same_batch_with_the_same_prompt(random: Any) -> None:
    backbone = random.backbone(torch.float32)
    prompt = SoftPrompt.initialise(backbone.prompt_shape(4), 0.5, seed=3, positions="shifted")
    peft = sides.peft(random, torch.float32, work(random))
    (theirs,) = peft.trained
    with torch.no_grad():
        theirs.copy_(prompt.key_values().permute(3, 0, 1, 2, 4).flatten(1))
    batch = collated(peft)
    loss = peft.model(**batch).loss
    loss.backward()
    positions = (batch["labels"].flatten() != -100).nonzero().flatten()
    targets = batch["labels"].flatten()[positions]
    ours = MaskedBatch(batch["input_ids"], batch["attention_mask"], positions, targets)
    ((our_loss, _),) = masked_token_losses(backbone, prompt, ours, MicroBatch(RuntimeConfig()))
    our_loss.backward()
    assert our_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert prompt.trained.grad is not None
    gradient = prompt.trained.grad.permute(3, 0, 1, 2, 4).flatten(1)
    assert float(gradient.norm()) > 0
    assert float((gradient - theirs.grad).norm() / gradient.norm()) < 1e-4


@pytest.mark.slow
def test_peft_pads_and_its_prompt_learns(random: Any) -> None:
    peft = sides.peft(random, torch.float32, work(random))
    before = peft.trained[0].detach().clone()
    taken = peft.step()
    assert taken.positions > taken.tokens
    assert not torch.equal(before, peft.trained[0])


@pytest.mark.slow
def test_both_sides_predict_the_same_share_of_the_words(random: Any) -> None:
    todo = work(random, length=128, batch=16)
    peft = sides.peft(random, torch.float32, todo)
    batches = [collated(peft) for _ in range(20)]
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    theirs = sum(int((batch["labels"] != -100).sum()) for batch in batches) / tokens
    corpus = sides.Ours(random, torch.float32, todo).corpus
    ours = [corpus.batch(step) for step in range(10)]
    assert all(batch.attention_mask is None for batch in ours)
    share = sum(len(batch.targets) for batch in ours) / sum(batch.input_ids.numel() for batch in ours)
    assert share == pytest.approx(theirs, rel=0.05)


@pytest.mark.slow
def test_both_sides_read_the_same_lines(random: Any) -> None:
    lines = work(random).lines
    special = SpecialIds.of(random.tokenizer)
    for packed, rows in zip(lines.packed(special, 32), lines.rows(special, 32), strict=True):
        ours, theirs = (
            [token for sequence in part for token in sequence if token not in special.all] for part in (packed, rows)
        )
        assert len(theirs) - 32 < len(ours) <= len(theirs)  # the last piece is left out unless it is full
        assert ours == theirs[: len(ours)]


@pytest.mark.slow
def test_both_sides_predict_the_same_words_with_the_same_prompt(random: Any) -> None:
    clozes, _, _ = texts.pairs(None, random.tokenizer, 32, 6)
    head = texts.words(random.tokenizer)
    backbone = random.backbone(torch.float32)
    prompt = SoftPrompt.initialise(backbone.prompt_shape(4), 0.5, seed=3, positions="shifted")
    model = sides.prefix_tuning(random.model(torch.float32), 4).eval()
    (theirs,) = (parameter for parameter in model.parameters() if parameter.requires_grad)
    with torch.no_grad():
        theirs.copy_(prompt.key_values().permute(3, 0, 1, 2, 4).flatten(1))
        found = stage2.peft_label_scores(model, clozes, head, SpecialIds.of(random.tokenizer).pad)
        with prompt.attached(backbone) as prefix:
            ours = label_scores(backbone, clozes, prefix, head)
    assert torch.allclose(ours, found, atol=1e-5)


@pytest.mark.slow
def test_models_of_one_dtype_share_their_weights_and_fine_tuning_leaves_them(random: Any) -> None:
    first, second = random.model(torch.float32), random.model(torch.float32)
    assert first is not second
    one, other = (model.get_input_embeddings().weight for model in (first, second))
    assert one is not other
    assert one.data_ptr() == other.data_ptr()
    assert second.get_output_embeddings().weight is other
    before = one.detach().clone()
    step = sides.fine_tuning(random, work(random)).step()
    assert step.loss > 0
    assert torch.equal(one, before)


@pytest.mark.slow
def test_real_lines_fill_the_vocabulary(corpora: Path) -> None:
    tokenizer = backbones.wide_tokenizer(backbones.XLMR_WORDS)
    lines = texts.unlabelled(texts.find_data(corpora), tokenizer)
    used = np.concatenate(lines.target + lines.source)
    assert lines.origin == "real"
    assert used.max() > 0.99 * backbones.XLMR_WORDS
    assert not np.isin(used, sorted({*tokenizer.all_special_ids} - {tokenizer.unk_token_id})).any()
    clozes, _, origin = texts.pairs(corpora, tokenizer, 64, 20)
    assert origin == "real"
    assert all(cloze.input_ids[cloze.position] == tokenizer.mask_token_id for cloze in clozes)


# ---------------------------------------------------------------------------------------------------------------
# What a person can mend


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vocabulary", "10"], "smaller than that of the tokenizer; give at least 70098"),
        (["--data-dir", "/nowhere"], "--data-dir /nowhere lacks one of"),
    ],
)
def test_wrong_settings_end_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        stage1.main([*TINY, *FP32, *words])


def test_probe_without_its_data_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"probe\.py: .*SIB-200 as its publisher has it"):
        probe.main(["--data-dir", str(tmp_path)])


def test_a_size_must_be_a_positive_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        growth.main(["--rounds", "0"])
    assert "'0' is no whole number above 0" in capsys.readouterr().err


def test_the_figure_of_what_helps_is_drawn_from_the_results(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[1]
    import_module("helps_figure").main(root / "results" / "helps.jsonl.gz", tmp_path / "figure.svg")
    drawn, kept = (
        re.findall(r">([^<>]+)</text>", file.read_text(encoding="utf-8"))
        for file in (tmp_path / "figure.svg", root / "docs" / "does_it_help.svg")
    )
    assert drawn == kept
    assert [word for word in drawn if word.isdigit()] == [*map(str, [*range(0, 101, 20), *range(0, 51, 10)])]
