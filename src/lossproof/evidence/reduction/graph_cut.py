"""What becomes of the gradient where something in the loss lets none through."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossproof.evidence.experiment import Experiment, Outcome, Setting, verdict
from lossproof.evidence.material import pull

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """Each operation as the whole loss, and as one term beside a squared error that trains."""
    import torch
    import torch.nn.functional as F

    x, y = setting.normal(64, 3, seed=1), setting.normal(64, seed=2)
    weights = setting.normal(3, seed=3)
    operations: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "round": torch.round,
        "floor": torch.floor,
        "sign": torch.sign,
        "detach": torch.Tensor.detach,
        "item": lambda z: torch.tensor([v.item() for v in z], device=z.device),
        "compare": lambda z: (z > 0).float(),
        "argmax": lambda z: torch.stack([z, -z], 1).argmax(1).float(),
        "one_hot": lambda z: F.one_hot((z > 0).long(), 2)[:, 1].float(),
    }

    if importlib.util.find_spec("numpy") is not None:
        operations["numpy"] = lambda z: torch.from_numpy(z.detach().cpu().numpy()).to(z.device)

    def error(z: torch.Tensor) -> torch.Tensor:
        return (z - y).square().mean()

    _, plain = pull(lambda w: error(x @ w), weights)
    silent, refused, decorative = [], [], []
    for name, cut in operations.items():
        try:
            _, alone = pull(lambda w, cut=cut: error(cut(x @ w)), weights)  # type: ignore[misc]
        except RuntimeError:
            refused.append(name)
        else:
            silent += [] if alone.any() else [name]
        _, beside = pull(lambda w, cut=cut: error(x @ w) + error(cut(x @ w)), weights)  # type: ignore[misc]
        decorative += [name] if torch.equal(beside, plain) else []
    return Outcome(
        verdict(bool(silent) and len(decorative) == len(operations)),
        f"As the whole loss {', '.join(silent) or 'none'} gave a gradient of exactly 0 and no error, "
        f"{', '.join(refused) or 'none'} raised. As one of two terms {len(decorative)} of {len(operations)} raised "
        "nothing and left the gradient as it is without the term, to the bit.",
        {
            "silent_zero": ", ".join(silent),
            "raised": ", ".join(refused),
            "decorative_terms": len(decorative),
            "operations": len(operations),
        },
    )


EXPERIMENT = Experiment(
    id="graph-cut",
    claim="A term of the loss that is rounded, thresholded or detached trains nothing, and no error says so.",
    rules=("LP302",),
    measure=measure,
    seconds=1.0,
)
