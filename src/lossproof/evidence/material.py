"""What experiments on whole trainings share: a gradient, networks from a seed, a plain loop, a rare class.

Torch is imported inside the functions: whoever only lists the claims needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lossproof.evidence.descent import ADAM, SGD, Descent

if TYPE_CHECKING:
    import torch

    from lossproof.evidence.experiment import Setting


def backward(loss: Any) -> None:
    """Fill the gradients of what made this loss."""
    loss.backward()


def pull(loss: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The value of a loss there, and its gradient."""
    import torch

    leaf = at.detach().clone().requires_grad_()
    value = loss(leaf)
    backward(value)
    return float(value.detach()), torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def gradient(network: Any) -> torch.Tensor:
    """The gradients of all parameters in one row."""
    import torch

    return torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None])


def pulls(losses: Sequence[torch.Tensor], shared: Iterable[Any]) -> list[torch.Tensor]:
    """The gradient of each loss at the shared parameters, in one row."""
    import torch

    at = list(shared)
    return [torch.cat([g.flatten() for g in torch.autograd.grad(loss, at, retain_graph=True)]) for loss in losses]


def shares(sizes: Iterable[Any]) -> list[float]:
    """Each size over their sum."""
    plain = [float(size) for size in sizes]
    return [size / sum(plain) for size in plain]


def made(setting: Setting, build: Callable[[], Any], seed: int = 0) -> Any:
    """A network with the weights that this seed gives it, on every device the same."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().to(setting.device)


def layers(setting: Setting, *widths: int, seed: int = 0, activation: str = "ReLU") -> Any:
    """Linear layers of these widths with an activation between them."""
    from torch import nn

    def build() -> Any:
        parts: list[Any] = []
        for before, after in pairwise(widths):
            parts += [getattr(nn, activation)()] if parts else []
            parts.append(nn.Linear(before, after))
        return nn.Sequential(*parts)

    return made(setting, build, seed)


def descend(
    parameters: Iterable[Any],
    loss: Callable[[int], torch.Tensor],
    steps: int,
    *,
    lr: float,
    method: str = SGD,
) -> float:
    """Take that many steps down ``loss(step)``; returns the last loss."""
    import torch

    descent = Descent(parameters, method, lr)
    value = torch.zeros(())
    for step in range(steps):
        value = loss(step)
        descent.down(value)
    return float(value.detach())


def rare(setting: Setting, negatives: int, positives: int, *, distance: float = 2.0, seed: int = 0) -> tuple[Any, Any]:
    """Two overlapping clouds in two dimensions, that of the positives moved by ``distance``; their labels as floats."""
    import torch

    x = setting.normal(negatives + positives, 2, seed=seed)
    y = torch.zeros(negatives + positives, device=setting.device)
    y[negatives:] = 1
    x[negatives:] += distance / 2**0.5
    return x, y


def share(hits: torch.Tensor) -> float:
    """How many of these are true, from 0 to 1."""
    return int(hits.sum()) / hits.numel() if hits.numel() else 0.0


def logistic(
    setting: Setting,
    x: torch.Tensor,
    y: torch.Tensor,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    steps: int = 400,
    method: str = ADAM,
    lr: float = 0.05,
) -> torch.Tensor:
    """Logistic regression from zero with this loss of logits and labels: its weights, the bias last."""
    import torch

    weights = torch.zeros(x.shape[1] + 1, device=setting.device, requires_grad=True)
    descend([weights], lambda _: loss(scores(weights, x), y), steps, lr=lr, method=method)
    return weights.detach()


def scores(weights: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """What a logistic regression with these weights says to these rows."""
    return x @ weights[:-1] + weights[-1]


def pictures(setting: Setting, count: int, side: int = 16) -> torch.Tensor:
    """Smooth images of three channels from 0 to 1, every one another."""
    import torch.nn.functional as F

    coarse = setting.uniform(count, 3, 5, 5, seed=40)
    return F.interpolate(coarse, (side, side), mode="bilinear", align_corners=True)


def convolutions(*widths: int, normalized: bool = False) -> Any:
    """Convolutions of 3 x 3 of these widths, each with an activation after it."""
    from torch import nn

    parts: list[Any] = []
    for before, after in pairwise(widths):
        parts.append(nn.Conv2d(before, after, 3, padding=1))
        if normalized:
            parts.append(nn.BatchNorm2d(after))
        parts.append(nn.ReLU())
    return nn.Sequential(*parts)
