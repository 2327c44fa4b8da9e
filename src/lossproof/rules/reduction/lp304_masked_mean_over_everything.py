"""# LP304 masked-mean-over-everything

## What it does
Finds a masked loss with the wrong denominator: `(loss * mask).mean()`, which divides by all elements, kept or not; or
`(loss * mask).sum() / mask.sum()` and `loss[mask].mean()`, where nothing prevents an empty mask. The first is a
warning; the second can be NaN and is an error. In the graph of a live loss (`lossproof.audit`) it counts what the mask
keeps, and tells a mean over nothing, all targets ignored included.

## Why is this bad
Divided by everything, the loss measures how full the batch is. A batch that is padded to ten times its length learns
a tenth as much, the learning rate means something else in every batch, and the loss "improves" with more padding.
Divided by an empty mask it is 0 / 0, and one such batch ends the run.

## Measured
torch 2.13.0, CPU. The error of every element is 1:

| kept | `(loss * mask).mean()` | `(loss * mask).sum() / mask.sum()` |
|---|---|---|
| all | 1.0 | 1.0 |
| 10.1 % | 0.101 | 1.0 |
| 1.2 % | 0.0118 | 1.0 |
| none | 0 | **NaN**, and NaN in every gradient |

- 1 element of 8 kept: its gradient is 0.25 with the mean over everything, 2.0 with the right denominator.
- `loss[mask].mean()` of an empty selection: the value is NaN and the gradient here is 0, so the step is harmless, the
  log is not.
- `cross_entropy` with every target at `ignore_index`: value NaN, gradient 0. It divides by the number kept, too.
- With `.clamp(min=1)` on the denominator an empty mask gives loss 0 and gradient 0.
- Parts of 100, 10, 10 and 8 tokens, each with a mean of its own: a token of the shortest counts 12.5 times one of the
  longest, and the step is off by 32 % of its length.

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
- `--fix` puts `.clamp(min=1)` on a count that can be 0, and turns `loss[mask].mean()` into a sum over at least 1 (safe:
  the value is the same unless nothing is kept). With `--unsafe-fixes` a mean over everything becomes one over what is
  kept.
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

import ast
from collections.abc import Iterator
from functools import partial
from typing import Any

from lossproof.finding import Finding, Severity
from lossproof.graph.loss_facts import MaskedMean
from lossproof.rules.registry import Rule
from lossproof.source import masked
from lossproof.source.domain import is_target
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import LossCall, Operation
from lossproof.source.hazards import is_mask, mask_in, occurs, selected, selecting, tested
from lossproof.source.siblings import given_input, given_target
from lossproof.source.syntax import dotted
from lossproof.source.tensor_ops import as_tensor, distance, same
from lossproof.source.uses import unchanged
from lossproof.source.values import Lib, Ref, T, alternatives, constant

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
    yield fact.finding(RULE, _ALL, confidence="likely", fix=partial(_fix_both, fact))


def _mean(fact: Operation) -> Iterator[Finding]:
    operands = fact.operands()
    for t in operands:
        if selected(t):
            masks = selecting(t)
            if any(not selected(other) for other in operands) or any(occurs(m) or tested(fact, m) for m in masks):
                return  # chosen by a test, or known to be there
            if not tested(fact, t):
                yield fact.finding(
                    RULE, _EMPTY, severity=Severity.ERROR, confidence="likely", fix=partial(_fix_selection, fact)
                )
            return
        if mask_in(t, False) is not None or _zeroed(t) or _ignored(t):
            if "sum" not in t.tags and not tested(fact, t) and not _normalized(fact, t):
                yield fact.finding(RULE, _ALL, confidence="likely", fix=partial(_fix_mean, fact, t))
            return


def _normalized(fact: Operation, t: T) -> bool:
    """``(loss * mask).mean() / mask.mean()``: the share that is kept is divided out again."""
    mask = mask_in(t, False)
    if mask is None:
        return False
    made = [fact.node]
    for node in fact.frame.ir.ops:
        op, left, right = node.args
        if op == "/" and any(left is m for m in made):
            values = [as_tensor(v) for _, v in alternatives(fact.value(right))]
            if any(_made_of(v, mask) for v in values):
                return True
        if op in ("*", "+", "/") and any(side is m for side in (left, right) for m in made):
            made.append(node)
    return False


def _made_of(t: T, mask: T, depth: int = 5) -> bool:
    via = t.get("via")
    if same(t, mask):
        return True
    return via is not None and depth > 0 and any(isinstance(p, T) and _made_of(p, mask, depth - 1) for p in via[1:])


def _ratio(fact: Operation) -> Iterator[Finding]:
    numerator = as_tensor(fact.others[0])
    mask = mask_in(numerator)
    if mask is None:
        return
    for t in fact.operands():
        via = t.get("via")
        if "size" in t.tags:
            yield fact.finding(RULE, _ALL, confidence="likely", fix=partial(_fix_size, fact, mask))
            return
        if via is not None and via[0] == "sum" and same(via[1], mask) and not t.nonzero and not tested(fact, t):
            yield fact.finding(
                RULE, _EMPTY, severity=Severity.ERROR, confidence="likely", fix=partial(_fix_count, fact, t)
            )
            return


def _zeroed(t: T) -> bool:
    """``masked_fill(mask, 0)``, ``where(mask, loss, 0)``, ``loss[mask] = 0``."""
    if t.get("zeroed"):
        return True
    via = t.get("via")
    if via is not None and via[0] == "where":
        test, yes, no = via[1:]
        for side, other in ((yes, no), (no, yes)):
            if side.lo != 0.0 or side.hi != 0.0 or not is_mask(test):
                continue
            if "loss" in other.tags or (distance(other) and _of_the_target(test)):
                return True
    return False


def _of_the_target(test: T) -> bool:
    """``target > 0``: which elements are there to be compared."""
    compare = test.get("compare")
    return compare is not None and "const" in compare[2].tags and is_target(compare[1])


def _ignored(t: T) -> bool:
    """An unreduced loss with ignore_index: what is ignored is a zero in it."""
    return t.act == "loss" and t.get("reduction") == "none" and bool(t.get("ignores"))


# ---- fixes

_KEPT = "the mean over the elements that the mask keeps"


def _fix_mean(fact: Operation, t: T, patch: Patch) -> tuple[str, str]:
    """``(loss * mask).mean()``."""
    call, node = fact.node.at, fact.operand_node
    whole = masked.reduced(call)
    assert node is not None
    if _ignored(t):
        count = _not_ignored(fact, patch, call)
    else:
        mask = mask_in(t, False)
        found = masked.find(fact, node, mask) if mask is not None else masked.zeroing(node)
        if found is None:
            raise Unfixable("where the mask comes in is another function")
        count = masked.kept(fact, patch, found, whole, whole)
    masked.divided(patch, fact, call, count)
    return "unsafe", _KEPT


def _not_ignored(fact: Operation, patch: Patch, use: Any) -> str:
    """The number of targets that an unreduced loss does not ignore."""
    node = fact.operand_node
    call = node.at if node is not None and node.op == "call" else None
    if not isinstance(call, ast.Call) or node is None or len(call.args) < 2:
        raise Unfixable("which targets are ignored is decided elsewhere")
    module, function = fact.module, fact.frame.base().function
    target, callee = call.args[1], fact.value(node.args[0])
    tree = patch.tree(module)
    if not unchanged(
        tree, function, target, use, ("view", "reshape", "squeeze", "long"), here=target.lineno == use.lineno
    ):
        raise Unfixable("the targets are not at hand where the mean is taken")
    text = patch.operand(module, target)
    if isinstance(callee, Lib):
        if not dotted(call.func) or not callee.name.startswith("torch.nn."):
            raise Unfixable("which targets are ignored is decided elsewhere")
        return f"({text} != {patch.text(module, call.func)}.ignore_index).sum().clamp(min=1)"
    for given in call.keywords:
        if given.arg == "ignore_index" and unchanged(tree, function, given.value, use):
            return f"({text} != {patch.text(module, given.value)}).sum().clamp(min=1)"
    raise Unfixable("which targets are ignored is decided elsewhere")


def _fix_selection(fact: Operation, patch: Patch) -> tuple[str, str]:
    """``loss[mask].mean()``: the same, and 0 of nothing."""
    call = fact.node.at
    whole = masked.reduced(call)
    function, tree = fact.frame.base().function, patch.tree(fact.module)
    counted: Any = whole
    while not isinstance(counted, (ast.Name, ast.Subscript)) and not _is_selection(counted):
        counted = masked.narrower(counted)
    selection = isinstance(counted, ast.Name) or _is_selection(counted)
    if not selection or not unchanged(tree, function, counted, call, ("masked_select", "bool"), here=True):
        raise Unfixable("how many elements are selected is not known without selecting them twice")
    masked.divided(patch, fact, call, f"max({patch.text(fact.module, counted)}.numel(), 1)")
    return "safe", "the same mean, and 0 instead of NaN where nothing is selected"


def _is_selection(at: Any) -> bool:
    if isinstance(at, ast.Call):
        return getattr(at.func, "attr", "") == "masked_select"
    return isinstance(at, ast.Subscript) and isinstance(at.slice, (ast.Name, ast.Compare, ast.Attribute, ast.UnaryOp))


def _fix_size(fact: Operation, mask: T, patch: Patch) -> tuple[str, str]:
    """``(loss * mask).sum() / loss.numel()``."""
    node = _numerator(fact)
    below = _sum_of(node)
    found = masked.find(fact, below, mask) if below is not None else None
    if found is None or below is None:
        raise Unfixable("where the mask comes in is another function")
    denominator = _denominator(fact)
    whole = _written_sum(fact)
    tree = patch.tree(fact.module)
    count = masked.kept(fact, patch, found, whole, fact.node.at)
    patch.put(fact.module, *tree.outside(tree.span(denominator)), count)
    return "unsafe", _KEPT


def _numerator(fact: Operation) -> Any:
    node = fact.node
    if node.op == "bin":
        return node.args[1]
    func, args, _ = node.args
    return args[0] if len(args) == 2 else func.args[0]


def _written_sum(fact: Operation) -> Any:
    at = fact.node.at
    written = at.left if isinstance(at, ast.BinOp) else None
    return masked.reduced(written) if isinstance(written, ast.Call) else None


def _sum_of(node: Any) -> Any:
    if node.op != "call" or node.args[0].op != "attr" or node.args[0].args[1] != "sum":
        return None
    func, args, keywords = node.args
    if keywords or len(args) > 1:
        return None
    return args[0] if args else func.args[0]


def _denominator(fact: Operation) -> Any:
    at = fact.node.at
    if isinstance(at, ast.BinOp):
        return at.right
    if isinstance(at, ast.AugAssign):
        return at.value
    if isinstance(at, ast.Call) and at.args and not isinstance(at.args[-1], ast.Starred) and not at.keywords:
        return at.args[-1]
    raise Unfixable("the denominator is not written here")


def _fix_count(fact: Operation, t: T, patch: Patch) -> tuple[str, str]:
    """``(loss * mask).sum() / mask.sum()``: the same, and 0 of nothing."""
    denominator = _denominator(fact)
    if "numpy" in t.tags:
        raise Unfixable("the count is an array of NumPy")
    if "item" in t.tags or "num" in t.tags:
        patch.wrap(fact.module, denominator, "max(", ", 1)")
    else:
        patch.method(fact.module, denominator, "clamp(min=1)")
    return "safe", "the same ratio, and 0 instead of NaN where the mask is empty"


def _fix_both(fact: LossCall, patch: Patch) -> tuple[str, str]:
    """``l1_loss(pred * mask, target * mask)``."""
    if not isinstance(fact.callee, Ref):
        raise Unfixable("the reduction is chosen where the criterion is built")
    given = given_input(fact)
    given_target(fact)
    call = fact.node.at
    _, args, keywords = fact.node.args
    node = args[0] if args else next(v for k, v in keywords if k == "input")
    for _, t in fact.inputs():
        mask = mask_in(t, False)
        found = masked.find(fact, node, mask) if mask is not None else None
        if found is None:
            raise Unfixable("where the mask comes in is another function")
        count = masked.kept(fact, patch, found, given, call)
    patch.set_argument(fact.module, call, "reduction", '"sum"')
    masked.ratio(patch, fact, call, count)
    return "unsafe", _KEPT


def audit(fact: MaskedMean) -> Iterator[Finding]:
    kept = f"{fact.kept} of {fact.elements} elements"
    if fact.how == "empty":
        yield fact.finding(
            RULE, f"none of {fact.elements} elements is selected here: this mean is 0 / 0", severity=Severity.ERROR
        )
    elif fact.how == "all-ignored":
        yield fact.finding(
            RULE,
            f"all {fact.elements} targets are `ignore_index`: the mean over none of them is 0 / 0",
            severity=Severity.ERROR,
            hint='reduction="sum", divided by (target != ignore_index).sum().clamp(min=1)',
        )
    else:
        share = fact.kept / fact.elements
        yield fact.finding(
            RULE,
            f"{kept} are kept here and the mean divides by all {fact.elements}: the loss is {share:.3g} times the mean "
            "over what is kept, and shrinks as the batch is padded",
        )


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
    graph="masked-mean",
    audit=audit,
)
