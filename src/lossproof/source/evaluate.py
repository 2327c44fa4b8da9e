"""The walk backwards: what a node of a value graph is known to be, asked on demand.

``Evaluator.value(frame, node)`` follows a value through locals, attributes, calls, returns, containers,
factories and modules until something is known of it. What cannot be followed stays unknown; loops,
recursion and sheer size end in unknown too, never in a guess.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from lossproof.source import library, tensor_ops
from lossproof.source.frames import Frame
from lossproof.source.lower import Guard, Node, Param, lower, lower_class
from lossproof.source.project import BUILT_IN, Project
from lossproof.source.syntax import ClassInfo, Function, ParsedModule
from lossproof.source.torch_names import RETURNS_SELF, canonical
from lossproof.source.trainers import handed_model
from lossproof.source.values import (
    MAX_ALTERNATIVES,
    NONE,
    UNKNOWN,
    Atom,
    Atoms,
    Cls,
    Const,
    Func,
    Hop,
    Inst,
    Lib,
    Map,
    Meth,
    Mod,
    Partial,
    Ref,
    Seq,
    Super,
    T,
    Thunk,
    Union,
    Value,
    alternatives,
    combine,
    consistent,
    constant,
    join,
)

OUTPUT = frozenset({"output"})
BUSY: Any = object()
BOTTOM = T(info={"bottom": True})

_MAKES = re.compile(r"(build|create|make|get|load|init|construct|instantiate|from_|new|resolve|lookup)", re.I)

# What a configuration names the class under that a registry is to build.
_KIND_KEYS = ("type", "_target_", "name", "target", "class_name", "class", "arch", "NAME", "TYPE")

MAX_DEPTH = 24  # calls inside calls
MAX_NESTING = 260  # nodes inside nodes
MAX_STEPS = 2_000  # nodes for one question
MAX_UNROLL = 32
MAX_STARS = 40
MAX_GUARDS = 60  # conditions around one place
TEST_STEPS = 250
GLANCE_STEPS = 80
COSTLY = 120
FRUITLESS = 2

Arguments = tuple[list["Value | Thunk"], dict[str, "Value | Thunk"]]


class Oracle(Protocol):
    """What the evaluator may ask about the rest of the project."""

    def entered(self, function: Function) -> list[Frame]:
        """The function's frames at its known call sites."""

    def sole_model(self, function: Function, name: str) -> Value | None:
        """The one network that an unknown callee can only be, or ``None``."""

    def sole_holder(self, function: Function, method: str) -> Value | None:
        """The one network that an unknown object with a method can only be, or ``None``."""

    def only_network(self, module: ParsedModule) -> Value | None:
        """The one network that a file defines."""

    def default_of(self, module: ParsedModule, option: str) -> str | None:
        """The default of a command line option that names something."""

    def class_named(self, module: ParsedModule, name: str) -> Value | None:
        """The project's only class or factory of a name, or that was registered under it."""


