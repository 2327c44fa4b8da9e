"""Segmentation losses that are not one ratio of sums: generalized Dice, Lovász, boundary, and the usual pair with cross
entropy.

Convention: as in ``overlap``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lossproof.losses.binary import binary_cross_entropy_with_logits, binary_focal_loss
from lossproof.losses.checks import in_range, is_floating, is_reduction, is_tensor, same_shape, shape, wrong
from lossproof.losses.classes import IGNORE, cross_entropy, focal_loss
from lossproof.losses.overlap import dice_loss, region_sums
from lossproof.losses.reducing import precise, reduce


def generalized_dice_loss(
    input: Tensor,
    target: Tensor,
    *,
    smooth: float = 0.0,
    ignore_index: int | None = None,
    where: Tensor | None = None,
    per_sample: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """Generalized Dice: ``1 - 2 Σ_c w_c Σ p t / Σ_c w_c Σ (p + t)``, ``w_c = 1 / (Σ t_c)²`` (Sudre et al., 2017).

    A class that an image does not contain would weigh infinitely; it gets the largest weight of the classes that are
    there, so that false positives of it cost something. An image without any object costs the mean predicted
    probability.

    Args:
        input, target, smooth, ignore_index, where, per_sample: as in ``dice_loss``.
        reduction: ``none`` gives ``(N,)``, or ``()`` when the batch is pooled.
    """
    is_reduction(reduction)
    in_range("smooth", smooth, 0.0)
    both, predicted, true, mean, seen = region_sums(
        input, target, squared=False, ignore_index=ignore_index, where=where, per_sample=per_sample
    )
    present = true > 0
    weight = torch.where(present, 1 / torch.where(present, true, 1.0) ** 2, 0.0)
    weight = torch.where(present, weight, weight.amax(-1, keepdim=True))
    above = 2 * (weight * both).sum(-1) + smooth
    below = (weight * (predicted + true)).sum(-1) + smooth
    nothing = ~present.any(-1)
    ratio = 1 - torch.where(nothing, 1.0, above) / torch.where(nothing, 1.0, below)
    values = torch.where(nothing, mean.mean(-1), ratio)
    return reduce(values, reduction, where=None if seen is None else seen.any(-1))


def lovasz_hinge_loss(
    input: Tensor,
    target: Tensor,
    *,
    ignore_index: int | None = None,
    where: Tensor | None = None,
    per_sample: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """Lovász hinge: the convex surrogate of the binary Jaccard loss (Yu and Blaschko, 2015; Berman et al., 2018).

    Args:
        input: logits, ``(N, ...)``.
        target: 0 and 1, the shape of ``input``.
        ignore_index: a value of ``target`` that does not count.
        where: bool, broadcastable to ``input``: which pixels count.
        per_sample: whether each image is judged by itself.
        reduction: ``none`` gives ``(N,)``.

    It sorts the pixels of each image: an order of magnitude slower than Dice. Use it for fine-tuning towards IoU.
    """
    is_reduction(reduction)
    is_floating("input", input)
    is_tensor("target", target)
    same_shape(input, target)
    if input.dim() == 0:
        raise wrong("input", "be (N, ...)", shape(input))
    x = precise(input)
    counts = _counts(target, ignore_index, where)
    t = target.to(x.dtype)
    errors = 1 - x * (2 * t - 1)
    values = _lovasz(errors, t, counts, per_sample, rectify=True)
    seen = None if counts is None else _rows(counts).any(1) if per_sample else counts.any()[None]
    return reduce(values, reduction, where=seen)


def lovasz_softmax_loss(
    input: Tensor,
    target: Tensor,
    *,
    classes: str = "present",
    ignore_index: int | None = None,
    where: Tensor | None = None,
    per_sample: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """Lovász-softmax: the surrogate of the mean Jaccard loss over classes (Berman et al., 2018).

    Args:
        input: logits, ``(N, C, ...)``.
        target: class indices, ``(N, ...)``.
        classes: ``present`` averages over the classes that occur in what is judged, ``all`` over all of them.
        ignore_index, where, per_sample: as in ``dice_loss``.
        reduction: ``none`` gives ``(N, C)``.
    """
    is_reduction(reduction)
    is_reduction_of_classes(classes)
    is_floating("input", input)
    is_tensor("target", target)
    if input.dim() < 2 or target.shape != input.shape[:1] + input.shape[2:]:
        raise wrong("target", "hold class indices (N, ...) for `input` (N, C, ...)", f"{shape(target)}, {shape(input)}")
    x = precise(input)
    number = x.shape[1]
    if number == 1:
        raise wrong("input", "have at least two classes", shape(input))
    counts = _counts(target, ignore_index, where)
    y = target if counts is None else torch.where(counts, target, 0)
    p = torch.softmax(x, 1)
    t = F.one_hot(y.long(), number).movedim(-1, 1).to(x.dtype)
    each = None if counts is None else counts.unsqueeze(1).expand_as(p)
    if per_sample:
        values = _lovasz(
            (t - p).abs().flatten(0, 1), t.flatten(0, 1), None if each is None else each.flatten(0, 1), True
        )
        values = values.view(p.shape[:2])
    else:
        values = _lovasz(
            (t - p).abs().transpose(0, 1), t.transpose(0, 1), None if each is None else each.transpose(0, 1), True
        )[None]
    there = t if each is None else t * each
    present = there.flatten(2).sum(2) > 0 if per_sample else (there.sum((0, *range(2, t.dim()))) > 0)[None]
    if classes == "all":
        seen = torch.ones_like(present) if each is None else each.flatten(2).any(2)
        present = seen if per_sample else seen.any(0, keepdim=True)
    return reduce(values, reduction, where=present)


def is_reduction_of_classes(classes: str) -> None:
    if classes not in ("present", "all"):
        raise wrong("classes", "be 'present' or 'all'", repr(classes))


def boundary_loss(
    input: Tensor,
    distance: Tensor,
    *,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Boundary loss: ``Σ p φ`` with ``φ`` the signed distance to the true boundary, negative inside (Kervadec et al.,
    2019).

    Args:
        input: logits, ``(N, C, ...)``: one channel for a sigmoid, several exclusive classes for a softmax.
        distance: the signed distance map of each channel, the shape of ``input``, in pixels; ``signed_distance`` makes
            one.
        where: bool, which pixels count: ``(N, ...)``, ``(N, 1, ...)`` or the shape of ``input``.
        reduction: over all elements.

    It is signed and may be negative. Alone it is happy with an empty prediction: add it, with a growing weight, to a
    loss of overlap.
    """
    is_reduction(reduction)
    is_floating("input", input)
    same_shape(input, distance, other="distance")
    x = precise(input)
    p = torch.sigmoid(x) if x.shape[1] == 1 else torch.softmax(x, 1)
    if where is not None and where.dim() == x.dim() - 1:
        where = where.unsqueeze(1)
    values = p * distance.to(x.dtype)
    return reduce(values, reduction, where=None if where is None else where.expand_as(values))


