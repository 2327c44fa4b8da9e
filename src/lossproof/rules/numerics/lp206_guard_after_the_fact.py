"""# LP206 guard-after-the-fact

## What it does
Finds a guard that comes after the operation it should protect: `torch.where(x > 0, torch.log(x), 0)`,
`nan_to_num(...)`, a mask that is multiplied in, an index or a `masked_fill` on the result. In the graph of a live loss
it follows the elements whose derivative is not finite to what chooses them away; `nansum` over missing targets is one.

## Why is this bad
Autograd runs through the branch that was not chosen, with a gradient of 0. Zero times infinity is NaN. So the loss is
finite, and printed, and falling, while the gradient is NaN and the weights are gone at the next step. It is the
hardest NaN to find, because the line that looks like the cure is the cause.

## Measured
torch 2.13.0, CPU. Gradient at x = 0, with a finite value unless noted:

| guard | gradient | guard | gradient |
|---|---|---|---|
| `where(x > 0, log(x), 0)` | **NaN** | `where(x > 0, log(where(x > 0, x, 1)), 0)` | 0 |
| `where(x > 0, sqrt(x), 0)` | **NaN** | `log(x[x > 0])` | 0 |
| `where(x != 0, 1 / x, 0)` | **NaN** | `log(x)[x > 0]` | **NaN** |
| `nan_to_num(x * log(x))` | **NaN** | `log(x).masked_fill(x <= 0, 0)` | **NaN** |
| `log(x) * (x > 0)` (value NaN too) | **NaN** | `xlogy(x, x)`, and `xlogy(0, x)` | **NaN** |

- Below zero `log` is spared (gradient -0.0) and `sqrt` is not (NaN).
- `where(x < 1, exp(1000 * x), x)` is NaN for x = 2: an overflow in the other branch counts as well.
- `xlogy` guards the value; its gradient towards the second argument at (0, 0) is NaN all the same.
- The distances of a batch to itself, guarded with `where(d2 > 0, sqrt(d2), 0)`: the diagonal is always 0, so *every*
  gradient is NaN in the very first step.

```sh
python -c "
import torch
x = torch.tensor([0.0, 2.0], requires_grad=True)
loss = torch.where(x > 0, torch.log(x), 0.0).sum()
loss.backward()
print(round(loss.item(), 4), x.grad.tolist())"
```
```text
0.6931 [nan, 0.5]
```

## Wrong
```python
import torch
from torch import nn


def stress(z, wanted):
    d2 = (z[:, None, :] - z[None, :, :]).pow(2).sum(dim=-1)
    distance = torch.where(d2 > 0, torch.sqrt(d2), torch.zeros_like(d2))
    return (distance - wanted).pow(2).mean()


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters())
    for x, wanted in loader:
        optimizer.zero_grad()
        loss = stress(model(x), wanted)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
from torch import nn


def stress(z, wanted):
    d2 = (z[:, None, :] - z[None, :, :]).pow(2).sum(dim=-1)
    safe = torch.where(d2 > 0, d2, torch.ones_like(d2))
    distance = torch.where(d2 > 0, torch.sqrt(safe), torch.zeros_like(d2))
    return (distance - wanted).pow(2).mean()


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters())
    for x, wanted in loader:
        optimizer.zero_grad()
        loss = stress(model(x), wanted)
        loss.backward()
        optimizer.step()
```

## Remedies
- Make the *argument* harmless first, choose the result afterwards: the two `where` of the right example.
- Or select before: `log(x[mask])`.
- Or use an operation that is defined at the edge: `torch.cdist`, `torch.linalg.vector_norm`, `softplus`.
- A mask for padding: replace the padded inputs before the loss, not the padded losses after it.
- `--fix` writes the inner of the two `where`, by the guard's own condition, or by what `nan_to_num` stands for. Safe;
  unsafe where rows that were dropped are counted again.

## When to ignore it
- When the guarded value has no gradient: targets, detached weights, metrics under `no_grad`. `xlogy(target, target)`
  is fine.
- When the chosen condition keeps the argument away from the edge in *both* branches.

## References
- pytorch/pytorch#68425, #52248, #156212 and #187297: NaN gradients through the branch of `torch.where` that was not
  chosen.
- pytorch/pytorch#64305 and #4132: a mask applied after the loss or after the division.
- pytorch/pytorch#89558: the gradient of `xlogy` at (0, 0).
- PyTorch documentation: `torch.where`, `torch.xlogy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lossproof.finding import Finding, Severity
from lossproof.graph.numeric_facts import GuardedAfterwards
from lossproof.rules.guards import guarded_before
from lossproof.rules.registry import Rule
from lossproof.source.domain import is_target
from lossproof.source.edits import Patch
from lossproof.source.facts import Operation
from lossproof.source.hazards import hazard
from lossproof.source.tensor_ops import as_tensor
from lossproof.source.values import T
from lossproof.source.written import Reading

_REPLACED = {"where": "`torch.where`", "late": "the replacement", "mask": "the mask", "select": "the selection"}


def check(fact: Operation) -> Iterator[Finding]:
    for inner in () if fact.cut else fact.behind:
        found = hazard(inner)
        if found is None:
            continue
        t, reason = found
        if is_target(t) and (inner.op != "div" or is_target(as_tensor(inner.others[0] if inner.others else None))):
            continue  # no gradient runs there: the guarded value is all that counts
        what = {"div": "division", "log": "logarithm", "log1p": "logarithm", "acos": "arc function"}.get(
            inner.op, "root"
        )
        word = f"`{fact.word}`" if fact.op == "late" else _REPLACED.get(fact.op, f"`{fact.word}`")
        yield fact.finding(
            RULE,
            f"{word} comes after the {what} it should guard ({reason}): the value is finite, but backward multiplies "
            "zero by infinity and the gradient is NaN",
            confidence="likely",
            fix=partial(_fix, fact, inner, t, reason),
        )
        return


def _fix(fact: Operation, inner: Operation, t: T, reason: str, patch: Patch) -> tuple[str, str]:
    return guarded_before(Reading(fact, patch), fact, Reading(inner, patch), inner, t, reason)


_GUARDS = {
    "where": "`torch.where`", "masked_fill": "`masked_fill`", "nan_to_num": "`nan_to_num`", "nansum": "`nansum`",
    "index": "the selection", "put": "the assignment", "mask": "the mask", "xlogy": "`xlogy`",
}  # fmt: skip
_STEPS = {
    "div": "division by 0", "log": "logarithm", "log1p": "logarithm", "xlogy": "logarithm", "logit": "logit",
    "sqrt": "root", "rsqrt": "root", "pow": "power", "exp": "overflowing exponential", "nan": "arithmetic on NaN",
    "expm1": "overflowing exponential", "exp2": "overflowing exponential",
}  # fmt: skip


def audit(fact: GuardedAfterwards) -> Iterator[Finding]:
    count = fact.count
    yield fact.finding(
        RULE,
        f"{_GUARDS[fact.guard]} comes after the {_STEPS.get(fact.function, fact.function)} that it should guard: "
        f"{count.found} of {count.elements:,} operands there have a derivative that is not finite{count.at}, and zero "
        "times that is NaN in backward",
    )


RULE = Rule(
    code="LP206",
    name="guard-after-the-fact",
    severity=Severity.ERROR,
    summary="where, nan_to_num or a mask applied after the dangerous operation: finite loss, NaN gradient.",
    hint="make the argument safe before the operation: f(torch.where(ok, x, 1)), then choose the result",
    page=__doc__ or "",
    evidence="where-gradient",
    facts="operation",
    check=check,
    graph="guarded-afterwards",
    audit=audit,
)
