"""Atomic writes and file locks: a file appears whole or not at all, even with kills and concurrent writers."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO

from glotprompt.errors import ArtifactError

if sys.platform != "win32":
    import fcntl

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Error codes of file systems without locks."""


def write(path: Path, data: bytes | str | Callable[[Path], object]) -> Path:
    """Write a file atomically: to a temporary file beside it, synced to disk, then renamed. Folders are made, and a
    link's target is written. `data` may be a function that writes to a given path, for data too large to copy in
    memory. Waits for other writers of the same file. Raises `ArtifactError` where the file cannot be written."""
    try:
        final = destination(path)
        # Always the same name: the next write overwrites what a kill left.
        with locked(final.with_name(f".{final.name}.tmp"), needed=False) as beside:
            if callable(data):
                data(beside)
            else:
                beside.write_bytes(data.encode() if isinstance(data, str) else data)
            with beside.open("r+b") as file:  # Windows syncs only what may be written
                os.fsync(file.fileno())
            os.replace(beside, final)
            with contextlib.suppress(OSError):  # the file is complete; not all systems can do more
                onto_disk(final.parent)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def write_folder(path: Path, fill: Callable[[Path], object]) -> Path:
    """Write a folder atomically with the function `fill`; an empty folder of that name is replaced."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        shutil.rmtree(beside, ignore_errors=True)  # what a kill left
        beside.mkdir(parents=True)
        try:
            fill(beside)
            os.replace(beside, path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def destination(path: Path) -> Path:
    """The path that is written for a file name: the target of a link. Raises `ArtifactError` for what must not be
    replaced: a folder, a device, a pipe."""
    final = Path(os.path.realpath(path))
    try:
        mode = final.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return final
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, a pipe or links in a circle"
        raise ArtifactError(f"cannot write {path}: it is {kind}, expected a file or nothing; give another name")
    return final


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = True, needed: bool = True) -> Generator[Path]:
    """Context that holds a lock file, exclusive among threads and processes, and removes it at the end; the lock of a
    killed process is free at once.

    `shared`: a shared lock. Without `wait` a lock held elsewhere raises `BlockingIOError`. A lock that is not `needed`
    is skipped where the file system has no locks."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+")  # NFS shares only what is open for reading
        except FileNotFoundError:
            if path.parent.is_dir():
                raise
            continue  # another process has just removed the folder
        with file:
            _lock(file, shared, wait, needed)
            if lies_at(path, file):  # the previous holder may have renamed or removed it
                try:
                    yield path
                finally:
                    if not shared and lies_at(path, file):  # a shared lock still belongs to others
                        path.unlink(missing_ok=True)
                return


def _lock(file: IO[str], shared: bool, wait: bool, needed: bool) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if needed or error.errno not in _WITHOUT_LOCKS:
            raise


def lies_at(path: Path, file: IO[str]) -> bool:
    """Whether an open file is the one that now has this path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def onto_disk(folder: Path) -> None:
    """Sync a folder to disk, so that its names survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
