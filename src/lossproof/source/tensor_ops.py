"""What an operation on tensors does to what is known of its operands: activation and range.

Pure functions over ``values.T``; nothing here knows files, frames or rules. Ranges are those of real
arithmetic: that ``sigmoid`` can round to exactly 0 or 1 is a rule's business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from lossproof.source.torch_names import KEEP
from lossproof.source.values import (
    NOTHING,
    UNKNOWN,
    Const,
    Hop,
    Map,
    Seq,
    T,
    Union,
    Value,
    alternatives,
    combine,
    constant,
    join,
    number,
)

# Tags that a result inherits from its operands.
INHERITED = frozenset({"param", "data", "target", "numpy", "half", "bf16", "detached", "pred", "output", "f64"})
PROBABILITIES = frozenset({"sigmoid", "softmax", "probability"})
SMALL = 1e-2
MASK_NAME = re.compile(r"mask|valid|visib|padding|^hole$", re.I)

HopMaker = Callable[[str], Hop]


def as_tensor(value: Value | None) -> T:
    """Any value as a tensor or number: constants become exact ranges, objects become unknowns."""
    if isinstance(value, T):
        return value
    if isinstance(value, Const):
        if isinstance(value.v, bool):
            return T(lo=float(value.v), hi=float(value.v), tags=frozenset({"num", "const"}))
        if isinstance(value.v, (int, float)) and not (isinstance(value.v, float) and math.isnan(value.v)):
            try:
                v = float(value.v)
            except OverflowError:
                return UNKNOWN
            return T(lo=v, hi=v, tags=frozenset({"num", "const"}))
        return UNKNOWN
    if isinstance(value, Union):
        parts = [as_tensor(v) for _, v in value.alts]
        return widest(parts)
    return UNKNOWN


def widest(parts: list[T]) -> T:
    """The range that covers all parts."""
    lo: float | None = None if any(p.lo is None for p in parts) else min(p.lo for p in parts if p.lo is not None)
    hi: float | None = None if any(p.hi is None for p in parts) else max(p.hi for p in parts if p.hi is not None)
    tags = frozenset.intersection(*[p.tags for p in parts]) if parts else NOTHING
    if len(parts) > 1 and all(p.tags & _OF_DATA for p in parts) and not tags & _OF_DATA:
        tags |= {"output"}  # of one origin or another, but a tensor in each case
    acts = {p.act for p in parts}
    first = parts[0] if parts else UNKNOWN
    return T(
        acts.pop() if len(acts) == 1 else "",
        lo,
        hi,
        lo is not None and all(p.lo_open or (p.lo is not None and p.lo > lo) for p in parts),
        hi is not None and all(p.hi_open or (p.hi is not None and p.hi < hi) for p in parts),
        tags,
        first.trace,
        first.sym if len({p.sym for p in parts}) == 1 else "",
        first.info if len({id(p.info) for p in parts}) == 1 else None,
    )


def inherit(*operands: T) -> frozenset[str]:
    found: frozenset[str] = NOTHING
    for t in operands:
        found |= t.tags & INHERITED
    return found


_NARROW = frozenset({"half", "bf16", "f64"})
_OF_DATA = frozenset({"output", "pred", "data", "param"})


def same(a: Value | None, b: Value | None, depth: int = 4) -> bool:
    """Whether two values are surely the same number (the same object, or built alike from the same)."""
    if a is b:
        return True
    if isinstance(a, Const) and isinstance(b, Const):
        return bool(a.v == b.v)
    if not isinstance(a, T) or not isinstance(b, T) or depth == 0:
        return False
    if a.sym and a.sym == b.sym and not a.act and not b.act and a.get("via") is None and b.get("via") is None:
        return True
    one, two = a.get("via"), b.get("via")
    if one is None or two is None or one[0] != two[0] or len(one) != len(two):
        return False
    return all(same(x, y, depth - 1) if isinstance(x, Value) else x == y for x, y in zip(one[1:], two[1:], strict=True))


def distribute(function: Callable[[T], Value], value: Value) -> Value:
    """A function over each alternative of a value."""
    if isinstance(value, Union):
        return join([(atoms, distribute(function, v)) for atoms, v in value.alts])
    return function(value if isinstance(value, T) else as_tensor(value))


# ---- arithmetic


def negate(t: T) -> T:
    return T(
        "affine" if t.act == "affine" else "",
        None if t.hi is None else -t.hi,
        None if t.lo is None else -t.lo,
        t.hi_open,
        t.lo_open,
        inherit(t) | (t.tags & {"num", "loss", "nonzero"}),
        t.trace,
        info={"via": ("neg", t), "width": t.get("width"), "ndim": t.get("ndim"), "loss": t.get("loss")},
    )


def binary(op: str, left: Value, right: Value, hop: HopMaker) -> Value:
    """``left op right`` over alternatives."""
    if isinstance(left, Const) and isinstance(right, Const):
        folded = fold(op, left.v, right.v)
        if folded is not None:
            return Const(folded)
    if op == "+" and isinstance(left, Seq) and isinstance(right, Seq):
        return concatenate(left, right)
    if op == "*" and isinstance(left, Seq):
        n = constant(right)
        if isinstance(n, int) and left.rest is None and 0 <= n * len(left.head + left.tail) <= 64:
            return Seq(left.kind, (left.head + left.tail) * n)
        return Seq(left.kind, (), join([((), v) for v in left.every()]) if left.every() else None)
    if isinstance(left, Union) or isinstance(right, Union):
        results = []
        for one_atoms, x in alternatives(left):
            for other_atoms, y in alternatives(right):
                results.append((combine(one_atoms, other_atoms), binary(op, x, y, hop)))
        return join(results[:16])
    a, b = as_tensor(left), as_tensor(right)
    if op in "+-":
        a, b = held(a, b), held(b, a)
        for one, other in ((a, b), (b, a)):
            if one.lo == 0.0 and one.get("was") is not None and (op == "+" or one is b):
                return other.but(info={**(other.info or {}), "lost": True})  # LP205 speaks of it
        if op == "+" and a.lo == a.hi == 0.0 and "const" in a.tags:
            return b
        if b.lo == b.hi == 0.0 and "const" in b.tags:
            # What is computed with, even with a zero, is no list.
            return a.but(info={**(a.info or {}), "summed": True}) if a.get("element") else a
    handler = _BINARY.get(op)
    if handler is None:
        if op in ("&", "|", "^"):
            return T(tags=inherit(a, b) | {"bool"}, lo=0.0, hi=1.0, info={"via": (op, a, b)})
        return T(tags=inherit(a, b))
    result = handler(a, b, hop)
    if "num" in a.tags and "num" in b.tags:
        result.tags = result.tags | {"num"} | ((a.tags & b.tags) & {"size"})
    return result


# The distance of the closest numbers below and above 1, and the smallest number, by format.
_FORMATS = {
    "half": (2.0**-11, 2.0**-10, 2.0**-24),
    "bf16": (2.0**-8, 2.0**-7, 2.0**-133),
    "": (2.0**-24, 2.0**-23, 2.0**-149),
}


def rounded(v: float, tags: frozenset[str]) -> float:
    """What a number becomes in the format of a tensor, where it becomes 0 or 1 (float32 unless more is known)."""
    if "f64" in tags or not 0.0 < abs(v) < 2.0:
        return v
    below, above, tiny = _FORMATS["half" if "half" in tags else "bf16" if "bf16" in tags else ""]
    if abs(v) <= tiny / 2:
        return 0.0
    off = abs(v) - 1.0
    return math.copysign(1.0, v) if -below / 2 <= off <= above / 2 else v


def held(number: T, other: T) -> T:
    """A constant as the format of its tensor neighbour holds it."""
    if "const" not in number.tags or "num" in other.tags or number.lo is None or number.lo != number.hi:
        return number
    v = rounded(number.lo, other.tags)
    return number if v == number.lo else T(lo=v, hi=v, tags=number.tags, info={"was": number.lo})


def fold(op: str, a: Any, b: Any) -> Any:
    try:
        if op == "+" and type(a) in (int, float, str, tuple) and type(b) in (int, float, str, tuple):
            return a + b
        if isinstance(a, (int, float)) and isinstance(b, (int, float)):
            if op == "-":
                return a - b
            if op == "*":
                return a * b
            if op == "/":
                return a / b
            if op == "//":
                return a // b
            if op == "%":
                return a % b
            if op == "**" and abs(b) < 64:
                return a**b
        if op == "%" and isinstance(a, str):
            return a % b if isinstance(b, (int, float, str)) else None
    except (TypeError, ValueError, ArithmeticError):
        return None
    return None


def concatenate(a: Seq, b: Seq) -> Seq:
    if a.rest is None and b.rest is None:
        return Seq(a.kind, a.head + a.tail + b.head + b.tail)
    if b.rest is None:
        return Seq(a.kind, a.head, a.rest, a.tail + b.head + b.tail)
    if a.rest is None:
        return Seq(a.kind, a.head + a.tail + b.head, b.rest, b.tail)
    middle = [a.rest, *a.tail, *b.head, b.rest]
    return Seq(a.kind, a.head, join([((), v) for v in middle]), b.tail)


def _shape_of(a: T, b: T) -> dict[str, Any]:
    """Width and rank of an elementwise result: those of the operand that has them."""
    source = a if any(a.get(k) is not None for k in ("width", "ndim", "flat")) else b
    if source.info is None:
        return {}
    found = {
        k: source.info[k]
        for k in ("width", "ndim", "reduced", "flat", "written", "pooled")
        if source.info.get(k) is not None
    }
    other = b if source is a else a
    if (
        found.get("written")
        and found.get("width") == 1
        and other.get("width") != 1
        and not other.tags & {"const", "num"}
    ):
        # A column made for broadcasting takes the other's width: ``a[:, None] * b[None]``.
        found.pop("width")
        found.pop("written")
    return found


def _add(a: T, b: T, hop: HopMaker) -> T:
    lo = None if a.lo is None or b.lo is None else a.lo + b.lo
    hi = None if a.hi is None or b.hi is None else a.hi + b.hi
    act, trace, axis = "", a.trace or b.trace, None
    for one, two in ((a, b), (b, a)):
        if two.lo is not None and two.lo == two.hi and abs(two.lo) <= SMALL:
            act, trace, axis = one.act, one.trace, one.get("dim")
            break
        if one.act in PROBABILITIES and two.act in PROBABILITIES:
            act = "probability_sum"
            break
        if one.act == "affine" and not two.act.startswith("loss") and two.act not in PROBABILITIES:
            act, trace = "affine", ()
            break
        if one.act in ("log_softmax", "sigmoid", "softmax") and two.sym and "num" not in one.tags and _is_eps(two):
            act, trace = one.act, one.trace
            break
    info: dict[str, Any] = {"via": ("add", a, b), **_shape_of(a, b)}
    if axis is not None:
        info["dim"] = axis
    if act == "affine" and a.get("width") != b.get("width") and not ("const" in a.tags or "const" in b.tags):
        info.pop("width", None)
    tags = inherit(a, b)
    if "loss" in a.tags or "loss" in b.tags:
        tags |= {"loss"}
    both = terms_of(a), terms_of(b)
    if all(both):
        info["terms"] = both[0] + both[1]
    return T(act, lo, hi, a.lo_open or b.lo_open, a.hi_open or b.hi_open, tags, trace, info=info)


def _is_eps(t: T) -> bool:
    return t.sym.rpartition(".")[2].lower() in ("eps", "epsilon", "self.eps", "_eps", "smooth")


def _sub(a: T, b: T, hop: HopMaker) -> T:
    lo = None if a.lo is None or b.hi is None else a.lo - b.hi
    hi = None if a.hi is None or b.lo is None else a.hi - b.lo
    lo_open, hi_open = a.lo_open or b.hi_open, a.hi_open or b.lo_open
    via = b.get("via")
    if via is not None and via[0] in ("max", "logsumexp") and same(via[1], a):
        # x - x.max() is at most 0; x - logsumexp(x) is a log-softmax.
        hi, hi_open = 0.0, False
    if via is not None and via[0] == "min" and same(via[1], a):
        lo, lo_open = 0.0, False
    if via is not None and via[0] == "maximum" and any(same(p, a) or _max_of(p, a) for p in via[1:]):
        hi, hi_open = 0.0, False
    other = a.get("via")
    if via is not None and other is not None and (other[0], via[0]) == ("max", "min") and same(other[1], via[1]):
        lo, lo_open = 0.0, False
    act, trace = "", a.trace or b.trace
    if b.lo is not None and b.lo == b.hi and abs(b.lo) <= SMALL:
        act, trace = a.act, a.trace
    elif a.lo == a.hi == 1.0 and b.act in PROBABILITIES:
        act, trace = "probability", b.trace
    elif via is not None and via[0] == "logsumexp" and same(via[1], a):
        act, trace = "log_softmax", (hop("written-out log-softmax here"),)
    elif a.act == "affine" or b.act == "affine":
        act, trace = "affine", ()
    info: dict[str, Any] = {"via": ("sub", a, b), **_shape_of(a, b)}
    tags = inherit(a, b)
    if "loss" in a.tags or "loss" in b.tags:
        tags |= {"loss"}
    return T(act, lo, hi, lo_open, hi_open, tags, trace, info=info)


def _max_of(t: T, a: T) -> bool:
    via = t.get("via")
    return via is not None and via[0] == "max" and same(via[1], a)


def _mul(a: T, b: T, hop: HopMaker) -> T:
    for one, two in ((a, b), (b, a)):
        if two.lo == two.hi == 1.0 and "const" in two.tags:
            return one.but()
    lo = hi = None
    lo_open = hi_open = False
    if same(a, b):
        lo, lo_open = 0.0, a.nonzero
    elif a.lo is not None and b.lo is not None and a.lo >= 0 and b.lo >= 0:
        lo, lo_open = a.lo * b.lo, a.positive and b.positive
        if a.hi is not None and b.hi is not None:
            hi, hi_open = a.hi * b.hi, a.hi_open or b.hi_open
    else:
        for one, two in ((a, b), (b, a)):
            if two.lo is not None and two.lo == two.hi:
                c = two.lo
                if c > 0:
                    lo = None if one.lo is None else one.lo * c
                    hi = None if one.hi is None else one.hi * c
                    lo_open, hi_open = one.lo_open, one.hi_open
                elif c < 0:
                    lo = None if one.hi is None else one.hi * c
                    hi = None if one.lo is None else one.lo * c
                    lo_open, hi_open = one.hi_open, one.lo_open
                break
            if one.hi is not None and one.hi <= 0 and two.nonnegative:
                hi = 0.0
    act, trace = "", a.trace or b.trace
    for one, two in ((a, b), (b, a)):
        exact = two.lo is not None and two.lo == two.hi
        if exact and two.lo == 1.0:
            act, trace = one.act, one.trace
            break
        if one.act in PROBABILITIES and two.act in PROBABILITIES:
            act = "probability"
            break
        if one.act in ("sigmoid", "softmax", "log_softmax") and not exact and not two.act:
            # A mask or a weight multiplied in does not undo the activation.
            act, trace = one.act, one.trace
            break
        if one.act == "affine" and (exact or two.act in ("", "affine", "relu", "exp")):
            act, trace = "affine", ()
            break
        if one.act == "probability_sum" and exact:
            act, trace = "probability", one.trace
            break
    info: dict[str, Any] = {"via": ("mul", a, b), **_shape_of(a, b)}
    tags = inherit(a, b)
    if "loss" in a.tags or "loss" in b.tags:
        tags |= {"loss", "weighted"}
    if a.nonzero and b.nonzero:
        tags |= {"nonzero"}
    return T(act, lo, hi, lo_open, hi_open, tags, trace, info=info)


def _div(a: T, b: T, hop: HopMaker) -> T:
    lo = hi = None
    lo_open = hi_open = False
    if b.lo is not None and b.lo == b.hi and b.lo != 0:
        inverse = T(lo=1.0 / b.lo, hi=1.0 / b.lo, tags=b.tags)
        scaled = _mul(a, inverse, hop)
        lo, hi, lo_open, hi_open = scaled.lo, scaled.hi, scaled.lo_open, scaled.hi_open
    elif a.nonnegative and (b.nonnegative or "num" in b.tags):
        lo, lo_open = 0.0, a.positive
    elif a.hi is not None and a.hi <= 0 and (b.nonnegative or "num" in b.tags):
        hi = 0.0
    act, trace = "", a.trace
    logistic = logistic_form(a, b)
    if logistic:
        act, trace = "sigmoid", (hop("written-out sigmoid here"),)
        lo, hi, lo_open, hi_open = 0.0, 1.0, True, True
    elif unit_form(a, b):
        act, trace = "normalized", ()
        lo, hi = -1.0, 1.0
    elif a.act == "exp" and softmax_form(a, b):
        act, trace = "softmax", (hop("written-out softmax here"),)
        lo, hi, lo_open, hi_open = 0.0, 1.0, True, True
    elif b.lo is not None and b.lo == b.hi == 1.0:
        act = a.act
    elif a.act == "probability_sum" and b.lo is not None:
        act = "probability"
    elif a.act in ("affine", "") and "loss" not in a.tags:
        act = a.act
        trace = () if act else a.trace
    info: dict[str, Any] = {"via": ("div", a, b), **_shape_of(a, b)}
    tags = inherit(a, b)
    if "loss" in a.tags:
        tags |= {"loss"}
        if not ("num" in b.tags or "const" in b.tags):
            tags |= {"weighted"}
    if a.nonzero:
        tags |= {"nonzero"}
    return T(act, lo, hi, lo_open, hi_open, tags, trace, info=info)


def logistic_form(a: T, b: T) -> bool:
    """``1 / (1 + exp(-x))`` and ``exp(x) / (1 + exp(x))``."""
    via = b.get("via")
    if via is None or via[0] != "add":
        return False
    one, e = via[1], via[2]
    if one.act == "exp":
        one, e = e, one
    if e.act != "exp" or not (one.lo == one.hi == 1.0):
        return False
    if a.lo == a.hi == 1.0:
        inner = e.get("via")
        operand = inner[1] if inner is not None else None
        if operand is None or "num" in operand.tags or operand.get("via") is None:
            return False
        form = operand.get("via")
        negative = form[0] == "neg" or (
            form[0] in ("mul", "div") and any(isinstance(p, T) and p.hi is not None and p.hi < 0 for p in form[1:])
        )
        return negative
    return a.act == "exp" and same(a, e)


def unit_form(a: T, b: T) -> bool:
    """``x / (x.norm() + eps)``, ``x / sqrt((x ** 2).sum())``."""
    via = b.get("via")
    if via is not None and via[0] == "add":
        b = via[2] if "num" in via[1].tags else via[1]
        via = b.get("via")
    if via is not None and via[0] == "clamp":
        via = via[1].get("via")
    if via is None:
        return False
    if via[0] in ("norm", "vector_norm"):
        return same(via[1], a)
    if via[0] in ("sqrt", "pow") and isinstance(via[1], T):
        total = via[1].get("via")
        if total is not None and total[0] == "add":
            total = total[1].get("via") if isinstance(total[1], T) else None
        square = total[1].get("via") if total is not None and total[0] == "sum" else None
        return square is not None and square[0] in ("pow", "square", "mul") and same(square[1], a)
    return False


def softmax_form(a: T, b: T) -> bool:
    """``exp(x) / exp(x).sum(dim)``, with or without an epsilon."""
    via = b.get("via")
    if via is not None and via[0] == "add":
        for part, other in ((via[1], via[2]), (via[2], via[1])):
            inner = part.get("via")
            if inner is not None and inner[0] == "sum" and other.lo is not None and other.lo == other.hi:
                return same(inner[1], a)
    return via is not None and via[0] == "sum" and same(via[1], a)


def _raised(base: float, exponent: float) -> float | None:
    """``None`` where the result is larger than a number can be: an upper limit is then as good as none."""
    try:
        return float(base**exponent)
    except (OverflowError, ZeroDivisionError):
        return None


def power(a: T, b: T, hop: HopMaker) -> T:
    exponent = b.lo if b.lo is not None and b.lo == b.hi else None
    lo = hi = None
    lo_open = False
    if exponent is not None and float(exponent).is_integer() and exponent % 2 == 0:
        lo, lo_open = 0.0, a.nonzero
        if a.hi is not None and a.lo is not None and exponent > 0:
            hi = _raised(max(abs(a.lo), abs(a.hi)), exponent)
    elif a.positive:
        lo, lo_open = 0.0, True
        if exponent is not None and exponent > 0 and a.hi is not None:
            hi = _raised(a.hi, exponent)
    elif a.nonnegative:
        lo = 0.0
        if a.hi is not None and (exponent is None or exponent > 0):
            hi = max(1.0, a.hi) if exponent is None else _raised(a.hi, exponent)
    if lo is not None and a.lo is not None and exponent is not None and exponent > 0 and a.lo > 0:
        lo, lo_open = _raised(a.lo, exponent) or lo, a.lo_open
    act = "sqrt" if exponent == 0.5 else "square" if exponent == 2 else ""
    info: dict[str, Any] = {"via": ("pow", a, b), **_shape_of(a, a)}
    tags = inherit(a)
    if a.nonzero:
        tags |= {"nonzero"}
    return T(act, lo, hi, lo_open, False, tags, a.trace, info=info)


def _matmul(a: T, b: T, hop: HopMaker) -> T:
    if a.act == "normalized" and b.act in ("normalized", ""):
        return T("cosine", -1.0, 1.0, tags=inherit(a, b), info={"via": ("matmul", a, b)})
    lo = 0.0 if a.nonnegative and b.nonnegative else None
    return T("affine", lo, tags=inherit(a, b), info={"via": ("matmul", a, b)})


def _floordiv(a: T, b: T, hop: HopMaker) -> T:
    return T(lo=0.0 if a.nonnegative and b.nonnegative else None, tags=inherit(a, b))


_BINARY: dict[str, Callable[[T, T, HopMaker], T]] = {
    "+": _add,
    "-": _sub,
    "*": _mul,
    "/": _div,
    "**": power,
    "@": _matmul,
    "//": _floordiv,
    "%": lambda a, b, hop: T(lo=0.0 if b.nonnegative else None, tags=inherit(a, b)),
}

ARITHMETIC_METHOD = {
    "add": "+", "add_": "+", "__add__": "+", "sub": "-", "sub_": "-", "mul": "*", "mul_": "*", "div": "/",
    "div_": "/", "pow": "**", "pow_": "**", "matmul": "@", "mm": "@", "bmm": "@", "true_divide_": "/",
}  # fmt: skip
COMPARISONS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!=", "gt_": ">", "lt_": "<"}


# ---- activations and elementwise functions


def _activation(act: str, lo: float | None, hi: float | None, word: str) -> Callable[[T, HopMaker], T]:
    def apply(t: T, hop: HopMaker) -> T:
        remark = word if not t.act or t.act not in (act,) else f"{word} again"
        return T(
            act,
            lo,
            hi,
            lo is not None,
            hi is not None,
            inherit(t),
            (hop(remark),),
            info={"via": (act, t), "width": t.get("width"), "ndim": t.get("ndim")},
        )

    return apply


def _log_softmax(t: T, hop: HopMaker, dim: Value | None = UNKNOWN) -> T:
    return T(
        "log_softmax",
        None,
        0.0,
        False,
        False,
        inherit(t),
        (hop("log_softmax applied here"),),
        info={
            "via": ("log_softmax", t),
            "width": t.get("width"),
            "ndim": t.get("ndim"),
            "dim": constant(dim),
            "implicit": _implicit(dim),
        },
    )


def _elementwise(name: str, t: T) -> T | None:
    """Ranges of the elementwise functions; ``None`` for a name that is not one."""
    lo: float | None
    hi: float | None
    tags = inherit(t)
    info: dict[str, Any] = {"via": (name, t), **_shape_of(t, t)}
    if name in ("relu", "relu_", "threshold"):
        return T("relu", 0.0, t.hi, t.positive, False, tags, (), info=info)
    if name in ("relu6", "hardsigmoid"):
        return T("relu", 0.0, 6.0 if name == "relu6" else 1.0, False, False, tags, (), info=info)
    if name == "hardtanh":
        return T("", -1.0, 1.0, False, False, tags, (), info=info)
    if name in ("tanh", "sin", "cos", "erf", "sign", "sgn", "tanh_"):
        return T("tanh" if name.startswith("tanh") else "", -1.0, 1.0, name == "tanh", name == "tanh", tags, info=info)
    if name in ("abs", "square", "abs_"):
        hi = None if t.hi is None or t.lo is None else max(abs(t.lo), abs(t.hi))
        hi = hi * hi if hi is not None and name == "square" else hi
        return T("", 0.0, hi, t.nonzero, False, tags, t.trace, info=info)
    if name in ("sqrt", "sqrt_"):
        lo = math.sqrt(t.lo) if t.lo is not None and t.lo > 0 else 0.0
        return T("sqrt", lo, None, t.positive, False, tags, info=info)
    if name == "rsqrt":
        return T("", 0.0, None, True, False, tags, info=info)
    if name == "softplus":
        return T("softplus", 0.0, None, True, False, tags, info=info)
    if name in ("elu", "leaky_relu", "gelu", "silu", "mish", "hardswish", "prelu", "rrelu", "celu", "selu"):
        lo = t.lo if t.nonnegative else (-1.0 if name == "elu" else None)
        return T("gelu", lo, t.hi, False, False, tags, info=info)
    if name in ("exp", "exp_"):
        if t.act in ("log_softmax",):
            return T("softmax", 0.0, 1.0, True, False, tags, t.trace, info={**info, "via": ("exp", t)})
        if t.act == "logsigmoid":
            return T("sigmoid", 0.0, 1.0, True, True, tags, t.trace, info={**info, "via": ("exp", t)})
        hi = math.exp(t.hi) if t.hi is not None and t.hi < 700 else None
        lo = math.exp(t.lo) if t.lo is not None and -700 < t.lo < 700 else 0.0
        return T("exp", lo, hi, lo == 0.0, False, tags, info={**info, "via": ("exp", t)})
    if name == "expm1":
        return T("", 0.0 if t.nonnegative else -1.0, None, False, False, tags, info=info)
    if name in ("log", "log2", "log10", "log_"):
        if t.act == "softmax":
            info = {**info, "via": ("log", t), "dim": t.get("dim")}
            return T("log_softmax", None, 0.0, False, False, tags, t.trace, info=info)
        if t.act == "sigmoid":
            return T("logsigmoid", None, 0.0, False, False, tags, t.trace, info={**info, "via": ("log", t)})
        lo = math.log(t.lo) if t.lo is not None and t.lo > 0 else None
        hi = math.log(t.hi) if t.hi is not None and t.hi > 0 else None
        if t.lo == 1.0:
            lo = 0.0
        return T("log", lo, hi, t.lo_open and lo is not None, t.hi_open, tags, info={**info, "via": ("log", t)})
    if name == "log1p":
        lo = math.log1p(t.lo) if t.lo is not None and t.lo > -1 else None
        hi = math.log1p(t.hi) if t.hi is not None and t.hi > -1 else None
        return T("log", lo, hi, t.lo_open and lo is not None, False, tags, info={**info, "via": ("log1p", t)})
    if name == "logsigmoid":
        return None
    if name in ("acos", "asin", "atan", "atan2", "arctan"):
        lo = 0.0 if name == "acos" else -math.pi / 2
        return T("", lo, math.pi, False, False, tags, info=info)
    if name == "cosh":
        return T("", 1.0, None, False, False, tags, info=info)
    if name in ("round", "floor", "ceil", "trunc", "round_", "floor_", "ceil_"):
        return T("", t.lo, t.hi, False, False, tags | {"step"}, t.trace, info=info)
    if name in ("long", "int", "short", "byte", "bool"):
        bounded = name == "bool"
        if "bool" in t.tags:
            info["compare"] = t.get("compare")
            tags |= {"bool"}
        if bounded and not t.act and "pred" not in t.tags:
            tags |= {"bool"}
        return T("", 0.0 if bounded else t.lo, 1.0 if bounded else t.hi, False, False, tags | {"int"}, info=info)
    if name in ("isnan", "isinf", "isfinite", "logical_not", "logical_and", "logical_or", "logical_xor", "isclose"):
        return T("", 0.0, 1.0, False, False, tags | {"bool"}, info=info)
    if name == "reciprocal":
        return T("", 0.0 if t.nonnegative else None, None, t.nonnegative, False, tags, info=info)
    if name in ("norm_layer", "layer_norm", "batch_norm", "instance_norm", "group_norm"):
        return T("affine", None, None, False, False, tags, info={"width": t.get("width"), "ndim": t.get("ndim")})
    if name == "dropout_alpha":
        return T("", tags=tags, info=info)
    return None


_ACTIVATIONS: dict[str, Callable[[T, HopMaker], T]] = {
    "sigmoid": _activation("sigmoid", 0.0, 1.0, "sigmoid applied here"),
    "logsigmoid": _activation("logsigmoid", None, 0.0, "logsigmoid applied here"),
    "log_softmax": _log_softmax,
}


def softmax(t: T, dim: Value | None, hop: HopMaker) -> T:
    return T(
        "softmax",
        0.0,
        1.0,
        True,
        False,
        inherit(t),
        (hop("softmax applied here" if t.act != "softmax" else "softmax applied again here"),),
        info={
            "via": ("softmax", t),
            "width": t.get("width"),
            "ndim": t.get("ndim"),
            "dim": constant(dim),
            "implicit": _implicit(dim),
        },
    )


def _implicit(dim: Value | None) -> bool:
    """Whether no axis is named, or ``None`` is."""
    return dim is None or (isinstance(dim, Const) and dim.v is None)


# ---- reductions


def reduce(name: str, t: T, args: list[Value], kw: dict[str, Value]) -> T:
    """``sum``, ``mean``, ``max`` …, over all elements or some dimensions."""
    dim = kw.get("dim", kw.get("axis"))
    if dim is None and args:
        dim = args[0] if len(args) == 1 or constant(args[0]) is not None or name != "max" else None
        if len(args) > 1 and all(isinstance(constant(a), int) for a in args):
            dim = Seq("tuple", tuple(args))
    reduced: Any = "all"
    if dim is not None and constant(dim) is not None:
        reduced = (constant(dim),)
    elif isinstance(dim, Seq):
        reduced = tuple(constant(d) for d in dim.every())
        if dim.rest is not None and 0 not in reduced:
            reduced = "some"  # (0, 2, 3) and on, as many as the rank has, is known to hold the batch
    elif dim is not None and not (isinstance(dim, Const) and dim.v is None):
        reduced = "some"
    tags = inherit(t) | (t.tags & {"loss", "weighted", "numpy"})
    info: dict[str, Any] = {"via": (name, t), "reduced": reduced, "loss": t.get("loss")}
    keep = kw.get("keepdim", kw.get("keepdims"))
    if t.get("reduced") not in (None, "all") and reduced != "all":
        info["reduced"] = "some"
    if name.endswith("_pool"):
        info["ndim"] = t.get("ndim")
    elif not name.startswith("cum"):
        info.update(_reduced_shape(t, reduced, constant(keep) is True))
    if name == "sum" and t.act == "probability" and reduced != "all":
        factors = t.get("via")
        if factors is not None and factors[0] == "mul" and any(f.act == "softmax" for f in factors[1:]):
            # An average weighted by a softmax.
            return T("probability", 0.0, 1.0, True, False, tags | {"sum"}, t.trace, info=info)
    if name in ("sum", "nansum", "cumsum"):
        lo = 0.0 if t.nonnegative else None
        hi = 0.0 if t.hi is not None and t.hi <= 0 else None
        if t.tags & {"bool", "mask"} or (t.tags & {"count"} and t.lo == 0.0):
            tags |= {"count"}
        # A sum may run over nothing, but a sum of positives over a real dimension is positive.
        # A softmax sums to one over its classes, an exp to something above zero.
        return T("", lo, hi, t.positive, False, tags | {"sum"}, t.trace, info=info)
    if name in ("mean", "nanmean", "median", "avg_pool"):
        act = "probability" if t.act in PROBABILITIES else ("affine" if t.act == "affine" else "")
        if name == "avg_pool":
            info["reduced"] = t.get("reduced")
        if t.tags & {"bool", "mask"}:
            tags |= {"count"}
        return T(act, t.lo, t.hi, t.lo_open, t.hi_open, tags | {"mean"}, t.trace, info=info)
    if name in ("max", "amax", "min", "amin", "max_pool", "quantile", "kthvalue", "mode"):
        act = t.act if name == "max_pool" and t.act in ("sigmoid", "softmax", "affine", "log_softmax") else ""
        word = "max" if "max" in name else "min"
        if name == "max_pool":
            info = {"via": ("max_pool", t)}
        else:
            info["via"] = (word, t)
        return T(act, t.lo, t.hi, t.lo_open, t.hi_open, tags, t.trace, info=info)
    if name in ("norm", "vector_norm", "matrix_norm", "std", "var", "frobenius_norm", "nuclear_norm"):
        return T("norm", 0.0, None, False, False, tags | {"norm"}, info=info)
    if name == "logsumexp":
        return T("", None, None, False, False, tags, info={"via": ("logsumexp", t), "reduced": reduced})
    if name == "prod":
        lo = 0.0 if t.nonnegative else None
        return T("probability" if t.act in PROBABILITIES else "", lo, t.hi, t.positive, False, tags, info=info)
    if name in ("any", "all"):
        return T("", 0.0, 1.0, False, False, tags | {"bool"}, info=info)
    if name in ("count_nonzero", "argmax", "argmin"):
        return T("", 0.0, None, False, False, tags | {"int", "count" if name == "count_nonzero" else "step"}, info=info)
    if keep is not None:
        return T("", tags=tags, info=info)
    return T("", tags=tags, info=info)


def _reduced_shape(t: T, reduced: Any, keep: bool) -> dict[str, Any]:
    """Rank and width after a reduction; ``flat`` where the last of an unknown number of axes is gone."""
    if reduced == "all":
        return {"ndim": 0}
    rank, width = t.get("ndim"), t.get("width")
    if not isinstance(reduced, tuple) or not reduced or not all(isinstance(d, int) for d in reduced):
        return {}
    if rank is not None:
        last = any(d in (-1, rank - 1) for d in reduced)
        if keep:
            return {"ndim": rank, "width": 1 if last else width}
        return {"ndim": rank - len(reduced), "width": None if last else width}
    if len(reduced) == 1 and reduced[0] in (1, -1):
        return {"width": 1, "written": True} if keep else {"flat": True}
    return {}


REDUCTIONS = {
    "sum", "nansum", "mean", "nanmean", "median", "max", "amax", "min", "amin", "norm", "std", "var", "logsumexp",
    "prod", "any", "all", "count_nonzero", "argmax", "argmin", "max_pool", "avg_pool", "vector_norm", "cumsum",
    "matrix_norm", "quantile", "kthvalue", "mode",
}  # fmt: skip
_PAIRED = {"max", "min", "median", "mode", "kthvalue"}


def clamp(t: T, low: Value | None, high: Value | None) -> T:
    lo, hi = t.lo, t.hi
    lo_open, hi_open = t.lo_open, t.hi_open
    written = number(low), number(high)
    low_number, high_number = (n if n is None else rounded(n, t.tags) for n in written)
    guarded = False
    if low is not None and not (isinstance(low, Const) and low.v is None):
        if low_number is None:
            bound = as_tensor(low)
            if bound.nonnegative or bound.lo is None:
                # A bound that we cannot read is still a guard somebody put there.
                lo, lo_open, guarded = max(lo or 0.0, 0.0), True, True
        elif lo is None or low_number > lo or (low_number == lo and not lo_open):
            lo, lo_open = low_number, False
    if high is not None and not (isinstance(high, Const) and high.v is None):
        if high_number is None:
            hi, hi_open = (1.0, True) if t.act in PROBABILITIES else (hi, hi_open)
            guarded = guarded or low_number is None
        elif hi is None or high_number < hi:
            hi, hi_open = high_number, False
    tags = t.tags | {"clamped"} | ({"guarded"} if guarded else NOTHING)
    info = dict(t.info) if t.info else {}
    info["via"] = ("clamp", t, low_number, high_number)
    if written != (low_number, high_number):
        info["vanished"] = True
    return T(t.act, lo, hi, lo_open, hi_open, tags, t.trace, t.sym, info)


_SHAPE_KEPT = {
    "contiguous",
    "float",
    "double",
    "clone",
    "cuda",
    "cpu",
    "dropout",
    "identity",
    "type_as",
    "requires_grad_",
}


def shape_change(name: str, t: T, args: list[Value]) -> T:
    """The few shape operations that LP303 has to follow exactly; the others keep the value as it is."""
    first = constant(args[0]) if args else None
    listed = args[0] if args else None
    if isinstance(listed, Seq):
        args = listed.every()
        first = constant(args[0]) if args else None
    width, rank = t.get("width"), t.get("ndim")
    if name in ("permute", "transpose", "swapaxes", "movedim"):
        order = [constant(a) for a in args[:2]]
        if (name == "permute" and order and order[0] not in (None, 0)) or (
            name == "transpose" and sorted(map(str, order)) == ["0", "1"]
        ):
            # The batch is not the first axis any more.
            return _with(t, width=None, ndim=None, moved=True)
    if t.get("moved") and name in ("view", "reshape", "flatten"):
        return _with(t, width=None, ndim=2, moved=None, pooled=len(args) == 2 or name == "flatten")
    if t.get("dim") is not None and name not in _SHAPE_KEPT:
        # The axis that was normalized is another one now.
        t = t.but(info={**(t.info or {}), "dim": None})
    if name in ("squeeze", "squeeze_"):
        if width == 1 and (first is None or first in (-1, 1)):
            if rank is None and first is None:
                return _with(t, width=None, ndim=None, flat=True)  # the last axis is gone, whatever else is
            return _with(t, width=None, ndim=1 if rank in (None, 2) else rank - 1)
        return t
    if name in ("unsqueeze", "unsqueeze_"):
        if first == -1 or (first == 1 and rank in (None, 1)):
            return _with(t, width=1, ndim=2 if rank in (None, 1) else rank + 1, written=True)
        return _with(t, width=width, ndim=None if rank is None else rank + 1)
    if name in ("view", "reshape", "resize", "resize_"):
        sizes = [constant(a) for a in args]
        if len(sizes) == 1 and sizes[0] == -1:
            return _with(t, width=None, ndim=1)
        if len(sizes) == 2 and sizes[1] == 1:
            return _with(t, width=1, ndim=2, written=True)
        last = sizes[-1] if sizes and isinstance(sizes[-1], int) and sizes[-1] > 0 else None
        return _with(t, width=last, ndim=len(sizes) if sizes else None)
    if name in ("flatten", "ravel"):
        if not args:
            return _with(t, width=None, ndim=1)
        return _with(t, width=None, ndim=None)
    if name == "gather" and len(args) > 1:
        # As many rows and columns as the index has.
        index = as_tensor(args[1])
        return _with(t, width=index.get("width"), ndim=index.get("ndim"))
    if name in ("permute", "transpose", "t", "gather", "expand", "expand_as", "repeat", "select", "unfold", "view_as"):
        known = width is not None or rank is not None or t.get("flat")
        return _with(t, width=None, ndim=None) if known else t
    return t


def _with(t: T, **shape: Any) -> T:
    info = dict(t.info) if t.info else {}
    info.pop("channels", None)
    info.pop("flat", None)
    info.pop("written", None)
    if all(info.get(k) == v for k, v in shape.items()):
        return t
    info.update(shape)
    return t.but(info=info)


def indexed(t: T, index: Value) -> Value:
    """``t[index]``: selection keeps what is known of the elements, but not always the shape."""
    info = dict(t.info) if t.info else {}
    if {"fresh", "numpy"} <= t.tags and t.lo is not None and isinstance(index, T):
        t = t.but(lo=None, hi=None)  # a buffer that is read at places it was filled at
    parts = index.every() if isinstance(index, Seq) and index.kind == "tuple" else [index]
    width, rank = info.get("width"), info.get("ndim")
    mask = next((p for p in parts if isinstance(p, T) and ("bool" in p.tags or MASK_NAME.search(p.sym))), None)
    if mask is not None:
        info["masked"] = mask
    if not parts:
        return t
    if isinstance(parts[0], T) and parts[0].tags & {"num", "int"} and "const" not in parts[0].tags:
        info["element"] = True
        t = t.but(info=dict(info))
    elif info.pop("element", None) and len(parts) == 1:
        t = t.but(info=dict(info))  # a part of a batch that is a tuple
    if len(parts) == 1:
        only = parts[0]
        counted = info.get("via")
        if counted is not None and counted[0] == "bincount" and same(counted[1], only):
            t = t.tagged("nonzero")  # ``counts[labels]``: whoever is looked up was counted
        counted_off = isinstance(only, T) and "num" in only.tags  # a number, of whatever size: one axis is gone
        if counted_off or (isinstance(constant(only), int) and not isinstance(constant(only), bool)):
            info["ndim"] = rank - 1 if rank else None
            info["width"] = width if rank is None or rank > 2 else None
        elif isinstance(only, T) and "bool" in only.tags:
            info["width"], info["ndim"] = None, None
            t = narrowed(t, only, True)
        return t.but(info=info) if info.get("width") != width or info.get("ndim") != rank or info.get("masked") else t
    last = constant(parts[-1])
    info.pop("flat", None)
    if isinstance(parts[-1], Const) and parts[-1].v is None:
        info["width"], info["ndim"], info["written"] = 1, len(parts), True
    elif isinstance(last, int) and not isinstance(last, bool):
        info["width"], info["ndim"] = None, None
        if len(parts) == 2 and parts[0] is UNKNOWN:
            # ``x[:, 0]``
            info["ndim"] = None if rank is None else rank - 1
            info["flat"] = rank is None
        elif _exact(parts):
            info["ndim"] = None if rank is None else rank - _taken(parts)
        if t.act == "softmax":
            # One column of a softmax is a probability, but no longer a distribution.
            return t.but(info=info, act="probability")
    elif rank is not None and _exact(parts):
        info["ndim"], info["width"] = rank - _taken(parts), None  # ``out[:, -1, :]``
    else:
        info["width"], info["ndim"] = None, None
    return t.but(info=info)


def _exact(parts: list[Value]) -> bool:
    """Whether an index is made of slices and numbers alone."""
    return all(p is UNKNOWN or type(constant(p)) is int for p in parts)


def _taken(parts: list[Value]) -> int:
    return sum(1 for p in parts if p is not UNKNOWN)


def apply(op: str, receiver: Value, args: list[Value], kw: dict[str, Value], hop: HopMaker) -> Value | None:
    """The operation on tensors, or ``None`` where the name is no operation that is known here."""
    if op == "log_softmax":
        axis = kw.get("dim", args[0] if args else None)
        return distribute(lambda t: _log_softmax(t, hop, axis), receiver)
    if op in _ACTIVATIONS:
        function = _ACTIVATIONS[op]
        return distribute(lambda t: function(t, hop), receiver)
    if op in ("softmax", "gumbel_softmax"):
        dim = kw.get("dim", args[0] if args else None)
        return distribute(lambda t: softmax(t, dim, hop), receiver)
    if op in KEEP:
        if op in ("masked_fill", "masked_fill_"):
            mask = as_tensor(args[0] if args else kw.get("mask"))
            fill = as_tensor(args[1] if len(args) > 1 else kw.get("value"))
            return distribute(lambda t: filled(t, mask, fill), receiver)
        if op in ("nan_to_num", "nan_to_num_"):
            return distribute(lambda t: t.but(tags=t.tags | {"nan_to_num"}), receiver)
        if op == "masked_select":
            chosen = as_tensor(args[0] if args else kw.get("mask"))
            return distribute(
                lambda t: narrowed(t, chosen, True).but(
                    info={
                        **(t.info or {}),
                        "masked": as_tensor(args[0] if args else kw.get("mask")),
                        "width": None,
                        "ndim": 1,
                    }
                ),
                receiver,
            )
        if isinstance(receiver, (T, Union)):
            if op in ("half", "bfloat16"):
                tag = "half" if op == "half" else "bf16"
                return distribute(lambda t: t.tagged(tag), receiver)
            if op == "double":
                return distribute(lambda t: t.but(tags=(t.tags - {"half", "bf16"}) | {"f64"}), receiver)
            if op == "float":
                return distribute(lambda t: t.but(tags=t.tags - _NARROW) if t.tags & _NARROW else t, receiver)
            return distribute(lambda t: shape_change(op, t, args), receiver)
        return receiver
    if op in ("clamp", "clamp_", "clamp_min", "clamp_max", "clamp_min_", "clip_", "clamp_max_"):
        if op.startswith("clamp_min"):
            low, high = (args[0] if args else kw.get("min")), None
        elif op.startswith("clamp_max"):
            low, high = None, (args[0] if args else kw.get("max"))
        else:
            low = kw.get("min", args[0] if args else None)
            high = kw.get("max", args[1] if len(args) > 1 else None)
        return distribute(lambda t: clamp(t, low, high), receiver)
    if op in ARITHMETIC_METHOD and (args or "other" in kw or "exponent" in kw):
        other = args[0] if args else kw.get("other", kw.get("exponent"))
        return binary(ARITHMETIC_METHOD[op], receiver, other or UNKNOWN, hop)
    if op in ("logical_and", "logical_or", "bitwise_and", "bitwise_or") and args:
        return binary("&" if op.endswith("and") else "|", receiver, args[0], hop)
    if op in ("logical_not", "bitwise_not"):
        return distribute(lambda t: T(lo=0.0, hi=1.0, tags=inherit(t) | {"bool"}, info={"via": ("not", t)}), receiver)
    if op in COMPARISONS and args:
        a, b = as_tensor(receiver), as_tensor(args[0])
        return compared(COMPARISONS[op], a, b)
    if op in ("maximum", "minimum", "max", "min", "fmax", "fmin") and args and isinstance(args[0], (T, Union)):
        if op in ("maximum", "minimum", "fmax", "fmin") or not _looks_like_dim(args[0]):
            return extremum("max" in op, as_tensor(receiver), as_tensor(args[0]))
    if op in REDUCTIONS:

        def run(t: T) -> Value:
            result = reduce(op, t, args, kw)
            if op in _PAIRED and result.get("reduced") != "all":
                indices = T(lo=0.0, tags=inherit(t) | {"int", "step"})
                return Seq("tuple", (result, indices))
            return result

        return distribute(run, receiver)
    if op in ("sort", "topk"):
        return distribute(lambda t: Seq("tuple", (t, T(lo=0.0, tags=frozenset({"int", "step"})))), receiver)
    if op in ("cat", "stack", "hstack", "vstack", "dstack", "column_stack"):
        result = joined(receiver)
        if op == "stack" and isinstance(receiver, Seq) and receiver.rest is None and isinstance(result, T):
            return result.but(info={**(result.info or {}), "stacked": tuple(receiver.every())})
        return result
    if op in ("chunk", "split", "unbind", "tensor_split", "split_with_sizes"):
        count = constant(args[0]) if args and op == "chunk" else None
        if isinstance(count, int) and 0 < count <= 16:
            return Seq("tuple", (receiver,) * count)
        along = kw.get("dim", args[0] if args else None)
        if op == "unbind" and (along is None or constant(along) == 0):
            return Seq("tuple", (), distribute(lambda t: t.but(info={**(t.info or {}), "element": True}), receiver))
        return Seq("tuple", (), receiver)
    if op == "where":
        if len(args) >= 2:
            return where(receiver, args[0], args[1])
        return T(tags=frozenset({"int"}))
    if op == "einsum" and isinstance(constant(receiver), str):
        contracted = _einsum(str(constant(receiver)), args, hop)
        if contracted is not None:
            return contracted
    if op in ("dot", "inner", "vdot") and args:
        a, b = as_tensor(receiver), as_tensor(args[0])
        return T("affine", tags=inherit(a, b), info={"via": ("dot", a, b), "ndim": 0})
    if op in ("outer", "ger") and args:
        # Every element of one times every element of the other.
        product = _mul(as_tensor(receiver), as_tensor(args[0]), hop)
        return product.but(info={"via": (product.info or {}).get("via"), "ndim": 2})
    if op in ("neg", "neg_", "negative"):
        return distribute(negate, receiver)
    if op in _LINEAR:
        return T("affine", tags=inherit(as_tensor(receiver)), info={"via": (op, as_tensor(receiver))})
    if op in ("matmul", "mm", "bmm", "einsum") and args and as_tensor(receiver).act == "normalized":
        return T("cosine", -1.0, 1.0, tags=inherit(as_tensor(receiver)))
    if op == "cosine_similarity":
        return T("cosine", -1.0, 1.0, tags=inherit(as_tensor(receiver)))
    if op == "normalize":
        return T("normalized", -1.0, 1.0, tags=inherit(as_tensor(receiver)))
    if op in ("cdist", "dist", "pairwise_distance", "pdist"):
        return T("norm", 0.0, None, tags=inherit(as_tensor(receiver)) | {"norm"})
    if op == "one_hot":
        return T("", 0.0, 1.0, tags=inherit(as_tensor(receiver)) | {"target", "mask"})
    if op in ("zeros", "zeros_like", "new_zeros"):
        sized = _size_info(receiver, args) if op == "zeros" else None
        return T("", 0.0, 0.0, tags=frozenset({"fresh"}), info=sized)
    if op in ("ones", "ones_like", "new_ones"):
        return T("", 1.0, 1.0, tags=frozenset({"fresh"}))
    if op in ("rand", "rand_like"):
        return T("", 0.0, 1.0, False, True, tags=frozenset({"fresh"}), info=_size_info(receiver, args))
    if op in ("randn", "randn_like", "empty", "empty_like", "normal", "randint", "randint_like"):
        sizes = args[1:] if op == "randint" and args else args
        return T(
            tags=frozenset({"fresh"}),
            info=_size_info(
                sizes[0] if op == "randint" and sizes else receiver, sizes[1:] if op == "randint" else args
            ),
        )
    if op == "fill_":
        put = as_tensor(args[0] if args else kw.get("value"))
        return put.but(tags=frozenset({"fresh"}), info=None)
    if op in ("full", "full_like", "new_full"):
        filling = kw.get("fill_value", args[0] if args else None)
        return as_tensor(filling).but(tags=frozenset({"fresh"}))
    if op in (
        "tensor",
        "as_tensor",
        "FloatTensor",
        "LongTensor",
        "Tensor",
        "DoubleTensor",
        "scalar_tensor",
        "new_tensor",
        "HalfTensor",
    ):
        return rewrapped(receiver)
    if op in ("arange", "linspace", "logspace"):
        return T(lo=0.0, tags=frozenset({"fresh"}))
    if op in ("detach", "detach_"):
        return distribute(lambda t: t.tagged("detached"), receiver)
    if op in ("item", "tolist"):
        return distribute(
            lambda t: T(
                "",
                t.lo,
                t.hi,
                t.lo_open,
                t.hi_open,
                inherit(t) | {"num", "detached", "item"},
                info={"via": ("item", t)},
            ),
            receiver,
        )
    if op in ("numpy", "astype"):
        return distribute(lambda t: t.but(tags=t.tags | {"numpy", "detached"}), receiver)
    if op in ("size", "numel", "nelement", "dim", "ndimension", "element_size", "stride", "__len__"):
        if op == "size" and not args and not kw:
            return Seq("tuple", (), T(lo=0.0, tags=frozenset({"num", "size"})))
        return T(lo=0.0, tags=frozenset({"num", "size"}))
    if op in ("stft", "fft", "cov", "diff"):
        return T(tags=inherit(as_tensor(receiver)), info={"via": (op, as_tensor(receiver))})
    if op == "xlogy":
        return T(tags=inherit(as_tensor(receiver)))
    if op in ("nonzero", "bincount", "unique", "searchsorted", "histc"):
        counted = as_tensor(receiver)
        tags = inherit(counted) | ({"count"} if op in ("bincount", "histc") else {"int"})
        return T(lo=0.0, tags=tags, info={"via": (op, counted)})
    if op == "cumprod":
        return distribute(_running_product, receiver)
    if op in (
        "lerp",
        "addcmul",
        "addcdiv",
        "scatter_add",
        "index_add",
        "scatter",
        "scatter_",
        "scatter_add_",
        "cross",
    ):
        return T(
            tags=inherit(as_tensor(receiver)), lo=0.0 if as_tensor(receiver).nonnegative and "scatter" in op else None
        )
    if op == "softmin":
        return distribute(lambda t: softmax(t, kw.get("dim"), hop), receiver)
    if op in ("exp", "exp_"):
        taken = hop("exp taken here")

        def exponential(t: T) -> T:
            made = _elementwise(op, t) or UNKNOWN
            return made.but(info={**(made.info or {}), "taken": taken})

        return distribute(exponential, receiver)
    if isinstance(receiver, Union):
        if _elementwise(op, UNKNOWN) is None:
            return None
        return distribute(lambda t: _elementwise(op, t) or UNKNOWN, receiver)
    return _elementwise(op, as_tensor(receiver))


def _einsum(equation: str, operands: list[Value], hop: HopMaker) -> T | None:
    """A sum over the axes that the result lacks, of one operand or of the product of two of one shape."""
    left, arrow, out = equation.replace(" ", "").partition("->")
    shapes = left.split(",")
    if not arrow or "." in equation or len(shapes) != len(operands) or len(shapes) > 2 or len(set(shapes)) != 1:
        return None
    letters = shapes[0]
    gone = [i for i, letter in enumerate(letters) if letter not in out]
    if len(set(letters)) != len(letters) or not gone:
        return None
    whole = operands[0] if len(operands) == 1 else binary("*", operands[0], operands[1], hop)
    axes: dict[str, Value] = {} if not out else {"dim": Seq("tuple", tuple(Const(i) for i in gone))}
    return reduce("sum", as_tensor(whole), [], axes)


_LINEAR = {
    "linear", "conv", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "addmm",
    "baddbmm", "einsum", "embedding", "bilinear", "tensordot", "dot", "mv",
}  # fmt: skip


def _size_info(first: Value, rest: list[Value]) -> dict[str, Any] | None:
    sizes = first.every() if isinstance(first, Seq) and first.rest is None else [first, *rest]
    known = [constant(s) for s in sizes]
    if not sizes or not any(isinstance(k, int) for k in known) or known == [1]:
        return None
    last = known[-1]
    return {"ndim": len(sizes), "width": last if isinstance(last, int) and len(sizes) > 1 else None}


def _looks_like_dim(value: Value) -> bool:
    return isinstance(value, T) and "num" in value.tags


def compared(op: str, a: T, b: T) -> T:
    info: dict[str, Any] = {"compare": (op, a, b)}
    if a.sym and "const" in b.tags:
        info["cond"] = (a.sym, op, b.lo)
    return T("", 0.0, 1.0, False, False, inherit(a, b) | {"bool"}, info=info)


def extremum(larger: bool, a: T, b: T) -> T:
    """Elementwise ``maximum``/``minimum`` of two tensors or numbers."""
    if larger:
        bounds = [(t.lo, t.lo_open) for t in (a, b) if t.lo is not None]
        lo, lo_open = max(bounds, default=(None, False), key=lambda p: (p[0], p[1]))
        hi = None if a.hi is None or b.hi is None else max(a.hi, b.hi)
        positive_open = lo_open or any(t.positive for t in (a, b))
        return T(
            "",
            lo,
            hi,
            positive_open if lo == 0 else lo_open,
            False,
            inherit(a, b) | {"clamped"},
            a.trace,
            info={"via": ("maximum", a, b)},
        )
    uppers = [t.hi for t in (a, b) if t.hi is not None]
    lo2 = None if a.lo is None or b.lo is None else min(a.lo, b.lo)
    opened = lo2 is not None and all(t.lo_open or (t.lo is not None and t.lo > lo2) for t in (a, b))
    return T(
        "",
        lo2,
        min(uppers) if uppers else None,
        opened,
        False,
        inherit(a, b) | {"clamped"},
        a.trace,
        info={"via": ("minimum", a, b)},
    )


def where(test: Value, yes: Value, no: Value) -> Value:
    """``torch.where``: either side, or a guarded one where the test speaks of the operand."""
    a, b = as_tensor(yes), as_tensor(no)
    t = as_tensor(test)
    a, b = narrowed(a, t, True), narrowed(b, t, False)
    covered = widest([a, b])
    trace = a.trace or b.trace
    act = a.act if a.act == b.act or "const" in b.tags else (b.act if "const" in a.tags else "")
    return T(
        act,
        covered.lo,
        covered.hi,
        covered.lo_open,
        covered.hi_open,
        inherit(a, b) | {"where"},
        trace,
        info={"via": ("where", t, as_tensor(yes), as_tensor(no))},
    )


def holding(mask: T, truth: bool, depth: int = 4) -> list[tuple[str, T, T, bool]]:
    """The comparisons that are known where a mask is ``truth``."""
    compare = mask.get("compare")
    if compare is not None:
        return [(*compare, truth)]
    via = mask.get("via")
    if via is None or depth == 0:
        return []
    if via[0] == "not":
        return holding(as_tensor(via[1]), not truth, depth - 1)
    if (via[0] in ("&", "mul") and truth) or (via[0] == "|" and not truth):
        return [c for p in via[1:] if isinstance(p, T) for c in holding(p, truth, depth - 1)]
    return []


def narrowed(t: T, mask: T, truth: bool) -> T:
    """The elements of ``t`` where a mask is ``truth``."""
    for op, left, right, polarity in holding(mask, truth):
        t = refined(t, op, left, right, polarity)
    return t


def filled(t: T, mask: T, fill: T) -> T:
    """``t`` with a number in place of the elements that a mask selects: how many guards are written."""
    zero = fill.lo == fill.hi == 0.0
    by_data = "loss" in t.tags and "bool" in mask.tags and not mask.tags & {"pred", "output", "detached", "loss"}
    if zero and (t.act == "loss" or by_data or distance(t)):
        return t.but(info={**(t.info or {}), "zeroed": True})
    kept = narrowed(t, mask, False)
    if kept is not t:
        span = widest([kept, fill])
        tags = t.tags | ({"nonzero"} if kept.nonzero and fill.nonzero else NOTHING)
        return t.but(lo=span.lo, hi=span.hi, lo_open=span.lo_open, hi_open=span.hi_open, tags=tags)
    if zero:
        span = widest([t, fill])
        return t.but(lo=span.lo, hi=span.hi, lo_open=span.lo_open, hi_open=span.hi_open, tags=t.tags - {"nonzero"})
    return t.but(lo=None, hi=None, tags=t.tags | {"filled"})


def refined(t: T, op: str, left: T, right: T, truth: bool) -> T:
    """What a test says of ``t`` where it came out as ``truth``."""
    if same(right, t) and not same(left, t):
        swap = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "==": "==", "!=": "!="}
        op, left, right = swap.get(op, "?"), right, left
    via = left.get("via")
    if via is not None and via[0] in ("abs", "square", "pow") and same(via[1], t) and truth and op in (">", "!="):
        return t.tagged("nonzero") if right.nonnegative else t
    if not same(left, t):
        return t
    if not truth:
        op = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "==": "!=", "!=": "=="}.get(op, "?")
    c = right.lo if right.lo is not None else None
    if op in (">", ">=") and c is not None and (t.lo is None or c >= t.lo):
        return t.but(lo=c, lo_open=op == ">" or t.lo_open)
    upper = right.hi
    if op in ("<", "<=") and upper is not None and (t.hi is None or upper <= t.hi):
        return t.but(hi=upper, hi_open=op == "<" or t.hi_open)
    if op == "!=" and right.lo == right.hi == 0.0:
        if t.lo == 0.0:
            return t.but(lo_open=True)
        return t.tagged("nonzero")
    if op == "==" and right.lo is not None and right.lo == right.hi:
        return t.but(lo=right.lo, hi=right.hi, lo_open=False, hi_open=False)
    return t


def terms_of(t: T) -> tuple[str, ...]:
    """The kinds of loss that a value is a plain sum of; ``weighted`` where a coefficient stands."""
    known = t.get("terms")
    if known is not None:
        return known  # type: ignore[no-any-return]
    if t.act == "loss":
        return (str(t.get("loss")),)
    if t.act == "cosine":
        return ("cosine",)
    via = t.get("via")
    if via is None:
        return ()
    if via[0] == "div" and via[2].tags & {"count", "size", "sum"} and "const" not in via[2].tags:
        return terms_of(via[1])  # a count makes it a mean
    if via[0] == "sub" and "const" in via[1].tags and via[1].lo == 1.0 and not via[2].tags & {"num", "const"}:
        return ("complement",)
    if via[0] == "mean" or (via[0] == "sum" and t.get("reduced") == "all"):
        inner = via[1]
        known = terms_of(inner)
        if known:
            return known
        kind = _distance(inner) or _likelihood(t)
        return (kind,) if kind else ()
    if via[0] == "neg":
        kind = _likelihood(t)
        return (kind,) if kind else ()
    return ()


def _likelihood(t: T) -> str:
    """``nll`` for the negated mean of a picked log-softmax."""
    negated = False
    for _ in range(6):
        via = t.get("via")
        if via is None or via[0] not in ("neg", "mean", "sum") or not isinstance(via[1], T):
            break
        negated ^= via[0] == "neg"
        t = via[1]
    if not negated:
        return ""
    via = t.get("via")
    if via is not None and via[0] == "add" and all(_log_times(p) for p in via[1:]):
        return "bce"
    return "nll" if t.act == "log_softmax" else ""


def _log_times(t: T) -> bool:
    """``y * log(p)``"""
    via = t.get("via")
    return via is not None and via[0] == "mul" and any(p.act in ("log", "logsigmoid") for p in via[1:])


def _distance(t: T) -> str:
    """``squared`` or ``absolute`` for a written-out distance."""
    via = t.get("via")
    if via is None:
        return ""
    if via[0] in ("sum", "mean"):
        return _distance(via[1])
    inner = via[1].get("via") if isinstance(via[1], T) else None
    if inner is None or inner[0] != "sub":
        return ""
    if t.act == "square" or via[0] == "square":
        return "squared"
    return "absolute" if via[0] == "abs" else ""


def distance(t: T) -> bool:
    """Whether the elements are written-out distances."""
    return bool(_distance(T(info={"via": ("mean", t)})))


def joined(parts: Value) -> Value:
    """``cat`` and ``stack``: elements of every part."""
    if isinstance(parts, Union):
        return join([(a, joined(v)) for a, v in parts.alts])
    if isinstance(parts, Seq):
        every = parts.every()
        if not every:
            return UNKNOWN
        flat = [t for v in every for _, t in alternatives(v)]
        ts = [as_tensor(v) for v in flat]
        known = [t for t in ts if t.act]
        if known and all(t.act == known[0].act for t in known):
            # Elements of unknown origin beside activated ones do not make the activated ones right.
            if len(known) == len(ts):
                return widest(ts).but(act=known[0].act, trace=known[0].trace, info=None)
            return known[0].but(act="", lo=None, hi=None, info=None, trace=())
        if len(ts) == 1:
            return ts[0].but(act="", info={"via": ("stack", ts[0])})
        pooled = {"pooled": True} if ts and all(t.get("pooled") for t in ts) else None
        return widest(ts).but(act="", info=pooled) if ts else UNKNOWN
    if isinstance(parts, Map):
        return UNKNOWN
    return parts if isinstance(parts, T) else UNKNOWN


def _running_product(t: T) -> T:
    """``cumprod``: of probabilities one again."""
    inside = t.nonnegative and t.hi is not None and t.hi <= 1
    act = "probability" if t.act in PROBABILITIES else ""
    return T(act, 0.0 if t.nonnegative else None, 1.0 if inside else None, tags=inherit(t), trace=t.trace)


def _scalar(value: Value, within: Seq) -> bool:
    """Whether an element is one number (what is computed with is no list; what is only known to be there may be)."""
    if isinstance(value, Const):
        return isinstance(value.v, (int, float))
    if isinstance(value, Union):
        return all(_scalar(v, within) for _, v in value.alts)
    if not isinstance(value, T):
        return False
    via = value.get("via")
    return (
        within.rest is None
        or "num" in value.tags
        or bool(value.get("summed"))
        or (via is not None and via[0] in ("add", "sub", "mul", "div"))
    )


def rewrapped(value: Value) -> Value:
    """``torch.tensor(x)``: the numbers without their graph."""
    if isinstance(value, Seq):
        every = value.every()
        info: dict[str, Any] = {"wraps": value}
        nested = bool(every) and all(isinstance(v, Seq) for v in every)
        if not nested and (len(every) > 1 or value.rest is not None) and all(_scalar(v, value) for v in every):
            info["ndim"] = 1
        ts = [as_tensor(v) for v in every] if not nested else []
        span = widest(ts) if ts else UNKNOWN
        return T("", span.lo, span.hi, span.lo_open, span.hi_open, frozenset({"fresh", "rewrapped"}), info=info)
    if isinstance(value, (T, Union, Const)):
        t = as_tensor(value)
        return T(
            t.act if t.act in ("sigmoid", "softmax", "log_softmax") else "",
            t.lo,
            t.hi,
            t.lo_open,
            t.hi_open,
            inherit(t) | {"rewrapped"},
            t.trace,
            info={"wraps": t, "ndim": t.get("ndim"), "via": ("rewrap", t)},
        )
    return T(tags=frozenset({"rewrapped"}))
