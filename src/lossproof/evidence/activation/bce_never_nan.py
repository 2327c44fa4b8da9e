"""What sigmoid and BCE do on extreme logits in float32: not what is usually said."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, say, verdict

FURTHEST, EXTREME = 200.0, 1e30


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    logits = torch.cat([torch.linspace(-FURTHEST, FURTHEST, 4001), torch.tensor([-EXTREME, EXTREME])])
    logits = logits.to(setting.device)
    worst, broken = 0.0, 0
    for target in (torch.zeros_like(logits), torch.ones_like(logits)):
        x = logits.clone().requires_grad_()
        losses = F.binary_cross_entropy(x.sigmoid(), target, reduction="none")
        (slopes,) = torch.autograd.grad(losses.sum(), x)
        broken += int((~losses.isfinite() | ~slopes.isfinite()).sum())
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
    claim="In float32, sigmoid and binary_cross_entropy never go NaN: the loss is bounded, and goes silent instead.",
    rules=("LP101",),
    measure=measure,
    folk="Sigmoid and BCE go NaN on extreme logits.",
    seconds=1.0,
)
