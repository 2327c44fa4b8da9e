"""The logarithm of an activation in two steps, and the function that computes it in one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.workbench import at, first

if TYPE_CHECKING:
    import torch

FURTHEST, GAP, EPSILON = 200.0, 50.0, 1e-8


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
        broken = _breaks(two_steps, setting)
        fused_broken = _breaks(fused, setting)
        good &= broken is not None and broken < 110 and fused_broken is None
        key = name.replace(" ", "").replace("(", "_").replace(")", "").replace("1-", "1_minus_")
        figures[key] = broken
        figures[f"{key}_fused"] = fused_broken
        if broken is not None:
            said.append(f"`{name}` from {say(broken)}")
    value, slope = at(lambda x: -(losing(x).softmax(0)[0] + EPSILON).log(), GAP, setting)
    figures |= {"epsilon": EPSILON, "gap": GAP, "with_epsilon_loss": value, "with_epsilon_gradient": slope}
    return Outcome(
        verdict(good and abs(slope) < 1e-3),
        f"The first size of a logit with a loss or gradient that is infinite or NaN: {', '.join(said)}. The fused "
        f"forms have none up to {say(FURTHEST)}. With an epsilon of {say(EPSILON)} inside, at a gap of {say(GAP)}, the "
        f"loss is {say(value)} and the gradient {say(slope)}.",
        figures,
    )


def _breaks(f: Callable[[torch.Tensor], torch.Tensor], setting: Setting) -> float | None:
    return first(lambda x: not all(math.isfinite(each) for each in at(f, x, setting)), 0, FURTHEST)


EXPERIMENT = Experiment(
    id="log-of-activation",
    claim="The logarithm of a softmax or a sigmoid in two steps breaks on a confident mistake; the fused forms do not.",
    rules=("LP106",),
    measure=measure,
    folk="A loss that is written out is the same formula, and more flexible.",
    seconds=1.0,
)
