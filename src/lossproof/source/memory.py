"""The last run over a project, in the memory of a process that checks it again and again: an editor's server.

It is what the cache folder holds (``cache.py``, ``units.py``), without the way through a file: after a keystroke only
the file that changed is compared, and what rests on it is looked at again. It also keeps what the text of an unchanged
file told: the parsed file, its lines, its suppressions.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence

from lossproof.source.cache import RACY_NS, Cache
from lossproof.source.units import Earlier, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from lossproof.source.discover import SourceFile
    from lossproof.source.engine import Analysis
    from lossproof.source.syntax import ParsedModule

    T = TypeVar("T")

# Characters of source. A parsed and lowered file takes some fifty times as much memory.
MOST_SOURCE = 3_000_000
# What is remembered has a mask of so many bits, and each is a little slower than the last.
MOST_BITS = 20_000
_NOWHERE = -1


class Memory:
    """What is known of one project root since the last run that came to an end.

    ``fixes``: whether the runs also work out how to mend what they find, which can take longer than to find it.
    """

    def __init__(self, *, fixes: bool = True, parsed: Parsed | None = None) -> None:
        self.fixes = fixes
        self.record: Record | None = None
        self.parsed = parsed if parsed is not None else Parsed()
        self._analysis: Analysis | None = None
        # As in the cache: size, modification time, and the content's hash if anything rests on it.
        self._known: dict[str, list[Any]] = {}
        self._contents: dict[str, bytes] = {}
        self._derived: dict[str, dict[str, Any]] = {}
        self.spent: list[object] = []
        """What the runs since the last rest built. To take it apart takes time, and somebody may be waiting."""
        self._began = 0
        self._saved = True
        self._answered = False

    def changes(self, files: Sequence[SourceFile], matters: Callable[[bytes], bool]) -> set[str] | None:
        """The files whose change can matter since the last run; None when there was none, or files came or went."""
        self._began = time.time_ns()
        known = self._known
        if self._analysis is None or len(known) != len(files):
            return None
        changed: set[str] = set()
        for file in files:
            path = file.path
            old = known.get(path)
            if old is None:
                return None
            data = file.content
            if data is None:
                try:
                    status = os.stat(path)
                    if old[0] == status.st_size and old[1] == status.st_mtime_ns:
                        continue
                    data = file.read()
                except OSError:
                    return None
                self._contents.pop(path, None)
                state = [status.st_size, self._trusted(status.st_mtime_ns), old[2]]
            else:
                if self._contents.get(path) is data:
                    continue
                state = [_NOWHERE, _NOWHERE, old[2]]
            if (_hash(data) != old[2]) if old[2] else matters(data):
                changed.add(path)
                continue
            self._forget(path, data)
            known[path] = state
            if file.content is not None:
                self._contents[path] = data
        return changed

    def earlier(self, files: Sequence[SourceFile], changed: set[str]) -> Earlier | None:
        """The last run, for the next to start from."""
        if self.record is None or self._analysis is None:
            return None
        consulted = {path for path, known in self._known.items() if known[2]}
        displays = {file.path: file.display for file in files}
        return Earlier(self.record, changed, consulted, self._analysis.marked or (), displays)

    def answer(self) -> Analysis:
        """What the last run found. A copy: whoever asks may narrow it."""
        from lossproof.source.engine import Analysis

        assert self._analysis is not None
        copy, kept = Analysis(), self._analysis
        copy.findings, copy.warnings, copy.unresolved = list(kept.findings), list(kept.warnings), list(kept.unresolved)
        copy.marked = kept.marked
        copy.files_parsed = 0 if self._answered else kept.files_parsed
        self._answered = True
        return copy

    def adopt(self, cache: Cache, analysis: Analysis) -> None:
        """Begin with the answer that the cache held."""
        if cache.entry is None:
            return
        self._known = cache.entry["files"]
        self._contents.clear()
        self._derived.clear()
        self._analysis = analysis
        stored = cache.record(cache.entry)
        self.record = stored.whole() if stored is not None else None
        self._saved = True

    def remember(
        self,
        files: Sequence[SourceFile],
        changed: set[str] | None,
        consulted: Mapping[str, bytes | None],
        analysis: Analysis,
        record: Record,
    ) -> None:
        """Keep what a run found. ``consulted``: the files that it rests on, with their content where it is at hand."""
        known: dict[str, list[Any]] = {}
        for file in files:
            path = file.path
            old = self._known.get(path)
            if old is not None and changed is not None and path not in changed and (old[2] or path not in consulted):
                known[path] = old
                continue
            try:
                state = [_NOWHERE, _NOWHERE, ""]
                if file.content is None:
                    status = os.stat(path)
                    state = [status.st_size, self._trusted(status.st_mtime_ns), ""]
                data = consulted.get(path)
                if path in consulted:
                    state[2] = _hash(data if data is not None else file.read())
            except OSError:
                state = [_NOWHERE, _NOWHERE, ""]
            known[path] = state
            if file.content is not None:
                self._contents[path] = file.content
            else:
                self._contents.pop(path, None)
            if changed is not None:
                self._derived.pop(path, None)
        if changed is None:
            self._derived.clear()
        self._known, self._analysis, self.record, self._saved = known, analysis, record, False
        self._answered = False

    def save(self, cache: Cache) -> None:
        """Put the last run into the cache folder, if it is of what is on disk and not there already."""
        if self._saved or self._analysis is None or self.record is None or not self.fixes:
            return
        known: dict[str, list[Any]] = {}
        try:
            for path, state in self._known.items():
                if state[0] == _NOWHERE:
                    status = os.stat(path)
                    with open(path, "rb", buffering=0) as stream:
                        if stream.read() != self._contents.get(path):
                            return  # somebody is in the middle of it
                    state = [status.st_size, self._trusted(status.st_mtime_ns), state[2]]
                known[path] = state
        except OSError:
            return
        cache.put(known, self._analysis, self.record)
        self._saved = True

    def derived(self, path: str, name: str, make: Callable[[], T]) -> T:
        """Something made of one file's text, made anew when the file has changed."""
        kept = self._derived.setdefault(path, {})
        if name not in kept:
            kept[name] = make()
        found: T = kept[name]
        return found

    def _forget(self, path: str, data: bytes) -> None:
        """A file of which nothing is found changed: the answer stands, its lines and comments do not."""
        from lossproof.source.suppress import may_hold

        if self._known[path][2]:
            return  # it is the same text, in another place
        self._derived.pop(path, None)
        if self._analysis is not None and self._analysis.marked is not None:
            (self._analysis.marked.add if may_hold(data) else self._analysis.marked.discard)(path)

    def _trusted(self, modified: int) -> int:
        """A modification time that tells; one of just now may stay the same through another change."""
        return modified if self._began - modified > RACY_NS else 0


