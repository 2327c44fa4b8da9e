"""The logarithm at zero, below zero, and of a difference that vanishes."""

from __future__ import annotations

import math

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, say, verdict
from lossproof.evidence.workbench import at

BELOW, EDGE = -0.001, 1e-8


def measure(setting: Setting) -> Outcome:
    import torch

    zero, zero_slope = at(lambda p: -torch.log(p), 0.0, setting)
    below, below_slope = at(lambda p: -torch.log(p), BELOW, setting)
    same, same_slope = at(lambda a: torch.log((a - 1.0).abs()), 1.0, setting)
    upper, _ = at(lambda p: torch.log(1 - p.clamp(EDGE, 1 - EDGE)), 1.0, setting)
    guarded, guarded_slope = at(lambda x: -torch.log(torch.nn.functional.softplus(x) + 1e-6), -3.0, setting)
    broken = [zero, zero_slope, below, same, same_slope, upper]
    return Outcome(
        verdict(not any(map(math.isfinite, broken)) and math.isfinite(guarded + guarded_slope)),
        f"`-log(p)` is {say(zero)} at 0 with gradient {say(zero_slope)}, and {say(below)} at {say(BELOW)} with "
        f"gradient {say(below_slope)}. `log(abs(a - b))` is {say(same)} at a = b with gradient {say(same_slope)}. "
        f"log(1 - p) after clamp(p, {say(EDGE)}, 1 - {say(EDGE)}) is {say(upper)} at 1. Of a softplus it is "
        f"finite: {say(guarded)}, gradient {say(guarded_slope)}.",
        {
            "at_zero": number(zero),
            "gradient_at_zero": number(zero_slope),
            "below": BELOW,
            "below_zero": number(below),
            "gradient_below_zero": number(below_slope),
            "of_no_difference": number(same),
            "gradient_of_no_difference": number(same_slope),
            "edge": EDGE,
            "after_clamp": number(upper),
            "of_softplus": number(guarded),
            "gradient_of_softplus": number(guarded_slope),
        },
    )


EXPERIMENT = Experiment(
    id="log-of-zero",
    claim="A logarithm of what is zero or negative is infinite or NaN, and a clamp by 1e-8 does not guard log(1 - p).",
    rules=("LP202",),
    measure=measure,
    seconds=1.0,
)
