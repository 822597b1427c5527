"""Examples as the model reads them: one mask, the template whole, the text shortened; labels as tokens."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from glotprompt.errors import ConfigError
from glotprompt.model import tokens as model_tokens
from glotprompt.model.loading import folder_of, read_tokenizer
from glotprompt.model.tokens import beginning
from glotprompt.task import Task
from glotprompt.training.objectives.batches import epoch_batches
from glotprompt.training.objectives.cloze import (
    Cloze,
    encode_without_mask,
    label_words,
    single_token_words,
    words_of_several_tokens,
)
from glotprompt.training.objectives.inputs import encode

Tokenizer = PreTrainedTokenizerFast
ASSETS = Path(__file__).parents[1] / "assets"
MASK = 417
WORDS = {"a": "Yes", "b": "No"}
ONE = Task("one", "{mask} : {text} .", WORDS)
END = Task("end", "{text} It is {mask} !", WORDS)
TWO = Task("two", "{premise} ? {mask} , {hypothesis}", WORDS)

quick = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
texts = st.one_of(
    st.text(alphabet="ab tz.<>{}ñ日\n'", max_size=60),
    st.lists(st.sampled_from(["the", "day", "kilimba", "<mask>", "xyzzy", "</s>", "日本", "x"]), max_size=30).map(
        " ".join
    ),
)


@cache
def own_tokenizer() -> Tokenizer:
    """The tests' tokenizer, for the properties: hypothesis and fixtures do not go together."""
    return AutoTokenizer.from_pretrained(ASSETS / "tokenizer")


def template_tokens(task: Task, tokenizer: Tokenizer) -> list[int]:
    return tokenizer(task.template.render(dict.fromkeys(task.template.fields, ""), "<mask>"))["input_ids"]


def is_inside(part: list[int], whole: list[int]) -> bool:
    """Whether `part` remains when some elements of `whole` are left out."""
    rest = iter(whole)
    return all(token in rest for token in part)


def spelled(ids: list[int], tokenizer: Tokenizer) -> str:
    return "".join(tokenizer.convert_ids_to_tokens(ids)).replace("▁", "")


# --- rendering


def test_one_text(tiny_tokenizer: Tokenizer) -> None:
    (cloze,) = encode([{"text": "the day"}], ONE, tiny_tokenizer, 32)
    assert cloze.input_ids.tolist() == tiny_tokenizer("<mask> : the day .")["input_ids"]
    assert cloze.input_ids[cloze.position] == MASK
    assert cloze.position == 1


def test_a_pair(tiny_tokenizer: Tokenizer) -> None:
    (cloze,) = encode([{"premise": "the day", "hypothesis": "a night"}], TWO, tiny_tokenizer, 32)
    assert cloze.input_ids.tolist() == tiny_tokenizer("the day ? <mask> , a night")["input_ids"]
    assert cloze.input_ids[cloze.position] == MASK


def test_examples_keep_their_order_and_do_not_touch_each_other(tiny_tokenizer: Tokenizer) -> None:
    rows = [{"text": "the " * count} for count in (3, 60, 1, 9)]
    together = encode(rows, END, tiny_tokenizer, 24)
    for row, cloze in zip(rows, together, strict=True):
        (alone,) = encode([row], END, tiny_tokenizer, 24)
        assert np.array_equal(alone.input_ids, cloze.input_ids)
        assert alone.position == cloze.position
    assert encode([], END, tiny_tokenizer, 24) == []


@pytest.mark.parametrize("task", [ONE, END])
def test_a_mask_in_the_text_is_not_the_mask(tiny_tokenizer: Tokenizer, task: Task) -> None:
    (cloze,) = encode([{"text": "<mask> the <mask></s>"}], task, tiny_tokenizer, 64)
    assert cloze.input_ids.tolist().count(MASK) == 1
    assert cloze.input_ids.tolist().count(2) == 1
    (clean,) = encode([{"text": "the"}], task, tiny_tokenizer, 64)
    places = [cloze.position, len(cloze.input_ids) - cloze.position]
    others = [clean.position, len(clean.input_ids) - clean.position]
    assert places[task is ONE] > others[task is ONE]
    assert places[task is END] == others[task is END]


# --- shortening


