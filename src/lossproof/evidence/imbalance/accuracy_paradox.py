"""A high accuracy that finds nothing."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, verdict
from lossproof.evidence.material import logistic, rare, scores, share


def measure(setting: Setting) -> Outcome:
    """1 % positives: always "no", a trained model, and one with class weights, by accuracy and by what they find."""
    import torch
    import torch.nn.functional as F

    x, y = rare(setting, 9900, 100)
    test_x, test_y = rare(setting, 9900, 100, seed=1)
    weight = (1 - y).sum() / y.sum()
    plain = scores(logistic(setting, x, y, F.binary_cross_entropy_with_logits), test_x)
    weights = logistic(setting, x, y, lambda z, y: F.binary_cross_entropy_with_logits(z, y, pos_weight=weight))
    answers = {"always_no": torch.full_like(plain, -1.0), "plain": plain, "weighted": scores(weights, test_x)}
    right = {name: share((z > 0) == (test_y == 1)) for name, z in answers.items()}
    found = {name: share(z[test_y == 1] > 0) for name, z in answers.items()}
    balanced = {name: (found[name] + share(z[test_y == 0] <= 0)) / 2 for name, z in answers.items()}
    return Outcome(
        verdict(right["always_no"] > right["weighted"] and found["weighted"] > found["plain"] + 0.2),
        f"1 % positives, accuracy and positives found: always no {percent(right['always_no'])} and "
        f"{percent(found['always_no'], 0)}, plain cross entropy {percent(right['plain'])} and "
        f"{percent(found['plain'], 0)}, weighted {percent(right['weighted'])} and {percent(found['weighted'], 0)}; "
        f"balanced accuracy {percent(balanced['always_no'], 0)}, {percent(balanced['plain'], 0)} and "
        f"{percent(balanced['weighted'], 0)}.",
        {
            **{f"accuracy_{name}": value for name, value in right.items()},
            **{f"found_{name}": value for name, value in found.items()},
            **{f"balanced_accuracy_{name}": value for name, value in balanced.items()},
        },
    )


EXPERIMENT = Experiment(
    id="accuracy-paradox",
    claim="With rare positives accuracy rewards saying no: the model that finds most has the lowest accuracy.",
    rules=("LP403",),
    measure=measure,
    folk="The accuracy is fine, so the loss is fine.",
)
