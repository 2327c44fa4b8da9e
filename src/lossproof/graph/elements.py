"""Single elements followed through the graph: up to what selects them away, down to what stops their gradient.

A division by zero in the third row does not reach the loss if the third row is dropped later on; it is a fault all the
same if its gradient comes back as zero times infinity. ``guarded`` follows marked elements of a result towards the
loss, ``escapes`` the gradient of marked elements of an operand towards the leaves. Both follow what works element by
element, what moves elements and what sums them; anything else mixes them, and the answer is the careful one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import torch

from lossproof.graph.plain import any_plain, plain

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Graph, Op

POINTWISE = frozenset(
    (
        *("Abs", "Acos", "Acosh", "Add", "Addcdiv", "Addcmul", "Asin", "Asinh", "Atan", "Atan2", "Atanh", "Celu"),
        *(
            "Clamp",
            "ClampMax",
            "ClampMin",
            "Clone",
            "Contiguous",
            "Cos",
            "Cosh",
            "Digamma",
            "Div",
            "Elu",
            "Erf",
            "Erfc",
        ),
        *("Erfinv", "Exp", "Exp2", "Expm1", "Gelu", "Hardsigmoid", "Hardswish", "Hardtanh", "Hypot", "LeakyRelu"),
        *("Lerp", "Lgamma", "Log", "Log10", "Log1P", "Log2", "LogSigmoid", "Logaddexp", "Logit", "MaskedFill"),
        *("Maximum", "Minimum", "Mish", "Mul", "NanToNum", "Neg", "NativeDropout", "Pow", "Reciprocal", "Relu"),
        *(
            "Rsqrt",
            "Rsub",
            "Sgn",
            "Sigmoid",
            "Sign",
            "Silu",
            "Sin",
            "Sinc",
            "Sinh",
            "Softplus",
            "Sqrt",
            "Square",
            "Sub",
        ),
        *("Tan", "Tanh", "Threshold", "ToCopy", "Where", "Xlogy", "ThresholdBackward", "Copy", "Float", "Half"),
    )
)
"""Each element of the result comes from the same element of each operand, as far as these are broadcast."""
SAME_ORDER = frozenset(
    ("Alias", "Flatten", "Reshape", "ReshapeAlias", "Squeeze", "Unflatten", "Unsqueeze", "UnsafeView", "View", "ViewAs")
)
"""The same elements in the same order, in another shape."""
SUMS = frozenset(("Mean", "Sum", "Nansum"))
LOSSES = frozenset(
    (
        *("BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", "HuberLoss", "KlDiv", "L1Loss", "MseLoss"),
        *("SmoothL1Loss", "SoftMarginLoss", "NllLoss", "NllLoss2D"),
    )
)
OBJECTIVE = (
    POINTWISE
    | SAME_ORDER
    | SUMS
    | LOSSES
    | {
        *(
            "Amax",
            "Amin",
            "Cat",
            "Diagonal",
            "Expand",
            "Gather",
            "Index",
            "IndexPut",
            "IndexSelect",
            "LinalgVectorNorm",
        ),
        *(
            "MaskedSelect",
            "Max",
            "Min",
            "Permute",
            "Select",
            "Slice",
            "Stack",
            "T",
            "Transpose",
            "Unbind",
            "Std",
            "Var",
        ),
        *("Narrow", "Split", "SplitWithSizes", "Logsumexp", "Sort", "Topk", "Tril", "Triu", "CopySlices", "AsStrided"),
    }
)
"""What a loss is made of, as opposed to the layers of a network."""
STEPS = 200
"""How many operators an element is followed through; the careful answer after that."""


@dataclass(frozen=True)
class Guard:
    """What takes marked elements out: each of them comes past one."""

    op: Op
    word: str
    """``where``, ``masked_fill``, ``nan_to_num``, ``nansum``, ``index``, ``put`` or ``mask``."""


def objective(graph: Graph) -> list[bool]:
    """For each operator whether only the pieces of a loss lie between it and the loss: no layer of a network."""
    inside = [True] * len(graph.ops)
    for op in graph.ops[1:]:
        inside[op.index] = all(reader.kind in OBJECTIVE and inside[reader.index] for reader in op.consumers)
    return inside


# ---- towards the loss


class Asked(Enum):
    """What of the marked elements is followed, which decides whether a factor of zero takes it out."""

    VALUE = "a value that is not finite: zero times it is NaN"
    LATE = "whether somebody means to take out what is not finite: a factor that is a condition says so"
    MASKED = "the same of finite values with a slope that is not: a factor of zeros and ones says so too"
    FINITE = "finite values: a factor of zero takes them out"


def guarded(op: Op, mask: torch.Tensor, asked: Asked) -> Guard | None:
    """What takes every marked element of a result out on every way to the loss; None where one gets there."""
    found: Guard | None = None
    stack: list[tuple[Op, torch.Tensor]] = [(op, mask)]
    for _ in range(STEPS):
        if not stack:
            return found
        below, marked = stack.pop()
        if not below.consumers:
            return None
        for reader in below.consumers:
            for number, edge in enumerate(reader.inputs):
                if edge is None or edge.op is not below:
                    continue
                step = _up(reader, number, marked, asked) if edge.output == 0 else None
                if step is None:
                    return None
                above, word = step
                if bool(above.any()):
                    stack.append((reader, above))
                elif word:
                    found = found or Guard(reader, word)
                else:
                    return None
    return None


def _up(reader: Op, number: int, mask: torch.Tensor, asked: Asked) -> tuple[torch.Tensor, str] | None:
    """The marked elements of what ``reader`` gives, and what it is called if it takes some out."""
    kind, shape = reader.kind, reader.shape()
    if shape is None:
        return None
    if kind == "Where":
        condition = any_plain(reader.saved("condition"))
        if condition is None:
            return None
        chosen = condition if number == 0 else ~condition
        return mask.broadcast_to(shape) & chosen.broadcast_to(shape), "where"
    if kind == "MaskedFill":
        filled = any_plain(reader.saved("mask"))
        return None if filled is None else (mask.broadcast_to(shape) & ~filled.broadcast_to(shape), "masked_fill")
    if kind in ("NanToNum", "Nansum"):
        operand = plain(reader.saved("self"))
        if operand is None:
            return None
        kept = mask & (torch.isfinite(operand) if kind == "NanToNum" else ~torch.isnan(operand))
        return (kept, "nan_to_num") if kind == "NanToNum" else (_summed(reader, kept), "nansum")
    if kind == "IndexPut":
        indices = _indices(reader)
        if indices is None or number != 0:
            return None
        kept = mask.clone()
        kept[indices] = False
        return kept, "put"
    if kind in ("Index", "MaskedSelect", "Select", "Slice", "IndexSelect", "Gather", "Diagonal"):
        picked = _picked(reader, mask)
        return None if picked is None else (picked, "index")
    if kind == "Mul":
        other = any_plain(reader.saved("self" if number else "other"))
        whole = mask.broadcast_to(shape)
        if other is None or not _takes_out(reader, number, other, asked):
            return whole, ""
        return whole & (other != 0).broadcast_to(shape), "mask"
    if kind in POINTWISE:
        return mask.broadcast_to(shape), ""
    if kind in SAME_ORDER:
        return mask.reshape(shape), ""
    if kind in SUMS:
        return _summed(reader, mask), ""
    if kind in LOSSES:
        return (mask.broadcast_to(shape) if shape and shape == tuple(mask.shape) else mask.any().expand(shape)), ""
    moved = _moved(reader, mask)
    return None if moved is None else (moved, "")


def _takes_out(reader: Op, number: int, factor: torch.Tensor, asked: Asked) -> bool:
    if asked is Asked.FINITE:
        return True
    if asked is Asked.VALUE:
        return False
    if factor.dtype is torch.bool:
        return True
    constant = reader.inputs[1 - number] is None
    return asked is Asked.MASKED and constant and bool(((factor == 0) | (factor == 1)).all())


def _summed(reader: Op, mask: torch.Tensor) -> torch.Tensor:
    dims = reader.dims()
    if not dims:
        return mask.any().reshape(reader.shape() or ())
    keep = bool(reader.saved("keepdim"))
    for dim in sorted((each % max(mask.dim(), 1) for each in dims), reverse=True):
        mask = mask.any(dim, keepdim=keep)
    return mask


def _picked(reader: Op, mask: torch.Tensor) -> torch.Tensor | None:
    """What an index, a slice or a selection by mask takes of a tensor."""
    kind = reader.kind
    if kind == "MaskedSelect":
        chosen = any_plain(reader.saved("mask"))
        return None if chosen is None else mask.masked_select(chosen)
    if kind == "Index":
        indices = _indices(reader)
        return None if indices is None else mask[indices]
    dim = reader.dim() or 0
    if kind == "Select":
        index = reader.dim("index")
        return None if index is None else mask.select(dim, index)
    if kind == "Slice":
        start, end, step = reader.dim("start") or 0, reader.dim("end"), reader.dim("step") or 1
        length = mask.shape[dim]
        places = torch.arange(length, device=mask.device)[start : length if end is None else min(end, length) : step]
        return mask.index_select(dim, places)
    chosen_index = any_plain(reader.saved("index"))
    if chosen_index is None:
        return None
    if kind == "IndexSelect":
        return mask.index_select(dim, chosen_index)
    return mask.gather(dim, chosen_index) if kind == "Gather" else None


def _indices(reader: Op) -> tuple[slice | torch.Tensor, ...] | None:
    saved = reader.saved("indices")
    if not isinstance(saved, (tuple, list)):
        return None
    found: list[slice | torch.Tensor] = []
    for each in saved:
        index = slice(None) if each is None else any_plain(each)
        if index is None:
            return None
        found.append(index)
    return tuple(found)


def _moved(reader: Op, mask: torch.Tensor) -> torch.Tensor | None:
    if reader.kind == "Permute":
        dims = reader.dims("dims")
        return None if dims is None else mask.permute(dims)
    if reader.kind == "T":
        return mask.t()
    if reader.kind == "Transpose":
        one, other = reader.dim("dim0"), reader.dim("dim1")
        return None if one is None or other is None else mask.transpose(one, other)
    if reader.kind == "Flip":
        flipped = reader.dims("dims")
        return None if flipped is None else mask.flip(flipped)
    if reader.kind == "Expand":
        shape = reader.shape()
        return None if shape is None else mask.broadcast_to(shape)
    return None


# ---- towards the leaves


def escapes(edge: Edge | None, mask: torch.Tensor, *, steep: bool = False) -> torch.Tensor:
    """Which marked elements of an operand send their gradient on, and are not stopped on the way to a leaf.

    Only what *chooses* stops a NaN or an infinity: the other branch of a ``where``, a ``relu`` that gave 0, a clamp.
    ``steep``: the gradient is finite and large, and a factor of zero stops it too.
    """
    if edge is None:
        return torch.zeros_like(mask)
    for _ in range(STEPS):
        op = edge.op
        mask = _let_through(op, mask, steep)
        below = [each for each in op.inputs if each is not None]
        same = [each for each in below if each.shape == tuple(mask.shape)]
        if len(below) != 1 or len(same) != 1 or op.kind not in POINTWISE or edge.output != 0 or not bool(mask.any()):
            return mask & _gone(op, mask, steep)
        edge = same[0]
    return mask


def _gone(op: Op, mask: torch.Tensor, steep: bool) -> torch.Tensor:
    """After the last operator that was followed element by element: one answer for all marked elements together.

    True where some of the gradient gets on. It is worked out on masks that take other shapes, branch by branch.
    """
    stack = [(op, mask)]
    for _ in range(STEPS):
        if not stack:
            return torch.zeros_like(mask)
        above, part = stack.pop()
        if above.leaf is not None:
            return torch.ones_like(mask)
        for number, edge in enumerate(above.inputs):
            if edge is None:
                continue
            below = _below(above, number, edge, part)
            if below is None:
                return torch.ones_like(mask)
            below = _let_through(edge.op, below, steep)
            if bool(below.any()):
                stack.append((edge.op, below))
    return torch.ones_like(mask)


def _below(op: Op, number: int, edge: Edge, mask: torch.Tensor) -> torch.Tensor | None:
    """The elements of an operand that marked elements of the result depend on; None where that is not known."""
    shape = edge.shape
    if shape is None or edge.output != 0:
        return None
    if op.kind in POINTWISE or op.kind == "Expand":
        return shrunk(mask & _branch(op, number, mask), shape)
    if op.kind in SAME_ORDER:
        return mask.reshape(shape)
    if op.kind in SUMS:
        return _unsummed(op, mask, shape)
    if op.kind == "Permute":
        dims = op.dims("dims")
        return None if dims is None else mask.permute(sorted(range(len(dims)), key=lambda at: dims[at] % len(dims)))
    if op.kind in ("T", "Transpose"):
        return _moved(op, mask)
    if op.kind == "IndexPut":
        return mask if number == 0 else None
    if op.kind in ("Cat", "Stack"):
        return _part(op, number, mask)
    if op.kind == "Flip":
        flipped = op.dims("dims")
        return None if flipped is None else mask.flip(flipped)
    if op.kind in ("Index", "Select", "Slice", "MaskedSelect", "IndexSelect", "Gather"):
        return spread(op, mask, shape)
    return None


def _part(op: Op, number: int, mask: torch.Tensor) -> torch.Tensor | None:
    """What one of several joined tensors has of a mask of them all."""
    dim = op.dim() or 0
    if op.kind == "Stack":
        return mask.select(dim, number)
    shapes = [None if edge is None else edge.shape for edge in op.inputs]
    dim %= mask.dim()
    sizes = [None if shape is None or len(shape) != mask.dim() else shape[dim] for shape in shapes]
    if sizes.count(None) > 1:
        return None
    rest = mask.shape[dim] - sum(size for size in sizes if size is not None)
    whole = [rest if size is None else size for size in sizes]
    return mask.narrow(dim, sum(whole[:number]), whole[number])


def _branch(op: Op, number: int, mask: torch.Tensor) -> torch.Tensor:
    """Where an operand is the chosen one."""
    if op.kind == "Where":
        condition = any_plain(op.saved("condition"))
        if condition is not None:
            return (condition if number == 0 else ~condition).broadcast_to(mask.shape)
    if op.kind in ("Maximum", "Minimum"):
        mine, other = plain(op.saved("other" if number else "self")), plain(op.saved("self" if number else "other"))
        if mine is not None and other is not None:
            return (mine >= other if op.kind == "Maximum" else mine <= other).broadcast_to(mask.shape)
    return torch.ones_like(mask)


def spread(op: Op, mask: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor | None:
    """The elements that an index took from a larger tensor, by taking their numbers."""
    count = math.prod(shape)
    numbers = torch.arange(count, device=mask.device).reshape(shape)
    taken = _picked(op, numbers)
    if taken is None or taken.shape != mask.shape:
        return None
    spread = torch.zeros(count, dtype=torch.bool, device=mask.device)
    spread[taken[mask]] = True
    return spread.reshape(shape)


def _unsummed(op: Op, mask: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    dims = op.dims()
    if dims and not op.saved("keepdim"):
        for dim in sorted(each % len(shape) for each in dims):
            mask = mask.unsqueeze(dim)
    return mask.broadcast_to(shape)


def shrunk(mask: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A mask of a broadcast tensor, for the tensor before it was broadcast."""
    while mask.dim() > len(shape):
        mask = mask.any(0)
    for dim, size in enumerate(shape):
        if size == 1 and mask.shape[dim] != 1:
            mask = mask.any(dim, keepdim=True)
    return mask


