"""The table of docs/doctor.md: what the doctor says of eighteen languages, as Markdown on standard output.

    python experiments/doctor_table.py --data-dir DIR

DIR holds americasnlp2021/ and masakhanews/, as published. Nothing is trained or timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from glotprompt.config import AdaptConfig, preset
from glotprompt.data import masakhanews
from glotprompt.data.files import read_texts
from glotprompt.doctor import examine

NEWS = ("ibo", "lin", "lug", "pcm", "run", "sna", "tir", "yor")
HEADINGS = (
    "language", "lines", "repeated", "script", "words", "sub-words per word", "unknown tokens", "words touched",
    "lines in another language", "on mini", "verdict", "because of",
)  # fmt: skip


def texts_of(data_dir: Path) -> Iterator[tuple[str, list[str]]]:
    """Language code -> its unlabelled text: AmericasNLP's training text, MasakhaNEWS's training articles."""
    for path in sorted(data_dir.glob("americasnlp2021/*/train.*"), key=lambda path: path.suffix):
        if path.suffix != ".es":
            yield path.suffix[1:], read_texts(path)
    for code in NEWS:
        yield code, masakhanews.unlabelled(data_dir, code)


def row(code: str, texts: list[str]) -> list[str]:
    """The cells of one language."""
    found = examine("mini", texts, language=code, adapt=AdaptConfig(**preset("quick", "adapt")), probe_seconds=0)
    text = found.text
    foreign = ", ".join(f"{name} {count}" for name, count in text.foreign.items() if count > 1)
    care = ", ".join(finding.name for finding in found.findings if finding.level != "ok")
    read = "not known" if found.exposure is None else found.exposure.verdict
    return [
        code, f"{text.num_lines:,}", f"{100 * text.duplicate_share:.1f} %", next(iter(text.scripts)).capitalize(),
        f"{text.num_words:,}", f"{text.pieces_per_word:.2f}", f"{100 * text.unknown_share:.2f} %",
        f"{100 * text.touched_share:.2f} %", foreign or "-", read, found.verdict, care or "-",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="What the doctor says of eighteen languages that XLM-R has not read.")
    parser.add_argument("--data-dir", type=Path, required=True, metavar="DIR")
    print("|", " | ".join(HEADINGS), "|")
    print("|---" * len(HEADINGS) + "|")
    for code, texts in texts_of(parser.parse_args().data_dir):
        print("|", " | ".join(row(code, texts)), "|", flush=True)


if __name__ == "__main__":
    main()
