"""The demo in a terminal and in a pipe."""

from __future__ import annotations

import io

from rich.console import Console

from glotprompt.demo.result import DemoResult
from glotprompt.demo.terminal import print_demo

from .invented import bare_results


def printed(result: DemoResult, width: int = 80) -> str:
    """What goes into a pipe."""
    console = Console(file=io.StringIO(), width=width)
    print_demo(result, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_piped_output_is_plain_and_complete(result: DemoResult) -> None:
    text = printed(result)
    assert "\x1b" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for shown in (
        "An invented conclusion.",
        "before   x 50 %",
        "after   y 30 %   ▁c ✓ 25 %",
        "a b [c] d",
        "51.0 ± 1.4 [46, 56]",
        "500 pairs trained on, 77 held out",
        "! Prefix tuning, no adaptation, seed 0, collapsed: 97 %",
        "1,234",
        "p.safetensors",
        "  glotprompt predict [TEXT]",
    ):
        assert shown in text, shown


def test_commands_are_never_folded(result: DemoResult) -> None:
    command = "glotprompt predict --classifier c.safetensors " + "word " * 30
    result = result.replace(saved=result.saved.replace(commands=[command]))
    assert command.rstrip() in printed(result)


def test_markup_in_texts_is_printed_as_it_is(result: DemoResult) -> None:
    conclusion = ["[bold red]not a style[/bold red] [/]"]
    assert conclusion[0] in printed(result.replace(conclusion=conclusion))


def test_bare_results_can_be_printed() -> None:
    for bare in bare_results():
        text = printed(bare)
        assert "–" not in text
        assert "-" in text.split()
        assert "None" not in text
