"""Outputs that are wrong and hear nothing of it: their loss is not zero, and their gradient is exactly 0.

Between the last layer and the loss stands an activation that has run into its flat part: a sigmoid that has rounded to
0 or 1, a tanh at plus or minus 1, a softmax that is one class alone, a clamp that has cut, a ``relu`` that gave 0. Its
derivative there is exactly 0 by the formula that autograd uses. Whether the element is wrong is read where the target
comes in: a residual that is not 0, a logarithm of what should be large. Where the same output reaches the loss on a
second way (the clipped and the unclipped value of a policy's loss), nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lossproof.graph.at_the_edge import counted
from lossproof.graph.elements import SAME_ORDER, outside, spread
from lossproof.graph.numeric_facts import Saturated
from lossproof.graph.plain import any_plain, each, plain, rows

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Graph, Op

ACTIVATIONS = {
    "Clamp": "clamp",
    "ClampMax": "clamp",
    "ClampMin": "clamp",
    "Hardsigmoid": "hardsigmoid",
    "Hardtanh": "hardtanh",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    "Tanh": "tanh",
    "Threshold": "threshold",
}
_LAYERS = frozenset(("Addmm", "Mm", "Bmm", "Convolution", "Addbmm", "Baddbmm", "AccumulateGrad"))
_MOVES = SAME_ORDER | {"Permute", "T", "Transpose"}
_AFFINE = frozenset(("Add", "Sub", "Rsub", "Mul", "Div", "Neg", "ToCopy", "Clone"))
_BELOW = _MOVES | _AFFINE | {"Index", "Select", "Slice", "Clamp", "ClampMin", "ClampMax", "Sigmoid", "Softmax", "Tanh"}
NEARLY_ALL = 0.9
FEW, BATCH = 16, 6
"""So few columns are outputs and no features; in so many rows none is dead by chance."""
_STEPS = 20


def facts(graph: Graph) -> Iterator[Saturated]:
    yield from each(graph, graph.of(*ACTIVATIONS), lambda op: _saturated(graph, op))


def _saturated(graph: Graph, op: Op) -> Iterator[Saturated]:
    if any((op.kind, reader.kind) in _TOLD for reader in op.consumers):
        op.saved("result")  # others count what it holds; that it cannot be read is said here
        return
    wrong = _wrong(op)  # first: behind a hidden layer it ends at once, and nothing was computed
    dead = None if wrong is None else flat(op)
    if wrong is None or dead is None or dead.shape != wrong.shape:
        return
    silent = dead & wrong
    if not bool(silent.any()) or not _only_way(graph, op):
        return
    result_of = plain(op.saved("result"))
    softmax = op.kind == "Softmax" and result_of is not None
    if softmax:
        dim = op.dim() or 0
        silent, wrong = silent.any(dim), wrong.any(dim)
    columns: tuple[int, ...] = ()
    if silent.dim() > 1 and silent.shape[0] > 1:
        columns = rows(silent.flatten(1).all(0))
    elif silent.dim() == 1 and bool(silent.all()):
        columns = (0,)
    if _rectifies(op) and int(silent.sum()) < NEARLY_ALL * int(wrong.sum()):
        width = silent.numel() // silent.shape[0] if silent.dim() else 1
        if not columns or width > FEW or silent.shape[0] < BATCH:
            return  # features that are compared are 0 in half of their places, and rightly so
    yield Saturated(
        op,
        ACTIVATIONS[op.kind],
        counted(silent),
        int(wrong.sum()),
        columns,
        "row" if softmax else "output",
        str(op.dtype()).removeprefix("torch."),
    )


def _rectifies(op: Op) -> bool:
    """A ``relu`` in one of its forms, which layers of features have too."""
    if op.kind == "Hardtanh":
        return op.number("min_val") == 0 and (op.number("max_val") or 0.0) >= 6
    return op.kind in ("Relu", "Threshold", "ClampMin") or (op.kind == "Clamp" and op.saved("max") is None)


def flat(op: Op) -> torch.Tensor | None:
    """Elements at which the derivative is exactly 0."""
    if op.kind == "Sigmoid":
        result = plain(op.saved("result"))
        return None if result is None else (result == 0) | (result == 1)
    if op.kind == "Tanh":
        result = plain(op.saved("result"))
        return None if result is None else result.abs() == 1
    if op.kind == "Relu":
        result = plain(op.saved("result"))
        return None if result is None else result == 0
    if op.kind == "Softmax":
        result, dim = plain(op.saved("result")), op.dim()
        if result is None or dim is None or result.dim() == 0:
            return None
        # exactly one class: all others have underflowed
        lonely = ((result == 0) | (result == 1)).all(dim, keepdim=True)
        return lonely.expand_as(result)
    operand = plain(op.saved("self"))
    return None if operand is None else outside(op, operand)


# ---- is it wrong?


def _wrong(op: Op) -> torch.Tensor | None:
    """Elements whose loss is not 0, in the shape of the activation's result; None where the loss cannot be read.

    Every reader of the activation has to be understood: what one of them teaches is not silent.
    """
    found: torch.Tensor | None = None
    margin = _margin(op)
    stack: list[tuple[Op, tuple[Op, ...]]] = [(op, ())]
    for _ in range(_STEPS):
        if not stack:
            return found
        below, way = stack.pop()
        if not below.consumers:
            return None
        for reader in below.consumers:
            wrong = _read(reader, way, margin)
            if wrong is not None and (op.kind, reader.kind) in _TOLD:
                return None
            if wrong is not None:
                back = _back(wrong, (*way,), op)
                if back is None or tuple(back.shape) != op.shape():
                    return None
                found = back if found is None else found | back
            elif reader.kind in _MOVES or (reader.kind in _AFFINE and _alone(reader)):
                if reader.kind in _AFFINE and reader.shape() != below.shape():
                    return None
                stack.append((reader, (*way, reader)))
            elif reader.kind in ACTIVATIONS and reader.kind.startswith("Clamp"):
                stack.append((reader, (*way, reader)))
            else:
                return None
    return None


HAIR = 0.05


def _margin(op: Op) -> float:
    """How far from its target an output is when it is wrong and not just not quite there: a part of what it can be."""
    if op.kind in ("Sigmoid", "Softmax", "Hardsigmoid", "Tanh"):
        return HAIR
    names = ("min_val", "max_val") if op.kind == "Hardtanh" else ("min", "max")
    low, high = (op.number(name) for name in names)
    return 0.0 if low is None or high is None or _rectifies(op) else HAIR * abs(high - low)


_TOLD = {
    *(("Sigmoid", loss) for loss in ("BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", "LogSoftmax")),
    *(("Softmax", loss) for loss in ("BinaryCrossEntropyWithLogits", "LogSoftmax")),
}
"""An activation before a loss that has its own, which the rules of the activations count."""


def _alone(op: Op) -> bool:
    """One operand with a gradient: the others are numbers, data, a target."""
    return sum(edge is not None for edge in op.inputs) == 1


def _read(reader: Op, way: tuple[Op, ...], margin: float) -> torch.Tensor | None:
    """Where a reader is the loss of an element: which elements have one."""
    kind = reader.kind
    if kind in ("MseLoss", "SmoothL1Loss", "HuberLoss", "BinaryCrossEntropy"):
        given, target = plain(reader.saved("self")), any_plain(reader.saved("target"))
        if given is None or target is None or given.shape != target.shape or _narrowed(reader):
            return None
        wrong = (given - target).abs() > margin
        weight = plain(reader.saved("weight")) if kind == "BinaryCrossEntropy" else None
        return wrong if weight is None else wrong & (weight != 0)
    if kind in ("Abs", "Pow") and way and _narrowed(reader) is False:
        residual = plain(reader.saved("self"))
        exponent = reader.number("exponent") if kind == "Pow" else 1.0
        if (
            residual is None
            or exponent is None
            or exponent < 1
            or not any(each_.kind in ("Sub", "Add") for each_ in way)
        ):
            return None
        return residual.abs() > margin
    if kind in ("Log", "Log2"):
        return _logarithm(reader)
    if kind in ("BinaryCrossEntropyWithLogits", "LogSoftmax"):
        return _logits(reader)
    return None


_PICKS = frozenset(
    ("Maximum", "Minimum", "Where", "MaskedFill", "Index", "MaskedSelect", "Max", "Min", "Amax", "Amin", "Topk", "Sort")
)


def _narrowed(reader: Op) -> bool:
    """What follows picks among elements, or weighs them: which of them count is not known here."""
    stack, steps = list(reader.consumers), 0
    while stack and steps < 50:
        above = stack.pop()
        steps += 1
        if above.kind in _PICKS or above.kind == "Gather":
            return True
        if above.kind == "Mul":
            for name in ("self", "other"):
                factor = any_plain(above.saved(name))
                if factor is not None and bool((factor == 0).any()):
                    return True
        stack += above.consumers
    return False


def _logarithm(log: Op) -> torch.Tensor | None:
    """``y * log(p)`` or ``nll(log(p), y)``: wrong where ``p`` is small and should not be."""
    p = plain(log.saved("self"))
    above = log.consumers[0] if len(log.consumers) == 1 else None
    while above is not None and above.kind in ("Neg", "ToCopy"):
        above = above.consumers[0] if len(above.consumers) == 1 else None
    if p is None or above is None:
        return None
    if above.kind in ("NllLoss", "NllLoss2D"):
        asked = _asked_class(above, p)
        return None if asked is None else (p < 0.5) & asked
    if above.kind in ("Gather", "Index") and above.shape() is not None:
        taken = spread(above, torch.ones(above.shape() or (), dtype=torch.bool, device=p.device), tuple(p.shape))
        return None if taken is None else (p < 0.5) & taken
    if above.kind != "Mul" or not _alone(above):
        return None
    saved = [plain(above.saved(name)) for name in ("self", "other")]
    factor = next((each_ for each_ in saved if each_ is not None), None)
    if factor is None or factor.shape != p.shape:
        return None
    return (p < 0.5) & (factor != 0)


def _logits(loss: Op) -> torch.Tensor | None:
    """Logits that are cut before a loss on logits: wrong where the probability is off by a half or more."""
    if loss.kind == "BinaryCrossEntropyWithLogits":
        given, target = plain(loss.saved("self")), any_plain(loss.saved("target"))
        if given is None or target is None or given.shape != target.shape or _narrowed(loss):
            return None
        return (given.sigmoid() - target).abs() >= 0.5
    result = plain(loss.saved("result"))
    above = loss.consumers[0] if len(loss.consumers) == 1 else None
    if result is None or above is None or above.kind not in ("NllLoss", "NllLoss2D") or _narrowed(above):
        return None
    asked = _asked_class(above, result)
    if asked is None:
        return None
    counted_rows = asked.any(1 if asked.dim() > 1 else 0, keepdim=True)
    return ((result.exp() - asked.to(result.dtype)).abs() >= 0.5) & counted_rows


def _asked_class(nll: Op, given: torch.Tensor) -> torch.Tensor | None:
    """Which class each row should be, as a mask; rows that are ignored have none."""
    target = any_plain(nll.saved("target"))
    dim = 1 if given.dim() > 1 else 0
    if target is None or target.dim() != given.dim() - 1:
        return None
    asked = torch.zeros_like(given, dtype=torch.bool)
    ignored = nll.dim("ignore_index")
    kept: torch.Tensor = target.ne(-100 if ignored is None else ignored)
    return asked.scatter(dim, target.clamp(min=0).unsqueeze(dim), kept.unsqueeze(dim))


def _back(mask: torch.Tensor, way: tuple[Op, ...], start: Op) -> torch.Tensor | None:
    """A mask at the end of a way, in the shape that it has at its beginning."""
    for number in range(len(way) - 1, -1, -1):
        op = way[number]
        below = way[number - 1] if number else start
        shape = below.shape()
        if shape is None:
            return None
        if op.kind in SAME_ORDER:
            mask = mask.reshape(shape)
        elif op.kind == "Permute":
            dims = op.dims("dims")
            if dims is None:
                return None
            mask = mask.permute(sorted(range(len(dims)), key=lambda at: dims[at] % len(dims)))
        elif op.kind == "T":
            mask = mask.t()
        elif op.kind == "Transpose":
            one, other = op.dim("dim0"), op.dim("dim1")
            if one is None or other is None:
                return None
            mask = mask.transpose(one, other)
        elif tuple(mask.shape) != shape:
            return None
    return mask


# ---- is it the only way?


def _only_way(graph: Graph, op: Op) -> bool:
    """Whether the outputs of the layer below reach the loss through this activation alone, and come from a layer."""
    edge: Edge | None = op.inputs[0]
    layer: Op | None = None
    for _ in range(_STEPS):
        if edge is None:
            return False
        if edge.op.kind in _LAYERS:
            layer = edge.op
            break
        below = [each_ for each_ in edge.op.inputs if each_ is not None]
        if edge.op.kind not in _BELOW or len(below) != 1:
            return False
        edge = below[0]
    if layer is None:
        return False
    # from the loss down, past everything but this activation
    if graph.root is op:
        return False
    seen = {graph.root.index}
    stack = [graph.root]
    while stack:
        above = stack.pop()
        for each_ in above.inputs:
            below_op = None if each_ is None else each_.op
            if below_op is None or below_op is op or below_op.index in seen or below_op.index > layer.index:
                continue
            if below_op is layer:
                return False
            seen.add(below_op.index)
            stack.append(below_op)
    return True
