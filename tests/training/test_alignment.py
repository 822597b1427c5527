"""The alignment objective: its loss against one written out, parts of a batch, held-out pairs, what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import glotprompt as gp
from glotprompt.config import preset
from glotprompt.errors import ConfigError, DataError
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.records import ALREADY_ALIGNED, JointScores
from glotprompt.stages.stage1 import Stage1
from glotprompt.stages.stage1_objectives import Alignment, Joint, LanguageModelling
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.alignment import (
    PULL,
    SOURCE_PULL,
    TEMPERATURE,
    AlignmentScores,
    alignment_corpus,
    alignment_loss,
    alignment_losses,
    halves_of_pairs,
    hold_losses,
    retrieval_accuracy,
    score_alignment,
    split_pairs,
)

from ..toys import QUIET, SOURCE, TOY, TRANSLATIONS

Tiny = Callable[[str], gp.Backbone]
CONFIG = gp.AdaptConfig(objective="alignment", batch_size=8, max_length=24, steps=20, eval_every=10, learning_rate=0.1)


@pytest.fixture
def pairs(english_lines: list[str], invented_lines: list[str]) -> list[tuple[str, str]]:
    """Sixty English sentences and what they are in a language that nobody speaks."""
    return list(zip(english_lines, invented_lines, strict=True))


def test_the_loss_is_the_one_that_is_described() -> None:
    draws = torch.Generator().manual_seed(0)
    target, source, teachers = (torch.randn(5, 7, generator=draws) for _ in range(3))
    centre, teachers = torch.randn(7, generator=draws), F.normalize(teachers, dim=1)
    found = alignment_loss(target, source, teachers, centre)
    expected = 0.0
    students = [(row - centre) / (row - centre).norm() for row in target]
    kept = [(row - centre) / (row - centre).norm() for row in source]
    for i in range(5):
        to_teachers = torch.stack([students[i] @ teacher for teacher in teachers]) / TEMPERATURE
        to_students = torch.stack([teachers[i] @ student for student in students]) / TEMPERATURE
        contrast = -(to_teachers.log_softmax(0)[i] + to_students.log_softmax(0)[i]) / 2
        pull = PULL * (1 - students[i] @ teachers[i]) + SOURCE_PULL * (1 - kept[i] @ teachers[i])
        expected += float(contrast + pull) / 5
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 8, None])
@pytest.mark.parametrize("kind", ["xlm-roberta", "modernbert"])
def test_parts_of_a_batch_have_the_gradient_of_the_whole(
    size: int | None, kind: str, tiny_backbone: Tiny, pairs: list[tuple[str, str]]
) -> None:
    """InfoNCE compares all pairs of a batch, so the parts' own losses would not add up to it."""
    backbone = tiny_backbone(kind)
    corpus = alignment_corpus(backbone, pairs, CONFIG, 32)
    batch = corpus.batch(0)
    prompt = SoftPrompt.initialise(backbone.prompt_shape(4), 0.5, seed=0)
    with prompt.attached(backbone) as prefix:
        states = [backbone.pooled_states(side, prefix) for side in (batch.target, batch.source)]
        loss = alignment_loss(states[0], states[1], batch.teachers, corpus.centre)
        (expected,) = torch.autograd.grad(loss, prompt.trained)
    total, tokens = 0.0, 0
    runtime = QUIET.replace(micro_batch_size=size)
    for part, count in alignment_losses(backbone, prompt, batch, corpus.centre, MicroBatch(runtime)):
        part.backward()
        total, tokens = total + part.item(), tokens + count
    assert total == pytest.approx(float(loss.detach()), abs=1e-4)
    assert tokens == sum(len(row) for side in (batch.target, batch.source) for row in side)
    assert prompt.trained.grad is not None
    torch.testing.assert_close(prompt.trained.grad, expected, atol=1e-5, rtol=1e-3)


def test_teachers_are_the_frozen_backbone_s_own_vectors(tiny_backbone: Tiny, pairs: list[tuple[str, str]]) -> None:
    backbone = tiny_backbone("bert")
    corpus = alignment_corpus(backbone, pairs, CONFIG.replace(max_length=512), 7)
    vectors = torch.from_numpy(backbone.embed([source for source, _ in pairs]))
    torch.testing.assert_close(corpus.centre, vectors.mean(dim=0), atol=1e-5, rtol=1e-5)
    expected = F.normalize(vectors - vectors.mean(dim=0), dim=1)
    torch.testing.assert_close(corpus.pairs.teachers, expected, atol=1e-4, rtol=1e-3)


