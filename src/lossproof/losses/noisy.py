"""Losses that a wrong label moves less than it moves the cross entropy.

Convention: as in ``classes``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossproof.losses.checks import in_range, is_reduction
from lossproof.losses.classes import IGNORE, entropies
from lossproof.losses.reducing import reduce


def generalized_cross_entropy_loss(
    input: Tensor,
    target: Tensor,
    *,
    q: float = 0.7,
    ignore_index: int = IGNORE,
    reduction: str = "mean",
) -> Tensor:
    """``(1 - p_y^q) / q`` (Zhang and Sabuncu, 2018): cross entropy for q → 0, mean absolute error for q = 1.

    Args:
        input, target, ignore_index, reduction: as in ``cross_entropy``.
        q: in (0, 1]. The larger, the less a label that the model finds impossible can teach, rightly or wrongly: the
            gradient at such an example is ``p_y^q`` times that of the cross entropy.

    Start with cross entropy or a small q: from a random start a large one hardly learns.
    """
    is_reduction(reduction)
    in_range("q", q, 0.0, 1.0, open_low=True)
    values, _, counts = entropies(input, target, ignore_index=ignore_index)
    return reduce(-torch.expm1(-q * values) / q, reduction, denominator=counts.sum())


def symmetric_cross_entropy_loss(
    input: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.1,
    beta: float = 1.0,
    floor: float = -4.0,
    ignore_index: int = IGNORE,
    reduction: str = "mean",
) -> Tensor:
    """``α CE + β RCE`` with the reverse cross entropy ``-A (1 - p_y)`` (Wang et al., 2019).

    Args:
        input, target, ignore_index, reduction: as in ``cross_entropy``.
        alpha, beta: weights of the two, at least 0.
        floor: A, below 0: what stands for ``log 0`` of the classes that the label excludes.
    """
    is_reduction(reduction)
    in_range("alpha", alpha, 0.0)
    in_range("beta", beta, 0.0)
    in_range("floor", -floor, 0.0, open_low=True)
    values, _, counts = entropies(input, target, ignore_index=ignore_index)
    return reduce(alpha * values + beta * floor * torch.expm1(-values), reduction, denominator=counts.sum())
