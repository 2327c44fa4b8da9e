"""What ``check --fix`` and ``check --diff`` have to say: the patch, the list of fixes, what is left."""

from __future__ import annotations

import sys

from lossproof.cli import output
from lossproof.report.place import place, printable
from lossproof.report.summary import plural

TYPE_CHECKING = False  # importing typing for it would cost more than all of this
if TYPE_CHECKING:
    import argparse

    from lossproof.config import Config
    from lossproof.finding import Finding
    from lossproof.mend import Mended


def show(
    mended: Mended, name: str, args: argparse.Namespace, settings: Config, piped: tuple[str, bytes] | None
) -> bool:
    """Write or print the changes; whether anything is left to do. ``piped``: the path and content of standard input."""
    if args.diff:
        out = output.standard_output()
        for change in mended.changes:
            out.write(change.diff())
        _failures(mended, args)
        _proofs(mended)
        _list(mended.fixed, args)
        _left(mended, args)
        if not args.quiet:
            mends = f"{plural(len(mended.fixed), 'finding')} in {plural(len(mended.changes), 'file')}"
            left = len(mended.report.findings)
            rest = f" {plural(left, 'finding')} would be left{_how(args)}." if left else ""
            output.say((f"Would mend {mends}." if mended.fixed else "Nothing to mend.") + rest)
        return bool(mended.changes or mended.report.findings or mended.failed)
    files = plural(len(mended.changes), "file")
    if piped is not None:
        # What came in by a pipe goes out by it; a report would spoil it.
        path, data = piped
        ours = next((change for change in mended.changes if change.path == path), None)
        if ours is not None:
            mended.changes.remove(ours)
            data = ours.after
        _standard_bytes(data)
        mended.write()
    else:
        mended.write()
        output.show(mended.report, name, args, settings)
    _failures(mended, args)
    _proofs(mended)
    _list(mended.fixed, args)
    _left(mended, args)
    if not args.quiet:
        output.say(f"Mended {plural(len(mended.fixed), 'finding')} in {files}." if mended.fixed else "Nothing mended.")
    return bool(mended.report.findings or mended.failed)


def _standard_bytes(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _failures(mended: Mended, args: argparse.Namespace) -> None:
    if not args.quiet:
        for failure in mended.failed:
            output.say(f"warning: {failure}")


def _proofs(mended: Mended) -> None:
    """What running the fixes has shown: a line for each, whatever else is quiet."""
    for proof in mended.proofs:
        output.say(proof.line())


def _list(fixed: list[Finding], args: argparse.Namespace) -> None:
    for finding in fixed if args.show_fixes else ():
        note = f": {finding.remedy.note}" if finding.remedy.note else ""
        text = f"{place(finding.location)}: {finding.rule} {finding.name} mended ({finding.remedy.fixable}){note}"
        output.say(printable(text))


def _left(mended: Mended, args: argparse.Namespace) -> None:
    """What is not mended, and why not."""
    for finding in mended.report.findings if args.show_fixes else ():
        remedy = finding.remedy
        if remedy.fixable == "unsafe" and remedy.edits and not args.unsafe_fixes:
            why = "its fix is unsafe: --unsafe-fixes makes it"
        elif remedy.edits:
            why = "its fix did not do what it promised"
        else:
            why = remedy.note.removeprefix("not mended by a command: ") or "there is no fix for it"
        output.say(printable(f"{place(finding.location)}: {finding.rule} {finding.name} not mended: {why}"))


def _how(args: argparse.Namespace) -> str:
    return "" if args.show_fixes else ": --show-fixes says why"
