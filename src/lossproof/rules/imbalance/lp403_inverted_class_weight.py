"""# LP403 inverted-class-weight

## What it does
Finds weights that favour the class which is already frequent: `pos_weight = positives / negatives`, class weights
that are
counts or frequencies (`weight=counts / counts.sum()`), weights for each element that do the same
(`torch.where(y == 1, positives / total, negatives / total)`), a sampler that draws each class in proportion to its
count.

`audit` holds the weights against the targets of the batch, and speaks where the batch shows clearly that they are
about the inverse of what they should be.

## Why is this bad
A weight is there to make up for rarity, so it has to fall as the count grows. Turned over, it multiplies the
imbalance by
itself: with 5 % positives each counts a nineteenth, and the model learns to say no. The loss looks better than
before,
because the class that it neglects hardly counts in it.

## Measured
torch 2.13.0, CPU. 1,900 negatives, 100 positives, logistic regression, 500 steps of Adam:

| weight | positives found | false alarms | mean probability |
|---|---|---|---|
| none | 23 % | 0.7 % | 0.052 |
| `pos_weight = neg / pos` (19), `weight = total / (2 * counts)` | 86 % | 15 % | 0.250 |
| `pos_weight = pos / neg` (0.053), `weight = counts / total` | **0 %** | 0 % | 0.008 |

The right weight has a price. Of 10,000 rows with 5 % positives it calls 20 % positive, and of those that it gives more
than 0.8 only 41 % are; with log(19) subtracted from the logit the mean probability is 5.0 % again. If 20 % are positive
later, the log loss is 0.37 as trained, 0.35 with the old prior put back, 0.269 with the new one and 0.268 trained anew.
Accuracy does not see any of it: with 1 % positives always saying no is right in 99.0 % of the cases, the weighted model
that finds 88 % of them in 82.7 %.

```sh
python -c "
import torch, torch.nn.functional as F
z, y = torch.zeros(20, requires_grad=True), torch.tensor([1.0] + [0.0] * 19)
for w in ((1 - y).sum() / y.sum(), y.sum() / (1 - y).sum()):
    z.grad = None
    F.binary_cross_entropy_with_logits(z, y, pos_weight=w).backward()
    print(round(w.item(), 3), round((z.grad[0] / z.grad[1:].sum()).item(), 4))"
```
```text
19.0 -1.0
0.053 -0.0028
```

## Wrong
```python
import torch
from torch import nn


def build_criterion(labels):
    pos = (labels == 1).sum()
    neg = (labels == 0).sum()
    return nn.BCEWithLogitsLoss(pos_weight=pos / neg)
```

## Right
```python
import torch
from torch import nn


def build_criterion(labels):
    pos = (labels == 1).sum()
    neg = (labels == 0).sum()
    return nn.BCEWithLogitsLoss(pos_weight=neg / pos.clamp(min=1))
```

## Remedies
- `pos_weight = negatives / positives`; for classes `weight = total / (number of classes * counts)`.
- Very rare classes: damp it, `weight = (total / counts).sqrt()`, or cap it.
- Every such weight moves the decision threshold: put the prior back, or choose the threshold on validation data.
- `--fix` turns the quotient over, or writes `1.0 / weights` at the loss where others use the quotient (unsafe).

## When to ignore it
- When the frequent class is the one that matters, or the training set was balanced and the weights put the true prior
  back.
  Say so in the suppression.

## References
- PyTorch documentation, `BCEWithLogitsLoss`: "if a dataset contains 100 positive and 300 negative examples of a
  single
  class, then `pos_weight` for the class should be equal to 300 / 100".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from lossproof.finding import Finding, Severity
from lossproof.graph.objective_facts import ClassWeights
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import ClassWeight
from lossproof.source.frames import Frame
from lossproof.source.lower import Node
from lossproof.source.syntax import Function, ParsedModule, dotted
from lossproof.source.values import Hop, T, alternatives

_SAYS = {
    "pos_weight": "`pos_weight` grows with the number of positives (it should be negatives / positives): the rarer "
    "they are, the less they count",
    "weight": "the class weights grow with the counts of the classes: the frequent ones count most, the rare ones are "
    "silenced",
    "elements": "a positive weighs the more the more positives there are, and a negative likewise: the rarer a class "
    "is, the less it counts",
    "sampler": "the sampler draws a class the more often the more frequent it is: rare classes all but vanish from the "
    "batches",
}


def check(fact: ClassWeight) -> Iterator[Finding]:
    if fact.share.towards(fact.kind) <= 0:
        return
    hops: tuple[Hop, ...] = ()
    if fact.share.at is not None:
        frame, node = fact.share.at
        hops = (Hop(frame.function.module, node.at, "the weight is computed here"),)
    sure = "likely" if fact.share.named else "proven"
    yield fact.finding(RULE, _SAYS[fact.kind], hops=hops, confidence=sure, fix=partial(_fix, fact))


_TURNED = "a weight grows as its class gets rarer"
# A name that says that what it holds is a frequency: what it holds may not be turned over.
_SHARE_NAME = re.compile(r"freq|preval|prior|count|hist|^n_|num|share|^p$|prob|portion|perc|^pos|fraction|rate$", re.I)
_SAME = {
    "tensor", "as_tensor", "FloatTensor", "Tensor", "from_numpy", "float", "to", "cuda", "cpu", "double", "view",
    "astype", "reshape", "detach", "array", "asarray", "numpy", "tolist", "list", "item", "type_as", "values",
}  # fmt: skip


def _fix(fact: ClassWeight, patch: Patch) -> tuple[str, str]:
    if fact.share.named:
        raise Unfixable("that these are counts is only known from their name")
    if fact.kind == "elements":
        raise Unfixable("each class has its own weight, which may be used elsewhere")
    quotient = _quotient(fact, patch)
    if quotient is not None:
        module, at = quotient
        _turn(patch, module, at, _floor(fact, *fact.share.at))
        return "unsafe", _TURNED
    return _at_the_call(fact, patch)


def _quotient(fact: ClassWeight, patch: Patch) -> tuple[ParsedModule, Any] | None:
    """The division that can be turned over where it stands: nothing but this weight is made of it."""
    if fact.share.at is None:
        return None
    frame, node = fact.share.at
    at, function = node.at, frame.function
    if not isinstance(at, ast.BinOp) or not isinstance(at.op, ast.Div):
        return None
    if isinstance(at.left, ast.Constant) or isinstance(at.right, ast.Constant):
        return None
    tree = patch.tree(function.module)
    inner, outer = at, tree.parent(at)
    while outer is not None:
        if isinstance(outer, ast.Call):
            word = dotted(outer.func).rpartition(".")[2] or getattr(outer.func, "attr", "")
            if word not in _SAME:
                break
        elif isinstance(outer, (ast.List, ast.Tuple)):
            if len(outer.elts) > 1:
                return None
        elif isinstance(outer, (ast.ListComp, ast.GeneratorExp)):
            if outer.elt is not inner:
                return None
        elif not isinstance(outer, (ast.Attribute, ast.keyword)):
            break
        inner, outer = outer, tree.parent(outer)
    if isinstance(outer, ast.Call):
        # Handed to the loss itself, or to a class or a helper of the project's own that the weight comes from.
        return (function.module, at) if _flows(fact, frame.function, outer, at) else None
    if isinstance(outer, ast.Assign) and len(outer.targets) == 1 and outer.value is inner:
        target = outer.targets[0]
        if isinstance(target, ast.Name):
            if _SHARE_NAME.search(target.id) and target.id != "pos_weight":
                return None
            return (function.module, at) if _uses(function.node, target.id) == 1 else None
        if isinstance(target, ast.Attribute) and target.attr in ("weight", "pos_weight") and fact.given.at is inner:
            return function.module, at  # ``criterion.pos_weight = …``
        if isinstance(target, ast.Attribute):
            if _SHARE_NAME.search(target.attr) and target.attr != "pos_weight":
                return None
            read = [
                n
                for n in ast.walk(function.module.tree)
                if isinstance(n, ast.Attribute) and n.attr == target.attr and isinstance(n.ctx, ast.Load)
            ]
            return (function.module, at) if len(read) == 1 else None
        return None
    if isinstance(outer, ast.Return) and outer.value is inner:
        contexts: Any = fact.ev.oracle
        callers = {id(n.at) for _, n, _ in contexts.callers(function)}
        return (function.module, at) if len(callers) == 1 and not _SHARE_NAME.search(function.name) else None
    if isinstance(outer, ast.Dict) and any(v is inner for v in outer.values):
        key = next(k for k, v in zip(outer.keys, outer.values, strict=True) if v is inner)
        if isinstance(key, ast.Constant) and key.value in ("weight", "pos_weight"):
            return function.module, at
    return None


def _flows(fact: ClassWeight, function: Function, call: ast.Call, at: Any) -> bool:
    if call is fact.node.at:
        return True
    word = dotted(call.func).rpartition(".")[2]
    named = next((k.arg for k in call.keywords if any(n is at for n in ast.walk(k.value))), "") or ""
    return named in ("weight", "pos_weight") or (
        re.search(r"loss|crit|bce|entropy|focal", word, re.I) is not None and not named and len(call.args) == 1
    )


def _uses(scope: Any, name: str) -> int:
    return sum(isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load) for n in ast.walk(scope))


_WHERE_ANY = "if"


def _floor(fact: ClassWeight, frame: Frame, node: Node) -> str:
    """What keeps the new divisor from being zero, where it holds a number for each class: some may have none."""
    each = isinstance(getattr(node.at, "left", None), ast.Subscript)
    if node.op != "bin" or not fact.share.vector or fact.kind == "sampler":
        return ""
    if each:
        return _WHERE_ANY  # one of a table: a ``Counter`` answers 0 for what it never saw
    left = [v for _, v in alternatives(fact.ev.value(frame, node.args[1]))]
    return ".clip(1e-6)" if left and all(isinstance(v, T) for v in left) else ""


def _turn(patch: Patch, module: ParsedModule, at: ast.BinOp, floor: str) -> None:
    """``a / b`` becomes ``b / a``; what keeps the divisor from being zero goes along."""
    upper, lower = patch.text(module, at.left), patch.text(module, at.right)
    if "\n" in upper + lower or "#" in upper + lower:
        raise Unfixable("the quotient is written over several lines")
    under, guard = _unguarded(patch, module, at.right)
    over = patch.operand(module, at.left)
    if under is not None:
        new, old = guard(upper), patch.operand(module, under)
        patch.replace(module, at, f"{old} / {new}")
        return
    turned = f"{patch.operand(module, at.right)} / {over}"
    if floor == _WHERE_ANY:
        turned, floor = (turned if _of_itself(patch, module, at) else f"({turned} if {upper} else 0.0)"), ""
    patch.replace(module, at, f"{turned}{floor}")


def _of_itself(patch: Patch, module: ParsedModule, at: ast.BinOp) -> bool:
    """``for c in sorted(counter)``: every key of the table is in it."""
    table = ast.dump(at.left.value) if isinstance(at.left, ast.Subscript) else ""
    tree = patch.tree(module)
    outer: Any = at
    while outer is not None and not isinstance(outer, (ast.FunctionDef, ast.Module)):
        sources = [outer.iter] if isinstance(outer, ast.For) else [g.iter for g in getattr(outer, "generators", ())]
        if any(ast.dump(part) == table for source in sources for part in ast.walk(source)):
            return True
        outer = tree.parent(outer)
    return False


def _unguarded(patch: Patch, module: ParsedModule, at: Any) -> tuple[Any, Callable[[str], str]]:
    """What is divided by, without the floor or the small number that protects it, and how to protect something else."""
    if isinstance(at, ast.Call) and isinstance(at.func, ast.Name) and at.func.id == "max" and len(at.args) == 2:
        for one, other in ((at.args[0], at.args[1]), (at.args[1], at.args[0])):
            if isinstance(other, ast.Constant):
                return one, partial("max({1}, {0})".format, patch.text(module, other))
    if isinstance(at, ast.BinOp) and isinstance(at.op, ast.Add):
        small = at.right
        tiny = isinstance(small, ast.Constant) and isinstance(small.value, float) and small.value < 0.01
        if tiny or (isinstance(small, (ast.Name, ast.Attribute)) and "eps" in dotted(small).lower()):
            return at.left, partial("({1} + {0})".format, patch.text(module, small))
    if (
        isinstance(at, ast.Call)
        and isinstance(at.func, ast.Attribute)
        and at.func.attr in ("clamp", "clamp_min", "clip")
    ):
        start = patch.tree(module).span(at.func.value)[1]
        end = patch.tree(module).span(at)[1]
        call = patch.tree(module).between(start, end)
        return at.func.value, lambda x: f"{x if x.replace('.', '').isidentifier() else f'({x})'}{call}"
    return None, lambda x: x


def _at_the_call(fact: ClassWeight, patch: Patch) -> tuple[str, str]:
    """``1.0 / weights`` where the weights are handed over."""
    at = _argument(fact)
    value = [v for _, v in alternatives(fact.value(fact.given))]
    if not value or not all(isinstance(v, T) for v in value) or fact.share.soft:
        raise Unfixable("the weight is not known to be a tensor")
    if isinstance(at, ast.Attribute) and _may_be_none(fact, at):
        raise Unfixable("the weight may be None")
    text = patch.text(fact.module, at)
    if "\n" in text:
        raise Unfixable("the weight is written over several lines")
    some = fact.share.vector and fact.kind != "sampler" and not isinstance(at, ast.Subscript)
    floor = ".clip(1e-6)" if some else ""
    turned = f"1.0 / {patch.operand(fact.module, at)}{floor}"
    patch.replace(fact.module, at, turned if patch.tree(fact.module).delimited(at) else f"({turned})")
    return "unsafe", _TURNED


def _argument(fact: ClassWeight) -> Any:
    call, node = fact.node.at, fact.node
    if not isinstance(call, ast.Call) or node.op != "call":
        if isinstance(call, ast.BinOp):
            for side, n in ((call.left, node.args[1]), (call.right, node.args[2])):
                if n is fact.given and isinstance(side, ast.Subscript):
                    return side
        raise Unfixable("the weight is not written at the loss")
    names = ("weights",) if fact.kind == "sampler" else ("weight", "pos_weight", "class_weights", "alpha")
    found = [k.value for k in call.keywords if k.arg in names]
    if len(found) == 1:
        return found[0]
    if any(isinstance(a, ast.Starred) for a in call.args):
        raise Unfixable("the weight is not written at the loss")
    found = [a for a, n in zip(call.args, node.args[1], strict=False) if n is fact.given]
    if len(found) != 1 or any(k.arg is None for k in call.keywords):
        raise Unfixable("the weight is not written at the loss")
    return found[0]


def _may_be_none(fact: ClassWeight, at: ast.Attribute) -> bool:
    cls = fact.frame.function.cls
    init = cls.methods.get("__init__") if cls is not None else None
    if init is None:
        return True
    a = init.node.args
    return any(isinstance(d, ast.Constant) and d.value is None for d in [*a.defaults, *a.kw_defaults])


def audit(fact: ClassWeights) -> Iterator[Finding]:
    if len(fact.counts) == 2:
        negatives, positives = fact.counts
        rarer, other = ("positives", "negatives") if positives < negatives else ("negatives", "positives")
        where = "" if fact.column is None else f" in column {fact.column}"
        if len(fact.weights) == 1:
            what = f"`pos_weight` is {fact.weights[0]:.4g}{where}"
            ideal = f"negatives / positives is {negatives / positives:.4g}" if positives else "there is no positive"
        else:
            what = f"a positive weighs {fact.weights[1]:.4g} and a negative {fact.weights[0]:.4g}"
            ideal = f"{other} / {rarer} is {max(fact.counts) / max(min(fact.counts), 1):.4g}"
        message = (
            f"{what}, and this batch has {positives} positives and {negatives} negatives{where}: the rarer {rarer} "
            f"count even less than without a weight ({ideal})"
        )
    else:
        most = max(range(len(fact.counts)), key=fact.counts.__getitem__)
        least = min(range(len(fact.counts)), key=fact.counts.__getitem__)
        message = (
            f"the class weights grow with the counts of the classes: class {most}, with {fact.counts[most]} targets in "
            f"this batch, weighs {fact.weights[most]:.4g}, and class {least}, with {fact.counts[least]}, weighs "
            f"{fact.weights[least]:.4g}"
        )
    yield fact.finding(RULE, message, confidence="likely")


RULE = Rule(
    code="LP403",
    name="inverted-class-weight",
    severity=Severity.ERROR,
    summary="Class weights that favour the frequent class: the rare one counts even less than without them.",
    hint="turn the quotient over: negatives / positives, or total / (classes * counts)",
    page=__doc__ or "",
    evidence="class-weight",
    facts="class_weight",
    check=check,
    graph="class-weights",
    audit=audit,
)