def test_no_held_out_sentence_is_trained_on() -> None:
    pairs = [(f"source {i % 40}", f"target {i}") for i in range(100)]
    kept, held = split_pairs(pairs, CONFIG.replace(held_out_share=0.1, eval_sequences=5))
    assert len(held) == 5
    assert not {source for source, _ in held} & {source for source, _ in kept}
    assert 80 < len(kept) < 95, "pairs that share a side with a held-out one are out"
    assert split_pairs(pairs, CONFIG.replace(held_out_share=0.1, eval_sequences=5)) == (kept, held)
    assert split_pairs(pairs, CONFIG.replace(held_out_share=0.1, eval_sequences=5, seed=1))[1] != held
    with pytest.raises(DataError, match=r"3 pairs of parallel text: too few"):
        split_pairs(pairs[:3], CONFIG)


def test_retrieval_is_counted_in_both_directions_and_whatever_the_means() -> None:
    one = torch.eye(4) + 10
    assert retrieval_accuracy(one, torch.eye(4) - 3) == 100
    assert retrieval_accuracy(one, torch.eye(4)[[1, 0, 2, 3]]) == 50
    # Two rows of one side are alike: of them one is found from here, and from there each finds its own or the first.
    other = torch.eye(4)
    other[1] = other[0]
    assert retrieval_accuracy(torch.eye(4), other) == 75


def test_held_out_pairs_in_halves() -> None:
    pairs = [(f"s{i}", f"t{i}") for i in range(5)]
    assert halves_of_pairs(pairs) == (pairs[::2], pairs[1::2])
    assert halves_of_pairs(pairs[:3]) == (pairs[:3], pairs[:3]), "one pair alone finds itself"
    shared = [*pairs, ("s0", "other"), ("s6", "t6"), ("other", "t0")]
    choosing, reporting = halves_of_pairs(shared)
    assert reporting == pairs[1::2], "without a sentence of either side that chooses"
    assert choosing == shared[::2]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["soft-prompt", "lora"])
def test_translations_are_found_afterwards(method: str, tiny_backbone: Tiny) -> None:
    backbone, pairs = tiny_backbone("xlm-roberta"), TRANSLATIONS
    rate = 0.3 if method == "soft-prompt" else 1e-2
    config = CONFIG.replace(
        method=method, steps=60, eval_every=20, learning_rate=rate, held_out_share=0.2, init_std=0.5
    )
    adapted = gp.adapt(backbone, language="xxx", config=config, runtime=QUIET, parallel=pairs)
    before, after = adapted.training.held_out_before, adapted.training.held_out_after
    assert isinstance(before, AlignmentScores)
    assert isinstance(after, AlignmentScores)
    assert before.num_pairs == after.num_pairs == 3, "of seven held-out pairs four choose the step"
    assert after.retrieval >= before.retrieval
    assert after.loss < before.loss - 0.3
    assert after.cosine > before.cosine + 0.05
    assert adapted.is_aligned
    assert adapted.samples is not None
    held = {target.strip() for _, target in split_pairs(pairs, config)[1]}
    assert set(adapted.samples.texts) <= held
    # What the file says of the prompt is what the prompt does.
    corpus = alignment_corpus(backbone, split_pairs(pairs, config)[0], config, 32)
    _, reporting = halves_of_pairs(split_pairs(pairs, config)[1])
    held_out = alignment_corpus(backbone, reporting, config, 32, corpus.centre)
    with torch.no_grad(), adapted.attached(backbone) as prefix:
        assert vars(score_alignment(backbone, held_out, prefix, 32)) == pytest.approx(vars(after), abs=1e-3)


