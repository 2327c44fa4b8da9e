"""Losses over classes that exclude each other, from logits.

Convention
    ``input`` is ``(N, C, ...)`` or ``(C,)``, ``target`` holds class indices, ``(N, ...)`` or ``()``; the result of
    ``none`` has the shape of ``target``. Targets equal to ``ignore_index`` cost nothing and do not count in ``mean``.
    With class weights ``mean`` divides by the sum of the weights of the targets that count, as
    ``torch.nn.functional.cross_entropy`` does; where nothing counts the result is 0 with a graph. A class whose logit
    is -inf is out of the race: it takes part neither in the softmax nor in smoothing, and to be the target of it costs
    inf.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossproof.losses.checks import (
    class_dim,
    class_target,
    in_range,
    is_floating,
    is_reduction,
    shape,
    within,
    wrong,
)
from lossproof.losses.closed import closed
from lossproof.losses.reducing import precise, reduce

IGNORE = -100


def cross_entropy(
    input: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORE,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    chunked: bool = False,
) -> Tensor:
    """Cross entropy of logits: ``-log softmax(x)[y]``, or ``-Σ_c t_c log softmax(x)_c`` for probabilities.

    Differs from ``torch.nn.functional.cross_entropy`` where that goes wrong: 0 instead of NaN when every target is
    ignored, half precisions summed in float32, masked classes (-inf) under label smoothing, one class refused.

    Args:
        input: logits, ``(N, C, ...)`` or ``(C,)``.
        target: class indices, or class probabilities of the shape of ``input`` (mixup, distillation; they sum to 1).
        weight: weight of each class, ``(C,)``.
        ignore_index: the target that does not count (for class indices).
        label_smoothing: ε in [0, 1]: the target's share becomes ``1 - ε + ε / C``, that of the others ``ε / C``.
        reduction: ``none``, ``mean`` or ``sum``.
        chunked: keep nothing of the size of ``input`` for the backward pass but ``input`` itself, and work through the
            batch in pieces: for large vocabularies. Class indices only.

    Raises:
        LossArgumentError: a shape, a dtype or a setting does not fit; there is only one class.

    Use it for one class out of several. Feed it logits: a softmax before it bounds the gradient and the loss from
    below."""
    is_reduction(reduction)
    in_range("label_smoothing", label_smoothing, 0.0, 1.0)
    is_floating("input", input)
    if isinstance(target, Tensor) and target.dtype.is_floating_point:
        if chunked:
            raise wrong("target", "hold class indices when `chunked` is set", f"dtype {target.dtype}")
        return _soft_cross_entropy(input, target, weight, label_smoothing, reduction)
    values, weights, counts = entropies(
        input, target, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing, chunked=chunked
    )
    denominator = (counts if weights is None else weights).sum()
    return reduce(values, reduction, denominator=denominator)


def focal_loss(
    input: Tensor,
    target: Tensor,
    *,
    gamma: float = 2.0,
    alpha: Tensor | None = None,
    ignore_index: int = IGNORE,
    reduction: str = "mean",
) -> Tensor:
    """Focal loss over exclusive classes: ``-α_y (1 - p_y)^γ log p_y`` with ``p = softmax(x)`` (Lin et al., 2017).

    ``p_y`` is that of the softmax, not of one sigmoid a class; several libraries give the latter the same name.

    Args:
        input: logits, ``(N, C, ...)`` or ``(C,)``.
        target: class indices.
        gamma: how strongly easy examples are silenced, at least 0. At 0 this is the cross entropy.
        alpha: weight of each class, ``(C,)``. One number for all classes would only rescale the loss and is refused.
        ignore_index: the target that does not count.
        reduction: ``mean`` divides by the number of targets that count, whatever ``alpha`` is.

    Use it where many easy examples outweigh few hard ones; ``alpha`` from ``class_balanced_weight``.
    """
    is_reduction(reduction)
    in_range("gamma", gamma, 0.0)
    if alpha is not None and (not isinstance(alpha, Tensor) or alpha.dim() == 0):
        raise wrong(
            "alpha", "be a tensor with a weight for each class: one for all only rescales the loss", repr(alpha)
        )
    values, _, counts = entropies(input, target, ignore_index=ignore_index)
    if gamma:
        # p is exp(-values) before anything is weighted or reduced; expm1 keeps 1 - p where p is nearly 1.
        missed = -torch.expm1(-values)
        values = values * (missed * missed if gamma == 2 else _power(missed, gamma))
    if alpha is not None:
        values = values * _of_class(alpha, "alpha", input, target, counts)
    return reduce(values, reduction, denominator=counts.sum())


def poly_loss(
    input: Tensor,
    target: Tensor,
    *,
    epsilon: float = 1.0,
    weight: Tensor | None = None,
    ignore_index: int = IGNORE,
    reduction: str = "mean",
) -> Tensor:
    """Poly-1 cross entropy: ``-log p_y + ε (1 - p_y)`` (Leng et al., 2022).

    Args:
        input, target, weight, ignore_index, reduction: as in ``cross_entropy``.
        epsilon: the first coefficient of the expansion, at least -1.
    """
    is_reduction(reduction)
    in_range("epsilon", epsilon, -1.0)
    values, _, counts = entropies(input, target, ignore_index=ignore_index)
    values = values - epsilon * torch.expm1(-values)
    if weight is None:
        return reduce(values, reduction, denominator=counts.sum())
    weights = _of_class(weight, "weight", input, target, counts)
    return reduce(values * weights, reduction, denominator=weights.sum())


def mixed_cross_entropy(
    input: Tensor,
    target: Tensor,
    other: Tensor,
    share: Tensor | float,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy of mixed examples: ``λ CE(x, y) + (1 - λ) CE(x, y')`` (mixup, Zhang et al., 2018; CutMix, Yun et
    al., 2019).

    Args:
        input: logits of the mixed examples, ``(N, C)``.
        target, other: class indices of the two that were mixed, ``(N,)``.
        share: λ in [0, 1], a number or one for each example, ``(N,)``: the share of ``target``. For CutMix it is the
            share of the area that was really kept after the box was cut at the border.
        weight, label_smoothing, reduction: as in ``cross_entropy``.
    """
    if isinstance(share, (int, float)):
        in_range("share", share, 0.0, 1.0)
    is_reduction(reduction)
    first, second = (
        cross_entropy(input, each, weight=weight, label_smoothing=label_smoothing, reduction="none")
        for each in (target, other)
    )
    return reduce(share * first + (1 - share) * second, reduction)


