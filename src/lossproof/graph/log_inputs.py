"""Losses that take log-probabilities, and what they are given: ``LP104``, ``LP105``, and ``LP108`` to ``LP110``.

``nll_loss`` keeps what it gathers from, so its rows can be looked at: the logarithms of a distribution have a logsumexp
of 0. Where the operators say too little, the values decide; where neither does, nothing is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lossproof.graph.activations import NLL, SAME_ELEMENTS, way
from lossproof.graph.chain import KEEPS_KIND, behind, readers
from lossproof.graph.facts import Hop
from lossproof.graph.kinds import LOG_SOFTMAX, RAW, SIGMOID, SOFTMAX, kind, kinds
from lossproof.graph.logs import of_activation
from lossproof.graph.loss_facts import DivergenceInput, NllInput, OneColumn, SwappedArguments, WrongAxis
from lossproof.graph.place import noted

if TYPE_CHECKING:
    from lossproof.graph.facts import GraphFact
    from lossproof.graph.walk import Edge, Graph, Op

_CASTS = frozenset(("Alias", "Clone", "ToCopy"))
_SAMPLE = 8
"""Rows (along each axis) that are looked at before all are."""
_ELEMENTWISE = KEEPS_KIND | {"Add", "Mul", "Div", "Sub", "Mean", "Max", "Amax", "NativeDropout", "FusedDropout"}
"""What is passed on the way from a raw output to its layer: a bias, a scale, a residual, a pooling."""


def facts(graph: Graph) -> Iterator[GraphFact]:
    for op in graph:
        if op.kind in NLL:
            yield from _nll(op)
        elif op.kind == "LogSoftmax":
            yield from _soft_targets(op)
        elif op.kind == "Softmax":
            yield from _over_batch(op)
        elif op.kind == "Sub":
            yield from _divergence(op)
        elif op.kind in ("BinaryCrossEntropy", "BinaryCrossEntropyWithLogits"):
            yield from _binary(op)
        elif op.kind == "Mul":
            yield from _swapped_cross_entropy(op)


# ---- nll_loss


def _nll(loss: Op) -> Iterator[GraphFact]:
    table = loss.tensor("self")
    if table is None or not table.numel() or table.dim() == 0:
        return
    axis = 1 if table.dim() > 1 else 0
    found, ways = kinds(loss.inputs[0])
    if not ways:
        return
    source, passed = ways[0]
    classes, rows = table.shape[axis], table.numel() // table.shape[axis]
    if classes == 1:
        if rows > 1 and found == {LOG_SOFTMAX}:
            yield OneColumn(loss, tuple(table.shape), rows, hops=way(source, LOG_SOFTMAX, passed))
        return
    if _normalized(_sample(table, axis)):
        return
    sums = table.movedim(axis, -1).float().logsumexp(-1)
    good = int((sums.abs() <= _slack(table)).sum())
    if good == rows:
        return
    least, most = (float(each) for each in torch.aminmax(table))
    if found == {LOG_SOFTMAX} or source.kind == "Log":
        wrong = _wrong_axis(loss, source, passed, table, axis)
        if wrong is not None:
            yield wrong
        return
    what = None
    if len(found) == 1 and found <= {SOFTMAX, SIGMOID}:
        what = found.pop()
    elif found == {RAW}:
        what = "raw"
    elif None in found or len(found) > 1:
        what = _by_value(loss, table, axis, least, most)
    if what is not None:
        hops = way(source, _WORDS.get(what, what), passed)
        yield NllInput(loss, what, classes, least, most, rows, good, hops=hops)


_WORDS = {"raw": "raw output"}


def _by_value(loss: Op, table: torch.Tensor, axis: int, least: float, most: float) -> str | None:
    if least >= 0 and most <= 1:
        sums = table.float().sum(axis)
        if bool(((sums - 1).abs() <= _slack(table)).all()):
            return "probabilities"
    if most > 0:
        # A logarithm among them would make it a density or a score in log space, which may be above 0.
        ends = {kind(op) for op, _ in behind(loss.inputs[0], _ELEMENTWISE, 200) if op.leaf is None}
        return "raw" if ends == {RAW} else None
    return None


def _sample(table: torch.Tensor, axis: int) -> torch.Tensor:
    """A few rows, the classes last."""
    for each in range(table.dim()):
        if each != axis:
            table = table.narrow(each, 0, min(_SAMPLE, table.shape[each]))
    return table.movedim(axis, -1)


def _normalized(rows: torch.Tensor) -> bool:
    """Whether each row is the logarithm of a distribution."""
    return bool((rows.float().logsumexp(-1).abs() <= _slack(rows)).all())


def _slack(tensor: torch.Tensor) -> float:
    return 2e-2 if tensor.dtype in (torch.float32, torch.float64) else 0.1


def _wrong_axis(loss: Op, source: Op, passed: tuple[Op, ...], table: torch.Tensor, axis: int) -> WrongAxis | None:
    """Logarithms that are normalized, but not over the classes."""
    activation = "log-softmax"
    if source.kind == "Log":
        within = of_activation(source)
        if within is None or within[0] != "log(softmax)":
            return None
        activation, source, passed = SOFTMAX, within[1], (*passed, *(op for op in within[2] if op.kind != "Add"))
    result, dim = source.tensor("result"), source.dim()
    if result is None or dim is None or result.numel() != table.numel():
        return None
    if result.shape == table.shape and dim % result.dim() == axis:
        return None  # the right one: what was added before the logarithm is what shows
    if any(op.kind not in SAME_ELEMENTS | {"Clamp", "ClampMin"} for op in passed) or result.dim() < 2:
        return None
    totals = table.float().exp().sum(axis)
    low, high = (float(each) for each in torch.aminmax(totals))
    return WrongAxis(
        loss,
        activation,
        dim % result.dim(),
        tuple(result.shape),
        axis,
        low,
        high,
        hops=way(source, activation, passed),
    )


# ---- targets that are probabilities


def _soft_targets(log_softmax: Op) -> Iterator[GraphFact]:
    """``(log_softmax(x) * target)``: the axis of the target's rows is the axis of the classes."""
    result, dim = log_softmax.tensor("result"), log_softmax.dim()
    if result is None or dim is None or result.dim() < 2 or not result.numel():
        return
    dim %= result.dim()
    for reader in readers(log_softmax, _CASTS):
        target = _constant_factor(reader)
        if target is None or target.shape != result.shape:
            continue
        rows = result.numel() // result.shape[dim]
        if result.shape[dim] == 1:
            if rows > 1:
                yield OneColumn(reader, tuple(result.shape), rows, hops=(Hop(log_softmax, "log-softmax applied here"),))
            return
        if dim != 0 or target.shape[0] == 1:
            return
        for axis in (1, target.dim() - 1):
            if _adds_up(target, axis) and not _adds_up(target, 0):
                totals = result.float().exp().sum(axis)
                low, high = (float(each) for each in torch.aminmax(totals))
                hop = Hop(log_softmax, "log-softmax applied here")
                yield WrongAxis(reader, "log-softmax", 0, tuple(result.shape), axis, low, high, hops=(hop,))
                return
        return


