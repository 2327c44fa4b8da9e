"""What torch says to shapes that broadcast in an elementwise loss."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, verdict

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """(4, 1) against (4,) in ten losses: refused, warned about, or taken without a word."""
    import torch.nn.functional as F

    column, row = setting.uniform(4, 1, seed=1), setting.uniform(4, seed=2)
    losses: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "mse_loss": F.mse_loss,
        "l1_loss": F.l1_loss,
        "smooth_l1_loss": F.smooth_l1_loss,
        "huber_loss": F.huber_loss,
        "binary_cross_entropy": F.binary_cross_entropy,
        "binary_cross_entropy_with_logits": F.binary_cross_entropy_with_logits,
        "soft_margin_loss": F.soft_margin_loss,
        "kl_div": lambda a, b: F.kl_div(a.log(), b, reduction="batchmean"),
        "poisson_nll_loss": F.poisson_nll_loss,
        "(a - b).square().mean()": lambda a, b: (a - b).square().mean(),
    }
    refused: list[str] = []
    warned: list[str] = []
    silent: list[str] = []
    for name, loss in losses.items():
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                loss(column, row)
            except (RuntimeError, ValueError):
                refused.append(name)
                continue
        (warned if said else silent).append(name)
    return Outcome(
        verdict(bool(silent)),
        f"Shapes (4, 1) against (4,): refused by {', '.join(refused) or 'nothing'}; a warning from "
        f"{', '.join(warned) or 'nothing'}; not a word from {', '.join(silent) or 'nothing'}.",
        {"refused": ", ".join(refused), "warned": ", ".join(warned), "silent": ", ".join(silent)},
    )


EXPERIMENT = Experiment(
    id="broadcast-warnings",
    claim="A loss that is written by hand broadcasts (N, 1) against (N,) without a word of warning.",
    rules=("LP303",),
    measure=measure,
    seconds=1.0,
)
