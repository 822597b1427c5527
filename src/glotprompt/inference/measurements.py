"""How right a classifier was on labelled examples: kept in its file, and said where it is used. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glotprompt.data.languages import NOT_NAMED, known_name, same_language
from glotprompt.errors import ArtifactError, counted
from glotprompt.storage import artifact
from glotprompt.storage.metadata import Measurement, check_metadata

MOST = 20
"""Measurements that a file keeps; of more the newest."""


def measurements_of(metadata: Mapping[str, Any]) -> tuple[Measurement, ...]:
    """What the metadata of a classifier's file says was measured."""
    return tuple(map(Measurement.model_validate, metadata.get(artifact.MEASUREMENTS, ())))


def keep(path: Path, digest: str, measurement: Measurement) -> None:
    """Write a measurement into a classifier's file, in the place of an earlier one on the same examples; the rest of
    the file stays as it is. `digest`: that of the file which was measured; `ArtifactError` where another lies there."""
    tensors, metadata = artifact.read_copy(path, "classifier")
    check_metadata(path, metadata)
    described = {name: value for name, value in metadata.items() if name != artifact.MEASUREMENTS}
    if artifact.digest(tensors, described) != digest:
        raise ArtifactError(f"{path} was replaced while it was scored, so nothing was recorded; score it again")
    others = [one for one in measurements_of(metadata) if one.content != measurement.content]
    newest = [*others, measurement][-MOST:]
    artifact.write(path, "classifier", tensors, {**metadata, artifact.MEASUREMENTS: [one.to_json() for one in newest]})


def sentence(measurements: Sequence[Measurement], language: str) -> str:
    """The newest accuracy in the classifier's language, or that there is none; of a language that nobody named, the
    newest in any."""
    named = language != NOT_NAMED
    of_language = [one for one in measurements if not named or same_language(one.language, language)]
    if not of_language:
        return f"not measured in {_name(language)}" if named else "not measured"
    last = of_language[-1]
    low, high = last.interval
    return (
        f"{last.accuracy:.0f} % [{low:.0f}, {high:.0f}] of {counted(last.num_examples, 'text')} in"
        f" {_name(last.language)}"
    )


def _name(language: str) -> str:
    return " + ".join(known_name(code) or code for code in language.split("+"))
