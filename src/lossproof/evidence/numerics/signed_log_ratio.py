"""The mean of a log-ratio as a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.material import descend

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """Guarded ``log(pred / target).mean()`` and its square, 300 steps from the same predictions."""
    import torch

    target = 0.5 + setting.uniform(64, seed=1)

    def trained(squared: bool) -> tuple[float, float]:
        """The loss in the end, and the mean of prediction over target."""
        raw = torch.zeros(64, device=setting.device, requires_grad=True)

        def ratio() -> torch.Tensor:
            return torch.exp(raw).clamp(min=1e-8) / target.clamp(min=1e-8)

        def loss(_: int) -> torch.Tensor:
            logs = torch.log(ratio())
            return logs.square().mean() if squared else logs.mean()

        value = descend([raw], loss, 300, lr=0.05, method="Adam")
        return value, float(ratio().detach().mean())

    signed, collapsed = trained(squared=False)
    squared, found = trained(squared=True)
    return Outcome(
        verdict(signed < -5 and collapsed < 0.01 and squared < 0.01 and abs(found - 1) < 0.05),
        f"After 300 steps log(pred / target).mean() is at {say(signed)} and still falling, with predictions at "
        f"{say(collapsed)} of their targets; the mean of its square is at {say(squared)}, with predictions at "
        f"{say(found)} of them.",
        {"signed_loss": signed, "signed_ratio": collapsed, "squared_loss": squared, "squared_ratio": found},
    )


EXPERIMENT = Experiment(
    id="signed-log-ratio",
    claim="The mean of log(pred / target) falls without bound as the prediction goes to 0, guarded or not: square it.",
    rules=("LP201", "LP202"),
    measure=measure,
    folk="log(pred / target).mean() with an epsilon is a sound loss.",
)
