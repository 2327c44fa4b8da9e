"""Guards for operations at the edge of their domain: which epsilon, and where it goes.

A sum (``x + eps``) keeps the gradient at the edge alive, and is right where the operand cannot be negative. Where its
sign is not known a floor (``clamp(min=eps)``) is finite everywhere and leaves all else as it was.
"""

from __future__ import annotations

import ast
from typing import Any

from lossproof.source.domain import is_data, is_target
from lossproof.source.edits import Unfixable
from lossproof.source.facts import Operation
from lossproof.source.formats import number_format
from lossproof.source.hazards import exponent_of
from lossproof.source.tensor_ops import same
from lossproof.source.values import T
from lossproof.source.written import Reading, Written, binds_late, repeatable

# 1e-7 is a number in float16, also where nobody sees that autocast makes it one; its reciprocal is not.
_EPSILON = {"half": "1e-4", "bf16": "1e-6", "": "1e-7"}
# The smallest distance from 1 that a format holds, with room.
_BELOW_ONE = {"half": "1e-3", "bf16": "1e-2", "": "1e-6"}
KEPT = "moderate values stay as they are"


def epsilon(fact: Operation, t: T) -> str:
    """A number that is more than zero in the format of a value."""
    return _EPSILON[number_format(fact, t) or ""]


def below_one(fact: Operation, t: T) -> str:
    return _BELOW_ONE[number_format(fact, t) or ""]


def add(fact: Operation, reading: Reading, w: Written, t: T) -> tuple[str, str]:
    """``x + eps``"""
    _in_place(reading, w)
    eps = epsilon(fact, t)
    reading.guard(w.at, eps)
    return "safe", f"`{eps}` is added: finite at 0, and {KEPT}"


def floor(fact: Operation, reading: Reading, w: Written, t: T, *, safe: bool = True) -> tuple[str, str]:
    """``x.clamp(min=eps)``"""
    _in_place(reading, w)
    if "num" in t.tags:
        return python_floor(reading, w, epsilon(fact, t))
    eps = epsilon(fact, t)
    reading.patch.method(reading.module, w.at, f"clamp(min={eps})")
    if safe:
        return "safe", f"never below `{eps}`: finite, and {KEPT}"
    return "unsafe", f"never below `{eps}`: finite where it was infinite or NaN; what is below does not learn"


def raise_bound(fact: Operation, reading: Reading, w: Written, t: T) -> tuple[str, str] | None:
    """``clamp(min=0)``, written at this place, gets a bound above zero."""
    call = reading.call(w)
    if call is None or w.named or call.name.endswith("_") or call.name not in ("clamp", "clip", "clamp_min"):
        return None
    bound = call.argument(0, "min")
    if bound is None or not isinstance(bound.at, ast.Constant) or bound.at.value != 0:
        return None
    eps = epsilon(fact, t)
    reading.patch.replace(reading.module, bound.at, eps)
    return "safe", f"clamped to `{eps}` and not to 0: the gradient stays finite, and {KEPT}"


def python_floor(reading: Reading, w: Written, least: str) -> tuple[str, str]:
    """``max(n, 1)`` for a number of Python's."""
    if "max" in reading.tree.bound_in(reading.function) or "max" in reading.module.top | reading.module.imports.keys():
        raise Unfixable("the name `max` means something else here")
    reading.plain(w.at)
    reading.patch.replace(reading.module, w.at, f"max({reading.text(w.at)}, {least})")
    return "safe", f"never below {least}: {KEPT}"


def count_floor(reading: Reading, w: Written, t: T) -> tuple[str, str]:
    """At least 1, for what counts elements."""
    if "num" in t.tags:
        return python_floor(reading, w, "1")
    reading.patch.method(reading.module, w.at, "clamp(min=1)")
    return "safe", "a count of at least 1: 0 where nothing is selected, else as it was"


def away_from_zero(fact: Operation, reading: Reading, w: Written, t: T) -> tuple[str, str]:
    """Another number for an exact zero; the sign and all else stay."""
    eps = epsilon(fact, t)
    where = reading.patch.name(reading.function, "torch.where")
    if repeatable(w.at) and _short(w.at):
        text = reading.text(w.at)
        test = f"({text})" if isinstance(w.at, ast.Compare) or binds_late(w.at) else text
        reading.put(w.at, f"{where}({test} == 0, {eps}, {text})")
    else:
        statement = reading.hoistable(w.at)
        name = reading.has("denominator")
        reading.plain(w.at)
        text = reading.text(w.at)
        reading.patch.insert_before(reading.module, statement, f"{name} = {f'({text})' if chr(10) in text else text}")
        reading.put(w.at, f"{where}({name} == 0, {eps}, {name})")
    return "safe", f"an exact zero becomes `{eps}`; the sign and all other values stay"


