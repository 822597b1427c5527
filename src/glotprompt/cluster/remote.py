"""A grid's store behind a URL (s3://bucket/runs): whatever fsspec has a driver for.

The same files lie at the same paths as in a folder (`store`), but for `work`: steps are done in a scratch folder of
this machine, which keeps their checkpoints and copies of what other steps need. An object store can rename nothing, so
a step's files are sent one by one, the marker (`STEP`) last, and the step is finished when its marker is there. Nor
has it locks: who claims a step keeps only other processes with the same scratch folder waiting. Two machines may then
do one step, which costs time and nothing else, for the same identity has the same numbers.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from glotprompt.errors import ArtifactError, ConfigError, DataError, in_a_line, nearest
from glotprompt.grid.store import OUTCOME, STEP, ExperimentRecord, Failure, Settled, Store, reported


def named(words: str) -> Path | str:
    """A store's name from the command line: a folder, or an unchanged URL."""
    return words if "://" in words else Path(words)


def open_store(location: Path | str) -> Store:
    """The store in a folder, or behind a URL, which is text. Raises `ConfigError` for a URL that cannot be one."""
    if isinstance(location, Path):
        return Store(location)
    _Remote(location)  # refused at once, and not on first use
    return RemoteStore(location)


def copy_results(url: str, folder: Path) -> None:
    """Make `folder` a store of all that a report reads. Raises `DataError` where there is none."""
    remote = _Remote(url)
    files = reported(remote.files())
    if not any(file.startswith("experiments/") for file in files):
        raise DataError(f"{remote.url} holds no experiment; give the URL that `glotprompt grid --output` wrote to")
    remote.receive({file: folder / file for file in files})


class RemoteStore(Store):
    """See `Store`. Steps are run in it; `experiments`, `result` and `failures` are for what `copy_results` makes.

    `scratch`: the folder on this machine. None: one for each URL in the folder for caches.
    """

    def __init__(self, url: str, scratch: Path | None = None) -> None:
        self.url = url
        super().__init__(_scratch(url) if scratch is None else scratch)

    def __reduce__(self) -> tuple[type[RemoteStore], tuple[str]]:
        """How it is sent to a worker, which has a scratch folder of its own."""
        return RemoteStore, (self.url,)

    def __str__(self) -> str:
        return without_password(self.url)

    @cached_property
    def remote(self) -> _Remote:
        """Made on first use: of a worker that lacks the driver Ray says why only if its method raises it."""
        return _Remote(self.url)

    def experiment(self, name: str) -> ExperimentRecord | None:
        self._receive(self.record_file(name))
        return super().experiment(name)

    def write_experiment(self, record: ExperimentRecord) -> Path:
        file = super().write_experiment(record)
        self._send(file)
        return file

    def precision(self) -> Settled | None:
        self._receive(self.precision_file)
        return super().precision()

    def settle_precision(self, choose: Callable[[], Settled]) -> Settled:
        precision = super().settle_precision(choose)
        self._send(self.precision_file)
        return precision

    def has(self, step: str) -> bool:
        """Whether a step is finished, whatever lies in the scratch folder."""
        return self.remote.has(self._path(self.folder(step) / STEP))

    def finished(self) -> set[str]:
        files = map(PurePosixPath, self.remote.files(self._path(self.folder(""))))
        return {file.parent.name for file in files if file.name == STEP}

    def fetch(self, step: str) -> None:
        there, copy = self._path(self.folder(step)), self.folder(step) / STEP
        with self.claimed(step):
            marker = self.remote.read(f"{there}/{STEP}")
            if not marker:
                raise DataError(f"{there} is gone from {self.remote.url}; run the grid again with --retry-failed")
            # Another machine may have made it anew, or have been the first to send it.
            if not copy.is_file() or copy.read_bytes() != marker:
                shutil.rmtree(copy.parent, ignore_errors=True)
                files = [PurePosixPath(file).name for file in self.remote.files(there)]
                folder = self.outcome(step)
                self.remote.receive({f"{there}/{file}": folder / file for file in files})
                super().publish(step)

    def publish(self, step: str) -> None:
        if not self.has(step):
            shutil.rmtree(self.folder(step), ignore_errors=True)  # what is no longer there
            files = [file for file in (self.work(step) / OUTCOME).iterdir() if file.name != STEP]
            for file in (*files, self.work(step) / OUTCOME / STEP):
                self.remote.send(file, self._path(self.folder(step) / file.name))
        self.remote.remove(self._path(self.failure_file(step)))
        super().publish(step)

    def failure(self, step: str) -> Failure | None:
        self._receive(self.failure_file(step))
        return super().failure(step)

    def keep_failure(self, step: str, error: str, traceback: str) -> Path:
        file = super().keep_failure(step, error, traceback)
        if not self.has(step):  # another machine may have come to an end
            self._send(file)
        return file

    @contextmanager
    def signed(self) -> Generator[str]:
        with super().signed() as sign:
            self._send(self.work(sign))
            try:
                yield sign
            finally:
                self.remote.remove(self._path(self.work(sign)))

    def sees(self, sign: str) -> bool:
        return self.remote.has(self._path(self.work(sign)))

    def _send(self, file: Path) -> None:
        self.remote.send(file, self._path(file))

    def _receive(self, file: Path) -> None:
        """Make a small file in the scratch folder what it is there, or nothing."""
        text = self.remote.read(self._path(file))
        if text is None:
            file.unlink(missing_ok=True)
        else:
            self.write(file, text)

    def _path(self, file: Path) -> str:
        return file.relative_to(self.root).as_posix()


