"""What stage 1 reads: texts in memory, or through the token cache where they are too many for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from glotprompt.cli.characters import character_map
from glotprompt.cli.files import check_column, how_to_read, iter_texts_of, texts_of
from glotprompt.cli.guards import Stage1Text, all_removed, check_stage1_files, held_out_texts, stage1_text
from glotprompt.cli.screen import note
from glotprompt.config import AdaptConfig
from glotprompt.data.catalog import parse_reference
from glotprompt.data.characters import CharacterMap
from glotprompt.data.guards import OverlapCheck
from glotprompt.data.records import content_hash
from glotprompt.data.tables import ReadOptions, format_of
from glotprompt.errors import ConfigError, counted
from glotprompt.methods import reads_source
from glotprompt.train.inputs import Text
from glotprompt.train.token_cache import token_text

STREAM_ABOVE = 64_000_000
"""Bytes of a text's files from which `--stream auto` reads it through the cache."""
_SAMPLE = 200_000
"""Texts of a streamed file on which `--map-characters auto` looks for unknown characters."""


@dataclass(frozen=True)
class Stage1Reading:
    """One language's text, ready to be trained on."""

    target: Text
    source: Text
    characters: CharacterMap | None
    record: dict[str, Any]
    """As `Stage1Text.record`."""


@dataclass(frozen=True)
class Stage1Files:
    """One language's text as far as it is known without a tokenizer."""

    code: str
    texts: Stage1Text
    """What is in memory; a streamed text is empty here."""
    streamed: dict[str, Sequence[str]]
    """"target", "source": files to be read through the cache."""
    held_out: Mapping[str, Sequence[str]]
    """The evaluation texts that both are checked against."""
    how: Mapping[str, Any]
    params: Mapping[str, Any]

    def opened(self, tokenizer: PreTrainedTokenizerFast, characters: CharacterMap | None = None) -> Stage1Reading:
        """Both texts as stage 1 wants them, and the character map: the one given, or that of `--map-characters`."""
        option, column = self.params["map_characters"], self.params["text_column"]
        sample: Sequence[str] = self.texts.target
        if option is not None and "target" in self.streamed:
            sample = list(islice(iter_texts_of(self.streamed["target"], column, self.how), _SAMPLE))
            note(f"{self.code}: unknown characters are looked for in the first {counted(len(sample), 'text')}")
        characters = characters or character_map(option, sample, tokenizer)
        found: dict[str, Text] = {"target": self.texts.target, "source": self.texts.source}
        record = dict(self.texts.record)
        for role, files in self.streamed.items():
            found[role], guarded = self._tokens(role, files, tokenizer, characters)
            if guarded:
                record["guards"] = {**record.get("guards", {}), role: guarded}
        return Stage1Reading(found["target"], found["source"], characters, record)

    def _tokens(
        self,
        role: str,
        files: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
        characters: CharacterMap | None,
    ) -> tuple[Text, Mapping[str, Any]]:
        check, column, said = OverlapCheck(self.held_out), self.params["text_column"], list[str]()

        def say(sentence: str) -> None:
            said.append(sentence)
            note(sentence)

        def notes() -> dict[str, Any]:
            guards = {"facts": check.report.facts(), "sentence": check.report.sentence()} if self.held_out else {}
            return {"said": said, "guards": guards}

        options = {
            "column": column,
            "how": {name: value for name, value in self.how.items() if name not in ("report", "data_dir", "revision")},
            "formats": [format_of(file, ReadOptions(self.how.get("format"))) for file in files],
            "held_out": {name: content_hash(texts) for name, texts in self.held_out.items()},
        }
        text = token_text(
            files,
            lambda: check.passed(iter_texts_of(files, column, {**self.how, "report": say})),
            options,
            tokenizer,
            characters=characters,
            notes=notes,
            folder=self.params["cache_dir"],
        )
        guards = text.notes["guards"]
        # What was said when the cache was made is true of this run too.
        for sentence in [] if said else text.notes["said"]:
            note(sentence)
        if guards:
            note(f"{self.code}, {role} text: {guards['sentence']}")
        if guards and not len(text):
            raise all_removed(role, self.code)
        note(
            f"{self.code}, {role} text: {counted(len(text), 'text')}, {counted(len(text.tokens), 'token')}, read"
            " through the cache"
        )
        return text, guards.get("facts", {})


def stage1_files(
    targets: Mapping[str, Sequence[str]], source: Sequence[str], config: AdaptConfig, params: Mapping[str, Any]
) -> dict[str, Stage1Files]:
    """Language code -> what its stage 1 reads, from the files of each target and of the source language. `params` are
    adapt's parameters."""
    column, how = params["text_column"], how_to_read(params)
    files = [*chain.from_iterable(targets.values()), *source]
    check_column(files, column, how)
    check_stage1_files(files, params)
    if not source and reads_source(config):
        other = "" if config.method in ("mad-x", "source-prompt") else ", or leave it out with --set source_share=0"
        raise ConfigError(f"give text in the source language with --source{other}")
    streams_source = _streams(source, params["stream"])
    source_texts = [] if streams_source else texts_of(source, column, how)
    found: dict[str, Stage1Files] = {}
    for code, paths in targets.items():
        streamed: dict[str, Sequence[str]] = {"source": source} if streams_source else {}
        if _streams(paths, params["stream"]):
            if params["text_share"] is not None:
                raise ConfigError("--text-share draws from all lines at once; give --stream off with it")
            streamed["target"] = paths
        target_texts = [] if "target" in streamed else texts_of(paths, column, how)
        held_out = held_out_texts([*paths, *source], params)
        texts = stage1_text(code, target_texts, source_texts, held_out, params, config.seed)
        found[code] = Stage1Files(code, texts, streamed, held_out, how, params)
    return found


def _streams(files: Sequence[str], choice: str) -> bool:
    """Whether a text is read through the cache; what cannot be read twice is not."""
    if choice == "on":
        for file in files:
            place = Path(file)
            if file == "-" or (place.exists() and not place.is_file()) or parse_reference(file) is not None:
                raise ConfigError(f"--stream on reads files, as often as it needs; write {file} to a file first")
        return bool(files)
    if choice == "off" or not all(Path(file).is_file() for file in files):
        return False
    return sum(_size(Path(file)) for file in files) > STREAM_ABOVE


def _size(file: Path) -> int:
    """Bytes of the text in a file, about: text packs to a quarter."""
    return (4 if file.suffix.lower() in (".gz", ".parquet") else 1) * file.stat().st_size
