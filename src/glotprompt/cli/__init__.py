"""The command line. What is declared of a command needs no tensors; its module is imported when it is called."""

from glotprompt.cli.app import main

__all__ = ["main"]
