"""Which elements of an operand had a part in which elements of a result: a mask, taken down through one operator.

It is a superset where an operator mixes more than is followed here, and it is never too small. Views, selections and
joins are taken down by their own derivative: it is linear, keeps nothing and does exactly this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lossproof.graph.operands import kept

if TYPE_CHECKING:
    from lossproof.graph.walk import Op

MOVES = frozenset(
    (
        "Alias",
        "AsStrided",
        "Cat",
        "Chunk",
        "Clone",
        "ConstantPadNd",
        "Diagonal",
        "Expand",
        "Flip",
        "Gather",
        "Index",
        "IndexSelect",
        "MaskedSelect",
        "Max",
        "Min",
        "Median",
        "Narrow",
        "Permute",
        "Repeat",
        "Reshape",
        "ReshapeAlias",
        "Roll",
        "Select",
        "Slice",
        "Sort",
        "Split",
        "UnsafeSplit",
        "SplitWithSizes",
        "Squeeze",
        "Stack",
        "T",
        "Topk",
        "Transpose",
        "Unbind",
        "Unfold",
        "UnsafeView",
        "Unsqueeze",
        "View",
    )
)
"""Operators that only move elements: their derivative moves a mask back."""
_ALONG = frozenset(("Softmax", "LogSoftmax", "Cumsum", "Cumprod", "Logcumsumexp", "Glu"))
_REDUCE = frozenset(
    ("Sum", "Mean", "Nansum", "Logsumexp", "Amax", "Amin", "Var", "Std", "Prod", "LinalgVectorNorm", "Norm")
)
_PRODUCTS = {"Mm": 0, "Bmm": 0, "Mv": 0, "Addmm": 1, "Baddbmm": 1, "Addmv": 1}
_ELEMENTWISE = frozenset(
    (
        "Abs",
        "Acos",
        "Acosh",
        "Add",
        "Addcdiv",
        "Addcmul",
        "Asin",
        "Atan",
        "Atan2",
        "Atanh",
        "Clamp",
        "ClampMax",
        "ClampMin",
        "Copy",
        "Cos",
        "Cosh",
        "Digamma",
        "Div",
        "Elu",
        "Erf",
        "Erfinv",
        "Exp",
        "Exp2",
        "Expm1",
        "Gelu",
        "Hardsigmoid",
        "Hardswish",
        "Hardtanh",
        "LeakyRelu",
        "Lerp",
        "Lgamma",
        "Log",
        "Log10",
        "Log1P",
        "Log2",
        "LogSigmoid",
        "Logaddexp",
        "Logit",
        "MaskedFill",
        "Maximum",
        "Minimum",
        "Mish",
        "Mul",
        "NanToNum",
        "Neg",
        "Pow",
        "PreluKernel",
        "Reciprocal",
        "Relu",
        "Rsqrt",
        "Rsub",
        "Sgn",
        "Sigmoid",
        "Silu",
        "Sin",
        "Sinh",
        "Softplus",
        "Sqrt",
        "Sub",
        "Tan",
        "Tanh",
        "ToCopy",
        "Where",
        "Xlogy",
        "MseLoss",
        "BinaryCrossEntropy",
        "HuberLoss",
        "BinaryCrossEntropyWithLogits",
        "SmoothL1Loss",
        "SoftMarginLoss",
        "KlDiv",
        "NativeDropout",
    )
)


RECURRENT = frozenset(("MkldnnRnnLayer", "CudnnRnn"))
"""Fused recurrent layers: what they read and give has the steps first and the samples second."""


def exact(op: Op) -> bool:
    """Whether a mask is followed through this operator element by element, and not by a rule of thumb."""
    return op.kind in (*MOVES, *_ELEMENTWISE, *_REDUCE, *_ALONG, *_PRODUCTS, *RECURRENT) or "Norm" in op.kind


def down(op: Op, mask: torch.Tensor, number: int, output: int = 0) -> torch.Tensor | None:
    """The elements of operand ``number`` that had a part in the masked elements; None where its shape is unknown."""
    shape = shape_of(op, number)
    if shape is None:
        return None
    try:
        found = _down(op, mask, number, output, shape)
    except (RuntimeError, TypeError, ValueError, IndexError):
        found = None
    if found is not None and tuple(found.shape) == shape:
        return found
    whole = torch.ones(shape, dtype=torch.bool, device=mask.device)
    if mask.dim() and len(shape) and shape[0] == mask.shape[0]:
        rows = mask.reshape(mask.shape[0], -1).any(1)
        return whole & rows.reshape(-1, *[1] * (len(shape) - 1))
    return whole


def shape_of(op: Op, number: int) -> tuple[int, ...] | None:
    edge = op.inputs[number] if 0 <= number < len(op.inputs) else None
    if edge is not None:
        return edge.shape
    own = kept(op, number) if number >= 0 else None
    return None if own is None else tuple(own.shape)


def _down(op: Op, mask: torch.Tensor, number: int, output: int, shape: tuple[int, ...]) -> torch.Tensor | None:
    kind = op.kind
    if kind == "BackwardHookFunction":
        return mask if number == output else torch.zeros(shape, dtype=torch.bool, device=mask.device)
    if kind in MOVES and may_call(op):
        return _moved(op, mask, number, output)
    if kind in _ELEMENTWISE and tuple(mask.shape) == op.shape(output):
        return folded(mask, shape) if mask.dim() or not len(shape) else None
    if kind in _REDUCE:
        return _unreduced(op, mask, shape)
    if kind in _ALONG:
        dim = op.dim()
        if dim is None or kind == "Glu":
            return None
        return mask.any(dim, keepdim=True).expand(shape)
    if kind in _PRODUCTS:
        return _product(mask, number - _PRODUCTS[kind], shape)
    if kind in RECURRENT and number == 0 and mask.dim() == 3:
        return mask.any(0, keepdim=True).any(2, keepdim=True).expand(shape)
    if kind in ("NativeBatchNorm", "CudnnBatchNorm") and number == 0 and mask.dim() > 1:
        if not op.saved("training"):
            return mask
        channels = mask.transpose(0, 1).flatten(1).any(1)  # its statistics are over the whole batch
        return channels.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape)
    if kind == "NativeLayerNorm" and number == 0:
        normalized = len(op.saved("normalized_shape") or (1,))
        return mask.flatten(-normalized).any(-1).reshape(*mask.shape[:-normalized], *[1] * normalized).expand(shape)
    return None


def _moved(op: Op, mask: torch.Tensor, number: int, output: int) -> torch.Tensor | None:
    count = len(op.node._input_metadata)
    dtype = op.dtype(output) or torch.float32
    given: list[torch.Tensor | None] = [None] * count
    given[output] = mask.to(dtype)
    with torch.no_grad():
        made = op.node(*given)
    made = made if isinstance(made, tuple) else (made,)
    found = made[number] if number < len(made) else None
    if found is None:
        shape = shape_of(op, number)
        return None if shape is None else torch.zeros(shape, dtype=torch.bool, device=mask.device)
    return folded(found != 0, shape_of(op, number) or tuple(found.shape))


def folded(mask: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A mask over a broadcast result as one over the operand: what was repeated is asked together."""
    extra = mask.dim() - len(shape)
    if extra > 0:
        mask = mask.flatten(0, extra - 1).any(0) if extra > 1 else mask.any(0)
    for dim, size in enumerate(shape):
        if size == 1 and mask.shape[dim] != 1:
            mask = mask.any(dim, keepdim=True)
    return mask


