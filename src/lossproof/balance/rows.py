"""The gradients of several losses at what they share: as rows, and as the matrix of their inner products.

Everything that a balancer decides from gradients follows from that matrix: norms, shares, cosines, weights. It is
summed in float32 also for half-precision gradients, and it is K times K, so what is solved with it costs nothing beside
the K backward passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossproof.balance.tasks import TaskError


@dataclass(frozen=True)
class Rows:
    """Gradients of ``names`` at the shared tensors, and at what each task has alone.

    ``shared[p]`` is ``(K, *shape of p)`` in the dtype of the gradient; ``gram`` is ``(K, K)`` in float64 on the CPU. A
    task whose gradient is not finite has NaN in its row.
    """

    names: tuple[str, ...]
    points: tuple[Tensor, ...]
    shared: tuple[Tensor, ...]
    own: dict[str, list[tuple[Tensor, Tensor]]]
    gram: Tensor

    @property
    def norms(self) -> Tensor:
        return self.gram.diagonal().clamp_min(0).sqrt()

    @property
    def cosines(self) -> Tensor:
        """``(K, K)``; 0 against a gradient of zeros."""
        norms = self.norms
        outer = norms[:, None] * norms
        return torch.where(outer > 0, self.gram / torch.where(outer > 0, outer, 1.0), 0.0).clamp(-1, 1)

    def usable(self) -> list[int]:
        """The rows that are finite."""
        return [i for i in range(len(self.names)) if bool(torch.isfinite(self.gram[i, i]))]


def rows(
    losses: dict[str, Tensor],
    points: Sequence[Tensor],
    own: dict[str, list[Tensor]] | None = None,
    *,
    keep_graph: bool = True,
) -> Rows:
    """One backward pass for each loss, as far as the shared tensors and what the task has alone.

    Args:
        losses: scalars, by name.
        points: parameters, or one tensor of features, that the losses share.
        own: for each task, what only it reaches; its gradient comes with the same pass.
        keep_graph: whether the graph is needed after the last pass.
    """
    own = own or {}
    last = len(losses) - 1
    gathered: list[list[Tensor | None]] = []
    alone: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for place, (name, loss) in enumerate(losses.items()):
        mine = own.get(name, [])
        grads = torch.autograd.grad(loss, [*points, *mine], retain_graph=keep_graph or place < last, allow_unused=True)
        gathered.append(list(grads[: len(points)]))
        alone[name] = [(leaf, grad) for leaf, grad in zip(mine, grads[len(points) :], strict=True) if grad is not None]
    if all(grad is None for row in gathered for grad in row):
        raise TaskError("no loss reaches what was named as shared: nothing joins these tasks there")
    stacked: list[Tensor] = []
    gram = torch.zeros(len(losses), len(losses), dtype=torch.float32, device=points[0].device)
    for place, point in enumerate(points):
        each = [torch.zeros_like(point) if row[place] is None else row[place] for row in gathered]
        block = torch.stack([part for part in each if part is not None])
        stacked.append(block)
        flat = block.flatten(1).float()
        gram += (flat @ flat.T).to(gram.device)
    return Rows(tuple(losses), tuple(points), tuple(stacked), alone, gram.double().cpu())
