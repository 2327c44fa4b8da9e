"""One run over a project: files are read, those that matter are investigated, findings are collected."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Sequence

from lossproof.finding import Finding, Location
from lossproof.source.contexts import Contexts
from lossproof.source.discover import SourceFile
from lossproof.source.engine import Analysis, matters
from lossproof.source.evaluate import Evaluator
from lossproof.source.facts import Fact, location
from lossproof.source.gradient import Gradients
from lossproof.source.investigate import Investigation
from lossproof.source.kept import KeptLosses
from lossproof.source.notebook import LineMap, to_python
from lossproof.source.operations import Operations
from lossproof.source.project import Project
from lossproof.source.softmaxes import softmax_calls
from lossproof.source.syntax import Function
from lossproof.source.texts import decode

# Steps whose operand a caller may have made safe.
_GUARDABLE = ("div", "log", "log1p", "sqrt", "rsqrt", "pow", "acos", "exp", "mean", "where", "late", "mask", "select")
SMALL_PROJECT = 1_000_000
# Bytes of source. Trees and value graphs take some thirty times as much memory, so a large project is worked
# through with a memory that is emptied now and then; callers are then looked for by name in the files' text.
LARGE_PROJECT = 4_000_000
MEMORY = 6_000_000
# A name that more files than this call is nobody's in particular.
MOST_NAMING = 3
_CALLED = re.compile(rb"([A-Za-z_]\w*)[ \t]*\(")
_BASES = re.compile(rb"class[ \t]+\w+[ \t]*\(([^)]*)\)")


Judge = Callable[[Fact], list[Finding]]
Share = tuple[list[Finding], list[Location], list[str], set[str], set[str], bool]
# The session that forked processes find in the memory they were given.
_shared: Session | None = None


def _work(paths: Sequence[str]) -> Share:
    assert _shared is not None
    return _shared.share(paths)


class Session:
    def __init__(self, root: str, files: Sequence[SourceFile], judge: Judge) -> None:
        self.files = {f.path: f for f in files}
        self.line_maps: dict[str, LineMap] = {}
        self.data: dict[str, bytes] = {}
        self.judge = judge
        self.analysis = Analysis()
        self.root = root
        self.relevant: list[str] = []
        self.small = True
        self.large = False
        self.stumbled = False
        # In a large project: which relevant files call or derive from something of a name.
        self.names: dict[str, list[str]] = {}
        self.parsed: set[str] = set()
        self._consulted: set[str] = set()
        self._unresolved: dict[Location, None] = {}
        self._seen: set[tuple[object, ...]] = set()
        self._begin()

    def _begin(self) -> None:
        """An empty memory: nothing parsed, nothing evaluated."""
        self.project = Project(self.root, [(f.path, f.display) for f in self.files.values()], self.text)
        self.ev = Evaluator(self.project)
        self.contexts = Contexts(self.ev, self.load_naming)
        self._named: set[str] = set()
        # Files that nothing has asked for yet.
        self._waiting: list[str] = []
        self.investigation = Investigation(self.ev, self.contexts, self.emit)
        self.operations = Operations(self.ev, self.contexts)
        self.gradients = Gradients(self.ev, self.contexts, self.investigation, self.operations.slices)
        self.kept = KeptLosses(self.ev, self.contexts, self.investigation, self.operations.slices, self.gradients)

    def _end(self) -> None:
        """Keep what this memory has told, so that it can be let go."""
        for warning in self.project.warnings:
            if warning not in self.analysis.warnings:
                self.analysis.warnings.append(warning)
        self._consulted |= self.project.consulted
        self.parsed.update(module.path for module in self.project.loaded())
        unknown = "what reaches this loss is unknown"
        for fact in self.investigation.unresolved:
            self._unresolved[location(fact.module, fact.node.at, unknown)] = None
        self.investigation.unresolved.clear()

    def text(self, path: str) -> str:
        data = self.data.get(path)
        if data is None:
            data = self.files[path].read()
        if path.endswith(".ipynb"):
            text, line_map = to_python(data)
            self.line_maps[path] = line_map
            return text
        if b"\x00" in data:
            raise ValueError("contains null bytes; it is not Python source")
        return decode(data)

    def load_naming(self, name: str) -> None:
        """Parse the relevant files that mention a name: a caller can only be in one of them."""
        if name in self._named:
            return
        self._named.add(name)
        if self.large:
            paths = self.names.get(name, ())
            for path in paths if len(paths) <= MOST_NAMING else ():
                self.load(path)
        if not self.small or name in ("forward", "__call__", "__init__"):
            return  # everything that matters is parsed
        word = name.encode()
        read = self.project.consulted
        self._waiting = [path for path in self._waiting if path not in read]
        for path in self._waiting:
            if word in self.data[path]:
                self.load(path)

    def load(self, path: str) -> None:
        module = self.project.load(path)
        if module is not None and module.line_map is None and path in self.line_maps:
            module.line_map = self.line_maps[path]

    def rests_on(self) -> dict[str, bytes | None]:
        """The files that the findings depend on, with their content where it was kept."""
        return {**dict.fromkeys(self._consulted), **self.data}

    def run(self, progress: Callable[[int, int], None] | None, jobs: int = 1) -> Analysis:
        size = 0
        others: list[tuple[str, bytes]] = []
        marked: set[str] = set()
        self.analysis.marked = marked
        for path, file in self.files.items():
            try:
                data = file.read()
            except OSError as error:
                self.analysis.warnings.append(f"{file.display}: {error.strerror or error}")
                continue
            if b"lossproof:" in data or b"noqa" in data:
                from lossproof.source.suppress import may_hold

                if may_hold(data):
                    marked.add(path)
            if matters(data):
                self.relevant.append(path)
                self.data[path] = data
            else:
                size += len(data)
                if size <= SMALL_PROJECT:
                    others.append((path, data))
        self.small = size <= SMALL_PROJECT
        if self.small:
            # The script that only builds a trainer mentions no loss; in a project of this size it is looked at too.
            self.data.update(others)
        self.large = sum(len(self.data[path]) for path in self.relevant) > LARGE_PROJECT
        if self.large:
            self.names = _names(self.relevant, self.data)
        else:
            for path in self.relevant:
                self.load(path)
        self._waiting = list(self.data)
        if self.large and jobs > 1 and hasattr(os, "fork"):
            self._share(jobs, progress)
        else:
            self._investigate(self.relevant, progress)
        self.analysis.files_seen = len(self.files)
        self._end()
        self.analysis.files_parsed = len(self.parsed)
        self.analysis.unresolved = list(self._unresolved)
        return self.analysis

    def _share(self, jobs: int, progress: Callable[[int, int], None] | None) -> None:
        """The relevant files among processes, neighbours together: they use the same modules."""
        import multiprocessing

        global _shared
        size = max(1, len(self.relevant) // (jobs * 6))
        parts = [self.relevant[i : i + size] for i in range(0, len(self.relevant), size)]
        _shared = self
        done = 0
        try:
            with multiprocessing.get_context("fork").Pool(jobs) as pool:
                for part, result in zip(parts, pool.imap(_work, parts), strict=True):
                    findings, unresolved, warnings, parsed, consulted, stumbled = result
                    for finding in findings:
                        self.add(finding)
                    self._unresolved.update(dict.fromkeys(unresolved))
                    self.analysis.warnings.extend(w for w in warnings if w not in self.analysis.warnings)
                    self.parsed |= parsed
                    self._consulted |= consulted
                    self.stumbled = self.stumbled or stumbled
                    done += len(part)
                    if progress is not None:
                        progress(done, len(self.relevant))
        finally:
            _shared = None

    def share(self, paths: Sequence[str]) -> Share:
        """One process's part: what it found and what that rests on."""
        self.analysis = Analysis()
        self._seen, self._unresolved = set(), {}
        self._investigate(paths, None)
        self._end()
        found = self.analysis
        return found.findings, list(self._unresolved), found.warnings, self.parsed, self._consulted, self.stumbled

    def _investigate(self, paths: Sequence[str], progress: Callable[[int, int], None] | None) -> None:
        for i, path in enumerate(paths):
            if self.large and self.project.size > MEMORY:
                self._end()
                self._begin()
                gc.collect()
            self.load(path)
            module = self.project.load(path)
            if module is not None and not module.is_test:
                steps = [self.arithmetic, self.bookkeeping]
                if "oft" in module.source:
                    steps.append(self.softmaxes)
                for function in module.functions:
                    self.attempt(self.investigation.function, function)
                for function in module.functions:
                    for step in steps:
                        self.attempt(step, function)
            if progress is not None:
                progress(i + 1, len(paths))

    def arithmetic(self, function: Function) -> None:
        """The operations of a function's losses, with the guards that its callers may have put up."""
        for fact in self.operations.facts(function):
            found = self.judge(fact)
            if not found:
                continue
            wider = self.operations.again(fact) if fact.op in _GUARDABLE else []
            if wider:
                rules = {f.rule for f in found}
                found = [f for other in wider for f in self.judge(other) if f.rule in rules]
            for finding in found:
                self.add(finding)

    def attempt(self, step: Callable[[Function], None], function: Function) -> None:
        """One function's share of the work: whatever breaks in it, the others are still looked at."""
        try:
            step(function)
        except Exception as error:
            self.stumbled = True
            reason = f"{type(error).__name__}: {error}".split("\n", 1)[0][:200]
            self.analysis.warnings.append(
                f"{function.module.display}: something went wrong inside lossproof in {function.qualname} ({reason}); "
                "the rest was checked. Please report it"
            )

    def bookkeeping(self, function: Function) -> None:
        for fact in (*self.kept.facts(function), *self.gradients.facts(function)):
            self.emit(fact)

    def softmaxes(self, function: Function) -> None:
        for fact in softmax_calls(self.ev, function):
            self.emit(fact)

    def emit(self, fact: Fact) -> None:
        for finding in self.judge(fact):
            self.add(finding)

    def add(self, finding: Finding) -> None:
        where = finding.location
        key = (finding.rule, where.path, where.cell, where.line, where.column)
        if key not in self._seen:
            self._seen.add(key)
            self.analysis.findings.append(finding)


def _names(paths: Sequence[str], data: dict[str, bytes]) -> dict[str, list[str]]:
    """Every name that is called or derived from, with the files that do."""
    index: dict[str, list[str]] = {}
    for path in paths:
        text = data[path]
        words = set(_CALLED.findall(text))
        for bases in _BASES.findall(text):
            words.update(part.strip().rpartition(b".")[2] for part in bases.split(b","))
        for word in words:
            index.setdefault(word.decode("utf-8", "replace"), []).append(path)
    return index
