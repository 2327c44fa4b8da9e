"""Batches of unequal length, accumulated: a mean of means is not the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, verdict
from lossproof.evidence.material import pull

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """Four parts of 100, 10, 10 and 8 tokens: the weight of one token in the step, and the direction of the step."""
    import torch
    import torch.nn.functional as F

    lengths = (100, 10, 10, 8)
    x, y = setting.normal(128, 12, seed=1), setting.normal(128, seed=2)
    weights = setting.normal(12, seed=3)

    errors = (x @ weights - y).square()

    def objective(errors: torch.Tensor, mean_of_each: bool) -> torch.Tensor:
        parts = [part.mean() / len(lengths) if mean_of_each else part.sum() / len(y) for part in errors.split(lengths)]
        return torch.stack(parts).sum()

    def step(mean_of_each: bool) -> torch.Tensor:
        return pull(lambda w: objective((x @ w - y).square(), mean_of_each), weights)[1]

    _, counts = pull(lambda each: objective(each, mean_of_each=True), errors)
    times = float(counts[-1] / counts[0])
    means, whole = step(mean_of_each=True), step(mean_of_each=False)
    cosine = float(F.cosine_similarity(means, whole, dim=0))
    off = float((means - whole).norm() / whole.norm())
    return Outcome(
        verdict(off > 0.1 and cosine < 0.999),
        f"Parts of {', '.join(map(str, lengths))} tokens, each with its own mean: a token of the shortest counts "
        f"{times:.1f} times one of the longest, and the step is off by {percent(off, 0)} of its length (cosine "
        f"{cosine:.3f}); summed and divided by the count of all it is the step of one batch.",
        {"token_times": times, "off": off, "cosine": cosine},
    )


EXPERIMENT = Experiment(
    id="mean-of-means",
    claim="The mean of the means of unequal batches is not the mean: tokens of short batches weigh more.",
    rules=("LP304", "LP702"),
    measure=measure,
    seconds=1.0,
)
