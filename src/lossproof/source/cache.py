"""What was found in a tree, kept for as long as the tree stays as it was.

One file a project, JSON, written atomically, in the user's cache folder. A file counts as unchanged if size and
modification time are those of the last run, or else if its content hashes the same; an edit of a file that no rule
looks at leaves the answer standing too. Beside the answer lies what each file's part of it rests on (``units``), for
the run after any other edit. Anything unexpected in a cache file is treated as no cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence

from lossproof.problem import CannotRun
from lossproof.source.records import finding_of, finding_record, location_of, location_record

# What only some runs need is imported where it is used: an answer without findings reads back in no time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lossproof.source.discover import SourceFile
    from lossproof.source.engine import Analysis
    from lossproof.source.units import Earlier, Record, Stored

# Raised whenever the form of the entries changes.
FORM = 4
# A file changed this shortly before a run began may change again within the clock's resolution.
RACY_NS = 2_000_000_000


class Kept:
    """An earlier answer that still holds."""

    def __init__(self, entry: dict[str, Any], unresolved: bool) -> None:
        self.findings = [finding_of(f) for f in entry["findings"]]
        self.warnings: list[str] = list(entry["warnings"])
        self.marked: set[str] = set(entry["marked"])
        # There can be a lot of it, and hardly anybody asks.
        self.unresolved = [location_of(place) for place in entry["unresolved"]] if unresolved else []


class Cache:
    """The kept answer of one project root."""

    def __init__(self, folder: str, root: str, version: str) -> None:
        name = hashlib.blake2b(os.fsencode(root), digest_size=12).hexdigest()
        self.path = os.path.join(folder, f"tree-{name}.json")
        self.stamp = [FORM, version, _own_code(), list(sys.version_info[:2]), os.getcwd()]
        self.units_path = os.path.join(folder, f"units-{name}.json")
        # What changes while the run is under way must not pass for what was read.
        self._began = time.time_ns()
        # What ``read`` answered from.
        self.entry: dict[str, Any] | None = None
        self._entry: dict[str, Any] | None = None
        self._changed: set[str] = set()

    def read(self, files: Sequence[SourceFile], matters: Any, *, unresolved: bool = True) -> Kept | None:
        """The kept answer, if every file is as it was (or is one that never mattered and still does not)."""
        try:
            with open(self.path, "rb") as stream:
                entry = json.load(stream)
            if entry["stamp"] != self.stamp:
                return None
            known: dict[str, list[Any]] = entry["files"]
            if len(known) != len(files):
                return None
            refreshed = False
            changed: set[str] = set()
            for file in files:
                old = known.get(file.path)
                if old is None:
                    return None
                if file.content is not None:  # an editor's buffer, standard input, a fix on trial
                    if (_hash(file.content) != old[2]) if old[2] else matters(file.content):
                        changed.add(file.path)
                    _mark(entry["marked"], file.path, file.content)
                    continue
                status = os.stat(file.path)
                if old[0] == status.st_size and old[1] == status.st_mtime_ns:
                    continue
                data = file.read()
                if (_hash(data) != old[2]) if old[2] else matters(data):
                    changed.add(file.path)
                    continue
                known[file.path] = [status.st_size, status.st_mtime_ns, old[2]]
                _mark(entry["marked"], file.path, data)
                refreshed = True
            if changed:
                self._entry, self._changed = entry, changed
                return None
            kept = Kept(entry, unresolved)
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
            return None
        if refreshed and all(f.content is None for f in files):
            self._write(entry)
        self.entry = entry
        return kept

    def earlier(self, files: Sequence[SourceFile]) -> Earlier | None:
        """The run before an edit, if ``read`` found that some files changed and none came or went."""
        entry = self._entry
        if entry is None:
            return None
        from lossproof.source.units import Earlier

        record = self.record(entry)
        if record is None:
            return None
        try:
            consulted = {path for path, known in entry["files"].items() if known[2]}
            displays = {file.path: file.display for file in files}
            return Earlier(record, self._changed, consulted, entry["marked"], displays)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return None

    def record(self, entry: dict[str, Any]) -> Stored | None:
        """What the run that left an entry wanted the next one to know."""
        from lossproof.source.units import Stored

        try:
            with open(self.units_path, "rb") as stream:
                units = json.load(stream)
            if units["stamp"] != self.stamp or units["run"] != entry["run"]:
                return None
            return Stored(units)
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
            return None

    def write(
        self,
        files: Sequence[SourceFile],
        consulted: dict[str, bytes | None],
        analysis: Analysis,
        record: Record,
    ) -> None:
        """Keep an answer. ``consulted`` are the files that it rests on, with their content where it is at hand."""
        if any(f.content is not None for f in files):
            return  # not what is on disk
        known: dict[str, list[Any]] = {}
        before = self._entry["files"] if self._entry is not None else {}
        try:
            for file in files:
                status = os.stat(file.path)
                digest = ""
                old = before.get(file.path)
                if old is not None and old[2] and file.path not in self._changed:
                    digest = old[2]
                elif file.path in consulted:
                    data = consulted[file.path]
                    digest = _hash(data if data is not None else file.read())
                modified = status.st_mtime_ns
                known[file.path] = [status.st_size, modified if self._began - modified > RACY_NS else 0, digest]
        except OSError:
            return
        self.put(known, analysis, record)

    def put(self, known: dict[str, list[Any]], analysis: Analysis, record: Record) -> None:
        """Write an answer. ``known``: each file's size, modification time and, if anything rests on it, hash."""
        # The two files belong together: both bear the name of the run that wrote them.
        run = f"{self._began:x}-{os.getpid():x}"
        self._write({"stamp": self.stamp, "run": run, **record.entry()}, self.units_path)
        self._write(
            {
                "stamp": self.stamp,
                "run": run,
                "files": known,
                "findings": [finding_record(f) for f in analysis.findings],
                "unresolved": [location_record(place) for place in analysis.unresolved],
                "warnings": analysis.warnings,
                "marked": sorted(analysis.marked or ()),
            }
        )

    def _write(self, entry: dict[str, Any], path: str = "") -> None:
        from lossproof.atomic import write_atomically

        try:
            write_atomically(path or self.path, json.dumps(entry, separators=(",", ":")))
        except (OSError, CannotRun):
            return  # without a cache everything works, only slower


def _own_code() -> int:
    """Changes with every change of lossproof itself, also where the version stays (a checkout being worked on)."""
    newest = 0
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    stack = [os.path.join(package, "source"), os.path.join(package, "rules")]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    stack.append(entry.path)
                elif entry.name.endswith(".py"):
                    newest = max(newest, entry.stat().st_mtime_ns)
    return newest


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _mark(marked: list[str], path: str, data: bytes) -> None:
    """Bring the list of files with suppressions up to date with one of them."""
    from lossproof.source.suppress import may_hold

    if path in marked:
        marked.remove(path)
    if may_hold(data):
        marked.append(path)
