"""Character maps in training: found with a real tokenizer, applied wherever text enters, kept in what is saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import glotprompt as gp
from glotprompt.model.backbone import Backbone
from glotprompt.storage import artifact
from glotprompt.training.objectives.unknown import (
    knows,
    map_to_known,
    unknown_characters,
    unknown_in,
    unknown_tokens,
)

from ..toys import QUIET, SOURCE, TASK, TOY, TRANSLATIONS, topics

Tiny = Callable[[str], Backbone]
ADAPT = gp.AdaptConfig(steps=3, batch_size=4, max_length=24, prompt_length=4, learning_rate=1e-2)
TUNE = gp.TuneConfig(epochs=1, batch_size=8, max_length=24, top_k_layers=2, learning_rate=1e-2)
FOREIGN = [line.replace("water", "waɬer") for line in TOY]
MAP = gp.CharacterMap.fitted({"ɬ": "lh"}, FOREIGN)


def test_what_the_tokenizer_knows(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    known = knows(tiny_tokenizer)
    assert [known(spelling) for spelling in ("k", "ng", "ﬁ", "ɬ", "ñ", "n~")] == [True, True, True, False, False, False]


def test_a_tokenizer_without_the_letter_a() -> None:
    letters = Tokenizer(models.WordLevel({"<unk>": 0, "b": 1, "c": 2}, "<unk>"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    known = knows(PreTrainedTokenizerFast(tokenizer_object=letters, unk_token="<unk>"))
    assert known("bc")
    assert not known("a")


def test_the_automatic_map(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    found = map_to_known([*FOREIGN, "你 the ñ"], tiny_tokenizer)
    assert {entry.character: (entry.spelling, entry.reversible) for entry in found.rewritings} == {
        "ɬ": ("lh", True),
        "ñ": ("n", False),
    }
    assert found.left == ("你",)
    assert map_to_known(TOY, tiny_tokenizer) == gp.CharacterMap(())


def test_what_stays_is_what_stays_unknown() -> None:
    """Only at the start of a word is the letter known, and there alone it stands; behind another it is not."""
    words = Tokenizer(models.WordPiece({"<unk>": 0, "ʇ": 1, "##a": 2, "a": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    assert unknown_tokens(["ʇa a"], tokenizer)[0] == 0
    assert map_to_known(["ʇa a"], tokenizer).left == ()
    assert map_to_known(["aʇ a"], tokenizer).left == ("ʇ",)


def test_unknown_tokens_are_counted(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    texts = ["the day", "ɬa ɬ"] * 600  # more than are tokenised at once
    unknown, count = unknown_tokens(texts, tiny_tokenizer)
    assert unknown == 600 * 2
    assert count == 600 * sum(len(tiny_tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts[:2])
    assert unknown_tokens([], tiny_tokenizer) == (0, 0)
    assert unknown_tokens([MAP.apply(text) for text in texts], tiny_tokenizer)[0] == 0


def test_what_is_unknown_of_a_text(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    found = unknown_in(["the day", "ɬa ɬ the"], tiny_tokenizer)
    assert (found.num_words, found.touched_words, found.unknown_tokens) == (5, 2, 2)
    assert (found.touched_share, found.too_much, found.matters) == (0.4, True, True)
    assert found.to_dict()["characters"] == {"ɬ": 2}
    assert not unknown_in(["the day"], tiny_tokenizer).matters


def test_an_unreadable_text_is_refused_in_python(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("xlm-roberta")
    text = ["你好 你 the", "好 你 day"]
    with pytest.raises(gp.UserError, match=r"66\.7 % of the words of the target text .*nothing that it knows is near"):
        gp.adapt(backbone, text, SOURCE, "zho", ADAPT, QUIET)
    with pytest.raises(gp.UserError, match="of the source text"):
        gp.adapt(backbone, TOY, text, "zho", ADAPT, QUIET)
    with pytest.raises(gp.UserError, match="of the target text"):
        gp.adapt(
            backbone,
            parallel=[(one, f"你 好 你 好 {other}") for one, other in TRANSLATIONS],
            language="zho",
            runtime=QUIET,
        )
    runtime = QUIET.replace(allow_unknown=True)
    made = gp.adapt(backbone, ["你 the day", "好 you the"] * 3, SOURCE, "zho", ADAPT, runtime)
    assert made.training.unknown["target"].touched_share == pytest.approx(1 / 3)
    # What is not read may hold anything.
    control = ADAPT.replace(method="source-prompt")
    assert gp.adapt(backbone, text, TOY, "zho", control, QUIET).training.unknown.keys() == {"source"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["soft-prompt", "lora"])
def test_the_map_is_the_same_as_other_text(method: str, tiny_backbone: Tiny, tmp_path: Path) -> None:
    """Adapt, tune, save, load, predict: a map gives what rewriting every text beforehand gives."""
    backbone = tiny_backbone("xlm-roberta")
    config, tune = ADAPT.replace(method=method), TUNE.replace(method=method)
    if method != "soft-prompt":
        tune = gp.TuneConfig(**{**tune.model_dump(exclude_unset=True), "top_k_layers": None})
    source = [line.replace("king", "ɬing") for line in SOURCE]
    examples = [gp.Example.of(f"{example.fields['text']} ɬa", example.label) for example in topics(4)]

    def whole(characters: gp.CharacterMap | None, rewrite: Callable[[str], str]) -> gp.PromptClassifier:
        target, from_source = ([rewrite(line) for line in lines] for lines in (FOREIGN, source))
        quiet = QUIET.replace(allow_unknown=True)
        adapted = gp.adapt(backbone, target, from_source, "toy", config, quiet, characters=characters)
        assert gp.load_adapted(adapted.save(tmp_path / "adapted"), backbone).characters == characters
        labelled = [gp.Example.of(rewrite(item.fields["text"]), item.label) for item in examples]
        made = gp.tune(backbone, adapted, labelled, TASK, tune, QUIET)
        return gp.PromptClassifier.load(made.save(tmp_path / "classifier"), backbone)

    mapped, plain, unmapped = whole(MAP, str), whole(None, MAP.apply), whole(None, str)
    assert mapped.characters == MAP
    assert plain.characters is None
    read = ["ɬa the king", ("waɬer")]
    rewritten = [MAP.apply(text) for text in read]
    assert (mapped.log_probabilities(read) == plain.log_probabilities(rewritten)).all()
    assert (mapped.log_probabilities(read) != unmapped.log_probabilities(read)).any()
    assert (mapped.log_probabilities(read) != plain.log_probabilities(read)).any()
    fitted = [each.with_label_prior(texts) for each, texts in ((mapped, read), (plain, rewritten))]
    assert fitted[0].offsets == fitted[1].offsets
    assert fitted[0].characters == MAP


@pytest.fixture
def prompt(tiny_backbone: Tiny) -> gp.LanguagePrompt:
    backbone = tiny_backbone("xlm-roberta")
    shape = backbone.prompt_shape(4)
    generator = torch.Generator().manual_seed(0)
    return gp.LanguagePrompt(torch.randn(shape, generator=generator), "toy", backbone.reference)


def test_files_from_before_there_were_maps(prompt: gp.LanguagePrompt, tiny_backbone: Tiny, tmp_path: Path) -> None:
    for kind, thing, load in (
        ("language prompt", prompt, gp.LanguagePrompt.load),
        (
            "language module",
            gp.LanguageModule("soft-prompt", prompt.parts, "toy", prompt.backbone),
            gp.LanguageModule.load,
        ),
    ):
        tensors, metadata = artifact.read(thing.save(tmp_path / kind), kind)
        del metadata["characters"], metadata["format"], metadata["kind"]
        old = artifact.write(tmp_path / f"old {kind}", kind, tensors, metadata)
        assert load(old).characters is None


def test_the_map_is_part_of_the_identity_of_a_tuning(
    prompt: gp.LanguagePrompt, tiny_backbone: Tiny, tmp_path: Path
) -> None:
    """The texts hold no rewritten character, yet a checkpoint of one run is none of the other."""
    runtime = QUIET.replace(checkpoint_dir=tmp_path, checkpoint_every=0)
    for start in (prompt, replace(prompt, characters=MAP)):
        gp.tune(tiny_backbone("xlm-roberta"), start, topics(4), TASK, TUNE, runtime)
    assert len(list(tmp_path.glob("*.checkpoint"))) == 2


def test_prompts_that_are_combined_share_a_map(prompt: gp.LanguagePrompt) -> None:
    mapped = replace(prompt, characters=MAP)
    assert gp.combine([mapped, mapped]).characters == MAP
    assert gp.combine([prompt, prompt]).characters is None
    assert gp.combine([prompt, mapped], characters=MAP).characters == MAP
    with pytest.raises(gp.UserError, match="rewrite characters differently"):
        gp.combine([prompt, mapped])


def test_another_language_brings_its_own_map(prompt: gp.LanguagePrompt, tiny_backbone: Tiny) -> None:
    """MAD-X's swap, here with the control that is tuned once for all languages."""
    control = replace(prompt, method="source-prompt")
    classifier = gp.tune(tiny_backbone("xlm-roberta"), control, topics(4), TASK, TUNE, QUIET)
    assert gp.for_language(classifier, replace(control, characters=MAP)).characters == MAP


