"""# LP302 graph-cut-in-loss

## What it does
Finds an operation between the prediction and the loss through which no gradient passes: `.item()`, `.detach()`,
`.data`, numpy, a tensor that is wrapped again (`torch.tensor(loss)`), `argmax`, `round`, `sign`, a comparison such as
`probs > 0.5`. In the graph of a live loss (`lossproof.audit`) a term is dead if every way to a parameter has a
derivative of 0; what was detached or turned into a number is told where `lossproof.recording()` saw it.

## Why is this bad
If the whole loss is cut, `backward()` raises and the fault is found in a minute. The dangerous cases are silent:
`round`, `floor` and `sign` have a gradient that exists and is zero, and when only one *term* of a sum is cut, the
rest trains and the cut term decorates the log. It may even fall, because the rest improves it by chance.

## Measured
torch 2.13.0, CPU. A linear model, `backward()` on each loss:

| the prediction passes through | what happens |
|---|---|
| `round`, `floor`, `sign` | no error, gradient exactly **0** |
| `.detach().requires_grad_()` | no error, the model gets **no gradient at all** |
| `.detach()`, `.data`, `.item()`, numpy, `torch.tensor(...)`, `> 0`, `argmax`, `one_hot` | alone: `RuntimeError` |
| any of them in one term of a sum | no error, the gradient equals that of the sum without it, to the bit |
| `heaviside` | `RuntimeError`: no derivative |

A squared error of rounded answers starts at 48.7 and is at 48.7 after 200 steps; with a straight-through estimator it
is at 0. No learning rate helps: at 0.2, 0.02 and 0.002 the model is as it was before training.

```sh
python -c "
import torch
w = torch.tensor([0.3], requires_grad=True)
(w.round() - 1).square().sum().backward()
print(w.grad.item())"
```
```text
0.0
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, stars in loader:
        optimizer.zero_grad()
        rating = model(x).squeeze(1).round()
        loss = F.mse_loss(rating, stars)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, stars in loader:
        optimizer.zero_grad()
        rating = model(x).squeeze(1)
        loss = F.mse_loss(rating, stars)
        loss.backward()
        optimizer.step()
```

## Remedies
- Train on the soft value (probabilities, the unrounded number); threshold and round in the metric.
- Where a hard decision must be in the loss: a straight-through estimator, `x + (x.round() - x).detach()`, or
  Gumbel-softmax.
- Log with `.item()` or `.detach()` *after* `backward()`, on another name.
- A test that would have found it: every parameter has a gradient that is not all zero after one step.

## When to ignore it
- A stop-gradient that is part of the method: a target network, pseudo labels, a teacher, a straight-through
  estimator, a loss weight that is computed from another loss. On the target's side nothing is reported.

## References
- PyTorch documentation: "Autograd mechanics", `torch.Tensor.detach`, `torch.nn.functional.gumbel_softmax`.
- Bengio, Leonard, Courville, *Estimating or Propagating Gradients Through Stochastic Neurons* (2013): the
  straight-through estimator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lossproof.finding import Finding, Severity
from lossproof.graph.loss_facts import DeadTerm
from lossproof.rules.registry import Rule
from lossproof.source.facts import GradientCut

_WHAT = {
    "argmax": "the index of a maximum has no gradient",
    "round": "rounding has a gradient of zero everywhere",
    "sign": "the sign has a gradient of zero everywhere",
    "threshold": "a comparison has no gradient",
    "one_hot": "a one-hot code has no gradient",
    "count": "a count has no gradient",
    "draw": "a drawn sample has no gradient",
    "integer": "an integer has no gradient",
    "item": "a Python number leaves the graph",
    "numpy": "a numpy array leaves the graph",
    "detach": "`detach()` leaves the graph",
    "data": "`.data` leaves the graph",
    "rewrap": "a tensor made anew from numbers has no graph",
    "no_grad": "what is computed under `no_grad` has no graph",
}


def check(fact: GradientCut) -> Iterator[Finding]:
    yield fact.finding(
        RULE,
        f"{_WHAT[fact.how]}, and nothing else in this term of the loss carries one: the term trains nothing",
        confidence="likely",
    )


_CUT = {
    "number": _WHAT["item"],
    "rewrapped": _WHAT["rewrap"],
    "no-grad": _WHAT["no_grad"],
    "numpy": _WHAT["numpy"],
    "detach": _WHAT["detach"],
    "floor": "`floor` has a gradient of zero everywhere",
    "ceil": "`ceil` has a gradient of zero everywhere",
    "trunc": "`trunc` has a gradient of zero everywhere",
    "round": _WHAT["round"],
    "sign": _WHAT["sign"],
    "sgn": _WHAT["sign"],
}


def audit(fact: DeadTerm) -> Iterator[Finding]:
    what = _CUT.get(fact.by)
    if what is None:
        called = fact.cut.note.called.rpartition(".")[2] if fact.cut is not None else fact.by
        what = f"`{called}` has no gradient"
    term = "the whole loss" if fact.whole else "this term of the loss"
    rest = "" if fact.whole else ", while the other terms do train"
    found = fact.finding(
        RULE,
        f"{what}, and nothing else in {term} carries one: it trains nothing{rest}",
        confidence="proven" if fact.cut is None else "likely",
    )
    if fact.cut is not None:
        place = fact.cut.note.at()
        found = replace(found, location=place, related=(replace(found.location, message="added to the loss here"),))
    yield found


RULE = Rule(
    code="LP302",
    name="graph-cut-in-loss",
    severity=Severity.ERROR,
    summary="An operation between prediction and loss lets no gradient through: that term trains nothing.",
    hint="compute the loss on the soft value; round, threshold and detach only for metrics and logs",
    page=__doc__ or "",
    evidence="graph-cut",
    facts="cut",
    check=check,
    graph="dead-term",
    audit=audit,
)
