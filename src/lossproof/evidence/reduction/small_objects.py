"""A small network learns to find large and small objects, with Dice over the batch and with Dice per image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, verdict
from lossproof.evidence.material import descend, made

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """Every other image has an object of 400 pixels, the rest one of 16 that looks different; 100 steps of Adam."""
    import torch
    from torch import nn

    x, mask = _images(setting, 32, seed=1)
    test_x, test_mask = _images(setting, 200, seed=2)

    def learned(axes: tuple[int, ...]) -> tuple[float, float]:
        network = made(
            setting, lambda: nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
        )

        def loss(_: int) -> torch.Tensor:
            probs = torch.sigmoid(network(x))
            overlap = (probs * mask).sum(axes)
            return (1 - (2 * overlap + 1) / (probs.sum(axes) + mask.sum(axes) + 1)).mean()

        descend(network.parameters(), loss, 100, lr=0.02, method="Adam")
        with torch.no_grad():
            found = (network(test_x) > 0).float()
        each = 2 * (found * test_mask).sum((1, 2, 3)) / (found.sum((1, 2, 3)) + test_mask.sum((1, 2, 3)))
        return float(each[0::2].mean()), float(each[1::2].mean())

    large, small = learned((0, 1, 2, 3))
    large_apart, small_apart = learned((1, 2, 3))
    return Outcome(
        verdict(small < 0.5 * small_apart and large > 0.9 and large_apart > 0.9),
        f"After 100 steps of Adam, Dice score on 200 new images: trained over the batch {large:.2f} for objects of 400 "
        f"pixels and {small:.2f} for objects of 16; trained per image {large_apart:.2f} and {small_apart:.2f}.",
        {
            "batch_large": large,
            "batch_small": small,
            "per_image_large": large_apart,
            "per_image_small": small_apart,
        },
    )


def _images(setting: Setting, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of two channels; a large object shines in the first, a small one in the second."""
    import torch

    x = 0.7 * setting.normal(count, 2, 32, 32, seed=seed)
    mask = torch.zeros(count, 1, 32, 32, device=setting.device)
    for i, (row, column) in enumerate(setting.integers(12, count, 2, seed=seed + 100).tolist()):
        side = 4 if i % 2 else 20
        mask[i, 0, row : row + side, column : column + side] = 1
        x[i, i % 2] += 2 * mask[i, 0]
    return x, mask


EXPERIMENT = Experiment(
    id="small-objects",
    claim="A network trained with Dice over the batch may never find the small objects; per image it finds them.",
    rules=("LP301",),
    measure=measure,
)
