"""How a step is written, and whether what it was made from can still be had where it stands.

The value graph knows what a value is, the syntax how it is spelled. A ``Written`` is both at once: the expression at
its place, and its node. Through a name it leads to the expression that the name was bound to. ``Scope`` answers whether
an expression has the same value at a later place of the same function.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from lossproof.source.edits import Patch, Place, Unfixable
from lossproof.source.facts import Fact, Operation
from lossproof.source.operations import torch_call
from lossproof.source.torch_names import LAYER_OPERATION, SAME_OPERATION, layer
from lossproof.source.values import Lib, Ref, T, Value, alternatives, number

if TYPE_CHECKING:
    from lossproof.source.lower import Node
    from lossproof.source.syntax import Function

_LATE_OPERATORS = (ast.IfExp, ast.Compare, ast.BoolOp, ast.Lambda, ast.NamedExpr, ast.Await, ast.Starred)
_BITS = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.LShift, ast.RShift)
# Methods that give the same again: an expression of these may be written twice.
_PURE = {
    "view", "reshape", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "contiguous", "float", "double",
    "detach", "mean", "sum", "abs", "gather", "size", "expand", "expand_as", "view_as", "to", "type_as", "pow",
    "square", "exp", "clamp", "softmax", "sigmoid", "sqrt", "log", "max", "min", "amax", "amin", "norm", "log_softmax",
    "any", "arange", "numel", "dim", "eq", "ne", "gt", "lt", "ge", "le", "bool", "div", "mul", "sub", "add", "matmul",
    "diagonal",
}  # fmt: skip
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


class Written:
    """An expression at its place, with its node in the value graph."""

    __slots__ = ("at", "node")

    def __init__(self, at: Any, node: Node) -> None:
        self.at = at
        self.node = node

    @property
    def named(self) -> bool:
        """Whether what stands here is the name of something computed elsewhere in the function."""
        return isinstance(self.at, (ast.Name, ast.Attribute)) and self.node.at is not self.at

    def behind(self) -> Written | None:
        """What a name was bound to; the expression itself where it is no name; ``None`` where no expression says."""
        if not self.named:
            return self
        at = self.node.at
        return Written(at, self.node) if isinstance(at, ast.expr) and self.node.op in _COMPUTED else None

    def sides(self) -> tuple[Written, Written] | None:
        """The operands of a binary operator."""
        if self.node.op != "bin" or not isinstance(self.at, ast.BinOp):
            return None
        return Written(self.at.left, self.node.args[1]), Written(self.at.right, self.node.args[2])

    def __repr__(self) -> str:
        return f"<written {ast.unparse(self.at)}>"


_COMPUTED = {"call", "bin", "un", "sub", "const", "phi", "cmp"}


class Call:
    """A call of a library's operation, function, method or layer alike."""

    __slots__ = ("args", "at", "layer", "method", "name", "named", "operand")

    def __init__(
        self, at: ast.Call, name: str, operand: Written, args: list[Written], named: dict[str, Written], method: bool
    ) -> None:
        self.at = at
        self.name = name
        self.operand = operand
        self.args = args
        self.named = named
        self.method = method
        self.layer: Lib | None = None

    def argument(self, position: int, *names: str) -> Written | None:
        """An argument by its place behind the operand, or by name."""
        for name in names:
            if name in self.named:
                return self.named[name]
        return self.args[position] if position < len(self.args) else None