def _scratch(url: str) -> Path:
    return _cache_folder() / "grids" / hashlib.sha256(without_password(url).rstrip("/").encode()).hexdigest()[:16]


def _cache_folder() -> Path:
    """The folder of copies: $GLOTPROMPT_CACHE, or the platform's cache folder."""
    if named := os.environ.get("GLOTPROMPT_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "glotprompt"


class _Remote:
    """The files behind a URL, by their paths from it. Every question is put to the place itself, for others write
    there, too. Raises `ArtifactError` where it cannot be reached, in the words of the driver."""

    def __init__(self, url: str) -> None:
        self._system, root = _driver(url)
        self.url, self._root = without_password(url).rstrip("/"), root.rstrip("/")
        if not self._root:
            raise ConfigError(f"{without_password(url)} names no folder; expected something like s3://bucket/runs")

    def files(self, folder: str = "") -> list[str]:
        """All files below a folder, in one request where the driver can. Empty ones do not count: elsewhere than on
        object stores, which take a file whole, a kill may leave a marker without words."""
        root = f"{self._root}/{folder}".rstrip("/")
        with self._asking():
            entries: dict[str, Any] = self._system.find(root, detail=True)
        return [path.removeprefix(f"{self._root}/") for path, about in entries.items() if about.get("size")]

    def has(self, path: str) -> bool:
        with self._asking():
            try:
                return bool(self._system.info(f"{self._root}/{path}").get("size"))
            except FileNotFoundError:
                return False

    def read(self, path: str) -> bytes | None:
        """A small file; None where there is none."""
        with self._asking():
            try:
                return self._system.cat_file(f"{self._root}/{path}")
            except FileNotFoundError:
                return None

    def receive(self, targets: Mapping[str, Path]) -> None:
        """Copy files, each to a path on this machine."""
        for file in targets.values():
            file.parent.mkdir(parents=True, exist_ok=True)
        with self._asking():
            paths, files = [f"{self._root}/{path}" for path in targets], list(map(str, targets.values()))
            self._system.get(paths, files)  # several at a time where the driver can

    def send(self, file: Path, path: str) -> None:
        target = f"{self._root}/{path}"
        with self._asking():
            # Paths of object stores begin with the bucket; asked for a folder in it, drivers would make the bucket
            # that a mistyped name names.
            if target.startswith("/"):
                self._system.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(file), target)

    def remove(self, path: str) -> None:
        with self._asking(), suppress(FileNotFoundError):
            self._system.rm_file(f"{self._root}/{path}")

    @contextmanager
    def _asking(self) -> Generator[None]:
        self._system.invalidate_cache()  # cached listings
        try:
            yield
        except Exception as error:  # drivers have kinds of their own
            raise ArtifactError(
                f"{self.url} cannot be used: {type(error).__name__}: {in_a_line(error)}; look at its"
                " name, the network and the credentials"
            ) from None


def _driver(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it."""
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    protocol, given = url.partition("://")[0].partition("::")[0], url
    url = without_password(url)
    try:
        return url_to_fs(given)
    except ImportError as error:
        package = known_implementations.get(protocol, {"class": ""})["class"].partition(".")[0]
        remedy = f"pip install {package}" if package not in ("", "fsspec") else str(error)
        raise ConfigError(f"{url}: the driver for {protocol}:// is not installed: {remedy}") from None
    except Exception as error:
        if protocol not in known_implementations:
            raise ConfigError(
                f"{url}: fsspec knows no {protocol}://.{nearest(protocol, known_implementations)}"
            ) from None
        raise ConfigError(f"{url}: {type(error).__name__}: {in_a_line(error)}") from None


def without_password(url: str) -> str:
    """For what is kept and shown: sftp://user:password@host with *** in its place. Other words stay as they are."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)
