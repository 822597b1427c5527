"""Texts too large for memory: the same tokens as of a list, made once, and never half."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import glotprompt as gp
from glotprompt.errors import ArtifactError, DataError
from glotprompt.model.encoder import Encoder
from glotprompt.train import token_cache, token_text
from glotprompt.train.batches import token_sequences
from glotprompt.train.inputs import halves, masking_corpus
from glotprompt.train.token_cache import cache_folder, tokenizer_fingerprint
from glotprompt.train.token_text import HeldOut, TokenText

from ..toys import QUIET

Tiny = Callable[[str], Encoder]
Cached = Callable[..., TokenText]


@pytest.fixture
def cached(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Cached:
    """`cached(lines)`: the lines in a file, tokenised into the folder `cache`; `cached.reads` counts the readings."""
    path = tmp_path / "text.txt"

    def make(
        lines: Iterable[str] | None = None, tokenizer: PreTrainedTokenizerFast = tiny_tokenizer, **more: Any
    ) -> TokenText:
        if lines is not None:
            path.write_text("\n".join(lines), encoding="utf-8")

        def read() -> list[str]:
            make.reads += 1  # pyright: ignore[reportFunctionMemberAccess]
            return path.read_text(encoding="utf-8").split("\n")

        options = more.pop("options", {})
        return token_cache.token_text(
            [path], read, options, tokenizer, folder=tmp_path / "cache", progress=False, **more
        )

    make.reads = 0  # pyright: ignore[reportFunctionMemberAccess]
    return make


def lists(sequences: Iterable[Any]) -> list[list[int]]:
    return [sequence.tolist() for sequence in sequences]


LINES = ["the day", "", "a <mask> night", "   ", *[f"the king {'water ' * (i % 9)}day" for i in range(40)], "the end."]


@pytest.mark.parametrize("packing", ["none", "full"])
@pytest.mark.parametrize("max_length", [8, 13, 4000])
def test_the_same_sequences_as_of_a_list(
    cached: Cached, tiny_tokenizer: PreTrainedTokenizerFast, packing: str, max_length: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(token_cache, "_BATCH", 50)  # many batches
    tiny_tokenizer(["the day"], truncation=True, max_length=3, padding="max_length")  # must not linger
    text = cached(LINES)
    assert len(text) == len(LINES)
    found = text.sequences(max_length, packing)
    expected = lists(token_sequences(LINES, tiny_tokenizer, max_length, packing))
    assert lists(found) == expected
    assert found[-1].tolist() == expected[-1]
    assert lists(found[1:3]) == expected[1:3]
    assert found[0].dtype == np.int64
    with pytest.raises(IndexError):
        found[len(expected)]


@pytest.mark.parametrize("packing", ["none", "full"])
@pytest.mark.parametrize("left_out", [[], [0], [0, 1, 2], [5, 6, 9], [40, 41, 42], [2, 42], range(43), range(1, 43)])
def test_the_same_sequences_without_some_lines(
    cached: Cached, tiny_tokenizer: PreTrainedTokenizerFast, packing: str, left_out: Iterable[int]
) -> None:
    text = cached(LINES)
    gone = set(left_out)
    kept = [line for number, line in enumerate(line for line in LINES if line.strip()) if number not in gone]
    found = replace(text, left_out=np.array(sorted(gone), dtype=np.int64)).sequences(9, packing)
    expected = lists(token_sequences(kept, tiny_tokenizer, 9, packing))
    assert lists(found) == expected
    assert lists(found[i] for i in range(len(expected))) == expected


@pytest.mark.parametrize("packing", ["none", "full"])
@pytest.mark.parametrize("lines", [[""], ["the"], ["the day"] * 3])
def test_little_text(cached: Cached, tiny_tokenizer: PreTrainedTokenizerFast, packing: str, lines: list[str]) -> None:
    text = cached(lines)
    assert lists(text.sequences(9, packing)) == lists(token_sequences(lines, tiny_tokenizer, 9, packing))
    kept, held = text.split(0.5, 0, 9, packing)
    assert (len(kept), len(held)) == (len(lines), 0), "nothing can be held out of one line said several times"


# --- the held-out share


def spoken(count: int) -> list[str]:
    return [f"the {'king' if i % 3 else 'water'} {i % 1000:03} day" for i in range(count)]


@pytest.mark.parametrize("packing", ["none", "full"])
def test_held_out_lines_are_whole_groups_and_none_is_trained_on(cached: Cached, packing: str) -> None:
    lines = [*spoken(1500), *[f"  the  king {i:03} day" for i in range(500)]]
    text = cached(lines)
    kept, held = text.split(0.05, 0, 16, packing)
    assert len(kept) + len(held) == len(lines)
    assert 0.03 * len(lines) < len(held) <= 0.05 * len(lines)
    said = [" ".join(line.split()) for line in lines]
    out = {said[number] for number in kept.left_out}
    assert Counter(number for number, line in enumerate(said) if line in out) == Counter(kept.left_out.tolist())
    assert lists(held.lines) == [text.line(int(number)).tolist() for number in kept.left_out]


def test_the_draw_is_by_seed_and_not_by_place(cached: Cached) -> None:
    lines = spoken(1000)
    draws = [{lines[i] for i in cached(lines).split(0.1, seed, 16, "none")[0].left_out} for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(draws[0] & draws[2]) < 40
    turned = lines[::-1]
    assert {turned[i] for i in cached(turned).split(0.1, 0, 16, "none")[0].left_out} == draws[0]


def test_the_held_out_share_is_capped(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_text, "HELD_OUT_SEQUENCES", 10)
    text = cached(spoken(1000))
    assert len(text.split(0.5, 0, 16, "none")[1]) == 10
    _, held = text.split(0.5, 0, 64, "full")
    assert 8 <= len(held.sequences(64, "full")) <= 11


def test_a_line_that_is_everywhere_is_not_the_held_out_text(cached: Cached) -> None:
    text = cached(["the day"] * 900 + spoken(100))
    for seed in range(20):
        kept, held = text.split(0.05, seed, 16, "none")
        assert 0 < len(held) <= 50
        assert 0 not in kept.left_out


def test_one_other_line_is_found(cached: Cached) -> None:
    text = cached(["the day"] * 4000 + ["a night"])
    for seed in range(4):
        assert text.split(0.01, seed, 16, "none")[0].left_out.tolist() == [4000]


# --- one making, and what asks for another


def test_made_once(cached: Any, tmp_path: Path) -> None:
    first = cached(LINES)
    assert cached.reads == 1
    assert cached().key == first.key
    os.utime(tmp_path / "text.txt", (1, 1))  # touched: hashed again, but not read
    assert cached().key == first.key
    (tmp_path / "text.txt").rename(tmp_path / "text.txt.old")
    assert cached(LINES).key == first.key
    assert cached.reads == 1
    assert cached([*LINES, "more"]).key != first.key
    assert cached.reads == 2
    names = {path.name for path in (tmp_path / "cache").iterdir()}
    assert names == {"stamps", first.key, cached().key}, "nothing half-made is left"


def test_what_is_part_of_the_key(cached: Any, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    more = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert tokenizer_fingerprint(more) == tokenizer_fingerprint(tiny_tokenizer)
    more(["the day"], truncation=True, max_length=3)  # leaves a mark in the tokenizer that means nothing here
    assert tokenizer_fingerprint(more) == tokenizer_fingerprint(tiny_tokenizer)
    more.add_tokens([AddedToken("kilimba")])
    characters = gp.CharacterMap.fitted({"k": "c"}, [])
    made = [
        cached(LINES),
        cached(options={"text": "column"}),
        cached(characters=characters),
        cached(tokenizer=more),
    ]
    assert len({text.key for text in made}) == cached.reads == 4
    assert made[2].characters == characters
    rewritten = [characters.apply(line) for line in LINES]
    assert lists(made[2].sequences(9, "none")) == lists(token_sequences(rewritten, tiny_tokenizer, 9, "none"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def turn(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["tokens", "ends", "hashes", "facts.json"])
@pytest.mark.parametrize("damage", [cut, turn, Path.unlink])
def test_damage_is_mended(cached: Any, tmp_path: Path, name: str, damage: Callable[[Path], object]) -> None:
    whole = cached(LINES)
    expected = lists(whole.sequences(9, "full"))
    path = tmp_path / "cache" / whole.key / name
    if (name, damage) == ("facts.json", turn):
        path.write_text(path.read_text().replace('"tokens": ', '"tokens": 1', 1))
    else:
        damage(path)
    assert lists(cached().sequences(9, "full")) == expected
    assert cached.reads == 2
    assert cached().key == whole.key
    assert cached.reads == 2


def test_an_error_while_reading_leaves_nothing(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    path = tmp_path / "text.txt"
    path.write_text("the day")

    def failing() -> Iterable[str]:
        yield "the day"
        raise DataError("line 2: not text")

    for _ in range(2):
        with pytest.raises(DataError, match="line 2"):
            token_cache.token_text([path], failing, {}, tiny_tokenizer, folder=tmp_path / "cache", progress=False)
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_kill_left_is_cleared_away(cached: Any, tmp_path: Path) -> None:
    key = cached(LINES).key
    (tmp_path / "cache" / key / "tokens").unlink()
    old, young = (tmp_path / "cache" / f".{key}.{name}" for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir()
        (folder / "tokens").write_bytes(b"12")
    for path in (old / "tokens", old):
        os.utime(path, (1, 1))
    cached()
    assert not old.exists()
    assert young.exists(), "another process may be writing it"


def test_a_text_that_changes_meanwhile_is_refused(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    path = tmp_path / "text.txt"
    path.write_text("the day")

    def read() -> list[str]:
        path.write_text("the day and a night")
        return ["the day"]

    with pytest.raises(DataError, match="changed while being read"):
        token_cache.token_text([path], read, {}, tiny_tokenizer, folder=tmp_path / "cache", progress=False)
    assert list((tmp_path / "cache").iterdir()) == [], "nothing stands there under the old content's name"


def test_many_starts_at_once(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")

    def start(_: int) -> str:
        words = [path], lambda: LINES, {}, copy.deepcopy(tiny_tokenizer)
        return token_cache.token_text(*words, folder=tmp_path / "cache", progress=False).key

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(start, range(24)))) == 1


def test_places_that_cannot_be_used(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    (tmp_path / "text.txt").write_text("the day")
    (tmp_path / "cache").write_text("a file where a folder was wanted")
    words = [tmp_path / "text.txt"], lambda: ["the day"], {}, tiny_tokenizer
    with pytest.raises(ArtifactError, match="--cache-dir"):
        token_cache.token_text(*words, folder=tmp_path / "cache", progress=False)
    with pytest.raises(DataError, match=r"none\.txt: cannot be read"):
        token_cache.token_text([tmp_path / "none.txt"], *words[1:], folder=tmp_path, progress=False)


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLOTPROMPT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("GLOTPROMPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "glotprompt"


def test_large_vocabularies_take_four_bytes(cached: Cached) -> None:
    names = {"bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "sep_token": "</s>"}
    names |= {"unk_token": "<unk>", "mask_token": "<mask>"}
    words = [*dict.fromkeys(names.values()), *(f"w{i}" for i in range(2**16))]
    model = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    large = PreTrainedTokenizerFast(tokenizer_object=model, **names)
    text = cached(["w0 w65535", "w1"], tokenizer=large)
    assert text.tokens.dtype.itemsize == 4
    assert text.line(0).tolist() == [5, 65540]
    assert cached(["the day"]).tokens.dtype.itemsize == 2


def test_another_process_was_faster(cached: Any, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Its cache is used, and stays where it may already be mapped."""
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    places: list[int] = []

    def read() -> Iterable[str]:
        yield from LINES
        other = cached()
        places.append((tmp_path / "cache" / other.key / "tokens").stat().st_ino)

    text = token_cache.token_text([path], read, {}, tiny_tokenizer, folder=tmp_path / "cache", progress=False)
    assert (tmp_path / "cache" / text.key / "tokens").stat().st_ino == places[0]
    assert len(list((tmp_path / "cache").iterdir())) == 2


