"""What else uses a value: a fix may change a value only where everybody who reads it is served.

Within a function this is a question to the text: which reads of a name can see an assignment. Across functions it is
one to the walk: which loss calls, in all contexts, go through this call or this criterion.
"""

from __future__ import annotations

import ast
from collections.abc import Collection
from typing import Any

from lossproof.source.edits import Patch, Tree, Unfixable
from lossproof.source.facts import Fact, LossCall
from lossproof.source.frames import Frame
from lossproof.source.investigate import Investigation
from lossproof.source.lower import Guard, lower
from lossproof.source.syntax import Function, ParsedModule, dotted
from lossproof.source.values import Hop, Lib, T, alternatives

# What can be written twice: it costs nothing and changes nothing.
_PLAIN = (
    ast.Name, ast.Attribute, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Subscript, ast.operator, ast.unaryop,
    ast.Compare, ast.cmpop, ast.expr_context, ast.Tuple, ast.Slice,
)  # fmt: skip
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_MOST_MODULES = 60
_MOST_STEPS = 60_000
_SHAPES = {"view", "reshape", "float", "contiguous", "squeeze", "to", "cuda", "flatten", "double"}


def place(at: Any) -> tuple[int, int]:
    return at.lineno, at.col_offset


def function_at(module: ParsedModule, at: Any) -> Function:
    """The innermost function (or the module's body) that a node stands in."""
    best = module.body
    for function in module.functions[1:]:
        node = function.node
        body = node.body if isinstance(node.body, list) else [node.body]
        first, last = body[0], body[-1]
        begins = place(first.decorator_list[0] if getattr(first, "decorator_list", None) else first)
        if begins <= place(at) < (last.end_lineno, last.end_col_offset):
            best = function
    return best


def names_in(at: Any) -> set[str]:
    return {n.id for n in ast.walk(at) if isinstance(n, ast.Name)}


def stores(function: Function, name: str) -> list[ast.Name]:
    return [
        n
        for n in ast.walk(function.node)
        if isinstance(n, ast.Name) and n.id == name and not isinstance(n.ctx, ast.Load)
    ]


def loop_around(tree: Tree, at: Any) -> Any:
    node = tree.parent(at)
    while node is not None and not isinstance(node, _LOOPS):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            return None
        node = tree.parent(node)
    return node


def reads(tree: Tree, function: Function, statement: ast.Assign, name: str) -> list[ast.Name]:
    """The reads of a name that may see what a statement assigns to it (rather too many than too few)."""
    every = [n for n in ast.walk(function.node) if isinstance(n, ast.Name) and n.id == name]
    end = (statement.end_lineno or 0, statement.end_col_offset or 0)
    block = _block(tree, statement)
    later = [s for s in block[block.index(statement) + 1 :] if _rebinds(s, name)] if block is not None else []
    stop = (later[0].end_lineno or 0, later[0].end_col_offset or 0) if later else None
    own = later[0].targets[0] if later else None
    found = [
        n for n in every if isinstance(n.ctx, ast.Load) and place(n) >= end and (stop is None or place(n) < stop)
        and n is not own
    ]  # fmt: skip
    loop = loop_around(tree, statement)
    if loop is not None and stop is None:
        before = [n for n in every if place(loop) < place(n) < place(statement)]
        if before and isinstance(before[0].ctx, ast.Load):
            found += [n for n in before if isinstance(n.ctx, ast.Load)]
    return found


def _rebinds(statement: Any, name: str) -> bool:
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return False
    target = statement.targets[0]
    return isinstance(target, ast.Name) and target.id == name


def _block(tree: Tree, statement: Any) -> list[Any] | None:
    parent = tree.parent(statement)
    for field in ("body", "orelse", "finalbody"):
        block = getattr(parent, field, None)
        if isinstance(block, list) and any(s is statement for s in block):
            return block
    return None


def unchanged(
    tree: Tree, function: Function, at: Any, use: Any, methods: Collection[str] = (), *, here: bool = False
) -> bool:
    """Whether an expression, written again at a later place (or ``here``), has the value that it had."""
    for n in ast.walk(at):
        if isinstance(n, ast.Call):
            if not isinstance(n.func, ast.Attribute) or n.func.attr not in methods:
                return False
        elif not isinstance(n, _PLAIN):
            return False
    if here:
        return True
    loop = loop_around(tree, at)
    together = loop is loop_around(tree, use)
    start, stop = place(at), place(use)
    for name in names_in(at):
        for store in stores(function, name):
            if place(store) > start and (not together or place(store) < stop):
                # ``x = softmax(x)``: the name means something else from there on.
                return False
            if store.lineno == start[0] and _stored_by(tree, store, at):
                return False
    return True


def _stored_by(tree: Tree, store: ast.Name, at: Any) -> bool:
    node = tree.parent(at)
    while node is not None and not isinstance(node, ast.stmt):
        node = tree.parent(node)
    return isinstance(node, ast.Assign) and any(n is store for t in node.targets for n in ast.walk(t))


