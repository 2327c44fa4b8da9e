"""BCE on a probability that is made of parts: honest, and it saturates like its parts."""

from __future__ import annotations

import math

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, say, verdict
from lossproof.evidence.workbench import value_and_gradient

VOTES, MODERATE = (17.0, 18.0), (1.0, 2.0)


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    no = setting.tensor(0.0)

    def mean(z: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy(z.sigmoid().mean(), no)

    def in_log_space(z: torch.Tensor) -> torch.Tensor:
        return -(torch.logsumexp(F.logsigmoid(-z), 0) - math.log(len(z)))

    loss, slopes = value_and_gradient(mean, setting.tensor(VOTES))
    log_loss, log_slopes = value_and_gradient(in_log_space, setting.tensor(VOTES))
    same, same_slopes = value_and_gradient(mean, setting.tensor(MODERATE))
    log_same, log_same_slopes = value_and_gradient(in_log_space, setting.tensor(MODERATE))
    gap = max(abs(same - log_same), *(abs(a - b) for a, b in zip(same_slopes, log_same_slopes, strict=True)))
    _, (edge,) = value_and_gradient(lambda p: F.binary_cross_entropy(p, setting.tensor([1.0])), setting.tensor([0.0]))
    return Outcome(
        verdict(all(each == 0 for each in slopes) and min(log_slopes) > 0.1 and gap < 1e-5 and abs(edge) > 1e6),
        f"The mean of two sigmoids at logits {_pair(VOTES)}, target 0: the loss is {say(loss)} with gradients "
        f"{_pair(slopes)}; in log space it is {say(log_loss)} with {_pair(log_slopes)}. At logits {_pair(MODERATE)} "
        f"the two agree within {say(gap)}. On a bare probability of 0 with target 1 the gradient is {say(edge)}.",
        {
            "logit_1": VOTES[0],
            "logit_2": VOTES[1],
            "loss": number(loss),
            "gradient_1": number(slopes[0]),
            "gradient_2": number(slopes[1]),
            "log_space_loss": number(log_loss),
            "log_space_gradient_1": number(log_slopes[0]),
            "log_space_gradient_2": number(log_slopes[1]),
            "moderate_gap": number(gap),
            "gradient_at_zero": number(edge),
        },
    )


def _pair(values: list[float] | tuple[float, ...]) -> str:
    return " and ".join(say(value) for value in values)


EXPERIMENT = Experiment(
    id="bce-on-probabilities",
    claim="BCE on a probability that is made of sigmoids is right at moderate logits, and saturates like its parts.",
    rules=("LP107",),
    measure=measure,
    seconds=1.0,
)
