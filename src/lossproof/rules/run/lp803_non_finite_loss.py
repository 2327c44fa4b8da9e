"""# LP803 non-finite-loss

## What it does
Says that a live loss is NaN or infinite already. Only a loss that was computed shows it: `lossproof.audit(loss)`.

## Why is this bad
One step with it writes NaN into every weight that it reaches, and no later step mends that. A smaller learning rate or
gradient clipping does not help either: clipping divides by a norm that is NaN. What helps is to find the operator that
made it, and the rows of the batch.

## Measured
torch 2.13.0, CPU. `nn.Linear(4, 1)`, mean of squares over 1,000 rows, one NaN among the 4,000 inputs, one Adam step:
the loss is NaN, all 5 of 5 parameters are NaN after the step, and the loss of the next, clean batch is NaN.

```sh
python -c "
import torch
x = torch.ones(1000, 4)
x[17, 2] = float('nan')
net = torch.nn.Linear(4, 1)
optimizer = torch.optim.Adam(net.parameters())
net(x).square().mean().backward()
optimizer.step()
print(sum(int(p.isnan().sum()) for p in net.parameters()), net(torch.ones(8, 4)).square().mean().item())"
```
```text
5 nan
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


def loss():
    x = torch.arange(32.0).reshape(8, 4) / 32
    x[3, 1] = float("nan")
    net = nn.Linear(4, 1)
    return F.mse_loss(net(x).squeeze(1), torch.ones(8))
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def loss():
    x = torch.arange(32.0).reshape(8, 4) / 32
    x[3, 1] = float("nan")
    whole = x.isfinite().all(dim=1)
    net = nn.Linear(4, 1)
    return F.mse_loss(net(x[whole]).squeeze(1), torch.ones(8)[whole])
```

## Remedies
- `lossproof.autopsy(loss)` names the operator that made it, the line, the rows and the cause.
- Now: leave the step out (`if not torch.isfinite(loss): continue`), and keep the batch. If a step was taken with it, go
  back to the last checkpoint: the weights and the optimizer's averages are gone.
- For good: mend what the autopsy names: a guard at the operator, the rows of the data set, the number format.

## When to ignore it
- Under `GradScaler` an infinite *gradient* now and then is how the scale is found, and the step is skipped. An infinite
  loss is not.

## References
- PyTorch documentation: "Automatic Mixed Precision examples", `torch.nn.utils.clip_grad_norm_` (`error_if_nonfinite`).
- pytorch/pytorch#160016: what users miss in `detect_anomaly`.
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.graph.numeric_facts import NotFinite
from lossproof.rules.registry import Rule


def audit(fact: NotFinite) -> Iterator[Finding]:
    if fact.elements == 1:
        what = "the loss is NaN" if fact.nan else "the loss is infinite"
    else:
        parts = [f"{count:,} {word}" for count, word in ((fact.nan, "NaN"), (fact.infinite, "infinite")) if count]
        what = f"of {fact.elements:,} losses {' and '.join(parts)}"
    yield fact.finding(
        RULE,
        f"{what}: one step with it destroys every weight it reaches; `lossproof.autopsy(loss)` says where it began",
    )


RULE = Rule(
    code="LP803",
    name="non-finite-loss",
    severity=Severity.ERROR,
    summary="The loss is NaN or infinite: one step with it destroys every weight that it reaches.",
    hint="lossproof.autopsy(loss) names the operator, the line, the rows and the cause",
    page=__doc__ or "",
    evidence="clipping-spreads-nan",
    graph="not-finite",
    audit=audit,
)
