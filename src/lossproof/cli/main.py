"""From an argument vector to a command and an exit code.

Only the command that was named is imported, and only its own parser is built.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from lossproof.problem import CannotRun, did_you_mean

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    from typing import Any

COMMANDS = {
    "check": "find faults in the training objectives of a project",
    "explain": "show what a rule is about, and what to do",
    "prove": "run the experiments behind what lossproof says, on this machine",
    "completion": "print a script that completes commands and options in a shell",
    "lsp": "serve an editor: findings as one types",
    "clean": "remove the cache",
}
_DESCRIPTION = "lossproof proves what is wrong with a training objective, and mends it."


def main(argv: Sequence[str] | None = None, *, one_shot: bool = False) -> int:
    """Run one command: 0 nothing to say, 1 findings, 2 could not run, 130 interrupted.

    ``one_shot``: the process ends when the command does.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    try:
        code = _run(arguments, one_shot)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse: 0 after --help, 2 after a mistake
        return stop.code if isinstance(stop.code, int) else 2
    except CannotRun as problem:
        _complain(str(problem))
        return 2
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except BrokenPipeError:  # the reader had enough (``| head``); say nothing, and nothing at exit either
        _silence_output()
        return 141
    except OSError as error:  # a full disk, a folder that went away
        _complain(": ".join(filter(None, (error.filename and str(error.filename), (error.strerror or "").lower()))))
        _silence_output()
        return 2
    except Exception as error:  # a fault of ours must not look like a finding
        if os.environ.get("LOSSPROOF_TRACEBACK"):
            raise
        _complain(
            f"internal error: {type(error).__name__}: {error} (LOSSPROOF_TRACEBACK=1 shows where; please report it)"
        )
        return 2


def program() -> None:
    """The command as a process of its own: it ends at once, without taking its memory apart piece by piece.

    A check leaves millions of small objects; to free them one by one takes a tenth of the time of all the rest.
    """
    code = main(one_shot=True)
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


def _open_streams() -> None:
    """A process may be started without standard streams; then there is nobody to tell."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _complain(message: str) -> None:
    with contextlib.suppress(OSError):
        print(f"lossproof: {message}".encode("utf-8", "backslashreplace").decode("utf-8"), file=sys.stderr)


def _silence_output() -> None:
    """Send what is still to be flushed nowhere, so that the interpreter does not stumble over it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str], one_shot: bool) -> int:
    name = arguments[0] if arguments else ""
    if arguments == ["--version"]:
        from lossproof import __version__

        print(f"lossproof {__version__}")
        return 0
    if name in COMMANDS:
        module: Any = import_module(f"lossproof.cli.{name}")
        parser = argparse.ArgumentParser(prog=f"lossproof {name}", description=module.__doc__, formatter_class=_Help)
        module.add_arguments(parser)
        code: int = module.run(parser.parse_args(arguments[1:], argparse.Namespace(one_shot=one_shot)))
        return code
    if name and not name.startswith("-"):
        raise CannotRun(f"unknown command {name!r}.{did_you_mean(name, list(COMMANDS))} See lossproof --help.")
    parser = full_parser()
    parser.parse_args(arguments)
    parser.print_help()
    return 0


class _Help(argparse.RawDescriptionHelpFormatter):
    """Knows its width by itself: argparse makes one for every option, and would import shutil to ask."""

    def __init__(self, prog: str, *arguments: Any, **options: Any) -> None:
        options.setdefault("width", min(_columns() - 2, 118))
        super().__init__(prog, *arguments, **options)


def _columns() -> int:
    try:
        return int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):
        return 80


def full_parser() -> argparse.ArgumentParser:
    """The whole command line, for help and completion."""
    from lossproof import __version__

    parser = argparse.ArgumentParser(prog="lossproof", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"lossproof {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, help in COMMANDS.items():
        module: Any = import_module(f"lossproof.cli.{name}")
        module.add_arguments(commands.add_parser(name, help=help, description=module.__doc__))
    return parser