class Evaluator:
    def __init__(self, project: Project) -> None:
        self.project = project
        self.ledger = project.ledger
        self.steps = 0
        self.nesting = 0
        self.cap = MAX_STEPS
        self._fruitless: dict[Function, int] = {}
        self.busy_hits = 0
        self.spent = 0
        # Answers that rest on a value still being worked out (a loop's): kept only until that is known.
        self.provisional: list[tuple[Any, Any]] = []
        self._open: dict[Function, Frame] = {}
        self._open_instances: dict[ClassInfo, Inst] = {}
        self._mro: dict[ClassInfo, list[Cls]] = {}
        # Classes whose bases are being looked up right now.
        self._opening: set[ClassInfo] = set()
        # Answers who calls a function and who builds an object; set by ``contexts.Contexts``.
        self.oracle: Oracle | None = None

    def begin(self) -> None:
        """A new question: the budget is whole again."""
        self.spent += self.steps
        self.steps = 0
        self.nesting = 0
        self._withdraw(0)

    # ---- frames

    def open_frame(self, function: Function) -> Frame:
        """The frame of a function of which no caller is known."""
        frame = self._open.get(function)
        if frame is None:
            closure = None
            parent = function.parent
            if parent is not None and parent is not function.module.body:
                closure = self.open_frame(parent)
            me: Value | None = None
            if function.cls is not None and not function.is_static:
                me = self.open_instance(function.cls, closure)
                if "classmethod" in function.decorators:
                    me = Cls(function.cls, closure)
            frame = Frame(function, None, me, closure, None, 0)
            self._open[function] = frame
        return frame

    def open_instance(self, info: ClassInfo, closure: Frame | None = None) -> Inst:
        """An object of a class, built by somebody unknown."""
        kept = self._open_instances.get(info)
        if kept is not None:
            return kept
        cls = Cls(info, closure)
        inst = Inst(cls, None)
        init = self._init_of(cls)
        if init is not None:
            ctor_function, _ = init
            inst.ctor = Frame(ctor_function, None, inst, None, None, 0)
        self._open_instances[info] = inst
        return inst

    # ---- nodes

    def value(self, frame: Frame, node: Node) -> Value:
        op = node.op
        if op == "const":
            return Const(node.args[0])
        override = frame.override
        if override is not None:
            base, first_line, values = override
            if node in values:
                given = values[node]
                return self.force(given) if isinstance(given, Thunk) else given
            if op == "param" or getattr(node.at, "lineno", 0) < first_line:
                return self.value(base, node)
        memo = frame.memo
        known = memo.get(node)
        if known is not None:
            self.ledger.mask |= frame.rests
            if known is BUSY:
                self.busy_hits += 1
                return BOTTOM
            return known  # type: ignore[no-any-return]
        self.steps += 1
        if self.steps > self.cap or self.nesting > MAX_NESTING:
            return UNKNOWN
        handler = _HANDLERS.get(op)
        if handler is None:
            return UNKNOWN
        memo[node] = BUSY
        before = self.busy_hits
        mark = len(self.provisional)
        self.nesting += 1
        ledger = self.ledger
        outer, ledger.mask = ledger.mask, frame.rests
        try:
            result = handler(self, frame, node)
        finally:
            self.nesting -= 1
            del memo[node]
            rests = ledger.mask
            if rests == frame.rests:
                rests = frame.rests  # one number less in memory
            else:
                frame.rests = rests
            ledger.mask = outer | rests
        if op == "loop":
            # What was found while this loop's value was still open is found again, now that it is known.
            self.busy_hits = before
            self._withdraw(mark)
        if self.steps <= self.cap:
            memo[node] = result
            if self.busy_hits != before:
                self.provisional.append((memo, node))
        return result

    def refill(self) -> None:
        """A side question: the budget of steps is whole again, the depth is what it is."""
        self.spent += self.steps
        self.steps = 0

    def _withdraw(self, mark: int) -> None:
        for store, key in self.provisional[mark:]:
            if isinstance(store, Thunk):
                store.value = None
            else:
                store.pop(key, None)
        del self.provisional[mark:]

    def force(self, value: Value | Thunk) -> Value:
        if isinstance(value, Thunk):
            if value.value is None:
                before = self.busy_hits
                result = self.value(value.frame, value.node)
                if self.steps > self.cap:
                    return result
                value.value = result
                if self.busy_hits != before:
                    self.provisional.append((value, None))
                return result
            self.ledger.mask |= value.frame.rests
            return value.value
        return value

    def glance(self, value: Value | Thunk) -> Value:
        """A value if it is near at hand, else unknown."""
        cap, self.cap = self.cap, min(self.cap, self.steps + GLANCE_STEPS)
        try:
            return self.force(value)
        finally:
            self.cap = cap

    def hop(self, frame: Frame, node: Node) -> Callable[[str], Hop]:
        module = frame.function.module
        return lambda message: Hop(module, node.at, message)

    def _param(self, frame: Frame, node: Node) -> Value:
        name = node.args[0]
        base = frame.base()
        given = base.args.get(name)
        function = base.function
        if given is not None:
            value = self.force(given)
            if isinstance(value, T) and value.get("param") is not None and value.get("via") is None:
                # What the callee does with it may tell more of it than what the caller does.
                if value.get("held") is None:
                    return value.but(info={**(value.info or {}), "held": (function, name)})
            if isinstance(value, T) and not value.sym and not value.act and (value.get("via") or ("",))[0] == "part":
                return value.but(sym=name)  # one of a batch: what it is called here is all its name
            return value
        if function.cls is not None and not function.is_static and name == function.first_param:
            return base.me if base.me is not None else UNKNOWN
        param = next((p for p in base.ir.params if p.name == name), None)
        if base.open:
            base.touched = True
            if name == "model" and isinstance(base.me, Inst):
                handed = handed_model(self, base.me)
                if handed is not None:
                    return handed
        if param is not None and param.default is not None:
            default = self.value(self._definition_frame(function, base), param.default)
            if not base.open or not (isinstance(default, Const) and default.v is None):
                return default
        return self._unknown_param(function, name, param)

    def _unknown_param(self, function: Function, name: str, param: Param | None) -> Value:
        if param is not None and param.kind == "var":
            return Seq("tuple", (), T(sym=name))
        if param is not None and param.kind == "varkw":
            return Map({}, UNKNOWN)
        if param is not None and param.annotation is not None:
            known = self._annotated(function, param.annotation)
            if known is not None:
                return known
        return T(sym=name, tags=frozenset({"param"}), info={"param": (function, name)})

    def _annotated(self, function: Function, annotation: Any) -> Value | None:
        """An object of the project class that a parameter is annotated with."""
        kind = annotation.__class__.__name__
        if kind == "Constant" and isinstance(annotation.value, str) and annotation.value.isidentifier():
            value = self.global_value(function.module, annotation.value)
        elif kind in ("Name", "Attribute"):
            value = self._static(self.open_frame(function.module.body), annotation)
        else:
            return None
        if isinstance(value, Cls) and (self.class_member(value, "forward") or self.library_base(value)):
            return self.open_instance(value.info, value.closure)
        if isinstance(value, Ref) and library.is_layer(value.name):
            return Lib(value.name, (), {}, None, None)
        return None

    def _definition_frame(self, function: Function, frame: Frame) -> Frame:
        if frame.closure is not None:
            return frame.closure
        if function.parent is not None:
            return self.open_frame(function.parent)
        return self.open_frame(function.module.body)

    def _free(self, frame: Frame, node: Node) -> Value:
        name = node.args[0]
        closure = frame.base().closure
        function = frame.function.parent
        while function is not None and function is not function.module.body:
            if closure is None:
                closure = self.open_frame(function)
            found = closure.ir.final.get(name)
            if found is not None:
                return self.value(closure, found)
            closure, function = closure.closure, function.parent
        return self.global_value(frame.function.module, name)

    def _name(self, frame: Frame, node: Node) -> Value:
        return self.global_value(frame.function.module, node.args[0])

    # ---- names across files

    def global_value(self, module: ParsedModule, name: str) -> Value:
        cache = module.globals_cache
        if name in cache:
            found = cache[name]
            self.ledger.mask |= module.globals_rests.get(name, 0)
            return UNKNOWN if found is BUSY else found
        cache[name] = BUSY
        before = self.busy_hits
        ledger = self.ledger
        outer, ledger.mask = ledger.mask, module.body.rests
        try:
            result = self._global(module, name)
        except BaseException:
            del cache[name]
            raise
        finally:
            module.globals_rests[name] = ledger.mask
            ledger.mask |= outer
        if self.busy_hits != before or self.steps > self.cap:
            del cache[name]
        else:
            cache[name] = result
        return result

    def defines(self, module: ParsedModule, name: str) -> bool:
        return name in module.top or name in module.imports or name in lower(module.body).final

    def _global(self, module: ParsedModule, name: str) -> Value:
        defined = module.top.get(name)
        if isinstance(defined, Function):
            return Func(defined)
        if defined is not None:
            return Cls(defined)
        if name in module.imports:
            target, attr, level = module.imports[name]
            return self.import_value(module, target, attr, level)
        node = lower(module.body).final.get(name)
        if node is not None:
            return self.value(self.open_frame(module.body), node)
        # A package that re-exports a hundred modules would have all of them parsed for one unknown name.
        for target, level in module.star_imports[:MAX_STARS]:
            path = self.project.find(module.path, target, level)
            if path is not None and path != module.path:
                if not self.project.may_define(path, name):
                    continue
                other = self.project.load(path)
                if other is not None and (self.defines(other, name) or other.star_imports):
                    found = self.global_value(other, name)
                    if found is not UNKNOWN and not (isinstance(found, Ref) and found.name.startswith("builtins.")):
                        return found
            elif path is None and level == 0 and library.exports(target, name):
                return Ref(canonical(f"{target}.{name}"))
        if name in library.BUILTINS:
            return Ref("builtins." + name)
        if name in library.CUSTOMARY and not module.star_imports:
            # A snippet without its imports: everybody means the same by these.
            return Ref(library.CUSTOMARY[name])
        return T(sym=name, info={"undefined": module})

    def import_value(self, module: ParsedModule, target: str, attr: str | None, level: int) -> Value:
        path = self.project.find(module.path, target, level)
        if path is not None and path != module.path:
            other = self.project.load(path)
            if other is None:
                return UNKNOWN
            if attr is None:
                return Mod(other)
            return self.module_attribute(other, attr)
        if attr is not None:
            dotted = f"{target}.{attr}" if target else attr
            path = self.project.find(module.path, dotted, level)
            if path is not None and path != module.path:
                other = self.project.load(path)
                return Mod(other) if other is not None else UNKNOWN
            if level:
                return UNKNOWN
            return Ref(canonical(dotted))
        return Ref(canonical(target))

    def module_attribute(self, module: ParsedModule, attr: str) -> Value:
        if self.defines(module, attr) or module.star_imports:
            found = self.global_value(module, attr)
            if found is not UNKNOWN and not (isinstance(found, Ref) and found.name.startswith("builtins.")):
                return found
        path = self.project.submodule(module, attr)
        if path is not None:
            other = self.project.load(path)
            if other is not None:
                return Mod(other)
        return UNKNOWN

    def _import(self, frame: Frame, node: Node) -> Value:
        target, attr, level = node.args
        return self.import_value(frame.function.module, target, attr, level)

    # ---- containers

    def _sequence(self, frame: Frame, node: Node) -> Value:
        result: Seq | None = None
        waiting: list[Value] = []
        for item in node.args:
            if item.op != "star":
                waiting.append(self.value(frame, item))
                continue
            plain = Seq(node.op, tuple(waiting))
            waiting = []
            result = plain if result is None else tensor_ops.concatenate(result, plain)
            inner = self.as_sequence(self.value(frame, item.args[0]))
            result = tensor_ops.concatenate(result, inner or Seq(node.op, (), UNKNOWN))
        last = Seq(node.op, tuple(waiting))
        return last if result is None else tensor_ops.concatenate(result, last)

    def _dict(self, frame: Frame, node: Node) -> Value:
        items: dict[Any, Value] = {}
        rest: Value | None = None
        for key, item in zip(*node.args, strict=True):
            value = self.value(frame, item)
            if key is None:
                if isinstance(value, Map):
                    items.update(value.items)
                    rest = value.rest if rest is None else rest
                else:
                    rest = UNKNOWN
                continue
            name = constant(self.value(frame, key))
            if isinstance(name, (str, int)):
                items[name] = value
            else:
                rest = value if rest is None else join([((), rest), ((), value)])
        return Map(items, rest)

    def _append(self, frame: Frame, node: Node) -> Value:
        obj, item = self.value(frame, node.args[0]), self.value(frame, node.args[1])
        return over(obj, lambda o: self._appended(o, item))

    def _insert(self, frame: Frame, node: Node) -> Value:
        obj, item = self.value(frame, node.args[0]), self.value(frame, node.args[2])
        place = constant(self.value(frame, node.args[1]))

        def inserted(o: Value) -> Value:
            if o is BOTTOM:
                return Seq("list", (item,))
            if not isinstance(o, Seq):
                return o
            if isinstance(place, int) and 0 <= place <= len(o.head) and (o.rest is not None or not o.tail):
                return Seq(o.kind, (*o.head[:place], item, *o.head[place:]), o.rest, o.tail)
            return Seq(o.kind, (), join([((), v) for v in [*o.every(), item]]))

        return over(obj, inserted)

    def _appended(self, obj: Value, item: Value) -> Value:
        if isinstance(obj, Seq):
            if obj.rest is None:
                return Seq(obj.kind, (*obj.head, *obj.tail, item))
            return Seq(obj.kind, obj.head, obj.rest, (*obj.tail, item))
        if obj is BOTTOM:
            return Seq("list", (), None, (item,))
        return obj

    def _extend(self, frame: Frame, node: Node) -> Value:
        obj, more = self.value(frame, node.args[0]), self.value(frame, node.args[1])

        def extended(o: Value) -> Value:
            other = self.as_sequence(more)
            if isinstance(o, Map) and isinstance(more, Map):
                return Map({**o.items, **more.items}, o.rest or more.rest)
            if isinstance(o, Map):
                return Map(o.items, UNKNOWN)
            if isinstance(o, T) and isinstance(more, Map) and not o.act:
                return Map(more.items, more.rest or _entries(o))
            base = o if isinstance(o, Seq) else Seq("list", ()) if o is BOTTOM else None
            if base is not None:
                return tensor_ops.concatenate(base, other or Seq("list", (), UNKNOWN))
            return o

        return over(obj, extended)

    def _setitem(self, frame: Frame, node: Node) -> Value:
        obj = self.value(frame, node.args[0])
        key = self.value(frame, node.args[1])
        value = self.value(frame, node.args[2])
        if obj is BOTTOM:
            # ``outputs[t] = step`` in a loop: what it writes into is what stood there before the loop.
            before = node.args[0]
            while before.op == "loop":
                before = before.args[0]
            blank = self.value(frame, before) if before is not node.args[0] else obj
            obj = blank if _is_fresh(blank) else obj

        def stored(o: Value) -> Value:
            if isinstance(o, Map) or o is BOTTOM:
                items = dict(o.items) if isinstance(o, Map) else {}
                rest = o.rest if isinstance(o, Map) else None
                name = constant(key)
                if isinstance(name, (str, int)):
                    items[name] = value
                    return Map(items, rest)
                return Map(items, value if rest is None else join([((), rest), ((), value)]))
            if isinstance(o, Seq):
                index = constant(key)
                if isinstance(index, int) and o.rest is None:
                    flat = list(o.head + o.tail)
                    if -len(flat) <= index < len(flat):
                        flat[index] = value
                        return Seq(o.kind, tuple(flat))
                return Seq(o.kind, (), join([((), v) for v in [*o.every(), value]]))
            if isinstance(o, T):
                name = constant(key)
                if isinstance(name, str) and not o.act and not str(o.get("from", "")).startswith("pandas."):
                    return Map({name: value}, _entries(o))
                if isinstance(name, int) and name != 0 and isinstance(value, (Lib, Inst, Seq)) and not o.act:
                    # ``net.classifier[6] = nn.Linear(…)``: the last layer of an unknown sequence is known now.
                    return Seq("sequential", (), UNKNOWN, (value,))
                return tensor_ops_setitem(o, key, value)
            return o

        return over(obj, stored)

    def _delitem(self, frame: Frame, node: Node) -> Value:
        obj, key = self.value(frame, node.args[0]), constant(self.value(frame, node.args[1]))
        if isinstance(obj, Seq) and isinstance(key, int) and obj.at(key) is not None:
            if obj.rest is None:
                flat = list(obj.head + obj.tail)
                del flat[key]
                return Seq(obj.kind, tuple(flat))
            if key == -1 and obj.tail:
                return Seq(obj.kind, obj.head, obj.rest, obj.tail[:-1])
            return Seq(obj.kind, obj.head, obj.rest)
        if isinstance(obj, Map) and key in obj.items:
            return Map({k: v for k, v in obj.items.items() if k != key}, obj.rest)
        return obj

    def _setattr(self, frame: Frame, node: Node) -> Value:
        obj = self.value(frame, node.args[0])
        name, item = node.args[1], node.args[2]

        def replaced(o: Value) -> Value:
            if isinstance(o, Inst):
                return Inst(o.cls, o.ctor, {**(o.over or {}), name: self.value(frame, item)})
            if isinstance(o, Map):
                return Map({**o.items, name: self.value(frame, item)}, o.rest)
            if isinstance(o, Lib):
                return Lib(o.name, o.args, {**o.kwargs, "." + name: self.value(frame, item)}, o.module, o.at)
            if isinstance(o, T) and not o.act and name not in ("data", "grad", "requires_grad"):
                stored = self.value(frame, item)
                if isinstance(stored, T) and stored.act and stored.act != "loss":
                    return Map({name: stored}, _entries(o))  # ``batch.score = model(batch.x)``
            return o

        return over(obj, replaced)

    def _inplace(self, frame: Frame, node: Node) -> Value:
        obj, call = node.args
        result = self.value(frame, call)
        known = self.value(frame, obj)
        if isinstance(known, (T, Union)):
            return result if isinstance(result, (T, Union)) and result is not UNKNOWN else known
        return known

    def as_sequence(self, value: Value) -> Seq | None:
        if isinstance(value, Seq):
            return value
        if isinstance(value, Map):
            return Seq("list", tuple(Const(k) for k in value.items), T() if value.rest is not None else None)
        if isinstance(value, Union):
            parts = [self.as_sequence(v) for _, v in value.alts]
            known = [(a, p) for (a, _), p in zip(value.alts, parts, strict=True) if p is not None]
            if known and len(known) == len(parts):
                merged = join([(a, p) for a, p in known])
                return merged if isinstance(merged, Seq) else None
            return None
        if isinstance(value, Lib):
            return library.iterated(self, value)
        return None

    def _iter(self, frame: Frame, node: Node) -> Value:
        source = self.value(frame, node.args[0])
        turns = self._turns(frame, node, source)
        return turns if turns is not None else over(source, self.element_of)

    def _turns(self, frame: Frame, node: Node, source: Value) -> Value | None:
        """The items of a short known sequence, each under its turn: what a turn brings belongs together.

        ``for net, criterion in pairs`` never gives the criterion of one pair to the network of another.
        """
        sequence = self.as_sequence(source) if isinstance(source, (Seq, Map)) else None
        if sequence is None or sequence.rest is not None:
            return None
        items = sequence.head + sequence.tail
        if not 1 < len(items) <= MAX_ALTERNATIVES:
            return None
        key = f"turn {frame.function.module.display}:{node.at.lineno}:{node.at.col_offset}"
        return join([((Atom(key, "==", i, True, True),), item) for i, item in enumerate(items)])

    def element_of(self, source: Value) -> Value:
        """What iterating over a value gives, when it does not matter which turn it is."""
        sequence = self.as_sequence(source)
        if sequence is not None:
            every = sequence.every()
            return join([((), v) for v in every]) if every else UNKNOWN
        if isinstance(source, T):
            return T(tags=(source.tags & tensor_ops.INHERITED) | {"data"}, sym="", info={"element": True})
        if isinstance(source, Inst):
            return self._iterate_instance(source)
        return T(tags=frozenset({"data"}))

    def _iterate_instance(self, inst: Inst) -> Value:
        if self.nesting > MAX_NESTING:
            return UNKNOWN
        self.nesting += 1
        try:
            return self._iterated(inst)
        finally:
            self.nesting -= 1

    def _iterated(self, inst: Inst) -> Value:
        for name in ("__iter__", "__getitem__"):
            found = self.class_member(inst.cls, name)
            if isinstance(found, Func):
                bound = Func(found.function, found.closure, inst)
                if name == "__getitem__":
                    return self.call(bound, [T(lo=0.0, tags=frozenset({"num"}))], {}, None, None)
                result = self.call(bound, [], {}, None, None)
                if isinstance(result, Inst) and result.cls.info is inst.cls.info:
                    following = self.class_member(result.cls, "__next__")
                    if not isinstance(following, Func):
                        return UNKNOWN
                    return self.call(Func(following.function, following.closure, result), [], {}, None, None)
                return self.element_of(result) if result is not UNKNOWN else UNKNOWN
        if self.library_base(inst.cls) in ("torch.nn.Sequential", "torch.nn.ModuleList"):
            base = self.as_library_container(inst)
            if isinstance(base, Seq) and base.every():
                return join([((), v) for v in base.every()])
        return UNKNOWN

    def _unpack(self, frame: Frame, node: Node) -> Value:
        source, index, count, star = node.args

        def part(v: Value) -> Value:
            if isinstance(v, Seq):
                if star >= 0:
                    if index == star:
                        return Seq("list", (), join([((), x) for x in v.every()]) if v.every() else None)
                    found = v.at(index if index < star else index - count)
                else:
                    found = v.at(index)
                    if found is None and v.rest is not None and v.tail and index - count >= -len(v.tail):
                        found = v.at(index - count)
                if found is not None:
                    return found
                return v.rest if v.rest is not None and not v.head else UNKNOWN
            if isinstance(v, Map):
                found = v.items.get(index)
                if found is None and all(isinstance(k, str) for k in v.items):
                    return UNKNOWN
                return found if found is not None else UNKNOWN
            if isinstance(v, Inst):
                fields = self.dataclass_fields(v.cls)
                if fields and index < len(fields):
                    return self.attribute(frame, v, fields[index][0], node)
                return UNKNOWN
            if isinstance(v, T):
                word = getattr(node.at, "id", "")
                if tensor_ops.MASK_NAME.search(word):
                    # ``for x, y, mask in loader``: where it comes from does not tell that it is one.
                    return T(sym=word, tags=v.tags & tensor_ops.INHERITED, info={"via": ("part", v, index)})
                return T(tags=v.tags & tensor_ops.INHERITED, info={"via": ("part", v, index)})
            if isinstance(v, Lib):
                sequence = library.iterated(self, v)
                if sequence is not None:
                    return part(sequence)
            return UNKNOWN

        return over(self.value(frame, source), part)

    def _comp(self, frame: Frame, node: Node) -> Value:
        kind, elt, key, source = node.args
        if source is not None:
            sequence = self.as_sequence(self.value(frame, source))
            if sequence is not None and sequence.rest is None and kind in ("list", "dict"):
                items = sequence.head + sequence.tail
                item_node = self._comp_item(node, source)
                if len(items) <= MAX_UNROLL and item_node is not None:
                    line = getattr(node.at, "lineno", 0)
                    values, keys = [], []
                    for item in items:
                        twin = frame.unrolled(line, {item_node: item})
                        values.append(self.value(twin, elt))
                        if key is not None:
                            keys.append(constant(self.value(twin, key)))
                    if kind == "list":
                        return Seq("list", tuple(values))
                    if all(isinstance(k, (str, int)) for k in keys):
                        return Map(dict(zip(keys, values, strict=True)))
        element = self.value(frame, elt)
        if kind == "dict":
            return Map({}, element)
        return Seq("list", (), element)

    def _comp_item(self, node: Node, source: Node) -> Node | None:
        stack = [node.args[1]] + ([node.args[2]] if node.args[2] is not None else [])
        seen: set[int] = set()
        while stack:
            n = stack.pop()
            if id(n) in seen or len(seen) > 300:
                continue
            seen.add(id(n))
            if n.op == "iter" and n.args[0] is source:
                return n  # type: ignore[no-any-return]
            stack.extend(children(n))
        return None

    def _sub(self, frame: Frame, node: Node) -> Value:
        obj = self.value(frame, node.args[0])
        index_node = node.args[1]
        if index_node.op == "slice":
            parts = [constant(self.value(frame, p)) if p is not None else None for p in index_node.args]
            exact = all(isinstance(p, int) or p is None for p in parts) and all(
                p is None or isinstance(constant(self.value(frame, p)), int) for p in index_node.args
            )
            return over(obj, lambda o: self._sliced(o, parts, exact))
        index = self.value(frame, index_node)
        return over(obj, lambda o: self.item(o, index, frame, node))

    def _sliced(self, obj: Value, parts: Sequence[Any], exact: bool) -> Value:
        if isinstance(obj, Inst) and self.library_base(obj.cls) in ("torch.nn.Sequential", "torch.nn.ModuleList"):
            obj = self.as_library_container(obj) or obj
        if isinstance(obj, Seq):
            if exact and obj.rest is None:
                return Seq(obj.kind, (obj.head + obj.tail)[slice(*parts)])
            low, high, step = parts
            if exact and step is None and obj.rest is not None:
                if low is None and isinstance(high, int) and high < 0 and -high <= len(obj.tail):
                    return Seq(obj.kind, obj.head, obj.rest, obj.tail[:high])
                if high is None and isinstance(low, int) and 0 <= low <= len(obj.head):
                    return Seq(obj.kind, obj.head[low:], obj.rest, obj.tail)
            every = obj.every()
            return Seq(obj.kind, (), join([((), v) for v in every]) if every else None)
        if isinstance(obj, T):
            info = {**(obj.info or {}), "sliced": True}
            return obj.but(info=info) if obj.get("ndim") or obj.get("width") else obj
        if isinstance(obj, Lib):
            return UNKNOWN
        return obj if isinstance(obj, Const) else UNKNOWN

    def item(self, obj: Value, index: Value, frame: Frame | None, node: Node | None) -> Value:
        if isinstance(index, Union):
            return join([(a, self.item(obj, i, frame, node)) for a, i in index.alts])
        name = constant(index)
        if isinstance(obj, Inst):
            if self.library_base(obj.cls) in ("torch.nn.Sequential", "torch.nn.ModuleList", "torch.nn.ModuleDict"):
                container = self.as_library_container(obj)
                if container is not None:
                    return self.item(container, index, frame, node)
            found = self.class_member(obj.cls, "__getitem__")
            if isinstance(found, Func):
                return self.call(Func(found.function, found.closure, obj), [index], {}, frame, node)
            fields = self.dataclass_fields(obj.cls)
            if fields and frame is not None and node is not None:
                if isinstance(name, str):
                    return self.attribute(frame, obj, name, node)
                if isinstance(name, int) and -len(fields) <= name < len(fields):
                    return self.attribute(frame, obj, fields[name][0], node)
            return UNKNOWN
        if isinstance(obj, Seq):
            if isinstance(name, int):
                found_item = obj.at(int(name))
                if found_item is not None:
                    return found_item
            every = obj.every()
            if isinstance(index, Seq) or not every:
                return UNKNOWN
            return join([((), v) for v in every])
        if isinstance(obj, Map):
            if isinstance(name, (str, int)) and name in obj.items:
                return obj.items[name]
            if isinstance(name, (str, int)):
                if isinstance(obj.rest, T) and obj.rest.get("entries") is not None:
                    return self.item(obj.rest.get("entries"), index, frame, node)
                if obj.rest is None and isinstance(name, str) and frame is not None and node is not None:
                    return self.registered(name, frame, node.args[0]) or UNKNOWN
                return obj.rest if obj.rest is not None else UNKNOWN
            # An unknown key: one of the entries, chosen by whatever the key is.
            key = index.sym if isinstance(index, T) else ""
            options: list[tuple[Atoms, Value]] = [
                ((Atom(key, "==", k, True, True),) if key else (), v) for k, v in obj.items.items()
            ]
            if obj.rest is not None:
                options.append(((), obj.rest))
            return join(options)
        if isinstance(obj, T):
            if isinstance(name, str):
                # A column of a table has one axis.
                column = {"ndim": 1} if str(obj.get("from", "")).startswith("pandas.read_") else None
                return T(sym=name, tags=(obj.tags & tensor_ops.INHERITED) | {"data"}, info=column)
            return tensor_ops.indexed(obj, index)
        if isinstance(obj, Lib):
            return library.subscript(self, obj, index)
        if isinstance(obj, (Ref, Mod)) and frame is not None and node is not None:
            if isinstance(name, str):
                return self.attribute(frame, obj, name, node)
            usual = self.usual(frame.function.module, index)
            if usual is not None:
                return self.item(obj, usual, frame, node)
        if isinstance(obj, (Ref, Cls)):
            return obj  # a subscripted generic
        return UNKNOWN

    def registered(self, name: str, frame: Frame, table: Any) -> Value | None:
        """What a table of a module or a class has under a name that only a decorator can have put there."""
        if self.oracle is None or not isinstance(table, Node) or table.op not in ("name", "attr"):
            return None
        return self.oracle.class_named(frame.function.module, name)

    def usual(self, module: ParsedModule, option: Value) -> Value | None:
        """What a command line option is unless somebody says otherwise: its default, or anything else."""
        name = option.get("option") if isinstance(option, T) else None
        if not isinstance(name, str) or self.oracle is None:
            return None
        default = self.oracle.default_of(module, name)
        if default is None:
            return None
        return join([((Atom(name, "==", default, p, True),), Const(default) if p else UNKNOWN) for p in (True, False)])

    # ---- control

    def _phi(self, frame: Frame, node: Node) -> Value:
        test, yes, no = node.args
        if test is None:
            return join_ignoring_bottom([((), self.value(frame, yes)), ((), self.value(frame, no))])
        truth, atoms_yes, atoms_no = self.decide(frame, test)
        if truth is True:
            return self.value(frame, yes)
        if truth is False:
            return self.value(frame, no)
        a, b = self.value(frame, yes), self.value(frame, no)
        tested = self.value(frame, test)
        if isinstance(tested, T) and tested.get("compare") is not None:
            # ``n if n > 0 else 1``: each side is what the test says of it.
            a, b = _narrowed(a, tested, True), _narrowed(b, tested, False)
        if (self._is_choice(a) and (self._is_choice(b) or _is_blank(b))) or (self._is_choice(b) and _is_blank(a)):
            atoms_yes = tuple(Atom(x.key, x.op, x.const, x.polarity, True) for x in atoms_yes)
            atoms_no = tuple(Atom(x.key, x.op, x.const, x.polarity, True) for x in atoms_no)
        return join_ignoring_bottom([(atoms_yes, a), (atoms_no, b)])

    @staticmethod
    def _is_choice(value: Value) -> bool:
        """A selection between models or criteria, not a flag that switches an activation."""
        return all(
            isinstance(v, (Inst, Cls, Func, Partial))
            or (isinstance(v, Lib) and not library.is_activation(v))
            or (isinstance(v, Ref) and not library.is_activation(v))
            for _, v in alternatives(value)
        )

    def _loop(self, frame: Frame, node: Node) -> Value:
        loop = frame.ir.loops.get(node.at)
        if loop is not None and loop.source is not None and loop.item is not None:
            source = self.value(frame, loop.source)
            sequence = self.as_sequence(source) if not isinstance(source, T) else None
            if sequence is not None and sequence.rest is None and len(sequence.head + sequence.tail) <= MAX_UNROLL:
                return self._unroll(frame, node, loop, sequence.head + sequence.tail)
        entry, *backs = node.args
        options: list[tuple[Atoms, Value]] = [((), self.value(frame, entry))]
        for back in backs:
            options.append(((), self.value(frame, back)))
        if _is_fresh(options[0][1]) and any(_is_fresh(v) and v.act for _, v in options[1:] if isinstance(v, T)):
            del options[0]  # made to be filled: what is written into it is what it holds
        if isinstance(options[0][1], Seq) and len(options) > 1:
            return _grown([v for _, v in options])
        return join_ignoring_bottom(options)

    def _unroll(self, frame: Frame, node: Node, loop: Any, items: Sequence[Value]) -> Value:
        state: dict[Node, Any] = {phi: Thunk(frame, phi.args[0]) for phi in loop.phis.values()}
        for item in items:
            twin = frame.unrolled(loop.first_line, {loop.item: item, **state})
            following: dict[Node, Any] = {}
            for phi in loop.phis.values():
                backs = phi.args[1:]
                if not backs:
                    following[phi] = state[phi]
                elif len(backs) == 1:
                    following[phi] = Thunk(twin, backs[0])
                else:
                    following[phi] = Thunk(twin, Node("phi", (None, backs[0], backs[1]), phi.at, phi.guard))
            state = following
        return self.force(state[node]) if node in state else self.value(frame, node.args[0])

    def decide(self, frame: Frame, test: Node | None) -> tuple[bool | None, Atoms, Atoms]:
        """Whether a test holds; where that is open, the conditions for yes and for no."""
        if test is None:
            return None, (), ()
        if test.op == "un" and test.args[0] == "not":
            truth, yes, no = self.decide(frame, test.args[1])
            return (None if truth is None else not truth), no, yes
        if test.op == "bool":
            word, parts = test.args
            results = [self.decide(frame, p) for p in parts]
            if word == "and":
                if any(r[0] is False for r in results):
                    return False, (), ()
                if all(r[0] is True for r in results):
                    return True, (), ()
                atoms = tuple(a for r in results for a in r[1])
                open_parts = [r for r in results if r[0] is None]
                return None, atoms, (open_parts[0][2] if len(open_parts) == 1 else ())
            if any(r[0] is True for r in results):
                return True, (), ()
            if all(r[0] is False for r in results):
                return False, (), ()
            atoms = tuple(a for r in results for a in r[2])
            open_parts = [r for r in results if r[0] is None]
            return None, (open_parts[0][1] if len(open_parts) == 1 else ()), atoms
        # A test is worth a few steps, not a journey: what it compares is nearly always at hand.
        cap, self.cap = self.cap, min(self.cap, self.steps + TEST_STEPS)
        try:
            value = self.value(frame, test)
        finally:
            self.cap = cap
        truth = truth_of(value)
        if truth is not None:
            return truth, (), ()
        if isinstance(value, Union):
            # A flag that was itself chosen: true under one condition, false under another.
            sides: dict[bool | None, list[Atoms]] = {}
            for atoms, option in value.alts:
                sides.setdefault(truth_of(option), []).append(atoms)
            if set(sides) == {True, False}:
                return None, _either(sides[True], sides[False]), _either(sides[False], sides[True])
        if isinstance(value, T):
            cond = value.get("cond")
            if cond is not None:
                key, op, const = cond
                positive = True
                if op in ("!=", "is not", "not in"):
                    op, positive = {"!=": "==", "is not": "is", "not in": "in"}[op], False
                if op == "is" and const is None:
                    op = "=="
                return (
                    None,
                    (Atom(key, op, const, positive),),
                    (Atom(key, op, const, not positive),),
                )
            if value.sym:
                return None, (Atom(value.sym, "true", True, True),), (Atom(value.sym, "true", True, False),)
        return None, (), ()

    def reachable(self, frame: Frame, guard: Guard | None) -> tuple[bool, Atoms]:
        """Whether a guarded place can be reached at all, and under which open conditions."""
        if guard is None:
            return True, ()
        known = frame.reach.get(guard)
        if known is not None:
            self.ledger.mask |= frame.rests
            return known
        before = self.busy_hits
        result = self._reachable(frame, guard)
        if self.busy_hits == before and self.steps <= self.cap:
            frame.reach[guard] = result
        return result

    def _reachable(self, frame: Frame, innermost: Guard) -> tuple[bool, Atoms]:
        atoms: Atoms = ()
        guard: Guard | None = innermost
        for _ in range(MAX_GUARDS):
            if guard is None:
                break
            if guard.polarity is not None and guard.test is not None:
                truth, yes, no = self.decide(frame, guard.test)
                if truth is not None and truth != guard.polarity:
                    return False, ()
                if truth is None:
                    atoms = combine(atoms, yes if guard.polarity else no)
            guard = guard.parent
        return True, atoms

    # ---- operators

    def _bin(self, frame: Frame, node: Node) -> Value:
        op, left, right = node.args
        a = self.value(frame, left)
        b = self.value(frame, right)
        if isinstance(a, Inst) or isinstance(b, Inst):
            return UNKNOWN
        if op == "|" and isinstance(a, Map) and isinstance(b, Map):
            return Map({**a.items, **b.items}, a.rest or b.rest)
        return tensor_ops.binary(op, a, b, self.hop(frame, node))

    def _un(self, frame: Frame, node: Node) -> Value:
        op, operand = node.args
        value = self.value(frame, operand)
        if isinstance(value, Const):
            try:
                if op == "-" and isinstance(value.v, (int, float)):
                    return Const(-value.v)
                if op == "not":
                    return Const(not value.v)
            except (TypeError, ValueError):
                return UNKNOWN
        if op == "-":
            return over(value, lambda v: tensor_ops.negate(tensor_ops.as_tensor(v)))
        if op == "not":
            truth = truth_of(value)
            if truth is not None:
                return Const(not truth)
            return T(lo=0.0, hi=1.0, tags=frozenset({"bool", "num"}))
        if op == "~":
            return over(value, lambda v: T(lo=0.0, hi=1.0, tags=frozenset({"bool"}), info={"via": ("not", v)}))
        return value

    def _cmp(self, frame: Frame, node: Node) -> Value:
        ops, left, rights = node.args
        a = self.value(frame, left)
        if len(ops) == 1:
            b = self.value(frame, rights[0])
            decided = compare(ops[0], a, b)
            if decided is not None:
                return Const(decided)
            if isinstance(a, Union) and isinstance(b, Const):
                # One of several settings: each alternative answers for itself.
                answers = [(atoms, compare(ops[0], v, b)) for atoms, v in a.alts]
                if all(answer is not None for _, answer in answers):
                    return join([(atoms, Const(answer)) for atoms, answer in answers])
            if ops[0] in ("is", "is not", "in", "not in"):
                sym = a.sym if isinstance(a, T) else ""
                const: Any = constant(b)
                if ops[0] in ("in", "not in"):
                    items = b.every() if isinstance(b, Seq) else []
                    consts = tuple(constant(i) for i in items)
                    if len(consts) == 1:
                        return T(
                            lo=0.0,
                            hi=1.0,
                            tags=frozenset({"bool", "num"}),
                            info={"cond": (sym, "==" if ops[0] == "in" else "!=", consts[0])} if sym else None,
                        )
                    const = consts
                info = {"cond": (sym, ops[0], const)} if sym else None
                return T(lo=0.0, hi=1.0, tags=frozenset({"bool", "num"}), info=info)
            result = tensor_ops.compared(ops[0], tensor_ops.as_tensor(a), tensor_ops.as_tensor(b))
            if isinstance(a, T) and a.sym and isinstance(b, Const):
                result = result.but(info={**(result.info or {}), "cond": (a.sym, ops[0], b.v)})
            elif isinstance(b, T) and b.sym and isinstance(a, Const):
                result = result.but(info={**(result.info or {}), "cond": (b.sym, ops[0], a.v)})
            return result
        return T(lo=0.0, hi=1.0, tags=frozenset({"bool"}))

    def _bool(self, frame: Frame, node: Node) -> Value:
        word, parts = node.args
        options: list[tuple[Atoms, Value]] = []
        for i, part in enumerate(parts):
            value = self.value(frame, part)
            truth = truth_of(value)
            last = i == len(parts) - 1
            if truth is not None and not last:
                if (word == "or") == truth:
                    options.append(((), value))
                    break
                continue
            options.append(((), value))
        return join(options) if options else UNKNOWN

    def _fstr(self, frame: Frame, node: Node) -> Value:
        values = [self.value(frame, p) for p in node.args]
        several = [v for v in values if isinstance(v, Union)]
        if len(several) == 1:
            return over(several[0], lambda one: _text([one if v is several[0] else v for v in values]))
        return _text(values)

    def _func(self, frame: Frame, node: Node) -> Value:
        made = self._function_for(frame, node.args[0])
        return Func(made, frame.base())

    def _function_for(self, frame: Frame, tree: Any) -> Function:
        """The function object of a nested ``def`` (known from the index) or of a lambda (made once)."""
        module = frame.function.module
        cache = module.globals_cache
        key = ("function", id(tree))
        found = cache.get(key)  # type: ignore[call-overload]
        if found is None:
            found = next((f for f in module.functions if f.node is tree), None)
            if found is None:
                name = "<lambda>"
                found = Function(module, tree, name, f"{frame.function.qualname}.{name}", frame.function, None)
            cache[key] = found  # type: ignore[index]
        return found  # type: ignore[no-any-return]

    def _class(self, frame: Frame, node: Node) -> Value:
        module = frame.function.module
        info = next((c for c in module.classes if c.node is node.args[0]), None)
        return Cls(info, frame.base()) if info is not None else UNKNOWN

    def _enter(self, frame: Frame, node: Node) -> Value:
        value = self.value(frame, node.args[0])
        if isinstance(value, Inst):
            found = self.class_member(value.cls, "__enter__")
            if isinstance(found, Func):
                return self.call(Func(found.function, found.closure, value), [], {}, frame, node)
            return value
        if isinstance(value, Seq) and value.rest is not None:
            return value.rest
        return library.entered(value)

    # ---- attributes

    def _attr(self, frame: Frame, node: Node) -> Value:
        obj = self.value(frame, node.args[0])
        name = node.args[1]
        return over(obj, lambda o: self.attribute(frame, o, name, node))

    def attribute(self, frame: Frame, obj: Value, name: str, node: Node) -> Value:
        if isinstance(obj, Inst):
            found = self.instance_attribute(obj, name, frame, node)
            return found if found is not None else self._unknown_attribute(obj, name)
        if isinstance(obj, Mod):
            return obj if name == "__dict__" else self.module_attribute(obj.module, name)
        if isinstance(obj, Ref):
            if name == "__dict__":
                return obj
            dotted = f"{obj.name}.{name}"
            if obj.name.partition(".")[0] not in BUILT_IN and not obj.name.startswith("builtins."):
                path = self.project.find(frame.function.module.path, dotted, 0)
                if path is not None:
                    module = self.project.load(path)
                    if module is not None:
                        return Mod(module)
            return library.ref_attribute(dotted)
        if isinstance(obj, Cls):
            member = self.class_member(obj, name)
            if isinstance(member, Func):
                if "classmethod" in member.function.decorators:
                    return Func(member.function, member.closure, obj)
                return member
            if member is not None:
                return member
            if name == "__name__":
                return Const(obj.info.name)
            base = self.library_base(obj)
            return Ref(f"{base}.{name}") if base else UNKNOWN
        if isinstance(obj, Super):
            found = self.super_member(obj, name)
            return found if found is not None else Meth(obj, name)
        if isinstance(obj, Map):
            if name in obj.items:
                return obj.items[name]
            if name in library.MAP_METHODS:
                return Meth(obj, name)
            if isinstance(obj.rest, T) and obj.rest.get("entries") is not None:
                return library.tensor_attribute(obj.rest.get("entries"), name)
            return obj.rest if obj.rest is not None else T(sym=name)
        if isinstance(obj, Lib):
            return library.attribute(self, obj, name)
        if isinstance(obj, T):
            return library.tensor_attribute(obj, name)
        if isinstance(obj, Func):
            if name in ("__wrapped__", "__func__"):
                return obj
            if name == "__name__":
                return Const(obj.function.name)
            return UNKNOWN
        if isinstance(obj, Partial) and name == "func":
            return obj.func
        if isinstance(obj, Const):
            if name in ("value", "name"):
                return obj
            return Meth(obj, name)
        if isinstance(obj, Seq):
            if name in ("module", "_orig_mod"):
                return obj
            if name in ("values", "indices") and obj.kind == "tuple" and obj.rest is None and len(obj.head) == 2:
                return obj.head[name == "indices"]  # ``x.max(dim)`` is a named tuple
            return Meth(obj, name)
        return UNKNOWN

    def _unknown_attribute(self, obj: Inst, name: str) -> Value:
        if name == "training":
            return Const(True)
        if name in ("module", "_orig_mod"):
            return obj
        if name == "__class__":
            return obj.cls
        return T(sym=name)

    def mro(self, cls: Cls) -> list[Cls]:
        """The project classes that a lookup passes through, in order."""
        known = self._mro.get(cls.info)
        if known is None:
            self._mro[cls.info] = known = [cls]
            with self.ledger.entry(("mro", cls.info)):
                self.ledger.mask |= cls.info.rests
                for base in self.bases(cls):
                    if isinstance(base, Cls):
                        for c in self.mro(base):
                            if all(c.info is not k.info for k in known):
                                known.append(c)
        else:
            self.ledger.recall(("mro", cls.info))
        return known

    def bases(self, cls: Cls) -> list[Value]:
        frame = cls.closure or (
            self.open_frame(cls.info.owner) if cls.info.owner is not None else self.open_frame(cls.info.module.body)
        )
        if cls.info in self._opening:
            return []  # ``class A(A.B)``: its base is looked up in itself
        self._opening.add(cls.info)
        found: list[Value] = []
        try:
            for base in cls.info.node.bases:
                value = self._static(frame, base)
                found.extend(v for _, v in alternatives(value))
        finally:
            self._opening.discard(cls.info)
        return found

    def _static(self, frame: Frame, expression: Any) -> Value:
        """A class-level expression (a base, a decorator) in the scope around the class."""
        kind = expression.__class__.__name__
        if kind == "Name":
            node = frame.ir.final.get(expression.id)
            if node is not None and frame.function is not frame.function.module.body:
                return self.value(frame, node)
            return self.global_value(frame.function.module, expression.id)
        if kind == "Attribute":
            obj = self._static(frame, expression.value)
            return self.attribute(frame, obj, expression.attr, Node("attr", (), expression, None))
        if kind == "Subscript":
            return self._static(frame, expression.value)
        return UNKNOWN

    def library_base(self, cls: Cls) -> str:
        """The first library class that a project class derives from."""
        for c in self.mro(cls):
            for base in self.bases(c):
                if isinstance(base, Ref):
                    return base.name
        return ""

    def class_member(self, cls: Cls, name: str, after: ClassInfo | None = None) -> Value | None:
        """A method or class attribute, from the class that defines it."""
        passed = after is None
        for c in self.mro(cls):
            if not passed:
                passed = c.info is after
                continue
            method = c.info.methods.get(name)
            if method is not None:
                return Func(method, c.closure)
            node = lower_class(c.info).final.get(name)
            if node is not None:
                frame = Frame(_class_function(c.info), {}, None, c.closure, None, 0)
                return self.value(frame, node)
        return None

    def super_member(self, sup: Super, name: str) -> Value | None:
        cls = sup.me.cls if isinstance(sup.me, Inst) else sup.me
        if not isinstance(cls, Cls):
            return None
        found = self.class_member(cls, name, sup.after)
        if isinstance(found, Func):
            return Func(found.function, found.closure, sup.me)
        return found

    def instance_attribute(self, inst: Inst, name: str, frame: Frame, node: Node | None) -> Value | None:
        if inst.over is not None and name in inst.over:
            return inst.over[name]
        classes = self.mro(inst.cls)
        for c in classes:
            method = c.info.methods.get(name)
            if method is not None:
                if any(d == "property" or d.endswith("cached_property") for d in method.decorators):
                    return self.call(Func(method, c.closure, inst), [], {}, frame, node)
                break
        for c in classes:
            if name in c.info.stores():
                value = self._stored_once(inst, c, name)
                if value is not None:
                    return value
        for c in classes:
            method = c.info.methods.get(name)
            if method is not None:
                if method.is_static:
                    return Func(method, c.closure)
                if "classmethod" in method.decorators:
                    return Func(method, c.closure, inst.cls)
                return Func(method, c.closure, inst)
            fields = self.dataclass_fields(inst.cls)
            found = lower_class(c.info).final.get(name)
            if found is not None:
                body = Frame(_class_function(c.info), {}, None, c.closure, None, 0)
                value = self.value(body, found)
                if isinstance(value, Func) and value.me is None and value.function.name != "<lambda>":
                    return Func(value.function, value.closure, inst)
                return value
            if any(f == name for f, _ in fields):
                return T(sym=name)
        if self.library_base(inst.cls).startswith("torch.nn."):
            container = self.as_library_container(inst) if not self.class_member(inst.cls, "forward") else None
            if container is not None:
                return self.attribute(frame, container, name, node or Node("attr", (), None, None))
        return self.computed_attribute(inst, name)

    def computed_attribute(self, inst: Inst, name: str | None) -> Value | None:
        """An attribute that ``setattr`` or ``add_module`` set by a computed name; any such where ``name`` is open."""
        options: list[tuple[Atoms, Value]] = []
        for c in self.mro(inst.cls):
            init = c.info.methods.get("__init__")
            if init is None:
                continue
            self.ledger.mask |= init.rests
            if not lower(init).computed:
                continue
            frame = self.init_frame(inst, c)
            for _, key, item in frame.ir.computed:
                keys = alternatives(self.glance(Thunk(frame, key)))
                value = self.value(frame, item)
                if name is None or not all(isinstance(k, Const) for _, k in keys):
                    options.append(((), value))
                    continue
                for atoms, k in keys:
                    if constant(k) == name:
                        options.extend((inner, v) for inner, v in alternatives(value) if consistent(inner, atoms))
        return _without_turns(join(options)) if options else None

    def _stored_once(self, inst: Inst, c: Cls, name: str) -> Value | None:
        known = inst.known
        key = f"{c.info.qualname}.{name}"
        ledger = self.ledger
        if key in known:
            found = known[key]
            ledger.mask |= inst.rests
            if found is BUSY:
                self.busy_hits += 1
                return BOTTOM
            return found
        known[key] = BUSY
        before = self.busy_hits
        outer, ledger.mask = ledger.mask, inst.rests
        try:
            value = self._stored(inst, c, name)
        finally:
            del known[key]
            inst.rests = ledger.mask
            ledger.mask |= outer
        if value is BOTTOM:
            value = UNKNOWN
        if self.steps <= self.cap:
            # An attribute that is computed from itself (a counter, a moving average) is settled here too.
            self.busy_hits = before
            known[key] = value
        return value

    def _stored(self, inst: Inst, c: Cls, name: str) -> Value | None:
        """The value of ``self.name`` as the methods of one class set it."""
        options: list[tuple[Atoms, Value]] = []
        for method_name in c.info.stores()[name]:
            method = c.info.methods[method_name]
            if method_name == "__init__":
                frame = self.init_frame(inst, c)
            else:
                depth = inst.ctor.depth + 1 if inst.ctor else 1
                if depth > MAX_DEPTH:
                    continue
                called = (
                    self.oracle.entered(method) if self.oracle is not None and len(method.node.args.args) > 1 else []
                )
                if called:
                    # A setter: what its callers gave it.
                    for entered in called:
                        given = entered.ir.final.get(f"{method.first_param}.{name}")
                        if given is not None and not _refers_to_itself(given, name):
                            options.append(((), self.value(entered, given)))
                    continue
                kept = inst.frames.get(method)
                frame = kept if kept is not None else Frame(method, None, inst, c.closure, None, depth)
                inst.frames[method] = frame
            key = f"{method.first_param}.{name}"
            node = frame.ir.final.get(key)
            if node is not None and not _refers_to_itself(node, name):
                options.append(((), self.value(frame, node)))
            else:
                for store in frame.ir.stores:
                    if store.attr == name and store.obj.op == "param" and store.obj.args[0] == method.first_param:
                        options.append(((), self.value(frame, store.value)))
            if method_name == "__init__" and options and not all(_is_none(v) for _, v in options):
                break
        useful = [(a, v) for a, v in options if v is not BOTTOM and not _is_none(v)]
        if useful:
            return join(useful)
        return NONE if options else None

    def init_frame(self, inst: Inst, c: Cls) -> Frame:
        """The frame in which a class's ``__init__`` ran for this object."""
        init = c.info.methods["__init__"]
        ctor = inst.ctor
        if ctor is not None and ctor.function is init:
            return ctor
        frame = inst.frames.get(init)
        if frame is None:
            frame = self._super_call_frame(inst, ctor, init, 0) if ctor is not None else None
            if frame is None:
                frame = Frame(init, None, inst, c.closure, None, 1)
            inst.frames[init] = frame
        return frame

    def _super_call_frame(self, inst: Inst, frame: Frame, wanted: Function, depth: int) -> Frame | None:
        if depth > 6:
            return None
        for call in frame.ir.calls:
            func = call.args[0]
            if func.op != "attr" or func.args[1] != "__init__":
                continue
            target = self.value(frame, func.args[0])
            member: Value | None = None
            positional, keywords = self.arguments(frame, call)
            if isinstance(target, Super):
                member = self.super_member(target, "__init__")
            elif isinstance(target, Cls):
                member = self.class_member(target, "__init__")
                positional = positional[1:]
            if not isinstance(member, Func):
                continue
            bound = self.bind(member.function, positional, keywords, inst, frame)
            inner = Frame(member.function, bound, inst, member.closure, (frame, call), frame.depth + 1)
            if member.function is wanted:
                return inner
            found = self._super_call_frame(inst, inner, wanted, depth + 1)
            if found is not None:
                return found
        return None

    def as_library_container(self, inst: Inst) -> Value | None:
        """What a subclass of ``nn.Sequential`` (or of another library layer) is as a library object."""
        base = self.library_base(inst.cls)
        if not base:
            return None
        container: Value | None = None
        ctor = inst.ctor
        if ctor is not None:
            for call in ctor.ir.calls:
                func = call.args[0]
                if func.op == "attr" and func.args[1] == "__init__":
                    target = self.value(ctor, func.args[0])
                    if isinstance(target, (Super, Ref)):
                        positional, keywords = self.arguments(ctor, call)
                        args = [self.force(a) for a in positional]
                        if isinstance(target, Ref):
                            args = args[1:]
                        made = library.construct(
                            self, base, args, {k: self.force(v) for k, v in keywords.items()}, ctor, call
                        )
                        container = made
                        break
        else:
            container = library.construct(self, base, [], {}, None, None)
        if isinstance(container, Seq) and ctor is not None:
            for store in ctor.ir.stores:
                if store.obj.op == "param" and store.obj.args[0] == ctor.function.first_param:
                    container = self._appended(container, self.value(ctor, store.value))
            me = ctor.function.first_param
            for call in ctor.ir.calls:
                func = call.args[0]
                if func.op == "attr" and func.args[1] == "append" and func.args[0].op == "param":
                    if func.args[0].args[0] == me:
                        container = self._appended(container, self.value(ctor, call.args[1][0]))
        return container

    def dataclass_fields(self, cls: Cls) -> list[tuple[str, Node | None]]:
        """Field names with their defaults, for dataclasses and named tuples, in order."""
        found: list[tuple[str, Node | None]] = []
        for c in reversed(self.mro(cls)):
            info = c.info
            decorated = any(
                "dataclass" in _dotted(d) or _dotted(d).endswith(("define", "attr.s", "attrs"))
                for d in info.node.decorator_list
            )
            named = any(
                _dotted(b).endswith(("NamedTuple", "ModelOutput", "BaseModel", "TypedDict")) for b in info.node.bases
            )
            if not decorated and not named:
                continue
            final = lower_class(info).final
            for statement in info.node.body:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    name = statement.target.id
                    found = [(n, d) for n, d in found if n != name]
                    found.append((name, final.get(name)))
        return found

    # ---- calls

    def arguments(self, frame: Frame, node: Node) -> Arguments:
        """The arguments of a call, unevaluated where that is possible."""
        _, args, keywords = node.args
        positional: list[Value | Thunk] = []
        for arg in args:
            if arg.op == "star":
                sequence = self.as_sequence(self.value(frame, arg.args[0]))
                if sequence is not None and sequence.rest is None:
                    positional.extend(sequence.head + sequence.tail)
                elif sequence is not None:
                    positional.extend(sequence.head)
                    positional.append(sequence.rest if sequence.rest is not None else UNKNOWN)
                    positional.extend(sequence.tail)
                else:
                    positional.append(UNKNOWN)
            else:
                positional.append(Thunk(frame, arg))
        named: dict[str, Value | Thunk] = {}
        for name, arg in keywords:
            if name is not None:
                named[name] = Thunk(frame, arg)
                continue
            mapping = self.value(frame, arg)
            if isinstance(mapping, Map):
                for key, item in mapping.items.items():
                    if isinstance(key, str):
                        named[key] = item
                if mapping.rest is not None:
                    named["**"] = mapping.rest
            else:
                named["**"] = UNKNOWN
        return positional, named

    def _call(self, frame: Frame, node: Node) -> Value:
        func = node.args[0]
        positional, named = self.arguments(frame, node)
        if func.op == "attr":
            obj = self.value(frame, func.args[0])
            name = func.args[1]
            result = over(obj, lambda o: self.call_method(o, name, positional, named, frame, node))
            return self._by_name(result, positional, named, frame, node)
        if func.op == "name" and func.args[0] == "super" and not self.defines(frame.function.module, "super"):
            return self._super(frame, positional)
        callee = self.value(frame, func)
        if isinstance(callee, Ref) and callee.name == "builtins.isinstance" and positional:
            first = self.force(positional[0])
            if isinstance(first, T) and not first.act and not first.trace:
                return T(tags=frozenset({"bool", "num"}))
        result = over(callee, lambda c: self.call(c, positional, named, frame, node))
        return self._by_name(result, positional, named, frame, node)

    def _by_name(
        self,
        result: Value,
        positional: list[Value | Thunk],
        named: dict[str, Value | Thunk],
        frame: Frame,
        node: Node,
    ) -> Value:
        """A registry's answer: nothing is known of it, but it was asked for a name that one class bears."""
        if self.oracle is None or not (isinstance(result, T) and not result.act and not result.trace):
            return result
        func = node.args[0]
        key = _looked_up(func)
        if key is not None:
            wanted = constant(self.value(frame, key))
            found = self.oracle.class_named(frame.function.module, wanted) if isinstance(wanted, str) else None
            return self.call(found, positional, named, frame, node) if found is not None else result
        word = func.args[1] if func.op == "attr" else func.args[0] if func.op in ("name", "free") else ""
        if not isinstance(word, str) or not _MAKES.match(word):
            return result
        for given in [*positional[:2], *named.values()]:
            value = self.force(given)
            usual = self.usual(frame.function.module, value)
            value = usual.alts[0][1] if isinstance(usual, Union) else value
            extra: dict[str, Value | Thunk] = {}
            if isinstance(value, Map):
                kind = next((k for k in _KIND_KEYS if isinstance(constant(value.items.get(k)), str)), None)
                name = constant(value.items.get(kind)) if kind is not None else None
                extra = _settings_of(value, kind)
            else:
                name = constant(value)
            if not isinstance(name, str):
                continue
            found = self.oracle.class_named(frame.function.module, name)
            if found is not None:
                rest = {**{k: v for k, v in named.items() if v is not given}, **extra}
                after = [v for v in positional if v is not given] if not isinstance(found, Cls) or not extra else []
                return self.call(found, after, rest, frame, node)
        return result

    def _super(self, frame: Frame, positional: list[Value | Thunk]) -> Value:
        base = frame.base()
        function: Function | None = base.function
        while function is not None and function.cls is None:
            function = function.parent
        if positional:
            first = self.force(positional[0])
            if isinstance(first, Cls) and base.me is not None:
                return Super(base.me, first.info)
        if function is not None and function.cls is not None and base.me is not None:
            return Super(base.me, function.cls)
        return UNKNOWN

    def call(
        self,
        callee: Value,
        positional: Sequence[Value | Thunk],
        named: dict[str, Value | Thunk],
        frame: Frame | None,
        node: Node | None,
    ) -> Value:
        if isinstance(callee, Union):
            return over(callee, lambda c: self.call(c, positional, named, frame, node))
        if isinstance(callee, Func):
            return self.call_function(callee, positional, named, frame, node)
        if isinstance(callee, Cls):
            return self.construct(callee, positional, named, frame, node)
        if isinstance(callee, Inst):
            return self.call_instance(callee, positional, named, frame, node)
        if isinstance(callee, Partial):
            merged: list[Value | Thunk] = [*callee.args, *positional]
            return self.call(callee.func, merged, {**callee.kwargs, **named}, frame, node)
        if isinstance(callee, Meth):
            return self.call_method(callee.receiver, callee.name, list(positional), named, frame, node)
        if (isinstance(callee, Lib) and library.forgets_input(callee)) or isinstance(callee, Seq):
            # What a linear layer gives does not depend on what it is given, but for its shape.
            args = [self.glance(a) for a in positional]
        else:
            args = [self.force(a) for a in positional]
        kwargs = {k: self.force(v) for k, v in named.items()}
        if isinstance(callee, Ref):
            return library.call(self, callee.name, args, kwargs, frame, node)
        if isinstance(callee, Lib):
            return library.call_object(self, callee, args, kwargs, frame, node)
        if isinstance(callee, Seq):
            return self.fold(callee, args, frame, node)
        if isinstance(callee, T) and callee.get("param") is not None and self.oracle is not None:
            model = self.oracle.sole_model(*callee.get("param"))
            if model is not None:
                return self.call(model, positional, named, frame, node)
        if isinstance(callee, T) and callee.get("undefined") is not None and self.oracle is not None:
            model = self.oracle.only_network(callee.get("undefined"))
            if model is not None:
                return self.call(model, positional, named, frame, node)
        if not isinstance(callee, T):
            return UNKNOWN
        # What an unknown callable makes of its arguments is most often the output of a network.
        return T(tags=OUTPUT if args or kwargs else frozenset(), info={"called": callee})

    def fold(self, layers: Seq, args: list[Value], frame: Frame | None, node: Node | None) -> Value:
        """A ``Sequential`` applied: each layer to the last one's result."""
        if layers.kind not in ("sequential", "list", "modulelist") or not args:
            return UNKNOWN
        x: Value = args[0]
        for layer in layers.head:
            x = self.call(layer, [x], {}, frame, node)
        if layers.rest is not None:
            inner = self.call(layers.rest, [UNKNOWN], {}, frame, node)
            x = (
                UNKNOWN
                if not layers.tail and not isinstance(inner, T)
                else T(tags=frozenset())
                if layers.tail
                else UNKNOWN
            )
        for layer in layers.tail:
            x = self.call(layer, [x], {}, frame, node)
        return x

    def call_function(
        self,
        func: Func,
        positional: Sequence[Value | Thunk],
        named: dict[str, Value | Thunk],
        frame: Frame | None,
        node: Node | None,
    ) -> Value:
        if self.nesting > MAX_NESTING or self._fruitless.get(func.function, 0) >= FRUITLESS:
            return UNKNOWN
        bound = self.enter(func, positional, named, frame, node)
        if bound is None:
            return UNKNOWN
        self.nesting += 1
        before = self.steps
        try:
            result = self.result_of(bound, frame, node)
        finally:
            self.nesting -= 1
        if self.steps - before > COSTLY and _says_nothing(result):
            # A long function that twice told nothing is not asked a third time.
            self._fruitless[func.function] = self._fruitless.get(func.function, 0) + 1
        return result

    def enter(
        self,
        func: Func,
        positional: Sequence[Value | Thunk],
        named: dict[str, Value | Thunk],
        frame: Frame | None,
        node: Node | None,
    ) -> Frame | None:
        """The frame of a call, or ``None`` where it is too deep or recursive."""
        depth = frame.depth + 1 if frame is not None else 1
        if depth > MAX_DEPTH:
            return None
        if frame is not None:
            again = sum(1 for f in frame.chain() if f.function is func.function)
            if again >= 2:
                return None
        self.ledger.mask |= func.function.rests
        arguments = self.bind(func.function, list(positional), named, func.me, func.closure)
        site = (frame, node) if frame is not None and node is not None else None
        closure = func.closure
        return Frame(func.function, arguments, func.me, closure, site, depth)

    def result_of(self, bound: Frame, caller: Frame | None, node: Node | None) -> Value:
        ir = bound.ir
        if ir.yields:
            item = join([((), self.value(bound, y)) for y in ir.yields])
            return Seq("list", (), item)
        options: list[tuple[Atoms, Value]] = []
        for returned, guard in ir.returns:
            possible, atoms = self.reachable(bound, guard)
            if possible:
                value = self.value(bound, returned)
                if value is not BOTTOM:
                    options.append((atoms, value))
        if not options:
            return NONE if not ir.returns and not ir.abstract else UNKNOWN
        result = join(options)
        if caller is None or node is None:
            return result
        return self.through(result, bound, caller, node)

    def through(self, value: Value, bound: Frame, caller: Frame, node: Node) -> Value:
        """A value that left a function: its trace tells that it did."""
        hop = Hop(caller.function.module, node.at, f"returned by `{bound.function.qualname}`, called here")

        def add(v: Value, depth: int = 0) -> Value:
            if isinstance(v, T):
                if not v.trace or len(v.trace) > 12:
                    return v
                return v.but(trace=(*v.trace, hop))
            if isinstance(v, Union):
                return Union(tuple((a, add(x, depth)) for a, x in v.alts))
            if depth > 2:
                return v
            if isinstance(v, Seq) and v.kind in ("tuple", "list"):
                rest = add(v.rest, depth + 1) if v.rest is not None else None
                return Seq(
                    v.kind, tuple(add(x, depth + 1) for x in v.head), rest, tuple(add(x, depth + 1) for x in v.tail)
                )
            if isinstance(v, Map):
                return Map({k: add(x, depth + 1) for k, x in v.items.items()}, v.rest)
            return v

        return add(value)

    def bind(
        self,
        function: Function,
        positional: list[Value | Thunk],
        named: dict[str, Value | Thunk],
        me: Value | None,
        closure: Frame | None,
    ) -> dict[str, Value | Thunk]:
        """Parameters to arguments, as Python binds them."""
        ir = lower(function)
        bound: dict[str, Value | Thunk] = {}
        queue = list(positional)
        params = list(ir.params)
        takes_self = me is not None and function.cls is not None and not function.is_static
        if takes_self and params and params[0].kind == "pos":
            bound[params[0].name] = me  # type: ignore[assignment]
            params = params[1:]
        elif takes_self and params and params[0].kind == "var":
            queue.insert(0, me)  # type: ignore[arg-type]
        left = dict(named)
        spread = left.pop("**", None)
        for param in params:
            if param.kind == "pos":
                if queue:
                    bound[param.name] = queue.pop(0)
                elif param.name in left:
                    bound[param.name] = left.pop(param.name)
            elif param.kind == "kw":
                if param.name in left:
                    bound[param.name] = left.pop(param.name)
            elif param.kind == "var":
                bound[param.name] = Seq("tuple", tuple(self.force(v) for v in queue))
                queue = []
            elif param.kind == "varkw":
                items: dict[Any, Value] = {k: self.force(v) for k, v in left.items()}
                bound[param.name] = Map(items, self.force(spread) if spread is not None else None)
                left = {}
        if spread is not None:
            for param in params:
                if param.kind in ("pos", "kw") and param.name not in bound:
                    bound[param.name] = T(sym=param.name)
        return bound

    def _init_of(self, cls: Cls) -> tuple[Function, Cls] | None:
        for c in self.mro(cls):
            init = c.info.methods.get("__init__")
            if init is not None:
                return init, c
        return None

    def construct(
        self,
        cls: Cls,
        positional: Sequence[Value | Thunk],
        named: dict[str, Value | Thunk],
        frame: Frame | None,
        node: Node | None,
    ) -> Value:
        inst = Inst(cls, None)
        found = self._init_of(cls)
        depth = frame.depth + 1 if frame is not None else 1
        if depth > MAX_DEPTH:
            return UNKNOWN
        if found is not None:
            init, owner = found
            bound = self.bind(init, list(positional), named, inst, owner.closure)
            site = (frame, node) if frame is not None and node is not None else None
            inst.ctor = Frame(init, bound, inst, owner.closure, site, depth)
            return inst
        fields = self.dataclass_fields(cls)
        if fields:
            over_values: dict[str, Value] = {}
            queue = list(positional)
            for name, default in fields:
                if queue:
                    over_values[name] = self.force(queue.pop(0))
                elif name in named:
                    over_values[name] = self.force(named[name])
                elif default is not None:
                    body = Frame(_class_function(cls.info), {}, None, cls.closure, None, 0)
                    over_values[name] = library.field_default(self, self.value(body, default))
            inst.over = over_values
            return inst
        base = self.library_base(cls)
        if base and not self.class_member(cls, "forward") and not self.class_member(cls, "__call__"):
            if base.startswith("torch.nn.") and base not in ("torch.nn.Module",):
                made = library.construct(
                    self,
                    base,
                    [self.force(a) for a in positional],
                    {k: self.force(v) for k, v in named.items()},
                    frame,
                    node,
                )
                return made
        # No ``__init__`` of the project's: the library's keeps what it was given under the same names.
        inst.over = {k: self.force(v) for k, v in named.items() if k != "**"}
        if positional and base.endswith("Trainer"):
            inst.over.setdefault("model", self.force(positional[0]))
        return inst

    def forward_of(self, inst: Inst) -> Func | None:
        """What calling an object runs."""
        for name in ("__call__", "forward"):
            if inst.over is not None and name in inst.over:
                value = inst.over[name]
                return value if isinstance(value, Func) else None
            member = self.class_member(inst.cls, name)
            if isinstance(member, Func):
                if "staticmethod" in member.function.decorators:
                    return member
                return Func(member.function, member.closure, inst)
            if name == "forward" and any(name in c.info.stores() for c in self.mro(inst.cls)):
                value2 = self.instance_attribute(
                    inst, name, inst.ctor or self.open_frame(inst.cls.info.module.body), None
                )
                if isinstance(value2, Func):
                    return value2
        return None

    def call_instance(
        self,
        inst: Inst,
        positional: Sequence[Value | Thunk],
        named: dict[str, Value | Thunk],
        frame: Frame | None,
        node: Node | None,
    ) -> Value:
        forward = self.forward_of(inst)
        if forward is not None:
            return self.call_function(forward, positional, named, frame, node)
        container = self.as_library_container(inst)
        if container is not None and not isinstance(container, Inst):
            return self.call(container, positional, named, frame, node)
        return UNKNOWN

    def call_method(
        self,
        obj: Value,
        name: str,
        positional: list[Value | Thunk],
        named: dict[str, Value | Thunk],
        frame: Frame | None,
        node: Node | None,
    ) -> Value:
        if isinstance(obj, Inst):
            found = self.instance_attribute(obj, name, frame or self.open_frame(obj.cls.info.module.body), node)
            if found is not None:
                return self.call(found, positional, named, frame, node)
            if name in RETURNS_SELF:
                return obj
            if name in ("__call__", "forward", "module", "_orig_mod"):
                return self.call_instance(obj, positional, named, frame, node)
            if name == "apply" and self.class_member(obj.cls, "forward"):
                return obj
            if name in ("children", "modules", "named_children"):
                return UNKNOWN
            fields = self.dataclass_fields(obj.cls)
            if fields and name in ("_asdict", "to_dict", "dict"):
                return Map({f: self.instance_attribute(obj, f, frame, node) or UNKNOWN for f, _ in fields})  # type: ignore[arg-type]
            if name == "_replace" and obj.over is not None:
                return Inst(obj.cls, obj.ctor, {**obj.over, **{k: self.force(v) for k, v in named.items()}})
            return T(tags=OUTPUT, info={"called": Meth(obj, name)}) if positional else UNKNOWN
        if isinstance(obj, Super):
            found = self.super_member(obj, name)
            if found is not None:
                return self.call(found, positional, named, frame, node)
            if name in ("forward", "__call__") and isinstance(obj.me, Inst):
                container = self.as_library_container(obj.me)
                if container is not None:
                    return self.call(container, positional, named, frame, node)
            return obj.me if name in RETURNS_SELF else UNKNOWN
        if isinstance(obj, Cls):
            member = self.class_member(obj, name)
            if isinstance(member, Func):
                if "classmethod" in member.function.decorators:
                    return self.call(Func(member.function, member.closure, obj), positional, named, frame, node)
                if not member.function.is_static and positional:
                    first = self.force(positional[0])
                    return self.call(Func(member.function, member.closure, first), positional[1:], named, frame, node)
                return self.call(member, positional, named, frame, node)
            if name == "apply":
                # torch.autograd.Function: forward gets a context first.
                forward = self.class_member(obj, "forward")
                if isinstance(forward, Func):
                    return self.call(
                        Func(forward.function, forward.closure), [UNKNOWN, *positional], named, frame, node
                    )
            return UNKNOWN
        if isinstance(obj, (Mod, Ref)):
            place = frame or Frame(obj.module.body if isinstance(obj, Mod) else None, {}, None, None, None, 0)  # type: ignore[arg-type]
            callee = self.attribute(place, obj, name, node or Node("attr", (), None, None))
            return self.call(callee, positional, named, frame, node)
        if isinstance(obj, Func):
            if name == "__call__":
                return self.call(obj, positional, named, frame, node)
            return UNKNOWN
        if isinstance(obj, (Meth, Partial)):
            return UNKNOWN
        args = [self.force(a) for a in positional]
        kwargs = {k: self.force(v) for k, v in named.items()}
        result = library.call_method(self, obj, name, args, kwargs, frame, node)
        if isinstance(result, T) and isinstance(obj, T) and obj.get("param") is not None and self.oracle is not None:
            if isinstance(result.get("called"), Meth) and positional and obj.get("via") is None:
                holder = self.oracle.sole_holder(obj.get("param")[0], name)
                if holder is not None:
                    return self.call_method(holder, name, positional, named, frame, node)
        return result