class Origin:
    """How a value made by a call gets to where it is used, within one function."""

    def __init__(self, sole: bool, last: Any) -> None:
        self.sole = sole
        """Nobody else reads it."""
        self.last = last
        """The name by which it is read in the argument; the call itself where it stands there."""


def origin(patch: Patch, module: ParsedModule, function: Function, made: Any, use: Any) -> Origin | None:
    """From a call to the argument that it ends in; ``None`` if that is not to be seen in one function."""
    tree = patch.tree(module)
    sole = True
    node = last = made
    for _ in range(12):
        if node is use:
            return Origin(sole, last)
        parent = tree.parent(node)
        if isinstance(parent, ast.Attribute) and parent.attr in _SHAPES:
            call = tree.parent(parent)
            if not isinstance(call, ast.Call) or call.func is not parent:
                return None
            node = call
        elif isinstance(parent, ast.Assign) and len(parent.targets) == 1 and isinstance(parent.targets[0], ast.Name):
            name = parent.targets[0].id
            seen = reads(tree, function, parent, name)
            inside = [n for n in seen if within(tree, n, use)]
            if len(inside) == 1 and len(seen) == 1:
                node = seen[0]
            elif len(inside) == 1:
                sole, node = False, inside[0]
            elif len(seen) == 1:
                node = seen[0]
            else:
                following = [n for n in seen if _leads(tree, n)]
                if len(following) != 1:
                    return None
                sole, node = False, following[0]
            last = node
        else:
            return None
    return None


def within(tree: Tree, node: Any, outer: Any) -> bool:
    """Whether a node is part of an expression."""
    while node is not None:
        if node is outer:
            return True
        if isinstance(node, ast.stmt):
            return False
        node = tree.parent(node)
    return False


def _leads(tree: Tree, node: Any) -> bool:
    parent = tree.parent(node)
    if isinstance(parent, ast.Attribute) and parent.attr in _SHAPES:
        statement = tree.parent(tree.parent(parent))
        return isinstance(statement, ast.Assign)
    return isinstance(parent, ast.Assign)


# ---- across functions


class _Everywhere(Investigation):
    """Looks at validation loops too: they share the criterion."""

    def without_gradient(self, frame: Frame, guard: Guard | None) -> bool:
        return False


def same_call(fact: LossCall) -> list[LossCall]:
    """The loss calls, in all contexts, that share what is called with a fact: the call itself, or the criterion."""
    ev = fact.ev
    found: list[LossCall] = []
    made = fact.callee.at if isinstance(fact.callee, Lib) else None

    def keep(other: Fact) -> None:
        if isinstance(other, LossCall):
            shared = made is not None and isinstance(other.callee, Lib) and other.callee.at is made
            if shared or other.node.at is fact.node.at:
                found.append(other)

    contexts: Any = ev.oracle
    search = _Everywhere(ev, contexts, keep)
    functions = [fact.frame.base().function]
    if made is not None:
        modules = [f.function.module for f in fact.frame.chain()]
        if isinstance(fact.callee, Lib) and fact.callee.module is not None:
            modules.append(fact.callee.module)
        loaded = [m for m in ev.project.loaded() if m not in modules]
        # Where it goes by the same name: the others have to do with something else.
        word = dotted(fact.node.at.func).rpartition(".")[2] if isinstance(fact.node.at, ast.Call) else ""
        loaded = [m for m in loaded if word and word in m.source]
        modules = list(dict.fromkeys([*modules, *loaded]))[:_MOST_MODULES]
        functions += [f for m in modules for f in m.functions if f is not functions[0] and not m.is_test]
    limit = ev.spent + _MOST_STEPS
    for function in functions:
        if ev.spent > limit:
            raise Unfixable("too much of the project may share this loss")
        ev.ledger.mask |= function.rests
        search.function(function)
    return found or [fact]


def decided(fact: LossCall, acts: tuple[str, ...]) -> bool:
    """Whether all that may arrive at a loss has one of these forms."""
    options = [v for _, v in alternatives(fact.input)]
    return bool(options) and all(isinstance(v, T) and v.act in acts for v in options)


