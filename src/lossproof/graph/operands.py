"""The operands of an operator: what autograd knows the origin of, and the data that it only keeps.

``op.inputs`` has a place for each operand. Where the place is empty the operand needed no gradient: a batch, a target,
a mask, a number. Often the operator keeps its value, sometimes nobody does (the other side of an addition).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Op

SAVED: dict[str, tuple[str, ...]] = {
    "Addbmm": ("self", "batch1", "batch2"),
    "Addcdiv": ("self", "tensor1", "tensor2"),
    "Addcmul": ("self", "tensor1", "tensor2"),
    "Addmm": ("self", "mat1", "mat2"),
    "Addmv": ("self", "mat", "vec"),
    "Baddbmm": ("self", "batch1", "batch2"),
    "Bmm": ("self", "mat2"),
    "Cdist": ("x1", "x2"),
    "Clamp": ("self", "min", "max"),
    "Convolution": ("input", "weight", "bias"),
    "CtcLoss": ("log_probs",),
    "CudnnBatchNorm": ("input", "weight", "bias"),
    "Dot": ("self", "tensor"),
    "Embedding": ("weight",),
    "EmbeddingBag": ("weight", "per_sample_weights"),
    "GridSampler2D": ("input", "grid"),
    "IndexAdd": ("self", "source"),
    "Lerp": ("self", "end", "weight"),
    "MiopenBatchNorm": ("input", "weight", "bias"),
    "MkldnnRnnLayer": ("input", "weight0", "weight1", "weight2", "weight3", "hx_", "cx_"),
    "Mm": ("self", "mat2"),
    "Mv": ("self", "vec"),
    "NativeBatchNorm": ("input", "weight", "bias"),
    "NativeGroupNorm": ("input", "weight", "bias"),
    "NativeLayerNorm": ("input", "weight", "bias"),
    "Pow": ("self", "exponent"),
    "ScatterReduce": ("self", "src"),
    "PreluKernel": ("self", "weight"),
    "ScaledDotProductEfficientAttention": ("query", "key", "value", "attn_bias"),
    "ScaledDotProductFlashAttention": ("query", "key", "value"),
    "ScaledDotProductFlashAttentionForCpu": ("query", "key", "value"),
    "Where": ("self", "other"),
}
"""Under which names an operator keeps its operands, by number; ``self`` and ``other`` for one that is not here."""
USUAL = ("self", "other")

EXTRA: dict[str, tuple[str, ...]] = {
    "BinaryCrossEntropy": ("target", "weight"),
    "BinaryCrossEntropyWithLogits": ("target", "weight", "pos_weight"),
    "HuberLoss": ("target",),
    "KlDiv": ("target",),
    "MseLoss": ("target",),
    "MultiMarginLoss": ("weight",),
    "NativeBatchNorm": ("running_mean", "running_var"),
    "CudnnBatchNorm": ("running_mean", "running_var"),
    "NllLoss": ("weight",),
    "NllLoss2D": ("weight",),
    "ScaledDotProductFlashAttentionForCpu": ("attn_mask",),
    "SmoothL1Loss": ("target",),
    "SoftMarginLoss": ("target",),
}
"""Data that an operator keeps beside its operands: a bad element in it is as bad."""

TARGETS = {"L1Loss", *(kind for kind, names in EXTRA.items() if "target" in names)}
"""Losses that are one operator and whose second operand is a target."""

SPOKEN: dict[tuple[str, int], str] = {
    ("Addmm", 0): "bias",
    ("Addmm", 1): "input",
    ("Addmm", 2): "weight",
    ("Convolution", 0): "input",
    ("Div", 0): "numerator",
    ("Div", 1): "denominator",
    ("Embedding", 0): "table",
    ("Pow", 0): "base",
    ("Pow", 1): "exponent",
    ("Reciprocal", 0): "denominator",
}
"""What people call an operand."""

WRITES = ("MaskedFill", "IndexFill")
"""Operators that write a number which nobody keeps, and which is no operand either."""
_CONSTANT_KEPT = {"Where": ()}
"""Operators that keep none of the operands that need no gradient, whatever their names promise."""


@dataclass(frozen=True)
class Operand:
    """One operand. ``edge`` is None for data; ``tensor`` is None where nobody holds the value."""

    name: str
    edge: Edge | None
    tensor: torch.Tensor | None
    number: int
    """Its place in ``op.inputs``; -1 for what the operator keeps beside them."""

    @property
    def hidden(self) -> bool:
        """Whether it is data that the graph does not hold."""
        return self.edge is None and self.tensor is None


def names_of(op: Op) -> tuple[str, ...]:
    """Under which names the operands are kept, in the order of ``op.inputs``."""
    names = SAVED.get(op.kind, USUAL)
    if op.kind in ("Pow", "Xlogy") and len(op.inputs) == 1 and isinstance(op.saved(names[0]), (int, float)):
        return names[1:]  # a plain number is the first operand, and no edge
    return names


def kept(op: Op, number: int) -> torch.Tensor | None:
    """An operand as the operator itself kept it; None where its derivative does not need it."""
    names = names_of(op)
    if number >= len(names) or op.kind in _CONSTANT_KEPT:
        return None
    found = op.saved(names[number])
    if isinstance(found, torch.Tensor):
        return op.tensor(names[number])
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        return torch.tensor(float(found))
    if op.kind in TARGETS and number == 1:
        return op.tensor("target")
    return None


def optional(op: Op, number: int) -> bool:
    """Whether an operand may be absent: a bias, an affine weight, a bound."""
    if op.kind == "Convolution":
        return number == 2 and not any(op.saved("bias_sym_sizes_opt") or ())
    if op.kind in ("Clamp", "EmbeddingBag") or "Norm" in op.kind:
        return number > 0
    return op.kind.startswith("Scaled") and number == 3


def operands(op: Op) -> Iterator[Operand]:
    """All operands, with the values that the operator kept (``known_values.py`` may know an edge's value otherwise)."""
    for number, edge in enumerate(op.inputs):
        own = kept(op, number)
        if edge is None and own is None and optional(op, number):
            continue
        yield Operand(called(op, number), edge, own, number)
    given = set(names_of(op)[: len(op.inputs)])
    for name in EXTRA.get(op.kind, ()):
        if name.startswith("running_") and op.saved("training"):
            continue  # not read: batch statistics are
        if name in given or (name == "target" and len(op.inputs) > 1):
            continue
        tensor = op.tensor(name)
        if tensor is not None:
            yield Operand(name, None, tensor, -1)


def called(op: Op, number: int) -> str:
    """The name of an operand for a person."""
    names = names_of(op)
    skipped = len(SAVED.get(op.kind, USUAL)) - len(names)  # a plain number stands before it
    spoken = SPOKEN.get((op.kind, number + skipped))
    if spoken is not None:
        return spoken
    if op.kind in TARGETS and number == 1:
        return "target"
    if len(op.inputs) == 1:
        return "input"
    name = names[number] if number < len(names) else f"operand {number}"
    return "input" if name == "self" and len(op.inputs) == 1 else {"self": "left", "other": "right"}.get(name, name)
