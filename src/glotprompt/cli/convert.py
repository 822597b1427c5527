"""`convert`: between our files, the folders of PEFT's prefix tuning and of AdapterHub; a backbone as transformers'."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glotprompt.cli import options
from glotprompt.cli.screen import note, suggest, wrote

app = typer.Typer(
    help="Exchange language prompts with PEFT (prefix tuning) and MAD-X adapters with AdapterHub; write backbones for "
    "transformers.",
    no_args_is_help=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.command("to-transformers")
def to_transformers(
    output: Annotated[Path, typer.Option("--output", metavar="FOLDER", help="The folder to write.")],
    model: options.Model = "mini",
) -> None:
    """Write a backbone as a folder that transformers opens: weights in fp32, config and tokenizer."""
    from glotprompt import atomic
    from glotprompt.cli.backbone import open_encoder
    from glotprompt.errors import UserError

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output {output} is there already and not an empty folder; give a new one")
    encoder = open_encoder(model, "fp32", "cpu")
    atomic.write_folder(output, encoder.save_pretrained)
    kind = "AutoModelForMaskedLM" if encoder.has_lm_head else "AutoModel"
    note(f"wrote {output} (transformers: {kind} and AutoTokenizer open it)")


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
    output: Annotated[Path, typer.Argument(help="The language prompt to write.", **options.to_write("OUTPUT"))],
    language: Annotated[str, typer.Option(metavar="CODE", help="ISO 639-3 code of the prompt's language.")],
    model: options.Model,
    device: options.Device = "auto",
) -> None:
    """Read a PEFT adapter folder as a language prompt for its backbone."""
    from glotprompt import peft_format
    from glotprompt.cli.backbone import open_encoder
    from glotprompt.data.languages import checked_code

    checked_code(language)
    prompt = peft_format.from_peft(folder, open_encoder(model, "fp32", device), language)
    prompt.save(output)
    wrote(output, "language prompt")
    suggest("tune", "--prompt", output, "--train", "LABELLED.tsv", "--task", "news", "--output", "news.safetensors")


@app.command("to-adapter-hub")
def to_adapter_hub(
    module: Annotated[Path, typer.Argument(metavar="MODULE", help="What adapt --method mad-x wrote.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The adapter folder to write.")],
    model: options.ModelPlace = None,
    source: Annotated[
        bool, typer.Option("--source", help="Write the source language's adapter instead of the target's.")
    ] = False,
    device: options.Device = "auto",
) -> None:
    """Write a MAD-X language adapter as an AdapterHub folder."""
    from glotprompt.classifier import LanguageModule
    from glotprompt.cli.backbone import open_start
    from glotprompt.errors import ArtifactError
    from glotprompt.model import adapter_hub
    from glotprompt.model.adapters import Adapter

    loaded, encoder = open_start(module, model, "fp32", device)
    part = "source" if source else "language"
    adapter = (
        loaded.parts[part].restored(encoder) if isinstance(loaded, LanguageModule) and part in loaded.parts else None
    )
    if not isinstance(adapter, Adapter):
        raise ArtifactError(f"{module} holds no adapter alone; expected what adapt --method mad-x wrote")
    assert loaded is not None
    adapter_hub.to_adapter_hub(adapter, encoder, folder, "source" if source else loaded.language)
    note(f"wrote {folder} (AdapterHub adapter)")


@app.command("from-adapter-hub")
def from_adapter_hub(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Folder of the target language's adapter.")],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder of the source language's adapter.")],
    output: Annotated[Path, typer.Argument(help="The language module to write.", **options.to_write("OUTPUT"))],
    language: Annotated[str, typer.Option(metavar="CODE", help="ISO 639-3 code of the target language.")],
    model: options.Model,
    device: options.Device = "auto",
) -> None:
    """Read the two language adapters that MAD-X needs from AdapterHub folders, as if adapt had made them."""
    from glotprompt.classifier import LanguageModule, Part
    from glotprompt.cli.backbone import open_encoder
    from glotprompt.model import adapter_hub
    from glotprompt.records import Converted

    encoder = open_encoder(model, "fp32", device)
    folders = {"language": target, "source": source}
    for folder in folders.values():
        if adapter_hub.has_head(folder):
            note(f"{folder} also holds a prediction head, which is left aside: words are predicted by the model's own")
        named = adapter_hub.made_for(folder)
        if named and named.split("/")[-1] != encoder.name.split("/")[-1]:
            note(f"note: {folder} was made for {named}, not for {encoder.name}; on other weights it is worth nothing")
    parts = {name: Part.of(adapter_hub.from_adapter_hub(folder, encoder)) for name, folder in folders.items()}
    backbone = {"name": encoder.name, "fingerprint": encoder.fingerprint}
    origin = {name: str(folder) for name, folder in folders.items()}
    report = Converted(converted_from="AdapterHub", origin=origin)
    LanguageModule("mad-x", parts, language, backbone, report).save(output)
    wrote(output, "language module")
    suggest("tune", "--prompt", output, "--train", "LABELLED.tsv", "--task", "news", "--output", "news.safetensors")
