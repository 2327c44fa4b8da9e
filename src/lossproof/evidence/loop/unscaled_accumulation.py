"""One batch of 128, eight of 16 with the loss divided, eight of 16 without."""

from __future__ import annotations

import math

from lossproof.evidence.descent import Descent
from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, say, verdict
from lossproof.evidence.material import backward, gradient, layers


def measure(setting: Setting) -> Outcome:
    """A regression with 64 tanh units: the first gradient, and the loss after 100 steps of SGD and Adam."""
    import torch.nn.functional as F

    x = setting.normal(128, 10, seed=1)
    y = (x @ setting.normal(10, seed=2) / 2).sin()

    def trained(method: str, lr: float, parts: int, divide: int, steps: int) -> tuple[float, float]:
        """The length of the last gradient, and the loss in the end."""
        network = layers(setting, 10, 64, 1, activation="Tanh")
        descent = Descent(network.parameters(), method, lr)
        size = 0.0
        for _ in range(steps):
            network.zero_grad()
            for some_x, some_y in zip(x.chunk(parts), y.chunk(parts), strict=True):
                backward(F.mse_loss(network(some_x).squeeze(1), some_y) / divide)
            size = float(gradient(network).norm())
            descent.step([parameter.grad for parameter in descent.parameters])
        return size, float(F.mse_loss(network(x).squeeze(1), y).detach())

    loops = {"whole": (1, 1), "divided": (8, 8), "undivided": (8, 1)}
    first = {name: trained("SGD", 0.1, *loop, 1)[0] for name, loop in loops.items()}
    sgd = {name: trained("SGD", 0.3, *loop, 60)[1] for name, loop in loops.items()}
    adam = {name: trained("Adam", 0.01, *loop, 60)[1] for name, loop in loops.items()}
    figures: dict[str, Figure] = {f"gradient_{name}": size for name, size in first.items()}
    figures.update({f"sgd_{name}": loss for name, loss in sgd.items()})
    figures.update({f"adam_{name}": loss for name, loss in adam.items()})
    times = first["undivided"] / first["whole"]
    return Outcome(
        verdict(
            abs(times - 8) < 0.01
            and abs(first["divided"] / first["whole"] - 1) < 1e-3
            and (not math.isfinite(sgd["undivided"]) or sgd["undivided"] > 2 * sgd["whole"])
            and abs(adam["undivided"] / adam["whole"] - 1) < 0.05
        ),
        f"Eight batches of 16 instead of one of 128: without dividing the loss the gradient is {say(times)} times as "
        f"long. After 60 steps of SGD the loss is {say(sgd['whole'])} with one batch, {say(sgd['divided'])} divided, "
        f"{say(sgd['undivided'])} not divided; of Adam {say(adam['whole'])}, {say(adam['divided'])} and "
        f"{say(adam['undivided'])}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="unscaled-accumulation",
    claim="Accumulating k batches without dividing the loss makes the gradient k times as long; Adam hides it.",
    rules=("LP702",),
    measure=measure,
)
