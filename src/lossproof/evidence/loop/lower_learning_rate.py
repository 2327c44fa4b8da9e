"""A wrong objective under a range of learning rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, percent, verdict
from lossproof.evidence.material import descend, layers

if TYPE_CHECKING:
    import torch

RATES = (0.2, 0.02, 0.002)


def measure(setting: Setting) -> Outcome:
    """A column of predictions against a row of targets, and gradients cut by ``round``, at three learning rates."""
    x = setting.normal(128, 6, seed=1)
    y = x @ setting.normal(6, seed=2)
    variance = float(y.var(correction=0))

    def left(objective: str, lr: float) -> float:
        """How much of the variance is left to explain after 150 steps."""
        network = layers(setting, 6, 1)

        def loss(_: int) -> torch.Tensor:
            column: torch.Tensor = network(x)
            if objective == "broadcast":
                return (column - y).square().mean()
            answer = column.squeeze(1)
            if objective == "rounded":
                answer = answer.round()
            return (answer - y).square().mean()

        descend(network.parameters(), loss, 150, lr=lr)
        return float((network(x).squeeze(1) - y).square().mean().detach()) / variance

    ends = {name: [left(name, lr) for lr in RATES] for name in ("right", "broadcast", "rounded")}
    figures: dict[str, Figure] = {
        f"left_{name}_lr_{lr:g}": value
        for name, values in ends.items()
        for lr, value in zip(RATES, values, strict=True)
    }
    figures["untrained"] = left_untrained = float(
        (layers(setting, 6, 1)(x).squeeze(1) - y).square().mean().detach() / variance
    )
    best = {name: min(values) for name, values in ends.items()}
    return Outcome(
        verdict(best["right"] < 0.1 and best["broadcast"] > 0.8 and abs(best["rounded"] - left_untrained) < 1e-6),
        f"Variance of the targets that is left after 150 steps at learning rates of {', '.join(map(str, RATES))}: "
        f"{', '.join(map(percent, ends['right']))} with the right loss; {', '.join(map(percent, ends['broadcast']))} "
        f"with (N, 1) against (N,); {', '.join(map(percent, ends['rounded']))} through round(), where the untrained "
        f"model leaves {percent(left_untrained)}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="lower-learning-rate",
    claim="A lower learning rate does not mend a wrong objective: it gets to the wrong place more slowly.",
    rules=("LP302", "LP303"),
    measure=measure,
    folk="The loss does not fall: lower the learning rate.",
)
