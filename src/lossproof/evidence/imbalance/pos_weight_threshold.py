"""What ``pos_weight`` does to the probabilities, and how they are put right."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import logistic, rare, scores, share


def measure(setting: Setting) -> Outcome:
    """Logistic regression on 5 % positives with ``pos_weight=19``: mean probability, raw and with the prior back."""
    import torch
    import torch.nn.functional as F

    x, y = rare(setting, 9500, 500)
    weight = (1 - y).sum() / y.sum()
    plain = scores(logistic(setting, x, y, F.binary_cross_entropy_with_logits), x)
    weights = logistic(setting, x, y, lambda z, y: F.binary_cross_entropy_with_logits(z, y, pos_weight=weight))
    raw = scores(weights, x)
    restored = raw - weight.log()
    told = [float(torch.sigmoid(z).mean()) for z in (plain, raw, restored)]
    called = [share(z > 0) for z in (plain, raw, restored)]
    prior = float(y.mean())
    sure = raw > torch.logit(setting.tensor(0.8))
    kept = share(y[sure] == 1)
    return Outcome(
        verdict(told[1] > 2 * prior and abs(told[2] / prior - 1) < 0.1),
        f"{percent(prior)} of the rows are positive. With pos_weight = {say(float(weight))} the mean probability is "
        f"{percent(told[1])}, {percent(called[1])} are called positive, and of those with a probability above 0.8 "
        f"{percent(kept, 0)} are. After subtracting log(pos_weight) from the logit the mean is {percent(told[2])}; "
        f"without a weight it is {percent(told[0])}.",
        {
            "prior": prior,
            "pos_weight": float(weight),
            "mean_probability": told[1],
            "mean_probability_restored": told[2],
            "mean_probability_unweighted": told[0],
            "called_positive": called[1],
            "called_positive_restored": called[2],
            "positive_above_0.8": kept,
        },
    )


EXPERIMENT = Experiment(
    id="pos-weight-threshold",
    claim="A pos_weight moves the threshold: the probabilities are right after log(pos_weight) is subtracted.",
    rules=("LP403", "LP405"),
    measure=measure,
    folk="pos_weight is free.",
)
