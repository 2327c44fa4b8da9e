"""Guards for operations at the edge of their domain: which epsilon, and where it goes.

A sum (``x + eps``) keeps the gradient at the edge alive, and is right where the operand cannot be negative. Where its
sign is not known a floor (``clamp(min=eps)``) is finite everywhere and leaves all else as it was.
"""

from __future__ import annotations

import ast
from typing import Any

from lossproof.source.domain import is_data, is_target, used_as_tensor
from lossproof.source.edits import Unfixable
from lossproof.source.evaluate import children
from lossproof.source.facts import Operation
from lossproof.source.formats import FULL, number_format
from lossproof.source.hazards import exponent_of
from lossproof.source.tensor_ops import same
from lossproof.source.values import T, alternatives
from lossproof.source.written import Reading, Written, binds_late, repeatable

# 1e-7 is a number in float16, also where nobody sees that autocast makes it one; its reciprocal is not.
EPSILON = {"half": "1e-4", "bf16": "1e-6", "": "1e-7"}
# Inside of a root an epsilon shows as its root: 1e-12 is 1e-6 at 0, with a gradient of 500,000.
ROOT_EPSILON = {"half": "1e-7", "bf16": "1e-12", "": "1e-12"}
# The smallest distance from 1 that a format holds, with room.
BELOW_ONE = {"half": "1e-3", "bf16": "1e-2", "": "1e-6"}
KEPT = "moderate values stay as they are"


def epsilon(fact: Operation, t: T) -> str:
    """A number that is more than zero in the format of a value."""
    kind = number_format(fact, t) or ""
    if fact.op in ("sqrt", "rsqrt", "pow"):
        exponent = exponent_of(fact.others[0]) if fact.op == "pow" and fact.others else None
        if exponent is None or exponent > -0.6:
            return ROOT_EPSILON[kind]
    return "1e-8" if not kind and _in_full(t) else EPSILON[kind]


def _in_full(t: T, depth: int = 4) -> bool:
    """Whether a value comes from an operation that autocast computes in float32."""
    via = t.get("via")
    if via is None or depth == 0 or t.tags & {"half", "bf16"}:
        return False
    if via[0] in FULL:
        return True
    parts = [p for p in via[1:] if isinstance(p, T) and "const" not in p.tags]
    return bool(parts) and all(_in_full(p, depth - 1) for p in parts)


def below_one(fact: Operation, t: T) -> str:
    return BELOW_ONE[number_format(fact, t) or ""]


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


def _rewritable(reading: Reading, w: Written, at: Any) -> bool:
    try:
        reading.plain(at)
        if not (repeatable(w.at) and _short(w.at)):
            reading.hoistable(w.at)
    except Unfixable:
        return False
    return True


def left_out(reading: Reading, w: Written, at: Any) -> tuple[str, str]:
    """No quotient where the denominator is exactly 0: an epsilon there would make one element outweigh all others."""
    where = reading.patch.name(reading.function, "torch.where")
    reading.plain(at)
    if repeatable(w.at) and _short(w.at):
        name = reading.text(w.at)
    else:
        statement = reading.hoistable(w.at)
        name = reading.has("denominator")
        reading.patch.insert_before(reading.module, statement, f"{name} = {reading.text(w.at)}")
    span = reading.tree.outside(reading.tree.span(w.at)) if isinstance(at, ast.BinOp) else reading.tree.span(w.at)
    divided = reading.spliced(at, span, f"{where}({name} == 0, 1.0, {name})")
    reading.put(at, f"{where}({name} == 0, 0.0, {divided})")
    return "safe", "0 where the denominator is 0, and no division there: the gradient is finite"


# ---- by operation


def guarded_divisor(fact: Operation, reading: Reading, w: Written, t: T, reason: str) -> tuple[str, str]:
    """A denominator that data can make zero."""
    waits(t)
    if raw(t):
        raise Unfixable("a raw output passes through zero: no epsilon keeps the quotient small there")
    if counts(t) and made_here(w):
        return count_floor(reading, w, t)
    if "num" in t.tags and made_here(w) and t.nonnegative:
        return python_floor(reading, w, epsilon(fact, t))
    at = fact.node.at
    relative = isinstance(at, ast.BinOp) and isinstance(at.op, ast.Div) and _element_of_target(t)
    relative = relative and not (t.nonnegative and not _rewritable(reading, w, at))
    if not relative and (t.nonnegative or reason.startswith("the union") or _sum_of_nonnegative(t)):
        return add(fact, reading, w, t)
    if not data(t):
        raise Unfixable("the sign of the denominator is not known")
    serves_callers(reading, w)
    if isinstance(at, ast.BinOp) and isinstance(at.op, ast.Div):
        return left_out(reading, w, at)
    return away_from_zero(fact, reading, w, t)


