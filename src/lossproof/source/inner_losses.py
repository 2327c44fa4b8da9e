"""The loss that a network computes itself and hands out beside its predictions.

``return {"loss": loss, "logits": logits}``, ``return ModelOutput(loss=loss, …)``, ``return loss, logits``: whoever
trains such a network starts from that entry, wherever that is. What is seen of it is what it is called.
"""

from __future__ import annotations

import ast

from lossproof.source.lower import Node, lower
from lossproof.source.syntax import Function

_CALLED = ("loss", "total_loss")


def inner_losses(function: Function) -> list[Node]:
    """The losses among what a module's ``forward`` returns."""
    if function.cls is None or function.name != "forward" or not _speaks_of_loss(function):
        return []
    found: list[Node] = []
    for node, _ in lower(function).returns:
        if node.op == "dict":
            for key, value in zip(*node.args, strict=True):
                if key is not None and key.op == "const" and key.args[0] in _CALLED:
                    found.append(value)
        elif node.op == "call":
            found.extend(value for name, value in node.args[2] if name == "loss")
        elif node.op == "tuple" and isinstance(node.at, ast.Tuple) and node.args:
            first = node.at.elts[0]
            if isinstance(first, ast.Name) and first.id in _CALLED:
                found.append(node.args[0])
    return [node for node in found if node.op not in ("const", "param")]


def _speaks_of_loss(function: Function) -> bool:
    """Whether one of the returned expressions does, before the whole function is looked at."""
    if "loss" not in function.module.source:
        return False
    stack: list[ast.AST] = list(function.node.body)
    while stack:
        at = stack.pop()
        if isinstance(at, ast.Return):
            if isinstance(at.value, (ast.Dict, ast.Call, ast.Tuple)) and any(map(_names_loss, ast.walk(at.value))):
                return True
        elif isinstance(at, (ast.If, ast.With, ast.For, ast.Try)):
            stack.extend([*at.body, *getattr(at, "orelse", [])])
    return False


def _names_loss(at: ast.AST) -> bool:
    word = getattr(at, "id", None) or getattr(at, "arg", None) or getattr(at, "value", None)
    return isinstance(word, str) and word in _CALLED


def makes_one_number(node: Node) -> bool:
    """``x.mean()``, ``x.sum() / mask.sum()``: of what a network computes, this is surely its loss."""
    if node.op == "bin" and node.args[0] == "/":
        return all(_whole(n) for n in node.args[1:])
    return _whole(node)


def _whole(node: Node) -> bool:
    """A sum or a mean over all elements."""
    if node.op != "call" or node.args[0].op != "attr" or node.args[0].args[1] not in ("sum", "mean"):
        return False
    _, args, keywords = node.args
    return not keywords and len(args) == (1 if isinstance(node.at, ast.Call) and _is_library(node.at.func) else 0)


def _is_library(func: ast.expr) -> bool:
    return isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == "torch"
