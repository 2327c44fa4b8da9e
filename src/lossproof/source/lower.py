"""From a function's statements to a graph of values.

Every expression becomes a ``Node``; a local name is the node that it was last bound to, branches meet
in ``phi`` nodes that remember their test, loops in ``loop`` nodes. The graph is what the walk backwards
from a loss follows, so control flow is dealt with once, here.

Node forms (``op``: ``args``)::

    const: (value,)            param: (name,)              name: (name,)      a module-level or builtin name
    free: (name,)              attr: (obj, name)           call: (func, args, keywords)
    bin: (op, left, right)     un: (op, x)                 cmp: (ops, left, rights)     bool: (op, values)
    sub: (obj, index)          slice: (lo, hi, step)       tuple/list/set: items        dict: (keys, values)
    phi: (test, yes, no)       loop: [entry, backs…]       iter: (x,)                   unpack: (x, i, n, star)
    func: (Function,)          class: (ClassInfo,)         comp: (kind, elt, key)       star: (x,)
    append: (list, item)       insert: (list, i, item)     extend: (list, items)
    setitem: (obj, key, v)     setattr: (obj, name, v)     delitem: (obj, key)
    import: (module, attr, level)   enter: (context,)      fstr: parts                  inplace: (obj, call)
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from lossproof.source.syntax import ClassInfo, Function


class Guard:
    """A test that holds where a node stands; the chain to ``parent`` holds the outer ones.

    ``polarity`` is True or False for a test, and None where ``test`` is an entered context manager.
    """

    __slots__ = ("parent", "polarity", "test")

    def __init__(self, parent: Guard | None, test: Node | None, polarity: bool | None) -> None:
        self.parent = parent
        self.test = test
        self.polarity = polarity


class Node:
    __slots__ = ("args", "at", "guard", "op")

    def __init__(self, op: str, args: Any, at: Any, guard: Guard | None) -> None:
        self.op = op
        self.args = args
        self.at = at
        self.guard = guard

    def __repr__(self) -> str:
        return f"{self.op}@{getattr(self.at, 'lineno', '?')}"


class Param:
    __slots__ = ("annotation", "default", "kind", "name")

    def __init__(self, name: str, kind: str, default: Node | None, annotation: ast.AST | None) -> None:
        self.name = name
        self.kind = kind  # "pos" | "kw" | "var" | "varkw"
        self.default = default
        self.annotation = annotation


class Store:
    """``obj.attr = value`` where obj is not a plain local rebinding."""

    __slots__ = ("attr", "obj", "value")

    def __init__(self, obj: Node, attr: str, value: Node) -> None:
        self.obj = obj
        self.attr = attr
        self.value = value


class Accumulation:
    """``target += value`` or ``target.append(value)`` in a loop, or on an attribute that outlives the call."""

    __slots__ = ("node", "target", "value")

    def __init__(self, node: Node, target: ast.AST, value: Node) -> None:
        self.node = node
        self.target = target
        self.value = value


class Loop:
    """A loop: what it runs over, the node of its current item, and the names that change in it."""

    __slots__ = ("first_line", "item", "phis", "source")

    def __init__(self, first_line: int) -> None:
        self.first_line = first_line
        self.source: Node | None = None
        self.item: Node | None = None
        self.phis: dict[str, Node] = {}


class FuncIR:
    """A lowered function."""

    __slots__ = (
        "abstract",
        "accumulations",
        "by_call",
        "calls",
        "computed",
        "final",
        "function",
        "loops",
        "ops",
        "params",
        "returns",
        "stores",
        "yields",
    )

    def __init__(self, function: Function) -> None:
        self.function = function
        # Ends in ``raise``: a method that subclasses are to write.
        self.abstract = False
        self.params: list[Param] = []
        self.returns: list[tuple[Node, Guard | None]] = []
        self.yields: list[Node] = []
        self.calls: list[Node] = []
        self.by_call: dict[int, Node] = {}
        self.ops: list[Node] = []
        self.stores: list[Store] = []
        # Attributes of ``self`` whose name is computed: (object, name, value).
        self.computed: list[tuple[Node, Node, Node]] = []
        self.accumulations: list[Accumulation] = []
        self.final: dict[str, Node] = {}
        self.loops: dict[Any, Loop] = {}


def lower(function: Function) -> FuncIR:
    """The value graph of a function, a class body or a module body; kept on the function."""
    if function.ir is None:
        function.ir = Lowering(function).run()
    return function.ir


def lower_class(info: ClassInfo) -> FuncIR:
    """The class body as a function whose final names are the class attributes."""
    if info.body_ir is None:
        body = Function(info.module, info.node, info.name, info.qualname, info.owner or info.module.body, info)
        info.body_ir = Lowering(body).run()
    return info.body_ir


_BIN = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.MatMult: "@",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
}
_CMP = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}
_UN = {ast.USub: "-", ast.UAdd: "+", ast.Not: "not", ast.Invert: "~"}
_GROW = {"append": "append", "add": "append", "extend": "extend", "appendleft": "append"}
_REGISTER = {"add_module", "register_module", "register_buffer", "register_parameter"}


class Lowering:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.ir = FuncIR(function)
        self.env: dict[str, Node] = {}
        self.guard: Guard | None = None
        self.dead = False
        self.loop_depth = 0
        self.globals: set[str] = set()
        # One entry a loop: environments at its ``break`` and ``continue`` statements.
        self.jumps: list[list[dict[str, Node]]] = []
        node = function.node
        self.top_level = isinstance(node, ast.Module)
        self.me = function.first_param if function.cls is not None and not function.is_static else None

    def run(self) -> FuncIR:
        node = self.function.node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            self._params(node.args)
        if isinstance(node, ast.Lambda):
            self.ir.returns.append((self.expr(node.body), None))
        else:
            self.block(node.body)
            self.ir.abstract = self.dead and not self.ir.returns
        self.ir.final = self.env
        return self.ir

    def _params(self, args: ast.arguments) -> None:
        positional = args.posonlyargs + args.args
        defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
        defaults += args.defaults
        outer = self.env
        self.env = {}
        for arg, default in zip(positional, defaults, strict=True):
            value = self.expr(default) if default is not None else None
            self.ir.params.append(Param(arg.arg, "pos", value, arg.annotation))
        if args.vararg:
            self.ir.params.append(Param(args.vararg.arg, "var", None, args.vararg.annotation))
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            value = self.expr(default) if default is not None else None
            self.ir.params.append(Param(arg.arg, "kw", value, arg.annotation))
        if args.kwarg:
            self.ir.params.append(Param(args.kwarg.arg, "varkw", None, args.kwarg.annotation))
        self.env = outer
        self.ir.calls.clear()
        self.ir.by_call.clear()
        self.ir.ops.clear()
        for param in self.ir.params:
            self.env[param.name] = Node("param", (param.name,), self.function.node, None)

    # ---- statements

    def block(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            if self.dead:
                return
            handler = _STATEMENTS.get(statement.__class__)
            if handler is not None:
                handler(self, statement)

    def node(self, op: str, args: Any, at: Any) -> Node:
        return Node(op, args, at, self.guard)

    def _expr_stmt(self, s: ast.Expr) -> None:
        value = s.value
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            path = _path(value.func.value)
            name = value.func.attr
            if path is not None:
                if name in _GROW and len(value.args) == 1 and not value.keywords:
                    old = self.expr(value.func.value)
                    item = self.expr(value.args[0])
                    call = self._call_node(value, self.node("attr", (old, name), value.func), (item,), ())
                    if self.loop_depth or (self.me is not None and path.startswith(self.me + ".")):
                        self.ir.accumulations.append(Accumulation(call, value.func.value, item))
                    self._rebind(path, self.node(_GROW[name], (old, item), value), value.func.value)
                    return
                if name == "insert" and len(value.args) == 2 and not value.keywords:
                    old = self.expr(value.func.value)
                    place, item = self.expr(value.args[0]), self.expr(value.args[1])
                    self._call_node(value, self.node("attr", (old, name), value.func), (place, item), ())
                    self._rebind(path, self.node("insert", (old, place, item), value), value.func.value)
                    return
                if name in _REGISTER and len(value.args) >= 2:
                    key, item = value.args[0], self.expr(value.args[1])
                    obj = self.expr(value.func.value)
                    known = isinstance(key, ast.Constant) and isinstance(key.value, str)
                    if known:
                        self._set_attribute(value.func.value, obj, key.value, item, value)  # type: ignore[attr-defined]
                    elif path == self.me:
                        self.ir.computed.append((obj, self.expr(key), item))
                    if name in ("add_module", "register_module") and path != self.me:
                        self._rebind(path, self.node("append", (self._lookup(path, obj), item), value), None)
                    if known or path == self.me or name in ("add_module", "register_module"):
                        return
                if name.endswith("_") and not name.endswith("__"):
                    given = _path(value.args[0]) if value.args else None
                    if given is not None and path not in self.env and self._is_torch(path):
                        # ``torch.sigmoid_(x)``: it is the argument that changes.
                        old, call = self.expr(value.args[0]), self._call(value)
                        self._rebind(given, self.node("inplace", (old, call), value), value.args[0])
                        return
                    old = self.expr(value.func.value)
                    call = self._call(value)
                    self._rebind(path, self.node("inplace", (old, call), value), value.func.value)
                    return
                if name == "update" and len(value.args) + len(value.keywords) > 0 and len(value.args) < 2:
                    old = self.expr(value.func.value)
                    given_items = tuple(self.expr(a) for a in value.args)
                    named = tuple((k.arg, self.expr(k.value)) for k in value.keywords)
                    self._call_node(value, self.node("attr", (old, name), value.func), given_items, named)
                    changed = old
                    for new in given_items:
                        changed = self.node("extend", (changed, new), value)
                    if named:
                        keys = tuple(self.node("const", (k,), value) if k is not None else None for k, _ in named)
                        more = self.node("dict", (keys, tuple(v for _, v in named)), value)
                        changed = self.node("extend", (changed, more), value)
                    self._rebind(path, changed, value.func.value)
                    return
            elif name == "append" and len(value.args) == 1 and not value.keywords and self._grow_entry(value):
                return
            elif name in _GROW and len(value.args) == 1 and not value.keywords and self._grow_either(value):
                return
            elif name == "append" and len(value.args) == 1 and not value.keywords and self._grow_default(value):
                return
        elif (
            isinstance(value, ast.Call)
            and isinstance(value.func, ast.Name)
            and value.func.id == "setattr"
            and len(value.args) == 3
        ):
            obj, item, key = self.expr(value.args[0]), self.expr(value.args[2]), value.args[1]
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                self._set_attribute(value.args[0], obj, key.value, item, value)
                return
            if _path(value.args[0]) == self.me:
                self.ir.computed.append((obj, self.expr(key), item))
                return
        called = self.expr(value)
        for keyword in value.keywords if isinstance(value, ast.Call) else ():
            path = _path(keyword.value) if keyword.arg == "out" else None
            if path is not None:  # ``torch.amax(x, dim=1, out=peak)``
                self._rebind(path, self.node("inplace", (self.expr(keyword.value), called), value), keyword.value)

    def _is_torch(self, name: str) -> bool:
        target, attr, _ = self.function.module.imports.get(name, ("", None, 0))
        return (target, attr) in (("torch", None), ("torch.nn.functional", None), ("torch.nn", "functional"))

    def _grow_entry(self, value: ast.Call) -> bool:
        """``history["loss"].append(loss)``: a list in a dictionary grows as one of its own does."""
        entry = value.func.value  # type: ignore[attr-defined]
        path = _path(entry.value) if isinstance(entry, ast.Subscript) else None
        if path is None:
            return False
        old = self.expr(entry)
        item = self.expr(value.args[0])
        call = self._call_node(value, self.node("attr", (old, "append"), value.func), (item,), ())
        if self.loop_depth or (self.me is not None and path.startswith(self.me + ".")):
            self.ir.accumulations.append(Accumulation(call, entry, item))
        grown = self.node("append", (old, item), value)
        self._rebind(
            path, self.node("setitem", (self.expr(entry.value), self.expr(entry.slice), grown), value), entry.value
        )
        return True

    def _grow_default(self, value: ast.Call) -> bool:
        """``history.setdefault(key, []).append(loss)``"""
        made = value.func.value  # type: ignore[attr-defined]
        if not isinstance(made, ast.Call) or not isinstance(made.func, ast.Attribute) or made.func.attr != "setdefault":
            return False
        path = _path(made.func.value)
        if path is None or not (self.loop_depth or (self.me is not None and path.startswith(self.me + "."))):
            return False
        old, item = self.expr(made), self.expr(value.args[0])
        call = self._call_node(value, self.node("attr", (old, "append"), value.func), (item,), ())
        self.ir.accumulations.append(Accumulation(call, made.func.value, item))
        return True

    def _grow_either(self, value: ast.Call) -> bool:
        """``(decayed if p.ndim > 1 else plain).append(p)``: either list may grow."""
        choice = value.func.value  # type: ignore[attr-defined]
        if not isinstance(choice, ast.IfExp) or not all(isinstance(s, ast.Name) for s in (choice.body, choice.orelse)):
            return False
        self.expr(value)
        item = self.expr(value.args[0])
        for side in (choice.body, choice.orelse):
            old = self.expr(side)
            grown = self.node(_GROW[value.func.attr], (old, item), value)  # type: ignore[attr-defined]
            self._rebind(side.id, self.node("phi", (None, grown, old), value), None)  # type: ignore[attr-defined]
        return True

    def _lookup(self, path: str, default: Node) -> Node:
        return self.env.get(path, default)

    def _rebind(self, path: str, value: Node, target: ast.AST | None) -> None:
        """A path (``x`` or ``self.x``) now holds another value because it was changed in place."""
        self.env[path] = value
        if "." in path and target is not None and isinstance(target, ast.Attribute):
            self.ir.stores.append(Store(self.expr(target.value), target.attr, value))

    def _assign(self, s: ast.Assign) -> None:
        value = self.expr(s.value)
        for target in s.targets:
            self.bind(target, value, s.value)

    def _ann_assign(self, s: ast.AnnAssign) -> None:
        if s.value is not None:
            self.bind(s.target, self.expr(s.value), s.value)

    def _aug_assign(self, s: ast.AugAssign) -> None:
        load = _as_load(s.target)
        old = self.expr(load)
        value = self.expr(s.value)
        node = self.node("bin", (_BIN.get(s.op.__class__, "?"), old, value), s)
        self.ir.ops.append(node)
        if self.loop_depth or self.me is not None:
            self.ir.accumulations.append(Accumulation(node, s.target, value))
        self.bind(s.target, node, s.value)

    def bind(self, target: ast.AST, value: Node, source: ast.AST | None) -> None:
        kind = target.__class__
        if kind is ast.Name:
            name = target.id  # type: ignore[attr-defined]
            self.env[name] = value
            self._forget_attributes(name)
        elif kind is ast.Tuple or kind is ast.List:
            items: list[ast.expr] = target.elts  # type: ignore[attr-defined]
            star = next((i for i, t in enumerate(items) if isinstance(t, ast.Starred)), -1)
            direct = value.op in ("tuple", "list") and star < 0 and len(value.args) == len(items)
            direct = direct and not any(a.op == "star" for a in value.args)
            for i, item in enumerate(items):
                if direct:
                    self.bind(item, value.args[i], None)
                else:
                    part = self.node("unpack", (value, i, len(items), star), item)
                    self.bind(item.value if isinstance(item, ast.Starred) else item, part, None)
        elif kind is ast.Attribute:
            obj = self.expr(target.value)  # type: ignore[attr-defined]
            self._set_attribute(target.value, obj, target.attr, value, target)  # type: ignore[attr-defined]
        elif kind is ast.Subscript:
            base = target.value  # type: ignore[attr-defined]
            obj = self.expr(base)
            key = self.expr(target.slice)  # type: ignore[attr-defined]
            path = _path(base)
            node = self.node("setitem", (obj, key, value), target)
            if path is not None:
                self._rebind(path, node, base)
                head, _, attr = path.partition(".")
                if attr and head != self.me and head in self.env:
                    # ``net.classifier[6] = …``: passing the network on must carry the replaced layer with it.
                    self.env[head] = self.node("setattr", (self.env[head], attr, node), target)

    def _set_attribute(self, base: ast.AST, obj: Node, attr: str, value: Node, at: ast.AST) -> None:
        path = _path(base)
        self.ir.stores.append(Store(obj, attr, value))
        if path is None:
            return
        if path != self.me and "." not in path:
            # Passing the object on must carry the replaced attribute with it.
            self.env[path] = self.node("setattr", (obj, attr, value), at)
        if "." not in path:
            self.env[f"{path}.{attr}"] = value
        elif path.count(".") == 1:
            self._rebind(path, self.node("setattr", (obj, attr, value), at), base)

    def _forget_attributes(self, name: str) -> None:
        prefix = name + "."
        stale = [key for key in self.env if key.startswith(prefix)]
        for key in stale:
            del self.env[key]

    def _if(self, s: ast.If) -> None:
        test = self.expr(s.test)
        before, guard = self.env, self.guard
        self.env, self.guard = dict(before), Guard(guard, test, True)
        self.block(s.body)
        env_yes, dead_yes = self.env, self.dead
        self.env, self.guard, self.dead = dict(before), Guard(guard, test, False), False
        self.block(s.orelse)
        env_no, dead_no = self.env, self.dead
        self._join(test, env_yes, dead_yes, env_no, dead_no, s)
        self.guard = guard
        if dead_yes and not dead_no:
            self.guard = Guard(guard, test, False)
        elif dead_no and not dead_yes:
            self.guard = Guard(guard, test, True)

    def _join(
        self, test: Node | None, yes: dict[str, Node], dead_yes: bool, no: dict[str, Node], dead_no: bool, at: ast.AST
    ) -> None:
        self.dead = dead_yes and dead_no
        if dead_yes:
            self.env = no
            return
        if dead_no:
            self.env = yes
            return
        merged = dict(yes)
        for key, b in no.items():
            a = yes.get(key)
            if a is None:
                a = self._missing(key)
            if a is not b and a is not None:
                merged[key] = self.node("phi", (test, a, b), at)
            elif a is None:
                merged[key] = b
        for key, a in yes.items():
            if key not in no:
                b2 = self._missing(key)
                if b2 is not None:
                    merged[key] = self.node("phi", (test, a, b2), at)
        self.env = merged

    def _missing(self, key: str) -> Node | None:
        """What a path was in the branch that did not touch it: the attribute as it stood before."""
        base, _, attr = key.partition(".")
        if attr and base in self.env:
            return Node("attr", (self.env[base], attr), self.function.node, self.guard)
        return None

    def _for(self, s: ast.For | ast.AsyncFor) -> None:
        loop = Loop(s.lineno)
        loop.source = self.expr(s.iter)
        self.ir.loops[s] = loop

        def head() -> None:
            loop.item = self.node("iter", (loop.source,), s.target)
            self.bind(s.target, loop.item, None)

        self._loop(s, head)

    def _while(self, s: ast.While) -> None:
        guard = self.guard

        def test() -> None:
            self.guard = Guard(guard, self.expr(s.test), True)

        self._loop(s, test)

    def _loop(self, s: ast.For | ast.AsyncFor | ast.While, head: Callable[[], None]) -> None:
        guard = self.guard
        phis: dict[str, Node] = {}
        for path in _assigned(s.body):
            old = self.env.get(path)
            if old is None and "." in path:
                old = self._missing(path)
            if old is not None:
                phi = self.node("loop", [old], s)
                phis[path] = phi
                self.env[path] = phi
        self.jumps.append([])
        self.loop_depth += 1
        if s in self.ir.loops:
            self.ir.loops[s].phis = phis
        head()
        self.block(s.body)
        self.loop_depth -= 1
        jumps = self.jumps.pop()
        ends = jumps if self.dead else [*jumps, self.env]
        for path, phi in phis.items():
            for end in ends:
                value = end.get(path)
                if value is not None and value is not phi and value not in phi.args:
                    phi.args.append(value)
        if self.dead:
            self.env = dict(ends[0]) if ends else self.env
        else:
            self.env = dict(self.env)
        self.dead = False
        self.env.update(phis)
        self.guard = guard
        self.block(s.orelse)

    def _jump(self, s: ast.AST) -> None:
        if self.jumps:
            self.jumps[-1].append(dict(self.env))
        self.dead = True

    def _try(self, s: Any) -> None:
        before, guard = dict(self.env), self.guard
        self.block(s.body)
        if not self.dead:
            self.block(s.orelse)
        env, dead = self.env, self.dead
        for handler in s.handlers:
            self.env, self.dead, self.guard = dict(before), False, Guard(guard, None, True)
            if handler.name:
                self.env[handler.name] = self.node("unknown", (), handler)
            self.block(handler.body)
            self._join(None, env, dead, self.env, self.dead, handler)
            env, dead = self.env, self.dead
        self.guard = guard
        self.env, self.dead = env, False
        self.block(s.finalbody)
        self.dead = self.dead or dead

    def _with(self, s: ast.With | ast.AsyncWith) -> None:
        guard = self.guard
        for item in s.items:
            context = self.expr(item.context_expr)
            self.guard = Guard(self.guard, context, None)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, self.node("enter", (context,), item.context_expr), None)
        self.block(s.body)
        self.guard = guard

    def _match(self, s: Any) -> None:
        subject = self.expr(s.subject)
        guard = self.guard
        env, dead = dict(self.env), False
        before = self.env
        first = True
        for case in s.cases:
            test: Node | None = None
            pattern = case.pattern
            if pattern.__class__.__name__ == "MatchValue":
                self.env = dict(before)
                test = self.node("cmp", (("==",), subject, (self.expr(pattern.value),)), pattern)
            self.env, self.dead = dict(before), False
            self.guard = Guard(guard, test, True)
            for name in _captured(pattern):
                self.env[name] = self.node("unknown", (), pattern)
            self.block(case.body)
            if first:
                if test is not None:
                    self._join(test, self.env, self.dead, env, False, s)
                env, dead, first = self.env, self.dead, False
            else:
                self._join(test, self.env, self.dead, env, dead, s)
                env, dead = self.env, self.dead
        self.env, self.dead, self.guard = env, dead, guard

    def _return(self, s: ast.Return) -> None:
        value = self.expr(s.value) if s.value is not None else self.node("const", (None,), s)
        self.ir.returns.append((value, self.guard))
        self.dead = True

    def _raise(self, s: ast.Raise) -> None:
        if s.exc is not None:
            self.expr(s.exc)
        self.dead = True

    def _assert(self, s: ast.Assert) -> None:
        self.guard = Guard(self.guard, self.expr(s.test), True)

    def _delete(self, s: ast.Delete) -> None:
        for target in s.targets:
            if isinstance(target, ast.Name):
                self.env.pop(target.id, None)
            elif isinstance(target, ast.Subscript):
                # ``del layers[-1]``: the container is shorter by what the index names.
                path = _path(target.value)
                if path is not None:
                    obj, key = self.expr(target.value), self.expr(target.slice)
                    self._rebind(path, self.node("delitem", (obj, key), target), target.value)

    def _import(self, s: ast.Import | ast.ImportFrom) -> None:
        if self.top_level:
            # The module's own table of imports knows these; a name in a branch is no different.
            for alias in s.names:
                self.env.pop((alias.asname or alias.name).partition(".")[0], None)
            return
        if isinstance(s, ast.Import):
            for alias in s.names:
                name = alias.asname or alias.name.partition(".")[0]
                module = alias.name if alias.asname else name
                self.env[name] = self.node("import", (module, None, 0), s)
        else:
            for alias in s.names:
                if alias.name != "*":
                    self.env[alias.asname or alias.name] = self.node("import", (s.module or "", alias.name, s.level), s)

    def _function(self, s: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.env[s.name] = self.node("func", (s,), s)

    def _class(self, s: ast.ClassDef) -> None:
        self.env[s.name] = self.node("class", (s,), s)

    def _global(self, s: ast.Global | ast.Nonlocal) -> None:
        self.globals.update(s.names)

    # ---- expressions

    def expr(self, e: Any) -> Node:
        handler = _EXPRESSIONS.get(e.__class__)
        return handler(self, e) if handler is not None else self.node("unknown", (), e)

    def _constant(self, e: ast.Constant) -> Node:
        return Node("const", (e.value,), e, self.guard)

    def _name(self, e: ast.Name) -> Node:
        found = self.env.get(e.id)
        if found is not None and e.id not in self.globals:
            return found
        return self.node("free" if self._enclosed(e.id) else "name", (e.id,), e)

    def _enclosed(self, name: str) -> bool:
        parent = self.function.parent
        while parent is not None and not isinstance(parent.node, ast.Module):
            if name in _bound_names(parent):
                return True
            parent = parent.parent
        return False

    def _attribute(self, e: ast.Attribute) -> Node:
        path = _path(e)
        if path is not None and path in self.env:
            return self.env[path]
        return self.node("attr", (self.expr(e.value), e.attr), e)

    def _call(self, e: ast.Call) -> Node:
        func = self.expr(e.func)
        args = tuple(self.expr(a) for a in e.args)
        keywords = tuple((k.arg, self.expr(k.value)) for k in e.keywords)
        return self._call_node(e, func, args, keywords)

    def _call_node(self, e: ast.Call, func: Node, args: Any, keywords: Any) -> Node:
        node = self.node("call", (func, args, keywords), e)
        self.ir.calls.append(node)
        self.ir.by_call[id(e)] = node
        return node

    def _binop(self, e: ast.BinOp) -> Node:
        # A left-leaning chain of a thousand terms must not be a thousand frames deep.
        chain = []
        left: Any = e
        while isinstance(left, ast.BinOp):
            chain.append(left)
            left = left.left
        node = self.expr(left)
        for part in reversed(chain):
            node = self.node("bin", (_BIN.get(part.op.__class__, "?"), node, self.expr(part.right)), part)
            self.ir.ops.append(node)
        return node

    def _unary(self, e: ast.UnaryOp) -> Node:
        return self.node("un", (_UN.get(e.op.__class__, "?"), self.expr(e.operand)), e)

    def _compare(self, e: ast.Compare) -> Node:
        ops = tuple(_CMP.get(op.__class__, "?") for op in e.ops)
        return self.node("cmp", (ops, self.expr(e.left), tuple(self.expr(c) for c in e.comparators)), e)

    def _boolop(self, e: ast.BoolOp) -> Node:
        op = "and" if isinstance(e.op, ast.And) else "or"
        return self.node("bool", (op, tuple(self.expr(v) for v in e.values)), e)

    def _ifexp(self, e: ast.IfExp) -> Node:
        test = self.expr(e.test)
        guard = self.guard
        self.guard = Guard(guard, test, True)
        yes = self.expr(e.body)
        self.guard = Guard(guard, test, False)
        no = self.expr(e.orelse)
        self.guard = guard
        return self.node("phi", (test, yes, no), e)

    def _subscript(self, e: ast.Subscript) -> Node:
        return self.node("sub", (self.expr(e.value), self.expr(e.slice)), e)

    def _slice(self, e: ast.Slice) -> Node:
        parts = tuple(self.expr(p) if p is not None else None for p in (e.lower, e.upper, e.step))
        return self.node("slice", parts, e)

    def _sequence(self, e: Any) -> Node:
        op = {"Tuple": "tuple", "List": "list", "Set": "set"}[e.__class__.__name__]
        return self.node(op, tuple(self.expr(i) for i in e.elts), e)

    def _dict(self, e: ast.Dict) -> Node:
        keys = tuple(self.expr(k) if k is not None else None for k in e.keys)
        return self.node("dict", (keys, tuple(self.expr(v) for v in e.values)), e)

    def _starred(self, e: ast.Starred) -> Node:
        return self.node("star", (self.expr(e.value),), e)

    def _lambda(self, e: ast.Lambda) -> Node:
        return self.node("func", (e,), e)

    def _named(self, e: ast.NamedExpr) -> Node:
        value = self.expr(e.value)
        self.bind(e.target, value, e.value)
        return value

    def _await(self, e: ast.Await) -> Node:
        return self.expr(e.value)

    def _yield(self, e: ast.Yield | ast.YieldFrom) -> Node:
        if e.value is not None:
            value = self.expr(e.value)
            if isinstance(e, ast.YieldFrom):
                value = self.node("iter", (value,), e)
            self.ir.yields.append(value)
        return self.node("unknown", (), e)

    def _fstring(self, e: ast.JoinedStr) -> Node:
        parts = []
        for value in e.values:
            parts.append(self.expr(value.value if isinstance(value, ast.FormattedValue) else value))
        return self.node("fstr", tuple(parts), e)

    def _comprehension(self, e: Any) -> Node:
        outer, guard = self.env, self.guard
        self.env = dict(outer)
        self.loop_depth += 1
        single = len(e.generators) == 1 and not e.generators[0].ifs
        source: Node | None = None
        args: tuple[str, Node, Node | None, Node | None]
        for generator in e.generators:
            source = self.expr(generator.iter)
            self.bind(generator.target, self.node("iter", (source,), generator.target), None)
            for test in generator.ifs:
                self.guard = Guard(self.guard, self.expr(test), True)
        if isinstance(e, ast.DictComp):
            args = ("dict", self.expr(e.value), self.expr(e.key), source if single else None)
        else:
            kind = {"ListComp": "list", "SetComp": "set", "GeneratorExp": "list"}[e.__class__.__name__]
            args = (kind, self.expr(e.elt), None, source if single else None)
        self.loop_depth -= 1
        self.env, self.guard = outer, guard
        return self.node("comp", args, e)


_STATEMENTS: dict[type, Callable[[Lowering, Any], None]] = {
    ast.Expr: Lowering._expr_stmt,
    ast.Assign: Lowering._assign,
    ast.AnnAssign: Lowering._ann_assign,
    ast.AugAssign: Lowering._aug_assign,
    ast.If: Lowering._if,
    ast.For: Lowering._for,
    ast.AsyncFor: Lowering._for,
    ast.While: Lowering._while,
    ast.Break: Lowering._jump,
    ast.Continue: Lowering._jump,
    ast.Try: Lowering._try,
    ast.With: Lowering._with,
    ast.AsyncWith: Lowering._with,
    ast.Return: Lowering._return,
    ast.Raise: Lowering._raise,
    ast.Assert: Lowering._assert,
    ast.Delete: Lowering._delete,
    ast.Import: Lowering._import,
    ast.ImportFrom: Lowering._import,
    ast.FunctionDef: Lowering._function,
    ast.AsyncFunctionDef: Lowering._function,
    ast.ClassDef: Lowering._class,
    ast.Global: Lowering._global,
    ast.Nonlocal: Lowering._global,
    ast.Match: Lowering._match,
}
if hasattr(ast, "TryStar"):
    _STATEMENTS[ast.TryStar] = Lowering._try

_EXPRESSIONS: dict[type, Callable[[Lowering, Any], Node]] = {
    ast.Constant: Lowering._constant,
    ast.Name: Lowering._name,
    ast.Attribute: Lowering._attribute,
    ast.Call: Lowering._call,
    ast.BinOp: Lowering._binop,
    ast.UnaryOp: Lowering._unary,
    ast.Compare: Lowering._compare,
    ast.BoolOp: Lowering._boolop,
    ast.IfExp: Lowering._ifexp,
    ast.Subscript: Lowering._subscript,
    ast.Slice: Lowering._slice,
    ast.Tuple: Lowering._sequence,
    ast.List: Lowering._sequence,
    ast.Set: Lowering._sequence,
    ast.Dict: Lowering._dict,
    ast.Starred: Lowering._starred,
    ast.Lambda: Lowering._lambda,
    ast.NamedExpr: Lowering._named,
    ast.Await: Lowering._await,
    ast.Yield: Lowering._yield,
    ast.YieldFrom: Lowering._yield,
    ast.JoinedStr: Lowering._fstring,
    ast.ListComp: Lowering._comprehension,
    ast.SetComp: Lowering._comprehension,
    ast.GeneratorExp: Lowering._comprehension,
    ast.DictComp: Lowering._comprehension,
}


def _path(e: ast.AST) -> str | None:
    """``x`` or ``self.x``: what an environment can hold a value for."""
    if isinstance(e, ast.Name):
        return e.id
    if isinstance(e, ast.Attribute) and isinstance(e.value, ast.Name):
        return f"{e.value.id}.{e.attr}"
    return None


def _as_load(target: ast.AST) -> ast.AST:
    if isinstance(target, ast.Name):
        return ast.copy_location(ast.Name(target.id, ast.Load()), target)
    return target


_MUTATORS = {"append", "add", "extend", "update", "add_module", "register_module", "appendleft", "insert"}


def _assigned(body: Sequence[ast.stmt]) -> list[str]:
    """Names and ``base.attr`` paths that the statements may rebind or change, in a stable order."""
    found: dict[str, None] = {}
    stack: list[Any] = list(body)
    while stack:
        node = stack.pop()
        kind = node.__class__
        if kind is ast.Name:
            if node.ctx.__class__ is ast.Store:
                found[node.id] = None
            continue
        if kind in (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Constant):
            if kind in (ast.FunctionDef, ast.ClassDef):
                found[node.name] = None
            continue
        if kind is ast.Attribute or kind is ast.Subscript:
            if node.ctx.__class__ is ast.Store:
                target = node if kind is ast.Attribute else node.value
                path = _path(target)
                if path is not None:
                    found[path] = None
                    if kind is ast.Attribute and "." in path:
                        found[path.partition(".")[0]] = None
        elif kind is ast.Call and node.func.__class__ is ast.Attribute:
            name = node.func.attr
            if name in _MUTATORS or (name.endswith("_") and not name.endswith("__")):
                owner = node.func.value
                path = _path(owner.value if name == "append" and owner.__class__ is ast.Subscript else owner)
                if path is not None:
                    found[path] = None
        for field in node._fields:
            value = getattr(node, field, None)
            if value.__class__ is list:
                stack.extend(v for v in value if isinstance(v, ast.AST))
            elif isinstance(value, ast.AST):
                stack.append(value)
    return list(found)


def _captured(pattern: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(pattern):
        for field in ("name", "rest"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                names.append(value)
    return names


_BOUND: dict[int, tuple[Any, frozenset[str]]] = {}


def _bound_names(function: Function) -> frozenset[str]:
    """Every name that a function binds, parameters included (what a nested function may close over)."""
    node = function.node
    kept = _BOUND.get(id(node))
    if kept is not None and kept[0] is node:
        return kept[1]
    names: set[str] = set()
    arguments = getattr(node, "args", None)
    if isinstance(arguments, ast.arguments):
        for arg in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
            names.add(arg.arg)
        for extra in (arguments.vararg, arguments.kwarg):
            if extra is not None:
                names.add(extra.arg)
    body = node.body if isinstance(node.body, list) else [node.body]
    stack = list(body)
    while stack:
        item = stack.pop()
        kind = item.__class__
        if kind is ast.Name:
            if item.ctx.__class__ is ast.Store:
                names.add(item.id)
        elif kind in (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef):
            names.add(item.name)
        elif kind in (ast.Import, ast.ImportFrom):
            names.update((a.asname or a.name).partition(".")[0] for a in item.names)
        elif kind is not ast.Lambda:
            stack.extend(ast.iter_child_nodes(item))
    result = frozenset(names)
    if len(_BOUND) > 5_000:
        _BOUND.clear()  # it keeps the trees that it speaks of alive
    _BOUND[id(node)] = (node, result)
    return result
