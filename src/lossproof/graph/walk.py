"""The graph behind a loss: every operator once, from the loss down to the leaves, and what each one still holds.

PyTorch keeps for the backward pass what the code hid: which operators ran, how they are joined, and the tensors that
their derivatives need. This file reads that and judges nothing. It never runs the graph, never changes it, and never
calls itself from operator to operator, so a chain of a hundred thousand of them needs no deep stack.
"""

from __future__ import annotations

import gc
import heapq
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

from lossproof.graph import cuts
from lossproof.graph.known import Known
from lossproof.problem import CannotRun

_NAME = re.compile(r"(?:torch::autograd::)?(\w+?)(?:Backward\d*|BackwardAutogradFn)?$")


_HANDED_ON = "BackwardHookFunction"
_PARALLEL = "torch.nn.parallel."
"""Custom functions that only hand tensors on: a module's backward hooks, data in parallel."""


def kind_of(node: Any) -> str:
    """The name of a node without what autograd adds to it: ``Sigmoid`` for ``SigmoidBackward0``."""
    return _kind(node.name())


@cache
def _kind(name: str) -> str:
    found = _NAME.match(name)
    return found.group(1) if found else name


def readable(tensor: torch.Tensor) -> bool:
    """Whether a tensor has values that can be looked at: not one of the meta device, a fake one, or inside ``vmap``."""
    return not (
        tensor.is_meta
        or hasattr(tensor, "fake_mode")
        or tensor.is_nested
        or torch._C._functorch.is_batchedtensor(tensor)
    )


class Edge:
    """One output of one operator, as another reads it."""

    __slots__ = ("op", "output")

    def __init__(self, op: Op, output: int) -> None:
        self.op = op
        self.output = output

    @property
    def shape(self) -> tuple[int, ...] | None:
        return self.op.shape(self.output)

    @property
    def dtype(self) -> torch.dtype | None:
        return self.op.dtype(self.output)

    def __repr__(self) -> str:
        return f"{self.op!r}[{self.output}]"


class Op:
    """An operator of the forward pass, seen through the node that autograd made for it.

    ``kind`` is the node's name without ``Backward0``: ``Sigmoid``, ``Log``, ``NllLoss``, ``AccumulateGrad`` for a leaf.
    ``inputs`` has an entry for each operand that autograd knows of; None is an operand that needs no gradient (data, a
    target, a number). ``consumers`` are the operators that read it.
    """

    __slots__ = ("_graph", "_metas", "consumers", "index", "inputs", "kind", "node")

    def __init__(self, graph: Graph, node: Any, index: int) -> None:
        self._graph = graph
        self._metas: Any = None
        self.node = node
        self.index = index
        """The place in ``Graph.ops``: everything that reads this operator has a smaller one."""
        self.kind: str = kind_of(node)
        self.inputs: tuple[Edge | None, ...] = ()
        self.consumers: list[Op] = []

    @property
    def graph(self) -> Graph:
        return self._graph

    def shape(self, output: int = 0) -> tuple[int, ...] | None:
        """The shape of what it gave; None where autograd does not say."""
        meta = self._meta(output)
        return None if meta is None else tuple(meta.shape)

    def dtype(self, output: int = 0) -> torch.dtype | None:
        meta = self._meta(output)
        found: torch.dtype | None = None if meta is None else meta.dtype
        return found

    def _meta(self, output: int) -> Any:
        try:
            if self._metas is None:
                self._metas = self.node._input_metadata  # made anew at every look
            return self._metas[output]
        except (AttributeError, IndexError, RuntimeError):
            return None

    def input(self, number: int = 0) -> Op | None:
        """The operator that made an operand; None for what needs no gradient."""
        edge = self.inputs[number] if number < len(self.inputs) else None
        return None if edge is None else edge.op

    @property
    def leaf(self) -> torch.Tensor | None:
        """The tensor that a gradient is kept for, where this is the end of a branch."""
        found: torch.Tensor | None = getattr(self.node, "variable", None)
        return found

    @property
    def opaque(self) -> bool:
        """One node for a region that autograd does not show: a custom function, a compiled or a checkpointed part."""
        if not isinstance(self.node, torch.autograd.function.BackwardCFunction) or self.kind == _HANDED_ON:
            return False
        made_by = getattr(self.node, "_forward_cls", None)
        return not getattr(made_by, "__module__", "").startswith(_PARALLEL)

    def saved(self, name: str) -> Any:
        """What the operator kept for its derivative under a name (``self``, ``other``, ``result``, ``dim``), or None.

        None as well where it was changed in place since, or is not stored but made again on demand (a checkpointed
        region): reading it would run code. ``Graph.unseen`` then says so. ``CannotRun`` where it has been freed.
        """
        return self._graph.saved(self, name)

    def number(self, name: str) -> float | None:
        """A saved number (an exponent, a bound), or None."""
        found = self.saved(name)
        if isinstance(found, torch.Tensor):
            found = found.item() if found.numel() == 1 else None
        return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else None

    def tensor(self, name: str) -> torch.Tensor | None:
        """A saved tensor, without its own history, or None."""
        found = self.saved(name)
        return _plain(found) if isinstance(found, torch.Tensor) else None

    def dim(self, name: str = "dim") -> int | None:
        """A saved dimension; autograd keeps a negative one as a huge unsigned number."""
        found = self.saved(name)
        return _signed(found) if isinstance(found, int) and not isinstance(found, bool) else None

    def dims(self, name: str = "dim") -> tuple[int, ...] | None:
        found = self.saved(name)
        return tuple(_signed(each) for each in found) if isinstance(found, (tuple, list)) else None

    def __repr__(self) -> str:
        return f"{self.kind}#{self.index}"


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """A saved tensor to compute with. A number that was given as an operand is kept as a tensor with a mark on it, and
    torch 2.13 gives garbage for the sum of such a tensor: it is made anew.
    """
    found = tensor.detach()
    if found.dim() == 0 and found.device.type == "cpu" and not found.is_complex():
        return torch.tensor(found.item(), dtype=found.dtype)
    return found


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


