"""Where an expression was written: a name, an attribute or an argument followed back to what was put into it.

The evaluator says what a value *is*; some questions are about how it was *computed*: is this weight a number of
positives over a number of negatives? So names are followed here from node to node, through locals, arguments, ``self``,
configurations and what helpers return, until an expression stands there that does something.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lossproof.source.contexts import Contexts
from lossproof.source.dynamic import fetched
from lossproof.source.evaluate import Evaluator
from lossproof.source.frames import Frame
from lossproof.source.lower import Node, lower, lower_class
from lossproof.source.torch_names import SAME_OPERATION, operation
from lossproof.source.values import Cls, Func, Inst, Lib, Map, Mod, Ref, Thunk, Value, alternatives, constant

MAX_STEPS = 240
MAX_PLACES = 12


class Place:
    """An expression in its context, or a ``value`` of which no expression is at hand; ``through``: the calls passed."""

    __slots__ = ("frame", "node", "through", "value")

    def __init__(
        self, frame: Frame, node: Node, value: Value | None = None, through: tuple[tuple[Frame, Node], ...] = ()
    ) -> None:
        self.frame = frame
        self.node = node
        self.value = value
        self.through = through


class Origins:
    def __init__(self, ev: Evaluator, contexts: Contexts) -> None:
        self.ev = ev
        self.contexts = contexts
        self._steps = 0

    def of(self, frame: Frame, node: Node, outward: bool = True) -> list[Place]:
        """The expressions that a node may stand for; ``outward``: unknown callers are looked for."""
        self._steps = 0
        found: list[Place] = []
        for place in self._of(frame, node, (), outward, set()):
            if all(place.node is not f.node or place.value is not f.value for f in found):
                found.append(place)
            if len(found) >= MAX_PLACES:
                break
        return found

    def _of(
        self, frame: Frame, node: Node, through: tuple[tuple[Frame, Node], ...], outward: bool, seen: set[Any]
    ) -> Iterator[Place]:
        self._steps += 1
        key = (id(frame), node)
        if self._steps > MAX_STEPS or key in seen:
            return
        seen = seen | {key}
        override = frame.override
        if override is not None and node in override[2]:
            given = override[2][node]
            if isinstance(given, Thunk):
                yield from self._of(given.frame, given.node, through, outward, seen)
            else:
                yield Place(frame, node, given, through)
            return
        handler = getattr(self, "_" + node.op, None)
        followed = False
        if handler is not None:
            for where, inner, passed in handler(frame, node, outward):
                followed = True
                if isinstance(inner, Node):
                    yield from self._of(where, inner, through + passed, outward, seen)
                else:
                    yield Place(where, node, inner, through + passed)
        if not followed:
            yield Place(frame, node, None, through)

    # Each handler yields (frame, node or value, calls passed).

    def _param(self, frame: Frame, node: Node, outward: bool) -> Iterator[Any]:
        name = node.args[0]
        base = frame.base()
        function = base.function
        given = base.args.get(name)
        if isinstance(given, Thunk):
            yield given.frame, given.node, ((base.site,) if base.site is not None else ())
            return
        if given is not None:
            if function.cls is None or name != function.first_param:
                yield base, given, ((base.site,) if base.site is not None else ())
            return
        if function.cls is not None and not function.is_static and name == function.first_param:
            return
        param = next((p for p in base.ir.params if p.name == name), None)
        default = param.default if param is not None else None
        found = False
        if base.open and outward:
            base.touched = True
            for entered in self._entries(base):
                arg = entered.args.get(name)
                if arg is None:
                    continue
                found = True
                site = (entered.site,) if entered.site is not None else ()
                yield (arg.frame, arg.node, site) if isinstance(arg, Thunk) else (entered, arg, site)
        if default is not None and not found:
            yield self.ev._definition_frame(function, base), default, ()

    def _entries(self, base: Frame) -> list[Frame]:
        """The frames of an open function at its known calls; of an ``__init__``, where its objects are built."""
        function = base.function
        if function.name != "__init__" or function.cls is None:
            return [f for f in self.contexts.expand(base) if not f.open]
        found = []
        for caller, call, cls in self.contexts.instantiations(function.cls):
            self.ev.refill()
            positional, named = self.ev.arguments(caller, call)
            made = self.ev.construct(cls, positional, named, caller, call)
            if isinstance(made, Inst):
                entered = self.ev.init_frame(made, Cls(function.cls))
                if not entered.open:
                    found.append(entered)
        return found

    def _attr(self, frame: Frame, node: Node, outward: bool) -> Iterator[Any]:
        name = node.args[1]
        for _, obj in alternatives(self.ev.value(frame, node.args[0])):
            if isinstance(obj, Inst):
                yield from self._attribute(obj, name, frame, node)
            elif isinstance(obj, Mod):
                found = lower(obj.module.body).final.get(name)
                if found is not None:
                    yield self.ev.open_frame(obj.module.body), found, ()
            elif isinstance(obj, Cls):
                yield from self._class_attribute(obj, name)
            elif isinstance(obj, Map) and name in obj.items:
                yield frame, obj.items[name], ()

    def _attribute(self, obj: Inst, name: str, frame: Frame, node: Node) -> Iterator[Any]:
        if obj.over is not None and name in obj.over:
            yield frame, obj.over[name], ()
            return
        for cls in self.ev.mro(obj.cls):
            method = cls.info.methods.get(name)
            if method is not None:
                if any(d == "property" or d.endswith("cached_property") for d in method.decorators):
                    inner = self.ev.enter(Func(method, cls.closure, obj), [], {}, frame, node)
                    for returned, _ in inner.ir.returns if inner is not None else ():
                        yield inner, returned, ()
                return
            stored = cls.info.stores().get(name)
            if not stored:
                continue
            for method_name in stored:
                setter = cls.info.methods[method_name]
                entered = (
                    self.ev.init_frame(obj, cls)
                    if method_name == "__init__"
                    else Frame(setter, None, obj, cls.closure, None, 1)
                )
                me = setter.first_param
                final = entered.ir.final.get(f"{me}.{name}")
                if final is not None:
                    yield entered, final, ()
                else:
                    for store in entered.ir.stores:
                        if store.attr == name and store.obj.op == "param" and store.obj.args[0] == me:
                            yield entered, store.value, ()
                if method_name == "__init__":
                    break
            return
        yield from self._class_attribute(obj.cls, name)

    def _class_attribute(self, cls: Cls, name: str) -> Iterator[Any]:
        for c in self.ev.mro(cls):
            found = lower_class(c.info).final.get(name)
            if found is not None:
                yield Frame(lower_class(c.info).function, {}, None, c.closure, None, 0), found, ()
                return

    def _name(self, frame: Frame, node: Node, outward: bool) -> Iterator[Any]:
        yield from self._global(frame.function.module, node.args[0], 0)

    def _global(self, module: Any, name: str, depth: int) -> Iterator[Any]:
        if name in module.top or depth > 4:
            return
        found = lower(module.body).final.get(name)
        if found is not None and name not in module.imports:
            self.ev.ledger.mask |= module.body.rests
            yield self.ev.open_frame(module.body), found, ()
            return
        if name in module.imports:
            target, attr, level = module.imports[name]
            path = self.ev.project.find(module.path, target, level)
            other = self.ev.project.load(path) if path is not None and path != module.path else None
            if other is not None and attr is not None:
                yield from self._global(other, attr, depth + 1)

    def _free(self, frame: Frame, node: Node, outward: bool) -> Iterator[Any]:
        name = node.args[0]
        closure = frame.base().closure
        function = frame.function.parent
        while function is not None and function is not function.module.body:
            if closure is None:
                closure = self.ev.open_frame(function)
            found = closure.ir.final.get(name)
            if found is not None:
                yield closure, found, ()
                return
            closure, function = closure.closure, function.parent
        yield from self._global(frame.function.module, name, 0)

    def _phi(self, frame: Frame, node: Node, outward: bool) -> Iterator[Any]:
        test, yes, no = node.args
        truth = self.ev.decide(frame, test)[0]
        if truth is not False:
            yield frame, yes, ()
        if truth is not True:
            yield frame, no, ()

    def _loop(self, frame: Frame, node: Node, outward: bool) -> Iterator[Any]:
        for part in node.args:
            yield frame, part, ()

    def _sub(self, frame: Frame, node: Node, outward: bool) -> Iterator[Any]:
        """An entry of a dictionary or of a tuple that is written out."""
        key = constant(self.ev.value(frame, node.args[1]))
        if not isinstance(key, (str, int)) or isinstance(key, bool):
            return
        obj = node.args[0]
        for place in [Place(frame, obj)] if obj.op in ("dict", "tuple") else list(self._inner(frame, obj, outward)):
            if place.value is not None:
                if isinstance(place.value, Map) and key in place.value.items:
                    yield place.frame, place.value.items[key], ()
                continue
            entry = self._entry(place.frame, place.node, key)
            if entry is not None:
                yield place.frame, entry, ()

    def _inner(self, frame: Frame, node: Node, outward: bool) -> Iterator[Place]:
        return self._of(frame, node, (), outward, set())

    def _entry(self, frame: Frame, node: Node, key: str | int) -> Node | None:
        if node.op == "dict":
            for k, v in zip(*node.args, strict=True):
                if k is not None and constant(self.ev.value(frame, k)) == key:
                    return v  # type: ignore[no-any-return]
        elif node.op == "tuple" and isinstance(key, int) and -len(node.args) <= key < len(node.args):
            return node.args[key]  # type: ignore[no-any-return]
        elif node.op == "call" and node.args[0].op == "name" and node.args[0].args[0] == "dict":
            return next((v for k, v in node.args[2] if k == key), None)
        elif node.op == "setitem" and constant(self.ev.value(frame, node.args[1])) == key:
            return node.args[2]  # type: ignore[no-any-return]
        elif node.op == "setitem":
            return self._entry(frame, node.args[0], key)
        return None

    def _unpack(self, frame: Frame, node: Node, outward: bool) -> Iterator[Any]:
        source, index, _, star = node.args
        if star >= 0:
            return
        for place in self._inner(frame, source, outward):
            if place.value is None and place.node.op in ("tuple", "list") and index < len(place.node.args):
                yield place.frame, place.node.args[index], ()

    def _call(self, frame: Frame, node: Node, outward: bool) -> Iterator[Any]:
        """What a helper of the project returns."""
        if len(frame.chain()) > 8:
            return
        for func, positional, named in self.contexts.targets(frame, node):
            if func.function.name in ("forward", "__call__", "__init__"):
                continue
            entered = self.ev.enter(func, positional, named, frame, node)
            if entered is None:
                continue
            for returned, guard in entered.ir.returns:
                if self.ev.reachable(entered, guard)[0]:
                    yield entered, returned, ((frame, node),)

    def _setattr(self, frame: Frame, node: Node, outward: bool) -> Iterator[Any]:
        yield frame, node.args[0], ()


def known(place: Place, ev: Evaluator) -> Value:
    """What a place's expression is, where that can be said."""
    return place.value if place.value is not None else ev.value(place.frame, place.node)


