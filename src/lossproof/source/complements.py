"""What is counted and what is not: ``(y > 0.5).sum()`` beside ``(y <= 0.5).sum()`` is never zero as well."""

from __future__ import annotations

from lossproof.source.tensor_ops import holding, same
from lossproof.source.values import T

_OPPOSITE = {">": "<=", "<=": ">", "<": ">=", ">=": "<", "==": "!=", "!=": "=="}


def count_everything(one: T, other: T) -> bool:
    """Whether two sums count a selection and the rest of it, so that together they count every element."""
    a, b = one.get("via"), other.get("via")
    if a is None or b is None or a[0] not in ("sum", "cumsum") or b[0] not in ("sum", "cumsum"):
        return False
    if not isinstance(a[1], T) or not isinstance(b[1], T):
        return False
    return _rest(a[1], b[1]) or _rest(b[1], a[1]) or _opposite(a[1], b[1])


def _rest(one: T, other: T) -> bool:
    """``x`` and ``1 - x``, or ``~x``."""
    via = other.get("via")
    if via is None:
        return False
    if via[0] == "sub":
        return bool(via[1].lo == via[1].hi == 1.0) and same(via[2], one)
    return via[0] == "not" and isinstance(via[1], T) and same(via[1], one)


def _opposite(one: T, other: T) -> bool:
    """``x > t`` and ``x <= t``; the two labels of a binary target, ``y == 1`` and ``y == 0``."""
    a, b = holding(one, True), holding(other, True)
    if len(a) != 1 or len(b) != 1:
        return False
    (op, left, right, truth), (op2, left2, right2, truth2) = a[0], b[0]
    if not same(left, left2):
        return False
    op = op if truth else _OPPOSITE.get(op, "")
    op2 = op2 if truth2 else _OPPOSITE.get(op2, "")
    exact = right.lo is not None and right2.lo is not None and right.lo == right.hi and right2.lo == right2.hi
    if op == op2 == "==" and exact:
        return {right.lo, right2.lo} in ({0.0, 1.0}, {-1.0, 1.0})
    alike = same(right, right2) or (exact and right.lo == right2.lo)
    return alike and _OPPOSITE.get(op) == op2
