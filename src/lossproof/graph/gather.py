"""All facts of one graph: each gatherer looks for one idea."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lossproof.graph import (
    activations,
    at_the_edge,
    broadcast,
    class_weights,
    dead_terms,
    epsilons,
    features,
    finiteness,
    focal,
    log_inputs,
    logs,
    masks,
    overlap,
    saturation,
    sums,
    unreached,
    written_out,
)
from lossproof.problem import CannotRun

if TYPE_CHECKING:
    from lossproof.graph.facts import GraphFact
    from lossproof.graph.walk import Graph

GATHERERS = (
    activations.facts,
    log_inputs.facts,
    logs.facts,
    overlap.facts,
    broadcast.facts,
    masks.facts,
    dead_terms.facts,
    unreached.facts,
    at_the_edge.facts,
    epsilons.facts,
    written_out.facts,
    saturation.facts,
    finiteness.facts,
    focal.facts,
    class_weights.facts,
    sums.facts,
    features.facts,
)
STOPPED = "lossproof stopped"
"""How it begins what is said of a gatherer that met something nobody had thought of."""


def facts(graph: Graph) -> Iterator[GraphFact]:
    for gather in GATHERERS:
        try:
            yield from gather(graph)
        except CannotRun:
            raise
        except Exception as error:  # one idea is lost, the others are not
            where = gather.__module__.rpartition(".")[2]
            graph.cannot_see(f"{STOPPED} at {where}: {type(error).__name__}: {error}")
