"""Learning from another model's answers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossproof.losses.checks import class_dim, in_range, is_floating, is_reduction, same_shape, shape, wrong
from lossproof.losses.reducing import precise, reduce


def distillation_loss(
    input: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 4.0,
    where: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``T² KL(softmax(teacher / T) || softmax(x / T))`` (Hinton et al., 2015).

    The factor ``T²`` keeps the gradient's size as the temperature changes. The teacher takes no gradient. Both
    logarithms come from ``log_softmax``: ``kl_div`` of a softmax would be NaN where a probability underflows.

    Args:
        input: the student's logits, ``(N, C, ...)`` or ``(C,)``.
        teacher: logits, of the same shape.
        temperature: more than 0.
        where: bool, which examples count, ``(N, ...)``.
        reduction: ``none`` has the shape without the classes; ``mean`` is over examples (``batchmean``), not over
            classes.
    """
    is_reduction(reduction)
    in_range("temperature", temperature, 0.0, open_low=True)
    is_floating("input", input)
    is_floating("teacher", teacher)
    same_shape(input, teacher, other="teacher")
    dim = class_dim(input)
    if input.dim() == 0 or input.shape[dim] == 1:
        raise wrong("input", "have at least two classes", shape(input))
    student = F.log_softmax(precise(input) / temperature, dim)
    wise = F.log_softmax(precise(teacher.detach()) / temperature, dim).to(student.dtype)
    gone = wise == float("-inf")
    share = wise.exp()
    values = torch.where(gone, 0.0, share * (torch.where(gone, 0.0, wise) - student.masked_fill(gone, 0.0))).sum(dim)
    return reduce(values * temperature**2, reduction, where=where)
