"""# LP404 focal-out-of-range

## What it does
Finds settings of a focal loss, of the project's own or of a library's, that defeat it: `gamma` 0, `gamma` of 5 and
more,
`gamma` between 0 and 1 where `1 - pt` can be zero, a negative `gamma`, and an `alpha` outside of 0 to 1 that leaves a
class
with no weight or a negative one.

`audit` counts: the elements at `pt` = 1, and those that keep less than a hundredth of their loss.

## Why is this bad
With `gamma` 0 the loss is a plain cross entropy. From 5 on, even an element at `p` = 0.5 keeps 3 % of its loss: only
the
most wrong elements train, which are the mislabelled ones too. Below 1 the derivative of `(1 - pt) ** gamma` at `pt` =
1 is
infinite, and times zero it is NaN: the first perfectly classified element destroys the weights. Below 0 the easy
elements
are what is trained on.

## Measured
torch 2.13.0, CPU. Loss and gradient of one element at logit 0 (`p` = 0.5), 2 (0.88) and 20 (1):

| `gamma` | loss at 0 | loss at 2 | gradient at 2 | gradient at 20 |
|---|---|---|---|---|
| 0 | 0.693 | 0.127 | -0.119 | 0 |
| 0.5 | 0.490 | 0.044 | -0.060 | **NaN** |
| 2 | 0.173 | 0.0018 | -0.0049 | 0 |
| 5 | 0.022 | 0.000003 | **-0.00002** | 0 |

- With the base kept away from zero the gradient of `gamma` 0.5 at logit 20 is -2.1e-12.
- Of 10,000 elements 2 % carry a wrong label. They hold 8 % of the gradient at `gamma` 0, 18 % at 2, 32 % at 5.
- Where 95 % of the elements are easy (`p` > 0.9) they hold 68 % of the gradient of a cross entropy and 3.3 % with
  `gamma` 2; where 11 % are easy, 0.7 % and 0.0 %: there is nothing to focus.
- scikit-learn's digits, "is it an 8?", F1 on held-out digits: with 12 eights among some 1,200 class weights reach 0.78
  and the better of two focal losses 0.54; with 120 eights 0.66 and 0.83.

```sh
python -c "
import torch
z = torch.tensor([20.0], requires_grad=True)
p = torch.sigmoid(z)
(-(1 - p) ** 0.5 * torch.log(p)).sum().backward()
print(z.grad)"
```
```text
tensor([nan])
```

## Wrong
```python
from torchvision.ops import sigmoid_focal_loss


def detection_loss(logits, target):
    return sigmoid_focal_loss(logits, target, alpha=0.25, gamma=0, reduction="mean")
```

## Right
```python
from torchvision.ops import sigmoid_focal_loss


def detection_loss(logits, target):
    return sigmoid_focal_loss(logits, target, alpha=0.25, gamma=2, reduction="mean")
```

## Remedies
- `gamma` between 1 and 3; 2 is the paper's. No focusing wanted: write the cross entropy.
- A fraction below 1: keep the base away from zero, `(1 - pt).clamp(min=1e-6) ** gamma`.
- `alpha` between 0 and 1, both excluded; `None` (torchvision: -1) for none.
- `--fix` keeps the base of a fractional `gamma` away from zero (safe). Other settings are for you to choose.

## When to ignore it
- When a search over `gamma` starts at 0 on purpose. A value that comes from a list is not reported.

## References
- Lin and others, *Focal Loss for Dense Object Detection* (2017), table 1: `gamma` 0 to 5.
- kornia, issue 918: the NaN gradient of a fractional `gamma`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lossproof.finding import Finding, Severity
from lossproof.graph.objective_facts import FocalTerm
from lossproof.rules.imbalance.places import place_of, shown
from lossproof.rules.imbalance.terms import base_of
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch
from lossproof.source.facts import Fact, FocalCall, FocalLoss, Setting
from lossproof.source.values import Hop

SILENT_FROM = 5.0


def check(fact: FocalLoss | FocalCall) -> Iterator[Finding]:
    guarded = fact.guarded if isinstance(fact, FocalLoss) else fact.guards
    for setting in fact.settings:
        if setting.value is None:
            continue
        if setting.name == "alpha" and isinstance(fact, FocalCall):
            said = _alpha(setting.value, fact.two_sided)
        elif isinstance(fact, FocalLoss) and not fact.alone and setting.value >= 0:
            continue  # two exponents: one class may be left as it is
        else:
            said = _gamma(setting.value, guarded)
        if said is not None:
            yield _finding(fact, setting, *said)
    if isinstance(fact, FocalLoss):
        yield from _balance(fact)


def _balance(fact: FocalLoss) -> Iterator[Finding]:
    for setting in fact.balances:
        if setting.value is None or 0 < setting.value < 1 or setting.value == -1:
            continue
        value, other = shown(setting.value), shown(1 - setting.value)
        if setting.value in (0, 1):
            said = f"alpha is {value}: one class gets the weight 0 and is not trained on at all"
        else:
            said = f"alpha is {value}: the classes get the weights {value} and {other}, and one is pushed the wrong way"
        yield _finding(fact, setting, said, Severity.ERROR)


def _gamma(gamma: float, guarded: bool) -> tuple[str, Severity] | None:
    value = shown(gamma)
    if gamma == 0:
        return f"gamma is {value}: nothing is focused, the loss is a plain cross entropy", Severity.WARNING
    if gamma < 0:
        return f"gamma is {value}: the easy elements weigh most and the hard ones least", Severity.ERROR
    if gamma < 1 and not guarded:
        return (
            f"gamma is {value}: the gradient of `(1 - pt) ** {value}` is NaN as soon as one element is classified "
            "perfectly",
            Severity.ERROR,
        )
    if gamma >= SILENT_FROM:
        kept = f"{100 * 0.5**gamma:.2g}"
        return (
            f"gamma is {value}: even an undecided element (p = 0.5) keeps {kept} % of its loss, so only the most wrong "
            "ones, mislabelled ones among them, train",
            Severity.WARNING,
        )
    return None


def _alpha(alpha: float, two_sided: bool) -> tuple[str, Severity] | None:
    value = shown(alpha)
    if not two_sided or 0 < alpha < 1 or alpha == -1:
        return None
    if alpha > 1:
        return (
            f"alpha is {value}: negatives get the weight {shown(1 - alpha)} and are pushed the wrong way",
            Severity.ERROR,
        )
    if alpha < 0:
        return f"alpha is {value}: positives get a negative weight and are pushed the wrong way", Severity.ERROR
    side = "positives" if alpha == 0 else "negatives"
    return f"alpha is {value}: {side} get the weight 0 and are not trained on at all", Severity.ERROR


def _finding(fact: Fact, setting: Setting, message: str, severity: Severity) -> Finding:
    place = place_of(setting.place, fact)
    applied = Hop(fact.module, fact.node.at, "the focal loss uses it here")
    fractional = isinstance(fact, FocalLoss) and setting.value is not None and 0 < setting.value < 1
    fix = partial(_fix, fact) if fractional else None
    return fact.finding(RULE, message, place=place, hops=(applied,), severity=severity, fix=fix)


def _fix(fact: Fact, patch: Patch) -> tuple[str, str]:
    module = fact.module
    base = base_of(fact.node.at)
    tree = patch.tree(module)
    span = tree.span(base)
    outside = tree.outside(span)
    if outside != span:
        patch.put(module, outside[1], outside[1], ".clamp(min=1e-6)")
    else:
        patch.method(module, base, "clamp(min=1e-6)")
    return "safe", "what is raised is kept away from zero, where the gradient is infinite"


def audit(fact: FocalTerm) -> Iterator[Finding]:
    said = _measured(fact)
    if said is not None and (fact.alone or fact.gamma < 0 or 0 < fact.gamma < 1):
        yield fact.finding(RULE, said[0], severity=said[1])


def _measured(fact: FocalTerm) -> tuple[str, Severity] | None:
    gamma, elements = fact.gamma, fact.elements
    if 0 < gamma < 1:
        if not fact.sure:
            return None  # a guard may keep it from ever reaching 0, and here none does
        return (
            f"gamma is {shown(gamma)}: {fact.sure} of {elements} elements are classified perfectly (`1 - pt` is 0), "
            f"where the gradient of `(1 - pt) ** {shown(gamma)}` is NaN",
            Severity.ERROR,
        )
    found = _gamma(gamma, False)
    if found is None or gamma < SILENT_FROM:
        return found
    return f"{found[0]}; here {fact.silenced} of {elements} elements keep less than 1 %", found[1]


RULE = Rule(
    code="LP404",
    name="focal-out-of-range",
    severity=Severity.WARNING,
    summary="A focal loss with settings that do not focus, silence almost everything, or give a NaN gradient.",
    hint="gamma between 1 and 3 (2 is usual), alpha between 0 and 1",
    page=__doc__ or "",
    evidence="focal-gamma",
    facts="focal focal_call",
    check=check,
    graph="focal-term",
    audit=audit,
)
