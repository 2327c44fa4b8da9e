"""Whether the loss itself is still a number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lossproof.graph.numeric_facts import NotFinite
from lossproof.graph.plain import plain

if TYPE_CHECKING:
    from lossproof.graph.walk import Graph


def facts(graph: Graph) -> Iterator[NotFinite]:
    loss = plain(graph.loss)
    if loss is None or bool(torch.isfinite(loss).all()):
        return
    yield NotFinite(graph.root, int(torch.isnan(loss).sum()), int(torch.isinf(loss).sum()), loss.numel())
