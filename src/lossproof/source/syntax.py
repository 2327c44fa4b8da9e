"""One file, parsed: its functions, classes, imports and calls, before any of them is understood.

Everything here is found in a single walk over the tree. Function bodies are lowered to value graphs
(``lower.py``) only when the analysis asks for them.
"""

from __future__ import annotations

import ast
import gc
import re
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossproof.source.lower import FuncIR


class ClassInfo:
    """A class statement: its bases as written, its methods, and which of them store which attribute."""

    __slots__ = ("_stores", "body_ir", "built", "methods", "module", "name", "node", "owner", "qualname", "rests")

    def __init__(self, module: ParsedModule, node: ast.ClassDef, qualname: str, owner: Function | None) -> None:
        self.module = module
        self.node = node
        self.name = node.name
        self.qualname = qualname
        self.owner = owner
        self.methods: dict[str, Function] = {}
        self.body_ir: FuncIR | None = None
        self._stores: dict[str, list[str]] | None = None
        self.built: dict[str, list[str]] | None = None
        # What looking at the class rests on, as a mask of the ledger's.
        self.rests = 0

    def stores(self) -> dict[str, list[str]]:
        """Attribute name to the methods that assign it on ``self``, ``__init__`` first."""
        if self._stores is None:
            found: dict[str, list[str]] = {}
            for name in sorted(self.methods, key=lambda n: n != "__init__"):
                function = self.methods[name]
                me = function.first_param
                if me is None:
                    continue
                for attribute in function.stored_on(me):
                    methods = found.setdefault(attribute, [])
                    if name not in methods:
                        methods.append(name)
            self._stores = found
        return self._stores

    def __repr__(self) -> str:
        return f"<class {self.qualname}>"


class Function:
    """A ``def``, a ``lambda``, a class body or a module body, not yet lowered."""

    __slots__ = ("attribute_stores", "calls", "cls", "ir", "module", "name", "node", "parent", "qualname", "rests")

    def __init__(
        self,
        module: ParsedModule,
        node: ast.AST,
        name: str,
        qualname: str,
        parent: Function | None,
        cls: ClassInfo | None,
    ) -> None:
        self.module = module
        self.node: Any = node
        self.name = name
        self.qualname = qualname
        self.parent = parent
        self.cls = cls
        self.calls: list[ast.Call] = []
        # ``base.attr = …`` as (base, attr), in the order of the walk.
        self.attribute_stores: list[tuple[str, str]] = []
        self.ir: FuncIR | None = None
        # The part of the file that it belongs to, as a mask of the ledger's.
        self.rests: int = parent.rests if parent is not None else 0

    @property
    def first_param(self) -> str | None:
        arguments = getattr(self.node, "args", None)
        if not isinstance(arguments, ast.arguments):
            return None
        positional = arguments.posonlyargs + arguments.args
        return positional[0].arg if positional else None

    def stored_on(self, me: str) -> Iterator[str]:
        """Attributes that the body sets on a name, by assignment, registration or ``setattr``."""
        for base, attr in self.attribute_stores:
            if base == me:
                yield attr
        for call in self.calls:
            registered = _registered(call, me)
            if registered is not None:
                yield registered

    @property
    def decorators(self) -> list[str]:
        return [dotted(d.func if isinstance(d, ast.Call) else d) for d in getattr(self.node, "decorator_list", ())]

    @property
    def is_static(self) -> bool:
        return "staticmethod" in self.decorators

    def __repr__(self) -> str:
        return f"<function {self.qualname}>"