def _constant_factor(op: Op) -> torch.Tensor | None:
    """The constant in ``x * constant``."""
    if op.kind != "Mul" or len(op.inputs) != 2 or None not in op.inputs:
        return None
    return op.tensor("self") if op.inputs[0] is None else op.tensor("other")


def _adds_up(target: torch.Tensor, axis: int) -> bool:
    """Whether every row is a distribution, or empty (a class that is ignored)."""
    if not target.is_floating_point() or bool((target < 0).any()):
        return False
    sums = target.float().sum(axis)
    return bool((((sums - 1).abs() <= 1e-2) | (sums == 0)).all()) and bool((sums > 0).any())


def _over_batch(softmax: Op) -> Iterator[GraphFact]:
    """A softmax over the batch that a cross entropy (with its own softmax over the classes) reads."""
    result, dim = softmax.tensor("result"), softmax.dim()
    if result is None or dim is None or result.dim() != 2 or dim % 2 != 0 or result.shape[0] == 1:
        return
    for reader in readers(softmax, _CASTS | {"Clamp", "ClampMin", "ClampMax"}):
        if reader.kind == "LogSoftmax" and (reader.dim() or 0) % 2 == 1:
            low, high = (float(each) for each in torch.aminmax(result.float().sum(1)))
            place = next((op for op in readers(reader) if op.kind in NLL), reader)
            hop = Hop(softmax, "softmax applied here")
            yield WrongAxis(place, "softmax", 0, tuple(result.shape), 1, low, high, hops=(hop,))
            return


# ---- kl_div


def _divergence(op: Op) -> Iterator[GraphFact]:
    """``target * log(target) - target * input``, and ``exp(target) * (target - input)`` where the target is in log
    space: a note says that it is ``kl_div``, or else the target has to be a distribution."""
    left, right = (*op.inputs, None)[:2]
    if right is None:
        return
    if left is None and right.op.kind == "Mul" and right.op.inputs[0] is None:
        target = right.op.tensor("self")
        edge = right.op.inputs[1] if len(right.op.inputs) > 1 else None
        if edge is not None and target is not None and target.shape == right.shape and _reduced(op):
            yield from _given_to_divergence(op, edge, target, log_target=False)
    elif left is None:
        product = next((reader for reader in op.consumers if reader.kind == "Mul" and reader.inputs[0] is None), None)
        weights = product.tensor("self") if product is not None else None
        if product is not None and weights is not None and weights.shape == right.shape and _reduced(product):
            yield from _given_to_divergence(op, right, weights, log_target=True)
    elif left.op.kind == "Xlogy":
        yield from _exchanged(op, left.op, right.op)


