"""`backbones` and `embed`: which frozen models there are inside the package, and the sentence vectors of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from glotprompt.cli.backbone import open_start
from glotprompt.cli.declare import Params
from glotprompt.cli.files import check_reading, how_to_read
from glotprompt.cli.tables import console, table, wrote
from glotprompt.data.sources import texts_of
from glotprompt.errors import ConfigError
from glotprompt.model.loading import BUNDLED, MINI_SENTENCE, WORKING
from glotprompt.model.shapes import BUILT_IN, Shell
from glotprompt.storage import atomic


def backbones(params: Params) -> None:
    """List the backbones."""
    listing = table(["backbone", "layers", "parameters", "for"], left=1)
    listing.columns[3].justify = "left"
    for name, bundled in BUNDLED.items():
        shell = Shell.named(name)
        listing.add_row(name, str(shell.num_layers), f"{shell.num_parameters / 1e6:.1f} M", bundled.purpose)
    out = console()
    out.print(listing)
    out.print()
    out.print("Others load by folder, GGUF files (a.gguf,b.gguf beside config.json and tokenizer.json) or hub name:")
    out.print(f"{WORKING}; sentence encoders of these families, too. Counted by `glotprompt methods` without weights:")
    out.print(", ".join(BUILT_IN))


def embed(params: Params) -> None:
    """Write sentence vectors."""
    output, prompt = params["output"], params["prompt"]
    if output.suffix != ".npy":
        raise ConfigError(f"--output {output}: NumPy's files end in .npy; give {output.stem}.npy")
    check_reading(params, params["input"])
    texts = texts_of(params["input"], how_to_read(params))
    model = params["model"] or (None if prompt else MINI_SENTENCE)
    adapted, backbone = open_start(prompt, model, params["precision"], params["device"])
    if adapted is not None and adapted.characters is not None:
        texts = [adapted.characters.apply(text) for text in texts]
    sizes = {name: params[name] for name in ("max_length", "batch_size")}
    vectors = backbone.embed(texts, adapted, params["layer"], **sizes)

    def onto_disk(beside: Path) -> None:
        with beside.open("wb") as file:  # by its name alone, NumPy would add an ending
            np.save(file, vectors)

    atomic.write(output, onto_disk)
    wrote(output, f"{vectors.shape[0]:,} vectors of {vectors.shape[1]}")
