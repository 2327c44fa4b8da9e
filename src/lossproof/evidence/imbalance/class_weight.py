"""``pos_weight`` as it should be, and turned over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, percent, verdict
from lossproof.evidence.material import logistic, rare, scores, share

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """Logistic regression on 5 % positives: positives found, false alarms and mean probability."""
    import torch
    import torch.nn.functional as F

    x, y = rare(setting, 1900, 100)
    positives, negatives = y.sum(), (1 - y).sum()
    figures: dict[str, Figure] = {}
    found: dict[str, float] = {}
    alarms: dict[str, float] = {}
    weights = {"none": positives / positives, "right": negatives / positives, "inverted": positives / negatives}
    for name, weight in weights.items():

        def loss(z: torch.Tensor, y: torch.Tensor, weight: torch.Tensor = weight) -> torch.Tensor:
            return F.binary_cross_entropy_with_logits(z, y, pos_weight=weight)

        z = scores(logistic(setting, x, y, loss, steps=500), x)
        found[name], alarms[name] = share(z[y == 1] > 0), share(z[y == 0] > 0)
        figures[f"found_{name}"], figures[f"false_alarms_{name}"] = found[name], alarms[name]
        figures[f"mean_probability_{name}"] = float(torch.sigmoid(z).mean())
    return Outcome(
        verdict(found["right"] > found["none"] + 0.2 and found["inverted"] < found["none"]),
        f"100 positives among 2,000: without weights the model finds {percent(found['none'], 0)} of them with "
        f"{percent(alarms['none'])} false alarms; with pos_weight = negatives / positives "
        f"{percent(found['right'], 0)} with {percent(alarms['right'])}; turned over {percent(found['inverted'], 0)}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="class-weight",
    claim="A pos_weight of positives / negatives makes the rare class count even less than no weight at all.",
    rules=("LP403",),
    measure=measure,
)
