"""Logarithms of an activation that were taken in a second step, after it had rounded: what ``LP106`` asks about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lossproof.graph.chain import SHAPE_ONLY, behind
from lossproof.graph.facts import Hop
from lossproof.graph.kinds import SIGMOID, SOFTMAX, kind
from lossproof.graph.loss_facts import LogOfActivation

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Graph, Op

_CLAMPS = ("Clamp", "ClampMin", "ClampMax")
_IN_PLACE = {*_CLAMPS, "Add", "Rsub", "Sub", "Neg", "View", "Unsqueeze", "Squeeze", "ToCopy", "Clone", "Alias"}
"""What leaves every element where it was."""
_NEAR = 40
"""How much arithmetic is looked through."""
_CHOOSES = SHAPE_ONLY | {*_CLAMPS, "Where", "Mul", "Add", "Sub", "Rsub"}
_FAR = 0.05
"""What is added in front of a logarithm is a guard up to here; ``log(1 + p)`` is another function."""


def facts(graph: Graph) -> Iterator[LogOfActivation]:
    for op in graph.of("Log", "Log2", "Log10", "Log1P"):
        operand = op.tensor("self")
        if operand is None or not operand.is_floating_point() or not operand.numel():
            continue
        found = of_activation(op) or _of_chosen(op, operand)
        if found is not None:
            yield from _fact(op, operand, *found)


def of_activation(op: Op) -> tuple[str, Op, tuple[Op, ...]] | None:
    """The form of a logarithm, the activation, and what lies between."""
    ways = [_through_guards(source, passed) for source, passed in behind(op.inputs[0])]
    if len(ways) != 1 or ways[0] is None:
        return None
    source, passed = ways[0]
    turned = source.kind == "Rsub" or (source.kind == "Sub" and source.inputs[0] is None)
    if turned or (op.kind == "Log1P" and source.kind == "Neg"):
        below = [_through_guards(each, more) for each, more in behind(source.inputs[-1])]
        if len(below) != 1 or below[0] is None or kind(below[0][0]) != SIGMOID:
            return None
        return "log(1 - sigmoid)", below[0][0], (*passed, source, *below[0][1])
    if op.kind == "Log1P":
        return None
    known = kind(source)
    return (f"log({known})", source, passed) if known in (SIGMOID, SOFTMAX) else None


def _of_chosen(op: Op, operand: torch.Tensor) -> tuple[str, Op, tuple[Op, ...]] | None:
    """``where(y == 1, p, 1 - p)`` and ``p * y + (1 - p) * (1 - y)``: each element is that of a sigmoid, or one "
    "minus it."""
    if op.kind == "Log1P":
        return None
    ways = list(behind(op.inputs[0], _CHOOSES, _NEAR))
    sigmoids = [source for source, _ in ways if source.kind == "Sigmoid"]
    if len(sigmoids) != 1 or len(ways) != 1 or not any(each.kind in ("Where", "Mul") for each in ways[0][1]):
        return None
    p = sigmoids[0].tensor("result")
    if p is None or p.numel() != operand.numel():
        return None
    p = p.reshape(operand.shape)
    near = (operand - p).abs().minimum((operand - (1 - p)).abs())
    return ("log(pt)", sigmoids[0], _spanned(op, sigmoids[0])) if float(near.max()) <= 1e-3 else None


def _spanned(op: Op, source: Op) -> tuple[Op, ...]:
    """Every operator between two."""
    stack, found = [edge.op for edge in op.inputs if edge is not None], []
    while stack:
        each = stack.pop()
        if each is not source and each not in found:
            found.append(each)
            stack += [edge.op for edge in each.inputs if edge is not None]
    return tuple(found)


def _through_guards(source: Op, passed: tuple[Op, ...]) -> tuple[Op, tuple[Op, ...]] | None:
    """Past constants that are added, as far as they go; None where that joins several values."""
    for _ in range(3):
        edge = _picked_by_one_hot(source)
        if edge is None:
            if source.kind != "Add" or sum(edge is not None for edge in source.inputs) != 1:
                break
            edge = next(edge for edge in source.inputs if edge is not None)
        below = list(behind(edge))
        if len(below) != 1:
            return None
        source, passed = below[0][0], (*passed, source, *below[0][1])
    return source, passed


