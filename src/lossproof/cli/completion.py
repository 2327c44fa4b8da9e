"""Print a script that completes commands and options in a shell.

bash: eval "$(lossproof completion bash)"
zsh:  lossproof completion zsh > "${fpath[1]}/_lossproof"
fish: lossproof completion fish > ~/.config/fish/completions/lossproof.fish
"""

from __future__ import annotations

import argparse
from typing import Any

from lossproof.problem import CannotRun

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lossproof completion``."""
    parser.add_argument("shell", choices=SHELLS)


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from lossproof.cli.main import full_parser

    try:
        import shtab
    except ImportError:
        raise CannotRun("completion needs shtab: pip install shtab") from None
    parser = full_parser()
    _complete_files(parser, {"FILE": shtab.FILE, "PATH": shtab.FILE, "DIR": shtab.DIRECTORY})
    print(shtab.complete(parser, args.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser, kinds: dict[str, Any]) -> None:
    """Tell the completion which values are files, by what their help calls them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command, kinds)
        elif isinstance(action.metavar, str) and action.metavar in kinds:
            action.complete = kinds[action.metavar]  # type: ignore[attr-defined]
