"""A training that goes on in evaluation mode after a validation."""

from __future__ import annotations

from typing import Any

from lossproof.evidence.experiment import Experiment, Figure, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import descend, made


def measure(setting: Setting) -> Outcome:
    """A network with batch norm and dropout: what is dropped and what is remembered in 50 steps of each mode."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    x = 3 + setting.normal(128, 8, seed=1)
    y = (x[:, 0] > 3).long()

    def build() -> Any:
        return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.Dropout(0.5), nn.Linear(32, 2))

    def trained(training: bool) -> tuple[float, float]:
        """The share of activations that dropout drops, and how far the running mean has come from 0."""
        network = made(setting, build).train(training)
        torch.manual_seed(0)
        descend(network.parameters(), lambda _: F.cross_entropy(network(x), y), 50, lr=0.05)
        dropped = float((network[2](torch.ones(100, 32, device=setting.device)) == 0).float().mean())
        return dropped, float(network[1].running_mean.abs().max())

    dropped, moved = trained(training=True)
    kept, still = trained(training=False)
    figures: dict[str, Figure] = {
        "dropped_train": dropped,
        "dropped_eval": kept,
        "running_mean_train": moved,
        "running_mean_eval": still,
    }
    return Outcome(
        verdict(dropped > 0.4 and moved > 0.1 and kept == 0 and still == 0),
        f"In training mode dropout drops {percent(dropped, 0)} and the running mean moves by up to {say(moved)}; in "
        f"evaluation mode it drops {percent(kept, 0)} and the running mean moves by {say(still)}.",
        figures,
    )


EXPERIMENT = Experiment(
    id="training-in-eval-mode",
    claim="A training that goes on after eval() without train() has no dropout and remembers no batch statistics.",
    rules=("LP703",),
    measure=measure,
)