def guarded_logarithm(fact: Operation, reading: Reading, w: Written, t: T) -> tuple[str, str]:
    """An argument of a logarithm that can be zero, or below."""
    waits(t)
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
    chosen = _chosen_after(fact, reading, w)
    if chosen is not None:
        return chosen
    if raw(t) or (via is not None and via[0] in ("sub", "neg")):
        raise Unfixable("the argument can be far below zero, and what a floor catches there does not learn")
    return floor(fact, reading, w, t, safe=False)


def _chosen_after(fact: Operation, reading: Reading, w: Written) -> tuple[str, str] | None:
    """``where(valid, log(x), 0)``: only what is chosen is computed, whatever the mask knows of ``x``."""
    at, tree = fact.node.at, reading.tree
    place = tree.parent(at)
    while place is not None and not isinstance(place, ast.stmt):
        if isinstance(place, ast.Call) and ast.unparse(place.func) == "torch.where" and len(place.args) == 3:
            break
        place = tree.parent(place)
    if not isinstance(place, ast.Call) or not _elementwise(reading, at, place):
        return None
    condition, yes, no = place.args
    in_yes, in_no = _within(reading, at, yes), _within(reading, at, no)
    if in_yes == in_no or not repeatable(condition) or not _short(condition):
        return None
    reading.plain(w.at)
    text, shown = reading.text(w.at), reading.text(condition)
    pair = f"{text}, 1.0" if in_yes else f"1.0, {text}"
    reading.put(w.at, f"{reading.patch.name(reading.function, 'torch.where')}({shown}, {pair})")
    return "safe", "the argument is made harmless where it is not chosen: the value is the same, the gradient finite"


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
    waits(t)
    if fact.op == "pow":
        exponent = exponent_of(fact.others[0]) if fact.others else None
        if exponent is None or exponent > 1:
            raise Unfixable("the base can be negative, and no epsilon helps a fractional power there")
    if raw(t) and not t.nonnegative:
        raise Unfixable("a raw output can be far below zero, and what a floor catches there does not learn")
    if t.nonnegative or t.act in ("loss", "norm") or (t.get("via") or ("",))[0] == "var":
        return _moved_inside(fact, reading, w, t) or raise_or_add(fact, reading, w, t)
    return floor(fact, reading, w, t)


def _moved_inside(fact: Operation, reading: Reading, w: Written, t: T) -> tuple[str, str] | None:
    """``sqrt(x) + 1e-8`` becomes ``sqrt(x + 1e-8)``."""
    root, tree = fact.node.at, reading.tree
    outer = tree.parent(root)
    if not (isinstance(outer, ast.BinOp) and isinstance(outer.op, ast.Add) and outer.left is root):
        return None
    eps = outer.right
    known = isinstance(eps, ast.Constant) and isinstance(eps.value, float) and 0.0 < eps.value <= 1e-4
    if not known or fact.op not in ("sqrt", "pow"):
        return None
    start, end = tree.outside(tree.span(root))[1], tree.outside(tree.span(eps))[1]
    if "\n" in tree.between(start, end):
        return None
    _in_place(reading, w)
    reading.guard(w.at, epsilon(fact, t))
    reading.patch.put(reading.module, start, end, "")
    return "safe", f"the epsilon goes inside of the root, where it bounds the gradient; {KEPT}"


def raise_or_add(fact: Operation, reading: Reading, w: Written, t: T) -> tuple[str, str]:
    return raise_bound(fact, reading, w, t) or add(fact, reading, w, t)


def guarded_arc(fact: Operation, reading: Reading, w: Written, t: T) -> tuple[str, str]:
    """``acos`` and ``asin`` at -1 and 1."""
    waits(t)
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


