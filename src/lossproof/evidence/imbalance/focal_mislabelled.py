"""Who trains a focal loss when some labels are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, percent, verdict
from lossproof.evidence.material import pull

if TYPE_CHECKING:
    import torch

GAMMAS = (0.0, 2.0, 5.0)


def measure(setting: Setting) -> Outcome:
    """10,000 elements that are mostly answered well, 2 % with a wrong label: their share of the gradient."""
    import torch
    import torch.nn.functional as F

    margin = 2 + 1.5 * setting.normal(10_000, seed=1)
    wrong = setting.uniform(10_000, seed=2) < 0.02
    margin = torch.where(wrong, -margin, margin)
    figures: dict[str, Figure] = {"wrong_labels": float(wrong.float().mean())}
    held = []
    for gamma in GAMMAS:

        def focal(z: torch.Tensor, gamma: float = gamma) -> torch.Tensor:
            return ((1 - torch.sigmoid(z)) ** gamma * F.softplus(-z)).sum()

        _, slope = pull(focal, margin)
        held.append(float(slope[wrong].abs().sum() / slope.abs().sum()))
        figures[f"gradient_share_gamma_{gamma:g}"] = held[-1]
    return Outcome(
        verdict(held[0] < held[1] < held[2] and held[2] > 1.5 * held[0]),
        f"{percent(float(wrong.float().mean()))} of the labels are wrong; they hold "
        f"{', '.join(percent(share, 0) for share in held)} of the gradient at gamma "
        f"{', '.join(f'{gamma:g}' for gamma in GAMMAS)}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="focal-mislabelled",
    claim="The higher gamma, the more a focal loss is trained by wrong labels.",
    rules=("LP404",),
    measure=measure,
    seconds=1.0,
)
