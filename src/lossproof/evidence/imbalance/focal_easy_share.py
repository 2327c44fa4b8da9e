"""What focusing has to take away: the share of the gradient that easy examples hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import DEPENDS, DOES_NOT_HOLD, Experiment, Outcome, Setting, percent
from lossproof.evidence.material import pull

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """The share of the gradient on examples with p > 0.9, with and without focusing, where many and few are easy."""
    import torch
    import torch.nn.functional as F

    def share_of_easy(easy: int, hard: int, gamma: float) -> tuple[float, float]:
        z = torch.cat([4 + setting.normal(easy, seed=1), setting.normal(hard, seed=2)])

        def focal(z: torch.Tensor) -> torch.Tensor:
            return ((1 - torch.sigmoid(z)) ** gamma * F.softplus(-z)).sum()

        _, gradient = pull(focal, z)
        sure = torch.sigmoid(z) > 0.9
        return float(sure.float().mean()), float(gradient[sure].abs().sum() / gradient.abs().sum())

    many, plain = share_of_easy(9900, 100, 0.0)
    _, focused = share_of_easy(9900, 100, 2.0)
    few, plain_few = share_of_easy(1000, 9000, 0.0)
    _, focused_few = share_of_easy(1000, 9000, 2.0)
    gain, little = plain - focused, plain_few - focused_few
    return Outcome(
        DEPENDS if gain > 0.3 and little < 0.1 else DOES_NOT_HOLD,
        f"Where {percent(many, 0)} of the examples are easy (p > 0.9), they hold {percent(plain, 0)} of the gradient "
        f"of a cross entropy and {percent(focused)} with gamma 2; where {percent(few, 0)} are easy, "
        f"{percent(plain_few)} and {percent(focused_few)}.",
        {
            "many_easy": many,
            "many_easy_gradient": plain,
            "many_easy_gradient_focused": focused,
            "few_easy": few,
            "few_easy_gradient": plain_few,
            "few_easy_gradient_focused": focused_few,
        },
        condition="where most examples are easy: measure the share with p > 0.9 before you add a focal loss",
    )


EXPERIMENT = Experiment(
    id="focal-easy-share",
    claim="Focusing takes the training away from easy examples and gives it to the hard ones.",
    rules=("LP404",),
    measure=measure,
    seconds=1.0,
)
