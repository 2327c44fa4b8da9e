"""What class scores and what a feature map see of an image that has moved."""

from __future__ import annotations

from typing import Any

from lossproof.evidence.experiment import Experiment, Outcome, Setting, verdict
from lossproof.evidence.material import convolutions, made, pictures


def measure(setting: Setting) -> Outcome:
    """Four convolutions with a pooled linear head; the difference of a moved image over that of another image."""
    import torch
    from torch import nn

    def build() -> Any:
        return nn.Sequential(convolutions(3, 16, 16, 32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 100))

    network = made(setting, build)
    images = pictures(setting, 8)
    moved, others = images.roll(8, 3), images.roll(1, 0)

    def seen(part: Any) -> float:
        with torch.no_grad():
            here, there, other = part(images), part(moved), part(others)
        return float((here - there).square().mean().sqrt() / (here - other).square().mean().sqrt())

    features, scores = seen(network[0]), seen(network)
    return Outcome(
        verdict(features > 0.7 and scores < 0.5 * features),
        f"Through four convolutions of random weights an image that is moved by half its width differs from itself, "
        f"compared with another image, by {features:.2f} in the feature map and by {scores:.2f} in the class scores.",
        {"feature_map": features, "class_scores": scores},
    )


EXPERIMENT = Experiment(
    id="scores-as-features",
    claim="Class scores hardly see where things are: a moved image is nearly the same to them; a feature map sees it.",
    rules=("LP602",),
    measure=measure,
    seconds=1.0,
)
