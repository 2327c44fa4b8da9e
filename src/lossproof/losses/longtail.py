"""Cross entropy for classes of very different frequency.

Convention: as in ``classes``. Every one of these moves what the logits mean: ``logit_adjusted_loss`` and
``balanced_softmax_loss`` make them those of a balanced set at no cost to consistency; weights and margins do not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossproof.losses.checks import class_dim, class_target, in_range, shape, wrong
from lossproof.losses.classes import IGNORE, cross_entropy
from lossproof.losses.reducing import precise


def class_balanced_weight(counts: Tensor, *, beta: float = 0.999) -> Tensor:
    """Class weights by effective number: ``(1 - β) / (1 - βⁿ)``, scaled to a mean of 1 (Cui et al., 2019).

    Args:
        counts: how often each class occurs in the training set, ``(C,)``, at least 0.
        beta: in [0, 1]. 0 weighs nothing, 1 is the inverse frequency; 0.9 to 0.9999 lie between.

    Returns:
        float32 ``(C,)``, for ``weight`` of ``cross_entropy`` or ``alpha`` of ``focal_loss``. A class that never occurs
        has
        the weight 0: there is nothing to weigh, and it does not shrink the others.
    """
    in_range("beta", beta, 0.0, 1.0)
    counts = _counts(counts)
    there = counts > 0
    number = counts if beta == 1.0 else torch.expm1(counts * torch.log(torch.tensor(beta, dtype=torch.float64))).neg()
    number = number if beta > 0 else torch.ones_like(counts)
    weight = torch.where(there, 1 / torch.where(there, number, 1.0), 0.0)
    return (weight * there.sum() / weight.sum()).float().to(counts.device)


def logit_adjusted_loss(
    input: Tensor,
    target: Tensor,
    counts: Tensor,
    *,
    tau: float = 1.0,
    weight: Tensor | None = None,
    ignore_index: int = IGNORE,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy of ``x + τ log π`` with ``π`` the class frequencies (Menon et al., 2021).

    The logits learn what a balanced set would teach; predict with ``argmax(x)``, without the adjustment.

    Args:
        input, target, weight, ignore_index, label_smoothing, reduction: as in ``cross_entropy``.
        counts: how often each class occurs in the training set, ``(C,)``. A class that never occurs counts as half an
            example.
        tau: strength, at least 0; 1 is consistent for the balanced error.
    """
    in_range("tau", tau, 0.0)
    class_target(input, target)
    x, dim = precise(input), class_dim(input)
    prior = _prior(counts, x.shape[dim], "counts").to(x)
    adjusted = x + tau * prior.view([-1] + [1] * (x.dim() - dim - 1))
    return cross_entropy(
        adjusted, target, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
    )


def balanced_softmax_loss(
    input: Tensor,
    target: Tensor,
    counts: Tensor,
    *,
    ignore_index: int = IGNORE,
    reduction: str = "mean",
) -> Tensor:
    """Balanced softmax: ``-log(n_y exp x_y / Σ n_c exp x_c)`` (Ren et al., 2020): logit adjustment with τ = 1.

    Args: as in ``logit_adjusted_loss``.
    """
    return logit_adjusted_loss(input, target, counts, ignore_index=ignore_index, reduction=reduction)


def ldam_loss(
    input: Tensor,
    target: Tensor,
    counts: Tensor,
    *,
    max_margin: float = 0.5,
    scale: float = 30.0,
    weight: Tensor | None = None,
    ignore_index: int = IGNORE,
    reduction: str = "mean",
) -> Tensor:
    """LDAM: cross entropy of ``s (x - Δ_y)`` at the target, ``Δ_c ∝ n_c^(-1/4)`` with the largest ``max_margin`` (Cao
    et al., 2019).

    Args:
        input: *cosines*, in [-1, 1]: normalized features times normalized class weights, ``(N, C)``. With unbounded
            logits the margin means nothing.
        target, weight, ignore_index, reduction: as in ``cross_entropy``. The paper turns ``weight`` on late in
            training.
        counts: how often each class occurs in the training set, ``(C,)``.
        max_margin: of the rarest class, at least 0.
        scale: s, more than 0.
    """
    in_range("max_margin", max_margin, 0.0)
    in_range("scale", scale, 0.0, open_low=True)
    class_target(input, target)
    x, dim = precise(input), class_dim(input)
    counts = _counts(counts, x.shape[dim]).clamp_min(0.5)
    margin = counts**-0.25
    margin = (margin * (max_margin / margin.max())).to(x)
    index = torch.where(target == ignore_index, 0, target).long()
    shifted = x - margin[index].unsqueeze(dim) * F.one_hot(index, x.shape[dim]).movedim(-1, dim).to(x.dtype)
    return cross_entropy(scale * shifted, target, weight=weight, ignore_index=ignore_index, reduction=reduction)


def _counts(counts: Tensor, classes: int | None = None) -> Tensor:
    if not isinstance(counts, Tensor) or counts.dim() != 1 or (classes is not None and counts.shape[0] != classes):
        found = shape(counts) if isinstance(counts, Tensor) else repr(counts)
        raise wrong("counts", f"have a count for each class, ({'C' if classes is None else classes},)", found)
    return counts.double()


def _prior(counts: Tensor, classes: int, name: str) -> Tensor:
    counts = _counts(counts, classes).clamp_min(0.5)
    return torch.log(counts / counts.sum())
