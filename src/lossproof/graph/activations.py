"""Activations that reach a loss which takes something else: what ``LP101`` to ``LP103``, ``LP107`` and ``LP111`` ask.

The way from the activation to the loss may move, pick, join, cast and clamp elements; it may not compute with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from lossproof.graph.chain import KEEPS_KIND, SHAPE_ONLY, behind, readers
from lossproof.graph.facts import ActivationIntoLoss, Hop
from lossproof.graph.kinds import LOG_SOFTMAX, SIGMOID, SOFTMAX, kind, kinds

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Graph, Op

_LOGITS = {
    "BinaryCrossEntropyWithLogits": "bce-with-logits",
    "SoftMarginLoss": "soft-margin",
    "LogSigmoid": "log-sigmoid",
}
NLL = ("NllLoss", "NllLoss2D", "NllLossNd")
_PICKS = frozenset(
    ("Gather", "Index", "IndexSelect", "MaskedSelect", "Narrow", "Select", "Slice", "Split", "Take", "Unbind")
)
SAME_ELEMENTS = SHAPE_ONLY - _PICKS - {"Cat", "Stack", "CopySlices", "SplitWithSizes", "UnsafeSplit", "Chunk"}
_HOPS = 4


def facts(graph: Graph) -> Iterator[ActivationIntoLoss]:
    for op in graph:
        if op.kind == "BinaryCrossEntropy":
            yield from _probabilities(graph, op)
        elif op.kind in _LOGITS:
            yield from _logits(op)
        elif op.kind == "LogSoftmax":
            yield from _again(op)
        elif op.kind == "Logsumexp":
            yield from _by_hand(op)


def _probabilities(graph: Graph, loss: Op) -> Iterator[ActivationIntoLoss]:
    """What ``binary_cross_entropy`` is given: one sigmoid, or a probability that was made otherwise."""
    found, ways = kinds(loss.inputs[0])
    for source, passed in ways:
        if source.opaque:
            graph.cannot_see(f"{source.kind} before binary_cross_entropy: what a custom function does inside")
        if kind(source) == SIGMOID:
            dead, wrong, elements = _dead(loss, passed)
            yield ActivationIntoLoss(
                loss, "bce", SIGMOID, dead, elements, {"wrong": wrong}, hops=way(source, SIGMOID, passed)
            )
    if SIGMOID in found or not ways or any(source.opaque or source.leaf is not None for source, _ in ways):
        return
    source, passed = ways[0]
    p = loss.tensor("self")
    edge = 0 if p is None else int(((p <= 0) | (p >= 1)).sum())
    name = SOFTMAX if found == {SOFTMAX} else source.kind
    yield ActivationIntoLoss(loss, "bce", name, edge, 0 if p is None else p.numel(), hops=way(source, name, passed))


def _dead(loss: Op, passed: tuple[Op, ...]) -> tuple[int, int, int]:
    """How many elements have rounded (or were clamped) to where no gradient passes, how many of these are on the
    wrong side of their target, and of how many."""
    p, target = loss.tensor("self"), loss.tensor("target")
    if p is None:
        return 0, 0, 0
    dead = (p <= 0) | (p >= 1)
    for op in passed:
        if op.kind in ("Clamp", "ClampMin", "ClampMax"):
            least, most = op.number("min"), op.number("max")
            if least is not None and least > 0:
                dead = dead | (p <= least)
            if most is not None and most < 1:
                dead = dead | (p >= most)
    wrong = 0
    if target is not None and target.shape == p.shape:
        wrong = int((dead & ((p - target).abs() > 0.5)).sum())
    return int(dead.sum()), wrong, p.numel()


def _logits(loss: Op) -> Iterator[ActivationIntoLoss]:
    """A loss that applies the sigmoid itself."""
    found, ways = kinds(loss.inputs[0])
    if len(found) != 1 or not found <= {SIGMOID, SOFTMAX}:
        return
    source, passed = ways[0]
    name = kind(source) or ""
    x = loss.tensor("self")
    figures: dict[str, Any] = {}
    if x is not None and x.numel():
        low, high = torch.aminmax(x)
        figures = {"least": 1 / (1 + math.exp(-float(low))), "most": 1 / (1 + math.exp(-float(high)))}
    yield ActivationIntoLoss(
        loss, _LOGITS[loss.kind], name, 0, 0 if x is None else x.numel(), figures, hops=way(source, name, passed)
    )


def _again(log_softmax: Op) -> Iterator[ActivationIntoLoss]:
    """A log-softmax of what an activation gave, or of a weighted sum of what several gave."""
    found, ways = kinds(log_softmax.inputs[0])
    scale = 1.0
    if found == {None}:
        mixed = combined(log_softmax.inputs[0])
        if mixed is None or mixed[1] > _SCALE:
            return
        found, scale, ways = {mixed[0]}, mixed[1], [(mixed[2], ())]
    if len(found) != 1:
        return
    name = found.pop()
    source, passed = ways[0]
    if name not in (SOFTMAX, SIGMOID, LOG_SOFTMAX):
        return
    result, dim = log_softmax.tensor("result"), log_softmax.dim()
    if result is None or dim is None or not result.numel() or not result.dim():
        return
    picked = next((op for op in readers(log_softmax) if op.kind in NLL), None)
    if name == SIGMOID and picked is None and not _weighs(log_softmax):
        return  # a softmax over gates may be attention
    if name == LOG_SOFTMAX and not _still_normalized(source, passed, result, dim):
        return
    figures = _limits(result.shape[dim], scale) | {"believed": math.exp(float(result.max()))}
    yield ActivationIntoLoss(
        picked or log_softmax, "cross-entropy", name, 0, result.numel(), figures, hops=way(source, name, passed)
    )


_SCALE = 5.0
"""Probabilities that are multiplied by more than this are sharp enough to be somebody's choice."""


