"""Which pretrained networks a value is, or is a part of.

A feature network is built in one place, cut to a part in another, kept in an attribute of a third and applied in a
loop. Here a value is followed backwards through all of that, to the calls that build such a network.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from lossproof.source import ledger
from lossproof.source.contexts import Contexts
from lossproof.source.engine import NETWORK
from lossproof.source.evaluate import Evaluator
from lossproof.source.frames import Frame
from lossproof.source.lower import Node, lower, lower_class
from lossproof.source.syntax import Function, ParsedModule
from lossproof.source.torch_names import RETURNS_SELF, TRANSPARENT_WRAPPER
from lossproof.source.values import Cls, Func, Inst, Lib, Mod, Partial, Ref, Thunk, Value, alternatives, constant

# A file without any of these builds no pretrained network.
_BUILT_BY = re.compile(NETWORK.decode())
PARAMETERS = {"parameters", "named_parameters"}
_VIEWS = {"children", "modules", "named_children", "named_modules", "values", "items", "_modules", "module", "copy"}
_SAME = RETURNS_SELF | _VIEWS | PARAMETERS | {"get", "get_submodule", "unwrap_model"}
_HOLDERS = {
    "list", "tuple", "iter", "enumerate", "reversed", "dict", "set", "zip", "next", "filter", "map", "OrderedDict",
    "Sequential", "ModuleList", "ModuleDict", "chain", "deepcopy", "islice", "sorted", "copy",
}  # fmt: skip
_EXTRACTORS = {"create_feature_extractor", "IntermediateLayerGetter", "FeatureExtractor"}
_OTHER_ZOOS = (".segmentation", ".detection", ".optical_flow", ".video", ".quantization", ".ops", ".feature_extraction")
MAX_WALK = 700
MAX_DEPTH = 9
MAX_SPENT = 3_000


def may_build(source: str) -> bool:
    """Whether a file may build a pretrained network."""
    return _BUILT_BY.search(source) is not None


class Origin:
    """A call that builds a pretrained network. ``pretrained`` is None where that is not known."""

    __slots__ = ("arch", "at", "headless", "module", "pretrained", "zoo")

    def __init__(
        self, module: ParsedModule, at: Any, zoo: str, arch: str, pretrained: bool | None, headless: bool
    ) -> None:
        self.zoo = zoo
        self.module = module
        self.at = at
        self.arch = arch
        self.pretrained = pretrained
        self.headless = headless

    @property
    def key(self) -> int:
        return id(self.at)


class Net:
    """A network or a part of it: ``parts`` are the steps from the whole, outermost last.

    A step is an attribute's name, ``[2:9]``, ``=fc`` for a replaced attribute, ``before`` where other layers come
    first, ``in:Name`` where an object of a class holds it.
    """

    __slots__ = ("origin", "parts")

    def __init__(self, origin: Origin, parts: tuple[str, ...]) -> None:
        self.origin = origin
        self.parts = parts

    @property
    def held(self) -> bool:
        """Whether it was reached as something that an object holds."""
        return any(p.startswith("in:") for p in self.parts)


class Networks:
    """Follows values to the networks that they come from."""

    def __init__(self, ev: Evaluator, contexts: Contexts) -> None:
        self.ev = ev
        self.contexts = contexts
        self._left = 0
        # The work that one network has cost so far.
        self.spent = 0
        self._reached: dict[tuple[int, int, bool], list[Net]] = {}
        self._kept: list[Frame] = []
        # Where a part was cut out, by how it is written as a step.
        self.cuts: dict[str, tuple[ParsedModule, Any]] = {}

    def begin(self) -> None:
        """Forget what was found: a new file."""
        self._reached.clear()
        self._kept.clear()
        self.cuts.clear()

    # ---- the calls that build one

    def origin(self, frame: Frame, node: Node) -> Origin | None:
        """What a call builds, if that is a pretrained network."""
        func = node.args[0]
        value = self.ev.value(frame, func)
        options = alternatives(value)
        names = sorted({v.name for _, v in options if isinstance(v, Ref) and _factory(v.name)})
        if not names:
            partial = next((v for _, v in options if isinstance(v, Partial)), None)
            if partial is not None and isinstance(partial.func, Ref) and _factory(partial.func.name):
                kwargs: dict[str, Value | Thunk] = dict(partial.kwargs)
                kwargs.update((k, Thunk(frame, v)) for k, v in node.args[2] if k is not None)
                forced = {k: self.ev.force(v) for k, v in kwargs.items()}
                positional: list[Value | Thunk] = [*partial.args, *(Thunk(frame, a) for a in node.args[1])]
                args = [self.ev.force(a) for a in positional]
                return _built(partial.func.name, args, forced, frame.function.module, node.at)
            if not self._from_models(frame, func):
                return None
        # One of several: which is not known.
        name = names[0] if len(names) == 1 else "torchvision.models."
        self.ev.refill()
        args = [self.ev.value(frame, a) for a in node.args[1] if a.op != "star"]
        named = {k: self.ev.value(frame, v) for k, v in node.args[2] if k is not None}
        return _built(name, args, named, frame.function.module, node.at)

    def _from_models(self, frame: Frame, func: Node) -> bool:
        """``getattr(models, name)``, ``models.__dict__[name]``, where the name is not known."""
        base: Node | None = None
        if func.op == "sub":
            base = func.args[0]
        elif func.op == "call" and func.args[0].op == "name" and func.args[0].args[0] == "getattr" and func.args[1]:
            base = func.args[1][0]
        if base is None:
            return False
        owner = self.ev.value(frame, base)
        return any(isinstance(v, Ref) and v.name == "torchvision.models" for _, v in alternatives(owner))

    # ---- backwards

    def nets(self, frame: Frame, node: Node, deep: bool = False) -> list[Net]:
        """The networks that a value is or belongs to; ``deep``: also those that an object holds in its attributes."""
        key = (id(frame), id(node), deep)
        known = self._reached.get(key)
        if known is None and self.spent > MAX_SPENT:
            return []
        if known is None:
            found: dict[tuple[int, tuple[str, ...]], Net] = {}
            self._left = MAX_WALK
            self.ev.begin()
            before = self.ev.spent
            self._walk(frame, node, (), set(), 0, found, deep)
            known = self._reached[key] = list(found.values())
            self.spent += MAX_WALK - self._left + (self.ev.spent + self.ev.steps - before) // 4
            self._kept.append(frame)  # so that its id stays its own
        return known

    def _walk(
        self,
        frame: Frame,
        node: Node,
        parts: tuple[str, ...],
        seen: set[tuple[int, int]],
        depth: int,
        found: dict[tuple[int, tuple[str, ...]], Net],
        deep: bool,
    ) -> None:
        key = (id(frame), id(node))
        if key in seen or self._left <= 0 or depth > MAX_DEPTH:
            return
        seen.add(key)
        self._kept.append(frame)
        self.ev.ledger.mask |= frame.function.rests
        self._left -= 1
        if self._left % 50 == 0:
            self.ev.refill()

        def go(n: Node, more: tuple[str, ...] = (), where: Frame = frame, deeper: int = 0) -> None:
            self._walk(where, n, (*more, *parts), seen, depth + deeper, found, deep)

        op, args = node.op, node.args
        if op == "call":
            self._call(frame, node, parts, seen, depth, found, deep)
        elif op == "attr":
            self._attr(frame, node, parts, seen, depth, found, deep)
        elif op == "param":
            self._param(frame, node, parts, seen, depth, found, deep)
        elif op == "name":
            self._name(frame.function.module, args[0], parts, seen, depth, found, deep)
        elif op == "free":
            closure = frame.base().closure
            while closure is not None:
                inner = closure.ir.final.get(args[0])
                if inner is not None:
                    go(inner, where=closure, deeper=1)
                    return
                closure = closure.base().closure
        elif op == "sub":
            step = self._index(frame, args[1])
            at = args[1].args[0].at if args[1].op == "iter" else node.at
            self.cuts[step] = (frame.function.module, at)
            go(args[0], (step,))
        elif op == "setattr":
            go(args[0], ("=" + args[1],))
        elif op == "setitem":
            go(args[0], ("=[]",))
            go(args[2])
        elif op in ("phi",):
            for n in args[1:]:
                go(n)
        elif op == "bool":
            for n in args[1]:
                go(n)
        elif op in ("loop", "tuple", "list", "set", "append", "extend"):
            for n in args:
                if isinstance(n, Node):
                    go(n)
        elif op == "dict":
            for n in args[1]:
                go(n)
        elif op == "insert":
            go(args[0])
            go(args[2])
        elif op in ("iter", "unpack", "star", "enter", "inplace"):
            go(args[0])
        elif op == "comp":
            go(args[1])
        elif op == "bin" and args[0] == "+":
            go(args[1])
            go(args[2])
        elif op in ("import",):
            self._value(self.ev.value(frame, node), parts, seen, depth, found, deep)

    def _call(
        self,
        frame: Frame,
        node: Node,
        parts: tuple[str, ...],
        seen: set[tuple[int, int]],
        depth: int,
        found: dict[tuple[int, tuple[str, ...]], Net],
        deep: bool,
    ) -> None:
        func, given, named = node.args
        built = self.origin(frame, node)
        if built is not None:
            found.setdefault((built.key, parts), Net(built, parts))
            return
        word = func.args[1] if func.op == "attr" else func.args[0] if func.op in ("name", "free") else ""
        if not isinstance(word, str):
            word = ""
        if word == "getattr" and given:
            self._getattr(frame, node, parts, seen, depth, found, deep)
            return
        values = [v for _, v in alternatives(self.ev.value(frame, func))]
        if any(isinstance(v, (Func, Cls)) for v in values) or func.op == "attr":
            entered = False
            for target, positional, keywords in self.contexts.targets(frame, node):
                inside = self.ev.enter(target, positional, keywords, frame, node)
                if inside is None:
                    continue
                entered = True
                for returned, guard in inside.ir.returns:
                    if self.ev.reachable(inside, guard)[0]:
                        self._walk(inside, returned, parts, seen, depth + 1, found, deep)
                for item in inside.ir.yields:
                    self._walk(inside, item, parts, seen, depth + 1, found, deep)
            if entered:
                return
        if any(isinstance(v, Cls) for v in values):
            self._value(self.ev.value(frame, node), parts, seen, depth, found, deep)
            return
        if func.op == "attr" and word in _SAME and not any(isinstance(v, Ref) for v in values):
            step = (word,) if word in PARAMETERS or word in ("children", "modules", "named_modules") else ()
            self._walk(frame, func.args[0], (*step, *parts), seen, depth, found, deep)
            return
        reference = next((v.name for v in values if isinstance(v, Ref)), "")
        last = reference.rpartition(".")[2]
        if last in _EXTRACTORS or word in _EXTRACTORS:
            for n in [*given[:1], *(v for k, v in named if k == "model")]:
                self._walk(frame, n, ("extract", *parts), seen, depth, found, deep)
        elif reference in TRANSPARENT_WRAPPER or last in _HOLDERS or last in ("DataParallel", "prepare"):
            before = False
            for n in [*given, *(v for _, v in named)]:
                count = len(found)
                step = ("before",) if before and last == "Sequential" else ()
                self._walk(frame, n, (*step, *parts), seen, depth, found, deep)
                before = before or len(found) == count
        elif word in ("prepare", "setup"):
            for n in given:
                self._walk(frame, n, parts, seen, depth, found, deep)
        else:
            self._value(self.ev.value(frame, node), parts, seen, depth, found, deep)

    def _getattr(
        self,
        frame: Frame,
        node: Node,
        parts: tuple[str, ...],
        seen: set[tuple[int, int]],
        depth: int,
        found: dict[tuple[int, tuple[str, ...]], Net],
        deep: bool,
    ) -> None:
        obj, *rest = node.args[1]
        name = constant(self.ev.value(frame, rest[0])) if rest else None
        objects = [v for _, v in alternatives(self.ev.value(frame, obj)) if isinstance(v, Inst)]
        for inst in objects:
            if isinstance(name, str):
                self._attribute(inst, name, parts, seen, depth + 1, found, deep)
            else:
                self._everything(inst, parts, seen, depth, found, deep)
        if not objects:
            step = name if isinstance(name, str) else "[?]"
            self._walk(frame, obj, (step, *parts), seen, depth, found, deep)

    def _attr(
        self,
        frame: Frame,
        node: Node,
        parts: tuple[str, ...],
        seen: set[tuple[int, int]],
        depth: int,
        found: dict[tuple[int, tuple[str, ...]], Net],
        deep: bool,
    ) -> None:
        obj, name = node.args
        objects = [v for _, v in alternatives(self.ev.value(frame, obj))]
        held = False
        for v in objects:
            if isinstance(v, Inst):
                held = True
                self._attribute(v, name, parts, seen, depth + 1, found, deep)
            elif isinstance(v, Mod):
                held = True
                self._name(v.module, name, parts, seen, depth + 1, found, deep)
            elif isinstance(v, Cls):
                held = True
                self._class_attribute(v, name, parts, seen, depth + 1, found, deep)
        if not held:
            step = () if name in _VIEWS or name in ("data",) else (name,)
            self._walk(frame, obj, (*step, *parts), seen, depth, found, deep)

    def _param(
        self,
        frame: Frame,
        node: Node,
        parts: tuple[str, ...],
        seen: set[tuple[int, int]],
        depth: int,
        found: dict[tuple[int, tuple[str, ...]], Net],
        deep: bool,
    ) -> None:
        base = frame.base()
        name = node.args[0]
        given = base.args.get(name)
        if isinstance(given, Thunk):
            self._walk(given.frame, given.node, parts, seen, depth + 1, found, deep)
            return
        if given is not None:
            self._value(given, parts, seen, depth, found, deep)
            return
        function = base.function
        if base.me is not None and name == function.first_param:
            self._value(base.me, parts, seen, depth, found, deep)
            return
        default = next((p.default for p in base.ir.params if p.name == name and p.default is not None), None)
        if default is not None:
            self._walk(self.ev._definition_frame(function, base), default, parts, seen, depth + 1, found, deep)
        if not base.open or depth > MAX_DEPTH - 2:
            return
        if function.name == "__init__" and function.cls is not None:
            for caller, call, cls in self.contexts.instantiations(function.cls)[:4]:
                made = self.ev.construct(cls, *self.ev.arguments(caller, call), caller, call)
                ctor = made.ctor if isinstance(made, Inst) else None
                if ctor is not None and ctor.function is function:
                    self._walk(ctor, node, parts, seen, depth + 1, found, deep)
            return
        for caller, call, _ in self.contexts.callers(function)[:4]:
            for entered in self.contexts.enter(caller, call, function):
                self._walk(entered, node, parts, seen, depth + 1, found, deep)

    def _name(
        self,
        module: ParsedModule,
        name: str,
        parts: tuple[str, ...],
        seen: set[tuple[int, int]],
        depth: int,
        found: dict[tuple[int, tuple[str, ...]], Net],
        deep: bool,
    ) -> None:
        self.ev.ledger.mask |= module.body.rests
        inner = lower(module.body).final.get(name)
        if inner is not None and inner.op == "const" and inner.args[0] is None:
            # Made when it is first asked for: ``global NET``.
            for function in module.functions:
                stored = [s for s in ast.walk(function.node) if isinstance(s, ast.Assign) and _assigns(s, name)]
                if function is module.body or not stored or not _declares(function, name):
                    continue
                self.ev.ledger.mask |= function.rests
                for s in stored:
                    node = lower(function).by_call.get(id(s.value))
                    if node is not None:
                        self._walk(self.ev.open_frame(function), node, parts, seen, depth + 1, found, deep)
            return
        if inner is not None and inner.op != "import":
            self._walk(self.ev.open_frame(module.body), inner, parts, seen, depth + 1, found, deep)
            return
        imported = module.imports.get(name)
        if imported is not None and imported[1] is not None and depth < MAX_DEPTH:
            path = self.ev.project.find(module.path, imported[0], imported[2])
            other = self.ev.project.load(path) if path is not None else None
            if other is not None and other is not module:
                self.ev.ledger.mask |= self.ev.ledger.bit(ledger.text(other.path))
                self._name(other, imported[1], parts, seen, depth + 1, found, deep)
                return
        self._value(self.ev.global_value(module, name), parts, seen, depth, found, deep)

    def _value(
        self,
        value: Value,
        parts: tuple[str, ...],
        seen: set[tuple[int, int]],
        depth: int,
        found: dict[tuple[int, tuple[str, ...]], Net],
        deep: bool,
    ) -> None:
        for _, v in alternatives(value):
            if isinstance(v, Lib) and v.module is not None and v.at is not None and _factory(v.name):
                built = _built(v.name, list(v.args), v.kwargs, v.module, v.at)
                replaced = tuple("=" + k[1:] for k in v.kwargs if k.startswith("."))
                found.setdefault((built.key, parts), Net(built, (*replaced, *parts)))
            elif isinstance(v, Inst) and deep:
                self._everything(v, parts, seen, depth, found, deep)
            elif isinstance(v, Inst) and self.ev.library_base(v.cls).startswith("torch.nn.Sequential"):
                self._everything(v, parts, seen, depth, found, deep)

    # ---- what objects hold

    def _everything(
        self,
        inst: Inst,
        parts: tuple[str, ...],
        seen: set[tuple[int, int]],
        depth: int,
        found: dict[tuple[int, tuple[str, ...]], Net],
        deep: bool,
    ) -> None:
        key = (id(inst), 0)
        if key in seen or depth > MAX_DEPTH:
            return
        seen.add(key)
        self._kept.append(inst)  # type: ignore[arg-type]
        for c in self.ev.mro(inst.cls):
            self.ev.ledger.mask |= c.info.rests
            for name in c.info.stores():
                self._attribute(inst, name, ("in:" + inst.cls.info.name, *parts), seen, depth + 1, found, deep)
            init = c.info.methods.get("__init__")
            if init is not None and lower(init).computed:
                frame = self.ev.init_frame(inst, c)
                for _, _, item in frame.ir.computed:
                    self._walk(frame, item, ("in:" + inst.cls.info.name, *parts), seen, depth + 1, found, deep)

    def _attribute(
        self,
        inst: Inst,
        name: str,
        parts: tuple[str, ...],
        seen: set[tuple[int, int]],
        depth: int,
        found: dict[tuple[int, tuple[str, ...]], Net],
        deep: bool,
    ) -> None:
        if inst.over is not None and name in inst.over:
            self._value(inst.over[name], parts, seen, depth, found, deep)
            return
        stored = False
        for frame, nodes in self.stored(inst, name):
            stored = True
            for inner in nodes:
                self._walk(frame, inner, parts, seen, depth, found, deep)
        if stored:
            return
        for c in self.ev.mro(inst.cls):
            method = c.info.methods.get(name)
            if method is not None:
                if any(d == "property" or d.endswith("cached_property") for d in method.decorators):
                    frame = Frame(method, None, inst, c.closure, None, 1)
                    self._kept.append(frame)
                    for inner, _ in frame.ir.returns:
                        self._walk(frame, inner, parts, seen, depth, found, deep)
                return
        self._class_attribute(inst.cls, name, parts, seen, depth, found, deep)
        for c in self.ev.mro(inst.cls):
            init = c.info.methods.get("__init__")
            if init is not None and lower(init).computed:
                frame = self.ev.init_frame(inst, c)
                for _, _, item in frame.ir.computed:
                    self._walk(frame, item, parts, seen, depth, found, deep)

    def _class_attribute(
        self,
        cls: Cls,
        name: str,
        parts: tuple[str, ...],
        seen: set[tuple[int, int]],
        depth: int,
        found: dict[tuple[int, tuple[str, ...]], Net],
        deep: bool,
    ) -> None:
        from lossproof.source.evaluate import _class_function

        for c in self.ev.mro(cls):
            inner = lower_class(c.info).final.get(name)
            if inner is not None:
                frame = Frame(_class_function(c.info), {}, None, c.closure, None, 0)
                self._walk(frame, inner, parts, seen, depth, found, deep)
                return

    def stored(self, inst: Inst, name: str) -> Iterator[tuple[Frame, list[Node]]]:
        """The values that an object's methods store in an attribute, in the frames of those methods."""
        for c in self.ev.mro(inst.cls):
            methods = c.info.stores().get(name, ())
            for method_name in methods:
                method = c.info.methods[method_name]
                self.ev.ledger.mask |= method.rests
                frame = self.method(inst, c, method)
                last = frame.ir.final.get(f"{method.first_param}.{name}")
                nodes = [last] if last is not None else []
                if not nodes or nodes[0].op == "attr":
                    nodes = [s.value for s in frame.ir.stores if s.attr == name and _is_self(s.obj, method)]
                if nodes:
                    yield frame, nodes
            if methods:
                return

    def method(self, inst: Inst, c: Cls, method: Function) -> Frame:
        """The frame of a method of this object."""
        if method.name == "__init__":
            return self.ev.init_frame(inst, c)
        kept = inst.frames.get(method)
        if kept is None:
            kept = inst.frames[method] = Frame(method, None, inst, c.closure, None, 1)
        return kept

    def _index(self, frame: Frame, index: Node) -> str:
        if index.op == "iter" and index.args[0].op == "call" and getattr(index.args[0].at.func, "id", "") == "range":
            # ``for i in range(4, 9): part.append(vgg[i])``
            bounds = [constant(self.ev.value(frame, n)) for n in index.args[0].args[1]]
            if 0 < len(bounds) < 3 and all(isinstance(b, int) for b in bounds):
                return f"[{bounds[0] if len(bounds) > 1 else 0}:{bounds[-1]}]"
        if index.op != "slice":
            i = constant(self.ev.value(frame, index))
            return f"[{i}]" if isinstance(i, (int, str)) else "[?]"
        ends = []
        for n in index.args[:2]:
            v = constant(self.ev.value(frame, n)) if n is not None else ""
            ends.append(str(v) if isinstance(v, int) or v == "" else "?")
        return f"[{ends[0]}:{ends[1]}]"


