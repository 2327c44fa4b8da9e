"""What an optimizer does with parameters that the loss does not reach."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, verdict


def measure(setting: Setting) -> Outcome:
    """A head that the loss leaves out, beside one that it trains: with a gradient of None, and with one of zeros."""
    import torch

    from lossproof.evidence.descent import SGD, Descent

    x, y = setting.normal(64, 4, seed=1), setting.normal(64, seed=2)
    steps = 50

    def trained(zeros: bool) -> tuple[float, float]:
        used = setting.normal(4, seed=3).requires_grad_()
        left_out = setting.normal(4, seed=4).requires_grad_()
        start = left_out.detach().clone(), used.detach().clone()
        optimizer = Descent([used, left_out], SGD, 0.05)
        for _ in range(steps):
            loss = (x @ used - y).square().mean()
            if zeros:
                loss = loss + 0.0 * (x @ left_out).sum()
            optimizer.down(loss)
        with torch.no_grad():
            return float((left_out - start[0]).abs().max()), float((used - start[1]).abs().max())

    unused, moved = trained(zeros=False)
    unused_zeros, _ = trained(zeros=True)
    return Outcome(
        verdict(unused == 0 and unused_zeros == 0 and moved > 0.01),
        f"In {steps} steps the head that the loss reaches moved by {moved:.3g}, the one that it does not reach by "
        f"{unused:.3g}, and nothing said so; multiplied by 0 into the loss, as is done to quiet distributed runs, by "
        f"{unused_zeros:.3g}.",
        {"moved": moved, "unreached": unused, "unreached_times_zero": unused_zeros, "steps": steps},
    )


EXPERIMENT = Experiment(
    id="unreached-parameters",
    claim="Parameters that the loss does not reach stay as they were initialized, and training says nothing of it.",
    rules=("LP306",),
    measure=measure,
)
