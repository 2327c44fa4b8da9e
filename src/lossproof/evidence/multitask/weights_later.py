"""Task weights that are put right late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.descent import ADAM
from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, verdict
from lossproof.evidence.material import descend, layers, share

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """200 steps under a weight of 1,000, then 150 under 1, beside 150 under 1 alone: the accuracy of the classes."""
    import torch
    import torch.nn.functional as F

    x = setting.normal(256, 16, seed=1)
    kind = (x @ setting.normal(16, 4, seed=2)).argmax(1)
    amount = x @ setting.normal(16, seed=3) / 4 + 0.1 * setting.normal(256, seed=4)

    def accuracy(*phases: tuple[float, int]) -> list[float]:
        """After each phase of a weight and a number of steps."""
        trunk, head, tail = layers(setting, 16, 4, seed=1), layers(setting, 4, 4, seed=2), layers(setting, 4, 1, seed=3)
        reached = []
        for weight, steps in phases:

            def loss(_: int, weight: float = weight) -> torch.Tensor:
                z = torch.tanh(trunk(x))
                return F.cross_entropy(head(z), kind) + weight * F.mse_loss(tail(z).squeeze(1), amount)

            parameters = [*trunk.parameters(), *head.parameters(), *tail.parameters()]
            descend(parameters, loss, steps, lr=0.01, method=ADAM)
            reached.append(share(head(torch.tanh(trunk(x))).argmax(1) == kind))
        return reached

    wrong, late = accuracy((1000.0, 200), (1.0, 150))
    (early,) = accuracy((1.0, 150))
    return Outcome(
        verdict(wrong < early - 0.15 and late > early - 0.05),
        f"After 200 steps of Adam beside a task of weight 1,000 the classes are at {percent(wrong, 0)} accuracy; the "
        f"weight is put right, and after 150 steps more it is {percent(late, 0)}. 150 steps with the right weight from "
        f"the start reach {percent(early, 0)}.",
        {"accuracy_wrong_weights": wrong, "accuracy_put_right": late, "accuracy_right_from_the_start": early},
    )


EXPERIMENT = Experiment(
    id="weights-later",
    claim="Task weights that are put right late cost the steps before, not the network.",
    rules=("LP501",),
    measure=measure,
    folk="The weights of the tasks can be tuned later.",
)