def _unreduced(op: Op, mask: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor | None:
    dims = op.dims()
    single = op.dim() if dims is None else None
    if dims is None and single is not None:
        dims = (single,)
    if dims is None or len(dims) == 0:
        return mask.reshape([1] * len(shape)).expand(shape) if mask.numel() == 1 else None
    if not op.saved("keepdim"):
        for dim in sorted(each % len(shape) for each in dims):
            mask = mask.unsqueeze(dim)
    return mask.expand(shape)


def _product(mask: torch.Tensor, side: int, shape: tuple[int, ...]) -> torch.Tensor | None:
    """Rows of the left factor, columns of the right one; the added term has the result's own elements."""
    if side == -1:
        return folded(mask, shape)
    if side == 0:
        return (
            mask.any(-1, keepdim=True).expand(shape) if len(shape) == mask.dim() else mask.unsqueeze(-1).expand(shape)
        )
    if len(shape) == mask.dim():
        return mask.any(-2, keepdim=True).expand(shape)
    return None


def may_call(op: Op) -> bool:
    """Whether calling the node runs nothing but PyTorch's own arithmetic: no hook of a saved tensor, no user code."""
    if op.opaque:
        return False
    for name in _raw_names(type(op.node), op):
        raw = getattr(op.node, name, None)
        for each in raw if isinstance(raw, (tuple, list)) else (raw,):
            if each is not None and getattr(each, "unpack_hook", None) is not None:
                return False
    return True


_RAW: dict[type, tuple[str, ...]] = {}


def _raw_names(kind: type, op: Op) -> tuple[str, ...]:
    if kind not in _RAW:
        _RAW[kind] = tuple(name for name in dir(op.node) if name.startswith("_raw_saved_"))
    return _RAW[kind]
