"""# LP402 focal-pt-from-wrong-ce

## What it does
Finds `pt = exp(-ce)` where `ce` is not the plain cross entropy of one element: it is already a mean or a sum, it
carries
class weights or `pos_weight`, or its labels are smoothed.

`audit` finds it in the graph of a live loss: how many elements were reduced, the weights, and the element whose
probability they change most.

## Why is this bad
`exp(-ce)` is the probability of the right class for one unweighted element alone. Of a mean it is one number for the
batch: every element gets the same factor, and nothing is focused. With a weight `w` it is `p ** w`: an easy element
of a
heavy class is taken for a hard one. With smoothed labels it never reaches 1.

## Measured
torch 2.13.0, CPU. An easy element (`p` = 0.982) and a hard one (0.269), `gamma=2`:

| `pt` from | `pt`, easy | `pt`, hard | factor, easy | factor, hard |
|---|---|---|---|---|
| each element | 0.982 | 0.269 | 0.0003 | 0.534 |
| the mean | 0.514 | 0.514 | **0.236** | **0.236** |
| weight 10 | **0.834** | **0.000002** | 0.028 | 1.0 |
| `label_smoothing=0.1` | 0.804 | 0.283 | 0.038 | 0.514 |

The hard element counts 1,652 times as much as the easy one with the right `pt`, 1, 36 and 13 times with the others.

```sh
python -c "
import torch, torch.nn.functional as F
z, y = torch.tensor([[4.0, 0.0], [-1.0, 0.0]]), torch.tensor([0, 0])
print((1 - torch.exp(-F.cross_entropy(z, y, reduction='none'))) ** 2)
print((1 - torch.exp(-F.cross_entropy(z, y))) ** 2)"
```
```text
tensor([3.2350e-04, 5.3445e-01])
tensor(0.2363)
```

## Wrong
```python
import torch
from torch import nn


class FocalLoss(nn.Module):
    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma
        self.ce = nn.CrossEntropyLoss()

    def forward(self, logits, target):
        ce = self.ce(logits, target)
        pt = torch.exp(-ce)
        return (1 - pt) ** self.gamma * ce
```

## Right
```python
import torch
from torch import nn


class FocalLoss(nn.Module):
    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma
        self.ce = nn.CrossEntropyLoss(reduction="none")

    def forward(self, logits, target):
        ce = self.ce(logits, target)
        pt = torch.exp(-ce)
        return ((1 - pt) ** self.gamma * ce).mean()
```

## Remedies
- `reduction="none"`, then the factor, then the mean.
- Class weights: take `pt` from the plain cross entropy and multiply the weights in afterwards, `weight[target] * (1 -
  pt) **
  gamma * ce`.
- Smoothed labels: take `pt` from `softmax` at the target.
- `--fix` reduces after the factor, or takes `pt` from a second, plain cross entropy beside the weighted one (unsafe).

## When to ignore it
- When the whole batch is one decision, so that its mean is what should be focused on. That is another loss; say so.

## References
- Lin and others, *Focal Loss for Dense Object Detection* (2017).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial
from typing import Any

from lossproof.finding import Finding, Severity
from lossproof.graph.objective_facts import FocalTerm
from lossproof.rules.imbalance.places import hop_of
from lossproof.rules.imbalance.terms import ELSEWHERE, assigned, base_of, loads, product_of, search, within
from lossproof.rules.loop.places import known_at, simple
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import FocalLoss
from lossproof.source.origins import Place
from lossproof.source.syntax import Function, dotted
from lossproof.source.torch_names import loss_kind
from lossproof.source.values import Lib, Ref, alternatives

_SAYS = {
    "reduced": "`pt` is taken from a cross entropy that is already one number: every element gets the same factor, so "
    "nothing is focused",
    "weighted": "`pt` is taken from a weighted cross entropy: it is `p ** weight`, so easy elements of a heavy class "
    "count as hard ones",
    "smoothed": "`pt` is taken from a cross entropy with smoothed labels: it never comes near 1, so easy elements keep "
    "their weight",
}
_HERE = {"reduced": "reduced here", "weighted": "weighted here", "smoothed": "smoothed here"}


def check(fact: FocalLoss) -> Iterator[Finding]:
    order = ("reduced", "weighted", "smoothed")
    for sort, place, latent in sorted(fact.spoiled, key=lambda s: (s[2], order.index(s[0]))):
        severity = Severity.ERROR if sort == "reduced" else Severity.WARNING
        message = _SAYS[sort]
        if latent:
            message = message.replace("`pt` is taken", "where a weight is given, `pt` is taken")
        yield fact.finding(
            RULE,
            message,
            hops=(hop_of(place, _HERE[sort]),),
            severity=Severity.INFO if latent else severity,
            confidence="possible" if latent else "proven",
            fix=partial(_fix, fact, sort, place),
        )
        return


_SPOILS = ("weight", "pos_weight", "label_smoothing")
_PLAIN = {
    "ce": "cross_entropy", "nll": "nll_loss", "bce": "binary_cross_entropy",
    "bce_logits": "binary_cross_entropy_with_logits",
}  # fmt: skip


def _fix(fact: FocalLoss, sort: str, place: Place, patch: Patch) -> tuple[str, str]:
    function = fact.frame.function
    if place.frame.function is not function or not within(function, place.node.at):
        raise Unfixable(ELSEWHERE)
    power = fact.node.at
    if not within(function, power):
        raise Unfixable(ELSEWHERE)
    if sort == "reduced":
        if any(other != "reduced" for other, _, _ in fact.spoiled):
            raise Unfixable("the cross entropy is weighted as well, and the mean with weights is another one")
        return _unreduced(fact, place, power, patch)
    return _plain(fact, place, power, patch)


# ---- the cross entropy without its reduction; the focal loss is reduced instead


def _unreduced(fact: FocalLoss, place: Place, power: Any, patch: Patch) -> tuple[str, str]:
    function = fact.frame.function
    module = function.module
    at = place.node.at
    whole = product_of(patch, function, power)
    _only_in(patch, function, at, whole)
    word = dotted(at.func).rpartition(".")[2] or getattr(at.func, "attr", "") if isinstance(at, ast.Call) else ""
    how = "mean"
    if word in ("mean", "sum"):
        how = word
        if isinstance(at.func, ast.Attribute) and not at.args and not at.keywords:
            patch.unwrap(module, at, at.func.value)
        elif dotted(at.func) in ("torch.mean", "torch.sum") and len(at.args) == 1:
            patch.unwrap(module, at, at.args[0])
        else:
            raise Unfixable("the cross entropy is reduced along with something else")
    else:
        how = _set_reduction(fact, place, patch)
    if not _is_reduced(patch, function, whole, how):
        patch.method(module, whole, f"{how}()")
    return "unsafe", f"each element is focused by itself, and the {how} is taken at the end"


def _is_reduced(patch: Patch, function: Function, at: Any, how: str) -> bool:
    """Whether the focal loss, or the name that it is given, comes down to one number in the same way already."""
    tree = patch.tree(function.module)
    outer = tree.parent(at)
    if isinstance(outer, ast.Assign) and len(outer.targets) == 1 and isinstance(outer.targets[0], ast.Name):
        name = outer.targets[0].id
        read = loads(function, name)
        return len(read) == 1 and assigned(function, name) is outer and _is_reduced(patch, function, read[0], how)
    if isinstance(outer, ast.Attribute) and outer.attr == how:
        call = tree.parent(outer)
        return isinstance(call, ast.Call) and call.func is outer and not call.args and not call.keywords
    return isinstance(outer, ast.Call) and dotted(outer.func) == f"torch.{how}" and len(outer.args) == 1


def _set_reduction(fact: FocalLoss, place: Place, patch: Patch) -> str:
    """Makes the criterion give a loss for each element; how it was reduced."""
    module = fact.frame.function.module
    call = place.node.at
    if not isinstance(call, ast.Call):
        raise Unfixable(ELSEWHERE)
    _, built, where = _criterion(fact, place)
    keywords = {k.arg: k.value for k in built.keywords}
    if None in keywords or {"reduce", "size_average", "ignore_index"} & set(keywords):
        raise Unfixable("the reduction is set in another way than by `reduction`")
    given = keywords.get("reduction")
    if given is not None and not (isinstance(given, ast.Constant) and given.value in ("mean", "sum")):
        raise Unfixable("the reduction is a setting, which has to go on meaning what it does")
    if len(built.args) > (2 if built is call else 0):
        raise Unfixable("the cross entropy has settings by position")
    if built is not call and where is not module:
        raise Unfixable("the criterion is built in another file")
    patch.set_argument(where, built, "reduction", '"none"')
    return given.value if isinstance(given, ast.Constant) else "mean"  # type: ignore[return-value]


def _criterion(fact: FocalLoss, place: Place) -> tuple[str, ast.Call, Any]:
    """The kind of a cross entropy, and the call that has its settings: itself, or the one that built the criterion."""
    function = fact.frame.function
    call = place.node.at
    callee = [v for _, v in alternatives(fact.ev.value(place.frame, place.node.args[0]))]
    refs = [v for v in callee if isinstance(v, (Ref, Lib))]
    if len(callee) != 1 or not refs or loss_kind(refs[0].name) not in _PLAIN:
        raise Unfixable("the cross entropy is not torch's own at this place")
    kind = str(loss_kind(refs[0].name))
    if isinstance(refs[0], Ref):
        return kind, call, function.module
    owner = call.func
    cls = function.cls
    if isinstance(owner, ast.Attribute) and cls is not None and dotted(owner.value) == function.first_param:
        stores = [
            s
            for m in cls.methods.values()
            for s in ast.walk(m.node)
            if isinstance(s, ast.Assign)
            and any(isinstance(t, ast.Attribute) and t.attr == owner.attr for t in s.targets)
        ]
        uses = [
            n
            for n in ast.walk(function.module.tree)
            if isinstance(n, ast.Attribute) and n.attr == owner.attr and isinstance(n.ctx, ast.Load)
        ]
        if len(stores) == 1 and isinstance(stores[0].value, ast.Call):
            if len(uses) != 1:
                raise Unfixable("the criterion is used for something else, too")
            return kind, stores[0].value, function.module
    if isinstance(owner, ast.Name):
        behind = assigned(function, owner.id)
        if behind is not None and isinstance(behind.value, ast.Call) and len(loads(function, owner.id)) == 1:
            return kind, behind.value, function.module
    if isinstance(owner, ast.Call):
        return kind, owner, function.module
    raise Unfixable("the criterion is built elsewhere")


def _only_in(patch: Patch, function: Function, at: Any, whole: Any, depth: int = 0) -> None:
    """Raises where a value is used for anything but the focal term."""
    if any(n is at for n in ast.walk(whole)):
        return
    statement = patch.statement(function.module, at)
    target = statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None
    if not isinstance(target, ast.Name) or depth > 5 or assigned(function, target.id) is not statement:
        raise Unfixable("the cross entropy is used for something else, too")
    for read in loads(function, target.id):
        _only_in(patch, function, read, whole, depth + 1)


# ---- the probability from a plain cross entropy; the weighted one stays in the term


def _plain(fact: FocalLoss, place: Place, power: Any, patch: Patch) -> tuple[str, str]:
    function = fact.frame.function
    module = function.module
    call = place.node.at
    if not isinstance(call, ast.Call) or place.node.op != "call":
        raise Unfixable("the probability is taken after the weight was multiplied in")
    kind, built, _ = _criterion_settings(fact, place)
    found = search(function, base_of(power), _is_exponential)
    if found is None:
        raise Unfixable(ELSEWHERE)
    inside = found.args[0] if found.args else found.func.value
    text = _plain_call(fact, place, patch, kind, built)
    note = "the probability comes from the plain cross entropy, the weights stay in the term"
    if any(n is call for n in ast.walk(inside)):
        patch.replace(module, call, text)
        return "unsafe", note
    names = [n for n in ast.walk(inside) if isinstance(n, ast.Name) and assigned(function, n.id) is not None]
    if len(names) != 1:
        raise Unfixable("the probability is not taken from the cross entropy directly")
    behind = assigned(function, names[0].id)
    assert behind is not None
    value = behind.value
    if not any(n is call for n in ast.walk(value)) or isinstance(value, ast.BinOp):
        raise Unfixable("the probability is not taken from the cross entropy directly")
    for given in (*call.args, *(k.value for k in call.keywords)):
        if not known_at(patch, function, given, names[0]) or _changed(function, given, call, names[0]):
            raise Unfixable("what the cross entropy was computed from has changed since")
    tree = patch.tree(module)
    (start, end), (first, last) = tree.span(value), tree.span(call)
    new = tree.between(start, first) + text + tree.between(last, end)
    if "\n" in new:
        raise Unfixable("the cross entropy is written over several lines")
    outer = tree.parent(names[0])
    if isinstance(value, ast.UnaryOp) and isinstance(outer, ast.UnaryOp):
        new = f"({new})"
    patch.replace(module, names[0], new)
    return "unsafe", note


def _is_exponential(part: Any) -> bool:
    if not isinstance(part, ast.Call):
        return False
    name = dotted(part.func).rpartition(".")[2] or getattr(part.func, "attr", "")
    return name in ("exp", "expm1", "exp_") and len(part.args) < 2


def _changed(function: Function, given: Any, since: Any, until: Any) -> bool:
    words = {n.id for n in ast.walk(given) if isinstance(n, ast.Name)}
    return any(
        isinstance(n, ast.Name)
        and n.id in words
        and not isinstance(n.ctx, ast.Load)
        and since.lineno < n.lineno <= until.lineno
        for n in ast.walk(function.node)
    )


def _criterion_settings(fact: FocalLoss, place: Place) -> tuple[str, ast.Call, Any]:
    callee = [v for _, v in alternatives(fact.ev.value(place.frame, place.node.args[0]))]
    if len(callee) == 1 and isinstance(callee[0], Ref):
        return _criterion(fact, place)
    kind, built, module = _criterion(fact, place)
    known = {*_SPOILS, "reduction"}
    if any(k.arg not in known for k in built.keywords) or len(built.args) > 1:
        raise Unfixable("the criterion has other settings, too")
    return kind, built, module


def _plain_call(fact: FocalLoss, place: Place, patch: Patch, kind: str, built: ast.Call) -> str:
    """The same cross entropy, for each element, without what spoils the probability."""
    function = fact.frame.function
    module, call = function.module, place.node.at
    inputs = call.args[:2]
    named = [k for k in call.keywords if k.arg in ("input", "target")]
    rest = (
        [k for k in call.keywords if k.arg not in (*_SPOILS, "reduction", "input", "target")] if built is call else []
    )
    most = 3 if built is call else 2
    if any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords):
        raise Unfixable("what the cross entropy is given is not seen")
    if len(call.args) > most or any(k.arg in ("reduce", "size_average") for k in rest):
        raise Unfixable("the cross entropy has settings by position")
    for at in (*inputs, *(k.value for k in named)):
        bare = at
        while isinstance(bare, ast.Call) and isinstance(bare.func, ast.Attribute) and not bare.args:
            bare = bare.func.value  # ``target.float()``
        if not simple(bare):
            raise Unfixable("what the cross entropy is given would be computed twice")
    name = patch.name(function, f"torch.nn.functional.{_PLAIN[kind]}")
    given = [patch.text(module, a) for a in inputs]
    given += [f"{k.arg}={patch.text(module, k.value)}" for k in (*named, *rest)]
    return f'{name}({", ".join(given)}, reduction="none")'


def audit(fact: FocalTerm) -> Iterator[Finding]:
    found = fact.spoiled
    if found is None:
        return
    if found.how == "reduced":
        message = (
            f"`pt` is taken from a cross entropy that is already one number of {found.elements} elements: all of them "
            f"get the same factor, {fact.factor:.3g}, so nothing is focused"
        )
    elif found.how == "weighted":
        low, high = found.weights
        weights = f"weight {low:.4g}" if low == high else f"weights from {low:.4g} to {high:.4g}"
        message = f"`pt` is taken from a weighted cross entropy: it is `p ** weight` ({weights})"
        if found.example is not None:
            row, plain, counted = found.example
            message += f", so the element in row {row}, of probability {plain:.3g}, counts as one of {counted:.3g}"
        else:
            message += ", so easy elements of a heavy class count as hard ones"
    else:
        message = (
            "`pt` is taken from a cross entropy with smoothed labels: it never comes near 1, so easy elements keep "
            f"their weight (the mean factor here is {fact.factor:.3g})"
        )
    severity = Severity.ERROR if found.how == "reduced" else Severity.WARNING
    yield fact.finding(RULE, message, severity=severity)


RULE = Rule(
    code="LP402",
    name="focal-pt-from-wrong-ce",
    severity=Severity.ERROR,
    summary="The probability of a focal loss is taken from a reduced, weighted or label-smoothed cross entropy.",
    hint='take pt from cross_entropy(..., reduction="none") without weights; weigh and reduce afterwards',
    page=__doc__ or "",
    evidence="focal-pt",
    facts="focal",
    check=check,
    graph="focal-term",
    audit=audit,
)
