"""A masked mean of nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, say, verdict
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
    figures: dict[str, float | int | bool | str | None] = {}
    for name, form in forms.items():
        value, gradient = pull(form, setting.normal(6, 3, seed=1))
        figures[name], figures[f"{name}_gradient"] = number(value), number(gradient.abs().sum())
    nan = [name for name in ("quotient", "selection", "ignore_index") if math.isnan(float(str(figures[name])))]
    told = {name: say(value) for name, value in figures.items()}
    return Outcome(
        verdict(len(nan) == 3 and figures["quotient_gradient"] == "nan" and figures["guarded"] == 0),
        f"A mask that keeps nothing: sum / mask.sum() is {told['quotient']} with gradient {told['quotient_gradient']}, "
        f"loss[mask].mean() is {told['selection']} with gradient {told['selection_gradient']}, cross_entropy with "
        f"every target ignored is {told['ignore_index']} with gradient {told['ignore_index_gradient']}; with "
        f"mask.sum().clamp(min=1) it is {told['guarded']} with gradient {told['guarded_gradient']}.",
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
