"""A loss of each element on its own, with its derivative computed in the same pass.

Written with plain operators such a loss keeps five to ten tensors for the backward pass and reads memory as often.
Where its slope has a closed form, value and slope share their exponential, and the slope is all that is kept. The plain
formula stays beside it: it is what ``torch.compile`` fuses, what ``torch.func`` transforms, what a second derivative
goes through, and what the tests compare with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Plain = Callable[..., Tensor]
"""``plain(input, target, *settings)``: the loss of each element, differentiable by autograd."""
Fused = Callable[..., tuple[Tensor, Tensor]]
"""``fused(input, target, *settings)``: the same values, and their derivative with respect to ``input``."""


def pointwise(plain: Plain, fused: Fused, input: Tensor, target: Tensor, *settings: Any) -> Tensor:
    """The loss of each element of ``input``; ``target`` takes no gradient in the fused form."""
    if (
        torch.compiler.is_compiling()
        or not torch.is_grad_enabled()
        or not input.requires_grad
        or target.requires_grad
        or torch._C._are_functorch_transforms_active()
    ):
        return plain(input, target, *settings)
    result: Tensor = _Pointwise.apply(plain, fused, input, target, *settings)  # type: ignore[no-untyped-call]
    return result


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plain: Plain, fused: Fused, input: Tensor, target: Tensor, *settings: Any) -> Tensor:
        value, slope = fused(input, target, *settings)
        ctx.save_for_backward(input, target, slope)
        ctx.plain, ctx.settings = plain, settings
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        input, target, slope = ctx.saved_tensors
        (grad,) = grads
        if torch.is_grad_enabled() and (grad.requires_grad or input.requires_grad):
            # Somebody asks for a second derivative: go through the plain formula, which autograd can differentiate.
            with torch.enable_grad():
                value = ctx.plain(input, target, *ctx.settings)
                (result,) = torch.autograd.grad(value, input, grad, create_graph=True)
        else:
            result = slope * grad
        return (None, None, result, None, *(None for _ in ctx.settings))
