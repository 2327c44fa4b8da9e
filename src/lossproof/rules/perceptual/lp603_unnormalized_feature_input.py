"""# LP603 unnormalized-feature-input

## What it does
Finds a perceptual loss whose images enter the pretrained network as they are: in [0, 1], [-1, 1] or [0, 255], without
the mean and standard deviation of ImageNet that the network was trained with. Normalization is looked for in the loss,
in what calls it, and in the project's data; where it may happen out of sight, nothing is said.

`audit` speaks where the images are known to come from a sigmoid, a tanh or a clamp and nothing normalizes them on
the way.

## Why is this bad
The first layers were fitted to inputs of mean 0 and deviation 1. Images in [0, 1] have half a unit of offset and a
quarter of the contrast: biases outweigh edges, other units fire, and what the loss calls similar is not what the
network was trained to tell apart. Nothing fails; the loss is merely a worse one.

## Measured
torch 2.13.0, CPU. Two small networks trained on normalized images to tell eight textures apart, and then given the
same images in other ranges:

| input | textures recognized |
|---|---|
| normalized as in training | 100 and 100 % |
| in [0, 1] | **47 and 34 %** |
| in [0, 255] | **49 and 49 %** |

```sh
python -c "
mean, std = 0.456, 0.224
print([round((x - mean) / std, 2) for x in (0.0, 0.5, 1.0)])"
```
```text
[-2.04, 0.2, 2.43]
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
        self.net = models.vgg16(weights="DEFAULT").features[:16].eval().requires_grad_(False)

    def embed(self, x):
        return self.net(x)

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
- Bring the images to [0, 1] first (`(x + 1) / 2` after a `tanh`), then `(x - mean) / std`, both as buffers of the loss.
- `torchvision.transforms.Normalize`, `kornia.enhance.normalize`, or `weights.transforms()` of the weights in use.
- Normalize both images, the prediction and the target.
- Weights that come from Caffe want BGR in [0, 255] less (103.939, 116.779, 123.68) instead.
- `--fix` does so in the loss, where it says that its images are in [0, 1] or in [-1, 1] (unsafe).

## When to ignore it
- When the images are already normalized by a loader that the checker cannot see.
- When the network's own first layer normalizes.

## References
- torchvision documentation: "Models and pre-trained weights", the note on inference transforms.
- Gatys, Ecker, Bethge: "Image Style Transfer Using Convolutional Neural Networks", 2016.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from lossproof.finding import Finding, Severity
from lossproof.graph.objective_facts import FeatureBranch
from lossproof.rules.perceptual.building import is_module
from lossproof.rules.registry import Rule
from lossproof.source.edits import Patch, Unfixable
from lossproof.source.facts import FeatureNetwork
from lossproof.source.syntax import Function, dotted


def check(fact: FeatureNetwork) -> Iterator[Finding]:
    if fact.normalized or not fact.pretrained:
        return
    if fact.partly:
        which = f"`{fact.plain}`" if fact.plain else "one of the two images"
        what = (
            f"{which} enters {fact.called} without ImageNet's normalization and the other image with it: their "
            "features are of two ranges, and differ where the images are the same"
        )
    else:
        what = (
            f"the images enter {fact.called} without ImageNet's normalization: its features are those of a range that "
            "it never saw in training"
        )
    yield fact.finding(
        RULE,
        what,
        confidence="likely",
        hops=fact.hops(),
        fix=partial(_fix, fact),
    )


_UNIT = re.compile(r"\[\s*0(?:\.0?)?\s*,\s*1(?:\.0?)?\s*\]|(?:between|from) 0 (?:and|to) 1\b")
_SIGNED = re.compile(r"\[\s*-\s*1(?:\.0?)?\s*,\s*\+?1(?:\.0?)?\s*\]|(?:between|from) -1 (?:and|to) 1")
_STATISTICS = (("mean", "0.485, 0.456, 0.406"), ("std", "0.229, 0.224, 0.225"))


def _fix(fact: FeatureNetwork, patch: Patch) -> tuple[str, str]:
    if fact.partly:
        raise Unfixable("one of the two images is normalized already")
    module = fact.applied[0][0]
    calls = {id(at): at for where, at in fact.applied if where is module}
    if len({where.path for where, _ in fact.applied}) > 1:
        raise Unfixable("the network is applied in several files")
    functions = {_holder(patch, module.functions, at) for at in calls.values()}
    classes = {f.cls for f in functions}
    cls = classes.pop() if len(classes) == 1 else None
    init = cls.methods.get("__init__") if cls is not None else None
    if cls is None or init is None or not is_module(fact, cls):
        raise Unfixable("the network is not applied by a module of the project, which could hold the mean")
    if len({dotted(at.func) for at in calls.values()}) != 1:
        raise Unfixable("the network is applied in several pieces")
    signed = _range(patch, fact, init)
    names = _names(cls.stores().keys() | cls.methods.keys())
    me = init.first_param
    for at in calls.values():
        if dotted(at.func).partition(".")[0] != me or len(at.args) != 1 or at.keywords:
            raise Unfixable("the network is applied in several pieces")
        image = at.args[0]
        text = patch.operand(module, image)
        if "\n" in text:
            raise Unfixable("the image is written over several lines")
        text = f"(({text} + 1) / 2 - {me}.{names[0]})" if signed else f"({text} - {me}.{names[0]})"
        patch.replace(module, image, f"{text} / {me}.{names[1]}")
    built = next((s for s in init.node.body if isinstance(s, ast.Expr) and _is_super(s.value)), None)
    if built is None:
        raise Unfixable("the constructor does not begin with that of the base class")
    tensor = patch.name(init, "torch.tensor")
    lines = [
        f'{me}.register_buffer("{name}", {tensor}([{numbers}]).view(1, 3, 1, 1), persistent=False)'
        for name, (_, numbers) in zip(names, _STATISTICS, strict=True)
    ]
    patch.insert_after(module, built, "\n".join(lines))
    return "unsafe", "the images are normalized with ImageNet's statistics before they enter the network"


def _holder(patch: Patch, functions: list[Function], at: Any) -> Function:
    tree = patch.tree(functions[0].module)
    nodes = {id(f.node): f for f in functions[1:]}
    node = at
    while node is not None:
        if isinstance(node, (ast.For, ast.While, ast.ListComp, ast.GeneratorExp, ast.Lambda)):
            raise Unfixable("the network is applied layer by layer")
        if id(node) in nodes:
            return nodes[id(node)]
        node = tree.parent(node)
    raise Unfixable("the network is not applied by a module of the project, which could hold the mean")


def _range(patch: Patch, fact: FeatureNetwork, init: Function) -> bool:
    """Whether the images are in [-1, 1]; raises where it is not said that they are in that range or in [0, 1]."""
    assert init.cls is not None
    node = init.cls.node
    init.module.line_text(1)
    lines = (init.module.lines or [])[node.lineno - 1 : node.end_lineno]
    said = [line[line.index("#") :] for line in lines if "#" in line]
    said += [ast.get_docstring(n) or "" for n in (node, *(m.node for m in init.cls.methods.values()))]
    text = "\n".join(said)
    unit, signed = _UNIT.search(text) is not None, _SIGNED.search(text) is not None
    if unit == signed:
        raise Unfixable("the range of the images is not seen: the mean is that of images in [0, 1]")
    return signed


def _names(taken: Any) -> tuple[str, str]:
    for prefix in ("", "imagenet_"):
        names = (f"{prefix}mean", f"{prefix}std")
        if not set(names) & set(taken):
            return names
    raise Unfixable("the names for the mean are taken")


def _is_super(call: Any) -> bool:
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != "__init__":
        return False
    owner = call.func.value
    return (isinstance(owner, ast.Call) and dotted(owner.func) == "super") or dotted(owner).endswith("Module")


def audit(fact: FeatureBranch) -> Iterator[Finding]:
    if fact.plain is not None:
        low, high = fact.plain
        yield fact.finding(
            RULE,
            f"images in [{low:g}, {high:g}] enter a {fact.called} as they were made, without ImageNet's normalization: "
            "its features are those of a range that it never saw in training",
            confidence="likely",
        )


RULE = Rule(
    code="LP603",
    name="unnormalized-feature-input",
    severity=Severity.WARNING,
    summary="Images enter a pretrained network without the normalization that it was trained with.",
    hint="normalize inside the loss: (x - mean) / std with ImageNet's mean and std, after bringing x to [0, 1]",
    page=__doc__ or "",
    evidence="unnormalized-input",
    facts="network",
    check=check,
    graph="feature-branch",
    audit=audit,
)
