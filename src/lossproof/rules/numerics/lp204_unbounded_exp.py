"""# LP204 unbounded-exp

## What it does
Finds `exp` of a value that nothing bounds, in a training loss: a softmax written by hand, `exp` of a raw output,
`log(1 + exp(x))` and `log1p(exp(x))`. In the graph of a live loss it says how large the exponents are and where the
number format overflows.

## Why is this bad
`exp` overflows at 88.7 in float32 and at 11.1 in float16. Logits of 11 are ordinary. A quotient of two overflows is
NaN, and `log(1 + exp(x))`, whose true value at 89 is 89, becomes infinite with a NaN gradient. `log1p` does not help:
it mends the small end, not the large one.

## Measured
torch 2.13.0, CPU. First x with a non-finite loss or gradient:

| form | float32 | float16 | bfloat16 |
|---|---|---|---|
| `exp(x)` | 88.7 | 11.1 | 88.8 |
| `log(1 + exp(x))`, `log1p(exp(x))` | 88.7 | 11.1 | 88.8 |
| `exp(x) / exp(x).sum()`, then `log` | 88.7 | 11.1 | 88.8 |
| `softplus(x)`, `softmax`, `log_softmax`, `logaddexp(x, 0)` | none | none | none |

At 89: `log1p(exp(x))` is inf with gradient NaN; `softplus(x)` is 89 with gradient 1. At -20 `log(1 + exp(x))` is 0
and `softplus` 2.1e-9.

```sh
python -c "
import torch, torch.nn.functional as F
for f in (lambda x: torch.log1p(torch.exp(x)), F.softplus):
    x = torch.tensor([89.0], requires_grad=True)
    y = f(x)
    y.backward()
    print(y.item(), x.grad.item())"
```
```text
inf nan
89.0 1.0
```

## Wrong
```python
import torch
from torch import nn


def logistic_loss(score, sign):
    return torch.log1p(torch.exp(-sign * score)).mean()


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, sign in loader:
        optimizer.zero_grad()
        loss = logistic_loss(model(x).squeeze(1), sign)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn


def logistic_loss(score, sign):
    return F.softplus(-sign * score).mean()


def train(loader):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    for x, sign in loader:
        optimizer.zero_grad()
        loss = logistic_loss(model(x).squeeze(1), sign)
        loss.backward()
        optimizer.step()
```

## Remedies
- `log(1 + exp(x))` is `softplus(x)`; `log(exp(a) + exp(b))` is `logaddexp(a, b)`; `log(exp(x).sum())` is `logsumexp`.
- A softmax by hand: `softmax` or `log_softmax`; they subtract the maximum.
- A positive output: `softplus(x)` grows like x, `exp(x)` does not.
- If `exp` is meant, bound what goes in: a clamp, a `tanh` times a constant.
- `--fix` writes `softmax`, `sigmoid`, `softplus` and `logsumexp` in the place of what is written out. Safe. It leaves a
  bare `exp` alone.

## When to ignore it
- The `exp` of a log-variance in a Gaussian likelihood, of a difference of log-probabilities, of a cosine over a
  temperature, of anything minus its maximum: bounded by nature or by custom, and not reported.
- A Poisson rate `exp(x)` from a model that starts near zero, in float32, with gradient clipping.

## References
- PyTorch documentation: `torch.nn.functional.softplus`, `torch.logsumexp`, `torch.logaddexp`.
- Blanchard, Higham, Higham, *Accurately computing the log-sum-exp and softmax functions* (2021).
- VT-ADL#10: NaN from the backward of `exp` in a mixture density loss.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from lossproof.finding import Finding, Severity
from lossproof.graph.numeric_facts import AtTheEdge, WrittenOut
from lossproof.rules.logspace import is_bounded, tame
from lossproof.rules.registry import Rule
from lossproof.source.domain import is_data, is_target
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import Operation
from lossproof.source.hazards import frozen
from lossproof.source.tensor_ops import as_tensor, same
from lossproof.source.values import T, alternatives, number
from lossproof.source.written import Reading, Written

# Names of what is the logarithm of something, or is kept small by custom: reasons to stay silent.
_LOG_LIKE = re.compile(
    r"log(?!it)|ln_|_ln|^lv|_lv|var|sigma|std|scale|(?<!o)rate|beta|lambda|prec|^lp_|temperature|^kl|kld", re.I
)
_BOUNDED = {
    "cosine", "log_softmax", "logsigmoid", "log", "tanh", "sigmoid", "softmax", "normalized", "loss",
    "probability", "norm",
}  # fmt: skip
_LIMIT = {"half": 11.0, "": 88.7}


def check(fact: Operation) -> Iterator[Finding]:
    if fact.op not in ("exp", "pow", "div", "log", "log1p") or frozen(fact):
        return
    if fact.op in ("exp", "pow"):
        powers = fact.operands() if fact.op == "exp" else _of_e(fact)
        if any(x.act == "log_softmax" for x in powers):
            return  # normalized in a loop, or under a flag
        for x in powers:
            reason = _grows(x)
            if reason is not None and not _named_logarithm(fact):
                yield fact.finding(
                    RULE,
                    f"exp of a value that nothing bounds ({reason}): it overflows from 88.7 in float32, from 11.1 in "
                    "float16",
                    confidence="likely",
                    fix=partial(_fix_exp, fact),
                )
                return
    elif fact.op == "div":
        numerator = as_tensor(fact.others[0]) if fact.others else None
        for t in fact.operands():
            if numerator is not None and _softmax(numerator, t) and _unbounded(numerator.get("via")[1]):
                yield fact.finding(
                    RULE,
                    "a hand-written softmax: exp overflows from 88.7 in float32 and the ratio becomes NaN; "
                    "`torch.softmax` subtracts the maximum first",
                    at=_place(fact, numerator),
                    fix=partial(_fix, fact),
                )
                return
    elif fact.op in ("log", "log1p"):
        for t in fact.operands():
            e = _softplus(t, fact.op)
            if e is not None and _unbounded(_exponent(e)):
                yield fact.finding(
                    RULE,
                    "log(1 + exp(x)) overflows: its gradient is NaN from x of about 89 in float32; use `softplus`",
                    at=_place(fact, e),
                    fix=partial(_fix, fact),
                )
                return
            e = _logsumexp(t)
            if e is not None and _grows(_exponent(e)) is not None:
                yield fact.finding(
                    RULE,
                    "log of a sum of exponentials overflows from 88.7 in float32; use `torch.logsumexp`",
                    at=_place(fact, e),
                    fix=partial(_fix, fact),
                )
                return


def _fix(fact: Operation, patch: Patch) -> tuple[str, str]:
    reading = Reading(fact, patch)
    return tame(reading, reading.whole())


def _fix_exp(fact: Operation, patch: Patch) -> tuple[str, str]:
    """An exponential alone has no bounded form; what it stands in may have one."""
    reading = Reading(fact, patch)
    steps = {node.at: node for node in [*reading.frame.ir.calls, *reading.frame.ir.ops]}
    places = [fact.node.at]
    statement = reading.tree.parent(fact.node.at)
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        places = list(reading.scope.loads.get(statement.targets[0].id, ()))
        if len(reading.scope.bindings(statement.targets[0].id)) > 1:
            places = []
    forms: list[Any] = []
    for place in places:
        outer = reading.tree.parent(place)
        for _ in range(6):
            if outer is None or isinstance(outer, ast.stmt):
                raise Unfixable("the exponential of a raw value has no bounded form: bound the exponent")
            if outer in steps and is_bounded(reading, Written(outer, steps[outer])):
                break
            outer = reading.tree.parent(outer)
        if outer not in forms:
            forms.append(outer)
    if len(forms) != 1 or forms[0] not in steps:
        raise Unfixable("the exponential of a raw value has no bounded form: bound the exponent")
    return tame(reading, Written(forms[0], steps[forms[0]]))


def _place(fact: Operation, e: T) -> Any:
    """Where the exponential is taken, if that is in the same file."""
    hop = e.get("taken")
    return hop.at if hop is not None and hop.module is fact.module else None


def _of_e(fact: Operation) -> list[T]:
    """The exponents of ``math.e ** x``."""
    base = number(fact.operand)
    if base is None or not 1.5 < base <= 10.0 or not fact.others:
        return []
    return [v for _, v in alternatives(fact.others[0]) if isinstance(v, T)]


def _exponent(t: T) -> T | None:
    via = t.get("via")
    return via[1] if t.act == "exp" and via is not None and via[0] == "exp" else None


def _softmax(numerator: T, denominator: T) -> bool:
    if numerator.act != "exp":
        return False
    via = denominator.get("via")
    if via is not None and via[0] == "add":
        return any(_softmax(numerator, p) for p in via[1:])
    return via is not None and via[0] == "sum" and same(via[1], numerator)


def _softplus(t: T, op: str) -> T | None:
    if op == "log1p":
        return t if _exponent(t) is not None else None
    via = t.get("via")
    if via is None or via[0] != "add":
        return None
    sides: tuple[T, T] = (via[1], via[2])
    for one, other in (sides, sides[::-1]):
        if one.lo == one.hi == 1.0 and _exponent(other) is not None:
            return other
    return None


def _logsumexp(t: T) -> T | None:
    via = t.get("via")
    if via is not None and via[0] == "add" and any("const" in p.tags for p in via[1:]):
        t = via[1] if "const" in via[2].tags else via[2]
        via = t.get("via")
    return via[1] if via is not None and via[0] == "sum" and _exponent(via[1]) is not None else None


def _named_logarithm(fact: Operation) -> bool:
    """``exp(0.5 * logvar)``: a local name that says what the value is."""
    names = (getattr(n, "id", None) or getattr(n, "attr", None) for n in ast.walk(fact.node.at))
    return any(n is not None and _LOG_LIKE.search(n) is not None for n in names)


def _limit(x: T) -> float:
    return _LIMIT["half"] if "half" in x.tags else _LIMIT[""]


def _grows(x: T | None, depth: int = 6) -> str | None:
    """Evidence that an exponent can be large: a raw output, a tensor of data, a square; ``None`` if there is none."""
    if x is None or depth == 0 or x.tags & {"num", "const", "parameter", "guarded", "numpy", "filled", "fresh"}:
        return None
    if x.hi is not None:
        return f"it reaches {x.hi:g}" if x.hi > _limit(x) else None
    if x.act in _BOUNDED or "loss" in x.tags or (x.sym and _LOG_LIKE.search(x.sym)) or _called_log(x):
        return None
    via = x.get("via")
    if via is None or via[0] in ("part", "linear", "conv"):
        if x.act == "affine":
            return "a raw output"
        return (
            f"`{x.sym}` is not bounded"
            if x.sym and is_data(x) and not is_target(x)
            else ("an output is not bounded" if is_data(x) and not is_target(x) else None)
        )
    op = via[0]
    parts = [p for p in via[1:] if isinstance(p, T)]
    if op in ("matmul", "mm", "bmm", "einsum", "dot", "mv"):
        # Without a known layer behind them the vectors may have been normalized elsewhere.
        return "an unnormalized similarity" if parts and all(_raw(p) for p in parts) else None
    if op in ("add", "sub", "mul", "div"):
        if any(_logarithmic(p) for p in parts):
            return None
        if op == "sub":
            if is_data(parts[0]):
                return _grows(parts[0], depth - 1)
            return "a raw output" if _raw(parts[1]) else None
        if op == "div":
            return _grows(parts[0], depth - 1)
        if op == "mul" and any(p.hi is not None and p.hi <= 0 for p in parts):
            return "a raw output" if any(_raw(p) for p in parts) else None
        if op == "mul" and sum(is_data(p) and not p.nonnegative and not _negated(p) for p in parts) == 0:
            return "a raw output" if any(_raw(p) for p in parts) else None
        found = [r for p in parts if (r := _grows(p, depth - 1)) is not None]
        return found[0] if found else None
    if op == "neg":
        return "a raw output" if _raw(parts[0]) and not parts[0].nonnegative else None
    if op in ("sum", "mean", "max", "min", "pow", "square", "abs", "relu", "clamp", "part", "maximum", "minimum"):
        return _grows(parts[0], depth - 1) if parts else None
    return None


def _negated(p: T) -> bool:
    via = p.get("via")
    return via is not None and via[0] == "neg"


def _raw(t: T, depth: int = 6) -> bool:
    """Whether a value comes from a layer whose outputs nothing bounds, and not from the data alone."""
    if t.tags & {"num", "const", "numpy"} or t.act in _BOUNDED or t.hi is not None or depth == 0:
        return False
    if t.sym and _LOG_LIKE.search(t.sym):
        return False
    via = t.get("via")
    if via is None:
        return t.act == "affine" or bool(t.tags & {"pred", "output"})
    parts = [p for p in via[1:] if isinstance(p, T)]
    if any(_logarithmic(p) for p in parts):
        return False
    if via[0] in (
        "sub",
        "add",
        "mul",
        "div",
        "neg",
        "sum",
        "mean",
        "matmul",
        "part",
        "max",
        "min",
        "pow",
        "square",
        "abs",
    ):
        return any(_raw(p, depth - 1) for p in parts)
    return t.act == "affine"


def _logarithmic(p: T) -> bool:
    via = p.get("via")
    if via is not None and via[0] in ("max", "logsumexp", "log_softmax"):
        return True
    return (
        p.act in ("cosine", "log_softmax", "log", "logsigmoid")
        or bool(p.sym and _LOG_LIKE.search(p.sym))
        or _called_log(p)
    )


def _called_log(t: T) -> bool:
    """The answer of ``dist.log_prob(action)``, of which nothing else is known."""
    called = t.get("called")
    name = getattr(called, "name", "") or getattr(called, "sym", "")
    return bool(name) and _LOG_LIKE.search(name) is not None


def _unbounded(x: T | None) -> bool:
    """As in ``_grows``, for a form that says by itself that the exponent has either sign."""
    if x is None or "num" in x.tags or x.act in _BOUNDED:
        return False
    if x.hi is not None and x.hi <= _limit(x):
        return False
    via = x.get("via")
    if via is not None and via[0] in ("mul", "div", "add", "sub", "neg"):
        parts = [p for p in via[1:] if isinstance(p, T)]
        if any(p.act in _BOUNDED or _logarithmic(p) for p in parts):
            return False
        if via[0] in ("mul", "div", "neg"):
            return any(_unbounded(p) for p in parts[:1] if via[0] == "div" or True) or any(
                _unbounded(p) for p in parts[1:]
            )
    return not (x.sym and _LOG_LIKE.search(x.sym)) and not _called_log(x)


_TORCH = {"softmax": "softmax", "softplus": "nn.functional.softplus", "logsumexp": "logsumexp"}


def audit(fact: AtTheEdge | WrittenOut) -> Iterator[Finding]:
    if isinstance(fact, WrittenOut):
        yield fact.finding(
            RULE,
            f"a {fact.form} written with `exp` over what a layer gives: the largest exponent is {fact.largest:.3g} "
            f"now, `exp` overflows at {fact.limit:.4g} in {fact.dtype}, and `torch.{_TORCH[fact.form]}` does not",
            severity=Severity.WARNING,
            confidence="likely",
        )
        return
    if fact.function not in ("exp", "expm1", "exp2", "base ** x", "sinh", "cosh"):
        return
    count, name = fact.count, fact.function
    limit = f"`{name}` overflows at {fact.edge:.4g} in {fact.dtype}"
    if fact.near:
        yield fact.finding(
            RULE,
            f"the largest exponent is {fact.closest:.3g}{count.at}, and {limit}",
            severity=Severity.WARNING,
            confidence="likely",
        )
        return
    largest = f", the largest {fact.closest:.4g}" if fact.closest == fact.closest else ""
    cost = "the loss is finite and its gradient is NaN" if fact.loss else "the loss is infinite or NaN"
    what = f"{count.of('exponent')} too large{largest}{count.at}"
    yield fact.finding(RULE, f"{what}: {limit}; {cost}")


RULE = Rule(
    code="LP204",
    name="unbounded-exp",
    severity=Severity.ERROR,
    summary="exp of a value that nothing bounds: overflow from 88.7 in float32, from 11.1 in float16.",
    hint="use softplus, logsumexp, softmax or logaddexp",
    page=__doc__ or "",
    evidence="exp-overflow",
    facts="operation",
    check=check,
    graph="at-the-edge written-out",
    audit=audit,
)
