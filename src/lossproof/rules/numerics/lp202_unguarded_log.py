"""# LP202 unguarded-log

## What it does
Finds a logarithm in a training loss of something that can be zero or negative: a raw model output, `a - b`,
`(a - b).abs()`, a ratio, `1 - p`. In the graph of a live loss it counts the operands that are 0 or below, with the
lowest and the rows.

## Why is this bad
`log(0)` is minus infinity with an infinite gradient; `log` of a negative number is NaN. A regression head has no
reason to stay positive, least of all at the start of training, and an absolute difference is exactly zero where the
model is exactly right. One element is enough to lose the run.

## Measured
torch 2.13.0, CPU.

| expression | at | value | gradient |
|---|---|---|---|
| `-log(p)` | p = 0 | inf | -inf |
| `-log(p)` | p = -0.001 | **NaN** | finite: +1,000, and it drives p *further down* |
| `log(abs(a - b))` | a = b | -inf | **NaN** |
| `log(1 - p.clamp(1e-8, 1 - 1e-8))` | p = 1 | -inf (`1 - 1e-8` is 1 in float32) | -inf |
| `log(1 - p.clamp(1e-6, 1 - 1e-6))` | p = 1 | -13.8 | 0: the clamp stops it |

A guard also changes what is learned: a clamp has gradient 0 for every element that it catches. Of 512 free numbers
under `log(z.clamp(min=1e-6))` the clamp caught half, and all of those stood where they stood after 400 steps; with
softplus none did. Where rows share a network the others drag them along: of 74 % that were caught at first none was at
the end. And `log(pred / target).mean()` is no loss even with guards: it has a sign. At pred = 0.01, 1e-6 and 1e-20
for target 1 it is -4.6, -13.8 and -46.1, lower and lower as the prediction gets worse. Its square is 21.2 at 0.01 and
190.9 at 1e-6.

```sh
python -c "
import torch
for v in (0.0, -0.001):
    p = torch.tensor([v], requires_grad=True)
    loss = -p.log().sum()
    loss.backward()
    print(loss.item(), round(p.grad.item()) if v else p.grad.item())"
```
```text
inf -inf
nan 1000
```

## Wrong
```python
import torch
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, log_depth in loader:
        optimizer.zero_grad()
        depth = model(x).squeeze(1)
        loss = (torch.log(depth) - log_depth).abs().mean()
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, log_depth in loader:
        optimizer.zero_grad()
        depth = F.softplus(model(x).squeeze(1)) + 1e-3
        loss = (torch.log(depth) - log_depth).abs().mean()
        loss.backward()
        optimizer.step()
```

## Remedies
- Let the model predict the logarithm. Then no logarithm is taken at all, and none can fail.
- Make the argument positive by construction: `softplus(x) + eps`, `exp(x)`, `x ** 2 + eps`.
- A ratio: subtract two logarithms of guarded values, and square the result or take its absolute value.
- A probability: the fused forms of LP106.
- A clamp stops the bleeding. Count what it catches: those elements do not learn.
- `--fix` adds an epsilon to what cannot be negative, to probabilities and their complements, floors targets, and
  splits a ratio. Safe; a floor under what may be negative is unsafe. It leaves raw outputs and differences alone.

## When to ignore it
- When the argument is positive for a reason that the code does not show: validated targets, counts plus one.
- `log1p` of what cannot be below zero, `log` of a size or a constant are not reported.

## References
- AdaBins#16: the logarithm of a depth of 0.
- PyTorch documentation: `torch.log`, `torch.log1p`, `torch.nn.functional.softplus`.
- Eigen, Puhrsch, Fergus, *Depth Map Prediction from a Single Image using a Multi-Scale Deep Network* (2014): a loss
  on log-depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lossproof.finding import Finding, Severity
from lossproof.graph.numeric_facts import AtTheEdge, percent
from lossproof.rules.guards import guarded_logarithm
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch
from lossproof.source.facts import Operation
from lossproof.source.hazards import hazard
from lossproof.source.values import T
from lossproof.source.written import Reading


def check(fact: Operation) -> Iterator[Finding]:
    if fact.op not in ("log", "log1p"):
        return
    found = hazard(fact)
    if found is None:
        return
    t, reason = found
    if fact.floored and fact.cut:
        return
    cost = "a maximum hides the -inf, but not the NaN gradient" if fact.floored else "the loss becomes -inf or NaN"
    yield fact.finding(
        RULE,
        f"logarithm of {fact.quoted() or 'a value'}, which can be zero or negative ({reason}): {cost}",
        confidence="proven" if t.lo == 0.0 or t.act == "affine" else "likely",
        fix=partial(_fix, fact, t),
    )


def _fix(fact: Operation, t: T, patch: Patch) -> tuple[str, str]:
    reading = Reading(fact, patch)
    return guarded_logarithm(fact, reading, reading.operand(), t)


def audit(fact: AtTheEdge) -> Iterator[Finding]:
    if fact.function not in ("log", "log1p", "xlogy", "logit") or fact.told:
        return
    count, name = fact.count, {"xlogy": "xlogy", "logit": "logit"}.get(fact.function, "logarithm")
    if fact.near:
        yield fact.finding(
            RULE,
            f"the {name} of {fact.closest:.1e}, next to the edge of its domain{count.at}: {count.found} of "
            f"{count.elements:,} elements carry {percent(fact.share)} of its gradient",
            severity=Severity.WARNING,
            confidence="likely",
        )
        return
    if fact.function == "logit":
        what = f"{count.of('operand')} not inside of (0, 1)"
    elif fact.beyond:
        what = f"{fact.beyond} of {count.elements:,} operands are below {fact.edge:g}, the lowest {fact.closest:.4g}"
        if count.found > fact.beyond:
            what += (
                f", and {count.found - fact.beyond} {'is' if count.found - fact.beyond == 1 else 'are'} {fact.edge:g}"
            )
    else:
        what = f"{count.of('operand')} exactly {fact.edge:g}" if fact.value else f"{count.of('operand')} next to 0"
    cost = "the loss is finite and its gradient is infinite or NaN" if fact.loss else "the loss is infinite or NaN"
    yield fact.finding(RULE, f"{name}: {what}{count.at}; {cost}")


RULE = Rule(
    code="LP202",
    name="unguarded-log",
    severity=Severity.ERROR,
    summary="The logarithm of something that can be zero or negative: infinite or NaN loss.",
    hint="predict the logarithm itself, or make the argument positive by construction: softplus(x) + eps",
    page=__doc__ or "",
    evidence="log-of-zero",
    facts="operation",
    check=check,
    graph="at-the-edge",
    audit=audit,
)
