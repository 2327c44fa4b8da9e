"""Guards that come after the operation: the value is finite, the gradient is NaN."""

from __future__ import annotations

import math

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, say, verdict
from lossproof.evidence.workbench import at, value_and_gradient


def measure(setting: Setting) -> Outcome:
    import torch

    after = {
        "where(x > 0, log(x), 0)": at(lambda x: torch.where(x > 0, torch.log(x), 0.0), 0.0, setting),
        "where(x > 0, sqrt(x), 0)": at(lambda x: torch.where(x > 0, torch.sqrt(x), 0.0), 0.0, setting),
        "where(x != 0, 1 / x, 0)": at(lambda x: torch.where(x != 0, 1 / x, 0.0), 0.0, setting),
        "nan_to_num(x * log(x))": at(lambda x: torch.nan_to_num(x * torch.log(x)), 0.0, setting),
        "log(x).masked_fill(x <= 0, 0)": at(lambda x: torch.log(x).masked_fill(x <= 0, 0.0), 0.0, setting),
    }
    zero = setting.tensor([0.0, 2.0])
    before = {
        "where(x > 0, log(where(x > 0, x, 1)), 0)": value_and_gradient(
            lambda x: torch.where(x > 0, torch.log(torch.where(x > 0, x, 1.0)), 0.0), zero
        )[1][0],
        "log(x[x > 0])": value_and_gradient(lambda x: torch.log(x[x > 0]), zero)[1][0],
    }
    said = ", ".join(f"`{name}` {say(value)} and {say(slope)}" for name, (value, slope) in after.items())
    kind = ", ".join(f"`{name}` {say(slope)}" for name, slope in before.items())
    return Outcome(
        verdict(
            all(math.isfinite(value) and not math.isfinite(slope) for value, slope in after.values())
            and all(map(math.isfinite, before.values()))
        ),
        f"Value and gradient at 0: {said}. The gradient where the guard comes first: {kind}.",
        {
            **{name: number(value) for name, (value, _) in after.items()},
            **{f"gradient of {name}": number(slope) for name, (_, slope) in after.items()},
            **{f"gradient of {name}": number(slope) for name, slope in before.items()},
        },
    )


EXPERIMENT = Experiment(
    id="where-gradient",
    claim="A guard after the operation (where, nan_to_num, a mask) gives a finite value and a NaN gradient.",
    rules=("LP206",),
    measure=measure,
    folk="Masking the bad values protects the gradient.",
    seconds=1.0,
)
