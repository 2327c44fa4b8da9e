"""SARIF 2.1.0: for code scanning services and editors, with the way from the cause to the loss as a code flow."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lossproof import __version__
from lossproof.fingerprint import numbered, posix
from lossproof.rules import registry

if TYPE_CHECKING:
    from lossproof.check import Report
    from lossproof.finding import Finding, Location

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_PROBLEMS = {"error": "error", "warning": "warning", "info": "recommendation"}
_RANKS = {"proven": 95.0, "likely": 70.0, "possible": 40.0}
_LINK = re.compile(r"https://[^\s)>\]]+")


def render(report: Report) -> str:
    """The log, with every rule's page in it."""
    rules, index = _rules(report)
    results = [
        _result(finding, index[finding.rule], f"{mark}:{number}")
        for finding, mark, number in numbered(report.findings, report.texts)
    ]
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "lossproof",
                "semanticVersion": __version__,
                "rules": rules,
            }
        },
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The folder that the check was started in."}}},
        "invocations": [_invocation(report)],
        "results": results,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rules(report: Report) -> tuple[list[dict[str, Any]], dict[str, int]]:
    described: dict[str, dict[str, Any]] = {}
    for code, rule in registry.all_rules().items():
        described[code] = {
            "id": code,
            "name": _pascal(rule.name),
            "shortDescription": {"text": rule.summary},
            "fullDescription": {"text": rule.summary},
            "help": {"text": rule.page or rule.summary, "markdown": rule.page or rule.summary},
            "defaultConfiguration": {"level": _LEVELS[rule.severity.value]},
            "properties": {"tags": ["loss", "pytorch"], "problem.severity": _PROBLEMS[rule.severity.value]},
        }
        link = _LINK.search(rule.page)
        if link:
            described[code]["helpUri"] = link[0].rstrip(".,;")
    for finding in report.findings:
        described.setdefault(finding.rule, {"id": finding.rule, "name": _pascal(finding.name)})
    return list(described.values()), {code: at for at, code in enumerate(described)}


def _result(finding: Finding, rule_index: int, mark: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": _LEVELS[finding.severity.value],
        "rank": _RANKS[finding.confidence],
        "message": {"text": finding.message},
        "locations": [_location(finding.location)],
        "partialFingerprints": {"lossproof/v1": mark, "primaryLocationLineHash": mark},
        "properties": {
            "confidence": finding.confidence,
            "fixable": finding.remedy.fixable,
            "hint": finding.remedy.hint,
            "evidence": finding.evidence,
            "eye": finding.eye,
        },
    }
    if finding.related:
        result["relatedLocations"] = [
            {"id": number, **_location(hop)} for number, hop in enumerate(finding.related, start=1)
        ]
        steps = [*finding.related, finding.location]
        flow = [
            {
                "location": _location(step, step.message or (finding.message if step is finding.location else "")),
                "executionOrder": number,
                "importance": "essential" if number in (1, len(steps)) else "important",
            }
            for number, step in enumerate(steps, start=1)
        ]
        result["codeFlows"] = [{"threadFlows": [{"locations": flow}]}]
    return result


def _location(where: Location, message: str | None = None) -> dict[str, Any]:
    region = {"startLine": where.line, "startColumn": where.column}
    if where.end_line >= where.line:
        region |= {"endLine": where.end_line, "endColumn": where.end_column}
    found: dict[str, Any] = {"physicalLocation": {"artifactLocation": _artifact(where.path), "region": region}}
    if where.cell is not None:
        found["logicalLocations"] = [{"name": f"cell {where.cell}", "kind": "cell"}]
    text = where.message if message is None else message
    if text:
        found["message"] = {"text": text}
    return found


def _artifact(path: str) -> dict[str, str]:
    """Relative to the source root where it can be; a path that lies elsewhere as a file address."""
    address = quote(os.fsencode(posix(path)), safe="/~")
    if address.startswith("/"):
        return {"uri": f"file://{address}"}
    if os.path.isabs(path):  # a drive
        return {"uri": f"file:///{address.replace('%3A', ':', 1)}"}
    return {"uri": address, "uriBaseId": "%SRCROOT%"}


def _invocation(report: Report) -> dict[str, Any]:
    notes: list[dict[str, Any]] = [{"level": "warning", "message": {"text": text}} for text in report.warnings]
    notes += [{"level": "note", "message": {"text": str(each)}} for each in report.unused]
    if report.show_unresolved:
        notes += [
            {
                "level": "note",
                "message": {"text": f"not followed: {where.message or 'unknown value'}"},
                "locations": [_location(where, "")],
            }
            for where in report.unresolved
        ]
    invocation: dict[str, Any] = {"executionSuccessful": True}
    if notes:
        invocation["toolExecutionNotifications"] = notes
    return invocation


def _pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))
