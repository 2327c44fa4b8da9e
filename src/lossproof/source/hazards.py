"""Whether an arithmetic step is taken where it can go wrong, and why.

``hazard`` joins an operation with the edge of its domain. A test that was made before (``if mask.any():``,
``if n == 0: return``) is a guard as good as a clamp.
"""

from __future__ import annotations

from typing import Any

from lossproof.source import domain
from lossproof.source.evaluate import children
from lossproof.source.facts import Fact, Operation
from lossproof.source.investigate import NO_GRADIENT
from lossproof.source.lower import Guard, Node
from lossproof.source.syntax import dotted
from lossproof.source.tensor_ops import MASK_NAME, PROBABILITIES, as_tensor, same
from lossproof.source.values import T, Value, alternatives, number


def hazard(fact: Operation) -> tuple[T, str] | None:
    """The operand and the reason why this step can go non-finite (in value or in gradient)."""
    check = {
        "div": domain.zero_reason,
        "log": domain.nonpositive_reason,
        "log1p": below_minus_one,
        "sqrt": domain.root_reason,
        "rsqrt": inverse_root_reason,
        "acos": at_the_end_of_the_arc,
    }.get(fact.op)
    if fact.op == "pow":
        check = power_check(fact.others[0] if fact.others else None)
    if check is None:
        return None
    operands = fact.operands()
    guarded = len(operands) > 1 and any("clamped" in t.tags and check(t) is None for t in operands)
    for t in operands:
        if guarded and t.get("via") is None:
            continue  # a flag chooses between the bare value and its guarded self, and may choose the loss too
        reason = check(t) if not t.get("lost") else None  # an epsilon that vanished is LP205's
        if reason is None and fact.op == "div" and fact.others and domain.shared_area(t, as_tensor(fact.others[0])):
            reason = domain.EMPTY_BOXES
        if reason is None:
            continue
        if _chosen_elsewhere(t):
            continue
        if fact.op == "div" and (_python_only(t) or (t.get("via") is None and _named_setting(fact))):
            continue
        if not tested(fact, t) and not frozen(fact):
            return t, reason
    return None


def _chosen_elsewhere(t: T) -> bool:
    """Targets picked by a mask that the caller made: it most likely says which of them are valid."""
    mask = t.get("masked")
    if not isinstance(mask, T) or mask.get("compare") is not None or mask.get("via") is not None:
        return False
    return domain.is_target(t)


def _named_setting(fact: Operation) -> bool:
    """A denominator of which nothing is known but that its name says that it is a count or a scale."""
    at = fact.operand_node.at if fact.operand_node is not None else None
    if fact.op == "div" and fact.node.op == "bin":
        at = fact.node.at.right if hasattr(fact.node.at, "right") else at
    name = getattr(at, "id", None) or getattr(at, "attr", None) or ""
    return domain.is_setting_name(name)


def left_to_callers(fact: Operation) -> bool:
    """Whether a caller alone can tell what a step is taken of: what a network made that was handed in, which power."""
    if fact.op == "pow" and fact.others:
        exponent = fact.others[0]
        if isinstance(exponent, T) and (exponent.lo is None or exponent.lo != exponent.hi):
            return True
    return any(_made_by_a_parameter(t, 6) for t in fact.operands())


def _made_by_a_parameter(t: T, depth: int) -> bool:
    if t.lo is not None and t.positive:
        return False
    via = t.get("via")
    if via is not None:
        return depth > 0 and any(isinstance(p, T) and _made_by_a_parameter(p, depth - 1) for p in via[1:])
    called = t.get("called")
    return isinstance(called, T) and called.get("param") is not None and not t.act


def frozen(fact: Fact) -> bool:
    """Whether a step is taken with gradients off: a target or a weight is computed there, not the loss."""
    frame: Any = fact.frame
    node: Any = fact.node
    while frame is not None and node is not None:
        if any(d.rpartition(".")[2] in NO_GRADIENT for d in frame.function.decorators):
            return True
        guard: Guard | None = node.guard
        while guard is not None:
            test = guard.test
            if guard.polarity is None and test is not None and test.op == "call" and hasattr(test.at, "func"):
                if dotted(test.at.func).rpartition(".")[2] in NO_GRADIENT:
                    return True
            guard = guard.parent
        site = frame.base().site
        frame, node = site if site is not None else (None, None)
    return False


