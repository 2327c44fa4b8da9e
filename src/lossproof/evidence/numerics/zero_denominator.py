"""One zero among a million denominators."""

from __future__ import annotations

import math

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, say, verdict

ELEMENTS, FLOOR = 1_000_000, 1.0


def measure(setting: Setting) -> Outcome:
    import torch

    target = 1 + setting.uniform(ELEMENTS)
    features = setting.uniform(ELEMENTS, seed=1)

    def step(floor: float) -> tuple[float, float]:
        weight = setting.tensor(1.0, grad=True)
        loss = ((weight * features / target.clamp(min=floor) - 1) ** 2).mean()
        (slope,) = torch.autograd.grad(loss, weight)
        return float(loss.detach()), float(slope)

    clean, clean_slope = step(0.0)
    target[ELEMENTS // 2] = 0.0
    loss, slope = step(0.0)
    guarded, guarded_slope = step(FLOOR)
    broken = not math.isfinite(loss) and not math.isfinite(slope)
    return Outcome(
        verdict(broken and math.isfinite(clean + clean_slope + guarded + guarded_slope)),
        f"A relative error over {ELEMENTS:,} elements: without a zero among the targets the loss is {say(clean)} and "
        f"the gradient of the weight {say(clean_slope)}; with one zero {say(loss)} and {say(slope)}; with a floor of "
        f"{say(FLOOR)} under the target {say(guarded)} and {say(guarded_slope)}.",
        {
            "elements": ELEMENTS,
            "clean_loss": number(clean),
            "clean_gradient": number(clean_slope),
            "loss": number(loss),
            "gradient": number(slope),
            "floor": FLOOR,
            "guarded_loss": number(guarded),
            "guarded_gradient": number(guarded_slope),
        },
    )


EXPERIMENT = Experiment(
    id="zero-denominator",
    claim="One zero among a million denominators makes the loss and the gradient of every shared weight non-finite.",
    rules=("LP201",),
    measure=measure,
    folk="The data is clean, so the loss needs no guard.",
    seconds=2.0,
)
