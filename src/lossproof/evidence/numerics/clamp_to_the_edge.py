"""A clamp to the very edge of a function's domain."""

from __future__ import annotations

import math

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, percent, say, verdict
from lossproof.evidence.workbench import at

VECTORS, WIDTH, INSIDE = 10_000, 64, 1e-6


def measure(setting: Setting) -> Outcome:
    import torch.nn.functional as F

    root, root_slope = at(lambda x: x.clamp(min=0).sqrt(), 0.0, setting)
    angle, angle_slope = at(lambda x: x.clamp(-1, 1).acos(), 1.0, setting)
    inside, inside_slope = at(lambda x: x.clamp(-1 + INSIDE, 1 - INSIDE).acos(), 1.0, setting)
    unit = F.normalize(setting.normal(VECTORS, WIDTH), dim=1)
    at_edge = float(((unit * unit).sum(1).clamp(-1, 1) == 1).float().mean())
    return Outcome(
        verdict(
            math.isfinite(root + angle + inside + inside_slope)
            and not math.isfinite(root_slope)
            and not math.isfinite(angle_slope)
            and at_edge > 0.05
        ),
        f"`sqrt(clamp(x, 0))` at 0 is {say(root)} with gradient {say(root_slope)}; `acos(clamp(x, -1, 1))` at 1 is "
        f"{say(angle)} with gradient {say(angle_slope)}. Of {VECTORS:,} normalized vectors {percent(at_edge, 0)} stand "
        f"at that edge when compared with themselves. With a clamp {say(INSIDE)} inside the edge the gradient "
        f"is {say(inside_slope)}.",
        {
            "root": number(root),
            "root_gradient": number(root_slope),
            "angle": number(angle),
            "angle_gradient": number(angle_slope),
            "inside": INSIDE,
            "inside_gradient": number(inside_slope),
            "vectors": VECTORS,
            "share_at_the_edge": at_edge,
        },
    )


EXPERIMENT = Experiment(
    id="clamp-to-the-edge",
    claim="A clamp to the edge of a domain does not protect the gradient: sqrt at 0 and acos at 1 stay infinite.",
    rules=("LP203",),
    measure=measure,
    folk="Clamping into the domain protects the gradient.",
    seconds=1.0,
)
