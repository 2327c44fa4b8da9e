"""# LP110 one-class-cross-entropy

## What it does
Finds `cross_entropy` or `CrossEntropyLoss` (or a softmax) over an output that has one column.

## Why is this bad
A softmax over one number is 1. Its logarithm is 0. So the loss is 0 and the gradient is 0 for every input, every
target and every weight. The model keeps its random weights, and the loss curve is a perfect flat line at zero, which
is easily read as "it has converged".

## Measured
torch 2.13.0, CPU. `nn.Linear(64, 1)` on top, scikit-learn's digits, "is it a 3?", 300 SGD steps:

| loss | final loss | largest change of any weight | held-out accuracy |
|---|---|---|---|
| `cross_entropy` on `(N, 1)` float targets | -0.0 | **0.0** | 68.9 % (68.9 % before training) |
| `binary_cross_entropy_with_logits` | 0.071 | trained | 97.8 % |

With integer targets the label 0 gives the same zero; the label 1 raises `IndexError: Target 1 is out of bounds`. So a
batch without positives passes and the first positive stops the run. With float targets nothing is ever raised.

```sh
python -c "
import torch, torch.nn.functional as F
x = torch.randn(4, 1, requires_grad=True)
loss = F.cross_entropy(x, torch.tensor([[1.0], [0.0], [1.0], [0.0]]))
loss.backward()
print(abs(loss.item()), x.grad.abs().max().item())"
```
```text
0.0 0.0
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, is_three in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), is_three.float().view(-1, 1))
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, is_three in loader:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(x), is_three.float().view(-1, 1))
        loss.backward()
        optimizer.step()
```

## Remedies
- One column and yes/no labels: `binary_cross_entropy_with_logits`.
- Or two columns and class indices: `nn.Linear(64, 2)` with `cross_entropy`.
- One column and a number to predict: `mse_loss`, `l1_loss` or `huber_loss`.

## When to ignore it
- When the number of classes is a setting that merely happens to be 1 in a test. There the loss is still 0; a test
  that checks learning will not pass.

## References
- PyTorch documentation: `torch.nn.CrossEntropyLoss` (shapes, and class probabilities as targets since 1.10),
  `torch.nn.BCEWithLogitsLoss`.
- The same silent zero is in the multi-class focal and Dice losses of several libraries when given one channel.
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.graph.loss_facts import OneColumn
from lossproof.rules.registry import Rule
from lossproof.source.facts import LossCall
from lossproof.source.values import T


def check(fact: LossCall) -> Iterator[Finding]:
    if fact.kind not in ("ce", "nll"):
        return
    options = [t for _, t in fact.inputs()]
    if not options or not all(_one_column(t) for t in options):
        return
    if fact.kind == "nll" and any(t.act != "log_softmax" for t in options):
        return
    yield fact.finding(
        RULE,
        f"`{fact.word}` over a single output column: the softmax of one number is 1, so loss and gradient are "
        "always 0 and nothing is learned",
        because=options[0],
    )


def _one_column(t: T) -> bool:
    if t.act not in ("affine", "relu", "gelu", "softmax", "log_softmax", "sigmoid", "tanh"):
        return False
    return (t.get("width") == 1 and t.get("ndim") in (None, 2)) or t.get("channels") == 1


def audit(fact: OneColumn) -> Iterator[Finding]:
    yield fact.finding(
        RULE,
        f"cross entropy over a single class, {fact.rows} rows of shape {fact.shape}: the softmax of one number is 1, "
        "so loss and gradient are always 0 and nothing is learned",
    )


RULE = Rule(
    code="LP110",
    name="one-class-cross-entropy",
    severity=Severity.ERROR,
    summary="cross_entropy over a single column: loss and gradient are always zero, nothing is learned.",
    hint="use binary_cross_entropy_with_logits, or give the model one column per class",
    page=__doc__ or "",
    evidence="one-class-cross-entropy",
    facts="loss",
    check=check,
    graph="one-column",
    audit=audit,
)
