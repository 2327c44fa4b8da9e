"""Operators that are not defined everywhere, or not by a finite number: each with the judge of its own edge.

A judge answers None where its edge is not what happened; the next question is then whether the result was too large.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from lossproof.graph.figures import bad, plain
from lossproof.graph.scene import Scene, Verdict
from lossproof.graph.spoken import number, operator
from lossproof.graph.values import value
from lossproof.graph.walk import Edge

if TYPE_CHECKING:
    from lossproof.graph.walk import Op


def empty_softmax(scene: Scene, masks: tuple[Op, ...]) -> Verdict:
    by = ", ".join(dict.fromkeys(operator(each) for each in masks))
    over = ""
    if scene.mask is not None and scene.op.dim() is not None and scene.mask.dim():
        dim = scene.op.dim() or 0
        lines = scene.mask.any(dim)
        over = f"{int(lines.sum())} of {lines.numel()} "
    said = (
        f"{over}rows of the {scene.name} are masked from end to end (by {by}): every exponential is 0, and 0 / 0 is NaN"
    )
    return Verdict("zero-denominator", "empty-softmax", (said,))


def _division(scene: Scene) -> Verdict | None:
    place = 1 if scene.op.kind in ("Div", "Addcdiv") else 0
    place = 2 if scene.op.kind == "Addcdiv" else place
    below = scene.at(place)
    if below is None:
        return _of_result(scene, "zero-denominator", "", "an operand of 0")
    if scene.op.kind == "Rsqrt" and bool((below < 0).any()):
        return Verdict("log-domain", "root", (f"{int((below < 0).sum())} operands of rsqrt are negative",))
    whole = scene.whole(place)
    zeros = int((below == 0).sum())
    if zeros:
        of = below.numel() if whole is None else whole.numel()
        above = scene.at(0) if place else None
        both = above is not None and above.numel() > 0 and bool((above == 0).all())
        what = "denominator is" if of == 1 else f"{zeros} of {of} denominators are"
        said = ("the " if of == 1 else "") + f"{what} exactly 0"
        said += ", and so is the numerator: 0 / 0 is NaN" if both else ": the quotient is infinite"
        variant = "nothing-selected" if of == 1 and both else "root" if scene.op.kind == "Rsqrt" else ""
        return Verdict("zero-denominator", variant, (said,))
    if scene.half and scene.fits_in_float():
        return None
    small = float(below.abs().min()) if below.numel() else 1.0
    if small < 1e-20:
        said = f"the smallest denominator at fault is {number(small)}: the quotient is beyond the largest number"
        return Verdict("zero-denominator", "", (said,))
    return None


def _of_result(scene: Scene, cause: str, variant: str, what: str) -> Verdict | None:
    """Judged by what the operator kept of its result, where nobody kept its operand."""
    result = value(Edge(scene.op, 0)) if scene.output == 0 else None
    if result is None:
        return None
    count = int(bad(plain(result)).sum())
    said = f"{count} of {result.numel()} results of {scene.name} are not finite; its operand is not kept: {what}"
    return Verdict(cause, variant, (said,), 0.7)


def _logarithm(scene: Scene) -> Verdict | None:
    place = 1 if scene.op.kind == "Xlogy" else 0
    inside, whole = scene.at(place), scene.whole(place)
    if inside is None or whole is None:
        return None
    floor = -1 if scene.op.kind == "Log1P" else 0
    zeros, below = int((inside == floor).sum()), int((inside < floor).sum())
    parts = []
    if zeros:
        parts.append(f"{zeros} of {whole.numel()} operands of {scene.name} are exactly {floor} (the result is -inf)")
    if below:
        low = number(float(inside.min()))
        parts.append(f"{below} of {whole.numel()} are below {floor}, the lowest {low} (the result is NaN)")
    return Verdict("log-domain", "log", (", ".join(parts),)) if parts else None


def _root(scene: Scene) -> Verdict | None:
    inside, whole = scene.at(0), scene.whole(0)
    if inside is None or whole is None:
        return _of_result(scene, "log-domain", "root", "a negative operand")
    below = int((inside < 0).sum())
    if not below:
        return None
    low = number(float(inside.min()))
    return Verdict(
        "log-domain", "root", (f"{below} of {whole.numel()} operands of {scene.name} are negative, the lowest {low}",)
    )


def _power(scene: Scene) -> Verdict | None:
    start = None if isinstance(scene.op.saved("self"), torch.Tensor) else scene.op.number("self")
    base = scene.at(0) if start is None else torch.tensor([start])
    exponent = scene.at(1 if start is None else 0)
    fixed = scene.op.number("exponent")
    if exponent is None and fixed is not None:
        exponent = torch.tensor([fixed])
    if base is None or exponent is None or not base.numel() or not exponent.numel():
        return None
    fractional = bool((exponent != exponent.round()).any())
    if fractional and bool((base < 0).any()):
        said = (
            f"{int((base < 0).sum())} bases of a fractional power are negative, the lowest {number(float(base.min()))}"
        )
        return Verdict("log-domain", "power", (said,))
    if bool((exponent < 0).any()) and bool((base == 0).any()):
        said = f"{int((base == 0).sum())} bases of a negative power are exactly 0"
        return Verdict("zero-denominator", "power", (said,))
    if scene.half and scene.fits_in_float():
        return None
    if exponent.numel() > 1 or fixed is None or abs(fixed) > 8:
        said = (
            f"the largest exponent is {number(float(exponent.max()))} of a base up to {number(float(base.abs().max()))}"
        )
        return Verdict("exp-overflow", "power", (said,))
    return None


def _exponential(scene: Scene) -> Verdict | None:
    inside = scene.at(0)
    if inside is None:
        cause, variant = ("half-overflow", "forward") if scene.half else ("exp-overflow", "")
        return _of_result(scene, cause, variant, "an operand that is too large")
    if not inside.numel():
        return None
    if scene.half and scene.fits_in_float():
        return None
    dtype = str(scene.op.dtype(scene.output)).removeprefix("torch.")
    largest = float(inside.max() if scene.op.kind != "Sinh" else inside.abs().max())
    limit = torch.finfo(scene.op.dtype(scene.output) or torch.float32).max
    edge = float(torch.tensor(limit, dtype=torch.float64).log())
    edge = edge / 0.6931471805599453 if scene.op.kind == "Exp2" else edge
    said = f"{inside.numel()} operands of {scene.name} reach {number(largest)}; {dtype} overflows from {edge:.1f}"
    return Verdict("exp-overflow", "", (said,))


def _outside(low: float, high: float, closed: bool) -> Callable[[Scene], Verdict | None]:
    """An operator that is defined between two bounds; at the bounds too where ``closed``."""

    def judge(scene: Scene) -> Verdict | None:
        inside, whole = scene.at(0), scene.whole(0)
        if inside is None or whole is None:
            return None
        wrong = (inside < low) | (inside > high)
        at_bound = (inside == low) | (inside == high)
        count = int((wrong if closed else wrong | at_bound).sum())
        if not count:
            return None
        span = f"from {number(low)} to {number(high)}"
        said = f"{count} of {whole.numel()} operands of {scene.name} lie outside the open interval {span}"
        if closed:
            said = f"{count} of {whole.numel()} operands of {scene.name} lie outside {span}"
        worst = float(inside.abs().max())
        return Verdict("log-domain", "domain", (f"{said} (the largest absolute value is {number(worst)})",))

    return judge


def _mean(scene: Scene) -> Verdict | None:
    elements = scene.op.saved("self_sym_numel")
    shape = scene.op.saved("self_sym_sizes")
    dims = scene.op.dims() or ()
    nothing = elements == 0 or (shape and any(shape[dim] == 0 for dim in dims))
    edge = scene.op.inputs[0] if scene.op.inputs else None
    if edge is not None and edge.shape is not None:
        nothing = nothing or 0 in edge.shape
    if not nothing:
        return None
    said = f"{scene.name} over no element at all: 0 / 0 is NaN (a selection or a batch is empty)"
    return Verdict("zero-denominator", "nothing-selected", (said,))


def _spread(scene: Scene) -> Verdict | None:
    edge = scene.op.inputs[0]
    shape = None if edge is None else edge.shape
    if shape is None:
        return None
    dims = scene.op.dims()
    count = 1
    for dim, size in enumerate(shape):
        if not dims or dim in {each % len(shape) for each in dims}:
            count *= size
    correction = scene.op.saved("correction")
    correction = 1 if correction is None else correction
    if count - correction > 0:
        return None
    said = f"{scene.name} of {count} element{'' if count == 1 else 's'} divides by {count} - {correction}"
    return Verdict("zero-denominator", "spread-of-one", (said,))


def _nll(scene: Scene) -> Verdict | None:
    total = scene.op.tensor("total_weight")
    target = scene.op.tensor("target")
    if scene.op.saved("reduction") != 1 or total is None or target is None:
        return None
    if target.numel() == 0:
        return Verdict("zero-denominator", "nothing-selected", ("the loss is a mean over a batch of no samples",))
    if not bool((total == 0).all()):
        return None
    ignored = int(target.eq(scene.op.dim("ignore_index") or 0).sum())
    said = f"{ignored} of {target.numel()} targets are ignore_index: the mean divides by a total weight of 0"
    return Verdict("zero-denominator", "all-ignored", (said,))


def _ctc(scene: Scene) -> Verdict | None:
    each = scene.op.tensor("result0")
    if each is None:
        return None
    wrong = int(torch.isinf(each).sum())
    if not wrong:
        return None
    said = f"{wrong} of {each.numel()} targets do not fit into their input lengths: no alignment exists"
    return Verdict("bad-target", "no-alignment", (said,))


def _normalize(scene: Scene) -> Verdict | None:
    inverse = scene.op.tensor("result2")
    whole = scene.whole(0)
    if inverse is not None and bool(torch.isinf(inverse).any()):
        said = f"{int(torch.isinf(inverse).sum())} variances of {scene.name} are 0, and so is its eps"
        return Verdict("zero-denominator", "normalization", (said,))
    if whole is not None and whole.numel() == 0:
        return Verdict("zero-denominator", "nothing-selected", (f"{scene.name} over an empty batch",))
    return None


def _lgamma(scene: Scene) -> Verdict | None:
    inside, whole = scene.at(0), scene.whole(0)
    if inside is None or whole is None:
        return None
    poles = (inside <= 0) & (inside == inside.round())
    if not bool(poles.any()):
        return None
    count = int(poles.sum())
    said = f"{count} of {whole.numel()} operands of {scene.name} are 0 or a negative integer: it has poles there"
    return Verdict("log-domain", "domain", (said,))


def _infinite_softmax(scene: Scene) -> Verdict | None:
    inside = scene.at(0)
    if inside is not None and inside.numel() and bool((inside == float("-inf")).any()):
        return empty_softmax(scene, ())
    return None


TABLE: tuple[tuple[frozenset[str], Callable[[Scene], Verdict | None]], ...] = (
    (frozenset(("Div", "Reciprocal", "Rsqrt", "Addcdiv", "Fmod", "Remainder")), _division),
    (frozenset(("Log", "Log2", "Log10", "Log1P", "Xlogy", "Logdet", "LinalgSlogdet")), _logarithm),
    (frozenset(("Sqrt",)), _root),
    (frozenset(("Pow",)), _power),
    (frozenset(("Exp", "Expm1", "Exp2", "Sinh", "Cosh")), _exponential),
    (frozenset(("Acos", "Asin")), _outside(-1.0, 1.0, closed=True)),
    (frozenset(("Atanh", "Erfinv")), _outside(-1.0, 1.0, closed=False)),
    (frozenset(("Logit",)), _outside(0.0, 1.0, closed=False)),
    (frozenset(("Acosh",)), _outside(1.0, float("inf"), closed=True)),
    (frozenset(("Lgamma", "Digamma", "Polygamma")), _lgamma),
    (frozenset(("Mean", "Nanmean")), _mean),
    (frozenset(("MseLoss", "SmoothL1Loss", "HuberLoss", "BinaryCrossEntropy", "BinaryCrossEntropyWithLogits")), _mean),
    (frozenset(("Var", "Std", "VarMean", "StdMean")), _spread),
    (frozenset(("NllLoss", "NllLoss2D")), _nll),
    (frozenset(("CtcLoss",)), _ctc),
    (frozenset(("NativeLayerNorm", "NativeBatchNorm", "NativeGroupNorm")), _normalize),
    (frozenset(("Softmax", "LogSoftmax", "Logsumexp")), _infinite_softmax),
)
