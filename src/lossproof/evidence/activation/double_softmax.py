"""Softmax, then cross entropy: a floor that no prediction gets below, and a gradient that fades."""

from __future__ import annotations

import math

from lossproof.evidence.experiment import Experiment, Outcome, Setting, number, say, verdict
from lossproof.evidence.workbench import value_and_gradient

CLASSES, GAP, ROWS = 10, 10.0, 20_000


def measure(setting: Setting) -> Outcome:
    import torch
    import torch.nn.functional as F

    def doubled(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(z.softmax(1), y, reduction="sum")

    def plain(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(z, y, reduction="sum")

    perfect = torch.zeros(1, CLASSES, device=setting.device)
    perfect[0, 0] = 1000.0
    first = setting.tensor([0])
    floor, plain_floor = float(doubled(perfect, first)), float(plain(perfect, first))
    formula = math.log(math.e + CLASSES - 1) - 1
    wrong = setting.tensor([[0.0, GAP]])
    _, (fading, _) = value_and_gradient(lambda z: doubled(z, first), wrong)
    _, (firm, _) = value_and_gradient(lambda z: plain(z, first), wrong)
    logits, labels = 5 * setting.normal(ROWS, CLASSES), setting.integers(CLASSES, ROWS, seed=1)
    leaf = logits.requires_grad_()
    bound = float(torch.autograd.grad(doubled(leaf, labels), leaf)[0].abs().max())
    return Outcome(
        verdict(abs(floor - formula) < 1e-3 and plain_floor < 1e-3 and abs(fading) < 0.01 and abs(firm) > 0.99),
        f"A perfect prediction among {CLASSES} classes has loss {say(floor, 4)} (ln(e + C - 1) - 1 is "
        f"{say(formula, 4)}; with logits {say(plain_floor)}; chance is {say(math.log(CLASSES), 4)}). Wrong by a gap of "
        f"{say(GAP)}, the gradient is {say(fading)} instead of {say(firm)}. Over {ROWS:,} random rows no gradient "
        f"exceeds {say(bound)}.",
        {
            "classes": CLASSES,
            "floor": number(floor),
            "formula": formula,
            "plain_floor": number(plain_floor),
            "chance": math.log(CLASSES),
            "gap": GAP,
            "gradient": number(fading),
            "plain_gradient": number(firm),
            "rows": ROWS,
            "largest_gradient": number(bound),
        },
    )


EXPERIMENT = Experiment(
    id="double-softmax",
    claim="A softmax before cross_entropy puts a floor under the loss and takes the gradient from confident mistakes.",
    rules=("LP102",),
    measure=measure,
    seconds=1.0,
)