def _named(op: Op) -> bool:
    called = noted(op)
    return called is not None and called.called.rpartition(".")[2] == "kl_div"


def _given_to_divergence(op: Op, edge: Edge, target: torch.Tensor, log_target: bool) -> Iterator[GraphFact]:
    found, ways = kinds(edge)
    if len(found) != 1 or not found <= {SOFTMAX, SIGMOID, RAW, LOG_SOFTMAX}:
        return
    source, passed = ways[0]
    what, named = found.pop() or "", _named(op)
    if what == LOG_SOFTMAX:
        if not log_target and (named or _log_distribution(_sample(target, -1))):
            negative = int((target < 0).sum())
            if negative:
                hops = way(source, LOG_SOFTMAX, passed)
                yield DivergenceInput(op, "log-target", named, negative, target.numel(), hops=hops)
        return
    if not named and (what == RAW or not _distribution(target) or _one_hot(target)):
        return
    yield DivergenceInput(op, what, named, 0, target.numel(), hops=way(source, _WORDS.get(what, what), passed))


def _exchanged(op: Op, entropy: Op, product: Op) -> Iterator[GraphFact]:
    """``kl_div(probabilities, log_probabilities)``: the logarithms stand in the target's place."""
    source = entropy.input(0)
    if source is None or product.kind != "Mul" or entropy.input(1) is not source:
        return
    found, ways = kinds(entropy.inputs[0])
    given = _constant_factor(product)
    if found != {LOG_SOFTMAX} or given is None or product.input(0) is not source:
        return
    if _named(op) or _distribution(given):
        hops = way(ways[0][0], LOG_SOFTMAX, ways[0][1])
        yield SwappedArguments(op, "kl-div", 0, given.numel(), hops=hops)


def _reduced(op: Op) -> bool:
    return any(reader.kind in ("Sum", "Mean") for reader in op.consumers) or not op.consumers


def _distribution(target: torch.Tensor) -> bool:
    return (
        target.dim() > 0 and target.numel() > 1 and (_adds_up(target, -1) or (target.dim() > 2 and _adds_up(target, 1)))
    )


def _log_distribution(target: torch.Tensor) -> bool:
    return target.dim() > 0 and target.numel() > 1 and target.is_floating_point() and _normalized(target)


def _one_hot(target: torch.Tensor) -> bool:
    return bool(((target == 0) | (target == 1)).all())


# ---- target and prediction exchanged


def _binary(loss: Op) -> Iterator[SwappedArguments]:
    if len(loss.inputs) < 2 or loss.inputs[0] is not None or loss.inputs[1] is None:
        return
    labels = loss.tensor("self")
    if labels is None or not labels.numel() or not _one_hot(labels):
        return
    _, ways = kinds(loss.inputs[1])
    source, passed = ways[0]
    name = _WORDS.get(kind(source) or "", kind(source) or source.kind)
    called = {"BinaryCrossEntropy": "bce"}.get(loss.kind, "bce-with-logits")
    yield SwappedArguments(loss, called, int((labels == 1).sum()), labels.numel(), hops=way(source, name, passed))


def _swapped_cross_entropy(op: Op) -> Iterator[SwappedArguments]:
    """``cross_entropy(one_hot, logits)``: the logits weigh the log-softmax of a one-hot table, which is known by its
    two values, one apart."""
    if len(op.inputs) != 2 or (op.inputs[0] is None) == (op.inputs[1] is None):
        return
    table = _constant_factor(op)
    if table is None or table.dim() < 2 or table.shape[1] < 2 or not table.is_floating_point() or not table.numel():
        return
    found, ways = kinds(op.inputs[0] or op.inputs[1])
    if not found <= {RAW, SOFTMAX}:
        return
    first = _sample(table, 1)
    if not bool((first < 0).all()) or not _normalized(first) or not _two_values(first):
        return
    rows = table.movedim(1, -1)
    if _two_values(rows):
        source, passed = ways[0]
        name = kind(source) or ""
        hops = way(source, _WORDS.get(name, name), passed)
        yield SwappedArguments(op, "cross-entropy", rows.numel() // rows.shape[-1], rows.numel(), hops=hops)


def _two_values(rows: torch.Tensor) -> bool:
    low, high = rows.amin(-1, keepdim=True), rows.amax(-1, keepdim=True)
    slack = 1e-3 if rows.dtype in (torch.float32, torch.float64) else 2e-2
    apart = ((high - low) - 1).abs() <= slack
    return (
        bool(apart.all()) and bool(((rows == low) | (rows == high)).all()) and bool(((rows == high).sum(-1) == 1).all())
    )
