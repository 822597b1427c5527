"""`backbones` and `embed`: which frozen models there are inside the package, and the sentence vectors of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glotprompt.cli import options
from glotprompt.cli.screen import console, table, wrote
from glotprompt.errors import ConfigError


def backbones() -> None:
    """List the bundled backbones, what each is for, and which others can be loaded."""
    from glotprompt.model.backbones import BUNDLED, WORKING
    from glotprompt.model.shapes import BUILT_IN, Shell

    listed = table(["backbone", "layers", "parameters", "for"], left=1)
    listed.columns[3].justify = "left"
    for name, bundled in BUNDLED.items():
        shell = Shell.named(name)
        listed.add_row(name, str(shell.num_layers), f"{shell.num_values / 1e6:.1f} M", bundled.purpose)
    out = console()
    out.print(listed)
    out.print()
    out.print("Others load by folder, GGUF files (a.gguf,b.gguf beside config.json and tokenizer.json) or hub name:")
    out.print(f"{WORKING}; sentence encoders of these families, too. Counted by `glotprompt methods` without weights:")
    out.print(", ".join(BUILT_IN))


def embed(
    ctx: typer.Context,
    input: Annotated[list[str], typer.Option("--input", metavar="FILE", help="Texts, one per line, or a table.")],
    output: Annotated[
        Path,
        typer.Option("--output", help="The vectors: NumPy, float32.", **options.to_write("FILE.npy")),
    ],
    model: options.ModelToEmbed = None,
    prompt: options.Prompt = None,
    layer: Annotated[
        int | None, typer.Option(min=0, help="The states behind so many layers; 0: the embeddings. Default: all.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=3, help="Tokens per text. Default: what the backbone reads.")
    ] = None,
    text_column: options.TextColumn = None,
    data_dir: options.DataDir = None,
    revision: options.Revision = None,
    read: options.Read = None,
    on_bad_row: options.OnBadRow = "error",
    normalise: options.Normalise = False,
    precision: options.Precision = "fp32",
    device: options.Device = "auto",
    batch_size: options.ScoringBatchSize = 32,
) -> None:
    """Write the sentence vectors of texts, mean-pooled states [text, hidden] in float32, as a NumPy file."""
    import numpy as np

    from glotprompt import atomic
    from glotprompt.cli.backbone import open_start
    from glotprompt.cli.files import check_reading, how_to_read
    from glotprompt.data.sources import texts_of
    from glotprompt.model.backbones import MINI_SENTENCE

    if output.suffix != ".npy":
        raise ConfigError(f"--output {output}: NumPy's files end in .npy; give {output.stem}.npy")
    how = how_to_read(ctx.params)
    check_reading(ctx.params, input)
    texts = texts_of(input, how)
    adapted, encoder = open_start(prompt, model or (None if prompt else MINI_SENTENCE), precision, device)
    if adapted is not None and adapted.characters is not None:
        texts = [adapted.characters.apply(text) for text in texts]
    vectors = encoder.embed(texts, adapted, layer, max_length=max_length, batch_size=batch_size)

    def onto_disk(beside: Path) -> None:
        with beside.open("wb") as file:  # by its name alone, NumPy would add an ending
            np.save(file, vectors)

    atomic.write(output, onto_disk)
    wrote(output, f"{vectors.shape[0]:,} vectors of {vectors.shape[1]}")
