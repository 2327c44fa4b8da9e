"""What a second softmax costs on real images, with plain gradient descent and with Adam."""

from __future__ import annotations

from lossproof.evidence.digits import CLASSES, PIXELS, digits
from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import layers
from lossproof.evidence.workbench import accuracy, train

STEPS, SEEDS, RATE = 600, 2, 0.1


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    def doubled(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(z.softmax(1), y)

    data = digits(setting)
    right: dict[str, list[float]] = {"doubled": [], "plain": []}
    for seed in range(SEEDS):
        for name, loss in (("doubled", doubled), ("plain", F.cross_entropy)):
            model = layers(setting, PIXELS, 64, CLASSES, seed=seed)
            train(model, loss, data.x, data.y, setting, steps=STEPS, rate=RATE, seed=seed)
            right[name].append(accuracy(model, data.test_x, data.test_y))
    worst, best = min(right["doubled"]), max(right["doubled"])
    plain_worst, plain_best = min(right["plain"]), max(right["plain"])
    return Outcome(
        verdict(plain_worst - best > 0.05),
        f"On {data.name}, {STEPS} SGD steps at rate {say(RATE)}, {SEEDS} seeds: {percent(worst)} to {percent(best)} of "
        f"held-out images right with a softmax before cross entropy, {percent(plain_worst)} to {percent(plain_best)} "
        f"without.",
        {
            "accuracy_worst": worst,
            "accuracy_best": best,
            "plain_accuracy_worst": plain_worst,
            "plain_accuracy_best": plain_best,
            "steps": STEPS,
            "seeds": SEEDS,
            "rate": RATE,
            "data": data.name,
        },
    )


EXPERIMENT = Experiment(
    id="double-softmax-learning",
    claim="With a softmax before cross_entropy a network learns far more slowly.",
    rules=("LP102",),
    measure=measure,
    folk="Architecture and data decide; the loss does not matter.",
    seconds=4.0,
)
