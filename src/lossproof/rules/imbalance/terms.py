"""The factors of a focal term as they are written in one function."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from lossproof.source.edits import Patch, Unfixable
from lossproof.source.syntax import Function, dotted

_PRODUCTS = {"mul", "multiply"}
ELSEWHERE = "the term is spread over several functions"


def within(function: Function, at: Any) -> bool:
    """Whether a node stands in a function itself."""
    return any(n is at for n in ast.walk(function.node))


def loads(function: Function, name: str) -> list[ast.Name]:
    return [
        n for n in ast.walk(function.node) if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)
    ]


def assigned(function: Function, name: str) -> ast.Assign | None:
    """The one statement that gives a name its value."""
    found = [
        s
        for s in ast.walk(function.node)
        if isinstance(s, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in s.targets)
    ]
    stored = [
        n
        for n in ast.walk(function.node)
        if isinstance(n, ast.Name) and n.id == name and not isinstance(n.ctx, ast.Load)
    ]
    return found[0] if len(found) == 1 and len(stored) == 1 and len(found[0].targets) == 1 else None


def search(function: Function, at: Any, wanted: Callable[[Any], bool], depth: int = 0) -> Any:
    """The first expression of a sort in another one, through the names that it is made of."""
    for part in ast.walk(at):
        if wanted(part):
            return part
    if depth < 4:
        for part in ast.walk(at):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
                behind = assigned(function, part.id)
                found = search(function, behind.value, wanted, depth + 1) if behind is not None else None
                if found is not None:
                    return found
    return None


def product_of(patch: Patch, function: Function, at: Any) -> Any:
    """The whole product that a factor stands in, through names that are read once."""
    tree = patch.tree(function.module)
    node = at
    for _ in range(20):
        outer = tree.parent(node)
        if isinstance(outer, ast.BinOp) and isinstance(outer.op, (ast.Mult, ast.Div)):
            if isinstance(outer.op, ast.Div) and outer.left is not node:
                return node
            node = outer
        elif isinstance(outer, ast.UnaryOp) and isinstance(outer.op, ast.USub):
            node = outer
        elif isinstance(outer, ast.Call) and dotted(outer.func).rpartition(".")[2] in _PRODUCTS:
            node = outer
        elif isinstance(outer, ast.Attribute) and outer.attr in _PRODUCTS:
            node = tree.parent(outer)
        elif isinstance(outer, ast.Assign) and len(outer.targets) == 1 and isinstance(outer.targets[0], ast.Name):
            name = outer.targets[0].id
            read = loads(function, name)
            if len(read) != 1 or assigned(function, name) is None or not _factor(tree, read[0]):
                return node
            node = read[0]
        else:
            return node
    return node


def _factor(tree: Any, at: Any) -> bool:
    outer = tree.parent(at)
    if isinstance(outer, ast.UnaryOp):
        outer = tree.parent(outer)
    return (isinstance(outer, ast.BinOp) and isinstance(outer.op, ast.Mult)) or (
        isinstance(outer, ast.Call) and dotted(outer.func).rpartition(".")[2] in _PRODUCTS
    )


def base_of(power: Any) -> Any:
    """What is raised."""
    if isinstance(power, ast.BinOp):
        return power.left
    if isinstance(power, ast.Call):
        method = isinstance(power.func, ast.Attribute) and len(power.args) + len(power.keywords) < 2
        if method:
            return power.func.value  # type: ignore[attr-defined]
        if power.args:
            return power.args[0]
    raise Unfixable(ELSEWHERE)