def _let_through(op: Op, mask: torch.Tensor, steep: bool) -> torch.Tensor:
    stopped = _stopped(op, steep)
    return mask if stopped is None or stopped.shape != mask.shape else mask & ~stopped.to(mask.device)


def _stopped(op: Op, steep: bool) -> torch.Tensor | None:
    """Elements of a result whose gradient goes no further down, whatever it is; None where there is no such thing."""
    kind = op.kind
    if kind == "Relu":
        result = plain(op.saved("result"))
        return None if result is None else result <= 0
    if kind in ("Clamp", "ClampMin", "ClampMax", "Hardtanh", "Threshold", "Hardsigmoid"):
        operand = plain(op.saved("self"))
        return None if operand is None else outside(op, operand)
    if kind == "Std":
        result = plain(op.saved("result"))
        return None if result is None else result == 0
    if kind == "MaskedFill":
        return any_plain(op.saved("mask"))
    if kind in ("Where", "Maximum", "Minimum") and op.inputs.count(None) == 1 and op.shape() is not None:
        everything = torch.ones((), dtype=torch.bool).expand(op.shape() or ())
        number = 0 if op.inputs[1] is None else 1
        saved = any_plain(op.saved("condition" if kind == "Where" else "self"))
        return None if saved is None else ~_branch(op, number, everything.to(saved.device))
    if kind == "IndexPut" and op.inputs[0] is not None:
        indices, shape = _indices(op), op.shape()
        if indices is None or shape is None or op.saved("accumulate"):
            return None
        device = next((each.device for each in indices if isinstance(each, torch.Tensor)), None)
        put = torch.zeros(shape, dtype=torch.bool, device=device)
        put[indices] = True
        return put
    return _flat(op) if steep else None


