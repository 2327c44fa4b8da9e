"""Losses on one logit per element: two classes, or many labels that do not exclude each other.

Convention
    ``input`` and ``target`` have one shape, any. ``target`` holds 0 and 1 (bool, integer or floating point), or
    probabilities between them where a loss says so. ``mean`` divides by the number of elements that count; ``weight``,
    ``pos_weight`` and ``alpha`` scale elements and do not change what it divides by, as in
    ``torch.nn.functional.binary_cross_entropy_with_logits``.
"""

from __future__ import annotations

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
    within,
    wrong,
)
from lossproof.losses.closed import closed, transformed
from lossproof.losses.reducing import precise, reduce


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    pos_weight: Tensor | float | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Binary cross entropy of logits: ``-[w₊ t log σ(x) + (1 - t) log(1 - σ(x))]``.

    Its gradient is ``σ(x) - t`` (times the weights) however wrong the prediction is; a sigmoid followed by
    ``binary_cross_entropy`` loses it from a logit of 17 on.

    Args:
        input: logits, any shape, floating point.
        target: 0 and 1, or probabilities in [0, 1]; the shape of ``input``.
        weight: scales each element; broadcastable to ``input``.
        pos_weight: scales the positive term, a number or a tensor that broadcasts over the last dimension. It moves the
            decision threshold: predicted probabilities become those of a balanced set.
        label_smoothing: ε in [0, 1): targets become ``t (1 - ε) + ε / 2``.
        ignore_index: a value of ``target`` that does not count.
        where: bool, broadcastable to ``input``: which elements count.
        reduction: ``none``, ``mean`` (over what counts; 0 where nothing does) or ``sum``.

    Raises:
        LossArgumentError: shapes differ (``(N, 1)`` and ``(N,)`` are not broadcast), or a setting is out of range.

    Use it for independent yes-or-no labels. Not for classes that exclude each other: that is ``cross_entropy``.
    """
    in_range("label_smoothing", label_smoothing, 0.0, 1.0)
    x, t, where = _prepare(input, target, weight, ignore_index, where, reduction)
    if label_smoothing:
        t = t * (1 - label_smoothing) + label_smoothing / 2
    ratio = None if pos_weight is None else torch.as_tensor(pos_weight, dtype=x.dtype, device=x.device)
    values = F.binary_cross_entropy_with_logits(x, t, pos_weight=ratio, reduction="none")
    return reduce(_scaled(values, weight), reduction, where=where)


def binary_focal_loss(
    input: Tensor,
    target: Tensor,
    *,
    gamma: float = 2.0,
    alpha: Tensor | float | None = None,
    weight: Tensor | None = None,
    ignore_index: int | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Focal loss of logits, binary or multi-label: ``-α_t (1 - p_t)^γ log p_t`` (Lin et al., 2017).

    ``p_t`` is the probability given to what is true, ``α_t`` is ``alpha`` where the target is 1 and ``1 - alpha`` where
    it is 0. With soft targets ``p_t = p t + (1 - p)(1 - t)``, and the logarithm is the binary cross entropy.

    Args:
        input: logits, any shape.
        target: 0 and 1, or probabilities in [0, 1]; the shape of ``input``.
        gamma: how strongly easy examples are silenced, at least 0. At 0 this is the cross entropy. Values below 1 have
            a finite gradient here also where the prediction is exactly right.
        alpha: weight of the positive class in [0, 1], or a tensor of them for each label; None for no weighting. The
            paper's 0.25 weighs positives *down*, because γ = 2 has already silenced most negatives.
        weight, ignore_index, where, reduction: as in ``binary_cross_entropy_with_logits``.

    Use it where many easy examples outweigh few hard ones. Not as a cure for imbalance alone: where few examples are
    easy it is a class weight that is harder to tune. ``focal_alpha`` computes alpha from counts.
    """
    in_range("gamma", gamma, 0.0)
    if isinstance(alpha, (int, float)):
        in_range("alpha", alpha, 0.0, 1.0)
    x, t, where = _prepare(input, target, weight, ignore_index, where, reduction)
    hard = _is_hard(target if ignore_index is None else t)
    if hard and alpha is None and weight is None and where is None and reduction != "none":
        (total,) = closed(_FocalTotal(float(gamma)), x, t)
        return total / max(x.numel(), 1) if reduction == "mean" else total
    if hard:
        (values,) = closed(_Focal(float(gamma)), x, t)
    else:
        values = _focal(x, t, float(gamma))
    if alpha is not None:
        share = torch.as_tensor(alpha, dtype=x.dtype, device=x.device)
        values = values * (share * t + (1 - share) * (1 - t))
    return reduce(_scaled(values, weight), reduction, where=where)


