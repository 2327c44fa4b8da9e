"""# LP605 feature-network-in-train-mode

## What it does
Finds a perceptual loss whose network runs in training mode although something in it depends on the mode: batch
normalization (ResNet, VGG with batch norm, DenseNet, EfficientNet …) or the dropout of a classifier. torchvision and
timm return networks in training mode. A `train()` on a module that holds the loss undoes an `eval()`, and is reported.
`vgg16().features` without batch norm has no such layer: there it makes no difference and nothing is said.

`audit` sees the batch statistics and the dropout masks that were used.

## Why is this bad
In training mode batch normalization uses the statistics of the batch at hand: the features of an image depend on its
neighbours, prediction and target are each normalized by their own statistics, so a faded or tinted prediction looks
nearly right; and the running statistics drift, frozen parameters or not. With dropout, two equal images differ.

## Measured
torch 2.13.0, CPU. Five convolutions of random weights with batch normalization; the prediction is the target with half
its contrast. Feature loss compared with that of an unrelated image; and a layer with dropout, for two equal images:

| mode | half the contrast | equal images, dropout |
|---|---|---|
| eval | 0.47 | 0 |
| train | **0.18** | **0.118** |

```sh
python -c "
import torch
torch.manual_seed(0)
norm = torch.nn.BatchNorm2d(3)
image = torch.rand(4, 3, 8, 8)
print((norm(image) - norm(0.5 * image + 0.2)).abs().max().item() < 0.01)
norm.eval()
print((norm(image) - norm(0.5 * image + 0.2)).abs().max().item() < 0.01)"
```
```text
True
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
        self.net = models.vgg16_bn(weights="DEFAULT").features[:23].requires_grad_(False)
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
        self.net = models.vgg16_bn(weights="DEFAULT").features[:23].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def train(self, mode=True):
        return super().train(False)

    def embed(self, x):
        return self.net((x - self.mean) / self.std)

    def forward(self, output, target):
        return F.mse_loss(self.embed(output), self.embed(target))
```

## Remedies
- `.eval()` where the network is built.
- If a module that is trained holds the loss, keep the mode: override `train` in the loss, as above, or call `eval()`
  again after every `train()`.
- `--fix` appends `.eval()` where the network is built, and overrides `train` where that undoes it (unsafe).

## When to ignore it
- When the batch's own statistics are meant, as in methods that match them.

## References
- PyTorch documentation: `torch.nn.Module.train`, `torch.nn.BatchNorm2d`.
- Ioffe, Szegedy: "Batch Normalization", 2015.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial

from lossproof.finding import Finding, Severity
from lossproof.graph.objective_facts import FeatureBranch
from lossproof.rules.perceptual.building import add, chain_end, keep_in_evaluation, only_for_the_loss
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import FeatureNetwork


def check(fact: FeatureNetwork) -> Iterator[Finding]:
    if not fact.mode:
        return
    mode, _, what = fact.mode.partition(" ")
    if mode == "undone":
        message = f"{fact.called} was put in evaluation mode, but `train()` undoes it: its {what} is live in the loss"
    else:
        message = f"{fact.called} is used in training mode: its {what} is live in the loss"
    cost = (
        ", so an image's features depend on the rest of the batch and its contrast cannot be seen"
        if "batch" in what
        else ", so the loss of two equal images is not zero"
    )
    yield fact.finding(
        RULE,
        message + cost,
        place=fact.built(),
        hops=fact.hops(fact.mode_hop, made=False),
        fix=partial(_fix, fact),
    )


def _fix(fact: FeatureNetwork, patch: Patch) -> tuple[str, str]:
    only_for_the_loss(fact, decides=False)
    if fact.mode.startswith("train"):
        end = chain_end(patch, fact.maker, fact.made)
        if isinstance(end, ast.Call) and isinstance(end.func, ast.Attribute) and end.func.attr == "train":
            if end.args or end.keywords:
                raise Unfixable("its mode is set where it is built")
            patch.unwrap(fact.maker, end, end.func.value)
            patch.method(fact.maker, end.func.value, "eval()")
        else:
            add(patch, fact, "eval()")
    if fact.undone:
        keep_in_evaluation(patch, fact)
        return "unsafe", "the network that measures the loss stays in evaluation mode"
    return "unsafe", "the network that measures the loss is in evaluation mode"


def audit(fact: FeatureBranch) -> Iterator[Finding]:
    if fact.live:
        cost = (
            "an image's features depend on the rest of the batch and its contrast cannot be seen"
            if "batch normalization" in fact.live
            else "the loss of two equal images is not zero"
        )
        yield fact.finding(
            RULE,
            f"a {fact.called} that only measures is used in training mode: its {' and its '.join(fact.live)} is live "
            f"in the loss, so {cost}",
        )


RULE = Rule(
    code="LP605",
    name="feature-network-in-train-mode",
    severity=Severity.WARNING,
    summary="The network of a perceptual loss runs in training mode: dropout or batch statistics are live.",
    hint="call .eval() on it, and keep it there: override train() in the loss",
    page=__doc__ or "",
    evidence="judge-in-train-mode",
    facts="network",
    check=check,
    graph="feature-branch",
    audit=audit,
)
