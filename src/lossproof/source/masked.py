"""The mask of a masked loss as it is written, and the text of the number of elements that it keeps.

A mask may have fewer elements than the loss that it is multiplied with (one channel for three): they are counted after
it is expanded, unless mask and loss are seen to be made of the same tensor, element by element.
"""

from __future__ import annotations

import ast
from typing import Any

from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import Fact
from lossproof.source.lower import Node
from lossproof.source.syntax import dotted
from lossproof.source.tensor_ops import as_tensor, same
from lossproof.source.uses import unchanged
from lossproof.source.values import T, alternatives

_COMPARED = {"eq": "ne", "ne": "eq", "gt": "le", "le": "gt", "lt": "ge", "ge": "lt"}
_ELEMENTWISE = {
    "abs", "pow", "square", "exp", "log", "clamp", "float", "double", "half", "sqrt", "sigmoid", "tanh", "neg", "bool",
    "isnan", "isfinite", "logical_not", "detach", "byte", "long", "int", "to", "type_as", "relu", "masked_fill",
    "nan_to_num", "mul", "sub", "add", "div", "log1p", "clone", "contiguous", "smooth_l1_loss", "mse_loss", "l1_loss",
    "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", *_COMPARED,
}  # fmt: skip
_LOSSES = ("_loss", "entropy", "logits")
_BY_ROW = {"cross_entropy", "nll_loss"}
_OPPOSITE = {ast.Eq: "!=", ast.NotEq: "==", ast.Lt: ">=", ast.LtE: ">", ast.Gt: "<=", ast.GtE: "<"}


class Masked:
    """A mask that stands beside (or selects from) something, in nodes and as written."""

    def __init__(self, mask: Node, written: Any, beside: Node | None, product: Any, negated: bool = False) -> None:
        self.mask = mask
        self.written = written
        self.beside = beside
        self.product = product
        self.negated = negated


def find(fact: Fact, node: Node, mask: T, depth: int = 12) -> Masked | None:
    """Where a mask is multiplied in, below a node."""
    at = node.at
    for child, written, other in _factors(node):
        if any(same(as_tensor(v), mask) for _, v in alternatives(fact.value(child))):
            return Masked(child, written, other, at)
    if depth:
        for child in _below(node):
            found = find(fact, child, mask, depth - 1)
            if found is not None:
                return found
    return None


def _factors(node: Node) -> list[tuple[Node, Any, Node]]:
    at = node.at
    if node.op == "bin" and node.args[0] == "*":
        left, right = node.args[1:]
        if isinstance(at, ast.BinOp):
            return [(right, at.right, left), (left, at.left, right)]
        if isinstance(at, ast.AugAssign):
            return [(right, at.value, left)]
    if node.op == "call" and isinstance(at, ast.Call) and isinstance(at.func, ast.Attribute) and not at.keywords:
        func, args, _ = node.args
        if at.func.attr in ("mul", "multiply"):
            if len(args) == 2:
                return [(args[1], at.args[1], args[0]), (args[0], at.args[0], args[1])]
            if len(args) == 1 and func.op == "attr":
                return [(args[0], at.args[0], func.args[0]), (func.args[0], at.func.value, args[0])]
    return []


def _below(node: Node) -> list[Node]:
    if node.op == "bin":
        return list(node.args[1:])
    if node.op == "un":
        return [node.args[1]]
    if node.op == "inplace":
        return list(node.args)
    if node.op == "call":
        func, args, _ = node.args
        return [*([func.args[0]] if func.op == "attr" and _is_method(node) else []), *args[:1]]
    return []


def _is_method(node: Node) -> bool:
    owner = node.args[0].args[0]
    return not (owner.op in ("name", "import") or (owner.op == "attr" and owner.args[0].op in ("name", "import")))