class Readers:
    """Whether everybody who gets an output cares only for its order, or is one of the losses that are mended."""

    def __init__(self, fact: LossCall, patch: Patch) -> None:
        self.fact = fact
        self.patch = patch
        self.losses = {id(other.node.at) for other in same_call(fact)}
        self.seen: set[int] = set()
        self.known: list[tuple[Function, Any]] = []

    def of_returned(self, module: ParsedModule, function: Function, made: Any, known: tuple[Hop, ...]) -> bool:
        """Of what a function makes and gives back, at all its callers that are known."""
        self.known = [(function_at(hop.module, hop.at), hop.at) for hop in known[:1] if hop.module is not None]
        if not self._all(module, function, made, 0):
            return False
        return all(
            self._all(hop.module, function_at(hop.module, hop.at), hop.at, 1) for hop in known if hop.module is not None
        )

    def _callers(self, function: Function) -> list[tuple[Frame, Any]]:
        contexts: Any = self.fact.ev.oracle
        found = [(frame, call.at) for frame, call, _ in contexts.callers(function)]
        if function.name in ("forward", "__call__"):
            found += [(frame, call.at) for frame, call in contexts.applications(function)]
            found += self._by_name(function, [at for _, at in (*found, *self.known)])
        return found

    def _by_name(self, function: Function, calls: list[Any]) -> list[tuple[Frame, Any]]:
        """Other calls of the object by the names that it is known to go by, as of a network that a module holds."""
        ev = self.fact.ev
        contexts: Any = ev.oracle
        found: list[tuple[Frame, Any]] = []
        names = {dotted(call.func).rpartition(".")[2] for call in calls if isinstance(call, ast.Call)}
        for name in sorted(names - {"", "forward", "__call__"})[:4]:
            for _, call, holder in contexts.sites(name, function.module)[:40]:
                node = lower(holder).by_call.get(id(call))
                if node is None or holder.module.is_test:
                    continue
                ev.ledger.mask |= holder.rests
                frame = ev.open_frame(holder)
                ev.refill()
                if any(func.function is function for func, _, _ in contexts.targets(frame, node)):
                    found.append((frame, call))
        return found

    def of_calls(self, module: ParsedModule, function: Function, name: str) -> bool:
        """Of the results of a network that a function holds by a name."""
        tree = self.patch.tree(module)
        calls = 0
        for node in ast.walk(function.node):
            if not isinstance(node, ast.Name) or node.id != name or not isinstance(node.ctx, ast.Load):
                continue
            parent = tree.parent(node)
            if isinstance(parent, ast.Attribute):
                if parent.attr not in _CARELESS:
                    return False
            elif isinstance(parent, ast.Call) and parent.func is node:
                calls += 1
                if not self._all(module, function, parent, 0):
                    return False
            else:
                return False
        return calls > 0

    def _all(self, module: ParsedModule, function: Function, node: Any, depth: int) -> bool:
        if depth > 12 or id(node) in self.seen:
            return depth <= 12
        self.seen.add(id(node))
        tree = self.patch.tree(module)
        parent = tree.parent(node)
        if isinstance(parent, ast.Attribute):
            return self._method(module, function, parent, depth)
        if isinstance(parent, ast.Call) and parent.func is not node:
            if id(parent) in self.losses or dotted(parent.func).rpartition(".")[2] == self.fact.word:
                return True
            last = dotted(parent.func).rpartition(".")[2]
            return last in _ORDER or (last in _BEST and _takes_indices(tree, parent))
        if isinstance(parent, ast.Assign) and len(parent.targets) == 1 and isinstance(parent.targets[0], ast.Name):
            found = reads(tree, function, parent, parent.targets[0].id)
            return all(self._all(module, function, read, depth + 1) for read in found)
        if isinstance(parent, ast.Return):
            callers = [(frame.function, call) for frame, call in self._callers(function)]
            callers = callers or (self.known if depth < 2 else [])
            return bool(callers) and all(self._all(holder.module, holder, call, depth + 1) for holder, call in callers)
        return False

    def _method(self, module: ParsedModule, function: Function, parent: ast.Attribute, depth: int) -> bool:
        tree = self.patch.tree(module)
        call = tree.parent(parent)
        if parent.attr in ("shape", "device", "dtype"):
            return True
        if parent.attr == "data":
            return self._all(module, function, parent, depth + 1)
        if not isinstance(call, ast.Call) or call.func is not parent:
            return False
        if parent.attr in ("size", "dim") or parent.attr in _ORDER:
            return True
        if parent.attr in _BEST:
            return _takes_indices(tree, call)
        if parent.attr in _SHAPES or parent.attr in ("detach", "cpu", "clone"):
            return self._all(module, function, call, depth + 1)
        return False


_CARELESS = {
    "parameters", "train", "eval", "to", "cuda", "cpu", "state_dict", "load_state_dict", "zero_grad",
    "named_parameters", "apply", "compile", "requires_grad_", "half", "float",
}  # fmt: skip
_ORDER = {"argmax", "argsort"}
_BEST = {"max", "topk", "sort"}


def _takes_indices(tree: Tree, call: ast.Call) -> bool:
    """``x.max(1)[1]``, ``_, best = x.max(1)``, ``x.max(1).indices``."""
    parent = tree.parent(call)
    if isinstance(parent, ast.Attribute):
        return parent.attr == "indices"
    if isinstance(parent, ast.Subscript) and parent.value is call:
        return isinstance(parent.slice, ast.Constant) and parent.slice.value == 1
    if isinstance(parent, ast.Assign) and len(parent.targets) == 1 and isinstance(parent.targets[0], ast.Tuple):
        first = parent.targets[0].elts[0]
        return isinstance(first, ast.Name) and first.id.startswith("_")
    return False
