"""Trainable parameters that the loss does not depend on: a head that nobody reads, a part behind a ``detach``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lossproof.graph.loss_facts import UnreachedParameters

if TYPE_CHECKING:
    from lossproof.graph.walk import Graph

_INSIDE = re.compile("checkpoint|invertible|reversible|revblock", re.I)
"""Custom functions that run a backward pass of their own, over parameters that are not their operands."""


def facts(graph: Graph) -> Iterator[UnreachedParameters]:
    known = graph.known
    trainable = [(name, each) for name, each in known.parameters if each.requires_grad]
    if not trainable:
        return
    reached = {id(op.leaf) for op in graph.leaves}
    missed = [(name, each) for name, each in trainable if id(each) not in reached and known.trains(each) is not False]
    if not missed:
        return
    inside = next((op for op in graph if op.opaque and _INSIDE.search(op.kind)), None)
    if inside is not None:
        graph.cannot_see(f"{inside.kind}: which parameters it reaches")
        return
    names = [name for name, _ in missed]
    parts = _parts(names, [name for name, _ in trainable])
    elements = sum(each.numel() for _, each in missed)
    of = sum(each.numel() for _, each in trainable)
    yield UnreachedParameters(
        graph.root,
        tuple(parts),
        bool(set(parts) - set(names)),
        len(missed),
        len(trainable),
        elements,
        of,
        known.held is not None,
    )


def _parts(missed: list[str], all_names: list[str]) -> list[str]:
    """The largest parts of the model that are missed as a whole, else single parameters."""
    left, parts = set(missed), []
    for name in missed:
        if name not in left:
            continue
        pieces = name.split(".")
        for depth in range(1, len(pieces) + 1):
            part = ".".join(pieces[:depth])
            inside = [each for each in all_names if each == part or each.startswith(part + ".")]
            if left.issuperset(inside):
                parts.append(part)
                left.difference_update(inside)
                break
    return parts
