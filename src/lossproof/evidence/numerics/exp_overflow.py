"""Where exp leaves the range of a number format, and what survives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, say, verdict
from lossproof.evidence.workbench import at, first

if TYPE_CHECKING:
    import torch

    Function = Callable[[torch.Tensor], torch.Tensor]

FURTHEST, PROBE = 1000.0, 89.0


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    def softmax_by_hand(x: torch.Tensor) -> torch.Tensor:
        pair = torch.stack([x, torch.zeros_like(x)]).exp()
        return (pair[0] / pair.sum()).log()

    def fused(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x, torch.zeros_like(x)]).log_softmax(0)[0]

    forms: dict[str, Function] = {
        "exp(x)": torch.exp,
        "log1p(exp(x))": lambda x: torch.log1p(torch.exp(x)),
        "log(exp(x) / exp(x).sum())": softmax_by_hand,
        "softplus(x)": F.softplus,
        "log_softmax(x)": fused,
    }
    breaks = {name: _breaks(f, setting) for name, f in forms.items()}
    figures: dict[str, Figure] = {**breaks, "furthest": FURTHEST}
    half = _breaks(torch.exp, setting, torch.float16)
    figures["exp(x), float16"] = half
    value, slope = at(forms["log1p(exp(x))"], PROBE, setting)
    kind, kind_slope = at(F.softplus, PROBE, setting)
    bad, good = list(forms)[:3], list(forms)[3:]
    said = ", ".join(f"`{name}` from {say(breaks[name])}" for name in bad if breaks[name] is not None)
    return Outcome(
        verdict(
            all((breaks[name] or FURTHEST) < 100 for name in bad)
            and all(breaks[name] is None for name in good)
            and (half or FURTHEST) < 12
        ),
        f"In float32 not finite: {said}; in float16 `exp(x)` from {say(half)}. softplus and log_softmax are finite up "
        f"to {say(FURTHEST)}. At {say(PROBE)} `log1p(exp(x))` is {say(value)} with gradient {say(slope)}, softplus "
        f"{say(kind)} with {say(kind_slope)}.",
        figures,
    )


def _breaks(f: Function, setting: Setting, dtype: torch.dtype | None = None) -> float | None:
    return first(lambda x: not all(math.isfinite(each) for each in at(f, x, setting, dtype)), 0, FURTHEST)


EXPERIMENT = Experiment(
    id="exp-overflow",
    claim="The exponential overflows near 89 in float32 and near 11 in float16, and log1p around it does not help.",
    rules=("LP204",),
    measure=measure,
    folk="With log1p the logarithm of 1 + exp(x) is safe.",
    seconds=1.0,
)