class Reading:
    """The expressions of one function, in one context."""

    def __init__(self, fact: Fact, patch: Patch) -> None:
        self.fact = fact
        self.ev = fact.ev
        self.frame = fact.frame
        self.function: Function = fact.frame.function
        self.module = fact.module
        self.patch = patch
        self.tree = patch.tree(self.module)
        self.scope = Scope(self.function, self.tree)

    def value(self, written: Written) -> Value:
        return self.ev.value(self.frame, written.node)

    def number(self, written: Written | None) -> float | None:
        return number(self.value(written)) if written is not None else None

    def tensors(self, written: Written) -> list[T]:
        return [v for _, v in alternatives(self.value(written)) if isinstance(v, T)]

    # ---- forms

    def whole(self) -> Written:
        """The step itself."""
        return Written(self.fact.node.at, self.fact.node)

    def operand(self) -> Written:
        """What can be at fault in the step, as it is written there."""
        fact = self.fact
        assert isinstance(fact, Operation)
        at, node = fact.node.at, fact.node
        if isinstance(at, ast.BinOp):
            return Written(at.right, node.args[2]) if fact.op == "div" else Written(at.left, node.args[1])
        if isinstance(at, ast.AugAssign):
            if fact.op == "div":
                return Written(at.value, node.args[2])
            raise Unfixable("the operator changes its operand in place")
        if isinstance(at, ast.Call) and node.op == "call":
            func, args, keywords = node.args
            given: list[tuple[Any, Any]] = list(zip(at.args, args, strict=False))
            if fact.op == "div":
                given.reverse()
            method = isinstance(at.func, ast.Attribute) and func.op == "attr"
            receiver: Any = func.args[0] if method else None
            wanted: Any = fact.operand_node
            if receiver is not None and receiver is wanted and fact.op != "div":
                return Written(at.func.value, receiver)  # type: ignore[attr-defined]
            given += [(k.value, n) for k, (_, n) in zip(at.keywords, keywords, strict=False)]
            for written, inner in given:
                if inner is wanted and not isinstance(written, ast.Starred):
                    return Written(written, inner)
            if receiver is not None and receiver is wanted:
                return Written(at.func.value, receiver)  # type: ignore[attr-defined]
        raise Unfixable("the operand does not stand at this place")

    def call(self, written: Written) -> Call | None:
        """A call of one of the library's operations, with the expressions of its arguments."""
        at, node = written.at, written.node
        if node.op != "call" or not isinstance(at, ast.Call):
            return None
        func, args, keywords = node.args
        if any(isinstance(a, ast.Starred) for a in at.args) or any(k.arg is None for k in at.keywords):
            return None
        given = [Written(a, n) for a, n in zip(at.args, args, strict=True)]
        named = {k: Written(a.value, n) for a, (k, n) in zip(at.keywords, keywords, strict=True)}
        name, operand, _ = torch_call(self.ev, self.frame, node)
        if name is not None and operand is not None:
            if func.op == "attr" and isinstance(at.func, ast.Attribute) and func.args[0] is operand:
                return Call(at, name, Written(at.func.value, operand), given, named, method=True)
            if name == "where" and func.op == "attr" and isinstance(at.func, ast.Attribute):
                receiver = Written(at.func.value, func.args[0])
                if given and given[0].node is operand and not isinstance(self.value(receiver), Ref):
                    return Call(at, name, given[0], [receiver, *given[1:]], named, method=True)
            if given and given[0].node is operand:
                return Call(at, name, given[0], given[1:], named, method=False)
            first = next((k for k in ("input", "condition") if k in named), None)
            if first is not None:
                return Call(at, name, named.pop(first), given, named, method=False)
            return None
        made = self.ev.value(self.frame, func)
        word = layer(made.name) if isinstance(made, Lib) else None
        if word is not None and word in LAYER_OPERATION and given and not named:
            found = Call(at, LAYER_OPERATION[word], given[0], given[1:], named, method=False)
            found.layer = made if isinstance(made, Lib) else None
            return found
        return None

    # ---- text

    def text(self, at: Any) -> str:
        return self.patch.text(self.module, at)

    def operand_text(self, at: Any) -> str:
        return self.patch.operand(self.module, at)

    def sum_text(self, at: Any) -> str:
        """An expression as the left operand of a sum."""
        text = self.text(at)
        return f"({text})" if binds_late(at) else text

    def negated(self, at: Any) -> str:
        if isinstance(at, ast.UnaryOp) and isinstance(at.op, ast.USub):
            return self.text(at.operand)
        return f"-{self.operand_text(at)}"

    def substituted(self, outer: Any, inner: Any, text: str) -> str:
        """The text of an expression with another text for a part of it."""
        return self.spliced(outer, self.tree.span(inner), text)

    def spliced(self, outer: Any, inner: tuple[Place, Place], text: str) -> str:
        """The text of an expression with another text for a stretch of it."""
        start, end = self.tree.span(outer)
        # A parenthesis of the inside may stand at the very end of the outside.
        end = max(end, inner[1])
        return self.tree.between(start, inner[0]) + text + self.tree.between(inner[1], end)

    def plain(self, at: Any) -> None:
        """Refuse to rewrite what holds comments."""
        start, end = self.tree.span(at)
        for line in self.tree.between(start, end).split("\n")[:-1]:
            if "#" in line:
                raise Unfixable("comments stand inside of the expression")

    def put(self, at: Any, text: str) -> None:
        """Other text for an expression; parentheses of its own go where the new text needs none."""
        self.plain(at)
        span = self.tree.span(at)
        outside = self.tree.outside(span)
        if outside != span and isinstance(self.tree.parent(at), (ast.Assign, ast.Return, ast.BinOp, ast.UnaryOp)):
            if "\n" not in self.tree.between(*outside) and closed(text):
                span = outside
        self.patch.put(self.module, *span, text)

    def guard(self, at: Any, text: str) -> None:
        """``x`` becomes ``x + text``, with the parentheses that its place asks for."""
        start, end = self.tree.span(at)
        inside = self.tree.outside((start, end)) != (start, end)
        apart = inside or self.tree.delimited(at)
        if binds_late(at):
            before, after = "(", f") + {text}"
        else:
            before, after = "", f" + {text}"
        if not apart:
            before, after = "(" + before, after + ")"
        if before:
            self.patch.put(self.module, start, start, before)
        self.patch.put(self.module, end, end, after)

    # ---- where things are had again

    def reaches(self, at: Any, place: Any) -> None:
        """Whether an expression that was evaluated where it stands has the same value at a later place."""
        self.scope.reaches(at, place)

    def has(self, name: str) -> str:
        """A name that a function does not use yet."""
        used = self.tree.bound_in(self.function) | self.scope.used
        for candidate in (name, f"{name}_", f"raw_{name}", f"{name}_1"):
            if candidate not in used and candidate not in self.module.imports and candidate not in self.module.top:
                return candidate
        raise Unfixable("no name is free for what it is computed from")

    def hoistable(self, at: Any) -> Any:
        """The statement in front of which an expression can be computed instead."""
        node, inner = self.tree.parent(at), at
        while node is not None and not isinstance(node, ast.stmt):
            if isinstance(node, (*_COMPREHENSIONS, ast.Lambda, ast.BoolOp)):
                raise Unfixable("it is computed inside of a larger expression")
            if isinstance(node, ast.IfExp) and inner is not node.test:
                raise Unfixable("it is computed inside of a conditional expression")
            node, inner = self.tree.parent(node), node
        if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr)):
            raise Unfixable("it is computed in the head of a statement")
        self.tree.indent(node)
        return node


