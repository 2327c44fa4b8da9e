"""All facts of one graph: each gatherer looks for one idea."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lossproof.graph import activations, broadcast, log_inputs, logs, masks, overlap

if TYPE_CHECKING:
    from lossproof.graph.facts import GraphFact
    from lossproof.graph.walk import Graph

GATHERERS = (activations.facts, log_inputs.facts, logs.facts, overlap.facts, broadcast.facts, masks.facts)


def facts(graph: Graph) -> Iterator[GraphFact]:
    for gather in GATHERERS:
        try:
            yield from gather(graph)
        except _UNREADABLE as error:
            # A tensor of an unusual sort (a wrapper, another device, a layout): the other gatherers still look.
            what = gather.__module__.rpartition(".")[2].replace("_", " ")
            graph.cannot_see(f"{what}: what the graph holds could not be read ({type(error).__name__}: {error})")


_UNREADABLE = (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError, AttributeError)
