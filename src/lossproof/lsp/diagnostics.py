"""Findings as an editor shows them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lsprotocol.types import (
    CodeDescription,
    Diagnostic,
    DiagnosticRelatedInformation,
    DiagnosticSeverity,
    DiagnosticTag,
)

from lossproof.finding import Finding, Location
from lossproof.lsp.pages import address
from lossproof.lsp.places import Places
from lossproof.report.place import place
from lossproof.source.suppress import Suppression

SOURCE = "lossproof"
UNUSED = "unused-suppression"
_SEVERITIES = {
    "error": DiagnosticSeverity.Error,
    "warning": DiagnosticSeverity.Warning,
    "info": DiagnosticSeverity.Information,
}
_COMMENT = re.compile(r"#\s*(?:lossproof:\s*ignore|noqa\b).*", re.I)


@dataclass
class Shown:
    """A diagnostic and the finding that it shows; none for a suppression that suppresses nothing."""

    diagnostic: Diagnostic
    finding: Finding | None


def diagnostics(places: Places, *, related: bool) -> dict[str, list[Shown]]:
    """All that a check has to say, by the address of the file or cell."""
    found: dict[str, list[Shown]] = {}
    for finding in places.checked.report.findings:
        found.setdefault(places.uri(finding.location), []).append(Shown(_diagnostic(finding, places, related), finding))
    for unused in places.checked.report.unused:
        where = places.comment(unused.path, unused.line, unused.cell, _COMMENT)
        found.setdefault(places.uri(where), []).append(Shown(_unused(unused, where, places), None))
    return found


def _diagnostic(finding: Finding, places: Places, related: bool) -> Diagnostic:
    where = finding.location
    message = finding.message if finding.confidence == "proven" else f"{finding.message} ({finding.confidence})"
    if where.cell is not None and places.cell(where) is None:
        message = f"cell {where.cell}, line {where.line}: {message}"
    hops = None
    if related and finding.related:
        hops = [DiagnosticRelatedInformation(places.place(hop), hop.message or "here") for hop in finding.related]
    elif finding.related:
        message += "".join(f"\n{number}. {place(hop)}: {hop.message}" for number, hop in enumerate(finding.related, 1))
    return Diagnostic(
        range=places.range(where),
        severity=_SEVERITIES[finding.severity.value],
        code=finding.rule,
        code_description=CodeDescription(href) if (href := address(finding.rule)) else None,
        source=SOURCE,
        message=message,
        related_information=hops,
        data={
            "rule": finding.rule,
            "name": finding.name,
            "confidence": finding.confidence,
            "hint": finding.remedy.hint,
            "evidence": finding.evidence,
        },
    )


def _unused(unused: Suppression, where: Location, places: Places) -> Diagnostic:
    what = f"{unused.code} is not found here" if unused.code else "nothing is found here"
    return Diagnostic(
        range=places.range(where),
        severity=DiagnosticSeverity.Hint,
        code=UNUSED,
        source=SOURCE,
        message=f"unused suppression: {what}",
        tags=[DiagnosticTag.Unnecessary],
    )
