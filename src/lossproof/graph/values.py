"""The values that passed through the graph, as far as it still holds them.

An operator keeps its result or its operands where its derivative needs them, and what one does not keep the next one
often does. Tensors come back detached, and are never copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lossproof.graph.place import kept as noted_value
from lossproof.graph.walk import readable

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Op

OPERANDS: dict[str, tuple[str, ...]] = {
    "Addmm": ("self", "mat1", "mat2"),
    "Addbmm": ("self", "batch1", "batch2"),
    "Baddbmm": ("self", "batch1", "batch2"),
    "Bmm": ("self", "mat2"),
    "Convolution": ("input", "weight", "bias"),
    "Mm": ("self", "mat2"),
    "NativeBatchNorm": ("input", "weight", "bias"),
    "NativeGroupNorm": ("input", "weight", "bias"),
    "NativeLayerNorm": ("input", "weight", "bias"),
    "Pow": ("self", "exponent"),
}
"""Under which names an operator keeps its operands, by number; ``self`` and ``other`` for one that is not here."""
_USUAL = ("self", "other")
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


def operand(op: Op, number: int) -> torch.Tensor | None:
    """The value of an operand as the operator itself kept it; None where its derivative does not need it."""
    names = OPERANDS.get(op.kind, _USUAL)
    return op.tensor(names[number]) if number < len(names) else None


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
                kept = operand(reader, number)
                if kept is not None and tuple(kept.shape) == edge.shape:
                    return kept
    return None
