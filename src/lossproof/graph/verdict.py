"""The cause of a non-finite value, from where it was born and what was there.

The answer is a cause of the design's list, a variant of it (which remedy fits), and the sentences that say what was
measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lossproof.graph.blame import Origin
from lossproof.graph.domains import TABLE, empty_softmax
from lossproof.graph.figures import bad, may_be_bad, plain
from lossproof.graph.known_values import SHARPENS, Known
from lossproof.graph.operands import called, operands
from lossproof.graph.rows import feeds_network, weight_like
from lossproof.graph.scene import Scene, Verdict
from lossproof.graph.spoken import Names, leaf_said, number, operator

if TYPE_CHECKING:
    from lossproof.graph.walk import Op

HUGE_WEIGHT = 1e6
HUGE_DATA = 1e12


def forward(known: Known, origin: Origin, names: Names) -> Verdict:
    """The cause of a non-finite value in the forward pass."""
    if origin.birth == "came":
        return _came(known, origin, names)
    if origin.birth == "hidden":
        return _hidden(origin)
    if origin.birth == "mask":
        return _mask_reached(origin)
    if origin.birth == "opaque":
        name = operator(origin.op)
        return Verdict(
            "unknown", "opaque", (f"what goes into {name} is finite and what comes out is not; it shows one node",), 0.5
        )
    scene = Scene(known, origin.op, origin.mask, origin.output)
    found = _made(scene, origin)
    if origin.birth == "unknown" and found.probability > 0.6:
        return Verdict(found.cause, found.variant, found.because, 0.6)
    return found


def _came(known: Known, origin: Origin, names: Names) -> Verdict:
    op = origin.op
    leaf = op.leaf
    if leaf is not None:
        wrong = bad(leaf)
        said = f"{int(wrong.sum())} of {leaf.numel()} elements of {leaf_said(leaf, names)} are {_sort(leaf)}"
        if isinstance(leaf, torch.nn.Parameter) or names.get(leaf) or weight_like(op):
            return Verdict("bad-weights", "", (said,))
        return Verdict("bad-input", "", (said,))
    operand = origin.operand
    tensor = None if operand is None else operand.tensor
    if operand is None or tensor is None:
        return Verdict("unknown", "", (f"{operator(op)} was given something that is not finite",), 0.4)
    count = int(bad(tensor).sum())
    said = f"{count} of {tensor.numel()} elements of the {operand.name} of {operator(op)} are {_sort(tensor)}"
    if not tensor.dim():
        return Verdict("bad-input", "number", (f"a number given to {operator(op)} is {_sort(tensor)}",))
    if operand.name in ("running_mean", "running_var"):
        return Verdict("bad-weights", "buffer", (said,))
    if operand.name in ("weight", "pos_weight"):
        return Verdict("bad-target", "class-weight", (said,), 0.9)
    if operand.name == "target":
        return Verdict("bad-target", "", (said,))
    if feeds_network(op):
        return Verdict("bad-input", "", (said,))
    return Verdict("bad-target", "", (said,), 0.9)


def _sort(tensor: torch.Tensor) -> str:
    found = plain(tensor)
    nan = bool(torch.isnan(found).any())
    inf = bool(torch.isinf(found).any())
    return "NaN or infinite" if nan and inf else "NaN" if nan else "infinite"


def _hidden(origin: Origin) -> Verdict:
    op = origin.op
    said = (
        f"what {operator(op)} computed from the model is finite and its result is not, so its other operand, which "
        "the graph does not keep, is NaN or infinite"
    )
    if op.kind in ("IndexPut", "CopySlices", "MaskedFill", "Where"):
        said = f"what {operator(op)} writes into the tensor is NaN or infinite"
    return Verdict("bad-input" if feeds_network(op) else "bad-target", "hidden", (said,), 0.8)


def _mask_reached(origin: Origin) -> Verdict:
    by = operator(origin.op)
    losses = [op for op in origin.path if op.kind in ("NllLoss", "NllLoss2D")]
    if losses:
        said = f"the target names a class whose logit {by} has set to -inf: its probability is 0, its loss infinite"
        return Verdict("bad-target", "masked-class", (said,))
    return Verdict("bad-input", "mask", (f"the infinity that {by} fills in reaches the loss",), 0.8)


def _made(scene: Scene, origin: Origin) -> Verdict:
    op = scene.op
    if origin.masks and op.kind in SHARPENS:
        return empty_softmax(scene, origin.masks)
    if (
        origin.masks
        and op.kind == "Sub"
        and any(edge is not None and edge.op.kind == "Logsumexp" for edge in op.inputs)
    ):
        by = ", ".join(dict.fromkeys(operator(each) for each in origin.masks))
        said = f"a row is masked from end to end (by {by}): its logsumexp is -inf, and -inf - -inf is NaN"
        return Verdict("zero-denominator", "empty-softmax", (said,))
    if origin.masks:
        by = ", ".join(dict.fromkeys(operator(each) for each in origin.masks))
        what = "0 * inf" if op.kind in ("Mul", "Addcmul", "Mm", "Bmm") else "inf - inf"
        return Verdict(
            "log-domain", "masked", (f"{operator(op)} makes {what} of the infinities that {by} put in",), 0.9
        )
    for kinds, judge in TABLE:
        if op.kind in kinds:
            found = judge(scene)
            if found is not None:
                return found
    return _overflow(scene)


def _overflow(scene: Scene) -> Verdict:
    """Finite operands whose result is too large for the type."""
    if scene.contradicted():
        said = (
            f"computed again from what the graph holds, the {scene.name} here is finite: a tensor before it was "
            "changed outside autograd (in place under no_grad, through .data or through numpy)"
        )
        return Verdict("unknown", "changed-outside", (said,), 0.8)
    dtype = str(scene.op.dtype(scene.output)).removeprefix("torch.")
    sizes = [
        (called(scene.op, place), float(each.abs().max()))
        for place in range(len(scene.op.inputs))
        if (each := scene.at(place)) is not None and each.numel() and each.is_floating_point()
    ]
    said = ", ".join(f"{name} up to {number(size)}" for name, size in sizes)
    if scene.half and scene.fits_in_float():
        text = f"{scene.name} of finite operands ({said}) passes 65504, the largest float16; in float32 it is finite"
        return Verdict("half-overflow", "forward", (text,))
    if not sizes:
        return Verdict("unknown", "", (f"{scene.name} gave what is not finite, and its operands are not known",), 0.4)
    text = f"{scene.name} of finite operands ({said}) passes the largest {dtype}"
    if max(size for _, size in sizes) < 1e3:
        return Verdict("unknown", "", (f"{scene.name} of finite operands ({said}) is not finite",), 0.4)
    return _huge(scene, text)


def _huge(scene: Scene, text: str) -> Verdict:
    weights, data = _largest(scene)
    if weights[0] > HUGE_WEIGHT:
        return Verdict("diverged", "", (text, f"{weights[1]} reaches {number(weights[0])}: the weights have run away"))
    if data[0] > HUGE_DATA:
        op = data[2]
        target = data[1] == "target" or (op is not None and not feeds_network(op))
        said = f"the {data[1]} of {operator(op) if op else 'the graph'} reaches {number(data[0])}"
        return Verdict("bad-target" if target else "bad-input", "huge", (text, said), 0.9)
    hidden = _hidden_scale(scene)
    if hidden is not None:
        said = (
            f"what {operator(hidden)} reads beside the model's output is not kept by the graph, and it is the huge one"
        )
        return Verdict("bad-input" if feeds_network(hidden) else "bad-target", "huge", (text, said), 0.9)
    return Verdict("diverged", "", (text,), 0.8)


def _hidden_scale(scene: Scene, steps: int = 12) -> Op | None:
    """An addition whose known operand is small and whose result is huge: the data beside it is."""
    op: Op | None = scene.op
    for _ in range(steps):
        if op is None or op.leaf is not None:
            return None
        edge = op.inputs[0] if op.inputs else None
        if op.kind in ("Add", "Sub") and any(each.hidden for each in operands(op)):
            sides = [tensor for place in range(2) if (tensor := scene.known.operand(op, place)[0]) is not None]
            if sides and max(map(_size, sides)) < HUGE_WEIGHT:
                return op
        op = None if edge is None else edge.op
    return None


def _largest(scene: Scene) -> tuple[tuple[float, str], tuple[float, str, Op | None]]:
    """The largest weight and the largest piece of data below an operator."""
    weights: tuple[float, str] = (0.0, "")
    data: tuple[float, str, Op | None] = (0.0, "", None)
    seen: set[int] = set()
    level = [scene.op]
    while level:
        op = level.pop()
        if op.index in seen:
            continue
        seen.add(op.index)
        if op.leaf is not None:
            size = _size(op.leaf)
            if size > weights[0]:
                weights = (size, leaf_said(op.leaf, Names()))
            continue
        for operand in operands(op):
            if operand.edge is not None:
                level.append(operand.edge.op)
            elif operand.tensor is not None and operand.tensor.dim() and (size := _size(operand.tensor)) > data[0]:
                data = (size, operand.name, op)
    return weights, data


def _size(tensor: torch.Tensor) -> float:
    if not may_be_bad(tensor) or tensor.numel() == 0:
        return 0.0
    return float(plain(tensor).abs().max())
