"""# LP306 unreached-parameters

## What it does
Names trainable parameters that a loss does not depend on: a head whose output nobody uses, an encoder behind a
`detach`, a branch that was left out of the sum. Only `lossproof.audit(loss, names=model)` can tell, because only the
graph of a live loss knows what reached it. With `optimizer=` only what that optimizer holds is looked at, and a whole
module that is missed is a warning; without, and for single parameters of a module that is used, it is a note. Frozen
parameters (`requires_grad=False`) are not told.

## Why is this bad
No gradient ever arrives, so these parameters keep their random start, and nothing raises. Where they lie before the
part that trains (an encoder that a `detach` cut off), the rest learns on random features: the loss falls, lower than
chance and higher than it should. Where they lie beside it, they cost memory, confuse whoever counts parameters, and
stop distributed training, which waits for their gradients. And they need not stay as they are: a gradient that was set
to zero instead of `None` keeps decay and momentum going.

## Measured
torch 2.13.0, CPU. The sign of `x * y`, 2-16-2 network, 500 SGD steps, three seeds, held-out accuracy: 98.5 to 98.8 %;
with a `detach` behind the hidden layer 77.7 to 87.3 %, and the hidden layer's largest change is 0.0.

A second head that got one gradient and then none, 1,000 AdamW steps (lr 1e-2, decay 0.1): its norm stays at 0.712 with
`zero_grad()`, and falls to **0.220** with `zero_grad(set_to_none=False)`.

```sh
python -c "
import torch, lossproof
from torch import nn
model = nn.ModuleDict({'encoder': nn.Linear(4, 8), 'head': nn.Linear(8, 1)})
loss = model['head'](model['encoder'](torch.ones(2, 4)).detach()).square().mean()
print(lossproof.audit(loss, names=model)[0].message)"
```
```text
the loss does not depend on 2 of 4 trainable parameters (40 of 49 numbers): encoder; they get no gradient from it
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(16, 32)
        self.kind = nn.Linear(32, 3)
        self.size = nn.Linear(32, 1)

    def forward(self, x):
        z = torch.relu(self.body(x))
        return self.kind(z), self.size(z).squeeze(1)


model = TwoHeads()


def optimizer(loss):
    return torch.optim.AdamW(model.parameters())


def names(loss):
    return model


def loss():
    kind, size = model(torch.randn(8, 16))
    return F.cross_entropy(kind, torch.randint(3, (8,)))
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(16, 32)
        self.kind = nn.Linear(32, 3)
        self.size = nn.Linear(32, 1)

    def forward(self, x):
        z = torch.relu(self.body(x))
        return self.kind(z), self.size(z).squeeze(1)


model = TwoHeads()


def optimizer(loss):
    return torch.optim.AdamW(model.parameters())


def names(loss):
    return model


def loss():
    kind, size = model(torch.randn(8, 16))
    return F.cross_entropy(kind, torch.randint(3, (8,))) + 0.1 * F.mse_loss(size, torch.randn(8))
```

## Remedies
- A part that should learn: find the `detach`, the `no_grad`, the term that is missing from the sum.
- A part that should not: `requires_grad_(False)`, and leave it out of the optimizer.
- A part that nobody needs: delete it.
- Audit the whole loss of a step, not one term of it; parts that other losses train are no fault.

## When to ignore it
- When several losses train several parts in turn (a generator and a discriminator): give each audit the optimizer of
  that loss, and only what it holds is looked at.
- When a step uses a part of the model by design: routed experts, layers dropped at random.

## References
- PyTorch documentation: `DistributedDataParallel` (`find_unused_parameters`), `Optimizer.zero_grad` (`set_to_none`).
- pytorch/pytorch#43259: distributed training that waits for parameters which take no part in the loss.
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.graph.loss_facts import UnreachedParameters
from lossproof.rules.registry import Rule

_SHOWN = 6


def audit(fact: UnreachedParameters) -> Iterator[Finding]:
    shown = ", ".join(fact.parts[:_SHOWN])
    more = len(fact.parts) - _SHOWN
    held = ", and the optimizer holds them" if fact.held else ""
    yield fact.finding(
        RULE,
        f"the loss does not depend on {fact.missed} of {fact.of} trainable parameters ({fact.elements:,} of "
        f"{fact.of_elements:,} numbers): {shown}{f' and {more} more' if more > 0 else ''}; they get no gradient from "
        f"it{held}",
        severity=None if fact.held and fact.modules else Severity.INFO,
    )


RULE = Rule(
    code="LP306",
    name="unreached-parameters",
    severity=Severity.WARNING,
    summary="Trainable parameters that the loss does not depend on: they keep their random start.",
    hint="let the loss reach them, or freeze them and leave them out of the optimizer",
    page=__doc__ or "",
    evidence="unreached-parameters",
    graph="unreached-parameters",
    audit=audit,
)
