"""Sigmoid, then a loss that applies the sigmoid itself: nothing can be called negative."""

from __future__ import annotations

from lossproof.evidence.descent import ADAM
from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, percent, say, verdict
from lossproof.evidence.material import layers
from lossproof.evidence.workbench import at, train

ROWS, STEPS, LOGIT = 2000, 400, 20.0


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    def doubled(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(z.squeeze(-1).sigmoid(), y)

    def plain(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(z.squeeze(-1), y)

    y = (setting.uniform(ROWS) < 0.2).float()
    x = setting.normal(ROWS, 2, seed=1) + 4 * y[:, None] - 2
    reached: dict[str, tuple[float, float, float, float]] = {}
    for name, loss in (("doubled", doubled), ("plain", plain)):
        model = layers(setting, 2, 1)
        train(model, loss, x, y, setting, steps=STEPS, rate=0.1, method=ADAM)
        with torch.no_grad():
            z = model(x).squeeze(1)
            scores = (z.sigmoid() if name == "doubled" else z).sigmoid()  # the sigmoid that the loss implies
            right = float(((scores > 0.5) == (y > 0.5)).float().mean())
            reached[name] = (float(loss(z, y)), right, float(scores.min()), float(scores.max()))
    _, slope = at(lambda z: doubled(z, torch.zeros_like(z)), LOGIT, setting)
    _, firm = at(lambda z: plain(z, torch.zeros_like(z)), LOGIT, setting)
    (loss_at, right, lowest, highest), (plain_loss, plain_right, *_) = reached["doubled"], reached["plain"]
    return Outcome(
        verdict(lowest >= 0.5 and highest < 0.74 and loss_at > 10 * plain_loss and slope < 1e-6 and firm > 0.99),
        f"Two clouds of points, {STEPS} Adam steps: the loss stops at {say(loss_at)} (raw logits: {say(plain_loss)}), "
        f"scores lie from {say(lowest)} to {say(highest)}, and {percent(right)} are right at a threshold of 0.5 "
        f"(raw logits: {percent(plain_right)}). At logit {say(LOGIT)} with target 0 the gradient is {say(slope)} "
        f"instead of {say(firm)}.",
        {
            "loss": number(loss_at),
            "plain_loss": number(plain_loss),
            "accuracy": right,
            "plain_accuracy": plain_right,
            "lowest_score": lowest,
            "highest_score": highest,
            "logit": LOGIT,
            "gradient": number(slope),
            "plain_gradient": number(firm),
            "steps": STEPS,
        },
    )


EXPERIMENT = Experiment(
    id="double-sigmoid",
    claim="After a sigmoid a logits loss sees no score below 0.5, so nothing can be called negative.",
    rules=("LP103",),
    measure=measure,
    seconds=3.0,
)
