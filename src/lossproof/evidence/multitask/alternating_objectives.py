"""Two conflicting objectives in turn, and their plain sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, say, verdict
from lossproof.evidence.material import descend

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """Two targets for one output, SGD: the sum, and one objective at even steps and the other at odd ones."""
    import torch

    target, other = setting.tensor([1.0, 0.0]), setting.tensor([-1.0, 0.5])

    def run(alternate: bool) -> list[float]:
        w = torch.zeros(2, device=setting.device, requires_grad=True)
        seen: list[float] = []

        def loss(step: int) -> torch.Tensor:
            errors = [(w - target).square().sum(), (w - other).square().sum()]
            if step >= 198:
                seen.extend(float(error.detach()) for error in errors)
            return errors[step % 2] if alternate else (errors[0] + errors[1]) / 2

        descend([w], loss, 200, lr=0.2)
        return seen

    even_first, even_other, odd_first, odd_other = run(alternate=True)
    steady_first, steady_other, *_ = run(alternate=False)
    turn = (even_first + odd_first + even_other + odd_other) / 2
    together = steady_first + steady_other
    swing = abs(even_first - odd_first) / steady_first
    return Outcome(
        verdict(turn >= together * 0.999 and swing > 0.2),
        f"In turns the first error swings between {say(odd_first)} and {say(even_first)} and the second between "
        f"{say(even_other)} and {say(odd_other)}, {say(turn)} together on average; the plain sum rests at "
        f"{say(steady_first)} and {say(steady_other)}, {say(together)} together.",
        {
            "first_even": even_first,
            "first_odd": odd_first,
            "second_even": even_other,
            "second_odd": odd_other,
            "first_sum": steady_first,
            "second_sum": steady_other,
        },
    )


EXPERIMENT = Experiment(
    id="alternating-objectives",
    claim="Alternating between conflicting objectives swings around what their sum reaches and is no better.",
    rules=("LP501", "LP502"),
    measure=measure,
    folk="Optimize one objective in even epochs and the other in odd ones, and the conflict is gone.",
)
