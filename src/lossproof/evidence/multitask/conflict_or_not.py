"""Two objectives that pull against each other: sometimes both can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.material import descend, layers

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """Reconstruction beside diversity on the sphere, and one output for two targets; each alone and together."""
    import torch
    import torch.nn.functional as F

    x = setting.normal(128, 16, seed=1) * torch.linspace(2, 0.2, 16, device=setting.device)

    def autoencoder(rebuild: float, spread: float) -> tuple[float, float]:
        encoder, decoder = layers(setting, 16, 4, seed=1), layers(setting, 4, 16, seed=2)

        def losses() -> tuple[torch.Tensor, torch.Tensor]:
            z = encoder(x)
            return F.mse_loss(decoder(z), x), 1 - torch.pdist(F.normalize(z[:64])).mean() / 2**0.5

        def loss(_: int) -> torch.Tensor:
            first, second = losses()
            return rebuild * first + spread * second

        descend([*encoder.parameters(), *decoder.parameters()], loss, 200, lr=0.02, method="Adam")
        first, second = losses()
        return float(first.detach()), float(second.detach())

    alone, _ = autoencoder(1.0, 0.0)
    _, spread_alone = autoencoder(0.0, 1.0)
    both, spread_both = autoencoder(1.0, 0.1)

    target, other = setting.tensor([1.0, 0.0]), setting.tensor([-1.0, 0.0])

    def one_output(weight: float) -> tuple[float, float]:
        """Two squared errors of one output, at the optimum of their weighted sum, found by descent."""
        w = torch.zeros(2, device=setting.device, requires_grad=True)
        descend(
            [w], lambda _: weight * (w - target).square().sum() + (1 - weight) * (w - other).square().sum(), 100, lr=0.3
        )
        at = w.detach()
        return float((at - target).square().sum()), float((at - other).square().sum())

    front = [one_output(weight) for weight in (0.2, 0.5, 0.8)]
    solvable = both < 1.05 * alone and spread_both < spread_alone + 0.1
    traded = front[0][0] > front[1][0] > front[2][0] and front[0][1] < front[1][1] < front[2][1]
    return Outcome(
        verdict(solvable and traded),
        f"Reconstruction error {say(alone)} alone and {say(both)} beside a term for diversity on the sphere, which "
        f"reaches {say(spread_both)} ({say(spread_alone)} alone): both can be had. Two targets for one output: errors "
        f"of {'; '.join(f'{say(a)} and {say(b)}' for a, b in front)} at three weights: a trade-off that no weight "
        "resolves.",
        {
            "reconstruction_alone": alone,
            "reconstruction_both": both,
            "diversity_alone": spread_alone,
            "diversity_both": spread_both,
            **{f"error_first_{i}": a for i, (a, _) in enumerate(front)},
            **{f"error_second_{i}": b for i, (_, b) in enumerate(front)},
        },
    )


EXPERIMENT = Experiment(
    id="conflict-or-not",
    claim="Objectives that pull against each other conflict only where together they miss what each reaches alone.",
    rules=("LP501", "LP502"),
    measure=measure,
)