# --- stage 1


@pytest.mark.parametrize("packing", ["none", "full"])
def test_stage_1_reads_it(cached: Cached, tiny_encoder: Tiny, packing: str, tmp_path: Path) -> None:
    """Stage 1 on a cached text gives what it gives on a list of the same sequences; twice the same."""
    encoder = tiny_encoder("xlm-roberta")
    runtime = QUIET.replace(allow_unknown=True)  # the numbers in the lines
    config = gp.AdaptConfig(
        steps=3, batch_size=4, max_length=12, prompt_length=4, packing=packing, source_share=0.5, held_out=0.1
    )
    text, source = cached(spoken(200)), spoken(30)
    corpus, held = masking_corpus(encoder, text, source, config)
    kept_lines, held_lines = text.split(0.1, 0, 12, packing)
    for sequences, lines in zip(held, halves(held_lines), strict=True):
        assert isinstance(lines, HeldOut)
        assert lists(sequences) == lists(lines.sequences(12, packing))
    all_target = {tuple(row) for row in lists(kept_lines.sequences(12, packing))}
    assert {tuple(row) for row in lists(corpus.target)} <= all_target
    assert len(corpus.target) == len(corpus.source), "subsampled to the smaller"
    found = [gp.adapt(encoder, given, source, "toy", config, runtime) for given in (text, cached())]
    assert (found[0].key_values == found[1].key_values).all()
    assert found[0].facts["target_lines"] == 200
    as_source = gp.adapt(encoder, spoken(40), text, "toy", config.replace(source_share=0.25), runtime)
    assert as_source.facts["source_lines"] == 200


