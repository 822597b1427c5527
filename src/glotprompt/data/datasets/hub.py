"""Download of datasets from the Hugging Face hub (extra `hub`): one commit, cached, offline with HF_HUB_OFFLINE."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from glotprompt.data.readers.layout import HubFiles
from glotprompt.errors import ConfigError, DataError, MissingExtraError, nearest, setting


def fetch(name: str, files: HubFiles, language: str, split: str, revision: str | None = None) -> Path:
    """Path of a split's file in the hub's cache, downloaded if missing.

    Reads the catalog's commit, or `revision`. Raises `ConfigError` when there is neither or it is no commit,
    `MissingExtraError` without huggingface_hub, `DataError` when the file cannot be downloaded.
    """
    commit = revision or files.revision
    if commit is None:
        raise ConfigError(
            f"{name}: the catalog has no commit of {files.repo} ({files.source}). Look one up at"
            f" https://huggingface.co/datasets/{files.repo}/commits and pass it as {setting('revision')}."
        )
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise ConfigError(
            f"{setting('revision', commit)} is no commit. Expected 40 of the digits 0-9 and a-f; a branch or tag may"
            " move."
        )
    if split not in files.files:
        raise DataError(
            f"{files.repo} on the hub has no split {split!r} of {name}.{nearest(split, files.files)}"
            f" It has: {', '.join(files.files)}; the others are read from a folder."
        )
    try:
        library: Any = import_module("huggingface_hub")
        errors: Any = import_module("huggingface_hub.errors")
    except ModuleNotFoundError:
        raise MissingExtraError(f"Reading {name} from the hub", "hub") from None
    file = files.file(language, split)
    description = f"{file} of {files.repo} at {commit[:8]}"
    try:
        return Path(library.hf_hub_download(files.repo, file, repo_type="dataset", revision=commit))
    except errors.GatedRepoError:
        raise DataError(
            f"{description}: the repository wants its terms accepted. Accept them at https://huggingface.co/datasets/"
            f"{files.repo}, log in with `hf auth login`, then run this again."
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError):
        raise DataError(
            f"{description}: not on the hub. Its name is known from: {files.source}. Pass another commit with"
            f" {setting('revision')}, or read a folder."
        ) from None
    except errors.LocalEntryNotFoundError:
        raise DataError(
            f"{description}: not in the cache, and the hub is out of reach (or HF_HUB_OFFLINE is set). Fetch it once"
            " where there is a network and copy the cache (HF_HOME), or pass a data folder."
        ) from None
    except OSError as error:  # a broken connection, a full disk
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{description}: cannot be fetched ({reason}). Try again, or read a folder.") from None
