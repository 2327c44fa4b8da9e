"""Softmax losses with an angular margin, by ``pytorch-metric-learning``, with this package's checks and precision.

The margins are right there, also at cosines of ±1 where a hand-written ``acos`` has an infinite gradient; there is no
reason to write them again. ``pip install 'lossproof[metric]'``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lossproof.losses.checks import in_range, is_floating, shape, wrong
from lossproof.losses.reducing import precise


class _MarginLoss(nn.Module):
    """The matrix of class directions is a parameter: give it to the optimizer."""

    kind: str

    def __init__(self, classes: int, features: int, *, margin: float, scale: float) -> None:
        super().__init__()
        for name, value in (("classes", classes), ("features", features)):
            in_range(name, value, 1)
        in_range("scale", scale, 0.0, open_low=True)
        try:
            from pytorch_metric_learning import losses
        except ImportError:
            raise ImportError(
                f"{type(self).__name__} needs pytorch-metric-learning: pip install 'lossproof[metric]'"
            ) from None
        self.classes, self.features = classes, features
        self.inner: nn.Module = getattr(losses, self.kind)(classes, features, margin=margin, scale=scale)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        is_floating("input", input)
        if input.dim() != 2 or input.shape[1] != self.features:
            raise wrong("input", f"be (N, {self.features})", shape(input))
        if target.shape != input.shape[:1] or target.dtype.is_floating_point:
            raise wrong("target", f"hold class indices, {tuple(input.shape[:1])}", f"{shape(target)}, {target.dtype}")
        with torch.autocast(input.device.type, enabled=False):
            loss: Tensor = self.inner(precise(input), target)
        return loss

    def logits(self, input: Tensor) -> Tensor:
        """Scaled cosines without the margin, ``(N, classes)``: what to predict with."""
        found: Any = self.inner
        result: Tensor = found.get_logits(precise(input))
        return result


class ArcFaceLoss(_MarginLoss):
    """Cross entropy of ``s cos(θ_y + m)`` against ``s cos θ_c`` (Deng et al., 2019).

    Args:
        classes, features: the shape of the matrix of class directions.
        margin: m in *degrees*, as the library has it; the paper's 0.5 radians are 28.6.
        scale: s, more than 0; 64 for many classes.

    Shape:
        input: embeddings, ``(N, features)``, need not be normalized. target: class indices, ``(N,)``.
    """

    kind = "ArcFaceLoss"

    def __init__(self, classes: int, features: int, *, margin: float = 28.6, scale: float = 64.0) -> None:
        in_range("margin", margin, 0.0, 180.0)
        super().__init__(classes, features, margin=margin, scale=scale)


class CosFaceLoss(_MarginLoss):
    """Cross entropy of ``s (cos θ_y - m)`` against ``s cos θ_c`` (Wang et al., 2018).

    Args:
        classes, features: the shape of the matrix of class directions.
        margin: m, a difference of cosines, in [0, 2]; the paper's is 0.35.
        scale: s, more than 0; 64 for many classes.

    Shape:
        as in ``ArcFaceLoss``.
    """

    kind = "CosFaceLoss"

    def __init__(self, classes: int, features: int, *, margin: float = 0.35, scale: float = 64.0) -> None:
        in_range("margin", margin, 0.0, 2.0)
        super().__init__(classes, features, margin=margin, scale=scale)
