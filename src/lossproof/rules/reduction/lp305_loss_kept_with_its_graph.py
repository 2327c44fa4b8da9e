"""# LP305 loss-kept-with-its-graph

## What it does
Finds a loss that is added up or appended to a list, for a report, with its autograd graph attached: `total += loss`,
`history.append(loss)`.

## Why is this bad
The sum holds on to the graph of every step. After `backward()` the activations are gone and only the graph's nodes
stay, so memory creeps. Where no `backward()` follows, as in a validation loop without `no_grad`, every activation of
every batch stays, and the run dies of memory in the middle of an evaluation. And whoever then calls
`total.backward()` gets an error or a gradient that was not meant.

## Measured
torch 2.13.0, CPU. Three linear layers (64-128-128-10), batches of 32; what is alive after 40 batches:

| loop | `total += loss` | `total += loss.item()` |
|---|---|---|
| with `backward()` | 446 graph nodes | 0 |
| without `backward()` | 446 graph nodes and **33 KiB** of activations for every batch | 0 |

`total.backward()` at the
end of such an epoch raises "Trying to backward through the graph a second time".

```sh
python -c "
import torch
w, total = torch.ones(1, requires_grad=True), 0.0
for _ in range(3):
    loss = (w * w).sum()
    loss.backward()
    total = total + loss
print(total.grad_fn is not None)"
```
```text
True
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters())
    total = 0.0
    for x, digit in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), digit)
        loss.backward()
        optimizer.step()
        total += loss
    print("mean loss", total / len(loader))
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters())
    total = 0.0
    for x, digit in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), digit)
        loss.backward()
        optimizer.step()
        total += loss.item()
    print("mean loss", total / len(loader))
```

## Remedies
- `total += loss.item()`, or `float(loss)`.
- On a GPU `.item()` waits for the device. `total += loss.detach()` does not; read it once at the end.
- Wrap validation in `torch.no_grad()` or `torch.inference_mode()`.

## When to ignore it
- When the sum is what is differentiated: `total.backward()` after the loop, a loss over several steps or tasks. That
  is not reported.
- Inside `no_grad` there is no graph to keep.

## References
- PyTorch documentation: "Frequently Asked Questions", on history that accumulates across the training loop.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import KeptLoss


def check(fact: KeptLoss) -> Iterator[Finding]:
    what = (
        "the loss is kept with its graph: the memory of every step stays until the sum is dropped"
        if fact.trains
        else "a validation loss is summed with gradients on: every batch's graph stays in memory"
    )
    yield fact.finding(RULE, what, confidence="likely", fix=partial(_fix, fact))


def _fix(fact: KeptLoss, patch: Patch) -> tuple[str, str]:
    module, term = fact.module, fact.kept
    site = fact.frame.base().site
    if site is not None:
        # In a meter, which others may feed with plain numbers: the graph is cut where the loss is handed over.
        caller, call = site
        module = caller.function.module
        losses = fact.carriers(caller, call)
        if len(losses) != 1:
            raise Unfixable("it is not clear which argument carries the graph")
        term = losses[0]
    if isinstance(term, (ast.Tuple, ast.List, ast.Dict, ast.Starred)):
        raise Unfixable("the loss is kept together with other things")
    # ``x = loss if x is None else 0.9 * x + 0.1 * loss``: the first one is kept too.
    tree, outer = patch.tree(module), fact.node.at
    while site is None and isinstance(outer, ast.expr):
        if isinstance(outer, ast.IfExp):
            term = outer
        outer = tree.parent(outer)
    patch.method(module, term, "detach()")
    return "safe", "the value is kept, the graph is not"


RULE = Rule(
    code="LP305",
    name="loss-kept-with-its-graph",
    severity=Severity.WARNING,
    summary="A loss is summed or stored for a report with its autograd graph: memory grows with every step.",
    hint="add loss.item(), or loss.detach() and read it once at the end",
    page=__doc__ or "",
    evidence="kept-graph",
    facts="kept",
    check=check,
)