def power_check(exponent: Value | None) -> Any:
    """A fractional power below 1 is a root; one above 1 needs a base that is not negative."""
    e = exponent_of(exponent)
    if e is None or e == int(e):
        return domain.zero_reason if e is not None and e < 0 else None
    if e < 0:
        return inverse_root_reason
    if e < 1:
        return root_or_negative
    return negative_reason


def exponent_of(exponent: Value | None) -> float | None:
    """A number that stands for the exponent: itself, or one of several that are all fractions below 1."""
    if exponent is None:
        return None
    several = [v for _, v in alternatives(exponent)]
    numbers = [number(v) for v in several]
    if len(numbers) == 1 and isinstance(several[0], T):
        t = several[0]
        inside = t.lo is not None and t.hi is not None and t.lo > 0.0 and t.hi < 1.0
        return t.lo if inside else None
    if any(n is None for n in numbers):
        return None
    known = [n for n in numbers if n is not None]
    if len(known) == 1 or all(0.0 < n < 1.0 for n in known):
        return known[0]
    return None


def inverse_root_reason(t: T) -> str | None:
    """A variance is no argument of a logarithm, but people do divide by its root."""
    via = t.get("via")
    if via is not None and via[0] == "var":
        return domain.root_reason(t)
    return domain.nonpositive_reason(t)


def root_or_negative(t: T) -> str | None:
    return domain.root_reason(t) or negative_reason(t)


def negative_reason(t: T) -> str | None:
    if t.nonnegative or t.tags & {"num", "guarded", "filled"}:
        return None
    if domain.can_be_negative(t) and not domain.is_target(t):
        return "it can be negative: the power of a negative number is NaN"
    if t.act == "affine":
        return "a raw output can be negative"
    via = t.get("via")
    if via is not None and via[0] == "sub" and t.lo is None and domain.is_data(t):
        return "the difference can be negative"
    return None


def below_minus_one(t: T) -> str | None:
    if t.lo is not None and (t.lo > -1 or (t.lo == -1 and t.lo_open)):
        return None
    via = t.get("via")
    if t.act == "affine" and via is None:
        return "a raw output can be below -1"
    if via is not None and via[0] == "neg" and via[1].hi is None and not via[1].act and domain.is_data(via[1]):
        return "it reaches -1 where the operand is 1"
    if via is not None and via[0] == "neg":
        inner = via[1]
        if inner.hi is not None and inner.hi == 1 and not inner.hi_open and domain.is_data(inner):
            return "it reaches -1 at the end of its range"
    return None


def at_the_end_of_the_arc(t: T) -> str | None:
    inside = t.lo is not None and t.hi is not None and t.lo > -1 and t.hi < 1
    if inside or "num" in t.tags or t.tags & {"filled", "numpy"}:
        return None
    if t.lo is not None and t.hi is not None and (t.lo_open or t.lo > -1) and (t.hi_open or t.hi < 1):
        return None
    if domain.is_target(t):
        return None
    if t.lo == -1.0 or t.hi == 1.0 or t.act in ("affine", "cosine"):
        return "the derivative is infinite at -1 and 1"
    return "the derivative is infinite at -1 and 1" if domain.is_data(t) else None


def _python_only(t: T) -> bool:
    return "num" in t.tags and not t.tags & {"count", "item"}


def tested(fact: Fact, value: T) -> bool:
    """Whether a test on the way to this step speaks of the value, or of what it was counted from."""
    kin = _kin(value)
    frame: Any = fact.frame
    node: Any = fact.node
    while frame is not None and node is not None:
        guard: Guard | None = node.guard
        while guard is not None:
            if guard.polarity is not None and guard.test is not None and _speaks_of(fact, frame, guard.test, kin):
                return True
            guard = guard.parent
        site = frame.base().site
        frame, node = site if site is not None else (None, None)
    return False


def _kin(value: T) -> list[T]:
    """The value and what it is computed from, a few steps back."""
    found, layer = [value], [value]
    for _ in range(4):
        following: list[T] = []
        for t in layer:
            for key in ("via", "compare"):
                parts = t.get(key)
                if parts is not None:
                    following.extend(p for p in parts[1:] if isinstance(p, T) and "const" not in p.tags)
        found.extend(following)
        layer = following[:8]
    return found[:24]


def _speaks_of(fact: Fact, frame: Any, test: Node, kin: list[T]) -> bool:
    stack, seen = [test], 0
    while stack and seen < 40:
        node = stack.pop()
        seen += 1
        if _of_form(node):
            continue
        if node.op not in ("const", "func", "class", "import"):
            for _, v in alternatives(fact.ev.value(frame, node)):
                if isinstance(v, T) and (v.sym or v.info or v.act) and any(_alike(v, k) for k in kin):
                    return True
        stack.extend(children(node))
    return False


