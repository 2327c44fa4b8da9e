"""# LP502 unbounded-maximization

## What it does
Finds a negated term without a floor that is added to a loss: minus a distance, minus a variance, minus a differential
entropy, minus another loss. What is bounded by nature (a cosine, the entropy of a categorical distribution, a
probability) is left alone.

`audit` takes the sum in the graph apart, whatever signs came from a table or a schedule, and says what the term adds
now.

## Why is this bad
The sum has no minimum. The optimizer can always lower it by pushing embeddings further apart, and at some size that
is the only thing it does: the other term is rounding error beside it. The loss falls beautifully all the while. With
plain SGD the gradient of a variance grows with the embedding, so it explodes; with Adam it drifts without end.

## Measured
torch 2.13.0, CPU. A linear autoencoder (16-4-16), reconstruction error plus the term, 240 steps. The best reachable
error is 0.629:

| added term | optimizer | loss at step 60, 120, 240 | reconstruction |
|---|---|---|---|
| none | Adam 0.04 | 0.63, 0.63, 0.63 | 0.629 |
| `-pdist(z).mean()` | Adam 0.04 | -36, -72, **-144** | 1.017 |
| `-z.var(0).mean()` | Adam 0.04 | -277, -1,385, **-6,467** | 1.053 |
| `-z.var(0).mean()` | SGD 0.1 | **NaN** before step 60 | NaN |
| `relu(1 - z.std(0)).mean()` | Adam 0.04 | 0.65, 0.63, 0.63 | 0.629 |
| `-pdist(normalize(z)).mean()` | Adam 0.04 | -0.74, -0.75, -0.75 | 0.629 |

```sh
python -c "
import torch
z = torch.tensor([[1.0], [-1.0]], requires_grad=True)
optimizer = torch.optim.SGD([z], lr=0.1)
for _ in range(100):
    optimizer.zero_grad()
    loss = -z.var(0).mean()
    loss.backward()
    optimizer.step()
print(f'{loss.item():.1e}')"
```
```text
-9.5e+15
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    encoder, decoder = nn.Linear(16, 4), nn.Linear(4, 16)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])
    for (x,) in loader:
        optimizer.zero_grad()
        z = encoder(x)
        diversity = torch.pdist(z).mean()
        loss = F.mse_loss(decoder(z), x) - 0.1 * diversity
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    encoder, decoder = nn.Linear(16, 4), nn.Linear(4, 16)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])
    for (x,) in loader:
        optimizer.zero_grad()
        z = encoder(x)
        crowding = F.relu(1.0 - torch.pdist(z)).mean()
        loss = F.mse_loss(decoder(z), x) + 0.1 * crowding
        loss.backward()
        optimizer.step()
```

## Remedies
- A hinge: penalize what is closer than a margin, `relu(margin - distance)`, and let it be 0 beyond.
- Or bound the space: normalize the embeddings, then maximize a cosine distance.
- Or a constraint: minimize one objective subject to the other being above a threshold.
- Decide what is primary. Two goals that pull against each other need a trade-off that somebody chose.

## When to ignore it
- When something outside the loss bounds the term: clipped weights, a gradient penalty, a bounded output (`tanh`).
- Adversarial training, where the sign changes between two players.

## References
- Hadsell, Chopra, LeCun, *Dimensionality Reduction by Learning an Invariant Mapping* (2006): the margin.
- Bardes, Ponce, LeCun, *VICReg* (2022): a hinge on the standard deviation.
- PyTorch documentation: `torch.nn.HingeEmbeddingLoss`, `torch.nn.TripletMarginLoss`.
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.graph.objective_facts import Maximized
from lossproof.rules.registry import Rule
from lossproof.source.facts import Operation
from lossproof.source.hazards import tested
from lossproof.source.tensor_ops import as_tensor, same, terms_of
from lossproof.source.values import T

_ENTROPY = "the entropy of a continuous distribution"


def check(fact: Operation) -> Iterator[Finding]:
    if fact.op not in ("sub", "sum_of_losses", "add"):
        return
    kept, pushed = _terms(fact)
    if not kept or pushed is None:
        return
    scale = next((s for s in (_scale(as_tensor(o)) for o in (fact.operand, *fact.others)) if s is not None), None)
    if scale is not None and any(_holds(k, scale) for k in kept):
        return  # a likelihood: the same scale stands in the other term
    if any(tested(fact, t) for t in fact.operands() + [as_tensor(o) for o in fact.others] if "const" not in t.tags):
        return  # added only while it is on the near side of a margin
    yield fact.finding(
        RULE,
        f"a term with no upper bound is maximized ({pushed}): the sum has no minimum, so training drifts to ever "
        "larger values or diverges",
        confidence="likely",
    )


def _terms(fact: Operation) -> tuple[list[T], str | None]:
    if fact.op == "sub":
        left, right = as_tensor(fact.operand), as_tensor(fact.others[0])
        pushed_away = _unbounded(right)
        counts = _is_loss(left) or _floor(fact, left)
        if pushed_away == _ENTROPY and fact.spine and left.get("ndim") == 0 and not left.tags & {"num", "const"}:
            counts = True  # an objective of a policy is no loss of a library, but it is what is minimized here
        return ([left] if counts else []), pushed_away
    parts = [as_tensor(t) for t in (fact.others if fact.op == "sum_of_losses" else (fact.operand, *fact.others))]
    pushed = [r for r in (_negated(p) for p in parts) if r is not None]
    kept = [p for p in parts if (_is_loss(p) or _floor(fact, p)) and _negated(p) is None]
    return kept, (pushed[0] if pushed else None)


def _floor(fact: Operation, t: T) -> bool:
    """A term that is no loss of a library, but is minimized: one number, bounded below, in the loss itself."""
    if not fact.spine or not t.nonnegative or t.tags & {"num", "const"}:
        return False
    return fact.reduced_after or t.get("ndim") == 0 or t.get("reduced") == "all"


def _is_loss(t: T) -> bool:
    return bool(terms_of(t)) or "loss" in t.tags


def _negated(t: T, depth: int = 4) -> str | None:
    via = t.get("via")
    if via is None or depth == 0:
        return None
    if via[0] == "neg":
        inner = via[1].get("via")
        if inner is not None and inner[0] == "add":
            return next((r for r in (_unbounded(p) for p in inner[1:] if isinstance(p, T)) if r is not None), None)
        return _unbounded(via[1])
    if via[0] == "mul":
        for one, other in ((via[1], via[2]), (via[2], via[1])):
            if one.hi is not None and one.hi < 0:
                return _unbounded(other)
            if one.positive or "num" in one.tags or one.sym:
                found = _negated(other, depth - 1)
                if found is not None:
                    return found
    if via[0] in ("mean", "sum"):
        return _negated(via[1], depth - 1)
    return None


def _unbounded(t: T, depth: int = 6) -> str | None:
    """What grows without limit, if this does: a loss, a distance, a variance."""
    if t.hi is not None or depth == 0 or t.tags & {"num", "detached", "clamped"}:
        return None
    if t.act == "loss":
        kind = t.get("loss")
        if kind in ("cosine_embedding", "triplet", "ranking", "hinge", "multi_margin"):
            return None
        return f"a {kind} loss"
    if t.act == "norm":
        return "a distance or a spread"
    if t.act == "entropy":
        scale = t.get("via")[1]
        learned = scale.act in ("softplus", "exp", "affine") or scale.tags & {"parameter", "pred", "output"}
        return None if scale.hi is not None or not learned else _ENTROPY
    if "parameter" in t.tags and not t.act:
        return "a free parameter"
    via = t.get("via")
    if via is None:
        return None
    if via[0] == "log" and (via[1].act in ("softplus", "exp") or _softplus(via[1])):
        return "the logarithm of a free scale"
    if via[0] == "add":
        for one, other in ((via[1], via[2]), (via[2], via[1])):
            if "num" in one.tags or "const" in one.tags:
                return _unbounded(other, depth - 1)
    if via[0] in ("pow", "square", "abs") and t.lo == 0.0:
        inner = via[1].get("via")
        if inner is not None and inner[0] in ("mean", "sum"):
            return None
        if via[1].act == "affine" and (inner is None or inner[0] in ("linear", "conv")):
            return "a squared output"
        return "a squared distance" if inner is not None and inner[0] == "sub" else None
    if via[0] in ("mean", "sum", "sqrt", "neg_neg"):
        return _unbounded(via[1], depth - 1)
    if via[0] == "mul":
        for one, other in ((via[1], via[2]), (via[2], via[1])):
            if one.positive or "num" in one.tags or (one.sym and not one.act):
                found = _unbounded(other, depth - 1)
                if found is not None:
                    return found
    if via[0] == "div":
        return _unbounded(via[1], depth - 1)
    return None


def _scale(t: T, depth: int = 8) -> T | None:
    """The operand of the logarithm in a term."""
    via = t.get("via")
    if via is None or depth == 0:
        return None
    if via[0] == "log":
        return via[1] if isinstance(via[1], T) else None
    return next((s for s in (_scale(p, depth - 1) for p in via[1:] if isinstance(p, T)) if s is not None), None)


def _holds(t: T, scale: T, depth: int = 8) -> bool:
    via = t.get("via")
    inner = scale.get("via")
    bare = [scale, *(p for p in (inner[1:] if inner is not None and inner[0] == "add" else ()) if isinstance(p, T))]
    if any(same(t, b) for b in bare if "const" not in b.tags):
        return True
    return via is not None and depth > 0 and any(isinstance(p, T) and _holds(p, scale, depth - 1) for p in via[1:])


def _softplus(t: T) -> bool:
    """``softplus(x) + eps``"""
    via = t.get("via")
    if via is None or via[0] != "add":
        return False
    return any(isinstance(p, T) and p.act in ("softplus", "exp") for p in via[1:])


def audit(fact: Maximized) -> Iterator[Finding]:
    now = "" if fact.value is None else f", {fact.value:.4g} of the loss now"
    yield fact.finding(
        RULE,
        f"a term with no upper bound is maximized ({fact.kind}{now}): the sum has no minimum, so training drifts to "
        "ever larger values or diverges",
        confidence="likely",
    )


RULE = Rule(
    code="LP502",
    name="unbounded-maximization",
    severity=Severity.ERROR,
    summary="A negated term without a floor is added to the loss: the sum has no minimum and drifts or explodes.",
    hint="use a hinge with a margin, or normalize what is pushed apart",
    page=__doc__ or "",
    evidence="unbounded-term",
    facts="operation",
    check=check,
    graph="maximized",
    audit=audit,
)
