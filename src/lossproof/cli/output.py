"""Which stream gets what: the report on standard output or in a file, everything else on standard error."""

from __future__ import annotations

import os
import sys

from lossproof.problem import CannotRun
from lossproof.report.place import place, printable
from lossproof.report.summary import remarks, summary

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    import argparse
    from typing import TextIO

    from lossproof.check import Report
    from lossproof.config import Config
    from lossproof.source.discover import Discovery


def standard_input(args: argparse.Namespace) -> tuple[str, bytes] | None:
    """The name and the content of what is piped in; None when files are checked."""
    if "-" not in args.paths and (args.paths or args.stdin_filename is None):
        return None
    return args.stdin_filename or "<stdin>", sys.stdin.buffer.read()


def format_name(args: argparse.Namespace, settings: Config) -> str:
    """The wanted format, refused before the work if it does not go with the rest."""
    name: str = args.format or settings.format or "text"
    if args.statistics and name not in ("text", "concise", "json"):
        raise CannotRun(f"--statistics comes as text, concise or json, not {name}")
    return name


def colour(args: argparse.Namespace, stream: TextIO | None) -> bool:
    """Whether to colour: as told, else as the environment says, else on a terminal."""
    if args.color != "auto":
        return bool(args.color == "always")
    if stream is None or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def show_files(found: Discovery) -> None:
    """The files that would be checked."""
    out = standard_output()
    names = {file.path: file.display for file in found.files}
    for path in found.targets:
        out.write(printable(names[path]) + "\n")


def show(report: Report, name: str, args: argparse.Namespace, settings: Config) -> None:
    """The report to where it belongs, and what is to be said about it."""
    if not args.quiet:
        for warning in report.warnings:
            say(f"warning: {warning}")
        for unused in report.unused:
            say(f"warning: {unused}")
    if args.output in (None, "-"):
        out = standard_output()
        _write(report, name, args, out, colour(args, out))
        out.flush()
    else:
        from io import StringIO

        from lossproof.atomic import write_atomically

        buffer = StringIO()
        _write(report, name, args, buffer, args.color == "always")
        write_atomically(args.output, buffer.getvalue())
    if not args.quiet:
        _afterwards(report, name, args)
    if args.verbose:
        say(f"root: {report.root}")
        say(f"configuration: {settings.path or 'none'}")
        say(f"cache: {report.cache_dir or 'none'}")
        say(f"files: {report.files_checked} checked, {report.files_seen} seen, {report.files_parsed} parsed")


def standard_output() -> TextIO:
    """Standard output, which from here on shows as an escape what it cannot encode."""
    out = sys.stdout
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="backslashreplace")
    return out


def say(message: str) -> None:
    """A line on standard error."""
    print(printable(message.encode("utf-8", "backslashreplace").decode("utf-8")), file=sys.stderr)


def _write(report: Report, name: str, args: argparse.Namespace, out: TextIO, coloured: bool) -> None:
    if args.statistics:
        from lossproof.report import statistics

        out.write(statistics.as_json(report) if name == "json" else statistics.text(report))
    elif name == "text":
        from lossproof.report import text

        text.write(report, out, colour=coloured, quiet=args.quiet)
    else:
        from lossproof.report import render

        out.write(render(name, report))


def _afterwards(report: Report, name: str, args: argparse.Namespace) -> None:
    """What the report itself has no room for."""
    listed = name == "text" and not args.statistics
    if report.show_unresolved and not listed and name != "sarif":
        for where in report.unresolved:
            say(f"{place(where)}: not followed: {where.message}")
    if listed and args.output in (None, "-"):
        return
    if name in ("text", "concise") or args.output not in (None, "-") or report.baseline_written is not None:
        say(summary(report))
        for remark in remarks(report):
            say(remark)
    elif report.stale:
        say("warning: " + remarks(report)[-1])
