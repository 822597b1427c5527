"""Unknown characters: share of unknown tokens and held-out loss of a short stage 1, with and without a character map.

    python experiments/map_characters.py NAME:TARGET.txt [NAME:TARGET.txt ...] --source SOURCE.txt --output map.json

For every target: as it is, by the automatic map, and by the map that always takes the nearest spelling (which may stand
in the text already). All are judged on the same held-out lines. Losses per token over different tokenisations are not
comparable, so the loss is also given per character and per line of the original text: every held-out token is masked
once (in `ROUNDS` rounds of 1 / `ROUNDS` of the tokens), and the losses summed. An unknown token counts there as a
vocabulary entry like any other: guessing that something unknown stands here is cheap, and says nothing of what it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import glotprompt as gp
from glotprompt.data.characters import CharacterMap, nearest_known
from glotprompt.data.records import split_held_out
from glotprompt.model.encoder import Encoder
from glotprompt.model.tokens import SpecialIds, by_length, pad
from glotprompt.train.batches import MaskedBatch, token_sequences
from glotprompt.train.characters import knows, map_to_known, unknown_tokens
from glotprompt.train.scoring import score_masked_words

ROUNDS = 7
SETTINGS = gp.AdaptConfig(steps=60, batch_size=16, max_length=64, learning_rate=4e-2, eval_every=30, seed=0)
RUNTIME = gp.RuntimeConfig(progress=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="+", metavar="NAME:FILE")
    parser.add_argument("--source", required=True)
    parser.add_argument("--output", type=Path, required=True)
    words = parser.parse_args()
    encoder = Encoder.load("mini", precision="fp32", device="cpu")
    source = gp.read_texts(words.source)
    rows: list[dict[str, object]] = []
    for target in words.targets:
        name, _, path = target.partition(":")
        lines = gp.read_texts(path)
        found = map_to_known(lines, encoder.tokenizer)
        maps: dict[str, CharacterMap | None] = {"as it is": None}
        if found.rewritings:
            maps |= {"reversible": found, "nearest": nearest(found, lines, encoder)}
        for kind, characters in maps.items():
            rows.append({"target": name, "map": kind, **measured(encoder, lines, source, name, characters)})
            print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    words.output.write_text(json.dumps(rows, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def nearest(found: CharacterMap, lines: list[str], encoder: Encoder) -> CharacterMap:
    """The nearest known spelling of every character, free or not: what the automatic map takes on an empty text."""
    alone = nearest_known([entry.character for entry in found.rewritings], knows(encoder.tokenizer))
    return CharacterMap.fitted({entry.character: entry.spelling for entry in alone.rewritings}, lines)


def measured(
    encoder: Encoder, lines: list[str], source: list[str], name: str, characters: CharacterMap | None
) -> dict[str, object]:
    """Unknown tokens of all lines; losses of the model alone and behind a short stage 1 on the held-out ones."""
    _, held = split_held_out(lines, SETTINGS.held_out, SETTINGS.seed)
    seen = lines if characters is None else [characters.apply(line) for line in lines]
    seen_held = held if characters is None else [characters.apply(line) for line in held]
    unknown, count = unknown_tokens(seen, encoder.tokenizer)
    prompt = gp.adapt(encoder, lines, source, name, SETTINGS, RUNTIME, characters=characters)
    assert isinstance(prompt, gp.LanguagePrompt)
    batches = every_token_once(encoder, seen_held)
    row: dict[str, object] = {
        "rewritings": [] if characters is None else characters.to_dict()["rewritings"],
        "lines": len(lines), "held_out_lines": len(held), "held_out_characters": sum(map(len, held)),
        "tokens": count, "unknown_tokens": unknown, "unknown_percent": round(100 * unknown / count, 4),
        "loss_before": prompt.facts["held_out_before"]["loss"], "loss_after": prompt.facts["held_out_after"]["loss"],
    }  # fmt: skip
    for when, prefix in (("before", None), ("after", prompt.prefix(encoder))):
        scores = score_masked_words(encoder, batches, prefix)
        total = scores.loss * scores.num_masked
        row |= {
            f"per_token_{when}": round(scores.loss, 4),
            f"per_character_{when}": round(total / sum(map(len, held)), 4),
            f"per_line_{when}": round(total / len(held), 3),
        }
    return row


def every_token_once(encoder: Encoder, lines: list[str]) -> list[MaskedBatch]:
    """Lines in which, over `ROUNDS` rounds, every token is masked exactly once. Which round is drawn by seed."""
    ids = SpecialIds.of(encoder.tokenizer)
    sequences = token_sequences(lines, encoder.tokenizer, 256, "none")
    generator = np.random.default_rng(0)
    batches: list[MaskedBatch] = []
    for rows in by_length(sequences, 32):
        tokens, attention = pad([sequences[i] for i in rows], ids.pad)
        turn = generator.integers(0, ROUNDS, tokens.shape)
        for number in range(ROUNDS):
            chosen = np.flatnonzero((turn == number) & ~np.isin(tokens, ids.all))
            masked = tokens.copy()
            masked.reshape(-1)[chosen] = ids.mask
            mask = None if attention is None else torch.from_numpy(attention)
            parts = torch.from_numpy(chosen), torch.from_numpy(tokens.reshape(-1)[chosen])
            batches.append(MaskedBatch(torch.from_numpy(masked), mask, *parts))
    return batches


if __name__ == "__main__":
    main()
