"""MasakhaNEWS: news topics in 16 languages (Adelani et al. 2023), and what of its articles stage 1 may read.

The published splits share documents (of Igbo's 390 test articles, 21 are in its training split), and a headline that is
scored must not have been read before. `topics` reads the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from glotprompt.data.readers.lines import is_blank
from glotprompt.data.readers.normalise import letters

LABELS = ("business", "entertainment", "health", "politics", "religion", "sports", "technology")
"""All labels. A language may have fewer: Lingala and Shona have four, Oromo has no business."""

LANGUAGES = tuple("amh eng fra hau ibo lin lug orm pcm run sna som swa tir xho yor".split())
"""ISO 639-3 codes, which are also the folder names."""


@dataclass(frozen=True, slots=True)
class Article:
    """One article."""

    category: str
    """Label, one of `LABELS`."""

    headline: str
    text: str
    """Body; paragraphs, where the publisher kept them, are separated by newlines."""


def articles_text(articles: Iterable[Article]) -> list[str]:
    """Articles as unlabelled text: each headline, then the paragraphs of its text, one string each."""
    texts: list[str] = []
    for article in articles:
        paragraphs = [line.strip() for line in article.text.split("\n") if not is_blank(line)]
        headline = article.headline.strip()
        if not is_blank(headline) and paragraphs[:1] != [headline]:
            texts.append(headline)
        texts.extend(paragraph for paragraph in paragraphs if letters(paragraph))
    return texts


def without_held_out(articles: Sequence[Article], held_out: Iterable[Article]) -> list[Article]:
    """Articles whose headline and text do not occur in `held_out` (comparing letters and digits, ignoring case)."""
    held_out_keys = {key for article in held_out for key in _keys(article)}
    return [article for article in articles if held_out_keys.isdisjoint(_keys(article))]


def stage_1_text(
    where: str, train: Sequence[Article], held_out: Iterable[Article], report: Callable[[str], None] | None = None
) -> list[str]:
    """Text of the training articles without those in `held_out`; `where` names them in the report."""
    articles = without_held_out(train, held_out)
    if report is not None and len(articles) < len(train):
        report(
            f"{where}: {len(train) - len(articles)} of {len(train)} training articles left out of stage 1 "
            "because its dev or test split repeats their headline or text"
        )
    return articles_text(articles)


def _keys(article: Article) -> set[str]:
    # Without letters there is no identity: the text of several quiz pages is ".".
    return {key for key in (letters(article.headline), letters(article.text)) if key}
