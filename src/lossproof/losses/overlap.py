"""Losses of overlap between a predicted and a true region: Dice, Jaccard, Tversky and what was made of them.

Convention
    ``input`` holds logits, ``(N, C, ...)``. Binary and multi-label: ``target`` has the same shape, 0 and 1 (or soft),
    and each channel is a region of its own (sigmoid). Multi-class: ``target`` holds class indices, ``(N, ...)``
    (softmax). A loss is computed for each image and channel, then averaged; ``per_sample=False`` pools the batch into
    one image, which lets large objects drown small ones, and is for batches whose images are pieces of one.
    Ignored pixels are in no sum. Sums are taken in float32 (float64 kept).

    ``empty`` says what an image costs for a channel that it does not contain, where the ratio has nothing to compare:
        ``penalize``: the mean predicted probability over the image: 0 for a clean prediction, towards 1 for false
        positives everywhere, with a gradient throughout;
        ``skip``: 0, and it does not count in the mean;
        ``ratio``: what the formula gives, with ``smooth`` in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from lossproof.losses.checks import in_range, is_floating, is_mask, is_reduction, is_tensor, shape, within, wrong
from lossproof.losses.closed import closed
from lossproof.losses.reducing import precise, reduce

EMPTY = ("penalize", "skip", "ratio")


def dice_loss(
    input: Tensor,
    target: Tensor,
    *,
    smooth: float = 0.0,
    squared: bool = False,
    weight: Tensor | None = None,
    ignore_index: int | None = None,
    where: Tensor | None = None,
    empty: str = "penalize",
    include_background: bool = True,
    per_sample: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """Soft Dice loss: ``1 - (2 Σ p t + s) / (Σ p + Σ t + s)`` (Milletari et al., 2016, with ``squared``).

    Args:
        input: logits, ``(N, C, ...)`` with at least one spatial dimension.
        target: 0 and 1 of the shape of ``input``, or class indices ``(N, ...)``.
        smooth: added to both sides of the ratio, at least 0. It softens the ratio of small regions; it is not needed
            against a division by zero.
        squared: ``Σ p² + Σ t²`` below the line, as V-Net has it.
        weight: weight of each channel, ``(C,)``; ``mean`` divides by the weights that count.
        ignore_index: a value of ``target`` that does not count.
        where: bool, which pixels count: ``(N, ...)`` or the shape of ``input``.
        empty: ``penalize``, ``skip`` or ``ratio``, see above.
        include_background: whether channel 0 counts (multi-class).
        per_sample: whether each image is judged by itself.
        reduction: ``none`` gives ``(N, C)``, or ``(C,)`` when the batch is pooled.

    Use it for segmentation scored by overlap, best beside a cross entropy (``dice_cross_entropy_loss``). Its gradient
    vanishes when every pixel is confidently wrong. Not for images that mostly lack the object, unless ``empty`` says
    what they cost.
    """
    return _overlap(
        input, target, (1.0, 1.0, 2.0), smooth, squared, weight, ignore_index, where, empty, include_background,
        per_sample, reduction,
    )  # fmt: skip


def jaccard_loss(
    input: Tensor,
    target: Tensor,
    *,
    smooth: float = 0.0,
    weight: Tensor | None = None,
    ignore_index: int | None = None,
    where: Tensor | None = None,
    empty: str = "penalize",
    include_background: bool = True,
    per_sample: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """Soft Jaccard (IoU) loss: ``1 - (Σ p t + s) / (Σ p + Σ t - Σ p t + s)`` (Rahman and Wang, 2016).

    Args: as in ``dice_loss``. It orders predictions as Dice does and weighs large mistakes more.
    """
    return _overlap(
        input, target, (1.0, 1.0, 1.0), smooth, False, weight, ignore_index, where, empty, include_background,
        per_sample, reduction,
    )  # fmt: skip


def tversky_loss(
    input: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 1.0,
    smooth: float = 0.0,
    weight: Tensor | None = None,
    ignore_index: int | None = None,
    where: Tensor | None = None,
    empty: str = "penalize",
    include_background: bool = True,
    per_sample: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """Tversky loss: ``(1 - (TP + s) / (TP + α FP + β FN + s))^γ`` (Salehi et al., 2017; focal: Abraham and Khan, 2019).

    Args:
        alpha, beta: prices of false positives and of misses, at least 0, not both 0. 0.5 and 0.5 is Dice, 1 and 1
            Jaccard.
        gamma: the focal exponent, more than 0. The paper's is 3/4. Below 1 the slope of the power is infinite at a
            perfect overlap; it is bounded here.
        the others: as in ``dice_loss``.
    """
    in_range("alpha", alpha, 0.0)
    in_range("beta", beta, 0.0)
    in_range("gamma", gamma, 0.0, open_low=True)
    if alpha + beta == 0:
        raise wrong("alpha", "not be 0 together with `beta`: nothing wrong would cost anything", "0 and 0")
    return _overlap(
        input, target, (alpha, beta, 1.0), smooth, False, weight, ignore_index, where, empty, include_background,
        per_sample, reduction, shaped=None if gamma == 1.0 else partial(_power, gamma=gamma),
    )  # fmt: skip


def log_cosh_dice_loss(
    input: Tensor,
    target: Tensor,
    *,
    smooth: float = 0.0,
    weight: Tensor | None = None,
    ignore_index: int | None = None,
    where: Tensor | None = None,
    empty: str = "penalize",
    include_background: bool = True,
    per_sample: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """``log cosh`` of the Dice loss of each image and channel (Jadon, 2020): flatter where the overlap is nearly
    perfect.

    Args: as in ``dice_loss``.
    """
    return _overlap(
        input, target, (1.0, 1.0, 2.0), smooth, False, weight, ignore_index, where, empty, include_background,
        per_sample, reduction, shaped=_log_cosh,
    )  # fmt: skip


def _overlap(
    input: Tensor,
    target: Tensor,
    prices: tuple[float, float, float],
    smooth: float,
    squared: bool,
    weight: Tensor | None,
    ignore_index: int | None,
    where: Tensor | None,
    empty: str,
    include_background: bool,
    per_sample: bool,
    reduction: str,
    shaped: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    is_reduction(reduction)
    in_range("smooth", smooth, 0.0)
    if empty not in EMPTY:
        raise wrong("empty", "be one of " + ", ".join(map(repr, EMPTY)), repr(empty))
    regions = region_sums(input, target, squared=squared, ignore_index=ignore_index, where=where, per_sample=per_sample)
    if not include_background:
        regions = Regions(*(each if each is None else each[..., 1:] for each in regions))  # type: ignore[arg-type]
    both, predicted, true, mean, seen = regions
    alpha, beta, kind = prices
    if kind == 2.0:
        above, below = 2 * both, predicted + true
    else:
        above = both
        below = both + alpha * (predicted - both) + beta * (true - both)
    if smooth:
        above, below = above + smooth, below + smooth
    absent = true == 0
    if empty == "ratio":
        # No pixel and no smoothing below the line: nothing was there and nothing was said, which is a perfect overlap.
        nothing = (below <= 0).to(below)
        values = 1 - (above + nothing) / (below + nothing)
    else:
        # Where the channel is absent its ratio is not used; elsewhere what is below the line is more than 0.
        values = 1 - above / (below + absent)
    if shaped is not None:
        values = shaped(values)
    if empty == "penalize":
        values = torch.where(absent, mean, values)
    if empty == "skip":
        seen = ~absent if seen is None else seen & ~absent
    if weight is not None:
        channels = values.shape[-1]
        if weight.shape != (channels,):
            raise wrong("weight", f"have a weight for each of the {channels} channels", tuple(weight.shape))
        weight = weight.to(values)
    return reduce(values, reduction, where=seen, weight=weight)


def _power(value: Tensor, gamma: float) -> Tensor:
    return value.clamp_min(torch.finfo(value.dtype).eps) ** gamma


def _log_cosh(value: Tensor) -> Tensor:
    return value + torch.nn.functional.softplus(-2 * value) - math.log(2)


class Regions(NamedTuple):
    """What a loss of overlap is made of, for each image and channel.

    ``both`` is ``Σ p t``, ``predicted`` is ``Σ p`` or ``Σ p²``, ``true`` is ``Σ t``, ``mean`` is the mean of ``p``;
    ``seen`` says where any pixel counts, None where all of them do.
    """

    both: Tensor
    predicted: Tensor
    true: Tensor
    mean: Tensor
    seen: Tensor | None


def region_sums(
    input: Tensor,
    target: Tensor,
    *,
    squared: bool,
    ignore_index: int | None,
    where: Tensor | None,
    per_sample: bool,
) -> Regions:
    """The sums of each image and channel, ``(N, C)``, or of each channel of the pooled batch, ``(C,)``."""
    is_floating("input", input)
    is_tensor("target", target)
    if input.dim() < 3:
        raise wrong("input", "be (N, C, ...) with at least one spatial dimension", shape(input))
    x = precise(input)
    if target.shape == input.shape:
        sums = _binary_sums(x, target, squared, ignore_index, where)
    elif target.shape == input.shape[:1] + input.shape[2:] and not target.dtype.is_floating_point:
        if input.shape[1] == 1:
            raise wrong(
                "target",
                f"have the shape of `input` {shape(input)}, as there is one channel (target.unsqueeze(1)): a softmax "
                "over one class is always 1",
                shape(target),
            )
        sums = _class_sums(x, target, squared, ignore_index, where)
    else:
        expected = f"{shape(input)} (0 and 1) or {tuple(input.shape[:1] + input.shape[2:])} (class indices)"
        raise wrong("target", f"have the shape {expected}", f"{shape(target)} of dtype {target.dtype}")
    both, predicted, true, pixels, mass = sums
    size = float(max(x.shape[2:].numel(), 1))
    if not per_sample:
        both, predicted, true, mass = both.sum(0), predicted.sum(0), true.sum(0), mass.sum(0)
        pixels = None if pixels is None else pixels.sum(0)
        size *= max(len(x), 1)
    if pixels is None:
        return Regions(both, predicted, true, mass / size, None)
    return Regions(both, predicted, true, mass / pixels.clamp_min(1), (pixels > 0).expand_as(true))


def _where(x: Tensor, where: Tensor) -> Tensor:
    """A mask of pixels, ``(N, ...)``, ``(N, 1, ...)`` or the full shape, against ``(N, C, ...)``."""
    if where.dim() == x.dim() - 1:
        where = where.unsqueeze(1)
    is_mask("where", where, x)
    return where


def _binary_sums(
    x: Tensor, target: Tensor, squared: bool, ignore_index: int | None, where: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    counts = None if where is None else _where(x, where)
    if ignore_index is not None:
        known = target != ignore_index
        counts = known if counts is None else known & counts
    t = target.to(x.dtype)
    pixels = None
    if counts is not None:
        x, t = torch.where(counts, x, float("-inf")), torch.where(counts, t, 0.0)
        pixels = counts.expand_as(x).flatten(2).sum(2).to(x.dtype)
    within("target", t, 0, 1)
    x, t = x.flatten(2), t.flatten(2)
    if squared:
        p = torch.sigmoid(x)
        return (p * t).sum(2), (p * p).sum(2), (t * t).sum(2), pixels, p.sum(2)
    both, mass = closed(_Regions(), x, t)
    return both, mass, t.sum(2), pixels, mass


class _Regions:
    """For logits and targets ``(N, C, P)``: ``Σ p t`` and ``Σ p`` of each, keeping the probabilities."""

    def plain(self, x: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        p = torch.sigmoid(x)
        return (p * t).sum(2), p.sum(2)

    def forward(self, x: Tensor, t: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        p = torch.sigmoid(x)
        return ((p * t).sum(2), p.sum(2)), (p, t)

    def backward(self, kept: tuple[Tensor, ...], grads: tuple[Tensor, ...]) -> Tensor:
        p, t = kept
        of_both, of_mass = (each.unsqueeze(2) for each in grads)
        of_p = (t * of_both).add_(of_mass)
        result: Tensor = torch.ops.aten.sigmoid_backward.grad_input(of_p, p, grad_input=of_p)
        return result


def _class_sums(
    x: Tensor, target: Tensor, squared: bool, ignore_index: int | None, where: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    if where is not None and where.dim() == x.dim():
        if where.shape[1] != 1:
            raise wrong("where", "select pixels, (N, ...), for class indices", tuple(where.shape))
        where = where.squeeze(1)
    counts = None if where is None else where.expand_as(target)
    if ignore_index is not None:
        known = target != ignore_index
        counts = known if counts is None else known & counts
    y = target.long() if counts is None else torch.where(counts, target, 0).long()
    within("target", y, 0, x.shape[1] - 1)
    y = y.flatten(1)
    ones = torch.ones_like(y, dtype=x.dtype)
    if counts is not None:
        ones = torch.where(counts.flatten(1), ones, 0.0)
    true = x.new_zeros(x.shape[:2]).scatter_add(1, y, ones)
    pixels = None if counts is None else ones.sum(1, keepdim=True)
    if squared:
        p = torch.softmax(x, 1).flatten(2) * ones.unsqueeze(1)
        both, mass = _ClassRegions.sums(p, y)
        return both, (p * p).sum(2), true, pixels, mass
    both, mass = closed(_ClassRegions(), x.flatten(2), y, ones)
    return both, mass, true, pixels, mass


class _ClassRegions:
    """For logits ``(N, C, P)``, targets and a 0/1 mask ``(N, P)``: ``Σ p t`` and ``Σ p`` of each image and class.

    Kept are the probabilities. The gradient of a sum over pixels is one number for each image and class, so nothing of
    the size of a one-hot target is made in either direction.
    """

    @staticmethod
    def sums(p: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        hit = p.gather(1, y.unsqueeze(1)).squeeze(1)
        return p.new_zeros(p.shape[:2]).scatter_add(1, y, hit), p.sum(2)

    def plain(self, x: Tensor, y: Tensor, ones: Tensor) -> tuple[Tensor, ...]:
        return self.sums(torch.softmax(x, 1) * ones.unsqueeze(1), y)

    def forward(self, x: Tensor, y: Tensor, ones: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        p = (x - x.amax(1, keepdim=True)).exp_()
        p.mul_((ones / p.sum(1)).unsqueeze(1))
        return self.sums(p, y), (p, y)

    def backward(self, kept: tuple[Tensor, ...], grads: tuple[Tensor, ...]) -> Tensor:
        # A pixel that does not count has p = 0 here, and with it every product below.
        p, y = kept
        of_both, of_mass = grads
        index = y.unsqueeze(1)
        at_target = p.gather(1, index) * of_both.gather(1, y).unsqueeze(1)
        each = of_mass.unsqueeze(2)
        result = p * each
        mean = result.sum(1, keepdim=True).add_(at_target)
        return torch.sub(each, mean, out=result).mul_(p).scatter_add_(1, index, at_target)
