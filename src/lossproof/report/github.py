"""GitHub workflow commands: each finding becomes an annotation on the pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.fingerprint import posix
from lossproof.report.place import place

if TYPE_CHECKING:
    from lossproof.check import Report
    from lossproof.finding import Finding

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def render(report: Report) -> str:
    """One command a finding. The message says where the cause is, since an annotation has one place only."""
    return "".join(_command(finding) for finding in report.findings)


def _command(finding: Finding) -> str:
    where = finding.location
    properties = {"title": f"lossproof {finding.rule} {finding.name}", "file": posix(where.path)}
    message = finding.message
    if where.cell is None:
        properties["line"] = str(where.line)
        properties["endLine"] = str(where.end_line)
        if where.line == where.end_line:  # columns are refused on more than one line
            properties["col"] = str(where.column)
            properties["endColumn"] = str(where.end_column)
    else:
        message = f"cell {where.cell}, line {where.line}: {message}"
    for hop in finding.related:
        message += f"\n{posix(place(hop))}: {hop.message}"
    if finding.remedy.hint:
        message += f"\nhelp: {finding.remedy.hint}"
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{_LEVELS[finding.severity.value]} {listed}::{_data(message)}\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
