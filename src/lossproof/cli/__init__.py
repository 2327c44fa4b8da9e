"""The command line. One file a command, and no logic in it."""

from lossproof.cli.main import main

__all__ = ["main"]
