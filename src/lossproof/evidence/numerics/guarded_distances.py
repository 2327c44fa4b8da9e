"""The distances of a batch to itself: the diagonal is 0 in every batch."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, percent, say, verdict
from lossproof.evidence.workbench import value_and_gradient

ROWS, WIDTH = 64, 8


def measure(setting: Setting) -> Outcome:
    import torch

    rows = setting.normal(ROWS, WIDTH)

    def squared(x: torch.Tensor) -> torch.Tensor:
        return (x[:, None] - x[None]).square().sum(-1)

    def guarded_after(x: torch.Tensor) -> torch.Tensor:
        return torch.where(squared(x) > 0, squared(x).sqrt(), 0.0).mean()

    def guarded_before(x: torch.Tensor) -> torch.Tensor:
        apart = squared(x) > 0
        return torch.where(apart, torch.where(apart, squared(x), 1.0).sqrt(), 0.0).mean()

    loss, slopes = value_and_gradient(guarded_after, rows)
    right, kind = value_and_gradient(guarded_before, rows)
    broken = sum(slope != slope for slope in slopes) / len(slopes)
    sound = sum(slope == slope for slope in kind) / len(kind)
    return Outcome(
        verdict(loss == loss and broken == 1 and sound == 1),
        f"`where(d2 > 0, sqrt(d2), 0)` over {ROWS} rows has value {say(loss)}, and {percent(broken, 0)} of the "
        f"gradient is NaN; with the guard inside the root the value is {say(right)} and {percent(1 - sound, 0)} is.",
        {
            "rows": ROWS,
            "loss": number(loss),
            "share_nan": broken,
            "guarded_loss": number(right),
            "guarded_share_nan": 1 - sound,
        },
    )


EXPERIMENT = Experiment(
    id="guarded-distances",
    claim="Distances of a batch to itself, guarded by where, have a finite loss and a gradient of nothing but NaN.",
    rules=("LP203", "LP206"),
    measure=measure,
    seconds=1.0,
)
