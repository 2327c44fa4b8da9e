"""One loss examined from end to end: forward, then backward, then the weights and the optimizer's state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from lossproof.graph import again, gradient_verdict, optimizer_state, verdict
from lossproof.graph.blame import Origin, of_loss, search
from lossproof.graph.figures import Figures, all_finite, bad, figures, plain
from lossproof.graph.known import Known as Told
from lossproof.graph.known_values import Known
from lossproof.graph.operands import Operand, operands
from lossproof.graph.place import began, neighbours, noted
from lossproof.graph.place import note as own_note
from lossproof.graph.reach import MOVES
from lossproof.graph.replay import LOSSES
from lossproof.graph.rows import Rows, batch_size, of_operand, of_result
from lossproof.graph.scene import Verdict
from lossproof.graph.spoken import Names, leaf_said, operator, role
from lossproof.graph.sweep import Birth, Sweep, first, sweep
from lossproof.graph.walk import Edge, Graph, Op, readable
from lossproof.problem import CannotRun

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass
class Death:
    """What was found; an empty one is a healthy loss."""

    verdict: Verdict | None = None
    symptom: str | None = None
    value: str = ""
    where: str | None = None
    op: str | None = None
    path: str | None = None
    line: int | None = None
    called: str = ""
    neighbours: str = ""
    rows: Rows = field(default_factory=Rows)
    inputs: tuple[Figures, ...] = ()
    replayed: bool = False
    unseen: list[str] = field(default_factory=list)
    leaves: int = 0


def examine(
    loss: object, *, names: Any = None, optimizer: Any = None, replay: Callable[[], Any] | None = None
) -> Death:
    graph = Graph(loss)
    optimizers: tuple[Optimizer, ...] = Told(names, optimizer).optimizers
    if not readable(graph.loss):
        raise CannotRun("this loss has no values to look at: it is on the meta device, a fake tensor or a nested one")
    called = Names(names)
    known = Known(graph)
    if known.stale:
        graph.cannot_see("parameters were changed since this loss was made (optimizer.step()): ask before the step")
    if not all_finite(graph.loss):
        death = _forward(known, called, optimizers)
        if replay is not None and (death.verdict is None or death.verdict.probability < 0.85 or death.replayed):
            death = _again(death, graph, called, replay)
    else:
        death = _backward(known, called, optimizers)
    death.unseen = [*graph.unseen, *(each for each in death.unseen if each not in graph.unseen)]
    return death


def value_of(tensor: torch.Tensor, mask: torch.Tensor | None = None) -> str:
    found = plain(tensor)
    if bool(torch.isnan(found).any()):
        return "nan"
    return "inf" if bool((found == float("inf")).any()) else "-inf"


def _forward(known: Known, names: Names, optimizers: tuple[Optimizer, ...]) -> Death:
    graph = known.graph
    loss = graph.loss
    nan = bool(torch.isnan(loss).any())
    mask = torch.isnan(loss.detach()) if nan else bad(loss)
    origin = search(known, Edge(graph.root, loss.output_nr), mask, nan)
    found = verdict.forward(known, origin, names)
    death = _described(known, origin, found, names)
    death.symptom = "non-finite-loss"
    death.value = value_of(loss)
    if found.cause == "bad-weights" and optimizers:
        weights = [op.leaf for op in graph.leaves if op.leaf is not None and not all_finite(op.leaf)]
        states = (optimizer_state.explains_weights(each, names, weights) for each in optimizers)
        state = next((each for each in states if each is not None), None)
        if state is not None:
            death.verdict = Verdict(state.cause, state.variant, (*found.because, *state.because), 0.9)
    return death


def _described(known: Known, origin: Origin, found: Verdict, names: Names) -> Death:
    graph = known.graph
    op, rows = origin.op, Rows()
    if found.variant == "masked-class":
        op = next(each for each in reversed(origin.path) if each.kind in ("NllLoss", "NllLoss2D"))
        each = _bad_samples(known, op)
        rows = Rows() if each is None else _loss_rows(graph, op, each)
    elif origin.birth == "came" and op.leaf is not None:
        if found.cause == "bad-input":
            rows = of_operand(graph, op, -1, bad(op.leaf))
        op = _reader(origin)
    elif origin.birth == "came" and origin.operand is not None and origin.mask is not None:
        if found.variant not in ("class-weight", "buffer"):
            rows = of_operand(graph, op, origin.operand.number, origin.mask)
    elif op.kind in LOSSES and (each := _bad_samples(known, op)) is not None:
        rows = _loss_rows(graph, op, each)
    else:
        rows = of_result(graph, op, origin.mask, origin.output)
    outside = origin.birth in ("came", "hidden") or found.variant == "changed-outside"
    where = "outside" if outside else "forward"
    if origin.turned is not None and origin.turned is not origin.op:
        turned = f"the infinity became a NaN in {operator(origin.turned)}"
        found = Verdict(found.cause, found.variant, (*found.because, turned), found.probability)
    if origin.guessed and origin.birth in ("made", "mask"):
        graph.cannot_see(f"what lies between the loss and {operator(op)}: not every value on the way was kept")
    death = _at(known, op, names)
    death.verdict, death.where, death.rows = found, where, rows
    return death


def _reader(origin: Origin) -> Op:
    """The first operator that computes with a leaf."""
    for op in reversed(origin.path[:-1]):
        if op.kind not in MOVES and op.kind != "ToCopy":
            return op
    return origin.op


def _bad_samples(known: Known, op: Op) -> torch.Tensor | None:
    """Which elements of a loss of one operator are not finite."""
    each = of_loss(known, op)
    return None if each is None else bad(each)


def _loss_rows(graph: Graph, op: Op, each: torch.Tensor) -> Rows:
    shape = op.inputs[0].shape if op.inputs and op.inputs[0] is not None else None
    if op.kind == "CtcLoss":
        return Rows(tuple(each.nonzero().flatten().tolist()), each.numel())
    if not each.dim():
        return Rows(of=batch_size(graph) or 0)
    return of_operand(graph, op, 0 if shape == tuple(each.shape) else -1, each)


def _at(known: Known, op: Op, names: Names) -> Death:
    """What there is to say about an operator itself."""
    note = noted(op)
    shown = []
    for operand in operands(op):
        tensor = operand.tensor
        if operand.number >= 0:
            tensor, assumed = known.operand(op, operand.number)
            tensor = None if assumed else tensor
        if operand.hidden and tensor is not None:
            operand = replace(operand, tensor=tensor)
        shape = operand.edge.shape if operand.edge is not None else None
        shown.append(figures(operand.name, role(operand, names), tensor, shape))
    return Death(
        op=operator(op),
        path=note.path if note else None,
        line=note.line if note else None,
        called=note.called if note and not (op.opaque and own_note(op) is None) else "",
        neighbours=neighbours(op),
        inputs=tuple(shown),
    )


def _backward(known: Known, names: Names, optimizers: tuple[Optimizer, ...]) -> Death:
    graph = known.graph
    found = sweep(graph)
    birth = first(graph, found)
    if birth is not None:
        return _born(known, birth, names)
    if found.bad_leaves:
        return _unexplained(known, found, names)
    for op in graph.leaves:
        if op.leaf is not None and isinstance(op.leaf, torch.nn.Parameter) and not all_finite(op.leaf):
            judged = verdict.forward(known, Origin(op, "came"), names)
            more = "the loss and its gradients are finite: nothing of this batch reads them"
            return Death(
                Verdict(judged.cause, judged.variant, (*judged.because, more)), "non-finite-weights", "nan", "outside"
            )
    left = next((op for op in graph.leaves if (each := _gradient_of(op)) is not None and not all_finite(each)), None)
    if left is not None:
        said = (
            f"the .grad of {role_of(left, names)} is not finite, and the gradients of this loss are: it was left there"
        )
        more = "an earlier backward pass made it, and the next step will use it"
        return Death(Verdict("bad-optimizer-state", "left-over", (said, more)), "non-finite-step", "nan", "outside")
    for optimizer in optimizers:
        state = optimizer_state.judge(optimizer, names)
        if state is not None:
            more = "the loss, the gradients and the weights are finite: the next step will not be"
            return Death(
                Verdict(state.cause, state.variant, (*state.because, more), state.probability),
                "non-finite-step",
                "nan",
                "outside",
                leaves=found.leaves,
            )
    return Death(leaves=found.leaves)


def _gradient_of(op: Op) -> torch.Tensor | None:
    leaf = op.leaf
    return None if leaf is None or not leaf.is_leaf else leaf.grad


def _born(known: Known, birth: Birth, names: Names) -> Death:
    death = _value_was_bad(known, birth, names) if birth.number >= 0 else None
    if death is None:
        rows = Rows() if birth.number < 0 else of_operand(known.graph, birth.op, birth.number, birth.mask)
        death = _at(known, birth.op, names)
        death.verdict, death.where, death.rows = gradient_verdict.judge(known, birth), "backward", rows
    death.symptom, death.value = "non-finite-gradient", "nan" if birth.nan else "inf"
    return death


def _value_was_bad(known: Known, birth: Birth, names: Names) -> Death | None:
    """Where an operand was not finite in the forward pass, and the loss did not show it: what made that operand so."""
    op = birth.op
    for operand in sorted(operands(op), key=lambda each: each.number != birth.number):
        tensor = operand.tensor
        if operand.number >= 0:
            tensor, assumed = known.operand(op, operand.number)
            tensor = None if assumed else tensor
        if tensor is None or all_finite(tensor):
            continue
        wrong = bad(tensor)
        if operand.number == birth.number and wrong.shape == birth.mask.shape:
            wrong = wrong & birth.mask
        if not bool(wrong.any()):
            continue
        origin = _origin_of(known, op, operand, tensor, wrong)
        if origin.birth not in ("made", "came") or origin.masks:
            continue
        found = verdict.forward(known, origin, names)
        death = _described(known, origin, found, names)
        if origin.birth == "made":
            text = (
                f"{operator(origin.op)} gave what is not finite, and it was hidden from the loss afterwards: "
                f"the gradient is NaN in {operator(op)}"
            )
            death.verdict = Verdict("gradient-only", "trap", (*found.because, text), found.probability)
            death.where = "backward"
        else:
            text = "the loss does not show it, and the gradient does"
            death.verdict = Verdict(found.cause, found.variant, (*found.because, text), found.probability)
        return death
    return None


def _origin_of(known: Known, op: Op, operand: Operand, tensor: torch.Tensor, wrong: torch.Tensor) -> Origin:
    if operand.edge is None:
        return Origin(op, "came", mask=wrong, operand=operand)
    nans = torch.isnan(tensor) & wrong
    nan = bool(nans.any())
    origin = search(known, operand.edge, nans if nan else wrong, nan)
    origin.path = (op, *origin.path)
    return origin


def _unexplained(known: Known, found: Sweep, names: Names) -> Death:
    op = found.bad_leaves[0]
    said = f"the gradient of {role_of(op, names)} is not finite, and the operator that made it was not found"
    return Death(Verdict("unknown", "", (said,), 0.4), "non-finite-gradient", "nan", "backward")


def role_of(op: Op, names: Names) -> str:
    return operator(op) if op.leaf is None else leaf_said(op.leaf, names)


def _again(death: Death, graph: Graph, names: Names, replay: Callable[[], Any]) -> Death:
    """The step made again under watch, for what the graph could not say."""
    start = began(graph)
    try:
        loss, seen = again.make_again(replay, names.modules, start)
    except Exception as error:
        death.unseen.append(f"the step could not be made again: {type(error).__name__}: {error}")
        return death
    if not isinstance(loss, torch.Tensor) or all_finite(loss):
        death.unseen.append(
            "the step was made again and its loss is finite: it is not what made this loss"
            + ("" if start is not None else "; record the step, and it is made from the same random numbers")
        )
        return death
    birth = again.first(seen, death.value == "nan")
    if birth is None:
        return death
    death.replayed = True
    return _from_replay(death, birth, batch_size(graph))


def _from_replay(death: Death, birth: again.Seen, size: int | None) -> Death:
    cause, variant, said = _replayed_cause(birth)
    if death.verdict is not None and death.verdict.cause != "unknown" and cause == "unknown":
        cause, variant = death.verdict.cause, death.verdict.variant
    death.verdict = Verdict(cause, variant, (said, "seen when the step was made again"), 0.9)
    death.where = "forward"
    death.op, death.path, death.line = birth.op, birth.path or None, birth.line or None
    death.inputs, death.called = birth.inputs, ""
    death.rows = Rows(birth.rows if size in (None, birth.of) else (), size or birth.of)
    death.neighbours = ""
    return death


_BY_NAME: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("log", "log2", "log10", "log1p", "xlogy"), ("log-domain", "log")),
    **dict.fromkeys(("acos", "asin", "atanh", "logit", "erfinv", "lgamma"), ("log-domain", "domain")),
    **dict.fromkeys(("exp", "expm1", "exp2", "sinh", "cosh"), ("exp-overflow", "")),
    **dict.fromkeys(("_softmax", "_log_softmax", "logsumexp"), ("zero-denominator", "empty-softmax")),
    **dict.fromkeys(("var", "std"), ("zero-denominator", "spread-of-one")),
    "div": ("zero-denominator", ""),
    "mean": ("zero-denominator", "nothing-selected"),
    "reciprocal": ("zero-denominator", ""),
    "rsqrt": ("zero-denominator", "root"),
    "sqrt": ("log-domain", "root"),
}
"""Operators below autograd, by what they most likely stumbled over."""


def _replayed_cause(birth: again.Seen) -> tuple[str, str, str]:
    said = f"{birth.op} of finite operands gave {'NaN' if birth.nan else 'an infinity'}"
    largest = max((abs(each.maximum or 0.0) for each in birth.inputs), default=0.0)
    cause, variant = _BY_NAME.get(birth.op.rstrip("_") or birth.op, ("unknown", ""))
    below = birth.inputs[-1] if birth.inputs else None
    if cause == "zero-denominator" and birth.op.startswith(("div", "mean")) and below is not None and below.elements:
        cause = cause if birth.op.startswith("div") and below.zero else "unknown"
    if cause == "unknown" and any(each.dtype == "float16" for each in birth.inputs):
        return "half-overflow", "forward", said
    if cause == "unknown" and largest > 1e15:
        return "diverged", "", said
    return cause, variant, said
