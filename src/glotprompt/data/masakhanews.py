"""MasakhaNEWS: news topics in 16 languages (Adelani et al. 2023), read from the publisher's own files.

The layout is `<data_dir>/masakhanews/<language>/{train,dev,test}.tsv` with the columns category, headline, text and
url; cells are quoted by csv's rules and hold newlines and tabs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from glotprompt.data.lines import is_blank
from glotprompt.data.normalise import letters
from glotprompt.data.records import Example
from glotprompt.data.tables import ReadOptions, read_table
from glotprompt.errors import DataError, nearest

Split = Literal["train", "dev", "test"]

LABELS = ("business", "entertainment", "health", "politics", "religion", "sports", "technology")
"""All labels. No language needs to have all: Lingala and Shona have four, Oromo has no business."""

LANGUAGES = tuple("amh eng fra hau ibo lin lug orm pcm run sna som swa tir xho yor".split())
"""ISO 639-3 codes, which are also the folders' names."""


@dataclass(frozen=True, slots=True)
class Article:
    """One article."""

    category: str
    """Its label, one of `LABELS`."""

    headline: str
    text: str
    """The body; paragraphs, where the publisher kept them, are separated by newlines."""


def load(data_dir: str | Path, language: str, split: Split) -> list[Article]:
    """The articles of one split, all of them and in the file's order (duplicates are the publisher's)."""
    if language not in LANGUAGES:
        raise DataError(
            f"MasakhaNEWS has no language {language!r}.{nearest(language, LANGUAGES)} It has: {', '.join(LANGUAGES)}."
        )
    if split not in get_args(Split):
        hint = nearest(split, get_args(Split))
        raise DataError(f"MasakhaNEWS has no split {split!r}.{hint} It has: train, dev, test.")
    path = Path(data_dir) / "masakhanews" / language / f"{split}.tsv"
    if not path.is_file():
        raise DataError(
            f"{path}: no such file. Expected the publisher's layout, <data dir>/masakhanews/<language>/{{train,dev,"
            "test}.tsv; get it from https://github.com/masakhane-io/masakhane-news (its folder data/)."
        )
    table = read_table(path, ReadOptions())
    for column in ("category", "headline", "text"):
        table.require(column, column)
    articles: list[Article] = []
    for row in table.rows:
        category, headline, text = (str(row.values[column]) for column in ("category", "headline", "text"))
        if category not in LABELS:
            raise DataError(
                f"{path}, line {row.line}: the category {category!r} is unknown.{nearest(category, LABELS)} "
                f"Expected one of {', '.join(LABELS)}; mend the file or fetch it again."
            )
        articles.append(Article(category, headline, text))
    return articles


def headlines(articles: Iterable[Article]) -> list[Example]:
    """The classification task: the headline as text, the category as label, the row's number (from 1) as id."""
    return [Example.of(article.headline, article.category, str(row)) for row, article in enumerate(articles, 1)]


def articles_text(articles: Iterable[Article]) -> list[str]:
    """The articles as unlabelled text: each headline, then the paragraphs of its text, one string each."""
    texts: list[str] = []
    for article in articles:
        paragraphs = [line.strip() for line in article.text.split("\n") if not is_blank(line)]
        headline = article.headline.strip()
        if not is_blank(headline) and paragraphs[:1] != [headline]:
            texts.append(headline)
        texts.extend(paragraph for paragraph in paragraphs if letters(paragraph))
    return texts


def without_held_out(articles: Sequence[Article], held_out: Iterable[Article]) -> list[Article]:
    """The articles of which neither headline nor text occurs in `held_out` (letters and digits compared, not case)."""
    seen = {key for article in held_out for key in _keys(article)}
    return [article for article in articles if seen.isdisjoint(_keys(article))]


def unlabelled(data_dir: str | Path, language: str, report: Callable[[str], None] | None = None) -> list[str]:
    """A language's text for stage 1: its training articles, without those that its dev or test split repeats.

    The published splits share documents (of Igbo's 390 test articles, 21 are in its training split), and a headline
    that is scored must not have been read before. `report` is told how many articles were left out.
    """
    train, dev, test = (load(data_dir, language, split) for split in get_args(Split))
    return stage_1_text(f"masakhanews {language}", train, [*dev, *test], report)


def stage_1_text(
    where: str, train: Sequence[Article], held_out: Iterable[Article], report: Callable[[str], None] | None = None
) -> list[str]:
    """The text of the training articles that `held_out` does not repeat; `where` is what `report` calls them."""
    kept = without_held_out(train, held_out)
    if report is not None and len(kept) < len(train):
        report(
            f"{where}: {len(train) - len(kept)} of {len(train)} training articles left out of stage 1 "
            "because its dev or test split repeats their headline or text"
        )
    return articles_text(kept)


def _keys(article: Article) -> set[str]:
    # Without letters there is no identity: the text of several quiz pages is ".".
    return {key for key in (letters(article.headline), letters(article.text)) if key}