def binds_late(at: Any) -> bool:
    """Whether an expression needs parentheses as the left operand of a sum."""
    return isinstance(at, _LATE_OPERATORS) or (isinstance(at, ast.BinOp) and isinstance(at.op, _BITS))


def closed(text: str) -> bool:
    """Whether a text stands as it is beside any operator."""
    try:
        made = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    return isinstance(made, (ast.Name, ast.Attribute, ast.Call, ast.Subscript))


def repeatable(at: Any) -> bool:
    """Whether an expression may be written a second time: names, arithmetic, and what gives the same again."""
    for node in ast.walk(at):
        if isinstance(node, ast.Call):
            func = node.func
            plain = isinstance(func, ast.Name) and func.id in ("range", "len", "int", "float")
            if not plain and not (isinstance(func, ast.Attribute) and func.attr in _PURE):
                return False
            if node.keywords and any(k.arg is None for k in node.keywords):
                return False
        elif not isinstance(
            node,
            (
                ast.Name, ast.Attribute, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Subscript, ast.Tuple, ast.Slice,
                ast.Compare, ast.keyword, ast.operator, ast.unaryop, ast.cmpop, ast.expr_context,
            ),
        ):  # fmt: skip
            return False
    return True


class Scope:
    """Where a function binds, changes and reads its names."""

    def __init__(self, function: Function, tree: Any) -> None:
        self.function = function
        self.tree = tree
        self.used: set[str] = set()
        self.loads: dict[str, list[ast.Name]] = {}
        self._changes: dict[str, list[Any]] = {}
        self._stored: dict[str, list[Any]] = {}
        self._inner: set[str] = set()
        node = function.node
        body = node.body if isinstance(node.body, list) else [node.body]
        stack: list[tuple[Any, bool]] = [(n, False) for n in body]
        while stack:
            item, nested = stack.pop()
            self._look(item, nested)
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
                nested = True
            stack.extend((child, nested) for child in ast.iter_child_nodes(item))

    def _look(self, item: Any, nested: bool) -> None:
        if isinstance(item, ast.Name):
            self.used.add(item.id)
            if nested:
                self._inner.add(item.id)
            if isinstance(item.ctx, ast.Load):
                self.loads.setdefault(item.id, []).append(item)
            elif not nested:
                self._changes.setdefault(item.id, []).append(item)
        elif isinstance(item, (ast.Nonlocal, ast.Global)):
            for name in item.names:
                self._changes.setdefault(name, []).append(item)
        elif isinstance(item, ast.Subscript) and not isinstance(item.ctx, ast.Load):
            self._changed(item)
        elif isinstance(item, ast.Attribute) and not isinstance(item.ctx, ast.Load):
            self._stored.setdefault(item.attr, []).append(item)
        elif isinstance(item, ast.Call):
            func = item.func
            word = func.attr if isinstance(func, ast.Attribute) else ""
            if word.endswith("_") and not word.endswith("__"):
                self._changed(func.value, item)  # type: ignore[attr-defined]
                if item.args:
                    self._changed(item.args[0], item)
            for keyword in item.keywords:
                if keyword.arg == "out":
                    self._changed(keyword.value, item)
                elif keyword.arg == "inplace" and getattr(keyword.value, "value", None) is True and item.args:
                    self._changed(item.args[0], item)
        elif isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not nested:
            self._changes.setdefault(item.name, []).append(item)

    def _changed(self, at: Any, by: Any = None) -> None:
        root = at
        while isinstance(root, (ast.Subscript, ast.Attribute, ast.Call)):
            if isinstance(root, ast.Attribute) and by is None:
                self._stored.setdefault(root.attr, []).append(at)
            root = root.func if isinstance(root, ast.Call) else root.value
        if isinstance(root, ast.Name):
            self._changes.setdefault(root.id, []).append(by or at)

    def only_rebound(self, at: Any) -> bool:
        """Whether the names in an expression get other values, but what they stand for is not changed in place."""
        for node in ast.walk(at):
            if isinstance(node, ast.Attribute):
                return False
            for change in self._changes.get(node.id, ()) if isinstance(node, ast.Name) else ():
                if not isinstance(change, ast.Name) or not isinstance(self._statement(change), ast.Assign):
                    return False
        return True

    def bindings(self, name: str) -> list[Any]:
        return self._changes.get(name, [])

    def seen_inside(self, name: str) -> bool:
        """Whether an inner function speaks of a name."""
        return name in self._inner

    def reaches(self, at: Any, place: Any) -> None:
        """Raise unless an expression, evaluated anew at a later place, gives what it gave where it stands."""
        if not repeatable(at):
            raise Unfixable("what it was computed from is not kept under a name")
        if _start(at) > _start(place):
            raise Unfixable("what it is computed from comes later in the file")
        self.unchanged(at, at, place)

    def unchanged(self, what: Any, at: Any, place: Any) -> None:
        """Raise unless the names in an expression mean the same at one place and at a later one."""
        for node in ast.walk(what):
            if isinstance(node, ast.Name):
                changes = self._changes.get(node.id, ())
                word = node.id
            elif isinstance(node, ast.Attribute):
                changes = self._stored.get(node.attr, ())
                word = node.attr
            else:
                continue
            for change in changes:
                if self._between(change, at, place):
                    raise Unfixable(f"`{word}` is changed before the place where it would be used")

    def _between(self, change: Any, at: Any, place: Any) -> bool:
        around = self._comprehension(change)
        if around is not None:
            # Its own scope: what matters is whether the place lies in it.
            return self._within(place, around) and not self._within(at, around)
        statement = self._statement(change)
        takes_effect = _start(change)
        if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Delete)):
            if self._within(place, statement):
                return False
            takes_effect = _end(statement)
        if _end(at) <= takes_effect <= _start(place):
            return True
        loop = self._loop(place)
        while loop is not None and not self._within(at, loop):
            if self._within(change, loop):
                return True
            loop = self._loop(loop)
        return False

    def _statement(self, node: Any) -> Any:
        while node is not None and not isinstance(node, ast.stmt):
            node = self.tree.parent(node)
        return node

    def _comprehension(self, node: Any) -> Any:
        if not isinstance(node, ast.Name):
            return None
        while node is not None and not isinstance(node, ast.stmt):
            parent = self.tree.parent(node)
            if isinstance(parent, ast.comprehension) and node is parent.target:
                return self.tree.parent(parent)
            node = parent
        return None

    def _loop(self, node: Any) -> Any:
        node = self.tree.parent(node)
        while node is not None and node is not self.function.node:
            if isinstance(node, _LOOPS):
                return node
            node = self.tree.parent(node)
        return None

    def _within(self, node: Any, outer: Any) -> bool:
        while node is not None:
            if node is outer:
                return True
            node = self.tree.parent(node)
        return False


def _start(at: Any) -> Place:
    return at.lineno, at.col_offset


def _end(at: Any) -> Place:
    return at.end_lineno, at.end_col_offset


__all__ = ["SAME_OPERATION", "Call", "Reading", "Scope", "Written", "binds_late", "closed", "repeatable"]
