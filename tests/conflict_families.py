"""Pairs of objectives of which it is known whether they can be had together, and how often the probe is right.

python tests/conflict_families.py --seeds 20
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lossproof import balance

Objectives = Callable[[nn.Module], dict[str, Tensor]]
EXPECTED = {
    "shared": {"none"},
    "shared, noisy": {"none"},
    "shared, network": {"none", "balance"},
    "scale": {"none", "balance"},
    "scale, noisy": {"none", "balance"},
    "crossing": {"fundamental"},
    "crossing, noisy": {"fundamental"},
    "crossing and scale": {"fundamental"},
    "crossing, network": {"fundamental"},
}


class Point(nn.Module):
    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(start)


def family(kind: str, seed: int) -> tuple[nn.Module, Objectives]:
    """A model and two objectives: bowls in four dimensions, or a small network that is to fit two targets."""
    return network(kind, seed) if "network" in kind else bowls(kind, seed)


def bowls(kind: str, seed: int) -> tuple[nn.Module, Objectives]:
    """``shared``: one optimum, different axes. ``scale``: one optimum, scales 10,000 apart, each alone leaves half of
    the directions open. ``crossing``: two optima, 3 apart. ``noisy``: each batch moves both a little."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    turn, other = torch.linalg.qr(draw(4, 4))[0], torch.linalg.qr(draw(4, 4))[0]
    a = turn @ torch.diag(torch.tensor([1.0, 2.0, 4.0, 8.0])) @ turn.T
    b = other @ torch.diag(torch.tensor([1.0, 1.5, 2.0, 3.0])) @ other.T
    centres = torch.zeros(2, 4)
    if "crossing" in kind:
        away = draw(4)
        centres = torch.stack([away, -away]) / away.norm() * 1.5
    elif "scale" in kind:
        a = turn @ torch.diag(torch.tensor([2.0, 2.0, 0.1, 0.0])) @ turn.T
        b = turn @ torch.diag(torch.tensor([0.0, 0.1, 2.0, 2.0])) @ turn.T
    scales = (1e4, 1.0) if "scale" in kind else (1.0, 1.0)
    start = draw(4) * 2

    def objectives(model: nn.Module) -> dict[str, Tensor]:
        moved = model.x - (0.03 * torch.randn(4) if "noisy" in kind else 0.0)
        return {
            name: scale * ((moved - centre) @ bowl @ (moved - centre))
            for name, scale, bowl, centre in zip("ab", scales, (a, b), centres, strict=True)
        }

    return Point(start), objectives


def network(kind: str, seed: int) -> tuple[nn.Module, Objectives]:
    """A trunk with two heads and the targets of a teacher of its own size; or one head that is to be two things."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 3, generator=generator)
    weights = torch.randn(2, 3, generator=generator)
    targets = torch.tanh(x @ weights.T)
    torch.manual_seed(seed)
    heads = 1 if "crossing" in kind else 2
    model = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, heads))

    def objectives(model: nn.Module) -> dict[str, Tensor]:
        out = model(x)
        return {"a": ((out[:, 0] - targets[:, 0]) ** 2).mean(), "b": ((out[:, -1] - targets[:, 1]) ** 2).mean()}

    return model, objectives


def probed(kind: str, seed: int) -> balance.Conflict:
    model, objectives = family(kind, seed)
    rate, seeds = 0.05 if "network" in kind else 0.3, 5 if "noisy" in kind else 2
    return balance.conflict(model, objectives, steps=100, rate=rate, seeds=seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--kinds", nargs="*", default=list(EXPECTED))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for kind in options.kinds:
        found = [probed(kind, seed) for seed in range(options.seeds)]
        right = sum(each.verdict in EXPECTED[kind] for each in found)
        wrong = sum(each.verdict not in EXPECTED[kind] | {"undecided"} for each in found)
        counted = ", ".join(
            f"{verdict} {number}" for verdict, number in Counter(e.verdict for e in found).most_common()
        )
        print(f"{kind:20} right {right}/{len(found)}, wrong {wrong}: {counted}", flush=True)
        for seed, each in enumerate(found):
            if each.verdict not in EXPECTED[kind]:
                print(f"    seed {seed}: {each.because or each}".replace("\n", "\n    "), flush=True)


if __name__ == "__main__":
    main()
