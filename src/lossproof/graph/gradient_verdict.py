"""The cause of a non-finite gradient of a finite value: which edge of which operator the operands stand at."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lossproof.graph.figures import bad, may_be_bad, plain
from lossproof.graph.known_values import Known
from lossproof.graph.operands import called, kept
from lossproof.graph.scene import Verdict
from lossproof.graph.spoken import number, operator
from lossproof.graph.sweep import Birth
from lossproof.graph.values import value
from lossproof.graph.walk import Edge, Op


def judge(known: Known, birth: Birth) -> Verdict:
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
    return _VARIANTS.get(op.kind, "")


_VARIANTS = {
    **dict.fromkeys(("Sqrt", "Rsqrt"), "root"),
    **dict.fromkeys(("Acos", "Asin", "Atanh"), "arc"),
    **dict.fromkeys(("Div", "Reciprocal"), "division"),
    **dict.fromkeys(("Log", "Log2", "Log10", "Log1P", "Xlogy"), "log"),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Logsumexp"), "softmax"),
    **dict.fromkeys(("LinalgSvd", "LinalgEigh", "LinalgEig"), "decomposition"),
    "Pow": "power",
}


def _edge(known: Known, birth: Birth) -> str:
    """What the operand is where the derivative is not finite, if it stands at the edge of the operator's domain."""
    find = EDGES.get(birth.op.kind)
    said = "" if find is None else find(birth)
    return said or _not_finite(known, birth.op)


def _root(birth: Birth) -> str:
    result = value(Edge(birth.op, 0))
    if result is None:
        return ""
    at = _take(plain(result), birth.mask)
    if birth.op.kind != "Sqrt":
        wrong = int((~torch.isfinite(at)).sum())
        name = operator(birth.op)
        return f"{wrong} of {result.numel()} results of {name} are themselves not finite" if wrong else ""
    zeros = int((at == 0).sum())
    return f"{zeros} of {result.numel()} operands of sqrt are exactly 0, where its slope is infinite" if zeros else ""


def _power(birth: Birth) -> str:
    base, exponent = kept(birth.op, 0), birth.op.number("exponent")
    if base is None:
        return ""
    at = _take(plain(base), birth.mask)
    zeros, below = int((at == 0).sum()), int((at < 0).sum())
    if zeros and (exponent is None or exponent < 1):
        power = "" if exponent is None else f" {number(exponent)}"
        return f"{zeros} of {base.numel()} bases of the power{power} are exactly 0, where its slope is infinite"
    return f"{below} of {base.numel()} bases of the power are negative" if below else ""


def _logarithm(birth: Birth) -> str:
    inside = kept(birth.op, 1 if birth.op.kind == "Xlogy" else 0)
    if inside is None:
        return ""
    floor = -1 if birth.op.kind == "Log1P" else 0
    count = int((_take(plain(inside), birth.mask) <= floor).sum())
    return f"{count} of {inside.numel()} operands of {operator(birth.op)} are {floor} or below" if count else ""


def _arc(birth: Birth) -> str:
    inside = kept(birth.op, 0)
    if inside is None:
        return ""
    count = int((_take(plain(inside), birth.mask).abs() >= 1).sum())
    name = operator(birth.op)
    return f"{count} of {inside.numel()} operands of {name} are at ±1, where its slope is infinite" if count else ""


def _division(birth: Birth) -> str:
    below = kept(birth.op, 1)
    if below is None:
        return ""
    at = _take(plain(below), birth.mask)
    zeros = int((at == 0).sum())
    if zeros:
        return f"{zeros} of {below.numel()} denominators are exactly 0"
    low = float(at.abs().min()) if at.numel() else 1.0
    tiny = low < (1e-3 if below.dtype == torch.float16 else 1e-18)
    return f"the smallest denominator at fault is {number(low)}, and the slope divides by its square" if tiny else ""


def _sharpened(birth: Birth) -> str:
    result = value(Edge(birth.op, 0))
    if result is None:
        return ""
    wrong = bad(result)
    dim = birth.op.dim()
    rows = wrong.any(dim) if birth.op.kind != "Logsumexp" and dim is not None and wrong.dim() else wrong
    name = operator(birth.op)
    count = int(rows.sum())
    return f"{count} of {rows.numel()} rows of {name} are -inf from end to end: its slope is NaN there" if count else ""


EDGES: dict[str, Callable[[Birth], str]] = {
    "Acos": _arc,
    "Asin": _arc,
    "Atanh": _arc,
    "Div": _division,
    "Log": _logarithm,
    "LogSoftmax": _sharpened,
    "Logsumexp": _sharpened,
    "Softmax": _sharpened,
    "Log10": _logarithm,
    "Log1P": _logarithm,
    "Log2": _logarithm,
    "Pow": _power,
    "Reciprocal": _root,
    "Rsqrt": _root,
    "Sqrt": _root,
    "Xlogy": _logarithm,
}


def _not_finite(known: Known, op: Op) -> str:
    """The value itself was not finite, and the loss did not show it."""
    result = known.value(Edge(op, 0))[0]
    if result is not None and may_be_bad(result) and bool(bad(result).any()):
        return f"{int(bad(result).sum())} of {result.numel()} results of {operator(op)} are themselves not finite"
    for place in range(len(op.inputs)):
        tensor = known.operand(op, place)[0]
        if tensor is not None and may_be_bad(tensor) and bool(bad(tensor).any()):
            wrong, name = int(bad(tensor).sum()), called(op, place)
            return f"{wrong} of {tensor.numel()} operands ({name}) of {operator(op)} are not finite"
    return ""


def _take(tensor: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    if tensor.shape == mask.shape:
        return tensor[mask]
    try:
        return tensor.expand(mask.shape)[mask]
    except RuntimeError:
        return tensor.flatten()
