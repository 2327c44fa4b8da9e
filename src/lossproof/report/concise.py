"""One line a finding, for editors, ``grep`` and people who know the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.report.place import place, printable

if TYPE_CHECKING:
    from lossproof.check import Report


def render(report: Report) -> str:
    """``path:line:col: LP101 [error] message``."""
    return "".join(
        printable(f"{place(finding.location)}: {finding.rule} [{finding.severity.value}] {one_line(finding.message)}\n")
        for finding in report.findings
    )


def one_line(message: str) -> str:
    """The message without line breaks."""
    return " ".join(message.split())
