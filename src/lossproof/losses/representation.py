"""Losses on embeddings: what belongs together comes together, and the rest is pushed apart.

Convention
    Embeddings are ``(N, D)`` and need not be normalized: where a loss is one of cosines it normalizes them itself, in
    float32, with a gradient that stays finite at the zero vector. Similarities go through a log-softmax, so that a
    small temperature costs neither digits nor an overflow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossproof.losses.checks import in_range, is_floating, is_reduction, same_shape, shape, wrong
from lossproof.losses.reducing import precise, products, reduce


def triplet_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 1.0,
    squared: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """``max(0, d(a, p) - d(a, n) + margin)`` with Euclidean distances (Schroff et al., 2015, with ``squared``).

    Args:
        anchor, positive, negative: ``(N, D)``.
        margin: in units of the distance, more than 0.
        squared: squared distances, as FaceNet has it (on normalized embeddings).
        reduction: ``none`` gives ``(N,)``.

    Identical embeddings have distance 0 and gradient 0, not NaN.
    """
    is_reduction(reduction)
    in_range("margin", margin, 0.0, open_low=True)
    a, p, n = _embeddings(anchor=anchor, positive=positive, negative=negative)
    if squared:
        near, far = ((a - p) ** 2).sum(1), ((a - n) ** 2).sum(1)
    else:
        near, far = torch.linalg.vector_norm(a - p, dim=1), torch.linalg.vector_norm(a - n, dim=1)
    return reduce(F.relu(near - far + margin), reduction)


def n_pairs_loss(anchor: Tensor, positive: Tensor, *, reduction: str = "mean") -> Tensor:
    """N-pairs: each anchor picks its positive among those of all others, by inner product (Sohn, 2016).

    Args:
        anchor, positive: ``(N, D)``, one pair of each class, N at least 2. Not normalized; regularize their norm.
        reduction: ``none`` gives ``(N,)``.
    """
    is_reduction(reduction)
    a, p = _embeddings(anchor=anchor, positive=positive)
    _several(a)
    return reduce(-F.log_softmax(products(a, p), 1).diagonal(), reduction)


def info_nce_loss(
    input: Tensor,
    other: Tensor,
    *,
    temperature: float = 0.07,
    symmetric: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """InfoNCE between two views: row ``i`` of one belongs to row ``i`` of the other (van den Oord et al., 2018; CLIP).

    Args:
        input, other: ``(N, D)``, N at least 2; compared by cosine.
        temperature: more than 0.
        symmetric: the mean of both directions, as CLIP has it; else ``input`` picks from ``other`` alone.
        reduction: ``none`` gives ``(N,)``.

    Its floor is 0 and a guess costs ``log N``, so losses of different batch sizes do not compare.
    """
    is_reduction(reduction)
    in_range("temperature", temperature, 0.0, open_low=True)
    a, b = (normalized(each) for each in _embeddings(input=input, other=other))
    _several(a)
    similarity = products(a, b) / temperature
    values = -F.log_softmax(similarity, 1).diagonal()
    if symmetric:
        values = 0.5 * (values - F.log_softmax(similarity, 0).diagonal())
    return reduce(values, reduction)


def nt_xent_loss(input: Tensor, other: Tensor, *, temperature: float = 0.5, reduction: str = "mean") -> Tensor:
    """NT-Xent: each of the 2N views picks its partner among all others, its own batch too (Chen et al., 2020).

    Args:
        input, other: two views, ``(N, D)``; compared by cosine.
        temperature: more than 0.
        reduction: ``none`` gives ``(2N,)``.
    """
    is_reduction(reduction)
    in_range("temperature", temperature, 0.0, open_low=True)
    a, b = _embeddings(input=input, other=other)
    _several(a)
    number = a.shape[0]
    views = normalized(torch.cat([a, b]))
    itself = torch.eye(2 * number, dtype=torch.bool, device=views.device)
    similarity = (products(views, views) / temperature).masked_fill(itself, float("-inf"))
    partner = torch.arange(2 * number, device=views.device).roll(number)
    return reduce(F.cross_entropy(similarity, partner, reduction="none"), reduction)


def supervised_contrastive_loss(
    input: Tensor, target: Tensor, *, temperature: float = 0.1, reduction: str = "mean"
) -> Tensor:
    """SupCon: the mean of ``-log softmax`` over all others of the same class (Khosla et al., 2020, the outer sum).

    Args:
        input: embeddings, ``(N, D)`` (the views of an example stacked along N); compared by cosine.
        target: class of each, ``(N,)``.
        temperature: more than 0.
        reduction: ``mean`` is over rows that have somebody of their class; ``none`` gives ``(N,)``, 0 for those who
            have not.
    """
    is_reduction(reduction)
    in_range("temperature", temperature, 0.0, open_low=True)
    (x,) = _embeddings(input=input)
    if target.shape != x.shape[:1]:
        raise wrong("target", f"have the shape {tuple(x.shape[:1])}", shape(target))
    itself = torch.eye(x.shape[0], dtype=torch.bool, device=x.device)
    unit = normalized(x)
    log_p = F.log_softmax((products(unit, unit) / temperature).masked_fill(itself, float("-inf")), 1)
    mates = (target[:, None] == target) & ~itself
    number = mates.sum(1)
    values = -torch.where(mates, log_p, 0.0).sum(1) / number.clamp_min(1)
    return reduce(values, reduction, where=number > 0)


def vicreg_loss(
    input: Tensor,
    other: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    target_std: float = 1.0,
    epsilon: float = 1e-4,
) -> Tensor:
    """VICReg: invariance of two views, variance of each dimension, no covariance between them (Bardes et al., 2022).

    Args:
        input, other: ``(N, D)``, N at least 2.
        invariance, variance, covariance: weights of the three terms, at least 0.
        target_std: below this standard deviation a dimension costs something; more than 0.
        epsilon: under the root of the variance, more than 0: a collapsed dimension has a finite gradient.

    Returns:
        a scalar.
    """
    for name, value in (("invariance", invariance), ("variance", variance), ("covariance", covariance)):
        in_range(name, value, 0.0)
    in_range("target_std", target_std, 0.0, open_low=True)
    in_range("epsilon", epsilon, 0.0, open_low=True)
    a, b = _embeddings(input=input, other=other)
    _several(a)
    loss = invariance * ((a - b) ** 2).mean()
    for each in (a, b):
        centred = each - each.mean(0)
        spread = torch.sqrt((centred * centred).sum(0) / (each.shape[0] - 1) + epsilon)
        product = products(centred.T, centred.T) / (each.shape[0] - 1)
        off = (product * product).sum() - (product.diagonal() ** 2).sum()
        loss = loss + variance * F.relu(target_std - spread).mean() / 2 + covariance * off / each.shape[1]
    return loss


def barlow_twins_loss(input: Tensor, other: Tensor, *, off_diagonal: float = 5e-3, epsilon: float = 1e-5) -> Tensor:
    """Barlow Twins: the cross-correlation of two views should be the identity (Zbontar et al., 2021).

    Args:
        input, other: ``(N, D)``, N at least 2.
        off_diagonal: weight of what should be 0, at least 0.
        epsilon: added to the variance of each dimension, more than 0.

    Returns:
        a scalar: the sum over the matrix, so it grows with D.
    """
    in_range("off_diagonal", off_diagonal, 0.0)
    in_range("epsilon", epsilon, 0.0, open_low=True)
    a, b = _embeddings(input=input, other=other)
    _several(a)
    a, b = (
        (each - each.mean(0)) * torch.rsqrt(each.var(0, correction=0) + epsilon)  # the paper's batch norm, not affine
        for each in (a, b)
    )
    correlation = products(a.T, b.T) / a.shape[0]
    on = ((correlation.diagonal() - 1) ** 2).sum()
    off = (correlation * correlation).sum() - (correlation.diagonal() ** 2).sum()
    return on + off_diagonal * off


def normalized(value: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays 0 and has gradient 0 instead of one of 1e12."""
    length = torch.linalg.vector_norm(value, dim=1, keepdim=True)
    return value / torch.where(length > 0, length, 1.0)


def _embeddings(**values: Tensor) -> list[Tensor]:
    (first, like), *rest = values.items()
    is_floating(first, like)
    if like.dim() != 2:
        raise wrong(first, "be (N, D)", shape(like))
    for name, value in rest:
        is_floating(name, value)
        same_shape(like, value, other=name)
    return [precise(value) for value in values.values()]


def _several(value: Tensor) -> None:
    if value.shape[0] < 2:
        raise wrong("input", "have at least two rows: with one there is nothing to tell apart", shape(value))
