"""Focal loss against class weights on real digits, at two degrees of imbalance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.digits import Digits, digits
from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, verdict
from lossproof.evidence.material import logistic, scores

if TYPE_CHECKING:
    import torch

LOSSES = {"weights": "class weights", "focal": "focal", "focal_alpha": "focal with alpha 0.75"}


def measure(setting: Setting) -> Outcome:
    """Is it an 8? Trained with few and with many eights; F1 at p = 0.5 on held-out digits, mean of two drawings."""
    data = digits(setting)
    figures: dict[str, Figure] = {}
    score: dict[tuple[str, int], float] = {}
    for kept in (12, 120):
        for name in LOSSES:
            score[name, kept] = sum(_f1(setting, data, kept, name, seed) for seed in (1, 2)) / 2
            figures[f"f1_{name}_{kept}"] = score[name, kept]
    best = {kept: max(score["focal", kept], score["focal_alpha", kept]) for kept in (12, 120)}
    wins = [best[kept] > score["weights", kept] for kept in (12, 120)]
    others = int((data.y != 8).sum())
    told = "; ".join(
        f"with {kept} eights among {kept + others:,} digits "
        + ", ".join(f"{label} {score[name, kept]:.2f}" for name, label in LOSSES.items())
        for kept in (12, 120)
    )
    return Outcome(verdict(not all(wins)), f"F1 on {data.name}: {told}.", figures)


def _f1(setting: Setting, data: Digits, kept: int, name: str, seed: int) -> float:
    import torch
    import torch.nn.functional as F

    eights = (data.y == 8).nonzero().flatten()
    chosen = torch.randperm(len(eights), generator=setting.generator(seed))[:kept].to(setting.device)
    rows = torch.cat([eights[chosen], (data.y != 8).nonzero().flatten()])
    y = (data.y[rows] == 8).float()
    weight = (1 - y).sum() / y.sum()

    def loss(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if name == "weights":
            return F.binary_cross_entropy_with_logits(z, y, pos_weight=weight)
        ce = F.binary_cross_entropy_with_logits(z, y, reduction="none")
        focal = (1 - torch.exp(-ce)) ** 2 * ce
        return ((0.75 * y + 0.25 * (1 - y)) * focal if name == "focal_alpha" else focal).mean()

    says = scores(logistic(setting, data.x[rows], y, loss, steps=250, lr=0.02), data.test_x) > 0
    is_eight = data.test_y == 8
    return float(2 * (says & is_eight).sum() / (says.sum() + is_eight.sum()))


EXPERIMENT = Experiment(
    id="focal-or-weights",
    claim="Focal loss is not always better than class weights.",
    rules=("LP401", "LP404"),
    measure=measure,
    folk="Focal loss is always better for imbalanced data.",
)
