"""Makes the tests' tokenizer, in XLM-R's layout, and a text in a language that nobody speaks.

    python tests/assets/make_tokenizer.py

reads english.txt (ours), writes invented.txt and tokenizer/. The trainer does not give the same pieces twice: after
running it, expect other numbers wherever a test pins one.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent
NUM_LEARNED = 400
LABEL_WORDS = (
    "Yes No Maybe Business Health Sports Politics Culture Science business health sports politics culture science"
    " good bad great terrible"
)
"""Kept whole, so that tests have single-token label words."""
CONSONANTS = ("b", "ch", "d", "f", "g", "k", "kw", "l", "m", "mb", "n", "nd", "ng", "p", "s", "t", "tw", "w", "z")
VOWELS = "aeiou"


def invented_word(word: str) -> str:
    """Some syllables, always the same for one word; short words stay short."""
    digest = hashlib.sha256(word.lower().encode()).digest()
    syllables = [
        CONSONANTS[a % len(CONSONANTS)] + VOWELS[b % 5] for a, b in zip(digest[::2], digest[1::2], strict=True)
    ]
    made = "".join(syllables[: 1 + len(word) // 3])
    return made.capitalize() if word[0].isupper() else made


def train(lines: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=NUM_LEARNED, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    described = json.loads(tokenizer.to_str())
    pieces = described["model"]["vocab"]
    known = {piece for piece, _ in pieces}
    pieces += [[f"▁{word}", -6.0] for word in LABEL_WORDS.split() if f"▁{word}" not in known]
    pieces.append(["<mask>", 0.0])
    tokenizer = Tokenizer.from_str(json.dumps(described))
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def main() -> None:
    english = (HERE / "english.txt").read_text(encoding="utf-8").splitlines()
    invented = [re.sub(r"\w+", lambda match: invented_word(match[0]), line) for line in english]
    (HERE / "invented.txt").write_text("\n".join(invented) + "\n", encoding="utf-8")
    folder = HERE / "tokenizer"
    folder.mkdir(exist_ok=True)
    train(english + invented).save(str(folder / "tokenizer.json"))
    settings = {
        "backend": "tokenizers",
        "tokenizer_class": "TokenizersBackend",
        "model_max_length": 512,
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
