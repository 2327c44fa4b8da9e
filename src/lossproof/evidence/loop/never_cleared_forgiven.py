"""Gradients that are never cleared, in a logistic regression."""

from __future__ import annotations

from lossproof.evidence.descent import SGD, Descent
from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import backward, share


def measure(setting: Setting) -> Outcome:
    """300 steps of SGD on noisy labels, with gradients that are cleared and not: accuracy, loss, length of weights."""
    import torch
    import torch.nn.functional as F

    x = setting.normal(1024, 10, seed=1)
    y = (x @ setting.normal(10, seed=2) + setting.normal(1024, seed=3) > 0).float()
    rows = setting.integers(512, 300, 64, seed=4)

    def trained(cleared: bool) -> tuple[float, float, float]:
        weights = torch.zeros(10, device=setting.device, requires_grad=True)
        descent = Descent([weights], SGD, 0.1)
        for chosen in rows:
            if cleared:
                weights.grad = None
            backward(F.binary_cross_entropy_with_logits(x[chosen] @ weights, y[chosen]))
            descent.step([weights.grad])
        z = x[512:] @ weights.detach()
        right = share((z > 0) == (y[512:] == 1))
        return right, float(F.binary_cross_entropy_with_logits(z, y[512:])), float(weights.detach().norm())

    right, loss, length = trained(cleared=True)
    piled_right, piled_loss, piled_length = trained(cleared=False)
    return Outcome(
        verdict(piled_right > right - 0.05 and piled_loss > 1.2 * loss and piled_length > 2 * length),
        f"Held-out accuracy after 300 steps: {percent(right)} cleared and {percent(piled_right)} never cleared; the "
        f"weights are {say(piled_length / length)} times as long and the loss is {say(piled_loss)} instead of "
        f"{say(loss)}.",
        {
            "accuracy": right,
            "accuracy_never": piled_right,
            "loss": loss,
            "loss_never": piled_loss,
            "length_times": piled_length / length,
            "loss_times": piled_loss / loss,
        },
    )


EXPERIMENT = Experiment(
    id="never-cleared-forgiven",
    claim="A logistic regression forgives gradients that are never cleared in its accuracy, not in its loss.",
    rules=("LP701",),
    measure=measure,
)
