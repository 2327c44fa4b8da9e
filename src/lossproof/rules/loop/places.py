"""Where a statement can be put into a training step so that it means there what it means elsewhere."""

from __future__ import annotations

import ast
from typing import Any

from lossproof.source.edits import Patch, Unfixable
from lossproof.source.syntax import Function

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def chain(patch: Patch, function: Function, at: Any) -> list[Any]:
    """The nodes from a function's body down to a node, the outermost first."""
    tree = patch.tree(function.module)
    found: list[Any] = []
    node = at
    while node is not None and node is not function.node:
        found.append(node)
        node = tree.parent(node)
    if node is None and not isinstance(function.node, ast.Module):
        raise Unfixable("the statement around it was not found")
    return found[::-1]


def inside_an_expression(path: list[Any]) -> bool:
    """Whether a node stands in a comprehension or a lambda, whose names end with it."""
    return any(isinstance(part, (*_COMPREHENSIONS, ast.Lambda)) for part in path)


def simple(expression: Any) -> bool:
    """A name, an attribute, an entry: what can be written twice."""
    if isinstance(expression, ast.Name):
        return True
    if isinstance(expression, ast.Attribute):
        return simple(expression.value)
    if isinstance(expression, ast.Subscript):
        return simple(expression.value) and (isinstance(expression.slice, ast.Constant) or simple(expression.slice))
    return isinstance(expression, ast.Constant)


def names(expression: Any) -> set[str]:
    return {part.id for part in ast.walk(expression) if isinstance(part, ast.Name)}


def binders(function: Function, name: str) -> list[Any]:
    """The places in a function where a name gets its value."""
    found: list[Any] = []
    stack: list[Any] = list(function.node.body) if isinstance(function.node.body, list) else [function.node.body]
    while stack:
        part = stack.pop()
        if isinstance(part, _SCOPES):
            if getattr(part, "name", None) == name:
                found.append(part)
            continue
        if isinstance(part, ast.Name) and part.id == name and not isinstance(part.ctx, ast.Load):
            found.append(part)
        if isinstance(part, (ast.Import, ast.ImportFrom)):
            if any((a.asname or a.name).partition(".")[0] == name for a in part.names):
                found.append(part)
        stack.extend(ast.iter_child_nodes(part))
    return found


def parameters(function: Function) -> set[str]:
    a = getattr(function.node, "args", None)
    if not isinstance(a, ast.arguments):
        return set()
    given = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
    return {p.arg for p in given if p is not None}


def known_at(patch: Patch, function: Function, expression: Any, at: Any, used: Any = None) -> bool:
    """Whether the names of an expression have been given their values before a place of the same function.

    With ``used``, where the expression stands now: whether it also has the same value there.
    """
    path = chain(patch, function, at)
    blocks = {id(part) for part in path}
    for name in names(expression):
        places = binders(function, name)
        if not places:
            continue  # a parameter, or of the file
        here = (at.lineno, at.col_offset)
        if name not in parameters(function) and all((p.lineno, p.col_offset) >= here for p in places):
            return False
        for place in places:
            if not _stays(patch, function, place, blocks, name):
                return False
            if used is not None and here <= (place.lineno, place.col_offset):
                if (place.lineno, place.col_offset) <= (used.lineno, used.col_offset):
                    return False
    return True


def _stays(patch: Patch, function: Function, place: Any, blocks: set[int], name: str) -> bool:
    """Whether a binding is not one of a loop or of a branch that ends before the place."""
    if name in parameters(function):
        return True
    tree = patch.tree(function.module)
    inner, outer = place, tree.parent(place)
    while outer is not None and outer is not function.node:
        if isinstance(outer, (ast.For, ast.AsyncFor, ast.While, ast.If, ast.Try, *_COMPREHENSIONS)):
            if id(outer) not in blocks and not (isinstance(outer, ast.If) and outer.orelse):
                return False
        inner, outer = outer, tree.parent(outer)
    return inner is not None


def same_scope(one: Function, other: Function) -> bool:
    """Whether the names of one function are seen in another: the same, or one nested in it."""
    inner: Function | None = other
    while inner is not None:
        if inner is one:
            return True
        inner = inner.parent
    return False


def common_block(patch: Patch, function: Function, one: Any, other: Any) -> tuple[Any, Any]:
    """The statements of one block that two nodes stand in."""
    first, second = chain(patch, function, one), chain(patch, function, other)
    last: Any = None
    tree = patch.tree(function.module)
    i = 0
    while i < len(first) and i < len(second):
        a, b = first[i], second[i]
        if (
            isinstance(a, ast.stmt)
            and isinstance(b, ast.stmt)
            and block_of(tree.parent(a), a) is block_of(tree.parent(b), b)
        ):
            last = (a, b)
        if a is not b:
            break
        i += 1
    if last is None:
        raise Unfixable("the two do not stand in one block")
    return last  # type: ignore[no-any-return]


def block_of(parent: Any, statement: Any) -> Any:
    """The list of statements that a statement stands in."""
    for name in ("body", "orelse", "finalbody", "handlers"):
        block = getattr(parent, name, None)
        if isinstance(block, list) and any(s is statement for s in block):
            return block
    return None
