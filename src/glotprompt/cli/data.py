"""`data`: the datasets that are known by name, and what is in a person's copy of one."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table

from glotprompt.cli.declare import Params
from glotprompt.cli.screen import definitions, note, write_json
from glotprompt.cli.tables import console, table
from glotprompt.data.check import Check, FileCheck
from glotprompt.data.check import check as check_copy
from glotprompt.data.datasets.catalog import DATASETS, dataset
from glotprompt.data.datasets.dataset import Dataset
from glotprompt.data.languages import FAMILIES, Exposure, exposure, language
from glotprompt.errors import counted, visible

_LIKE_MINI = ("multilingual-e5", "mini-sentence")
"""Families that were pre-trained on what mini was, so that a column of their own would say nothing."""
_MOST_LABELS = 8
"""More labels than this do not fit side by side."""


def list_datasets(params: Params) -> None:
    """List the datasets."""
    listing = table(["name", "what", "task", "splits", "languages", "labels", "on the hub"], left=4)
    for data in DATASETS.values():
        any_language = data.layout is not None and not data.languages
        listing.add_row(
            data.name,
            f"{data.title} ({data.kind})",
            data.task or "-",
            ", ".join(data.splits) or "-",
            "any" if any_language else str(len(data.languages) or "-"),
            str(len(data.labels) or "-"),
            "-" if data.hub is None else "yes" if data.hub.revision else "with a commit of yours",
        )
    console().print(listing)
    note("one of them: glotprompt data show NAME; a reference such as masakhanews:sna:test names a split of it")


def show(params: Params) -> None:
    """Show a dataset."""
    data = dataset(params["name"])
    definitions(_metadata(data))
    if data.languages:
        console().print(Group("", _languages(data)))
        note(
            "+ pre-trained on, ~ low-resource: in the other lists only, - unseen, ? not known; mini-sentence and"
            " multilingual-e5 are as mini; lists and sources in glotprompt/data/pretraining.toml and languages.tsv"
        )


def check(params: Params) -> None:
    """Count a copy's rows, take checksums, and report what is odd."""
    data = dataset(params["name"])
    progress = _show_progress if sys.stderr.isatty() else None
    result = check_copy(data, params["data_dir"], params["language"] or (), progress)
    if progress is not None:
        progress("")
    _show_check(data, result)
    write_json(params["json"], result.to_dict())


def _metadata(data: Dataset) -> dict[str, str]:
    """Properties of the dataset that all its languages share, by name."""
    pairs = {"name": data.name, "title": data.title, "kind": data.kind}
    if data.labels:
        pairs["labels"] = ", ".join(data.labels)
    if data.splits:
        extra = f" (of some languages: {', '.join(data.extra_splits)})" if data.extra_splits else ""
        pairs["splits"] = ", ".join(data.splits) + extra
    if data.source_languages:
        pairs["learned in"] = ", ".join(data.source_languages)
    pairs |= {"task": data.task or "none built in", "text for stage 1": data.unlabelled}
    if data.layout is not None:
        pairs["folder"] = ", ".join(
            files[0].replace("{", "<").replace("}", ">")
            for split, files in data.layout.files.items()
            if split in data.splits
        )
        hub = data.hub
        commit = hub and (hub.revision or "a commit that you name (--revision)")
        pairs["hub"] = "-" if hub is None else f"{hub.repo} at {commit} ({hub.source})"
    pairs |= {"how to get it": data.get, "licence": data.licence, "citation": data.citation, "home": data.homepage}
    return pairs | {f"note {number}": text for number, text in enumerate(data.notes, 1)}


def _languages(data: Dataset) -> Table:
    mark = {"read": "+", "low-resource": "~", "unseen": "-", "not known": "?"}
    families = [family for family in FAMILIES if family not in _LIKE_MINI]
    listing = table(["code", "language", "script", "its labels", *families, "mini has it from"], left=4)
    for code in data.languages:
        entry = language(code)
        labels = data.labels_of(code)
        cell = "-" if not labels else "all" if labels == data.labels else ", ".join(labels)
        exposures = [exposure(code, family) for family in families]
        listing.add_row(
            code, entry.name, entry.scripts[0], cell, *(mark[one.verdict] for one in exposures), _lists(exposures[-1])
        )
    return listing


def _lists(result: Exposure) -> str:
    """The lists by which a language is low-resource; with "?" those that may have one that is unseen otherwise."""
    if result.verdict == "low-resource":
        return ", ".join(entry.name for entry in result.present)
    possible = [entry.name for entry in result.unpublished if entry.use == "possible"]
    return f"{', '.join(possible)}?" if result.verdict == "unseen" and possible else "-"


def _show_progress(path: str) -> None:
    sys.stderr.write(f"\r\x1b[2K{path and f'reading {visible(path)}'}")
    sys.stderr.flush()


def _show_check(data: Dataset, result: Check) -> None:
    odd = table(["language", "split", "what is odd", "rows"], left=3)
    for file in result.files:
        for problem, count in file.problems.items():
            odd.add_row(file.language, file.split, problem, f"{count:,}")
    console().print(Group(_counts(data, result.files), "", odd if odd.row_count else "nothing odd in it"))
    for file in result.files:
        if file.error:
            note(f"not read: {file.error}")
    rows = sum(file.rows for file in result.files)
    note(f"{data.name}: {counted(len(result.files), 'file')}, {counted(rows, 'row')}{_missing(result.missing)}")


def _missing(missing: Sequence[str]) -> str:
    if not missing:
        return ", none missing"
    names = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
    return f"; {counted(len(missing), 'file is', 'files are')} not there ({names})"


def _counts(data: Dataset, files: Sequence[FileCheck]) -> Table:
    side_by_side = 0 < len(data.labels) <= _MOST_LABELS
    beyond = {label for file in files for label in file.labels} - set(data.labels)
    headings = [*data.labels, *(["other labels"] if beyond else [])] if side_by_side else []
    listing = table(["language", "split", "sha256", "rows", *headings], left=3)
    for file in files:
        counts = {label: f"{count:,}" for label, count in file.labels.items()}
        cells = [counts.get(label, "-") for label in data.labels] if side_by_side else []
        if side_by_side and beyond:
            cells.append(str(sum(count for label, count in file.labels.items() if label in beyond)))
        listing.add_row(file.language, file.split, file.sha256[:12], f"{file.rows:,}", *cells)
    return listing
