"""MasakhaNEWS: news topics in 16 languages (Adelani et al. 2023), and what of its articles stage 1 may read.

The published splits share documents (of Igbo's 390 test articles, 21 are in its training split), and a headline that is
scored must not have been read before. `topics` reads the files.
"""

from __future__ import annotations

from collections.abc import Sequence

from glotprompt.data.datasets.dataset import without_held_out
from glotprompt.data.readers.layout import Record, Report
from glotprompt.data.readers.lines import is_blank
from glotprompt.data.readers.normalise import letters

LABELS = ("business", "entertainment", "health", "politics", "religion", "sports", "technology")
"""All labels. A language may have fewer: Lingala and Shona have four, Oromo has no business."""

LANGUAGES = tuple("amh eng fra hau ibo lin lug orm pcm run sna som swa tir xho yor".split())
"""ISO 639-3 codes, which are also the folder names."""


def article_texts(where: str, train: Sequence[Record], held_out: Sequence[Record], report: Report | None) -> list[str]:
    """Texts of the training articles of which none in `held_out` has the headline or the body: each headline, then its
    paragraphs, one string each. `where` names them in the report."""
    articles = without_held_out(train, held_out)
    if report is not None and len(articles) < len(train):
        report(
            f"{where}: {len(train) - len(articles)} of {len(train)} training articles left out of stage 1 "
            "because its dev or test split repeats their headline or text"
        )
    texts: list[str] = []
    for article in articles:
        headline = article.example.fields["text"].strip()
        paragraphs = [line.strip() for body in article.unread for line in body.split("\n") if not is_blank(line)]
        if not is_blank(headline) and paragraphs[:1] != [headline]:
            texts.append(headline)
        texts.extend(paragraph for paragraph in paragraphs if letters(paragraph))
    return texts
