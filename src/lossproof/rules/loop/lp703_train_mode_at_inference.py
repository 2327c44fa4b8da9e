"""# LP703 train-mode-at-inference

## What it does
Finds a network that is evaluated, or that predicts with loaded weights, in training mode: `eval()` is called nowhere
on the way, or `train()` undoes it. Also the reverse: a validation in the loop calls `eval()`, nothing calls `train()`
again, and the training goes on in evaluation mode from the second epoch.

A network that holds nothing that depends on the mode (no dropout, no batch norm) is not reported; where that cannot
be seen the finding is `info`.

## Why is this bad
`torch.no_grad()` does not do this: it stops the recording of gradients and leaves the mode alone. In training mode
dropout throws away activations at random, and batch norm uses the statistics of whatever batch it is shown, so that
the answer for a sample depends on its neighbours; it also goes on updating the running statistics, with validation
data. A metric that is measured so chooses the wrong checkpoint. The reverse, training in evaluation mode, switches
the regularization off without a word.

## Measured
torch 2.13.0, CPU. A network with batch norm and dropout 0.5, two classes, 1,000 test samples; accuracy:

| batches | `eval()` | training mode |
|---|---|---|
| 100, mixed | 93.6 % | 92.9 % |
| 100, in the order of the classes | 93.6 % | **51.7 %** |
| 1 | 93.6 % | raises "Expected more than 1 value per channel when training" |

One pass over the test set in training mode moved the running mean by up to 0.033. The reverse: in a training that went
on in evaluation mode dropout dropped 0 % instead of 50 %, and the running statistics stayed as they were.

A known batch tells this cause of an overnight drop from others: in training mode two replays of it differ from the
reference and from each other; changed preprocessing gives two equal wrong replays, shifted data two right ones.

```sh
python -c "
import torch
layer = torch.nn.Dropout(0.5)
with torch.no_grad():
    print('training mode:', torch.equal(layer(torch.ones(99)), torch.ones(99)))
    layer.eval()
    print('eval mode:    ', torch.equal(layer(torch.ones(99)), torch.ones(99)))"
```
```text
training mode: False
eval mode:     True
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


def accuracy(model, loader):
    right = 0
    with torch.no_grad():
        for x, digit in loader:
            right += (model(x).argmax(1) == digit).sum().item()
    return right


def train(loader, val_loader):
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters())
    for epoch in range(10):
        for x, digit in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), digit).backward()
            optimizer.step()
        print(accuracy(model, val_loader))
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def accuracy(model, loader):
    model.eval()
    right = 0
    with torch.no_grad():
        for x, digit in loader:
            right += (model(x).argmax(1) == digit).sum().item()
    return right


def train(loader, val_loader):
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters())
    for epoch in range(10):
        model.train()
        for x, digit in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), digit).backward()
            optimizer.step()
        print(accuracy(model, val_loader))
```

## Remedies
- `model.eval()` at the start of every evaluation, `model.train()` at the start of every epoch. Both are cheap.
- After `load_state_dict`: a network is built in training mode; the weights do not carry the mode.
- `torch.onnx.export` switches by itself; `torch.jit.trace` records the mode that it finds.
- `--fix` calls `eval()` after weights are loaded for prediction alone (unsafe).

## When to ignore it
- Monte Carlo dropout, the renewal of batch statistics, rollouts of an agent: training mode on purpose. They are
  recognized by what they are called; suppress the rest with a reason.
- Lightning and the Hugging Face `Trainer` switch the mode themselves; `from_pretrained` of Transformers returns a
  network in evaluation mode. These are not reported.

## References
- PyTorch documentation: "Autograd mechanics", section on evaluation mode.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial

from lossproof.finding import Finding, Severity
from lossproof.rules.loop.places import simple
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import WrongMode
from lossproof.source.loops import hop
from lossproof.source.values import Hop


def check(fact: WrongMode) -> Iterator[Finding]:
    thing = fact.forward.thing
    name = thing.text if thing is not None and thing.text else "the network"
    cause = fact.cause
    layers = "dropout and batch statistics are live" if fact.sure else "dropout and batch norm, if it has any, are live"
    if fact.why == "resumed" and cause is not None:
        yield fact.finding(
            RULE,
            f"`{name}` is trained in evaluation mode from the second round on: eval() is called in the same loop and "
            "train() is not called again, so dropout is off and batch norm stands still",
            hops=(hop(cause, "switched to evaluation mode here"),),
            confidence="likely",
            severity=Severity.WARNING if fact.sure else Severity.INFO,
            hint=f"call {name}.train() again before training goes on",
        )
        return
    hops: tuple[Hop, ...] = ()
    if fact.why == "train" and cause is not None:
        what = f"`{name}` is evaluated in training mode, which was switched on before and not off again"
        hops = (hop(cause, "switched to training mode here"),)
    elif fact.why == "loaded":
        what = f"`{name}` predicts with loaded weights in training mode: eval() is never called"
        hops = (hop(cause, "its weights are loaded here"),) if cause is not None else ()
    else:
        what = f"`{name}` is evaluated in training mode: eval() is never called on the way here"
    yield fact.finding(
        RULE,
        f"{what}; {layers}, so the results are noise that depends on the batch",
        hops=hops,
        confidence="likely" if fact.sure else "possible",
        severity=Severity.ERROR if fact.sure else Severity.INFO,
        fix=partial(_fix, fact),
    )


_TRAINS = {"backward", "manual_backward", "train", "fit", "parameters"}


def _fix(fact: WrongMode, patch: Patch) -> tuple[str, str]:
    cause = fact.cause
    if fact.why != "loaded" or cause is None:
        raise Unfixable("training may go on after it, and would need train() again")
    call, function = cause.at, cause.frame.function
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or not simple(call.func.value):
        raise Unfixable("the network has no name where its weights are loaded")
    if any(getattr(c.func, "attr", "") in _TRAINS for f in (function, fact.frame.function) for c in f.calls):
        raise Unfixable("training may go on after it, and would need train() again")
    statement = patch.statement(function.module, call)
    if not isinstance(statement, (ast.Expr, ast.Assign)):
        raise Unfixable("the weights are loaded inside of another statement")
    patch.insert_after(function.module, statement, f"{patch.text(function.module, call.func.value)}.eval()")
    return "unsafe", "the network is put in evaluation mode after its weights are loaded"


RULE = Rule(
    code="LP703",
    name="train-mode-at-inference",
    severity=Severity.ERROR,
    summary="A network is evaluated, or predicts, in training mode: dropout and batch statistics are live.",
    hint="call model.eval() before evaluating, and model.train() before training goes on",
    page=__doc__ or "",
    evidence="train-mode-at-inference",
    facts="mode",
    check=check,
)
