"""The backward pass without its effects: every node asked for its derivatives, nothing accumulated anywhere.

``loss.backward()`` writes gradients and runs hooks; ``torch.autograd.grad`` still runs hooks. Here the nodes are called
one by one, consumers first, and what they give is kept no longer than it is needed: no ``.grad`` is touched, no hook of
a tensor, a module or a wrapper (DDP, FSDP) runs, random states are left as they were, and the graph can still be used.

A node is not called where that would run more than arithmetic: a checkpointed region (it would run the forward pass
again), a compiled one (it may give away its buffers), whatever belongs to a distributed library. A custom
``autograd.Function`` of the user's is called as ``backward()`` would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from lossproof.graph.figures import all_finite, bad, may_be_bad, plain
from lossproof.graph.known_values import PASSES_ON
from lossproof.graph.reach import may_call
from lossproof.problem import CannotRun

if TYPE_CHECKING:
    from lossproof.graph.walk import Edge, Graph, Op

LEFT_ALONE = ("torch.", "deepspeed", "fairscale", "megatron", "apex", "transformer_engine", "accelerate", "colossalai")
"""Packages whose functions do more in their backward than arithmetic."""
_PLAIN = ("torch.nn.parallel._functions",)
_MANY = 16


@dataclass
class Birth:
    """A node with finite gradients coming in and a non-finite one going out."""

    op: Op
    number: int
    """The operand whose gradient is not finite; -1 where finite contributions added up to something that is not."""
    mask: torch.Tensor
    """Which elements of that operand's gradient."""
    nan: int
    inf: int
    given: float
    """The largest absolute value of what came in."""
    zero_given: bool = False
    """Whether what came in was exactly 0 wherever a NaN came out: the value was masked away, its derivative was not."""


@dataclass
class Sweep:
    """What one backward pass showed."""

    bad_leaves: list[Op] = field(default_factory=list)
    leaves: int = 0
    births: list[Birth] = field(default_factory=list)
    carried: dict[int, set[int]] = field(default_factory=dict, repr=False)
    """From an operator to those that handed it something non-finite."""
    stopped: list[Op] = field(default_factory=list)
    """Where it could not go on."""


def sweep(graph: Graph) -> Sweep:
    """Look at every gradient of a finite loss: once quickly, and once more with care if something is wrong."""
    found = Sweep()
    sums: list[tuple[Op, torch.Tensor]] = []

    def leaf(op: Op, gradient: torch.Tensor) -> None:
        if may_be_bad(gradient):
            each = plain(gradient)
            wide = torch.float32 if each.element_size() < 4 else each.dtype
            sums.append((op, each.sum(dtype=wide)))

    with _untouched(graph):
        _run(graph, found, leaf, None)
        suspects = _not_finite([each for _, each in sums])
        found.leaves = len(sums)
        if not suspects:
            return found
        careful = Sweep(leaves=found.leaves, stopped=found.stopped)

        def look(op: Op, gradient: torch.Tensor) -> None:
            if not all_finite(gradient):
                careful.bad_leaves.append(op)

        _run(graph, careful, look, careful)
    careful.stopped = found.stopped
    if any(op.leaf is not None and getattr(op.leaf, "_backward_hooks", None) for op in graph.leaves):
        graph.cannot_see(
            "hooks of parameters are not run here: a gradient that one of them mends is told as it was before"
        )
    return careful


def _not_finite(sums: list[torch.Tensor]) -> bool:
    by_device: dict[torch.device, list[torch.Tensor]] = {}
    for each in sums:
        by_device.setdefault(each.device, []).append(each.double() if each.device.type == "cpu" else each.float())
    return any(not bool(torch.isfinite(torch.stack(each)).all()) for each in by_device.values())


def _run(graph: Graph, found: Sweep, leaf: Callable[[Op, torch.Tensor], None], careful: Sweep | None) -> None:
    """Call every node once. With ``careful``, remember where something non-finite was born and where it went."""
    start = torch.ones_like(graph.loss, memory_format=torch.preserve_format).detach()
    waiting: dict[int, dict[int, torch.Tensor]] = {0: {graph.loss.output_nr: start}}
    stopped: set[int] = {op.index for op in found.stopped}
    wrong: set[int] = set()
    for op in graph.ops:
        given = waiting.pop(op.index, None)
        if given is None:
            continue
        if careful is not None and op.index not in wrong and not all(map(all_finite, given.values())):
            _note_sum(careful, op, given)
            wrong.add(op.index)
        if op.leaf is not None:
            for each in given.values():
                leaf(op, each)
            continue
        made = _call(graph, op, given)
        if made is None:
            if op.index not in stopped:
                stopped.add(op.index)
                found.stopped.append(op)
            continue
        for number, (edge, each) in enumerate(zip(op.inputs, made, strict=False)):
            if edge is None or each is None:
                continue
            gradient = _fitted(each, edge)
            if careful is not None and not all_finite(gradient):
                careful.carried.setdefault(edge.op.index, set()).add(op.index)
                wrong.add(edge.op.index)
                if op.index not in wrong and len(careful.births) < _MANY * 16:
                    careful.births.append(_birth(op, number, gradient, given))
            slots = waiting.setdefault(edge.op.index, {})
            before = slots.get(edge.output)
            slots[edge.output] = gradient if before is None else before + gradient


