"""# LP303 silent-broadcast

## What it does
Finds an elementwise loss between shapes that differ and broadcast: most often a prediction `(N, 1)` from
`nn.Linear(..., 1)` against a target `(N,)`. In the graph of a live loss (`lossproof.audit`) the shapes themselves are
read, and where one is not kept, the difference.

## Why is this bad
The difference is an `N x N` matrix: every prediction is compared with every target. Its best answer is the same for
all rows, the mean of the targets. The model learns to ignore its input, and the loss settles at the variance of the
targets: a plausible number that no learning rate improves.

## Measured
torch 2.13.0, CPU. 200 rows of an exact linear relation with weights (9, -2, 1) and a little noise, 300 SGD steps:

| shapes | loss | largest learned weight | R2 |
|---|---|---|---|
| `(N, 1)` against `(N, 1)` | 0.0082 | 9.00 | 0.9999 |
| `(N, 1)` against `(N,)` | **79.6**, the variance of y | 2.0e-8 | **0.0** |

A lower learning rate leads to the same place more slowly: at 0.2, 0.02 and 0.002 another relation is left unexplained
to 100, 100 and 97 % after 150 steps, with equal shapes to 0, 0 and 25 %.

What PyTorch says to `(4, 1)` against `(4,)`: `mse_loss`, `l1_loss`, `smooth_l1_loss` and `huber_loss` warn once and
go on; `binary_cross_entropy`, its logits form and `soft_margin_loss` raise; `kl_div`, `poisson_nll_loss` and
everything written by hand say **nothing**. For N = 4,096 the matrix has 16.8 million elements.

```sh
python -c "
import torch
pred, y = torch.zeros(200, 1), torch.randn(200)
print((pred - y).shape)"
```
```text
torch.Size([200, 200])
```

## Wrong
```python
import torch
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, price in loader:
        optimizer.zero_grad()
        price = price.view(-1)
        loss = ((model(x) - price) ** 2).mean()
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
from torch import nn


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, price in loader:
        optimizer.zero_grad()
        price = price.view(-1)
        loss = ((model(x).squeeze(1) - price) ** 2).mean()
        loss.backward()
        optimizer.step()
```

## Remedies
- `model(x).squeeze(1)`, with the axis named: a bare `squeeze()` also removes a batch of one.
- Or `target.unsqueeze(1)`, or `target.view_as(pred)`.
- `--fix` is unsafe, for the objective changes: `.squeeze(1)` on the column where they meet (`.squeeze(-1)` where it may
  have more axes), or `.unsqueeze(1)` on the row where the result is used as a column.
- Turn the warning into an error in tests: `warnings.filterwarnings("error", message="Using a target size")`.

## When to ignore it
- When broadcasting is meant: quantiles `(N, Q)` against `(N, 1)`, many hypotheses against one target, a pairwise
  matrix. Write the axis out (`target[:, None]`), and nothing is reported.

## References
- pytorch/pytorch#16045 and #19699: a regression that learned nothing. Pull requests #18349 and #18565 added the
  warning.
- PyTorch documentation: "Broadcasting semantics", `torch.nn.MSELoss`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial
from typing import Any

from lossproof.finding import Finding, Severity
from lossproof.graph.loss_facts import CrossedShapes
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import LossCall, Operation, possible
from lossproof.source.siblings import given_input, given_target
from lossproof.source.tensor_ops import as_tensor
from lossproof.source.values import Seq, T

_ELEMENTWISE = ("mse", "l1", "smooth_l1", "huber", "poisson", "kl")


def check(fact: LossCall | Operation) -> Iterator[Finding]:
    if isinstance(fact, LossCall):
        if fact.kind not in _ELEMENTWISE:
            return
        left, right = [t for _, t in fact.inputs()], [t for _, t in fact.targets()]
    else:
        if "sub" not in (fact.op, fact.word) or not fact.others:
            return
        left, right = fact.operands(), [as_tensor(fact.others[0])]
        if any(t.get("written") for t in (*left, *right)):
            return  # somebody wrote the axis out: every pair is meant
    if not left or not right:
        return
    one_way = all(_crossed(a, b) for a in left for b in right)
    if one_way or all(_crossed(b, a) for a in left for b in right):
        yield fact.finding(
            RULE,
            "(N, 1) meets (N,) here: the result is N x N, every prediction is compared with every target, and the "
            "best answer is their mean",
            because=(left if one_way else right)[0],
            confidence="likely",
            fix=partial(_fix, fact, (left if one_way else right, right if one_way else left), one_way),
        )


def _fix(fact: LossCall | Operation, values: tuple[list[T], list[T]], one_way: bool, patch: Patch) -> tuple[str, str]:
    first, second = _written(fact)
    column, row = (first, second) if one_way else (second, first)
    columns, rows = values
    note = "both have one value a row: each prediction is compared with its own target"
    if _rows_matter(patch, fact):
        if any(t.get("ndim") != 1 for t in rows):
            raise Unfixable("the shape of one side is not known exactly")
        patch.method(fact.module, row, "unsqueeze(1)")
    elif isinstance(column, ast.Call) and getattr(column.func, "attr", "") == "unsqueeze" and len(column.args) == 1:
        patch.unwrap(fact.module, column, column.func.value)  # type: ignore[attr-defined]
    elif _others_call(fact):
        # The helper serves callers with other shapes.
        if not isinstance(row, ast.Name):
            raise Unfixable("other callers of this function hand over other shapes")
        patch.method(fact.module, column, f"view_as({row.id})")
    else:
        flat = all(t.get("ndim") == 2 for t in columns)
        patch.method(fact.module, column, f"squeeze({1 if flat else -1})")
    return "unsafe", note


def _written(fact: LossCall | Operation) -> tuple[Any, Any]:
    """The two sides as they are written at this place."""
    if isinstance(fact, LossCall):
        return given_input(fact), given_target(fact)
    at = fact.node.at
    if isinstance(at, ast.BinOp):
        return at.left, at.right
    if isinstance(at, ast.Call) and not any(isinstance(a, ast.Starred) for a in at.args):
        given = [*at.args, *(k.value for k in at.keywords if k.arg in ("input", "other"))]
        if isinstance(at.func, ast.Attribute) and len(given) == 1:
            return at.func.value, given[0]
        if len(given) == 2:
            return given[0], given[1]
    raise Unfixable("the two sides are not written here")


def _others_call(fact: LossCall | Operation) -> bool:
    """Whether the function is known to be called from several places."""
    frame = fact.frame.base()
    if frame.site is None and not frame.args:
        return False
    contexts: Any = fact.ev.oracle
    function = frame.function
    callers = contexts.callers(function)
    if function.name in ("forward", "__call__"):
        callers = contexts.applications(function)
    return len({id(call[1].at) for call in callers}) > 1


def _rows_matter(patch: Patch, fact: LossCall | Operation) -> bool:
    """Whether what is made of the difference needs its second axis: it is summed over, or meets another column."""
    tree, node = patch.tree(fact.module), fact.node.at
    while True:
        parent = tree.parent(node)
        if isinstance(parent, ast.Attribute):
            call = tree.parent(parent)
            if not isinstance(call, ast.Call) or call.func is not parent:
                return False
            if any(k.arg in ("dim", "axis") for k in call.keywords) or (
                parent.attr in ("sum", "mean", "max", "min", "norm", "squeeze", "flatten") and call.args
            ):
                return True
            node = call
        elif isinstance(parent, ast.Call) and node in parent.args:
            if any(k.arg in ("dim", "axis") for k in parent.keywords):
                return True
            node = parent
        elif isinstance(parent, ast.BinOp):
            other = parent.right if node is parent.left else parent.left
            inner = fact.frame.ir.by_call.get(id(other)) or fact.frame.ir.final.get(getattr(other, "id", ""))
            if inner is not None and any(t.get("width") == 1 for _, t in possible(fact.value(inner), fact.atoms)):
                return True
            node = parent
        elif isinstance(parent, ast.UnaryOp):
            node = parent
        else:
            return False


def _crossed(column: T, row: T) -> bool:
    if not _column(column) or not _row(row):
        return False
    # Of a row that lost its last axis only that is known: it needs a column that surely has two.
    return row.get("ndim") == 1 or column.get("ndim") == 2 or bool(column.get("written"))


def _column(t: T) -> bool:
    return t.get("width") == 1 and t.get("ndim") in (None, 2)


def _row(t: T) -> bool:
    """One axis, with more than one element as far as is known; a constant is the same for every row."""
    wraps = t.get("wraps")
    if isinstance(wraps, Seq) and wraps.rest is None and len(wraps.every()) == 1:
        return False
    if t.lo is not None and t.lo == t.hi:
        return False
    return t.get("ndim") == 1 or bool(t.get("flat"))


def audit(fact: CrossedShapes) -> Iterator[Finding]:
    yield fact.finding(
        RULE,
        f"{fact.left} meets {fact.right} here and becomes {fact.result}: every row is combined with all "
        f"{fact.result[0]}, and the best answer for each of them is the mean of the targets",
        confidence="proven" if fact.written else "likely",
    )


RULE = Rule(
    code="LP303",
    name="silent-broadcast",
    severity=Severity.ERROR,
    summary="(N, 1) against (N,) in an elementwise loss: an N x N matrix whose best answer is the mean of the targets.",
    hint="give both the same shape: model(x).squeeze(1), or target.unsqueeze(1)",
    page=__doc__ or "",
    evidence="broadcast-mean",
    facts="loss operation",
    check=check,
    graph="crossed-shapes",
    audit=audit,
)
