"""# LP203 infinite-gradient-at-edge

## What it does
Finds a function in a training loss whose value is fine at the edge of its domain and whose gradient is not: `sqrt`
and fractional powers at 0, fractional powers of negatives, `acos` and `asin` at plus and minus 1. An epsilon
*outside* the root does not help, nor does a clamp to the edge itself. In the graph of a live loss it counts the
operands at the edge, also of `acosh`, `atanh` and `hypot`, and leaves out those whose gradient a `relu` or a clamp
stops.

## Why is this bad
The loss stays finite, so nothing that watches the loss sees it. The gradient is infinite; multiplied by the zero that
comes from inside (a squared difference of 0) it is NaN, and the optimizer writes NaN into every weight. It happens
where the model is perfect, or where two inputs are the same: duplicates, padding, black borders, an anchor compared
with itself.

## Measured
torch 2.13.0, CPU, gradient at 0:

| expression | gradient | expression | gradient |
|---|---|---|---|
| `sqrt(x)`, `x ** 0.5`, `x ** 0.75` | inf | `x ** 1.5` | 0 |
| `sqrt(x) + 1e-8` | inf | `sqrt(x + 1e-8)` | 5,000 |
| `sqrt(x.clamp(min=0))` | inf | `sqrt(relu(x))` | 0, see below |
| `sqrt((x ** 2).sum())` | **NaN** | `x.norm()`, `linalg.vector_norm(x)` | 0 |
| `sqrt(mse_loss(x, 0))` | **NaN** | `torch.dist`, `torch.cdist`, `torch.pdist` | 0 |
| `x.var().sqrt()` | **NaN** | `x.std()` | 0 |
| `sqrt(x.abs())` | **NaN** | `F.pairwise_distance`, `F.triplet_margin_loss` | finite |

- A negative base: `(-1) ** 0.5`, `(-1) ** 1.5` and `(-8) ** (1 / 3)` have value NaN.
- `acos(1)` has gradient -inf, and still -inf after `clamp(-1, 1)`: the clamp passes the gradient at its edge. It is
  common: of 10,000 normalized random vectors 51 % had a dot product with themselves of exactly 1, and 18 % of more
  than 1.
- `sqrt(sigmoid(x))` and `sqrt(softplus(x))` are NaN from logits that underflow (at -200).
- `relu` differs from `clamp`: its backward writes 0 wherever its output is 0, whatever arrives. So `sqrt(relu(x))`
  has gradient 0 at 0, and 500,000 at 1e-12. It is no guard to rely on: fold the `relu` into a mask and the NaN is
  back.

```sh
python -c "
import torch
for f in (lambda d: d.pow(2).sum().sqrt(), lambda d: torch.linalg.vector_norm(d)):
    d = torch.zeros(2, requires_grad=True)
    f(d).backward()
    print(d.grad.tolist())"
```
```text
[nan, nan]
[0.0, 0.0]
```

## Wrong
```python
import torch
from torch import nn


def keypoint_distance(pred, target):
    return torch.sqrt((pred - target).pow(2).sum(dim=1)).mean()


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters())
    for x, point in loader:
        optimizer.zero_grad()
        loss = keypoint_distance(model(x), point)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
from torch import nn


def keypoint_distance(pred, target):
    return torch.linalg.vector_norm(pred - target, dim=1).mean()


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters())
    for x, point in loader:
        optimizer.zero_grad()
        loss = keypoint_distance(model(x), point)
        loss.backward()
        optimizer.step()
```

## Remedies
- A distance: `torch.linalg.vector_norm`, `torch.cdist`; a spread: `std`. Their gradient at 0 is defined as 0.
- A root: the epsilon goes *inside*, and decides the largest gradient, `0.5 / sqrt(eps)`: 5,000 for 1e-8, 500 for
  1e-6.
- An angle: `atan2(cross, dot)`, with `vector_norm` for the length, or leave the angle out and use the cosine. A clamp
  to `1 - 1e-6` is finite and gives a gradient of 0 to what it catches.
- A fractional power: of a value that a construction keeps above 0.
- `--fix` puts 1e-12 inside of a root (1e-7 in float16), raises a clamp at 0, and keeps `acos` and `asin` 1e-6 away from
  the edge. Safe. It leaves powers above 1 of what can be negative alone.

## When to ignore it
- When the argument is bounded away from the edge: `1 + x ** 2`, a variance plus an epsilon, an integer power.
- In a metric that nothing differentiates.

## References
- arcface-pytorch#91: `sqrt` of a clamped value. PerceptualSimilarity#69 and #121: the epsilon outside the root.
- pytorch/pytorch#8069: `acos` at plus and minus 1. pytorch-msssim#2: a negative base. kornia#918: `(1 - p) ** gamma`
  with gamma below 1.
- PyTorch documentation: `torch.linalg.vector_norm`, `torch.atan2`, `torch.cdist`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lossproof.finding import Finding, Severity
from lossproof.graph.numeric_facts import AtTheEdge, Count, percent
from lossproof.rules.guards import guarded_arc, guarded_root
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch
from lossproof.source.facts import Operation
from lossproof.source.hazards import exponent_of, hazard
from lossproof.source.values import T
from lossproof.source.written import Reading

_WORD = {"sqrt": "a square root", "rsqrt": "a reciprocal root", "pow": "a fractional power", "acos": "an arc function"}


def check(fact: Operation) -> Iterator[Finding]:
    if fact.op not in _WORD or fact.cut:
        return
    if fact.op == "pow":
        exponent = exponent_of(fact.others[0]) if fact.others else None
        if exponent is None or exponent == int(exponent):
            return
    found = hazard(fact)
    if found is None:
        return
    t, reason = found
    outside = _epsilon_outside(fact)
    yield fact.finding(
        RULE,
        f"{_WORD[fact.op]} of {fact.quoted() or 'a value'} at the edge of its domain ({reason}): the value is finite, "
        "the gradient infinite or NaN" + ("; the epsilon outside the root does not help" if outside else ""),
        confidence="proven" if t.lo == 0.0 or t.act == "cosine" else "likely",
        fix=partial(_fix, fact, t),
    )


def _fix(fact: Operation, t: T, patch: Patch) -> tuple[str, str]:
    reading = Reading(fact, patch)
    if fact.op == "acos":
        return guarded_arc(fact, reading, reading.operand(), t)
    return guarded_root(fact, reading, reading.operand(), t)


def _epsilon_outside(fact: Operation) -> bool:
    result = fact.result()
    return isinstance(result, T) and result.get("eps_outside") is True


_NAMES = {
    "sqrt": "square root", "rsqrt": "reciprocal root", "pow": "fractional power", "acos": "`acos`", "asin": "`asin`",
    "acosh": "`acosh`", "atanh": "`atanh`", "erfinv": "`erfinv`", "hypot": "`hypot`",
}  # fmt: skip


def audit(fact: AtTheEdge) -> Iterator[Finding]:
    if fact.function not in _NAMES:
        return
    count, name = fact.count, _NAMES[fact.function]
    if fact.exponent is not None:
        name = f"power {fact.exponent:g}"
    operand = f"operand of the {name}"
    edge = "plus or minus 1" if fact.edge == 1 and fact.function != "acosh" else f"{fact.edge:g}"
    if fact.near:
        steep = (
            f": {percent(fact.share)} of its gradient is theirs" if fact.share else ": one rounding step from infinite"
        )
        yield fact.finding(
            RULE,
            f"{count.found} of {count.elements:,} operands of the {name} are next to {edge}{count.at}, the closest "
            f"{fact.closest:.8g}{steep}",
            severity=Severity.WARNING,
            confidence="likely",
        )
        return
    if fact.beyond:
        what = f"{fact.beyond} of {count.elements:,} operands of the {name} are outside of its domain"
        if count.found > fact.beyond:
            what += f" and {count.found - fact.beyond} at its edge"
        cost = "NaN" if not fact.loss else "their gradient is NaN"
        yield fact.finding(RULE, f"{what}{count.at}, the worst {fact.closest:.8g}: {cost}")
        return
    cost = "the value is finite and the gradient infinite or NaN"
    if not fact.loss:
        cost = "the loss is infinite or NaN" if fact.value else "the gradient is infinite or NaN"
    yield fact.finding(
        RULE, f"{count.of(operand) if count.elements == 1 else many(count, name)} {edge}{count.at}: {cost}"
    )


def many(count: Count, name: str) -> str:
    return f"{count.found} of {count.elements:,} operands of the {name} {'is' if count.found == 1 else 'are'} at"


RULE = Rule(
    code="LP203",
    name="infinite-gradient-at-edge",
    severity=Severity.ERROR,
    summary="A root, fractional power or arc function at the edge of its domain: finite loss, NaN gradient.",
    hint="put the epsilon inside the root, or use torch.linalg.vector_norm, std or atan2",
    page=__doc__ or "",
    evidence="root-at-zero",
    facts="operation",
    check=check,
    graph="at-the-edge",
    audit=audit,
)
