"""One interface for every way of putting several losses together: ``total = balancer(losses)``, then
``total.backward()``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lossproof.balance.tasks import Losses, TaskError, a_policy, finite, named, said


class Balancer(nn.Module):
    """Puts the losses of a step together.

    Args:
        tasks: their names, in an order that stays; for losses in a list, how many there are.
        non_finite: what to do with a loss that is NaN or infinite: ``stop`` raises and names the task, ``skip`` leaves
            it out of this step, ``pass`` does not ask (asking makes the host wait for the device).

    A task may be missing from a step (no labels in this batch); it is left out of it. A name that is not known is an
    error. What a balancer has learnt is in ``state_dict()``.
    """

    def __init__(self, tasks: Sequence[str] | int, *, non_finite: str = "stop") -> None:
        super().__init__()
        names = [f"task{i}" for i in range(tasks)] if isinstance(tasks, int) else list(tasks)
        if not names:
            raise TaskError("a balancer needs at least one task")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise TaskError(f"two tasks have one name: {said(twice)}")
        self.tasks = tuple(names)
        self.non_finite = a_policy(non_finite)

    def forward(self, losses: Losses) -> Tensor:
        """The one loss to call ``backward()`` on.

        Raises:
            TaskError: a loss is detached, no scalar, not finite (under ``stop``), or of a task that is not known.
        """
        given = named(losses)
        unknown = [name for name in given if name not in self.tasks]
        if unknown:
            raise TaskError(f"{said(unknown)} not known; this balancer was made for {said(self.tasks)}")
        return self.total(finite(given, self.non_finite))

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """What ``forward`` gives, of losses that have been checked."""
        weights = self.weights(losses)
        return torch.stack([weights[name].to(loss) * loss for name, loss in losses.items()]).sum()

    def weights(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weight of each task in this step. They may be learnt."""
        raise NotImplementedError

    def place(self, name: str) -> int:
        return self.tasks.index(name)

    def places(self, losses: dict[str, Tensor]) -> list[int] | slice:
        """Where these tasks stand; a slice if all are there, as it costs less to take."""
        return slice(None) if tuple(losses) == self.tasks else [self.place(name) for name in losses]

    def extra_repr(self) -> str:
        return f"tasks={list(self.tasks)}"


def stacked(losses: dict[str, Tensor]) -> Tensor:
    """All losses as one vector, on the device of the first."""
    device = next(iter(losses.values())).device
    return torch.stack([loss if loss.device == device else loss.to(device) for loss in losses.values()])


class Fixed(Balancer):
    """Weights that somebody chose. Without any it is the plain sum.

    Args:
        tasks: names, or a mapping from names to weights, at least 0.
    """

    weight: Tensor

    def __init__(self, tasks: Sequence[str] | int | dict[str, float], *, non_finite: str = "stop") -> None:
        super().__init__(list(tasks) if isinstance(tasks, dict) else tasks, non_finite=non_finite)
        chosen = list(tasks.values()) if isinstance(tasks, dict) else [1.0] * len(self.tasks)
        if any(not each >= 0 for each in chosen):
            raise TaskError(
                "weights should be at least 0: a negative one maximizes that loss, and unless it has a floor the total "
                "falls without bound. For an objective that must not fall below something see `Constraint`"
            )
        self.register_buffer("weight", torch.tensor(chosen, dtype=torch.float32))

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        values = stacked(losses)
        return (self.weight[self.places(losses)].to(values.device) * values).sum()

    def weights(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.weight[self.place(name)] for name in losses}
