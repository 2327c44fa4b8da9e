"""How much of a sum a task is, and how much of the gradient."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import layers, pulls, shares


def measure(setting: Setting) -> Outcome:
    """Four classes and a price around 5,000 from one shared layer: shares of the sum and of the shared gradient."""
    import torch
    import torch.nn.functional as F

    x = setting.normal(512, 16, seed=1)
    kind = (x @ setting.normal(16, 4, seed=2)).argmax(1)
    price = 5000 + 1500 * (x @ setting.normal(16, seed=3) / 4)
    trunk, head, tail = layers(setting, 16, 64, seed=1), layers(setting, 64, 4, seed=2), layers(setting, 64, 1, seed=3)
    z = torch.relu(trunk(x))
    classes = F.cross_entropy(head(z), kind)

    def beside(other: torch.Tensor) -> tuple[float, float, float]:
        own, theirs = pulls([classes, other], trunk.parameters())
        value = other.detach()
        return float(value), shares([classes.detach(), value])[0], shares([own.norm(), theirs.norm()])[0]

    squared, of_squared_sum, of_squared_gradient = beside(F.mse_loss(tail(z).squeeze(1), price))
    absolute, of_absolute_sum, of_absolute_gradient = beside(F.l1_loss(tail(z).squeeze(1), price))
    entropy = float(classes.detach())
    return Outcome(
        verdict(of_absolute_gradient > 20 * of_absolute_sum and of_squared_gradient < 0.01),
        f"A cross entropy of {say(entropy)} beside an L1 loss of {say(absolute)} is {percent(of_absolute_sum, 2)} of "
        f"the sum and {percent(of_absolute_gradient, 0)} of the gradient at the shared layer; beside an MSE loss of "
        f"{say(squared)} it is {percent(of_squared_sum, 6)} of the sum and {percent(of_squared_gradient, 3)} of the "
        "gradient.",
        {
            "cross_entropy": entropy,
            "l1": absolute,
            "loss_share_beside_l1": of_absolute_sum,
            "gradient_share_beside_l1": of_absolute_gradient,
            "mse": squared,
            "loss_share_beside_mse": of_squared_sum,
            "gradient_share_beside_mse": of_squared_gradient,
        },
    )


EXPERIMENT = Experiment(
    id="loss-share",
    claim="A task's share of the loss is not its share of the gradient: measure at the shared parameters.",
    rules=("LP501",),
    measure=measure,
    folk="A task that is 95 % of the loss is 95 % of what the model learns.",
    seconds=1.0,
)