def called(ev: Evaluator, frame: Frame, node: Node) -> tuple[str, list[Node]]:
    """The operation that a call is, with its operands: a function's arguments, a method's receiver first.

    The word is empty where what is called is the project's own.
    """
    func, args, keywords = node.args
    given = [*args, *(v for k, v in keywords if k in ("input", "other", "exponent", "tensors", "x", "a", "y"))]
    if func.op == "attr":
        name = func.args[1]
        owner = [v for _, v in alternatives(ev.value(frame, func.args[0]))]
        if any(isinstance(v, Ref) for v in owner):
            for _, v in alternatives(ev.value(frame, func)):
                if isinstance(v, Ref):
                    word = operation(v.name) or v.name.rpartition(".")[2]
                    return SAME_OPERATION.get(word, word), given
            return "", given
        if not any(isinstance(v, (Inst, Mod, Cls)) for v in owner):
            return SAME_OPERATION.get(name, name), [func.args[0], *given]
        return "", given
    picked = fetched(func)
    if picked is not None and not any(isinstance(v, Ref) for _, v in alternatives(ev.value(frame, picked[0]))):
        name = constant(ev.value(frame, picked[1]))
        if name is None and "reduc" in str(picked[1].args[-1]).lower():
            name = "mean"  # or ``sum``: it is the same to whom the terms matter
        return (SAME_OPERATION.get(name, name), [picked[0], *given]) if isinstance(name, str) else ("", given)
    for _, v in alternatives(ev.value(frame, func)):
        if isinstance(v, Ref):
            word = operation(v.name) or v.name.rpartition(".")[2]
            return ("total" if v.name == "builtins.sum" else SAME_OPERATION.get(word, word)), given
        if isinstance(v, Lib):
            return v.name.rpartition(".")[2], given
    return "", given


__all__ = ["Origins", "Place", "called", "known"]
