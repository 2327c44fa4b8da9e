"""How often each rule was found."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossproof.check import Report


def text(report: Report) -> str:
    """A line a rule: count, code, severity, name."""
    rows = _rows(report)
    width = max((len(str(row["count"])) for row in rows), default=0)
    lines = []
    for row in rows:
        fixable = f"  ({row['fixable']} fixable)" if row["fixable"] else ""
        lines.append(f"{row['count']:>{width}}  {row['rule']}  {row['severity']:<7}  {row['name']}{fixable}\n")
    return "".join(lines)


def as_json(report: Report) -> str:
    """The same for programs."""
    return json.dumps(_rows(report), indent=2) + "\n"


def _rows(report: Report) -> list[dict[str, Any]]:
    counts = Counter(finding.rule for finding in report.findings)
    fixable = Counter(finding.rule for finding in report.findings if finding.remedy.fixable != "no")
    first = {finding.rule: finding for finding in reversed(report.findings)}
    return [
        {
            "rule": rule,
            "name": first[rule].name,
            "severity": first[rule].severity.value,
            "count": count,
            "fixable": fixable[rule],
        }
        for rule, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    ]
