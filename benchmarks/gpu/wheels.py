"""Fetch what a machine with a GPU and no network lacks for `make gpu`, into one archive that travels with the checkout.

Run by `make gpu-wheels HAS=FILE` where pip has a network. FILE names what the machine has, as its
`python3 -m pip freeze` prints it, or names alone (then any version will do); torch and what it brings are always taken
for given. The versions are those of constraints.txt. The wheels are stored without compression in one .tar.xz, since
what they hold is much alike: a third of their size.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import requires, version
from pathlib import Path

from needs import ROOT, needed
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MOST = 60 * 2**20
"""Bytes of checkout and archive together."""
ARCHIVE = "wheels.tar.xz"
ALWAYS_THERE = {"torch", "triton"}
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17)] + ["manylinux2014_x86_64"]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--has", type=Path, help="what the machine has: the output of its `python3 -m pip freeze`")
    parser.add_argument("--python", default="3.12", help="the machine's Python (default: 3.12)")
    parser.add_argument("--folder", type=Path, default=ROOT / ".gpu", help="where the archive goes (default: .gpu)")
    options = parser.parse_args(arguments)
    lacking = sorted(lacked(present(options.has), options.python))
    pins = [f"{name}=={version(name)}" for name in lacking]
    print(f"{len(pins)} packages: {' '.join(pins) or 'none'}", flush=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    archive: Path = options.folder / ARCHIVE
    archive.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as name:
        if pins:
            words = [sys.executable, "-m", "pip", "-qqq", "download", "--no-deps", "--only-binary=:all:", "-d", name]
            words += ["--python-version", options.python, "--implementation", "cp"]
            subprocess.run([*words, *(f"--platform={one}" for one in PLATFORMS), *pins], check=True)
        wheels = sorted(Path(name).glob("*.whl"), key=lambda path: path.stat().st_size)
        pack(wheels, archive)
        largest = ", ".join(f"{path.name.split('-')[0]} {path.stat().st_size / 2**20:.1f}" for path in wheels[:-6:-1])
    tree, packed = sum(map(size_of, travelling())), archive.stat().st_size
    print(
        f"wheels {packed / 2**20:.1f} MiB (largest, as they come: {largest}), checkout {tree / 2**20:.1f} MiB,", end=" "
    )
    print(f"together {(tree + packed) / 2**20:.1f} of at most {MOST / 2**20:.0f} MiB")
    if tree + packed > MOST:
        raise SystemExit("that is too much: give HAS=FILE with what the machine has, or clear the checkout")


def present(path: Path | None) -> dict[str, str | None]:
    """Version by name of what the machine has; None where the file gives none."""
    versions: dict[str, str | None] = dict.fromkeys(ALWAYS_THERE)
    for line in [] if path is None else path.read_text(encoding="utf-8").splitlines():
        name, _, number = line.split("#")[0].split(" @ ")[0].strip().partition("==")
        if name:
            versions[canonicalize_name(name)] = number or None
    return versions | dict.fromkeys(ALWAYS_THERE)


def lacked(has: dict[str, str | None], python: str) -> set[str]:
    """Names of all packages that are needed, directly or by others, and that the machine lacks or has in another
    version than is needed."""
    names: set[str] = set()
    waiting = needed()
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        if name in names or _meets(has, name, requirement):
            continue
        names.add(name)
        waiting += map(Requirement, requires(name) or [])
    return names


def _meets(has: dict[str, str | None], name: str, requirement: Requirement) -> bool:
    if name.startswith("nvidia-") or name not in has:
        return name.startswith("nvidia-")
    installed = has[name]
    return installed is None or requirement.specifier.contains(installed, prereleases=True)


def pack(wheels: Sequence[Path], archive: Path) -> None:
    """The wheels, their contents uncompressed and like beside like, in one compressed archive."""
    with tarfile.open(archive, "w:xz", preset=6) as tar:
        for path in wheels:
            stored = io.BytesIO()
            with zipfile.ZipFile(path) as wheel, zipfile.ZipFile(stored, "w", zipfile.ZIP_STORED) as plain:
                for item in sorted(wheel.infolist(), key=lambda item: (Path(item.filename).name[:8], item.filename)):
                    plain.writestr(item.filename, wheel.read(item))
            entry = tarfile.TarInfo(path.name)
            entry.size = stored.tell()
            stored.seek(0)
            tar.addfile(entry, stored)


def travelling() -> Iterator[Path]:
    """The files of the checkout: tracked, or new and not ignored."""
    words = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name:
            yield ROOT / name


def size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


if __name__ == "__main__":
    main(sys.argv[1:])
