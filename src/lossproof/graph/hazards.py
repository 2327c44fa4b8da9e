"""Where the value or the derivative of an operator stops being finite, worked out as the backward pass will do it.

Each entry takes one operator and answers from what it saved; what it saved is what its derivative is made of, so the
answer is no estimate. A cheap reduction comes first: in a healthy graph nothing else is done.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lossproof.graph.chain import SHAPE_ONLY
from lossproof.graph.elements import shrunk
from lossproof.graph.place import note
from lossproof.graph.plain import any_plain, finite, plain
from lossproof.graph.values import value

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Op


@dataclass
class Exam:
    """What one operator shows. Masks of the value and of the slopes have the shape of the result."""

    function: str
    operand: torch.Tensor
    """What stands nearest to the edge of the domain."""
    at: torch.Tensor
    """Its elements at which the value or a derivative is not finite."""
    edge: float
    value: torch.Tensor
    """Results that are not finite though the operands are."""
    slopes: list[tuple[int, torch.Tensor]]
    """For an operand that gets a gradient, by its number: where that is not finite, whatever arrives."""
    beyond: int = 0
    closest: float = math.nan
    exponent: float | None = None


Look = Callable[["Op"], "Exam | None"]


def denominator(op: Op) -> torch.Tensor | None:
    """What a division divides by; a count of integers as what it becomes."""
    saved = any_plain(op.saved("tensor2" if op.kind == "Addcdiv" else "other"))
    if saved is not None and not saved.is_floating_point():
        saved = saved.to(op.dtype() or torch.float32)
    return plain(saved)


def _denominator(op: Op) -> Exam | None:
    d = denominator(op)
    if d is None or op.saved("rounding_mode") is not None:
        return None
    smallest = float(d.abs().amin())
    limits = torch.finfo(d.dtype)
    if smallest > 4 * math.sqrt(1 / limits.max):
        return None  # not even one over its square overflows
    shape = op.shape() or tuple(d.shape)
    zero = d == 0
    first = 1 if op.kind == "Addcdiv" else 0
    n = plain(op.saved("tensor1" if op.kind == "Addcdiv" else "self"))
    if n is None and len(op.inputs) > first:
        n = plain(value(op.inputs[first]))
    finite = torch.isfinite(d)
    slopes = []
    if n is not None and n.dtype == d.dtype:
        fine = finite & torch.isfinite(n)
        quotient = n / d
        wrong = fine & ~torch.isfinite(quotient)
        steep = fine & ~torch.isfinite(quotient / d)
    else:
        wrong = steep = zero
    if len(op.inputs) > first and op.inputs[first] is not None:
        slopes.append((first, zero.broadcast_to(shape)))
    if len(op.inputs) > first + 1 and op.inputs[first + 1] is not None:
        slopes.append((first + 1, steep.broadcast_to(shape)))
    at = zero
    for mask in (wrong, *(mask for _, mask in slopes)):
        at = at | shrunk(mask.broadcast_to(shape), tuple(d.shape))
    return Exam("div", d, at, 0.0, wrong.broadcast_to(shape), slopes)


def _reciprocal(op: Op) -> Exam | None:
    r = plain(op.saved("result"))
    if r is None:
        return None
    largest = float(r.abs().amax())
    if largest * largest < torch.finfo(r.dtype).max:
        return None
    bad = ~torch.isfinite(r * r) & ~torch.isnan(r)
    return Exam("div", 1 / r, bad, 0.0, torch.isinf(r), [(0, bad)])


def _logarithm(op: Op) -> Exam | None:
    x = plain(op.saved("self"))
    edge = -1.0 if op.kind == "Log1P" else 0.0
    if x is None or float(x.amin()) > edge + 4 / torch.finfo(x.dtype).max:
        return None
    wrong = x <= edge
    steep = torch.isinf(1 / (x - edge)) & torch.isfinite(x)
    name = "log1p" if op.kind == "Log1P" else "log"
    return Exam(name, x, wrong | steep, edge, wrong, [(0, steep)], int((x < edge).sum()))


def _logit(op: Op) -> Exam | None:
    x = plain(op.saved("self"))
    if x is None or op.saved("eps") is not None:
        return None
    low, high = torch.aminmax(x)
    if float(low) > 0 and float(high) < 1:
        return None
    wrong = (x <= 0) | (x >= 1)
    edge = 0.0 if float(low) <= 0 else 1.0
    return Exam("logit", x, wrong, edge, wrong, [(0, wrong)], int(((x < 0) | (x > 1)).sum()))


def _xlogy(op: Op) -> Exam | None:
    x, y = plain(op.saved("self")), plain(op.saved("other"))
    if x is None or y is None or float(y.amin()) > 0:
        return None
    shape = op.shape() or tuple(y.shape)
    wrong = ((y < 0) | (y == 0)) & (x != 0)
    slope = (y == 0).broadcast_to(shape)
    beyond = int((y < 0).sum())
    slopes = [(1, slope)] if op.inputs[1] is not None else []
    return Exam("xlogy", y, shrunk(wrong.broadcast_to(shape) | slope, tuple(y.shape)), 0.0, wrong, slopes, beyond)


def _root(op: Op) -> Exam | None:
    r = plain(op.saved("result"))
    if r is None:
        return None
    if op.kind == "Rsqrt":
        steep = ~torch.isfinite(r * r * r)
        if not bool(steep.any()):
            return None
        negative = (
            torch.isnan(r) if bool(torch.isnan(r).any()) and finite_below(op.inputs[0]) else torch.zeros_like(steep)
        )
        steep = (steep & ~torch.isnan(r)) | negative
        return Exam("rsqrt", r.pow(-2), steep, 0.0, torch.isinf(r) | negative, [(0, steep)], int(negative.sum()), 0.0)
    least = float(r.amin())
    if least > 0:
        return None
    bad, negative = r == 0, torch.isnan(r)
    if math.isnan(least):
        x = plain(value(op.inputs[0]))
        if x is not None:
            return _power_at(op, x, 0.5, "sqrt")
        # the root made the NaN if there was none before
        if finite_below(op.inputs[0]):
            return Exam("sqrt", r, bad | negative, 0.0, negative, [(0, bad | negative)], int(negative.sum()), math.nan)
    return Exam("sqrt", r, bad, 0.0, torch.zeros_like(bad), [(0, bad)], closest=0.0)


_ARITHMETIC = SHAPE_ONLY | {
    *("Add", "Sub", "Mul", "Neg", "Abs", "Sum", "Mean", "Relu", "Clamp", "ClampMin", "ClampMax", "Pow", "MaskedFill"),
    *("Mm", "Bmm", "Addmm", "Cumsum", "Rsub", "Addcmul", "Mv", "Dot", "Hardtanh", "Amax", "Amin", "Max", "Min"),
    *("LeakyRelu", "Elu", "Gelu", "Silu", "Softplus", "Sigmoid", "Tanh", "Convolution", "Maximum", "Minimum"),
}
"""What makes no NaN of finite operands, short of an overflow."""

_WITH_CONSTANTS = frozenset(("Add", "Sub", "Mul", "Addmm", "Mm", "Bmm", "Addcmul", "Convolution", "Maximum", "Minimum"))


def finite_below(edge: Edge | None) -> bool:
    """Whether everything that an operand was made of is known to be finite, as far down as values are missing."""
    stack, seen = [edge], 0
    while stack:
        each = stack.pop()
        seen += 1
        if each is None or seen > 100:
            return False
        known = plain(value(each))
        if known is not None:
            if not bool(torch.isfinite(known).all()):
                return False
            continue
        op = each.op
        if op.kind not in _ARITHMETIC or (op.kind == "Pow" and (op.number("exponent") or 0.5) % 1 != 0):
            return False
        missing = [place for place, below in enumerate(op.inputs) if below is None]
        if (
            missing
            and op.kind in ("Add", "Sub", "Mul", "Addmm", "Mm", "Bmm", "Addcmul")
            and not _constant_is_finite(op)
        ):
            return False
        stack += [below for below in op.inputs if below is not None]
    return True


def _constant_is_finite(op: Op) -> bool:
    """Of an operand that needs no gradient: it is saved with a product, and a number is in the recorder's note."""
    names = {"Mul": ("self", "other"), "Addmm": ("mat1", "mat2"), "Mm": ("self", "mat2"), "Bmm": ("self", "mat2")}
    saved = [plain(op.saved(name)) for name in names.get(op.kind, ())]
    if any(each is not None for each in saved):
        return all(each is None or bool(torch.isfinite(each).all()) for each in saved)
    noted = note(op) if op.kind in ("Add", "Sub") else None
    return noted is not None and any(not isinstance(number, bool) for _, number in noted.numbers)