@pytest.mark.slow
def test_settings_that_are_left_open_are_the_preset_s(tiny_backbone: Tiny, pairs: list[tuple[str, str]]) -> None:
    backbone = tiny_backbone("bert")
    made = gp.adapt(backbone, language="xxx", config=gp.AdaptConfig(steps=1), runtime=QUIET, parallel=pairs)
    config = made.training.config
    wanted = {**preset("alignment", "adapt"), "steps": 1}
    assert {name: config[name] for name in wanted} == wanted
    lora = gp.AdaptConfig(steps=1, method="lora")
    config = gp.adapt(backbone, language="xxx", config=lora, runtime=QUIET, parallel=pairs).training.config
    assert (config["learning_rate"], config["lora_rank"], config["lora_layers"]) == (3e-3, 4, "all")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"language": ""}, "which language is it"),
        ({"target": ["a", "b"]}, "parallel text is aligned by itself"),
        ({"config": gp.AdaptConfig(objective="mlm")}, "objective 'mlm' needs unlabelled text"),
        ({"config": gp.AdaptConfig(objective="alignment"), "parallel": None, "target": ["a"]}, "needs parallel text"),
        (
            {"config": gp.AdaptConfig(method="source-prompt")},
            "source-prompt is not trained by alignment; soft-prompt, ",
        ),
        ({"config": gp.AdaptConfig(objective="mlm+alignment")}, "needs unlabelled text"),
    ],
)
def test_what_does_not_go_together(
    arguments: dict[str, Any], message: str, tiny_backbone: Tiny, pairs: list[tuple[str, str]]
) -> None:
    with pytest.raises(ConfigError, match=message):
        gp.adapt(tiny_backbone("bert"), **{"language": "xxx", "parallel": pairs, "runtime": QUIET, **arguments})


