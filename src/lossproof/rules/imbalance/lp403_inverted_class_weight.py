"""# LP403 inverted-class-weight

## What it does
Finds weights that favour the class which is already frequent: `pos_weight = positives / negatives`, class weights
that are
counts or frequencies (`weight=counts / counts.sum()`), a sampler that draws each class in proportion to its count.

## Why is this bad
A weight is there to make up for rarity, so it has to fall as the count grows. Turned over, it multiplies the
imbalance by
itself: with 5 % positives each counts a nineteenth, and the model learns to say no. The loss looks better than
before,
because the class that it neglects hardly counts in it.

## Measured
torch 2.13.0, CPU. 1,900 negatives, 100 positives, logistic regression, 500 steps of Adam:

| weight | positives found | false alarms | mean probability |
|---|---|---|---|
| none | 38 % | 0.7 % | 0.053 |
| `pos_weight = neg / pos` (19), `weight = total / (2 * counts)` | 83 % | 14 % | 0.249 |
| `pos_weight = pos / neg` (0.053), `weight = counts / total` | **0 %** | 0 % | 0.009 |

```sh
python -c "
import torch, torch.nn.functional as F
z, y = torch.zeros(20, requires_grad=True), torch.tensor([1.0] + [0.0] * 19)
for w in ((1 - y).sum() / y.sum(), y.sum() / (1 - y).sum()):
    z.grad = None
    F.binary_cross_entropy_with_logits(z, y, pos_weight=w).backward()
    print(round(w.item(), 3), round((z.grad[0] / z.grad[1:].sum()).item(), 4))"
```
```text
19.0 -1.0
0.053 -0.0028
```

## Wrong
```python
import torch
from torch import nn


def build_criterion(labels):
    pos = (labels == 1).sum()
    neg = (labels == 0).sum()
    return nn.BCEWithLogitsLoss(pos_weight=pos / neg)
```

## Right
```python
import torch
from torch import nn


def build_criterion(labels):
    pos = (labels == 1).sum()
    neg = (labels == 0).sum()
    return nn.BCEWithLogitsLoss(pos_weight=neg / pos.clamp(min=1))
```

## Remedies
- `pos_weight = negatives / positives`; for classes `weight = total / (number of classes * counts)`.
- Very rare classes: damp it, `weight = (total / counts).sqrt()`, or cap it.
- Every such weight moves the decision threshold: put the prior back, or choose the threshold on validation data.

## When to ignore it
- When the frequent class is the one that matters, or the training set was balanced and the weights put the true prior
  back.
  Say so in the suppression.

## References
- PyTorch documentation, `BCEWithLogitsLoss`: "if a dataset contains 100 positive and 300 negative examples of a
  single
  class, then `pos_weight` for the class should be equal to 300 / 100".
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import ClassWeight
from lossproof.source.values import Hop

_SAYS = {
    "pos_weight": "`pos_weight` grows with the number of positives (it should be negatives / positives): the rarer "
    "they are, the less they count",
    "weight": "the class weights grow with the counts of the classes: the frequent ones count most, the rare ones are "
    "silenced",
    "sampler": "the sampler draws a class the more often the more frequent it is: rare classes all but vanish from the "
    "batches",
}


def check(fact: ClassWeight) -> Iterator[Finding]:
    if fact.share.towards(fact.kind) <= 0:
        return
    hops: tuple[Hop, ...] = ()
    if fact.share.at is not None:
        frame, node = fact.share.at
        hops = (Hop(frame.function.module, node.at, "the weight is computed here"),)
    yield fact.finding(RULE, _SAYS[fact.kind], hops=hops, confidence="likely" if fact.share.named else "proven")


RULE = Rule(
    code="LP403",
    name="inverted-class-weight",
    severity=Severity.ERROR,
    summary="Class weights that favour the frequent class: the rare one counts even less than without them.",
    hint="turn the quotient over: negatives / positives, or total / (classes * counts)",
    page=__doc__ or "",
    evidence="class-weight",
    facts="class_weight",
    check=check,
)
