"""`convert`: between our files and the folders of PEFT's prefix tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glotprompt.cli import options
from glotprompt.cli.screen import check_output, note, suggest, wrote

app = typer.Typer(
    help="Exchange language prompts with PEFT (prefix tuning).",
    no_args_is_help=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.command("to-peft")
def to_peft(
    prompt: Annotated[Path, typer.Argument(metavar="PROMPT", help="The language prompt, as adapt wrote it.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The adapter folder to write.")],
    allow_plain: Annotated[
        bool,
        typer.Option(
            "--allow-plain",
            help="Also convert a prompt with plain positions, which PEFT will run with shifted ones: figures differ.",
        ),
    ] = False,
) -> None:
    """Write a language prompt as a PEFT adapter folder."""
    from glotprompt import peft_format
    from glotprompt.classifier import LanguagePrompt

    peft_format.to_peft(LanguagePrompt.load(prompt), folder, allow_plain=allow_plain)
    note(f"wrote {folder} (PEFT adapter)")
    note(f"next, in Python: peft.PeftModel.from_pretrained(model, {str(folder)!r})")


@app.command("from-peft")
def from_peft(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The adapter folder that PEFT wrote.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The language prompt to write.")],
    language: Annotated[str, typer.Option(metavar="CODE", help="ISO 639-3 code of the prompt's language.")],
    model: options.Model,
    device: options.Device = "auto",
) -> None:
    """Read a PEFT adapter folder as a language prompt for its backbone."""
    from glotprompt import peft_format
    from glotprompt.cli.backbone import open_encoder

    check_output(output, "OUTPUT")
    prompt = peft_format.from_peft(folder, open_encoder(model, "fp32", device), language)
    prompt.save(output)
    wrote(output, "language prompt")
    suggest("tune", "--prompt", output, "--train", "LABELLED.tsv", "--task", "news", "--output", "news.safetensors")
