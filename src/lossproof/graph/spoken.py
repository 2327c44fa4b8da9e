"""Operators and tensors as people call them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from lossproof.graph.operands import Operand

if TYPE_CHECKING:
    from lossproof.graph.walk import Op

_SPECIAL = {
    "AccumulateGrad": "leaf",
    "BinaryCrossEntropyWithLogits": "binary_cross_entropy_with_logits",
    "Log10": "log10",
    "Log1P": "log1p",
    "Log2": "log2",
    "CopySlices": "copy_",
    "Exp2": "exp2",
    "Expm1": "expm1",
    "MaxPool2DWithIndices": "max_pool2d",
    "NativeBatchNorm": "batch_norm",
    "NativeGroupNorm": "group_norm",
    "NativeLayerNorm": "layer_norm",
    "NllLoss2D": "nll_loss2d",
    "PreluKernel": "prelu",
    "SmoothL1Loss": "smooth_l1_loss",
    "ToCopy": "to",
}
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def operator(op: Op) -> str:
    """``log_softmax``, ``div``, ``mse_loss``."""
    return _SPECIAL.get(op.kind) or _WORD.sub("_", op.kind).lower()


class Names:
    """What the user calls parameters and buffers, as far as a model or a mapping was given."""

    def __init__(self, given: Any = None) -> None:
        self._names: dict[int, str] = {}
        self.modules: list[torch.nn.Module] = []
        if given is None:
            return
        pairs = given.items() if isinstance(given, Mapping) else (("", given),)
        for prefix, each in pairs:
            if isinstance(each, torch.nn.Module):
                self.modules.append(each)
                start = f"{prefix}." if prefix else ""
                for name, tensor in (*each.named_parameters(), *each.named_buffers()):
                    self._names.setdefault(id(tensor), start + name)
            elif isinstance(each, torch.Tensor):
                self._names.setdefault(id(each), str(prefix))

    def get(self, tensor: torch.Tensor | None) -> str | None:
        return None if tensor is None else self._names.get(id(tensor))


def role(operand: Operand, names: Names) -> str:
    """Where an operand comes from."""
    if operand.edge is None:
        return "data" if operand.tensor is not None else "data that the graph does not keep"
    op = operand.edge.op
    leaf = op.leaf
    for _ in range(4):
        if leaf is not None or op.kind not in ("T", "Transpose", "View", "Expand", "ToCopy"):
            break
        below = op.input()
        if below is None:
            break
        leaf, op = below.leaf, below
    if leaf is None:
        return f"result of {operator(operand.edge.op)}"
    return leaf_said(leaf, names)


def leaf_said(leaf: torch.Tensor, names: Names) -> str:
    name = names.get(leaf)
    if name is not None:
        return f"parameter {name}"
    size = "x".join(str(each) for each in leaf.shape) or "scalar"
    return f"a parameter ({size})" if isinstance(leaf, torch.nn.Parameter) else f"a leaf ({size})"


def number(value: float | None) -> str:
    """A figure in four digits, as short as it can be."""
    return "?" if value is None else f"{value:.4g}"