def zeroing(node: Node) -> Masked | None:
    """``where(mask, loss, 0)``, ``loss.masked_fill(mask, 0)``, ``loss[mask] = 0`` at the end of a value."""
    at = node.at
    if node.op == "inplace":
        return zeroing(node.args[1])
    if node.op == "setitem" and isinstance(at, (ast.Assign, ast.Subscript)):
        target = at.targets[0] if isinstance(at, ast.Assign) else at
        return (
            Masked(node.args[1], target.slice, node.args[0], None, True) if isinstance(target, ast.Subscript) else None
        )
    if node.op != "call" or not isinstance(at, ast.Call) or not isinstance(at.func, ast.Attribute):
        return None
    func, args, _ = node.args
    name = at.func.attr.rstrip("_")
    if name == "where" and len(args) == 3:
        zero = isinstance(at.args[2], ast.Constant) or "zeros" in dotted(getattr(at.args[2], "func", at.args[2]))
        return Masked(args[0], at.args[0], args[1] if zero else args[2], None, not zero)
    if name == "masked_fill" and func.op == "attr":
        if len(args) == 2 and _is_method(node):
            return Masked(args[0], at.args[0], func.args[0], None, True)
        if len(args) == 3:
            return Masked(args[1], at.args[1], args[0], None, True)
    return None


def kept(fact: Fact, patch: Patch, found: Masked, whole: Any, use: Any) -> str:
    """The text of how many elements a mask keeps, at least 1; ``whole`` has the shape of the masked loss."""
    module, function = fact.module, fact.frame.base().function
    tree = patch.tree(module)
    written = found.written
    if not _inside(tree, written, use) and not unchanged(tree, function, written, use, _REPEATABLE):
        raise Unfixable("the mask is not at hand where the mean is taken")
    if _inside(tree, written, use) and not unchanged(tree, function, written, use, _REPEATABLE, here=True):
        raise Unfixable("the mask would have to be computed twice")
    text = opposite(patch, module, written) if found.negated else patch.operand(module, written)
    if found.beside is None or not _alike(found.mask, found.beside):
        shape = _shape(whole, written) if whole is not None else None
        if shape is None or not unchanged(tree, function, shape, use, here=True) or _of_another_rank(fact, shape):
            raise Unfixable("how many elements the mask stands for is not known")
        text = f"{text}.expand_as({patch.text(module, shape)})"
    return f"{text}.sum().clamp(min=1)"


_REPEATABLE = {
    "float",
    "bool",
    "eq",
    "ne",
    "gt",
    "lt",
    "ge",
    "le",
    "unsqueeze",
    "type_as",
    "to",
    "long",
    "isnan",
    "view",
}


def _of_another_rank(fact: Fact, at: Any) -> bool:
    """A row or a column may be only one side of what the mask is multiplied with."""
    node = fact.frame.ir.final.get(getattr(at, "id", ""))
    values = [as_tensor(v) for _, v in alternatives(fact.value(node))] if node is not None else []
    return any(t.get("ndim") == 1 or t.get("flat") or t.get("width") == 1 for t in values)


def _inside(tree: Any, node: Any, outer: Any) -> bool:
    while node is not None and not isinstance(node, ast.stmt):
        if node is outer:
            return True
        node = tree.parent(node)
    return False


def opposite(patch: Patch, module: Any, at: Any) -> str:
    """The text of what a mask leaves out."""
    if isinstance(at, ast.UnaryOp) and isinstance(at.op, ast.Invert):
        return patch.operand(module, at.operand)
    if isinstance(at, ast.Compare) and len(at.ops) == 1 and type(at.ops[0]) in _OPPOSITE:
        left, right = patch.text(module, at.left), patch.text(module, at.comparators[0])
        return f"({left} {_OPPOSITE[type(at.ops[0])]} {right})"
    return f"(~{patch.operand(module, at)})"


def _alike(mask: Node, other: Node) -> bool:
    ours = _roots(other)
    return any(one is two for one in _roots(mask) for two in ours)


