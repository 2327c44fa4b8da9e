"""Learnable loss weights that the optimizer was not given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.descent import ADAM, Descent
from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.material import backward, layers

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """Two regressions of scales 1 and 100 with uncertainty weighting, 400 steps, with and without ``s`` in hand."""
    import torch

    x = setting.normal(256, 8, seed=1)
    small = torch.sin(x @ setting.normal(8, seed=2) / 2)
    large = 100 * torch.cos(x @ setting.normal(8, seed=3) / 2)

    def trained(held: bool) -> tuple[list[float], list[float], float]:
        network = layers(setting, 8, 16, 2, seed=1, activation="Tanh")
        s = torch.zeros(2, device=setting.device, requires_grad=True)

        def loss() -> torch.Tensor:
            errors = (network(x) - torch.stack([small, large], 1)).square().mean(0)
            total: torch.Tensor = (0.5 * torch.exp(-s) * errors + 0.5 * s).sum()
            return total

        descent = Descent([*network.parameters(), *([s] if held else [])], ADAM, 0.02)
        for _ in range(400):
            for parameter in descent.parameters:
                parameter.grad = None
            backward(loss())
            descent.step([parameter.grad for parameter in descent.parameters])
        left = (network(x) - torch.stack([small, large], 1)).square().mean(0).detach()
        over = [float(left[0] / small.var()), float(left[1] / large.var())]
        assert s.grad is not None
        return s.detach().tolist(), over, float(s.grad.abs().max())

    idle, idle_left, piled = trained(held=False)
    moved, left, _ = trained(held=True)
    return Outcome(
        verdict(idle == [0.0, 0.0] and piled > 0 and min(abs(s) for s in moved) > 0.1 and left[0] < idle_left[0]),
        f"After 400 steps s is {say(idle[0])} and {say(idle[1])} where the optimizer holds the network alone (their "
        f"gradients piled up to {say(piled)}), {say(moved[0])} and {say(moved[1])} where it holds s too. The small "
        f"task keeps {say(idle_left[0])} of its variance against {say(left[0])}, the large one {say(idle_left[1])} "
        f"against {say(left[1])}.",
        {
            "s_small_unheld": idle[0],
            "s_large_unheld": idle[1],
            "gradient_unheld": piled,
            "s_small_held": moved[0],
            "s_large_held": moved[1],
            "left_small_unheld": idle_left[0],
            "left_small_held": left[0],
            "left_large_unheld": idle_left[1],
            "left_large_held": left[1],
        },
    )


EXPERIMENT = Experiment(
    id="unheld-weights",
    claim="Loss weights that no optimizer holds get gradients and never move: the run has a plain sum.",
    rules=("LP503",),
    measure=measure,
)