# ---- small helpers that need no evaluator


def over(value: Value, function: Callable[[Value], Value]) -> Value:
    """A function over every alternative of a value."""
    if isinstance(value, Union):
        return join_ignoring_bottom([(atoms, function(v)) for atoms, v in value.alts])
    return function(value)


def _either(these: list[Atoms], others: list[Atoms]) -> Atoms:
    """The condition of one side of a test: its own, or that it is not the other side's."""
    if len(these) == 1 and these[0]:
        return these[0]
    if len(others) == 1 and len(others[0]) == 1:
        only = others[0][0]
        return (Atom(only.key, only.op, only.const, not only.polarity, only.choice),)
    return ()


def _without_turns(value: Value) -> Value:
    """What a loop left behind is there for everybody: the turn that made it says nothing any more."""
    options = [(tuple(x for x in atoms if not x.key.startswith("turn ")), v) for atoms, v in alternatives(value)]
    return join(options)


def _narrowed(value: Value, tested: T, truth: bool) -> Value:
    return tensor_ops.narrowed(value, tested, truth) if isinstance(value, T) and value is not BOTTOM else value


def join_ignoring_bottom(options: list[tuple[Atoms, Value]]) -> Value:
    kept = [(a, v) for a, v in options if v is not BOTTOM]
    if not kept:
        return BOTTOM
    return join(kept)


