"""What a model says depends on the loss that it was trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.material import descend

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """One constant, fitted to skewed numbers with three losses."""
    import torch
    import torch.nn.functional as F

    y = (1.2 * setting.normal(2000, seed=1)).exp()
    losses: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "squared": lambda c: F.mse_loss(c.expand(2000), y),
        "absolute": lambda c: F.l1_loss(c.expand(2000), y),
        "quantile": lambda c: torch.maximum(0.9 * (y - c), -0.1 * (y - c)).mean(),
    }
    said = {}
    for name, loss in losses.items():
        constant = torch.zeros(1, device=setting.device, requires_grad=True)
        descend([constant], lambda _, loss=loss, c=constant: loss(c), 600, lr=0.1, method="Adam")  # type: ignore[misc]
        said[name] = float(constant.detach())
    mean, median, high = float(y.mean()), float(y.median()), float(y.quantile(0.9))
    return Outcome(
        verdict(
            abs(said["squared"] / mean - 1) < 0.05
            and abs(said["absolute"] / median - 1) < 0.05
            and abs(said["quantile"] / high - 1) < 0.05
            and said["squared"] > 1.5 * said["absolute"]
        ),
        f"Fitted to the same skewed numbers, a squared error ends at {say(said['squared'])} (their mean is "
        f"{say(mean)}), an absolute error at {say(said['absolute'])} (the median is {say(median)}), a quantile loss at "
        f"{say(said['quantile'])} (90 % are below {say(high)}).",
        {
            "squared": said["squared"],
            "mean": mean,
            "absolute": said["absolute"],
            "median": median,
            "quantile": said["quantile"],
            "quantile_90": high,
        },
    )


EXPERIMENT = Experiment(
    id="loss-decides",
    claim="The loss decides what is learned: a squared error learns the mean, an absolute one the median.",
    rules=(),
    measure=measure,
    folk="The loss does not matter much as long as it falls.",
)
