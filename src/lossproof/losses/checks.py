"""What every loss asks of its arguments, in one wording: *Parameter … should … Found …*.

Reading a value from a tensor on an accelerator would make the host wait for it, so what can be said of values (a class
index, a target in [0, 1]) is checked where the tensor lies: at once on the CPU, elsewhere by an assertion of the
device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lossproof.losses.closed import transformed

REDUCTIONS = ("none", "mean", "sum")


class LossArgumentError(ValueError):
    """An argument that a loss cannot be computed from. The message names the parameter, what it should be, what it
    is."""


def wrong(name: str, should: str, found: object) -> LossArgumentError:
    return LossArgumentError(f"Parameter `{name}` should {should}. Found {found}.")


def is_reduction(reduction: str, allowed: Sequence[str] = REDUCTIONS) -> None:
    if reduction not in allowed:
        raise wrong("reduction", "be one of " + ", ".join(map(repr, allowed)), repr(reduction))


def is_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise wrong(name, "be a torch.Tensor", f"a {type(value).__name__}")


def is_floating(name: str, value: Tensor) -> None:
    is_tensor(name, value)
    if not value.dtype.is_floating_point:
        raise wrong(name, "be of a floating-point dtype", f"dtype {value.dtype}")


def same_shape(input: Tensor, target: Tensor, *, other: str = "target") -> None:
    """Equal shapes, asked for because ``(N, 1)`` against ``(N,)`` would silently become ``(N, N)``."""
    if input.shape != target.shape:
        hint = ""
        if input.squeeze().shape == target.squeeze().shape:
            hint = " (they differ in dimensions of size 1 alone: squeeze or unsqueeze one of them)"
        raise LossArgumentError(
            f"Parameter `{other}` should have the shape of `input`, {shape(input)}. Found {shape(target)}{hint}."
        )


def is_mask(name: str, mask: Tensor, like: Tensor) -> None:
    if mask.dtype != torch.bool:
        raise wrong(name, "be a bool tensor (True where the loss counts)", f"dtype {mask.dtype}")
    broadcasts(name, mask, like)


def broadcasts(name: str, value: Tensor, like: Tensor) -> None:
    """``value`` takes the shape of ``like`` when it is expanded."""
    missing = like.dim() - value.dim()
    if missing < 0 or any(a not in (1, b) for a, b in zip(value.shape, like.shape[missing:], strict=True)):
        raise wrong(name, f"broadcast to {shape(like)}", shape(value))


def class_target(input: Tensor, target: Tensor) -> None:
    """``input`` is ``(N, C, …)`` or ``(C,)`` and ``target`` holds class indices, ``(N, …)`` or ``()``."""
    is_floating("input", input)
    is_tensor("target", target)
    if input.dim() == 0:
        raise wrong("input", "have a dimension for the classes, (N, C, ...) or (C,)", "a tensor without dimensions")
    if target.dtype.is_floating_point or target.dtype == torch.bool or target.dtype.is_complex:
        raise wrong("target", "hold class indices of an integer dtype, (N, ...)", f"dtype {target.dtype}")
    expected = input.shape[:1] + input.shape[2:] if input.dim() > 1 else input.shape[:0]
    if target.shape != expected:
        raise wrong("target", f"have the shape {tuple(expected)}, as `input` is {shape(input)}", shape(target))
    if input.shape[class_dim(input)] == 1:
        raise wrong(
            "input",
            "have at least two classes: a softmax over one is always 1, and its loss always 0 "
            "(for one logit per example use binary_cross_entropy_with_logits)",
            shape(input),
        )


def class_dim(input: Tensor) -> int:
    return 1 if input.dim() > 1 else 0


def in_range(name: str, value: float, low: float, high: float = float("inf"), *, open_low: bool = False) -> None:
    fine = (low < value if open_low else low <= value) and value <= high
    if not fine:
        if high == float("inf"):
            said = f"be {'more than' if open_low else 'at least'} {low:g}"
        else:
            said = f"lie in {'(' if open_low else '['}{low:g}, {high:g}]"
        raise wrong(name, said, repr(value))


def shape(value: Tensor) -> str:
    return str(tuple(value.shape))


def within(name: str, value: Tensor, low: float, high: float) -> None:
    """All values lie between two bounds, NaN excluded: said with what was found on the CPU, asserted elsewhere.

    What is compiled or transformed is not checked: it would be a pass over the values for every call.
    """
    if value.numel() == 0 or transformed():
        return
    least, most = torch.aminmax(value.detach())
    if value.device.type == "cpu":
        if not (low <= float(least) and float(most) <= high):
            raise wrong(name, f"lie in [{low:g}, {high:g}]", f"values from {float(least):g} to {float(most):g}")
    else:
        torch._assert_async((least >= low) & (most <= high), f"`{name}` should lie in [{low:g}, {high:g}]")
