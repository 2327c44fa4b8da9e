"""A loss that is a sum, taken apart: its terms, each with the number that it is multiplied by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossproof.graph.chain import SHAPE_ONLY

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Graph, Op

_JOINS = frozenset(("Stack", "Cat"))
_MOST = 10_000
_Added = tuple["Edge | None", "float | None", "Op | None"]


@dataclass(frozen=True)
class Term:
    """Something that is added into the loss."""

    op: Op
    """The operator where the sum ends: what is not linear, or not known to be."""
    factor: float | None
    """What it is multiplied by; None where that is no plain number (a tensor of weights, a learnable one)."""
    top: Edge | None
    """The operand of the last addition: the term as it was added. None for what was not added to anything."""
    outer: float | None
    """What ``top`` itself is multiplied by."""
    join: Op | None = None
    """The last addition."""


def constant(op: Op) -> float | None:
    """The number that a multiplication or division has for its second operand."""
    other = op.number("other") if len(op.inputs) == 1 or op.inputs[1] is None else None
    if other is None and op.kind == "Mul" and op.inputs[0] is None:
        other = op.number("self")
    return other


def terms(graph: Graph) -> Iterator[Term]:
    """The terms of the loss, through additions, signs, numbers, means and sums."""
    from lossproof.graph.walk import Edge

    stack: list[tuple[Edge, float | None, _Added]] = [(Edge(graph.root, 0), 1.0, (None, 1.0, None))]
    seen = 0
    while stack and seen < _MOST:
        seen += 1
        edge, factor, added = stack.pop()
        op = edge.op
        kind = op.kind
        alpha = op.number("alpha")
        operands = [each for each in op.inputs if each is not None]
        if kind in ("Add", "Sub", "Rsub"):
            parts = []
            for place, each in enumerate(op.inputs):
                if each is not None:
                    sign = _sign(kind, place, 1.0 if alpha is None else alpha)
                    parts.append((each, _times(factor, sign)))
            for each, part in parts:
                stack.append((each, part, (each, part, op)))
        elif kind == "Neg" and operands:
            stack.append((operands[0], _times(factor, -1.0), added))
        elif kind == "Mul" and len(operands) == 1:
            stack.append((operands[0], _times(factor, constant(op)), added))
        elif kind == "Div" and len(operands) == 1 and op.inputs[0] is not None:
            number = constant(op)
            stack.append((operands[0], _times(factor, 1 / number if number else None), added))
        elif kind in ("Sum", "Mean", "Nansum") and operands:
            joined = _joined(operands[0])
            if joined is not None:
                part = 1 / len(joined.inputs) if kind == "Mean" else 1.0
                for each in joined.inputs:
                    if each is not None:
                        stack.append((each, _times(factor, part), (each, _times(factor, part), op)))
            else:
                stack.append((operands[0], factor, added))
        elif kind in SHAPE_ONLY and len(operands) == 1 and kind not in _JOINS:
            stack.append((operands[0], factor, added))
        else:
            yield Term(op, factor, *added)


def _joined(edge: Edge) -> Op | None:
    """The operator that put several single numbers into one tensor."""
    op = edge.op
    small = all(each is None or each.shape in ((), (1,)) for each in op.inputs)
    return op if op.kind in _JOINS and small and len(op.inputs) > 1 else None


def _sign(kind: str, place: int, alpha: float) -> float:
    if kind == "Add":
        return alpha if place else 1.0
    if kind == "Sub":
        return -alpha if place else 1.0
    return 1.0 if place else -alpha


def _times(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left * right
