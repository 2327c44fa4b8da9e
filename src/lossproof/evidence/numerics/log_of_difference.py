"""The logarithm of a difference as a loss, bare and with an epsilon."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.material import descend, pull

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """One feature of eight that is right already; then 300 steps with an epsilon and with a squared error."""
    import torch

    target = setting.normal(8, seed=1)
    close = target + setting.tensor([0.0, 1e-6, 1e-3, 0.1, 0.3, 0.5, 0.8, 1.0])
    bare, slopes = pull(lambda p: torch.log((p - target).abs()).mean(), close)
    guarded, guarded_slopes = pull(lambda p: torch.log((p - target).abs() + 1e-8).mean(), close)
    steep = float(guarded_slopes[1] / guarded_slopes[-1])

    def left(squared: bool) -> float:
        """The largest difference after training 64 numbers."""
        wanted = setting.normal(64, seed=2)
        free = torch.zeros(64, device=setting.device, requires_grad=True)

        def loss(_: int) -> torch.Tensor:
            difference = free - wanted
            return difference.square().mean() if squared else torch.log(difference.abs() + 1e-8).mean()

        descend([free], loss, 300, lr=1.0)
        return float((free - wanted).detach().abs().max())

    ends, ends_squared = left(squared=False), left(squared=True)
    return Outcome(
        verdict(
            math.isinf(bare)
            and not bool(slopes.isfinite().all())
            and math.isfinite(guarded)
            and ends > 100 * ends_squared
        ),
        f"One of eight features equal to its target: log(|difference|).mean() is {say(bare)} and its gradient there "
        f"{say(float(slopes[0]))}. With 1e-8 added it is {say(guarded)}, and a difference of 1e-6 has a gradient "
        f"{say(steep)} times that of a difference of 1: after 300 steps the "
        f"largest difference of 64 is {say(ends)}, with a squared error {say(ends_squared)}.",
        {
            "loss": bare,
            "gradient_at_equal": float(slopes[0]),
            "loss_guarded": guarded,
            "gradient_times": steep,
            "largest_left": ends,
            "largest_left_squared": ends_squared,
        },
    )


EXPERIMENT = Experiment(
    id="log-of-difference",
    claim="A loss of log(|a - b|) is lowest for a single exact feature; an epsilon makes it finite, not sound.",
    rules=("LP202",),
    measure=measure,
    folk="Add an epsilon to log((a - b).abs()), and it is a stable loss.",
)
