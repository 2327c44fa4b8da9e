"""Findings and places as plain data, for the files in the cache folder."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lossproof.finding import Finding, Location, Remedy


def location_record(place: Location) -> dict[str, Any]:
    return {name: getattr(place, name) for name in place.__dataclass_fields__}


def location_of(place: dict[str, Any]) -> Location:
    from lossproof.finding import Location

    return Location(**place)


def remedy_record(remedy: Remedy) -> list[Any]:
    edits = [[location_record(edit.location), edit.text] for edit in remedy.edits]
    shifts = [[s.path, s.function, s.parameter, list(s.key), s.activation, s.dim] for s in remedy.shifts]
    return [remedy.hint, remedy.fixable, edits, remedy.note, shifts]


def remedy_of(record: list[Any]) -> Remedy:
    from lossproof.finding import Edit, Remedy, Shift

    hint, fixable, edits, note, shifts = record
    return Remedy(
        hint,
        fixable,
        tuple(Edit(location_of(place), text) for place, text in edits),
        note,
        tuple(Shift(path, function, name, tuple(key), act, dim) for path, function, name, key, act, dim in shifts),
    )


def finding_record(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "name": finding.name,
        "severity": finding.severity.value,
        "message": finding.message,
        "location": location_record(finding.location),
        "related": [location_record(hop) for hop in finding.related],
        "confidence": finding.confidence,
        "remedy": remedy_record(finding.remedy),
        "evidence": finding.evidence,
        "eye": finding.eye,
    }


def finding_of(record: dict[str, Any]) -> Finding:
    from lossproof.finding import Finding, Severity

    return Finding(
        record["rule"],
        record["name"],
        Severity(record["severity"]),
        record["message"],
        location_of(record["location"]),
        tuple(location_of(hop) for hop in record["related"]),
        record["confidence"],
        remedy_of(record["remedy"]),
        record["evidence"],
        record["eye"],
    )
