"""Toy text and a toy task: what a model with random weights can be led to in a few steps."""

from __future__ import annotations

import glotprompt as gp

TASK = gp.Task("topic", "{mask} : {text}", {"health": ["Health", "health"], "sports": "Sports", "culture": "Culture"})
TOY = ["the king " * (i % 7 + 1) + "water " * (i // 7) for i in range(35)]
"""A language of three words."""
SOURCE = [f"{line}day" for line in TOY[:30]]
_WORDS = {"the": "play", "king": "night", "water": "field"}
TRANSLATIONS = [(" ".join(_WORDS[word] for word in line.split()), line) for line in TOY]
"""(source, target): the toy language word by word in other words."""
QUIET = gp.RuntimeConfig(progress=False)


def topics(count: int = 12) -> list[gp.Example]:
    """Toy sentences whose first words give the label away."""
    words = {"health": "water day", "sports": "play field", "culture": "king night"}
    return [
        gp.Example.of(f"{words[label]} {'the ' * (i % 5)}kilimba {'twidi ' * (i % 3)}{i}", label)
        for i in range(count)
        for label in words
    ]
