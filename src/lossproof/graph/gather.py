"""All facts of one graph: each gatherer looks for one idea."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lossproof.graph import activations, at_the_edge, epsilons, finiteness, saturation, written_out

if TYPE_CHECKING:
    from lossproof.graph.facts import GraphFact
    from lossproof.graph.walk import Graph

GATHERERS = (
    activations.facts,
    at_the_edge.facts,
    epsilons.facts,
    written_out.facts,
    saturation.facts,
    finiteness.facts,
)


def facts(graph: Graph) -> Iterator[GraphFact]:
    for gather in GATHERERS:
        yield from gather(graph)
