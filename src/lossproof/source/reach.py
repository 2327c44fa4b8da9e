"""Who can get hold of what a function or a network gives: the files, the calls, and where it goes without being called.

A reader that is missed would read logits for probabilities. So whatever may be a call of the network and is not known
to be one or not to be one, and whatever is given the network and may call it unseen, ends the attempt.
"""

from __future__ import annotations

import ast
import builtins
import os
import re
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from lossproof.source.carried import Key, Leaf
from lossproof.source.edits import Unfixable
from lossproof.source.expressions import Expressions
from lossproof.source.lower import Node
from lossproof.source.syntax import Function, ParsedModule, last
from lossproof.source.values import (
    MAX_ALTERNATIVES,
    UNKNOWN,
    Cls,
    Func,
    Inst,
    Lib,
    Ref,
    Seq,
    Super,
    T,
    Value,
    alternatives,
)

if TYPE_CHECKING:
    from lossproof.source.contexts import Contexts
    from lossproof.source.evaluate import Evaluator
    from lossproof.source.facts import LossCall
    from lossproof.source.frames import Frame

# How networks are called where nothing else is known of them.
_NETWORK = re.compile(
    r"^(?!(?:get|build|create|make|load|save|init|setup|wrap|select|define|new|prepare|update|is|has)_)"
    r".*(?:model|net|network|classifier|discriminator|generator|encoder|decoder|predictor|critic|ema)$",
    re.I,
)
# Functions that call what they are given first with the rest.
_APPLIES = frozenset(
    (
        "torch.nn.parallel.data_parallel",
        "torch.nn.parallel.data_parallel.data_parallel",
        "torch.utils.checkpoint.checkpoint",
    )
)
EXPORT = (
    "torch.onnx.export",
    "torch.jit.trace",
    "torch.jit.script",
    "torch.export.export",
    "torch.onnx.dynamo_export",
)
# Calls that may be given a network: they do not run it, or what they do with it is told by other means.
_INNOCENT = frozenset((
    "prepare", "unwrap_model", "DataParallel", "DistributedDataParallel", "watch", "summary", "compile", "to",
    "deepcopy", "copy", "save", "print", "isinstance", "type", "id", "hasattr", "getattr", "setattr", "next",
    "add_graph", "fit", "initialize", "convert_sync_batchnorm", "convert_syncbn_model", "len", "str", "repr", "append",
    "super", "ModuleList", "data_parallel", "checkpoint", "ModuleDict", "info", "debug",
    "add_module", "register_module", "clone",
))  # fmt: skip
_INNOCENT_NAME = re.compile(
    r"init|weight|param|freeze|count|checkpoint|summar|save|load|watch|print|optimizer|flops", re.I
)
# Functions of PyTorch that run what they are given.
_RUNS = frozenset(("functional_call", "vmap", "grad", "jacrev", "jacfwd", "vjp", "jvp"))
# Methods of a network that hand its output to somebody.
_ASKED = frozenset(
    ("register_forward_hook", "register_full_backward_hook", "to_onnx", "to_torchscript", "register_forward_pre_hook")
)
# Stands for the alternatives that are no longer counted.
OTHERS = Ref("")
_HOLDERS = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Starred)
_MOST_CALLS = 6_000
_MOST_FRAMES = 16
_MOST_FILES = 3_000


