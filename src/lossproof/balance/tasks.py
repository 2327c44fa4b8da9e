"""What every balancer is given, checked once: named scalar losses with a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Losses = Mapping[str, Tensor] | Sequence[Tensor]
"""Losses by the names of their tasks, or in an order that stays the same."""
POLICIES = ("stop", "skip", "pass")


class TaskError(ValueError):
    """A loss that cannot be balanced. The message names the task, what is wrong, and what to do."""


def named(losses: Losses) -> dict[str, Tensor]:
    """Losses by name; ``task0``, ``task1`` … for a sequence.

    Raises:
        TaskError: no loss at all, not a tensor, not a scalar, detached from the graph.
    """
    if isinstance(losses, Tensor):
        raise TaskError("a balancer takes the losses of the tasks, by name or in a list, and this is one tensor")
    pairs = (
        list(losses.items()) if isinstance(losses, Mapping) else [(f"task{i}", each) for i, each in enumerate(losses)]
    )
    if not pairs:
        raise TaskError("there is no loss to balance: the mapping is empty")
    for name, loss in pairs:
        if not isinstance(loss, Tensor):
            hint = " (.item() or float() was called: pass the tensor)" if isinstance(loss, (int, float)) else ""
            raise TaskError(f"the loss of task {name!r} should be a tensor, and is {type(loss).__name__}{hint}")
        if loss.numel() != 1:
            raise TaskError(
                f"the loss of task {name!r} should be one number, and has the shape {tuple(loss.shape)}: reduce it "
                "(.mean()), or name its parts"
            )
        if not loss.requires_grad and torch.is_grad_enabled():
            raise TaskError(
                f"the loss of task {name!r} has no graph: it was detached, made under no_grad(), or is a constant. "
                "Leave a task without labels in this batch out of the mapping"
            )
    return {name: loss.reshape(()) for name, loss in pairs}


def finite(losses: dict[str, Tensor], policy: str) -> dict[str, Tensor]:
    """The losses that may be used under a policy for those that are NaN or infinite. Asking waits for the device.

    Args:
        policy: ``stop`` raises and names the task, ``skip`` leaves it out of this step, ``pass`` does not ask.
    """
    if policy == "pass":
        return losses
    values = torch.stack([loss.detach().float() for loss in losses.values()])
    fine = torch.isfinite(values).tolist()
    if all(fine):
        return losses
    bad = [name for name, good in zip(losses, fine, strict=True) if not good]
    if policy == "stop":
        raise TaskError(f"the loss of {said(bad)} is not finite: {values[fine.index(False)].item()}")
    if not any(fine):
        raise TaskError(f"no task has a finite loss: {said(bad)}")
    return {name: loss for name, loss in losses.items() if name not in bad}


def said(names: Sequence[str]) -> str:
    return ("task " if len(names) == 1 else "tasks ") + ", ".join(map(repr, names))


def a_policy(policy: str) -> str:
    if policy not in POLICIES:
        raise TaskError(f"`non_finite` should be one of {', '.join(map(repr, POLICIES))}. Found {policy!r}.")
    return policy