# ---- guards that come too late

# An argument at which nothing can go wrong, and whose result the guard replaces anyway.
_HARMLESS = {"acos": "0.0", "log1p": "0.0"}
_CASTS = {"float", "double", "half", "long", "int", "to", "type", "type_as"}
_ELEMENTWISE = {
    "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "abs", "pow", "exp", "mul", "neg", "clamp", "float", "square",
    "div", "add", "sub", "reciprocal", "acos", "asin", "arccos", "arcsin", "where", "masked_fill", "nan_to_num",
}  # fmt: skip


def guarded_before(
    late: Reading, fact: Operation, reading: Reading, inner: Operation, t: T, reason: str
) -> tuple[str, str]:
    """The argument of an operation is made harmless by the condition of the guard that comes behind it."""
    w = reading.operand()
    _in_place(reading, w)
    test = _condition(late, fact, inner)
    if test is None:
        return _by_its_own(fact, reading, inner, w, t, reason)
    condition, chosen, tensor = test
    if inner.frame.base() is not fact.frame.base():
        raise Unfixable("the operation stands in another function than its guard")
    if not _elementwise(reading, inner.node.at, fact.node.at):
        raise Unfixable("what comes between the operation and its guard is not done element by element")
    place = fact.node.at
    if not _within(reading, inner.node.at, place):
        if not _only_into(reading, inner.node.at, place):
            raise Unfixable("what is guarded later is used elsewhere too")
        condition = _earlier(late, condition, inner.node.at, place)
    if not repeatable(condition.at):
        raise Unfixable("the condition is not kept under a name")
    if fact.op in ("late", "select") and fact.node.op != "call" and not same(_tested(late, condition), t):
        raise Unfixable("the condition may have another shape than the operand")
    harmless = _HARMLESS.get(inner.op, "1.0")
    reading.plain(w.at)
    text, shown = reading.text(w.at), late.text(condition.at)
    if tensor:
        receiver = reading.operand_text(w.at)
        reading.put(w.at, f"{receiver}.masked_fill({shown}, {harmless[0]})")
    else:
        where = reading.patch.name(reading.function, "torch.where")
        pair = f"{text}, {harmless}" if chosen else f"{harmless}, {text}"
        reading.put(w.at, f"{where}({shown}, {pair})")
    return "safe", "the argument is made harmless before the operation: the value is the same, the gradient finite"


def _condition(late: Reading, fact: Operation, inner: Operation) -> tuple[Written, bool, bool] | None:
    """The test of a guard, whether the operation counts where it is true, and whether it is a ``masked_fill``."""
    at, node = fact.node.at, fact.node
    w = late.whole()
    if fact.op == "where":
        call = late.call(w)
        yes = call.argument(0, "input", "self") if call is not None else None
        no = call.argument(1, "other") if call is not None else None
        if call is None or yes is None or no is None:
            raise Unfixable("the guard is written in a way that is not understood")
        if _finds_nan(call.operand.at, late):
            return None
        in_yes, in_no = _comes_from(late, inner, yes), _comes_from(late, inner, no)
        if in_yes == in_no:
            raise Unfixable("it is not clear which branch the operation stands in")
        return _boolean(late, call.operand), in_yes, False
    if fact.op == "late" and isinstance(at, ast.Call):
        call = late.call(w)
        if call is None or not call.name.startswith("masked_fill"):
            return None
        mask = call.argument(0, "mask")
        if mask is None or call.name.endswith("_"):
            raise Unfixable("the guard is written in a way that is not understood")
        return None if _finds_nan(mask.at, late) else (_boolean(late, mask), False, True)
    if fact.op == "mask" and isinstance(at, ast.BinOp):
        sides = w.sides()
        assert sides is not None
        for mask, other in (sides, sides[::-1]):
            if _comes_from(late, inner, other) and not _comes_from(late, inner, mask):
                return _boolean(late, mask), True, False
    if isinstance(at, ast.Subscript):
        key = Written(at.slice, node.args[1])
        if _finds_nan(key.at, late):
            return None
        return _boolean(late, key), fact.op == "select", False
    raise Unfixable("the guard is written in a way that is not understood")