def children(node: Node) -> list[Node]:
    found: list[Node] = []
    stack: list[Any] = [node.args]
    while stack:
        item = stack.pop()
        if isinstance(item, Node):
            found.append(item)
        elif isinstance(item, (tuple, list)):
            stack.extend(item)
    return found


def truth_of(value: Value) -> bool | None:
    """Python's truth of a value, where it is known."""
    if isinstance(value, Const):
        return bool(value.v)
    if isinstance(value, (Inst, Func, Cls, Mod, Ref, Lib, Partial, Super)):
        return True
    if isinstance(value, Seq) and value.rest is None:
        return bool(value.head or value.tail)
    if isinstance(value, Map) and value.rest is None:
        return bool(value.items)
    if isinstance(value, Union):
        truths = {truth_of(v) for _, v in value.alts}
        return truths.pop() if len(truths) == 1 else None
    return None


def compare(op: str, a: Value, b: Value) -> bool | None:
    """A comparison of two values, where its outcome is known."""
    if isinstance(a, Const) and isinstance(b, Const):
        try:
            if op in ("==", "is"):
                return bool(a.v == b.v) and (op == "==" or (a.v is None) == (b.v is None))
            if op in ("!=", "is not"):
                return bool(a.v != b.v)
            if op == "<":
                return bool(a.v < b.v)
            if op == "<=":
                return bool(a.v <= b.v)
            if op == ">":
                return bool(a.v > b.v)
            if op == ">=":
                return bool(a.v >= b.v)
            if op == "in":
                return bool(a.v in b.v)
            if op == "not in":
                return bool(a.v not in b.v)
        except TypeError:
            return None
    if op in ("is", "is not", "==", "!=") and (_is_none(a) or _is_none(b)):
        other = b if _is_none(a) else a
        if isinstance(other, (Inst, Func, Cls, Mod, Ref, Lib, Partial, Seq, Map)):
            return op in ("is not", "!=")
        if isinstance(other, T) and (other.act or other.trace or other.lo is not None or "data" in other.tags):
            return op in ("is not", "!=")
        return None
    if op in ("==", "!=", "is", "is not") and isinstance(a, Ref) and isinstance(b, Ref):
        return (a.name == b.name) == (op in ("==", "is"))
    if op in ("in", "not in") and isinstance(a, Const):
        if isinstance(b, Seq) and b.rest is None:
            items = b.every()
            if all(isinstance(i, Const) for i in items):
                return (any(constant(i) == a.v for i in items)) == (op == "in")
        if isinstance(b, Map) and (b.rest is None or a.v in b.items):
            return (a.v in b.items) == (op == "in")
    return None


