"""``(N, 1)`` that met ``(N,)``: shapes that were made equal by repeating, where a row was meant for a row.

A loss function expands both sides itself, and keeps them with strides of 0. Arithmetic by hand leaves no trace of the
other shape; there the difference that the square or the absolute value kept is looked at: each of its rows is the first
one plus a number exactly when one side was repeated. Pairs that the code wrote out (``x[:, None] - x[None, :]``) have
an operator for it and are left alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lossproof.graph import operands, values
from lossproof.graph.chain import SHAPE_ONLY, behind
from lossproof.graph.facts import Hop
from lossproof.graph.loss_facts import CrossedShapes

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Graph, Op

Shape = tuple[int, ...]
_LOSSES = ("MseLoss", "SmoothL1Loss", "HuberLoss")
_WRITTEN = frozenset(
    ("Unsqueeze", "View", "Reshape", "ReshapeAlias", "UnsafeView", "Permute", "Transpose", "T", "Index", "Expand")
)
"""What somebody may have written to line the axes up."""
_LINEAR = frozenset(
    (
        "Neg",
        "Mul",
        "Div",
        "Add",
        "Sub",
        "Abs",
        "Pow",
        "ToCopy",
        "SmoothL1Loss",
        "HuberLoss",
        "Rsub",
        "Log",
        "LogSigmoid",
        "Log1P",
        "Cosh",
        "Softplus",
        "Sqrt",
        "Mean",
        "Sum",
    )
)
_COPIES = ("ToCopy", "Clone", "Alias")
"""A cast of what was repeated, under autocast for one."""


def facts(graph: Graph) -> Iterator[CrossedShapes]:
    for op in graph:
        if op.kind in _LOSSES:
            yield from _of_loss(op)
        elif op.kind in ("Sub", "Mul"):
            yield from _by_hand(graph, op)


def _of_loss(op: Op) -> Iterator[CrossedShapes]:
    """Both sides as the loss function kept them: views that repeat along an axis have a stride of 0 there."""
    left, right = op.tensor("self"), op.tensor("target")
    if left is None or right is None or left.layout != torch.strided or right.layout != torch.strided:
        return
    sides = [_before(edge, tensor) for edge, tensor in zip(op.inputs, (left, right), strict=False)]
    if len(sides) == 2 and _crossed(sides[0], sides[1], tuple(left.shape)):
        yield _fact(op, sides[0], sides[1], tuple(left.shape), True)


def _original(edge: Edge | None) -> Edge | None:
    """What a side was before it was repeated (and cast); itself where it was not."""
    here = edge
    while here is not None and here.op.kind in _COPIES and here.op.inputs:
        here = here.op.inputs[0]
    if here is None or here.op.kind != "Expand" or not here.op.inputs or here.op.inputs[0] is None:
        return edge
    below: Edge | None = here.op.inputs[0]
    while below is not None and below.op.kind in _COPIES and below.op.inputs:
        below = below.op.inputs[0]
    return below


def _before(edge: Edge | None, tensor: torch.Tensor) -> Shape:
    """The shape of a side before it was repeated: of what it was expanded from, or of the part that is really there."""
    if edge is not None:
        original = _original(edge)
        return (original.shape if original is not None else None) or tuple(tensor.shape)
    own = list(zip(tensor.shape, tensor.stride(), strict=True))
    while own and own[0][1] == 0 and own[0][0] > 1:
        own = own[1:]
    return tuple(1 if stride == 0 else size for size, stride in own)


def _crossed(left: Shape, right: Shape, result: Shape) -> bool:
    """Whether ``(N, 1, …)`` and ``(N, …)`` made ``(N, N, …)``."""
    return _column_and_row(left, right, result) or _column_and_row(right, left, result)


def _column_and_row(column: Shape, row: Shape, result: Shape) -> bool:
    """Whether two shapes are the same but for one axis of size 1, and were repeated because of it."""
    return (
        len(column) == len(row) + 1 == len(result)
        and math.prod(result) > math.prod(column)
        and any(size == 1 and column[:axis] + column[axis + 1 :] == row for axis, size in enumerate(column))
    )


def _by_hand(graph: Graph, op: Op) -> Iterator[CrossedShapes]:
    result = op.shape()
    if result is None or len(result) < 2 or len(op.inputs) != 2:
        return
    if any(
        edge is not None and edge.op.kind not in ("Expand", *_COPIES) and edge.shape == result for edge in op.inputs
    ):
        return  # one side was whole already
    shapes = [_operand(op, number) for number in (0, 1)]
    known = [shape for shape in shapes if shape is not None]
    if not known or any(_somebody_wrote(edge, shape) for edge, shape in zip(op.inputs, shapes, strict=True)):
        return
    if len(known) == 2:
        left, right = known
        if not _crossed(left, right, result):
            return
    else:
        # Of the constant in a difference only the outcome is known.
        left, n = known[0], result[0]
        if n < 2 or result[1] != n:
            return
        difference = _difference(op)
        column, row = (n, 1, *result[2:]), (n, *result[2:])
        if left not in (column, row) or difference is None or not _repeats(difference):
            return
        if _paired_elsewhere(graph, op, n):
            return
        right = row if left == column else column
    if _ends_in_a_mean(op):
        yield _fact(op, left, right, result, False)


def _difference(op: Op) -> torch.Tensor | None:
    """What a difference came to, as its reader kept it, or the reader of its quotient by a constant."""
    own = values.value(_edge_of(op))
    if own is not None:
        return own
    for reader in op.consumers:
        by = reader.tensor("other") if reader.kind == "Div" and reader.inputs[1:] == (None,) else None
        quotient = values.value(_edge_of(reader)) if by is not None else None
        if by is not None and quotient is not None:
            return quotient * by
    return None


def _edge_of(op: Op) -> Edge | None:
    for reader in op.consumers:
        for edge in reader.inputs:
            if edge is not None and edge.op is op:
                return edge
    return None


def _operand(op: Op, number: int) -> Shape | None:
    edge = op.inputs[number]
    if edge is not None:
        original = _original(edge)
        return edge.shape if original is None else original.shape
    kept = operands.kept(op, number)
    return None if kept is None else tuple(kept.shape)


def _somebody_wrote(edge: Edge | None, shape: Shape | None) -> bool:
    """Whether an operand was brought into its shape by hand. A layer's ``view`` of a matrix product is not that."""
    if edge is None or shape is None:
        return False
    original = _original(edge)
    op = edge.op if original is None else original.op
    if op.kind not in _WRITTEN:
        return False
    return op.kind == "Unsqueeze" or len(shape) > 1