def _limits(classes: int, scale: float) -> dict[str, Any]:
    """What a cross entropy can reach when its logits lie between 0 and a number."""
    others = (classes - 1) * math.exp(-scale)
    return {"classes": classes, "floor": math.log1p(others), "most": 1 / (1 + others)}


def _by_hand(logsumexp: Op) -> Iterator[ActivationIntoLoss]:
    """``logsumexp(p) - p[y]``."""
    found, ways = kinds(logsumexp.inputs[0])
    table, dims = logsumexp.tensor("self"), logsumexp.dims()
    if found != {SOFTMAX} or table is None or dims is None or len(dims) != 1 or not table.numel():
        return
    source, passed = ways[0]
    for reader in readers(logsumexp, SHAPE_ONLY):
        others = {op for edge in reader.inputs for op, _ in behind(edge, _PICKED, 60)}
        if reader.kind in ("Sub", "Add") and source in others:
            most = (table - table.logsumexp(dims[0], keepdim=True)).max()
            figures = _limits(table.shape[dims[0]], 1.0) | {"believed": math.exp(float(most))}
            hops = way(source, SOFTMAX, passed)
            yield ActivationIntoLoss(reader, "cross-entropy", SOFTMAX, 0, table.numel(), figures, hops=hops)
            return


_PICKED = KEEPS_KIND | {"Mul", "Sum", "Neg"}


def combined(edge: Edge | None) -> tuple[str, float, Op] | None:
    """A sum of softmaxes (or of sigmoids) with positive weights: the kind, the most that it can be, one of them."""
    found: tuple[str, Op] | None = None
    total = 0.0
    stack: list[tuple[Edge | None, float]] = [(edge, 1.0)]
    for _ in range(64):
        if not stack:
            return None if found is None else (found[0], total, found[1])
        here, weight = stack.pop()
        if here is None:
            return None
        ways = list(behind(here, KEEPS_KIND, 60))
        if len(ways) != 1:
            return None  # parts that lie side by side are no sum
        op = ways[0][0]
        name, made_of = kind(op), [below for below in op.inputs if below is not None]
        if name in (SOFTMAX, SIGMOID) and (found is None or found[0] == name):
            found, total = (name, op), total + weight
        elif op.kind == "Add" and len(made_of) == 2:
            stack += [(below, weight) for below in made_of]
        elif op.kind in ("Mul", "Div") and len(made_of) == 1 and op.inputs[0] is not None:
            by = op.number("other")
            if by is None or by <= 0:
                return None
            stack.append((made_of[0], weight * by if op.kind == "Mul" else weight / by))
        elif op.kind == "Mean" and op.saved("dim") is not None and made_of:
            joined = made_of[0].op
            parts = list(joined.inputs) if joined.kind == "Stack" else made_of
            stack += [(part, weight / len(parts)) for part in parts]
        else:
            return None
    return None


def _weighs(log_softmax: Op) -> bool:
    """Whether the logarithms are multiplied by constants: targets that are probabilities."""
    return any(op.kind == "Mul" and None in op.inputs for op in readers(log_softmax, SHAPE_ONLY))


def _still_normalized(source: Op, passed: tuple[Op, ...], result: torch.Tensor, dim: int) -> bool:
    """Whether a second log-softmax has nothing to do: not after classes were picked out or masked."""
    if any(op.kind not in SAME_ELEMENTS for op in passed):
        return False
    first = source.tensor("result") if source.kind == "LogSoftmax" else None
    if first is None or first.numel() != result.numel():
        return False
    inner = source.dim()
    return inner is not None and first.shape[inner] == result.shape[dim]


def way(source: Op, name: str, passed: tuple[Op, ...]) -> tuple[Hop, ...]:
    """From the activation to the loss, a hop for each operator that stands on a line of its own."""
    clamps = [op for op in reversed(passed) if op.kind not in SAME_ELEMENTS][:_HOPS]
    return (Hop(source, f"{name} applied here"), *(Hop(op, f"through {op.kind}") for op in clamps))
