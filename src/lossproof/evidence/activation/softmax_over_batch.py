"""A softmax over the batch: the examples compete with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.digits import CLASSES, PIXELS, digits
from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, percent, say, verdict
from lossproof.evidence.material import layers
from lossproof.evidence.workbench import accuracy, train

if TYPE_CHECKING:
    from lossproof.evidence.workbench import Loss

STEPS, SEEDS = 400, 2


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    def over(dim: int) -> Loss:
        return lambda z, y: F.nll_loss(z.log_softmax(dim), y)

    rows = setting.tensor([[2.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    favourite = [float(each) for each in rows.softmax(0)[0]]
    alone = setting.tensor([[3.0, 0.0, 1.0]], grad=True)
    lonely = over(0)(alone, setting.tensor([1]))
    silent = float(torch.autograd.grad(lonely, alone)[0].abs().max())
    data = digits(setting)
    right: dict[int, list[float]] = {0: [], 1: []}
    for seed in range(SEEDS):
        for dim in (0, 1):
            model = layers(setting, PIXELS, 64, CLASSES, seed=seed)
            train(model, over(dim), data.x, data.y, setting, steps=STEPS, seed=seed)
            right[dim].append(accuracy(model, data.test_x, data.test_y))
    return Outcome(
        verdict(float(lonely) == 0 and silent == 0 and favourite[0] < favourite[1] and max(right[0]) < min(right[1])),
        f"The row (2, 0, 0) beside the row (5, 0, 0) becomes ({', '.join(say(each, 2) for each in favourite)}): its "
        f"favourite comes last. A batch of one has loss {say(float(lonely) + 0.0)} and gradient {say(silent)}. On "
        f"{data.name}, {STEPS} SGD steps, {SEEDS} seeds: {percent(min(right[0]))} to {percent(max(right[0]))} of "
        f"held-out images right over the batch, {percent(min(right[1]))} to {percent(max(right[1]))} over the classes.",
        {
            "favourite": favourite[0],
            "others": favourite[1],
            "loss_of_one": number(float(lonely) + 0.0),
            "gradient_of_one": silent,
            "accuracy_worst": min(right[0]),
            "accuracy_best": max(right[0]),
            "right_accuracy_worst": min(right[1]),
            "right_accuracy_best": max(right[1]),
            "steps": STEPS,
            "seeds": SEEDS,
            "data": data.name,
        },
    )


EXPERIMENT = Experiment(
    id="softmax-over-batch",
    claim="A softmax over the batch lets examples compete with each other, and one example alone teaches nothing.",
    rules=("LP109",),
    measure=measure,
    seconds=3.0,
)