def signed_distance(mask: Tensor) -> Tensor:
    """The signed Euclidean distance of each pixel to the boundary of its mask, negative inside (needs scipy).

    Args:
        mask: bool or 0 and 1, ``(N, C, ...)``.

    Returns:
        float32 of the same shape, in pixels. An empty or a full mask has no boundary: its map is 0.
    """
    try:
        from scipy.ndimage import distance_transform_edt
    except ImportError:
        raise ImportError("signed_distance needs scipy: pip install scipy") from None

    result = torch.zeros(mask.shape, dtype=torch.float32)
    for row, channel in ((row, channel) for row in range(mask.shape[0]) for channel in range(mask.shape[1])):
        inside = mask[row, channel].detach().cpu().bool().numpy()
        if inside.any() and not inside.all():
            outer, inner = distance_transform_edt(~inside), distance_transform_edt(inside)
            result[row, channel] = torch.from_numpy(outer - (inner - 1) * inside).float()
    return result.to(mask.device)


def dice_cross_entropy_loss(
    input: Tensor,
    target: Tensor,
    *,
    dice_weight: float = 1.0,
    entropy_weight: float = 1.0,
    gamma: float = 0.0,
    ignore_index: int | None = None,
    **dice: Any,
) -> Tensor:
    """Dice plus cross entropy (focal with ``gamma``): overlap for the score, entropy for a gradient where all is wrong.

    Args:
        input, target: as in ``dice_loss``; binary where they have one shape, else multi-class.
        dice_weight, entropy_weight: weights of the two, at least 0. They are of one order at the start of training
            (Dice at most 1, cross entropy ``ln C``).
        gamma: with more than 0 the entropy is a focal loss.
        ignore_index: a value of ``target`` that does not count, in either.
        dice: further settings of ``dice_loss`` (``empty``, ``smooth``, …).

    Returns:
        the weighted sum, a scalar.
    """
    in_range("dice_weight", dice_weight, 0.0)
    in_range("entropy_weight", entropy_weight, 0.0)
    overlap = dice_loss(input, target, ignore_index=ignore_index, **dice)
    if target.shape == input.shape:
        entropy = (
            binary_focal_loss(input, target, gamma=gamma, ignore_index=ignore_index)
            if gamma
            else binary_cross_entropy_with_logits(input, target, ignore_index=ignore_index)
        )
    else:
        ignored = IGNORE if ignore_index is None else ignore_index
        entropy = (
            focal_loss(input, target, gamma=gamma, ignore_index=ignored)
            if gamma
            else cross_entropy(input, target, ignore_index=ignored)
        )
    return dice_weight * overlap + entropy_weight * entropy


def _counts(target: Tensor, ignore_index: int | None, where: Tensor | None) -> Tensor | None:
    counts = None if where is None else where.expand_as(target)
    if ignore_index is not None:
        known = target != ignore_index
        counts = known if counts is None else known & counts
    return counts


def _rows(value: Tensor) -> Tensor:
    return value.flatten(1) if value.dim() > 1 else value.unsqueeze(1)


def _lovasz(errors: Tensor, truth: Tensor, counts: Tensor | None, per_sample: bool, *, rectify: bool = False) -> Tensor:
    """The Lovász extension of the Jaccard loss at the errors of each row (of all rows together without
    ``per_sample``)."""
    if not per_sample:
        errors, truth = errors.reshape(1, -1), truth.reshape(1, -1)
        counts = None if counts is None else counts.reshape(1, -1)
    errors, truth = _rows(errors), _rows(truth)
    if counts is not None:
        counts = _rows(counts)
        # What does not count sorts last and has no error: it changes neither the order nor the sums of the others.
        errors, truth = torch.where(counts, errors, float("-inf")), torch.where(counts, truth, 0.0)
    ordered, order = errors.sort(1, descending=True)
    truth = truth.gather(1, order)
    with torch.no_grad():
        # Of the first k pixels, `left` true ones are still to come: the loss of the set is 1 - left / (left + k).
        left = truth.sum(1, keepdim=True).sub(truth.cumsum(1))
        k = torch.arange(1, truth.shape[1] + 1, device=truth.device, dtype=truth.dtype)
        jaccard = k / left.add_(k)
        step = jaccard.clone()
        step[:, 1:].sub_(jaccard[:, :-1])
    if counts is not None:
        ordered = torch.where(ordered == float("-inf"), 0.0, ordered)
    return ((F.relu(ordered) if rectify else ordered) * step).sum(1)
