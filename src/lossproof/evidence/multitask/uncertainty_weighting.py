"""Where uncertainty weighting comes to rest, in three forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossproof.evidence.descent import ADAM
from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, say, verdict
from lossproof.evidence.material import descend

if TYPE_CHECKING:
    import torch

LOSSES = (1e-6, 0.01, 1.0, 100.0)
FORMS = {"regression": (0.5, 0.5), "classification": (1.0, 0.5), "one_for_all": (1.0, 1.0)}
"""``a * exp(-s) * L + b * s``: what stands for a and b."""


def measure(setting: Setting) -> Outcome:
    """Four constant losses; the weight ``a * exp(-s)`` that each form gives them at first and in the end."""
    import torch

    losses = setting.tensor(LOSSES)
    figures: dict[str, Figure] = {}
    first: dict[str, float] = {}
    product: dict[str, list[float]] = {}
    least = 0.0
    for form, (a, b) in FORMS.items():
        s = torch.zeros(len(LOSSES), device=setting.device, requires_grad=True)

        def parts(s: torch.Tensor = s, a: float = a, b: float = b) -> tuple[torch.Tensor, torch.Tensor]:
            weights = a * torch.exp(-s)
            return weights, weights * losses + b * s

        first[form] = float(parts()[0][0].detach())
        descend([s], lambda _, parts=parts: parts()[1].sum(), 400, lr=0.3, method=ADAM)  # type: ignore[misc]
        weights, value = (each.detach() for each in parts())
        product[form] = (weights * losses).tolist()
        least = float(value.min()) if form == "regression" else least
        for loss, weight in zip(LOSSES, weights.tolist(), strict=True):
            figures[f"weight_{form}_loss_{loss:g}"] = weight
        figures[f"first_weight_{form}"], figures[f"weight_times_loss_{form}"] = first[form], product[form][-1]
    figures["objective_least"] = least
    even = all(max(ps) < 1.05 * min(ps) for ps in product.values())
    ended = product["classification"][-1] / product["regression"][-1]
    began = first["classification"] / first["regression"]
    told = ", ".join(say(figures[f"weight_regression_loss_{loss:g}"]) for loss in LOSSES)
    return Outcome(
        verdict(even and abs(ended - 1) < 0.05 and abs(began - 2) < 0.05 and least < 0),
        f"For losses of {', '.join(map(say, LOSSES))} the form for regression ends at weights of {told}: weight times "
        f"loss is {say(product['regression'][-1])} for each, {say(product['classification'][-1])} in the form for "
        f"classification and {say(product['one_for_all'][-1])} in exp(-s) * L + s. The weight of a classification over "
        f"that of a regression is {say(began)} at first and {say(ended)} in the end. The smallest loss contributes "
        f"{say(least)}: the objective has no floor at 0.",
        figures,
    )


EXPERIMENT = Experiment(
    id="uncertainty-weighting",
    claim="At its optimum uncertainty weighting gives each task a weight of 1 over its loss, up to a constant.",
    rules=("LP501", "LP503"),
    measure=measure,
    folk="Uncertainty weighting is exp(-s) * L + s for every task, and it learns which task matters.",
)
