"""Losses of an order: the items of a query by relevance, or what was chosen before what was not.

Convention
    ``input`` holds scores and ``target`` relevances, ``(queries, items)``; any real scores, relevances at least 0.
    ``where`` marks the real items of a padded list. A list without a pair that differs costs 0 and does not count in
    ``mean``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossproof.losses.checks import is_floating, is_mask, is_reduction, same_shape, shape, wrong
from lossproof.losses.reducing import precise, reduce


def bpr_loss(positive: Tensor, negative: Tensor, *, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """Bayesian personalized ranking: ``-log σ(s₊ - s₋)`` (Rendle et al., 2009).

    Args:
        positive: scores of what was chosen, any shape.
        negative: scores of what was not, of the same shape.
        weight: of each pair.
    """
    is_reduction(reduction)
    is_floating("positive", positive)
    is_floating("negative", negative)
    same_shape(positive, negative, other="negative")
    return reduce(-F.logsigmoid(precise(positive) - precise(negative)), reduction, weight=weight)


def ranknet_loss(input: Tensor, target: Tensor, *, where: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """RankNet: the binary cross entropy of every pair of a list whose relevances differ (Burges et al., 2005).

    Args:
        input: scores, ``(queries, items)``.
        target: relevances of the same shape, at least 0.
        where: bool, the real items of padded lists.
        reduction: ``none`` gives the mean over the pairs of each query, ``(queries,)``.
    """
    x, y, real = _prepare(input, target, where, reduction)
    better = _pairs(y, real)
    values = F.softplus(x.unsqueeze(1) - x.unsqueeze(2))
    number = better.sum((1, 2))
    return reduce(torch.where(better, values, 0.0).sum((1, 2)) / number.clamp_min(1), reduction, where=number > 0)


def lambdarank_loss(
    input: Tensor,
    target: Tensor,
    *,
    where: Tensor | None = None,
    at: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """LambdaRank: RankNet's pairs weighed by what exchanging them changes of NDCG (Burges et al., 2006; LambdaLoss,
    2018).

    Args:
        input: scores, ``(queries, items)``.
        target: relevances of the same shape, at least 0.
        where: bool, the real items of padded lists.
        at: only the first so many places of NDCG count; None for all.
        reduction: ``none`` gives the sum over the pairs of each query, ``(queries,)``.
    """
    if at is not None and at < 1:
        raise wrong("at", "be at least 1", repr(at))
    x, y, real = _prepare(input, target, where, reduction)
    better = _pairs(y, real)
    with torch.no_grad():
        gain = torch.where(real, torch.exp2(y) - 1, 0.0)
        place = torch.where(real, x, float("-inf")).argsort(1, descending=True).argsort(1)
        steps = torch.arange(y.shape[1], device=y.device, dtype=x.dtype)
        discount = 1 / torch.log2(steps + 2)
        if at is not None:
            discount = torch.where(steps < at, discount, 0.0)
        best = (gain.sort(1, descending=True).values * discount).sum(1)
        won = gain / torch.where(best > 0, best, 1.0)[:, None]
        worth = discount[place]
        change = ((won.unsqueeze(2) - won.unsqueeze(1)) * (worth.unsqueeze(2) - worth.unsqueeze(1))).abs()
    values = change * F.softplus(x.unsqueeze(1) - x.unsqueeze(2))
    return reduce(torch.where(better, values, 0.0).sum((1, 2)), reduction, where=better.any(2).any(1))


def listnet_loss(input: Tensor, target: Tensor, *, where: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """ListNet: the cross entropy between the softmax of the relevances and that of the scores (Cao et al., 2007).

    Args:
        input: scores, ``(queries, items)``.
        target: relevances of the same shape, at least 0.
        where: bool, the real items of padded lists.
        reduction: ``none`` gives ``(queries,)``.
    """
    x, y, real = _prepare(input, target, where, reduction)
    aim = torch.softmax(torch.where(real, y, float("-inf")), 1)
    log_p = F.log_softmax(torch.where(real, x, float("-inf")), 1)
    some = real.any(1)
    values = -torch.where(real, aim * torch.where(real, log_p, 0.0), 0.0).sum(1)
    return reduce(values, reduction, where=some)


def _prepare(input: Tensor, target: Tensor, where: Tensor | None, reduction: str) -> tuple[Tensor, Tensor, Tensor]:
    is_reduction(reduction)
    is_floating("input", input)
    if input.dim() != 2:
        raise wrong("input", "be (queries, items)", shape(input))
    same_shape(input, target)
    if where is not None:
        is_mask("where", where, input)
    real = torch.ones_like(input, dtype=torch.bool) if where is None else where.expand_as(input)
    x = precise(input)
    return torch.where(real, x, 0.0), torch.where(real, target.to(x.dtype), 0.0), real


def _pairs(y: Tensor, real: Tensor) -> Tensor:
    """``(queries, i, j)``: whether ``i`` is more relevant than ``j``, both real."""
    return (y.unsqueeze(2) > y.unsqueeze(1)) & real.unsqueeze(2) & real.unsqueeze(1)
