"""Roots at zero: the value is fine, the gradient is not."""

from __future__ import annotations

import math

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, say, verdict
from lossproof.evidence.workbench import at, value_and_gradient


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    zeros = torch.zeros(3, device=setting.device)
    slopes = {
        "sqrt(x)": at(torch.sqrt, 0.0, setting)[1],
        "sqrt(x) + 1e-8": at(lambda x: torch.sqrt(x) + 1e-8, 0.0, setting)[1],
        "sqrt(x + 1e-8)": at(lambda x: torch.sqrt(x + 1e-8), 0.0, setting)[1],
        "sqrt((x ** 2).sum())": value_and_gradient(lambda x: (x**2).sum().sqrt(), zeros)[1][0],
        "sqrt(mse_loss(x, 0))": value_and_gradient(lambda x: F.mse_loss(x, zeros).sqrt(), zeros)[1][0],
        "norm(x)": value_and_gradient(torch.linalg.vector_norm, zeros)[1][0],
        "std(x)": value_and_gradient(torch.std, zeros)[1][0],
        "cdist(x, x)": value_and_gradient(lambda x: torch.cdist(x[None], x[None]), zeros)[1][0],
    }
    broken = ("sqrt(x)", "sqrt(x) + 1e-8", "sqrt((x ** 2).sum())", "sqrt(mse_loss(x, 0))")
    sound = ("sqrt(x + 1e-8)", "norm(x)", "std(x)", "cdist(x, x)")
    said = ", ".join(f"`{name}` {say(slope)}" for name, slope in slopes.items())
    return Outcome(
        verdict(
            not any(math.isfinite(slopes[name]) for name in broken)
            and all(math.isfinite(slopes[name]) for name in sound)
        ),
        f"Gradients at 0: {said}.",
        {name: number(slope) for name, slope in slopes.items()},
    )


EXPERIMENT = Experiment(
    id="root-at-zero",
    claim="A root at 0 has a finite value and an infinite or NaN gradient; torch's own norms and std do not.",
    rules=("LP203",),
    measure=measure,
    folk="The loss is finite, so its gradient is.",
    seconds=1.0,
)
