"""Serve an editor over standard input and output: findings as one types, hover, quick fixes."""

from __future__ import annotations

import argparse

from lossproof.problem import CannotRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lossproof lsp``."""
    parser.add_argument("--stdio", action="store_true", help="what it does anyway; some editors say so")


def run(args: argparse.Namespace) -> int:
    """Serve until the editor says goodbye."""
    try:
        import pygls  # noqa: F401
    except ImportError:
        raise CannotRun('the language server needs pygls: pip install "lossproof[lsp]"') from None
    from lossproof.lsp.serve import serve

    return serve()
