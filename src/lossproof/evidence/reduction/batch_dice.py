"""A Dice ratio over the whole batch, and what a small object counts in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, verdict
from lossproof.evidence.material import pull

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """One image with an object of 10,000 pixels, one with 25: the small one is missed, or as much of the large one."""
    import torch

    mask = torch.zeros(2, 128, 128, device=setting.device)
    mask[0, :100, :100] = 1
    mask[1, :5, :5] = 1
    small_missed, rim_missed = mask.clone(), mask.clone()
    small_missed[1] = 0
    rim_missed[0, 99, :25] = 0

    def dice(probs: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
        overlap = (probs * mask).sum(axes)
        return (1 - (2 * overlap + 1) / (probs.sum(axes) + mask.sum(axes) + 1)).mean()

    batch, image = (0, 1, 2), (1, 2)
    together, apart = float(dice(small_missed, batch)), float(dice(small_missed, image))
    rim, rim_apart = float(dice(rim_missed, batch)), float(dice(rim_missed, image))
    alone = float(1 - (2 * (small_missed * mask)[1].sum() + 1) / (small_missed[1].sum() + mask[1].sum() + 1))
    unsure = small_missed.clamp(min=0.01)
    _, over_batch = pull(lambda probs: dice(probs, batch), unsure)
    _, per_image = pull(lambda probs: dice(probs, image), unsure)
    weaker = float(per_image[1, 0, 0] / over_batch[1, 0, 0])
    return Outcome(
        verdict(together < 1.05 * rim and apart > 20 * together and weaker > 20),
        f"An object of 25 pixels is missed completely beside one of 10,000: the loss over the batch is {together:.4f}, "
        f"as for 25 pixels at the rim of the large object ({rim:.4f}); per image it is {apart:.4f}. The gradient on a "
        f"pixel of the missed object is {weaker:.0f} times weaker over the batch.",
        {
            "batch_loss": together,
            "rim_loss": rim,
            "per_image_loss": apart,
            "per_image_rim_loss": rim_apart,
            "alone_loss": alone,
            "batch_gradient_small": float(over_batch[1, 0, 0]),
            "per_image_gradient_small": float(per_image[1, 0, 0]),
            "batch_gradient_large": float(over_batch[0, 0, 0]),
            "per_image_gradient_large": float(per_image[0, 0, 0]),
            "gradient_times_weaker": weaker,
        },
    )


EXPERIMENT = Experiment(
    id="batch-dice",
    claim="Dice over the whole batch hardly notices that a small object is missed; per image it notices.",
    rules=("LP301",),
    measure=measure,
    seconds=1.0,
)
