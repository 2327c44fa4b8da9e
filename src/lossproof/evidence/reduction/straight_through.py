"""A hard decision in the loss that can be trained all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.material import descend

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """A linear model whose rounded answer is compared with whole numbers: 200 steps with and without the estimator."""
    import torch

    x = setting.normal(256, 3, seed=1)
    y = (3 * x @ setting.tensor([2.0, -1.0, 0.5])).round()

    def trained(through: bool) -> tuple[float, float]:
        w = torch.zeros(3, device=setting.device, requires_grad=True)

        def loss(_: int) -> torch.Tensor:
            z = x @ w
            hard = z + (z.round() - z).detach() if through else z.round()
            return (hard - y).square().mean()

        first = float(loss(0).detach())
        return first, descend([w], loss, 200, lr=0.1)

    start, plain = trained(through=False)
    _, estimated = trained(through=True)
    return Outcome(
        verdict(plain == start and estimated < 0.05 * start),
        f"The squared error of rounded answers starts at {say(start)}; after 200 steps it is {say(plain)} through "
        f"round() and {say(estimated)} through x + (x.round() - x).detach().",
        {"start": start, "round": plain, "straight_through": estimated},
    )


EXPERIMENT = Experiment(
    id="straight-through",
    claim="A loss on rounded values does not move the model; a straight-through estimator trains it.",
    rules=("LP302",),
    measure=measure,
)
