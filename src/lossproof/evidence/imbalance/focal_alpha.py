"""One ``alpha`` for all classes, and one that depends on the class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import logistic, rare, scores, share

if TYPE_CHECKING:
    import torch

ALPHAS = (0.25, 0.75, 0.95)


def measure(setting: Setting) -> Outcome:
    """Logistic regression on 1 % positives with three values of ``alpha``: how many positives are found."""
    import torch
    import torch.nn.functional as F

    x, y = rare(setting, 4950, 50)

    def found(alpha: float, by_class: bool) -> tuple[float, float]:
        def focal(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            ce = F.binary_cross_entropy_with_logits(z, y, reduction="none")
            pt = torch.exp(-ce)
            if by_class:
                return ((alpha * y + (1 - alpha) * (1 - y)) * (1 - pt) ** 2 * ce).mean()
            return (alpha * (1 - pt) ** 2 * ce).mean()

        weights = logistic(setting, x, y, focal, steps=300)
        return share(scores(weights, x[y == 1]) > 0), float(weights[-1])

    same = [found(alpha, by_class=False) for alpha in ALPHAS]
    apart = [found(alpha, by_class=True) for alpha in ALPHAS]
    biases = [bias for _, bias in same]
    figures: dict[str, Figure] = {"bias_spread": max(biases) - min(biases)}
    for alpha, (for_all, _), (each, _) in zip(ALPHAS, same, apart, strict=True):
        figures[f"bias_one_alpha_{alpha}"] = biases[ALPHAS.index(alpha)]
        figures[f"found_one_alpha_{alpha}"], figures[f"found_by_class_{alpha}"] = for_all, each
    return Outcome(
        verdict(
            max(biases) - min(biases) < 0.01
            and max(f for f, _ in same) - min(f for f, _ in same) < 0.02
            and apart[-1][0] - apart[0][0] > 0.2
        ),
        f"50 positives among 5,000, gamma 2: with one alpha of {', '.join(map(str, ALPHAS))} for all the model finds "
        f"{', '.join(percent(f, 0) for f, _ in same)} of them, and its bias differs by "
        f"{say(max(biases) - min(biases), 1)}; with alpha for positives and 1 - alpha for negatives it finds "
        f"{', '.join(percent(f, 0) for f, _ in apart)}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="focal-alpha",
    claim="One alpha for every class multiplies a focal loss by a constant: it balances nothing.",
    rules=("LP401",),
    measure=measure,
    folk="A focal loss with one alpha balances the classes.",
)
