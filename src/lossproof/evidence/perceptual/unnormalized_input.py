"""A network that was trained on normalized images, given others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, verdict
from lossproof.evidence.material import descend, made, share

if TYPE_CHECKING:
    import torch

SEEDS = (0, 1)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def measure(setting: Setting) -> Outcome:
    """Eight textures, told apart by two small networks; then the same images in [0, 1] and in [0, 255]."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    def build() -> Any:
        return nn.Sequential(
            nn.Conv2d(3, 16, 5, padding=2, padding_mode="circular"),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 8),
        )

    mean, std = setting.tensor(MEAN)[:, None, None], setting.tensor(STD)[:, None, None]
    x, y = _textures(setting, 96, seed=1)
    test_x, test_y = _textures(setting, 256, seed=5)
    shown = (x - mean) / std
    ranges = {"normalized": (test_x - mean) / std, "from_0_to_1": test_x, "from_0_to_255": 255 * test_x}
    recognized: dict[str, list[float]] = {name: [] for name in ranges}
    for seed in SEEDS:
        network = made(setting, build, seed)

        def loss(_: int, network: Any = network) -> torch.Tensor:
            return F.cross_entropy(network(shown), y)

        descend(network.parameters(), loss, 80, lr=0.02, method="Adam")
        with torch.no_grad():
            for name, images in ranges.items():
                recognized[name].append(share(network(images).argmax(1) == test_y))
    mean_of = {name: sum(shares) / len(shares) for name, shares in recognized.items()}
    told = {name: " and ".join(percent(each, 0) for each in shares) for name, shares in recognized.items()}
    return Outcome(
        verdict(
            mean_of["normalized"] > 0.9
            and max(mean_of["from_0_to_1"], mean_of["from_0_to_255"]) < mean_of["normalized"] - 0.15
        ),
        f"Two networks that were trained on normalized images recognize {told['normalized']} of eight textures in "
        f"images that are normalized, {told['from_0_to_1']} in images from 0 to 1 and {told['from_0_to_255']} in "
        "images from 0 to 255.",
        {
            f"{name}_seed_{seed}": each
            for name, shares in recognized.items()
            for seed, each in zip(SEEDS, shares, strict=True)
        },
    )


def _textures(setting: Setting, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Waves of four directions and two lengths, in any phase, brightness and colour, with noise; which one each is."""
    import torch

    kind = setting.integers(8, count, seed=seed)
    angle = (kind % 4) * (math.pi / 4)
    pace = 1.0 + (kind // 4)
    axis = torch.arange(16.0, device=setting.device)
    down, right = axis[None, :, None], axis[None, None, :]
    phase = 2 * math.pi * setting.uniform(count, 1, 1, seed=seed + 1)
    turn = (torch.cos(angle)[:, None, None] * right + torch.sin(angle)[:, None, None] * down) * pace[:, None, None]
    wave = torch.sin(turn * 0.8 + phase)[:, None]
    colour = 0.5 + 0.2 * (2 * setting.uniform(count, 3, 1, 1, seed=seed + 2) - 1)
    noise = 0.1 * setting.normal(count, 3, 16, 16, seed=seed + 3)
    return (colour + 0.2 * wave + noise).clamp(0, 1), kind


EXPERIMENT = Experiment(
    id="unnormalized-input",
    claim="A pretrained network sees something else in images that are not normalized as in its training.",
    rules=("LP603",),
    measure=measure,
)
