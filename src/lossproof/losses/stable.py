"""Primitives for losses of one's own that stay finite, say what they guarded, and keep a gradient where it matters.

A clamp in front of a logarithm stops the NaN, zeroes the gradient of what it clamped, and hides the rows that were
wrong. These primitives guard as well, and count: ``guarded()`` says how many elements each of them has touched. The
counts lie on the tensors' device and are read only when somebody asks, so counting makes nobody wait.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossproof.losses.checks import is_floating, is_mask, shape, wrong
from lossproof.losses.reducing import precise

_counts: dict[tuple[str, torch.device], Tensor] = {}


def guarded(*, reset: bool = False) -> dict[str, int]:
    """How many elements each guard has touched so far, by its name. Reading waits for the device.

    Args:
        reset: begin again at 0.
    """
    total: dict[str, int] = {}
    for (name, _), count in list(_counts.items()):
        total[name] = total.get(name, 0) + int(count)
    if reset:
        _counts.clear()
    return {name: count for name, count in sorted(total.items()) if count}


def safe_div(numerator: Tensor, denominator: Tensor, *, fill: float = 0.0, name: str = "safe_div") -> Tensor:
    """``numerator / denominator``, and ``fill`` where the denominator is 0, with gradient 0 there instead of NaN.

    It adds nothing to the denominator: every other quotient is exact. A denominator that is tiny rather than 0 is not
    guarded, because its quotient is what was asked for.

    Args:
        numerator, denominator: broadcastable, floating point.
        fill: the value of what cannot be divided.
        name: under which ``guarded()`` counts it.
    """
    is_floating("denominator", denominator)
    zero = denominator == 0
    _count(name, zero)
    quotient = numerator / torch.where(zero, 1.0, denominator)
    return torch.where(zero, fill, quotient)


def safe_log(value: Tensor, *, epsilon: float | None = None, name: str = "safe_log") -> Tensor:
    """``log(value)``, continued below ``epsilon`` by its tangent: finite everywhere, with a gradient of ``1 / epsilon``
    there.

    A clamp would have gradient 0 exactly where the value most needs to grow. For probabilities made from logits use
    ``logsigmoid`` or ``log_softmax`` instead: they need no guard.

    Args:
        value: floating point; 0 and negatives are guarded and counted.
        epsilon: where the tangent begins, more than 0; ``dtype_epsilon(value)`` by default.
        name: under which ``guarded()`` counts it.
    """
    is_floating("value", value)
    edge = dtype_epsilon(value) if epsilon is None else epsilon
    if not edge > 0:
        raise wrong("epsilon", "be more than 0", repr(epsilon))
    low = value < edge
    _count(name, low)
    level = torch.log(value.new_tensor(edge))
    return torch.where(low, level + (value - edge) / edge, torch.log(torch.where(low, 1.0, value)))


def safe_sqrt(value: Tensor, *, epsilon: float | None = None, name: str = "safe_sqrt") -> Tensor:
    """``sqrt(value)``, a straight line from 0 to ``sqrt(epsilon)`` below ``epsilon``: 0 at 0, with a finite gradient.

    Args:
        value: floating point; what is below 0 gives 0 with gradient 0, and is counted, as is what is below ``epsilon``.
        epsilon: where the line ends, more than 0; ``dtype_epsilon(value)`` by default.
        name: under which ``guarded()`` counts it.
    """
    is_floating("value", value)
    edge = dtype_epsilon(value) if epsilon is None else epsilon
    if not edge > 0:
        raise wrong("epsilon", "be more than 0", repr(epsilon))
    low = value < edge
    _count(name, low)
    line = value.clamp_min(0) / edge**0.5
    return torch.where(low, line, torch.sqrt(torch.where(low, 1.0, value)))


def log_ratio(numerator: Tensor, denominator: Tensor, *, name: str = "log_ratio") -> Tensor:
    """``log(numerator / denominator)`` of positive numbers, as the difference of two guarded logarithms.

    The quotient itself would overflow or vanish long before its logarithm does. It is signed: square it or take its
    absolute value before it becomes a loss.
    """
    return safe_log(numerator, name=name) - safe_log(denominator, name=name)


def masked_mean(value: Tensor, mask: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """The mean over what the mask selects, and 0 with a graph where it selects nothing.

    Args:
        value: floating point. What the mask leaves out may be NaN: it reaches neither the value nor the gradient.
        mask: bool, broadcastable to ``value``.
        dim: over which dimensions; all of them by default.
    """
    is_floating("value", value)
    is_mask("mask", mask, value)
    mask = mask.expand_as(value)
    dims = tuple(range(value.dim())) if dim is None else dim
    total = torch.where(mask, precise(value), 0.0).sum(dims)
    return total / mask.sum(dims).clamp_min(1)


def dtype_epsilon(value: Tensor | torch.dtype) -> float:
    """A number that a dtype can hold, and that still changes 1 when it is added to it: ``finfo(dtype).eps``.

    ``1e-8`` is 0 in float16, and ``1 - 1e-8`` is 1 in float32. For float32 this is 1.2e-7, for bfloat16 7.8e-3, for
    float16 9.8e-4, for float64 2.2e-16.
    """
    dtype = value.dtype if isinstance(value, Tensor) else value
    if not dtype.is_floating_point:
        raise wrong("value", "be of a floating-point dtype", f"dtype {dtype}")
    return float(torch.finfo(dtype).eps)


def checked(value: Tensor, *, name: str, like: Tensor | None = None) -> Tensor:
    """The first line of a loss of one's own: floating point, the shape of ``like``, and finite, told where it lies.

    Shape and dtype are checked at once; that every element is finite is asserted on the device, so nothing waits for
    it.

    Raises:
        LossArgumentError: the dtype or the shape is wrong.
        RuntimeError: an element is not finite (on an accelerator: a device-side assertion at the next synchronization).
    """
    is_floating(name, value)
    if like is not None and value.shape != like.shape:
        raise wrong(name, f"have the shape {shape(like)}", shape(value))
    torch._assert_async(torch.isfinite(value.detach()).all(), f"`{name}` should be finite")
    return value


@torch.no_grad()
def _count(name: str, where: Tensor) -> None:
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return
    key = (name, where.device)
    number = where.sum()
    if key in _counts:
        _counts[key] += number
    else:
        _counts[key] = number
