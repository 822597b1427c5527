"""Stage 1 on parallel text: what `--parallel` names, checked against evaluation text, and what is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glotprompt.cli.backbone import train_once
from glotprompt.cli.files import check_reading, how_to_read, pairs_of
from glotprompt.cli.guards import check_stage1_files, held_out_texts, switches_record
from glotprompt.cli.options import MAX_LINES
from glotprompt.cli.screen import note
from glotprompt.combination import digest_of
from glotprompt.data.characters import CharacterMap
from glotprompt.data.guards import held_out_ids
from glotprompt.data.pairs import check_pairs
from glotprompt.errors import ConfigError
from glotprompt.stage1 import content_of_pairs

if TYPE_CHECKING:
    from glotprompt.classifier import Adapted, LanguagePrompt
    from glotprompt.config import AdaptConfig, RuntimeConfig
    from glotprompt.model.encoder import Encoder


@dataclass(frozen=True)
class ParallelText:
    """What one language's alignment may read."""

    pairs: list[tuple[str, str]]
    """(source, target)."""
    record: dict[str, Any]
    """What was checked and removed, for the facts of what is saved."""


def parallel_text(code: str, sources: Sequence[str], params: Mapping[str, Any]) -> ParallelText:
    """The pairs of a table, of two files or of references, decontaminated on both sides. `params` are adapt's
    parameters."""
    for name, default in (("text_share", None), ("text_column", None), ("max_lines", MAX_LINES)):
        if params[name] != default:
            raise ConfigError(f"--{name.replace('_', '-')} is for unlabelled text; leave it out with --parallel")
    how = how_to_read(params)
    check_reading(params, sources, compared=params["held_out_files"] or ())
    check_stage1_files(sources, params)
    pairs = pairs_of(sources, how)
    held_out, ids = held_out_texts(sources, params, parallel=True), set[str]()
    if not params["no_overlap_check"]:
        ids = set[str]().union(*(held_out_ids(source, how["data_dir"], note) for source in sources))
        if not held_out and not ids:
            note(f"{code}: not checked against evaluation text; say with --held-out FILE what will be scored")
    checked = check_pairs(pairs, held_out, ids)
    for line in (checked.report.sentence(), *checked.report.warnings()):
        note(f"{code}, parallel text: {line}")
    record = switches_record(params)
    record["guards"] = {**record.get("guards", {}), "parallel": checked.report.facts()}
    return ParallelText([(pair.source, pair.target) for pair in checked.pairs], record)


def align(
    encoder: Encoder,
    text: ParallelText,
    code: str,
    config: AdaptConfig,
    runtime: RuntimeConfig,
    output: Path,
    precision: str,
    initial: Sequence[tuple[LanguagePrompt, float]] | None,
    characters: CharacterMap | None,
) -> Adapted:
    """What alignment gives: trained and saved, or as an earlier run of the same words left it."""
    from glotprompt import run
    from glotprompt.classifier import load_adapted

    def train(folder: Path) -> Adapted:
        note(f"{code}: {len(text.pairs):,} sentence pairs")
        resumed = runtime.replace(checkpoint_dir=folder)
        made = run.adapt(
            encoder, language=code, config=config, runtime=resumed, characters=characters, initial=initial,
            parallel=text.pairs,
        )  # fmt: skip
        return replace(made, facts={**made.facts, **text.record})

    words: list[Any] = [code, config.identity(), content_of_pairs(text.pairs), encoder.fingerprint, precision]
    words += [[digest_of(prompt.key_values), weight] for prompt, weight in initial or ()]
    words += [None if characters is None else characters.to_dict(), text.record]
    return train_once(load_adapted, output, words, encoder, train, runtime)
