"""# LP101 sigmoid-before-bce

## What it does
Finds a sigmoid whose output reaches `binary_cross_entropy` or `BCELoss` in a training loss, through whatever lies
between: a return, an attribute, an `nn.Sequential`, a `squeeze`, a `clamp`, another file. In the graph of a live loss
(`lossproof.audit`) it counts the elements that have rounded to 0 or 1, or were clamped, and send nothing back.

## Why is this bad
A sigmoid rounds to exactly 1 long before its logit is extreme. From there on the loss no longer depends on the logit,
so the example that is most wrong sends back no gradient. The loss does not become NaN in float32, because PyTorch
bounds its logarithm at -100; it stops teaching, and nothing says so. The logits form computes the same quantity in
one step and keeps a gradient of 1 however wrong the prediction is.

## Measured
torch 2.13.0, CPU. One element; loss and gradient with respect to the logit.

| dtype | logit | target | sigmoid + BCE: loss, gradient | with logits: loss, gradient |
|---|---|---|---|---|
| float32 | 16 | 0 | 15.94, 1.0 | 16, 1.0 |
| float32 | 17 | 0 | 100, **0** | 17, 1.0 |
| float32 | -28 | 1 | 28, -0.69 | 28, -1.0 |
| float32 | -50 | 1 | 50, -1.9e-10 | 50, -1.0 |
| float32 | -89 | 1 | 100, **0** | 89, -1.0 |
| bfloat16 | 6.5 | 0 | 100, **0** | 6.5, 1.0 |
| float16 | 8.5 | 0 | 100, **NaN** | 8.5, 1.0 |
| float16 | -16 | 1 | 15.95, **-inf** | 16, -1.0 |

The float32 gradient for target 0 is exactly zero from logit 16.64. A logit that starts at 20 with target 0 is still
at 20 after 1,000 SGD steps; with logits it is at -4.3. A hand-written `1 / (1 + exp(-x))` behaves differently again:
gradient 41,399 at logit 17 with target 0, and NaN at -89 with target 1. Forward and backward over 500,000 elements
took 3 to 4 times the CPU time of the logits form (one thread).

While logits stay moderate nothing of this shows: up to logit 8 the gradients are the same, and on scikit-learn's digits
("is it a 3?") both forms get 97.8 % right. With inputs from 0 to 10,000, as where nobody normalized them, 94 to 100 %
of the first mistakes have a gradient of exactly 0: after 120 Adam steps 90.9 to 96.0 % are right over three seeds,
with logits 98.0 to 98.7 %. Who always says no gets 90.9 %.

```sh
python -c "
import torch, torch.nn.functional as F
for f in (lambda x, y: F.binary_cross_entropy(x.sigmoid(), y), F.binary_cross_entropy_with_logits):
    x = torch.tensor([20.0], requires_grad=True)
    loss = f(x, torch.zeros(1))
    loss.backward()
    print(loss.item(), x.grad.item())"
```
```text
100.0 0.0
20.0 1.0
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


class ClickModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        return torch.sigmoid(self.net(x)).squeeze(1)


def train(loader):
    model = ClickModel()
    optimizer = torch.optim.Adam(model.parameters())
    for x, clicked in loader:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy(model(x), clicked)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


class ClickModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.net(x).squeeze(1)


def train(loader):
    model = ClickModel()
    optimizer = torch.optim.Adam(model.parameters())
    for x, clicked in loader:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(x), clicked)
        loss.backward()
        optimizer.step()
```

## Remedies
- Return the logit from the model and use `binary_cross_entropy_with_logits` or `BCEWithLogitsLoss`.
- Apply the sigmoid where a probability is wanted: at inference, in metrics, at export. Callers that read
  probabilities from the model need it too, so change them in the same commit.
- Thresholds on the output move with it: probability 0.5 is logit 0.
- `--fix` is safe: the sigmoid leaves what the loss is given, across functions and files, the loss takes its form for
  logits, and whoever else reads the output (metrics, inference, export) gets a sigmoid of their own, so that their
  numbers stay. Where a reader cannot be followed, nothing is changed and the finding says which.

## When to ignore it
- When a published result is reproduced to the digit. Say so: `# lossproof: ignore[LP101] reproduces paper X`.
- When the logits are bounded by construction, for example a cosine times a small scale, and training runs in float32.
- When the probability is a mean or a product of several sigmoids: that is LP107, not this rule.

## References
- PyTorch documentation: `torch.nn.BCELoss` (the bound at -100), `torch.nn.BCEWithLogitsLoss`, and "Automatic Mixed
  Precision", which asks for the logits form under autocast.
- Goodfellow, Bengio, Courville, *Deep Learning* (2016), section 6.2.2, on sigmoid output units and saturation.
- pytorch/pytorch#55902, open since 2021: a request that PyTorch warn of an activation in front of a fused loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lossproof.finding import Finding, Severity
from lossproof.graph.facts import ActivationIntoLoss
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch
from lossproof.source.facts import LossCall
from lossproof.source.relocate import move


def check(fact: LossCall) -> Iterator[Finding]:
    if fact.kind != "bce":
        return
    found = fact.bad("sigmoid")
    if found is not None:
        t, confidence = found
        yield fact.finding(
            RULE,
            f"the output of a sigmoid reaches `{fact.word}`: from a logit of 17 on, a wrong prediction "
            "costs 100 and its gradient is exactly 0; `binary_cross_entropy_with_logits` keeps it",
            because=t,
            confidence=confidence,
            fix=partial(_fix, fact),
        )


def _fix(fact: LossCall, patch: Patch) -> tuple[str, str]:
    move(fact, patch, "sigmoid", frozenset(("bce",)))
    return "safe", "the loss takes logits; whoever reads probabilities applies the sigmoid"


def audit(fact: ActivationIntoLoss) -> Iterator[Finding]:
    if (fact.loss, fact.activation) != ("bce", "sigmoid"):
        return
    wrong = fact.figures.get("wrong", 0)
    dead = (
        f"{fact.dead} of {fact.elements} elements have rounded to exactly 0 or 1 (or were clamped) and send back no "
        f"gradient, {wrong} of them on the wrong side of the target"
        if fact.dead
        else f"none of the {fact.elements} elements has rounded to 0 or 1 yet, where the gradient is exactly 0"
    )
    yield fact.finding(
        RULE,
        f"the output of a sigmoid reaches `binary_cross_entropy`: {dead}; `binary_cross_entropy_with_logits` keeps it",
    )


RULE = Rule(
    code="LP101",
    name="sigmoid-before-bce",
    severity=Severity.ERROR,
    summary="A sigmoid output reaches binary_cross_entropy: no gradient where the prediction is most wrong.",
    hint="return the logits and use binary_cross_entropy_with_logits",
    page=__doc__ or "",
    evidence="bce-dead-gradient",
    facts="loss",
    check=check,
    graph="activation-into-loss",
    audit=audit,
)
