"""The demo's last sentence is right whatever the figures are."""

from __future__ import annotations

import pytest

from glotprompt.demo.conclusions import Reading, advice, conclusions
from glotprompt.demo.result import DemoResult, DemoRow

from .invented import demo_result

NUM = 200
EMBEDDING, CENTRED = Reading("embedding"), Reading("embedding", centred=True)
PROMPT, LORA, CLOZE = Reading("soft-prompt-aligned"), Reading("lora-aligned"), Reading("soft-prompt")


def first(count: int) -> list[list[int]]:
    """One seed that is right on the first `count` examples."""
    return [[int(i < count) for i in range(NUM)]]


def result(before: float | None = None, majority: float = 25.0) -> DemoResult:
    whole = DemoResult.of(demo_result(), "invented")
    alignments = [
        whole.alignment[0].replace(method=name, held_out_pairs=90, retrieval_before=before, retrieval_after=98.0)
        for name in ("soft-prompt-aligned", "lora-aligned")
    ]
    rows = [DemoRow(method="majority", target_test_accuracy=majority)]
    return whole.replace(rows=rows, alignment=[] if before is None else alignments, language=None)


def test_embedding_where_alignment_adds_nothing() -> None:
    right = {EMBEDDING: first(140), PROMPT: first(141), LORA: first(130), CLOZE: first(60)}
    chosen, sentence = advice(result(97.0), right)
    assert chosen == EMBEDDING
    assert sentence.startswith("Use embedding, 70.0 % of 200 right: alignment adds nothing")
    assert "Aligned soft prompt +0.5 points" in sentence
    assert "The backbone knows Chichewa already: it finds 97.0 %" in sentence


def test_alignment_where_it_is_clearly_better() -> None:
    right = {EMBEDDING: first(80), CENTRED: first(82), PROMPT: first(120), LORA: first(150)}
    chosen, sentence = advice(result(20.0), right)
    assert chosen == LORA
    assert "75.0 % of 200 right, +34.0 points [" in sentence
    assert sentence.endswith("It finds 98.0 % of held-out translations, 20.0 % before.")


def test_centred_embedding_is_the_baseline_where_it_is_better() -> None:
    right = {EMBEDDING: first(80), CENTRED: first(120), PROMPT: first(120)}
    chosen, sentence = advice(result(20.0), right)
    assert chosen == CENTRED
    assert "Use embedding, centred" in sentence
    assert "knows" not in sentence


def test_a_lead_over_embedding_as_it_is_alone_is_none() -> None:
    chosen, sentence = advice(result(97.0), {EMBEDDING: first(128), CENTRED: first(144), PROMPT: first(145)})
    assert chosen == CENTRED
    assert "alignment adds nothing that can be told from chance (Aligned soft prompt +0.5 points" in sentence


def test_a_lead_of_one_seed_is_not_counted_as_many_examples() -> None:
    seeds = [[1] * NUM, [0] * NUM]
    chosen, _ = advice(result(), {EMBEDDING: first(100), CLOZE: seeds})
    assert chosen == EMBEDDING


def test_nothing_better_than_the_largest_class() -> None:
    chosen, sentence = advice(result(97.0, majority=30.0), {EMBEDDING: first(62), PROMPT: first(60)})
    assert chosen == EMBEDDING
    assert sentence.startswith("Use none of them yet")
    assert "(30.0 %)" in sentence


def test_target_labels_are_told_apart() -> None:
    """They need what the others do without, so they are no reason against the others."""
    right = {EMBEDDING: first(140), Reading("labels-5"): first(150), Reading("labels-20"): first(190)}
    sentences, chosen = conclusions(result(), right)
    assert chosen == EMBEDDING
    assert sentences[-2].startswith("Labels in Chichewa as well, against embedding: +5.0 points [")
    assert sentences[-2].endswith("] with 20 of each.")
    assert sentences[-1] == "Use embedding, 70.0 % of 200 right."


def test_without_anything_trained() -> None:
    _, sentence = advice(result(), {EMBEDDING: first(140)})
    assert sentence == "Use embedding, 70.0 % of 200 right."


@pytest.mark.parametrize(("after", "words"), [(5.0, "fell from 6.00 to 5.00"), (6.5, "did not fall: it went from")])
def test_reading_is_said_as_it_was(after: float, words: str) -> None:
    language = DemoResult.of(demo_result(), "invented").language
    assert language is not None
    language = language.replace(mlm_loss_before=6.0, mlm_loss_after=after)
    sentences, _ = conclusions(result(20.0).replace(language=language), {EMBEDDING: first(140)})
    assert words in sentences[0]
    assert "of half of 90 held-out pairs (the others choose the step) 20.0 % found each other" in sentences[1]
    assert len(sentences) == 3


def test_prompt_tuning_has_its_whole_name_in_a_sentence() -> None:
    assert Reading("prompt-tuning").name == (
        "prefix tuning without adaptation (the paper's prompt tuning, Tu et al. 2022)"
    )
    assert Reading("lora", centred=True).name == "LoRA in both stages, centred"
