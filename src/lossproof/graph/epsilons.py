"""Epsilons that the number format cannot hold: the guard is written, and nothing is guarded.

The bounds of a clamp are saved with it. A number that is added or subtracted is not: the recorder's note has it, and
without a note an operand in float16 that is still exactly 0 behind an addition shows that what was added was 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lossproof.graph.at_the_edge import counted
from lossproof.graph.hazards import denominator
from lossproof.graph.numeric_facts import Count, VanishedEpsilon
from lossproof.graph.place import note
from lossproof.graph.plain import each, plain
from lossproof.graph.values import value

if TYPE_CHECKING:
    from lossproof.graph.walk import Graph, Op

SENSITIVE = frozenset(
    ("Log", "Log2", "Log10", "Log1P", "Div", "Reciprocal", "Sqrt", "Rsqrt", "Acos", "Asin", "Atanh", "Logit")
)
"""Operators that such an epsilon is meant to guard."""
_PASS = frozenset(("Rsub", "Sub", "Neg", "View", "Squeeze", "Unsqueeze", "Expand", "Mul", "Add", "Sum", "Mean"))
_NOT_NEGATIVE = frozenset(("Abs", "Sqrt", "Relu", "LinalgVectorNorm", "Sigmoid", "Softmax", "Exp", "Std", "Var"))


def facts(graph: Graph) -> Iterator[VanishedEpsilon]:
    yield from each(graph, graph.of("Clamp", "ClampMin", "ClampMax", "Hardtanh"), _bound)
    yield from each(graph, graph.of("Add", "Sub", "Rsub"), _added)
    yield from _of_optimizers(graph)


def _of_optimizers(graph: Graph) -> Iterator[VanishedEpsilon]:
    """Adam divides by the root of an average plus ``eps``, in the format of the parameter."""
    reached = {id(op.leaf) for op in graph.leaves}
    for optimizer in graph.known.optimizers:
        for group in optimizer.param_groups:
            epsilon = group.get("eps")
            if not isinstance(epsilon, float) or epsilon <= 0 or group.get("fused"):
                continue  # the fused kernels work in float32
            halves = [each_ for each_ in group["params"] if each_.dtype is torch.float16 and id(each_) in reached]
            if halves and held(epsilon, torch.float16) == 0:
                count = Count(len(halves), len(group["params"]), (), (len(group["params"]),))
                name = type(optimizer).__name__
                yield VanishedEpsilon(graph.root, "optimizer", epsilon, 0.0, "float16", count, True, name)
                break


def held(number: float, dtype: torch.dtype | None) -> float:
    """What becomes of a number in a format."""
    if dtype is None or not dtype.is_floating_point:
        return number
    return float(torch.tensor(number, dtype=torch.float64).to(dtype))


def _bound(op: Op) -> Iterator[VanishedEpsilon]:
    dtype = op.dtype()
    low, high = (op.number(name) for name in (("min_val", "max_val") if op.kind == "Hardtanh" else ("min", "max")))
    operand = plain(op.saved("self"))
    for bound in (high, low):
        if bound is None or operand is None:
            continue
        if 0.5 < abs(bound) < 1 and abs(held(bound, dtype)) == 1:
            reached = operand >= bound if bound > 0 else operand <= bound
            yield VanishedEpsilon(op, "bound", 1 - abs(bound), 1.0, _name(dtype), counted(reached), _sensitive(op))
            return
        if bound == low and 0 < low < 0.5 and held(low, dtype) == 0:
            yield VanishedEpsilon(op, "bound", low, 0.0, _name(dtype), counted(operand <= 0), _sensitive(op))
            return


def _added(op: Op) -> Iterator[VanishedEpsilon]:
    dtype = op.dtype()
    if sum(edge is not None for edge in op.inputs) != 1 or dtype is None or not dtype.is_floating_point:
        return
    noted = note(op)
    numbers = [] if noted is None else [float(each_) for _, each_ in noted.numbers if not isinstance(each_, bool)]
    if noted is not None and not _is_sum(noted.called):
        numbers = []
    for number in numbers:
        if op.kind == "Add" and 0 < abs(number) < 0.5 and held(number, dtype) == 0:
            yield VanishedEpsilon(op, "sum", abs(number), 0.0, _name(dtype), None, _sensitive(op))
            return
        if op.kind in ("Rsub", "Sub") and number != 1 and 0.5 < number < 1.5 and held(number, dtype) == 1:
            yield VanishedEpsilon(op, "difference", number - 1, 1.0, _name(dtype), None, _sensitive(op))
            return
    if not numbers and op.kind == "Add" and dtype is torch.float16:
        yield from _still_zero(op)


def _is_sum(called: str) -> bool:
    return called.rpartition(".")[2].strip("_") in ("add", "radd", "iadd", "sub", "rsub", "isub")


def _still_zero(op: Op) -> Iterator[VanishedEpsilon]:
    """``x + eps`` in float16 that divides or is taken the logarithm of, and is 0 where ``x`` is."""
    before = plain(value(op.inputs[0] or op.inputs[-1]))
    below = op.input(0)
    for reader in op.consumers:
        if reader.kind not in SENSITIVE or (
            reader.kind == "Div" and (len(reader.inputs) < 2 or reader.input(1) is not op)
        ):
            continue
        after = denominator(reader) if reader.kind == "Div" else plain(reader.saved("self"))
        if reader.kind in ("Sqrt", "Rsqrt", "Reciprocal"):
            result = plain(reader.saved("result"))
            after = None if result is None else (result if reader.kind == "Sqrt" else 1 / result)
        if after is None or not bool((after == 0).any()):
            continue
        if before is not None and before.shape == after.shape:
            known = bool((before[after == 0] == 0).all())
        else:
            known = below is not None and (
                below.kind in _NOT_NEGATIVE or (below.kind == "Pow" and below.number("exponent") == 2)
            )
        if known:
            yield VanishedEpsilon(op, "sum", 0.0, 0.0, "float16", counted(after == 0), True)
            return


def _sensitive(op: Op) -> bool:
    """Whether something near behind is what such an epsilon guards."""
    stack, steps = list(op.consumers), 0
    while stack and steps < 30:
        reader = stack.pop()
        steps += 1
        if reader.kind in SENSITIVE or (reader.kind == "Pow" and (reader.number("exponent") or 0.0) < 1):
            return True
        if reader.kind in _PASS:
            stack += reader.consumers
    return False


def _name(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")
