"""Every loss in one table: how to call it, what it should be by its formula, and what is true of it.

``tests/test_losses.py`` runs the same checks over all of them, so that a new loss is a new entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lossproof import losses as L

Call = Callable[..., Tensor]
D = torch.float64


@dataclass(frozen=True)
class Case:
    """One loss with one setting.

    ``make(dtype)`` gives the arguments, prediction first. ``reference`` is the formula written out, for ``mean``.
    """

    name: str
    call: Call
    make: Callable[[torch.dtype], tuple[Tensor, ...]]
    reference: Call
    target: str
    """``binary``, ``classes``, ``numbers``, ``masks``, ``regions`` or ``other``: which of the checks make sense."""
    mean_of_elements: bool = True
    """Whether ``mean`` is the mean of ``none``."""
    reductions: bool = True
    saturates: bool = False
    """Whether the formula itself has a vanishing gradient at a confidently wrong prediction."""
    ignores: bool = True
    """Whether it takes ``ignore_index`` (or ``where``, for numbers)."""
    smooth: bool = True
    """Whether it has a second derivative that can be checked."""
    batched: bool = True
    """Whether examples do not look at each other, so that batches can be joined."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits(dtype: torch.dtype, *shape: int, seed: int = 0) -> Tensor:
    return (torch.randn(*shape, generator=seeded(seed), dtype=D) * 2).to(dtype)


def binary(dtype: torch.dtype) -> tuple[Tensor, ...]:
    return logits(dtype, 6, 3), (torch.rand(6, 3, generator=seeded(1)) > 0.6).to(dtype)


def soft(dtype: torch.dtype) -> tuple[Tensor, ...]:
    return logits(dtype, 6, 3), torch.rand(6, 3, generator=seeded(1), dtype=D).to(dtype)


def classes(dtype: torch.dtype) -> tuple[Tensor, ...]:
    return logits(dtype, 6, 4), torch.tensor([0, 1, 2, 3, 1, 0])


def pixels(dtype: torch.dtype) -> tuple[Tensor, ...]:
    return logits(dtype, 2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4), generator=seeded(1))


def masks(dtype: torch.dtype) -> tuple[Tensor, ...]:
    return logits(dtype, 2, 2, 4, 4), (torch.rand(2, 2, 4, 4, generator=seeded(1)) > 0.6).to(dtype)


def numbers(dtype: torch.dtype) -> tuple[Tensor, ...]:
    return logits(dtype, 6, 3), logits(dtype, 6, 3, seed=1)


def positive(dtype: torch.dtype) -> tuple[Tensor, ...]:
    return logits(dtype, 6, 3), logits(D, 6, 3, seed=1).exp().to(dtype)


def tally(dtype: torch.dtype) -> tuple[Tensor, ...]:
    return logits(dtype, 6, 3) / 2, torch.randint(0, 6, (6, 3), generator=seeded(1)).to(dtype)


def probability(x: Tensor, t: Tensor) -> Tensor:
    p = torch.sigmoid(x)
    return p * t + (1 - p) * (1 - t)


def bce(x: Tensor, t: Tensor) -> Tensor:
    return -(t * F.logsigmoid(x) + (1 - t) * F.logsigmoid(-x))


def of_class(x: Tensor, y: Tensor) -> Tensor:
    """The softmax probability of the target."""
    e = torch.exp(x - x.amax(1, keepdim=True))
    return (e / e.sum(1, keepdim=True)).gather(1, y.unsqueeze(1)).squeeze(1)


def one_hot(x: Tensor, y: Tensor) -> Tensor:
    return F.one_hot(y, x.shape[1]).movedim(-1, 1).to(x.dtype)


