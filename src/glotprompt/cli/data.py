"""`data`: the datasets that are known by name, and what is in a person's copy of one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich.table import Table

from glotprompt.cli.declare import Params
from glotprompt.cli.screen import definitions, note, write_json
from glotprompt.cli.tables import console, table
from glotprompt.data.check import Check, FileCheck
from glotprompt.data.check import check as check_copy
from glotprompt.data.datasets.catalog import DATASETS, dataset
from glotprompt.data.datasets.dataset import Dataset
from glotprompt.data.languages import FAMILIES, Exposure, exposure, language
from glotprompt.data.readers.layout import HubFiles
from glotprompt.errors import counted, visible

_LIKE_MINI = ("multilingual-e5", "mini-sentence")
"""Families that were pre-trained on what mini was, so that a column of their own would say nothing."""
_MOST_LABELS = 8
"""More labels than this do not fit side by side."""


def list_datasets(params: Params) -> None:
    """List the datasets."""
    made = table(["name", "what", "task", "splits", "languages", "labels", "on the hub"], left=4)
    for found in DATASETS.values():
        any_language = found.layout is not None and not found.languages
        made.add_row(
            found.name,
            f"{found.title} ({found.kind})",
            found.task or "-",
            ", ".join(found.splits) or "-",
            "any" if any_language else str(len(found.languages) or "-"),
            str(len(found.labels) or "-"),
            "-" if found.hub is None else "yes" if found.hub.revision else "with a commit of yours",
        )
    console().print(made)
    note("one of them: glotprompt data show NAME; a reference such as masakhanews:sna:test names a split of it")


def show(params: Params) -> None:
    """Show a dataset."""
    found = dataset(params["name"])
    definitions(_metadata(found))
    if found.languages:
        out = console()
        out.print()
        out.print(_languages(found))
        note(
            "+ pre-trained on, ~ low-resource: in the other lists only, - unseen, ? not known; mini-sentence and"
            " multilingual-e5 are as mini; lists and sources in glotprompt/data/pretraining.toml and languages.tsv"
        )


def check(params: Params) -> None:
    """Count a copy's rows, take checksums, and report what is odd."""
    found = dataset(params["name"])
    progress = _show_progress if sys.stderr.isatty() else None
    result = check_copy(found, params["data_dir"], params["language"] or (), progress)
    if progress is not None:
        progress("")
    _show_check(found, result)
    write_json(params["json"], result.to_dict())


def _metadata(found: Dataset) -> dict[str, str]:
    """What is the same for all languages, by name."""
    pairs = {"name": found.name, "title": found.title, "kind": found.kind}
    if found.labels:
        pairs["labels"] = ", ".join(found.labels)
    if found.splits:
        extra = f" (of some languages: {', '.join(found.extra_splits)})" if found.extra_splits else ""
        pairs["splits"] = ", ".join(found.splits) + extra
    if found.source_languages:
        pairs["learned in"] = ", ".join(found.source_languages)
    pairs |= {"task": found.task or "none built in", "text for stage 1": found.unlabelled}
    if found.layout is not None:
        pairs["folder"] = ", ".join(
            files[0].replace("{", "<").replace("}", ">")
            for split, files in found.layout.files.items()
            if split in found.splits
        )
        pairs["hub"] = "-" if found.hub is None else _hub(found.hub)
    pairs |= {"how to get it": found.get, "licence": found.licence, "citation": found.citation, "home": found.homepage}
    return pairs | {f"note {number}": text for number, text in enumerate(found.notes, 1)}


def _hub(hub: HubFiles) -> str:
    return f"{hub.repo} at {hub.revision or 'a commit that you name (--revision)'} ({hub.source})"


def _languages(found: Dataset) -> Table:
    mark = {"read": "+", "low-resource": "~", "unseen": "-", "not known": "?"}
    families = [family for family in FAMILIES if family not in _LIKE_MINI]
    made = table(["code", "language", "script", "its labels", *families, "mini has it from"], left=4)
    for code in found.languages:
        known = language(code)
        labels = found.labels_of(code)
        shown = "-" if not labels else "all" if labels == found.labels else ", ".join(labels)
        read = [exposure(code, family) for family in families]
        made.add_row(code, known.name, known.scripts[0], shown, *(mark[one.verdict] for one in read), _lists(read[-1]))
    return made


def _lists(read: Exposure) -> str:
    """The lists by which a language is low-resource; with "?" those that may have one that is unseen otherwise."""
    if read.verdict == "low-resource":
        return ", ".join(found.name for found in read.present)
    possible = [found.name for found in read.unpublished if found.use == "possible"]
    return f"{', '.join(possible)}?" if read.verdict == "unseen" and possible else "-"


def _show_progress(path: str) -> None:
    sys.stderr.write(f"\r\x1b[2K{path and f'reading {visible(path)}'}")
    sys.stderr.flush()


def _show_check(found: Dataset, result: Check) -> None:
    out = console()
    out.print(_counts(found, result.files))
    out.print()
    if any(file.problems for file in result.files):
        odd = table(["language", "split", "what is odd", "rows"], left=3)
        for file in result.files:
            for problem, count in file.problems.items():
                odd.add_row(file.language, file.split, problem, f"{count:,}")
        out.print(odd)
    else:
        out.print("nothing odd in it")
    for file in result.files:
        if file.error:
            note(f"not read: {file.error}")
    rows = sum(file.rows for file in result.files)
    note(f"{found.name}: {counted(len(result.files), 'file')}, {counted(rows, 'row')}{_missing(result.missing)}")


def _missing(missing: Sequence[str]) -> str:
    if not missing:
        return ", none missing"
    shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
    return f"; {counted(len(missing), 'file is', 'files are')} not there ({shown})"


def _counts(found: Dataset, files: Sequence[FileCheck]) -> Table:
    side_by_side = 0 < len(found.labels) <= _MOST_LABELS
    beyond = {label for file in files for label in file.labels} - set(found.labels)
    headings = [*found.labels, *(["other labels"] if beyond else [])] if side_by_side else []
    made = table(["language", "split", "sha256", "rows", *headings], left=3)
    for file in files:
        cells = [_count(file.labels, label) for label in found.labels] if side_by_side else []
        if side_by_side and beyond:
            cells.append(str(sum(count for label, count in file.labels.items() if label in beyond)))
        made.add_row(file.language, file.split, file.sha256[:12], f"{file.rows:,}", *cells)
    return made


def _count(labels: Mapping[str, int], label: str) -> str:
    """How often a label occurs; a dash where the language does not have it."""
    return f"{labels[label]:,}" if label in labels else "-"