class ParsedModule:
    """A parsed file and the index over it."""

    __slots__ = (
        "_is_test",
        "body",
        "call_index",
        "classes",
        "display",
        "functions",
        "globals_cache",
        "globals_rests",
        "imports",
        "line_map",
        "lines",
        "name",
        "path",
        "source",
        "star_imports",
        "top",
        "tree",
        "view",
    )

    def __init__(self, path: str, display: str, name: str, source: str) -> None:
        self.path = path
        self.display = display
        self.name = name
        self.source = source
        self.lines: list[str] | None = None
        self._is_test: bool | None = None
        self.line_map: Any = None
        # The syntax as edits need it, once there is something to mend.
        self.view: Any = None
        self.tree = parse(source)
        self.functions: list[Function] = []
        self.classes: list[ClassInfo] = []
        # Names bound by ``def`` and ``class`` at the top level.
        self.top: dict[str, Function | ClassInfo] = {}
        # Local name -> (module, attribute or None, level) for module-level imports.
        self.imports: dict[str, tuple[str, str | None, int]] = {}
        self.star_imports: list[tuple[str, int]] = []
        # Last identifier of the callee -> the calls, with the function that holds them.
        self.call_index: dict[str, list[tuple[ast.Call, Function]]] = {}
        self.globals_cache: dict[str, Any] = {}
        self.globals_rests: dict[str, int] = {}
        self.body = Function(self, self.tree, "<module>", "<module>", None, None)
        self.functions.append(self.body)
        self._index()

    def _index(self) -> None:
        # A work list instead of recursion: nesting as deep as a generated file's cannot overflow it.
        # An entry is a node with the function and class it stands in.
        stack: list[tuple[Any, Function, ClassInfo | None]] = [(s, self.body, None) for s in reversed(self.tree.body)]
        pop, push = stack.pop, stack.append
        index = self.call_index
        while stack:
            node, function, cls = pop()
            kind = node.__class__
            if kind is ast.FunctionDef or kind is ast.AsyncFunctionDef:
                outer = cls.qualname + "." if cls is not None else _prefix(function)
                child = Function(self, node, node.name, outer + node.name, function, cls)
                self.functions.append(child)
                if cls is not None:
                    # ``@x.setter`` and overloads: the first definition is the one that computes.
                    if node.name not in cls.methods or not any(d.endswith(".setter") for d in child.decorators):
                        cls.methods[node.name] = child
                elif function is self.body:
                    self.top[node.name] = child
                for part in node.decorator_list:
                    push((part, function, None))
                for part in node.args.defaults + [d for d in node.args.kw_defaults if d is not None]:
                    push((part, function, None))
                for part in reversed(node.body):
                    push((part, child, None))
                continue
            if kind is ast.ClassDef:
                outer = cls.qualname + "." if cls is not None else _prefix(function)
                info = ClassInfo(self, node, outer + node.name, function if function is not self.body else None)
                self.classes.append(info)
                if function is self.body and cls is None:
                    self.top[node.name] = info
                for part in node.decorator_list + node.bases + node.keywords:
                    push((part, function, None))
                for part in reversed(node.body):
                    push((part, function, info))
                continue
            if kind is ast.Call:
                callee = node.func
                inner = callee.__class__
                name = callee.attr if inner is ast.Attribute else callee.id if inner is ast.Name else ""
                index.setdefault(name, []).append((node, function))
                function.calls.append(node)
            elif kind is ast.Import or kind is ast.ImportFrom:
                if function is self.body:
                    self._import(node)
                continue
            elif kind is ast.Name or kind is ast.Constant:
                continue
            elif kind is ast.Attribute and node.ctx.__class__ is ast.Store and node.value.__class__ is ast.Name:
                function.attribute_stores.append((node.value.id, node.attr))
                continue
            for field in node._fields:
                value = getattr(node, field, None)
                if value.__class__ is list:
                    for item in reversed(value):
                        if isinstance(item, ast.AST):
                            push((item, function, cls if kind in _TRANSPARENT else None))
                elif isinstance(value, ast.AST) and value.__class__ not in _CONTEXTS:
                    push((value, function, None))

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    self.imports[alias.asname] = (alias.name, None, 0)
                else:
                    top = alias.name.partition(".")[0]
                    self.imports.setdefault(top, (top, None, 0))
        else:
            module = node.module or ""
            for alias in node.names:
                if alias.name == "*":
                    self.star_imports.append((module, node.level))
                else:
                    self.imports[alias.asname or alias.name] = (module, alias.name, node.level)

    @property
    def is_test(self) -> bool:
        """A file of unit tests: what it feeds a loss is chosen to test the loss, not to train."""
        if self._is_test is None:
            self._is_test = self._looks_like_a_test()
        return self._is_test

    def _looks_like_a_test(self) -> bool:
        if not any(isinstance(f, Function) and f.name.startswith("test") for f in self.functions):
            return False
        tools = ("pytest", "unittest", "torch.testing", "absl.testing", "hypothesis", "parameterized")
        return any(m.startswith(tools) for m, _, _ in self.imports.values()) or self.name.startswith("test_")

    def forget(self) -> None:
        """Let go of what was computed in a run: other files may have changed since."""
        self.globals_cache.clear()
        self.globals_rests.clear()
        self.line_map = None  # the same lines may be in other cells

    def line_text(self, line: int) -> str:
        if self.lines is None:
            self.lines = _NEWLINE.split(self.source)
        return self.lines[line - 1] if 0 < line <= len(self.lines) else ""

    def __repr__(self) -> str:
        return f"<module {self.name}>"


