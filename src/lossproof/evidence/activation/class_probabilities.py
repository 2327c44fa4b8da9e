"""What ``cross_entropy`` takes for a target, and what each form costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.material import backward, pull
from lossproof.evidence.workbench import times_slower

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """Indices against one-hot rows: value, gradient, time and bytes of 4,096 rows of 500 classes."""
    import torch.nn.functional as F

    logits = setting.normal(4096, 500, seed=1)
    indices = setting.integers(500, 4096, seed=2)
    rows = F.one_hot(indices, 500).float()
    by_index, gradient = pull(lambda z: F.cross_entropy(z, indices), logits)
    by_row, row_gradient = pull(lambda z: F.cross_entropy(z, rows), logits)
    smooth, _ = pull(lambda z: F.cross_entropy(z, 0.9 * rows + 0.1 / 500), logits)
    smoothed, _ = pull(lambda z: F.cross_entropy(z, indices, label_smoothing=0.1), logits)
    apart = float((gradient - row_gradient).abs().max() / gradient.abs().max())

    def step(target: torch.Tensor) -> None:
        backward(F.cross_entropy(logits.detach().requires_grad_(), target))

    slower = times_slower(lambda: step(rows), lambda: step(indices), setting)
    larger = rows.nbytes / indices.nbytes
    return Outcome(
        verdict(abs(by_index - by_row) < 1e-4 and apart < 1e-3 and abs(smooth - smoothed) < 1e-3 and larger > 10),
        f"4,096 rows of 500 classes: the loss is {say(by_index, 5)} with indices and {say(by_row, 5)} with one-hot "
        f"rows, which take {say(slower, 2)} times as long and {larger:.0f} times the memory. Rows smoothed by 0.1 give "
        f"{say(smooth, 5)}, as label_smoothing=0.1 does ({say(smoothed, 5)}).",
        {
            "loss_indices": by_index,
            "loss_one_hot": by_row,
            "gradient_apart": apart,
            "loss_smoothed_rows": smooth,
            "loss_label_smoothing": smoothed,
            "times_slower": slower,
            "times_larger": larger,
        },
        timed=("times_slower",),
    )


EXPERIMENT = Experiment(
    id="class-probabilities",
    claim="Class indices and class probabilities are both fine for cross_entropy; one-hot rows are only dearer.",
    rules=("LP108",),
    measure=measure,
    folk="One-hot is the standard target; CrossEntropyLoss needs class indices.",
)