class Parsed:
    """The files that the last runs parsed, with the functions that they lowered: these depend on nothing but the text.

    What a function rests on is a bit of the ledger, so the bits are kept too, and every run's ledger has the same.
    """

    def __init__(self) -> None:
        self.bits: dict[str, int] = {}
        self._kept: dict[str, ParsedModule] = {}
        self._size = 0
        self._most_bits = 0

    def begin(self) -> dict[str, int]:
        """The bits for a run. Every name that somebody began to type has one; too many, and it begins anew."""
        if self.bits and not self._most_bits:
            self._most_bits = max(MOST_BITS, 3 * len(self.bits))
        if self._most_bits and len(self.bits) > self._most_bits:
            self.bits, self._kept, self._size, self._most_bits = {}, {}, 0, 0
        return self.bits

    def module(self, path: str, source: str) -> ParsedModule | None:
        """The file, if it was parsed with exactly this text."""
        found = self._kept.pop(path, None)
        if found is None:
            return None
        if found.source != source:
            self._size -= len(found.source)
            return None
        self._kept[path] = found  # the last used stands last
        found.forget()
        return found

    def keep(self, module: ParsedModule) -> None:
        before = self._kept.pop(module.path, None)
        if before is not None:
            self._size -= len(before.source)
        self._kept[module.path] = module
        self._size += len(module.source)
        while self._size > MOST_SOURCE and len(self._kept) > 1:
            self._size -= len(self._kept.pop(next(iter(self._kept))).source)


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
