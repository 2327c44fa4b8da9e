"""A sigmoid that is written out, before BCE."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, say, verdict
from lossproof.evidence.workbench import at

NEGATIVE, POSITIVE = 17.0, -89.0


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    def loss(x: torch.Tensor, target: float) -> torch.Tensor:
        return F.binary_cross_entropy(1 / (1 + torch.exp(-x)), torch.full_like(x, target))

    _, exploding = at(lambda x: loss(x, 0.0), NEGATIVE, setting)
    value, broken = at(lambda x: loss(x, 1.0), POSITIVE, setting)
    is_nan = broken != broken
    return Outcome(
        verdict((abs(exploding) > 100 or exploding == 0) and is_nan),
        f"`1 / (1 + exp(-x))` before BCE: at logit {say(NEGATIVE)} with target 0 the gradient is {say(exploding)} "
        f"instead of 1; at logit {say(POSITIVE)} with target 1 the loss is {say(value)} and the gradient "
        f"{say(broken)}.",
        {
            "logit": NEGATIVE,
            "gradient": number(exploding),
            "positive_logit": POSITIVE,
            "positive_loss": number(value),
            "positive_gradient": number(broken),
        },
    )


EXPERIMENT = Experiment(
    id="bce-hand-written-sigmoid",
    claim="A sigmoid written out by hand behaves differently again before BCE: its gradient explodes, then is NaN.",
    rules=("LP101", "LP204"),
    measure=measure,
    seconds=1.0,
)
