"""# LP501 unweighted-loss-sum

## What it does
Points out unlike losses that are added with no weight: `cross_entropy(...) + mse_loss(...)`. It asks for a
measurement; it does not say that the sum is wrong.

`audit` names the terms with their values, and speaks where one outweighs another of a different kind ten times or more.

## Why is this bad
Losses have units. A squared error in dollars is in the millions while a cross entropy is near one, and the sum is
then the first loss with some noise on top. Or they happen to match, and the sum is fine. The code cannot tell, nor
can the loss values alone: what counts is the gradient that each task sends into the *shared* parameters.

## Measured
torch 2.13.0, CPU. One shared layer, four classes (cross entropy 1.41 at the start) and a price around 5,000:

| second loss | its value | share of the loss, classes | share of the gradient in the shared layer, classes |
|---|---|---|---|
| `mse_loss` | 26,178,000 | 0.000005 % | 0.005 % |
| `l1_loss` | 5,005 | 0.03 % | **32 %** |

The second row is why the shares of the loss prove nothing. Trained for 300 steps:

| sum | optimizer | accuracy | price: error over its variance |
|---|---|---|---|
| cross entropy + MSE, raw price | SGD 0.01 | **21.9 % (chance), loss NaN** | NaN |
| the same | Adam 5e-3 | 100 % | **14.9** |
| cross entropy + MSE, standardized price | SGD 0.05 | 97.7 % | 0.016 |
| the same | Adam 5e-3 | 100 % | 0.002 |

- No optimizer makes up for it. Through four shared units the classes reach 90 % with SGD and 97 % with Adam beside a
  task of their size, 22 % and 46 % beside one of 1,000 times the size. Put right late, such weights cost the steps
  before: 150 steps of Adam later it is 94 %, as in a run that began so.
- Weights that make all losses equal are a first guess. Of five tasks one had 94.5 % of the gradient and 95 % of the
  sum; divided by their values they had 68, 4, 18, 9 and 2 %.
- Two objectives that pull against each other need not conflict. An autoencoder reaches an error of 0.629 alone, and
  0.629 beside a term that spreads its embeddings over the sphere. Two targets for one output are a trade-off at every
  weight, and taking turns swings around what the sum reaches.

```sh
python -c "
import torch, torch.nn.functional as F
pred, price = torch.zeros(4), torch.full((4,), 5000.0)
print(F.mse_loss(pred, price).item(), F.l1_loss(pred, price).item())"
```
```text
25000000.0 5000.0
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


class House(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(16, 64), nn.ReLU())
        self.kind, self.price = nn.Linear(64, 4), nn.Linear(64, 1)

    def forward(self, x):
        z = self.trunk(x)
        return self.kind(z), self.price(z)


def train(loader):
    model = House()
    optimizer = torch.optim.Adam(model.parameters())
    for x, kind, price in loader:
        optimizer.zero_grad()
        kind_logits, price_pred = model(x)
        loss = F.cross_entropy(kind_logits, kind) + F.mse_loss(price_pred, price.view(-1, 1))
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


class House(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(16, 64), nn.ReLU())
        self.kind, self.price = nn.Linear(64, 4), nn.Linear(64, 1)

    def forward(self, x):
        z = self.trunk(x)
        return self.kind(z), self.price(z)


def train(loader, price_mean, price_std, price_weight=0.5):
    model = House()
    optimizer = torch.optim.Adam(model.parameters())
    for x, kind, price in loader:
        optimizer.zero_grad()
        kind_logits, price_pred = model(x)
        target = (price.view(-1, 1) - price_mean) / price_std
        loss = F.cross_entropy(kind_logits, kind) + price_weight * F.mse_loss(price_pred, target)
        loss.backward()
        optimizer.step()
```

## Remedies
- Standardize regression targets first. It often settles the matter.
- Measure: the norm of each task's gradient at the last shared layer, over some hundred steps.
- Then a weight per task, named and in the configuration; then, if fixed weights do not hold, uncertainty weighting or
  gradient balancing.
- Watch each task's own metric, never the sum alone.

## When to ignore it
- When the gradients have been measured and are of one size. Write that in the suppression.
- When the parts are one objective: a reconstruction and its divergence in a variational bound, terms with the same
  unit.

## References
- Kendall, Gal, Cipolla, *Multi-Task Learning Using Uncertainty to Weigh Losses* (2018).
- Chen and others, *GradNorm* (2018).
- Xin and others, *Do Current Multi-Task Optimization Methods in Deep Learning Even Help?* (2022): fixed weights are a
  strong baseline.
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.graph.objective_facts import SumOfLosses
from lossproof.rules.registry import Rule
from lossproof.source.facts import Operation
from lossproof.source.tensor_ops import as_tensor, terms_of

_FAMILY = {
    "ce": "log", "nll": "log", "bce": "binary log", "bce_logits": "binary log", "kl": "divergence",
    "mse": "square", "l1": "distance",
    "smooth_l1": "distance", "huber": "distance", "triplet": "margin", "ranking": "margin", "cosine": "cosine",
    "cosine_embedding": "cosine", "gaussian": "log", "poisson": "log", "ctc": "log", "multilabel_soft_margin": "log",
    "soft_margin": "log", "sigmoid_focal": "log", "squared": "square", "absolute": "distance",
}  # fmt: skip


_NAME = {
    "ce": "cross entropy", "nll": "negative log-likelihood", "bce": "binary cross entropy",
    "bce_logits": "binary cross entropy", "kl": "KL divergence", "mse": "squared error", "l1": "absolute error",
    "squared": "squared error", "absolute": "absolute error", "complement": "one minus a score",
}  # fmt: skip


def check(fact: Operation) -> Iterator[Finding]:
    if fact.op != "sum_of_losses":
        return
    kinds: list[str] = []
    for value in fact.others:
        t = as_tensor(value)
        found = terms_of(t)
        if not found and fact.spine and t.get("unknown_loss"):
            found = (f"`{t.get('unknown_loss')}`",)
        if not found and "loss" in t.tags:
            return  # somebody put a coefficient on a term
        kinds.extend(found)
    if len({_FAMILY.get(k, k) for k in kinds}) < 2:
        return
    names = ", ".join(dict.fromkeys(_NAME.get(k, k.replace("_", " ")) for k in kinds))
    yield fact.finding(
        RULE,
        f"unlike losses are added with no weight ({names}): which of them the model learns is decided by their "
        "scales; measure each task's loss and gradient first",
        confidence="possible",
    )


def audit(fact: SumOfLosses) -> Iterator[Finding]:
    whole = sum(abs(each.value or 0.0) for each in fact.addends)
    parts = ", ".join(f"{each.kind} {each.value:.4g} ({_share(each.value, whole)})" for each in fact.addends)
    yield fact.finding(
        RULE,
        f"unlike losses are added with no weight: {parts}; which of them the model learns is decided by their scales: "
        "measure each task's gradient first",
        confidence="possible",
    )


def _share(value: float | None, whole: float) -> str:
    share = 100 * abs(value or 0.0) / whole
    return "over 99.9 %" if 99.9 < share < 100 else f"{share:.3g} %"


RULE = Rule(
    code="LP501",
    name="unweighted-loss-sum",
    severity=Severity.INFO,
    summary="Unlike losses are added with no weight: measure each task's gradient before trusting the sum.",
    hint="standardize targets, measure the gradient of each task at the shared layer, then give each a named weight",
    page=__doc__ or "",
    evidence="loss-share",
    facts="operation",
    check=check,
    graph="sum-of-losses",
    audit=audit,
)
