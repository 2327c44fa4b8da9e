"""Cross entropy over one column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.digits import PIXELS, digits
from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, percent, say, verdict
from lossproof.evidence.material import layers
from lossproof.evidence.workbench import train

if TYPE_CHECKING:
    from torch import nn

DIGIT, STEPS = 3, 300


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    data = digits(setting)
    y = (data.y == DIGIT).float()[:, None]

    def accuracy(model: nn.Module) -> float:
        with torch.no_grad():
            return float(((model(data.test_x).squeeze(1) > 0) == (data.test_y == DIGIT)).float().mean())

    start = accuracy(layers(setting, PIXELS, 32, 1))
    change, last, right = {}, {}, {}
    for name, loss in (("one column", F.cross_entropy), ("logits", F.binary_cross_entropy_with_logits)):
        model = layers(setting, PIXELS, 32, 1)
        before = [each.detach().clone() for each in model.parameters()]
        last[name] = abs(train(model, loss, data.x, y, setting, steps=STEPS)[-1])
        pairs = zip(before, model.parameters(), strict=True)
        change[name] = max(float((old - new).detach().abs().max()) for old, new in pairs)
        right[name] = accuracy(model)
    return Outcome(
        verdict(last["one column"] == 0 and change["one column"] == 0 and change["logits"] > 0.01),
        f'On {data.name}, "is it a {DIGIT}?", {STEPS} SGD steps: cross entropy over one column has loss '
        f"{say(last['one column'])}, no weight has changed by more than {say(change['one column'])}, and "
        f"{percent(right['one column'])} of held-out images are right ({percent(start)} before training); BCE with "
        f"logits gets {percent(right['logits'])}.",
        {
            "loss": number(last["one column"]),
            "largest_change": change["one column"],
            "accuracy": right["one column"],
            "accuracy_before_training": start,
            "bce_largest_change": change["logits"],
            "bce_accuracy": right["logits"],
            "steps": STEPS,
            "data": data.name,
        },
    )


EXPERIMENT = Experiment(
    id="one-class-cross-entropy",
    claim="Cross entropy over one output column is 0 with a gradient of 0, whatever the model and the target are.",
    rules=("LP110",),
    measure=measure,
    seconds=2.0,
)
