"""Names of settings in the library's messages for the browser, where the page has fields instead of options."""

from __future__ import annotations

IN_BROWSER = "GLOTPROMPT_IN_BROWSER"
"""The environment variable of commands that the page started."""
_ON_THE_PAGE = {
    "minutes": "“Minutes at most”", "steps": "“Steps of learning the language”", "target": "“Texts in your language”",
    "target_labels": "“A few labelled texts in your language”", "parallel": "“Translations”",
    "source": "“Labelled texts in another language”", "task": "“What the labels are about”",
    "language": "“Your language”", "characters": "a character map (only on the command line)",
}  # fmt: skip


def in_browser(name: str, value: str | None) -> str:
    """The page's name of a setting; one that the page lacks is marked as available on the command line."""
    setting = name.replace("_", " ") if value is None else f"{name.replace('_', ' ')} {value}"
    return _ON_THE_PAGE.get(name, f"{setting} (only on the command line)")