def asymmetric_loss(
    input: Tensor,
    target: Tensor,
    *,
    gamma_neg: float = 4.0,
    gamma_pos: float = 1.0,
    clip: float = 0.05,
    weight: Tensor | None = None,
    ignore_index: int | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Asymmetric loss for many labels of which few are on (Ridnik et al., 2021).

    ``-t (1 - p)^γ₊ log p - (1 - t) p_m^γ₋ log(1 - p_m)`` with ``p_m = max(p - clip, 0)``: negatives that are predicted
    below ``clip`` cost nothing.

    Args:
        input: logits, any shape, usually ``(N, labels)``.
        target: 0 and 1; the shape of ``input``.
        gamma_neg, gamma_pos: focusing of negatives and positives, at least 0.
        clip: the probability below which a negative is left alone, in [0, 1).
        weight, ignore_index, where, reduction: as in ``binary_cross_entropy_with_logits``. The published code sums; use
            ``reduction="sum"`` for its scale.

    With ``clip`` a confidently wrong negative costs at most ``-log(clip)``, and its gradient fades like ``exp(-x)``:
    this lies in the formula (it is meant for wrongly labelled negatives). ``clip=0`` keeps the gradient.
    """
    in_range("gamma_neg", gamma_neg, 0.0)
    in_range("gamma_pos", gamma_pos, 0.0)
    in_range("clip", clip, 0.0, 1.0)
    x, t, where = _prepare(input, target, weight, ignore_index, where, reduction)
    values = _asymmetric(x, t, float(gamma_neg), float(gamma_pos), float(clip))
    return reduce(_scaled(values, weight), reduction, where=where)


def binary_poly_loss(
    input: Tensor,
    target: Tensor,
    *,
    epsilon: float = 1.0,
    weight: Tensor | None = None,
    ignore_index: int | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Poly-1 loss of logits: the binary cross entropy plus ``ε (1 - p_t)`` (Leng et al., 2022).

    Args:
        input, target: as in ``binary_cross_entropy_with_logits``.
        epsilon: the first coefficient of the expansion, at least -1 (below it the loss falls as the prediction
            worsens).
        weight, ignore_index, where, reduction: as in ``binary_cross_entropy_with_logits``.
    """
    in_range("epsilon", epsilon, -1.0)
    x, t, where = _prepare(input, target, weight, ignore_index, where, reduction)
    values = F.binary_cross_entropy_with_logits(x, t, reduction="none") + epsilon * _missed(x, t)
    return reduce(_scaled(values, weight), reduction, where=where)


def binary_hinge_loss(
    input: Tensor,
    target: Tensor,
    *,
    margin: float = 1.0,
    squared: bool = False,
    weight: Tensor | None = None,
    ignore_index: int | None = None,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Hinge loss of scores: ``max(0, margin - y x)`` with ``y = 2 t - 1``, squared on demand.

    Args:
        input: scores (not probabilities), any shape.
        target: 0 and 1 (not -1 and 1); the shape of ``input``.
        margin: how far on the right side a score must be to cost nothing, more than 0.
        squared: the square of it, which is smooth at the margin.
        weight, ignore_index, where, reduction: as in ``binary_cross_entropy_with_logits``.

    Its scores are not logits of probabilities. Use it where only the order or the side counts.
    """
    in_range("margin", margin, 0.0, open_low=True)
    x, t, where = _prepare(input, target, weight, ignore_index, where, reduction)
    values = F.relu(margin - (2 * t - 1) * x)
    return reduce(_scaled(values * values if squared else values, weight), reduction, where=where)


def focal_alpha(positives: Tensor | float, negatives: Tensor | float, *, beta: float | None = None) -> Tensor:
    """The ``alpha`` of ``binary_focal_loss`` that gives both classes the same total weight, from their counts.

    Args:
        positives, negatives: how often each occurs in the training set, a number or a tensor for each label.
        beta: in [0, 1) the counts become effective numbers ``(1 - βⁿ) / (1 - β)`` (Cui et al., 2019), which weighs a
            rare class less than its frequency alone would.

    Returns:
        ``n₋ / (n₊ + n₋)``, in [0, 1]. Focusing already silences the majority, so this is the upper end of what is worth
        trying; 0.5 weighs nothing.
    """
    plus, minus = (torch.as_tensor(each, dtype=torch.float64) for each in (positives, negatives))
    if bool(((plus < 0) | (minus < 0) | (plus + minus <= 0)).any()):
        raise wrong("positives", "be counts, not both 0", f"{positives} and {negatives}")
    if beta is not None:
        in_range("beta", beta, 0.0, 1.0)
        if beta < 1.0:
            plus, minus = 1 - beta**plus, 1 - beta**minus
    return (minus / (plus + minus)).float()


def _prepare(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int | None,
    where: Tensor | None,
    reduction: str,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Checked arguments in the precision of the computation; what does not count is replaced by a harmless 0."""
    is_reduction(reduction)
    is_floating("input", input)
    is_tensor("target", target)
    if target.dtype.is_complex:
        raise wrong("target", "be real", f"dtype {target.dtype}")
    same_shape(input, target)
    if where is not None:
        is_mask("where", where, input)
    if ignore_index is not None:
        counts = target != ignore_index
        where = counts if where is None else counts & where
    x = precise(input)
    t = target.to(x.dtype)
    if where is not None:
        x, t = torch.where(where, x, 0.0), torch.where(where, t, 0.0)
    within("target", t, 0, 1)
    return x, t, where


def _scaled(values: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return values
    broadcasts("weight", weight, values)
    return values * weight


def _sides(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The logit of the wrong answer, how soft the target is, and the sign between that logit and ``x``.

    With ``h`` the nearer class, ``s = x`` for ``h = 0`` and ``-x`` for ``h = 1``, and ``d = |t - h|``: then ``σ(s)`` is
    the probability of the wrong answer with full precision however small it is, which ``1 - σ(x)`` is not.
    """
    sign = torch.where(t > 0.5, -1.0, 1.0).to(x.dtype)
    return x * sign, 0.5 - (t - 0.5).abs(), sign


def _missed(x: Tensor, t: Tensor) -> Tensor:
    """``1 - p_t`` without cancellation."""
    s, soft, _ = _sides(x, t)
    u = torch.sigmoid(s)
    return u + soft * (1 - 2 * u)


def _is_hard(target: Tensor) -> bool:
    """Whether the targets are 0 and 1 alone, as far as that can be known without waiting for an accelerator."""
    if not target.dtype.is_floating_point:
        return True
    if target.device.type != "cpu" or transformed():
        return False
    # In [0, 1] no t - t² is negative, so their sum is 0 only where each of them is: two passes, no comparison.
    return float(torch.addcmul(target, target, target, value=-1).sum()) == 0


def _focal(x: Tensor, t: Tensor, gamma: float) -> Tensor:
    """Any targets in [0, 1]."""
    entropy = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    if gamma == 0:
        return entropy
    missed = _missed(x, t)
    if gamma == 2:
        return entropy * missed * missed
    # Below the smallest normal number the true gradient is 0 as well, and 0 ** (gamma - 1) would be infinite.
    return entropy * missed.clamp_min(torch.finfo(x.dtype).tiny) ** gamma


class _Focal:
    """Targets 0 and 1: with ``s`` the logit of the wrong answer, ``softplus(s) σ(s)^γ``, the power taken in log
    space."""

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def plain(self, x: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        s = torch.addcmul(x, x, t, value=-2)
        entropy = F.softplus(s)
        return (entropy * torch.exp(self.gamma * (s - entropy)) if self.gamma else entropy,)

    def forward(self, x: Tensor, t: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        # A new tensor costs more than a pass over one that is there: three of them, and everything else in place.
        s = torch.addcmul(x, x, t, value=-2)
        entropy = F.softplus(s)
        missed = s.sigmoid_()
        if self.gamma == 0:
            return (entropy,), (missed.addcmul_(missed, t, value=-2),)
        # d/ds [l qᵞ] = qᵞ (q + γ l (1 - q))
        slope = (1 - missed).mul_(entropy).mul_(self.gamma).add_(missed)
        if self.gamma == 2:
            slope.mul_(missed).mul_(missed)
            entropy.mul_(missed).mul_(missed)
        else:
            power = missed.pow_(self.gamma)
            slope.mul_(power)
            entropy.mul_(power)
        return (entropy,), (slope.addcmul_(slope, t, value=-2),)

    def backward(self, kept: tuple[Tensor, ...], grads: tuple[Tensor, ...]) -> Tensor:
        return kept[0] * grads[0]


class _FocalTotal(_Focal):
    """The sum of them, which nobody weighs: the values need no tensor of their own."""

    def plain(self, x: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        return (super().plain(x, t)[0].sum(),)

    def forward(self, x: Tensor, t: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        s = torch.addcmul(x, x, t, value=-2)
        entropy = F.softplus(s)
        missed = s.sigmoid_()
        if self.gamma == 2:
            slope = entropy.mul_(missed)
            total = torch.dot(slope.flatten(), missed.flatten())
            # q (q² + 2 (l q)(1 - q))
            slope.addcmul_(slope, missed, value=-1).mul_(2).addcmul_(missed, missed).mul_(missed)
        else:
            power = missed**self.gamma
            total = torch.dot(entropy.flatten(), power.flatten())
            slope = entropy.addcmul_(entropy, missed, value=-1).mul_(self.gamma).add_(missed).mul_(power)
        return (total,), (slope.addcmul_(slope, t, value=-2),)


def _asymmetric(x: Tensor, t: Tensor, gamma_neg: float, gamma_pos: float, clip: float) -> Tensor:
    tiny = torch.finfo(x.dtype).tiny
    right, wrong = torch.sigmoid(x), torch.sigmoid(-x)
    positive = -F.logsigmoid(x)
    if gamma_pos:
        positive = positive * _powered(wrong, gamma_pos, tiny)
    if not clip:
        negative = F.softplus(x)
        counted = right
    else:
        # Where p is below the clip the logarithm is that of 1, and the element costs nothing at all.
        negative = -torch.log((wrong + clip).clamp_max(1.0))
        counted = right - clip
    if gamma_neg:
        negative = negative * _powered(counted, gamma_neg, tiny)
    return torch.lerp(negative, positive, t)


def _powered(base: Tensor, exponent: float, tiny: float) -> Tensor:
    """A power of what is at least 0 (or counts as that), whose slope is finite at 0 also for exponents below 1."""
    return base.clamp_min(tiny) if exponent == 1 else base.clamp_min(tiny) ** exponent
