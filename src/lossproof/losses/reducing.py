"""One reducer for every loss: which elements count, in which precision they are added, and what the mean divides by.

Convention
    ``mean`` divides by what is valid: the number of elements that ``where`` selects (ignored ones left out), or the sum
    of their ``weight`` where weights are given, as ``torch.nn.functional.cross_entropy`` has it.
    Where nothing is valid the result is 0 with a graph, not NaN.
    float16 and bfloat16 are computed and returned in float32; float32 and float64 are kept.
"""

from __future__ import annotations

import torch
from torch import Tensor


def precise(value: Tensor) -> Tensor:
    """A floating-point tensor in the precision it is computed in: float32 for half precisions, else its own."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def products(rows: Tensor, others: Tensor) -> Tensor:
    """Inner products of rows, ``rows @ others.T``, in their own precision under autocast too.

    Autocast would round them to bfloat16: two digits, which a temperature of 0.07 then divides by.
    """
    if not torch.amp.is_autocast_available(rows.device.type):
        return rows @ others.mT
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ others.mT


def reduce(
    values: Tensor,
    reduction: str,
    *,
    where: Tensor | None = None,
    weight: Tensor | None = None,
    denominator: Tensor | None = None,
) -> Tensor:
    """Elements of a loss, reduced.

    Args:
        values: the loss of each element, float32 or float64, any shape.
        reduction: ``none``, ``mean`` or ``sum``.
        where: bool, broadcastable to ``values``: which elements count. The others are 0 in ``none``.
        weight: multiplies each element; ``mean`` divides by the sum of the weights that count.
        denominator: what ``mean`` divides by, where it is not that (a scalar tensor).
    """
    if weight is not None:
        values = values * weight
    if where is not None:
        values = torch.where(where, values, 0.0)
    if reduction == "none":
        return values
    total = values.sum()
    if reduction == "sum":
        return total
    if denominator is None:
        if weight is not None:
            weights = weight.expand_as(values)
            denominator = weights.sum() if where is None else torch.where(where, weights, 0.0).sum()
        elif where is not None:
            denominator = where.expand_as(values).sum()
        else:
            return total / max(values.numel(), 1)
    empty = denominator == 0
    return torch.where(empty, 0.0, total) / torch.where(empty, 1, denominator)
