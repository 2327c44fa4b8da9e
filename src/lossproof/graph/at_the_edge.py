"""Operands at the edge of their operator's domain: a denominator of 0, the logarithm of a negative, a root of 0.

What is at the edge now is judged by what becomes of it. Where a ``relu`` stops the gradient below, it does no harm.
Where it is chosen away too late (``where(x > 0, log(x), 0)``) it does: the value is gone, and the gradient is NaN.

What is *next* to the edge is told only where a loss is computed, not inside of a network, and only where those elements
carry nearly all of the operator's derivative: a small denominator among equals is a matter of units. It is not told
where the operand is a product of the model (a density, a square, a softmax): its own derivative is as small as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lossproof.graph.chain import SHAPE_ONLY
from lossproof.graph.elements import Asked, escapes, guarded, objective, shrunk
from lossproof.graph.facts import GraphFact, Hop
from lossproof.graph.hazards import LARGEST, LOOK, ONLY_WHEN_GUARDED, Exam, denominator
from lossproof.graph.logs import of_activation
from lossproof.graph.numeric_facts import AtTheEdge, Count, GuardedAfterwards
from lossproof.graph.plain import any_plain, each, plain, rows
from lossproof.graph.values import value

if TYPE_CHECKING:
    from lossproof.graph.walk import Graph, Op

SMALL = 1e-4
"""Of the mean: below it an operand may be next to the edge."""
CARRIED = 0.9
"""Of the derivative of all elements: what the small ones have to carry."""
PROPORTIONAL = frozenset(
    (
        *("Bmm", "Div", "Exp", "Exp2", "LinalgVectorNorm", "Mm", "MseLoss", "Mul", "Pow", "Prod", "Sigmoid", "Softmax"),
        *("Softplus", "Var"),
    )
)
"""Operators whose derivative shrinks with their result."""
_SCALES = frozenset(("Exp", "Exp2", "Mul", "Pow", "Sigmoid", "Softmax", "Softplus"))
_FLOORS = frozenset(("Clamp", "ClampMin", "Hardtanh", "Maximum", "Threshold", "Where"))
_KEEPS = frozenset(("Sum", "Mean", "Sqrt", "Clamp", "ClampMin", "Neg", "Abs"))
CLOSE_TO_OVERFLOW = 0.8
"""Of the largest exponent that does not overflow."""


def facts(graph: Graph) -> Iterator[GraphFact]:
    if not any(op.kind in LOOK or op.kind in ONLY_WHEN_GUARDED for op in graph):
        return
    inside = objective(graph)
    loss_is_finite = bool(torch.isfinite(graph.loss.detach()).all()) if plain(graph.loss) is not None else True
    told: set[int] = set()
    for fact in each(graph, graph.of(*LOOK), lambda op: _asked(op, loss_is_finite, inside[op.index])):
        if isinstance(fact, GuardedAfterwards):
            told.add(fact.op.index)
        yield fact
    wanted = (op for op in graph.of(*ONLY_WHEN_GUARDED) if inside[op.index])
    for late in each(graph, wanted, _handed_on):
        if late.op.index not in told:
            told.add(late.op.index)
            yield late


def _asked(op: Op, loss_is_finite: bool, inside: bool) -> Iterator[GraphFact]:
    exam = LOOK[op.kind](op)
    if exam is not None and bool(exam.at.any()):
        yield from _at(op, exam, loss_is_finite)
    elif inside:
        yield from _near(op)


def _at(op: Op, exam: Exam, loss_is_finite: bool) -> Iterator[GraphFact]:
    slopes = [(number, mask, escapes(op.inputs[number], mask_for(op, number, mask))) for number, mask in exam.slopes]
    loose = [mask for _, mask, got in slopes if bool(got.any())]
    count = counted(exam.at)
    steep = torch.zeros_like(exam.value)
    for mask in loose:
        steep = steep | mask
    value_there, told = bool(exam.value.any()), False
    if loose:
        guard = guarded(op, steep, Asked.LATE if bool((exam.value & steep).any()) else Asked.MASKED)
        if guard is None and exam.function == "xlogy" and not bool((exam.value & steep).any()):
            yield GuardedAfterwards(op, "xlogy", "log", count)
            return
        if guard is not None:
            hop = Hop(op, f"{op.kind.lower()} at the edge of its domain here")
            yield GuardedAfterwards(guard.op, guard.word, exam.function, count, hops=(hop,))
            steep, told = torch.zeros_like(steep), True
            if not value_there or loss_is_finite:
                return
    reaches = (
        value_there and not loss_is_finite and guarded(op, exam.value, Asked.LATE if told else Asked.VALUE) is None
    )
    if bool(steep.any()) or reaches:
        yield AtTheEdge(
            op,
            exam.function,
            count,
            _closest(exam),
            exam.edge,
            exam.beyond,
            value=value_there,
            loss=loss_is_finite,
            exponent=exam.exponent,
            dtype=_format(exam.operand),
            told=_told(op, exam),
        )


def _told(op: Op, exam: Exam) -> bool:
    """The logarithm of a softmax or a sigmoid (LP106), the mean over a mask that selects nothing (LP304)."""
    if exam.function in ("log", "log1p"):
        return of_activation(op) is not None
    total = op.input(0)
    if exam.function != "div" or exam.operand.numel() != 1 or total is None or total.kind != "Sum":
        return False
    if op.input(1) is not None:
        return False  # not a count
    product = total.input(0)
    if product is None or product.kind != "Mul":
        return False
    factors = [any_plain(product.saved(name)) for name in ("self", "other")]
    return any(factor is not None and factor.numel() > 1 and not bool(factor.any()) for factor in factors)


def _handed_on(op: Op) -> Iterator[GuardedAfterwards]:
    exam = ONLY_WHEN_GUARDED[op.kind](op)
    if exam is None:
        return
    for number, mask in exam.slopes:
        if not bool(escapes(op.inputs[number], mask_for(op, number, mask)).any()):
            continue
        guard = guarded(op, mask, Asked.LATE)
        if guard is not None:
            hop = Hop(op, f"{op.kind.lower()} of a value that is not finite here")
            yield GuardedAfterwards(guard.op, guard.word, "nan", counted(exam.at), hops=(hop,))
            return


def mask_for(op: Op, number: int, mask: torch.Tensor) -> torch.Tensor:
    """A mask of a result, for an operand that was broadcast; of what was reduced, all of it."""
    edge = op.inputs[number]
    if edge is None or edge.shape is None:
        return mask
    if mask.dim() < len(edge.shape):
        return torch.ones(edge.shape, dtype=torch.bool, device=mask.device)
    return shrunk(mask, edge.shape)


def counted(mask: torch.Tensor) -> Count:
    return Count(int(mask.sum()), mask.numel(), rows(mask), tuple(mask.shape))


def _closest(exam: Exam) -> float:
    if not math.isnan(exam.closest) or exam.function in ("exp", "expm1", "exp2", "base ** x"):
        return exam.closest
    operand = exam.operand[exam.at]
    if exam.function in ("cosh", "sinh"):
        return float(operand.abs().amax())
    if exam.function == "div":
        return float(operand[operand.abs().argmin()]) if operand.dim() else float(operand)
    worst = operand.abs().amax() if exam.edge == 1.0 and exam.function != "acosh" else operand.amin()
    return float(worst)


def _format(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


# ---- next to the edge


def _near(op: Op) -> Iterator[AtTheEdge]:
    kind = op.kind
    if kind in ("Div", "Addcdiv"):
        d = denominator(op)
        if d is not None:
            yield from _small(op, "div", d.abs(), 1 if kind == "Addcdiv" else 0)
    elif kind == "Reciprocal":
        r = plain(op.saved("result"))
        if r is not None:
            yield from _small(op, "div", r.abs().reciprocal(), 0)
    elif kind in ("Log", "Log2", "Log10", "Log1P"):
        x = plain(op.saved("self"))
        if x is not None:
            yield from _small(op, "log1p" if kind == "Log1P" else "log", x + 1 if kind == "Log1P" else x, 0)
    elif kind == "Sqrt":
        r = plain(op.saved("result"))
        if r is not None:
            yield from _small(op, "sqrt", r * r, 0)
    elif kind == "Pow":
        x, exponent = plain(op.saved("self")), op.number("exponent")
        if x is not None and exponent is not None and exponent < 1 and exponent != 0:
            yield from _small(op, "div" if exponent == int(exponent) else "pow", x.abs(), 0, exponent)
    elif kind in ("Acos", "Asin"):
        yield from _narrow(op)
    elif kind in ("Exp", "Expm1"):
        yield from _high(op)


def _small(
    op: Op, function: str, operand: torch.Tensor, number: int, exponent: float | None = None
) -> Iterator[AtTheEdge]:
    """Operands far below the others, which carry nearly all of the derivative."""
    if operand.numel() < 2:
        return  # nothing to compare with
    if operand.dtype.itemsize < 4:
        operand = operand.float()
    mean, least = float(operand.mean()), float(operand.amin())
    if not math.isfinite(mean) or not 0 < least <= SMALL * mean:
        return
    if function != "div" and (proportional(op, number) or (function in ("sqrt", "pow") and _floored(op))):
        return
    small = operand <= SMALL * mean
    power = {"sqrt": 0.5}.get(function, 1.0) if exponent is None else 1 - exponent
    slope = (least / operand).pow(power)
    carried = float(slope[small].sum() / slope.sum())
    if carried < CARRIED:
        return
    shape = op.shape()
    edges = _harmed(op, small, operand) if function == "div" else [0]
    if shape is None or not edges:
        return
    mask = small.broadcast_to(shape)
    got = [escapes(op.inputs[at], mask_for(op, at, mask), steep=True) for at in edges]
    if not any(bool(each_.any()) for each_ in got) or guarded(op, mask, Asked.FINITE) is not None:
        return
    yield AtTheEdge(
        op, function, counted(small), least - 1 if function == "log1p" else least, -1.0 if function == "log1p" else 0.0,
        near=True, value=False, share=carried, exponent=exponent, dtype=_format(operand),
    )  # fmt: skip


def _floored(op: Op) -> bool:
    """A root of what a number was added to, or of what was kept above one: that is the remedy."""
    below = op.input(0)
    while below is not None and below.kind in SHAPE_ONLY:
        below = below.input(0)
    if below is None:
        return False
    return below.kind in _FLOORS or (below.kind == "Add" and below.inputs.count(None) == 1)


def _harmed(op: Op, small: torch.Tensor, d: torch.Tensor) -> list[int]:
    """The operands of a division that get a steep gradient: not those whose own derivative is as small as they are.

    A scale that the model itself gives (a softplus, an exponential, its square) is small because the model is sure, and
    that the error over it is steep is what a likelihood is.
    """
    last = {"Div": 1, "Addcdiv": 2}.get(op.kind, 0)
    found = [] if last >= len(op.inputs) or op.inputs[last] is None or proportional(op, last) else [last]
    if last and op.inputs[last - 1] is not None and not _vanishing_numerator(op, small, d):
        scale, summed = _origin(op, last) if last < len(op.inputs) else (None, False)
        if scale is None or summed or scale.kind not in _SCALES:
            found.append(last - 1)
    return found


def _vanishing_numerator(op: Op, small: torch.Tensor, d: torch.Tensor) -> bool:
    """``p / q`` of two densities: both are small together, and the derivative of ``p`` is as small as ``p`` is."""
    if op.kind != "Div" or not proportional(op, 0):
        return False
    n = plain(op.saved("self"))
    n = plain(value(op.inputs[0])) if n is None else n
    if n is None or n.shape != d.shape:
        return False
    return bool((n[small].abs() <= 10 * d[small]).all())


def proportional(op: Op, number: int) -> bool:
    """Whether an operand comes from an operator whose derivative shrinks with its result, with nothing added since."""
    return _origin(op, number)[0] is not None


def _origin(op: Op, number: int) -> tuple[Op | None, bool]:
    """That operator, and whether its results were summed since.

    What is added as a number is a guard, and is judged by what it was added to. ``1 - p`` of a sigmoid or a softmax
    shrinks as the derivative of ``p`` does.
    """
    below, complement, summed = op.input(number), False, False
    for _ in range(20):
        if below is None:
            break
        if below.kind in PROPORTIONAL:
            return (below if not complement or below.kind in ("Sigmoid", "Softmax") else None), summed
        edges = [edge for edge in below.inputs if edge is not None]
        number_added = below.kind in ("Add", "Rsub") and len(edges) == 1
        if not number_added and below.kind not in _KEEPS and below.kind not in SHAPE_ONLY:
            break
        complement |= below.kind == "Rsub"
        summed |= below.kind in ("Sum", "Mean")
        below = edges[0].op if edges else None
    return None, summed


def _narrow(op: Op) -> Iterator[AtTheEdge]:
    """An arc function within two rounding steps of plus or minus 1, with no clamp in front."""
    x = plain(op.saved("self"))
    below = op.input(0)
    if x is None or below is None or below.kind in ("Clamp", "ClampMin", "ClampMax", "Hardtanh", "Tanh", "Mul"):
        return
    near = x.abs() >= 1 - 2 * torch.finfo(x.dtype).eps
    if not bool(near.any()) or guarded(op, near, Asked.FINITE) is not None:
        return
    if bool(escapes(op.inputs[0], near, steep=True).any()):
        worst = float(x.abs().amax())
        yield AtTheEdge(op, op.kind.lower(), counted(near), worst, 1.0, near=True, value=False, dtype=_format(x))


def _high(op: Op) -> Iterator[AtTheEdge]:
    """An exponent close to where ``exp`` overflows."""
    r = plain(op.saved("result"))
    if r is None:
        return
    largest = float(r.amax())
    limit = LARGEST.get(r.dtype, 88.72)
    if not math.isfinite(largest) or largest < math.exp(CLOSE_TO_OVERFLOW * limit):
        return
    near = r >= math.exp(CLOSE_TO_OVERFLOW * limit)
    if guarded(op, near, Asked.FINITE) is None:
        yield AtTheEdge(
            op, op.kind.lower(), counted(near), math.log(largest), limit, near=True, value=False, dtype=_format(r)
        )