@pytest.mark.slow
@pytest.mark.parametrize(("name", "before"), [("hñähñu-spanish/train.oto", 342), ("bribri-spanish/train.bzd", 0)])
def test_real_text(name: str, before: int, mini: Backbone, corpora: Path) -> None:
    """Otomi writes some vowels with a mark that the bundled tokenizer lacks; of Bribri it knows every character."""
    texts = gp.read_texts(corpora / "americasnlp2021" / name)
    found = map_to_known(texts, mini.tokenizer)
    assert unknown_tokens(texts, mini.tokenizer)[0] == before
    assert found.left == ()
    assert bool(found.rewritings) == bool(before)
    rewritten = [found.apply(text) for text in texts]
    assert unknown_tokens(rewritten, mini.tokenizer)[0] == 0
    assert all(entry.reversible for entry in found.rewritings)
    assert [found.invert(text) for text in rewritten] == texts


def test_what_the_map_rewrites_as_a_letter_with_its_mark_is_not_unknown() -> None:
    text, known = "e\u0330 ŋ", "abe".__contains__
    assert unknown_characters(text, known, None) == ["\u0330", "ŋ"]
    assert unknown_characters(text, known, gp.CharacterMap.fitted({"e\u0330": "e"}, [text])) == ["ŋ"]
    assert unknown_characters(text, known, gp.CharacterMap.fitted({"e\u0330": "ə"}, [text])) == ["\u0330", "ŋ"]
