"""What was found from each file and what that rests on, kept for the run after an edit.

One file a project, JSON, beside the kept answer and read only when something has changed. Findings are kept with their
lines; where the file around them was edited, the lines are moved with the function that they lie in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lossproof.finding import Finding, Location
from lossproof.source.outline import Outline
from lossproof.source.records import finding_of, finding_record, location_of, location_record


class Unit:
    """One file's findings, the losses in it that could not be followed, and the keys of all that this rests on."""

    __slots__ = ("findings", "rests", "unresolved")

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.unresolved: dict[Location, None] = {}
        self.rests: list[str] = []


class Record:
    """A finished run, as the next one wants to know it."""

    def __init__(
        self,
        files: Mapping[str, tuple[bool, int]],
        names: Mapping[str, list[str]],
        starts: Mapping[str, list[str]],
        outlines: Mapping[str, Outline],
        units: Mapping[str, Unit],
        warnings: Mapping[str, str],
    ) -> None:
        self.files = files
        self.names = names
        self.starts = starts
        self.outlines = outlines
        self.units = units
        self.warnings = warnings

    def entry(self) -> dict[str, Any]:
        """As JSON. Keys that many units rest on, and names that many files have, are written once."""
        keys: dict[str, int] = {}
        words: dict[str, int] = {}
        units = {
            path: [
                [keys.setdefault(key, len(keys)) for key in unit.rests],
                [finding_record(f) for f in unit.findings],
                [location_record(p) for p in unit.unresolved],
            ]
            for path, unit in self.units.items()
        }
        names = {path: [words.setdefault(n, len(words)) for n in found] for path, found in self.names.items()}
        return {
            "files": self.files,
            "units": units,
            "keys": list(keys),
            "names": names,
            "words": list(words),
            "starts": self.starts,
            "outlines": {path: found.record() for path, found in self.outlines.items()},
            "warnings": self.warnings,
        }


class Earlier:
    """An earlier run, and which files have changed since. Raises ``KeyError`` and the like for a damaged entry."""

    def __init__(
        self, entry: dict[str, Any], changed: set[str], consulted: set[str], marked: list[str], displays: dict[str, str]
    ) -> None:
        self.changed = changed
        self.consulted = consulted
        self.marked = marked
        self.files: dict[str, tuple[bool, int]] = {path: tuple(known) for path, known in entry["files"].items()}
        words: list[str] = entry["words"]
        self.names = {path: [words[n] for n in found] for path, found in entry["names"].items()}
        self.starts: dict[str, list[str]] = entry["starts"]
        self.outlines = {path: Outline.of_record(record) for path, record in entry["outlines"].items()}
        self.warnings: dict[str, str] = entry["warnings"]
        self._keys: list[str] = entry["keys"]
        self._units: dict[str, list[Any]] = entry["units"]
        self._moved = {displays[path]: path for path in changed if path in displays}
        self._touched: set[int] | None = None

    def bytes(self, *, relevant: bool) -> int:
        """The size of the files that mattered, or of the others."""
        return sum(size for matters, size in self.files.values() if matters is relevant)

    def unit(self, path: str, touched: set[str], outlines: Mapping[str, Outline]) -> Unit | None:
        """A file's findings as they stand now, or ``None`` where they have to be looked for again."""
        known = self._units.get(path)
        if known is None:
            return None
        if self._touched is None:
            self._touched = {i for i, key in enumerate(self._keys) if key in touched}
        rests, findings, unresolved = known
        if not self._touched.isdisjoint(rests):
            return None
        unit = Unit()
        unit.rests = [self._keys[i] for i in rests]
        for record in findings:
            finding = finding_of(record)
            edits = finding.remedy.edits
            places = [
                self._move(place, outlines)
                for place in (finding.location, *finding.related, *(edit.location for edit in edits))
            ]
            kept = [place for place in places if place is not None]
            if len(kept) < len(places):
                return None
            hops = len(finding.related) + 1
            remedy = finding.remedy
            if edits:
                moved = tuple(replace(edit, location=place) for edit, place in zip(edits, kept[hops:], strict=True))
                remedy = replace(remedy, edits=moved)
            unit.findings.append(replace(finding, location=kept[0], related=tuple(kept[1:hops]), remedy=remedy))
        for record in unresolved:
            place = self._move(location_of(record), outlines)
            if place is None:
                return None
            unit.unresolved[place] = None
        return unit

    def _move(self, place: Location, outlines: Mapping[str, Outline]) -> Location | None:
        path = self._moved.get(place.path)
        if path is None:
            return place
        old, new = self.outlines.get(path), outlines.get(path)
        if old is None or new is None or place.cell is not None:
            return None
        anchor = old.anchor(place.line, place.end_line)
        lines = new.place(anchor) if anchor is not None else None
        return replace(place, line=lines[0], end_line=lines[1]) if lines is not None else None
