"""What an optimizer keeps between steps, and whether the next step can survive it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from lossproof.graph.figures import all_finite, bad, may_be_bad, plain
from lossproof.graph.scene import Verdict
from lossproof.graph.spoken import Names, leaf_said

if TYPE_CHECKING:
    from torch.optim import Optimizer

_SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum")
"""Running means of squares: below 0 the root of one is NaN."""


def judge(optimizer: Optimizer, names: Names) -> Verdict | None:
    """A state that is not finite, or that makes a step that is not; None where nothing is wrong with it."""
    said: list[str] = []
    for parameter, key, tensor in _state(optimizer):
        if not all_finite(tensor):
            wrong = int(bad(tensor).sum())
            said.append(
                f"{wrong} of {tensor.numel()} elements of {key} of {leaf_said(parameter, names)} are not finite"
            )
        elif key in _SQUARES and tensor.numel() and bool((plain(tensor) < 0).any()):
            wrong = int((plain(tensor) < 0).sum())
            said.append(f"{wrong} of {tensor.numel()} elements of {key} of {leaf_said(parameter, names)} are negative")
    if said:
        return Verdict("bad-optimizer-state", "", tuple(said[:4]))
    return _vanished(optimizer, names)


def _state(optimizer: Optimizer) -> Iterator[tuple[torch.Tensor, str, torch.Tensor]]:
    for parameter, state in optimizer.state.items():
        if not isinstance(state, dict) or not isinstance(parameter, torch.Tensor):
            continue
        for key, each in state.items():
            if isinstance(each, torch.Tensor) and may_be_bad(each):
                yield parameter, str(key), each


def _vanished(optimizer: Optimizer, names: Names) -> Verdict | None:
    """An eps that is 0 in the type of the weights, under a second moment that is 0 too: a step of 0 / 0."""
    for group in optimizer.param_groups:
        eps = group.get("eps")
        if not isinstance(eps, float) or eps == 0.0:
            continue
        for parameter in group["params"]:
            if parameter.dtype != torch.float16 or bool(torch.tensor(eps, dtype=torch.float16) != 0):
                continue
            state: dict[str, Any] = optimizer.state.get(parameter, {})
            squares = next((state[key] for key in _SQUARES if isinstance(state.get(key), torch.Tensor)), None)
            if squares is not None and not bool((squares == 0).any()):
                continue
            what = (
                f"{int((squares == 0).sum())} of {squares.numel()} squares kept of {leaf_said(parameter, names)} are 0"
                if squares is not None
                else f"the squares of small gradients of {leaf_said(parameter, names)} are 0 in float16 as well"
            )
            said = f"eps={eps:g} is exactly 0 in float16, and {what}: the step divides by 0"
            return Verdict("bad-optimizer-state", "epsilon", (said,), 0.95)
    return None


def explains_weights(optimizer: Optimizer, names: Names, weights: list[torch.Tensor]) -> Verdict | None:
    """Whether weights that are not finite came from the optimizer's state rather than from a gradient."""
    found = judge(optimizer, names)
    if found is None:
        return None
    if found.variant == "epsilon":
        return found
    if any(each.grad is not None and not all_finite(each.grad) for each in weights):
        return None
    return found
