"""# LP205 vanishing-epsilon

## What it does
Finds an epsilon that the number format cannot hold, so that the guard is written and not there: `1e-8` in float16,
`1 - 1e-8` in float32 (the upper end of `clamp(p, 1e-8, 1 - 1e-8)`), `1 - 1e-4` in float16 and bfloat16. In the graph of
a live loss the number format is a fact, whatever made it; an optimizer that is told too has its `eps` looked at.

## Why is this bad
It reads as guarded, passes review as guarded, and divides by zero. Near 0 a format resolves tiny numbers; near 1 it
does not. So the same `1e-8` is a good guard for `log(p)` and none for `log(1 - p)`, and it is gone altogether when
the code moves to half precision.

## Measured
torch 2.13.0, CPU. What becomes of the epsilon:

| epsilon | float32 | float16 | bfloat16 |
|---|---|---|---|
| 1e-4 | kept | kept | kept |
| 1e-7 | kept | 1.2e-7 | kept |
| 1e-8 | kept | **0** | kept |
| 1 - 1e-4 | kept | **1** | **1** |
| 1 - 1e-6 | kept | **1** | **1** |
| 1 - 1e-7 | 1 - 1.2e-7 | **1** | **1** |
| 1 - 1e-8 | **1** | **1** | **1** |

Smallest epsilon that survives: below 1 about 3e-8 in float32, 2.5e-4 in float16, 2e-3 in bfloat16; next to 0 about
3e-8 in float16.

- float16, `1 / (0 + 1e-8)`: **inf**, and `0 / (0 + 1e-8)`: **NaN**. With 1e-3: 999.5.
- float32, cross entropy by hand with `p.clamp(1e-8, 1 - 1e-8)`: at p = 1, target 0 the loss is **inf**; at p = 1,
  target 1, where the model is *right*, it is **NaN** (0 times infinity). At p = 0, target 1: 18.4.
- float32, `log((1 - p) + 1e-8)` is fine: -18.4 at p = 1.

```sh
python -c "
import torch
p = torch.ones(1).clamp(1e-8, 1 - 1e-8)
print((p.log() + (1 - 1) * (1 - p).log()).item())
print((torch.zeros(1).half() / (torch.zeros(1).half() + 1e-8)).item())"
```
```text
nan
nan
```

## Wrong
```python
import torch
from torch import nn


def relative_error(pred, target):
    target = target.half()
    return ((pred - target).abs() / (target.abs() + 1e-8)).mean()


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1)).half()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for x, target in loader:
        optimizer.zero_grad()
        loss = relative_error(model(x.half()).squeeze(1), target)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
from torch import nn


def relative_error(pred, target):
    target = target.float()
    return ((pred.float() - target).abs() / (target.abs() + 1e-3)).mean()


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1)).half()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for x, target in loader:
        optimizer.zero_grad()
        loss = relative_error(model(x.half()).squeeze(1), target)
        loss.backward()
        optimizer.step()
```

## Remedies
- Compute the loss in float32: `.float()` at its door, or `torch.autocast(device_type, enabled=False)` around it.
- Take the epsilon from the format: `torch.finfo(x.dtype).eps`, which is 1.2e-7, 9.8e-4 and 7.8e-3 for the three
  above.
- Add it after the subtraction: `(1 - p) + eps`, not `1 - (p - eps)`.
- Better, leave probabilities out: the fused losses on logits need no epsilon (LP101, LP106).
- `--fix` raises a bound to one that the format holds (`1 - 1e-6` in float32), at its literal, at the default, or as
  `max(eps, 1e-6)`, and adds the epsilon of `1 + eps - p` last. Safe; a larger epsilon in a float16 sum is unsafe.

## When to ignore it
- When the epsilon is there for another format and the code never runs in this one.

## References
- efficientdet-pytorch#291: 1e-8 in half precision. segmentation_models.pytorch#463: sums in half precision.
- Micikevicius and others, *Mixed Precision Training* (2018).
- PyTorch documentation: `torch.finfo`, "Automatic Mixed Precision".
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial
from typing import Any

from lossproof.finding import Finding, Severity
from lossproof.graph.numeric_facts import VanishedEpsilon
from lossproof.rules.guards import BELOW_ONE, EPSILON, KEPT
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import Operation
from lossproof.source.formats import number_format
from lossproof.source.tensor_ops import as_tensor, rounded
from lossproof.source.values import T, number
from lossproof.source.written import Reading, Written

_WORD = {"half": "float16", "bf16": "bfloat16", "": "float32"}


def check(fact: Operation) -> Iterator[Finding]:
    if fact.op == "clamp":
        yield from _clamp(fact)
    elif fact.op == "other" and fact.word in ("minimum", "fmin", "min") and fact.others:
        yield from _smaller(fact)
    elif fact.op == "add":
        for one, other in _sides(fact):
            format = number_format(fact, other)
            if 0 < abs(one) < 0.5 and format in ("half", "bf16") and rounded(one, frozenset({format})) == 0.0:
                yield fact.finding(
                    RULE,
                    f"`{one:.0e}` is 0 in {_WORD[format]}: the epsilon is added and nothing changes",
                    fix=partial(_fix_sum, fact, one, format),
                )
                return
    elif fact.op == "sub":
        left, right = number(fact.operand), as_tensor(fact.others[0])
        if left is None or left == 1.0 or "num" in right.tags:
            return
        format = number_format(fact, right)
        if format is not None and rounded(left, frozenset({format})) == 1.0:
            yield fact.finding(
                RULE,
                f"`1 {'+' if left > 1 else '-'} {abs(left - 1.0):.0e}` is exactly 1 in {_WORD[format]}: the difference "
                "is "
                "still 0 at p = 1; `(1 - p) + eps` keeps the epsilon",
                fix=partial(_fix_difference, fact, abs(left - 1.0), format or ""),
            )


def _clamp(fact: Operation) -> Iterator[Finding]:
    low, high = number(fact.others[0]), number(fact.others[1])
    for t in fact.operands():
        format = number_format(fact, t)
        if format is None:
            continue
        for bound in (high, low):
            if bound is not None and abs(bound) != 1.0 and abs(rounded(bound, frozenset({format}))) == 1.0:
                yield fact.finding(
                    RULE,
                    f"`1 - {1.0 - abs(bound):.0e}` is exactly 1 in {_WORD[format]}: this clamp does not keep the value "
                    "away from 1, and log(1 - p) is still -inf there",
                    fix=partial(_fix_clamp, fact, format),
                )
                return
        if low is not None and low > 0 and rounded(low, frozenset({format})) == 0.0:
            yield fact.finding(
                RULE,
                f"`{low:.0e}` is 0 in {_WORD[format]}: this clamp does not keep the value above zero",
                fix=partial(_fix_clamp, fact, format),
            )
            return


def _smaller(fact: Operation) -> Iterator[Finding]:
    """``torch.minimum(p, torch.full_like(p, 1 - 1e-8))``"""
    sides = (as_tensor(fact.operand), as_tensor(fact.others[0]))
    for bound, t in (sides, sides[::-1]):
        if bound.lo is None or bound.lo != bound.hi or abs(bound.lo) == 1.0 or "num" in t.tags:
            continue
        format = number_format(fact, t)
        if format is not None and rounded(bound.lo, frozenset({format})) == 1.0:
            yield fact.finding(
                RULE,
                f"`1 - {1.0 - bound.lo:.0e}` is exactly 1 in {_WORD[format]}: this minimum does not keep the value "
                "away from 1, and log(1 - p) is still -inf there",
            )
            return


# ---- fixes


def _fix_sum(fact: Operation, epsilon: float, format: str, patch: Patch) -> tuple[str, str]:
    """``x + eps`` in a format in which eps is 0."""
    reading = Reading(fact, patch)
    sides = reading.whole().sides()
    if sides is None:
        raise Unfixable("the epsilon does not stand in a sum")
    held = EPSILON[format]
    for side in sides:
        if reading.number(side) == epsilon:
            _raise(reading, side, held)
            return "unsafe", f"the epsilon becomes `{held}`, which {_WORD[format]} holds: small values change by it"
    raise Unfixable("the epsilon does not stand in the sum")


def _fix_difference(fact: Operation, epsilon: float, format: str, patch: Patch) -> tuple[str, str]:
    """``1 + eps - p`` becomes ``1 - p + eps``."""
    reading = Reading(fact, patch)
    sides = reading.whole().sides()
    inner = sides[0].sides() if sides is not None and sides[0].node.args[:1] == ("+",) else None
    if sides is None or inner is None or sides[0].named:
        raise Unfixable("the epsilon stands elsewhere")
    for one, other in (inner, inner[::-1]):
        if reading.number(one) == 1.0:
            vanishes = rounded(epsilon, frozenset({format})) == 0.0
            text = EPSILON[format] if vanishes else reading.text(other.at)
            reading.plain(sides[0].at)
            patch.put(reading.module, *reading.tree.outside(reading.tree.span(sides[0].at)), reading.text(one.at))
            _, end = reading.tree.outside(reading.tree.span(sides[1].at))
            patch.put(reading.module, end, end, f" + {text}")
            return "safe", "the epsilon is added after the difference, where it is not rounded away"
    raise Unfixable("the epsilon stands elsewhere")


def _fix_clamp(fact: Operation, format: str, patch: Patch) -> tuple[str, str]:
    """Bounds that round to 0, 1 or -1 become bounds that do not."""
    reading = Reading(fact, patch)
    call = reading.call(reading.whole())
    if call is None:
        raise Unfixable("the bounds are not written at this place")
    low, high = call.argument(0, "min"), call.argument(1, "max")
    if call.name.startswith("clamp_max"):
        low, high = None, call.argument(0, "max")
    changed = False
    for bound in (low, high):
        value = reading.number(bound)
        if bound is None or value is None:
            continue
        tags = frozenset({format})
        if abs(value) != 1.0 and abs(rounded(value, tags)) == 1.0:
            _off_one(reading, bound, value, BELOW_ONE[format])
            changed = True
        elif value > 0 and rounded(value, tags) == 0.0:
            _raise(reading, bound, EPSILON[format])
            changed = True
    if not changed:
        raise Unfixable("the bounds are not written at this place")
    return "safe", f"a bound that {_WORD[format]} holds; {KEPT}"


def _off_one(reading: Reading, bound: Written, value: float, held: str) -> None:
    """``1 - 1e-8`` becomes ``1 - 1e-6``."""
    sides = bound.sides()
    if sides is None or bound.named:
        if isinstance(bound.at, (ast.Name, ast.Attribute)) or (sides is None and not _literal(bound.at)):
            text = (
                f"min({reading.text(bound.at)}, 1 - {held})"
                if value > 0
                else f"max({reading.text(bound.at)}, -1 + {held})"
            )
            _builtin(reading, text[:3])
            reading.put(bound.at, text)
            return
        reading.put(bound.at, f"1 - {held}" if value > 0 else f"-1 + {held}")
        return
    for side in sides:
        number_of = reading.number(side)
        if number_of is not None and 0.0 < abs(number_of) < 0.5:
            _raise(reading, side, held)
            return
    raise Unfixable("the bound is written in a way that is not understood")


def _raise(reading: Reading, written: Written, held: str) -> None:
    """A larger epsilon: the literal itself, the default that nobody else reads otherwise, or the larger of the two."""
    if _literal(written.at):
        reading.put(written.at, held)
        return
    definition = _definition(reading, written)
    if definition is not None:
        reading.patch.replace(reading.module, definition, held)
        return
    _builtin(reading, "max")
    reading.put(written.at, f"max({reading.text(written.at)}, {held})")


def _definition(reading: Reading, written: Written) -> ast.Constant | None:
    """The default that a parameter has, if all that is done with it is to add it or to clamp with it."""
    at = written.at
    arguments = getattr(reading.function.node, "args", None)
    if not isinstance(at, ast.Name) or not isinstance(arguments, ast.arguments) or reading.scope.bindings(at.id):
        return None
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = list(zip(reversed(positional), reversed(arguments.defaults), strict=False))
    pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None]
    default = next((d for a, d in pairs if a.arg == at.id), None)
    if not isinstance(default, ast.Constant) or default.value != reading.number(written):
        return None
    served = all(_as_epsilon(reading.tree, use) for use in reading.scope.loads.get(at.id, []))
    return default if served else None


def _as_epsilon(tree: Any, use: ast.Name) -> bool:
    parent = tree.parent(use)
    if isinstance(parent, ast.UnaryOp):
        parent = tree.parent(parent)
    if isinstance(parent, ast.keyword):
        return parent.arg in ("min", "max")
    if isinstance(parent, ast.BinOp):
        return isinstance(parent.op, (ast.Add, ast.Sub))
    called = parent.func if isinstance(parent, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr.rstrip("_") in ("clamp", "clip", "clamp_min", "clamp_max")


def _literal(at: Any) -> bool:
    inner = at.operand if isinstance(at, ast.UnaryOp) else at
    return isinstance(inner, ast.Constant)


def _builtin(reading: Reading, name: str) -> None:
    if name in reading.tree.bound_in(reading.function) or name in reading.module.top | reading.module.imports.keys():
        raise Unfixable(f"the name `{name}` means something else here")


def _sides(fact: Operation) -> list[tuple[float, T]]:
    left, right = fact.operand, fact.others[0]
    found = []
    for constant, other in ((number(left), right), (number(right), left)):
        if constant is not None:
            found.append((constant, as_tensor(other)))
    return found


def audit(fact: VanishedEpsilon) -> Iterator[Finding]:
    if fact.form != "bound" and not fact.sensitive:
        return
    if fact.form == "optimizer" and fact.count is not None:
        yield fact.finding(
            RULE,
            f"`eps={fact.epsilon:.0e}` of {fact.optimizer} is 0 in {fact.dtype}, the format of {fact.count.found} of "
            "its parameters: where a squared gradient underflows, the step divides 0 by 0 and the weight is NaN",
            hint="keep the parameters in float32 and compute under autocast, or raise eps to 1e-4",
        )
        return
    if fact.form == "bound":
        written = f"`1 - {fact.epsilon:.0e}` is exactly 1" if fact.became else f"`{fact.epsilon:.0e}` is 0"
        kept = "1" if fact.became else "0"
        there = f"; {fact.count.of('value')} there now{fact.count.at}" if fact.count and fact.count.found else ""
        message = f"{written} in {fact.dtype}: this clamp does not keep values away from {kept}{there}"
    elif fact.form == "difference":
        written = f"1 {'+' if fact.epsilon > 0 else '-'} {abs(fact.epsilon):.0e}"
        message = f"`{written}` is exactly 1 in {fact.dtype}: the difference is still 0 at 1; `(1 - p) + eps` keeps it"
    elif fact.epsilon:
        message = f"`{fact.epsilon:.0e}` is 0 in {fact.dtype}: the epsilon is added and nothing changes"
    else:
        count = fact.count
        still = f"{count.of('operand')} still 0 behind the addition{count.at}" if count else "the operand is still 0"
        message = f"{still}: what was added is 0 in {fact.dtype}"
    yield fact.finding(RULE, message, severity=None if fact.sensitive else Severity.WARNING)


RULE = Rule(
    code="LP205",
    name="vanishing-epsilon",
    severity=Severity.ERROR,
    summary="An epsilon that the number format rounds away: the guard is written and not there.",
    hint="compute the loss in float32, or take the epsilon from torch.finfo(x.dtype).eps",
    page=__doc__ or "",
    evidence="vanishing-epsilon",
    facts="operation",
    check=check,
    graph="vanished-epsilon",
    audit=audit,
)
