"""# LP102 softmax-before-cross-entropy

## What it does
Finds a softmax whose output reaches `cross_entropy` or `CrossEntropyLoss`, which apply a log-softmax themselves. In the
graph of a live loss (`lossproof.audit`) it tells the floor of the loss and the most that it can believe in a class.

## Why is this bad
The second softmax sees numbers between 0 and 1, so the sharpest prediction that it can express gives the right class
only `e / (e + C - 1)`. The loss has a floor far above zero, and its gradient fades to nothing where the prediction is
confidently wrong. Training still moves, which is why this survives for years: it is slow, it stops early, and the
numbers look like a hard data set.

## Measured
torch 2.13.0, CPU.

| classes | floor of the loss, `ln(e + C - 1) - 1` | chance, `ln C` | most that the loss believes in a class |
|---|---|---|---|
| 2 | 0.313 | 0.693 | 0.731 |
| 10 | 1.461 | 2.303 | 0.232 |
| 1,000 | 5.909 | 6.908 | 0.0027 |

Two classes, the wrong one ahead by a gap; gradient with respect to the logit of the right class:

| gap | softmax, then cross entropy | cross entropy |
|---|---|---|
| 2 | -0.14 | -0.88 |
| 5 | -0.0097 | -0.99 |
| 10 | -6.6e-5 | -1.0 |
| 20 | -3.0e-9 | -1.0 |

Over 20,000 random rows of ten classes no gradient component exceeded 0.251 (cross entropy: 1.0). On scikit-learn's
digits (64-64-10 network, batch 64, two seeds) 600 steps of SGD at 0.1 got 45.1 to 49.8 % of held-out digits right,
against 94.7 to 96.2 % with plain cross entropy. Adam hides it: after 400 steps at 3e-3 96.0 % against 95.3 %, with a
loss of 1.53 against 0.12 and probabilities that reach 22 % against 93 %. An adaptive optimizer rescales a small
gradient; it does not bring back one that is gone.

```sh
python -c "
import torch, torch.nn.functional as F
perfect = torch.tensor([[1000.0] + [0.0] * 9])
print(round(F.cross_entropy(perfect.softmax(1), torch.tensor([0])).item(), 4))
print(F.cross_entropy(perfect, torch.tensor([0])).item())"
```
```text
1.4612
0.0
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


class DigitNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        return self.softmax(self.net(x))


def train(loader):
    model = DigitNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, digit in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), digit)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


class DigitNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x):
        return self.net(x)


def train(loader):
    model = DigitNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, digit in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), digit)
        loss.backward()
        optimizer.step()
```

## Remedies
- Return logits from the model. `argmax` needs no softmax; apply one only where a probability is shown or thresholded.
- If the model must return probabilities, return the logits beside them and give those to the loss.
- After mending a trained model, look at the learning rate again: gradients are several times larger now.
- `--fix` is unsafe, for the objective changes: the loss is given the logits, across functions and files; whoever else
  reads probabilities gets a softmax of their own, but not who applied one a second time. Where a reader cannot be
  followed, nothing is changed and the finding says which.

## When to ignore it
- When a published result is reproduced to the digit.
- When the softmax is not the prediction: attention weights, a gate, a soft target in the second argument. This rule
  does not follow those.

## References
- PyTorch documentation: `torch.nn.CrossEntropyLoss` (its input is unnormalized logits).
- pytorch/pytorch#55902, open since 2021: "Warn users when cross entropy is called after softmax".
- lightning-bolts#654, a double softmax in a published model; Jittor#306, the same bug, found after a day.
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
    if fact.kind != "ce":
        return
    found = fact.bad("softmax")
    if found is not None:
        t, confidence = found
        yield fact.finding(
            RULE,
            f"the output of a softmax reaches `{fact.word}`, which applies softmax again: the loss cannot fall "
            "below ln(e + C - 1) - 1 and the gradient fades where the model is most wrong",
            because=t,
            confidence=confidence,
            fix=partial(_fix, fact),
        )


def _fix(fact: LossCall, patch: Patch) -> tuple[str, str]:
    move(fact, patch, "softmax", frozenset(("ce",)))
    return (
        "unsafe",
        "the loss sees logits and learns from its mistakes; readers of probabilities apply softmax",
    )


def audit(fact: ActivationIntoLoss) -> Iterator[Finding]:
    if (fact.loss, fact.activation) != ("cross-entropy", "softmax"):
        return
    classes = fact.figures["classes"]
    yield fact.finding(
        RULE,
        f"the output of a softmax reaches the log-softmax of a cross entropy: with {classes} classes no prediction can "
        f"be given more than {fact.figures['most']:.3g} (here the surest has {fact.figures['believed']:.3g}), so the "
        f"loss of a row cannot fall below {fact.figures['floor']:.3g} and the gradient fades where the model is most "
        "wrong",
    )


RULE = Rule(
    code="LP102",
    name="softmax-before-cross-entropy",
    severity=Severity.ERROR,
    summary="A softmax output reaches cross_entropy, which applies softmax again: a high floor, a fading gradient.",
    hint="give cross_entropy the logits; apply softmax only where a probability is wanted",
    page=__doc__ or "",
    evidence="double-softmax",
    facts="loss",
    check=check,
    graph="activation-into-loss",
    audit=audit,
)
