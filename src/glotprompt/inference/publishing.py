"""The Hugging Face hub: a saved file with its model card goes there, and comes from there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from glotprompt.errors import ArtifactError, ConfigError, in_a_line
from glotprompt.inference.model_card import model_card

FILE = "glotprompt.safetensors"
"""Name of the saved file in a repository, of whichever kind it is."""
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def located(name: str | Path) -> Path:
    """The saved file of a name: a path, or the file of a repository of the hub (cached; offline with
    HF_HUB_OFFLINE=1). Raises `ArtifactError` where it is neither."""
    path = Path(name)
    repo = path.as_posix()
    if path.exists() or path.suffix == ".safetensors" or not _REPOSITORY.fullmatch(repo):
        return path
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, FILE))
    except (OSError, ValueError) as error:  # the hub's own errors are of these kinds
        raise ArtifactError(
            f"{repo} is no file here and cannot be had from the hub ({in_a_line(error)}); give a file, or a repository"
            f" with {FILE}"
        ) from None


def publish(save: Callable[[Path], Path], repo: str, private: bool | None) -> str:
    """`Saved.push_to_hub`; `save` writes the file."""
    from huggingface_hub import HfApi

    if not _REPOSITORY.fullmatch(repo):
        raise ConfigError(f"{repo!r} is no repository of the hub; expected user/name")
    with TemporaryDirectory() as folder:
        path = save(Path(folder) / FILE)
        (Path(folder) / "README.md").write_text(model_card(path, repo), encoding="utf-8")
        api = HfApi()
        try:
            address = str(api.create_repo(repo, private=private, exist_ok=True))
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload with glotprompt")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the hub does not take {repo} ({in_a_line(error)}); check the name, and log in with `hf auth login`"
            ) from None
    return address