def regions(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and truth of each channel, flattened, for either kind of target."""
    if x.shape == y.shape:
        return torch.sigmoid(x).flatten(2), y.flatten(2)
    return torch.softmax(x, 1).flatten(2), one_hot(x, y).flatten(2)


def tversky(x: Tensor, y: Tensor, a: float, b: float, power: float = 1.0) -> Tensor:
    p, t = regions(x, y)
    both = (p * t).sum(2)
    return ((1 - both / (both + a * (p * (1 - t)).sum(2) + b * ((1 - p) * t).sum(2))) ** power).mean()


def generalized(x: Tensor, y: Tensor) -> Tensor:
    p, t = regions(x, y)
    w = 1 / t.sum(2) ** 2
    return (1 - 2 * (w * (p * t).sum(2)).sum(1) / (w * (p + t).sum(2)).sum(1)).mean()


def lovasz_row(errors: Tensor, truth: Tensor) -> Tensor:
    """The extension by its definition: errors in falling order, times the growth of the Jaccard loss of the set so
    far."""
    order = errors.argsort(descending=True)
    total, missed, false, before = errors.new_zeros(()), 0.0, 0.0, 0.0
    positives = float(truth.sum())
    for index in order:
        missed, false = missed + float(truth[index]), false + 1 - float(truth[index])
        now = 1 - (positives - missed) / (positives + false)
        total, before = total + errors[index] * (now - before), now
    return total


def lovasz_softmax(x: Tensor, y: Tensor) -> Tensor:
    p, t = regions(x, y)
    each = [
        lovasz_row((t[n, c] - p[n, c]).abs(), t[n, c])
        for n in range(t.shape[0])
        for c in range(t.shape[1])
        if t[n, c].any()
    ]
    return torch.stack(each).mean()


def barron(r: Tensor, alpha: float, c: float) -> Tensor:
    if alpha == 0:
        return c * c * torch.log(0.5 * (r / c) ** 2 + 1)
    away = abs(alpha - 2)
    return c * c * away / alpha * (((r / c) ** 2 / away + 1) ** (alpha / 2) - 1)


COUNTS = torch.tensor([100.0, 30.0, 10.0, 3.0], dtype=D)
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=D)

LOSSES = [
    Case("bce", L.binary_cross_entropy_with_logits, binary, lambda x, t: bce(x, t).mean(), "binary"),
    Case(
        "bce-pos-weight-smoothed",
        lambda x, t, **k: L.binary_cross_entropy_with_logits(x, t, pos_weight=3.0, label_smoothing=0.2, **k),
        binary,
        lambda x, t: (-(3 * (t * 0.8 + 0.1) * F.logsigmoid(x) + (1 - t * 0.8 - 0.1) * F.logsigmoid(-x))).mean(),
        "binary",
    ),
    *(
        Case(
            f"binary-focal-{gamma}",
            lambda x, t, gamma=gamma, **k: L.binary_focal_loss(x, t, gamma=gamma, **k),
            binary,
            lambda x, t, gamma=gamma: ((1 - probability(x, t)) ** gamma * bce(x, t)).mean(),
            "binary",
        )
        for gamma in (0.0, 0.5, 1.0, 2.0, 3.5)
    ),
    *(
        Case(
            f"binary-focal-soft-{gamma}",
            lambda x, t, gamma=gamma, **k: L.binary_focal_loss(x, t, gamma=gamma, **k),
            soft,
            lambda x, t, gamma=gamma: ((1 - probability(x, t)) ** gamma * bce(x, t)).mean(),
            "binary",
            ignores=False,
        )
        for gamma in (1.5, 2.0)
    ),
    Case(
        "binary-focal-alpha",
        lambda x, t, **k: L.binary_focal_loss(x, t, alpha=0.25, **k),
        binary,
        lambda x, t: ((0.25 * t + 0.75 * (1 - t)) * (1 - probability(x, t)) ** 2 * bce(x, t)).mean(),
        "binary",
    ),
    Case(
        "asymmetric",
        L.asymmetric_loss,
        binary,
        lambda x, t: (
            -t * (1 - torch.sigmoid(x)) * torch.log(torch.sigmoid(x))
            - (1 - t) * F.relu(torch.sigmoid(x) - 0.05) ** 4 * torch.log(1 - F.relu(torch.sigmoid(x) - 0.05))
        ).mean(),
        "binary",
        saturates=True,
    ),
    Case(
        "asymmetric-unclipped",
        lambda x, t, **k: L.asymmetric_loss(x, t, clip=0.0, gamma_neg=2.0, gamma_pos=0.5, **k),
        binary,
        lambda x, t: (
            -t * (1 - torch.sigmoid(x)) ** 0.5 * torch.log(torch.sigmoid(x))
            - (1 - t) * torch.sigmoid(x) ** 2 * torch.log(1 - torch.sigmoid(x))
        ).mean(),
        "binary",
    ),
    Case(
        "binary-poly",
        L.binary_poly_loss,
        binary,
        lambda x, t: (bce(x, t) + 1 - probability(x, t)).mean(),
        "binary",
    ),
    Case(
        "binary-hinge",
        L.binary_hinge_loss,
        binary,
        lambda x, t: (1 - x * (2 * t - 1)).clamp(min=0).mean(),
        "binary",
        smooth=False,
    ),
    Case("cross-entropy", L.cross_entropy, classes, lambda x, y: -torch.log(of_class(x, y)).mean(), "classes"),
    Case("cross-entropy-pixels", L.cross_entropy, pixels, lambda x, y: -torch.log(of_class(x, y)).mean(), "classes"),
    Case(
        "cross-entropy-chunked",
        lambda x, y, **k: L.cross_entropy(x, y, chunked=True, **k),
        pixels,
        lambda x, y: -torch.log(of_class(x, y)).mean(),
        "classes",
    ),
    Case(
        "cross-entropy-weight",
        lambda x, y, **k: L.cross_entropy(x, y, weight=WEIGHT, **k),
        classes,
        lambda x, y: (-torch.log(of_class(x, y)) * WEIGHT[y]).sum() / WEIGHT[y].sum(),
        "classes",
        mean_of_elements=False,
        batched=False,
    ),
    Case(
        "cross-entropy-smoothed",
        lambda x, y, **k: L.cross_entropy(x, y, label_smoothing=0.1, **k),
        classes,
        lambda x, y: -((one_hot(x, y) * 0.9 + 0.025) * torch.log(torch.softmax(x, 1))).sum(1).mean(),
        "classes",
    ),
    *(
        Case(
            f"focal-{gamma}",
            lambda x, y, gamma=gamma, **k: L.focal_loss(x, y, gamma=gamma, **k),
            pixels,
            lambda x, y, gamma=gamma: (-((1 - of_class(x, y)) ** gamma) * torch.log(of_class(x, y))).mean(),
            "classes",
        )
        for gamma in (0.0, 0.5, 2.0)
    ),
    Case(
        "focal-alpha",
        lambda x, y, **k: L.focal_loss(x, y, alpha=WEIGHT, **k),
        classes,
        lambda x, y: (-WEIGHT[y] * (1 - of_class(x, y)) ** 2 * torch.log(of_class(x, y))).mean(),
        "classes",
    ),
    Case(
        "poly",
        L.poly_loss,
        classes,
        lambda x, y: (-torch.log(of_class(x, y)) + 1 - of_class(x, y)).mean(),
        "classes",
    ),
    Case(
        "hinge",
        L.multi_class_hinge_loss,
        classes,
        lambda x, y: torch.stack(
            [
                F.relu(1 + max(v for c, v in enumerate(row) if c != int(k)) - row[int(k)])
                for row, k in zip(x, y, strict=True)
            ]
        ).mean(),
        "classes",
        smooth=False,
    ),
    Case(
        "logit-adjusted",
        lambda x, y, **k: L.logit_adjusted_loss(x, y, COUNTS, **k),
        classes,
        lambda x, y: -torch.log(of_class(x + torch.log(COUNTS / COUNTS.sum()), y)).mean(),
        "classes",
    ),
    Case(
        "balanced-softmax",
        lambda x, y, **k: L.balanced_softmax_loss(x, y, COUNTS, **k),
        classes,
        lambda x, y: -torch.log((COUNTS * x.exp()).gather(1, y[:, None])[:, 0] / (COUNTS * x.exp()).sum(1)).mean(),
        "classes",
    ),
    Case(
        "ldam",
        lambda x, y, **k: L.ldam_loss(x, y, COUNTS, scale=2.0, **k),
        classes,
        lambda x, y: -torch.log(of_class(2 * (x - one_hot(x, y) * 0.5 * (COUNTS / COUNTS.min()) ** -0.25), y)).mean(),
        "classes",
    ),
    Case(
        "generalized-cross-entropy",
        L.generalized_cross_entropy_loss,
        classes,
        lambda x, y: ((1 - of_class(x, y) ** 0.7) / 0.7).mean(),
        "classes",
        saturates=True,
    ),
    Case(
        "symmetric-cross-entropy",
        L.symmetric_cross_entropy_loss,
        classes,
        lambda x, y: (-0.1 * torch.log(of_class(x, y)) + 4 * (1 - of_class(x, y))).mean(),
        "classes",
    ),
    Case(
        "coral",
        L.coral_loss,
        lambda dtype: (logits(dtype, 6, 3), torch.tensor([0, 1, 2, 3, 1, 0])),
        lambda x, y: bce(x, (y[:, None] > torch.arange(3)).to(x.dtype)).sum(1).mean(),
        "other",
    ),
    Case(
        "corn",
        L.corn_loss,
        lambda dtype: (logits(dtype, 6, 3), torch.tensor([0, 1, 2, 3, 1, 0])),
        lambda x, y: (
            sum((bce(x[y >= k, k], (y[y >= k] > k).to(x.dtype)).sum() for k in range(3)), start=x.new_zeros(()))
            / sum(int((y >= k).sum()) for k in range(3))
        ),
        "other",
        mean_of_elements=False,
        batched=False,
    ),
    Case(
        "distillation",
        L.distillation_loss,
        lambda dtype: (logits(dtype, 6, 4), logits(dtype, 6, 4, seed=1)),
        lambda x, t: (
            16
            * (torch.softmax(t / 4, 1) * (torch.log(torch.softmax(t / 4, 1)) - torch.log(torch.softmax(x / 4, 1)))).sum(
                1
            )
        ).mean(),
        "other",
    ),
    Case(
        "dice-classes",
        L.dice_loss,
        pixels,
        lambda x, y: tversky(x, y, 0.5, 0.5),
        "regions",
        saturates=True,
    ),
    Case("dice", L.dice_loss, masks, lambda x, y: tversky(x, y, 0.5, 0.5), "masks", saturates=True),
    Case(
        "dice-squared",
        lambda x, t, **k: L.dice_loss(x, t, squared=True, smooth=1.0, **k),
        masks,
        lambda x, y: (
            1
            - (2 * (regions(x, y)[0] * regions(x, y)[1]).sum(2) + 1)
            / ((regions(x, y)[0] ** 2).sum(2) + (regions(x, y)[1] ** 2).sum(2) + 1)
        ).mean(),
        "masks",
        saturates=True,
    ),
    Case("jaccard", L.jaccard_loss, pixels, lambda x, y: tversky(x, y, 1, 1), "regions", saturates=True),
    Case("tversky", L.tversky_loss, masks, lambda x, y: tversky(x, y, 0.3, 0.7), "masks", saturates=True),
    Case(
        "focal-tversky",
        lambda x, t, **k: L.tversky_loss(x, t, gamma=0.75, **k),
        pixels,
        lambda x, y: tversky(x, y, 0.3, 0.7, 0.75),
        "regions",
        saturates=True,
    ),
    Case(
        "log-cosh-dice",
        L.log_cosh_dice_loss,
        masks,
        lambda x, y: torch.log(
            torch.cosh(
                1
                - 2 * (regions(x, y)[0] * regions(x, y)[1]).sum(2) / (regions(x, y)[0].sum(2) + regions(x, y)[1].sum(2))
            )
        ).mean(),
        "masks",
        saturates=True,
    ),
    Case("generalized-dice", L.generalized_dice_loss, pixels, generalized, "regions", saturates=True),
    Case(
        "lovasz-hinge",
        L.lovasz_hinge_loss,
        lambda dtype: (logits(dtype, 3, 4, 4), (torch.rand(3, 4, 4, generator=seeded(1)) > 0.6).to(dtype)),
        lambda x, y: torch.stack(
            [lovasz_row(F.relu(1 - a * (2 * b - 1)), b) for a, b in zip(x.flatten(1), y.flatten(1), strict=True)]
        ).mean(),
        "masks",
        smooth=False,
    ),
    Case(
        "lovasz-softmax",
        L.lovasz_softmax_loss,
        pixels,
        lovasz_softmax,
        "regions",
        saturates=True,
        smooth=False,
        batched=False,
    ),
    Case(
        "boundary",
        L.boundary_loss,
        lambda dtype: (logits(dtype, 2, 1, 4, 4), logits(dtype, 2, 1, 4, 4, seed=1)),
        lambda x, d: (torch.sigmoid(x) * d).mean(),
        "other",
        saturates=True,
    ),
    Case(
        "dice-cross-entropy",
        L.dice_cross_entropy_loss,
        pixels,
        lambda x, y: tversky(x, y, 0.5, 0.5) - torch.log(of_class(x, y)).mean(),
        "regions",
        reductions=False,
    ),
    Case("mse", L.mse_loss, numbers, lambda x, y: ((x - y) ** 2).mean(), "numbers"),
    Case("l1", L.l1_loss, numbers, lambda x, y: (x - y).abs().mean(), "numbers", smooth=False),
    Case(
        "huber",
        lambda x, y, **k: L.huber_loss(x, y, delta=1.5, **k),
        numbers,
        lambda x, y: torch.where((x - y).abs() <= 1.5, 0.5 * (x - y) ** 2, 1.5 * ((x - y).abs() - 0.75)).mean(),
        "numbers",
    ),
    Case(
        "smooth-l1",
        lambda x, y, **k: L.smooth_l1_loss(x, y, beta=1.5, **k),
        numbers,
        lambda x, y: torch.where((x - y).abs() < 1.5, (x - y) ** 2 / 3, (x - y).abs() - 0.75).mean(),
        "numbers",
    ),
    Case("log-cosh", L.log_cosh_loss, numbers, lambda x, y: torch.log(torch.cosh(x - y)).mean(), "numbers"),
    Case(
        "quantile",
        lambda x, y, **k: L.quantile_loss(x, y, 0.8, **k),
        numbers,
        lambda x, y: torch.where(y > x, 0.8 * (y - x), 0.2 * (x - y)).mean(),
        "numbers",
        smooth=False,
    ),
    Case(
        "charbonnier",
        lambda x, y, **k: L.charbonnier_loss(x, y, epsilon=0.1, **k),
        numbers,
        lambda x, y: (torch.sqrt((x - y) ** 2 + 0.01) - 0.1).mean(),
        "numbers",
    ),
    Case(
        "cauchy",
        lambda x, y, **k: L.cauchy_loss(x, y, scale=0.5, **k),
        numbers,
        lambda x, y: barron(x - y, 0.0, 0.5).mean(),
        "numbers",
    ),
    Case(
        "welsch",
        L.welsch_loss,
        numbers,
        lambda x, y: (1 - torch.exp(-0.5 * (x - y) ** 2)).mean(),
        "numbers",
        saturates=True,
    ),
    *(
        Case(
            f"robust-{alpha}",
            lambda x, y, alpha=alpha, **k: L.robust_loss(x, y, shape_alpha=alpha, scale=0.7, **k),
            numbers,
            lambda x, y, alpha=alpha: barron(x - y, alpha, 0.7).mean() if alpha != 2 else (0.5 * (x - y) ** 2).mean(),
            "numbers",
            saturates=alpha < 0,
        )
        for alpha in (2.0, 1.5, 1.0, 0.5, -2.0)
    ),
    Case(
        "log-ratio",
        L.log_ratio_loss,
        positive,
        lambda x, y: ((x - torch.log(y)) ** 2).mean(),
        "numbers",
    ),
    Case(
        "scale-invariant-log",
        L.scale_invariant_log_loss,
        positive,
        lambda x, y: (((x - y.log()) ** 2).mean(1) - 0.5 * (x - y.log()).mean(1) ** 2).mean(),
        "other",
    ),
    Case(
        "gaussian-nll",
        lambda x, y, s, **k: L.gaussian_nll_loss(x, y, s, full=True, **k),
        lambda dtype: (*numbers(dtype), logits(dtype, 6, 3, seed=2)),
        lambda x, y, s: -torch.distributions.Normal(x, (s / 2).exp()).log_prob(y).mean(),
        "other",
    ),
    Case(
        "laplace-nll",
        lambda x, y, s, **k: L.laplace_nll_loss(x, y, s, full=True, **k),
        lambda dtype: (*numbers(dtype), logits(dtype, 6, 3, seed=2)),
        lambda x, y, s: -torch.distributions.Laplace(x, s.exp()).log_prob(y).mean(),
        "other",
        smooth=False,
    ),
    Case(
        "poisson-nll",
        lambda x, y, **k: L.poisson_nll_loss(x, y, full=True, **k),
        tally,
        lambda x, y: -torch.distributions.Poisson(x.exp()).log_prob(y).mean(),
        "numbers",
    ),
    Case(
        "negative-binomial-nll",
        lambda x, y, s, **k: L.negative_binomial_nll_loss(x, y, s, full=True, **k),
        lambda dtype: (*tally(dtype), logits(dtype, 6, 3, seed=2) / 2),
        lambda x, y, s: -torch.distributions.NegativeBinomial(s.exp(), logits=x - s).log_prob(y).mean(),
        "other",
    ),
    Case(
        "triplet",
        L.triplet_loss,
        lambda dtype: tuple(logits(dtype, 6, 3, seed=seed) for seed in range(3)),
        lambda a, p, n: F.relu((a - p).pow(2).sum(1).sqrt() - (a - n).pow(2).sum(1).sqrt() + 1).mean(),
        "other",
    ),
    Case(
        "n-pairs",
        L.n_pairs_loss,
        lambda dtype: tuple(logits(dtype, 6, 3, seed=seed) for seed in range(2)),
        lambda a, p: torch.log1p(
            (torch.exp(a @ p.T - (a * p).sum(1, keepdim=True)) * (1 - torch.eye(6))).sum(1)
        ).mean(),
        "other",
        batched=False,
    ),
    Case(
        "info-nce",
        L.info_nce_loss,
        lambda dtype: tuple(logits(dtype, 6, 3, seed=seed) for seed in range(2)),
        lambda a, b: (
            0.5
            * (
                F.cross_entropy(F.normalize(a) @ F.normalize(b).T / 0.07, torch.arange(6))
                + F.cross_entropy(F.normalize(b) @ F.normalize(a).T / 0.07, torch.arange(6))
            )
        ),
        "other",
        batched=False,
    ),
    Case(
        "nt-xent",
        L.nt_xent_loss,
        lambda dtype: tuple(logits(dtype, 6, 3, seed=seed) for seed in range(2)),
        lambda a, b: nt_xent(torch.cat([a, b]), 0.5),
        "other",
        batched=False,
    ),
    Case(
        "supervised-contrastive",
        L.supervised_contrastive_loss,
        lambda dtype: (logits(dtype, 6, 3), torch.tensor([0, 0, 1, 1, 1, 0])),
        lambda x, y: supcon(x, y, 0.1),
        "other",
        batched=False,
    ),
    Case(
        "bpr",
        L.bpr_loss,
        lambda dtype: tuple(logits(dtype, 6, 3, seed=seed) for seed in range(2)),
        lambda a, b: -torch.log(torch.sigmoid(a - b)).mean(),
        "other",
    ),
    Case("ranknet", L.ranknet_loss, tally, lambda x, y: ranknet(x, y), "other", mean_of_elements=False, batched=False),
    Case(
        "listnet",
        L.listnet_loss,
        tally,
        lambda x, y: -(torch.softmax(y, 1) * torch.log(torch.softmax(x, 1))).sum(1).mean(),
        "other",
    ),
    *(
        Case(
            name,
            call,
            lambda dtype, number=number: tuple(-logits(dtype, 6, seed=seed).abs() - 0.1 for seed in range(number)),
            reference,
            "other",
        )
        for name, call, number, reference in (
            (
                "dpo",
                lambda a, b, c, d, **k: L.dpo_loss(a, b, c, d, label_smoothing=0.1, **k),
                4,
                lambda a, b, c, d: (
                    -0.9 * torch.log(torch.sigmoid(0.1 * (a - b - c + d)))
                    - 0.1 * torch.log(torch.sigmoid(-0.1 * (a - b - c + d)))
                ).mean(),
            ),
            ("ipo", L.ipo_loss, 4, lambda a, b, c, d: ((a - b - c + d - 5) ** 2).mean()),
            (
                "kto",
                lambda a, b, **k: L.kto_loss(a, b, torch.arange(len(a)) % 2 == 0, 0.05, **k),
                2,
                lambda a, b: torch.where(
                    torch.arange(6) % 2 == 0,
                    1 - torch.sigmoid(0.1 * (a - b) - 0.05),
                    1 - torch.sigmoid(0.05 - 0.1 * (a - b)),
                ).mean(),
            ),
            ("simpo", L.simpo_loss, 2, lambda a, b: -torch.log(torch.sigmoid(2 * (a - b) - 1)).mean()),
            (
                "orpo",
                L.orpo_loss,
                2,
                lambda a, b: (
                    -a
                    - 0.1
                    * torch.log(torch.sigmoid(torch.log(a.exp() / (1 - a.exp())) - torch.log(b.exp() / (1 - b.exp()))))
                ).mean(),
            ),
        )
    ),
]


def nt_xent(z: Tensor, temperature: float) -> Tensor:
    unit, half = z / z.pow(2).sum(1, keepdim=True).sqrt(), len(z) // 2
    similar = torch.exp(unit @ unit.T / temperature)
    rows = []
    for i in range(len(z)):
        rest = sum((similar[i, j] for j in range(len(z)) if j != i), start=z.new_zeros(()))
        rows.append(-torch.log(similar[i, (i + half) % len(z)] / rest))
    return torch.stack(rows).mean()


def supcon(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    unit = x / x.pow(2).sum(1, keepdim=True).sqrt()
    similar = torch.exp(unit @ unit.T / temperature)
    rows = []
    for i in range(len(x)):
        rest = similar[i].sum() - similar[i, i]
        mates = [j for j in range(len(x)) if j != i and y[j] == y[i]]
        rows.append(-torch.stack([torch.log(similar[i, j] / rest) for j in mates]).mean())
    return torch.stack(rows).mean()


def ranknet(x: Tensor, y: Tensor) -> Tensor:
    rows = []
    for scores, grades in zip(x, y, strict=True):
        pairs = [
            -torch.log(torch.sigmoid(scores[i] - scores[j]))
            for i in range(len(grades))
            for j in range(len(grades))
            if grades[i] > grades[j]
        ]
        if pairs:
            rows.append(torch.stack(pairs).mean())
    return torch.stack(rows).mean()


LN2 = math.log(2)