@pytest.mark.slow
@pytest.mark.parametrize("task", [ONE, END])
@quick
@given(text=texts, length=st.integers(12, 40))
def test_shortening_spares_template_and_mask(task: Task, text: str, length: int) -> None:
    tokenizer = own_tokenizer()
    template = template_tokens(task, tokenizer)
    assume(len(template) < length)
    (whole,) = encode([{"text": text}], task, tokenizer, 10_000)
    (cloze,) = encode([{"text": text}], task, tokenizer, length)
    ids = cloze.input_ids.tolist()
    assert len(ids) <= length
    assert cloze.truncated == (len(whole.input_ids) > length)
    assert ids.count(MASK) == 1
    assert ids[cloze.position] == MASK
    assert (ids[0], ids[-1], ids.count(0), ids.count(2)) == (0, 2, 1, 1)
    assert is_inside(list(spelled(template, tokenizer)), list(spelled(ids, tokenizer)))
    if len(whole.input_ids) <= length:
        assert ids == whole.input_ids.tolist(), "what fits is left alone"
    else:
        # What is missing is the end of the text: the piece before the cut and the one after it are the whole's.
        short, long = spelled(ids, tokenizer), spelled(whole.input_ids.tolist(), tokenizer)
        tail = spelled(template[template.index(MASK) :], tokenizer) if task is END else ".</s>"
        assert short.endswith(tail)
        assert long.endswith(tail)
        kept, dropped = short.removesuffix(tail), long.removesuffix(tail)
        assert dropped.startswith(kept.removesuffix("Itis"))


@pytest.mark.slow
@quick
@given(premise=texts, hypothesis=texts, length=st.integers(12, 40))
def test_shortening_a_pair_spares_template_and_mask(premise: str, hypothesis: str, length: int) -> None:
    tokenizer = own_tokenizer()
    (cloze,) = encode([{"premise": premise, "hypothesis": hypothesis}], TWO, tokenizer, length)
    ids = cloze.input_ids.tolist()
    assert len(ids) <= length
    assert ids.count(MASK) == 1
    assert ids[cloze.position] == MASK
    assert (ids[0], ids[-1], ids.count(0), ids.count(2)) == (0, 2, 1, 1)
    assert is_inside(list("?<mask>,"), list(spelled(ids, tokenizer)))


def test_as_much_of_the_text_is_kept_as_fits(tiny_tokenizer: Tokenizer) -> None:
    words = ["the", "day", "good", "Yes"] * 20
    assert len(tiny_tokenizer.encode(" ".join(words), add_special_tokens=False)) == 80
    bare = len(template_tokens(ONE, tiny_tokenizer))
    for length in range(bare + 1, bare + 30):
        (cloze,) = encode([{"text": " ".join(words)}], ONE, tiny_tokenizer, length)
        assert len(cloze.input_ids) == length


def kept_of(task: Task, tokenizer: Tokenizer, premise: int, hypothesis: int, length: int) -> tuple[int, int]:
    row = {"premise": " ".join(["the"] * premise), "hypothesis": " ".join(["day"] * hypothesis)}
    (cloze,) = encode([row], task, tokenizer, length)
    ids = cloze.input_ids.tolist()
    the, day = (tokenizer.convert_tokens_to_ids(f"▁{word}") for word in ("the", "day"))
    return ids.count(the), ids.count(day)


def test_of_a_pair_the_longer_is_shortened_first(tiny_tokenizer: Tokenizer) -> None:
    bare = len(template_tokens(TWO, tiny_tokenizer))
    assert kept_of(TWO, tiny_tokenizer, 40, 5, bare + 20) == (15, 5)
    assert kept_of(TWO, tiny_tokenizer, 5, 40, bare + 20) == (5, 15)
    assert sorted(kept_of(TWO, tiny_tokenizer, 40, 40, bare + 20)) == [10, 10]
    assert sorted(kept_of(TWO, tiny_tokenizer, 40, 12, bare + 20)) == [10, 10]
    assert sorted(kept_of(TWO, tiny_tokenizer, 40, 30, bare + 1)) == [0, 1]


@pytest.mark.parametrize("tokenise", [encode, encode_without_mask])
def test_what_was_cut_is_said(tiny_tokenizer: Tokenizer, tokenise: Callable[..., list[Cloze]]) -> None:
    for task, row in ((ONE, {"text": "the day " * 9}), (TWO, {"premise": "the " * 7, "hypothesis": "day " * 12})):
        (whole,) = tokenise([row], task, tiny_tokenizer, 1000)
        most = len(whole.input_ids)
        found = [tokenise([row], task, tiny_tokenizer, length)[0] for length in (most - 2, most - 1, most, most + 1)]
        assert [cloze.truncated for cloze in found] == [True, True, False, False]
        assert [len(cloze.input_ids) for cloze in found] == [most - 2, most - 1, most, most]


