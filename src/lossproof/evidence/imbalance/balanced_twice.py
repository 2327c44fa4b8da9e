"""A balanced sampler, a class weight, and both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, percent, verdict
from lossproof.evidence.material import logistic, rare, scores, share

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """Logistic regression on 5 % positives, each trained model judged on the data as they are."""
    import torch
    import torch.nn.functional as F
    from torch.utils.data import WeightedRandomSampler

    x, y = rare(setting, 1900, 100)
    ratio = (1 - y).sum() / y.sum()
    drawn = torch.tensor(
        list(WeightedRandomSampler((1 + y * (ratio - 1)).tolist(), 20_000, generator=setting.generator(3))),
        device=setting.device,
    )
    found: dict[str, float] = {}
    alarms: dict[str, float] = {}
    figures: dict[str, Figure] = {}
    ways = {"nothing": (None, 1.0), "sampler": (drawn, 1.0), "weight": (None, ratio), "both": (drawn, ratio)}
    for name, (rows, weight) in ways.items():
        pos_weight = torch.as_tensor(weight, device=setting.device)

        def loss(z: torch.Tensor, y: torch.Tensor, pos_weight: torch.Tensor = pos_weight) -> torch.Tensor:
            return F.binary_cross_entropy_with_logits(z, y, pos_weight=pos_weight)

        shown = (x, y) if rows is None else (x[rows], y[rows])
        z = scores(logistic(setting, *shown, loss), x)
        found[name], alarms[name] = share(z[y == 1] > 0), share(z[y == 0] > 0)
        figures[f"found_{name}"], figures[f"false_alarms_{name}"] = found[name], alarms[name]
        figures[f"mean_probability_{name}"] = float(torch.sigmoid(z).mean())
    return Outcome(
        verdict(alarms["both"] > 2 * max(alarms["sampler"], alarms["weight"])),
        f"5 % positives, found and false alarms: corrected by nothing {percent(found['nothing'], 0)} and "
        f"{percent(alarms['nothing'])}, by the sampler {percent(found['sampler'], 0)} and "
        f"{percent(alarms['sampler'], 0)}, by pos_weight {percent(found['weight'], 0)} and "
        f"{percent(alarms['weight'], 0)}, by both {percent(found['both'], 0)} and {percent(alarms['both'], 0)}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="balanced-twice",
    claim="A balanced sampler and class weights together correct the imbalance twice: false alarms everywhere.",
    rules=("LP405",),
    measure=measure,
)
