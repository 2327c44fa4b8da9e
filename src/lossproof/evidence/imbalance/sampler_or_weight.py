"""Two ways to make up for rarity that lead to one place."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import logistic, rare, scores, share


def measure(setting: Setting) -> Outcome:
    """Logistic regression with each positive repeated 19 times, and with ``pos_weight=19``."""
    import torch
    import torch.nn.functional as F

    x, y = rare(setting, 1900, 100)
    rows = torch.cat([torch.arange(1900), torch.arange(1900, 2000).repeat(19)]).to(setting.device)
    nineteen = setting.tensor(19.0)
    repeated = logistic(setting, x[rows], y[rows], F.binary_cross_entropy_with_logits)
    weighted = logistic(setting, x, y, lambda z, y: F.binary_cross_entropy_with_logits(z, y, pos_weight=nineteen))
    apart = float((repeated - weighted).abs().max())
    found = [share(scores(weights, x[y == 1]) > 0) for weights in (repeated, weighted)]
    return Outcome(
        verdict(apart < 0.01),
        f"Positives drawn 19 times as often, or counted 19 times: the weights of the trained models differ by "
        f"{say(apart, 1)} at most, and they find {percent(found[0], 0)} and {percent(found[1], 0)} of the positives.",
        {"weights_apart": apart, "found_repeated": found[0], "found_weighted": found[1]},
    )


EXPERIMENT = Experiment(
    id="sampler-or-weight",
    claim="Drawing a class more often and weighting it in the loss have the same optimum: choose one.",
    rules=("LP405",),
    measure=measure,
)
