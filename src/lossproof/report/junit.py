"""JUnit XML: for build servers that understand nothing but tests."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from lossproof.fingerprint import posix
from lossproof.report.place import place

if TYPE_CHECKING:
    from lossproof.check import Report

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> str:
    """A suite a file, a failed case a finding; a single passing case when there is none."""
    total = len(report.findings)
    root = ElementTree.Element(
        "testsuites",
        {"name": "lossproof", "tests": str(max(total, 1)), "failures": str(total), "time": f"{report.seconds:.3f}"},
    )
    for path, findings in groupby(report.findings, key=lambda finding: posix(finding.path)):
        found = list(findings)
        suite = ElementTree.SubElement(
            root, "testsuite", {"name": _clean(path), "tests": str(len(found)), "failures": str(len(found))}
        )
        for finding in found:
            where = finding.location
            case = ElementTree.SubElement(
                suite,
                "testcase",
                {
                    "name": f"{finding.rule} {finding.name} ({where.line}:{where.column})",
                    "classname": _clean(path),
                    "file": _clean(path),
                    "line": str(where.line),
                },
            )
            failure = ElementTree.SubElement(
                case, "failure", {"type": finding.severity.value, "message": _clean(finding.message)}
            )
            trace = [f"{posix(place(hop))}: {hop.message}" for hop in finding.related]
            trace.append(f"{posix(place(where))}: {finding.message}")
            if finding.remedy.hint:
                trace.append(f"help: {finding.remedy.hint}")
            failure.text = _clean("\n".join(trace))
    if not total:
        suite = ElementTree.SubElement(root, "testsuite", {"name": "lossproof", "tests": "1", "failures": "0"})
        ElementTree.SubElement(suite, "testcase", {"name": "no finding", "classname": "lossproof"})
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    """Without what XML cannot hold at all, such as a form feed in a quoted line."""
    return _ILLEGAL.sub("\ufffd", text)