# ---- by operation


def guarded_divisor(fact: Operation, reading: Reading, w: Written, t: T, reason: str) -> tuple[str, str]:
    """A denominator that data can make zero."""
    if raw(t):
        raise Unfixable("a raw output passes through zero: no epsilon keeps the quotient small there")
    if counts(t) and made_here(w):
        return count_floor(reading, w, t)
    if "num" in t.tags and made_here(w) and t.nonnegative:
        return python_floor(reading, w, epsilon(fact, t))
    if t.nonnegative or reason.startswith("the union") or _sum_of_nonnegative(t):
        return add(fact, reading, w, t)
    if not data(t):
        raise Unfixable("the sign of the denominator is not known")
    return away_from_zero(fact, reading, w, t)


def guarded_logarithm(fact: Operation, reading: Reading, w: Written, t: T) -> tuple[str, str]:
    """An argument of a logarithm that can be zero, or below."""
    via = t.get("via")
    if fact.op == "log1p":
        if via is None or via[0] != "neg":
            raise Unfixable("the argument can be far below -1: no epsilon helps there")
        inner = via[1]
        if inner.hi == 1.0 or probability(reading, inner):
            return add(fact, reading, w, t)
        raise Unfixable("the operand can be more than 1: no epsilon helps there")
    if via is not None and via[0] == "div":
        found = _ratio(fact, reading, w, t)
        if found is not None:
            return found
    if t.nonnegative:
        return raise_or_add(fact, reading, w, t)
    if via is not None and via[0] == "sub" and via[1].lo == via[1].hi == 1.0:
        if via[2].hi == 1.0 or probability(reading, via[2]):
            return add(fact, reading, w, t)
    if probability(reading, t):
        return add(fact, reading, w, t)
    if is_target(t):
        return floor(fact, reading, w, t)
    if raw(t) or (via is not None and via[0] in ("sub", "neg")):
        raise Unfixable("the argument can be far below zero, and what a floor catches there does not learn")
    return floor(fact, reading, w, t, safe=False)


def _ratio(fact: Operation, reading: Reading, w: Written, t: T) -> tuple[str, str] | None:
    """``log(a / b)`` as a difference of guarded logarithms."""
    sides = w.sides()
    node = fact.node.at
    if sides is None or not isinstance(node, ast.Call):
        return None
    safe, parts = True, []
    for side, known in zip(sides, t.get("via")[1:], strict=True):
        if "const" in known.tags or "num" in known.tags:
            return None  # a unit of measurement
        text = reading.sum_text(side.at)
        eps = epsilon(fact, known)
        if known.positive:
            parts.append(reading.text(side.at))
        elif known.nonnegative:
            parts.append(f"{text} + {eps}")
        elif raw(known):
            raise Unfixable("a raw output can be far below zero, and what a floor catches there does not learn")
        else:
            safe = safe and is_target(known)
            parts.append(f"{reading.operand_text(side.at)}.clamp(min={eps})")
    reading.plain(node)
    if isinstance(node.func, ast.Attribute) and node.func.value is w.at:
        name, rest = reading.patch.name(reading.function, f"torch.{fact.word}"), ")"
    else:
        name, rest = reading.text(node.func), ")"
        if len(node.args) != 1 or node.keywords:
            return None
    text = f"{name}({parts[0]}{rest} - {name}({parts[1]}{rest}"
    reading.patch.replace(reading.module, node, text if reading.tree.delimited(node) else f"({text})")
    note = "the logarithm of a ratio as a difference of two guarded logarithms"
    if safe:
        return "safe", f"{note}; {KEPT}"
    return "unsafe", f"{note}: finite where it was infinite or NaN; what is below the guard does not learn"


def guarded_root(fact: Operation, reading: Reading, w: Written, t: T) -> tuple[str, str]:
    """A root or a fractional power at 0."""
    if fact.op == "pow":
        exponent = exponent_of(fact.others[0]) if fact.others else None
        if exponent is None or exponent > 1:
            raise Unfixable("the base can be negative, and no epsilon helps a fractional power there")
    if raw(t) and not t.nonnegative:
        raise Unfixable("a raw output can be far below zero, and what a floor catches there does not learn")
    if t.nonnegative or t.act in ("loss", "norm") or (t.get("via") or ("",))[0] == "var":
        return raise_or_add(fact, reading, w, t)
    return floor(fact, reading, w, t)