def test_a_template_that_leaves_no_room_is_named(tiny_tokenizer: Tokenizer) -> None:
    bare = len(template_tokens(END, tiny_tokenizer))
    for length in (bare, bare - 1, 8):
        with pytest.raises(ConfigError, match=rf"max_length {length} leaves no room .*\({bare} tokens\)"):
            encode([{"text": "the day " * 40}], END, tiny_tokenizer, length)


@pytest.mark.parametrize("text", ["xyzzy" * 30, "日" * 60, "'" * 60])
def test_one_token_of_room_is_no_error(tiny_tokenizer: Tokenizer, text: str) -> None:
    bare = len(template_tokens(ONE, tiny_tokenizer))
    (cloze,) = encode([{"text": text}], ONE, tiny_tokenizer, bare + 1)
    assert cloze.input_ids.tolist().count(MASK) == 1
    assert len(cloze.input_ids) <= bare + 1


# --- label words


def test_label_words_and_their_means(tiny_tokenizer: Tokenizer) -> None:
    task = Task("t", "{mask} : {text}", {"yes": ["Yes", "good", "great"], "no": "No", "may": ["Maybe", "bad"]})
    words = label_words(task, tiny_tokenizer)
    expected = [f"▁{word}" for word in ("Yes", "good", "great", "No", "Maybe", "bad")]
    assert tiny_tokenizer.convert_ids_to_tokens(words.token_ids.tolist()) == expected
    third = 1 / 3
    rows = [[third, third, third, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0.5, 0.5]]
    assert torch.allclose(words.average, torch.tensor(rows))


def test_a_word_of_several_tokens_takes_as_many_masks(tiny_tokenizer: Tokenizer) -> None:
    task = Task("t", "{mask} : {text}", {"yes": ["Yes", "Sporting"], "no": "No"})
    sporting = tiny_tokenizer.encode("Sporting", add_special_tokens=False)
    count = len(sporting)
    assert count > 1
    words = label_words(task, tiny_tokenizer)
    assert words.num_reads == count
    yes, no = (tiny_tokenizer.convert_tokens_to_ids(f"▁{word}") for word in ("Yes", "No"))
    assert words.token_ids.tolist() == [yes, *sporting, no]
    assert words.reads is not None
    assert words.reads.tolist() == [0, *range(count), 0]
    expected = [[1 / 2, *[1 / (2 * count)] * count, 0], [0] * (count + 1) + [1]]
    assert torch.allclose(words.average, torch.tensor(expected))
    (cloze,) = encode([{"text": "the day"}], task, tiny_tokenizer, 32, words)
    assert cloze.input_ids.tolist()[1 : 1 + count] == [MASK] * count
    assert (cloze.position, cloze.num_reads) == (1, count)
    (short,) = encode([{"text": "the day " * 40}], task, tiny_tokenizer, 24, words)
    assert short.input_ids.tolist().count(MASK) == count
    assert len(short.input_ids) <= 24


@pytest.mark.parametrize("word", ["<unk>", "<mask>", "Yes <mask>", "\u200b"])
def test_a_word_that_the_model_cannot_spell(tiny_tokenizer: Tokenizer, word: str) -> None:
    with pytest.raises(ConfigError, match=r'label \'b\': this model cannot spell .* head="linear"$'):
        label_words(Task("t", "{mask} : {text}", {"a": "Yes", "b": word}), tiny_tokenizer)


def test_an_unknown_word_is_refused_though_it_is_one_token(tiny_tokenizer: Tokenizer) -> None:
    word = next(w for w in ("日", "本", "漢") if tiny_tokenizer.encode(w, add_special_tokens=False)[-1] == 3)
    with pytest.raises(ConfigError, match=f"label 'b': this model cannot spell the word '{word}'"):
        label_words(Task("t", "{mask} : {text}", {"a": "Yes", "b": word}), tiny_tokenizer)


def test_other_words_are_named_by_spelling_meaning_and_the_built_in_tasks(tiny_tokenizer: Tokenizer) -> None:
    known = tiny_tokenizer.encode("Sporting", add_special_tokens=False)
    embeddings = torch.eye(len(tiny_tokenizer))
    bad = tiny_tokenizer.convert_tokens_to_ids("▁bad")
    embeddings[bad] = embeddings[known].mean(dim=0)
    task = Task("t", "{mask} : {text}", {"sports": "Sporting日", "no": "No"})
    with pytest.raises(ConfigError) as caught:
        label_words(task, tiny_tokenizer, embeddings)
    text = str(caught.value)
    assert "in the built-in tasks: Sports;" in text
    assert "near in meaning: bad, " in text
    assert "near in spelling: Sports" in text
    assert "\n" not in text
    task = Task("t", "{mask} : {text}", {"sports": "Sporting", "no": "No"})
    (remark,) = words_of_several_tokens(task, tiny_tokenizer, embeddings)
    assert remark.startswith("label 'sports': the word 'Sporting' is ")
    assert "near in meaning: bad, " in remark


