"""A project's modules, once as they were and once mended, side by side in one process.

Each side keeps its own modules, and has them in ``sys.modules`` only while something of it runs. A file is executed
statement by statement: definitions, imports and assignments, not what makes it a script (loops, ``with``, calls of its
own functions). A statement that fails is remembered: one absent data set does not hide every function of a file.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from lossproof.verify.worker.guard import TookTooLong
from lossproof.verify.worker.standins import StandIn

_FUTURE_ANNOTATIONS = 0x1000000


class Side:
    """The project before or after."""

    def __init__(self, folder: str, roots: Sequence[str]) -> None:
        self.folder = os.path.realpath(folder)
        self.roots = [os.path.join(self.folder, root) if root else self.folder for root in roots]
        self.modules: dict[str, ModuleType] = {}
        self.unmade: dict[str, str] = {}
        """Names that a file could not bind, with the reason."""
        self._finder = _Finder(self)
        self._inside = 0

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """The time in which imports mean this side's modules."""
        if self._inside:
            yield
            return
        self._inside = 1
        saved = list(sys.path), list(sys.argv)
        known = set(sys.modules)
        hidden = {name: sys.modules[name] for name in self.modules if name in sys.modules}
        sys.modules.update(self.modules)
        sys.path[:0] = self.roots
        sys.argv = ["train.py"]
        sys.meta_path.insert(0, self._finder)
        try:
            yield
        finally:
            sys.meta_path.remove(self._finder)
            sys.path[:], sys.argv = saved
            for name in {*self.modules, *(sys.modules.keys() - known)}:
                module = sys.modules.get(name)
                if module is not None and (name in self.modules or self.owns(module)):
                    self.modules[name] = module
                    del sys.modules[name]
            sys.modules.update(hidden)
            self._inside = 0

    def owns(self, module: Any) -> bool:
        try:
            places = [getattr(module, "__file__", None) or "", *list(getattr(module, "__path__", None) or ())]
        except Exception:  # a lazy module of somebody else
            return False
        return any(isinstance(place, str) and place.startswith(self.folder + os.sep) for place in places)

    def load(self, name: str) -> ModuleType:
        with self.active():
            return importlib.import_module(name)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, side: Side) -> None:
        self.side = side

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        spec = importlib.machinery.PathFinder.find_spec(name, self.side.roots if path is None else path)
        if spec is None:
            return None
        if spec.origin is None or spec.loader is None:  # a namespace: a real package of that name goes first
            if path is None and _elsewhere(name, self.side.roots):
                return None
            places = list(spec.submodule_search_locations or ())
            return spec if any(str(place).startswith(self.side.folder) for place in places) else None
        if not spec.origin.startswith(self.side.folder + os.sep) or not spec.origin.endswith(".py"):
            return None
        spec.loader = _Loader(name, spec.origin, self.side)
        return spec


def _elsewhere(name: str, roots: Sequence[str]) -> bool:
    spec = importlib.machinery.PathFinder.find_spec(name, [path for path in sys.path if path not in roots])
    return spec is not None and spec.loader is not None and spec.origin is not None


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, side: Side) -> None:
        super().__init__(name, path)
        self.side = side

    def exec_module(self, module: ModuleType) -> None:
        file = self.path
        with open(file, "rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(stream.read(), file)
        own = {s.name for s in tree.body if isinstance(s, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
        futures = [s for s in tree.body if isinstance(s, ast.ImportFrom) and s.module == "__future__"]
        flags = _FUTURE_ANNOTATIONS if any(a.name == "annotations" for s in futures for a in s.names) else 0
        for statement in tree.body:
            if _is_script(statement, own):
                continue
            try:
                code = compile(ast.Module([statement], []), file, "exec", flags, dont_inherit=True)
                exec(code, module.__dict__)
            except (MemoryError, TookTooLong, RecursionError):
                raise
            except BaseException as error:
                self._remember(statement, error, module)

    def _remember(self, statement: ast.stmt, error: BaseException, module: ModuleType) -> None:
        why = f"{type(error).__name__}: {error}".partition("\n")[0][:160]
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
            reason = f"needs the package {name}, which is not installed" if name else f"an import fails: {why}"
            for alias in statement.names:
                local = alias.asname or alias.name.partition(".")[0]
                full = alias.name if isinstance(statement, ast.Import) else f"{statement.module}.{alias.name}"
                if isinstance(statement, ast.Import) and alias.asname is None:
                    full = local
                if local not in module.__dict__:
                    module.__dict__[local] = StandIn(full, reason)
            return
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.side.unmade[node.id] = why
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                self.side.unmade[node.name] = why


def _is_script(statement: ast.stmt, own: set[str]) -> bool:
    """What trains or prints when the file is run, rather than defining something."""
    if isinstance(statement, (ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith)):
        return True
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        called = statement.value.func
        return isinstance(called, ast.Name) and (called.id in own or called.id == "print")
    if isinstance(statement, ast.If):
        # Only what can still be definitions: no loops, no calls for their own sake.
        return any(_is_script(inner, own) for inner in (*statement.body, *statement.orelse))
    return False
