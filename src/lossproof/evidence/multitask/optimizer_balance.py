"""A small task beside one that is a thousand times as large, under SGD and Adam."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, percent, verdict
from lossproof.evidence.material import descend, layers, share

if TYPE_CHECKING:
    import torch

WAYS = {"sgd": ("SGD", 0.1), "adam": ("Adam", 0.01)}


def measure(setting: Setting) -> Outcome:
    """Four classes and a number through four shared units, 300 steps: the accuracy of the classes."""
    import torch
    import torch.nn.functional as F

    x = setting.normal(256, 16, seed=1)
    kind = (x @ setting.normal(16, 4, seed=2)).argmax(1)
    amount = x @ setting.normal(16, seed=3) / 4 + 0.1 * setting.normal(256, seed=4)

    def accuracy(way: str, weight: float) -> float:
        method, lr = WAYS[way]
        trunk, head, tail = layers(setting, 16, 4, seed=1), layers(setting, 4, 4, seed=2), layers(setting, 4, 1, seed=3)

        def loss(_: int) -> torch.Tensor:
            z = torch.tanh(trunk(x))
            total = F.cross_entropy(head(z), kind) + weight * F.mse_loss(tail(z).squeeze(1), amount)
            return total / max(weight, 1)  # or plain SGD diverges, as a step of that size would

        parameters = [*trunk.parameters(), *head.parameters(), *tail.parameters()]
        descend(parameters, loss, 300, lr=lr, method=method)
        return share(head(torch.tanh(trunk(x))).argmax(1) == kind)

    figures: dict[str, Figure] = {}
    lost: dict[str, tuple[float, float]] = {}
    for way in WAYS:
        lost[way] = accuracy(way, 1.0), accuracy(way, 1000.0)
        figures[f"accuracy_{way}_equal"], figures[f"accuracy_{way}_times_1000"] = lost[way]
    return Outcome(
        verdict(all(dominated < fair - 0.15 for fair, dominated in lost.values())),
        f"Four classes beside a regression, accuracy with the regression at weight 1 and at weight 1,000: "
        f"{percent(lost['sgd'][0], 0)} and {percent(lost['sgd'][1], 0)} with SGD (the step scaled back so that it does "
        f"not diverge), {percent(lost['adam'][0], 0)} and {percent(lost['adam'][1], 0)} with Adam.",
        figures,
    )


EXPERIMENT = Experiment(
    id="optimizer-balance",
    claim="The optimizer does not balance a sum: beside a task of 1,000 times its size a task is hardly learned.",
    rules=("LP501",),
    measure=measure,
    folk="The optimizer will balance the losses.",
)
