"""What sigmoid and BCE do on extreme logits in float32: not what is usually said."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, say, verdict
from lossproof.evidence.workbench import value_and_gradient

FURTHEST, EXTREME = 200.0, 1e30


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    logits = torch.cat([torch.linspace(-FURTHEST, FURTHEST, 4001), torch.tensor([-EXTREME, EXTREME])])
    logits = logits.to(setting.device)
    worst, broken = 0.0, 0
    for target in (0.0, 1.0):
        y = torch.full_like(logits, target)
        losses = F.binary_cross_entropy(logits.sigmoid(), y, reduction="none")
        _, slopes = value_and_gradient(lambda x, y=y: F.binary_cross_entropy(x.sigmoid(), y, reduction="none"), logits)
        broken += int((~losses.isfinite()).sum()) + int((~torch.tensor(slopes).isfinite()).sum())
        worst = max(worst, float(losses.nan_to_num(nan=0.0).max()))
    tried = 2 * len(logits)
    return Outcome(
        verdict(broken == 0 and worst <= 101),
        f"Of {say(tried)} losses and gradients at logits from -{say(EXTREME)} to {say(EXTREME)}, {say(broken)} are NaN "
        f"or infinite; the largest loss is {say(worst)}.",
        {"tried": tried, "not_finite": broken, "largest_loss": number(worst), "furthest_logit": EXTREME},
    )


EXPERIMENT = Experiment(
    id="bce-never-nan",
    claim="In float32, sigmoid and binary_cross_entropy do not go NaN: the loss is bounded, and it goes silent instead.",
    rules=("LP101",),
    measure=measure,
    folk="Sigmoid and BCE go NaN on extreme logits.",
    seconds=1.0,
)
