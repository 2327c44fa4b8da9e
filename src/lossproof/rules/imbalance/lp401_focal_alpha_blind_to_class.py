"""# LP401 focal-alpha-blind-to-class

## What it does
Finds a focal loss whose `alpha` is one number that multiplies every element, whatever its class: `alpha * (1 - pt) **
gamma * ce`.

## Why is this bad
`alpha` is there to balance the classes: `alpha` for a positive, `1 - alpha` for a negative, or one number for each
class.
The same number in front of everything is a constant in front of the loss. It moves the learning rate, not the
balance,
and a search over `alpha` compares seeds.

## Measured
torch 2.13.0, CPU. 4,950 negatives, 50 positives, logistic regression, 400 steps of Adam, `gamma=2`; how many
positives are
found:

| `alpha` | one for all | `alpha` and `1 - alpha` |
|---|---|---|
| 0.25 | 6 % | 2 % |
| 0.75 | 6 % | 8 % |
| 0.95 | **6 %** | **46 %** |

With one for all the bias came out as -2.21434 each time. The gradients of the two settings are one another's
multiples:

```sh
python -c "
import torch, torch.nn.functional as F
y = torch.tensor([1.0, 0.0])
for alpha in (0.25, 0.75):
    z = torch.zeros(2, requires_grad=True)
    ce = F.binary_cross_entropy_with_logits(z, y, reduction='none')
    (alpha * (1 - torch.exp(-ce)) ** 2 * ce).mean().backward()
    print(alpha, round(float(z.grad[0] / z.grad[1]), 3))"
```
```text
0.25 -1.0
0.75 -1.0
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


class FocalLoss(nn.Module):
    def __init__(self, alpha=0.25, gamma=2.0):
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits, target):
        ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        pt = torch.exp(-ce)
        return (self.alpha * (1 - pt) ** self.gamma * ce).mean()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


class FocalLoss(nn.Module):
    def __init__(self, alpha=0.25, gamma=2.0):
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits, target):
        ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        pt = torch.exp(-ce)
        alpha_t = self.alpha * target + (1 - self.alpha) * (1 - target)
        return (alpha_t * (1 - pt) ** self.gamma * ce).mean()
```

## Remedies
- Two classes: `alpha_t = alpha * y + (1 - alpha) * (1 - y)`.
- Many classes: a tensor with a weight for each class, picked by the target: `alpha[target]`.
- Or drop `alpha`. Focusing does most of the work; measure whether anything is left for it to do.

## When to ignore it
- When the number is meant as a weight of this loss among others. Then call it so, or apply it after the mean: neither
  is
  reported.

## References
- Lin and others, *Focal Loss for Dense Object Detection* (2017), section 3: `alpha_t` is defined as `p_t` is.
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.imbalance.places import hop_of, shown
from lossproof.rules.registry import Rule
from lossproof.source.facts import FocalLoss


def check(fact: FocalLoss) -> Iterator[Finding]:
    for scale in fact.scales:
        if scale.value is not None and not 0 < abs(scale.value) < 1e6:
            continue
        if scale.value is not None and abs(scale.value) == 1:
            continue
        amount = shown(scale.value) if scale.value is not None else "one number"
        name = f"`{scale.name}`" if scale.name else "the factor"
        yield fact.finding(
            RULE,
            f"{name} ({amount}) multiplies every element of the focal loss, whatever its class: it only rescales the "
            "loss and balances nothing",
            hops=(hop_of(scale.place, "chosen here"),),
            confidence="proven" if scale.value is not None else "likely",
        )
        return


RULE = Rule(
    code="LP401",
    name="focal-alpha-blind-to-class",
    severity=Severity.WARNING,
    summary="One alpha multiplies every class of a focal loss alike: it rescales the loss and balances nothing.",
    hint="alpha_t = alpha * y + (1 - alpha) * (1 - y), or a weight for each class picked by the target",
    page=__doc__ or "",
    evidence="focal-alpha",
    facts="focal",
    check=check,
)
