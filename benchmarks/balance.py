"""Measure what balancing costs: a training step with each way of putting K losses together, beside the plain sum.

    python benchmarks/balance.py                        # K = 2, 5, 10, 40 on an MLP and a small CNN
    python benchmarks/balance.py --peers DIR            # torchjd's own calls too, from a folder it is installed in
    python benchmarks/balance.py --tasks 2 5 --rounds 5

A step is forward, losses, total, backward and Adam, on one thread, in CPU seconds. All ways run in each round, in
an order drawn anew, and each is divided by the plain sum of its own round; a figure is the median of these ratios. The
second plain sum says how large the noise is.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossproof import balance

Step = Callable[[], Any]


class Net(nn.Module):
    """A trunk, and a linear head for each task."""

    def __init__(self, kind: str, tasks: int) -> None:
        super().__init__()
        if kind == "MLP":
            self.trunk = nn.Sequential(
                nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU()
            )
            self.x, width = torch.randn(256, 64), 128
        else:
            self.trunk = nn.Sequential(
                nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            )  # fmt: skip
            self.x, width = torch.randn(32, 3, 16, 16), 128
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks))
        self.y = torch.randn(len(self.x), tasks)

    def losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        features = self.trunk(self.x)
        found = {f"t{i}": F.mse_loss(head(features)[:, 0], self.y[:, i]) for i, head in enumerate(self.heads)}
        return features, found


def ways(kind: str, tasks: int, peers: bool) -> dict[str, Step]:
    names = [f"t{i}" for i in range(tasks)]

    def with_total(make: Callable[[Net], Callable[[Tensor, dict[str, Tensor]], Tensor | None]]) -> Step:
        torch.manual_seed(0)
        net = Net(kind, tasks)
        how = make(net)
        learnt = getattr(how, "learnt", [])
        optimizer = torch.optim.Adam([*net.parameters(), *learnt])

        def step() -> None:
            optimizer.zero_grad()
            total = how(*net.losses())
            if total is not None:
                total.backward()
            optimizer.step()

        return step

    def balanced(make: Callable[[], balance.Balancer]) -> Step:
        def made(net: Net) -> Any:
            balancer = make()

            def how(_: Tensor, losses: dict[str, Tensor]) -> Tensor:
                return balancer(losses)

            how.learnt = [p for p in balancer.parameters() if p.requires_grad]  # type: ignore[attr-defined]
            return how

        return with_total(made)

    def at_features(net: Net) -> Any:
        balancer = balance.GradientBalancer(names)
        return lambda features, losses: balancer(losses, features=features)

    def plain(net: Net) -> Any:
        return lambda _, losses: torch.stack(list(losses.values())).sum()

    def each_alone(net: Net) -> Any:
        leaves = list(net.trunk.parameters())

        def how(_: Tensor, losses: dict[str, Tensor]) -> Tensor:
            for loss in losses.values():
                torch.autograd.grad(loss, leaves, retain_graph=True)
            return torch.stack(list(losses.values())).sum()

        return how

    def measured(every: int) -> Callable[[Net], Any]:
        def made(net: Net) -> Any:
            count = 0

            def how(_: Tensor, losses: dict[str, Tensor]) -> Tensor:
                nonlocal count
                if count % every == 0:
                    balance.measure(losses)
                count += 1
                return torch.stack(list(losses.values())).sum()

            return how

        return made

    found = {
        "plain sum": with_total(plain),
        "plain sum again": with_total(plain),
        "Fixed": balanced(lambda: balance.Fixed(names)),
        "Fixed, asking nothing": balanced(lambda: balance.Fixed(names, non_finite="pass")),
        "InverseScale": balanced(lambda: balance.InverseScale(names)),
        "Uncertainty": balanced(lambda: balance.Uncertainty(dict.fromkeys(names, "regression"))),
        "GradientBalancer": balanced(lambda: balance.GradientBalancer(names)),
        "GradientBalancer, at features": with_total(at_features),
        "GradientBalancer, every 10": balanced(lambda: balance.GradientBalancer(names, every=10)),
        "measure() at each step": with_total(measured(1)),
        "K x autograd.grad, then the sum": with_total(each_alone),
    }
    if peers:
        from torchjd.aggregation import UPGrad
        from torchjd.autojac import backward, jac_to_grad, mtl_backward

        def peer_backward(net: Net) -> Any:
            trunk = list(net.trunk.parameters())
            aggregator = UPGrad()

            def how(_: Tensor, losses: dict[str, Tensor]) -> None:
                backward(list(losses.values()))
                jac_to_grad(trunk, aggregator)
                for head in net.heads:
                    for p in head.parameters():
                        p.grad = p.jac.sum(0)  # type: ignore[attr-defined]
                        del p.jac

            return how

        def peer_mtl(chunk: int | None) -> Callable[[Net], Any]:
            def made(net: Net) -> Any:
                aggregator, trunk = UPGrad(), list(net.trunk.parameters())

                def how(features: Tensor, losses: dict[str, Tensor]) -> None:
                    mtl_backward(list(losses.values()), features=features, parallel_chunk_size=chunk)
                    jac_to_grad(trunk, aggregator)

                return how

            return made

        found["torchjd backward, UPGrad"] = with_total(peer_backward)
        found["torchjd mtl_backward, UPGrad"] = with_total(peer_mtl(None))
        found["torchjd mtl_backward, chunks of 1"] = with_total(peer_mtl(1))
    return found


def timed(steps: dict[str, Step], rounds: int) -> tuple[float, dict[str, float]]:
    taken: dict[str, list[float]] = {name: [] for name in steps}
    order, generator = list(steps), random.Random(0)
    for _ in range(rounds + 2):
        generator.shuffle(order)  # what comes before leaves the caches as it likes
        for name in order:
            start = time.process_time()
            steps[name]()
            taken[name].append(time.process_time() - start)
    plain = taken["plain sum"][2:]
    ratios = {
        name: statistics.median(a / b for a, b in zip(each[2:], plain, strict=True)) for name, each in taken.items()
    }
    return statistics.median(plain), ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="*", default=[2, 5, 10, 40])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--ways", nargs="*", help="only those whose names begin so")
    parser.add_argument("--peers", type=Path, help="a folder that torchjd is installed in")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.peers:
        sys.path.append(str(options.peers))
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {options.rounds} rounds")
    table: dict[str, dict[str, float]] = {}
    columns: list[str] = []
    seconds: list[float] = []
    for kind in ("MLP", "CNN"):
        for tasks in options.tasks:
            steps = ways(kind, tasks, bool(options.peers))
            if options.ways:
                steps = {name: step for name, step in steps.items() if name.startswith(("plain", *options.ways))}
            plain, ratios = timed(steps, options.rounds)
            columns.append(f"{kind}, {tasks}")
            seconds.append(plain)
            for name, ratio in ratios.items():
                table.setdefault(name, {})[columns[-1]] = ratio
    print(f"\n| | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
    print(f"| plain sum, ms | {' | '.join(f'{1000 * each:.1f}' for each in seconds)} |")
    for name, row in table.items():
        if name != "plain sum":
            print(f"| {name} | {' | '.join(f'{row[column]:.2f}' for column in columns)} |")
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
