"""# LP111 log-softmax-before-cross-entropy

## What it does
Points out a log-softmax whose output reaches `cross_entropy` or `CrossEntropyLoss`.

## Why is this bad
It is not wrong. A log-softmax of a log-softmax is itself, so value and gradient stay the same. It costs a pass
forward and a pass backward over the logits, and it says that the author took the loss for another one. The next edit
(a softmax instead, a temperature, a swap to `nll_loss`) is then made on that belief.

## Measured
torch 2.13.0, CPU. Logits of 1,024 rows and 500 classes:

| | one log-softmax | two |
|---|---|---|
| loss | 15.797 | 15.797 |
| largest difference of any gradient, as a share of the largest | | 5.4e-7 |
| CPU time forward and backward, one thread | 1 | 1.8 to 2.5 |

```sh
python -c "
import torch, torch.nn.functional as F
torch.manual_seed(0)
x, y = torch.randn(8, 5) * 5, torch.randint(0, 5, (8,))
print(torch.allclose(F.cross_entropy(x, y), F.cross_entropy(x.log_softmax(1), y), atol=1e-6))"
```
```text
True
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

    def forward(self, x):
        return F.log_softmax(self.net(x), dim=1)


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
        return F.log_softmax(self.net(x), dim=1)


def train(loader):
    model = DigitNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, digit in loader:
        optimizer.zero_grad()
        loss = F.nll_loss(model(x), digit)
        loss.backward()
        optimizer.step()
```

## Remedies
- Keep `cross_entropy` and return the logits.
- Or keep the log-softmax, when its log-probabilities are used elsewhere, and take `nll_loss`.
- `--fix` (safe: the value is the same) drops the log-softmax where nothing but this loss reads it, else calls
  `nll_loss` or builds `NLLLoss`; not where the loss smooths labels or takes class probabilities.

## When to ignore it
- When the model belongs to someone else and returns log-probabilities: the cost is small, the result is right.

## References
- PyTorch documentation: `torch.nn.CrossEntropyLoss` (equal to `LogSoftmax` and `NLLLoss`), `torch.nn.NLLLoss`.
- malnet-graph#6: a log-softmax in front of `CrossEntropyLoss`, reported as a bug.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import partial

from lossproof.finding import Finding, Severity
from lossproof.graph.facts import ActivationIntoLoss
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import LossCall
from lossproof.source.siblings import Activation, decided, exchange_loss, given_input, given_target
from lossproof.source.values import T, constant

_SOFT = re.compile(r"one_?hot|soft|smooth|mix|prob|\.float\(", re.I)


def check(fact: LossCall) -> Iterator[Finding]:
    if fact.kind != "ce":
        return
    found = fact.bad("log_softmax")
    if found is not None:
        t, confidence = found
        yield fact.finding(
            RULE,
            f"the output of a log-softmax reaches `{fact.word}`, which applies it again: the value is the same, "
            "the work is done twice, and the next reader is misled",
            because=t,
            confidence=confidence,
            fix=partial(_fix, fact, t),
        )


def _fix(fact: LossCall, t: T, patch: Patch) -> tuple[str, str]:
    act = Activation("log_softmax", t.trace)
    _over_the_classes(act, t)
    way = act.way(fact, patch, given_input(fact))
    if way is not None and way.sole and act.is_step:
        statement, operand = patch.statement(act.module, act.call), act.operand
        again = isinstance(statement, ast.Assign) and statement.value is act.call and isinstance(operand, ast.Name)
        if again and [getattr(n, "id", "") for n in statement.targets] == [operand.id]:
            patch.delete(act.module, statement)
        else:
            act.keep_operand(patch)
        return "safe", "cross_entropy gets the logits: the value is the same"
    exchange_loss(
        fact, patch, ("cross_entropy", "nll_loss"), ("CrossEntropyLoss", "NLLLoss"), partial(_takes_nll, patch)
    )
    return "safe", "nll_loss takes the log-probabilities as they are: the value is the same"


def _over_the_classes(act: Activation, t: T) -> None:
    """A log-softmax over another axis than that of the loss changes the value."""
    axis, rank = t.get("dim"), t.get("ndim")
    if axis is None and rank == 2 and act.axis_number() == -1:
        return
    if not (axis == 1 or (axis == -1 and rank in (None, 2)) or (axis == 0 and rank == 1)):
        raise Unfixable("whether the log-softmax runs over the axis of the classes is not known")


def _takes_nll(patch: Patch, fact: LossCall) -> None:
    if not decided(fact, ("log_softmax",)):
        raise Unfixable("this loss also gets something else than log-probabilities")
    for _, t in fact.inputs():
        _over_the_classes(Activation("log_softmax", t.trace), t)
    smoothing = fact.settings.get("label_smoothing")
    if (smoothing is not None and constant(smoothing) != 0) or len(getattr(fact.node.at, "args", ())) > 7:
        raise Unfixable("nll_loss has no label smoothing")
    soft = any(t.act or t.get("width") for _, t in fact.targets())
    if soft or _SOFT.search(patch.text(fact.module, given_target(fact))):
        raise Unfixable("nll_loss takes class indices, not class probabilities")


def audit(fact: ActivationIntoLoss) -> Iterator[Finding]:
    if (fact.loss, fact.activation) != ("cross-entropy", "log-softmax"):
        return
    yield fact.finding(
        RULE,
        f"the output of a log-softmax reaches another log-softmax: the value is the same, the work on "
        f"{fact.elements} elements is done twice, and the next reader is misled",
    )


RULE = Rule(
    code="LP111",
    name="log-softmax-before-cross-entropy",
    severity=Severity.INFO,
    summary="A log-softmax output reaches cross_entropy, which applies it again: same value, wasted work.",
    hint="give cross_entropy the logits, or use nll_loss on the log-probabilities",
    page=__doc__ or "",
    evidence="log-softmax-idempotent",
    facts="loss",
    check=check,
    graph="activation-into-loss",
    audit=audit,
)
