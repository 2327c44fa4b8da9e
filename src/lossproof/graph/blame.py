"""The first operator that made something non-finite of finite operands, found from the loss downwards.

The search goes from a bad element to the elements that had a part in it, operand by operand, until it stands at an
operator all of whose operands are finite there. An infinity that a mask put in on purpose is no fault by itself: it
is one where something makes a NaN of it, or where it is what the loss picks. What nobody kept and nothing can make
again is jumped over, and the answer then says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from lossproof.graph import replay
from lossproof.graph.domains import TABLE
from lossproof.graph.figures import all_finite, bad, may_be_bad
from lossproof.graph.known_values import SHARPENS, Known, sharpened
from lossproof.graph.operands import WRITES, Operand, operands
from lossproof.graph.reach import down, exact, folded
from lossproof.graph.scene import Scene
from lossproof.graph.walk import Edge, Op

FILLERS = frozenset(
    ("MaskedFill", "IndexFill", "Where", "IndexPut", "CopySlices", "ConstantPadNd", "Scatter", "Add", "Cat", "Sub")
)
"""What puts a constant of the user's into a tensor."""
BY_RESULT_INF = frozenset(("Exp", "Expm1", "Exp2", "Sinh", "Cosh", "Reciprocal", "Rsqrt"))
"""What keeps its result alone, and makes an infinity more often than it is given one."""
ADDS = frozenset(("Add", "Sub", "Cat"))
"""Of these, what computes with it as often as it masks with it."""


@dataclass
class Origin:
    """Where the first non-finite element came from."""

    op: Op
    birth: str
    """``made`` by the operator of finite operands; ``came`` in with data or a leaf; a ``mask`` put it in; ``hidden`` in
    data that nobody kept; inside an ``opaque`` region; ``unknown``."""
    output: int = 0
    mask: torch.Tensor | None = None
    """Which elements of what the operator gave (of the operand itself, where it came in) are at fault."""
    operand: Operand | None = None
    """What came in bad."""
    turned: Op | None = None
    """The operator that made a NaN of infinities, where that is another one."""
    masks: tuple[Op, ...] = ()
    """The masks that the infinities came from."""
    path: tuple[Op, ...] = field(default=(), repr=False)
    """From the loss down to the operator."""
    guessed: bool = False
    """Whether something on the way had to be assumed."""


@dataclass
class _Candidate:
    operand: Operand
    tensor: torch.Tensor
    mask: torch.Tensor
    nan: bool
    assumed: bool


def search(known: Known, edge: Edge, mask: torch.Tensor, nan: bool) -> Origin:
    """The origin of the masked elements of an edge; ``nan`` says whether they are NaN rather than infinite."""
    path: list[Op] = []
    guessed = False
    output_mask = mask
    visited: set[tuple[int, int, bool]] = set()
    while True:
        op = edge.op
        path.append(op)
        if op.leaf is not None:
            return Origin(op, "came", edge.output, output_mask, path=tuple(path), guessed=guessed)
        visited.add((op.index, edge.output, nan))
        candidates, unknown = _candidates(known, op, output_mask, edge.output)
        nans = [each for each in candidates if each.nan]
        if nan and nans:
            best = _best(nans)
        elif nan and candidates:
            return _turned(known, op, edge.output, output_mask, candidates, tuple(path), guessed)
        elif candidates:
            best = _best(candidates)
        elif unknown:
            found = _across(known, op, edge.output, output_mask, unknown, nan, tuple(path))
            if isinstance(found, Origin):
                return found
            guessed = True
            below, below_mask, below_nan = found
            if (below.op.index, below.output, below_nan) in visited:
                return Origin(op, "unknown", edge.output, output_mask, path=tuple(path), guessed=True)
            edge, output_mask, nan = below, below_mask, below_nan
            continue
        else:
            birth = "mask" if op.kind in (*WRITES, "ConstantPadNd") and not nan else "made"
            masks = (op,) if birth == "mask" else ()
            return Origin(op, birth, edge.output, output_mask, masks=masks, path=tuple(path), guessed=guessed)
        guessed = guessed or best.assumed
        if best.operand.edge is None and not nan and _masks_with_data(op):
            return Origin(op, "mask", edge.output, output_mask, masks=(op,), path=tuple(path), guessed=guessed)
        if best.operand.edge is None:
            return Origin(op, "came", edge.output, best.mask, best.operand, path=tuple(path), guessed=guessed)
        edge, output_mask, nan = best.operand.edge, best.mask, best.nan


