"""Where uncertainty weighting comes to rest, in three forms."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, say, verdict
from lossproof.evidence.material import descend

LOSSES = (0.01, 1.0, 100.0)
FORMS = {"regression": (0.5, 0.5), "classification": (1.0, 0.5), "one_for_all": (1.0, 1.0)}
"""``a * exp(-s) * L + b * s``: what stands for a and b."""


def measure(setting: Setting) -> Outcome:
    """Three constant losses; the weight ``a * exp(-s)`` that each form gives them at first and in the end."""
    import torch

    losses = setting.tensor(LOSSES)
    figures: dict[str, Figure] = {}
    product: dict[str, list[float]] = {}
    for form, (a, b) in FORMS.items():
        s = torch.zeros(3, device=setting.device, requires_grad=True)
        descend([s], lambda _, a=a, b=b, s=s: (a * torch.exp(-s) * losses + b * s).sum(), 400, lr=0.3, method="Adam")  # type: ignore[misc]
        weights = (a * torch.exp(-s)).detach()
        product[form] = (weights * losses).tolist()
        for value, weight in zip(LOSSES, weights.tolist(), strict=True):
            figures[f"weight_{form}_loss_{value:g}"] = weight
    settled = all(abs(p / FORMS[form][1] - 1) < 0.02 for form, ps in product.items() for p in ps)
    vanishing = 1e-6
    least = 0.5 + 0.5 * float(setting.tensor(vanishing).log())
    figures["objective_at_loss_1e-6"] = least
    told = ", ".join(say(figures[f"weight_regression_loss_{value:g}"]) for value in LOSSES)
    return Outcome(
        verdict(settled),
        f"For losses of {', '.join(say(value) for value in LOSSES)} the form for regression ends at weights of {told}: "
        f"weight times loss is {say(product['regression'][0])} for each, {say(product['classification'][0])} in the "
        f"form for classification, {say(product['one_for_all'][0])} in exp(-s) * L + s. At first they weigh "
        f"{', '.join(say(a) for a, _ in FORMS.values())}. A loss of {say(vanishing)} makes its part of the sum "
        f"{say(least)}: it has no floor at 0.",
        figures,
    )


EXPERIMENT = Experiment(
    id="uncertainty-weighting",
    claim="At its optimum uncertainty weighting gives each task a weight of 1 over its loss, up to a constant.",
    rules=("LP501", "LP503"),
    measure=measure,
    folk="Uncertainty weighting is exp(-s) * L + s for every task, and it learns which task matters.",
)
