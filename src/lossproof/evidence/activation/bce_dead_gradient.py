"""Sigmoid, then binary cross entropy: the gradient is gone where the prediction is most wrong."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, say, verdict
from lossproof.evidence.workbench import at, first

WRONG_NEGATIVE, WRONG_POSITIVE = 17.0, -50.0


def measure(setting: Setting) -> Outcome:
    import torch.nn.functional as F

    no, yes = setting.tensor(0.0), setting.tensor(1.0)
    loss, slope = at(lambda x: F.binary_cross_entropy(x.sigmoid(), no), WRONG_NEGATIVE, setting)
    fused_loss, fused_slope = at(lambda x: F.binary_cross_entropy_with_logits(x, no), WRONG_NEGATIVE, setting)
    _, positive = at(lambda x: F.binary_cross_entropy(x.sigmoid(), yes), WRONG_POSITIVE, setting)
    dead_from = first(lambda v: at(lambda x: F.binary_cross_entropy(x.sigmoid(), no), v, setting)[1] == 0, 0, 60)
    since = f", exactly 0 from logit {say(dead_from, 4)}" if dead_from is not None else ""
    return Outcome(
        verdict(slope == 0 and fused_slope > 0.99 and abs(positive) < 0.01),
        f"At logit {say(WRONG_NEGATIVE)} with target 0 the loss is {say(loss)} and its gradient {say(slope)}{since}; "
        f"with logits the loss is {say(fused_loss)} and the gradient {say(fused_slope)}. At logit "
        f"{say(WRONG_POSITIVE)} with target 1 the gradient is {say(positive)}.",
        {
            "logit": WRONG_NEGATIVE,
            "loss": number(loss),
            "gradient": number(slope),
            "fused_loss": number(fused_loss),
            "fused_gradient": number(fused_slope),
            "positive_logit": WRONG_POSITIVE,
            "positive_gradient": number(positive),
            "dead_from": dead_from,
        },
    )


EXPERIMENT = Experiment(
    id="bce-dead-gradient",
    claim="A sigmoid before binary_cross_entropy has no gradient where the prediction is most wrong.",
    rules=("LP101", "LP804"),
    measure=measure,
    seconds=1.0,
)
