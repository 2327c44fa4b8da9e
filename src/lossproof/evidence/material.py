"""What experiments on whole trainings share: a gradient, networks from a seed, a plain loop, a rare class.

Torch is imported inside the functions: whoever only lists the claims needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from lossproof.evidence.experiment import Setting



def pull(loss: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The value of a loss there, and its gradient."""
    import torch

    leaf = at.detach().clone().requires_grad_()
    value = loss(leaf)
    value.backward()
    return float(value.detach()), torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


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
        for before, after in zip(widths, widths[1:], strict=False):
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
    method: str = "SGD",
) -> float:
    """Take that many steps down ``loss(step)`` with an optimizer of torch; returns the last loss."""
    import torch

    optimizer = getattr(torch.optim, method)(list(parameters), lr=lr)
    value = torch.zeros(())
    for step in range(steps):
        optimizer.zero_grad()
        value = loss(step)
        value.backward()
        optimizer.step()
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
    return float(hits.float().mean()) if hits.numel() else 0.0
