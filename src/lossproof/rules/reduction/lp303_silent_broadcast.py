"""# LP303 silent-broadcast

## What it does
Finds an elementwise loss between shapes that differ and broadcast: most often a prediction `(N, 1)` from
`nn.Linear(..., 1)` against a target `(N,)`.

## Why is this bad
The difference is an `N x N` matrix: every prediction is compared with every target. Its best answer is the same for
all rows, the mean of the targets. The model learns to ignore its input, and the loss settles at the variance of the
targets: a plausible number that no learning rate improves.

## Measured
torch 2.13.0, CPU. 200 rows of an exact linear relation with weights (9, -2, 1) and a little noise, 300 SGD steps:

| shapes | loss | learned weights | R2 |
|---|---|---|---|
| `(N, 1)` against `(N, 1)` | 0.011 | 8.99, -2.00, 1.00 | 0.9999 |
| `(N, 1)` against `(N,)` | **86.1**, the variance of y | -3e-8, 2e-7, 3e-7 | **0.0** |

What PyTorch says to `(4, 1)` against `(4,)`: `mse_loss`, `l1_loss`, `smooth_l1_loss` and `huber_loss` warn once and
go on; `binary_cross_entropy`, its logits form and `soft_margin_loss` raise; `kl_div`, `poisson_nll_loss` and
everything written by hand say **nothing**. For N = 4,096 the matrix has 16.8 million elements.

```sh
python -c "
import torch
pred, y = torch.zeros(200, 1), torch.randn(200)
print((pred - y).shape)"
```
```text
torch.Size([200, 200])
```

## Wrong
```python
import torch
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, price in loader:
        optimizer.zero_grad()
        price = price.view(-1)
        loss = ((model(x) - price) ** 2).mean()
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, price in loader:
        optimizer.zero_grad()
        price = price.view(-1)
        loss = ((model(x).squeeze(1) - price) ** 2).mean()
        loss.backward()
        optimizer.step()
```

## Remedies
- `model(x).squeeze(1)`, with the axis named: a bare `squeeze()` also removes a batch of one.
- Or `target.unsqueeze(1)`, or `target.view_as(pred)`.
- Turn the warning into an error in tests: `warnings.filterwarnings("error", message="Using a target size")`.

## When to ignore it
- When broadcasting is meant: quantiles `(N, Q)` against `(N, 1)`, many hypotheses against one target, a pairwise
  matrix. Write the axis out (`target[:, None]`), and nothing is reported.

## References
- pytorch/pytorch#16045 and #19699: a regression that learned nothing. Pull requests #18349 and #18565 added the
  warning.
- PyTorch documentation: "Broadcasting semantics", `torch.nn.MSELoss`.
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import LossCall, Operation
from lossproof.source.tensor_ops import as_tensor
from lossproof.source.values import Seq, T

_ELEMENTWISE = ("mse", "l1", "smooth_l1", "huber", "poisson", "kl")


def check(fact: LossCall | Operation) -> Iterator[Finding]:
    if isinstance(fact, LossCall):
        if fact.kind not in _ELEMENTWISE:
            return
        left, right = [t for _, t in fact.inputs()], [t for _, t in fact.targets()]
    else:
        if "sub" not in (fact.op, fact.word) or not fact.others:
            return
        left, right = fact.operands(), [as_tensor(fact.others[0])]
        if any(t.get("written") for t in (*left, *right)):
            return  # somebody wrote the axis out: every pair is meant
    if not left or not right:
        return
    one_way = all(_crossed(a, b) for a in left for b in right)
    if one_way or all(_crossed(b, a) for a in left for b in right):
        yield fact.finding(
            RULE,
            "(N, 1) meets (N,) here: the result is N x N, every prediction is compared with every target, and the "
            "best answer is their mean",
            because=(left if one_way else right)[0],
            confidence="likely",
        )


def _crossed(column: T, row: T) -> bool:
    if not _column(column) or not _row(row):
        return False
    # Of a row that lost its last axis only that is known: it needs a column that surely has two.
    return row.get("ndim") == 1 or column.get("ndim") == 2 or bool(column.get("written"))


def _column(t: T) -> bool:
    return t.get("width") == 1 and t.get("ndim") in (None, 2)


def _row(t: T) -> bool:
    """One axis, with more than one element as far as is known; a constant is the same for every row."""
    wraps = t.get("wraps")
    if isinstance(wraps, Seq) and wraps.rest is None and len(wraps.every()) == 1:
        return False
    if t.lo is not None and t.lo == t.hi:
        return False
    return t.get("ndim") == 1 or bool(t.get("flat"))


RULE = Rule(
    code="LP303",
    name="silent-broadcast",
    severity=Severity.ERROR,
    summary="(N, 1) against (N,) in an elementwise loss: an N x N matrix whose best answer is the mean of the targets.",
    hint="give both the same shape: model(x).squeeze(1), or target.unsqueeze(1)",
    page=__doc__ or "",
    evidence="broadcast-mean",
    facts="loss operation",
    check=check,
)
