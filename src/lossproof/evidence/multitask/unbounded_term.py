"""A term that is maximized without a floor, and three ways to bound it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, say, verdict
from lossproof.evidence.material import descend, layers

if TYPE_CHECKING:
    import torch

STEPS = (60, 120, 240)


def measure(setting: Setting) -> Outcome:
    """A linear autoencoder (16-4-16) with and without a term for diversity, 240 steps."""
    import torch
    import torch.nn.functional as F

    x = setting.normal(128, 16, seed=1) * torch.linspace(2, 0.2, 16, device=setting.device)
    terms: dict[str, tuple[str, float, Callable[[torch.Tensor], torch.Tensor]]] = {
        "none": ("Adam", 0.04, lambda z: 0 * z.sum()),
        "distance": ("Adam", 0.04, lambda z: -torch.pdist(z[:64]).mean()),
        "variance": ("Adam", 0.04, lambda z: -z.var(0).mean()),
        "variance_sgd": ("SGD", 0.1, lambda z: -z.var(0).mean()),
        "hinge": ("Adam", 0.04, lambda z: torch.relu(1 - z.std(0)).mean()),
        "normalized": ("Adam", 0.04, lambda z: -torch.pdist(F.normalize(z[:64])).mean()),
    }
    figures: dict[str, Figure] = {}
    history: dict[str, list[float]] = {}
    rebuilt: dict[str, float] = {}
    for name, (method, lr, term) in terms.items():
        encoder, decoder = layers(setting, 16, 4, seed=1), layers(setting, 4, 16, seed=2)
        seen: list[float] = []

        def loss(
            step: int,
            encoder: Callable[[torch.Tensor], torch.Tensor] = encoder,
            decoder: Callable[[torch.Tensor], torch.Tensor] = decoder,
            term: Callable[[torch.Tensor], torch.Tensor] = term,
            seen: list[float] = seen,
        ) -> torch.Tensor:
            z = encoder(x)
            total = F.mse_loss(decoder(z), x) + term(z)
            if step in STEPS:
                seen.append(float(total.detach()))
            return total

        descend([*encoder.parameters(), *decoder.parameters()], loss, STEPS[-1] + 1, lr=lr, method=method)
        history[name] = seen
        rebuilt[name] = float(F.mse_loss(decoder(encoder(x)), x).detach())
        for step, value in zip(STEPS, seen, strict=True):
            figures[f"loss_{name}_{step}"] = value
        figures[f"reconstruction_{name}"] = rebuilt[name]
    best = rebuilt["none"]
    falling = all(history[name][2] < 1.5 * history[name][1] < 2 * history[name][0] for name in ("distance", "variance"))
    bounded = all(abs(history[name][2] - history[name][1]) < 0.1 for name in ("hinge", "normalized"))

    told = {name: ", ".join(say(value) for value in seen) for name, seen in history.items()}
    return Outcome(
        verdict(
            falling and bounded and not math.isfinite(history["variance_sgd"][-1]) and rebuilt["hinge"] < 1.05 * best
        ),
        f"An autoencoder's loss at steps {', '.join(map(str, STEPS))}: {told['none']} without a term; "
        f"{told['distance']} with minus the mean distance; {told['variance']} with minus the variance (with SGD: "
        f"{told['variance_sgd']}); {told['hinge']} with a hinge; {told['normalized']} with the distance of normalized "
        f"embeddings. In the end its reconstruction error is {say(best)} without a term, then "
        f"{say(rebuilt['distance'])}, {say(rebuilt['variance'])}, {say(rebuilt['hinge'])} and "
        f"{say(rebuilt['normalized'])}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="unbounded-term",
    claim="Minus a distance or a variance has no floor: the loss falls for ever; a hinge or a normalization bounds it.",
    rules=("LP502",),
    measure=measure,
)
