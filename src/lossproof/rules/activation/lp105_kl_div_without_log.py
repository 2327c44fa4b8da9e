"""# LP105 kl-div-without-log

## What it does
Finds probabilities (a softmax or a sigmoid) that reach the first argument of `kl_div` or `KLDivLoss`. That argument
holds log-probabilities. In the graph of a live loss (`lossproof.audit`) the arithmetic of `kl_div` is recognized; under
`recording()` its call is known.

## Why is this bad
`kl_div(input, target)` computes `target * (log(target) - input)`. With probabilities as input that is not a
divergence. It goes below zero, its value at a perfect match is not its minimum, and its minimum is a single 1 on the
target's largest class. A student that is trained so does not copy its teacher; it collapses onto the teacher's
favourite.

## Measured
torch 2.13.0, CPU. Target (0.6, 0.3, 0.1), three free logits, 1,000 steps of gradient descent at rate 1:

| input of `kl_div` | final loss | learned distribution |
|---|---|---|
| `softmax` | -1.497 | **0.998, 0.0011, 0.0007** |
| `log_softmax` | 0.000 | 0.600, 0.300, 0.100 |

The perfect prediction itself scores -1.358, worse than the collapsed one.

```sh
python -c "
import torch, torch.nn.functional as F
t = torch.tensor([[0.6, 0.3, 0.1]])
print(round(F.kl_div(t, t, reduction='batchmean').item(), 3))
print(round(F.kl_div(torch.tensor([[1.0, 0.0, 0.0]]), t, reduction='batchmean').item(), 3))"
```
```text
-1.358
-1.498
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    student = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.Adam(student.parameters())
    for x, teacher_probs in loader:
        optimizer.zero_grad()
        probs = F.softmax(student(x), dim=1)
        loss = F.kl_div(probs, teacher_probs, reduction="batchmean")
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def train(loader):
    student = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.Adam(student.parameters())
    for x, teacher_probs in loader:
        optimizer.zero_grad()
        log_probs = F.log_softmax(student(x), dim=1)
        loss = F.kl_div(log_probs, teacher_probs, reduction="batchmean")
        loss.backward()
        optimizer.step()
```

## Remedies
- `log_softmax` for the first argument. The target stays a probability unless `log_target=True`.
- `--fix` is unsafe, for the objective changes: `log_softmax` for the softmax (for the loss alone, where others read the
  probabilities), or the logarithm of probabilities that come from elsewhere, plus 1e-7. Where the target holds
  log-probabilities too it sets `log_target=True`.
- Use `reduction="batchmean"`: the default mean also divides by the number of classes.
- A divergence below zero is impossible. Assert on it in a test.

## When to ignore it
- Never found a case. A cross term `-(target * probs).sum()` that is meant should be written as one.

## References
- PyTorch documentation: `torch.nn.KLDivLoss` (its input is in log-space; the note on `batchmean`).
- Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network* (2015).
- pytorch/pytorch#89558: the gradient of `kl_div` towards its *target* is NaN where that is 0; detach the teacher.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial

from lossproof.finding import Finding, Severity
from lossproof.graph.loss_facts import DivergenceInput
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import LossCall
from lossproof.source.siblings import Activation, given_input
from lossproof.source.values import Ref, T, constant

# What keeps a probability off 0: float16 holds it, and unlike a clamp it leaves a gradient.
_LEAST = "1e-7"
_RAW = ("affine", "relu", "gelu", "tanh")


def check(fact: LossCall) -> Iterator[Finding]:
    if fact.kind != "kl":
        return
    told = fact.settings.get("log_target")
    asked = told is not None and constant(told) is not False
    if all(t.act == "log_softmax" for _, t in fact.targets()) and not asked:
        # With the logarithm on the other side alone the arguments are exchanged: LP108.
        yield from _logarithms_as_target(fact)
        return
    found = fact.bad("softmax", "sigmoid", "probability", *_RAW)
    if found is None:
        return
    t, confidence = found
    what = "raw outputs" if t.act in _RAW else "probabilities"
    yield fact.finding(
        RULE,
        f"{what} reach the first argument of `{fact.word}`, which takes log-probabilities: what is minimized "
        "is no divergence, and it can be negative",
        because=t,
        confidence=confidence,
        fix=partial(_fix, fact, t),
    )


def _logarithms_as_target(fact: LossCall) -> Iterator[Finding]:
    inputs = [t for _, t in fact.inputs()]
    if not inputs or any(t.act != "log_softmax" for t in inputs):
        return
    yield fact.finding(
        RULE,
        f"log-probabilities are the target of `{fact.word}`, which takes probabilities there unless log_target=True: "
        "it takes their logarithm, and the loss is NaN",
        because=fact.targets()[0][1],
        fix=partial(_fix_target, fact),
    )


def _fix_target(fact: LossCall, patch: Patch) -> tuple[str, str]:
    if not isinstance(fact.callee, Ref) or not isinstance(fact.node.at, ast.Call):
        raise Unfixable("log_target is to be set where the criterion is built")
    call = fact.node.at
    if any(k.arg is None for k in call.keywords) or any(isinstance(a, ast.Starred) for a in call.args):
        raise Unfixable("what the call is given is not written here")
    patch.set_argument(fact.module, call, "log_target", "True")
    return "unsafe", "the target is taken for the log-probabilities that it is: a divergence and not NaN"


def _fix(fact: LossCall, t: T, patch: Patch) -> tuple[str, str]:
    use, function = given_input(fact), fact.frame.base().function
    others = {other.act for _, other in fact.inputs()}
    note = "kl_div gets log-probabilities: a divergence, with its minimum at the target"
    if others <= set(_RAW):
        axes = {y.get("dim") for _, y in fact.targets() if y.act in ("softmax", "log_softmax")}
        axis = axes.pop() if len(axes) == 1 else None
        name = patch.name(function, "torch.nn.functional.log_softmax")
        patch.wrap(fact.module, use, f"{name}(", f", dim={-1 if axis is None else axis})")
        return "unsafe", note
    if t.act == "sigmoid" or not others <= {"softmax", "probability"}:
        raise Unfixable("kl_div needs a distribution over the classes, and this is none")
    if t.act == "softmax":
        act = Activation("softmax", t.trace)
        way = act.way(fact, patch, use)
        anew = act.written_anew(patch, "log_softmax", use) if way is not None and not way.sole else ""
        if way is not None and anew:
            patch.replace(fact.module, way.last, anew)
            return "unsafe", note
        if way is not None and way.sole and act.is_step:
            act.exchange(patch, "log_softmax")
            return "unsafe", note
        if act.serves(fact, patch):
            act.exchange_tail(patch, "log_softmax")
            return "unsafe", note
    if all(other.lo is not None and other.lo >= float(_LEAST) for _, other in fact.inputs()):
        patch.method(fact.module, use, "log()")
    else:
        patch.wrap(fact.module, use, "(", f" + {_LEAST}).log()")
    return "unsafe", note


def audit(fact: DivergenceInput) -> Iterator[Finding]:
    confidence = "proven" if fact.named else "likely"
    if fact.what == "log-target":
        yield fact.finding(
            RULE,
            f"log-probabilities are the target of `kl_div`, which takes probabilities there unless log_target=True: "
            f"{fact.negative} of {fact.elements} elements are negative, their logarithm is taken, and the loss is NaN",
            confidence=confidence,
            hint="pass log_target=True",
        )
        return
    what = "raw outputs reach" if fact.what == "raw" else f"the output of a {fact.what} reaches"
    yield fact.finding(
        RULE,
        f"{what} the first argument of `kl_div`, which takes log-probabilities: what is minimized over these "
        f"{fact.elements} elements is no divergence, and it can be negative",
        confidence=confidence,
    )


RULE = Rule(
    code="LP105",
    name="kl-div-without-log",
    severity=Severity.ERROR,
    summary="Probabilities reach the first argument of kl_div, which takes log-probabilities: the student collapses.",
    hint="pass log_softmax as the first argument of kl_div",
    page=__doc__ or "",
    evidence="kl-div-collapse",
    facts="loss",
    check=check,
    graph="divergence-input",
    audit=audit,
)
