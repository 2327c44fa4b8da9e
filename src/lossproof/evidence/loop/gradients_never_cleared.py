"""A training loop that clears its gradients, one that never does, one that does it too early."""

from __future__ import annotations

import math

from lossproof.evidence.descent import Descent
from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, say, verdict
from lossproof.evidence.material import backward, layers


def measure(setting: Setting) -> Outcome:
    """A regression with 64 tanh units, 250 steps: the loss at the end for SGD and Adam."""
    import torch.nn.functional as F

    x = setting.normal(512, 10, seed=1)
    y = (x @ setting.normal(10, seed=2) / 2).sin()
    rows = setting.integers(512, 250, 64, seed=3)
    nothing = float(y.square().mean())

    def last(method: str, lr: float, cleared: str) -> float:
        network = layers(setting, 10, 64, 1, activation="Tanh")
        descent = Descent(network.parameters(), method, lr)
        for chosen in rows:
            if cleared == "before":
                network.zero_grad()
            backward(F.mse_loss(network(x[chosen]).squeeze(1), y[chosen]))
            if cleared == "between":
                network.zero_grad(set_to_none=False)
            descent.step([parameter.grad for parameter in descent.parameters])
        return float(F.mse_loss(network(x).squeeze(1), y).detach())

    start = float(F.mse_loss(layers(setting, 10, 64, 1, activation="Tanh")(x).squeeze(1), y).detach())
    ways = {"sgd": ("SGD", 0.1), "adam": ("Adam", 0.01)}
    ends = {
        (name, cleared): last(method, lr, cleared)
        for name, (method, lr) in ways.items()
        for cleared in ("before", "never", "between")
    }
    figures: dict[str, Figure] = {"start": start, "always_zero": nothing}
    figures.update({f"{name}_{cleared}": loss for (name, cleared), loss in ends.items()})

    def worse(name: str) -> bool:
        never = ends[name, "never"]
        return not math.isfinite(never) or never > 2 * ends[name, "before"]

    return Outcome(
        verdict(
            all(ends[name, "before"] < nothing and worse(name) and ends[name, "between"] == start for name in ways)
        ),
        f"After 250 steps the loss is {say(ends['sgd', 'before'])} with SGD and {say(ends['adam', 'before'])} with "
        f"Adam where gradients are cleared, {say(ends['sgd', 'never'])} and "
        f"{say(ends['adam', 'never'])} where they never are. Cleared between backward() and step() it stays at "
        f"{say(ends['sgd', 'between'])}, as at the start. Always answering 0 has {say(nothing)}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="gradients-never-cleared",
    claim="Without zero_grad() every step uses the sum of all gradients so far: SGD diverges and Adam ends worse.",
    rules=("LP701",),
    measure=measure,
)
