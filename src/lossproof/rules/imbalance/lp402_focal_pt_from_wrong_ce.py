"""# LP402 focal-pt-from-wrong-ce

## What it does
Finds `pt = exp(-ce)` where `ce` is not the plain cross entropy of one element: it is already a mean or a sum, it
carries
class weights or `pos_weight`, or its labels are smoothed.

## Why is this bad
`exp(-ce)` is the probability of the right class for one unweighted element alone. Of a mean it is one number for the
batch: every element gets the same factor, and nothing is focused. With a weight `w` it is `p ** w`: an easy element
of a
heavy class is taken for a hard one. With smoothed labels it never reaches 1.

## Measured
torch 2.13.0, CPU. An easy element (`p` = 0.982) and a hard one (0.269), `gamma=2`:

| `pt` from | `pt`, easy | `pt`, hard | factor, easy | factor, hard |
|---|---|---|---|---|
| each element | 0.982 | 0.269 | 0.0003 | 0.534 |
| the mean | 0.514 | 0.514 | **0.236** | **0.236** |
| weight 10 | **0.834** | **0.000002** | 0.028 | 1.0 |
| `label_smoothing=0.1` | 0.804 | 0.283 | 0.038 | 0.514 |

```sh
python -c "
import torch, torch.nn.functional as F
z, y = torch.tensor([[4.0, 0.0], [-1.0, 0.0]]), torch.tensor([0, 0])
print((1 - torch.exp(-F.cross_entropy(z, y, reduction='none'))) ** 2)
print((1 - torch.exp(-F.cross_entropy(z, y))) ** 2)"
```
```text
tensor([3.2350e-04, 5.3445e-01])
tensor(0.2363)
```

## Wrong
```python
import torch
from torch import nn


class FocalLoss(nn.Module):
    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma
        self.ce = nn.CrossEntropyLoss()

    def forward(self, logits, target):
        ce = self.ce(logits, target)
        pt = torch.exp(-ce)
        return (1 - pt) ** self.gamma * ce
```

## Right
```python
import torch
from torch import nn


class FocalLoss(nn.Module):
    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma
        self.ce = nn.CrossEntropyLoss(reduction="none")

    def forward(self, logits, target):
        ce = self.ce(logits, target)
        pt = torch.exp(-ce)
        return ((1 - pt) ** self.gamma * ce).mean()
```

## Remedies
- `reduction="none"`, then the factor, then the mean.
- Class weights: take `pt` from the plain cross entropy and multiply the weights in afterwards, `weight[target] * (1 -
  pt) **
  gamma * ce`.
- Smoothed labels: take `pt` from `softmax` at the target.

## When to ignore it
- When the whole batch is one decision, so that its mean is what should be focused on. That is another loss; say so.

## References
- Lin and others, *Focal Loss for Dense Object Detection* (2017).
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.imbalance.places import hop_of
from lossproof.rules.registry import Rule
from lossproof.source.facts import FocalLoss

_SAYS = {
    "reduced": "`pt` is taken from a cross entropy that is already one number: every element gets the same factor, so "
    "nothing is focused",
    "weighted": "`pt` is taken from a weighted cross entropy: it is `p ** weight`, so easy elements of a heavy class "
    "count as hard ones",
    "smoothed": "`pt` is taken from a cross entropy with smoothed labels: it never comes near 1, so easy elements keep "
    "their weight",
}
_HERE = {"reduced": "reduced here", "weighted": "weighted here", "smoothed": "smoothed here"}


def check(fact: FocalLoss) -> Iterator[Finding]:
    order = ("reduced", "weighted", "smoothed")
    for sort, place, latent in sorted(fact.spoiled, key=lambda s: (s[2], order.index(s[0]))):
        severity = Severity.ERROR if sort == "reduced" else Severity.WARNING
        message = _SAYS[sort]
        if latent:
            message = message.replace("`pt` is taken", "where a weight is given, `pt` is taken")
        yield fact.finding(
            RULE,
            message,
            hops=(hop_of(place, _HERE[sort]),),
            severity=Severity.INFO if latent else severity,
            confidence="possible" if latent else "proven",
        )
        return


RULE = Rule(
    code="LP402",
    name="focal-pt-from-wrong-ce",
    severity=Severity.ERROR,
    summary="The probability of a focal loss is taken from a reduced, weighted or label-smoothed cross entropy.",
    hint='take pt from cross_entropy(..., reduction="none") without weights; weigh and reduce afterwards',
    page=__doc__ or "",
    evidence="focal-pt",
    facts="focal",
    check=check,
)
