"""# LP107 bce-on-probabilities

## What it does
Points out `binary_cross_entropy` or `BCELoss` on probabilities that are not one sigmoid: a mean or a product of
several, a complement, an attention-pooled score, an output that someone else computed. In the graph of a live loss
(`lossproof.audit`) it counts the elements that are exactly 0 or 1.

## Why is this bad
It is often right: when a probability is built from parts, no single logit exists and this loss is the honest one. It
then inherits the saturation of its parts, and there is no fused form to fall back on. The gradient per probability
reaches 1e12 at the edge or is exactly zero past it. Where the parts are sigmoids or softmaxes, the same quantity can
be computed in log space at no loss.

## Measured
torch 2.13.0, CPU. The loss on a bare probability: at p = 0 with target 1 it is 100 and its gradient with respect to p
is -1e12; at p = 1e-8 it is 18.4 and -1e8. The mean of two sigmoids (logits v and v + 1), target 0:

| v | BCE on the mean: loss, gradients | in log space: loss, gradients |
|---|---|---|
| 10 | 10.38, (0.731, 0.269) | 10.38, (0.731, 0.269) |
| 16 | 16.64, (1.0, **0**) | 16.38, (0.731, 0.269) |
| 17 | 100, (**0**, **0**) | 17.38, (0.731, 0.269) |
| 20 | 100, (**0**, **0**) | 20.38, (0.731, 0.269) |

```sh
python -c "
import torch, torch.nn.functional as F
x = torch.tensor([17.0, 18.0], requires_grad=True)
F.binary_cross_entropy(x.sigmoid().mean(), torch.tensor(0.0)).backward()
print(x.grad.tolist())"
```
```text
[0.0, 0.0]
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


class Committee(nn.Module):
    def __init__(self):
        super().__init__()
        self.members = nn.Linear(16, 3)

    def forward(self, x):
        return torch.sigmoid(self.members(x)).mean(dim=1)


def train(loader):
    model = Committee()
    optimizer = torch.optim.Adam(model.parameters())
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
```

## Right
```python
import math

import torch
import torch.nn.functional as F
from torch import nn


def committee_loss(votes, y):
    yes = torch.logsumexp(F.logsigmoid(votes), dim=1) - math.log(votes.size(1))
    no = torch.logsumexp(F.logsigmoid(-votes), dim=1) - math.log(votes.size(1))
    return -(y * yes + (1 - y) * no).mean()


def train(loader):
    model = nn.Linear(16, 3)
    optimizer = torch.optim.Adam(model.parameters())
    for x, y in loader:
        optimizer.zero_grad()
        loss = committee_loss(model(x), y)
        loss.backward()
        optimizer.step()
```

## Remedies
- A mean of sigmoids: `logsumexp` of `logsigmoid`, for the event and for its complement, as above.
- A product of probabilities: add their logarithms. "At least one of several": add `logsigmoid(-x)` to get the
  log-probability of none.
- A mean of *logits* with the logits loss, if the model may be changed: it is another model, and a simpler one.
- If the probability cannot be taken apart, keep this loss in float32, and count how many elements sit at exactly 0 or
  1.

## When to ignore it
- When the probability comes from outside (a calibrated upstream model, a physical formula) and stays away from 0 and
  1.
- When the parts are bounded. Then this loss is the right one; this rule is a note, not an accusation.

## References
- PyTorch documentation: `torch.nn.BCELoss` (the bound at -100), `torch.logsumexp`, `torch.nn.functional.logsigmoid`.
- Maechler, *Accurately Computing log(1 - exp(-|a|))* (2012), for the complement of a product.
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.graph.facts import ActivationIntoLoss
from lossproof.rules.registry import Rule
from lossproof.source.facts import LossCall
from lossproof.source.values import T


def check(fact: LossCall) -> Iterator[Finding]:
    if fact.kind != "bce":
        return
    options = [t for _, t in fact.inputs()]
    if not options or not all(_composed(t) for t in options):
        return
    what = "a softmax" if options[0].act == "softmax" else "a probability that is not one sigmoid"
    yield fact.finding(
        RULE,
        f"`{fact.word}` is computed on {what}: right if there is no logit for it, but it saturates as its "
        "parts do; check the share of elements without gradient",
        because=options[0],
    )


def _composed(t: T) -> bool:
    if t.act in ("probability", "softmax", "probability_sum"):
        return True
    bounded = t.lo is not None and t.lo >= 0 and t.hi is not None and t.hi <= 1
    return bounded and t.act != "sigmoid" and "pred" in t.tags and "data" not in t.tags


def audit(fact: ActivationIntoLoss) -> Iterator[Finding]:
    if fact.loss != "bce" or fact.activation == "sigmoid":
        return
    what = "a softmax" if fact.activation == "softmax" else f"a probability that is not one sigmoid ({fact.activation})"
    edge = (
        f"{fact.dead} of {fact.elements} elements are exactly 0 or 1, where the gradient is 0 or as large as 1e12"
        if fact.dead
        else f"none of the {fact.elements} elements is at 0 or 1 now"
    )
    yield fact.finding(
        RULE,
        f"`binary_cross_entropy` is computed on {what}: right if there is no logit for it, but it saturates as its "
        f"parts do; {edge}",
    )


RULE = Rule(
    code="LP107",
    name="bce-on-probabilities",
    severity=Severity.INFO,
    summary="binary_cross_entropy on probabilities that are not one sigmoid: often right, saturates like its parts.",
    hint="compute the log-probability and its complement in log space, or count saturated elements",
    page=__doc__ or "",
    evidence="bce-on-probabilities",
    facts="loss",
    check=check,
    graph="activation-into-loss",
    audit=audit,
)
