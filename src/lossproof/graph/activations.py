"""Activations that reach a loss: what ``LP101`` to ``LP111`` ask about, whatever the code hid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lossproof.graph.chain import behind
from lossproof.graph.facts import ActivationIntoLoss, Hop

if TYPE_CHECKING:
    from lossproof.graph.walk import Graph, Op

LOSSES = {"BinaryCrossEntropy": "bce"}


def facts(graph: Graph) -> Iterator[ActivationIntoLoss]:
    for loss in graph.of(*LOSSES):
        for source, passed in behind(loss.inputs[0]):
            if source.kind == "Sigmoid":
                dead, elements = _dead(source)
                hops = (
                    Hop(source, "sigmoid applied here"),
                    *(Hop(op, f"through {op.kind}") for op in reversed(passed)),
                )
                yield ActivationIntoLoss(loss, "bce", "sigmoid", dead, elements, hops=hops)


def _dead(sigmoid: Op) -> tuple[int, int]:
    """How many elements rounded to exactly 0 or 1, where the derivative is exactly 0, and of how many."""
    result = sigmoid.tensor("result")
    if result is None:
        return 0, 0
    return int(((result == 0) | (result == 1)).sum()), result.numel()