def _roots(node: Node, depth: int = 12) -> list[Node]:
    """The values that another one has the shape of, being made from them element by element."""
    if depth == 0:
        return []
    inner: list[Node] = [node]
    if node.op == "bin":
        inner = [n for n in node.args[1:] if n.op != "const"]
        if node.args[0] != "-":
            inner = inner[:1]
    elif node.op in ("un", "cmp"):
        inner = [node.args[1]]
    elif node.op in ("inplace", "setitem"):
        inner = [node.args[0]]
    elif node.op == "call":
        func, args, keywords = node.args
        name = func.args[1] if func.op == "attr" else func.args[0] if func.op == "name" else ""
        unreduced = any(k == "reduction" and v.op == "const" and v.args[0] == "none" for k, v in keywords)
        if name in _BY_ROW:
            inner = list(args[1:2]) if unreduced else []
        elif name.endswith(_LOSSES):
            inner = list(args[:2]) if unreduced and name in _ELEMENTWISE else []
        elif name in _ELEMENTWISE:
            inner = [func.args[0]] if func.op == "attr" and _is_method(node) else list(args[:1])
    if inner == [node]:
        return inner
    return [root for n in inner for root in _roots(n, depth - 1)]


def _shape(at: Any, avoid: Any) -> Any:
    """A short expression with the shape of a longer one, which is not the mask itself."""
    if isinstance(at, (ast.Name, ast.Attribute)):
        return at if at is not avoid else None
    if isinstance(at, ast.BinOp):
        sides = [s for s in (at.left, at.right) if not isinstance(s, ast.Constant)]
        sides = sides[:1] if isinstance(at.op, ast.Pow) else sides
        return next((found for found in (_shape(s, avoid) for s in sides if s is not avoid) if found is not None), None)
    if isinstance(at, ast.UnaryOp):
        return _shape(at.operand, avoid)
    if isinstance(at, ast.Call) and at is not avoid:
        name = dotted(at.func).rpartition(".")[2] or getattr(at.func, "attr", "")
        library = isinstance(at.func, ast.Name) or dotted(at.func).startswith(("torch", "F.", "nn."))
        unreduced = any(k.arg == "reduction" and getattr(k.value, "value", "") == "none" for k in at.keywords)
        if name in _BY_ROW:
            return _shape(at.args[1], avoid) if unreduced and len(at.args) > 1 else None
        if name in _ELEMENTWISE and (unreduced or not name.endswith(_LOSSES)):
            if library:
                return _shape(at.args[0], avoid) if at.args else None
            return _shape(at.func.value, avoid)  # type: ignore[attr-defined]
    return None


def reduced(at: Any) -> Any:
    """What a mean is taken of, as it is written: the receiver of the method or the argument of the function."""
    if not isinstance(at, ast.Call) or at.keywords or len(at.args) > 1 or not isinstance(at.func, ast.Attribute):
        raise Unfixable("the mean has settings of its own")
    return at.args[0] if at.args else at.func.value


def divided(patch: Patch, fact: Fact, call: Any, count: str, word: str = "sum") -> None:
    """``x.mean()`` becomes ``x.sum() / count``."""
    module = fact.module
    tree = patch.tree(module)
    _, end = tree.span(call.func)
    patch.put(module, (end[0], end[1] - len(call.func.attr)), end, word)
    ratio(patch, fact, call, count)


def ratio(patch: Patch, fact: Fact, call: Any, count: str) -> None:
    tree = patch.tree(fact.module)
    start, end = tree.span(call)
    parent = tree.parent(call)
    bare = tree.delimited(call) or (isinstance(parent, ast.BinOp) and isinstance(parent.op, (ast.Add, ast.Sub)))
    if not bare:
        patch.put(fact.module, start, start, "(")
    patch.put(fact.module, end, end, f" / {count}" + ("" if bare else ")"))


def narrower(at: Any) -> Any:
    """The operand of an elementwise step."""
    if isinstance(at, ast.BinOp):
        return at.right if isinstance(at.left, ast.Constant) else at.left
    if isinstance(at, ast.UnaryOp):
        return at.operand
    if isinstance(at, ast.Call) and isinstance(at.func, ast.Attribute) and at.func.attr in _ELEMENTWISE:
        library = dotted(at.func).startswith(("torch", "F.", "nn."))
        if library and at.args:
            return at.args[0]
        if not library:
            return at.func.value
    raise Unfixable("how many elements are selected is not known without selecting them twice")