# The ends of lines that Python knows; ``str.splitlines`` knows more.
_NEWLINE = re.compile(r"\r\n|\r|\n")
_TRANSPARENT = {ast.If, ast.Try, ast.With}
_CONTEXTS = {ast.Load, ast.Store, ast.Del}


def _prefix(function: Function) -> str:
    return "" if function.qualname == "<module>" else function.qualname + "."


_LONG = 150_000


def parse(source: str) -> ast.Module:
    """The tree of a source text, without the garbage collector's passes (a quarter of the time)."""
    if sys.version_info < (3, 11) and len(source) > _LONG and max(map(len, source.split("\n"))) > _LONG:
        # This Python does not raise on an expression of 100,000 terms: it crashes.
        raise RecursionError
    enabled = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return ast.parse(source)
            except SyntaxError:
                older = _modern(source)
                if older is None:
                    raise
                return ast.parse(older)
    finally:
        if enabled:
            gc.enable()


_PRINT = re.compile(
    r"^([ \t]*(?:else:|try:|finally:|if [^\n]*?:|for [^\n]*?:)?[ \t]*)print(?![ \t]*[(=.,\]\[])[ \t>][^\n]*$", re.M
)
_EXCEPT = re.compile(r"^([ \t]*except[ \t]+[\w.()]+(?:[ \t]*\([^)\n]*\))?)[ \t]*,[ \t]*\w+[ \t]*:", re.M)
_ASYNC = re.compile(r"\basync(?=[ \t]*=)")


def _modern(source: str) -> str | None:
    """Python 2 spellings that much research code still has, without moving a line; ``None`` if there are none."""
    text = _ASYNC.sub("asynk", source)
    text = _PRINT.sub(lambda m: m.group(1) + "pass", text)
    text = _EXCEPT.sub(lambda m: m.group(1) + ":", text)
    return text if text != source else None


def dotted(node: ast.AST) -> str:
    """``a.b.c`` for a chain of names, the empty string for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    parts.append(node.id)
    return ".".join(reversed(parts))


def last(callee: Any) -> str:
    """``c`` of ``a.b.c``: the name that something is called by."""
    return getattr(callee, "attr", None) or getattr(callee, "id", None) or ""


_REGISTRATIONS = ("add_module", "register_module", "register_buffer", "register_parameter")


def _registered(call: ast.Call, me: str) -> str | None:
    """The name in ``self.add_module("name", m)``, ``self.register_buffer("name", t)``, ``setattr(self, "name", v)``."""
    callee = call.func
    if isinstance(callee, ast.Attribute):
        if callee.attr not in _REGISTRATIONS or not isinstance(callee.value, ast.Name) or callee.value.id != me:
            return None
        name = call.args[0] if call.args else None
    elif isinstance(callee, ast.Name) and callee.id == "setattr" and len(call.args) == 3:
        if not isinstance(call.args[0], ast.Name) or call.args[0].id != me:
            return None
        name = call.args[1]
    else:
        return None
    return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None