def multi_class_hinge_loss(
    input: Tensor,
    target: Tensor,
    *,
    margin: float = 1.0,
    squared: bool = False,
    ignore_index: int = IGNORE,
    reduction: str = "mean",
) -> Tensor:
    """Hinge loss over classes: ``max(0, margin + max_{c≠y} x_c - x_y)`` (Crammer and Singer, 2001), squared on demand.

    Args:
        input: scores, ``(N, C, ...)`` or ``(C,)``.
        target, ignore_index, reduction: as in ``cross_entropy``.
        margin: by how much the right class must win to cost nothing, more than 0.
    """
    is_reduction(reduction)
    in_range("margin", margin, 0.0, open_low=True)
    class_target(input, target)
    x, dim = precise(input), class_dim(input)
    counts = target != ignore_index
    index = torch.where(counts, target, 0).long().unsqueeze(dim)
    right = x.gather(dim, index)
    rival = x.scatter(dim, index, float("-inf")).amax(dim, keepdim=True)
    values = F.relu(margin + rival - right).squeeze(dim)
    return reduce(values * values if squared else values, reduction, where=counts)


def entropies(
    input: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORE,
    label_smoothing: float = 0.0,
    chunked: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The cross entropy of each target (weighted where weights are given), those weights, and which targets count."""
    class_target(input, target)
    x, dim = precise(input), class_dim(input)
    counts = target != ignore_index
    if weight is not None:
        weight = _class_weights(weight, "weight", x.shape[dim]).to(x)
    weights = None if weight is None else _of_class(weight, "weight", input, target, counts)
    if label_smoothing:
        log_p = F.log_softmax(x, dim)
        values = F.nll_loss(log_p, target.long(), weight, ignore_index=ignore_index, reduction="none")
        return (1 - label_smoothing) * values + label_smoothing * _spread(x, log_p, weight, counts), weights, counts
    index = torch.where(counts, target, 0).long()
    within("target", index, 0, x.shape[dim] - 1)
    if chunked:
        rows = x.movedim(dim, -1).reshape(-1, x.shape[dim])
        (values,) = closed(_Chunked(), rows, index.reshape(-1))
        values = values.view(target.shape)
    else:
        (values,) = closed(_Entropy(dim), x, index)
    values = torch.where(counts, values, 0.0)
    return values if weights is None else values * weights, weights, counts


def _spread(x: Tensor, log_p: Tensor, weight: Tensor | None, counts: Tensor) -> Tensor:
    """What smoothing adds: the mean of ``-log p`` over the classes that are in the race."""
    dim = class_dim(x)
    raced = x != float("-inf")
    each = torch.where(raced, log_p, 0.0)
    if weight is not None:
        each = each * weight.view([-1] + [1] * (x.dim() - dim - 1))
    mean = -each.sum(dim) / raced.sum(dim).clamp_min(1)
    return torch.where(counts, mean, 0.0)


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float, reduction: str
) -> Tensor:
    if input.dim() == 0 or input.shape != target.shape:
        raise wrong("target", f"have the shape of `input` {shape(input)} to be probabilities", shape(target))
    x, dim = precise(input), class_dim(input)
    classes = x.shape[dim]
    if classes == 1:
        raise wrong("input", "have at least two classes", shape(input))
    share = target.to(x.dtype)
    if label_smoothing:
        share = share * (1 - label_smoothing) + label_smoothing / classes
    if weight is not None:
        share = share * _class_weights(weight, "weight", classes).to(x).view([-1] + [1] * (x.dim() - dim - 1))
    log_p = F.log_softmax(x, dim)
    # A share of 0 takes nothing from a class that is out of the race: 0 times -inf would be NaN.
    values = -(share * torch.where((share == 0) & (x == float("-inf")), 0.0, log_p)).sum(dim)
    return reduce(values, reduction)


def _power(base: Tensor, exponent: float) -> Tensor:
    """``base ** exponent`` for bases in [0, 1], with a finite slope at 0 also for exponents below 1."""
    return base.clamp_min(torch.finfo(base.dtype).tiny) ** exponent


def _class_weights(weight: Tensor, name: str, classes: int) -> Tensor:
    if not isinstance(weight, Tensor) or weight.shape != (classes,):
        found = tuple(weight.shape) if isinstance(weight, Tensor) else repr(weight)
        raise wrong(name, f"have a weight for each of the {classes} classes, shape ({classes},)", found)
    return weight


def _of_class(weight: Tensor, name: str, input: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """The weight of each target's class, 0 where the target does not count."""
    weight = _class_weights(weight, name, input.shape[class_dim(input)]).to(precise(input))
    return torch.where(counts, weight[torch.where(counts, target, 0).long()], 0.0)


class _Entropy:
    """Cross entropy of each target, ``log Σ exp(x - m) + m - x_y``, with ``m`` the largest logit of a row.

    Kept are the exponentials and their sums: the gradient is ``exp(x - m) / Σ``, less 1 at the target. That is one
        product
    and one scattered subtraction, where a log-softmax and the loss behind it make three passes and two more tensors.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def plain(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return (-F.log_softmax(x, self.dim).gather(self.dim, y.unsqueeze(self.dim)).squeeze(self.dim),)

    def forward(self, x: Tensor, y: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        most = x.amax(self.dim, keepdim=True)
        index = y.unsqueeze(self.dim)
        each = (x - most).exp_()
        total = each.sum(self.dim, keepdim=True)
        values = torch.log(total) + (most - x.gather(self.dim, index))
        return (values.squeeze(self.dim),), (each, total, index)

    def backward(self, kept: tuple[Tensor, ...], grads: tuple[Tensor, ...]) -> Tensor:
        each, total, index = kept
        grad = grads[0].unsqueeze(self.dim)
        return (each * (grad / total)).scatter_add_(self.dim, index, -grad)


_PIECE = 1 << 22
"""Elements of the logits that a chunked cross entropy holds at a time: 16 MB in float32."""


class _Chunked(_Entropy):
    """The same of rows ``(N, C)``, piece by piece, keeping one number a row: the exponentials are made again."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, x: Tensor, y: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        total = torch.cat([x[part].logsumexp(1) for part in _pieces(x)])
        return (total - x.gather(1, y[:, None]).squeeze(1),), (x, total, y)

    def backward(self, kept: tuple[Tensor, ...], grads: tuple[Tensor, ...]) -> Tensor:
        x, total, y = kept
        (grad,) = grads
        result = torch.empty_like(x)
        for part in _pieces(x):
            torch.sub(x[part], total[part, None], out=result[part]).exp_().mul_(grad[part, None])
        return result.scatter_add_(1, y[:, None], -grad[:, None])


def _pieces(x: Tensor) -> list[slice]:
    step = max(1, _PIECE // max(x.shape[1], 1))
    return [slice(at, at + step) for at in range(0, max(len(x), 1), step)]