class Reach:
    """What gives logits from now on, and everybody who can get at it."""

    def __init__(self, fact: LossCall) -> None:
        assert fact.ev.oracle is not None
        self.fact = fact
        self.ev: Evaluator = fact.ev
        self.contexts: Contexts = fact.ev.oracle  # type: ignore[assignment]
        # The activations themselves, by function; the layers to be taken out of a Sequential.
        self.sites: dict[Function, dict[int, Leaf]] = {}
        self.elements: dict[int, tuple[ParsedModule, Any]] = {}
        # What returns logits from now on: functions with where in the result.
        self.peeled: dict[Function, frozenset[Key]] = {}
        # What takes logits from now on.
        self.params: dict[tuple[Function, str], frozenset[Key]] = {}
        self._uses: dict[Function, Expressions] = {}
        self._frames: dict[Function, list[Frame]] = {}
        self._by_function: dict[Function, list[Any]] | None = None
        self._loaded: set[str] = set()
        self._modules: list[ParsedModule] = []
        # Calls of which only elimination tells that they are of the network.
        self._unknown: set[int] = set()

    # ---- functions and their contexts

    def uses(self, function: Function) -> Expressions:
        known = self._uses.get(function)
        if known is None:
            known = self._uses[function] = Expressions(function)
            self.ev.ledger.mask |= function.rests
        return known

    def frames(self, function: Function) -> list[Frame]:
        """The contexts in which a function is known to run, else the one in which nothing is known of its callers."""
        known = self._frames.get(function)
        if known is None:
            open_frame = self.ev.open_frame(function)
            known = []
            for closed in self.contexts.expand(open_frame):
                known.extend(self._closed(closed, 3))
            del known[_MOST_FRAMES:]
            known = known or [open_frame]
            if function is self.fact.frame.function and self.fact.frame not in known:
                known.append(self.fact.frame)
            self._frames[function] = known
        return known

    def _closed(self, frame: Frame, levels: int) -> list[Frame]:
        """A frame with its callers' callers known as well, as far as they are."""
        wider = self.contexts.outer(frame) if levels else []
        return [closed for outer in wider for closed in self._closed(outer, levels - 1)] or [frame]

    # ---- what a call is of

    def _gives_logits(self, value: Value) -> bool:
        if isinstance(value, Seq):
            layer = last_layer(value)
            return layer is not None and id(layer.at) in self.elements
        return any(self._runs(value, function) for function in self.peeled)

    def _runs(self, value: Value, function: Function) -> bool:
        """Whether to call a value is to run a function."""
        if isinstance(value, Func):
            return value.function is function
        if isinstance(value, Inst):
            forward = self.ev.forward_of(value)
            return forward is not None and forward.function is function
        return False

    def _callee(self, frame: Frame, call: Any) -> list[Value]:
        node = frame.ir.by_call.get(id(call))
        if node is None:
            return []
        func = node.args[0]
        self.ev.refill()
        name = last(call.func)
        if func.op == "attr" and func.args[1] in ("forward", "__call__"):
            owners = [v for _, v in alternatives(self.ev.value(frame, func.args[0]))]
            if not any(isinstance(v, (Cls, Super)) for v in owners):
                return [self._known(v, name) for v in owners]
        found = alternatives(self.ev.value(frame, func))
        if node.args[1] and any(isinstance(v, Ref) and v.name in _APPLIES for _, v in found):
            found = alternatives(self.ev.value(frame, node.args[1][0]))  # ``data_parallel(self.main, x)``
        cut = [OTHERS] if len(found) >= MAX_ALTERNATIVES else []
        return [*(self._known(v, name) for _, v in found), *cut]

    def _known(self, value: Value, name: str) -> Value:
        """What a callee amounts to: a container of layers, the one network that there is, or what it is."""
        other: Value | None = None
        if isinstance(value, (Ref, Lib)) and value.name.startswith(("sys.modules.", "importlib.", "builtins.eval")):
            return UNKNOWN  # found by its name when the program runs
        if isinstance(value, Inst) and self.ev.forward_of(value) is None:
            other = self.ev.as_library_container(value)
        elif isinstance(value, T) and value.get("param") is not None:
            other = self.contexts.sole_model(*value.get("param"))
        elif isinstance(value, T) and value.get("undefined") is not None and not hasattr(builtins, name):
            other = self.contexts.only_network(value.get("undefined"))
        return other if other is not None else value

    def _targets(self, frame: Frame, call: Any) -> list[Function]:
        node = frame.ir.by_call.get(id(call))
        if node is None:
            return []
        self.ev.refill()
        found = [func.function for func, _, _ in self.contexts.targets(frame, node)]
        if not found:
            forwards = [self.ev.forward_of(v) for v in self._callee(frame, call) if isinstance(v, Inst)]
            found = [forward.function for forward in forwards if forward is not None]
        return found

    # ---- the calls of something

    def _calls_of(self, wanted: Callable[[Value], bool], *, networks: bool = False) -> list[tuple[Function, Any]]:
        """Every call in the project of something; ``Unfixable`` where a call might be one and nobody can tell."""
        found: list[tuple[Function, Any]] = []
        for function, call in self._calls():
            values = [v for frame in self.frames(function) for v in self._callee(frame, call)]
            if any(map(wanted, values)):
                if not all(map(wanted, values)):
                    raise Unfixable(f"`{written(call.func)}` in `{function.qualname}` may also be something else")
                found.append((function, call))
            elif networks and self._may_be_network(function, call, values):
                if not self._sole_network():
                    raise Unfixable(
                        f"`{written(call.func)}` in `{function.qualname}` ({function.module.display}) may be the same "
                        "network: it is not seen what it is"
                    )
                self._unknown.add(id(call))
                found.append((function, call))
        return found

    def _may_be_network(self, function: Function, call: Any, values: list[Value]) -> bool:
        """A callee of which nothing is known but that it is called like a network."""
        if function.cls is not None and any(f.cls is function.cls for f in self.peeled):
            return False  # the network does not hold itself
        return _NETWORK.search(last(call.func)) is not None and all(isinstance(v, T) for v in values)

    def _sole_network(self) -> bool:
        """Whether what is peeled is the only network that the project knows."""
        networks: set[Any] = set()
        for module in self._modules:
            found = self.contexts.only_network(module)
            if isinstance(found, Inst):
                networks.add(found.cls.info)
            elif not module.is_test and any(self.contexts.is_network(info) for info in module.classes):
                return False
        ours = {f.cls for f in self.peeled if f.name in ("forward", "__call__")}
        return len(networks) == 1 and networks <= ours

    def _calls(self) -> Iterator[tuple[Function, Any]]:
        """The calls that may be of a project's own functions, classes and objects."""
        for function, calls in self._held().items():
            yield from ((function, call) for call in calls)

    def _held(self) -> dict[Function, list[Any]]:
        """The calls of every function that may be of the project's own, in all files that speak of the network."""
        names = self._names()
        if self._by_function is None or not names <= self._loaded:
            found: dict[Function, list[Any]] = {}
            for module in self._speakers(names):
                for function in module.functions:
                    found[function] = [call for call in function.calls if _may_be_own(module, call)]
            if sum(map(len, found.values())) > _MOST_CALLS:
                raise Unfixable("the project is too large to be sure of everybody who reads the output")
            self._by_function = found
            self._loaded |= names
        return self._by_function

    # ---- the files that can speak of it

    def _names(self) -> set[str]:
        """What code that can get hold of the network would mention."""
        holders = {*self.sites, *self.peeled, *(function for function, _ in self.params)}
        modules = {f.module for f in holders} | {module for module, _ in self.elements.values()}
        names = {f.cls.name if f.cls is not None else f.name for f in holders}
        names.update(info.name for module in modules for info in module.classes)
        return names - {"<module>", "<lambda>"}

    def _speakers(self, wanted: set[str]) -> list[ParsedModule]:
        """The files that can get hold of something by name or import, and those that they take from in turn."""
        project = self.ev.project
        if len(project.display) > _MOST_FILES:
            raise Unfixable("the project is too large to be sure of everybody who reads the output")
        holders = {f.module.path for f in (*self.sites, *self.peeled, self.fact.frame.function)}
        holders |= {module.path for module, _ in self.elements.values()}
        names, size = set(wanted), 0
        while size < len(holders) + len(names):
            size = len(holders) + len(names)
            for path in holders:
                for function in self._module(path).functions:
                    if function.cls is None and function.parent is function.module.body:
                        if any(last(call.func) in names for call in function.calls):
                            names.add(function.name)
            words = _speaks_of(names, holders)
            for path in project.mentioning(words):
                if path not in holders:
                    module = project.load(path)
                    if module is not None and self._takes(module, names, holders):
                        holders.add(path)
        found = dict.fromkeys(path for path in project.display if path in holders)
        for path in list(found):
            found.update(dict.fromkeys(self._imported(self._module(path))))
        self._modules = [self._module(path) for path in found]
        return self._modules

    def _takes(self, module: ParsedModule, names: set[str], holders: Collection[str]) -> bool:
        """Whether a file may get one of some names, or a variable, from a file that has them."""
        project = self.ev.project
        for name, (target, attr, level) in module.imports.items():
            path = project.find(module.path, target, level) if target or level else None
            within = f"{target}.{attr}" if target else attr
            if attr is not None and within and project.find(module.path, within, level) in holders:
                return True
            if path is not None and path in holders:
                known = self._module(path).top if attr is not None else {}
                if attr is None or attr in names or attr not in known:
                    return True
            elif path is None and name in names:
                return True
        for target, level in module.star_imports:
            if project.find(module.path, target, level) in holders:
                return True
        return any(
            name not in module.top and name not in module.imports
            for name in names
            if name in module.source and name in module.call_index
        )

    def _imported(self, module: ParsedModule) -> Iterator[str]:
        """The files that a file takes something from: what it hands them may be the network."""
        project = self.ev.project
        known = [*module.imports.values(), *((target, None, level) for target, level in module.star_imports)]
        for target, attr, level in known:
            if not level and target.partition(".")[0] in _LIBRARIES:
                continue
            for name in (target, f"{target}.{attr}" if attr and target else attr or ""):
                path = project.find(module.path, name, level) if name or level else None
                if path is not None:
                    yield path

    def _module(self, path: str) -> ParsedModule:
        module = self.ev.project.load(path)
        if module is None:
            raise Unfixable(f"{self.ev.project.display.get(path, path)}, which may use the output, cannot be read")
        return module

    # ---- where the network goes without being called

    def _hand_overs(self) -> None:
        """Refuses where the network is given to code that may call it and is not seen, or is taken apart."""
        for module in self._modules:
            for function in module.functions:
                for call in function.calls:
                    self._handed_over(function, call)
                if self.elements:
                    self._taken_apart(function)

    def _handed_over(self, function: Function, call: Any) -> None:
        given = [*call.args, *(k.value for k in call.keywords)]
        asked = call.func.value if isinstance(call.func, ast.Attribute) and call.func.attr in _ASKED else None
        name = last(call.func)
        if asked is None and (name in _INNOCENT or not any(isinstance(a, _HOLDERS) for a in given)):
            return
        if asked is None and name[:1].islower() and name not in _RUNS and not _may_be_own(function.module, call):
            return  # a function of PyTorch on tensors
        for frame in self.frames(function):
            node = frame.ir.by_call.get(id(call))
            if node is None:
                continue
            self.ev.refill()
            if asked is not None and self._is_network(frame, node.args[0].args[0]):
                raise Unfixable(f"what `{written(call)}` in `{function.qualname}` does with the output is not seen")
            parts = [*node.args[1], *(part for _, part in node.args[2])]
            if any(
                isinstance(at, _HOLDERS) and self._is_network(frame, n) for at, n in zip(given, parts, strict=False)
            ):
                if not self._is_innocent(frame, call, node):
                    raise Unfixable(
                        f"`{written(call)}` in `{function.qualname}` is given the network, and what it does with the "
                        "output is not seen"
                    )

    def _is_network(self, frame: Frame, node: Node) -> bool:
        return any(self._gives_logits(v) for _, v in alternatives(self.ev.value(frame, node)))

    def _is_innocent(self, frame: Frame, call: Any, node: Node) -> bool:
        """Whether a call that is given the network is followed, or gives it back, or is known to leave it alone."""
        values = self._callee(frame, call)
        if _INNOCENT_NAME.search(last(call.func)):
            return True
        if any(isinstance(v, (Func, Cls)) or (isinstance(v, Inst) and self.ev.forward_of(v)) for v in values):
            return True
        if any(isinstance(v, Ref) and v.name in EXPORT for v in values):
            return True
        return self._is_network(frame, node)

    def _taken_apart(self, function: Function) -> None:
        """Layers that are counted: what is last is another one once the activation is gone."""
        for at in ast.walk(function.node):
            base: Any = None
            if isinstance(at, ast.Subscript) and not _is_from_the_front(at.slice):
                base = at.value
            elif isinstance(at, (ast.For, ast.comprehension)) and not _asks_for_a_type(at):
                base = at.iter
            elif isinstance(at, ast.Call) and last(at.func) in ("children", "named_children", "pop", "insert"):
                base = getattr(at.func, "value", None)
            elif isinstance(at, ast.Call) and last(at.func) in ("list", "len", "reversed", "enumerate") and at.args:
                base = at.args[0]
            node = self.uses(function).node_of.get(id(base)) if isinstance(base, (ast.Name, ast.Attribute)) else None
            if node is None:
                continue
            for frame in self.frames(function):
                self.ev.refill()
                for _, value in alternatives(self.ev.value(frame, node)):
                    if isinstance(value, Seq) and self._gives_logits(value):
                        raise Unfixable(
                            f"`{function.qualname}` looks at single layers of `{written(base)}`, of which the last "
                            "would go"
                        )


