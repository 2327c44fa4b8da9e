"""# LP503 loss-weights-not-optimized

## What it does
Finds learnable weights of losses (`log_vars`, `sigma`, task weights as `nn.Parameter`) that no optimizer holds: they
are
parameters of the criterion or of the trainer, and the optimizer was given `model.parameters()`.

`audit(loss, optimizer=...)` finds the parameter in the graph and asks whether the optimizer holds it.

## Why is this bad
Nothing fails. `backward()` fills the gradients of the weights, no optimizer takes a step with them, and they stay
where they
started. The run pays for uncertainty weighting and has a plain sum.

## Measured
torch 2.13.0, CPU. Two regressions that share a layer, of scales 1 and 100, 400 steps of Adam with uncertainty
weighting:

| optimizer holds | `s` after training | error left, small task | error left, large task |
|---|---|---|---|
| the network | **0, 0** (their gradients, never cleared, add up to 400,676) | 0.77 of its variance | 0.53 |
| the network and `s` | -1.31, 2.30 | **0.60** | 0.55 |

Held, each task comes to a weight of a constant over its loss, in every form: for losses of 0.01, 1 and 100 the form for
regression ends at 50, 0.5 and 0.005. It has no floor: a loss of 1e-6 contributes -6.4.

```sh
python -c "
import torch
from torch import nn
s, layer = nn.Parameter(torch.zeros(1)), nn.Linear(1, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for _ in range(100):
    loss = (torch.exp(-s) * (layer(torch.ones(1)) - 5) ** 2 + s).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(s.item())"
```
```text
0.0
```

## Wrong
```python
import torch
from torch import nn


class UncertaintyLoss(nn.Module):
    def __init__(self, tasks=2):
        super().__init__()
        self.log_vars = nn.Parameter(torch.zeros(tasks))

    def forward(self, losses):
        total = 0.0
        for i, loss in enumerate(losses):
            total = total + 0.5 * torch.exp(-self.log_vars[i]) * loss + 0.5 * self.log_vars[i]
        return total


def train(model, loader):
    criterion = UncertaintyLoss()
    optimizer = torch.optim.Adam(model.parameters())
    for x, depth, normals in loader:
        optimizer.zero_grad()
        a, b = model(x)
        criterion([nn.functional.l1_loss(a, depth), nn.functional.l1_loss(b, normals)]).backward()
        optimizer.step()
```

## Right
```python
import torch
from torch import nn


class UncertaintyLoss(nn.Module):
    def __init__(self, tasks=2):
        super().__init__()
        self.log_vars = nn.Parameter(torch.zeros(tasks))

    def forward(self, losses):
        total = 0.0
        for i, loss in enumerate(losses):
            total = total + 0.5 * torch.exp(-self.log_vars[i]) * loss + 0.5 * self.log_vars[i]
        return total


def train(model, loader):
    criterion = UncertaintyLoss()
    optimizer = torch.optim.Adam([*model.parameters(), *criterion.parameters()])
    for x, depth, normals in loader:
        optimizer.zero_grad()
        a, b = model(x)
        criterion([nn.functional.l1_loss(a, depth), nn.functional.l1_loss(b, normals)]).backward()
        optimizer.step()
```

## Remedies
- `[*model.parameters(), *criterion.parameters()]`; or a group of its own, with no weight decay: `{"params":
  criterion.parameters(), "weight_decay": 0.0}`.
- Move the criterion to the device before the optimizer is built, and save its state with the model's.
- Or make the criterion an attribute of the model.
- `--fix` gives them to the optimizer that is there (unsafe: they begin to move).

## When to ignore it
- When the weights are changed by something else than an optimizer that can be seen (GradNorm by hand). Then they need
  no
  `nn.Parameter`.

## References
- Kendall, Gal, Cipolla, *Multi-Task Learning Using Uncertainty to Weigh Losses* (2018).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial
from typing import Any

from lossproof.finding import Finding, Severity
from lossproof.graph.objective_facts import LossWeights
from lossproof.rules.loop.places import binders, known_at, parameters
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import UnheldWeights
from lossproof.source.frames import Frame
from lossproof.source.lower import Node
from lossproof.source.syntax import ClassInfo, Function, dotted
from lossproof.source.values import Inst, Thunk, alternatives


def check(fact: UnheldWeights) -> Iterator[Finding]:
    name = f"`{fact.name}`" if fact.name else "the learnable loss weights"
    who = f"{fact.trainer}, which optimizes the model's parameters alone" if fact.trainer else "this optimizer"
    yield fact.finding(
        RULE,
        f"{name} weighs the losses and is learnable, but is not among the parameters of {who}: it stays where it "
        "started",
        hops=(fact.made, *((fact.built,) if fact.built is not None else ())),
        confidence="likely",
        fix=partial(_fix, fact),
    )


_MOVES = {"to", "cuda", "cpu", "float", "train"}
_AFTER = "what weighs the losses is built after the optimizer"


def _fix(fact: UnheldWeights, patch: Patch) -> tuple[str, str]:
    if fact.trainer or fact.holder is None:
        raise Unfixable(
            f"{fact.trainer or 'what optimizes'} builds the optimizer: make the weights a part of the model"
        )
    frame, call = fact.frame, fact.node
    note = "the optimizer holds the weights of the losses, too"
    if fact.owner is not None:
        given = [_attribute(fact, patch, fact.owner, name) for name in fact.attributes]
    else:
        found = _local(fact, patch)
        if found is None:
            return _added(fact, patch)
        given = [found]
    _give(patch, frame.function, call.at, given)
    return "unsafe", note


# ---- how the weights are called where the optimizer is built


def _attribute(fact: UnheldWeights, patch: Patch, owner: ClassInfo, name: str) -> tuple[str, bool]:
    """``self.criterion``, and whether it is a module; it has to be there already."""
    function = fact.frame.function
    if function.cls is not owner:
        raise Unfixable("the optimizer is built outside of the class that keeps the weights")
    me = function.first_param
    stores = [
        (method, part)
        for method in owner.methods.values()
        for part in ast.walk(method.node)
        if isinstance(part, ast.Assign) and any(_is_attribute(t, method.first_param, name) for t in part.targets)
    ]
    if len(stores) != 1 or len(stores[0][1].targets) != 1:
        raise Unfixable("it is not clear where the weights are kept")
    method, store = stores[0]
    built = fact.node.at
    if method is function:
        if store.lineno >= built.lineno:
            raise Unfixable(_AFTER)
    elif method.name != "__init__":
        raise Unfixable("the weights are kept by another method than the constructor")
    else:
        calls = [c for c in method.calls if dotted(c.func) == f"{method.first_param}.{function.name}"]
        if any(c.lineno < store.lineno for c in calls):
            raise Unfixable(_AFTER)
    return f"{me}.{name}", _is_module(fact, method, store.value)


def _is_attribute(target: Any, me: str | None, name: str) -> bool:
    return (
        isinstance(target, ast.Attribute)
        and target.attr == name
        and isinstance(target.value, ast.Name)
        and target.value.id == me
    )


def _is_module(fact: UnheldWeights, function: Function, value: Any) -> bool:
    """Whether an expression makes a module; a tensor that is not the parameter itself cannot be optimized."""
    bare = value
    while isinstance(bare, ast.Call) and isinstance(bare.func, ast.Attribute) and bare.func.attr in _MOVES:
        bare = bare.func.value
    word = dotted(bare.func).rpartition(".")[2] if isinstance(bare, ast.Call) else ""
    leaf = word == "Parameter" or any(k.arg == "requires_grad" for k in getattr(bare, "keywords", ()))
    if leaf:
        if bare is not value:
            raise Unfixable(
                "the weights are moved after they were made, and the optimizer would not get the right ones"
            )
        return False
    if not isinstance(bare, ast.Call):
        raise Unfixable("it is not clear where the weights are kept")
    given = [*bare.args, *(k.value for k in bare.keywords)]
    mine = {dotted(a) for a in given} - {""}
    held = {dotted(part) for part in ast.walk(fact.node.at) if isinstance(part, (ast.Name, ast.Attribute))}
    if mine & held - _settings(fact):
        raise Unfixable("the loss may hold what the optimizer already has, and nothing may be in it twice")
    return True


def _settings(fact: UnheldWeights) -> set[str]:
    """What is handed to the optimizer as a setting."""
    call = fact.node.at
    settings = [*call.args[1:], *(k.value for k in call.keywords if k.arg != "params")]
    return {dotted(part) for s in settings for part in ast.walk(s) if isinstance(part, (ast.Name, ast.Attribute))}


def _local(fact: UnheldWeights, patch: Patch) -> tuple[str, bool] | None:
    """A name of the function that builds the optimizer; ``None`` where it is built in a helper that knows none."""
    assert fact.holder is not None
    frame, node = fact.holder
    here = fact.frame.function
    if here is frame.function:
        name, value = _name_of(patch, here, node)
        if not known_at(patch, here, ast.Name(name), fact.node.at):
            raise Unfixable(_AFTER)
        if name not in parameters(here) and len(binders(here, name)) > 1:
            raise Unfixable("it is not clear where the weights are kept")
        return name, _is_module(fact, here, value)
    for name in sorted(parameters(here)):
        given = fact.frame.base().args.get(name)
        if isinstance(given, Thunk) and given.node is node:
            if _others(fact, here):
                raise Unfixable("the optimizer is built for other losses in the same place")
            return name, True
    return None


def _name_of(patch: Patch, function: Function, node: Node) -> tuple[str, Any]:
    statement = patch.statement(function.module, node.at)
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        raise Unfixable("what weighs the losses has no name of its own")
    target = statement.targets[0]
    if not isinstance(target, ast.Name):
        raise Unfixable("what weighs the losses has no name of its own")
    return target.id, statement.value


def _others(fact: UnheldWeights, function: Function) -> bool:
    contexts: Any = fact.ev.oracle
    if function.name == "__init__" and function.cls is not None:
        return len({id(n.at) for _, n, _ in contexts.instantiations(function.cls)}) > 1
    return len({id(n.at) for _, n, _ in contexts.callers(function)}) > 1


def _added(fact: UnheldWeights, patch: Patch) -> tuple[str, str]:
    """``optimizer.add_param_group(…)`` behind the call of the helper that builds the optimizer."""
    assert fact.holder is not None
    frame, node = fact.holder
    function = frame.function
    inner: Frame = fact.frame.base()
    while inner.site is not None and inner.site[0].function is not function:
        inner = inner.site[0].base()
    if inner.site is None or any(isinstance(v, Inst) for _, v in alternatives(fact.ev.value(*inner.site))):
        raise Unfixable("the optimizer is built out of sight of what weighs the losses")
    statement = patch.statement(function.module, inner.site[1].at)
    name, value = _name_of(patch, function, node)
    target = statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None
    if not isinstance(target, (ast.Name, ast.Attribute)) or statement.value is not inner.site[1].at:
        raise Unfixable("the optimizer is built out of sight of what weighs the losses")
    if not known_at(patch, function, ast.Name(name), inner.site[1].at):
        raise Unfixable(_AFTER)
    what = f"{name}.parameters()" if _is_module(fact, function, value) else f"[{name}]"
    optimizer = patch.text(function.module, target)
    patch.insert_after(function.module, statement, f'{optimizer}.add_param_group({{"params": {what}}})')
    return "unsafe", "the optimizer holds the weights of the losses, too"


# ---- what the optimizer is given


def _give(patch: Patch, function: Function, call: ast.Call, given: list[tuple[str, bool]]) -> None:
    module = function.module
    first = next((k.value for k in call.keywords if k.arg == "params"), call.args[0] if call.args else None)
    if first is None or isinstance(first, ast.Starred):
        raise Unfixable("what the optimizer is given is not seen")
    spread = ", ".join(f"*{name}.parameters()" if holds else name for name, holds in given)
    kind = _kind(function, first, 0)
    if kind == "groups":
        one = f"{given[0][0]}.parameters()" if len(given) == 1 and given[0][1] else f"[{spread}]"
        spread = f'{{"params": {one}}}'
    elif kind != "parameters":
        raise Unfixable("what the optimizer is given is not seen")
    if isinstance(first, ast.List) and first.elts:
        last = patch.tree(module).outside(patch.tree(module).span(first.elts[-1]))[1]
        patch.put(module, last, last, f", {spread}")
        return
    if isinstance(first, (ast.ListComp, ast.GeneratorExp)):
        single = len(given) == 1 and given[0][1]
        text = f"list({given[0][0]}.parameters())" if single else f"[{spread}]"
        if isinstance(first, ast.ListComp):
            patch.wrap(module, first, "", f" + {text}")
            return
        raise Unfixable("what the optimizer is given is a generator")
    patch.wrap(module, first, "[*", f", {spread}]")


def _kind(function: Function, at: Any, depth: int) -> str:
    """Whether an expression is a list of ``parameters`` or of ``groups``."""
    if isinstance(at, (ast.List, ast.Tuple)):
        kinds = {_kind_of_element(e) for e in at.elts}
        return kinds.pop() if len(kinds) == 1 else ""
    if isinstance(at, (ast.ListComp, ast.GeneratorExp)):
        return "groups" if isinstance(at.elt, ast.Dict) else "parameters"
    if isinstance(at, ast.BinOp):
        return _kind(function, at.left, depth)
    if isinstance(at, ast.Call):
        word = dotted(at.func).rpartition(".")[2] or getattr(at.func, "attr", "")
        if word in ("parameters", "trainable_parameters"):
            return "parameters"
        if word == "filter" and len(at.args) == 2:
            return _kind(function, at.args[1], depth)
        if word in ("list", "tuple", "chain") and at.args:
            return _kind(function, at.args[0], depth)
        return ""
    if isinstance(at, ast.Name) and depth < 2:
        found = [
            part.value
            for part in ast.walk(function.node)
            if isinstance(part, ast.Assign) and any(isinstance(t, ast.Name) and t.id == at.id for t in part.targets)
        ]
        kinds = {_kind(function, value, depth + 1) for value in found}
        return kinds.pop() if len(kinds) == 1 else ""
    return ""


def _kind_of_element(element: Any) -> str:
    if isinstance(element, ast.Dict):
        return "groups"
    if isinstance(element, ast.Starred):
        inner = element.value
        return "parameters" if isinstance(inner, ast.Call) and dotted(inner.func).endswith("parameters") else ""
    return "parameters" if isinstance(element, (ast.Name, ast.Attribute)) else ""


def audit(fact: LossWeights) -> Iterator[Finding]:
    name = f"`{fact.name}`" if fact.name else "a learnable parameter"
    shown = ", ".join(f"{each:.4g}" for each in fact.values[:6]) + (", …" if len(fact.values) > 6 else "")
    yield fact.finding(
        RULE,
        f"{name} ({shown}) weighs the losses and is learnable, but the optimizer does not hold it: it stays where it "
        "started",
    )


RULE = Rule(
    code="LP503",
    name="loss-weights-not-optimized",
    severity=Severity.ERROR,
    summary="Learnable loss weights that no optimizer holds: they never move.",
    hint="give them to the optimizer: [*model.parameters(), *criterion.parameters()]",
    page=__doc__ or "",
    evidence="unheld-weights",
    facts="unheld",
    check=check,
    graph="loss-weights",
    audit=audit,
)
