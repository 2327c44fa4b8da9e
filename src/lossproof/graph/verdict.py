"""The cause of a non-finite value, from the operator that made it and what its operands were there.

One function a situation; each answers with a cause of the design's list, a variant of it (which remedy fits), and the
sentences that say what was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lossproof.graph import replay
from lossproof.graph.blame import Origin, of_loss
from lossproof.graph.figures import bad, may_be_bad, plain
from lossproof.graph.known import SHARPENS, Known
from lossproof.graph.operands import called, kept, operands
from lossproof.graph.reach import down
from lossproof.graph.rows import feeds_network, weight_like
from lossproof.graph.spoken import Names, leaf_said, number, operator
from lossproof.graph.values import value
from lossproof.graph.walk import Edge

if TYPE_CHECKING:
    from lossproof.graph.sweep import Birth
    from lossproof.graph.walk import Graph, Op

HUGE_WEIGHT = 1e6
HUGE_DATA = 1e12


@dataclass(frozen=True)
class Verdict:
    cause: str
    variant: str
    because: tuple[str, ...]
    probability: float = 0.99


class Scene:
    """One operator at fault, and what its operands were at the elements in question."""

    def __init__(self, known: Known, op: Op, mask: torch.Tensor | None, output: int = 0) -> None:
        self.known = known
        self.graph: Graph = known.graph
        self.op = op
        self.mask = mask
        self.output = output
        self.name = operator(op)

    def whole(self, number: int) -> torch.Tensor | None:
        tensor = self.known.operand(self.op, number)[0]
        return None if tensor is None else plain(tensor)

    def at(self, number: int) -> torch.Tensor | None:
        """The elements of an operand that had a part in the fault."""
        tensor = self.whole(number)
        if tensor is None or self.mask is None:
            return None if tensor is None else tensor.flatten()
        reached = down(self.op, self.mask, number, self.output)
        if reached is None or reached.shape != tensor.shape:
            return tensor.flatten()
        return tensor[reached.to(tensor.device)]

    @property
    def half(self) -> bool:
        return self.op.dtype(self.output) == torch.float16

    def fits_in_float(self) -> bool:
        """Whether the same operator in float32 gives finite numbers where float16 did not."""
        ins = [self.whole(number) for number in range(len(self.op.inputs))]
        known = [each.float() if each is not None and each.is_floating_point() else each for each in ins]
        if self.op.kind == "ToCopy":
            return known[0] is not None and bool(torch.isfinite(known[0]).all())
        if any(each is None for each in known):
            sizes = [float(each.abs().max()) for each in known if each is not None and each.numel()]
            return bool(sizes) and max(sizes) < 1e18
        made = replay.again(self.op, [each for each in known if each is not None], self.output)
        if made is None:
            return all(float(each.abs().max()) < 1e18 for each in known if each is not None and each.numel())
        wrong = bad(made)
        return not bool(
            wrong[self.mask].any() if self.mask is not None and self.mask.shape == wrong.shape else wrong.any()
        )


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
    assert operand is not None and operand.tensor is not None
    tensor = operand.tensor
    count = int(bad(tensor).sum())
    said = f"{count} of {tensor.numel()} elements of the {operand.name} of {operator(op)} are {_sort(tensor)}"
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
        said = f"the target names a class whose logit {by} has set to minus infinity: its probability is 0, its loss infinite"
        return Verdict("bad-target", "masked-class", (said,))
    return Verdict("bad-input", "mask", (f"the infinity that {by} fills in reaches the loss",), 0.8)


def _made(scene: Scene, origin: Origin) -> Verdict:
    op = scene.op
    if origin.masks and op.kind in SHARPENS:
        return _empty_softmax(scene, origin.masks)
    if origin.masks:
        by = ", ".join(dict.fromkeys(operator(each) for each in origin.masks))
        what = "0 * inf" if op.kind in ("Mul", "Addcmul", "Mm", "Bmm") else "inf - inf"
        return Verdict(
            "log-domain", "masked", (f"{operator(op)} makes {what} of the infinities that {by} put in",), 0.9
        )
    for kinds, judge in _TABLE:
        if op.kind in kinds:
            found = judge(scene)
            if found is not None:
                return found
    return _overflow(scene)


def _empty_softmax(scene: Scene, masks: tuple[Op, ...]) -> Verdict:
    by = ", ".join(dict.fromkeys(operator(each) for each in masks))
    over = ""
    if scene.mask is not None and scene.op.dim() is not None and scene.mask.dim():
        dim = scene.op.dim() or 0
        lines = scene.mask.any(dim)
        over = f"{int(lines.sum())} of {lines.numel()} "
    said = (
        f"{over}rows of the {scene.name} are masked from end to end (by {by}): every exponential is 0, and 0 / 0 is NaN"
    )
    return Verdict("zero-denominator", "empty-softmax", (said,))


def _division(scene: Scene) -> Verdict | None:
    place = 1 if scene.op.kind in ("Div", "Addcdiv") else 0
    place = 2 if scene.op.kind == "Addcdiv" else place
    below = scene.at(place)
    if below is None:
        return None
    if scene.op.kind == "Rsqrt" and bool((below < 0).any()):
        return Verdict("log-domain", "root", (f"{int((below < 0).sum())} operands of rsqrt are negative",))
    whole = scene.whole(place)
    zeros = int((below == 0).sum())
    if zeros:
        of = below.numel() if whole is None else whole.numel()
        above = scene.at(0) if place else None
        both = above is not None and above.numel() > 0 and bool((above == 0).all())
        what = "denominator is" if of == 1 else f"{zeros} of {of} denominators are"
        said = ("the " if of == 1 else "") + f"{what} exactly 0"
        said += ", and so is the numerator: 0 / 0 is NaN" if both else ": the quotient is infinite"
        variant = "nothing-selected" if of == 1 and both else "root" if scene.op.kind == "Rsqrt" else ""
        return Verdict("zero-denominator", variant, (said,))
    if scene.half and scene.fits_in_float():
        return None
    small = float(below.abs().min()) if below.numel() else 1.0
    if small < 1e-20:
        said = f"the smallest denominator at fault is {number(small)}: the quotient is beyond the largest number"
        return Verdict("zero-denominator", "", (said,))
    return None


def _logarithm(scene: Scene) -> Verdict | None:
    place = 1 if scene.op.kind == "Xlogy" else 0
    inside, whole = scene.at(place), scene.whole(place)
    if inside is None or whole is None:
        return None
    floor = -1 if scene.op.kind == "Log1P" else 0
    zeros, below = int((inside == floor).sum()), int((inside < floor).sum())
    parts = []
    if zeros:
        parts.append(f"{zeros} of {whole.numel()} operands of {scene.name} are exactly {floor} (the result is -inf)")
    if below:
        low = number(float(inside.min()))
        parts.append(f"{below} of {whole.numel()} are below {floor}, the lowest {low} (the result is NaN)")
    return Verdict("log-domain", "log", (", ".join(parts),)) if parts else None


def _root(scene: Scene) -> Verdict | None:
    inside, whole = scene.at(0), scene.whole(0)
    if inside is None or whole is None:
        return None
    below = int((inside < 0).sum())
    if not below:
        return None
    low = number(float(inside.min()))
    return Verdict(
        "log-domain", "root", (f"{below} of {whole.numel()} operands of {scene.name} are negative, the lowest {low}",)
    )


def _power(scene: Scene) -> Verdict | None:
    base = scene.at(0)
    exponent = scene.at(1)
    fixed = scene.op.number("exponent")
    if exponent is None and fixed is not None:
        exponent = torch.tensor([fixed])
    if base is None:
        start = scene.op.number("self")
        base = None if start is None else torch.tensor([start])
    if base is None or exponent is None or not base.numel() or not exponent.numel():
        return None
    fractional = bool((exponent != exponent.round()).any())
    if fractional and bool((base < 0).any()):
        said = (
            f"{int((base < 0).sum())} bases of a fractional power are negative, the lowest {number(float(base.min()))}"
        )
        return Verdict("log-domain", "power", (said,))
    if bool((exponent < 0).any()) and bool((base == 0).any()):
        said = f"{int((base == 0).sum())} bases of a negative power are exactly 0"
        return Verdict("zero-denominator", "power", (said,))
    if scene.half and scene.fits_in_float():
        return None
    if exponent.numel() > 1 or fixed is None or abs(fixed) > 8:
        said = (
            f"the largest exponent is {number(float(exponent.max()))} of a base up to {number(float(base.abs().max()))}"
        )
        return Verdict("exp-overflow", "power", (said,))
    return None


def _exponential(scene: Scene) -> Verdict | None:
    inside = scene.at(0)
    if inside is None or not inside.numel():
        return None
    if scene.half and scene.fits_in_float():
        return None
    dtype = str(scene.op.dtype(scene.output)).removeprefix("torch.")
    largest = float(inside.max() if scene.op.kind != "Sinh" else inside.abs().max())
    limit = torch.finfo(scene.op.dtype(scene.output) or torch.float32).max
    edge = float(torch.tensor(limit, dtype=torch.float64).log())
    edge = edge / 0.6931471805599453 if scene.op.kind == "Exp2" else edge
    said = f"{inside.numel()} operands of {scene.name} reach {number(largest)}; {dtype} overflows from {edge:.1f}"
    return Verdict("exp-overflow", "", (said,))


def _outside(low: float, high: float, closed: bool) -> Callable[[Scene], Verdict | None]:
    """An operator that is defined between two bounds; at the bounds too where ``closed``."""

    def judge(scene: Scene) -> Verdict | None:
        inside, whole = scene.at(0), scene.whole(0)
        if inside is None or whole is None:
            return None
        wrong = (inside < low) | (inside > high)
        at_bound = (inside == low) | (inside == high)
        count = int((wrong if closed else wrong | at_bound).sum())
        if not count:
            return None
        span = f"from {number(low)} to {number(high)}"
        said = f"{count} of {whole.numel()} operands of {scene.name} lie outside the open interval {span}"
        if closed:
            said = f"{count} of {whole.numel()} operands of {scene.name} lie outside {span}"
        worst = float(inside.abs().max())
        return Verdict("log-domain", "domain", (f"{said} (the largest absolute value is {number(worst)})",))

    return judge


def _mean(scene: Scene) -> Verdict | None:
    elements = scene.op.saved("self_sym_numel")
    shape = scene.op.saved("self_sym_sizes")
    dims = scene.op.dims() or ()
    nothing = elements == 0 or (shape and any(shape[dim] == 0 for dim in dims))
    edge = scene.op.inputs[0] if scene.op.inputs else None
    if edge is not None and edge.shape is not None:
        nothing = nothing or 0 in edge.shape
    if not nothing:
        return None
    said = f"{scene.name} over no element at all: 0 / 0 is NaN (a selection or a batch is empty)"
    return Verdict("zero-denominator", "nothing-selected", (said,))


def _spread(scene: Scene) -> Verdict | None:
    edge = scene.op.inputs[0]
    shape = None if edge is None else edge.shape
    if shape is None:
        return None
    dims = scene.op.dims()
    count = 1
    for dim, size in enumerate(shape):
        if not dims or dim in {each % len(shape) for each in dims}:
            count *= size
    correction = scene.op.saved("correction")
    correction = 1 if correction is None else correction
    if count - correction > 0:
        return None
    said = f"{scene.name} of {count} element{'' if count == 1 else 's'} divides by {count} - {correction}"
    return Verdict("zero-denominator", "spread-of-one", (said,))


def _nll(scene: Scene) -> Verdict | None:
    total = scene.op.tensor("total_weight")
    target = scene.op.tensor("target")
    if scene.op.saved("reduction") != 1 or total is None or target is None:
        return None
    if target.numel() == 0:
        return Verdict("zero-denominator", "nothing-selected", ("the loss is a mean over a batch of no samples",))
    if not bool((total == 0).all()):
        return None
    ignored = int((target == scene.op.dim("ignore_index")).sum())
    said = f"{ignored} of {target.numel()} targets are ignore_index: the mean divides by a total weight of 0"
    return Verdict("zero-denominator", "all-ignored", (said,))


def _ctc(scene: Scene) -> Verdict | None:
    each = scene.op.tensor("result0")
    if each is None:
        return None
    wrong = int(torch.isinf(each).sum())
    if not wrong:
        return None
    said = f"{wrong} of {each.numel()} targets do not fit into their input lengths: no alignment exists, the loss is infinite"
    return Verdict("bad-target", "no-alignment", (said,))


def _normalize(scene: Scene) -> Verdict | None:
    inverse = scene.op.tensor("result2")
    whole = scene.whole(0)
    if inverse is not None and bool(torch.isinf(inverse).any()):
        said = f"{int(torch.isinf(inverse).sum())} variances of {scene.name} are 0 and its eps is too small to keep them off it"
        return Verdict("zero-denominator", "normalization", (said,))
    if whole is not None and whole.numel() == 0:
        return Verdict("zero-denominator", "nothing-selected", (f"{scene.name} over an empty batch",))
    return None


def _lgamma(scene: Scene) -> Verdict | None:
    inside, whole = scene.at(0), scene.whole(0)
    if inside is None or whole is None:
        return None
    poles = (inside <= 0) & (inside == inside.round())
    if not bool(poles.any()):
        return None
    said = f"{int(poles.sum())} of {whole.numel()} operands of {scene.name} are 0 or a negative integer, where it is infinite"
    return Verdict("log-domain", "domain", (said,))


def _infinite_softmax(scene: Scene) -> Verdict | None:
    inside = scene.at(0)
    if inside is not None and inside.numel() and bool((inside == float("-inf")).any()):
        return _empty_softmax(scene, ())
    return None


_TABLE: tuple[tuple[frozenset[str], Callable[[Scene], Verdict | None]], ...] = (
    (frozenset(("Div", "Reciprocal", "Rsqrt", "Addcdiv", "Fmod", "Remainder")), _division),
    (frozenset(("Log", "Log2", "Log10", "Log1P", "Xlogy", "Logdet", "LinalgSlogdet")), _logarithm),
    (frozenset(("Sqrt",)), _root),
    (frozenset(("Pow",)), _power),
    (frozenset(("Exp", "Expm1", "Exp2", "Sinh", "Cosh")), _exponential),
    (frozenset(("Acos", "Asin")), _outside(-1.0, 1.0, closed=True)),
    (frozenset(("Atanh", "Erfinv")), _outside(-1.0, 1.0, closed=False)),
    (frozenset(("Logit",)), _outside(0.0, 1.0, closed=False)),
    (frozenset(("Acosh",)), _outside(1.0, float("inf"), closed=True)),
    (frozenset(("Lgamma", "Digamma", "Polygamma")), _lgamma),
    (frozenset(("Mean", "Nanmean")), _mean),
    (frozenset(("MseLoss", "SmoothL1Loss", "HuberLoss", "BinaryCrossEntropy", "BinaryCrossEntropyWithLogits")), _mean),
    (frozenset(("Var", "Std", "VarMean", "StdMean")), _spread),
    (frozenset(("NllLoss", "NllLoss2D")), _nll),
    (frozenset(("CtcLoss",)), _ctc),
    (frozenset(("NativeLayerNorm", "NativeBatchNorm", "NativeGroupNorm")), _normalize),
    (frozenset(("Softmax", "LogSoftmax", "Logsumexp")), _infinite_softmax),
)


def _overflow(scene: Scene) -> Verdict:
    """Finite operands whose result is too large for the type."""
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
    return Verdict("diverged", "", (text,), 0.8)


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


def backward(known: Known, birth: Birth, names: Names) -> Verdict:
    """The cause of a non-finite gradient of a finite value."""
    op = birth.op
    name = operator(op)
    what = "NaN" if birth.nan else "infinite"
    count = birth.nan + birth.inf
    of = birth.mask.numel()
    if birth.number < 0:
        text = f"the gradients that meet at {name} are finite and their sum is not"
        half = op.dtype() == torch.float16
        return Verdict("half-overflow" if half else "diverged", "gradient", (text,), 0.9)
    text = f"the gradient of {count} of {of} elements is {what} behind {name}, and what came to it was finite"
    edge = _edge(known, birth)
    if edge:
        more = (text, edge)
        if birth.zero_given:
            return Verdict(
                "gradient-only",
                "trap",
                (*more, "what came to it was exactly 0: the value was masked away, 0 * inf is NaN"),
            )
        return Verdict("gradient-only", _variant(op), more)
    if op.dtype() == torch.float16 or (op.inputs[birth.number] is not None and _half_edge(op, birth.number)):
        return Verdict("half-overflow", "gradient", (text, "a gradient in float16 passes 65504"), 0.9)
    if birth.given > 1e15:
        return Verdict("diverged", "gradient", (text, f"what came to it reaches {number(birth.given)}"), 0.9)
    return Verdict("gradient-only", _variant(op), (text,), 0.9)


def _half_edge(op: Op, place: int) -> bool:
    edge = op.inputs[place]
    return edge is not None and edge.dtype == torch.float16


def _variant(op: Op) -> str:
    return {
        "Sqrt": "root",
        "Rsqrt": "root",
        "Pow": "power",
        "Acos": "arc",
        "Asin": "arc",
        "Atanh": "arc",
        "Div": "division",
        "Reciprocal": "division",
        "Log": "log",
        "Log2": "log",
        "Log10": "log",
        "Log1P": "log",
        "Xlogy": "log",
        "Softmax": "softmax",
        "LogSoftmax": "softmax",
        "LinalgSvd": "decomposition",
        "LinalgEigh": "decomposition",
        "LinalgEig": "decomposition",
        "Atan2": "angle",
    }.get(op.kind, "")


def _edge(known: Known, birth: Birth) -> str:
    """What the operand is where the derivative is not finite, if it stands at the edge of the operator's domain."""
    op = birth.op
    kind = op.kind
    if kind in ("Sqrt", "Rsqrt", "Reciprocal"):
        result = value(Edge(op, 0))
        if result is None:
            return ""
        at = _take(plain(result), birth.mask)
        if kind == "Sqrt":
            zeros = int((at == 0).sum())
            return (
                f"{zeros} of {result.numel()} operands of sqrt are exactly 0, where its slope is infinite"
                if zeros
                else ""
            )
        wrong = int((~torch.isfinite(at)).sum())
        return f"{wrong} of {result.numel()} results of {operator(op)} are themselves not finite" if wrong else ""
    if kind == "Pow":
        base = kept(op, 0)
        exponent = op.number("exponent")
        if base is None:
            return ""
        at = _take(plain(base), birth.mask)
        zeros = int((at == 0).sum())
        if zeros and (exponent is None or exponent < 1):
            power = "" if exponent is None else f" {number(exponent)}"
            return f"{zeros} of {base.numel()} bases of the power{power} are exactly 0, where its slope is infinite"
        below = int((at < 0).sum())
        return f"{below} of {base.numel()} bases of the power are negative" if below else ""
    if kind in ("Log", "Log2", "Log10", "Log1P", "Xlogy"):
        inside = kept(op, 1 if kind == "Xlogy" else 0)
        if inside is None:
            return ""
        floor = -1 if kind == "Log1P" else 0
        at = _take(plain(inside), birth.mask)
        count = int((at <= floor).sum())
        return f"{count} of {inside.numel()} operands of {operator(op)} are {floor} or below" if count else ""
    if kind in ("Acos", "Asin", "Atanh"):
        inside = kept(op, 0)
        if inside is None:
            return ""
        at = _take(plain(inside), birth.mask).abs()
        count = int((at >= 1).sum())
        return (
            f"{count} of {inside.numel()} operands of {operator(op)} are at ±1, where its slope is infinite"
            if count
            else ""
        )
    if kind == "Div":
        below = kept(op, 1)
        if below is None:
            return ""
        at = _take(plain(below), birth.mask)
        count = int((at == 0).sum())
        if count:
            return f"{count} of {below.numel()} denominators are exactly 0"
        low = float(at.abs().min()) if at.numel() else 1.0
        tiny = low < (1e-3 if below.dtype == torch.float16 else 1e-18)
        return (
            f"the smallest denominator at fault is {number(low)}, and the slope divides by its square" if tiny else ""
        )
    if kind == "Atan2":
        first, second = kept(op, 0), kept(op, 1)
        if first is None or second is None:
            return ""
        count = int(((first == 0) & (second == 0)).sum())
        return f"{count} pairs are (0, 0), where the angle has no slope" if count else ""
    result = known.value(Edge(op, 0))[0]
    if result is not None and may_be_bad(result) and bool(bad(result).any()):
        return f"{int(bad(result).sum())} of {result.numel()} results of {operator(op)} are themselves not finite"
    for place in range(len(op.inputs)):
        tensor = known.operand(op, place)[0]
        if tensor is not None and may_be_bad(tensor) and bool(bad(tensor).any()):
            return f"{int(bad(tensor).sum())} of {tensor.numel()} operands ({called(op, place)}) of {operator(op)} are not finite"
    return ""


def _take(tensor: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    if tensor.shape == mask.shape:
        return tensor[mask]
    try:
        return tensor.expand(mask.shape)[mask]
    except RuntimeError:
        return tensor.flatten()


def source_of_loss(known: Known, op: Op) -> torch.Tensor | None:
    """Which samples of a loss of one operator are not finite."""
    each = of_loss(known, op)
    return None if each is None else bad(each)