def _spread(op: Op) -> Exam | None:
    """A standard deviation or a variance of fewer elements than it takes: of one, it divides 0 by 0."""
    x = plain(op.saved("self"))
    if x is None or x.dim() == 0:
        return None
    dims = op.dims() or tuple(range(x.dim()))
    count = math.prod(x.shape[dim] for dim in dims)
    correction = op.number("correction")
    if count - (1.0 if correction is None else correction) > 0:
        return None
    bad = torch.ones(op.shape() or (), dtype=torch.bool, device=x.device)
    return Exam("std", torch.zeros_like(bad, dtype=x.dtype), bad, 0.0, bad, [(0, bad)], closest=float(count))


def _power(op: Op) -> Exam | None:
    if op.node.name() == "PowBackward2":
        return _exponential(op)
    x = plain(op.saved("self"))
    if x is None or op.inputs[0] is None:
        return None
    if op.node.name() == "PowBackward0":
        e = op.number("exponent")
        return None if e is None else _power_at(op, x, e, "pow")
    exponent = plain(op.saved("exponent"))
    result = plain(op.saved("result"))
    if exponent is None or exponent.dtype != x.dtype:
        return None
    if float(x.amin()) > 0 and result is not None and finite(result):
        return None
    shape = op.shape() or tuple(x.shape)
    slope = (exponent * x.pow(exponent - 1)).masked_fill(exponent == 0, 0.0)
    fine = (torch.isfinite(x) & torch.isfinite(exponent)).broadcast_to(shape)
    steep = (~torch.isfinite(slope)).broadcast_to(shape) & fine
    wrong = ~torch.isfinite(x.pow(exponent)).broadcast_to(shape) & fine
    if not bool((steep | wrong).any()):
        return None
    slopes = [(0, steep)]
    if op.inputs[1] is not None:
        cut = (x == 0) & (exponent >= 0)
        slopes.append((1, ~torch.isfinite((x.pow(exponent) * x.log()).masked_fill(cut, 0.0)) & fine))
    at = shrunk(steep | wrong, tuple(x.shape))
    return Exam("pow", x, at, 0.0, wrong, slopes, int((x < 0).sum()))


