"""Negative log-likelihoods of a distribution whose parameters the network predicts.

Convention: as in ``regression``. Spread is predicted as a logarithm, so that it is positive without a clamp, and its
gradient never dies.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lossproof.losses.checks import in_range, is_floating, same_shape
from lossproof.losses.reducing import precise, reduce
from lossproof.losses.regression import _prepare


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    log_variance: Tensor,
    *,
    beta: float = 0.0,
    full: bool = False,
    weight: Tensor | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Gaussian: ``½ (s + (x - y)² exp(-s))`` with ``s = log σ²`` (Nix and Weigend, 1994).

    Args:
        input: the predicted mean.
        target: of the same shape.
        log_variance: ``log σ²``, of the same shape; any real number.
        beta: in [0, 1], weighs each element by ``σ^(2β)``, held constant, against the habit of giving up where it is
            hard (Seitzer et al., 2022); 0.5 is their choice.
        full: add the constant ``½ log 2π``.
        weight, where, reduction: as in ``mse_loss``.

    It may be negative: it is a density.
    """
    in_range("beta", beta, 0.0, 1.0)
    same_shape(input, log_variance, other="log_variance")
    is_floating("log_variance", log_variance)
    x, y, where = _prepare(input, target, weight, where, reduction)
    s = _aligned(log_variance, x, where)
    values = 0.5 * (s + _scaled_square(x - y, s))
    if full:
        values = values + 0.5 * math.log(2 * math.pi)
    if beta:
        values = values * torch.exp(beta * s.detach())
    return reduce(values, reduction, where=where, weight=weight)


def laplace_nll_loss(
    input: Tensor,
    target: Tensor,
    log_scale: Tensor,
    *,
    full: bool = False,
    weight: Tensor | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Laplace: ``s + |x - y| exp(-s)`` with ``s = log b``; the median with a spread, less moved by outliers.

    Args:
        input: the predicted median.
        target, log_scale: of the same shape.
        full: add the constant ``log 2``.
        weight, where, reduction: as in ``mse_loss``.
    """
    same_shape(input, log_scale, other="log_scale")
    is_floating("log_scale", log_scale)
    x, y, where = _prepare(input, target, weight, where, reduction)
    s = _aligned(log_scale, x, where)
    values = s + (x - y).abs() * torch.exp(-s)
    return reduce(values + math.log(2) if full else values, reduction, where=where, weight=weight)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    *,
    full: bool = False,
    weight: Tensor | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Poisson, from the logarithm of the rate: ``exp(x) - y x``.

    Args:
        input: the logarithm of the predicted rate; it must stay below 88 in float32.
        target: counts, at least 0, of the same shape.
        full: add ``log y!``, which does not depend on the prediction.
        weight, where, reduction: as in ``mse_loss``.
    """
    x, y, where = _prepare(input, target, weight, where, reduction)
    values = torch.exp(x) - y * x  # lossproof: ignore[LP204] the rate itself: the docstring says where it ends
    return reduce(values + torch.lgamma(y + 1) if full else values, reduction, where=where, weight=weight)


def negative_binomial_nll_loss(
    input: Tensor,
    target: Tensor,
    log_dispersion: Tensor,
    *,
    full: bool = False,
    weight: Tensor | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative binomial with mean ``μ = exp(x)`` and variance ``μ + μ² / r``, ``r = exp(log_dispersion)``.

    ``(y + r) log(r + μ) - y x - r log r + log Γ(r) - log Γ(y + r)``, for counts that vary more than Poisson's.

    Args:
        input: the logarithm of the predicted mean.
        target: counts, at least 0, of the same shape.
        log_dispersion: ``log r``, broadcastable to ``input``; the larger, the nearer to Poisson.
        full: add ``log y!``.
        weight, where, reduction: as in ``mse_loss``.
    """
    is_floating("log_dispersion", log_dispersion)
    x, y, where = _prepare(input, target, weight, where, reduction)
    s = _aligned(log_dispersion.expand(input.shape), x, where)
    r = torch.exp(s)
    values = (y + r) * F.softplus(x - s) - y * (x - s) + torch.lgamma(r) - torch.lgamma(y + r)
    return reduce(values + torch.lgamma(y + 1) if full else values, reduction, where=where, weight=weight)


def _aligned(value: Tensor, like: Tensor, where: Tensor | None) -> Tensor:
    value = precise(value).to(like.dtype)
    return value if where is None else torch.where(where, value, 0.0)


def _scaled_square(residual: Tensor, log_variance: Tensor) -> Tensor:
    """``r² exp(-s)`` as the square of ``r exp(-s/2)``, which overflows later."""
    scaled = residual * torch.exp(-0.5 * log_variance)
    return scaled * scaled
