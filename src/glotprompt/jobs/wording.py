"""What the library's messages call settings in the browser: what stands on the page in the place of options."""

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
    """How the page names a setting. Of what it has not, that a command line has it."""
    setting = name.replace("_", " ") if value is None else f"{name.replace('_', ' ')} {value}"
    return _ON_THE_PAGE.get(name, f"{setting} (only on the command line)")
