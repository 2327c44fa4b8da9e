"""# LP401 focal-alpha-blind-to-class

## What it does
Finds a focal loss whose `alpha` is one number that multiplies every element, whatever its class: `alpha * (1 - pt) **
gamma * ce`.

`audit` reads the number from the graph of a live loss, wherever it came from.

## Why is this bad
`alpha` is there to balance the classes: `alpha` for a positive, `1 - alpha` for a negative, or one number for each
class.
The same number in front of everything is a constant in front of the loss. It moves the learning rate, not the
balance,
and a search over `alpha` compares seeds.

## Measured
torch 2.13.0, CPU. 4,950 negatives, 50 positives, logistic regression, 300 steps of Adam, `gamma=2`; how many
positives are
found:

| `alpha` | one for all | `alpha` and `1 - alpha` |
|---|---|---|
| 0.25 | 2 % | 0 % |
| 0.75 | 2 % | 20 % |
| 0.95 | **2 %** | **52 %** |

With one for all the bias came out as -2.1991 each time. A search over 4 alphas and 5 gammas trains 20 different models
with an alpha for each class and 5 with one for all. The gradients of the two settings are one another's multiples:

```sh
python -c "
import torch, torch.nn.functional as F
y = torch.tensor([1.0, 0.0])
for alpha in (0.25, 0.75):
    z = torch.zeros(2, requires_grad=True)
    ce = F.binary_cross_entropy_with_logits(z, y, reduction='none')
    (alpha * (1 - torch.exp(-ce)) ** 2 * ce).mean().backward()
    print(alpha, round(float(z.grad[0] / z.grad[1]), 3))"
```
```text
0.25 -1.0
0.75 -1.0
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


class FocalLoss(nn.Module):
    def __init__(self, alpha=0.25, gamma=2.0):
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits, target):
        ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        pt = torch.exp(-ce)
        return (self.alpha * (1 - pt) ** self.gamma * ce).mean()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


class FocalLoss(nn.Module):
    def __init__(self, alpha=0.25, gamma=2.0):
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits, target):
        ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        pt = torch.exp(-ce)
        alpha_t = self.alpha * target + (1 - self.alpha) * (1 - target)
        return (alpha_t * (1 - pt) ** self.gamma * ce).mean()
```

## Remedies
- Two classes: `alpha_t = alpha * y + (1 - alpha) * (1 - y)`.
- Many classes: a tensor with a weight for each class, picked by the target: `alpha[target]`.
- Or drop `alpha`. Focusing does most of the work; measure whether anything is left for it to do.
- `--fix` writes `alpha * y + (1 - alpha) * (1 - y)` for two classes, where the labels are at hand (unsafe).

## When to ignore it
- When the number is meant as a weight of this loss among others. Then call it so, or apply it after the mean: neither
  is
  reported.

## References
- Lin and others, *Focal Loss for Dense Object Detection* (2017), section 3: `alpha_t` is defined as `p_t` is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from lossproof.finding import Finding, Severity
from lossproof.graph.objective_facts import FocalTerm
from lossproof.rules.imbalance.places import hop_of, shown
from lossproof.rules.imbalance.terms import ELSEWHERE, assigned, loads, product_of, within
from lossproof.rules.loop.places import known_at, simple
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import FocalLoss, Setting
from lossproof.source.frames import Frame
from lossproof.source.syntax import Function, dotted
from lossproof.source.values import T, alternatives

if TYPE_CHECKING:
    from typing import TypeGuard


def check(fact: FocalLoss) -> Iterator[Finding]:
    for scale in fact.scales:
        if scale.value is not None and not 0 < abs(scale.value) < 1e6:
            continue
        if scale.value is not None and abs(scale.value) == 1:
            continue
        amount = shown(scale.value) if scale.value is not None else "one number"
        name = f"`{scale.name}`" if scale.name else "the factor"
        yield fact.finding(
            RULE,
            f"{name} ({amount}) multiplies every element of the focal loss, whatever its class: it only rescales the "
            "loss and balances nothing",
            hops=(hop_of(scale.place, "chosen here"),),
            confidence="proven" if scale.value is not None and not scale.default else "likely",
            fix=partial(_fix, fact, scale),
        )
        return


_REDUCES = {"mean", "sum", "nanmean", "nansum"}


def _fix(fact: FocalLoss, scale: Setting, patch: Patch) -> tuple[str, str]:
    if scale.used is None or scale.used[0].function is not fact.frame.function:
        raise Unfixable(ELSEWHERE)
    frame = scale.used[0]
    function = frame.function
    found = [at for at in _mentions(function, scale.name) if _is_factor(patch, function, at)]
    if len(found) == 2 and _two_terms(patch, function, found):
        return "unsafe", f"the other class is weighed with one minus `{scale.name}`"
    target = _target(fact, frame, patch)
    if len(found) != 1:
        raise Unfixable(f"`{scale.name}` is not one factor of one term")
    at = found[0]
    module = function.module
    if not _by_element(fact, patch, function, at):
        raise Unfixable(f"`{scale.name}` is applied to the mean, where the classes are not told apart any more")
    y, alpha = patch.operand(module, target), patch.text(module, at)
    if not known_at(patch, function, target, at, at):
        raise Unfixable("the target is not known where the factor is applied")
    text = f"{alpha} * {y} + (1 - {alpha}) * (1 - {y})"
    patch.replace(module, at, text if _alone(patch, function, at) else f"({text})")
    return "unsafe", f"positives are weighed with `{scale.name}`, negatives with one minus that"


def _target(fact: FocalLoss, frame: Frame, patch: Patch) -> Any:
    """The labels of a binary loss, as they are handed to it."""
    found: dict[str, Any] = {}
    many = False
    for node in frame.ir.calls:
        call = node.at
        if not isinstance(call, ast.Call):
            continue
        kinds = {v.get("loss") for _, v in alternatives(fact.ev.value(frame, node)) if isinstance(v, T)}
        many = many or bool(kinds & {"ce", "nll"})
        name = dotted(call.func).rpartition(".")[2]
        if not kinds & {"bce", "bce_logits"} or name in _REDUCES or not within(frame.function, call):
            continue
        at = call.args[1] if len(call.args) > 1 else next((k.value for k in call.keywords if k.arg == "target"), None)
        if at is not None:
            found[patch.text(frame.function.module, at)] = at
    if not found and (many or "softmax" in frame.function.module.source):
        raise Unfixable("one number cannot tell many classes apart: it takes a weight for each, picked by the target")
    if len(found) != 1:
        raise Unfixable("the labels of the loss are not at hand")
    at = next(iter(found.values()))
    bare = at
    while isinstance(bare, ast.Call) and isinstance(bare.func, ast.Attribute) and bare.func.attr in ("float", "to"):
        bare = bare.func.value
    if not simple(bare):
        raise Unfixable("the labels of the loss have no name")
    return at


def _mentions(function: Function, name: str) -> list[Any]:
    found: list[Any] = list(loads(function, name))
    for part in ast.walk(function.node):
        if isinstance(part, ast.Attribute) and part.attr == name and isinstance(part.ctx, ast.Load) and simple(part):
            found.append(part)
    return found


def _is_factor(patch: Patch, function: Function, at: Any) -> bool:
    tree = patch.tree(function.module)
    outer = tree.parent(at)
    if isinstance(outer, ast.UnaryOp) and isinstance(outer.op, ast.USub):
        outer = tree.parent(outer)
    if isinstance(outer, ast.BinOp):
        return isinstance(outer.op, ast.Mult)
    if isinstance(outer, ast.AugAssign):
        return isinstance(outer.op, ast.Mult) and outer.value is at
    return isinstance(outer, ast.Call) and (
        dotted(outer.func).rpartition(".")[2] or getattr(outer.func, "attr", "")
    ) in ("mul", "multiply", "mul_")


def _alone(patch: Patch, function: Function, at: Any) -> bool:
    return isinstance(patch.tree(function.module).parent(at), (ast.AugAssign, ast.Call))


def _by_element(fact: FocalLoss, patch: Patch, function: Function, at: Any) -> bool:
    """Whether the factor is applied to each element, not to what a reduction has made of them."""
    whole = product_of(patch, function, at)
    tree = patch.tree(function.module)
    outer = tree.parent(whole)
    if isinstance(outer, ast.AugAssign) and isinstance(outer.target, ast.Name):
        parts = [s.value for s in ast.walk(function.node) if _gives(s, outer.target.id)]
    else:
        parts = [whole]
        for name in {n.id for n in ast.walk(whole) if isinstance(n, ast.Name)}:
            behind = assigned(function, name)
            statement = patch.statement(function.module, whole)
            gives = [s for s in ast.walk(function.node) if _gives(s, name) and s is not statement]
            if behind is not None or gives:
                parts += [s.value for s in gives]
    calls = [c for part in parts for c in ast.walk(part) if isinstance(c, ast.Call)]
    if any((dotted(c.func).rpartition(".")[2] or getattr(c.func, "attr", "")) in _REDUCES for c in calls):
        return False
    reached = {n for part in parts for n in ast.walk(part)}
    return fact.node.at in reached or any(
        isinstance(n, ast.Name) and (s := assigned(function, n.id)) is not None and _holds(s.value, fact.node.at)
        for n in reached
    )


def _gives(statement: Any, name: str) -> TypeGuard[ast.Assign]:
    return isinstance(statement, ast.Assign) and any(
        isinstance(t, ast.Name) and t.id == name for t in statement.targets
    )


def _holds(at: Any, wanted: Any) -> bool:
    return any(n is wanted for n in ast.walk(at))


def _two_terms(patch: Patch, function: Function, found: list[Any]) -> bool:
    """``-alpha * (1 - p) ** g * y * log(p)`` and ``-alpha * p ** g * (1 - y) * log(1 - p)``"""
    factors = [_factors(product_of(patch, function, at)) for at in found]
    for one, other, at in ((*factors, found[1]), (*factors[::-1], found[0])):
        labels = [ast.dump(f) for f in one if simple(f)]
        for factor in other:
            if isinstance(factor, ast.BinOp) and isinstance(factor.op, ast.Sub) and ast.dump(factor.right) in labels:
                if isinstance(factor.left, ast.Constant) and factor.left.value == 1:
                    module = function.module
                    patch.replace(module, at, f"(1 - {patch.text(module, at)})")
                    return True
    return False


def _factors(at: Any) -> list[Any]:
    if isinstance(at, ast.BinOp) and isinstance(at.op, ast.Mult):
        return [*_factors(at.left), *_factors(at.right)]
    return _factors(at.operand) if isinstance(at, ast.UnaryOp) else [at]


def audit(fact: FocalTerm) -> Iterator[Finding]:
    if fact.scale is not None and fact.elements > 1:
        yield fact.finding(
            RULE,
            f"one number, {abs(fact.scale):.4g}, multiplies all {fact.elements} elements of the focal loss, whatever "
            "their class: it only rescales the loss and balances nothing",
        )


RULE = Rule(
    code="LP401",
    name="focal-alpha-blind-to-class",
    severity=Severity.WARNING,
    summary="One alpha multiplies every class of a focal loss alike: it rescales the loss and balances nothing.",
    hint="alpha_t = alpha * y + (1 - alpha) * (1 - y), or a weight for each class picked by the target",
    page=__doc__ or "",
    evidence="focal-alpha",
    facts="focal",
    check=check,
    graph="focal-term",
    audit=audit,
)