def _says_nothing(value: Value) -> bool:
    if isinstance(value, T):
        return not value.act and value.lo is None and value.hi is None and not value.trace and not value.sym
    if isinstance(value, Union):
        return all(_says_nothing(v) for _, v in value.alts)
    if isinstance(value, Seq) and value.kind == "tuple":
        return all(_says_nothing(v) for v in value.every())
    return _is_none(value)


def _is_blank(value: Value) -> bool:
    """An object of which nothing is known (a loaded checkpoint), beside one that is known."""
    return isinstance(value, T) and not value.act and value.lo is None and not value.trace and "num" not in value.tags


def _is_fresh(value: Value) -> bool:
    """A tensor of zeros, ones or noise that the code itself just made."""
    return isinstance(value, T) and "fresh" in value.tags


def _is_none(value: Value) -> bool:
    return isinstance(value, Const) and value.v is None


def _grown(options: list[Value]) -> Value:
    """A list that a loop of unknown length appends to."""
    entry = options[0]
    assert isinstance(entry, Seq)
    extra = [v for v in options[1:] if isinstance(v, Seq)]
    if len(extra) != len(options) - 1:
        return join_ignoring_bottom([((), v) for v in options])
    known = {id(v) for v in entry.every()}
    items = [v for s in extra for v in s.every() if id(v) not in known]
    if not items:
        return entry
    return Seq(entry.kind, entry.head + (entry.tail if entry.rest is None else ()), join([((), v) for v in items]))


