"""Which samples of the batch are at fault: from elements of one tensor to indices along the batch's first dimension.

The batch is what the graph keeps of the data: the input of the first layer, else a leaf, else the target. Where the
tensor in question has as many rows, they are the batch's. Where it has another shape (tokens that were flattened, a
matrix of attention), the elements are followed down to where it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lossproof.graph.operands import TARGETS, operands
from lossproof.graph.reach import RECURRENT, down

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Graph, Op

LAYERS = frozenset(
    (
        "Addmm",
        "Mm",
        "Bmm",
        "Baddbmm",
        "Convolution",
        "Embedding",
        "EmbeddingBag",
        "NativeBatchNorm",
        "NativeLayerNorm",
        "MkldnnRnnLayer",
    )
)
"""Where a network takes in data."""
TAKES_IN = frozenset(
    ("Convolution", "Embedding", "EmbeddingBag", "MkldnnRnnLayer", "CudnnRnn", "NativeBatchNorm", "NativeGroupNorm")
)
"""Of these and their like the data is a network's input, whatever follows."""
_STEPS = 400


@dataclass(frozen=True)
class Rows:
    rows: tuple[int, ...] = ()
    of: int = 0
    """How many rows the batch has; 0 where that is unknown."""
    columns: tuple[int, ...] = ()
    """Along the second dimension, where there are two and not every column is at fault."""


def batch_size(graph: Graph) -> int | None:
    """The length of the batch; None where nothing says it."""
    for op in reversed(graph.ops):
        if op.kind in LAYERS:
            size = _layer_rows(op)
            if size is not None:
                return size
    for op in reversed(graph.ops):
        leaf = op.leaf
        if leaf is not None and not isinstance(leaf, torch.nn.Parameter) and leaf.dim() and not weight_like(op):
            return leaf.shape[0]
    for op in graph.ops:
        if op.kind in TARGETS or op.kind in ("NllLoss", "NllLoss2D"):
            target = op.tensor("target")
            if target is not None and target.dim():
                return target.shape[0]
    return None


def _layer_rows(op: Op) -> int | None:
    if op.kind.startswith("Embedding"):
        indices = op.tensor("indices")
        return indices.shape[0] if indices is not None and indices.dim() else None
    if op.kind in RECURRENT:
        shape = op.shape()
        return shape[1] if shape and len(shape) == 3 else None
    for operand in operands(op):
        if operand.number == (1 if op.kind in ("Addmm", "Baddbmm") else 0) and operand.edge is None:
            data = operand.tensor
            if data is not None and data.dim():
                fold = fold_of(op)
                return data.shape[0] if fold is None else fold.samples
    return None


@dataclass(frozen=True)
class Fold:
    """How the rows of a product make up samples: a linear layer flattens more dimensions, and views them back."""

    samples: int
    steps: int
    steps_first: bool

    def unfold(self, mask: torch.Tensor) -> torch.Tensor:
        """A mask over rows as one over samples."""
        if self.steps_first:
            return mask.reshape(self.steps, self.samples, -1).transpose(0, 1).flatten(1)
        return mask.reshape(self.samples, -1)


