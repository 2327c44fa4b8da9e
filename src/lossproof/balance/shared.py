"""Which parameters several losses share, read from the autograd graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lossproof.balance.tasks import TaskError


def leaves(loss: Tensor) -> dict[Any, Tensor]:
    """The leaf tensors that a loss has a gradient for, by their graph nodes, in the order in which they are met."""
    found: dict[Any, Tensor] = {}
    seen = {loss.grad_fn}
    stack = [loss.grad_fn]
    while stack:
        node: Any = stack.pop()
        variable = getattr(node, "variable", None)
        if variable is not None:
            found[node] = variable
            continue
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                stack.append(below)
    return found


def split(losses: dict[str, Tensor]) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
    """The leaves that at least two losses reach, and for each task those that it reaches alone."""
    reached = {name: leaves(loss) for name, loss in losses.items()}
    count: dict[Any, int] = {}
    for nodes in reached.values():
        for node in nodes:
            count[node] = count.get(node, 0) + 1
    shared = {node: leaf for nodes in reached.values() for node, leaf in nodes.items() if count[node] > 1}
    own = {name: [leaf for node, leaf in nodes.items() if count[node] == 1] for name, nodes in reached.items()}
    return list(shared.values()), own


def parameters(shared: Iterable[Tensor] | Tensor | torch.nn.Module) -> list[Tensor]:
    """What a user named as shared: a module, parameters, or a feature tensor."""
    if isinstance(shared, torch.nn.Module):
        found: list[Tensor] = [each for each in shared.parameters() if each.requires_grad]
    elif isinstance(shared, Tensor):
        found = [shared]
    else:
        found = [each for each in shared if each.requires_grad]
    if not found:
        raise TaskError("`shared` holds no tensor that requires a gradient")
    return found
