"""Ratios of sums that took the batch away: Dice, IoU and Tversky over all samples at once (``LP301``).

The numerator is a sum of the prediction times a mask, the denominator has a sum of the same prediction and more; what
is summed has four axes or more, of which the first, the batch, is longer than 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lossproof.graph.chain import SHAPE_ONLY, behind
from lossproof.graph.facts import Hop
from lossproof.graph.loss_facts import PooledOverlap

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Graph, Op

_SCALED = frozenset(
    ("Add", "Sub", "Mul", "Rsub", "Neg", "Clamp", "ClampMin", "ToCopy", "Squeeze", "Unsqueeze", "View", "Alias")
)
"""Arithmetic on sums: smoothing, weights, a factor of 2."""
_PICKS = ("Select", "Unbind", "Index", "IndexSelect", "Split", "Slice", "Chunk", "SplitWithSizes", "Gather")
_ELEMENTWISE = (
    "Sigmoid",
    "Softmax",
    "LogSoftmax",
    "Exp",
    "Relu",
    "Clamp",
    "ClampMin",
    "ClampMax",
    "Mul",
    "Rsub",
    "Pow",
    "Hardsigmoid",
    "Tanh",
)
_DOWN = 24
_NEAR = 60
"""How many operators are looked through."""


def facts(graph: Graph) -> Iterator[PooledOverlap]:
    for op in graph.of("Div"):
        if len(op.inputs) < 2 or op.inputs[0] is None or op.inputs[1] is None:
            continue
        yield from _ratio(op)


def _ratio(op: Op) -> Iterator[PooledOverlap]:
    over = [(total, product) for total in _totals(op.inputs[0]) for product in _products(total)]
    if not over or not _between_0_and_1(op):
        return
    below = list(_totals(op.inputs[1]))
    if not _added(op.inputs[1]):
        return  # a mean with weights has one sum below
    for total, (edge, mask) in over:
        mine = _sources(edge)
        if not any(
            mine & _sources(each.inputs[0]) for each in below if each.inputs[0] is not None and each is not total
        ):
            continue
        shape = _pooled(total, edge)
        if shape is not None:
            largest, share, empty = _sizes(mask, shape)
            hops = (Hop(total, "summed over the whole batch here"),)
            yield PooledOverlap(op, shape, largest, share, empty, hops=hops)
            return


def _totals(edge: Edge | None) -> Iterator[Op]:
    """The sums that a side is made of."""
    for op, _ in behind(edge, _SCALED, _NEAR):
        if op.kind in ("Sum", "Mean", "Dot"):
            yield op


def _added(edge: Edge | None) -> bool:
    """Whether a denominator is made of several things: ``p.sum() + t.sum()`` and not ``w.sum()``."""
    stack = [edge.op] if edge is not None else []
    seen: set[int] = set()
    while stack and len(seen) < _NEAR:
        op = stack.pop()
        if op.index in seen:
            continue
        seen.add(op.index)
        if op.kind in ("Add", "Sub"):
            return True
        if op.kind in _SCALED:
            stack += [below.op for below in op.inputs if below is not None]
        elif op.kind in ("Sum", "Mean") and op.inputs[0] is not None and op.inputs[0].op.kind in ("Add", "Sub"):
            return True
    return False


def _products(total: Op) -> Iterator[tuple[Edge, torch.Tensor | None]]:
    """The prediction in a sum of prediction times mask, with the mask."""
    if total.kind == "Dot":
        for number, name in ((0, "tensor"), (1, "self")):
            if len(total.inputs) > number and total.inputs[number] is not None and None in total.inputs:
                edge = total.inputs[number]
                assert edge is not None
                yield edge, total.tensor(name)
        return
    for product, _ in behind(total.inputs[0], SHAPE_ONLY):
        if product.kind != "Mul" or len(product.inputs) != 2 or product.inputs.count(None) != 1:
            continue
        edge = product.inputs[0] or product.inputs[1]
        mask = product.tensor("self" if product.inputs[0] is None else "other")
        if edge is not None and mask is not None and mask.dim() and _is_mask(mask):
            yield edge, mask


def _is_mask(mask: torch.Tensor) -> bool:
    if mask.dtype == torch.bool or not mask.numel():
        return bool(mask.numel())
    if mask.is_complex():
        return False
    low, high = torch.aminmax(mask)
    return float(low) >= 0 and float(high) <= 1


def _sources(edge: Edge | None) -> set[int]:
    through = SHAPE_ONLY | {"Mul", "Pow", "Rsub", "Add", "Sub", "Abs"}
    return {op.index for op, _ in behind(edge, through, _NEAR)}


def _between_0_and_1(op: Op) -> bool:
    above, below = op.tensor("self"), op.tensor("other")
    if above is None or below is None or not above.numel() or above.is_complex():
        return False
    return bool((below > 0).all()) and bool((above >= 0).all()) and bool((above <= 1.01 * below).all())


def _pooled(total: Op, edge: Edge) -> tuple[int, ...] | None:
    """The shape of the batch that a sum ran over; None where the batch was kept, or is one sample, or is not known."""
    summed = total.inputs[0]
    shape = summed.shape if summed is not None else None
    if shape is None:
        return None
    dims = (
        total.dims() if total.kind in ("Sum", "Mean") and total.saved("dim") is not None else tuple(range(len(shape)))
    )
    if not dims:
        dims = tuple(range(len(shape)))
    dims = tuple(each % len(shape) for each in dims)
    if 0 not in dims:
        return None
    if len(shape) > 1 and len(dims) == 1:
        return None
    return _batch(edge)


def _batch(edge: Edge) -> tuple[int, ...] | None:
    """Follows the prediction down to where it still has its axes; None where it is one sample, or has none."""
    op: Op | None = edge.op
    for _ in range(_DOWN):
        if op is None:
            return None
        shape = op.shape()
        if shape is not None and len(shape) >= 4 and op.kind not in _PICKS:
            return shape if shape[0] > 1 else None
        if op.kind in _PICKS:
            dim = op.dim()
            if dim is None or op.input(0) is None:
                return None
            before = op.inputs[0].shape if op.inputs[0] is not None else None
            if before is None or dim % len(before) == 0:
                return None  # one sample of a batch
        elif op.kind not in SHAPE_ONLY and op.kind not in _ELEMENTWISE:
            return None
        op = op.input(0) or op.input(1)
    return None


def _sizes(mask: torch.Tensor | None, shape: tuple[int, ...]) -> tuple[int, float, int]:
    """The sample with most of the target and its share, and how many samples have none of it."""
    if mask is None or mask.numel() == 0 or mask.numel() % shape[0]:
        return -1, -1.0, -1
    areas = mask.reshape(shape[0], -1).sum(1, dtype=torch.float32)
    whole = float(areas.sum())
    if whole <= 0:
        return -1, -1.0, shape[0]
    largest = int(areas.argmax())
    return largest, float(areas[largest]) / whole, int((areas == 0).sum())
