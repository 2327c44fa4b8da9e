"""# LP601 trainable-feature-network

## What it does
Finds a pretrained network that a loss compares images with (a perceptual, content or style loss), and whose parameters
are not frozen. Freezing is seen wherever it happens: in the class, a base class, a helper, where the loss is made. A
backbone that is itself what is trained is not meant.

`audit` knows VGG, ResNet and AlexNet by their first layers, however they were built; `audit(loss, optimizer=...)`
tells whether the optimizer holds them.

## Why is this bad
The network is the ruler. If the optimizer holds its parameters, as `self.parameters()` of a model that keeps the loss
as a part does, the loss falls because the ruler learns to see no difference: that is an *error*. If the optimizer does
not hold them, they stay as they are; but every step computes and keeps a gradient for each of them, which costs time
and memory, adds to what was there (nobody clears it), and is one `model.parameters()` away from the error: a *warning*.

`module.requires_grad = False` freezes nothing: it sets an attribute that nobody reads. `requires_grad_(False)` is the
method. And `torch.no_grad()` around the prediction's features is no remedy: it ends the gradient of the loss itself.

## Measured
torch 2.13.0, CPU, one thread; a network of three convolutions judges a small generator that removes noise, 120 steps:

| the judge's parameters | feature loss at the end | error of the images |
|---|---|---|
| frozen | 2.9e-5 | 0.018 |
| held by the optimizer | **1.2e-8** | **0.59** |

The loss is 2,400 times smaller, and the images 32 times worse. Where no optimizer holds them, forward and backward pass
of three convolutions took 1.8 to 2.3 times as long as frozen, and left 56 KiB of gradients behind.

```sh
python -c "
import torch
judge = torch.nn.Conv2d(3, 8, 3)
judge.requires_grad = False
image = torch.rand(1, 3, 8, 8, requires_grad=True)
judge(image).mean().backward()
print(judge.weight.grad is None)"
```
```text
False
```

## Wrong
```python
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models


class PerceptualLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = models.vgg16(weights="DEFAULT").features[:16].eval()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def embed(self, x):
        return self.net((x - self.mean) / self.std)

    def forward(self, output, target):
        return F.mse_loss(self.embed(output), self.embed(target))
```

## Right
```python
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models


class PerceptualLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = models.vgg16(weights="DEFAULT").features[:16].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def embed(self, x):
        return self.net((x - self.mean) / self.std)

    def forward(self, output, target):
        return F.mse_loss(self.embed(output), self.embed(target))
```

## Remedies
- `.requires_grad_(False)` on the part that is used, where it is built.
- `pretrained=True` is deprecated since torchvision 0.13 and warns; write `weights="DEFAULT"` or name the weights.
- Give the optimizer `model.generator.parameters()` rather than those of a module that holds the loss.
- The target's features need no graph: compute them under `torch.no_grad()`. The prediction's do.
- `--fix` appends `.requires_grad_(False)` where the network is built (unsafe: an optimizer may hold it on purpose).

## When to ignore it
- When the network is trained on purpose, as an adversary or a shared encoder. With an optimizer that names its
  parameters, that is not reported.

## References
- Johnson, Alahi, Fei-Fei: "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", 2016 (the loss network
  "remains fixed during the training process").
- PyTorch documentation: `torch.nn.Module.requires_grad_`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial

from lossproof.finding import Finding, Severity
from lossproof.graph.objective_facts import FeatureBranch
from lossproof.rules.perceptual.building import add, only_for_the_loss, thawed
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import FeatureNetwork


def check(fact: FeatureNetwork) -> Iterator[Finding]:
    if fact.frozen:
        return
    if fact.optimized is not None:
        yield fact.finding(
            RULE,
            f"{fact.called} measures the loss and is trained by it: the optimizer holds its parameters, so it learns "
            "to make the features alike instead of the images",
            severity=Severity.ERROR,
            place=fact.built(),
            hops=fact.hops(fact.useless_freeze, fact.optimized, made=False),
            fix=partial(_fix, fact),
        )
        return
    tried = " (`requires_grad` of a module does nothing)" if fact.useless_freeze is not None else ""
    yield fact.finding(
        RULE,
        f"{fact.called} only measures this loss, but its parameters are not frozen{tried}: every step computes and "
        "keeps gradients for them, and an optimizer that comes to hold them trains the measure itself",
        confidence="likely",
        place=fact.built(),
        hops=fact.hops(fact.useless_freeze, made=False),
        fix=partial(_fix, fact),
    )


def _fix(fact: FeatureNetwork, patch: Patch) -> tuple[str, str]:
    only_for_the_loss(fact, decides=True)
    if thawed(patch, fact):
        raise Unfixable("its parameters are asked for their gradients elsewhere")
    note = "the network that measures the loss is frozen"
    useless = fact.useless_freeze
    if useless is not None and useless.module is not None:
        # What was tried is what was meant.
        statement = patch.statement(useless.module, useless.at)
        target = statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None
        if isinstance(target, ast.Attribute) and target.attr == "requires_grad":
            text = f"{patch.operand(useless.module, target.value)}.requires_grad_(False)"
            patch.replace(useless.module, statement, text)
            return "unsafe", note
    add(patch, fact, "requires_grad_(False)")
    return "unsafe", note


def audit(fact: FeatureBranch) -> Iterator[Finding]:
    if fact.trained:
        yield fact.finding(
            RULE,
            f"a {fact.called} measures the loss and is trained by it: the optimizer holds {fact.trained} of the "
            f"{fact.trainable} parameters that this loss reaches in it, so it learns to make the features alike "
            "instead of the images",
            severity=Severity.ERROR,
        )
    elif fact.trainable:
        yield fact.finding(
            RULE,
            f"a {fact.called} only measures this loss, but {fact.trainable} of its parameters are not frozen: every "
            "step computes and keeps gradients for them, and an optimizer that comes to hold them trains the measure "
            "itself",
            confidence="likely",
        )


RULE = Rule(
    code="LP601",
    name="trainable-feature-network",
    severity=Severity.WARNING,
    summary="The network that a perceptual loss compares images with is not frozen.",
    hint="freeze it where it is built: .eval().requires_grad_(False)",
    page=__doc__ or "",
    evidence="trainable-judge",
    facts="network",
    check=check,
    graph="feature-branch",
    audit=audit,
)
