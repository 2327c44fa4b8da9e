"""The files of a project, and which of them an import means.

Files are parsed only when something asks for them.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterable

from lossproof.source import ledger, outline
from lossproof.source.ledger import Ledger
from lossproof.source.syntax import ClassInfo, Function, ParsedModule, dotted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lossproof.source.memory import Parsed

# Libraries whose meaning is built in: their names are never looked up among the project's files, even
# when the project is the library itself.
BUILT_IN = {"torch", "numpy", "math", "functools", "collections", "typing", "copy", "itertools", "os", "sys"}


class Project:
    """Finds, reads and parses the files that names lead to."""

    def __init__(
        self,
        root: str,
        paths: Iterable[tuple[str, str]],
        read: Callable[[str], str],
        parsed: Parsed | None = None,
    ) -> None:
        self.root = root
        self._parsed = parsed
        self.fixes = True
        """Whether it is wanted how a finding can be mended."""
        self.told: set[tuple[object, ...]] = set()
        """Which rules have spoken of which places, in the file at hand."""
        self.ledger = Ledger(parsed.begin() if parsed is not None else None)
        self.display = dict(paths)
        self._order = {path: place for place, path in enumerate(self.display)}
        self._read = read
        self._by_stem: dict[str, list[str]] = {}
        for path in self.display:
            self._by_stem.setdefault(_stem(path), []).append(path)
        self._modules: dict[str, ParsedModule | None] = {}
        self._resolved: dict[tuple[str, str], str | None] = {}
        self.warnings: dict[str, str] = {}
        # Over all parsed files: calls by the last name of the callee, classes by the last name of a base.
        self._calls_named: dict[str, list[tuple[ParsedModule, ast.Call, Function]]] = {}
        self._classes_named: dict[str, list[ClassInfo]] = {}
        self._classes_on: dict[str, list[ClassInfo]] = {}
        self.consulted: set[str] = set()
        self._mentioning: dict[str, list[str]] = {}
        self.size = 0

    def load(self, path: str) -> ParsedModule | None:
        """The parsed file, or ``None`` where it cannot be read as Python (a warning says why)."""
        self.consulted.add(path)
        if path in self._modules:
            known = self._modules[path]
            self.ledger.mask |= known.body.rests if known is not None else self.ledger.bit(ledger.text(path))
            return known
        module: ParsedModule | None = None
        try:
            text = self._read(path)
            module = self._parsed.module(path, text) if self._parsed is not None else None
            if module is None:
                module = ParsedModule(path, self.display.get(path, path), _stem(path), text)
                outline.enter(module, self.ledger)
                if self._parsed is not None:
                    self._parsed.keep(module)
        except SyntaxError as error:
            where = f" (line {error.lineno})" if error.lineno else ""
            self._warn(path, f"not Python that this interpreter can read: {error.msg}{where}")
        except (RecursionError, MemoryError):
            self._warn(path, "nested too deeply to be parsed")
        except (OSError, ValueError) as error:
            self._warn(path, str(error))
        self._modules[path] = module
        if module is not None:
            self.size += len(module.source)
            self.ledger.mask |= module.body.rests
            self._index(module)
        else:
            self.ledger.mask |= self.ledger.bit(ledger.text(path))
        return module

    # What was parsed first stands first in the lists below. That depends on what was asked before, so they are
    # given in the order of the files.

    def calls_named(self, name: str) -> list[tuple[ParsedModule, ast.Call, Function]]:
        """The calls of something by a name, in the parsed files."""
        return sorted(self._calls_named.get(name, ()), key=lambda site: self._order[site[0].path])

    def classes_named(self, name: str) -> list[ClassInfo]:
        return sorted(self._classes_named.get(name, ()), key=lambda info: self._order[info.module.path])

    def classes_on(self, name: str) -> list[ClassInfo]:
        """The classes with a base of a name, in the parsed files."""
        return sorted(self._classes_on.get(name, ()), key=lambda info: self._order[info.module.path])

    def may_define(self, path: str, name: str) -> bool:
        """Whether a file can bring a name: it has the word, or takes on other modules' names."""
        if path in self._modules:
            return True
        self.consulted.add(path)
        self.ledger.mask |= self.ledger.bit(ledger.text(path))
        try:
            text = self._read(path)
        except (OSError, ValueError):
            return False
        return name in text or "import *" in text

    def mentioning(self, pattern: str) -> list[str]:
        """The files, parsed or not, whose text has a pattern. The answer rests on just that, not on all the texts."""
        found = self._mentioning.get(pattern)
        if found is None:
            self.consulted.update(self.display)
            search = re.compile(pattern).search
            found = self._mentioning[pattern] = [path for path in self.display if search(self._text(path)) is not None]
        self.ledger.mask |= self.ledger.bit(ledger.mentioning(pattern, found))
        return found

    def _text(self, path: str) -> str:
        known = self._modules.get(path)
        try:
            return known.source if known is not None else self._read(path)
        except (OSError, ValueError):
            return ""

    def _index(self, module: ParsedModule) -> None:
        if not module.is_test:
            for name, calls in module.call_index.items():
                kept = self._calls_named.setdefault(name, [])
                kept.extend((module, call, holder) for call, holder in calls)
        for info in module.classes:
            if info.owner is None:
                self._classes_named.setdefault(info.name, []).append(info)
            for base in info.node.bases:
                value = base.value if isinstance(base, ast.Subscript) else base
                self._classes_on.setdefault(dotted(value).rpartition(".")[2], []).append(info)

    def _warn(self, path: str, reason: str) -> None:
        self.warnings[path] = f"{self.display.get(path, path)}: {reason}"

    @property
    def parsed(self) -> int:
        return sum(1 for m in self._modules.values() if m is not None)

    def loaded(self) -> list[ParsedModule]:
        return [m for m in self._modules.values() if m is not None]

    def find(self, importer: str, module: str, level: int) -> str | None:
        """The file that ``from module import …`` means when ``importer`` says it."""
        folder = os.path.dirname(importer)
        if level:
            for _ in range(level - 1):
                folder = os.path.dirname(folder)
            return self._at(os.path.join(folder, *module.split(".")) if module else folder)
        if module.partition(".")[0] in BUILT_IN:
            return None
        key = (folder, module)
        if key not in self._resolved:
            self._resolved[key] = self._absolute(folder, module)
        return self._resolved[key]

    def _at(self, base: str) -> str | None:
        for path in (base + ".py", os.path.join(base, "__init__.py"), base + ".ipynb"):
            if path in self.display:
                return path
        return None

    def _absolute(self, folder: str, module: str) -> str | None:
        tail = os.path.join(*module.split("."))
        place = folder
        while True:
            found = self._at(os.path.join(place, tail))
            if found is not None:
                return found
            parent = os.path.dirname(place)
            if place == self.root or parent == place:
                break
            place = parent
        for source in ("src", "lib", "python"):
            found = self._at(os.path.join(self.root, source, tail))
            if found is not None:
                return found
        # ``sys.path`` is often changed by hand: take the one file whose path ends so, if there is just one.
        wanted = (os.sep + tail + ".py", os.sep + os.path.join(tail, "__init__.py"))
        fitting = [p for p in self._by_stem.get(module.rpartition(".")[2], ()) if p.endswith(wanted)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting and "." in module:
            return max(fitting, key=lambda p: (len(os.path.commonpath([p, folder])), -len(p)))
        return None

    def submodule(self, package: ParsedModule, name: str) -> str | None:
        if os.path.basename(package.path) != "__init__.py":
            return None
        return self._at(os.path.join(os.path.dirname(package.path), name))


def _stem(path: str) -> str:
    name = os.path.basename(path)
    if name == "__init__.py":
        return os.path.basename(os.path.dirname(path))
    return re.sub(r"\.(py|ipynb)$", "", name)
