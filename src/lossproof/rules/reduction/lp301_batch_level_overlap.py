"""# LP301 batch-level-overlap

## What it does
Finds Dice, IoU and Tversky losses whose sums run over the whole batch, so that one ratio is built for all images
together, with no option to choose otherwise. In the graph of a live loss (`lossproof.audit`) it tells which sample
holds how much of the target, and how many have none.

## Why is this bad
The ratio is then dominated by the largest object in the batch. A small one may be missed completely and the loss
hardly changes. The loss of an image depends on which images it was shuffled together with, and with the batch size
the objective changes. Batch-level Dice is a legitimate choice (it is calmer on empty masks); most often nobody chose
it, `sum()` simply has no `dim`.

## Measured
torch 2.13.0, CPU. Two masks of 128 x 128: an object of 10,000 pixels, predicted perfectly, and one of 25 pixels,
missed:

| | batch-level | per sample |
|---|---|---|
| Dice loss | **0.0012** | 0.4808 |
| the same 25 pixels missing from the large object instead | 0.0012 | 0.0006 |
| gradient on a pixel of the missed object (background 0.01) | -5.0e-5 | -5.2e-3 |
| gradient on a pixel of the large object | -5.0e-5 | -2.5e-5 |

At batch level a missed small object costs what 25 pixels at the rim of the large one cost, and its gradient is 105
times weaker. Alone in its batch the same missed image has a loss of 0.96.

A small network was trained for 100 steps of Adam on images that hold an object of 400 pixels or one of 16. Dice score
on 200 new images: 0.99 and **0.00** with the batch-level loss, 0.99 and 0.94 per sample.

An image without the object, with 256 false pixels: a smoothed Dice loss is 0.997 and its whole gradient 7.0e-4 with a
smoothing constant of 1 and 7.0e-9 with 1e-5, where a cross entropy sends 0.078.

```sh
python -c "
import torch
t = torch.zeros(2, 128, 128); t[0, :100, :100] = 1; t[1, :5, :5] = 1
p = t.clone(); p[1] = 0
dice = lambda dims: 1 - (2 * (p * t).sum(dims) + 1) / (p.sum(dims) + t.sum(dims) + 1)
print(round(dice((0, 1, 2)).item(), 4), round(dice((1, 2)).mean().item(), 4))"
```
```text
0.0012 0.4808
```

## Wrong
```python
import torch
from torch import nn


def dice_loss(probs, mask, smooth=1.0):
    overlap = (probs * mask).sum()
    return 1 - (2 * overlap + smooth) / (probs.sum() + mask.sum() + smooth)


def train(loader):
    model = nn.Conv2d(3, 1, kernel_size=3, padding=1)
    optimizer = torch.optim.Adam(model.parameters())
    for image, mask in loader:
        optimizer.zero_grad()
        loss = dice_loss(torch.sigmoid(model(image)), mask)
        loss.backward()
        optimizer.step()
```

## Right
```python
import torch
from torch import nn


def dice_loss(probs, mask, smooth=1.0):
    overlap = (probs * mask).sum(dim=(1, 2, 3))
    total = probs.sum(dim=(1, 2, 3)) + mask.sum(dim=(1, 2, 3))
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()


def train(loader):
    model = nn.Conv2d(3, 1, kernel_size=3, padding=1)
    optimizer = torch.optim.Adam(model.parameters())
    for image, mask in loader:
        optimizer.zero_grad()
        loss = dice_loss(torch.sigmoid(model(image)), mask)
        loss.backward()
        optimizer.step()
```

## Remedies
- Sum over the pixels of one sample, build the ratio, then take the mean over the batch.
- `--fix` is unsafe, for the objective changes: it sums over each sample (`.flatten(1)`, `.sum(1)`, or the axes without
  0) and puts `.mean()` on the ratio. It does not where a sum is used for something else too.
- If the batch-level form is wanted, make it an argument (`batch=True`) and say why in the docstring.
- Decide what an empty mask costs. A smoothing constant gives it a loss near 1 with hardly any gradient; an added
  cross entropy gives it one.

## When to ignore it
- When it was chosen: tiny crops, most of them empty, where a ratio per sample is noise.
- When the batch holds the slices of one volume, and the volume is the sample.
- Metrics that are meant over the data set.

## References
- Milletari, Navab, Ahmadi, *V-Net* (2016): Dice as a loss, per volume.
- Maier-Hein and others, *Metrics reloaded* (2024): aggregation per image and per data set answer different questions.
- segmentation_models.pytorch#712: the batch-level Dice of a well-known library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import product

from lossproof.finding import Finding, Severity
from lossproof.graph.loss_facts import PooledOverlap
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch
from lossproof.source.evaluate import children
from lossproof.source.facts import Operation, possible
from lossproof.source.persample import PerSample
from lossproof.source.slices import returns_complement
from lossproof.source.syntax import Function
from lossproof.source.values import Seq, T, constant

_LOSS = re.compile(r"loss|criterion|objective", re.I)


def check(fact: Operation) -> Iterator[Finding]:
    if fact.op != "div" or not fact.others:
        return
    overlaps = [_overlap(n) for _, n in possible(fact.others[0], fact.atoms)]
    if not any(overlaps) or not _trained_on(fact) or _mapped(fact):
        return
    for overlap, t in product(overlaps, fact.operands()):
        if overlap is None or not _union(t) or not _pools_batch(overlap) or _of_one_sample(overlap):
            continue
        if any("batch" in atom.key.lower() for atom in fact.atoms) or _optional_axes(fact):
            return  # somebody chose it
        yield fact.finding(
            RULE,
            "this overlap ratio is summed over the whole batch: one large object outweighs many small ones, and an "
            "image's loss depends on the others in its batch",
            fix=partial(_fix, fact),
        )
        return


def _fix(fact: Operation, patch: Patch) -> tuple[str, str]:
    PerSample(fact, patch).run()
    return "unsafe", "one ratio a sample, and their mean"


def _trained_on(fact: Operation) -> bool:
    """Whether the ratio is surely a loss: a Dice of which nobody is seen to train on it may be a metric."""
    # Any of the functions that lead here may show it; the outermost is often just ``main``.
    return any(_trains(frame.function) for frame in fact.frame.chain())


def _optional_axes(fact: Operation) -> bool:
    """Whether a test decides if the batch is one of the axes that are summed over."""
    stack, seen = children(fact.node), 0
    while stack and seen < 80:
        node = stack.pop()
        seen += 1
        stack.extend(children(node))
        if node.op != "phi":
            continue
        axes = [fact.value(n) for n in node.args[1:]]
        if all(isinstance(a, Seq) and a.every() for a in axes):
            held = {any(constant(i) == 0 for i in a.every()) for a in axes if isinstance(a, Seq)}
            if len(held) == 2:
                return True
    return False


def _mapped(fact: Operation) -> bool:
    """``torch.vmap(one)(probs, masks)``: what looks like a batch is one sample of it."""
    for frame in fact.frame.chain():
        site = frame.base().site
        called = site[1].args[0] if site is not None and site[1].op == "call" else None
        if called is not None and called.op == "call" and getattr(called.args[0].at, "attr", "") == "vmap":
            return True
    return False


def _trains(root: Function) -> bool:
    if root.cls is not None and root.name in ("forward", "__call__"):
        return True
    names = {getattr(c.func, "attr", "") for c in root.calls}
    if names & {"backward", "manual_backward"} or root.name in ("training_step", "compute_loss"):
        return True
    return _LOSS.search(f"{root.module.display}:{root.qualname}") is not None or returns_complement(root)


def _overlap(t: T, depth: int = 7) -> T | None:
    """The sum of a product of two tensors that a numerator is made of."""
    via = t.get("via")
    if via is None or depth == 0:
        return None
    if via[0] in ("dot", "matmul"):
        return t if all(isinstance(p, T) and p.get("ndim") == 1 for p in via[1:]) else None
    if via[0] in ("sum", "mean"):
        inner = via[1]
        deeper = _overlap(inner, depth - 1)
        if deeper is not None:
            return deeper
        joint = inner.get("via")
        if joint is not None and joint[0] in ("mul", "minimum") and (via[0] == "sum" or t.get("reduced") == "all"):
            two = [p for p in joint[1:] if isinstance(p, T) and "const" not in p.tags and not _likelihood(p)]
            if len(two) == 2 and two[0] is not two[1]:
                return t
        return None
    if via[0] in ("mul", "add", "sub", "div", "item", "clamp"):
        for part in via[1:]:
            if isinstance(part, T):
                found = _overlap(part, depth - 1)
                if found is not None:
                    return found
    return None


def _likelihood(t: T) -> bool:
    """A loss or a logarithm: a weight times it is no overlap."""
    return "loss" in t.tags or t.act in ("loss", "log", "log_softmax", "logsigmoid")


def _union(t: T) -> bool:
    """A denominator made of at least two sums."""
    return _sums(t, 8) >= 2


def _sums(t: T, depth: int) -> int:
    via = t.get("via")
    if via is None or depth == 0:
        return 0
    if via[0] in ("sum", "norm") or (via[0] == "mean" and t.get("reduced") == "all"):
        inner = via[1].get("via")
        if inner is not None and inner[0] in ("add", "sub", "maximum"):
            return _terms(via[1], depth - 1)
        return max(1, _sums(via[1], depth - 1))
    if via[0] == "dot":
        return 1
    if via[0] in ("add", "sub", "mul", "clamp", "maximum"):
        return sum(_sums(p, depth - 1) for p in via[1:] if isinstance(p, T))
    return 0


def _terms(t: T, depth: int) -> int:
    """How many tensors are added: ``(1 - mask).sum()`` is the sum of one."""
    via = t.get("via")
    if via is None or depth == 0 or via[0] not in ("add", "sub", "maximum"):
        return 0 if t.tags & {"const", "num"} else 1
    return sum(_terms(p, depth - 1) for p in via[1:3] if isinstance(p, T))


def _pools_batch(t: T) -> bool:
    via = t.get("via")
    if via[0] in ("dot", "matmul"):
        return all(p.get("reduced") is None for p in via[1:])
    reduced = t.get("reduced")
    if reduced == "all":
        return via[1].get("reduced") is None
    if not isinstance(reduced, tuple):
        return False
    return (0 in reduced and len(reduced) > 1) or (bool(via[1].get("pooled")) and reduced in ((-1,), (1,)))


def _of_one_sample(t: T, depth: int = 8) -> bool:
    """Whether the operands are one element of a batch (``for p, m in zip(probs, masks)``, ``p[i]``)."""
    if t.get("element"):
        return True
    via = t.get("via")
    if via is None or depth == 0 or via[0] == "part":
        return False
    return any(isinstance(p, T) and _of_one_sample(p, depth - 1) for p in via[1:])


def audit(fact: PooledOverlap) -> Iterator[Finding]:
    weight = (
        f"sample {fact.largest} alone holds {fact.share:.0%} of the target"
        + (f", {fact.empty} of them have none" if fact.empty > 0 else "")
        if fact.share >= 0
        else "one large object outweighs many small ones"
    )
    yield fact.finding(
        RULE,
        f"this overlap ratio is summed over all {fact.shape[0]} samples of a batch of shape {fact.shape}: {weight}, "
        "and the "
        "loss of an image depends on the others in its batch",
    )


RULE = Rule(
    code="LP301",
    name="batch-level-overlap",
    severity=Severity.WARNING,
    summary="A Dice, IoU or Tversky ratio over the whole batch: small objects drown in large ones.",
    hint="sum over the dimensions of one sample, then take the mean over the batch",
    page=__doc__ or "",
    evidence="batch-dice",
    facts="operation",
    check=check,
    graph="pooled-overlap",
    audit=audit,
)
