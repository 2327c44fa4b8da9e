"""Remove the cache. It is only ever a matter of speed."""

from __future__ import annotations

import argparse

from lossproof import cachedir, config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``lossproof clean``."""
    parser.add_argument("--cache-dir", metavar="DIR", help="the cache to remove (default: the configured one)")


def run(args: argparse.Namespace) -> int:
    """Remove it, and say what was removed."""
    path = args.cache_dir or config.load().cache_dir or cachedir.default()
    print(f"removed {path}" if cachedir.remove(path) else f"nothing to remove: {path}")
    return 0
