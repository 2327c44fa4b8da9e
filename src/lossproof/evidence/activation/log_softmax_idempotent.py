"""A log-softmax before cross entropy: the same number for more work."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, say, verdict
from lossproof.evidence.workbench import times_slower

ROWS, CLASSES = 1024, 500


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    logits = (5 * setting.normal(ROWS, CLASSES)).requires_grad_()
    y = setting.integers(CLASSES, ROWS, seed=1)

    def step(twice: bool) -> tuple[torch.Tensor, torch.Tensor]:
        loss = F.cross_entropy(logits.log_softmax(1) if twice else logits, y)
        return loss.detach(), torch.autograd.grad(loss, logits)[0]

    once, gradient = step(False)
    twice, other = step(True)
    loss_gap = abs(float(once - twice)) / abs(float(once))
    gradient_gap = float((gradient - other).abs().max() / gradient.abs().max())
    ratio = times_slower(lambda: step(True), lambda: step(False), setting)
    return Outcome(
        verdict(loss_gap < 1e-5 and gradient_gap < 1e-4 and ratio > 1.05),
        f"Over {ROWS:,} rows of {CLASSES} classes the loss is {say(float(once), 5)} once and {say(float(twice), 5)} "
        f"twice; gradients differ by {say(gradient_gap)} of the largest. Forward and backward take {say(ratio, 2)} "
        "times the time.",
        {
            "loss": number(once),
            "loss_twice": number(twice),
            "loss_gap": loss_gap,
            "gradient_gap": gradient_gap,
            "ratio": ratio,
            "rows": ROWS,
            "classes": CLASSES,
        },
        timed=("ratio",),
    )


EXPERIMENT = Experiment(
    id="log-softmax-idempotent",
    claim="A log-softmax before cross_entropy changes neither value nor gradient, and costs time.",
    rules=("LP111",),
    measure=measure,
    seconds=2.0,
)