class Graph:
    """All operators between a loss and its leaves, consumers before producers."""

    def __init__(self, loss: object, known: Known | None = None) -> None:
        self.loss = _checked(loss)
        self.known = Known() if known is None else known
        """What the user told beside the loss: the model, the optimizer."""
        self.unseen: list[str] = []
        """What could not be looked into, a sentence each, so that silence is not read as proof."""
        self._said: set[str] = set()
        self._kept: dict[tuple[int, str], Any] = {}
        self.memo: dict[Any, Any] = {}
        """What gatherers found out once and ask again; it lives as long as this."""
        self.ops = self._walk()
        self.root = self.ops[0]
        self._by_kind: dict[str, list[Op]] = {}
        for op in self.ops:
            self._by_kind.setdefault(op.kind, []).append(op)
        for kind, found in self._by_kind.items():
            if found[0].opaque:
                self.cannot_see(_closed(kind))

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def of(self, *kinds: str) -> Iterator[Op]:
        """The operators of some kinds, from the loss downwards."""
        found = [self._by_kind[kind] for kind in kinds if kind in self._by_kind]
        return iter(found[0]) if len(found) == 1 else heapq.merge(*found, key=_index)

    @property
    def leaves(self) -> list[Op]:
        return [op for op in self.ops if op.leaf is not None]

    def cannot_see(self, what: str) -> None:
        """Remember, once, that something could not be looked into."""
        if what not in self._said:
            self._said.add(what)
            self.unseen.append(what)

    def saved(self, op: Op, name: str) -> Any:
        key = (op.index, name)
        if key not in self._kept:
            self._kept[key] = self._read(op, name)
        return self._kept[key]

    def _read(self, op: Op, name: str) -> Any:
        raw = getattr(op.node, f"_raw_saved_{name}", None)
        if raw is not None and getattr(raw, "unpack_hook", None) is not None:
            self.cannot_see(
                f"{op.kind}: its saved tensors are behind hooks (a checkpointed region, or tensors moved to the host)"
            )
            return None
        try:
            found = getattr(op.node, f"_saved_{name}", None)
            if isinstance(found, torch.Tensor) and not readable(found):
                self.cannot_see(f"{op.kind}: its tensors have no values to read (meta, fake, nested, or inside vmap)")
                return None
            return found
        except RuntimeError as error:
            if "freed" in str(error):
                raise CannotRun(
                    "the graph of this loss has been freed by backward(): ask before it, or call "
                    "loss.backward(retain_graph=True)"
                ) from None
            self.cannot_see(f"{op.kind}: a tensor that it saved was changed in place afterwards")
            return None

    def _walk(self) -> list[Op]:
        """Every node once; without the garbage collector, which would look at them all again and again meanwhile."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            return self._consumers_first()
        finally:
            if collecting:
                gc.enable()

    def _consumers_first(self) -> list[Op]:
        """A depth-first walk with its own stack, its finishing order turned round."""
        root: Any = self.loss.grad_fn
        finished: list[Any] = []
        seen = {root}
        stack: list[tuple[Any, Iterator[tuple[Any, int]]]] = [(root, iter(root.next_functions))]
        while stack:
            node, rest = stack[-1]
            for below, _ in rest:
                if below is not None and below not in seen:
                    seen.add(below)
                    stack.append((below, iter(below.next_functions)))
                    break
            else:
                finished.append(node)
                stack.pop()
        finished.reverse()
        ops = [Op(self, node, index) for index, node in enumerate(finished)]
        at = dict(zip(finished, ops, strict=True))
        for op in ops:
            op.inputs = tuple(
                None if below is None else Edge(at[below], output) for below, output in op.node.next_functions
            )
            for edge in op.inputs:
                if edge is not None and op not in edge.op.consumers[-1:]:
                    edge.op.consumers.append(op)
        return ops


def _index(op: Op) -> int:
    return op.index


def _closed(kind: str) -> str:
    """What an opaque node hides, and how to see it."""
    if kind == "CompiledFunction":
        return (
            "CompiledFunction: a part that torch.compile made one node of; audit the model as it was before compiling"
        )
    if kind == "CheckpointFunction":
        return "CheckpointFunction: a reentrant checkpoint, which keeps no operators; use_reentrant=False shows them"
    return f"{kind}: a custom autograd.Function, whose inside autograd does not show"


def _checked(loss: object) -> torch.Tensor:
    """The loss, or ``CannotRun`` that says what it is instead and what to do."""
    if isinstance(loss, (list, tuple, dict)):
        inner = loss.get("loss") if isinstance(loss, dict) else getattr(loss, "loss", None)
        hint = "its `loss`" if isinstance(inner, torch.Tensor) else "each loss on its own, or their sum"
        raise CannotRun(f"this is a {type(loss).__name__}, and a loss is one tensor: pass {hint}")
    if not isinstance(loss, torch.Tensor):
        hint = ""
        if loss is None:
            hint = ": nothing was returned"
        elif isinstance(loss, (int, float)):
            hint = ": it has left the graph (.item() or float() was called); pass the tensor"
        elif type(loss).__module__ == "numpy":
            hint = ": it has left the graph (.numpy() was called); pass the tensor"
        raise CannotRun(f"a loss is a torch.Tensor, and this is {type(loss).__name__}{hint}")
    if loss.grad_fn is None:
        if loss.requires_grad:
            raise CannotRun("this tensor is a leaf (a parameter or an input), not a loss: nothing was computed from it")
        taken = cuts.behind(loss)
        if taken:
            place = taken[0].note
            raise CannotRun(
                f"this loss does not require grad: its value was taken out of the graph by "
                f"`{place.called.rpartition('.')[2]}` at {place.path}:{place.line}"
            )
        if torch._C._functorch.is_functorch_wrapped_tensor(loss):
            raise CannotRun("this tensor is inside torch.vmap or torch.func: ask about the loss that comes out of it")
        raise CannotRun(
            "this loss does not require grad: it was made under torch.no_grad() or inference_mode(), from detached "
            "tensors, or from operators that have no derivative (argmax, round, a comparison, numpy)"
        )
    return loss
