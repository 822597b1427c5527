"""The version, in the one place where it stands; below every room, so that each may name it."""

__version__ = "0.2.0"