def _best(candidates: list[_Candidate]) -> _Candidate:
    """What is measured before what is assumed; what was computed before data."""
    return min(candidates, key=lambda each: (each.assumed, each.operand.edge is None))


def _candidates(known: Known, op: Op, mask: torch.Tensor, output: int) -> tuple[list[_Candidate], list[Operand]]:
    """Operands that are bad where it matters, and operands of which that is not known."""
    found: list[_Candidate] = []
    unknown: list[Operand] = []
    for operand in operands(op):
        tensor, assumed = operand.tensor, False
        if operand.number >= 0:
            tensor, assumed = known.operand(op, operand.number)
        if tensor is None:
            unknown.append(operand)
            continue
        if not may_be_bad(tensor) or all_finite(tensor):
            if assumed:
                unknown.append(operand)
            continue
        wrong = bad(tensor) & _reach(known, op, mask, operand, tensor, output)
        if not exact(op) and not bool(wrong.any()):
            wrong = bad(tensor)
        if not bool(wrong.any()):
            if assumed:
                unknown.append(operand)
            continue
        nans = torch.isnan(tensor) & wrong
        has_nan = bool(nans.any())
        if operand.hidden:
            operand = replace(operand, tensor=tensor)
        found.append(_Candidate(operand, tensor, nans if has_nan else wrong, has_nan, assumed))
    return found, unknown


def _reach(
    known: Known, op: Op, mask: torch.Tensor, operand: Operand, tensor: torch.Tensor, output: int
) -> torch.Tensor:
    each = of_loss(known, op)
    if each is not None:
        wrong = bad(each)
        if operand.number == 0 and op.kind in ("NllLoss", "NllLoss2D"):
            return _picked(op, wrong, tensor)
        if tuple(wrong.shape) == tuple(tensor.shape):
            return wrong
        mask = wrong
    if operand.number < 0:
        try:
            return folded(mask, tuple(tensor.shape)).expand(tensor.shape)
        except (RuntimeError, IndexError):
            return torch.ones(tensor.shape, dtype=torch.bool, device=tensor.device)
    found = down(op, mask, operand.number, output)
    if found is None or tuple(found.shape) != tuple(tensor.shape):
        return torch.ones(tensor.shape, dtype=torch.bool, device=tensor.device)
    return found.to(tensor.device)


def of_loss(known: Known, op: Op) -> torch.Tensor | None:
    """The elements of a loss of one operator before they were reduced."""
    if op.kind not in replay.LOSSES:
        return None
    ins = [known.operand(op, number)[0] for number in range(len(op.inputs))]
    if any(each is None for each in ins):
        return None
    try:
        with torch.no_grad():
            return replay.elements(op, [each for each in ins if each is not None])
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None


def _picked(op: Op, wrong: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """The elements that a negative log likelihood picks in its bad rows."""
    target = op.tensor("target")
    found = torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)
    if target is None:
        return ~found
    dim = 1 if tensor.dim() > 1 else 0
    classes = target.clamp(0, tensor.shape[dim] - 1).unsqueeze(dim)
    return found.scatter(dim, classes, wrong.unsqueeze(dim))


def _turned(
    known: Known,
    op: Op,
    output: int,
    mask: torch.Tensor,
    candidates: list[_Candidate],
    path: tuple[Op, ...],
    guessed: bool,
) -> Origin:
    """Infinities became a NaN here: blame what made an infinity, or this operator where masks put them all in."""
    masks: list[Op] = []
    for each in sorted(candidates, key=lambda one: one.assumed):
        if each.operand.edge is None:
            if op.kind in FILLERS:
                masks.append(op)
                continue
            return Origin(op, "came", output, each.mask, each.operand, path=path, guessed=guessed)
        origin = search(known, each.operand.edge, each.mask, nan=False)
        if origin.birth == "mask":
            masks += origin.masks
            continue
        origin.turned = op
        origin.path = (*path, *origin.path)
        origin.guessed = origin.guessed or guessed
        return origin
    return Origin(op, "made", output, mask, masks=tuple(dict.fromkeys(masks)), path=path, guessed=guessed)