def _speaks_of(names: Collection[str], holders: Collection[str]) -> str:
    """A text with one of the names, or with an import of one of the files."""
    stems = set()
    for path in holders:
        folder, _, file = path.replace(os.sep, "/").rpartition("/")
        stem = file.rpartition(".")[0]
        stems.add(re.escape(folder.rpartition("/")[2] if stem == "__init__" else stem))
    words = "|".join(sorted(map(re.escape, names))) or "(?!)"
    files = "|".join(sorted(stems)) or "(?!)"
    return rf"\b(?:{words})\b|\b(?:from|import)\b[^\n]*\b(?:{files})\b"


def _is_from_the_front(index: Any) -> bool:
    """``layers[0]``, ``layers[:2]``; a name or a text may be anything, and is not of a container's end."""
    if isinstance(index, ast.Slice):
        ends = [index.lower, index.upper]
        return index.upper is not None and all(
            e is None or (isinstance(e, ast.Constant) and isinstance(e.value, int)) for e in ends
        )
    return isinstance(index, ast.Constant)


def _asks_for_a_type(loop: Any) -> bool:
    """``for layer in self.net: if isinstance(layer, nn.Linear): …`` does not care for an activation."""
    first = loop.body[0] if isinstance(loop, ast.For) else (loop.ifs[0] if loop.ifs else None)
    test = first.test if isinstance(first, ast.If) else first
    return test is not None and any(isinstance(at, ast.Call) and last(at.func) == "isinstance" for at in ast.walk(test))


def last_layer(value: Value) -> Lib | None:
    """The last layer of a container, through containers within."""
    for _ in range(8):
        if not isinstance(value, Seq):
            break
        ends = value.tail or (value.head if value.rest is None else ())
        if not ends:
            return None
        value = ends[-1]
    return value if isinstance(value, Lib) else None


def _may_be_own(module: ParsedModule, call: Any) -> bool:
    """Whether a call may be of something of the project's, by the look of it."""
    root = call.func
    if last(root) in ("data_parallel", "checkpoint"):
        return True
    while isinstance(root, (ast.Attribute, ast.Call, ast.Subscript)):
        if isinstance(root, ast.Call) and (last(root.func)[:1].isupper() or last(root.func) in _INNOCENT):
            return True  # ``nn.DataParallel(net).module(x)``
        root = root.func if isinstance(root, ast.Call) else root.value
    if not isinstance(root, ast.Name):
        return True
    known = module.imports.get(root.id)
    return known is None or known[0].partition(".")[0] not in _LIBRARIES


_LIBRARIES = frozenset(
    ("torch", "numpy", "math", "os", "sys", "time", "json", "random", "logging", "matplotlib", "sklearn")
)


def written(at: Any) -> str:
    return ast.unparse(at)[:40]
