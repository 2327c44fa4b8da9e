"""The values that passed through the graph, as far as it still holds them.

An operator keeps its result or its operands where its derivative needs them, and what one does not keep the next one
often does. Tensors come back detached, and are never copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lossproof.graph.operands import kept
from lossproof.graph.place import kept as noted_value
from lossproof.graph.walk import readable

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge

RESULT = "result"
RESULTS: dict[tuple[str, int], str] = {
    ("LinalgCholeskyEx", 0): "L",
    ("LinalgEigh", 0): "eigenvalues",
    ("LinalgEigh", 1): "eigenvectors",
    ("LinalgInvEx", 0): "inverse",
    ("LinalgSvd", 0): "U",
    ("LinalgSvd", 1): "S",
    ("LinalgSvd", 2): "Vh",
    ("MkldnnRnnLayer", 0): "result0",
    ("ScaledDotProductFlashAttentionForCpu", 0): "output",
}
"""Under which name an operator keeps what it gave, where that is not ``result``."""


def value(edge: Edge | None) -> torch.Tensor | None:
    """What an operator gave: its own saved result, a leaf's tensor, or the operand that a reader kept."""
    if edge is None:
        return None
    op = edge.op
    if op.leaf is not None:
        return op.leaf.detach() if readable(op.leaf) else None
    kept_as = RESULTS.get((op.kind, edge.output), RESULT if edge.output == 0 else "")
    if kept_as:
        own = op.tensor(kept_as)
        if own is None and edge.output == 0:
            own = noted_value(op)
        if own is not None and readable(own):
            return own
    for reader in op.consumers:
        for number, read in enumerate(reader.inputs):
            if read is not None and read.op is op and read.output == edge.output:
                held = kept(reader, number)
                if held is not None and tuple(held.shape) == edge.shape:
                    return held
    return None
