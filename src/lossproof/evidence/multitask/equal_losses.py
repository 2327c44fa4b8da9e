"""Five tasks, weighted so that every loss is 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import layers, pulls, shares

if TYPE_CHECKING:
    import torch

NAMES = ("cross entropy", "squared error", "absolute error", "Dice", "feature distance")


def measure(setting: Setting) -> Outcome:
    """Classes, an unscaled number, a depth, a mask and a distance of features: shares at the shared layer."""
    import torch
    import torch.nn.functional as F

    x = setting.normal(256, 16, seed=1)
    trunk = layers(setting, 16, 32, seed=1)
    heads = [layers(setting, 32, width, seed=seed) for seed, width in enumerate((5, 1, 1, 64, 64), start=2)]
    z = torch.tanh(trunk(x))
    kind, number, depth, mask, features = (head(z) for head in heads)
    present = (setting.uniform(256, 64, seed=11) > 0.7).float()

    def dice(logits: torch.Tensor) -> torch.Tensor:
        probs = torch.sigmoid(logits)
        return (1 - (2 * (probs * present).sum(1) + 1) / (probs.sum(1) + present.sum(1) + 1)).mean()

    losses = [
        F.cross_entropy(kind, setting.integers(5, 256, seed=7)),
        F.mse_loss(number.squeeze(1), 70 * setting.normal(256, seed=8)),
        F.l1_loss(depth.squeeze(1), 50 * setting.uniform(256, seed=9)),
        dice(mask),
        F.mse_loss(features, 14 * setting.normal(256, 64, seed=10)),
    ]
    values = [float(loss.detach()) for loss in losses]
    sizes = [float(pull.norm()) for pull in pulls(losses, trunk.parameters())]
    plain = shares(sizes)
    equal = shares(size / value for size, value in zip(sizes, values, strict=True))
    return Outcome(
        verdict(max(equal) > 5 * min(equal)),
        f"Five losses ({', '.join(f'{name} {say(v)}' for name, v in zip(NAMES, values, strict=True))}) hold "
        f"{', '.join(percent(s) for s in plain)} of the gradient at the shared layer; divided by their values, so that "
        f"each is 1, {', '.join(percent(s) for s in equal)}.",
        {
            **{f"loss_{name.replace(' ', '_')}": v for name, v in zip(NAMES, values, strict=True)},
            **{f"gradient_share_{name.replace(' ', '_')}": s for name, s in zip(NAMES, plain, strict=True)},
            **{f"gradient_share_equal_{name.replace(' ', '_')}": s for name, s in zip(NAMES, equal, strict=True)},
        },
    )


EXPERIMENT = Experiment(
    id="equal-losses",
    claim="Weights that make all losses equal do not make their gradients equal; they are a first guess.",
    rules=("LP501",),
    measure=measure,
    folk="Scale every loss to about 1 and the tasks are balanced.",
    seconds=1.0,
)