def _assigns(statement: ast.Assign, name: str) -> bool:
    return any(isinstance(t, ast.Name) and t.id == name for t in statement.targets)


def _declares(function: Function, name: str) -> bool:
    return any(isinstance(s, ast.Global) and name in s.names for s in ast.walk(function.node))


def _is_self(obj: Node, method: Function) -> bool:
    while obj.op == "setattr":
        obj = obj.args[0]
    return obj.op == "param" and obj.args[0] == method.first_param


def _factory(name: str) -> bool:
    if name in ("timm.create_model", "timm.models.create_model", "timm.models.factory.create_model", "torch.hub.load"):
        return True
    if not name.startswith("torchvision.models.") or any(zoo in name for zoo in _OTHER_ZOOS):
        return False
    last = name.rpartition(".")[2]
    return last[:1].islower() and not last.startswith(("get_weight", "list_models", "get_model_", "get_weight_"))


def _built(name: str, args: list[Value], kwargs: dict[str, Value], module: ParsedModule, at: Any) -> Origin:
    last = name.rpartition(".")[2]
    arch: Any = last
    first: Value | None = None
    if last in ("create_model", "get_model"):
        arch = constant(kwargs.get("model_name", kwargs.get("name", args[0] if args else None)))
        first = args[1] if len(args) > 1 and last == "create_model" else None
    elif name == "torch.hub.load":
        arch = constant(kwargs.get("model", args[1] if len(args) > 1 else None))
    else:
        first = args[0] if args else None
    weights = kwargs.get("weights", kwargs.get("pretrained", first))
    pretrained: bool | None = None
    if weights is None:
        pretrained = None if name == "torch.hub.load" or not name else False
    elif isinstance(weights, Ref):
        pretrained = True
    else:
        v = constant(weights)
        pretrained = bool(v) if isinstance(v, (bool, str)) else False if _is_none(weights) else None
    headless = constant(kwargs.get("features_only")) is True or constant(kwargs.get("num_classes")) == 0
    zoo = name.partition(".")[0]
    return Origin(module, at, zoo, arch.lower() if isinstance(arch, str) else "", pretrained, headless)


def _is_none(value: Value) -> bool:
    from lossproof.source.values import Const

    return isinstance(value, Const) and value.v is None
