"""# LP304 masked-mean-over-everything

## What it does
Finds a masked loss with the wrong denominator: `(loss * mask).mean()`, which divides by all elements, kept or not; or
`(loss * mask).sum() / mask.sum()` and `loss[mask].mean()`, where nothing prevents an empty mask. The first is a
warning; the second can be NaN and is an error.

## Why is this bad
Divided by everything, the loss measures how full the batch is. A batch that is padded to ten times its length learns
a tenth as much, the learning rate means something else in every batch, and the loss "improves" with more padding.
Divided by an empty mask it is 0 / 0, and one such batch ends the run.

## Measured
torch 2.13.0, CPU. The error of every element is 1:

| kept | `(loss * mask).mean()` | `(loss * mask).sum() / mask.sum()` |
|---|---|---|
| all | 1.0 | 1.0 |
| about 10 % | 0.101 | 1.0 |
| about 1 % | 0.0094 | 1.0 |
| none | 0 | **NaN**, and NaN in every gradient |

- 1 element of 8 kept: its gradient is 0.25 with the mean over everything, 2.0 with the right denominator.
- `loss[mask].mean()` of an empty selection: the value is NaN and the gradient here is 0, so the step is harmless, the
  log is not.
- `cross_entropy` with every target at `ignore_index`: value NaN, gradient 0. It divides by the number kept, too.
- With `.clamp(min=1)` on the denominator an empty mask gives loss 0 and gradient 0.

```sh
python -c "
import torch
loss, mask = torch.ones(2, 8), torch.zeros(2, 8)
print((loss * mask).sum().div(mask.sum()).item(), (loss * mask).sum().div(mask.sum().clamp(min=1)).item())"
```
```text
nan 0.0
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


def masked_error(pred, target, mask):
    error = F.smooth_l1_loss(pred, target, reduction="none")
    return (error * mask).mean()


def train(loader):
    model = nn.Linear(8, 24)
    optimizer = torch.optim.Adam(model.parameters())
    for x, series, mask in loader:
        optimizer.zero_grad()
        loss = masked_error(model(x), series, mask)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def masked_error(pred, target, mask):
    error = F.smooth_l1_loss(pred, target, reduction="none")
    return (error * mask).sum() / mask.sum().clamp(min=1)


def train(loader):
    model = nn.Linear(8, 24)
    optimizer = torch.optim.Adam(model.parameters())
    for x, series, mask in loader:
        optimizer.zero_grad()
        loss = masked_error(model(x), series, mask)
        loss.backward()
        optimizer.step()
```

## Remedies
- `(loss * mask).sum() / mask.sum().clamp(min=1)`.
- With gradient accumulation or several devices, divide by the number kept in the *whole* step, not in each part.
- Class indices: `ignore_index` does it, and give the all-ignored batch a thought.
- Padded targets that hold NaN: replace them before the loss. A mask after it leaves the NaN in the gradient (LP206).

## When to ignore it
- When the mask is a weight and a constant denominator is meant, so that sparse batches count less. Say so.
- When every row is full, and the mask is there for another setting.

## References
- transformers#37766: accumulation that divided each part by itself.
- torchcv#35: a batch with nothing to count.
- PyTorch documentation: `torch.nn.CrossEntropyLoss` (the denominator with `ignore_index` and `weight`).
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import LossCall, Operation
from lossproof.source.hazards import is_mask, mask_in, occurs, selected, selecting, tested
from lossproof.source.tensor_ops import as_tensor, same
from lossproof.source.values import T, constant

_ELEMENTWISE = ("mse", "l1", "smooth_l1", "huber")


_EMPTY = "a batch in which the mask selects nothing makes this mean NaN"
_ALL = "the masked elements are zeros that still count in the mean: the loss shrinks with the share that is kept"


def check(fact: Operation | LossCall) -> Iterator[Finding]:
    if isinstance(fact, LossCall):
        yield from _both_masked(fact)
    elif fact.op == "mean" and not fact.others and not _over_some_axes(fact):
        yield from _mean(fact)
    elif fact.op == "div" and fact.others:
        yield from _ratio(fact)


def _over_some_axes(fact: Operation) -> bool:
    return fact.node.op == "call" and any(k in ("dim", "axis") for k, _ in fact.node.args[2])


def _both_masked(fact: LossCall) -> Iterator[Finding]:
    """``l1_loss(pred * mask, target * mask)``: the masked elements are equal, and count."""
    reduction = fact.settings.get("reduction")
    if fact.kind not in _ELEMENTWISE or (reduction is not None and constant(reduction) != "mean"):
        return
    if constant(fact.settings.get("reduce")) is False or constant(fact.settings.get("size_average")) is False:
        return
    for _, x in fact.inputs():
        mask = mask_in(x, False)
        if mask is None:
            return
        for _, y in fact.targets():
            other = mask_in(y, False)
            if other is None or not same(mask, other):
                return
    yield fact.finding(RULE, _ALL, confidence="likely")


def _mean(fact: Operation) -> Iterator[Finding]:
    operands = fact.operands()
    for t in operands:
        if selected(t):
            masks = selecting(t)
            if any(not selected(other) for other in operands) or any(occurs(m) or tested(fact, m) for m in masks):
                return  # chosen by a test, or known to be there
            if not tested(fact, t):
                yield fact.finding(RULE, _EMPTY, severity=Severity.ERROR, confidence="likely")
            return
        if mask_in(t, False) is not None or _zeroed(t) or _ignored(t):
            if "sum" not in t.tags and not tested(fact, t):
                yield fact.finding(RULE, _ALL, confidence="likely")
            return


def _ratio(fact: Operation) -> Iterator[Finding]:
    numerator = as_tensor(fact.others[0])
    mask = mask_in(numerator)
    if mask is None:
        return
    for t in fact.operands():
        via = t.get("via")
        if "size" in t.tags:
            yield fact.finding(RULE, _ALL, confidence="likely")
            return
        if via is not None and via[0] == "sum" and same(via[1], mask) and not t.nonzero and not tested(fact, t):
            yield fact.finding(RULE, _EMPTY, severity=Severity.ERROR, confidence="likely")
            return


def _zeroed(t: T) -> bool:
    """``masked_fill(mask, 0)``, ``where(mask, loss, 0)``, ``loss[mask] = 0``."""
    if t.get("zeroed"):
        return True
    via = t.get("via")
    if via is not None and via[0] == "where":
        test, yes, no = via[1:]
        for side, other in ((yes, no), (no, yes)):
            if side.lo == side.hi == 0.0 and "loss" in other.tags and is_mask(test):
                return True
    return False


def _ignored(t: T) -> bool:
    """An unreduced loss with ignore_index: what is ignored is a zero in it."""
    return t.act == "loss" and t.get("reduction") == "none" and bool(t.get("ignores"))


RULE = Rule(
    code="LP304",
    name="masked-mean-over-everything",
    severity=Severity.WARNING,
    summary="A masked loss divided by all elements, or by a mask that can be empty: wrong scale, or NaN.",
    hint="divide by what is kept: (loss * mask).sum() / mask.sum().clamp(min=1)",
    page=__doc__ or "",
    evidence="masked-mean",
    facts="operation loss",
    check=check,
)
