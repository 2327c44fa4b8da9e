"""# LP702 unscaled-accumulation

## What it does
Finds gradients that are accumulated over several batches (`backward()` in every turn, `step()` and `zero_grad()` in
every k-th, or an inner loop over micro-batches) of a loss that is not divided by their number.

## Why is this bad
The loss of a batch is a mean, the sum of k means is k times the mean of the large batch that was meant. With plain
SGD that is a learning rate k times as high, with weight decay and clipping that no longer fit. Adam divides most of
it out again, but a clipping threshold, an L2 penalty and the logged gradient norm still mean something else than they
say; and who turns k up "to simulate a larger batch" turns the learning rate up with it. A choice nobody made.

## Measured
torch 2.13.0, CPU. A regression on 10 inputs with 64 tanh units, 60 steps of 8 batches of 16 samples; the loss at
the end:

| gradient | its length at first | SGD, lr 0.3 | Adam, lr 0.01 |
|---|---|---|---|
| one batch of 128 | 1.39 | 0.0191 | 0.0098 |
| 8 of 16, loss divided by 8 | 1.39 | 0.0191 | 0.0098 |
| 8 of 16, loss not divided | 11.14 | **NaN** | 0.0098 |

`reduction="sum"` does the same: on scikit-learn's digits a sum over batches of 64 has 64 times the gradient of the
mean, and at the learning rate at which the mean gets 92.9 % right the sum stays at chance.

```sh
python -c "
import torch
w = torch.ones(1, requires_grad=True)
x = torch.tensor([1.0, 2.0, 3.0, 4.0])
(w * x).mean().backward()
print('one batch of four ', w.grad.item())
for divide in (2, 1):
    w.grad = None
    for part in x.chunk(2):
        ((w * part).mean() / divide).backward()
    print('two batches of two', w.grad.item())"
```
```text
one batch of four  2.5
two batches of two 2.5
two batches of two 5.0
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader, accum_steps):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i, (x, digit) in enumerate(loader):
        loss = F.cross_entropy(model(x), digit)
        loss.backward()
        if (i + 1) % accum_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
    return model
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader, accum_steps):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i, (x, digit) in enumerate(loader):
        loss = F.cross_entropy(model(x), digit) / accum_steps
        loss.backward()
        if (i + 1) % accum_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
    return model
```

## Remedies
- `loss = loss / accum_steps` before `backward()`; log the undivided one.
- Where the parts differ in length (tokens, masks), sum the loss of each and divide by the total count of all parts: a
  mean of means weighs short parts too much.
- `Accelerator(gradient_accumulation_steps=k)` and Lightning's `accumulate_grad_batches` divide by themselves.
- `--fix` divides the loss where it is backpropagated, so that what is logged stays as it is (unsafe).

## When to ignore it
- When the learning rate was tuned with the sum. `clip_grad_norm_` hides the length where it always clips, and only
  there.
- A loss that is a sum over samples is not reported, nor are gradients that are divided before the step.

## References
- nanoGPT, issue 206; "Fixing gradient accumulation", Hugging Face, 2024, on means of means.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial
from typing import Any

from lossproof.finding import Finding, Severity
from lossproof.rules.loop.places import binders, known_at, names, parameters, same_scope, simple
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import Accumulated
from lossproof.source.loops import hop
from lossproof.source.syntax import dotted
from lossproof.source.values import Hop


def check(fact: Accumulated) -> Iterator[Finding]:
    count = f"{fact.known:g}" if fact.known is not None else f"`{fact.count}`"
    hops = (
        Hop(fact.count_module, fact.count_at, "so many backward passes are summed"),
        hop(fact.step, "before this step"),
    )
    yield fact.finding(
        RULE,
        f"the gradients of {count} backward passes are summed and the loss is not divided by {count}: the gradient, "
        "and with plain SGD the learning rate, is that many times what it seems to be",
        hops=hops,
        confidence="likely",
        hint=f"divide the loss before backward(): loss = loss / {fact.count}",
        fix=partial(_fix, fact),
    )


def _fix(fact: Accumulated, patch: Patch) -> tuple[str, str]:
    module = fact.backward.frame.function.module
    loss = _loss(fact)
    count = _count(fact, patch)
    text = f"{patch.operand(module, loss)} / {count}"
    inner = patch.tree(module).parent(loss)
    whole = isinstance(inner, ast.Call) and loss is not inner.func and len(inner.args) + len(inner.keywords) == 1
    patch.replace(module, loss, text if whole or patch.tree(module).delimited(loss) else f"({text})")
    return "unsafe", f"the loss is divided by {count} where it is backpropagated; what is logged stays as it is"


def _loss(fact: Accumulated) -> Any:
    """The expression of the loss at its backward pass, inside of a scaler."""
    call: Any = fact.backward.at
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        raise Unfixable("the loss is not known at its backward pass")
    if fact.backward.detail == "engine" or call.func.attr == "manual_backward":
        if not call.args or isinstance(call.args[0], ast.Starred):
            raise Unfixable("the loss is not known at its backward pass")
        return call.args[0]
    owner: Any = call.func.value
    if dotted(owner) in ("torch.autograd", "autograd"):
        if not call.args or isinstance(call.args[0], (ast.List, ast.Tuple, ast.Starred)):
            raise Unfixable("several losses are backpropagated at once")
        return call.args[0]
    if call.args and "loss" not in dotted(owner).lower():
        raise Unfixable("what is handed to backward() is not known to be the loss")
    while isinstance(owner, ast.Call) and isinstance(owner.func, ast.Attribute) and owner.func.attr == "scale":
        if len(owner.args) != 1:
            break
        owner = owner.args[0]
    return owner


def _count(fact: Accumulated, patch: Patch) -> str:
    """The number of passes as it can be written where the loss is backpropagated."""
    here, there = fact.backward.frame.function, fact.count_in
    expression = fact.count_at
    if isinstance(expression, ast.Constant):
        if there is not here:
            raise Unfixable("the loss is backpropagated in a helper that does not know how many passes are summed")
        return patch.text(fact.count_module, expression)
    if not simple(expression) and any(isinstance(part, ast.Call) for part in ast.walk(expression)):
        raise Unfixable("the number of passes is the result of a call")
    if isinstance(expression, ast.IfExp) or any(isinstance(part, ast.NamedExpr) for part in ast.walk(expression)):
        raise Unfixable("the number of passes is not one expression")
    assert there is not None
    text = patch.operand(fact.count_module, expression)
    if "\n" in text:
        raise Unfixable("the number of passes is written over several lines")
    if there is here:
        if not known_at(patch, here, expression, fact.backward.at):
            raise Unfixable("the number of passes is only known after the backward pass")
        return text
    roots = names(expression)
    if there.module is here.module and same_scope(there, here):
        if not any(binders(here, name) or name in parameters(here) for name in roots):
            return text
    own = there.cls is not None and there.cls is here.cls and there.first_param == here.first_param
    if own and roots == {there.first_param} and there.first_param is not None:
        return text
    raise Unfixable("the loss is backpropagated in a helper that does not know how many passes are summed")


RULE = Rule(
    code="LP702",
    name="unscaled-accumulation",
    severity=Severity.WARNING,
    summary="Gradients are accumulated over several batches, and the loss is not divided by their number.",
    hint="divide the loss by the number of accumulated batches before backward()",
    page=__doc__ or "",
    evidence="unscaled-accumulation",
    facts="accumulated",
    check=check,
)