def raise_or_add(fact: Operation, reading: Reading, w: Written, t: T) -> tuple[str, str]:
    return raise_bound(fact, reading, w, t) or add(fact, reading, w, t)


def guarded_arc(fact: Operation, reading: Reading, w: Written, t: T) -> tuple[str, str]:
    """``acos`` and ``asin`` at -1 and 1."""
    _in_place(reading, w)
    eps = below_one(fact, t)
    note = f"kept `{eps}` away from -1 and 1: the gradient stays finite, and {KEPT}"
    call = reading.call(w)
    if call is not None and not w.named and call.name in ("clamp", "clip"):
        low, high = call.argument(0, "min"), call.argument(1, "max")
        if reading.number(low) in (-1.0, 0.0) and reading.number(high) == 1.0 and low is not None and high is not None:
            if _literal(high.at) and (_literal(low.at) or reading.number(low) == 0.0):
                reading.patch.replace(reading.module, high.at, f"1 - {eps}")
                if reading.number(low) == -1.0:
                    reading.patch.replace(reading.module, low.at, f"-1 + {eps}")
                return "safe", note
    reading.patch.method(reading.module, w.at, f"clamp(-1 + {eps}, 1 - {eps})")
    return "safe", note


def _literal(at: Any) -> bool:
    inner = at.operand if isinstance(at, ast.UnaryOp) else at
    return isinstance(inner, ast.Constant)


def _sum_of_nonnegative(t: T) -> bool:
    via = t.get("via")
    if via is None:
        return False
    if via[0] in ("sum", "mean", "max", "min", "part"):
        return isinstance(via[1], T) and (via[1].nonnegative or _sum_of_nonnegative(via[1]))
    return False


# ---- what a value is


def made_here(w: Written) -> bool:
    """Whether a value is computed in this function and no caller hands in another."""
    return w.node.op in ("call", "bin", "un", "sub")


def counts(t: T) -> bool:
    """Whether a value is a number of elements, and not a sum of weights or a share."""
    via = t.get("via")
    if via is not None and via[0] == "item":
        return counts(via[1])
    if via is None:
        return False
    if via[0] in ("bincount", "histc", "count_nonzero"):
        return True
    if via[0] not in ("sum", "nansum", "cumsum"):
        return False
    return bool(via[1].tags & {"bool", "int"}) or via[1].get("compare") is not None


def raw(t: T, depth: int = 5) -> bool:
    """Whether a value is a network's output, or a sum or difference with one, that may be anything."""
    if t.nonnegative or depth == 0:
        return False
    if t.act == "affine" or "pred" in t.tags:
        return True
    via = t.get("via")
    return via is not None and any(isinstance(p, T) and raw(p, depth - 1) for p in via[1:])


def probability(reading: Reading, t: T) -> bool:
    """Whether the logarithms of a value and of ``1 - value`` are both taken: then it lies between 0 and 1."""
    plain = complement = False
    for node in reading.frame.ir.calls:
        call = reading.call(Written(node.at, node))
        if call is None or call.name not in ("log", "log2", "log10", "log1p"):
            continue
        for operand in reading.tensors(call.operand):
            inner = _less_a_guard(operand)
            via = inner.get("via")
            if call.name == "log1p":
                complement |= via is not None and via[0] == "neg" and same(via[1], t)
            elif via is not None and via[0] == "sub" and via[1].lo == via[1].hi == 1.0:
                complement |= same(via[2], t)
            else:
                plain |= same(inner, t)
    return plain and complement


def _less_a_guard(t: T) -> T:
    via = t.get("via")
    if via is not None and via[0] == "add":
        for one, other in ((via[1], via[2]), (via[2], via[1])):
            if "const" in one.tags or (one.sym and "eps" in one.sym.lower()):
                return _less_a_guard(other)
    return via[1] if via is not None and via[0] == "clamp" else t


def data(t: T) -> bool:
    return is_data(t) and "num" not in t.tags


def _short(at: Any) -> bool:
    return isinstance(at, (ast.Name, ast.Attribute, ast.Subscript))


def _in_place(reading: Reading, w: Written) -> None:
    """``x.sqrt_()`` changes ``x`` and not a sum with it."""
    func = getattr(reading.fact.node.at, "func", None)
    if isinstance(func, ast.Attribute) and func.attr.endswith("_") and func.value is w.at:
        raise Unfixable("the operation changes its operand in place")
