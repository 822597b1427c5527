"""Files that appear whole or not at all, whatever is killed when, and whoever else writes them."""

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
"""What file systems that have no locks answer."""


def write(path: Path, data: bytes | str | Callable[[Path], object]) -> Path:
    """Write beside, onto the disk, then rename; folders are made, and of a link its target is written. `data` may be a
    function that writes to the path it is given, for what is too large to stand in memory twice. Who writes the same
    file at the same time is waited for. Raises `ArtifactError` where that is not possible."""
    try:
        final = destination(path)
        # One name: what a kill leaves is written over the next time.
        with locked(final.with_name(f".{final.name}.tmp"), needed=False) as beside:
            if callable(data):
                data(beside)
            else:
                beside.write_bytes(data.encode() if isinstance(data, str) else data)
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(beside, final)
            with contextlib.suppress(OSError):  # the file is in its place; not all systems can do more
                onto_disk(final.parent)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def write_folder(path: Path, fill: Callable[[Path], object]) -> Path:
    """As `write`, for a folder that `fill` fills; in its place there may be an empty one."""
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
    """Where a file is written that is called so: a link leads to its target. Raises `ArtifactError` for what must not
    be replaced: a folder, a device, a pipe."""
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
    """A file that is there and nobody else's, in this or another process, as long as the block lasts, and that is gone
    afterwards; a killed process lets go at once.

    `shared`: others may share it, too. Without `wait` a lock that would have to wait raises `BlockingIOError`. One that
    is not `needed` is left out where the file system has none."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+")  # NFS shares only what is open for reading
        except FileNotFoundError:
            if path.parent.is_dir():
                raise
            continue  # somebody has removed the folder in this moment
        with file:
            _lock(file, shared, wait, needed)
            if lies_at(path, file):  # who had the lock before may have renamed or removed the file that we waited for
                try:
                    yield path
                finally:
                    if not shared and lies_at(path, file):  # else it is the lock of others, too
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
    """Whether an open file is what has this name now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def onto_disk(folder: Path) -> None:
    """See to it that names in a folder outlast a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