def _entries(t: T) -> T:
    """What is not known of an unknown mapping once an entry of it is."""
    return T(tags=t.tags & tensor_ops.INHERITED, info={"entries": t})


def _refers_to_itself(node: Node, name: str) -> bool:
    """``self.x = f(self.x)`` in a later method says nothing new of ``x`` before it."""
    stack, seen = [node], 0
    while stack and seen < 40:
        n = stack.pop()
        seen += 1
        if n.op == "attr" and n.args[1] == name and n.args[0].op == "param":
            return True
        stack.extend(children(n))
    return False


def _looked_up(func: Node) -> Node | None:
    """The key of ``REGISTRY[key](…)`` and of ``REGISTRY.get(key)(…)``."""
    if func.op == "sub":
        return func.args[1] if isinstance(func.args[1], Node) else None
    if func.op != "call" or len(func.args[1]) != 1 or func.args[0].op != "attr" or func.args[0].args[1] != "get":
        return None
    return func.args[1][0]  # type: ignore[no-any-return]


def _settings_of(config: Map, kind: Any) -> dict[str, Value | Thunk]:
    """What a configuration gives to the class that it names: its other entries, or those it keeps together."""
    for key in ("args", "kwargs", "params", "init_args"):
        inner = config.items.get(key)
        if isinstance(inner, Map):
            return {k: v for k, v in inner.items.items() if isinstance(k, str)}
    return {k: v for k, v in config.items.items() if isinstance(k, str) and k != kind}


