"""An epsilon of 1e-8 in a denominator: finite, and one element is the whole gradient."""

from __future__ import annotations

import math

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, percent, say, verdict
from lossproof.evidence.workbench import value_and_gradient

ROWS, EPSILON, FLOOR = 1000, 1e-8, 1.0


def measure(setting: Setting) -> Outcome:
    target = 1 + setting.uniform(ROWS)
    target[0] = 0.0
    prediction = target + setting.normal(ROWS, seed=1).abs() * 0.1
    tiny, slopes = value_and_gradient(lambda x: ((x / (target + EPSILON) - 1) ** 2).mean(), prediction)
    guarded, kind = value_and_gradient(lambda x: ((x / target.clamp(min=FLOOR) - 1) ** 2).mean(), prediction)
    share = abs(slopes[0]) / sum(map(abs, slopes))
    guarded_share = abs(kind[0]) / sum(map(abs, kind))
    return Outcome(
        verdict(math.isfinite(tiny) and share > 0.999 and guarded_share < 0.1),
        f"Of {ROWS:,} targets one is 0. With {say(EPSILON)} added to the denominator the loss is {say(tiny)}, and that "
        f"element has {percent(share, 3)} of the gradient; with a floor of {say(FLOOR)} the loss is {say(guarded)} and "
        f"it has {percent(guarded_share, 2)}.",
        {
            "rows": ROWS,
            "epsilon": EPSILON,
            "loss": number(tiny),
            "gradient_share": share,
            "floor": FLOOR,
            "guarded_loss": number(guarded),
            "guarded_share": guarded_share,
        },
    )


EXPERIMENT = Experiment(
    id="epsilon-off-scale",
    claim="A tiny epsilon in a denominator keeps the loss finite and makes one element the whole gradient.",
    rules=("LP201",),
    measure=measure,
    folk="An epsilon costs nothing: always add 1e-8.",
    seconds=1.0,
)
