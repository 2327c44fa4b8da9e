"""# LP103 sigmoid-before-logits-loss

## What it does
Finds a sigmoid whose output reaches a loss that applies a sigmoid itself: `binary_cross_entropy_with_logits`,
`BCEWithLogitsLoss`, sigmoid focal losses, `soft_margin_loss`, `multilabel_soft_margin_loss`. In the graph of a live
loss (`lossproof.audit`) it tells between what the scores of this batch lie.

## Why is this bad
The loss sees a logit between 0 and 1, so the probability that it works with lies between 0.5 and 0.731. No example
can be called negative. The loss cannot fall below `ln 2` on negatives and 0.313 on positives, and its gradient dies
on both sides. Whoever applies a sigmoid to the output again, as the loss implies, finds every score above 0.5.

## Measured
torch 2.13.0, CPU. `binary_cross_entropy_with_logits(sigmoid(x), y)`, one element:

| logit | target | loss | gradient |
|---|---|---|---|
| -20 | 0 | 0.693 | 1.0e-9 |
| 0 | 0 | 0.974 | 0.156 |
| 20 | 0 | 1.313 | **0** |
| 20 | 1 | 0.313 | 0 |
| 0 | 1 | 0.474 | -0.094 |
| -20 | 1 | 0.693 | **-1.0e-9** |

Two well separated clouds of points, a fifth of them positive, a linear model, 400 Adam steps: the loss stops at
0.618 (its limit is 0.617), against 0.003 with raw logits. Scores after the sigmoid that the loss implies: 0.500 to
0.731. At a threshold of 0.5 that is 42.3 % right; with raw logits 99.9 %. The ranking survives, which is why a ranking
metric does not show the fault.

```sh
python -c "
import torch, torch.nn.functional as F
x = torch.tensor([20.0], requires_grad=True)
loss = F.binary_cross_entropy_with_logits(x.sigmoid(), torch.zeros(1))
loss.backward()
print(round(loss.item(), 4), x.grad.item())"
```
```text
1.3133 0.0
```

## Wrong
```python
import torch
from torch import nn


def build():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4), nn.Sigmoid())


def train(loader):
    model = build()
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters())
    for x, tags in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), tags)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
from torch import nn


def build():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


def train(loader):
    model = build()
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters())
    for x, tags in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), tags)
        loss.backward()
        optimizer.step()
```

## Remedies
- Remove the sigmoid from what the loss reads; keep it for inference.
- Do not swap the loss for `BCELoss` instead: that is LP101.
- `--fix` is unsafe, for the objective changes: the loss is given the logits, across functions and files; whoever else
  reads probabilities gets a sigmoid of their own, but not who applied one a second time. Where a reader cannot be
  followed, nothing is changed and the finding says which.

## When to ignore it
- When the model's output is bounded on purpose and the loss is meant to see the bounded value. A scaled form such as
  `s * (2 * p - 1)` says so in the code and keeps a gradient.

## References
- PyTorch documentation: `torch.nn.BCEWithLogitsLoss`, `torch.nn.SoftMarginLoss`, `torch.nn.MultiLabelSoftMarginLoss`.
- Lin and others, *Focal Loss for Dense Object Detection* (2017): the loss is defined on the logit.
- pytorch/pytorch#55902: the same confusion, for cross entropy.
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

_BINARY = frozenset(("bce_logits", "soft_margin", "multilabel_soft_margin", "sigmoid_focal"))
_TAKES_LOGITS = _BINARY | {"ce"}


def check(fact: LossCall) -> Iterator[Finding]:
    if fact.kind in _BINARY:
        found = fact.bad("sigmoid", "softmax")
        if found is not None:
            t, confidence = found
            yield fact.finding(
                RULE,
                f"the output of a {t.act} reaches `{fact.word}`, which applies the sigmoid itself: scores stay "
                "between 0.5 and 0.73 and hardly any gradient is left",
                because=t,
                confidence=confidence,
                fix=partial(_fix, fact, t.act),
            )
    elif fact.kind == "ce":
        found = fact.bad("sigmoid")
        if found is not None:
            t, confidence = found
            yield fact.finding(
                RULE,
                f"the output of a sigmoid reaches `{fact.word}`, which takes logits: no class can score above "
                "e / (e + C - 1), however sure the model is",
                because=t,
                confidence=confidence,
                hint="give cross_entropy the raw logits",
                fix=partial(_fix, fact, t.act),
            )


def _fix(fact: LossCall, act: str, patch: Patch) -> tuple[str, str]:
    move(fact, patch, act, _TAKES_LOGITS)
    return "unsafe", f"the loss sees logits, over the whole range; readers of probabilities apply {act}"


_CALLED = {
    "bce-with-logits": "`binary_cross_entropy_with_logits`",
    "soft-margin": "`soft_margin_loss`",
    "log-sigmoid": "a log-sigmoid",
}


def audit(fact: ActivationIntoLoss) -> Iterator[Finding]:
    if fact.loss == "cross-entropy" and fact.activation == "sigmoid":
        yield fact.finding(
            RULE,
            f"the output of a sigmoid reaches the log-softmax of a cross entropy, which takes logits: no class of the "
            f"{fact.figures['classes']} can be given more than {fact.figures['most']:.3g} (here the surest has "
            f"{fact.figures['believed']:.3g}), however sure the model is",
            hint="give cross_entropy the raw logits",
        )
    elif fact.loss in _CALLED and fact.figures:
        yield fact.finding(
            RULE,
            f"the output of a {fact.activation} reaches {_CALLED[fact.loss]}, which applies the sigmoid itself: the "
            f"scores of these {fact.elements} elements lie between {fact.figures['least']:.3g} and "
            f"{fact.figures['most']:.3g} and can only lie between 0.5 and 0.731, with hardly any gradient left",
        )


RULE = Rule(
    code="LP103",
    name="sigmoid-before-logits-loss",
    severity=Severity.ERROR,
    summary="A sigmoid output reaches a loss that applies the sigmoid itself: no score below 0.5, hardly any gradient.",
    hint="give the loss the raw logits; keep the sigmoid for inference",
    page=__doc__ or "",
    evidence="double-sigmoid",
    facts="loss",
    check=check,
    graph="activation-into-loss",
    audit=audit,
)
