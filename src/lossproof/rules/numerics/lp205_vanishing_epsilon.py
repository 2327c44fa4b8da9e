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
from lossproof.source.formats import number_format
from lossproof.source.tensor_ops import as_tensor, rounded
from lossproof.source.values import T, number

_WORD = {"half": "float16", "bf16": "bfloat16", "": "float32"}


def check(fact: Operation) -> Iterator[Finding]:
    if fact.op == "clamp":
        yield from _clamp(fact)
    elif fact.op == "add":
        for one, other in _sides(fact):
            format = number_format(fact, other)
            if 0 < abs(one) < 0.5 and format in ("half", "bf16") and rounded(one, frozenset({format})) == 0.0:
                yield fact.finding(
                    RULE, f"`{one:.0e}` is 0 in {_WORD[format]}: the epsilon is added and nothing changes"
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
                )
                return
        if low is not None and low > 0 and rounded(low, frozenset({format})) == 0.0:
            yield fact.finding(
                RULE, f"`{low:.0e}` is 0 in {_WORD[format]}: this clamp does not keep the value above zero"
            )
            return


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