_FORM = {"dim", "ndimension", "ndim", "isinstance", "is_cuda", "device", "dtype", "requires_grad", "is_tensor"}


def _of_form(node: Node) -> bool:
    """``x.dim() == y.dim()``, ``x.shape == y.shape``: what form a tensor has says nothing of its elements."""
    if node.op == "cmp":
        return all(_word(side) in {"shape", "size"} for side in (node.args[1], *node.args[2]))
    return _word(node) in _FORM


def _word(node: Node) -> str:
    """The attribute, or the function, that is asked."""
    func = node.args[0] if node.op == "call" and not (node.args[1] and node.args[0].op == "attr") else node
    return str(func.args[1] if func.op == "attr" else func.args[0] if func.op == "name" else "")


def _alike(a: T, b: T) -> bool:
    if a is b or same(a, b):
        return True
    # ``self.weight`` tested, ``self.weight`` used: two reads of one attribute.
    return bool(a.sym) and a.sym == b.sym


def is_mask(t: T) -> bool:
    """A tensor of zeros and ones that selects elements by the data (not by what was predicted)."""
    if "bool" in t.tags:
        compare = t.get("compare")
        if compare is not None and any(
            p.act or "pred" in p.tags or "detached" in p.tags or _confidence(p) for p in compare[1:]
        ):
            return False
        return "detached" not in t.tags and "pred" not in t.tags and "num" not in t.tags
    name = t.sym.rpartition(".")[2]
    return bool(name) and MASK_NAME.search(name) is not None and not t.act


def _confidence(t: T, depth: int = 4) -> bool:
    """What is made of a probability: a mask of it chooses by what was predicted."""
    via = t.get("via")
    if t.act in PROBABILITIES:
        return True
    return via is not None and depth > 0 and any(isinstance(p, T) and _confidence(p, depth - 1) for p in via[1:])


def mask_in(t: T, through_sums: bool = True) -> T | None:
    """The mask that a product carries; a probability times a mask is an overlap, not a masked loss."""
    via = t.get("via")
    if via is None:
        return None
    if via[0] == "mul":
        for side, other in ((via[1], via[2]), (via[2], via[1])):
            if isinstance(side, T) and is_mask(side) and not is_mask(other):
                if other.act in PROBABILITIES:
                    return None
                compare = side.get("compare")
                if compare is not None and any(same(p, other) for p in compare[1:] if isinstance(p, T)):
                    return None  # x * (x > 0) is a ReLU
                return side
        for side in via[1:]:
            if isinstance(side, T):
                found = mask_in(side, through_sums)
                if found is not None:
                    return found
    if via[0] in ("sum", "mean") and not through_sums:
        return None
    if via[0] in ("abs", "square", "pow", "sum", "div", "neg", "mean"):
        inner = via[1]
        return mask_in(inner, through_sums) if isinstance(inner, T) else None
    return None


def selected(t: T, depth: int = 5) -> bool:
    """Whether only some elements were selected by a mask (``x[mask]``)."""
    if t.get("masked"):
        return True
    via = t.get("via")
    if via is None or depth == 0 or via[0] in _NOT_BY_ELEMENT:
        return False
    return any(isinstance(p, T) and selected(p, depth - 1) for p in via[1:])


def selecting(t: T, depth: int = 6) -> list[T]:
    """The masks by which the elements of a value were selected."""
    mask = t.get("masked")
    if isinstance(mask, T):
        return [mask]
    via = t.get("via")
    if via is None or depth == 0 or via[0] in _NOT_BY_ELEMENT:
        return []
    return [m for p in via[1:] if isinstance(p, T) for m in selecting(p, depth - 1)]


def occurs(mask: T) -> bool:
    """``labels == one_of_the_labels``: what was found by iterating over the values is there."""
    compare = mask.get("compare")
    return (
        compare is not None and compare[0] == "==" and any(isinstance(p, T) and p.get("element") for p in compare[1:])
    )


_NOT_BY_ELEMENT = ("sum", "mean", "max", "min", "norm", "matmul", "dot", "linear", "bmm", "mm")


__all__ = [
    "as_tensor",
    "frozen",
    "hazard",
    "is_mask",
    "left_to_callers",
    "mask_in",
    "occurs",
    "selected",
    "selecting",
    "tested",
]
