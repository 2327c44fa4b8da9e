"""``reduction`` is a choice: what a sum does to the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.digits import digits
from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import backward, descend, gradient, layers, share

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """The same network and learning rate on digits, with the mean and with the sum of the same batches."""
    import torch.nn.functional as F

    data = digits(setting)
    size = 64

    def length(reduction: str, rows: int) -> float:
        network = layers(setting, 64, 64, 10)
        backward(F.cross_entropy(network(data.x[:rows]), data.y[:rows], reduction=reduction))
        return float(gradient(network).norm())

    def accuracy(reduction: str) -> float:
        network = layers(setting, 64, 64, 10)

        rows = setting.integers(len(data.y), 200, size, seed=1)

        def loss(step: int) -> torch.Tensor:
            return F.cross_entropy(network(data.x[rows[step]]), data.y[rows[step]], reduction=reduction)

        descend(network.parameters(), loss, 200, lr=0.5)
        return share(network(data.test_x).argmax(1) == data.test_y)

    mean, summed = accuracy("mean"), accuracy("sum")
    times = length("sum", size) / length("mean", size)
    whole_to_rest = length("sum", size) / length("sum", 8)
    return Outcome(
        verdict(abs(times / size - 1) < 0.01 and mean - summed > 0.2),
        f"On {data.name}, batches of {size}: the gradient of the sum is {say(times)} times that of the mean; at a "
        f"learning rate of 0.5 the mean reaches {percent(mean)} and the sum {percent(summed)} after 200 steps. A last "
        f"batch of 8 moves the model {say(whole_to_rest)} times less than a full one under the sum.",
        {"gradient_times": times, "accuracy_mean": mean, "accuracy_sum": summed, "full_to_last_batch": whole_to_rest},
    )


EXPERIMENT = Experiment(
    id="sum-or-mean",
    claim="The reduction is part of the objective: a sum multiplies the step by the batch size.",
    rules=("LP304", "LP702"),
    measure=measure,
    folk="The reduction of a loss is optional.",
)
