"""Three ways to keep a feature network from being trained, of which one works."""

from __future__ import annotations

from lossproof.evidence.experiment import Experiment, Outcome, Setting, verdict
from lossproof.evidence.material import backward, made


def measure(setting: Setting) -> Outcome:
    """The attribute, ``no_grad`` around the features, and the method: who gets a gradient, judge or image."""
    import torch
    from torch import nn

    def gradients(way: str) -> tuple[bool, bool]:
        judge = made(setting, lambda: nn.Conv2d(3, 8, 3))
        image = setting.uniform(1, 3, 8, 8, seed=1).requires_grad_()
        if way == "attribute":
            judge.requires_grad = False
        elif way == "method":
            judge.requires_grad_(False)
        with torch.set_grad_enabled(way != "no_grad"):
            features = judge(image)
        loss = (features.square() + 0 * image.sum()).mean()
        backward(loss)
        assert image.grad is not None
        return judge.weight.grad is not None, bool(image.grad.any())

    seen = {way: gradients(way) for way in ("attribute", "no_grad", "method")}

    def told(way: str) -> str:
        judge, image = seen[way]
        return f"{'a' if judge else 'no'} gradient for its weights and {'one' if image else 'none'} for the image"

    return Outcome(
        verdict(seen == {"attribute": (True, True), "no_grad": (False, False), "method": (False, True)}),
        f"With judge.requires_grad = False there is {told('attribute')}; with torch.no_grad() around the features "
        f"{told('no_grad')}; with judge.requires_grad_(False) {told('method')}.",
        {f"{who}_gradient_{way}": had[i] for way, had in seen.items() for i, who in enumerate(("judge", "image"))},
    )


EXPERIMENT = Experiment(
    id="frozen-or-not",
    claim="Setting module.requires_grad = False freezes nothing; no_grad around the features ends the loss's gradient.",
    rules=("LP302", "LP601"),
    measure=measure,
    folk="Set requires_grad = False on the network and it is frozen.",
    seconds=1.0,
)