def _by_its_own(fact: Operation, reading: Reading, inner: Operation, w: Written, t: T, reason: str) -> tuple[str, str]:
    """What replaces every NaN says nothing of where it comes from: the operation is guarded for itself."""
    waits(t)
    kind = "unsafe" if fact.op == "select" or fact.word == "nanmean" else "safe"
    if inner.op == "div":
        at = inner.node.at
        if isinstance(at, ast.AugAssign) or (isinstance(at, ast.Call) and _changes_in_place(at)):
            raise Unfixable("the division changes its operand in place")
        serves_callers(reading, w)
        return kind, left_out(reading, w, at)[1]
    if inner.op in ("log", "rsqrt"):
        if not repeatable(w.at):
            raise Unfixable("the argument is not kept under a name")
        if any(isinstance(part, ast.Div) for part in ast.walk(w.at)):
            raise Unfixable("the quotient inside has a NaN of its own")
        where = reading.patch.name(reading.function, "torch.where")
        text = reading.text(w.at)
        shown = f"({text})" if binds_late(w.at) else text
        reading.put(w.at, f"{where}({shown} > 0, {text}, 1.0)")
        return kind, "nothing is computed of what is not above 0: the gradient is finite there"
    if inner.op == "acos":
        return guarded_arc(inner, reading, w, t)
    return guarded_root(inner, reading, w, t)


def _changes_in_place(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr.endswith("_")


def _boolean(reading: Reading, w: Written) -> Written:
    """A condition without the cast that made a factor of it."""
    for _ in range(3):
        behind = w.behind() if w.named else w
        call = reading.call(behind) if behind is not None else None
        if call is None or not call.method or call.name not in _CASTS:
            break
        w = call.operand
    if not all("bool" in t.tags for t in reading.tensors(w)) or not reading.tensors(w):
        raise Unfixable("the mask is not known to be one of true and false")
    return w


def _finds_nan(at: Any, reading: Reading) -> bool:
    """Whether a test looks for NaN or infinity in what came out."""
    stack, seen = [at], set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, (ast.Name, ast.Attribute)) and getattr(node, "id", getattr(node, "attr", "")) in _NAN_TESTS:
            return True
        if isinstance(node, ast.Compare) and ast.dump(node.left) == ast.dump(node.comparators[0]):
            return True
        if isinstance(node, ast.Name):
            for statement in reading.scope.bindings(node.id):
                parent = reading.tree.parent(statement)
                if isinstance(parent, ast.Assign):
                    stack.append(parent.value)
        else:
            stack.extend(ast.iter_child_nodes(node))
    return False


_NAN_TESTS = {"isnan", "isinf", "isfinite", "isneginf", "isposinf"}


def _comes_from(reading: Reading, inner: Operation, w: Written) -> bool:
    stack, seen = [w.node], 0
    while stack and seen < 200:
        node = stack.pop()
        seen += 1
        if node is inner.node:
            return True
        name = node.args[0].args[-1] if node.op == "call" and node.args[0].op in ("attr", "name", "free") else ""
        if name not in _SHAPE_ONLY:
            stack.extend(children(node))
    return False


# What takes a shape from its argument and nothing else.
_SHAPE_ONLY = {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "size"}


def _tested(reading: Reading, w: Written) -> T | None:
    for t in reading.tensors(w):
        compare = t.get("compare")
        if compare is not None:
            return next((p for p in compare[1:] if isinstance(p, T) and "const" not in p.tags), None)
    return None


def _within(reading: Reading, at: Any, outer: Any) -> bool:
    while at is not None:
        if at is outer:
            return True
        at = reading.tree.parent(at)
    return False


def _elementwise(reading: Reading, at: Any, place: Any) -> bool:
    """Whether all that is done to a value in its statement is done to each element for itself."""
    outer = reading.tree.parent(at)
    while outer is not None and outer is not place and not isinstance(outer, ast.stmt):
        if isinstance(outer, ast.Call):
            name = outer.func.attr if isinstance(outer.func, ast.Attribute) else getattr(outer.func, "id", "")
            if name not in _ELEMENTWISE:
                return False
        elif not isinstance(outer, (ast.BinOp, ast.UnaryOp, ast.Attribute)):
            return False
        outer = reading.tree.parent(outer)
    return True


