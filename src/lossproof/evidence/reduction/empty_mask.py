"""A masked mean of nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, say, verdict
from lossproof.evidence.material import pull

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """Value and gradient of four masked means when the mask keeps nothing."""
    import torch
    import torch.nn.functional as F

    mask = torch.zeros(6, device=setting.device)
    ignored = torch.full((6,), -100, device=setting.device)
    forms: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "quotient": lambda z: (z.square().sum(1) * mask).sum() / mask.sum(),
        "selection": lambda z: z.square().sum(1)[mask.bool()].mean(),
        "ignore_index": lambda z: F.cross_entropy(z, ignored),
        "guarded": lambda z: (z.square().sum(1) * mask).sum() / mask.sum().clamp(min=1),
    }
    figures: dict[str, Figure] = {}
    told: dict[str, str] = {}
    nan: dict[str, bool] = {}
    for name, form in forms.items():
        value, slopes = pull(form, setting.normal(6, 3, seed=1))
        gradient = float(slopes.abs().sum())
        figures[name], figures[f"{name}_gradient"] = value, gradient
        told[name] = f"{say(value)} with gradient {say(gradient)}"
        nan[name], nan[f"{name}_gradient"] = math.isnan(value), math.isnan(gradient)
    return Outcome(
        verdict(
            nan["quotient"]
            and nan["selection"]
            and nan["ignore_index"]
            and nan["quotient_gradient"]
            and figures["guarded"] == figures["guarded_gradient"] == 0
        ),
        f"A mask that keeps nothing: sum / mask.sum() is {told['quotient']}, loss[mask].mean() is {told['selection']}, "
        f"cross_entropy with every target ignored is {told['ignore_index']}; with mask.sum().clamp(min=1) it is "
        f"{told['guarded']}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="empty-mask",
    claim="A mean over an empty mask is NaN and can put NaN into every gradient; a denominator of at least 1 is safe.",
    rules=("LP201", "LP304"),
    measure=measure,
    folk="My data is clean, I need no epsilon.",
    seconds=1.0,
)
