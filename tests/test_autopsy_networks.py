"""Networks of many kinds, each with one thing broken at random: input, target or weight; rows and names are exact."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import lossproof  # noqa: E402

BAD = float("nan")
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.inner = kind(8, 12, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, norm_first=True)
        self.enter = nn.Linear(8, 8)
        self.inner = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(self.enter(x)).mean(1))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv1d(4, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.inner = nn.Conv1d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.silu(self.norm(self.enter(x)))
        h = F.max_pool1d(h + F.dropout(self.inner(h), 0.1), 2)
        return self.head(h.mean(-1))


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 3))


def image() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "attention": (Attention, (6, 5, 8)),
    "gru": (lambda: Recurrent(nn.GRU), (6, 5, 8)),
    "image": (image, (6, 1, 8, 8)),
    "lstm": (lambda: Recurrent(nn.LSTM), (6, 5, 8)),
    "plain": (plain, (6, 8)),
    "residual": (Residual, (6, 4, 8)),
}
LOSSES: dict[str, Loss] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "huber": F.huber_loss,
    "smooth": F.smooth_l1_loss,
    "bce": lambda out, y: F.binary_cross_entropy_with_logits(out, y.clamp(0, 1)),
    "by hand": lambda out, y: ((out - y) ** 2).sum(1).mean(),
    "relative": lambda out, y: ((out - y).abs() / (1 + y.abs())).mean(),
    "soft": lambda out, y: F.cross_entropy(out, y),
    "log-cosh": lambda out, y: (out - y).tanh().square().mean(),
}


def spoil(tensor: torch.Tensor, draw: random.Random, row: int | None = None) -> int:
    """One element made bad; which row it is in."""
    place = [draw.randrange(size) for size in tensor.shape]
    if row is not None:
        place[0] = row
    with torch.no_grad():
        tensor[tuple(place)] = BAD
    return place[0]


PAIRS = [pair for place, pair in enumerate(product(NETWORKS, LOSSES)) if place % 2 == 0]


@pytest.mark.parametrize(("network", "loss"), PAIRS)
def test_what_was_broken_is_found(network: str, loss: str) -> None:
    draw = random.Random(f"{network} {loss}")
    torch.manual_seed(0)
    make, shape = NETWORKS[network]
    for broken in ("nothing", "input", "target", "weight"):
        model = make()
        x, y = torch.randn(shape), torch.rand(6, 3)
        row, name = -1, ""
        if broken == "input":
            row = spoil(x, draw)
        elif broken == "target":
            row = spoil(y, draw)
        elif broken == "weight":
            name, weight = draw.choice([each for each in model.named_parameters() if each[1].dim() > 1])
            spoil(weight, draw)
        with lossproof.recording():
            value = LOSSES[loss](model(x), y)
        found = lossproof.autopsy(value, names=model)
        if broken == "nothing":
            assert found.healthy, str(found)
        elif broken == "weight":
            assert found.cause == "bad-weights", str(found)
            assert f"parameter {name} " in found.because[0], str(found)
        else:
            assert (found.cause, found.where) == (f"bad-{broken}", "outside"), str(found)
            assert found.rows == (row,), str(found)
            assert found.batch == 6