def _by_test(op: Op) -> bool:
    """``p[p != 0]``: elements that were chosen by a condition."""
    indices = op.saved("indices") if op.kind == "Index" else None
    return op.kind == "MaskedSelect" or (
        isinstance(indices, (tuple, list))
        and any(isinstance(each, torch.Tensor) and each.dtype == torch.bool for each in indices)
    )


def _picked_by_one_hot(op: Op) -> Edge | None:
    """``(p * one_hot).sum(1)`` is one element of each row."""
    product, dims = op.input(0), op.dims() if op.kind == "Sum" and op.saved("dim") is not None else None
    if product is None or dims is None or len(dims) != 1 or product.kind != "Mul" or product.inputs.count(None) != 1:
        return None
    table = product.tensor("self" if product.inputs[0] is None else "other")
    if table is None or table.shape != product.shape() or not bool(((table == 0) | (table == 1)).all()):
        return None
    return (product.inputs[0] or product.inputs[1]) if bool((table.sum(dims[0]) == 1).all()) else None


def _fact(op: Op, operand: torch.Tensor, form: str, source: Op, passed: tuple[Op, ...]) -> Iterator[LogOfActivation]:
    given = operand + 1 if op.kind == "Log1P" else operand
    least, most = (float(each) for each in torch.aminmax(given))
    one_minus, chosen = form == "log(1 - sigmoid)", form == "log(pt)"
    exact = None if chosen else _exact(source, passed, given, one_minus)
    added = any(each.kind == "Add" and sum(edge is not None for edge in each.inputs) == 1 for each in passed)
    if added and (most > 1 + _FAR or (least > 1 - _FAR and (exact is None or float(exact.max()) < 1 - 2 * _FAR))):
        return
    bounds = [_bound(each, one_minus, given.dtype) for each in passed if each.kind in _CLAMPS]
    if chosen and bounds:
        bounds = [min(*bounds, *(_bound(each, True, given.dtype) for each in passed if each.kind in _CLAMPS))]
    if any(each.number("min") == torch.finfo(given.dtype).eps for each in passed if each.kind in _CLAMPS):
        return  # torch.distributions holds every probability so
    zeros = int((given <= 0).sum())
    guarded = not zeros and (added or any(bound > 0 for bound in bounds) or any(_by_test(each) for each in passed))
    floored = 0
    if guarded and any(bound > 0 for bound in bounds):
        floored = int((given <= max(bounds)).sum())
    elif guarded and exact is not None:
        floored = int((2 * exact <= given).sum())  # smaller than what was added to it
    hop = Hop(source, f"{kind(source)} applied here")
    yield LogOfActivation(op, form, guarded, given.numel(), zeros, floored, least, hops=(hop,))


def _exact(source: Op, passed: tuple[Op, ...], given: torch.Tensor, one_minus: bool) -> torch.Tensor | None:
    """What the logarithm would have been given without the guard, element for element."""
    result = source.tensor("result") if source.kind in ("Sigmoid", "Softmax") else None
    if result is None or any(each.kind not in _IN_PLACE for each in passed):
        return None
    if result.numel() != given.numel():
        return None
    result = result.reshape(given.shape)
    return 1 - result if one_minus else result


def _bound(clamp: Op, one_minus: bool, dtype: torch.dtype) -> float:
    """What a clamp keeps the operand of the logarithm from falling below, in its own number format."""
    above = clamp.tensor("self")
    least, most = clamp.number("min"), clamp.number("max")
    held = dtype if above is None else above.dtype
    if one_minus and most is not None and most < 1:
        return float(1 - torch.tensor(most, dtype=held))
    if least is not None and least > 0 and not (one_minus and most is not None):
        return float(torch.tensor(least, dtype=held))
    return 0.0
