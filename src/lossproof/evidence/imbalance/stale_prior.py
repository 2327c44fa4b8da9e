"""A model that was trained at one class balance, in use at another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import logistic, rare, scores

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """5 % positives and ``pos_weight=19`` in training, 20 % in use: how the logits are put right without training."""
    import torch
    import torch.nn.functional as F

    x, y = rare(setting, 9500, 500)
    now_x, now_y = rare(setting, 8000, 2000, seed=1)
    nineteen = setting.tensor(19.0)
    weights = logistic(setting, x, y, lambda z, y: F.binary_cross_entropy_with_logits(z, y, pos_weight=nineteen))
    raw = scores(weights, now_x)

    def told(z: torch.Tensor) -> tuple[float, float]:
        """The mean probability and the log loss."""
        return float(torch.sigmoid(z).mean()), float(F.binary_cross_entropy_with_logits(z, now_y))

    def odds(share: float) -> float:
        return float(torch.logit(setting.tensor(share)))

    trained_prior, prior = 0.5, float(now_y.mean())  # pos_weight trains as if the classes were even
    stale = told(raw)
    old = told(raw - nineteen.log())
    restored = told(raw + odds(prior) - odds(trained_prior))
    four = float((1 - now_y).sum() / now_y.sum())
    again = told(
        scores(
            logistic(setting, now_x, now_y, lambda z, y: F.binary_cross_entropy_with_logits(z, y)),
            now_x,
        )
    )
    return Outcome(
        verdict(abs(restored[0] / prior - 1) < 0.1 and restored[1] < stale[1] and restored[1] < 1.05 * again[1]),
        f"{percent(prior, 0)} are positive now (negatives over positives {say(four)}, it was 19): the mean probability "
        f"is {percent(stale[0])} as trained, {percent(old[0])} with the old prior put back and {percent(restored[0])} "
        f"with the new one; the log loss is {say(stale[1])}, {say(old[1])} and {say(restored[1])}, and {say(again[1])} "
        "for a model trained anew.",
        {
            "prior_now": prior,
            "negatives_over_positives_now": four,
            "mean_probability_as_trained": stale[0],
            "mean_probability_old_prior": old[0],
            "mean_probability_new_prior": restored[0],
            "log_loss_as_trained": stale[1],
            "log_loss_old_prior": old[1],
            "log_loss_new_prior": restored[1],
            "log_loss_trained_anew": again[1],
        },
    )


EXPERIMENT = Experiment(
    id="stale-prior",
    claim="When the class balance changes, shifting the logits by that of the log-odds does as well as training anew.",
    rules=("LP403",),
    measure=measure,
)
