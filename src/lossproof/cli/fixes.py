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
        if not args.quiet:
            mends = f"{plural(len(mended.fixed), 'finding')} in {plural(len(mended.changes), 'file')}"
            output.say(f"Would mend {mends}." if mended.fixed else "Nothing to mend.")
        return bool(mended.changes)
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