@pytest.mark.parametrize("verbalizer", [{"a": ["Yes", "Yes"], "b": "No"}, {"a": "Yes", "b": ["No", "Yes"]}])
def test_a_word_stands_for_one_label_once(tiny_tokenizer: Tokenizer, verbalizer: dict[str, list[str] | str]) -> None:
    with pytest.raises(ConfigError, match=r"'t'.*'▁Yes'.*'a'") as caught:
        label_words(Task("t", "{mask} : {text}", verbalizer), tiny_tokenizer)
    assert verbalizer["b"] == "No" or "'b'" in str(caught.value), "both labels are named"


@pytest.mark.parametrize("template", ["{mask} : {text}", "{text} {mask}", "{text} ({mask})"])
def test_a_space_before_the_mask_changes_nothing_for_pieces(tiny_tokenizer: Tokenizer, template: str) -> None:
    words = label_words(Task("t", template, WORDS), tiny_tokenizer)
    assert tiny_tokenizer.convert_ids_to_tokens(words.token_ids.tolist()) == ["▁Yes", "▁No"]


def test_byte_level_words_are_looked_up_with_their_space() -> None:
    from tokenizers import Tokenizer as Raw
    from tokenizers import decoders, models, pre_tokenizers

    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Yes", "ĠYes", "No", "ĠNo"]
    raw = Raw(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, cls_token="<s>", pad_token="<pad>", sep_token="</s>", unk_token="<unk>",
        mask_token="<mask>",
    )  # fmt: skip
    assert label_words(Task("t", "{mask} : {text}", WORDS), tokenizer).token_ids.tolist() == [5, 7]
    assert label_words(Task("t", "{text} {mask}", WORDS), tokenizer).token_ids.tolist() == [6, 8]


def test_close_words_are_whole_words(tiny_tokenizer: Tokenizer) -> None:
    near = single_token_words("Politic", tiny_tokenizer)
    assert near[0] in ("Politics", "politics")
    for word in near:
        assert len(tiny_tokenizer.encode(word, add_special_tokens=False)) == 1
    assert len(single_token_words("s", tiny_tokenizer, count=2)) <= 2
    assert single_token_words("qqqqqqqq", tiny_tokenizer) == []


# --- order


@pytest.mark.parametrize(("size", "batch_size"), [(1, 4), (8, 4), (9, 4), (200, 8), (131, 8)])
def test_an_epoch_covers_each_example_once(size: int, batch_size: int) -> None:
    lengths = np.random.default_rng(0).integers(5, 90, size).tolist()
    batches = epoch_batches(lengths, batch_size, 0, 0)
    assert sorted(index for batch in batches for index in batch) == list(range(size))
    assert len(batches) == -(-size // batch_size), "as many steps as the schedule counts on"
    assert max(map(len, batches)) <= batch_size


def test_epochs_and_seeds_differ_and_repeat() -> None:
    lengths = [7] * 50
    orders = {(seed, epoch): epoch_batches(lengths, 8, seed, epoch) for seed in range(2) for epoch in range(2)}
    assert len({str(order) for order in orders.values()}) == 4
    assert epoch_batches(lengths, 8, 1, 1) == orders[1, 1]


def test_examples_of_similar_length_are_together() -> None:
    lengths = np.random.default_rng(0).integers(5, 90, 128).tolist()
    batches = epoch_batches(lengths, 8, 0, 0)
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches]
    assert np.mean(spread) < 10
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest != sorted(longest), "but short ones do not come first"
    assert longest != sorted(longest, reverse=True)


# --- very long texts


def trained(kind: str) -> Tokenizer:
    """A small tokenizer of a kind, of the tests' English and some others' letters."""
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Raw

    lines = (ASSETS / "english.txt").read_text(encoding="utf-8").splitlines()
    lines += ["日本語本日", "สวัสดีวันดี", "aaaa abab ab"]
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    size = {"vocab_size": 600, "special_tokens": special, "show_progress": False}
    if kind == "WordPiece":
        raw, trainer = Raw(models.WordPiece(unk_token="<unk>")), trainers.WordPieceTrainer(**size)
        raw.normalizer, raw.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    elif kind == "byte-level":
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        raw, trainer = Raw(models.BPE()), trainers.BpeTrainer(**size, initial_alphabet=alphabet)
        raw.normalizer, raw.pre_tokenizer = normalizers.NFC(), pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
    elif kind == "unsplit":  # as Gemma's: words are not set apart before pairs are merged
        raw, trainer = Raw(models.BPE(unk_token="<unk>", fuse_unk=True)), trainers.BpeTrainer(**size)
        raw.normalizer = normalizers.Replace(" ", "▁")
        raw.pre_tokenizer = pre_tokenizers.Split(Regex("(?<=[▁])(?=[^▁])"), "isolated")  # for the training alone
    else:
        assert kind == "Unigram"
        raw, trainer = Raw(models.Unigram()), trainers.UnigramTrainer(**size, unk_token="<unk>")
        raw.normalizer, raw.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    raw.train_from_iterator(lines * 3, trainer)
    if kind == "unsplit":
        raw.pre_tokenizer = None
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, cls_token="<s>", bos_token="<s>", pad_token="<pad>", sep_token="</s>", unk_token="<unk>",
        mask_token="<mask>",
    )  # fmt: skip


