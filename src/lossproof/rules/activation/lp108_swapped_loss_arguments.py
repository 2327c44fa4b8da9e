"""# LP108 swapped-loss-arguments

## What it does
Finds a loss whose target stands where the prediction belongs and the other way round: `loss(y, model(x))` for a loss
that is not symmetric. `mse_loss` and `l1_loss` are symmetric and are left alone. In the graph of a live loss
(`lossproof.audit`) it tells whether zeros and ones stand where the prediction belongs.

## Why is this bad
Scikit-learn's metrics take the truth first; PyTorch's losses take the prediction first. With class indices the
mistake raises. With float targets (binary labels, one-hot rows, soft labels) it runs: the labels are treated as
logits and the logits as labels, the loss has no lower bound, and only positives are pushed, upwards, for ever.

## Measured
torch 2.13.0, CPU.

- `binary_cross_entropy_with_logits(y, logits)`: the gradient of the *sum* with respect to the logit is `-y`, whatever
  the logit is: -1 for every positive, 0 for every negative.
- scikit-learn's digits, "is it a 3?", 300 SGD steps: the loss falls to **-1.1e8**, every digit is called a 3,
  held-out accuracy 9.1 %. In the right order: 0.089 and 97.8 %.
- `cross_entropy(one_hot, logits)` runs too. `cross_entropy(indices, logits)` and `nll_loss(indices, logits)` raise.
- `binary_cross_entropy(y, p)` gives gradients of plus and minus infinity.

```sh
python -c "
import torch, torch.nn.functional as F
logits = torch.tensor([3.0, -2.0, 5.0], requires_grad=True)
y = torch.tensor([1.0, 0.0, 0.0])
F.binary_cross_entropy_with_logits(y, logits, reduction='sum').backward()
print((logits.grad + 0).tolist())"
```
```text
[-1.0, 0.0, 0.0]
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        optimizer.zero_grad()
        logits = model(x).squeeze(1)
        loss = F.binary_cross_entropy_with_logits(y, logits)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        optimizer.zero_grad()
        logits = model(x).squeeze(1)
        loss = F.binary_cross_entropy_with_logits(logits, y)
        loss.backward()
        optimizer.step()
```

## Remedies
- Prediction first, target second.
- Or name them: `input=logits, target=y`.
- `--fix` exchanges the two (unsafe, for the objective changes), in the helper if all its callers pass them so.

## When to ignore it
- When the "target" is a second prediction and the order is meant, as in the reverse Kullback-Leibler divergence. Name
  the arguments, so that a reader sees it.

## References
- PyTorch documentation: `torch.nn.functional.binary_cross_entropy_with_logits`, `torch.nn.functional.cross_entropy`,
  `torch.nn.functional.kl_div` (`input`, then `target`).
- scikit-learn documentation: `sklearn.metrics.log_loss` (`y_true`, then the prediction).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from lossproof.finding import Finding, Severity
from lossproof.graph.loss_facts import SwappedArguments
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import LossCall
from lossproof.source.lower import Node
from lossproof.source.siblings import given_input, given_target
from lossproof.source.syntax import ParsedModule
from lossproof.source.uses import same_call
from lossproof.source.values import constant

_PREDICTED = re.compile(r"pred|logit|out|score|prob|hat|^x$|^input", re.I)
_TARGET = re.compile(r"target|label|true|truth|^gt|^y$|^t$", re.I)

_ASYMMETRIC = ("bce", "bce_logits", "ce", "nll", "kl", "poisson", "soft_margin")
_NETWORK = ("affine", "sigmoid", "softmax", "log_softmax", "relu", "gelu", "logsigmoid")


def check(fact: LossCall) -> Iterator[Finding]:
    if fact.kind not in _ASYMMETRIC:
        return
    targets = [t for _, t in fact.targets()]
    if _crossed(fact):
        yield fact.finding(
            RULE,
            f"`{fact.word}` gets the target first and the prediction second: it takes (input, target), and the "
            "gradient of what stands in the target's place is another one",
            because=targets[0],
            fix=partial(_fix, fact),
        )


def _crossed(fact: LossCall) -> bool:
    inputs = [t for _, t in fact.inputs()]
    targets = [t for _, t in fact.targets()]
    if not inputs or not targets:
        return False
    given = all(not t.act and t.tags & {"data", "fresh"} and "pred" not in t.tags for t in inputs)
    predicted = all(t.act in _NETWORK and "pred" in t.tags and "detached" not in t.tags for t in targets)
    told = fact.settings.get("log_target")
    if (
        fact.kind == "kl"
        and (told is None or constant(told) is False)
        and all(t.act == "softmax" for t in inputs)
        and all(t.act == "log_softmax" for t in targets)
    ):
        given = predicted = True
    return given and predicted


def _fix(fact: LossCall, patch: Patch) -> tuple[str, str]:
    module, one, two = fact.module, given_input(fact), given_target(fact)
    names = ("input", "target")
    site = fact.frame.base().site
    if site is not None and _handed_on(fact, one, two):
        # A call is found again from each function that leads to it.
        crossed = [_crossed(other) for other in {_site(other): other for other in same_call(fact)}.values()]
        if not all(crossed) or (len(crossed) == 1 and _named_in_order(one, two)):
            names = (one.id, two.id)
            module, one, two = _where_it_was_called(fact, one, two)
    tree = patch.tree(module)
    if tree.parent(one) is tree.parent(two) and _commented(patch, module, tree.parent(one), one, two):
        # What is said of each stays beside it: they are named instead.
        patch.wrap(module, one, f"{names[1]}=", "")
        patch.wrap(module, two, f"{names[0]}=", "")
        return "unsafe", "the prediction is the input, the target the target"
    first, second = patch.text(module, one), patch.text(module, two)
    patch.replace(module, one, second)
    patch.replace(module, two, first)
    return "unsafe", "the prediction first, the target second"


def _site(fact: LossCall) -> int:
    site = fact.frame.base().site
    return id(site[1].at) if site is not None else 0


def _commented(patch: Patch, module: ParsedModule, call: ast.Call, one: Any, two: Any) -> bool:
    """Whether comments stand behind two arguments that are the last that are given by position."""
    if len(call.args) != 2 or call.args[0] is not one or call.args[1] is not two:
        return False
    tree = patch.tree(module)
    (_, end), (start, last) = tree.outside(tree.span(one)), tree.outside(tree.span(two))
    return "#" in tree.between(end, start) or "#" in tree.between(last, (last[0], len(module.line_text(last[0]))))


def _handed_on(fact: LossCall, one: Any, two: Any) -> bool:
    """Whether a helper passes both on as it got them."""
    names = {p.name for p in fact.frame.ir.params}
    return all(isinstance(at, ast.Name) and at.id in names for at in (one, two))


def _named_in_order(one: Any, two: Any) -> bool:
    """``def loss(pred, target): return bce(pred, target)``: it is the caller who exchanged them."""
    return bool(_PREDICTED.search(one.id) or _TARGET.search(two.id)) and not (
        _TARGET.search(one.id) or _PREDICTED.search(two.id)
    )


def _where_it_was_called(fact: LossCall, one: Any, two: Any) -> tuple[Any, Any, Any]:
    frame = fact.frame.base()
    assert frame.site is not None
    caller, node = frame.site
    call = node.at
    if not isinstance(call, ast.Call) or any(isinstance(a, ast.Starred) for a in call.args):
        raise Unfixable("the arguments of the caller are not written out")
    given = []
    for at in (one, two):
        found = [k.value for k in call.keywords if k.arg == at.id] or [
            written
            for written, passed in zip(call.args, node.args[1], strict=False)
            if _is_passed(frame.args.get(at.id), passed)
        ]
        if len(found) != 1:
            raise Unfixable("which arguments of the caller are meant was not found")
        given.append(found[0])
    return caller.function.module, given[0], given[1]


def _is_passed(value: Any, node: Node) -> bool:
    return getattr(value, "node", None) is node


_CALLED = {
    "bce": "binary_cross_entropy",
    "bce-with-logits": "binary_cross_entropy_with_logits",
    "cross-entropy": "cross_entropy",
    "kl-div": "kl_div",
}


def audit(fact: SwappedArguments) -> Iterator[Finding]:
    seen = {
        "cross-entropy": f"{fact.positives} one-hot rows stand in the input's place",
        "kl-div": "probabilities without a gradient stand in the input's place, log-probabilities in the target's",
    }.get(
        fact.loss,
        f"{fact.elements} labels ({fact.positives} of them 1, the rest 0) stand in the input's place, and what has the "
        "gradient in the target's",
    )
    yield fact.finding(
        RULE,
        f"`{_CALLED[fact.loss]}` gets the target first and the prediction second: {seen}, so the gradient is another "
        "one and the loss has no floor where it should",
    )


RULE = Rule(
    code="LP108",
    name="swapped-loss-arguments",
    severity=Severity.ERROR,
    summary="Target and prediction are exchanged: with float targets it runs, without a lower bound.",
    hint="prediction first, target second: loss(input, target)",
    page=__doc__ or "",
    evidence="swapped-arguments",
    facts="loss",
    check=check,
    graph="swapped-arguments",
    audit=audit,
)
