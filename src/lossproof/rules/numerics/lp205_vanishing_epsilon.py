"""# LP205 vanishing-epsilon

## What it does
Finds an epsilon that the number format cannot hold, so that the guard is written and not there: `1e-8` in float16,
`1 - 1e-8` in float32 (the upper end of `clamp(p, 1e-8, 1 - 1e-8)`), `1 - 1e-4` in float16 and bfloat16.

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

## When to ignore it
- When the epsilon is there for another format and the code never runs in this one.

## References
- efficientdet-pytorch#291: 1e-8 in half precision. segmentation_models.pytorch#463: sums in half precision.
- Micikevicius and others, *Mixed Precision Training* (2018).
- PyTorch documentation: `torch.finfo`, "Automatic Mixed Precision".
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import Operation
from lossproof.source.tensor_ops import as_tensor
from lossproof.source.values import T, number


# Half of the smallest float16, and half of float32's distance below and above 1.
_HALF_TINY = 2.98e-8
_BELOW_ONE = 2.98e-8
_ABOVE_ONE = 5.96e-8


def check(fact: Operation) -> Iterator[Finding]:
    if fact.op == "clamp":
        low, high = fact.others
        top = number(high)
        if top is not None and 0 < 1.0 - top < _BELOW_ONE:
            yield fact.finding(
                RULE,
                f"`1 - {1.0 - top:.0e}` is exactly 1 in float32: the upper clamp does nothing, and log(1 - p) is "
                "still -inf at p = 1",
            )
            return
        bottom = number(low)
        if bottom is not None and 0 < bottom < _HALF_TINY and _half(fact.operands()):
            yield fact.finding(RULE, f"`{bottom:.0e}` is 0 in float16: this clamp does not keep the value above zero")
    elif fact.op == "add":
        for one, other in _sides(fact):
            if 0 < one < _HALF_TINY and "half" in other.tags:
                yield fact.finding(RULE, f"`{one:.0e}` is 0 in float16: the epsilon is added and nothing changes")
                return
    elif fact.op == "sub":
        left = as_tensor(fact.operand)
        right = as_tensor(fact.others[0])
        if left.lo is not None and left.lo == left.hi and 0 < abs(left.lo - 1.0) < _ABOVE_ONE:
            if right.act in ("sigmoid", "softmax", "probability") or (right.hi is not None and right.hi <= 1):
                yield fact.finding(
                    RULE,
                    f"`1 + {left.lo - 1.0:.0e}` is exactly 1 in float32: the difference is still 0 at p = 1; "
                    "`(1 - p) + eps` keeps the epsilon",
                )


def _half(values: list[T]) -> bool:
    return any("half" in t.tags for t in values)


def _sides(fact: Operation) -> list[tuple[float, T]]:
    left, right = fact.operand, fact.others[0]
    found = []
    for constant, other in ((number(left), right), (number(right), left)):
        if constant is not None:
            found.append((constant, as_tensor(other)))
    return found


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
)
