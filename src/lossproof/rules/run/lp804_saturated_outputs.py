"""# LP804 saturated-outputs

## What it does
Counts outputs of a live loss that are wrong and send back a gradient of exactly 0: behind a sigmoid or tanh that has
rounded to its end, a softmax that has become one class alone, a clamp that has cut, a `relu` that gave 0. It is read
from what the graph holds (`lossproof.audit(loss)`), with no backward pass. Zeros of a `relu` are told where an output
is 0 in every row, or nearly all are: half of them are zero in any layer of features.

## Why is this bad
Those are the examples that the model is most sure of and wrong about, and they are the ones that teach nothing. The
loss stays where it is, no matter how long the training goes on; nothing is NaN and nothing warns. In half precision it
begins at ordinary logits.

## Measured
torch 2.13.0, CPU. The first input at which the derivative is exactly 0:

| activation | float32 | bfloat16 | float16 |
|---|---|---|---|
| sigmoid, towards 1 | 16.64 | 6.25 | 8.32 |
| sigmoid, towards 0 | -88.7 | -89 | -17.3 |
| tanh | 9.02 | 3.47 | 4.51 |
| softmax, margin over all others | 104 | 93 | 17.3 |

After 1,000 SGD steps with rate 0.1: `sigmoid(x)` against 0 with squared error, from a logit of 20, is still at 20 and
costs 1.0; `x.clamp(0, 1)` against 0 likewise; `relu(x)` against 1, from -1, is still at -1.

```sh
python -c "
import torch, torch.nn.functional as F
x = torch.tensor([20.0, 2.0], requires_grad=True)
loss = F.mse_loss(x.sigmoid(), torch.zeros(2))
loss.backward()
print(round(loss.item(), 3), [round(g, 3) for g in x.grad.tolist()])"
```
```text
0.888 [0.0, 0.092]
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


def loss():
    net = nn.Linear(4, 1)
    nn.init.constant_(net.weight, 10.0)
    score = torch.sigmoid(net(torch.ones(8, 4)).squeeze(1))
    return F.mse_loss(score, torch.zeros(8))
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def loss():
    net = nn.Linear(4, 1)
    nn.init.constant_(net.weight, 10.0)
    score = net(torch.ones(8, 4)).squeeze(1)
    return F.binary_cross_entropy_with_logits(score, torch.zeros(8))
```

## Remedies
- Probabilities: a loss on logits, whose gradient is largest where the prediction is most wrong (LP101, LP102, LP103).
- A bounded regression: let the loss see the unbounded output, and bound it where it is used. `pred.clamp(0, 1)` belongs
  into evaluation, not in front of the loss.
- A positive regression: `softplus` instead of `relu`, whose dead outputs can come back.
- Large logits at the start: a smaller initial weight, inputs on the scale of 1, a smaller learning rate.
- Half precision: compute the activation and the loss in float32.

## When to ignore it
- When the model is right about them: what is not wrong is not counted.
- When values are cut on purpose so that they do not teach (a clipped policy ratio). Where the same output reaches the
  loss on a second way, nothing is said.

## References
- Goodfellow, Bengio, Courville, *Deep Learning* (2016), section 6.2.2: output units that saturate need a loss that
  undoes it.
- Lu, Shin, Su, Karniadakis, *Dying ReLU and Initialization* (2019).
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.graph.facts import rows_said
from lossproof.graph.numeric_facts import Saturated
from lossproof.rules.registry import Rule

MOST = 0.5


def audit(fact: Saturated) -> Iterator[Finding]:
    count, wrong = fact.count, fact.wrong
    name = f"`{fact.activation}`"
    one = count.found == 1
    all_rows = ""
    if fact.columns and len(fact.columns) < _width(count.shape):
        columns = rows_said(fact.columns).replace("row", "column", 1)
        all_rows = f"; {columns} in every row of the batch"
    wrong_said = f"{wrong:,} {fact.per}s that are" if wrong > 1 else f"1 {fact.per} that is"
    yield fact.finding(
        RULE,
        f"{count.found:,} of {wrong_said} wrong (of {count.elements:,}) {'lies' if one else 'lie'} in the flat part of "
        f"{name}{count.at}: the gradient there is exactly 0, and nothing is learned from {'it' if one else 'them'}"
        f"{all_rows}",
        severity=Severity.ERROR if fact.columns or _most(fact) else Severity.WARNING,
    )


def _most(fact: Saturated) -> bool:
    """So many of the wrong ones that the loss hardly teaches."""
    return fact.count.found >= MOST * fact.wrong


def _width(shape: tuple[int, ...]) -> int:
    width = 1
    for each in shape[1:]:
        width *= each
    return width


RULE = Rule(
    code="LP804",
    name="saturated-outputs",
    severity=Severity.ERROR,
    summary="Outputs that are wrong and send back a gradient of exactly 0: nothing is learned from them.",
    hint="use a loss on logits, keep clamps out of training, softplus instead of relu",
    page=__doc__ or "",
    evidence="bce-dead-gradient",
    graph="saturated",
    audit=audit,
)