def test_another_character_map_is_refused(cached: Cached, tiny_encoder: Tiny) -> None:
    characters = gp.CharacterMap.fitted({"k": "c"}, [])
    config = gp.AdaptConfig(steps=1, batch_size=2, max_length=12, prompt_length=2)
    with pytest.raises(gp.UserError, match="another character map"):
        gp.adapt(tiny_encoder("xlm-roberta"), cached(LINES), LINES, "toy", config, QUIET, characters=characters)


def test_one_line_is_too_little(cached: Cached, tiny_encoder: Tiny) -> None:
    with pytest.raises(DataError, match="at least two different"):
        masking_corpus(tiny_encoder("xlm-roberta"), cached(["the day"]), ["a"], gp.AdaptConfig(max_length=12))


# --- memory


READER = """
import json, resource, sys, time
from pathlib import Path
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from glotprompt.config import AdaptConfig
from glotprompt.data.files import iter_texts
from glotprompt.train.batches import MaskingCorpus
from glotprompt.train.token_cache import token_text

def anonymous():
    # Pages of the cache's files count as resident as long as nobody else wants the memory.
    words = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(words["RssAnon"].split()[0])

path, folder, batch, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
words = names + [f"w{i}" for i in range(1000)]
plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", cls_token="<s>", pad_token="<pad>",
    eos_token="</s>", sep_token="</s>", unk_token="<unk>", mask_token="<mask>")
import glotprompt.train.token_cache as cache
cache._BATCH = batch
tokenizer(["w1 w2"] * 100)
highest = 0
def read():
    global highest
    for number, text in enumerate(iter_texts(path)):
        if number % 1000 == 0:
            highest = max(highest, anonymous())
        yield text
for _ in range(times):
    before, highest, start = anonymous(), 0, time.monotonic()
    text = token_text([path], read, {}, tokenizer, folder=folder, progress=False)
    ready = time.monotonic() - start
    config = AdaptConfig(max_length=128, source_share=0.0)
    kept, held = text.split(config.held_out, 0, 128, "full")
    corpus = MaskingCorpus(kept.sequences(128, "full"), [], config, tokenizer)
    for step in range(20):
        corpus.batch(step)
    highest = max(highest, anonymous())
    print(json.dumps({"seconds": ready, "growth": highest - before, "texts": len(text), "held": len(held)}))
"""


