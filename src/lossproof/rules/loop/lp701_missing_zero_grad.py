"""# LP701 missing-zero-grad

## What it does
Finds a training loop that calls `backward()` and updates the parameters in every turn, and clears the gradients in
none: not in the loop, not in a helper, a base class, a closure, a context manager or a wrapper around the optimizer.
Also: a loop that clears only those of another optimizer, or only once before it begins; and gradients that are
cleared *between* `backward()` and `step()`.

## Why is this bad
`backward()` adds to the gradients that are there. Without `zero_grad()` every step uses the sum of all gradients
since the run began: stale directions with a growing length. Plain SGD overshoots and diverges; Adam hides the length,
so the loss still falls for a while, and ends worse. Where the gradients are cleared between `backward()` and
`step()`, every step updates with nothing: the run never learns, and never says so.

## Measured
torch 2.13.0, CPU. A regression on 10 inputs with 64 tanh units, batches of 64, 500 steps; the loss at the end (0.50 is
what always answering 0 gives):

| loop | SGD, lr 0.1 | Adam, lr 0.01 |
|---|---|---|
| cleared before `backward()` | 0.10 | 0.08 |
| never cleared | **2e18** | **81** |
| cleared between `backward()` and `step()` | 0.57, as at the start | 0.57, as at the start |

Logistic regression forgives it more: 300 steps of SGD reach the same accuracy, with weights 18 times as long and a
loss four times as high.

```sh
python -c "
import torch
w = torch.ones(1, requires_grad=True)
for _ in range(3):
    (2 * w).sum().backward()
    print(w.grad.item())"
```
```text
2.0
4.0
6.0
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, digit in loader:
        loss = F.cross_entropy(model(x), digit)
        loss.backward()
        optimizer.step()
    return model
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, digit in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), digit)
        loss.backward()
        optimizer.step()
    return model
```

## Remedies
- `optimizer.zero_grad()` in every turn, before `backward()` or right after `step()`.
- With several optimizers, clear each one whose parameters a `backward()` reaches.
- With LBFGS, clear inside the closure: it is called many times in one `step`.
- With manual optimization in Lightning, and with Accelerate or Fabric, it is still your call to make.

## When to ignore it
- When several backward passes are summed on purpose and cleared with the step; that is not reported (see LP702).
- When something that cannot be seen clears them (a framework's hook, a wrapper from elsewhere): that is not reported
  either.

## References
- PyTorch documentation: `torch.optim.Optimizer.zero_grad`; "Zeroing out gradients in PyTorch".
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import Uncleared, location
from lossproof.source.loops import hop


def check(fact: Uncleared) -> Iterator[Finding]:
    step = fact.step
    name = step.thing.text if step.thing is not None and step.thing.text else "the optimizer"
    update = "this update" if step.detail == "by hand" else f"`{name}.step()`"
    hops = [hop(step, "the parameters are updated here, with whatever gradients have piled up")]
    clear = fact.clear
    if fact.why == "erased" and clear is not None:
        hops = [hop(fact.backward, "these gradients are erased"), hop(step, "so there is nothing to update with")]
        yield fact.finding(
            RULE,
            f"the gradients are cleared between backward() and {update}: every step updates with nothing, and the "
            "network does not learn",
            hops=tuple(hops),
            place=location(clear.frame.function.module, clear.at, ""),
            hint="clear the gradients after step(), or before backward()",
        )
        return
    what = f"the gradients of earlier steps are never cleared before {update}"
    if fact.why == "outside" and clear is not None:
        hops.insert(0, hop(clear, "cleared here, but not again in the loop"))
        what = f"the gradients are cleared outside of the loop, not in each turn of it, before {update}"
    elif fact.why == "other" and clear is not None:
        other = clear.thing.text if clear.thing is not None else "another"
        hops.insert(0, hop(clear, f"only the gradients of `{other}` are cleared"))
        what = f"the gradients that {update} uses are never cleared, only those of `{other}`"
    yield fact.finding(
        RULE,
        f"{what}: every update is made from the sum of all gradients so far",
        hops=tuple(hops),
        confidence="proven" if fact.why != "other" else "likely",
    )


RULE = Rule(
    code="LP701",
    name="missing-zero-grad",
    severity=Severity.ERROR,
    summary="Gradients are never cleared between the steps of a training loop: each update uses the sum of all so far.",
    hint="call optimizer.zero_grad() in every turn of the loop, before backward()",
    page=__doc__ or "",
    evidence="gradients-never-cleared",
    facts="uncleared",
    check=check,
)
