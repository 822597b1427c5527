"""What `make gpu` needs of other packages: pyproject.toml's own ranges, less what no part of it uses."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
OF_DEV = {"beartype", "hypothesis", "peft", "pytest", "pytest-cov", "pytest-timeout", "pytest-xdist"}
"""What the tests and benchmarks use of the extra `dev`."""


def needed() -> list[Requirement]:
    """The requirements, direct ones only."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    of_dev = map(Requirement, project["optional-dependencies"]["dev"])
    requirements = [Requirement(line) for line in project["dependencies"]]
    return requirements + [one for one in of_dev if canonicalize_name(one.name) in OF_DEV]


def missing() -> list[str]:
    """A line for each requirement that this Python does not meet."""
    lines: list[str] = []
    for requirement in needed():
        try:
            here = version(requirement.name)
        except PackageNotFoundError:
            lines.append(f"{requirement} is not installed")
            continue
        if not requirement.specifier.contains(here, prereleases=True):
            lines.append(f"{requirement} is needed, {here} is installed")
    return lines


if __name__ == "__main__":
    print("\n".join(missing()))