def generated(path: Path, size: int) -> int:
    """A text of `size` bytes, and how many lines it has."""
    generator = np.random.default_rng(0)
    block = [" ".join(f"w{w}" for w in row) for row in generator.integers(0, 1000, (2000, 20))]
    lines = written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            data = "".join(f"w{lines % 997} {line}\n" for lines, line in enumerate(block, lines + 1))
            lines += len(block)
            written += file.write(data)
    return lines


def read_twice(tmp_path: Path, size: int, batch: int, processes: int) -> list[dict[str, Any]]:
    """What reading a text of `size` bytes took, first cold and then warm, in one process or one each."""
    num_lines = generated(tmp_path / "text.txt", size)
    words = [sys.executable, "-c", READER, tmp_path / "text.txt", tmp_path / "cache", str(batch), str(2 // processes)]
    found: list[dict[str, Any]] = []
    for _ in range(processes):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found += map(json.loads, done.stdout.splitlines())
    assert [row["texts"] for row in found] == [num_lines] * 2
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_constant_memory_in_small(tmp_path: Path) -> None:
    """2 MB of text in batches of 20 KB."""
    first, second = read_twice(tmp_path, 2_000_000, 20_000, 1)
    assert first["growth"] < 20e6, "the whole text at once takes 49 MB"
    assert second["growth"] < 6e6


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_gigabyte(tmp_path: Path) -> None:
    first, second = read_twice(tmp_path, 1_000_000_000, 2**20, 2)
    print(first, second)
    assert first["growth"] < 200e6, "a fraction of the text"
    assert second["growth"] < 100e6
    assert second["seconds"] < 3