def test_a_language_that_is_aligned_already_is_said_before_training(
    tiny_backbone: Tiny, pairs: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    same = [(source, source) for source, _ in pairs]
    config = CONFIG.replace(steps=1)
    gp.adapt(tiny_backbone("bert"), language="eng", config=config, parallel=same)
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("already aligned: 100.0 % of 3 held-out translations are found before training")
    assert ALREADY_ALIGNED == 90


@pytest.mark.slow
def test_parallel_text_without_an_lm_head(sentence_encoder: gp.Backbone) -> None:
    config = CONFIG.replace(steps=60, init_std=0.5, learning_rate=0.3)
    made = gp.adapt(sentence_encoder, language="xxx", config=config, runtime=QUIET, parallel=TRANSLATIONS)
    assert made.training.held_out_after.loss < made.training.held_out_before.loss


# --- together with masked language modelling


def test_both_objectives_add_up(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("bert")
    config = CONFIG.replace(objective="mlm+alignment", alignment_weight=0.25, held_out_share=0.2, eval_sequences=8)
    text = LanguageModelling(backbone, TOY, SOURCE, config, QUIET)
    pairs = Alignment(backbone, split_pairs(TRANSLATIONS, config), config, QUIET)
    module = SoftPrompt.initialise(backbone.prompt_shape(3), 0.5, 0)

    def gradient(objective: Any) -> torch.Tensor:
        parts = objective.losses(module, 0, MicroBatch(QUIET))
        loss = torch.stack([part for part, _ in parts]).sum()
        return torch.autograd.grad(loss, module.trained)[0]

    both = Joint(text, pairs, 0.25)
    torch.testing.assert_close(gradient(both), gradient(text) + 0.25 * gradient(pairs), rtol=1e-4, atol=1e-6)
    scores = both.scores(None)
    assert isinstance(scores, JointScores)
    assert scores.loss == scores.masked_tokens.loss + 0.25 * scores.alignment.loss


def test_text_and_pairs_are_read_and_named(tiny_backbone: Tiny, tmp_path: Any) -> None:
    backbone = tiny_backbone("bert")
    config = CONFIG.replace(objective="mlm+alignment", steps=1, held_out_share=0.2, eval_sequences=8)
    stage1 = Stage1.of(backbone, TOY, SOURCE, "xxx", config, parallel=TRANSLATIONS, held_out=[TOY[3]])
    assert (len(stage1.target), len(stage1.pairs or ())) == (len(TOY) - 1, len(TRANSLATIONS) - 1)
    assert stage1.texts_read()["target"] == [*stage1.target, *(pair[1] for pair in stage1.pairs or ())]
    assert set(stage1.spec(backbone).contents) == {"target", "source", "pairs"}
    assert stage1.decontamination is not None
    assert stage1.decontamination.target is not None
    assert stage1.decontamination.target.kept == len(TOY) - 1, "of the text"
    made = gp.adapt(backbone, TOY, SOURCE, "xxx", config, QUIET, parallel=TRANSLATIONS)
    assert isinstance(made, gp.LanguagePrompt)
    again = gp.LanguagePrompt.load(made.save(tmp_path / "a"), backbone)
    assert isinstance(again.training.held_out_after, JointScores)
    assert (again.is_aligned, again.training.target_lines, again.training.pairs) == (True, 28, 22)
    assert again.samples is not None


@pytest.mark.parametrize("source_share", [0.2, 1.0])
def test_neither_trains_on_what_the_other_holds_out(
    tiny_backbone: Tiny, monkeypatch: pytest.MonkeyPatch, source_share: float
) -> None:
    """Where the text is a side of the pairs. Source text alone is read with `source_share=1`, beside the pairs."""
    read: dict[str, Any] = {}
    modelling, alignment = LanguageModelling.__init__, Alignment.__init__

    def of_text(self: Any, backbone: Any, target: Any, source: Any, *others: Any) -> None:
        modelling(self, backbone, target, source, *others)
        read.update(lines={*target, *source} - {*self.held_out}, held_lines={*self.held_out})

    def of_pairs(self: Any, backbone: Any, split: Any, *others: Any) -> None:
        alignment(self, backbone, split, *others)
        read.update(zip(("pairs", "held_pairs"), ({s for pair in part for s in pair} for part in split), strict=True))

    monkeypatch.setattr(LanguageModelling, "__init__", of_text)
    monkeypatch.setattr(Alignment, "__init__", of_pairs)
    config = CONFIG.replace(objective="mlm+alignment", steps=1, held_out_share=0.2, source_share=source_share)
    sides: Any = zip(*TRANSLATIONS, strict=True)
    source, target = map(list, sides)
    made = gp.adapt(tiny_backbone("bert"), target, source, "xxx", config, QUIET, parallel=TRANSLATIONS)
    assert all(read.values())
    assert not read["lines"] & read["held_pairs"]
    assert not read["pairs"] & read["held_lines"]
    assert (made.samples is None) == (source_share == 1), "what is held out is source text"


# --- a hand on the meaning of the source


def test_what_holds_the_source_is_a_cosine_and_moves_the_prompt(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("xlm-roberta")
    config = gp.AdaptConfig(batch_size=8, max_length=16, held_out_share=0.2, mlm_hold=3.0)
    held, plain = (
        LanguageModelling(backbone, TOY, SOURCE, config.replace(mlm_hold=weight), QUIET) for weight in (3.0, 0.0)
    )
    module = SoftPrompt.initialise(backbone.prompt_shape(3), 0.5, 0)
    sequences = held._corpus.source_batch(2)
    assert len(sequences) == 4, "the source rows of the batch, unmasked"
    with torch.no_grad():
        without = torch.stack([backbone.pooled_states([row], None)[0] for row in sequences])
        with module.attached(backbone) as prefix:
            behind = torch.stack([backbone.pooled_states([row], prefix)[0] for row in sequences])
    expected = float(1 - F.cosine_similarity(without, behind).mean())
    assert expected > 1e-3
    whole, parts = (
        [loss for loss, _ in hold_losses(backbone, module, sequences, 3.0, MicroBatch(runtime))]
        for runtime in (QUIET, QUIET.replace(micro_batch_size=3))
    )
    assert [len(whole), len(parts)] == [1, 2]
    for losses in (whole, parts):
        assert sum(float(loss.detach()) for loss in losses) == pytest.approx(3 * expected, rel=1e-4)
    (gradient,) = torch.autograd.grad(whole[0], module.trained)
    assert float(gradient.abs().max()) > 0
    one, other = (
        sum(float(loss.detach()) for loss, _ in objective.losses(module, 2, MicroBatch(QUIET)))
        for objective in (held, plain)
    )
    assert one - other == pytest.approx(3 * expected, rel=1e-3)
    alone = LanguageModelling(backbone, TOY, [], config.replace(source_share=0.0), QUIET)
    assert len([*alone.losses(module, 2, MicroBatch(QUIET))]) == 1, "there is no source text to hold"


def test_nothing_is_held_unless_it_is_asked_for(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("bert")

    def settings(**given: Any) -> dict[str, Any]:
        return dict(Stage1.of(backbone, TOY, SOURCE, "xxx", gp.AdaptConfig(**given)).spec(backbone).settings)

    assert settings() == settings(mlm_hold=0.0)
    assert "mlm_hold" not in settings(), "runs keep the identity that they had without it"
    assert settings(mlm_hold=1.0)["mlm_hold"] == 1
    assert "mlm_hold" not in settings(mlm_hold=1.0, source_share=0.0), "no source text is read"