def fold_of(op: Op) -> Fold | None:
    shape = op.shape()
    if op.kind not in ("Addmm", "Mm") or not shape or len(op.consumers) != 1:
        return None
    reader = op.consumers[0]
    larger = reader.shape() if reader.kind in ("View", "UnsafeView", "ReshapeAlias") else None
    if not larger or len(larger) < 3 or larger[-1] != shape[-1] or not larger[0] or not larger[1]:
        return None
    if _unrolled(reader):
        return Fold(larger[1], larger[0], True)
    return Fold(larger[0], shape[0] // larger[0], False)


def _unrolled(op: Op) -> bool:
    """Whether a sequence is taken apart along its first dimension: the steps of an unfused recurrent layer."""
    for reader in (*op.consumers, *(after for each in op.consumers for after in each.consumers)):
        if reader.kind == "Unbind" and reader.dim() == 0:
            return True
    return False


def weight_like(op: Op) -> bool:
    """Whether a leaf is read where weights are: the second factor of a product, a bias, a table, a scale."""
    level = [op]
    for _ in range(4):
        readers = [(each, reader) for each in level for reader in each.consumers]
        for each, reader in readers:
            given, made = each.shape(), reader.shape()
            if given and made and (len(made) > len(given) or (len(made) == len(given) and made[0] > given[0] == 1)):
                return True  # it is spread over something larger
            places = [number for number, edge in enumerate(reader.inputs) if edge is not None and edge.op is each]
            if reader.kind in ("Mm", "Mv", "Bmm", "Convolution", "NativeLayerNorm", "NativeBatchNorm"):
                return 0 not in places
            if reader.kind in ("Addmm", "Baddbmm"):
                return 1 not in places
            if reader.kind.startswith("Embedding"):
                return True
        level = [reader for _, reader in readers if reader.kind in ("T", "Transpose", "Permute", "View", "ToCopy")]
    return False


def of_result(graph: Graph, op: Op, mask: torch.Tensor | None, output: int = 0) -> Rows:
    """The rows of the batch that masked elements of an operator's result belong to."""
    size = batch_size(graph)
    if mask is None:
        return Rows(of=size or 0)
    return _follow(op, mask, output, size)


def of_operand(graph: Graph, op: Op, number: int, mask: torch.Tensor) -> Rows:
    """The rows of the batch that masked elements of an operand belong to."""
    size = batch_size(graph)
    if op.kind in RECURRENT and mask.dim() == 3:
        return _here(mask.transpose(0, 1), mask.shape[1])
    if mask.dim() and (size is None or mask.shape[0] == size):
        return _here(mask, size)
    fold = fold_of(op)
    if fold is not None and fold.samples == size and mask.dim() and mask.shape[0] == size * fold.steps:
        return _here(fold.unfold(mask), size, columns=False)
    edge = op.inputs[number] if 0 <= number < len(op.inputs) else None
    if edge is None and op.inputs and op.inputs[0] is not None and op.inputs[0].shape == tuple(mask.shape):
        edge = op.inputs[0]
    if edge is not None and edge.shape == tuple(mask.shape):
        return _follow(edge.op, mask, edge.output, size)
    if edge is None and op.inputs and op.inputs[0] is not None and op.kind in ("NllLoss", "NllLoss2D"):
        shape = op.inputs[0].shape
        if shape is not None and shape[0] == mask.shape[0]:
            return _follow(op.inputs[0].op, mask.unsqueeze(1).expand(shape), op.inputs[0].output, size, columns=False)
    return Rows(of=size or 0)


def _here(mask: torch.Tensor, size: int | None, columns: bool = True) -> Rows:
    if mask.numel() == 0:
        return Rows()
    rows = mask.reshape(mask.shape[0], -1).any(1).nonzero().flatten().tolist()
    picked: tuple[int, ...] = ()
    if columns and mask.dim() == 2 and mask.shape[1] > 1:
        each = mask.any(0)
        if not bool(each.all()):
            picked = tuple(each.nonzero().flatten().tolist())
    return Rows(tuple(rows), size or mask.shape[0], picked)


def _follow(op: Op, mask: torch.Tensor, output: int, size: int | None, columns: bool = True) -> Rows:
    for _ in range(_STEPS):
        if op.kind in RECURRENT and mask.dim() == 3:
            return _here(mask.transpose(0, 1), mask.shape[1])
        if mask.dim() and (size is None or mask.shape[0] == size):
            return _here(mask, size, columns)
        fold = fold_of(op)
        if fold is not None and fold.samples == size and mask.dim() and mask.shape[0] == size * fold.steps:
            return _here(fold.unfold(mask), size, columns=False)
        for number, edge in _towards_data(op):
            below = down(op, mask, number, output)
            if below is not None and not (mask.numel() == 1 and below.numel() > 1):
                op, mask, output = edge.op, below, edge.output
                break
        else:
            return Rows(of=size or 0)
        if op.leaf is not None:
            if mask.dim() and mask.shape[0] == size:
                return _here(mask, size, columns)
            return Rows(of=size or 0)
    return Rows(of=size or 0)


def _towards_data(op: Op) -> Iterator[tuple[int, Edge]]:
    """The operands to follow, the likeliest to come from the batch first; parameters are none."""
    found = [
        (number, edge)
        for number, edge in enumerate(op.inputs)
        if edge is not None and not (edge.op.leaf is not None and isinstance(edge.op.leaf, torch.nn.Parameter))
    ]
    yield from sorted(found, key=lambda each: -len(each[1].shape or ()))


def feeds_network(op: Op) -> bool:
    """Whether an operator is a layer, or what it gives goes on into one: then its data is an input, not a target."""
    if op.kind in TAKES_IN:
        return True
    seen: set[int] = set()
    level = [op]
    while level:
        each = level.pop()
        if each.index in seen:
            continue
        seen.add(each.index)
        if each.kind in LAYERS and any(edge is not None and _weight(edge.op) for edge in each.inputs):
            return True
        level += each.consumers
    return False


def _weight(op: Op) -> bool:
    for _ in range(4):
        if op.leaf is not None:
            return op.leaf.dim() > 1 or isinstance(op.leaf, torch.nn.Parameter)
        below = op.input()
        if below is None or op.kind not in ("T", "Transpose", "Permute", "View", "ToCopy", "Expand"):
            return False
        op = below
    return False
