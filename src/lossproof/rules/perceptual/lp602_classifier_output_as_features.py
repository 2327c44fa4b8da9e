"""# LP602 classifier-output-as-features

## What it does
Finds a perceptual loss that compares what the whole classifier returns, its scores for the 1,000 classes of ImageNet,
instead of the activations of an inner layer.

`audit` finds it in the graph, however the network was built.

## Why is this bad
The scores say what is in an image; a classifier is trained to forget where it is and how it looks. Two images with the
same objects have nearly the same scores, so the loss has next to nothing to say about edges, texture and position,
which is what such a loss is there for. It also runs the whole network, with its dropout, for a thousand numbers.

## Measured
torch 2.13.0, CPU. Four convolutions of random weights with a pooled linear head. An image moved by half its
width differs from the original, compared with the difference to another image, by

| compared | difference |
|---|---|
| feature map | 1.11 |
| class scores | **0.35** |

```sh
python -c "
import torch
from torch import nn
torch.manual_seed(0)
features = nn.Conv2d(3, 8, 3, padding=1, padding_mode='circular')
scores = nn.Sequential(features, nn.AdaptiveAvgPool2d(1))
image = torch.rand(1, 3, 16, 16)
moved = image.roll(8, 3)
print(torch.allclose(features(image), features(moved), atol=0.1))
print(torch.allclose(scores(image), scores(moved), atol=1e-5))"
```
```text
False
True
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
        self.net = models.vgg16(weights="DEFAULT").eval().requires_grad_(False)
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
- `models.vgg16(weights="DEFAULT").features[:16]` ends with relu3_3, the layer of the first perceptual losses.
- `torchvision.models.feature_extraction.create_feature_extractor` returns several layers of any network at once;
  `timm.create_model(..., features_only=True)` does so too.
- Take early layers for texture and detail, later ones for content.

## When to ignore it
- When the class scores are what should agree: a generator that must keep the class of an image. Say so in a
  suppression's reason.

## References
- Johnson, Alahi, Fei-Fei: "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", 2016.
- Mahendran, Vedaldi: "Understanding Deep Image Representations by Inverting Them", 2015 (what each layer keeps).
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.graph.objective_facts import FeatureBranch
from lossproof.rules.registry import Rule
from lossproof.source.facts import FeatureNetwork


def check(fact: FeatureNetwork) -> Iterator[Finding]:
    if not fact.whole:
        return
    yield fact.finding(
        RULE,
        f"the loss compares the class scores of {fact.called}, not a feature map: where things are and how they look "
        "is gone from them",
        hops=fact.hops(),
    )


def audit(fact: FeatureBranch) -> Iterator[Finding]:
    if fact.classes:
        yield fact.finding(
            RULE,
            f"the loss compares the {fact.classes:,} class scores of a {fact.called}, not a feature map: where things "
            "are and how they look is gone from them",
        )


RULE = Rule(
    code="LP602",
    name="classifier-output-as-features",
    severity=Severity.WARNING,
    summary="A perceptual loss compares the class scores of the network instead of a feature map.",
    hint="compare an inner layer: net.features[:16] of VGG-16 ends at relu3_3",
    page=__doc__ or "",
    evidence="scores-as-features",
    facts="network",
    check=check,
    graph="feature-branch",
    audit=audit,
)
