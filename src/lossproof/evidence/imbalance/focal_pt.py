"""The probability that a focal loss needs, taken from four cross entropies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, say, verdict

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """An easy element and a hard one: ``pt`` and the factor ``(1 - pt) ** 2`` of each."""
    import torch
    import torch.nn.functional as F

    logits, target = setting.tensor([[4.0, 0.0], [-1.0, 0.0]]), setting.tensor([0, 0])
    weight = setting.tensor([10.0, 1.0])
    sources: dict[str, torch.Tensor] = {
        "plain": F.cross_entropy(logits, target, reduction="none"),
        "mean": F.cross_entropy(logits, target).expand(2),
        "weighted": F.cross_entropy(logits, target, weight=weight, reduction="none"),
        "smoothed": F.cross_entropy(logits, target, label_smoothing=0.1, reduction="none"),
    }
    true = torch.softmax(logits, 1)[:, 0].tolist()
    figures: dict[str, Figure] = {}
    factor: dict[str, tuple[float, float]] = {}
    for name, ce in sources.items():
        easy, hard = torch.exp(-ce).tolist()
        figures[f"pt_easy_{name}"], figures[f"pt_hard_{name}"] = easy, hard
        factor[name] = ((1 - easy) ** 2, (1 - hard) ** 2)
        figures[f"factor_easy_{name}"], figures[f"factor_hard_{name}"] = factor[name]

    def focusing(name: str) -> float:
        """How many times less an easy element counts than a hard one."""
        easy, hard = factor[name]
        return hard / easy

    right = abs(focusing("plain") / ((1 - true[1]) / (1 - true[0])) ** 2 - 1) < 0.01
    wrong = all(focusing(name) < 0.1 * focusing("plain") for name in ("mean", "weighted", "smoothed"))
    return Outcome(
        verdict(right and wrong and abs(focusing("mean") - 1) < 1e-6),
        f"The factor of a hard element (p = {true[1]:.3f}) over that of an easy one (p = {true[0]:.3f}): "
        f"{say(focusing('plain'))} with pt from each element's own cross entropy, {say(focusing('mean'))} from the "
        f"mean, {say(focusing('weighted'))} from one with a class weight of 10, {say(focusing('smoothed'))} from one "
        "with label_smoothing=0.1.",
        figures,
    )


EXPERIMENT = Experiment(
    id="focal-pt",
    claim="Only for an unreduced, unweighted, unsmoothed ce is exp(-ce) the probability of the right class.",
    rules=("LP402",),
    measure=measure,
    seconds=1.0,
)
