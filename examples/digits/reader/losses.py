"""What each task is trained with (the digit itself: cross entropy, see the engine)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def trait_loss(answers: Tensor, truth: Tensor) -> Tensor:
    """Binary cross entropy over independent yes/no answers."""
    return F.binary_cross_entropy(answers, truth)


def dice_loss(mask: Tensor, truth: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the overlap of the predicted and the true ink."""
    mask, truth = mask.reshape(-1), truth.reshape(-1)
    overlap = (mask * truth).sum()
    return 1 - (2 * overlap + smooth) / (mask.sum() + truth.sum() + smooth)


def relative_error(amount: Tensor, truth: Tensor) -> Tensor:
    """How far off the amount of ink is, as a share of the true amount."""
    return ((amount - truth).abs() / truth).mean()