def _repeats(difference: torch.Tensor) -> bool:
    """Whether every row is the first one plus a number: one side of the difference was the same for all rows."""
    if difference.dim() < 2 or not difference.is_floating_point() or not difference.numel():
        return False
    d = difference.float() if difference.dtype != torch.float64 else difference
    offsets = d - d[:1]
    spread = (offsets - offsets[:, :1]).abs().max()
    scale = d.abs().max()
    varied = (d[:1] - d[:1, :1]).abs().max()
    slack = {torch.float64: 1e-10, torch.float32: 1e-5}.get(difference.dtype, 3e-2)
    return bool(spread <= slack * scale) and bool(varied > 10 * slack * scale)


def _paired_elsewhere(graph: Graph, op: Op, n: int) -> bool:
    """Whether the same values are also compared with each other: a distance between two sets of points."""
    sources = {source.index for edge in op.inputs for source, _ in behind(edge, SHAPE_ONLY)}
    for other in graph.of("Sub", "Cdist", "EuclideanDist"):
        if other is not op and other.inputs[0] is not None and other.inputs[-1] is not None and len(other.inputs) > 1:
            mine = {source.index for edge in other.inputs for source, _ in behind(edge, SHAPE_ONLY)}
            if mine == sources and (other.shape() or ())[:2] == (n, n):
                return True
    return False


def _ends_in_a_mean(op: Op) -> bool:
    """Whether all pairs end in one mean or sum, through arithmetic alone."""
    level, seen = [op], set()
    for _ in range(12):
        level = [reader for each in level for reader in each.consumers if reader.index not in seen]
        if not level:
            return False
        seen |= {each.index for each in level}
        if any(each.kind in ("Mean", "Sum") and each.shape() == () for each in level):
            return True
        if any(each.kind not in _LINEAR for each in level):
            return False
    return False


def _fact(op: Op, left: Shape, right: Shape, result: Shape, written: bool) -> CrossedShapes:
    edge = op.inputs[0]
    made = _original(edge)
    hops = (Hop(made.op, "made here"),) if made is not None and made is not edge else ()
    return CrossedShapes(op, left, right, result, written, hops=hops)
