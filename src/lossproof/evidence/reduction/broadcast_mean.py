"""A column of predictions against a row of targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import descend, made

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """An exact linear relation with a little noise, learned with both shapes: loss, weights and explained variance."""
    from torch import nn

    x = setting.normal(200, 3, seed=1)
    y = x @ setting.tensor([9.0, -2.0, 1.0]) + 0.1 * setting.normal(200, seed=2)
    variance = float(y.var(correction=0))

    def trained(target: torch.Tensor) -> tuple[float, float, float]:
        model = made(setting, lambda: nn.Linear(3, 1))
        loss = descend(model.parameters(), lambda _: (model(x) - target).square().mean(), 300, lr=0.1)
        unexplained = float((model(x).squeeze(1) - y).square().mean().detach())
        return loss, 1 - unexplained / variance, float(model.weight.detach().abs().max())

    loss, explained, weight = trained(y[:, None])
    wrong_loss, wrong_explained, wrong_weight = trained(y)
    return Outcome(
        verdict(explained > 0.99 and abs(wrong_explained) < 0.01 and abs(wrong_loss / variance - 1) < 0.01),
        f"200 rows of a linear relation, 300 steps: (N, 1) against (N, 1) reaches a loss of {say(loss)} and explains "
        f"{percent(explained, 2)} of the variance; against (N,) the loss stays at {say(wrong_loss)}, the variance of "
        f"the targets ({say(variance)}), {percent(abs(wrong_explained), 0)} is explained, and the largest weight is "
        f"{say(wrong_weight, 1)}.",
        {
            "loss": loss,
            "explained": explained,
            "broadcast_loss": wrong_loss,
            "broadcast_explained": wrong_explained,
            "largest_weight": weight,
            "broadcast_largest_weight": wrong_weight,
            "variance": variance,
        },
    )


EXPERIMENT = Experiment(
    id="broadcast-mean",
    claim="A loss of (N, 1) against (N,) learns the mean of the targets and nothing of the input.",
    rules=("LP303",),
    measure=measure,
)
