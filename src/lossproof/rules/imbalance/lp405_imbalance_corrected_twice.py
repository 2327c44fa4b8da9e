"""# LP405 imbalance-corrected-twice

## What it does
Finds a training that evens out its classes twice: the batches are drawn in balance (`WeightedRandomSampler`, a
balanced
batch sampler, oversampling), and the loss weighs the classes on top (`weight`, `pos_weight`).

Both have to make up for the counts of the classes. A sampler that evens out something else (sources, difficulty) is not
reported. Weights that are written as numbers may be costs: then it is a note only.

## Why is this bad
Each of them makes up for the whole imbalance. Together they overshoot by as much: after a balanced draw with 5 %
positives
a `pos_weight` of 19 makes a positive count nineteen times as much as a negative, and the model learns to say yes.

## Measured
torch 2.13.0, CPU. 1,900 negatives, 100 positives, logistic regression, 400 steps of Adam, judged on the data as they
are:

| corrected by | positives found | false alarms | mean probability |
|---|---|---|---|
| nothing | 22 % | 0.7 % | 0.053 |
| the sampler | 86 % | 16 % | 0.253 |
| `pos_weight=19` | 86 % | 15 % | 0.250 |
| both | 100 % | **65 %** | **0.643** |

Each alone leads to one place: positives drawn 19 times as often, or counted 19 times, give weights that differ by 4e-7.

```sh
python -c "
import torch, torch.nn.functional as F
y = torch.cat([torch.ones(10), torch.zeros(10)])  # drawn in balance
z = torch.zeros(20, requires_grad=True)
F.binary_cross_entropy_with_logits(z, y, pos_weight=torch.tensor(19.0)).backward()
print((z.grad[:10].sum() / z.grad[10:].sum()).item())"
```
```text
-19.0
```

## Wrong
```python
import torch
from torch import nn
from torch.utils.data import DataLoader, WeightedRandomSampler


def train(model, dataset, labels, optimizer):
    counts = torch.bincount(labels).float().clamp(min=1)
    class_weights = counts.sum() / (len(counts) * counts)
    sampler = WeightedRandomSampler(class_weights[labels], len(labels))
    loader = DataLoader(dataset, batch_size=64, sampler=sampler)
    criterion = nn.CrossEntropyLoss(weight=class_weights)
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
```

## Right
```python
import torch
from torch import nn
from torch.utils.data import DataLoader, WeightedRandomSampler


def train(model, dataset, labels, optimizer):
    counts = torch.bincount(labels).float().clamp(min=1)
    class_weights = counts.sum() / (len(counts) * counts)
    sampler = WeightedRandomSampler(class_weights[labels], len(labels))
    loader = DataLoader(dataset, batch_size=64, sampler=sampler)
    criterion = nn.CrossEntropyLoss()
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
```

## Remedies
- Keep one of the two. The sampler shows rare examples more often (and learns them by heart sooner); weights leave the
  data as
  they are and make the gradient noisier.
- Both on purpose: split the correction, for example the square root of the counts in each.

## When to ignore it
- When the weights stand for something else: the cost of a mistake, not the rarity of a class.

## References
- King and Zeng, *Logistic Regression in Rare Events Data* (2001): what a balanced draw does to the intercept.
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import BalancedTwice, location
from lossproof.source.values import Hop


def check(fact: BalancedTwice) -> Iterator[Finding]:
    assert fact.sampler is not None
    built = fact.built
    place = location(built.module, built.at) if built is not None else None
    applied = (Hop(fact.module, fact.node.at, "applied to those batches here"),) if built is not None else ()
    if fact.reason == "number":
        yield fact.finding(
            RULE,
            f"`{fact.setting}` weighs classes that the batches already hold in balance: unless these numbers are the "
            "cost of a mistake, the imbalance is corrected twice",
            hops=(fact.sampler, *applied),
            place=place,
            severity=Severity.INFO,
            confidence="possible",
        )
        return
    proven = fact.sure and fact.reason == "counts"
    yield fact.finding(
        RULE,
        f"`{fact.setting}` weighs classes that the batches already hold in balance: the imbalance is corrected twice, "
        "and the rare class is favoured by as much as it was rare",
        hops=(fact.sampler, *applied),
        place=place,
        confidence="proven" if proven else "likely",
    )


RULE = Rule(
    code="LP405",
    name="imbalance-corrected-twice",
    severity=Severity.WARNING,
    summary="Balanced sampling and class weights in one training: the imbalance is corrected twice.",
    hint="keep the sampler or the class weights, not both",
    page=__doc__ or "",
    evidence="balanced-twice",
    facts="balanced_twice",
    check=check,
)
