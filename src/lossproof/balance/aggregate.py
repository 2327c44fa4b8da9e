"""From the inner products of gradients to the weights of their sum.

Each function takes a Gram matrix ``G = J Jᵀ``, ``(K, K)`` float64 on the CPU, and gives weights ``w``, ``(K,)``; the
update is ``Jᵀ w``. None of them looks at the gradients themselves, so none costs more for a larger model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Aggregator = Callable[[Tensor], Tensor]


def mean(gram: Tensor) -> Tensor:
    """Equal weights: the gradient of the mean."""
    return torch.full_like(gram[0], 1 / len(gram))


def pcgrad(gram: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """PCGrad: each gradient loses its component against every other that it conflicts with (Yu et al., 2020).

    The others are met in a random order, as the paper has it.

    Args:
        generator: of that order; torch's default one otherwise, which the training's own numbers come from.
    """
    number = len(gram)
    total = torch.zeros_like(gram[0])
    for i in range(number):
        weights = torch.zeros_like(total)
        weights[i] = 1
        for j in torch.randperm(number, generator=generator).tolist():
            if j == i or gram[j, j] <= 0:
                continue
            inner = weights @ gram[:, j]
            if inner < 0:
                weights[j] -= inner / gram[j, j]
        total += weights
    return total / number


def mgda(gram: Tensor, *, iterations: int = 250) -> Tensor:
    """MGDA: the shortest vector in the convex hull of the gradients (Désidéri, 2012), by Frank and Wolfe's method.

    It follows the smallest gradient: a task that has converged stops all others.
    """
    weights = mean(gram)
    for _ in range(iterations):
        slope = gram @ weights
        best = int(slope.argmin())
        direction = -weights
        direction[best] += 1
        curvature = direction @ gram @ direction
        if curvature <= 0:
            break
        step = float((-(direction @ slope) / curvature).clamp(0, 1))
        if step < 1e-12:
            break
        weights = weights + step * direction
    return weights


def config(gram: Tensor) -> Tensor:
    """ConFIG: the direction with the same cosine to every gradient, as long as their projections on it (Liu et al.,
    2025)."""
    norms = gram.diagonal().clamp_min(0).sqrt()
    there = norms > 0
    inverse = torch.where(there, 1 / torch.where(there, norms, 1.0), 0.0)
    unit = gram * inverse[:, None] * inverse
    on_units = torch.linalg.pinv(unit, hermitian=True, rtol=1e-10) @ there.to(gram.dtype)
    length = (on_units @ unit @ on_units).clamp_min(0).sqrt()
    if length <= 0:
        return torch.zeros_like(norms)
    on_units = on_units / length
    projected = (unit @ on_units) @ norms
    weights: Tensor = projected * on_units * inverse
    return weights


def upgrad(gram: Tensor, *, iterations: int = 400) -> Tensor:
    """UPGrad: the mean of the gradients, each projected onto the cone that hurts no task (Quinton and Rey, 2024).

    Row ``i``'s projection is ``argmin w G w`` over ``w >= e_i``, found coordinate by coordinate.
    """
    number = len(gram)
    floor = torch.eye(number, dtype=gram.dtype)
    weights = floor.clone()
    diagonal = gram.diagonal()
    live = [j for j in range(number) if diagonal[j] > 0]
    for _ in range(iterations):
        largest = 0.0
        for j in live:
            slope = weights @ gram[:, j]
            new = torch.maximum(weights[:, j] - slope / diagonal[j], floor[:, j])
            largest = max(largest, float((new - weights[:, j]).abs().max()))
            weights[:, j] = new
        if largest < 1e-10:
            break
    return weights.mean(0)


def cagrad(gram: Tensor, *, c: float = 0.5, iterations: int = 100) -> Tensor:
    """CAGrad: near the mean gradient, the direction whose worst task gains most (Liu et al., 2021).

    Args:
        c: in [0, 1): how far from the mean it may go; 0 is the mean.
    """
    average = mean(gram)
    length = (average @ gram @ average).clamp_min(0).sqrt()
    if c == 0 or length <= 0:
        return average
    radius = c * length
    towards = gram @ average
    weights = average.clone()
    for step in range(iterations):
        norm = (weights @ gram @ weights).clamp_min(1e-30).sqrt()
        best = int((towards + radius * (gram @ weights) / norm).argmin())
        corner = torch.zeros_like(weights)
        corner[best] = 1
        weights = weights + 2 / (step + 2) * (corner - weights)
    norm = (weights @ gram @ weights).clamp_min(0).sqrt()
    if norm <= 0:
        return average
    return average + radius / norm * weights


AGGREGATORS: dict[str, Aggregator] = {
    "mean": mean,
    "pcgrad": pcgrad,
    "mgda": mgda,
    "config": config,
    "upgrad": upgrad,
    "cagrad": cagrad,
}


def on_unit_rows(gram: Tensor, aggregate: Aggregator) -> Tensor:
    """Normalize, then project: the weights for the gradients made of length 1, times their common scale.

    Projected as they are, gradients whose norms differ by a factor of 100 end in an update that hurts the small one
    (cosine -0.34 with UPGrad); from unit rows it helps each. The result is as long as it would be if every gradient had
    the geometric mean of their norms.
    """
    norms = gram.diagonal().clamp_min(0).sqrt()
    there = norms > 0
    if not bool(there.any()):
        return mean(gram)
    inverse = torch.where(there, 1 / torch.where(there, norms, 1.0), 0.0)
    scale = torch.exp(torch.log(norms[there]).mean())
    unit = gram * inverse[:, None] * inverse
    return aggregate(unit) * inverse * scale
