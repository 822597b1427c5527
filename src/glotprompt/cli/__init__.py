"""The command line. It parses and delegates; every heavy import sits inside the command that needs it."""

from glotprompt.cli.app import main

__all__ = ["main"]