def _text(values: list[Value]) -> Value:
    parts = [constant(v) for v in values]
    if all(isinstance(p, (str, int)) for p in parts):
        return Const("".join(str(p) for p in parts))
    return UNKNOWN


def _class_function(info: ClassInfo) -> Function:
    return lower_class(info).function


def _dotted(node: Any) -> str:
    from lossproof.source.syntax import dotted

    return dotted(node.func if node.__class__.__name__ == "Call" else node)


def tensor_ops_setitem(t: T, key: Value, value: Value) -> T:
    """``t[mask] = v``: where the mask speaks of ``t`` itself, a guard."""
    compare_info = key.get("compare") if isinstance(key, T) else None
    v = tensor_ops.as_tensor(value)
    if t.act == "loss" and v.lo == v.hi == 0.0:
        return t.but(info={**(t.info or {}), "zeroed": True})
    if compare_info is not None:
        op, left, right = compare_info
        if tensor_ops.same(left, t) or tensor_ops.same(right, t):
            kept = tensor_ops.refined(t, op, left, right, False)
            merged = tensor_ops.widest([kept, v])
            tags = t.tags | merged.tags
            if kept.nonzero and v.nonzero:
                tags |= {"nonzero"}
            return t.but(
                lo=merged.lo, hi=merged.hi, lo_open=merged.lo_open, hi_open=merged.hi_open, tags=tags | {"filled"}
            )
    if "fresh" in t.tags:
        lo = t.lo if t.lo is not None and v.lo is not None and v.lo >= t.lo else None
        return t.but(lo=lo, hi=None, act=v.act if t.lo is not None and v.act else "", trace=v.trace)
    return t.but(lo=None, hi=None, tags=t.tags | {"filled"})


_HANDLERS: dict[str, Callable[[Evaluator, Frame, Node], Value]] = {
    "param": Evaluator._param,
    "name": Evaluator._name,
    "free": Evaluator._free,
    "import": Evaluator._import,
    "attr": Evaluator._attr,
    "call": Evaluator._call,
    "bin": Evaluator._bin,
    "un": Evaluator._un,
    "cmp": Evaluator._cmp,
    "bool": Evaluator._bool,
    "sub": Evaluator._sub,
    "tuple": Evaluator._sequence,
    "list": Evaluator._sequence,
    "set": Evaluator._sequence,
    "dict": Evaluator._dict,
    "phi": Evaluator._phi,
    "loop": Evaluator._loop,
    "iter": Evaluator._iter,
    "unpack": Evaluator._unpack,
    "func": Evaluator._func,
    "class": Evaluator._class,
    "comp": Evaluator._comp,
    "append": Evaluator._append,
    "insert": Evaluator._insert,
    "extend": Evaluator._extend,
    "setitem": Evaluator._setitem,
    "delitem": Evaluator._delitem,
    "setattr": Evaluator._setattr,
    "inplace": Evaluator._inplace,
    "enter": Evaluator._enter,
    "fstr": Evaluator._fstr,
}
