"""A feature network that judges images, frozen and trained along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.material import convolutions, descend, made, pictures

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """A small generator removes noise; three convolutions compare its images with the clean ones; 120 steps of Adam."""
    import torch.nn.functional as F

    clean = pictures(setting, 12)
    noisy = clean + 0.3 * setting.normal(*clean.shape, seed=2)

    def trained(held: bool) -> tuple[float, float]:
        """The loss that the judge sees in the end, and the squared error of the images."""
        generator = made(setting, lambda: convolutions(3, 8, 3)[:-1], seed=1)
        judge = made(setting, lambda: convolutions(3, 8, 16, 16)[:-1], seed=2).requires_grad_(held)
        parameters = [*generator.parameters(), *(judge.parameters() if held else ())]

        def loss(_: int) -> torch.Tensor:
            return F.mse_loss(judge(generator(noisy)), judge(clean))

        seen = descend(parameters, loss, 120, lr=0.01, method="Adam")
        return seen, float(F.mse_loss(generator(noisy), clean).detach())

    loss, error = trained(held=False)
    held_loss, held_error = trained(held=True)
    return Outcome(
        verdict(held_loss < 0.2 * loss and held_error > 2 * error),
        f"With a frozen judge the feature loss ends at {say(loss)} and the squared error of the images at "
        f"{say(error)}; where the optimizer holds the judge too, at {say(held_loss)} and {say(held_error)}: "
        f"images {held_error / error:.0f} times worse at a smaller loss.",
        {"loss_frozen": loss, "error_frozen": error, "loss_trained": held_loss, "error_trained": held_error},
    )


EXPERIMENT = Experiment(
    id="trainable-judge",
    claim="A feature network that the optimizer holds learns to see no difference: less loss, worse images.",
    rules=("LP601",),
    measure=measure,
)
