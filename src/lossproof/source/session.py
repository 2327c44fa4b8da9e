"""One run over a project: files are read, those that matter are investigated, findings are collected.

Each relevant file is a unit: what was found from its functions, and what that rests on. A later run starts from the
units of an earlier one and investigates only those that an edit can have touched.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from lossproof.finding import Finding, Location
from lossproof.source import ledger, outline
from lossproof.source.class_weights import ClassWeights
from lossproof.source.contexts import Contexts
from lossproof.source.discover import SourceFile
from lossproof.source.engine import Analysis, matters
from lossproof.source.evaluate import Evaluator
from lossproof.source.facts import Fact, LossCall, location
from lossproof.source.feature_layers import NAMED, FeatureLayers
from lossproof.source.focal import Focals
from lossproof.source.gradient import Gradients
from lossproof.source.hazards import frozen, left_to_callers
from lossproof.source.investigate import Investigation
from lossproof.source.kept import KeptLosses
from lossproof.source.loops import TrainingLoops
from lossproof.source.modes import Modes
from lossproof.source.networks import may_build
from lossproof.source.notebook import LineMap, to_python
from lossproof.source.operations import Operations
from lossproof.source.origins import Origins
from lossproof.source.outline import Outline
from lossproof.source.perceptual import FeatureLosses
from lossproof.source.project import Project
from lossproof.source.resampling import Resampling
from lossproof.source.softmaxes import softmax_calls
from lossproof.source.syntax import Function, ParsedModule
from lossproof.source.texts import decode
from lossproof.source.training import Trainings
from lossproof.source.unheld import Unheld
from lossproof.source.units import Earlier, Record, Unit

# Steps whose operand a caller may have made safe.
_GUARDABLE = ("div", "log", "log1p", "sqrt", "rsqrt", "pow", "acos", "exp", "mean", "where", "late", "mask", "select")
# Steps of which a caller may know that their operand is at the edge: what network made it, what power it is.
_TOLD_BY_CALLERS = ("div", "log", "log1p", "sqrt", "rsqrt", "pow", "acos", "exp")
SMALL_PROJECT = 1_000_000
# Bytes of source. Trees and value graphs take some thirty times as much memory, so a large project is worked
# through in parts, each with an empty memory; callers are then looked for by name in the files' text.
LARGE_PROJECT = 4_000_000
PART = 2_000_000
# With what they import, a part's files can grow beyond that; then the memory is emptied in between.
MEMORY = 6_000_000
# In a large project a name that more files than this call is nobody's in particular, but for those in one's folder.
MOST_NAMING = 3
_CALLED = re.compile(rb"(?<!def )\b([A-Za-z_]\w*)[ \t]*\(")
_BASES = re.compile(rb"class[ \t]+(\w+)[ \t]*(?:\(([^)]*)\))?")
_BACKWARD = re.compile(rb"\b(?:manual_)?backward\(")
# What a decorator, or the class statement itself, registers something under.
_DECORATOR = re.compile(rb"^[ \t]*@[^\n]*", re.M)
_QUOTED = re.compile(rb"""["']([\w.-]+)["']""")
_KEYWORD = re.compile(rb"""=[ \t]*["']([\w.-]+)["']""")
_REGISTERED = re.compile(
    rb"^[ \t]*@[^\n]*regist[^\n]*\n(?:[ \t]*@[^\n]*\n)*[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)", re.M | re.I
)
_DEF = re.compile(rb"\bdef[ \t]+(\w+)")

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from lossproof.source.memory import Parsed

Judge = Callable[[Fact], list[Finding]]
Share = tuple[dict[str, Unit], dict[str, Outline], dict[str, str], list[str], set[str], set[str], bool]


def _work(session: Session, paths: Sequence[str], sender: Connection) -> None:
    """What a forked process does: its part, and the answer sent back."""
    sender.send(session.share(paths))
    sender.close()


class Session:
    """``keep``: whether the next run wants to start from this one; ``earlier`` is the one that this starts from.

    ``parsed``: the files of a process that stays, which also may not be forked.
    """

    def __init__(
        self,
        root: str,
        files: Sequence[SourceFile],
        judge: Judge,
        keep: bool,
        earlier: Earlier | None,
        parsed: Parsed | None = None,
        fixes: bool = True,
    ) -> None:
        self.files = {f.path: f for f in files}
        self.line_maps: dict[str, LineMap] = {}
        self.data: dict[str, bytes] = {}
        self.judge = judge
        self.keep = keep
        self.earlier = earlier
        self.memory = parsed
        self.fixes = fixes
        self.analysis = Analysis()
        self.root = root
        self.relevant: list[str] = []
        self.small = True
        self.large = False
        self.stumbled = False
        # Which files call, derive from or define something of a name; the names by file, for the next run.
        self.names: dict[str, list[str]] = {}
        self.named_in: dict[str, list[str]] = {}
        # The functions that start a backward pass, by file.
        self.starts: dict[str, list[str]] = {}
        self.trainers: set[str] = set()
        # Bytes, of the files that matter and of the others.
        self.sizes: dict[str, int] = {}
        self.others: dict[str, int] = {}
        self.units: dict[str, Unit] = {}
        self.outlines: dict[str, Outline] = {}
        self.parsed: set[str] = set()
        self._warnings: dict[str, str] = {}
        self._troubles: list[str] = []
        self._consulted: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        """An empty memory: nothing parsed, nothing evaluated."""
        self.project = Project(self.root, [(f.path, f.display) for f in self.files.values()], self.text, self.memory)
        self.project.fixes = self.fixes
        self.ev = Evaluator(self.project)
        self.contexts = Contexts(self.ev, self.load_naming)
        self.contexts.indexed = self.small
        self._named: dict[tuple[str, str], Collection[str] | None] = {}
        self.investigation = Investigation(self.ev, self.contexts, self.loss_call)
        self.operations = Operations(self.ev, self.contexts)
        self.gradients = Gradients(self.ev, self.contexts, self.investigation, self.operations.slices)
        self.kept = KeptLosses(
            self.ev, self.contexts, self.investigation, self.operations.slices, self.gradients, self.trainers
        )
        self.origins = Origins(self.ev, self.contexts)
        self.focals = Focals(self.ev, self.contexts, self.origins, self.operations.slices)
        self.class_weights = ClassWeights(self.ev, self.origins)
        self.resampling = Resampling(self.ev, self.contexts, self.origins)
        self.unheld = Unheld(self.ev, self.contexts, self.origins, self.operations.slices)
        # Those of the last three that the file at hand concerns.
        self._weighing: list[Focals | ClassWeights | Unheld] = []
        self.perceptual = FeatureLosses(self.ev, self.contexts, self.investigation, self.operations.slices)
        self.layers = FeatureLayers(self.ev, self.perceptual.networks)
        trainings = Trainings(self.ev, self.contexts)
        self.loops = TrainingLoops(trainings)
        self.modes = Modes(trainings)
        self._unit = Unit()

    def _end(self) -> None:
        """Keep what this memory has told, so that it can be let go."""
        self._warnings.update(self.project.warnings)
        self._consulted |= self.project.consulted
        for module in self.project.loaded():
            self.parsed.add(module.path)
            if self.keep and module.path not in self.outlines:
                self.outlines[module.path] = outline.outline(module)

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

    def load_naming(self, name: str, near: str) -> Collection[str] | None:
        """Parse the files that call something by a name, or define such a class or derive from it.

        A caller can only be in one of them. The script that only builds a trainer mentions no loss; in a small project
        such files are looked at too. In a large one a name that many files have is looked for in the same folder; those
        are given back.
        """
        key = (name, os.path.dirname(near) if self.large else "")
        if key in self._named:
            return self._named[key]
        paths = self.names.get(name, [])
        chosen: Collection[str] | None = None
        if self.large:
            if len(paths) > MOST_NAMING:
                folder = key[1] + os.sep
                paths = [path for path in paths if path.startswith(folder)]
                paths = paths if len(paths) <= MOST_NAMING else []
            chosen = frozenset(paths)
        elif name in ("forward", "__call__", "__init__"):
            paths = [path for path in paths if path in self.sizes]
        self._named[key] = chosen
        for path in paths:
            self.load(path)
        return chosen

    def load(self, path: str) -> None:
        module = self.project.load(path)
        if module is not None and module.line_map is None and path in self.line_maps:
            module.line_map = self.line_maps[path]

    def rests_on(self) -> dict[str, bytes | None]:
        """The files that the findings depend on, with their content where it was kept."""
        return {**dict.fromkeys(self._consulted), **dict.fromkeys(self.named_in), **self.data}

    def run(self, progress: Callable[[int, int], None] | None, jobs: int = 1) -> Analysis:
        self._read()
        todo = self.relevant
        if self.earlier is not None:
            todo = self._settled(self.earlier)
        elif not self.large:
            for path in todo:
                self.load(path)
        self._investigate_all(todo, progress, jobs)
        self._assemble()
        return self.analysis

    def _read(self) -> None:
        """Which files matter, how large they are and what they name; all are read, or only those that changed."""
        earlier = self.earlier
        marked: set[str] = set(earlier.marked if earlier is not None else ())
        for path, file in self.files.items():
            if earlier is not None and path not in earlier.changed:
                relevant, size = earlier.files.get(path, (False, 0))
            else:
                try:
                    data = file.read()
                except OSError as error:
                    self._warnings[path] = f"{file.display}: {error.strerror or error}"
                    continue
                marked.discard(path)
                if b"lossproof:" in data or b"noqa" in data:
                    from lossproof.source.suppress import may_hold

                    if may_hold(data):
                        marked.add(path)
                relevant, size = matters(data), len(data)
                self.data[path] = data
            if relevant:
                self.relevant.append(path)
                self.sizes[path] = size
            else:
                self.others[path] = size
        self.analysis.marked = marked
        self.contexts.indexed = self.small = sum(self.others.values()) <= SMALL_PROJECT
        self.large = sum(self.sizes.values()) > LARGE_PROJECT
        if not self.small:
            for path in self.others:
                self.data.pop(path, None)
        for path in [*self.relevant, *(self.others if self.small else ())]:
            known = earlier.names.get(path) if earlier is not None and path not in earlier.changed else None
            if known is None:
                data = self.data[path] if path in self.data else self.files[path].read()
                self.named_in[path], self.starts[path] = _names(data), _starts(data)
            else:
                assert earlier is not None
                self.named_in[path], self.starts[path] = known, earlier.starts[path]
        for path, names in self.named_in.items():
            for name in names:
                self.names.setdefault(name, []).append(path)
        self.trainers.update(name for names in self.starts.values() for name in names)

    def _settled(self, earlier: Earlier) -> list[str]:
        """Take over what an edit cannot have touched; the files that have to be investigated again."""
        for path in self.files:
            if path not in earlier.changed and path in earlier.outlines:
                self.outlines[path] = earlier.outlines[path]
        if (self.small, self.large) != (
            earlier.bytes(relevant=False) <= SMALL_PROJECT,
            earlier.bytes(relevant=True) > LARGE_PROJECT,
        ):
            return self.relevant  # names are looked up in other ways now
        touched: set[str] = set()
        for path in earlier.changed:
            self.load(path)
            module = self.project.load(path)
            old = earlier.outlines.get(path)
            if module is not None:
                self.outlines[path] = outline.outline(module)
            new = self.outlines.get(path)
            touched.add(ledger.text(path))
            if old is not None:
                touched |= old.changed(path, new) if new is not None else old.every_key(path)
            elif new is not None:
                touched |= new.every_key(path)
            before, now = set(earlier.names.get(path, ())), set(self.named_in.get(path, ()))
            touched.update(ledger.naming(name) for name in before ^ now)
        for key in earlier.rests():
            mentioned = ledger.mentions(key)
            if mentioned is not None and self._mentions_changed(*mentioned, earlier.changed):
                touched.add(key)
        starters = {name for names in earlier.starts.values() for name in names} ^ self.trainers
        again = {path for name in starters for path in self.names.get(name, ())} | earlier.changed
        self._consulted |= earlier.consulted
        self._warnings.update((p, w) for p, w in earlier.warnings.items() if p not in earlier.changed)
        relevant = set(self.relevant) - again
        self.units.update((p, unit) for p, unit in earlier.units(touched, self.outlines) if p in relevant)
        return [path for path in self.relevant if path not in self.units]

    def _mentions_changed(self, pattern: str, paths: Collection[str], changed: Collection[str]) -> bool:
        """Whether a changed file has a pattern that it had not, or no longer has it."""
        search = re.compile(pattern).search
        for path in changed:
            try:
                has = search(self.text(path)) is not None
            except (OSError, ValueError):
                has = False
            if has != (path in paths):
                return True
        return False

    def _investigate_all(self, todo: list[str], progress: Callable[[int, int], None] | None, jobs: int) -> None:
        if self.large and self.memory is None and hasattr(os, "fork") and sum(self.sizes[path] for path in todo) > PART:
            self._share(todo, jobs, progress)
        else:
            self._investigate(todo, progress)
        self._end()

    def _assemble(self) -> None:
        """The findings of all units, in the order of the files; what two of them found is said once."""
        seen: set[tuple[object, ...]] = set()
        unresolved: dict[Location, None] = {}
        for path in self.relevant:
            unit = self.units.get(path, Unit())
            for finding in unit.findings:
                where = finding.location
                key = (finding.rule, where.path, where.cell, where.line, where.column)
                if key not in seen:
                    seen.add(key)
                    self.analysis.findings.append(finding)
            unresolved.update(unit.unresolved)
        self.analysis.unresolved = list(unresolved)
        said = [self._warnings[path] for path in self.files if path in self._warnings]
        self.analysis.warnings = [*said, *self._troubles]
        self.analysis.files_seen = len(self.files)
        self.analysis.files_parsed = len(self.parsed)

    def record(self) -> Record:
        """What the next run may start from."""
        return Record(
            {path: (path in self.sizes, size) for path, size in {**self.sizes, **self.others}.items()},
            self.named_in,
            self.starts,
            self.outlines,
            self.units,
            self._warnings,
        )

    def _share(self, todo: list[str], jobs: int, progress: Callable[[int, int], None] | None) -> None:
        """A process for every few megabytes of source, neighbours together: they use the same modules.

        Also where only one may run at a time: a process that ends gives its memory back at once, while to look for
        garbage among millions of nodes takes as long as the work itself.
        """
        import multiprocessing
        from multiprocessing.connection import Connection, wait
        from multiprocessing.process import BaseProcess

        context = multiprocessing.get_context("fork")
        waiting = self._parts(todo)
        running: dict[Connection, tuple[BaseProcess, list[str]]] = {}
        done = 0
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    receiver, sender = context.Pipe(duplex=False)
                    process: BaseProcess = context.Process(target=_work, args=(self, waiting[0], sender))
                    process.start()
                    sender.close()
                    running[receiver] = (process, waiting.pop(0))
                for ready in wait(list(running)):
                    assert isinstance(ready, Connection)
                    receiver = ready
                    process, part = running.pop(receiver)
                    try:
                        self._take(receiver.recv())
                    except (EOFError, OSError):
                        # It died, most likely of too little memory: its files are tried again in smaller parts.
                        if len(part) > 1:
                            waiting.extend((part[: len(part) // 2], part[len(part) // 2 :]))
                            part = []
                        else:
                            self.stumbled = True
                            self._troubles.append(
                                f"{self.files[part[0]].display}: the process that looked at this file ended too early "
                                "(out of memory?); the rest was checked"
                            )
                    receiver.close()
                    process.join()
                    done += len(part)
                    if progress is not None:
                        progress(done, len(todo))
        finally:
            for process, _ in running.values():
                process.terminate()

    def _parts(self, todo: list[str]) -> list[list[str]]:
        parts: list[list[str]] = []
        room = 0
        for path in todo:
            room -= self.sizes[path]
            if room < 0:
                parts.append([])
                room = PART - self.sizes[path]
            parts[-1].append(path)
        return parts

    def _take(self, share: Share) -> None:
        units, outlines, warnings, troubles, parsed, consulted, stumbled = share
        self.units.update(units)
        self.outlines.update(outlines)
        self._warnings.update(warnings)
        self._troubles.extend(troubles)
        self.parsed |= parsed
        self._consulted |= consulted
        self.stumbled = self.stumbled or stumbled

    def share(self, paths: Sequence[str]) -> Share:
        """One process's part: what it found and what that rests on."""
        self.units, self._troubles = {}, []
        known = set(self.outlines)
        self._investigate(paths, None)
        self._end()
        outlines = {path: found for path, found in self.outlines.items() if path not in known}
        return self.units, outlines, self._warnings, self._troubles, self.parsed, self._consulted, self.stumbled

    def _investigate(self, paths: Sequence[str], progress: Callable[[int, int], None] | None) -> None:
        for i, path in enumerate(paths):
            if self.large and self.project.size > MEMORY:
                self._end()
                self._begin()
                gc.collect()
            self._unit = self.units[path] = Unit()
            self.project.told.clear()
            book = self.project.ledger
            book.mask = 0
            self.load(path)
            module = self.project.load(path)
            if module is not None and not module.is_test:
                self._module(module)
            unknown = "what reaches this loss is unknown"
            for fact in self.investigation.unresolved:
                self._unit.unresolved[location(fact.module, fact.node.at, unknown)] = None
            self.investigation.unresolved.clear()
            self._unit.rests = book.keys(book.mask)
            if progress is not None:
                progress(i + 1, len(paths))

    def _module(self, module: ParsedModule) -> None:
        steps = [self.arithmetic, self.bookkeeping, self.training]
        self._weighing = [g for g in (self.focals, self.class_weights, self.unheld) if g.concern(module.source)]
        if self._weighing:
            steps.append(self.weighing)
        if "oft" in module.source:
            steps.append(self.softmaxes)
        if may_build(module.source):
            steps.append(self.feature_networks)
            if "vgg" in module.source.lower() and NAMED.search(module.source):
                steps.append(self.feature_layers)
        for function in module.functions:
            self.attempt(self.investigation.function, function)
        for function in module.functions:
            for step in steps:
                self.attempt(step, function)

    def arithmetic(self, function: Function) -> None:
        """The operations of a function's losses, with the guards that its callers may have put up."""
        for fact in self.operations.facts(function):
            found = self.judge(fact)
            shown = self.operations.shown(fact)
            for clearer in shown:
                self.emit(clearer)
            if shown:
                continue
            if not found:
                if fact.op in _TOLD_BY_CALLERS and left_to_callers(fact):
                    for other in self.operations.again(fact):
                        if not frozen(other):
                            self._unit.findings.extend(self.judge(other))
                continue
            wider = self.operations.again(fact) if fact.op in _GUARDABLE else []
            if wider:
                rules = {f.rule for f in found}
                found = [f for other in wider for f in self.judge(other) if f.rule in rules]
            for finding in found:
                self._unit.findings.append(finding)

    def attempt(self, step: Callable[[Function], None], function: Function) -> None:
        """One function's share of the work: whatever breaks in it, the others are still looked at."""
        try:
            step(function)
        except Exception as error:
            self.stumbled = True
            reason = f"{type(error).__name__}: {error}".split("\n", 1)[0][:200]
            self._troubles.append(
                f"{function.module.display}: something went wrong inside lossproof in {function.qualname} ({reason}); "
                "the rest was checked. Please report it"
            )

    def bookkeeping(self, function: Function) -> None:
        for fact in (*self.kept.facts(function), *self.gradients.facts(function)):
            self.emit(fact)

    def weighing(self, function: Function) -> None:
        for gatherer in self._weighing:
            for fact in gatherer.facts(function):
                self.emit(fact)

    def training(self, function: Function) -> None:
        for fact in (*self.loops.facts(function), *self.modes.facts(function)):
            self.emit(fact)

    def softmaxes(self, function: Function) -> None:
        for fact in softmax_calls(self.ev, function):
            self.emit(fact)

    def loss_call(self, fact: Fact) -> None:
        self.emit(fact)
        if isinstance(fact, LossCall):
            for more in self.resampling.facts(fact):
                self.emit(more)

    def feature_networks(self, function: Function) -> None:
        for fact in self.perceptual.facts(function):
            self.emit(fact)

    def feature_layers(self, function: Function) -> None:
        for fact in self.layers.facts(function):
            self.emit(fact)

    def emit(self, fact: Fact) -> None:
        self._unit.findings.extend(self.judge(fact))


def _names(data: bytes) -> list[str]:
    """Every name that a file calls, every class that it derives from or defines, what it registers those under."""
    words = set(_CALLED.findall(data))
    for name, bases in _BASES.findall(data):
        words.add(name)
        words.update(part.strip().rpartition(b".")[2] for part in bases.split(b","))
        words.update(key.rpartition(b".")[2] for key in _KEYWORD.findall(bases))
    if b"@" in data:
        for decorator in _DECORATOR.findall(data):
            words.update(key.rpartition(b".")[2] for key in _QUOTED.findall(decorator))
        words.update(_REGISTERED.findall(data))
    words.discard(b"")
    # Interned: a thousand files use the same words.
    return sorted(sys.intern(word.decode("utf-8", "replace")) for word in words)


def _starts(data: bytes) -> list[str]:
    """The functions of a file that start a backward pass."""
    found: set[bytes] = set()
    if b"backward(" in data:
        definitions = [(match.start(), match[1]) for match in _DEF.finditer(data)]
        for match in _BACKWARD.finditer(data):
            before = [name for place, name in definitions if place < match.start()]
            if before and before[-1] not in (b"backward", b"manual_backward"):
                found.add(before[-1])
    return sorted(name.decode("utf-8", "replace") for name in found)
