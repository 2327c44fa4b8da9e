"""# LP201 unguarded-division

## What it does
Finds a division in a training loss whose denominator the data can make zero: a target, a sum over a mask, a count of
positives, a norm, an area. In the graph of a live loss (`lossproof.audit`) it counts the denominators that are 0, names
their rows, and warns where a few that are almost 0 carry nearly all of the gradient.

## Why is this bad
One zero among a million elements makes the mean infinite or NaN, and the gradient of every weight with it. It works
until the first image without an object, the first day with no sale, the first fully padded row. A denominator that is
merely small does the same damage more quietly: that one element is the whole gradient.

## Measured
torch 2.13.0, CPU. `((pred / target - 1) ** 2).mean()`, predictions 1, targets (1, 2, t):

| t | loss | gradient of the third element |
|---|---|---|
| 1e-3 | 332,667 | 666,000 |
| 1e-8 | 3.3e15 | 6.7e15 |
| 0 | **inf** | **inf** |
| 0, prediction 0 | **NaN** | **NaN** |

One zero in 1,000,000 targets: loss inf, and inf for the one weight that all elements share. Adding 1e-8 to a
denominator that is zero gives the line "1e-8" of the table: finite, and useless. Among 1,000 targets that one element
has 100.0 % of the gradient. Neither a lower rate nor clipping helps: after one step with a NaN gradient as many weights
are NaN at a rate of 1e-12 as at 0.1, and `clip_grad_norm_` turns one infinity among 2,000 gradients into a NaN and
1,999 zeros. The floor has to be on the scale of the data; with `target.abs().clamp(min=1.0)` the same case costs 0.42.

```sh
python -c "
import torch
pred = torch.ones(3, requires_grad=True)
loss = ((pred / torch.tensor([1.0, 2.0, 0.0]) - 1) ** 2).mean()
loss.backward()
print(loss.item(), pred.grad[2].item())"
```
```text
inf inf
```

## Wrong
```python
import torch
from torch import nn


def relative_error(pred, target):
    ratio = pred / target
    return (ratio - 1).pow(2).mean()


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, demand in loader:
        optimizer.zero_grad()
        loss = relative_error(model(x).squeeze(1), demand)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
from torch import nn


def relative_error(pred, target):
    scale = target.abs().clamp(min=1.0)
    return ((pred - target) / scale).pow(2).mean()


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, demand in loader:
        optimizer.zero_grad()
        loss = relative_error(model(x).squeeze(1), demand)
        loss.backward()
        optimizer.step()
```

## Remedies
- A floor on the denominator, on the scale of the data: `clamp(min=...)` for what is positive, `abs().clamp(min=...)`
  else.
- A count: `mask.sum().clamp(min=1)`.
- Overlap losses: a smoothing constant in numerator *and* denominator, so that two empty masks give 0 loss.
- Vectors: `F.normalize` or `F.cosine_similarity`, which hold an epsilon.
- Or leave the row out before the division (`pred[target != 0]`), not after it: see LP206.
- A guard hides bad data. Count what it caught, and log it.
- `--fix` gives a count a floor of 1, adds an epsilon to what cannot be negative, and leaves an exact zero out (the
  quotient is 0 there) where the sign is not known or an error is made relative to its target: divided by an epsilon,
  one such element would outweigh all others. Safe. It leaves raw outputs alone.

## When to ignore it
- When the denominator cannot be zero and the reason is outside the code (a validated data set, a positive physical
  quantity). An assertion at loading time is better than a comment.
- Sizes, lengths and constants are not reported, nor what is guarded by `if`, by `.any()` or by construction.

## References
- torchcv#35: a batch without positives.
- pytorch/pytorch#4132: a mask that was applied after the division.
- PyTorch documentation: `torch.clamp`, `torch.nn.functional.normalize`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lossproof.finding import Finding, Severity
from lossproof.graph.numeric_facts import AtTheEdge, percent
from lossproof.rules.guards import guarded_divisor
from lossproof.rules.registry import Rule
from lossproof.source.domain import RARE, is_target
from lossproof.source.edits import Patch
from lossproof.source.facts import Operation
from lossproof.source.hazards import hazard, mask_in
from lossproof.source.tensor_ops import as_tensor, same
from lossproof.source.values import T, number
from lossproof.source.written import Reading


def check(fact: Operation) -> Iterator[Finding]:
    if fact.op != "div" and not (fact.op == "pow" and _whole_and_negative(fact)):
        return
    found = hazard(fact)
    if found is None:
        return
    t, reason = found
    if _mean_of_a_mask(fact, t):
        return  # LP304 says it better
    if _share_of(fact, t):
        return
    divisor = fact.quoted() or "a value"
    yield fact.finding(
        RULE,
        f"division by {divisor}, which data can make zero ({reason}): one such element makes the loss infinite or NaN",
        confidence="proven" if t.lo == 0.0 and reason not in RARE else "likely",
        severity=Severity.WARNING if reason in RARE else None,
        at=fact.node.at,
        fix=partial(_fix, fact, t, reason),
    )


def _fix(fact: Operation, t: T, reason: str, patch: Patch) -> tuple[str, str]:
    reading = Reading(fact, patch)
    return guarded_divisor(fact, reading, reading.operand(), t, reason)


def _whole_and_negative(fact: Operation) -> bool:
    """``x ** -1``, ``x ** -2``; of a fraction LP203 speaks."""
    exponent = number(fact.others[0]) if fact.others else None
    return exponent is not None and exponent < 0 and exponent == int(exponent)


def _share_of(fact: Operation, t: T) -> bool:
    """``p / p.sum(-1, keepdim=True)``: who writes this of a prediction has one that sums to something."""
    via = t.get("via")
    if via is None or via[0] != "sum" or not fact.others or not isinstance(via[1], T):
        return False
    known = via[1].act or via[1].get("via") is not None or is_target(via[1])
    return not known and same(as_tensor(fact.others[0]), via[1])


def _mean_of_a_mask(fact: Operation, denominator: T) -> bool:
    """``(x * mask).sum() / mask.sum()``"""
    via = denominator.get("via")
    if via is None or via[0] != "sum" or not fact.others:
        return False
    mask = mask_in(as_tensor(fact.others[0]))
    return mask is not None and same(mask, via[1])


def audit(fact: AtTheEdge) -> Iterator[Finding]:
    if fact.function not in ("div", "std") or fact.told:
        return
    count = fact.count
    if fact.function == "std":
        result = "the loss is NaN" if not fact.loss else "its gradient is NaN"
        yield fact.finding(
            RULE,
            f"a standard deviation or variance over {fact.closest:g} element divides by 0 degrees of freedom: {result}",
            hint="leave single elements out, or pass correction=0",
        )
        return
    if fact.near:
        yield fact.finding(
            RULE,
            f"{count.of('denominator')} next to 0, the smallest {fact.closest:.1e}{count.at}: "
            f"{'it carries' if count.found == 1 else 'they carry'} {percent(fact.share)} of this division's gradient",
            severity=Severity.WARNING,
            confidence="likely",
        )
        return
    what = "0" if fact.closest == 0 else f"so small ({fact.closest:.1e}) that the quotient or its slope overflows"
    cost = "the loss is finite and its gradient is infinite or NaN" if fact.loss else "the loss is infinite or NaN"
    yield fact.finding(RULE, f"{count.of('denominator')} {what}{count.at}: {cost}")


RULE = Rule(
    code="LP201",
    name="unguarded-division",
    severity=Severity.ERROR,
    summary="A denominator that data can make zero: one such element makes the whole loss infinite or NaN.",
    hint="put a floor under the denominator, on the scale of the data: clamp(min=...)",
    page=__doc__ or "",
    evidence="zero-denominator",
    facts="operation",
    check=check,
    graph="at-the-edge",
    audit=audit,
)