def _only_into(reading: Reading, at: Any, place: Any) -> bool:
    """Whether what is computed at one place goes into a later one and nowhere else."""
    for _ in range(4):
        statement = reading.patch.statement(reading.module, at)
        if _within(reading, at, place):
            return True
        if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1):
            return False
        name = statement.targets[0]
        if not isinstance(name, ast.Name) or reading.scope.seen_inside(name.id):
            return False
        after = (statement.end_lineno or 0, statement.end_col_offset or 0)
        loads = [n for n in reading.scope.loads.get(name.id, ()) if (n.lineno, n.col_offset) >= after]
        guard = reading.patch.statement(reading.module, place)
        rebound = _rebinds(guard, name.id)
        loads = [
            n for n in loads if not (rebound and (n.lineno, n.col_offset) > (place.end_lineno, place.end_col_offset))
        ]
        outside = [n for n in loads if not _within(reading, n, place)]
        if not outside:
            return bool(loads)
        statements = {id(reading.patch.statement(reading.module, n)) for n in outside}
        if len(statements) != 1 or len(outside) != len(loads) or not _elementwise(reading, outside[0], place):
            return False
        at = outside[0]
    return False


def _rebinds(statement: Any, name: str) -> bool:
    """``h = where(…, h, 0)``, ``h[mask] = 0``: who reads the name later reads what was guarded."""
    for target in getattr(statement, "targets", ()):
        root = target
        while isinstance(root, ast.Subscript):
            root = root.value
        if isinstance(root, ast.Name) and root.id == name:
            return True
    return False


def _earlier(reading: Reading, condition: Written, at: Any, place: Any) -> Written:
    """A condition in a form that can be evaluated at an earlier place."""
    w: Written | None = condition
    for _ in range(3):
        if w is None:
            break
        try:
            reading.scope.unchanged(w.at, at, place)
            return w
        except Unfixable:
            w = w.behind() if w.named else None
            w = _boolean(reading, w) if w is not None else None
    raise Unfixable("the condition cannot be had before the operation")


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


def waits(t: T, depth: int = 5) -> None:
    """Refuse to put a second guard beside one that is there and was rounded away."""
    via = t.get("via")
    if t.get("vanished") or t.get("was") is not None or t.get("lost"):
        raise Unfixable("there is an epsilon that is rounded away: that one is to be mended (LP205)")
    for part in via[1:] if via is not None and depth else ():
        if isinstance(part, T):
            waits(part, depth - 1)


def made_here(w: Written) -> bool:
    """Whether a value is computed in this function and no caller hands in another."""
    return w.node.op in ("call", "bin", "un", "sub")


def serves_callers(reading: Reading, w: Written) -> None:
    """Refuse what only a tensor can do where a caller may hand over a number of Python's."""
    if w.node.op != "param":
        return
    function, name = reading.function, w.node.args[0]
    if function.cls is not None or used_as_tensor(function, name):
        return
    frames = reading.ev.oracle.entered(function) if reading.ev.oracle is not None else []
    handed = [v for frame in frames for _, v in alternatives(reading.ev.value(frame, w.node))]
    if any(not isinstance(v, T) or "num" in v.tags for v in handed):
        raise Unfixable("a caller hands over a number and not a tensor")
    if not handed and not any(target == "torch" for target, _, _ in reading.module.imports.values()):
        raise Unfixable("it is not known whether every caller hands over a tensor")


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


def _element_of_target(t: T) -> bool:
    """``y`` or ``y.abs()``, by which an error is made relative."""
    via = t.get("via")
    while via is not None and via[0] in ("abs", "square", "pow", "part") and isinstance(via[1], T):
        t = via[1]
        via = t.get("via")
    return via is None and is_target(t) and "num" not in t.tags


def data(t: T) -> bool:
    return is_data(t) and "num" not in t.tags


def _short(at: Any) -> bool:
    return isinstance(at, (ast.Name, ast.Attribute, ast.Subscript))


def _in_place(reading: Reading, w: Written) -> None:
    """``x.sqrt_()`` changes ``x`` and not a sum with it."""
    func = getattr(reading.fact.node.at, "func", None)
    if isinstance(func, ast.Attribute) and func.attr.endswith("_") and func.value is w.at:
        raise Unfixable("the operation changes its operand in place")
