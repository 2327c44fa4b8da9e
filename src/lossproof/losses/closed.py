"""Losses whose derivative is written by hand, because it costs a fraction of what autograd would make of the formula.

Written with plain operators a loss keeps five to ten tensors for the backward pass and reads memory as often. Where the
derivative has a closed form, forward and backward share their exponentials, and what is kept is said. The plain formula
stays beside it: it is what ``torch.compile`` fuses, what ``torch.func`` transforms, what a second derivative goes
    through,
and what the tests compare with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor


class Formula(Protocol):
    """One loss, or the sums that a loss is made of, in two ways.

    ``plain`` computes it with operators that autograd differentiates. ``forward`` gives the same results and what
    ``backward`` needs; ``backward`` turns the gradients of the results into that of ``input``.
    """

    @property
    def plain(self) -> Callable[..., tuple[Tensor, ...]]: ...

    @property
    def forward(self) -> Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]: ...

    def backward(self, kept: tuple[Tensor, ...], grads: tuple[Tensor, ...]) -> Tensor: ...


def transformed() -> bool:
    """Whether something else than eager autograd will differentiate what is computed now."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def closed(formula: Formula, input: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """The results of a formula; only ``input`` takes a gradient in its closed form."""
    if (
        transformed()
        or not torch.is_grad_enabled()
        or not input.requires_grad
        or any(each.requires_grad for each in others)
    ):
        return formula.plain(input, *others)
    results: tuple[Tensor, ...] = _Closed.apply(formula, input, *others)  # type: ignore[no-untyped-call]
    return results


class _Closed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, formula: Formula, input: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        results, kept = formula.forward(input, *others)
        ctx.save_for_backward(input, *others, *kept)
        ctx.formula, ctx.others = formula, len(others)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        input, *rest = ctx.saved_tensors
        others, kept = rest[: ctx.others], rest[ctx.others :]
        if torch.is_grad_enabled():
            # Somebody asks for a second derivative: go through the plain formula, which autograd can differentiate.
            with torch.enable_grad():
                results = ctx.formula.plain(input, *others)
                (result,) = torch.autograd.grad(results, input, grads, create_graph=True)
        else:
            result = ctx.formula.backward(tuple(kept), grads)
        return (None, result, *(None for _ in others))
