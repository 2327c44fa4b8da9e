"""A search over ``alpha`` and ``gamma`` where alpha is one number for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, verdict
from lossproof.evidence.material import logistic, rare

if TYPE_CHECKING:
    import torch

ALPHAS, GAMMAS = (0.25, 0.5, 0.75, 1.0), (0.0, 1.0, 2.0, 3.0, 5.0)


def measure(setting: Setting) -> Outcome:
    """Twenty trainings on 1 % positives with both forms of alpha; how many different models come out."""
    import torch
    import torch.nn.functional as F

    x, y = rare(setting, 990, 10)

    def models(by_class: bool) -> int:
        found: list[torch.Tensor] = []
        for alpha in ALPHAS:
            for gamma in GAMMAS:

                def focal(z: torch.Tensor, y: torch.Tensor, alpha: float = alpha, gamma: float = gamma) -> torch.Tensor:
                    ce = F.binary_cross_entropy_with_logits(z, y, reduction="none")
                    weight = alpha * y + (1 - alpha) * (1 - y) if by_class else alpha
                    return (weight * (1 - torch.exp(-ce)) ** gamma * ce).mean()

                weights = logistic(setting, x, y, focal, steps=40)
                if not any(torch.allclose(weights, other, atol=1e-4) for other in found):
                    found.append(weights)
        return len(found)

    same, apart = models(by_class=False), models(by_class=True)
    tried = len(ALPHAS) * len(GAMMAS)
    return Outcome(
        verdict(same <= len(GAMMAS) and apart > 2 * len(GAMMAS)),
        f"{tried} combinations of {len(ALPHAS)} alphas and {len(GAMMAS)} gammas, trained with Adam, give {same} "
        f"different models with one alpha for all classes and {apart} with an alpha for each class.",
        {"combinations": tried, "models_one_alpha": same, "models_by_class": apart},
    )


EXPERIMENT = Experiment(
    id="focal-grid",
    claim="A search over one alpha for all classes tries the same models again and again.",
    rules=("LP401",),
    measure=measure,
    folk="I tried all 20 combinations of alpha and gamma, and focal loss does not help.",
)
