"""# LP503 loss-weights-not-optimized

## What it does
Finds learnable weights of losses (`log_vars`, `sigma`, task weights as `nn.Parameter`) that no optimizer holds: they
are
parameters of the criterion or of the trainer, and the optimizer was given `model.parameters()`.

## Why is this bad
Nothing fails. `backward()` fills the gradients of the weights, no optimizer takes a step with them, and they stay
where they
started. The run pays for uncertainty weighting and has a plain sum.

## Measured
torch 2.13.0, CPU. Two regressions that share a layer, of scales 1 and 100, 2,000 steps of Adam with uncertainty
weighting:

| optimizer holds | `s` after training | their gradient at the end | error left, small task | error left, large task |
|---|---|---|---|---|
| the network | **0, 0** | 388 and -2,752,900, never cleared | 0.029 of its variance | 0.078 |
| the network and `s` | -1.69, 2.79 | 0.004 and -60 | **0.018** | 0.096 |

```sh
python -c "
import torch
from torch import nn
s, layer = nn.Parameter(torch.zeros(1)), nn.Linear(1, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for _ in range(100):
    loss = (torch.exp(-s) * (layer(torch.ones(1)) - 5) ** 2 + s).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(s.item())"
```
```text
0.0
```

## Wrong
```python
import torch
from torch import nn


class UncertaintyLoss(nn.Module):
    def __init__(self, tasks=2):
        super().__init__()
        self.log_vars = nn.Parameter(torch.zeros(tasks))

    def forward(self, losses):
        total = 0.0
        for i, loss in enumerate(losses):
            total = total + 0.5 * torch.exp(-self.log_vars[i]) * loss + 0.5 * self.log_vars[i]
        return total


def train(model, loader):
    criterion = UncertaintyLoss()
    optimizer = torch.optim.Adam(model.parameters())
    for x, depth, normals in loader:
        optimizer.zero_grad()
        a, b = model(x)
        criterion([nn.functional.l1_loss(a, depth), nn.functional.l1_loss(b, normals)]).backward()
        optimizer.step()
```

## Right
```python
import torch
from torch import nn


class UncertaintyLoss(nn.Module):
    def __init__(self, tasks=2):
        super().__init__()
        self.log_vars = nn.Parameter(torch.zeros(tasks))

    def forward(self, losses):
        total = 0.0
        for i, loss in enumerate(losses):
            total = total + 0.5 * torch.exp(-self.log_vars[i]) * loss + 0.5 * self.log_vars[i]
        return total


def train(model, loader):
    criterion = UncertaintyLoss()
    optimizer = torch.optim.Adam([*model.parameters(), *criterion.parameters()])
    for x, depth, normals in loader:
        optimizer.zero_grad()
        a, b = model(x)
        criterion([nn.functional.l1_loss(a, depth), nn.functional.l1_loss(b, normals)]).backward()
        optimizer.step()
```

## Remedies
- `[*model.parameters(), *criterion.parameters()]`; or a group of its own, with no weight decay: `{"params":
  criterion.parameters(), "weight_decay": 0.0}`.
- Move the criterion to the device before the optimizer is built, and save its state with the model's.
- Or make the criterion an attribute of the model.

## When to ignore it
- When the weights are changed by something else than an optimizer that can be seen (GradNorm by hand). Then they need
  no
  `nn.Parameter`.

## References
- Kendall, Gal, Cipolla, *Multi-Task Learning Using Uncertainty to Weigh Losses* (2018).
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import UnheldWeights


def check(fact: UnheldWeights) -> Iterator[Finding]:
    name = f"`{fact.name}`" if fact.name else "the learnable loss weights"
    who = f"{fact.trainer}, which optimizes the model's parameters alone" if fact.trainer else "this optimizer"
    yield fact.finding(
        RULE,
        f"{name} weighs the losses and is learnable, but is not among the parameters of {who}: it stays where it "
        "started",
        hops=(fact.made, *((fact.built,) if fact.built is not None else ())),
        confidence="likely",
    )


RULE = Rule(
    code="LP503",
    name="loss-weights-not-optimized",
    severity=Severity.ERROR,
    summary="Learnable loss weights that no optimizer holds: they never move.",
    hint="give them to the optimizer: [*model.parameters(), *criterion.parameters()]",
    page=__doc__ or "",
    evidence="unheld-weights",
    facts="unheld",
    check=check,
)