def _across(
    known: Known,
    op: Op,
    output: int,
    mask: torch.Tensor,
    unknown: list[Operand],
    nan: bool,
    path: tuple[Op, ...],
) -> Origin | tuple[Edge, torch.Tensor, bool]:
    """Past what is not known: a bad value further down, or the most likely place in between."""
    region: list[Op] = []
    bads: list[tuple[Edge, torch.Tensor, bool]] = []
    for reader, operand, tensor in _frontier(known, unknown, region):
        nans = torch.isnan(tensor)
        has_nan = bool(nans.any())
        wrong = nans if has_nan else bad(tensor)
        if operand.edge is not None:
            bads.append((operand.edge, wrong, has_nan))
        elif has_nan or (not nan and reader.kind not in FILLERS):
            return Origin(reader, "came", 0, wrong, operand, path=(*path, reader), guessed=True)
    for found in sorted(bads, key=lambda each: each[2] is not nan):
        if found[2] or not nan:
            return found
    if not bads and _explains_itself(known, op, output, mask):
        return Origin(op, "made", output, mask, path=path)
    if not bads and ((op.kind in BY_RESULT_INF and not nan) or (op.kind == "Sqrt" and nan)):
        return Origin(op, "made", output, mask, path=path, guessed=True)
    fillers = tuple(each for each in region if _fills(each))
    hidden = [each for each in (op, *region) if any(operand.hidden for operand in operands(each))]
    if nan and op.kind in SHARPENS and (fillers or bads):
        return Origin(op, "made", output, mask, masks=fillers, path=path, guessed=not fillers)
    written = tuple(each for each in fillers if each.kind in WRITES or (not nan and each.kind not in ADDS))
    if written and not bads:
        if nan:
            return Origin(op, "made", output, mask, masks=written, path=path, guessed=True)
        filled = _written(written[0])
        return Origin(written[0], "mask", mask=filled, masks=written[:1], path=(*path, written[0]), guessed=True)
    for edge, wrong, _ in bads:
        origin = search(known, edge, wrong, nan=False)
        if origin.birth != "mask":
            origin.turned = op
            origin.guessed = True
            origin.path = (*path, *origin.path)
            return origin
    opaque = [each for each in region if opaque_region(each)]
    if opaque:
        return Origin(opaque[0], "opaque", path=(*path, opaque[0]), guessed=True)
    if hidden and hidden[0] is op and not nan and _masks_with_data(op):
        return Origin(op, "mask", output, mask, masks=(op,), path=path)
    if hidden:
        where = hidden[0]
        operand = next(each for each in operands(where) if each.hidden)
        own = mask if where is op else None
        return Origin(where, "hidden", output if where is op else 0, own, operand, path=(*path, where), guessed=True)
    return Origin(op, "unknown", output, mask, path=path, guessed=True)


def _written(op: Op) -> torch.Tensor | None:
    """Which elements a mask was filled into."""
    mask, shape = op.tensor("mask"), op.shape()
    return None if mask is None or shape is None else mask.expand(shape)


def _explains_itself(known: Known, op: Op, output: int, mask: torch.Tensor) -> bool:
    """Whether the operands that are known stand at an edge of the operator: a denominator of 0, whatever is above."""
    scene = Scene(known, op, mask, output)
    return any(op.kind in kinds and judge(scene) is not None for kinds, judge in TABLE)


def _masks_with_data(op: Op) -> bool:
    """Whether infinite data in an operator is a mask rather than a fault."""
    return op.kind in FILLERS and (op.kind not in ADDS or sharpened(op))


def _frontier(known: Known, unknown: list[Operand], region: list[Op]) -> Iterator[tuple[Op, Operand, torch.Tensor]]:
    """The first bad known values below unknown ones; ``region`` collects the operators in between."""
    level = [operand.edge for operand in unknown if operand.edge is not None]
    seen: set[tuple[int, int]] = set()
    while level:
        edge = level.pop(0)
        key = (edge.op.index, edge.output)
        if key in seen:
            continue
        seen.add(key)
        if edge.op not in region:
            region.append(edge.op)
        if edge.op.leaf is not None:
            continue
        for operand in operands(edge.op):
            tensor, assumed = operand.tensor, False
            if operand.number >= 0:
                tensor, assumed = known.operand(edge.op, operand.number)
            if tensor is not None and not all_finite(tensor):
                yield edge.op, operand, tensor
            elif operand.edge is not None and (tensor is None or assumed):
                level.append(operand.edge)


def _fills(op: Op) -> bool:
    return op.kind in WRITES or (op.kind in FILLERS and any(each.hidden for each in operands(op)))


def opaque_region(op: Op) -> bool:
    """A region that autograd shows as one node, or whose kept tensors may not be read."""
    return op.opaque or (op.leaf is None and op.kind not in replay.RULES and op.kind not in (*WRITES, "CopySlices"))
