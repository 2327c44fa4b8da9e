"""The logits form of BCE and the two-step form against the clock."""

from __future__ import annotations

from lossproof.evidence.experiment import DEPENDS, Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.workbench import times_slower

ELEMENTS = 500_000


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    logits = setting.normal(ELEMENTS).requires_grad_()
    target = (setting.uniform(ELEMENTS, seed=1) < 0.5).float()

    def two_steps() -> None:
        torch.autograd.grad(F.binary_cross_entropy(logits.sigmoid(), target), logits)

    def fused() -> None:
        torch.autograd.grad(F.binary_cross_entropy_with_logits(logits, target), logits)

    ratio = times_slower(two_steps, fused, setting)
    unclear = 0.9 < ratio < 1.1
    return Outcome(
        DEPENDS if unclear else verdict(ratio > 1),
        f"Forward and backward over {say(ELEMENTS)} elements, sigmoid and BCE take {say(ratio, 2)} times the time of "
        "the logits form.",
        {"elements": ELEMENTS, "ratio": ratio},
        "on some machines; here the two take about the same time" if unclear else "",
        timed=("ratio",),
    )


EXPERIMENT = Experiment(
    id="bce-logits-faster",
    claim="The logits form of BCE is faster than a sigmoid and BCE.",
    rules=("LP101",),
    measure=measure,
    folk="The logits form is faster.",
)