def _power_at(op: Op, x: torch.Tensor, e: float, name: str) -> Exam | None:
    whole = e == int(e)
    if (whole and e >= 0) or e > 1e6:
        return None
    least = float(x.abs().amin()) if whole else float(x.amin())
    if least > 0 and (e >= 0 or e * math.log(least) < math.log(torch.finfo(x.dtype).max) - 2 + math.log(least)):
        return None
    fine = torch.isfinite(x)
    steep = ~torch.isfinite(e * x.pow(e - 1)) & fine
    wrong = ~torch.isfinite(x.pow(e)) & fine
    return Exam(
        "div" if whole else name, x, steep | wrong, 0.0, wrong, [(0, steep)],
        0 if whole else int((x < 0).sum()), exponent=e,
    )  # fmt: skip


def _arc(op: Op) -> Exam | None:
    x = plain(op.saved("self"))
    if x is None:
        return None
    name = {"Acos": "acos", "Asin": "asin", "Atanh": "atanh", "Erfinv": "erfinv"}[op.kind]
    if float(x.abs().amax()) < 1:
        return None
    past = x.abs() > 1
    bad = (x.abs() >= 1) & torch.isfinite(x)
    beyond = past & bad
    value_bad = beyond if op.kind in ("Acos", "Asin") else bad
    steep = bad & ~past if op.kind == "Atanh" else bad
    return Exam(name, x, bad, 1.0, value_bad, [(0, steep)], int(beyond.sum()))


def _acosh(op: Op) -> Exam | None:
    x = plain(op.saved("self"))
    if x is None or float(x.amin()) > 1:
        return None
    bad = x <= 1
    steep = ~torch.isfinite((x * x - 1).rsqrt()) & torch.isfinite(x)
    return Exam("acosh", x, bad, 1.0, x < 1, [(0, steep)], int((x < 1).sum()))


