"""Five tasks on drawn digits, of scales that differ ten thousand times, with and without balance.

    python examples/five_tasks/train.py            # the plain sum, then balanced: shares, weights, all five metrics
    python examples/five_tasks/train.py --tasks 12 # the same with twelve

The data ships with scikit-learn. One convolutional trunk, a head for each task: which digit, how much ink (in raw
units), where its centre is, which pixels are inked, what the right half looks like.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lossproof import balance, losses


@dataclass(frozen=True)
class Task:
    """One head: how wide it is, its loss, and its metric on held-out data (the larger the better, at most 1)."""

    width: int
    target: Callable[[Tensor, Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: Callable[[Tensor, Tensor], float]


def explained(output: Tensor, target: Tensor) -> float:
    """The share of the variance that is explained (R²)."""
    return float(1 - ((output - target) ** 2).sum() / ((target - target.mean(0)) ** 2).sum())


def accuracy(output: Tensor, target: Tensor) -> float:
    return float((output.argmax(1) == target).float().mean())


def overlap(output: Tensor, target: Tensor) -> float:
    """The Dice score of each image, averaged."""
    said = (output > 0).float()
    return float((2 * (said * target).flatten(1).sum(1) / (said + target).flatten(1).sum(1).clamp_min(1)).mean())


def centre(images: Tensor, _: Tensor) -> Tensor:
    places = torch.arange(8.0)
    ink = images.sum((1, 2, 3)).clamp_min(1e-6)
    columns = (images.sum(2)[:, 0] * places).sum(1) / ink
    rows = (images.sum(3)[:, 0] * places).sum(1) / ink
    return torch.stack([rows, columns], 1)


FIVE = {
    "digit": Task(10, lambda images, labels: labels, losses.cross_entropy, accuracy),
    "ink": Task(
        1, lambda images, labels: 16 * images.sum((1, 2, 3), keepdim=True)[:, :, 0, 0], losses.mse_loss, explained
    ),
    "centre": Task(2, centre, losses.mse_loss, explained),
    "mask": Task(64, lambda images, labels: (images > 0.5).float().view(-1, 1, 8, 8), losses.dice_loss, overlap),
    "right half": Task(32, lambda images, labels: 16 * images[:, 0, :, 4:].flatten(1), losses.mse_loss, explained),
}


def tasks(number: int) -> dict[str, Task]:
    """The five, and for more of them single rows of the image in units of their own."""
    found = dict(FIVE)
    for row in range(number - len(found)):
        scale = 10.0 ** (row % 4)

        def target(images: Tensor, labels: Tensor, row: int = row, scale: float = scale) -> Tensor:
            return scale * images[:, 0, row % 8]

        found[f"row {row} x {scale:g}"] = Task(8, target, losses.mse_loss, explained)
    return found


class Net(nn.Module):
    def __init__(self, chosen: dict[str, Task]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(256, 64), nn.ReLU(),
        )  # fmt: skip
        self.heads = nn.ModuleDict({name.replace(".", "_"): nn.Linear(64, task.width) for name, task in chosen.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.trunk(images)
        found = {name: head(features) for name, head in self.heads.items()}
        if "mask" in found:
            found["mask"] = found["mask"].view(-1, 1, 8, 8)
        return found


def run(
    chosen: dict[str, Task],
    balancer: balance.Balancer,
    *,
    epochs: int,
    seed: int = 0,
    tell: bool = False,
    standardize: bool = False,
) -> dict[str, float]:
    """Train, and give the metrics on held-out data."""
    torch.manual_seed(seed)
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(data.target)
    targets = {name: task.target(images, labels) for name, task in chosen.items()}
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, test = order[:1400], order[1400:]
    if standardize:  # R² does not change with the unit of the target
        for name, task in chosen.items():
            if task.loss is losses.mse_loss:
                known = targets[name][train]
                targets[name] = (targets[name] - known.mean(0)) / known.std()
    net = Net(chosen)
    optimizer = torch.optim.Adam([*net.parameters(), *balancer.parameters()], lr=2e-3)

    def given(batch: Tensor) -> dict[str, Tensor]:
        outputs = net(images[batch])
        return {name: task.loss(outputs[name], targets[name][batch]) for name, task in chosen.items()}

    @torch.no_grad()
    def metrics() -> dict[str, float]:
        outputs = net(images[test])
        return {name: task.metric(outputs[name], targets[name][test]) for name, task in chosen.items()}

    if tell:
        batches = iter(train.split(128))
        print(balance.measure(lambda: given(next(batches)), batches=8))
    for _ in range(epochs):
        for batch in train[torch.randperm(len(train))].split(64):
            optimizer.zero_grad()
            balancer(given(batch)).backward()
            optimizer.step()

    return metrics()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=5, choices=range(5, 41), metavar="5..40")
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the network is small
    chosen = tasks(options.tasks)
    names = list(chosen)
    print("At the start, with the plain sum:\n")
    before = run(chosen, balance.Fixed(names), epochs=options.epochs, tell=True)
    found = {
        "untrained": run(chosen, balance.Fixed(names), epochs=0),
        "plain sum": before,
        "inverse scale": run(chosen, balance.InverseScale(names), epochs=options.epochs),
        "standardized": run(chosen, balance.InverseScale(names), epochs=options.epochs, standardize=True),
        "upgrad, unit rows": run(chosen, balance.GradientBalancer(names), epochs=options.epochs),
    }
    print("\nHeld-out metric of each task (1 is perfect):\n")
    width = max(len(name) for name in names)
    print(f"{'':{width}}  " + "  ".join(f"{title:>17}" for title in found))
    for name in names:
        print(f"{name:{width}}  " + "  ".join(f"{metrics[name]:>17.3f}" for metrics in found.values()))


if __name__ == "__main__":
    main()
