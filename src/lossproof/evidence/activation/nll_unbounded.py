"""nll_loss on what is not a log-probability: on raw logits, and on probabilities."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, percent, say, verdict
from lossproof.evidence.material import layers
from lossproof.evidence.workbench import accuracy, train, value_and_gradient

if TYPE_CHECKING:
    from lossproof.evidence.workbench import Loss

ROWS, CLASSES, STEPS, GAP = 512, 4, 200, 10.0


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    x = setting.normal(ROWS, 8)
    y = (x @ setting.normal(8, CLASSES, seed=1)).argmax(1)
    losses: dict[str, Loss] = {
        "logits": lambda z, y: F.nll_loss(z, y),
        "softmax": lambda z, y: F.nll_loss(z.softmax(1), y),
        "log-softmax": lambda z, y: F.nll_loss(z.log_softmax(1), y),
    }
    last, right = {}, {}
    for name, loss in losses.items():
        model = layers(setting, 8, 32, CLASSES)
        train(model, loss, x, y, setting, steps=STEPS, rate=0.1)
        with torch.no_grad():
            last[name], right[name] = float(loss(model(x), y)), accuracy(model, x, y)
    wrong, one = setting.tensor([[GAP, 0.0]]), setting.tensor([1])
    _, (_, fading) = value_and_gradient(lambda z: F.nll_loss(z.softmax(1), one), wrong)
    _, (_, firm) = value_and_gradient(lambda z: F.nll_loss(z.log_softmax(1), one), wrong)
    unbounded = not math.isfinite(last["logits"]) or last["logits"] < -1000
    return Outcome(
        verdict(unbounded and right["logits"] < right["log-softmax"] - 0.1 and abs(fading) < 0.01 and abs(firm) > 0.99),
        f"{STEPS} SGD steps, {CLASSES} classes: on raw logits the loss is at {say(last['logits'])} with "
        f"{percent(right['logits'])} right; on probabilities at {say(last['softmax'])} with "
        f"{percent(right['softmax'])}; on log-probabilities at {say(last['log-softmax'])} with "
        f"{percent(right['log-softmax'])}. Wrong by a gap of {say(GAP)}, the gradient is {say(fading)} on "
        f"probabilities and {say(firm)} on log-probabilities.",
        {
            "loss_logits": number(last["logits"]),
            "loss_softmax": number(last["softmax"]),
            "loss_log_softmax": number(last["log-softmax"]),
            "accuracy_logits": right["logits"],
            "accuracy_softmax": right["softmax"],
            "accuracy_log_softmax": right["log-softmax"],
            "gap": GAP,
            "gradient_softmax": number(fading),
            "gradient_log_softmax": number(firm),
            "steps": STEPS,
        },
    )


EXPERIMENT = Experiment(
    id="nll-unbounded",
    claim="On raw logits nll_loss falls without end and learns nothing; on probabilities its gradient fades.",
    rules=("LP104",),
    measure=measure,
    seconds=2.0,
)
