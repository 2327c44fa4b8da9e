"""Losses of a number against a number.

Convention
    ``input`` and ``target`` have one shape, any; ``(N, 1)`` and ``(N,)`` are refused, not broadcast to ``(N, N)``.
    ``weight`` scales each element and is broadcastable; ``mean`` then divides by the sum of the weights that count, so
    that weights of 2 everywhere change nothing. ``where`` says which elements count; what does not count may hold
    anything, NaN too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lossproof.losses.checks import (
    broadcasts,
    in_range,
    is_floating,
    is_mask,
    is_reduction,
    is_tensor,
    same_shape,
    shape,
    wrong,
)
from lossproof.losses.reducing import precise, reduce


def mse_loss(
    input: Tensor, target: Tensor, *, weight: Tensor | None = None, where: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """Mean squared error: ``(x - y)²``. Its optimum is the mean; one outlier of 100 σ weighs like 10,000 others.

    Args:
        input, target: of one shape.
        weight: of each element, at least 0; broadcastable.
        where: bool, which elements count; broadcastable.
        reduction: ``none``, ``mean`` or ``sum``.
    """
    x, y, where = _prepare(input, target, weight, where, reduction)
    residual = x - y
    return reduce(residual * residual, reduction, where=where, weight=weight)


def l1_loss(
    input: Tensor, target: Tensor, *, weight: Tensor | None = None, where: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """Mean absolute error: ``|x - y|``. Its optimum is the median; its slope does not shrink near it.

    Args: as in ``mse_loss``.
    """
    x, y, where = _prepare(input, target, weight, where, reduction)
    return reduce((x - y).abs(), reduction, where=where, weight=weight)


def huber_loss(
    input: Tensor,
    target: Tensor,
    *,
    delta: float = 1.0,
    weight: Tensor | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Huber loss: ``r²/2`` up to ``δ``, then ``δ (|r| - δ/2)`` (Huber, 1964).

    Args:
        delta: in units of the target, more than 0: residuals beyond it count as outliers.
        the others: as in ``mse_loss``.
    """
    in_range("delta", delta, 0.0, open_low=True)
    x, y, where = _prepare(input, target, weight, where, reduction)
    return reduce(F.huber_loss(x, y, reduction="none", delta=delta), reduction, where=where, weight=weight)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    *,
    beta: float = 1.0,
    weight: Tensor | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Smooth L1: the Huber loss divided by its ``β`` (Girshick, 2015): slope 1 in the tail whatever ``β`` is.

    Args:
        beta: in units of the target, more than 0.
        the others: as in ``mse_loss``.
    """
    in_range("beta", beta, 0.0, open_low=True)
    x, y, where = _prepare(input, target, weight, where, reduction)
    return reduce(F.smooth_l1_loss(x, y, reduction="none", beta=beta), reduction, where=where, weight=weight)


def log_cosh_loss(
    input: Tensor, target: Tensor, *, weight: Tensor | None = None, where: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """``log cosh(x - y)``: ``r²/2`` near 0, ``|r| - ln 2`` far away, smooth throughout; never overflows.

    Args: as in ``mse_loss``.
    """
    x, y, where = _prepare(input, target, weight, where, reduction)
    size = (x - y).abs()
    # |r| + log1p(exp(-2|r|)) - ln 2 would cancel near 0, where half the square is exact to the last digit.
    small = size < 1e-2
    far = torch.where(small, 1.0, size)
    square = torch.where(small, size, 0.0) ** 2
    near = square * (0.5 - square * (1 / 12 - square / 45))
    return reduce(
        torch.where(small, near, far + torch.log1p(torch.exp(-2 * far)) - math.log(2)),
        reduction,
        where=where,
        weight=weight,
    )


def quantile_loss(
    input: Tensor,
    target: Tensor,
    quantiles: float | Sequence[float],
    *,
    weight: Tensor | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Quantile (pinball) loss: ``max(q (y - x), (q - 1)(y - x))`` (Koenker and Bassett, 1978); its optimum is the
    quantile.

    Args:
        input: ``(...)`` for one quantile, ``(..., Q)`` for several.
        target: ``(...)``.
        quantiles: each in (0, 1).
        weight, where: of each element of ``target``.
        reduction: ``none`` has the shape of ``input``.
    """
    is_reduction(reduction)
    is_floating("input", input)
    several = isinstance(quantiles, Sequence)
    levels = list(quantiles) if isinstance(quantiles, Sequence) else [quantiles]
    for level in levels:
        if not 0.0 < level < 1.0:
            raise wrong("quantiles", "lie in (0, 1)", repr(level))
    x = precise(input)
    if several:
        if x.shape != (*target.shape, len(levels)):
            raise wrong("input", f"be {(*target.shape, len(levels))}: a column for each quantile", shape(input))
        target = target.unsqueeze(-1).expand_as(x)
        weight = None if weight is None else weight.unsqueeze(-1)
        where = None if where is None else where.unsqueeze(-1)
    x, y, where = _prepare(x, target, weight, where, reduction)
    level_of = torch.tensor(levels if several else levels[0], dtype=x.dtype, device=x.device)
    short = y - x
    return reduce(torch.maximum(level_of * short, (level_of - 1) * short), reduction, where=where, weight=weight)


