"""GitLab code quality: the widget in a merge request."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from lossproof.fingerprint import numbered, posix

if TYPE_CHECKING:
    from lossproof.check import Report

_SEVERITIES = {"error": "critical", "warning": "minor", "info": "info"}


def render(report: Report) -> str:
    """A fingerprint has no line number in it, so a finding that only moves is not new."""
    issues: list[dict[str, Any]] = []
    for finding, mark, number in numbered(report.findings, report.texts):
        where = finding.location
        issues.append(
            {
                "description": f"{finding.rule} {finding.name}: {finding.message}",
                "check_name": finding.rule,
                "fingerprint": hashlib.sha256(f"{mark}:{number}".encode()).hexdigest(),
                "severity": _SEVERITIES[finding.severity.value],
                "location": {
                    "path": posix(where.path),
                    "positions": {
                        "begin": {"line": where.line, "column": where.column},
                        "end": {"line": where.end_line, "column": where.end_column},
                    },
                },
            }
        )
    return json.dumps(issues, indent=2) + "\n"
