"""The command line. One file a command, and no logic in it."""

from lossproof.cli.main import main, program

__all__ = ["main", "program"]
