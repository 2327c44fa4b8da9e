"""A network with batch norm and dropout, evaluated in both modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossproof.evidence.experiment import Experiment, Outcome, Setting, percent, say, verdict
from lossproof.evidence.material import descend, made, share

if TYPE_CHECKING:
    import torch


def measure(setting: Setting) -> Outcome:
    """Two overlapping classes; accuracy on 1,000 new rows in batches of 100, mixed and in the order of the classes."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    def rows(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.arange(count, device=setting.device) % 2
        return setting.normal(count, 8, seed=seed) + 1.1 * (y[:, None] - 0.5), y

    def build() -> Any:
        return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 2))

    x, y = rows(512, seed=1)
    test_x, test_y = rows(1000, seed=2)
    order = test_y.argsort(stable=True)
    network = made(setting, build)
    torch.manual_seed(0)
    descend(network.parameters(), lambda _: F.cross_entropy(network(x), y), 150, lr=0.02, method="Adam")
    before = network[1].running_mean.clone()

    def accuracy(training: bool, rows: torch.Tensor) -> float:
        network.train(training)
        with torch.no_grad():
            says = torch.cat([network(part).argmax(1) for part in test_x[rows].split(100)])
        return share(says == test_y[rows])

    evaluated = accuracy(False, order)
    mixed = accuracy(True, torch.arange(1000, device=setting.device))
    moved = float((network[1].running_mean - before).abs().max())
    sorted_ = accuracy(True, order)
    return Outcome(
        verdict(sorted_ < evaluated - 0.15 and moved > 0),
        f"Accuracy {percent(evaluated)} in evaluation mode. In training mode, under no_grad(): {percent(mixed)} in "
        f"mixed batches and {percent(sorted_)} in the order of the classes; one pass over the test data moved the "
        f"running mean by up to {say(moved, 2)}.",
        {"eval": evaluated, "train_mixed": mixed, "train_in_order": sorted_, "running_mean_moved": moved},
    )


EXPERIMENT = Experiment(
    id="train-mode-at-inference",
    claim="In training mode the answer for a row depends on its neighbours and on chance, under no_grad() as well.",
    rules=("LP703",),
    measure=measure,
    folk="torch.no_grad() is enough for inference.",
)
