"""Focal terms, ``(1 - pt) ** gamma * ce``: what ``LP401``, ``LP402`` and ``LP404`` ask about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lossproof.graph.chain import KEEPS_KIND, SHAPE_ONLY
from lossproof.graph.facts import Hop
from lossproof.graph.objective_facts import FocalTerm, Spoiled
from lossproof.graph.terms import constant

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Graph, Op

CROSS_ENTROPIES = frozenset(
    (
        "NllLoss", "NllLoss2D", "BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", "Log", "LogSoftmax", "LogSigmoid",
        "Softplus",
    )
)  # fmt: skip
_LOGITS_LOSSES = ("BinaryCrossEntropy", "BinaryCrossEntropyWithLogits")
_PROBABILITIES = frozenset(("Sigmoid", "Softmax", "Exp"))
_MIXES = frozenset(("Add", "Sub", "Rsub", "Mul", "Where", "Sum", "MaskedFill", "Neg"))
"""What picks the probability of the target out of those of all classes: ``p * t + (1 - p) * (1 - t)``."""
_DEEP = 24
_SILENT = 0.01


def facts(graph: Graph) -> Iterator[FocalTerm]:
    powers = [op for op in graph.of("Pow") if _is_focal(op)]
    gammas = {op.number("exponent") for op in powers}
    for op in powers:
        gamma = op.number("exponent")
        base = op.tensor("self")
        if gamma is None or base is None or base.is_complex():
            continue
        spoiled = _spoiled(op)
        factor = base.float() ** gamma
        yield FocalTerm(
            op,
            gamma,
            base.numel(),
            int((base == 0).sum()),
            int((factor < _SILENT).sum()),
            float(factor.mean()) if base.numel() else 0.0,
            len(gammas) == 1,
            _scale(op),
            spoiled,
            hops=() if spoiled is None else (Hop(spoiled.op, f"{spoiled.how} here"),),
        )


def _is_focal(op: Op) -> bool:
    """Whether the base is one minus a probability and the power multiplies a cross entropy."""
    base = op.tensor("self")
    if base is None or not base.is_floating_point() or op.number("exponent") is None:
        return False
    if base.numel() and not (float(base.min()) >= 0 and float(base.max()) <= 1):
        return False
    one_minus = _through(op.inputs[0], KEEPS_KIND)
    if one_minus is None or one_minus.op.kind not in ("Rsub", "Sub", "Add"):
        return False
    return _probability(one_minus) is not None and _multiplies_cross_entropy(op)


def _through(edge: Edge | None, kinds: frozenset[str]) -> Edge | None:
    """The value behind operators of one operand that are passed over."""
    for _ in range(_DEEP):
        if edge is None or edge.op.kind not in kinds:
            return edge
        operands = [each for each in edge.op.inputs if each is not None]
        if len(operands) != 1:
            return None
        edge = operands[0]
    return edge


def _probability(edge: Edge | None) -> Op | None:
    """The operator that made the probability behind ``1 - pt``: the nearest of its kind."""
    level = [] if edge is None else [edge.op]
    seen: set[int] = set()
    for _ in range(_DEEP):
        following: list[Op] = []
        for op in level:
            if op.index in seen:
                continue
            seen.add(op.index)
            if op.kind in _PROBABILITIES:
                return op
            if op.kind in _MIXES or op.kind in KEEPS_KIND:
                following += [each.op for each in op.inputs if each is not None]
        level = following
    return None


def _multiplies_cross_entropy(op: Op) -> bool:
    return any(_is_cross_entropy(other) for _, other in _products(op))


def _products(op: Op) -> Iterator[tuple[Op, Edge]]:
    """The multiplications that a factor goes into, with the other operand where that has a gradient as well."""
    edge_op = op
    for _ in range(_DEEP):
        readers = [op for op in edge_op.consumers if op.kind in ("Mul", "Neg") or op.kind in KEEPS_KIND]
        if not readers:
            return
        for reader in readers:
            if reader.kind == "Mul":
                for other in reader.inputs:
                    if other is not None and other.op is not edge_op:
                        yield reader, other
        edge_op = readers[0]


def _is_cross_entropy(edge: Edge) -> bool:
    """Whether a value is a cross entropy, or made of one: negated, weighted, smoothed, reduced."""
    level, seen = [edge.op], set()
    for _ in range(_DEEP):
        following: list[Op] = []
        for op in level:
            if op.index in seen:
                continue
            seen.add(op.index)
            if op.kind in CROSS_ENTROPIES:
                return True
            if op.kind in SHAPE_ONLY or op.kind in ("Neg", "Mul", "Add", "Sub", "Sum", "Mean", "Where", "MaskedFill"):
                following += [each.op for each in op.inputs if each is not None]
        level = following
    return False


# ---- one number for all


def _scale(op: Op) -> float | None:
    """A number other than 1 and -1 that multiplies every element, where no class has a weight of its own."""
    found: float | None = None
    shape = op.shape()
    if shape in (None, (), (1,)):
        return None
    product = next((reader for reader, other in _products(op) if _is_cross_entropy(other)), None)
    if product is None:
        return None
    chain = [op, *_elementwise_readers(op, shape)]
    others = [each for reader in chain if reader.kind == "Mul" for each in reader.inputs if each is not None]
    members = chain + [part for other in others if other.op not in chain for part in _made_of(other.op)]
    for member in members:
        if member.kind in ("NllLoss", "NllLoss2D") and member.tensor("weight") is not None:
            return None
        if member.kind in _LOGITS_LOSSES and (
            member.tensor("weight") is not None
            or (member.kind.endswith("Logits") and member.tensor("pos_weight") is not None)
        ):
            return None
        if member.kind == "Mul" and None in member.inputs:
            number = constant(member)
            if number is None:
                return None  # a tensor: a weight for each class or element, or a mask
            if abs(number) not in (0.0, 1.0):
                found = number if found is None else found * number
    return found


def _elementwise_readers(op: Op, shape: tuple[int, ...] | None) -> list[Op]:
    """What reads a factor, and what reads that, until the elements are reduced."""
    found: list[Op] = []
    for _ in range(_DEEP):
        readers = [reader for reader in op.consumers if reader.kind in ("Mul", "Neg") or reader.kind in KEEPS_KIND]
        if len(readers) != 1 or readers[0].shape() != shape:
            break
        op = readers[0]
        found.append(op)
    return found


def _made_of(op: Op) -> list[Op]:
    """The operators between a cross entropy and the product that it goes into."""
    found: list[Op] = []
    for _ in range(_DEEP):
        found.append(op)
        if op.kind in CROSS_ENTROPIES or not (op.kind in ("Neg", "Mul") or op.kind in KEEPS_KIND):
            break
        operands = [each for each in op.inputs if each is not None]
        if len(operands) != 1:
            break
        op = operands[0].op
    return found


# ---- the probability of another cross entropy than that of one element


def _spoiled(power: Op) -> Spoiled | None:
    exp = _probability(_through(power.inputs[0], KEEPS_KIND))
    if exp is None or exp.kind != "Exp":
        return None
    result = exp.tensor("result")
    edge = _through(exp.inputs[0], SHAPE_ONLY)
    negated = False
    weights: tuple[float, float] | None = None
    where: Op | None = None
    reduced: tuple[Op, int] | None = None
    for _ in range(_DEEP):
        if edge is None or result is None:
            return None
        op = edge.op
        operands = [each for each in op.inputs if each is not None]
        if op.kind == "Neg" or op.kind in SHAPE_ONLY:
            negated ^= op.kind == "Neg"
        elif op.kind == "Mul" and len(operands) == 1:
            factor = _factor(op)
            if factor is None:
                return None
            low, high = factor
            if high < 0:
                negated, low, high = not negated, -high, -low
            if (low, high) != (1.0, 1.0):
                weights, where = (low, high), op
        elif op.kind in ("Mean", "Sum") and result.numel() == 1 and operands:
            before = operands[0].shape
            if before and before[0] > 1 and reduced is None:
                reduced = (op, _count(before))
        else:
            break
        if len(operands) != 1:
            break
        edge = operands[0]
    if edge is None or not negated:
        return None
    loss = edge.op
    if loss.kind == "Add":
        smoothed = _smoothed(loss)
        if smoothed is None:
            return None
        if reduced is not None:
            return Spoiled("reduced", reduced[0], reduced[1])
        if smoothed.number("reduction") and (target := smoothed.tensor("target")) is not None and target.numel() > 1:
            return Spoiled("reduced", loss, target.numel())
        return Spoiled("smoothed", loss)
    if loss.kind not in ("NllLoss", "NllLoss2D", *_LOGITS_LOSSES):
        return None
    target = loss.tensor("target")
    if loss.number("reduction") and result is not None and result.numel() == 1 and target is not None:
        counted = target if loss.kind in _LOGITS_LOSSES else target[target != loss.dim("ignore_index")]
        if counted.numel() > 1:
            return Spoiled("reduced", loss, counted.numel())
    if reduced is not None:
        return Spoiled("reduced", reduced[0], reduced[1])
    if weights is not None and where is not None:
        return Spoiled("weighted", where, weights=weights)
    return _weighted(loss, target)


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for each in shape:
        total *= each
    return total


def _factor(op: Op) -> tuple[float, float] | None:
    """The least and the largest number of a constant operand."""
    other = op.tensor("other") if op.inputs[0] is not None else op.tensor("self")
    number = constant(op)
    if number is not None:
        return number, number
    if other is None or not other.numel() or other.is_complex():
        return None
    return float(other.min()), float(other.max())


def _smoothed(add: Op) -> Op | None:
    """The plain part of a cross entropy with smoothed labels: a share of it beside a share of the sum over classes."""
    plain, spread = None, False
    sources: set[int] = set()
    for edge in add.inputs:
        if edge is None or edge.op.kind != "Mul" or constant(edge.op) is None:
            return None
        inner = _through(edge, SHAPE_ONLY | {"Mul", "Neg", "MaskedFill", "Div", "Mean", "Sum"})
        if inner is None:
            return None
        if inner.op.kind in ("NllLoss", "NllLoss2D"):
            plain = inner.op
            below = _through(plain.inputs[0], SHAPE_ONLY)
            sources.add(-1 if below is None else below.op.index)
        elif inner.op.kind == "LogSoftmax":
            spread = True
            sources.add(inner.op.index)
    return plain if spread and len(sources) == 1 else None


def _weighted(loss: Op, target: torch.Tensor | None) -> Spoiled | None:
    """Class weights that the loss itself was given, other than 1."""
    found = [loss.tensor(name) for name in ("weight", "pos_weight") if name == "weight" or loss.kind.endswith("Logits")]
    for weight in found:
        if weight is None or not weight.numel() or bool((weight == 1).all()):
            continue
        low, high = float(weight.min()), float(weight.max())
        return Spoiled("weighted", loss, weights=(low, high), example=_example(loss, weight, target))
    return None


def _example(loss: Op, weight: torch.Tensor, target: torch.Tensor | None) -> tuple[int, float, float] | None:
    """The element whose probability is changed most, what it is and what it counts as."""
    logs = loss.tensor("self")
    if loss.kind != "NllLoss" or logs is None or target is None or logs.dim() != 2 or not target.numel():
        return None
    rows = (target >= 0) & (target < logs.shape[1])
    if not bool(rows.all()):
        return None
    ce = -logs.float().gather(1, target[:, None])[:, 0]
    plain = torch.exp(-ce)
    counted = torch.exp(-ce * weight.float()[target])
    row = int((plain - counted).abs().argmax())
    return row, float(plain[row]), float(counted[row])
