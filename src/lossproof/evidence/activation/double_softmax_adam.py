"""Why a second softmax survives: Adam rescales the gradient. The loss and the confidence stay wrong."""

from __future__ import annotations

from lossproof.evidence.descent import ADAM
from lossproof.evidence.digits import CLASSES, PIXELS, digits
from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, percent, say, verdict
from lossproof.evidence.material import layers
from lossproof.evidence.workbench import accuracy, train

STEPS, RATE = 400, 3e-3


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    def doubled(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(z.softmax(1), y)

    data = digits(setting)
    right, final, believed = {}, {}, {}
    for name, loss in (("doubled", doubled), ("plain", F.cross_entropy)):
        model = layers(setting, PIXELS, 64, CLASSES)
        train(model, loss, data.x, data.y, setting, steps=STEPS, rate=RATE, method=ADAM)
        right[name] = accuracy(model, data.test_x, data.test_y)
        with torch.no_grad():
            z = model(data.test_x)
            final[name] = float(loss(z, data.test_y))
            seen = z.softmax(1) if name == "plain" else z.softmax(1).softmax(1)  # what the loss takes for probability
            believed[name] = float(seen.max(1).values.mean())
    return Outcome(
        verdict(abs(right["doubled"] - right["plain"]) < 0.04 and final["doubled"] > 1.4 and believed["doubled"] < 0.3),
        f"On {data.name}, {STEPS} Adam steps: {percent(right['doubled'])} of held-out images right with a second "
        f"softmax, {percent(right['plain'])} without. The loss stands at {say(final['doubled'])} against "
        f"{say(final['plain'])}, and the probabilities that it works with reach {percent(believed['doubled'])} on "
        f"average against {percent(believed['plain'])}.",
        {
            "accuracy": right["doubled"],
            "plain_accuracy": right["plain"],
            "loss": number(final["doubled"]),
            "plain_loss": number(final["plain"]),
            "believed": believed["doubled"],
            "plain_believed": believed["plain"],
            "steps": STEPS,
            "data": data.name,
        },
    )


EXPERIMENT = Experiment(
    id="double-softmax-adam",
    claim="Adam hides most of what a second softmax costs in accuracy, and none of what it does to the loss.",
    rules=("LP102",),
    measure=measure,
    folk="It trains well with a softmax in the model, so nothing is wrong.",
    seconds=3.0,
)
