"""Prediction and target exchanged: a loss that falls for ever."""

from __future__ import annotations

from lossproof.evidence.digits import PIXELS, digits
from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, percent, say, verdict
from lossproof.evidence.material import layers
from lossproof.evidence.workbench import train

DIGIT, STEPS = 3, 300


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    def swapped(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(y, z.squeeze(-1))

    def plain(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(z.squeeze(-1), y)

    logits, labels = setting.tensor([3.0, -2.0, 5.0], grad=True), setting.tensor([1.0, 0.0, 0.0])
    total = F.binary_cross_entropy_with_logits(labels, logits, reduction="sum")
    slopes = [float(each) + 0.0 for each in torch.autograd.grad(total, logits)[0]]
    data = digits(setting)
    y, test_y = (data.y == DIGIT).float(), (data.test_y == DIGIT).float()
    last, right, yes = {}, {}, {}
    for name, loss in (("swapped", swapped), ("plain", plain)):
        model = layers(setting, PIXELS, 32, 1)
        train(model, loss, data.x, y, setting, steps=STEPS)
        with torch.no_grad():
            z = model(data.test_x).squeeze(1)
            last[name] = float(loss(z, test_y))
            right[name] = float(((z > 0) == (test_y > 0)).float().mean())
            yes[name] = float((z > 0).float().mean())
    return Outcome(
        verdict(slopes == [-1.0, 0.0, 0.0] and last["swapped"] < -100 and right["swapped"] < right["plain"] - 0.2),
        f"The gradient is minus the label whatever the logit is: {', '.join(map(say, slopes))} for labels 1, 0, 0. On "
        f'{data.name}, "is it a {DIGIT}?", {STEPS} SGD steps: swapped, the loss falls to {say(last["swapped"])}, '
        f"{percent(yes['swapped'], 0)} of held-out images are called a {DIGIT} and {percent(right['swapped'])} are "
        f"right; in the right order {say(last['plain'])} and {percent(right['plain'])}.",
        {
            "gradient_positive": slopes[0],
            "gradient_negative": slopes[1],
            "loss": number(last["swapped"]),
            "plain_loss": number(last["plain"]),
            "accuracy": right["swapped"],
            "plain_accuracy": right["plain"],
            "called_positive": yes["swapped"],
            "steps": STEPS,
            "data": data.name,
        },
    )


EXPERIMENT = Experiment(
    id="swapped-arguments",
    claim="With prediction and target exchanged a loss has no minimum: it falls, and everything is called positive.",
    rules=("LP108",),
    measure=measure,
    folk="The loss falls, so the model learns.",
    seconds=2.0,
)
