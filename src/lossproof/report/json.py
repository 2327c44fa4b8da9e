"""JSON: an array of findings, as the contract has it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lossproof.fingerprint import posix

if TYPE_CHECKING:
    from lossproof.check import Report
    from lossproof.finding import Finding


def render(report: Report) -> str:
    """The findings, indented for people who look into it."""
    return json.dumps([record(finding) for finding in report.findings], indent=2) + "\n"


def record(finding: Finding) -> dict[str, Any]:
    """One finding, its paths with forward slashes on every system."""
    found = finding.as_dict()
    found["path"] = posix(found["path"])
    for hop in found["related"]:
        hop["path"] = posix(hop["path"])
    return found
