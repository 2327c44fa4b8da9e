"""# LP109 softmax-over-wrong-dim

## What it does
Finds a softmax or log-softmax on the way to a loss that normalizes over the batch (`dim=0`), or that leaves the choice
of the axis to PyTorch (`nn.Softmax()`, `F.softmax(x)`). In the graph of a live loss (`lossproof.audit`) it tells what
the probabilities of one example add up to.

## Why is this bad
Over `dim=0` the examples of a batch compete with each other: what is predicted for one depends on who sits beside it,
the rows do not sum to 1, and a batch of one gets probability 1 for every class, loss 0 and no gradient. Without `dim`
PyTorch picks an axis by the number of dimensions, for the sake of old code. For a matrix it picks the right one; for
a sequence batch `(N, T, C)` it picks the batch.

## Measured
torch 2.13.0, CPU. The axis chosen when `dim` is left out (with a deprecation warning):

| dimensions of the input | 1 | 2 | 3 | 4 | 5 |
|---|---|---|---|---|---|
| axis | 0 | 1 | **0** | 1 | 1 |

Scikit-learn's digits, `nll_loss(log_softmax(z, dim))`, 400 SGD steps, two seeds, held-out accuracy: `dim=1` 93.8 to
94.0 %; `dim=0` **78.7 to 89.3 %**. The row (2, 0, 0) beside the row (5, 0, 0) becomes (0.05, 0.50, 0.50) under
`dim=0`: the favourite turned last.

```sh
python -c "
import torch, torch.nn.functional as F
x = torch.tensor([[3.0, 0.0, 1.0]], requires_grad=True)
loss = F.nll_loss(F.log_softmax(x, dim=0), torch.tensor([1]))
loss.backward()
print(loss.item(), x.grad.tolist())"
```
```text
0.0 [[0.0, 0.0, 0.0]]
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
        return F.log_softmax(self.net(x), dim=0)


def train(loader):
    model = DigitNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, digit in loader:
        optimizer.zero_grad()
        loss = F.nll_loss(model(x), digit)
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
- Name the class axis: `dim=1` for `(N, C)` and `(N, C, H, W)`, `dim=-1` for `(N, T, C)`.
- `--fix` writes the axis that PyTorch chooses, where the number of dimensions is known (safe: the value is the same;
  not for three dimensions, where that axis is the batch), else one that is right for `(N, C)` and never the batch
  (unsafe).
  It turns `dim=0` over a batch into `dim=1`, or `dim=-1` after a linear layer (unsafe).
- A quick test: `probs.sum(dim=class_axis)` is 1 everywhere, and a row's output does not change when the batch around
  it does.

## When to ignore it
- When the batch axis is the axis of choice: a ranking over the candidates of one query, a contrastive loss that is
  normalized both ways, an input without a batch axis.
- `dim` left out on a matrix is right today. It is still worth the six characters.

## References
- PyTorch documentation: `torch.nn.Softmax`, `torch.nn.functional.log_softmax` (`dim`).
- pytorch/pytorch#1020 and #1763: why the implicit axis is what it is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from lossproof.finding import Finding, Severity
from lossproof.graph.facts import Hop
from lossproof.graph.loss_facts import WrongAxis
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import LossCall, SoftmaxCall, location
from lossproof.source.lower import lower
from lossproof.source.siblings import Activation
from lossproof.source.softmaxes import softmax_calls
from lossproof.source.tensor_ops import as_tensor
from lossproof.source.uses import function_at
from lossproof.source.values import T, alternatives

_ATTENDS = re.compile(r"att[ne]|query|key|energy|align|weight|score|gate|route", re.I)
_IMAGE = re.compile(r"Conv[23]d|dice|segm|image|pixel|mask", re.I)
_WITHOUT = (
    "without `dim` lets the number of dimensions choose the axis: for one or three dimensions it is the first, "
    "the batch"
)
# Losses whose input has its examples in the first dimension and its classes in the second.
_CLASSIFIES = ("nll", "ce")
_BATCHED = ("bce", "kl", "mse", "l1")


def check(fact: SoftmaxCall | LossCall) -> Iterator[Finding]:
    if isinstance(fact, LossCall):
        yield from _over_batch(fact)
        yield from _left_open(fact)
        return
    word = fact.name.rpartition(".")[2]
    yield fact.finding(
        RULE,
        f"`{word}` {_WITHOUT}",
        severity=Severity.WARNING,
        fix=partial(_name_the_axis, fact),
    )


def _left_open(fact: LossCall) -> Iterator[Finding]:
    """A softmax that went through a table, a ``partial`` or an attribute before it was called without an axis."""
    for _, t in fact.inputs():
        if t.act not in ("softmax", "log_softmax") or not t.get("implicit"):
            continue
        start = t.trace[0] if t.trace else None
        if start is None or start.module is None or start.message.startswith("`nn."):
            continue
        holder = function_at(start.module, start.at)
        if any(call.node.at is start.at for call in softmax_calls(fact.ev, holder)):
            return  # seen at the call alone
        yield fact.finding(
            RULE,
            f"`{t.act}` {_WITHOUT}",
            hops=t.trace[1:],
            place=location(start.module, start.at),
            severity=Severity.WARNING,
        )
        return


def _name_the_axis(fact: SoftmaxCall, patch: Patch) -> tuple[str, str]:
    call, module = fact.node.at, fact.module
    layer = fact.name.startswith("torch.nn.") and "functional" not in fact.name
    given = next((k.value for k in call.keywords if k.arg == "dim"), None)
    if given is None and len(call.args) > (0 if layer else 1):
        given = call.args[0 if layer else 1]
    if given is not None and not isinstance(given, ast.Constant):
        raise Unfixable("the axis is decided elsewhere")
    rank = None if layer else _rank(fact)
    safe = rank in (1, 2, 4, 5)
    axis = 1 if rank in (2, 4, 5) or (rank is None and _of_images(fact)) else -1
    if given is not None:
        patch.replace(module, given, str(axis))
    else:
        patch.add_argument(module, call, f"dim={axis}")
    if safe:
        return "safe", f"dim={axis}, the axis that PyTorch chooses for {rank} dimensions"
    return "unsafe", f"dim={axis}: the same for (N, C), and never the batch"


def _rank(fact: SoftmaxCall) -> int | None:
    """The number of dimensions of what is normalized, by itself or by what the callers hand over."""
    node = fact.node if fact.node.op == "call" and fact.node.args else None
    if node is None:
        node = lower(fact.frame.function).by_call.get(id(fact.node.at))
    if node is None:
        return None
    _, args, keywords = node.args
    operand = args[0] if args else next((v for k, v in keywords if k == "input"), None)
    if operand is None:
        return None
    contexts: Any = fact.ev.oracle
    ranks = {as_tensor(v).get("ndim") for _, v in alternatives(fact.value(operand))}
    if ranks == {None}:
        wider = contexts.outer(fact.frame, True)
        ranks = {as_tensor(v).get("ndim") for f in wider for _, v in alternatives(fact.ev.value(f, operand))}
    return ranks.pop() if len(ranks) == 1 else None


def _of_images(fact: SoftmaxCall) -> bool:
    """Code on images has its classes in axis 1, with and without an image behind them; attention has not."""
    text = fact.written(fact.node.at) + fact.frame.function.qualname
    return not _ATTENDS.search(text) and _IMAGE.search(fact.module.source) is not None


def _over_batch(fact: LossCall) -> Iterator[Finding]:
    if fact.kind not in _CLASSIFIES + _BATCHED:
        return
    for t in (*(t for _, t in fact.inputs()), *_compared(fact)):
        if t.act not in ("softmax", "log_softmax") or not t.trace or t.trace[0].module is None:
            continue
        rank = t.get("ndim")
        if t.get("dim") != 0 and not _rows_from_the_end(fact, t):
            continue
        if rank == 1 or (rank != 2 and fact.kind not in _CLASSIFIES and not _against_rows(fact, t)):
            continue
        if any(y.get("ndim") == 0 for _, y in fact.targets()):
            continue
        start = t.trace[0]
        here = location(fact.module, fact.node.at, "the loss is here")
        found = fact.finding(
            RULE,
            f"softmax over `dim={t.get('dim')}` makes the examples of a batch compete with each other: what is "
            "predicted for one depends on the rest, and a batch of one has loss 0",
            hops=t.trace[1:],
            place=location(start.module, start.at),
            confidence="proven" if rank == 2 else "likely",
            fix=partial(_off_the_batch, t),
        )
        yield replace(found, related=(*found.related, here)) if here not in found.related else found
        return


def _rows_from_the_end(fact: LossCall, t: T) -> bool:
    """``dim=-2`` of a matrix. What a linear layer gives has its classes last: of class indices only a matrix fits."""
    if t.get("dim") != -2:
        return False
    if t.get("ndim") == 2:
        return True
    via = t.get("via")
    scores = via[1] if via is not None and isinstance(via[1], T) else t
    linear = scores.act == "affine" and "width" in (scores.info or {}) and "channels" not in (scores.info or {})
    return fact.kind in _CLASSIFIES and linear and t.get("ndim") is None


def _compared(fact: LossCall) -> list[T]:
    """The distributions that a loss compares with: its target, where that is no index."""
    return [t for _, t in fact.targets()] if fact.kind == "kl" else []


def _against_rows(fact: LossCall, t: T) -> bool:
    """``kl_div(log_softmax(a, dim=1), softmax(b, dim=0))``: the two sides are normalized over different axes."""
    if fact.kind != "kl":
        return False
    sides = [s for _, s in (*fact.inputs(), *fact.targets()) if s is not t]
    axes = [s.get("dim") for s in sides if s.act in ("softmax", "log_softmax")]
    return any(isinstance(axis, int) and axis != 0 for axis in axes)


def _off_the_batch(t: T, patch: Patch) -> tuple[str, str]:
    written = Activation(t.act, t.trace)
    axis = written.axis()
    if written.axis_number() not in (0, -2):
        raise Unfixable("the axis is decided elsewhere")
    module = written.module if written.built is None else written.built_in
    # After a linear layer the classes are last: of a single example that comes without a batch too.
    patch.replace(module, axis, "-1" if t.get("ndim") is None and t.get("width") and not t.get("channels") else "1")
    return "unsafe", "over the classes, not over the batch"


def audit(fact: WrongAxis) -> Iterator[Finding]:
    over = "the batch" if fact.dim == 0 else "another axis"
    place = fact.hops[0].op if fact.hops else fact.op
    yield replace(fact, op=place, hops=(Hop(fact.op, "the loss is here"),)).finding(
        RULE,
        f"{fact.activation} over `dim={fact.dim}` of {fact.shape} normalizes over {over}, while the loss has its "
        "classes "
        f"along `dim={fact.classes}`: the probabilities of one example add up to between {fact.least:.3g} and "
        f"{fact.most:.3g}" + (", and depend on the others in its batch" if fact.dim == 0 else ""),
    )


RULE = Rule(
    code="LP109",
    name="softmax-over-wrong-dim",
    severity=Severity.ERROR,
    summary="A softmax on the way to the loss runs over the batch, or leaves its axis to a deprecated default.",
    hint="name the class axis: dim=1 for (N, C), dim=-1 for (N, T, C)",
    page=__doc__ or "",
    evidence="softmax-over-batch",
    facts="softmax loss",
    check=check,
    graph="wrong-axis",
    audit=audit,
)
