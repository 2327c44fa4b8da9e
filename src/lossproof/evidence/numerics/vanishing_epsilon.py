"""Epsilons that a number format rounds away."""

from __future__ import annotations

import math

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, number, say, verdict

EPSILON, COARSE = 1e-8, 1e-4


def measure(setting: Setting) -> Outcome:
    import torch

    def held(value: float, name: str) -> float:
        return float(setting.tensor(value, getattr(torch, name)))

    figures: dict[str, Figure] = {"epsilon": EPSILON}
    near_zero = {name: held(EPSILON, name) for name in ("float32", "float16", "bfloat16")}
    near_one = {name: held(1 - EPSILON, name) for name in near_zero}
    figures |= {f"epsilon in {name}": value for name, value in near_zero.items()}
    figures |= {f"1 - epsilon in {name}": value for name, value in near_one.items()}
    coarse = {name: held(1 - COARSE, name) for name in ("float16", "bfloat16")}
    figures |= {"coarse epsilon": COARSE, **{f"1 - coarse epsilon in {name}": value for name, value in coarse.items()}}
    one, zero = setting.tensor(1.0), setting.tensor(0.0, torch.float16)
    p = one.clamp(EPSILON, 1 - EPSILON)
    right, wrong = float(one * p.log() + (1 - one) * (1 - p).log()), float((1 - p).log())
    quotient = float(zero / (zero + EPSILON))
    beside_zero = float(((1 - one) + EPSILON).log())
    figures |= {
        "clamped, right": number(right),
        "clamped, wrong": number(wrong),
        "float16 quotient": number(quotient),
        "float32 beside zero": number(beside_zero),
    }
    return Outcome(
        verdict(
            near_zero["float16"] == 0
            and near_one["float32"] == 1
            and near_zero["float32"] > 0
            and coarse == {"float16": 1, "bfloat16": 1}
            and not any(map(math.isfinite, (right, wrong, quotient)))
            and math.isfinite(beside_zero)
        ),
        f"{say(EPSILON)} is {say(near_zero['float16'])} in float16, and 1 - {say(EPSILON)} is "
        f"{say(near_one['float32'])} in float32; 1 - {say(COARSE)} is {say(coarse['float16'])} in float16 and "
        f"{say(coarse['bfloat16'])} in bfloat16. So 0 / (0 + {say(EPSILON)}) in float16 is {say(quotient)}; after "
        f"clamp(p, {say(EPSILON)}, 1 - {say(EPSILON)}) log(1 - p) at p = 1 is {say(wrong)}, and the cross entropy of a "
        f"right answer {say(right)}. Next to 0 float32 keeps it: log((1 - p) + {say(EPSILON)}) is {say(beside_zero)}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="vanishing-epsilon",
    claim="An epsilon of 1e-8 is 0 in float16, and 1 - 1e-8 is 1 in float32: the guard is written and not there.",
    rules=("LP205",),
    measure=measure,
    folk="An epsilon of 1e-8 is always safe.",
    seconds=1.0,
)