def _birth(op: Op, number: int, gradient: torch.Tensor, given: dict[int, torch.Tensor]) -> Birth:
    mask = bad(gradient)
    dense = plain(gradient) if gradient.layout == torch.strided else gradient
    nans = torch.isnan(dense) if dense.layout == torch.strided else mask
    largest = max((float(plain(each).abs().max()) for each in given.values() if each.numel()), default=0.0)
    zero = False
    if len(given) == 1 and bool(nans.any()):
        (each,) = given.values()
        if tuple(each.shape) == tuple(nans.shape):
            zero = bool((plain(each)[nans] == 0).all())
    count = int(nans.sum())
    return Birth(op, number, mask, count, int(mask.sum()) - count, largest, zero)


def _note_sum(careful: Sweep, op: Op, given: dict[int, torch.Tensor]) -> None:
    for each in given.values():
        if not all_finite(each):
            mask = bad(each)
            nans = int(torch.isnan(plain(each)).sum())
            careful.births.append(Birth(op, -1, mask, nans, int(mask.sum()) - nans, float("inf")))
            return


def first(graph: Graph, found: Sweep) -> Birth | None:
    """The birth nearest to the loss of those that reach a leaf."""
    reached: set[int] = set()
    level = [op.index for op in found.bad_leaves]
    while level:
        each = level.pop()
        if each not in reached:
            reached.add(each)
            level += found.carried.get(each, ())
    births = [each for each in found.births if each.op.index in reached]
    return min(births, key=lambda each: each.op.index, default=None)


def _call(graph: Graph, op: Op, given: dict[int, torch.Tensor]) -> tuple[Any, ...] | None:
    """The derivatives of one node for what came in; None where it may not be called or fails."""
    if not callable_node(op):
        graph.cannot_see(f"{op.kind}: the backward pass of this region is not run here")
        return None
    metas = op.node._input_metadata
    try:
        if op.opaque:
            return _call_function(op, given, metas)
        made = op.node(*(given.get(output) for output in range(len(metas))))
    except RuntimeError as error:
        if "freed" in str(error) or "second time" in str(error):
            raise CannotRun(
                "the graph of this loss has been freed by backward(): ask before it, or call "
                "loss.backward(retain_graph=True)"
            ) from None
        graph.cannot_see(f"{op.kind}: its backward failed ({_short(error)})")
        return None
    except Exception as error:
        graph.cannot_see(f"{op.kind}: its backward failed ({_short(error)})")
        return None
    return made if isinstance(made, tuple) else (made,)


def _call_function(op: Op, given: dict[int, torch.Tensor], metas: Any) -> tuple[Any, ...]:
    """A custom function, which wants zeros for what has no gradient, and answers for every argument of its forward."""
    arguments = [
        given[output]
        if output in given
        else torch.zeros(tuple(meta.shape), dtype=meta.dtype, device=meta.device)
        if op.node.materialize_grads
        else None
        for output, meta in enumerate(metas)
    ]
    made = op.node.apply(*arguments)
    made = made if isinstance(made, tuple) else (made,)
    if len(made) == len(op.inputs):
        return made
    wanted = [each for each, needed in zip(made, op.node.needs_input_grad, strict=False) if needed]
    rest = iter(wanted)
    return tuple(None if edge is None else next(rest, None) for edge in op.inputs)


def callable_node(op: Op) -> bool:
    """Whether a node may be called: it runs arithmetic, or a function of the user's, and no hook."""
    if not op.opaque:
        return may_call(op)
    origin = getattr(type(op.node), "_forward_cls", None)
    module = str(getattr(origin, "__module__", ""))
    if module.startswith(LEFT_ALONE) and not module.startswith(_PLAIN) and op.kind != PASSES_ON:
        return False
    try:
        raws = op.node._raw_saved_tensors or ()
    except RuntimeError:
        return True  # freed: calling it says so
    return all(getattr(raw, "unpack_hook", None) is None for raw in raws if raw is not None)


def _fitted(gradient: torch.Tensor, edge: Edge) -> torch.Tensor:
    """A gradient in the shape and the type of what it belongs to, as the engine does it."""
    shape, dtype = edge.shape, edge.dtype
    if (
        shape is not None
        and gradient.layout == torch.strided
        and not gradient.is_nested
        and tuple(gradient.shape) != shape
    ):
        gradient = gradient.sum_to_size(shape)
    if dtype is not None and gradient.dtype != dtype:
        gradient = gradient.real if gradient.is_complex() and not dtype.is_complex else gradient
        gradient = gradient.to(dtype)
    return gradient


def _short(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


@contextmanager
def _untouched(graph: Graph) -> Iterator[None]:
    """No gradients, no autocast, and random states as they were."""
    device = graph.loss.device
    state = torch.get_rng_state()
    there = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    kind = device.type if device.type in ("cpu", "cuda", "xpu", "mps") else "cpu"
    try:
        with torch.no_grad(), torch.autocast(kind, enabled=False):
            yield
    finally:
        torch.set_rng_state(state)
        if there is not None:
            torch.cuda.set_rng_state(there, device)
