"""An image without the object: what a smoothed Dice says to false alarms in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.material import pull

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """256 false pixels in an image with an empty mask: the loss and its whole gradient."""
    import torch
    import torch.nn.functional as F

    mask = torch.zeros(64, 64, device=setting.device)
    logits = torch.full_like(mask, -4.0)
    logits[:16, :16] = 4.0

    def dice(z: torch.Tensor, smooth: float) -> torch.Tensor:
        probs = torch.sigmoid(z)
        return 1 - (2 * (probs * mask).sum() + smooth) / (probs.sum() + mask.sum() + smooth)

    loss, smoothed = pull(lambda z: dice(z, 1.0), logits)
    _, tiny = pull(lambda z: dice(z, 1e-5), logits)
    _, entropy = pull(lambda z: F.binary_cross_entropy_with_logits(z, mask), logits)
    figures = {
        "loss": loss,
        "gradient_smooth_1": float(smoothed.abs().sum()),
        "gradient_smooth_1e5": float(tiny.abs().sum()),
        "gradient_cross_entropy": float(entropy.abs().sum()),
    }
    return Outcome(
        verdict(
            loss > 0.9
            and figures["gradient_smooth_1"] < 0.05 * figures["gradient_cross_entropy"]
            and figures["gradient_smooth_1e5"] < 1e-6
        ),
        f"256 false pixels in an image without the object: the Dice loss is {loss:.3f}, its whole gradient "
        f"{say(figures['gradient_smooth_1'])} with a smoothing constant of 1 and {say(figures['gradient_smooth_1e5'])} "
        f"with 1e-5; a cross entropy sends {say(figures['gradient_cross_entropy'])}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="dice-empty-mask",
    claim="On an image without the object a smoothed Dice loss is near 1 and has hardly any gradient.",
    rules=("LP301",),
    measure=measure,
    seconds=1.0,
)
