"""What was found from each file and what that rests on, kept for the run after an edit.

One file a project, JSON, beside the kept answer and read only when something has changed; a process that checks again
and again keeps it in its memory. Findings are kept with their lines; where the file around them was edited, the lines
are moved with the function that they lie in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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

    def untouched(self, touched: set[str]) -> Iterator[tuple[str, Unit]]:
        """The units that rest on none of these keys."""
        for path, unit in self.units.items():
            if touched.isdisjoint(unit.rests):
                yield path, unit

    def rests(self) -> Iterable[str]:
        """Everything that some unit rests on."""
        return {key for unit in self.units.values() for key in unit.rests}

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


class Stored(Record):
    """A record that was read back; a file's findings are made of it when they are asked for."""

    def __init__(self, entry: dict[str, Any]) -> None:
        words: list[str] = entry["words"]
        super().__init__(
            {path: tuple(known) for path, known in entry["files"].items()},
            {path: [words[n] for n in found] for path, found in entry["names"].items()},
            entry["starts"],
            {path: Outline.of_record(record) for path, record in entry["outlines"].items()},
            {},
            entry["warnings"],
        )
        self._keys: list[str] = entry["keys"]
        self._stored: dict[str, list[Any]] = entry["units"]

    def untouched(self, touched: set[str]) -> Iterator[tuple[str, Unit]]:
        indices = {i for i, key in enumerate(self._keys) if key in touched}
        for path, (rests, findings, unresolved) in self._stored.items():
            if indices.isdisjoint(rests):
                unit = Unit()
                unit.rests = [self._keys[i] for i in rests]
                unit.findings = [finding_of(record) for record in findings]
                unit.unresolved = dict.fromkeys(map(location_of, unresolved))
                yield path, unit

    def rests(self) -> Iterable[str]:
        return self._keys

    def whole(self) -> Record:
        """The same, with nothing left to be read."""
        return Record(self.files, self.names, self.starts, self.outlines, dict(self.untouched(set())), self.warnings)


class Earlier:
    """An earlier run, and which files have changed since. Raises ``KeyError`` and the like for a damaged entry."""

    def __init__(
        self, record: Record, changed: set[str], consulted: set[str], marked: Iterable[str], displays: dict[str, str]
    ) -> None:
        self.changed = changed
        self.consulted = consulted
        self.marked = marked
        self.files = record.files
        self.names = record.names
        self.starts = record.starts
        self.outlines = record.outlines
        self.warnings = record.warnings
        self._record = record
        self._moved = {displays[path]: path for path in changed if path in displays}

    def bytes(self, *, relevant: bool) -> int:
        """The size of the files that mattered, or of the others."""
        return sum(size for matters, size in self.files.values() if matters is relevant)

    def rests(self) -> Iterable[str]:
        return self._record.rests()

    def units(self, touched: set[str], outlines: Mapping[str, Outline]) -> Iterator[tuple[str, Unit]]:
        """What was found from the files that rest on none of the touched keys, as it stands now."""
        for path, known in self._record.untouched(touched):
            unit = self._now(known, outlines)
            if unit is not None:
                yield path, unit

    def _now(self, known: Unit, outlines: Mapping[str, Outline]) -> Unit | None:
        """A file's findings where they stand now; ``None`` where that cannot be said."""
        unit = Unit()
        unit.rests = known.rests
        for finding in known.findings:
            edits = finding.remedy.edits
            before = [finding.location, *finding.related, *(edit.location for edit in edits)]
            if not any(place.path in self._moved for place in before):
                unit.findings.append(finding)
                continue
            places = [self._move(place, outlines) for place in before]
            kept = [place for place in places if place is not None]
            if len(kept) < len(places):
                return None
            hops = len(finding.related) + 1
            remedy = finding.remedy
            if edits:
                moved = tuple(replace(edit, location=place) for edit, place in zip(edits, kept[hops:], strict=True))
                remedy = replace(remedy, edits=moved)
            unit.findings.append(replace(finding, location=kept[0], related=tuple(kept[1:hops]), remedy=remedy))
        for place in known.unresolved:
            moved_place = self._move(place, outlines)
            if moved_place is None:
                return None
            unit.unresolved[moved_place] = None
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
