"""The focusing parameter outside of its useful range."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import pull

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """Loss and slope of one positive at an unsure, a good and a perfect answer, for four values of ``gamma``."""
    import torch
    import torch.nn.functional as F

    def focal(z: torch.Tensor, gamma: float, floor: float = 0.0) -> torch.Tensor:
        p = torch.sigmoid(z)
        return -(((1 - p).clamp(min=floor) if floor else 1 - p) ** gamma) * F.logsigmoid(z)

    figures: dict[str, Figure] = {}
    slope: dict[tuple[float, float], float] = {}
    loss: dict[tuple[float, float], float] = {}
    for gamma in (0.0, 0.5, 2.0, 5.0):
        for logit in (0.0, 2.0, 20.0):
            value, gradient = pull(lambda z, gamma=gamma: focal(z, gamma), setting.tensor(logit))  # type: ignore[misc]
            loss[gamma, logit], slope[gamma, logit] = value + 0.0, float(gradient) + 0.0
            figures[f"loss_gamma_{gamma:g}_logit_{logit:g}"] = value
            figures[f"gradient_gamma_{gamma:g}_logit_{logit:g}"] = slope[gamma, logit]
    entropy, _ = pull(lambda z: F.softplus(-z), setting.tensor(2.0))
    _, gradient = pull(lambda z: focal(z, 0.5, 1e-6), setting.tensor(20.0))
    guarded = float(gradient)
    kept = loss[5.0, 0.0] / loss[0.0, 0.0]
    figures["gradient_gamma_0.5_guarded"], figures["kept_gamma_5_unsure"] = guarded, kept
    return Outcome(
        verdict(
            math.isnan(slope[0.5, 20.0])
            and math.isfinite(guarded)
            and math.isclose(loss[0.0, 2.0], entropy, rel_tol=1e-5)
            and kept < 0.05
        ),
        f"At a perfect answer (logit 20) gamma 0.5 has the gradient {say(slope[0.5, 20.0])}, and "
        f"{say(guarded)} with (1 - pt).clamp(min=1e-6). Gamma 5 keeps {percent(kept)} of the loss of an "
        f"element at p = 0.5 and has the gradient {say(slope[5.0, 2.0])} at logit 2, where gamma 2 has "
        f"{say(slope[2.0, 2.0])}. Gamma 0 is the cross entropy: {say(loss[0.0, 2.0])} and {say(entropy)} at logit 2.",
        figures,
    )


EXPERIMENT = Experiment(
    id="focal-gamma",
    claim="A gamma below 1 has a NaN gradient at a perfect answer, 5 silences even unsure ones, 0 focuses nothing.",
    rules=("LP404",),
    measure=measure,
    seconds=1.0,
)
