"""What stage 1 reads: the texts of each target and of the source language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from glotprompt.cli.files import check_reading, how_to_read, texts_of
from glotprompt.cli.guards import Stage1Text, check_stage1_files, held_out_texts, stage1_text
from glotprompt.config import AdaptConfig
from glotprompt.errors import ConfigError
from glotprompt.methods import reads_source


def stage1_texts(
    targets: Mapping[str, Sequence[str]], source: Sequence[str], config: AdaptConfig, params: Mapping[str, Any]
) -> dict[str, Stage1Text]:
    """Language code -> what its stage 1 reads, from the files of each target and of the source language. `params` are
    adapt's parameters."""
    column, how = params["text_column"], how_to_read(params)
    files = [*chain.from_iterable(targets.values()), *source]
    check_reading(params, files, compared=params["held_out_files"] or ())
    check_stage1_files(files, params)
    if source and not reads_source(config):
        raise ConfigError("--source has no effect: no source text is read with source_share 0; leave one of them out")
    if not source and reads_source(config):
        other = "" if config.method in ("mad-x", "source-prompt") else ", or leave it out with --set source_share=0"
        raise ConfigError(f"give text in the source language with --source{other}")
    source_texts = texts_of(source, column, how)
    found: dict[str, Stage1Text] = {}
    for code, paths in targets.items():
        target_texts = texts_of(paths, column, how)
        held_out = held_out_texts([*paths, *source], params)
        found[code] = stage1_text(code, target_texts, source_texts, held_out, params, config.seed)
    return found
