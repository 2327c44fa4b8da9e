"""Measure what the graph eye costs: recording, audit and autopsy, each as a part of one training step.

    python benchmarks/graph.py                # three models, and a graph of 100,000 operators
    python benchmarks/graph.py --rounds 60    # steadier

Everything is CPU time of one process on one thread. The variants of a step take turns within each round and in going
first, and each is divided by the plain step of its own round, so that whatever else the machine does meets them all. A
figure is the median of these ratios; the second plain step of each round says how large the noise is. *recording* and
*anomaly mode* are whole steps made under them: what they take beyond a plain step is shown. *audit* and *autopsy* are
what the call takes by itself.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import nn

import lossproof

Batch = tuple[torch.Tensor, torch.Tensor]


def mlp() -> tuple[nn.Module, Batch]:
    layers = [nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(256, 10)), (torch.randn(128, 64), torch.randint(0, 10, (128,)))


def cnn() -> tuple[nn.Module, Batch]:
    widths = [3, 32, 32, 32, 32]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    return nn.Sequential(*layers), (torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,)))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 6)
        self.head = nn.Linear(128, 1000)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.head(self.encoder(self.embedding(tokens), mask=mask, is_causal=True)).transpose(1, 2)


def transformer() -> tuple[nn.Module, Batch]:
    tokens = torch.randint(0, 1000, (16, 65))
    return Transformer(), (tokens[:, :-1], tokens[:, 1:])


MODELS: dict[str, Callable[[], tuple[nn.Module, Batch]]] = {"MLP": mlp, "CNN": cnn, "6-layer transformer": transformer}
STEPS = ("second plain step", "recording", "anomaly mode")
COLUMNS = (*STEPS, "audit", "audit, recorded", "autopsy", "autopsy of a NaN")


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(make: Callable[[], tuple[nn.Module, Batch]], rounds: int) -> tuple[float, int, dict[str, float]]:
    torch.manual_seed(0)
    model, (x, y) = make()
    optimizer = torch.optim.Adam(model.parameters())

    def forward(around: AbstractContextManager[object], scale: float = 1.0) -> torch.Tensor:
        optimizer.zero_grad()
        with around:
            return F.cross_entropy(model(x) * scale, y)

    def step(around: AbstractContextManager[object]) -> None:
        forward(around).backward()
        optimizer.step()

    def anomaly() -> AbstractContextManager[object]:
        return torch.autograd.set_detect_anomaly(True, check_nan=False)

    around = {
        "step": nullcontext,
        "recording": lossproof.recording,
        "anomaly mode": anomaly,
        "second plain step": nullcontext,
    }
    taken: dict[str, list[float]] = {}
    for number in range(rounds + 3):
        step(nullcontext())  # what came before is forgotten
        order = list(around)
        order = order[number % len(order) :] + order[: number % len(order)]
        found = {name: seconds(lambda: step(around[name]())) for name in order}  # noqa: B023
        loss = forward(nullcontext())
        found["audit"] = seconds(lambda: lossproof.audit(loss, names=model, optimizer=optimizer))  # noqa: B023
        found["autopsy"] = seconds(lambda: lossproof.autopsy(loss, names=model))  # noqa: B023
        noted = forward(lossproof.recording())
        found["audit, recorded"] = seconds(lambda: lossproof.audit(noted, names=model))  # noqa: B023
        bad = forward(lossproof.recording(), float("inf"))
        found["autopsy of a NaN"] = seconds(lambda: lossproof.autopsy(bad, names=model))  # noqa: B023
        for name, each in found.items():
            taken.setdefault(name, []).append(each)
    plain = taken.pop("step")[3:]
    ratios = {
        name: statistics.median(a / b for a, b in zip(each[3:], plain, strict=True)) - (name in STEPS)
        for name, each in taken.items()
    }
    return statistics.median(plain), lossproof.audit(forward(nullcontext())).operators, ratios


def long_graph() -> tuple[int, float, float]:
    x = torch.ones(1, requires_grad=True)
    y = x
    for _ in range(33_334):
        y = (y + x).sigmoid() * y
    loss = y.sum()
    return (
        lossproof.audit(loss).operators,
        seconds(lambda: lossproof.audit(loss)),
        seconds(lambda: lossproof.autopsy(loss)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"torch {torch.__version__}, one thread, {rounds} rounds\n")
    print(f"| model | step | operators | {' | '.join(COLUMNS)} |")
    print(f"|---|--:|--:|{'--:|' * len(COLUMNS)}")
    for name, make in MODELS.items():
        plain, operators, ratios = measure(make, rounds * (5 if name == "MLP" else 1))
        cells = [f"{100 * ratios[each]:+.0f} %" if each in STEPS else f"{ratios[each]:.2f}" for each in COLUMNS]
        print(f"| {name} | {1000 * plain:.1f} ms | {operators} | {' | '.join(cells)} |", flush=True)
    operators, audit, autopsy = long_graph()
    print(f"\nA chain of {operators:,} operators: audit {audit:.1f} s, autopsy {autopsy:.1f} s.")


if __name__ == "__main__":
    main()