def _hypot(op: Op) -> Exam | None:
    r = plain(op.saved("result"))
    if r is None or float(r.amin()) > 0:
        return None
    bad = r == 0
    return Exam("hypot", r, bad, 0.0, torch.zeros_like(bad), [(n, bad) for n in (0, 1) if op.inputs[n] is not None])


LARGEST = {torch.float16: 11.09, torch.bfloat16: 88.72, torch.float32: 88.72, torch.float64: 709.78}
"""From which exponent on ``exp`` is infinite."""


def _exponential(op: Op) -> Exam | None:
    r = plain(op.saved("result"))
    if r is None or not math.isinf(float(r.amax())):
        return None
    x = plain(op.saved("exponent")) if op.kind == "Pow" else plain(value(op.inputs[0]))
    bad = torch.isinf(r) if x is None else torch.isinf(r) & torch.isfinite(x)
    exponent = r.log() if x is None or x.shape != r.shape else x
    base = math.log(2) if op.kind == "Exp2" else 1.0
    if op.kind == "Pow":
        number = op.number("self") or 0.0
        base = math.log(number) if number > 1 else math.nan
    name = {"Exp": "exp", "Expm1": "expm1", "Exp2": "exp2", "Pow": "base ** x"}[op.kind]
    closest = math.nan if x is None else float(x.masked_fill(~bad, -math.inf).amax())
    return Exam(name, exponent, bad, LARGEST.get(r.dtype, 88.72) / base, bad, [(0, bad)], closest=closest)


def _hyperbolic(op: Op) -> Exam | None:
    x = plain(op.saved("self"))
    if x is None:
        return None
    limit = LARGEST.get(x.dtype, 88.72) + math.log(2)
    if float(x.abs().amax()) < limit - 0.1:
        return None
    bad = ~torch.isfinite(x.cosh()) & torch.isfinite(x)
    return Exam(op.kind.lower(), x, bad, limit, bad, [(0, bad)])


def _not_finite(op: Op) -> Exam | None:
    """A product or a power with a saved NaN or infinity: harmless where it is used, not where it is chosen away."""
    exams = []
    for name, number in (("other", 0), ("self", 1 if op.kind == "Mul" else 0)):
        if number < len(op.inputs) and op.inputs[number] is not None:
            saved = plain(op.saved(name))
            if saved is not None and not finite(saved):
                exams.append((number, ~torch.isfinite(saved), saved))
    target = plain(op.saved("target"))
    if target is not None and not finite(target):
        exams.append((0, ~torch.isfinite(target), target))
    shape = op.shape()
    if not exams or shape is None:
        return None
    slopes = [(number, mask.broadcast_to(shape)) for number, mask, _ in exams if mask.dim() <= len(shape)]
    _, at, operand = exams[0]
    return Exam("nan", operand, at, 0.0, torch.zeros(shape, dtype=torch.bool, device=at.device), slopes)


LOOK: dict[str, Look] = {
    **dict.fromkeys(("Div", "Addcdiv"), _denominator),
    **dict.fromkeys(("Log", "Log2", "Log10", "Log1P"), _logarithm),
    **dict.fromkeys(("Sqrt", "Rsqrt"), _root),
    **dict.fromkeys(("Acos", "Asin", "Atanh", "Erfinv"), _arc),
    **dict.fromkeys(("Exp", "Expm1", "Exp2"), _exponential),
    **dict.fromkeys(("Sinh", "Cosh"), _hyperbolic),
    "Acosh": _acosh,
    "Hypot": _hypot,
    "Logit": _logit,
    "Pow": _power,
    "Reciprocal": _reciprocal,
    "Std": _spread,
    "Var": _spread,
    "Xlogy": _xlogy,
}
"""What can leave its domain."""
ONLY_WHEN_GUARDED: dict[str, Look] = dict.fromkeys(
    ("Mul", "Pow", "MseLoss", "SmoothL1Loss", "HuberLoss", "BinaryCrossEntropyWithLogits", "BinaryCrossEntropy"),
    _not_finite,
)
"""What hands a NaN of its operands on, and is a fault of the loss only where the loss takes it for chosen away."""
