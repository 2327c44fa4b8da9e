"""Classes with an order: a mistake of two steps is worse than one of one.

Convention
    ``input`` holds ``K - 1`` logits for ``K`` ordered classes, ``(N, K - 1)``; logit ``k`` says whether the class is
    above ``k``. ``target`` holds class indices from 0 to ``K - 1``, ``(N,)``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossproof.losses.checks import is_floating, is_reduction, shape, wrong
from lossproof.losses.reducing import precise, reduce


def coral_loss(input: Tensor, target: Tensor, *, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """CORAL: binary cross entropies of ``y > k``, over logits that share one direction (Cao et al., 2020).

    Args:
        input: ``(N, K - 1)``: one score plus a bias for each threshold, which makes the answers consistent.
        target: ``(N,)``.
        weight: of each threshold, ``(K - 1,)``.
        reduction: ``none`` gives ``(N,)``: the sum over the thresholds.
    """
    x, above = _prepare(input, target, reduction)
    values = F.binary_cross_entropy_with_logits(x, above, reduction="none")
    if weight is not None:
        values = values * _of_threshold(weight, x)
    return reduce(values.sum(1), reduction)


def corn_loss(input: Tensor, target: Tensor, *, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """CORN: logit ``k`` says whether the class is above ``k`` *given that it is above* ``k - 1`` (Shi et al., 2023).

    Args:
        input: ``(N, K - 1)``, free of each other.
        target: ``(N,)``.
        weight: of each threshold, ``(K - 1,)``.
        reduction: ``mean`` divides by the number of answers that were asked for, as the paper does; ``none`` gives
            ``(N,)``, the sum over the thresholds.
    """
    x, above = _prepare(input, target, reduction)
    steps = torch.arange(x.shape[1], device=x.device)
    asked = target[:, None] >= steps
    values = F.binary_cross_entropy_with_logits(x, above, reduction="none")
    if weight is not None:
        values = values * _of_threshold(weight, x)
    values = torch.where(asked, values, 0.0)
    return reduce(values.sum(1), reduction, denominator=asked.sum())


def coral_class(input: Tensor) -> Tensor:
    """The class that CORAL logits predict: how many thresholds are passed. ``(N, K - 1)`` to int64 ``(N,)``."""
    return (input > 0).sum(1)


def corn_class(input: Tensor) -> Tensor:
    """The class that CORN logits predict, from the product of the conditional probabilities."""
    return (F.logsigmoid(precise(input)).cumsum(1) > torch.log(torch.tensor(0.5))).sum(1)


def _prepare(input: Tensor, target: Tensor, reduction: str) -> tuple[Tensor, Tensor]:
    is_reduction(reduction)
    is_floating("input", input)
    if input.dim() != 2:
        raise wrong("input", "be (N, K - 1)", shape(input))
    if target.dtype.is_floating_point or target.dtype == torch.bool:
        raise wrong("target", "hold class indices of an integer dtype", f"dtype {target.dtype}")
    if target.shape != input.shape[:1]:
        raise wrong("target", f"have the shape {tuple(input.shape[:1])}", shape(target))
    x = precise(input)
    torch._assert_async(((target >= 0) & (target <= x.shape[1])).all(), "ordinal targets should lie in [0, K - 1]")
    return x, (target[:, None] > torch.arange(x.shape[1], device=x.device)).to(x.dtype)


def _of_threshold(weight: Tensor, x: Tensor) -> Tensor:
    if weight.shape != (x.shape[1],):
        raise wrong("weight", f"have a weight for each threshold, ({x.shape[1]},)", shape(weight))
    return weight.to(x)
