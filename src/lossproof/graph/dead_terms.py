"""Terms of the loss that train nothing: their gradient is zero everywhere, or they left the graph (``LP302``).

``round``, ``sign`` and their like stay in the graph with a derivative of 0. What was detached, compared or turned into
a number is a constant there; that it once depended on the model is known where ``lossproof.recording()`` saw the call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lossproof.graph.chain import SHAPE_ONLY
from lossproof.graph.loss_facts import DeadTerm
from lossproof.graph.place import note

if TYPE_CHECKING:
    from lossproof.graph.walk import Graph, Op

_FLAT = {
    "Round": "round",
    "Floor": "floor",
    "Ceil": "ceil",
    "Trunc": "trunc",
    "Sign": "sign",
    "Sgn": "sgn",
}
_SUMS = SHAPE_ONLY | {"Add", "Sub", "Rsub", "Neg", "Mean", "Sum", "Nansum"}
"""What joins terms, or hands one on."""
_SCALES = ("Mul", "Div")


def facts(graph: Graph) -> Iterator[DeadTerm]:
    dead = _dead(graph)
    stack, seen = [graph.root], set()
    while stack:
        op = stack.pop()
        if op.index in seen:
            continue
        seen.add(op.index)
        if op.index in dead:
            if op is graph.root or op.shape() == ():
                flat = _cause(op)
                yield DeadTerm(flat, _FLAT.get(flat.kind, flat.kind), op is graph.root)
            continue
        yield from _constant_terms(op)
        if op.kind in _SUMS or (op.kind in _SCALES and _by_constant(op)):
            stack += [edge.op for edge in reversed(op.inputs) if edge is not None]


def _dead(graph: Graph) -> set[int]:
    """The operators through which no gradient reaches a leaf."""
    if not any(op.kind in _FLAT for op in graph):
        return set()
    dead: set[int] = set()
    for op in reversed(graph.ops):
        edges = [edge for edge in op.inputs if edge is not None]
        if op.kind in _FLAT or (edges and not op.opaque and all(edge.op.index in dead for edge in edges)):
            dead.add(op.index)
    return dead


def _cause(op: Op) -> Op:
    while op.kind not in _FLAT:
        op = next(edge.op for edge in op.inputs if edge is not None)
    return op


def _by_constant(op: Op) -> bool:
    return sum(edge is not None for edge in op.inputs) == 1


def _constant_terms(op: Op) -> Iterator[DeadTerm]:
    """A number that is added to the loss, and that was taken from the graph before."""
    if op.kind not in ("Add", "Sub", "Rsub", "Stack") or (op.kind != "Stack" and op.shape() != ()):
        return
    if None not in op.inputs and op.kind != "Rsub" and not (op.kind in ("Add", "Sub") and len(op.inputs) == 1):
        return
    found = note(op)
    if found is None or not found.cuts:
        return
    cut = found.cuts[0]
    if (
        op.kind in ("Sub", "Rsub")
        and cut.how == "detach"
        and any(edge and edge.op.kind == cut.kind for edge in op.inputs)
    ):
        return  # x - x.detach(): a gradient without a value
    yield DeadTerm(op, cut.how, False, cut=cut)