def outside(op: Op, operand: torch.Tensor) -> torch.Tensor:
    """Where a clamp or its like has cut, so that its derivative is exactly 0."""
    if op.kind == "Hardtanh":
        low: torch.Tensor = operand <= op.saved("min_val")
        high: torch.Tensor = operand >= op.saved("max_val")
        return low | high
    if op.kind == "Hardsigmoid":
        return (operand <= -3) | (operand >= 3)
    if op.kind == "Threshold":
        below_it: torch.Tensor = operand <= op.saved("threshold")
        return below_it
    cut = torch.zeros_like(operand, dtype=torch.bool)
    for name, below in (("min", True), ("max", False)):
        bound = op.saved(name)
        if bound is not None:
            cut = cut | (operand < bound if below else operand > bound)
    return cut


def _flat(op: Op) -> torch.Tensor | None:
    """Elements at which a smooth operator has derivative 0: an even power or an absolute value at 0, a factor of 0."""
    if op.kind in ("Abs", "Pow"):
        operand = plain(op.saved("self"))
        exponent = op.number("exponent") if op.kind == "Pow" else 1.0
        return None if operand is None or exponent is None or exponent < 1 else operand == 0
    if op.kind in ("Sigmoid", "Tanh"):
        result = plain(op.saved("result"))
        if result is None:
            return None
        return (result.abs() == 1) | (result == 0) if op.kind == "Sigmoid" else result.abs() == 1
    if op.kind in ("Exp", "LinalgVectorNorm"):
        result = plain(op.saved("result"))
        return None if result is None else result == 0
    if op.kind == "Mul":
        known = [plain(op.saved(name)) for name in ("self", "other")]
        factors = [each for each in known if each is not None]
        shape = op.shape()
        if len(factors) == 1 and shape is not None and op.inputs.count(None) == 1:
            return (factors[0] == 0).broadcast_to(shape)
        if len(factors) == 2 and shape is not None:
            return ((factors[0] == 0) & (factors[1] == 0)).broadcast_to(shape)
    return None
