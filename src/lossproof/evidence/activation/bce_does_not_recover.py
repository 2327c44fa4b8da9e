"""A network whose first logits are far out, because its inputs are: what can it still learn?"""

from __future__ import annotations

from lossproof.evidence.descent import ADAM
from lossproof.evidence.digits import PIXELS, digits
from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import layers
from lossproof.evidence.workbench import train

SCALE, DIGIT, STEPS, SEEDS = 10_000.0, 3, 120, 3


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    def two_steps(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy(z.squeeze(1).sigmoid(), y)

    def fused(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(z.squeeze(1), y)

    data = digits(setting)
    x, y, test_x = data.x * SCALE, (data.y == DIGIT).float(), data.test_x * SCALE
    dead: list[float] = []
    right: dict[str, list[float]] = {"two steps": [], "fused": []}
    for seed in range(SEEDS):
        for name, form in (("two steps", two_steps), ("fused", fused)):
            model = layers(setting, PIXELS, 64, 1, seed=seed)
            if name == "two steps":
                z = model(x)
                (slope,) = torch.autograd.grad(form(z, y), z)
                wrong = (z.squeeze(1) > 0) != (y > 0)
                dead.append(float((slope.squeeze(1)[wrong] == 0).float().mean()))
            train(model, form, x, y, setting, steps=STEPS, rate=1e-3, method=ADAM, seed=seed)
            with torch.no_grad():
                right[name].append(
                    float(((model(test_x).squeeze(1) > 0) == (data.test_y == DIGIT)).sum()) / len(test_x)
                )
    mean = {name: sum(each) / SEEDS for name, each in right.items()}
    never = int((data.test_y != DIGIT).sum()) / len(test_x)
    return Outcome(
        verdict(mean["fused"] - mean["two steps"] > 0.02 and min(right["two steps"]) <= never),
        f'On {data.name}, "is it a {DIGIT}?", inputs from 0 to {say(SCALE)}, {STEPS} Adam steps, {SEEDS} seeds: of '
        f"the first mistakes {percent(min(dead), 0)} to {percent(max(dead), 0)} had a gradient of exactly 0. Held-out "
        f"images right: {percent(min(right['two steps']))} to {percent(max(right['two steps']))} with sigmoid and BCE, "
        f"{percent(min(right['fused']))} to {percent(max(right['fused']))} with logits; {percent(never)} for who "
        f"always says no.",
        {
            "scale": SCALE,
            "steps": STEPS,
            "seeds": SEEDS,
            "dead_least": min(dead),
            "dead_most": max(dead),
            "accuracy_worst": min(right["two steps"]),
            "accuracy_best": max(right["two steps"]),
            "fused_accuracy_worst": min(right["fused"]),
            "fused_accuracy_best": max(right["fused"]),
            "always_no": never,
            "data": data.name,
        },
    )


EXPERIMENT = Experiment(
    id="bce-does-not-recover",
    claim="Where the first logits are far out, a sigmoid and BCE may learn nothing at all; the logits form learns.",
    rules=("LP101",),
    measure=measure,
    folk="Nobody has seen a problem with BCE, so there is none.",
    seconds=4.0,
)
