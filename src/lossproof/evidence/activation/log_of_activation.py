"""The logarithm of an activation in two steps, and the function that computes it in one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.workbench import at, first

if TYPE_CHECKING:
    import torch

FURTHEST = 200.0


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    def losing(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros_like(x), x])

    forms: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]] = {
        "log(softmax(x))": (lambda x: losing(x).softmax(0)[0].log(), lambda x: losing(x).log_softmax(0)[0]),
        "log(sigmoid(x))": (lambda x: (-x).sigmoid().log(), lambda x: F.logsigmoid(-x)),
        "log(1 - sigmoid(x))": (lambda x: (1 - x.sigmoid()).log(), lambda x: F.logsigmoid(-x)),
    }
    figures: dict[str, float | int | str | bool | None] = {"furthest": FURTHEST}
    said, good = [], True
    for name, (two_steps, fused) in forms.items():
        broken = first(lambda v, f=two_steps: not _finite(f, v, setting), 0, FURTHEST)
        fused_broken = first(lambda v, f=fused: not _finite(f, v, setting), 0, FURTHEST)
        good &= broken is not None and broken < 110 and fused_broken is None
        key = name.replace(" ", "").replace("(", "_").replace(")", "").replace("1-", "1_minus_")
        figures[key] = broken
        figures[f"{key}_fused"] = fused_broken
        if broken is not None:
            said.append(f"`{name}` from {say(broken)}")
    value, slope = at(lambda x: -(losing(x).softmax(0)[0] + 1e-8).log(), 50.0, setting)
    figures["with_epsilon_gradient"] = slope
    return Outcome(
        verdict(good and abs(slope) < 1e-3),
        f"The first size of a logit with a loss or gradient that is infinite or NaN: {', '.join(said)}. The fused forms "
        f"have none up to {say(FURTHEST)}. With an epsilon of 1e-8 inside, at a gap of 50, the loss is {say(value)} and "
        f"the gradient {say(slope)}.",
        figures,
    )


def _finite(f: Callable[[torch.Tensor], torch.Tensor], x: float, setting: Setting) -> bool:
    return all(math.isfinite(each) for each in at(f, x, setting))


EXPERIMENT = Experiment(
    id="log-of-activation",
    claim="The logarithm of a softmax or a sigmoid in two steps breaks on a confident mistake; the fused forms do not.",
    rules=("LP106",),
    measure=measure,
    seconds=1.0,
)
