"""Who calls a function: the contexts in which an open question about it can be closed."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from lossproof.source import ledger
from lossproof.source.evaluate import Evaluator
from lossproof.source.frames import Frame
from lossproof.source.layers import builds_layers
from lossproof.source.lower import Node, lower
from lossproof.source.syntax import ClassInfo, Function, ParsedModule, dotted
from lossproof.source.values import Atoms, Cls, Func, Inst, Lib, Partial, T, Thunk, Value, alternatives

MAX_CALLERS = 12
# Nodes looked at to find the callers of one function: a name like ``expand`` has a thousand call sites.
MAX_SEARCH = 12_000
_LOSS_NAME = re.compile(r"loss|criterion|target|label|^gt|y_true", re.I)
Site = tuple[ParsedModule, object, Function]
Target = tuple[Func, list["Value | Thunk"], dict[str, "Value | Thunk"]]


_TRIED_OUT = re.compile(r"(?:^|/)(?:tests?|examples?|demos?|benchmarks?)/|(?:^|/)test_|_test\.py$")


class Contexts:
    """Finds the callers of functions and the places where classes are instantiated."""

    def __init__(self, ev: Evaluator, load_naming: Callable[[str, str], Collection[str] | None]) -> None:
        self.ev = ev
        # Makes sure that the files which mention a name are parsed; says which those are where it is not all of them.
        self.load_naming = load_naming
        # Whether that knows of every file, also of those that no rule looks at.
        self.indexed = True
        self._callers: dict[Function, list[tuple[Frame, Node, Func]]] = {}
        self._sites: dict[ClassInfo, list[tuple[Frame, Node, Cls]]] = {}
        self._subclasses: dict[ClassInfo, list[ClassInfo]] = {}
        # The conditions of the target that ``targets`` gave last.
        self.chosen: Atoms = ()
        self._entered: dict[Function, list[Frame]] = {}
        self._applied: dict[Function, list[tuple[Frame, Node]]] = {}
        self._models: dict[ParsedModule, Value | None] = {}
        # The command line options that a file knows of, by name.
        self._added: dict[ParsedModule, dict[str, list[tuple[Function, ast.expr | None]]]] = {}
        # Classes and factories by the name they were registered under, of the first so many modules.
        self._by_key: dict[str, list[tuple[ParsedModule, Value]]] = {}
        self._searched = 0
        ev.oracle = self

    # ---- what a call node calls

    def targets(self, frame: Frame, node: Node) -> Iterator[Target]:
        """The project functions that a call may run, with the arguments as they arrive there."""
        ev = self.ev
        func = node.args[0]
        self.chosen = ()
        positional, named = ev.arguments(frame, node)
        if func.op == "attr":
            obj = ev.value(frame, func.args[0])
            name = func.args[1]
            for _, o in alternatives(obj):
                if isinstance(o, Inst):
                    found = ev.instance_attribute(o, name, frame, func)
                    if found is None and name in ("forward", "__call__"):
                        found = ev.forward_of(o)
                    if found is not None:
                        yield from self._into(found, positional, named, 0)
                elif isinstance(o, Cls):
                    member = ev.class_member(o, name)
                    if isinstance(member, Func):
                        ev.ledger.mask |= member.function.rests
                        if "classmethod" in member.function.decorators:
                            yield Func(member.function, member.closure, o), positional, named
                        elif member.function.is_static or not positional:
                            yield member, positional, named
                        else:
                            me = ev.force(positional[0])
                            yield Func(member.function, member.closure, me), positional[1:], named
                elif not isinstance(o, T) and not isinstance(o, Lib):
                    value = ev.attribute(frame, o, name, func)
                    yield from self._into(value, positional, named, 0)
            return
        yield from self._into(ev.value(frame, func), positional, named, 0)

    def _into(
        self, value: Value, positional: list[Value | Thunk], named: dict[str, Value | Thunk], depth: int
    ) -> Iterator[Target]:
        for atoms, v in alternatives(value):
            self.chosen = atoms
            if isinstance(v, Func):
                self.ev.ledger.mask |= v.function.rests
                yield v, positional, named
            elif isinstance(v, Inst):
                forward = self.ev.forward_of(v)
                if forward is not None:
                    self.ev.ledger.mask |= forward.function.rests
                    yield forward, positional, named
            elif isinstance(v, Partial) and depth < 3:
                yield from self._into(v.func, [*v.args, *positional], {**v.kwargs, **named}, depth + 1)

    # ---- callers

    def callers(self, function: Function) -> list[tuple[Frame, Node, Func]]:
        """Call sites that surely run a function, in the open frames of the functions that hold them."""
        known = self._callers.get(function)
        if known is not None:
            self.ev.ledger.recall(("callers", function))
            return known
        found: list[tuple[Frame, Node, Func]] = []
        self._callers[function] = found
        if function.name in ("__init__",) or function.name.startswith("<"):
            return found
        with self.ev.ledger.entry(("callers", function)):
            self._look_for_callers(function, found)
        return found

    def _look_for_callers(self, function: Function, found: list[tuple[Frame, Node, Func]]) -> None:
        sites = self.sites(function.name, function.module)
        for attribute in _stored_as(function):
            sites.extend(s for s in self.ev.project.calls_named(attribute) if s[0] is function.module)
        # The function's own file first, then those that import it (or its class, or its module) by name.
        own, name = function.module, function.cls.name if function.cls is not None else function.name
        near: tuple[list[Site], ...] = ([], [], [])
        for site in sites:
            there = site[0]
            near[0 if there is own else 1 if name in there.imports or own.name in there.imports else 2].append(site)
        self.ev.refill()
        limit = self.ev.spent + MAX_SEARCH
        for _, call, holder in (*near[0], *near[1], *near[2]):
            if len(found) >= MAX_CALLERS or self.ev.spent + self.ev.steps > limit:
                return
            self.ev.ledger.mask |= holder.rests
            self._match(function, call, holder, found)

    def sites(self, name: str, near: ParsedModule) -> list[Site]:
        """The calls of something by a name, in all the files that are worth looking at from here."""
        project = self.ev.project
        project.ledger.mask |= project.ledger.bit(ledger.naming(name))
        among = self.load_naming(name, near.path)
        sites: list[Site] = list(project.calls_named(name))
        return sites if among is None else [site for site in sites if site[0].path in among or site[0] is near]

    def speakers(self, name: str, near: ParsedModule) -> list[ParsedModule]:
        """The files that call something by a name or derive from it."""
        found = {module.path: module for module, _, _ in self.sites(name, near)}
        found.update((info.module.path, info.module) for info in self.ev.project.classes_on(name))
        return list(found.values())

    # ---- what the evaluator asks (it is in the middle of a question: its budget is put back)

    def entered(self, function: Function) -> list[Frame]:
        known = self._entered.get(function)
        if known is not None:
            self.ev.ledger.recall(("entered", function))
        else:
            self._entered[function] = known = []
            with self._aside(), self.ev.ledger.entry(("entered", function)):
                for caller, node, _ in self.callers(function):
                    known.extend(self.enter(caller, node, function))
        return known

    def sole_model(self, function: Function, name: str) -> Value | None:
        """A network by elimination: nobody is seen to call the function, and its file knows one network."""
        with self._aside():
            if function.name == "__init__" and function.cls is not None:
                if self.instantiations(function.cls):
                    return None
            elif self.callers(function):
                return None
            found = self.only_network(function.module)
            if isinstance(found, Inst) and found.cls.info is not function.cls:
                # What the function itself builds is not what it is handed, nor what stands beside it elsewhere.
                if _builds(function, found.cls.info.name, name) or self._stands_beside(found.cls.info, name):
                    return None
                return found
            return None

    def _stands_beside(self, info: ClassInfo, name: str) -> bool:
        """Whether a function that makes such an object is handed another one by this name."""
        for function in info.module.functions:
            if _builds(function, info.name, name) and any(p.name == name for p in lower(function).params):
                self.ev.ledger.mask |= function.rests
                return True
        return False

    def sole_holder(self, function: Function, method: str) -> Value | None:
        """The object that an unknown parameter can only be: nobody calls the function, one network has the method."""
        with self._aside():
            if self.callers(function):
                return None
            self.ev.ledger.mask |= function.module.body.rests
            holders = [c for c in function.module.classes if c.owner is None and method in c.methods]
            if len(holders) != 1 or holders[0] is function.cls or _builds(function, holders[0].name):
                return None
            cls = Cls(holders[0])
            if not self.ev.library_base(cls).startswith(("torch.nn.Module", "pytorch_lightning.", "lightning.")):
                return None
            return self.ev.open_instance(holders[0])

    def only_network(self, module: ParsedModule) -> Value | None:
        with self._aside():
            if module not in self._models:
                self._models[module] = None
                with self.ev.ledger.entry(("network", module)):
                    self.ev.ledger.mask |= module.body.rests
                    self._models[module] = self._only_network(module)
            else:
                self.ev.ledger.recall(("network", module))
            found = self._models[module]
            return self.ev.open_instance(found.info) if isinstance(found, Cls) else None

    def _only_network(self, module: ParsedModule) -> Value | None:
        own = [Cls(info) for info in module.classes if info.owner is None and self.is_network(info)]
        parts: set[ClassInfo] = set()
        for cls in own:
            for other in own:
                if other is not cls and _mentions(cls.info, other.info.name):
                    parts.add(other.info)
        whole = [cls for cls in own if cls.info not in parts]
        return whole[0] if len(whole) == 1 else None

    def is_network(self, info: ClassInfo) -> bool:
        """Whether a class is a network, not a criterion."""
        cls = Cls(info)
        forward = self.ev.class_member(cls, "forward")
        base = self.ev.library_base(cls)
        if not base.startswith(("torch.nn.", "pytorch_lightning.", "lightning.")):
            return False
        if not isinstance(forward, Func):
            return base == "torch.nn.Sequential"
        if base == "torch.nn.Module" and not any(builds_layers(c.info) for c in self.ev.mro(cls)):
            return False
        # A criterion is a module too, but it is no network.
        params = [p.name for p in lower(forward.function).params[1:]]
        lossy = any(_LOSS_NAME.search(n) for n in (cls.info.name, *params))
        return not lossy and not base.endswith("Loss")

    def default_of(self, module: ParsedModule, option: str) -> str | None:
        """The word that a command line option is by default."""
        found = self._options(module, option)
        words = {at.value if isinstance(at, ast.Constant) else None for _, at in found}
        only = words.pop() if len(words) == 1 else None
        return only if isinstance(only, str) else None

    def number_of(self, module: ParsedModule, option: str) -> tuple[Function, ast.Constant] | None:
        """The number that a command line option is by default, and the function that says so."""
        found = self._options(module, option)
        if len(found) != 1:
            return None
        holder, at = found[0]
        return (holder, at) if isinstance(at, ast.Constant) and isinstance(at.value, (int, float)) else None

    def _options(self, module: ParsedModule, option: str) -> list[tuple[Function, ast.expr | None]]:
        """Where a command line option is added, with its default."""
        key = ("options", module)
        with self._aside():
            known = self._added.get(module)
            if known is None:
                known = self._added[module] = {}
                with self.ev.ledger.entry(key):
                    for _, call, holder in self.sites("add_argument", module):
                        self.ev.ledger.mask |= holder.rests
                        if isinstance(call, ast.Call):
                            default = next((k.value for k in call.keywords if k.arg == "default"), None)
                            known.setdefault(_option(call), []).append((holder, default))
            self.ev.ledger.recall(key)
        return known.get(option, [])

    def class_named(self, module: ParsedModule, name: str) -> Value | None:
        with self._aside():
            name = name.rpartition(".")[2]
            if not name:
                return None
            self.ev.ledger.mask |= self.ev.ledger.bit(ledger.naming(name))
            among = self.load_naming(name, module.path)
            found: list[Value] = [Cls(info) for info in self.ev.project.classes_named(name)]
            return _nearest(found or self._registered(name, module, among), module)

    def _registered(self, name: str, near: ParsedModule, among: Collection[str] | None) -> list[Value]:
        """What ``@register("name")``, ``class X(Base, key="name")`` or ``@register_model def name`` made known."""
        modules = self.ev.project.loaded()
        for module in modules[self._searched :]:
            for member in module.top.values():
                value = Func(member) if isinstance(member, Function) else Cls(member)
                for key in _registered_as(member):
                    self._by_key.setdefault(key, []).append((module, value))
        self._searched = len(modules)
        found = self._by_key.get(name, ())
        return [value for module, value in found if among is None or module.path in among or module is near]

    @contextmanager
    def _aside(self) -> Iterator[None]:
        ev = self.ev
        steps, nesting = ev.steps, ev.nesting
        ev.steps = 0
        try:
            yield
        finally:
            ev.spent += ev.steps
            ev.steps, ev.nesting = steps, nesting

    def _match(self, function: Function, call: object, holder: Function, found: list[tuple[Frame, Node, Func]]) -> None:
        if holder is function:
            return
        node = lower(holder).by_call.get(id(call))
        if node is None:
            return
        frame = self.ev.open_frame(holder)
        self.ev.refill()
        for func, _, _ in self.targets(frame, node):
            if func.function is function:
                found.append((frame, node, func))
                return

    def instantiations(self, info: ClassInfo) -> list[tuple[Frame, Node, Cls]]:
        """Where objects of a class (or of a class derived from it) are made."""
        known = self._sites.get(info)
        if known is not None:
            self.ev.ledger.recall(("sites", info))
            return known
        found: list[tuple[Frame, Node, Cls]] = []
        self._sites[info] = found
        with self.ev.ledger.entry(("sites", info)):
            self._look_for_instantiations(info, found)
        return found

    def _look_for_instantiations(self, info: ClassInfo, found: list[tuple[Frame, Node, Cls]]) -> None:
        family = [info, *self.subclasses(info)]
        for member in family:
            for _, call, holder in self.sites(member.name, member.module):
                if len(found) >= MAX_CALLERS:
                    return
                self.ev.ledger.mask |= holder.rests
                node = lower(holder).by_call.get(id(call))
                if node is None:
                    continue
                frame = self.ev.open_frame(holder)
                self.ev.refill()
                for _, v in alternatives(self.ev.value(frame, node.args[0])):
                    if isinstance(v, Cls) and v.info is member:
                        found.append((frame, node, v))

    def subclasses(self, info: ClassInfo) -> list[ClassInfo]:
        known = self._subclasses.get(info)
        if known is not None:
            self.ev.ledger.recall(("subclasses", info))
            return known
        found: list[ClassInfo] = []
        self._subclasses[info] = found
        with self.ev.ledger.entry(("subclasses", info)):
            self._look_for_subclasses(info, found)
        return found

    def _look_for_subclasses(self, info: ClassInfo, found: list[ClassInfo]) -> None:
        project = self.ev.project
        project.ledger.mask |= project.ledger.bit(ledger.naming(info.name))
        among = self.load_naming(info.name, info.module.path)
        for other in project.classes_on(info.name):
            if other is info or len(found) >= MAX_CALLERS:
                continue
            if among is not None and other.module.path not in among and other.module is not info.module:
                continue
            self.ev.refill()
            project.ledger.mask |= other.rests
            if any(isinstance(b, Cls) and b.info is info for b in self.ev.bases(Cls(other))):
                found.append(other)
                found.extend(s for s in self.subclasses(other) if s not in found)

    def applications(self, function: Function) -> list[tuple[Frame, Node]]:
        """Where a criterion of a ``forward`` is applied: objects are called by the names that hold them."""
        known = self._applied.get(function)
        if known is not None:
            self.ev.ledger.recall(("applied", function))
            return known
        found: list[tuple[Frame, Node]] = []
        self._applied[function] = found
        with self.ev.ledger.entry(("applied", function)):
            self._look_for_applications(function, found)
        return found

    def _look_for_applications(self, function: Function, found: list[tuple[Frame, Node]]) -> None:
        # An attribute, and the file of the class that holds it.
        attributes: dict[tuple[str, ParsedModule], None] = {}
        for frame, made, _ in self.instantiations(function.cls) if function.cls is not None else ():
            ir = lower(frame.function)
            module = frame.function.module
            attributes.update({(s.attr, module): None for s in ir.stores if _is_or_may_be(s.value, made)})
            for call in ir.calls:
                if _is_or_may_be(call.args[0], made):
                    self._apply(function, frame, call, found)
                elif any(_is_or_may_be(a, made) for a in (*call.args[1], *(v for _, v in call.args[2]))):
                    for target, positional, named in self.targets(frame, call):
                        inside = self.ev.enter(target, positional, named, frame, call)
                        for inner in inside.ir.calls if inside is not None else ():
                            if inside is not None and inner.args[0].op == "param":
                                self._apply(function, inside, inner, found)
                    attributes.update(self._attributes_of(frame, call, made))
        for attribute, module in attributes:
            for there, at, holder in self.sites(attribute, module):
                if there is not module or len(found) >= MAX_CALLERS:
                    continue
                self.ev.ledger.mask |= holder.rests
                node = lower(holder).by_call.get(id(at))
                if node is None:
                    continue
                open_frame = self.ev.open_frame(holder)
                if not self._apply(function, open_frame, node, found):
                    for known_object in self.expand(open_frame):
                        if self._apply(function, known_object, node, found):
                            break

    def _apply(self, function: Function, frame: Frame, node: Node, found: list[tuple[Frame, Node]]) -> bool:
        if self._tried_out(frame.function) and not self._tried_out(function):
            return False  # what a test or an example hands over says nothing of training
        self.ev.refill()
        applied = any(func.function is function for func, _, _ in self.targets(frame, node))
        if applied and len(found) < MAX_CALLERS:
            found.append((frame, node))
        return applied

    def _tried_out(self, function: Function) -> bool:
        path, root = function.module.path, self.ev.project.root
        return _TRIED_OUT.search(path.removeprefix(root).replace("\\", "/")) is not None

    def _attributes_of(self, frame: Frame, call: Node, made: Node) -> dict[tuple[str, ParsedModule], None]:
        """The attributes in which an object keeps a criterion that it is built with."""
        found: dict[tuple[str, ParsedModule], None] = {}
        for _, v in alternatives(self.ev.value(frame, call.args[0])):
            init = self.ev.class_member(v, "__init__") if isinstance(v, Cls) else None
            if not isinstance(init, Func):
                continue
            names = [p.name for p in lower(init.function).params[1:]]
            given = dict(zip(names, call.args[1], strict=False)) | dict(call.args[2])
            for store in lower(init.function).stores:
                held = given.get(store.value.args[0]) if store.value.op == "param" else None
                if held is not None and _is_or_may_be(held, made):
                    found[store.attr, init.function.module] = None
        return found

    # ---- closing open frames

    def expand(self, frame: Frame) -> list[Frame]:
        """The same frame with one of its unknown callers, constructors or closures known."""
        base = frame.base()
        results: list[Frame] = []
        if base.open:
            for caller, node, _ in self.callers(base.function):
                results.extend(self.enter(caller, node, base.function))
        if results:
            return results[:MAX_CALLERS]
        me = base.me
        if isinstance(me, Inst) and me.ctor is not None and me.ctor.open:
            results.extend(self._with_known_object(base, me))
        elif isinstance(me, Inst) and me.ctor is None and me.over is None:
            results.extend(self._with_known_object(base, me))
        if not results and base.closure is not None and base.closure.open:
            for closure in self.expand(base.closure):
                results.append(Frame(base.function, None, base.me, closure, None, closure.depth))
        return results[:MAX_CALLERS]

    def _with_known_object(self, base: Frame, me: Inst) -> list[Frame]:
        results: list[Frame] = []
        for caller, node, cls in self.instantiations(me.cls.info):
            self.ev.refill()
            positional, named = self.ev.arguments(caller, node)
            made = self.ev.construct(cls, positional, named, caller, node)
            if isinstance(made, Inst):
                args = None if base.open else base.args
                results.append(Frame(base.function, args, made, base.closure, base.site, base.depth))
        if not results:
            for info in self.subclasses(me.cls.info):
                results.append(
                    Frame(base.function, None, self.ev.open_instance(info), base.closure, base.site, base.depth)
                )
        return results

    def enter(self, caller: Frame, node: Node, function: Function) -> list[Frame]:
        """The frames of ``function`` as a call node reaches it."""
        frames = []
        for func, positional, named in self.targets(caller, node):
            if func.function is function:
                entered = self.ev.enter(func, positional, named, caller, node)
                if entered is not None:
                    frames.append(entered)
        return frames

    def outer(self, frame: Frame, applied: bool = False) -> list[Frame]:
        """The frame again, once for every way of closing what is open around it.

        ``applied``: a criterion's ``forward`` is looked for where its objects are called.
        """
        chain = frame.chain()
        root = chain[-1]
        results: list[Frame] = []
        closings: list[Frame] = []
        if applied and root.open and root.function.name in ("forward", "__call__"):
            for caller, node in self.applications(root.function):
                closings.extend(self.enter(caller, node, root.function))
        for closed in closings or self.expand(root):
            frames = [closed]
            for inner in reversed(chain[:-1]):
                assert inner.site is not None
                frames = [f for outer in frames for f in self.enter(outer, inner.site[1], inner.function)]
            results.extend(frames)
            if len(results) >= MAX_CALLERS:
                break
        return results

    def overridden(self, frame: Frame) -> bool:
        """Whether the object is one of an unknown subclass, which may do another thing."""
        me = frame.chain()[-1].me
        if not isinstance(me, Inst) or me.over is not None or (me.ctor is not None and not me.ctor.open):
            return False
        return bool(self.subclasses(me.cls.info))

    def is_open(self, frame: Frame) -> bool:
        """Whether asking around could tell more about a frame: something was asked of an unknown caller."""
        root = frame.chain()[-1]
        if root.open and root.touched:
            return True
        me = root.me
        if isinstance(me, Inst):
            if me.ctor is not None and me.ctor.open:
                return True
            if me.ctor is None and me.over is None and me.cls.info.methods:
                return True
        closure = root.closure
        return closure is not None and closure.open and closure.touched


def _option(call: ast.Call) -> str:
    """The attribute that ``add_argument("-a", "--arch")`` makes: ``arch``."""
    flags = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    long = next((f for f in flags if f.startswith("--")), flags[0] if flags else "")
    return long.lstrip("-").replace("-", "_")


def _nearest(found: list[Value], module: ParsedModule) -> Value | None:
    """The one candidate, or of several the one that lies nearest to who asks: a tree may hold many projects."""
    if len(found) < 2:
        return found[0] if found else None
    folder = os.path.dirname(module.path)
    near: dict[int, list[Value]] = {}
    for value in found:
        place = (
            value.function.module
            if isinstance(value, Func)
            else value.info.module
            if isinstance(value, Cls)
            else module
        )
        near.setdefault(len(os.path.commonpath([place.path, folder])), []).append(value)
    closest = near[max(near)]
    return closest[0] if len(closest) == 1 else None


def _registered_as(member: Function | ClassInfo) -> set[str]:
    """The names under which a decorator or the class statement itself registers a class or a factory."""
    found = set()
    for decorator in member.node.decorator_list:
        # One line each: so they are found in a file's text too, before anything is parsed.
        if "regist" in dotted(decorator.func if isinstance(decorator, ast.Call) else decorator).lower():
            found.add(member.name)
        if not isinstance(decorator, ast.Call):
            continue
        for given in [*decorator.args[:1], *(k.value for k in decorator.keywords)]:
            if isinstance(given, ast.Constant) and isinstance(given.value, str) and given.lineno == decorator.lineno:
                found.add(given.value.rpartition(".")[2])
    for keyword in getattr(member.node, "keywords", ()):
        if isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
            found.add(keyword.value.value.rpartition(".")[2])
    return found


def _mentions(info: ClassInfo, name: str) -> bool:
    return any(
        call.func.__class__.__name__ == "Name" and call.func.id == name  # type: ignore[attr-defined]
        for method in info.methods.values()
        for call in method.calls
    ) or any(dotted(b) == name for b in info.node.bases)


def _builds(function: Function, name: str, param: str = "") -> bool:
    """Whether a function makes such an object for itself, not in place of a parameter that was left out."""
    made = [call for call in function.calls if dotted(call.func) == name]
    if not made or not param:
        return bool(made)
    instead = {
        id(part)
        for statement in ast.walk(function.node)
        if isinstance(statement, ast.Assign) and any(dotted(t) == param for t in statement.targets)
        for part in ast.walk(statement.value)
    }
    return any(id(call) not in instead for call in made)


def _is_or_may_be(node: Node, made: Node) -> bool:
    return node is made or (node.op == "phi" and any(_is_or_may_be(n, made) for n in node.args[1:]))


def _stored_as(function: Function) -> list[str]:
    """The attributes that the classes of its file keep a function in: ``self.neg_loss = _neg_loss``."""
    if function.cls is not None or function.parent is not function.module.body:
        return []
    found: list[str] = []
    for cls in function.module.classes:
        init = cls.methods.get("__init__")
        for store in lower(init).stores if init is not None else ():
            if store.value.op == "name" and store.value.args[0] == function.name and store.attr != function.name:
                found.append(store.attr)
    return found