def charbonnier_loss(
    input: Tensor,
    target: Tensor,
    *,
    epsilon: float = 1e-3,
    weight: Tensor | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Charbonnier loss: ``sqrt(r² + ε²) - ε`` (Charbonnier et al., 1994): an L1 that is smooth at 0.

    Args:
        epsilon: in units of the target, more than 0: where the quadratic bottom ends.
        the others: as in ``mse_loss``.
    """
    in_range("epsilon", epsilon, 0.0, open_low=True)
    x, y, where = _prepare(input, target, weight, where, reduction)
    residual = x - y
    # r² / (sqrt(r² + ε²) + ε) in an order that neither cancels near 0 nor overflows far away.
    values = residual * (residual / (torch.hypot(residual, residual.new_tensor(epsilon)) + epsilon))
    return reduce(values, reduction, where=where, weight=weight)


def cauchy_loss(
    input: Tensor,
    target: Tensor,
    *,
    scale: float = 1.0,
    weight: Tensor | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cauchy (Lorentzian) loss: ``c² log(1 + (r/c)² / 2)``: outliers pull less the farther they are.

    Args:
        scale: ``c`` in units of the target, more than 0.
        the others: as in ``mse_loss``.

    Not convex: start from a reasonable prediction.
    """
    return robust_loss(input, target, shape_alpha=0.0, scale=scale, weight=weight, where=where, reduction=reduction)


def welsch_loss(
    input: Tensor,
    target: Tensor,
    *,
    scale: float = 1.0,
    weight: Tensor | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Welsch (Leclerc) loss: ``c² (1 - exp(-(r/c)² / 2))``: outliers stop counting at all, and so does what starts far
    off.

    Args: as in ``cauchy_loss``.
    """
    return robust_loss(
        input, target, shape_alpha=-math.inf, scale=scale, weight=weight, where=where, reduction=reduction
    )


def robust_loss(
    input: Tensor,
    target: Tensor,
    *,
    shape_alpha: float = 1.0,
    scale: float = 1.0,
    weight: Tensor | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The general robust loss (Barron, 2019), times ``c²`` so that it is ``r²/2`` near 0 whatever the scale.

    ``c² |α-2|/α ((( r/c)² / |α-2| + 1)^{α/2} - 1)``; α = 2 is the square, 1 Charbonnier's, 0 Cauchy's, -2 Geman and
    McClure's, -inf Welsch's.

    Args:
        shape_alpha: α, at most 2: the smaller, the less an outlier pulls.
        scale: ``c`` in units of the target, more than 0.
        the others: as in ``mse_loss``.
    """
    in_range("scale", scale, 0.0, open_low=True)
    if math.isnan(shape_alpha) or shape_alpha > 2:
        raise wrong("shape_alpha", "be at most 2", repr(shape_alpha))
    x, y, where = _prepare(input, target, weight, where, reduction)
    ratio = (x - y) / scale
    if shape_alpha == 2:
        values = 0.5 * ratio * ratio
    elif shape_alpha == 0:
        values = _log_one_plus_square(ratio / math.sqrt(2))
    elif shape_alpha == -math.inf:
        values = -torch.expm1(-0.5 * ratio.clamp(-1e4, 1e4) ** 2)
    else:
        away = abs(shape_alpha - 2)
        grown = _log_one_plus_square(ratio / math.sqrt(away))
        values = away / shape_alpha * torch.expm1(0.5 * shape_alpha * grown)
    return reduce(values * scale * scale, reduction, where=where, weight=weight)


def scale_invariant_log_loss(
    input: Tensor,
    target: Tensor,
    *,
    variance_focus: float = 0.5,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Scale-invariant loss of log depth: ``mean(d²) - λ mean(d)²`` with ``d = x - log y`` (Eigen et al., 2014).

    Args:
        input: the *logarithm* of the predicted depth, ``(N, ...)``: predict the logarithm, and nothing has to be
            clamped.
        target: the depth itself, more than 0 where it counts, ``(N, ...)``; elements that are not are left out.
        variance_focus: λ in [0, 1]: at 1 a common factor of all depths costs nothing.
        where: bool, which elements count.
        reduction: over the images; ``none`` gives ``(N,)``.
    """
    in_range("variance_focus", variance_focus, 0.0, 1.0)
    is_floating("target", target)
    known = target > 0
    x, y, where = _prepare(input, target, None, known if where is None else known & where, reduction, fill=1.0)
    if x.dim() == 0:
        raise wrong("input", "be (N, ...)", shape(input))
    counts = known if where is None else where.expand_as(x)
    counts, x, y = (each.reshape(each.shape[0], -1) for each in (counts, x, y))
    number = counts.sum(1).clamp_min(1)
    d = torch.where(counts, x - torch.log(y), 0.0)
    mean = d.sum(1) / number
    centred = torch.where(counts, d - mean[:, None], 0.0)
    # mean(d²) - mean(d)² is the variance: from centred differences it cannot come out negative.
    values = (centred * centred).sum(1) / number + (1 - variance_focus) * mean * mean
    return reduce(values, reduction, where=counts.any(1))


def log_ratio_loss(
    input: Tensor,
    target: Tensor,
    *,
    squared: bool = True,
    weight: Tensor | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Relative error that treats twice and half alike: ``(log x - log y)²``, or its absolute value.

    The sound form of ``log(pred / target).mean()``, which is signed and falls without bound as the prediction goes to
    0.

    Args:
        input: the *logarithm* of the prediction: predict it, so that no guard is needed.
        target: more than 0 where it counts.
        squared: the square, else the absolute value.
        weight, where, reduction: as in ``mse_loss``. A target of 0 or below raises on the CPU, and asserts on an
            accelerator.
    """
    is_floating("target", target)
    x, y, where = _prepare(input, target, weight, where, reduction, fill=1.0)
    torch._assert_async((y > 0).all(), "log_ratio_loss: every target that counts should be more than 0")
    d = x - torch.log(y)  # lossproof: ignore[LP202] asserted in the line above
    return reduce(d * d if squared else d.abs(), reduction, where=where, weight=weight)


class TargetScaler(torch.nn.Module):
    """Standardize targets for training, and turn predictions back: ``(y - mean) / std`` for each column.

    A loss on raw targets of different sizes learns the largest. Fit it once on the training targets; the figures are
    buffers, so they travel with the checkpoint.

    Args:
        columns: the shape of one target, ``()`` for a number.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, columns: Sequence[int] = ()) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(tuple(columns)))
        self.register_buffer("std", torch.ones(tuple(columns)))

    @torch.no_grad()
    def fit(self, target: Tensor) -> TargetScaler:
        """Take mean and standard deviation over the first dimension; a column that does not vary keeps the scale 1."""
        is_floating("target", target)
        if target.dim() == 0 or tuple(target.shape[1:]) != tuple(self.mean.shape):
            raise wrong("target", f"be (N, {', '.join(map(str, self.mean.shape))})", shape(target))
        if not bool(torch.isfinite(target).all()):
            raise wrong("target", "be finite", "NaN or Inf")
        y = target.double()
        std = y.std(0, correction=0)
        self.mean.copy_(y.mean(0))
        self.std.copy_(torch.where(std > 0, std, 1.0))
        return self

    def forward(self, target: Tensor) -> Tensor:
        """Targets as the loss should see them."""
        return (target - self.mean) / self.std

    def inverse(self, prediction: Tensor) -> Tensor:
        """Predictions in the units of the targets."""
        return prediction * self.std + self.mean


def _prepare(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    where: Tensor | None,
    reduction: str,
    fill: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Checked arguments in one precision; what does not count is replaced, so that a NaN in it reaches no gradient."""
    is_reduction(reduction)
    is_floating("input", input)
    is_tensor("target", target)
    if target.dtype.is_complex or target.dtype == torch.bool:
        raise wrong("target", "be real numbers", f"dtype {target.dtype}")
    same_shape(input, target)
    if weight is not None:
        broadcasts("weight", weight, input)
    x = precise(input)
    y = target.to(torch.promote_types(x.dtype, target.dtype)) if target.dtype.is_floating_point else target.to(x.dtype)
    if y.dtype != x.dtype:
        x = x.to(y.dtype)
    if where is not None:
        is_mask("where", where, input)
        x, y = torch.where(where, x, fill), torch.where(where, y, fill)
    return x, y, where


def _log_one_plus_square(value: Tensor) -> Tensor:
    """``log(1 + z²)`` also where the square overflows."""
    size = value.abs()
    far = size > 1e4
    near = torch.where(far, 0.0, value)
    distant = torch.where(far, size, 1.0)
    return torch.where(far, 2 * torch.log(distant), torch.log1p(near * near))
