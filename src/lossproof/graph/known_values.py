"""What is known of the values that passed through a graph: kept by somebody, or made again from what is kept.

A value is *assumed* where it rests on data that nobody kept: the other side of an addition, the number that a mask was
filled with. Such a value is evidence of something bad (what is infinite stays so, whatever is added), and never that
all is well.

Values are made on demand and from below, with a stack of its own, so a long chain needs no deep recursion. What is
made is held within a budget: the oldest goes first, and is made again when it is asked for again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch

from lossproof.graph import replay
from lossproof.graph.figures import all_finite
from lossproof.graph.operands import WRITES, kept, optional
from lossproof.graph.place import data, note
from lossproof.graph.values import value

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Graph, Op

BUDGET = 1 << 30
"""Bytes of values made again that are held at once."""
SHARPENS = frozenset(("Softmax", "LogSoftmax", "Logsumexp", "Max", "Amax", "Topk", "Logcumsumexp"))
"""What a mask of minus infinity is made for."""
_PASSING = frozenset(
    ("View", "UnsafeView", "ReshapeAlias", "Expand", "Transpose", "Permute", "Add", "Div", "Mul", "Clone")
)
CALLED: dict[str, tuple[str, ...]] = {
    "Add": ("add", "add_", "__add__", "__radd__", "__iadd__"),
    "MaskedFill": ("masked_fill", "masked_fill_"),
    "Rsub": ("rsub", "__rsub__"),
    "Sub": ("sub", "sub_", "__sub__", "__isub__", "__rsub__", "subtract"),
    "Where": ("where",),
}
"""Operators that keep no constant operand, by the functions that make them."""

PASSES_ON = "BackwardHookFunction"
"""What PyTorch puts around a module with a full backward hook: it gives what it is given."""

Key = tuple[int, int]


class Known:
    """The values of one graph."""

    def __init__(self, graph: Graph, budget: int = BUDGET) -> None:
        self.graph = graph
        self.budget = budget
        self.stale = _stale(graph)
        """Whether parameters were changed since: then their present values say nothing about this loss."""
        self._made: OrderedDict[Key, tuple[torch.Tensor | None, bool]] = OrderedDict()
        self._held = 0
        self._wanted: dict[Key, int] = {}
        self._finite: dict[Key, bool | None] = {}

    def value(self, edge: Edge) -> tuple[torch.Tensor | None, bool]:
        """The value of an edge, and whether it is assumed; None where it is unknown."""
        key = (edge.op.index, edge.output)
        found = self._made.get(key)
        return found if found is not None else self._make(edge)

    def operand(self, op: Op, number: int) -> tuple[torch.Tensor | None, bool]:
        """The value of an operand: as the operator kept it, or as what made it gave."""
        own = kept(op, number)
        if own is not None:
            return own, False
        edge = op.inputs[number] if number < len(op.inputs) else None
        return (hidden_data(op, number), False) if edge is None else self.value(edge)

    def finite(self, edge: Edge) -> bool | None:
        """Whether all of a value is finite; None where that is unknown."""
        key = (edge.op.index, edge.output)
        if key not in self._finite:
            tensor, assumed = self.value(edge)
            if tensor is None:
                self._finite[key] = None
            else:
                whole = all_finite(tensor)
                self._finite[key] = None if whole and assumed else whole
        return self._finite[key]

    def _make(self, edge: Edge) -> tuple[torch.Tensor | None, bool]:
        stack = [edge]
        pushed: set[Key] = set()
        while stack:
            top = stack[-1]
            key = (top.op.index, top.output)
            if key in self._made:
                stack.pop()
                continue
            held = self._kept(top)
            if held is not None:
                self._keep(key, (held, False), free=True)
                stack.pop()
                continue
            needs = self._needs(top.op)
            missing = (
                [] if needs is None else [each for each in needs if (each.op.index, each.output) not in self._made]
            )
            if missing and key not in pushed:
                pushed.add(key)
                for each in needs or ():
                    self._want(each, 1)
                stack += missing
                continue
            if missing:  # evicted, or not makeable in time: make them again
                stack += missing
                continue
            result = (None, False) if needs is None else self._again(top)
            if key in pushed:
                pushed.discard(key)
                for each in needs or ():
                    self._want(each, -1)
            self._keep(key, result)
            stack.pop()
        self._shrink()
        return self._made.get((edge.op.index, edge.output), (None, False))

    def _kept(self, edge: Edge) -> torch.Tensor | None:
        if edge.op.leaf is not None and self.stale:
            return None
        return value(edge)

    def _needs(self, op: Op) -> list[Edge] | None:
        """The edges that have to be known first; None where the operator cannot be made again."""
        if op.kind == PASSES_ON:
            return [edge for edge in op.inputs if edge is not None]
        if op.opaque or (op.kind not in replay.RULES and op.kind not in (*WRITES, "CopySlices")):
            return None
        return [edge for number, edge in enumerate(op.inputs) if edge is not None and kept(op, number) is None]

    def _again(self, edge: Edge) -> tuple[torch.Tensor | None, bool]:
        op = edge.op
        if op.kind == PASSES_ON:
            below = op.inputs[edge.output] if edge.output < len(op.inputs) else None
            return (None, False) if below is None else self._made.get((below.op.index, below.output), (None, False))
        ins: list[torch.Tensor] = []
        assumed = False
        for number, below in enumerate(op.inputs):
            own = kept(op, number)
            if own is not None:
                ins.append(own)
            elif below is not None:
                tensor, guess = self._made.get((below.op.index, below.output), (None, False))
                if tensor is None:
                    return None, False
                ins.append(tensor)
                assumed = assumed or guess
            elif optional(op, number):
                continue
            else:
                filled, sure = self._hidden(op, number, edge.output)
                ins.append(filled)
                assumed = assumed or not sure
        if op.kind in ("Pow", "Xlogy") and len(op.inputs) == 1 and (base := op.number("self")) is not None:
            if not isinstance(op.saved("self"), torch.Tensor):
                ins.insert(0, torch.tensor(base))
        if op.kind in ("Rsub", "Mul", "Div", "Pow") and len(op.inputs) == 1 == len(ins):
            filled, sure = self._hidden(op, 1, edge.output)
            own = kept(op, 1)
            ins.append(own if own is not None else filled)
            assumed = assumed or (own is None and not sure)
        if op.kind == "CopySlices":
            return (ins[0] if ins else None), True
        if op.kind == "IndexFill":
            return self._index_fill(op, ins[0])
        if op.kind == "MaskedFill":
            mask = op.tensor("mask")
            if mask is None:
                return None, False
            filled, sure = self._hidden(op, 1, edge.output)
            return ins[0].masked_fill(mask, float(filled)), assumed or not sure
        made = replay.again(op, ins, edge.output)
        if made is None or (edge.shape is not None and tuple(made.shape) != edge.shape):
            return None, False
        return made, assumed

    def _index_fill(self, op: Op, base: torch.Tensor) -> tuple[torch.Tensor | None, bool]:
        index, dim = op.tensor("index"), op.dim()
        if index is None or dim is None:
            return None, False
        return base.index_fill(dim, index, float("-inf") if sharpened(op) else 0.0), True

    def _hidden(self, op: Op, number: int, output: int) -> tuple[torch.Tensor, bool]:
        """Data that nobody kept: the number that was noted, else what is most likely, and whether it is sure."""
        noted = hidden_number(op, number)
        if noted is not None:
            return torch.tensor(noted), True
        seen = hidden_data(op, number)
        if seen is not None:
            return seen, True
        dtype = op.dtype(output) or torch.get_default_dtype()
        if op.kind in ("Scatter", "ScatterAdd", "IndexAdd", "Cat"):
            return torch.zeros(op.shape(output) or (), dtype=dtype, device=self.graph.loss.device), False
        fill = float("-inf") if op.kind in ("MaskedFill", "Where", "IndexPut") and sharpened(op) else 0.0
        return torch.tensor(fill, dtype=dtype), False

    def _keep(self, key: Key, result: tuple[torch.Tensor | None, bool], free: bool = False) -> None:
        tensor = result[0]
        self._made[key] = result
        if tensor is None or free:
            return
        self._held += tensor.numel() * tensor.element_size()
        self._shrink()

    def _shrink(self) -> None:
        if self._held <= self.budget:
            return
        for key in list(self._made):
            tensor, _ = self._made[key]
            if tensor is None or self._wanted.get(key):
                continue
            if key == next(reversed(self._made)):
                break
            del self._made[key]
            self._held = max(0, self._held - tensor.numel() * tensor.element_size())
            if self._held <= self.budget:
                break

    def _want(self, edge: Edge, change: int) -> None:
        key = (edge.op.index, edge.output)
        self._wanted[key] = self._wanted.get(key, 0) + change


def hidden_number(op: Op, number: int) -> float | None:
    """A plain number that a note says was given as an operand."""
    names = CALLED.get(op.kind)
    found = note(op) if names else None
    if found is None or not names or found.called.rpartition(".")[2] not in names:
        return None
    return found.number(*_keys(op, number))


def hidden_data(op: Op, number: int) -> torch.Tensor | None:
    """A tensor that was given as an operand, where a recording saw it and it still lives unchanged."""
    if op.kind not in CALLED or op.kind == "MaskedFill":
        return None
    found = data(op, *_keys(op, number))
    shape = op.shape()
    return None if found is None or shape is None or not _fits(tuple(found.shape), shape) else found


def _fits(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether a shape is broadcast to another one."""
    ends = zip(reversed(shape), reversed(whole), strict=False)
    return len(shape) <= len(whole) and all(size in (1, of) for size, of in ends)


def _keys(op: Op, number: int) -> tuple[str, ...]:
    """Position and name of an operand in a call of the operator itself."""
    if op.kind == "MaskedFill":
        return "2", "value"
    if op.kind == "Where":
        return ("2", "other") if number else ("1", "input", "self")
    return ("1", "other") if number else ("0", "input", "self")


def sharpened(op: Op, steps: int = 8) -> bool:
    """Whether what it gave goes into a softmax or its like: then a mask in it is minus infinity."""
    level = [op]
    for _ in range(steps):
        level = [reader for each in level for reader in each.consumers][:32]
        if any(each.kind in SHARPENS for each in level):
            return True
        level = [each for each in level if each.kind in _PASSING]
    return False


def _stale(graph: Graph) -> bool:
    """Whether an operator that kept a parameter finds it changed in place since."""
    before = len(graph.unseen)
    for op in graph.of("Addmm", "Mm", "Bmm", "Convolution", "Mul", "NativeLayerNorm", "NativeBatchNorm"):
        for number, edge in enumerate(op.inputs):
            below = None if edge is None else edge.op if edge.op.leaf is not None else edge.op.input()
            if below is not None and below.leaf is not None:
                kept(op, number)
    return any("changed in place" in said for said in graph.unseen[before:])
