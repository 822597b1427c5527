"""Are translations spelt like the text that is classified? The share of the words of Taxi1500's verses that occur in
the target side of the pairs, without the scored verses, in per cent.

For Wixárika and Bribri also with the pairs rewritten to the spelling of their Bibles. These pairs are written, as two
plain text files by language, where `grid` can read them:

    python benchmarks/spelling.py --data-dir DIR --output pairs
    glotprompt grid experiments/helps_unseen.toml --set name=helps_respelt --set 'targets=["hch"]' \
        --set 'pairs={hch=["PATH/hch.es.txt", "PATH/hch.txt"]}'
"""

from __future__ import annotations

import argparse
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from glotprompt.data.datasets.americas import AMERICASNLP2021
from glotprompt.data.datasets.bitext import BIBLE_VERSES
from glotprompt.data.datasets.topics import TAXI1500
from glotprompt.data.pairs import check_pairs, shared_words
from glotprompt.data.readers.records import Pair

PAIRS = (
    *((BIBLE_VERSES, code) for code in ("glv", "cni", "quc")),
    *((AMERICASNLP2021, code) for code in ("cni", "shp", "tar", "bzd", "hch")),
)


def wixarika(text: str) -> str:
    """With ü, v, c and qu for the +, w and k of AmericasNLP."""
    for old, new in (("+", "ü"), ("w", "v"), ("W", "V")):
        text = text.replace(old, new)
    text = re.sub("k(?=[ei])", "qu", re.sub("K(?=[ei])", "Qu", text))
    return text.replace("k", "c").replace("K", "C")


def bribri(text: str) -> str:
    """With a line under nasal vowels, where AmericasNLP has a tilde, or q or x behind them."""
    text = unicodedata.normalize("NFD", text).replace("\u0303", "\u0331")
    text = text.replace("n\u0331", "ñ").replace("N\u0331", "Ñ")
    return unicodedata.normalize("NFC", re.sub("(?<=[aeiouAEIOU\u0300\u0301\u0308\u0331])[qx]", "\u0331", text))


RESPELT: dict[str, Callable[[str], str]] = {"hch": wixarika, "bzd": bribri}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="default: the variable GLOTPROMPT_DATA")
    parser.add_argument("--output", type=Path, help="folder for the rewritten pairs")
    options = parser.parse_args(arguments)
    for data, code in PAIRS:
        scored = [
            one
            for split in TAXI1500.splits
            for one in TAXI1500.examples(code, split, options.data_dir, on_bad_row="skip")
        ]
        texts = [one.fields["text"] for one in scored]
        candidates, ids = data.pairs(code, "train", options.data_dir), {one.id for one in scored}
        pairs = check_pairs(candidates, {"verses": texts}, ids).pairs
        print(
            f"{code} {data.name} {len(pairs):,} pairs: {shared_words((pair.target for pair in pairs), texts):.1f}",
            flush=True,
        )
        if code not in RESPELT:
            continue
        respelt = [Pair(pair.source, RESPELT[code](pair.target)) for pair in candidates]
        print(f"{code} rewritten: {shared_words((pair.target for pair in respelt), texts):.1f}", flush=True)
        if options.output is not None:  # `grid` checks them as it does all pairs
            options.output.mkdir(parents=True, exist_ok=True)
            for name, side in ((f"{code}.es.txt", "source"), (f"{code}.txt", "target")):
                lines = [getattr(pair, side) for pair in respelt]
                (options.output / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
