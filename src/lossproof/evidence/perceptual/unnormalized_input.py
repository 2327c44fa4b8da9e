"""A network that was trained on normalized images, given others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, verdict
from lossproof.evidence.material import descend, made, share

if TYPE_CHECKING:
    import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def measure(setting: Setting) -> Outcome:
    """Eight textures, told apart by a small network; then the same images in [0, 1] and in [0, 255]."""
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
    x, y = _textures(setting, 128, seed=1)
    test_x, test_y = _textures(setting, 256, seed=5)
    network = made(setting, build)
    shown = (x - mean) / std
    descend(network.parameters(), lambda _: F.cross_entropy(network(shown), y), 120, lr=0.01, method="Adam")

    def recognized(images: torch.Tensor) -> float:
        with torch.no_grad():
            return share(network(images).argmax(1) == test_y)

    normalized, unit, bytes_ = recognized((test_x - mean) / std), recognized(test_x), recognized(255 * test_x)
    return Outcome(
        verdict(normalized > 0.9 and unit < normalized - 0.15 and bytes_ < normalized - 0.15),
        f"A network trained on normalized images recognizes {percent(normalized, 0)} of eight textures in images that "
        f"are normalized, {percent(unit, 0)} in images from 0 to 1 and {percent(bytes_, 0)} from 0 to 255.",
        {"normalized": normalized, "from_0_to_1": unit, "from_0_to_255": bytes_},
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
