"""# LP104 nll-without-log-softmax

## What it does
Finds logits or probabilities that reach `nll_loss` or `NLLLoss`. That loss takes log-probabilities. In the graph of a
live loss (`lossproof.audit`) the rows themselves are looked at: the logarithm of a distribution has a logsumexp of 0,
whoever made it.

## Why is this bad
`nll_loss` picks one number per row and negates it; it does no mathematics of its own. Given raw logits it is linear
and has no minimum: the cheapest move is to make every logit large. Given probabilities it is `-p`, bounded by -1, and
its gradient is smallest where the prediction is most wrong. Either way the loss falls, below zero, and the curve
looks like success.

## Measured
torch 2.13.0, CPU. A small network, 4 classes, 512 examples, SGD at 0.1; loss and accuracy on the training data:

| steps | raw logits | softmax | log-softmax |
|---|---|---|---|
| 200 | **-1.4e8, 30 %** | -0.621, 77 % | 0.227, 98 % |

Wrong by a gap of 10 between two classes, the gradient is 4.5e-5 after a softmax and 1.0 after a log-softmax; by a gap
of 50, 1.9e-22 and 1.0.

```sh
python -c "
import torch, torch.nn.functional as F
x = torch.tensor([[10.0, 0.0]], requires_grad=True)
loss = F.nll_loss(x.softmax(1), torch.tensor([1]))
loss.backward()
print(f'{loss.item():.1e} {x.grad[0, 1].item():.1e}')"
```
```text
-4.5e-05 -4.5e-05
```

## Wrong
```python
import torch
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4))
    criterion = nn.NLLLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, label in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), label)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4), nn.LogSoftmax(dim=1))
    criterion = nn.NLLLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, label in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), label)
        loss.backward()
        optimizer.step()
```

## Remedies
- Use `cross_entropy` on the logits: it is `log_softmax` and `nll_loss` in one.
- Or end the model in `log_softmax` along the class axis and keep `nll_loss`.
- `--fix` is unsafe, for the objective changes: `cross_entropy` (or `CrossEntropyLoss`) where logits arrive, a
  log-softmax where a softmax does. A softmax that others read is kept, and the loss gets a log-softmax of its own.
- A training loss for classification that goes negative is this fault, or a close relative. Alert on it.

## When to ignore it
- When `nll_loss` is used on purpose to gather and negate, for example of rewards or advantages. An explicit `gather`
  says that better.

## References
- PyTorch documentation: `torch.nn.NLLLoss` (its input holds log-probabilities), `torch.nn.CrossEntropyLoss`.
- mjc92/GetToThePoint#8: a softmax in front of `NLLLoss` in a published model.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lossproof.finding import Finding, Severity
from lossproof.graph.loss_facts import NllInput
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import LossCall
from lossproof.source.siblings import Activation, decided, exchange_loss, given_input
from lossproof.source.values import T

_RAW = ("affine", "relu", "gelu", "tanh")


def check(fact: LossCall) -> Iterator[Finding]:
    if fact.kind != "nll":
        return
    found = fact.bad("softmax", "sigmoid", "probability", *_RAW)
    if found is None:
        return
    t, confidence = found
    if t.act in _RAW:
        what = "raw outputs reach"
        cost = "the loss is minus one score and falls without bound"
    else:
        what = f"the output of a {t.act} reaches"
        cost = "the loss is minus a probability, and its gradient vanishes where the model is most wrong"
    yield fact.finding(
        RULE,
        f"{what} `{fact.word}`, which takes log-probabilities: {cost}",
        because=t,
        confidence=confidence,
        fix=partial(_fix, fact, t),
    )


def _fix(fact: LossCall, t: T, patch: Patch) -> tuple[str, str]:
    if t.act in _RAW:
        exchange_loss(fact, patch, ("nll_loss", "cross_entropy"), ("NLLLoss", "CrossEntropyLoss"), _raw_alone)
        return "unsafe", "cross entropy of the logits: a loss with a minimum"
    if t.act != "softmax":
        raise Unfixable("nll_loss needs a distribution over the classes, and this is none")
    act = Activation("softmax", t.trace)
    use = given_input(fact)
    way = act.way(fact, patch, use)
    anew = act.written_anew(patch, "log_softmax", use) if way is not None and not way.sole else ""
    if way is not None and anew:
        patch.replace(fact.module, way.last, anew)
    elif way is not None and way.sole and act.is_step:
        act.exchange(patch, "log_softmax")
    elif act.serves(fact, patch):
        act.exchange_tail(patch, "log_softmax")
    else:
        raise Unfixable("the probabilities of the model are used elsewhere, or may be")
    return "unsafe", "nll_loss gets log-probabilities, as it expects"


def _raw_alone(fact: LossCall) -> None:
    # Log-probabilities are welcome too: cross entropy has the same value of them.
    if not decided(fact, (*_RAW, "log_softmax")):
        raise Unfixable("this loss also gets something else than logits")


def audit(fact: NllInput) -> Iterator[Finding]:
    if fact.what == "raw":
        what = "raw outputs reach"
        cost = f"its values go up to {fact.most:.3g}, and the loss is minus one of them and falls without bound"
    else:
        what = "probabilities reach" if fact.what == "probabilities" else f"the output of a {fact.what} reaches"
        cost = (
            f"its values lie between {fact.least:.3g} and {fact.most:.3g}, and the loss is minus a probability: its "
            "gradient vanishes where the model is most wrong"
        )
    yield fact.finding(
        RULE,
        f"{what} `nll_loss`, which takes log-probabilities ({fact.normalized} of {fact.rows} rows over "
        f"{fact.classes} classes are such): {cost}",
    )


RULE = Rule(
    code="LP104",
    name="nll-without-log-softmax",
    severity=Severity.ERROR,
    summary="nll_loss gets logits or probabilities instead of log-probabilities: it has no minimum or no gradient.",
    hint="use cross_entropy on the logits, or log_softmax before nll_loss",
    page=__doc__ or "",
    evidence="nll-unbounded",
    facts="loss",
    check=check,
    graph="nll-input",
    audit=audit,
)