KINDS = ("own", "mini", "Unigram", "WordPiece", "byte-level", "unsplit")


@cache
def tokenizer_of(kind: str) -> Tokenizer:
    if kind == "mini":
        return read_tokenizer(folder_of("mini"))
    return own_tokenizer() if kind == "own" else trained(kind)


PIECES = {
    "words": ["the ", "day ", "good\n", "xyzzy ", "ab ", "market, ", "\t", "  ", "<mask> ", "… "],
    "no spaces": [*"日本語漢字仮名", "スバ", "วัน", "ดี"],
    "letters": ["a", "b", "ab", "the", "day", "1", "23", "-", "é", "e\u0301", "㎏", "ﬁ"],
    "long words": ["x" * 90, "x" * 130, " ", "the ", "日"],
    "unknown": ["\u16a0", "\u16a1", " ", "the"],
    "spaces": [" ", "  ", "\u3000", "\xa0", "\n", "a", "b"],
    "marks": ["a", "\u0301", "\u0323", " ", "\u200d", "👩", "🏽"],
    "periodic": ["a"], "period of two": ["ab"], "period of three": ["aab"], "numbers": ["7"], "dashes": ["-- "],
}  # fmt: skip


def long_text(name: str, seed: int, length: int) -> str:
    draw = random.Random(seed)
    return "".join(draw.choices(PIECES[name], k=length))[:length]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PIECES)
def test_the_beginning_of_a_long_text_has_its_first_tokens(kind: str, name: str) -> None:
    tokenizer, was_cut = tokenizer_of(kind), 0
    with patch.object(model_tokens, "LONG", 300):
        for seed in range(2):
            text, count = long_text(name, seed, 14_000 + 307 * seed), 1 + 7 * seed
            part = beginning(text, tokenizer, count)
            assert text.startswith(part)
            of_part, of_text = (
                tokenizer(one, add_special_tokens=False, verbose=False)["input_ids"] for one in (part, text)
            )
            assert of_part[:count] == of_text[:count]
            was_cut += len(part) < len(text)
    assert was_cut or name != "cloze"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["own", "byte-level"])
@pytest.mark.parametrize("tokenise", [encode, encode_without_mask])
@pytest.mark.parametrize("task", [ONE, END, TWO])
def test_long_texts_are_read_as_if_they_were_not_cut_before(
    kind: str, tokenise: Callable[..., list[Cloze]], task: Task
) -> None:
    tokenizer = tokenizer_of(kind)
    lengths = [(900, 600), (600, 900), (750, 20), (20, 750), (750, 140), (140, 750)]
    for seed, sizes in enumerate(lengths):
        names = task.template.fields
        row = {name: long_text("words", seed, size) for name, size in zip(names, sizes, strict=False)}
        (whole,) = tokenise([row], task, tokenizer, 32 + seed % 2)
        with patch.object(model_tokens, "LONG", 300):
            (cut,) = tokenise([row], task, tokenizer, 32 + seed % 2)
        assert cut.input_ids.tolist() == whole.input_ids.tolist()
        assert (cut.position, cut.truncated) == (whole.position, whole.truncated)


@pytest.mark.slow
def test_ten_megabytes_are_no_work(mini_tokenizer: PreTrainedTokenizerFast) -> None:
    """Of words, and of letters without a space."""
    for text in (long_text("words", 0, 2**20) * 10, long_text("no spaces", 0, 2**20) * 10):
        encode([{"text": text[: 2**17]}], ONE, mini_tokenizer, 256)  # what is found out once
        started = time.process_time()
        for tokenise in (encode, encode_without_mask):
            (cloze,) = tokenise([{"text": text}], ONE, mini_tokenizer, 256)
            assert (len(cloze.input_ids), cloze.truncated) == (256, True)
        assert time.process_time() - started < 3
