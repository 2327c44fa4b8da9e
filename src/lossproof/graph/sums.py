"""Losses that were added: unlike ones with no weight, terms pushed up without an end, weights that never move."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lossproof.graph.chain import SHAPE_ONLY
from lossproof.graph.known_values import Known
from lossproof.graph.objective_facts import Addend, LossWeights, Maximized, SumOfLosses
from lossproof.graph.terms import Term, constant, terms

if TYPE_CHECKING:
    from lossproof.graph.facts import GraphFact
    from lossproof.graph.walk import Edge, Graph, Op

_LOSSES = {
    "NllLoss": ("cross entropy", "log"), "NllLoss2D": ("cross entropy", "log"),
    "BinaryCrossEntropy": ("binary cross entropy", "binary log"),
    "BinaryCrossEntropyWithLogits": ("binary cross entropy", "binary log"),
    "MseLoss": ("squared error", "square"), "SmoothL1Loss": ("smooth absolute error", "distance"),
    "HuberLoss": ("Huber error", "distance"), "CtcLoss": ("CTC", "log"),
}  # fmt: skip
_DISTANCES = {
    "MseLoss": "a squared error", "SmoothL1Loss": "a distance", "HuberLoss": "a distance", "Cdist": "a distance",
    "LinalgVectorNorm": "a norm", "Norm": "a norm", "Var": "a variance", "VarMean": "a variance",
    "Std": "a standard deviation", "StdMean": "a standard deviation", "Abs": "an absolute difference",
}  # fmt: skip
_LINEAR = SHAPE_ONLY | {"Sub", "Add", "Rsub", "Neg", "Mean", "Sum"}
_OF_DISTANCES = _LINEAR | {"Pow", "Sqrt", *_DISTANCES}
_BOUNDED = frozenset(
    (
        "Sigmoid", "Tanh", "Softmax", "Sin", "Cos", "Clamp", "Hardtanh", "Hardsigmoid", "Erf", "Div", "Atan",
        "NativeLayerNorm", "NativeGroupNorm", "NativeBatchNorm", "FusedRmsNorm",
    )
)  # fmt: skip
"""What cannot run away, or is normalized."""
_APART = 10.0
"""How many times one family of terms has to outweigh another before their sum is worth a word."""
_MOST_WEIGHTS = 64
_DEEP = 32


def facts(graph: Graph) -> Iterator[GraphFact]:
    found = list(terms(graph))
    yield from _unlike(graph, found)
    yield from _maximized(graph, found)
    yield from _weights(graph)


# ---- unlike losses with no weight


def _unlike(graph: Graph, found: list[Term]) -> Iterator[SumOfLosses]:
    known_terms: list[tuple[tuple[str, str], Term]] = []
    factors: set[float] = set()
    for term in found:
        known = _kind(term.op)
        if known is None and _of_leaves_alone(term.op):
            continue  # a penalty on weights
        if term.factor is None:
            return  # somebody weighs it
        factors.add(round(term.factor, 12))
        if known is not None:
            known_terms.append((known, term))
    if len(factors) != 1 or len({term.top for term in found if term.top is not None}) < len(found):
        return
    if len({family for (_, family), _ in known_terms}) < 2:
        return
    values = Known(graph)
    addends = [Addend(*known, _amount(term, values), term.op) for known, term in known_terms]
    totals: dict[str, float] = {}
    for each in addends:
        if each.value is None or not math.isfinite(each.value):
            return
        totals[each.family] = totals.get(each.family, 0.0) + abs(each.value)
    if len(totals) < 2 or max(totals.values()) < _APART * min(totals.values()):
        return
    join = min((term.join for term in found if term.join is not None), key=lambda op: op.index)
    yield SumOfLosses(join, tuple(sorted(addends, key=lambda each: -abs(each.value or 0.0))))


def _kind(op: Op) -> tuple[str, str] | None:
    if op.kind in _LOSSES:
        return _LOSSES[op.kind]
    if not any(each.op.kind in ("Sub", "Rsub") for each in _behind_shapes(op)):
        return None
    if (op.kind == "Pow" and op.number("exponent") == 2) or _is_square(op):
        return "squared error", "square"
    return ("absolute error", "distance") if op.kind == "Abs" else None


def _behind_shapes(op: Op) -> list[Edge]:
    found = []
    for edge in op.inputs:
        for _ in range(_DEEP):
            if edge is None or edge.op.kind not in SHAPE_ONLY:
                break
            edge = next((each for each in edge.op.inputs if each is not None), None)
        if edge is not None:
            found.append(edge)
    return found


def _is_square(op: Op) -> bool:
    """``x * x``."""
    if op.kind != "Mul" or len(op.inputs) != 2:
        return False
    left, right = op.inputs
    return left is not None and right is not None and (left.op, left.output) == (right.op, right.output)


def _of_leaves_alone(op: Op) -> bool:
    """Whether a term is made of parameters and nothing else, as a penalty on them is."""
    level = [op]
    seen: set[int] = set()
    while level and len(seen) < 1000:
        each = level.pop()
        if each.index in seen:
            continue
        seen.add(each.index)
        if each.leaf is None and (None in each.inputs and each.kind not in ("Add", "Mul", "Div", "Sub", "Pow")):
            return False
        level += [edge.op for edge in each.inputs if edge is not None]
    return len(seen) < 50


def _amount(term: Term, known: Known) -> float | None:
    """What a term adds to the loss: as the graph or a recording holds it, or made again from what operators kept."""
    if term.top is None or term.outer is None or math.prod(term.top.shape or ()) != 1:
        return None
    found, assumed = known.value(term.top)
    if found is None or assumed or found.numel() != 1 or found.is_complex():
        return None
    return float(found) * term.outer


# ---- a term that is pushed up without an end


def _maximized(graph: Graph, found: list[Term]) -> Iterator[Maximized]:
    pushed = [term for term in found if term.factor is not None and term.factor < 0 and term.join is not None]
    kept = [term for term in found if term.factor is not None and term.factor > 0]
    if not kept or any(term.factor is None for term in found):
        return
    held: set[int] = set()
    for term in kept:
        held |= {op.index for op in _sources(term.op)}
    for term in pushed:
        kind = _distance(term.op)
        if kind is None:
            continue
        sources = _sources(term.op)
        loose = [op for op in sources if op.index not in held]
        if all(op.leaf is not None for op in loose):
            continue  # a penalty on a multiplier, which another player pushes the other way
        if not all(op.kind in _BOUNDED for op in sources):
            assert term.join is not None
            yield Maximized(term.join, kind, _amount(term, Known(graph)))


def _distance(op: Op) -> str | None:
    for _ in range(_DEEP):
        if op.kind in _DISTANCES:
            return _DISTANCES[op.kind]
        if op.kind == "Pow" and (op.number("exponent") or 0) >= 1:
            return "a squared distance" if _kind(op) else "a power"
        if _is_square(op):
            return "a square"
        if op.kind != "Sqrt" and op.kind not in _LINEAR:
            return None
        operands = [each for each in op.inputs if each is not None]
        if len(operands) != 1:
            return None
        op = operands[0].op
    return None


def _sources(op: Op) -> list[Op]:
    """What a distance is measured between: the operators behind differences, means and powers."""
    found, level, seen = [], [op], set()
    while level:
        each = level.pop()
        if each.index in seen:
            continue
        seen.add(each.index)
        through = each is op or each.kind in _OF_DISTANCES or _is_square(each)
        if through or (each.kind in ("Mul", "Div") and constant(each) is not None):
            level += [edge.op for edge in each.inputs if edge is not None]
        else:
            found.append(each)
    return found


# ---- learnable weights that no optimizer holds

_BEND = SHAPE_ONLY | {
    "Exp",
    "Neg",
    "Softplus",
    "Softmax",
    "Sigmoid",
    "Pow",
    "Reciprocal",
    "Sqrt",
    "Relu",
    "Clamp",
    "Rsub",
}


def _weights(graph: Graph) -> Iterator[LossWeights]:
    known = graph.known
    if known.held is None or not any(known.trains(op.leaf) for op in graph.leaves if op.leaf is not None):
        return  # nobody was told, or the optimizer holds copies of the parameters
    straight = _straight(graph)
    for leaf in graph.leaves:
        tensor = leaf.leaf
        if tensor is None or not 0 < tensor.numel() <= _MOST_WEIGHTS or graph.known.trains(tensor) is not False:
            continue
        product = _weighs(leaf, straight)
        if product is not None:
            numbers = tuple(float(each) for each in tensor.detach().reshape(-1).tolist())
            yield LossWeights(product, graph.known.name(leaf) or "", numbers)


def _straight(graph: Graph) -> set[int]:
    """Operators from which the loss is reached by additions, means and signs alone."""
    found = {graph.root.index}
    level = [graph.root]
    while level:
        op = level.pop()
        passes = op.kind in _LINEAR or (op.kind in ("Mul", "Div") and len([e for e in op.inputs if e is not None]) == 1)
        if passes:
            for edge in op.inputs:
                if edge is not None and edge.op.index not in found:
                    found.add(edge.op.index)
                    level.append(edge.op)
    return found


def _weighs(leaf: Op, straight: set[int]) -> Op | None:
    """The multiplication of a loss by what a leaf was made into."""
    level, seen = [leaf], set()
    for _ in range(_DEEP):
        following: list[Op] = []
        for op in level:
            for reader in op.consumers:
                if reader.index in seen:
                    continue
                seen.add(reader.index)
                operands = [each for each in reader.inputs if each is not None]
                if reader.kind in ("Mul", "Div") and len(operands) == 2:
                    if reader.index in straight and _small(reader.shape()) and all(_small(e.shape) for e in operands):
                        other = next((each.op for each in operands if each.op is not op), None)
                        if other is not None and _is_loss(other):
                            return reader
                elif reader.kind in _BEND or (reader.kind in ("Mul", "Div", "Add", "Sub") and len(operands) == 1):
                    following.append(reader)
        level = following
    return None


def _small(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and math.prod(shape) <= _MOST_WEIGHTS


def _is_loss(op: Op) -> bool:
    """Whether a value is one number, or several, that much was reduced to."""
    level, seen = [op], set()
    while level:
        each = level.pop()
        if each.index in seen:
            continue
        seen.add(each.index)
        if each.kind in _LOSSES or each.kind in ("Mean", "Sum", "LinalgVectorNorm"):
            return True
        if each.kind in _LINEAR or each.kind in ("Mul", "Div", "Sqrt"):
            level += [edge.op for edge in each.inputs if edge is not None]
    return False
