"""Masked losses and what they are divided by: all elements, those that were kept, or nothing (``LP304``).

A mask is a saved constant of zeros and ones that multiplies a loss which is complete: one with a prediction and a
target in it. Labels are zeros and ones too; a one-hot table, or a pair of constants that add up to 1, are labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lossproof.graph.activations import NLL
from lossproof.graph.chain import behind
from lossproof.graph.facts import Hop
from lossproof.graph.loss_facts import MaskedMean
from lossproof.graph.walk import readable

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Graph, Op

_COMPLETE = ("MseLoss", "SmoothL1Loss", "HuberLoss", "BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", *NLL)
_MOVES = frozenset(
    ("View", "UnsafeView", "Squeeze", "Unsqueeze", "ToCopy", "Clone", "Alias", "Permute", "Transpose", "Flatten")
)
_ROUNDED = frozenset(("Sum", "Mean", "Sqrt", "Add", "Log", "Log1P", "Cosh"))
"""What is made of a difference on the way to a loss: the root of its square plus an epsilon, the log of its cosh."""
_BEFORE = _MOVES | {"Abs", "Pow", "Sub", "Mul", "Neg", *_COMPLETE}
_SCALES = frozenset(("Neg", "ToCopy", "Clone", "Alias", "View", "Squeeze"))


def facts(graph: Graph) -> Iterator[MaskedMean]:
    for op in graph:
        if op.kind == "Mean":
            yield from _mean(graph, op)
        elif op.kind == "Div":
            yield from _division(graph, op)
        elif op.kind in _COMPLETE and op.saved("reduction") == 1:
            yield from _nothing(op)
            if op.kind in NLL:
                yield from _all_ignored(op)
            elif not op.kind.startswith("Binary"):
                yield from _both(op)


def _mean(graph: Graph, op: Op) -> Iterator[MaskedMean]:
    edge = op.inputs[0] if op.inputs else None
    if edge is None or op.shape() != ():
        return
    numel = op.saved("self_sym_numel")
    if numel == 0:
        yield from _nothing(op)
        return
    for source, _ in behind(edge, _SCALES | {"Permute", "Mean"}):
        found = _masked(graph, source)
        if found is None and source.kind in NLL and source.saved("reduction") == 0:
            found = _ignored(source)
        if found is not None and 0 < found[0] < found[1]:
            how = "ignored" if source.kind in NLL else "mean"
            yield MaskedMean(op, how, *found, hops=(Hop(source, "masked here"),))


def _division(graph: Graph, op: Op) -> Iterator[MaskedMean]:
    """``(loss * mask).sum() / n``."""
    if op.shape() != () or not op.inputs or op.inputs[0] is None or (len(op.inputs) > 1 and op.inputs[1] is not None):
        return
    total = op.input(0)
    by = op.number("other")
    if total is None or total.kind != "Sum" or by is None or total.shape() != ():
        return
    for source, _ in behind(total.inputs[0], _SCALES):
        found = _masked(graph, source)
        if found is None and source.kind in NLL and source.saved("reduction") == 0:
            found = _ignored(source)
        if found is None:
            continue
        kept, elements = found
        if by == 0 and kept == 0:
            yield MaskedMean(op, "empty", 0, elements, hops=(Hop(source, "masked here"),))
        elif by == elements and 0 < kept < elements:
            yield MaskedMean(op, "division", kept, elements, hops=(Hop(source, "masked here"),))


def _masked(graph: Graph, op: Op) -> tuple[int, int] | None:
    """How many elements of a complete loss a mask keeps, of how many; None where this is no masked loss."""
    if op.kind == "Mul" and len(op.inputs) == 2 and op.inputs.count(None) == 1:
        edge = op.inputs[0] or op.inputs[1]
        mask = op.tensor("self" if op.inputs[0] is None else "other")
        shape = op.shape()
        if mask is None or edge is None or shape is None or not mask.dim() or not _zeros_and_ones(mask):
            return None
        if not _complete(edge) or _labels(graph, op, mask):
            return None
        try:
            whole = mask.expand(shape)
        except RuntimeError:
            return None
        return int((whole != 0).sum()), whole.numel()
    if op.kind in ("Pow", "Abs") or (op.kind == "Mul" and _same(op)):
        return _difference_masked(op)
    if op.kind == "IndexPut" and op.inputs and op.inputs[0] is not None and op.inputs[1:] == (None,):
        return _overwritten(op) if _complete(op.inputs[0]) else None
    if op.kind == "MaskedFill" and op.inputs and op.inputs[0] is not None and _complete(op.inputs[0]):
        mask, shape = op.tensor("mask"), op.shape()
        if mask is not None and shape is not None:
            whole = mask.expand(shape)
            return int((~whole).sum()), whole.numel()
    if op.kind == "Where" and len(op.inputs) == 2 and op.inputs.count(None) == 1:
        condition, shape = op.tensor("condition"), op.shape()
        edge = op.inputs[0] or op.inputs[1]
        if condition is not None and edge is not None and shape is not None and _complete(edge):
            whole = condition.expand(shape)
            kept = int(whole.sum())
            return (kept if op.inputs[0] is not None else whole.numel() - kept), whole.numel()
    return None


def _overwritten(op: Op) -> tuple[int, int] | None:
    """``loss[mask] = 0``."""
    indices, shape = op.saved("indices"), op.shape()
    if not isinstance(indices, (tuple, list)) or len(indices) != 1 or shape is None:
        return None
    mask = indices[0]
    if not isinstance(mask, torch.Tensor) or not readable(mask) or mask.dtype != torch.bool or not mask.numel():
        return None
    elements = math.prod(shape)
    return elements - int(mask.sum()) * (elements // mask.numel()), elements


def _difference_masked(op: Op) -> tuple[int, int] | None:
    """``((prediction - target) * mask) ** 2``, ``(prediction * mask - target * mask).abs()``."""
    below = op.input(0)
    product = below
    if below is not None and below.kind == "Sub" and len(below.inputs) == 2 and below.inputs.count(None) == 1:
        product = below.input(0) or below.input(1)
    if product is None or product.kind != "Mul" or len(product.inputs) != 2 or product.inputs.count(None) != 1:
        return None
    mask = product.tensor("self" if product.inputs[0] is None else "other")
    difference = op.tensor("self")
    if mask is None or difference is None or not mask.dim() or not _zeros_and_ones(mask):
        return None
    if product is below:
        inner = product.input(0) or product.input(1)
        if inner is None or inner.kind != "Sub" or None not in inner.inputs:
            return None
    whole = mask.expand(difference.shape) != 0
    if bool((difference[~whole] != 0).any()):
        return None
    return int(whole.sum()), whole.numel()


def _zeros_and_ones(mask: torch.Tensor) -> bool:
    if mask.dtype == torch.bool:
        return True
    return not mask.is_complex() and mask.numel() > 0 and bool(((mask == 0) | (mask == 1)).all())


def _complete(edge: Edge) -> bool:
    """Whether these are the losses of elements: a loss function that was not reduced, or the square or the absolute
    value of a difference from a constant."""
    for op, _ in behind(edge, _MOVES | _ROUNDED):
        if op.kind in _COMPLETE:
            return bool(op.saved("reduction") == 0)
        if op.kind in ("Pow", "Abs") or (op.kind == "Mul" and len(op.inputs) == 2 and _same(op)):
            below = op.input(0)
            return _from_a_constant(below)
        if op.kind == "Sub":  # under one of those that are passed
            return _from_a_constant(op) and edge.op is not op
        return False
    return False


def _from_a_constant(op: Op | None) -> bool:
    return op is not None and op.kind == "Sub" and len(op.inputs) == 2 and None in op.inputs


def _same(op: Op) -> bool:
    first = op.input(0)
    return first is not None and first is op.input(1)


def _labels(graph: Graph, op: Op, mask: torch.Tensor) -> bool:
    """Whether zeros and ones choose rather than mask: a one-hot table, or half of a pair that adds up to 1."""
    if mask.dtype != torch.bool and mask.dim() > 1:
        for axis in {1, mask.dim() - 1}:
            if mask.shape[axis] > 1 and bool((mask.sum(axis) == 1).all()):
                return True
    if not mask.numel():
        return False
    chosen = mask != 0
    twins = _constants(graph, tuple(mask.shape)).get(_signature(~chosen), ())
    return any(bool((twin != chosen).all()) for twin in twins)


_Signature = tuple[int, int]


def _signature(chosen: torch.Tensor) -> _Signature:
    """What two masks have to share before they are compared element by element."""
    flat = chosen.reshape(-1)
    return int(flat.sum()), int((flat * torch.arange(flat.numel(), device=flat.device)).sum())


def _constants(graph: Graph, shape: tuple[int, ...]) -> dict[_Signature, list[torch.Tensor]]:
    """Where what is multiplied by as a constant is not zero, of constants of one shape."""
    found: dict[_Signature, list[torch.Tensor]] | None = graph.memo.get(("constants", shape))
    if found is None:
        found = graph.memo["constants", shape] = {}
        for op in graph.of("Mul"):
            if len(op.inputs) == 2 and op.inputs.count(None) == 1:
                constant = op.tensor("self" if op.inputs[0] is None else "other")
                if constant is not None and tuple(constant.shape) == shape:
                    chosen = constant != 0
                    same = found.setdefault(_signature(chosen), [])
                    if not same or not torch.equal(same[-1], chosen):
                        same.append(chosen)
    return found


def _ignored(op: Op) -> tuple[int, int] | None:
    target, ignored = op.tensor("target"), op.saved("ignore_index")
    if target is None or not isinstance(ignored, int):
        return None
    ignored = ignored - 2**64 if ignored >= 2**63 else ignored
    return int((target != ignored).sum()), target.numel()


def _all_ignored(op: Op) -> Iterator[MaskedMean]:
    found = _ignored(op)
    if found is not None and found[0] == 0 and found[1] > 0:
        yield MaskedMean(op, "all-ignored", *found)


def _both(op: Op) -> Iterator[MaskedMean]:
    """``mse_loss(prediction * mask, target * mask)``: what is masked is equal, and counts."""
    left, right = op.tensor("self"), op.tensor("target")
    product = op.input(0)
    if left is None or right is None or product is None or product.kind != "Mul" or product.inputs.count(None) != 1:
        return
    mask = product.tensor("self" if product.inputs[0] is None else "other")
    if mask is None or not mask.dim() or not _zeros_and_ones(mask):
        return
    try:
        whole = mask.expand(left.shape) != 0
    except RuntimeError:
        return
    kept = int(whole.sum())
    if 0 < kept < whole.numel() and not bool((right[~whole] != 0).any()) and bool((right[whole] != 0).any()):
        yield MaskedMean(op, "both", kept, whole.numel(), hops=(Hop(product, "masked here"),))


def _nothing(op: Op) -> Iterator[MaskedMean]:
    """A mean over what a selection left, which is nothing."""
    table = op.tensor("self")
    if op.kind != "Mean" and (table is None or table.numel()):
        return
    for pick, _ in behind(op.inputs[0], _BEFORE):
        below = pick.inputs[0] if pick.kind in ("Index", "MaskedSelect") else None
        elements = math.prod(below.shape or (0,)) if below is not None else 0
        if elements:
            yield MaskedMean(op, "empty", 0, elements, hops=(Hop(pick, "selected here"),))
            return
