"""Where sigmoid and BCE are fine: what those saw who never had trouble with it."""

from __future__ import annotations

from lossproof.evidence.digits import PIXELS, digits
from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, percent, say, verdict
from lossproof.evidence.material import layers
from lossproof.evidence.workbench import train, value_and_gradient

MODERATE, DIGIT, STEPS = 8.0, 3, 300


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    def two_steps(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy(z.squeeze(-1).sigmoid(), y)

    def fused(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(z.squeeze(-1), y)

    logits = torch.linspace(-MODERATE, MODERATE, 321).to(setting.device)
    y = (logits.cos() > 0).float()  # some right, some wrong
    loss, slopes = value_and_gradient(lambda z: two_steps(z, y), logits)
    fused_loss, fused_slopes = value_and_gradient(lambda z: fused(z, y), logits)
    gap = max(abs(a - b) for a, b in zip(slopes, fused_slopes, strict=True)) / max(map(abs, fused_slopes))
    data = digits(setting)
    right = []
    for form in (two_steps, fused):
        model = layers(setting, PIXELS, 32, 1)
        train(model, form, data.x, (data.y == DIGIT).float(), setting, steps=STEPS)
        with torch.no_grad():
            right.append(float(((model(data.test_x).squeeze(1) > 0) == (data.test_y == DIGIT)).float().mean()))
    return Outcome(
        verdict(gap < 0.01 and abs(loss - fused_loss) < 1e-4 * fused_loss and abs(right[0] - right[1]) < 0.01),
        f'Up to logit {say(MODERATE)} the gradients differ by {say(gap)} of the largest at most. On {data.name}, "is '
        f'it a {DIGIT}?", {STEPS} SGD steps: {percent(right[0])} of held-out images right with sigmoid and BCE, '
        f"{percent(right[1])} with logits.",
        {
            "furthest_logit": MODERATE,
            "loss": number(loss),
            "fused_loss": number(fused_loss),
            "gradient_gap": number(gap),
            "accuracy": right[0],
            "fused_accuracy": right[1],
            "steps": STEPS,
            "data": data.name,
        },
    )


EXPERIMENT = Experiment(
    id="bce-moderate-logits",
    claim="While logits stay moderate, a sigmoid and BCE train as well as the logits form.",
    rules=("LP101",),
    measure=measure,
    folk="BCE has worked for years, and in published papers.",
    seconds=2.0,
)
