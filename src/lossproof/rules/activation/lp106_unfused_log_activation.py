"""# LP106 unfused-log-activation

## What it does
Finds a logarithm of an activation that a fused function computes safely: `log(softmax(x))`, `log(sigmoid(x))`, `log(1 -
sigmoid(x))`. In the graph of a live loss (`lossproof.audit`) it counts the elements that have rounded to 0, or lie at
the guard.

## Why is this bad
The activation rounds first and the logarithm sees what is left: a tiny number, or zero. A confident mistake then
gives a loss of infinity or a gradient of NaN, and one such element ruins every weight in that step. The fused forms
never build the tiny number, so they are exact at any logit. `log(1 - sigmoid(x))` is the worst of the three: `1 - p`
is zero while the logit is still moderate.

## Measured
torch 2.13.0, CPU. First size of the logit (or of the gap between logits) with a non-finite loss or gradient:

| form | float32 | float16 | bfloat16 | fused form, up to 200 |
|---|---|---|---|---|
| `log(softmax(x))` of the losing class | 88.7 | 11.1 | 88.8 | finite |
| `log(sigmoid(-x))` | 88.7 | 11.1 | 88.8 | finite |
| `log(1 - sigmoid(x))` | **16.6** | **8.3** | **6.2** | finite |

Between gaps of 89 and 103 the float32 loss of `log(softmax(x))` is still finite and looks right; only its gradient is
not. An epsilon inside (`log(softmax(x) + 1e-8)`) keeps it finite and lets the gradient die instead: at a gap of 20
the loss is 18.2 with gradient -0.17 (fused: 20 and -1.0), at a gap of 50 the gradient is -1.9e-14.

```sh
python -c "
import torch, torch.nn.functional as F
for f in (lambda x: torch.log(1 - torch.sigmoid(x)), lambda x: F.logsigmoid(-x)):
    x = torch.tensor([17.0], requires_grad=True)
    loss = -f(x).mean()
    loss.backward()
    print(loss.item(), round(x.grad.item(), 3))"
```
```text
inf nan
17.0 1.0
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 5))
    optimizer = torch.optim.Adam(model.parameters())
    for x, label in loader:
        optimizer.zero_grad()
        log_probs = torch.log(torch.softmax(model(x), dim=1))
        loss = F.nll_loss(log_probs, label)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 5))
    optimizer = torch.optim.Adam(model.parameters())
    for x, label in loader:
        optimizer.zero_grad()
        log_probs = F.log_softmax(model(x), dim=1)
        loss = F.nll_loss(log_probs, label)
        loss.backward()
        optimizer.step()
```

## Remedies
- `log(softmax(x))` is `log_softmax(x)`.
- `log(sigmoid(x))` is `logsigmoid(x)`; `log(1 - sigmoid(x))` is `logsigmoid(-x)`.
- `-(y * log(p) + (1 - y) * log(1 - p))` is `binary_cross_entropy_with_logits`.
- `--fix` writes these forms, also through names, indexing and guards, where the logits are still within reach; it
  names them where they have no name. Safe; unsafe where a guard above 1e-6 or an unknown one goes with it.

## When to ignore it
- In metrics and plots that nothing differentiates.
- When the logits are bounded by construction and the run stays in float32.
- A guarded form (`+ eps`, `clamp`) is finite and is a choice; the price of that guard is in the table above.

## References
- PyTorch documentation: `torch.nn.functional.log_softmax`, `torch.nn.functional.logsigmoid`.
- Blanchard, Higham, Higham, *Accurately computing the log-sum-exp and softmax functions* (2021).
- Maechler, *Accurately Computing log(1 - exp(-|a|))* (2012).
- pytorch/pytorch#31829: gradients of `log_softmax`, `logsumexp` and `logsigmoid` at minus infinity.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from lossproof.finding import Finding, Severity
from lossproof.graph.loss_facts import LogOfActivation
from lossproof.rules.logspace import fuse_logs
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch
from lossproof.source.facts import Operation
from lossproof.source.tensor_ops import same
from lossproof.source.values import T
from lossproof.source.written import Reading


def check(fact: Operation) -> Iterator[Finding]:
    if fact.op not in ("log", "log1p"):
        return
    for t in fact.operands():
        form = _form(t, fact.op)
        if form is None or t.tags & {"numpy"} or ("detached" in t.tags and "pred" not in t.tags):
            continue
        guarded = t.lo is not None and t.lo > 0
        replacement = {"log(softmax)": "log_softmax", "log(sigmoid)": "logsigmoid"}.get(form, "logsigmoid(-x)")
        cost = (
            "the guard bounds the loss and with it the gradient on the worst mistakes"
            if guarded
            else "it is -inf, and its gradient NaN, once the probability rounds to 0"
        )
        yield fact.finding(
            RULE,
            f"{form} in two steps: {cost}; `{replacement}` is exact",
            because=t,
            severity=Severity.WARNING if guarded else None,
            fix=partial(_fix, fact),
        )
        return


def _fix(fact: Operation, patch: Patch) -> tuple[str, str]:
    reading = Reading(fact, patch)
    return fuse_logs(reading, reading.whole())


def _form(t: T, op: str) -> str | None:
    if op == "log1p":
        via = t.get("via")
        if via is not None and via[0] == "neg" and via[1].act == "sigmoid":
            return "log(1 - sigmoid)"
        return None
    if t.act in ("softmax", "sigmoid"):
        return f"log({t.act})" if _bare_activation(_bare(t)) else None
    base = _bare(t)
    if _of_the_class(base):
        return "log(sigmoid)"
    via = base.get("via")
    if via is not None and via[0] == "sub" and via[1].lo == via[1].hi and via[2].act in ("sigmoid", "softmax"):
        if via[1].lo is not None and abs(via[1].lo - 1.0) < 1e-2:
            return f"log(1 - {via[2].act})"
    return None


def _of_the_class(t: T) -> bool:
    """``where(y == 1, p, 1 - p)``, ``p * y + (1 - p) * (1 - y)``: the probability of the class that is true."""
    via = t.get("via")
    if via is None:
        return False
    if via[0] == "where":
        pair = via[2:4]
    elif via[0] == "add":
        pair = [_weighed(p) for p in via[1:3]]
    else:
        return False
    for p, rest in (pair, pair[::-1]):
        if not isinstance(p, T) or p.act != "sigmoid" or not isinstance(rest, T):
            continue
        less = rest.get("via")
        if less is not None and less[0] == "sub" and less[1].lo == less[1].hi == 1.0 and same(less[2], p):
            return _bare_activation(p)
    return False


def _weighed(t: Any) -> T | None:
    """The probability in ``p * y`` and the complement in ``(1 - p) * (1 - y)``."""
    via = t.get("via") if isinstance(t, T) else None
    if via is None or via[0] != "mul":
        return None
    for side in via[1:3]:
        if side.act == "sigmoid":
            return side  # type: ignore[no-any-return]
        inner = side.get("via")
        if inner is not None and inner[0] == "sub" and inner[2].act == "sigmoid":
            return side  # type: ignore[no-any-return]
    return None


def _bare_activation(t: T) -> bool:
    """Not scaled by something: ``log(max_depth * sigmoid(x))`` has no fused form. A softmax of cosines is bounded."""
    via = t.get("via")
    if via is not None and via[0] == "div" and via[1].act == "exp":
        exponent = via[1].get("via")[1]
        inner = exponent.get("via")
        parts = [exponent, *(p for p in (inner[1:] if inner is not None else ()) if isinstance(p, T))]
        return exponent.hi is None and not any(p.act == "cosine" for p in parts)
    return via is None or via[0] != "mul"


def _bare(t: T) -> T:
    """The value without an epsilon added or a clamp put on."""
    for _ in range(3):
        via = t.get("via")
        if via is None:
            return t
        if via[0] == "clamp":
            t = via[1]
        elif via[0] == "add" and any("const" in p.tags for p in via[1:]):
            t = via[1] if "const" in via[2].tags else via[2]
        else:
            return t
    return t


def audit(fact: LogOfActivation) -> Iterator[Finding]:
    replacement = {
        "log(softmax)": "log_softmax",
        "log(sigmoid)": "logsigmoid",
        "log(pt)": "logsigmoid of the logit with the sign of its label",
    }.get(fact.form, "logsigmoid(-x)")
    if fact.zeros:
        cost = f"{fact.zeros} of {fact.elements} elements have rounded to 0, where it is -inf and its gradient NaN"
    elif fact.guarded:
        cost = (
            f"{fact.floored} of {fact.elements} elements are at the guard, where the gradient of a mistake is lost"
            if fact.floored
            else f"none of the {fact.elements} elements is at the guard now (the smallest is {fact.least:.3g}); "
            "where one "
            "is, the gradient of a mistake is lost"
        )
    else:
        cost = (
            f"none of the {fact.elements} elements has rounded to 0 now (the smallest is {fact.least:.3g}); once one "
            "does, "
            "it is -inf and its gradient NaN"
        )
    yield fact.finding(
        RULE,
        f"{fact.form} in two steps: {cost}; {replacement if ' ' in replacement else f'`{replacement}`'} is exact",
        severity=Severity.WARNING if fact.guarded else None,
    )


RULE = Rule(
    code="LP106",
    name="unfused-log-activation",
    severity=Severity.ERROR,
    summary="log(softmax) or log(sigmoid) in two steps: infinite loss or NaN gradient on a confident mistake.",
    hint="use log_softmax, logsigmoid(x) or logsigmoid(-x)",
    page=__doc__ or "",
    evidence="log-of-activation",
    facts="operation",
    check=check,
    graph="log-of-activation",
    audit=audit,
)
