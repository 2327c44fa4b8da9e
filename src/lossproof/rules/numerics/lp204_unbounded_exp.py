"""# LP204 unbounded-exp

## What it does
Finds `exp` of a value that nothing bounds, in a training loss: a softmax written by hand, `exp` of a raw output,
`log(1 + exp(x))` and `log1p(exp(x))`.

## Why is this bad
`exp` overflows at 88.7 in float32 and at 11.1 in float16. Logits of 11 are ordinary. A quotient of two overflows is
NaN, and `log(1 + exp(x))`, whose true value at 89 is 89, becomes infinite with a NaN gradient. `log1p` does not help:
it mends the small end, not the large one.

## Measured
torch 2.13.0, CPU. First x with a non-finite loss or gradient:

| form | float32 | float16 | bfloat16 |
|---|---|---|---|
| `exp(x)` | 88.7 | 11.1 | 88.8 |
| `log(1 + exp(x))`, `log1p(exp(x))` | 88.7 | 11.1 | 88.8 |
| `exp(x) / exp(x).sum()`, then `log` | 88.7 | 11.1 | 88.8 |
| `softplus(x)`, `softmax`, `log_softmax`, `logaddexp(x, 0)` | none | none | none |

At 89: `log1p(exp(x))` is inf with gradient NaN; `softplus(x)` is 89 with gradient 1. At -20 `log(1 + exp(x))` is 0
and `softplus` 2.1e-9.

```sh
python -c "
import torch, torch.nn.functional as F
for f in (lambda x: torch.log1p(torch.exp(x)), F.softplus):
    x = torch.tensor([89.0], requires_grad=True)
    y = f(x)
    y.backward()
    print(y.item(), x.grad.item())"
```
```text
inf nan
89.0 1.0
```

## Wrong
```python
import torch
from torch import nn


def logistic_loss(score, sign):
    return torch.log1p(torch.exp(-sign * score)).mean()


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, sign in loader:
        optimizer.zero_grad()
        loss = logistic_loss(model(x).squeeze(1), sign)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def logistic_loss(score, sign):
    return F.softplus(-sign * score).mean()


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, sign in loader:
        optimizer.zero_grad()
        loss = logistic_loss(model(x).squeeze(1), sign)
        loss.backward()
        optimizer.step()
```

## Remedies
- `log(1 + exp(x))` is `softplus(x)`; `log(exp(a) + exp(b))` is `logaddexp(a, b)`; `log(exp(x).sum())` is `logsumexp`.
- A softmax by hand: `softmax` or `log_softmax`; they subtract the maximum.
- A positive output: `softplus(x)` grows like x, `exp(x)` does not.
- If `exp` is meant, bound what goes in: a clamp, a `tanh` times a constant.

## When to ignore it
- The `exp` of a log-variance in a Gaussian likelihood, of a difference of log-probabilities, of a cosine over a
  temperature, of anything minus its maximum: bounded by nature or by custom, and not reported.
- A Poisson rate `exp(x)` from a model that starts near zero, in float32, with gradient clipping.

## References
- PyTorch documentation: `torch.nn.functional.softplus`, `torch.logsumexp`, `torch.logaddexp`.
- Blanchard, Higham, Higham, *Accurately computing the log-sum-exp and softmax functions* (2021).
- VT-ADL#10: NaN from the backward of `exp` in a mixture density loss.
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import Operation
from lossproof.source.tensor_ops import as_tensor, same
from lossproof.source.values import T


_LOG_LIKE = ("log", "var", "sigma", "std", "scale", "rate", "beta", "lambda", "prec")


def check(fact: Operation) -> Iterator[Finding]:
    if fact.op == "div":
        numerator = as_tensor(fact.others[0]) if fact.others else None
        for t in fact.operands():
            if numerator is not None and _softmax(numerator, t) and _unbounded(numerator.get("via")[1]):
                yield fact.finding(
                    RULE,
                    "a hand-written softmax: exp overflows from 88.7 in float32 and the ratio becomes NaN; "
                    "`torch.softmax` subtracts the maximum first",
                )
                return
    elif fact.op in ("log", "log1p"):
        for t in fact.operands():
            inner = _softplus(t, fact.op)
            if inner is not None and _unbounded(inner):
                yield fact.finding(
                    RULE,
                    "log(1 + exp(x)) overflows: its gradient is NaN from x of about 89 in float32; use `softplus`",
                )
                return
            inner = _logsumexp(t)
            if inner is not None and _unbounded(inner):
                yield fact.finding(
                    RULE,
                    "log of a sum of exponentials overflows from 88.7 in float32; use `torch.logsumexp`",
                )
                return


def _exponent(t: T) -> T | None:
    via = t.get("via")
    return via[1] if t.act == "exp" and via is not None and via[0] == "exp" else None


def _softmax(numerator: T, denominator: T) -> bool:
    if numerator.act != "exp":
        return False
    via = denominator.get("via")
    if via is not None and via[0] == "add":
        return any(_softmax(numerator, p) for p in via[1:])
    return via is not None and via[0] == "sum" and same(via[1], numerator)


def _softplus(t: T, op: str) -> T | None:
    if op == "log1p":
        return _exponent(t)
    via = t.get("via")
    if via is None or via[0] != "add":
        return None
    for one, other in ((via[1], via[2]), (via[2], via[1])):
        if one.lo == one.hi == 1.0 and _exponent(other) is not None:
            return _exponent(other)
    return None


def _logsumexp(t: T) -> T | None:
    via = t.get("via")
    if via is not None and via[0] == "add" and any("const" in p.tags for p in via[1:]):
        t = via[1] if "const" in via[2].tags else via[2]
        via = t.get("via")
    return _exponent(via[1]) if via is not None and via[0] == "sum" else None


def _unbounded(x: T) -> bool:
    """Nothing keeps the exponent small: not a bound, not a subtracted maximum, not a cosine."""
    if x.hi is not None or "num" in x.tags or x.act in ("cosine", "log_softmax", "normalized", "tanh", "log"):
        return False
    via = x.get("via")
    if via is not None and via[0] in ("mul", "div", "add", "sub", "neg"):
        parts = [p for p in via[1:] if isinstance(p, T)]
        if any(p.act in ("cosine", "log_softmax", "log", "tanh", "sigmoid") for p in parts):
            return False
        if via[0] == "sub" and any((q := p.get("via")) is not None and q[0] in ("max", "logsumexp") for p in parts):
            return False
    return not any(word in x.sym.lower() for word in _LOG_LIKE)


RULE = Rule(
    code="LP204",
    name="unbounded-exp",
    severity=Severity.ERROR,
    summary="exp of a value that nothing bounds: overflow from 88.7 in float32, from 11.1 in float16.",
    hint="use softplus, logsumexp, softmax or logaddexp",
    page=__doc__ or "",
    evidence="exp-overflow",
    facts="operation",
    check=check,
)
