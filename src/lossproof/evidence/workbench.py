"""What experiments share: slopes at single numbers, training on batches, CPU time as a ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossproof.evidence.descent import SGD, Descent
from lossproof.evidence.experiment import Setting
from lossproof.evidence.material import pull

if TYPE_CHECKING:
    import torch
    from torch import nn

    Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def value_and_gradient(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> tuple[float, list[float]]:
    """The sum of ``f(x)``, and its gradient at each element of ``x``."""
    value, slopes = pull(lambda leaf: f(leaf).sum(), x)
    return value, [float(each) for each in slopes.flatten()]


def at(
    f: Callable[[torch.Tensor], torch.Tensor], x: float, setting: Setting, dtype: torch.dtype | None = None
) -> tuple[float, float]:
    """The value of a function of one number, and its slope there."""
    value, (slope,) = value_and_gradient(f, setting.tensor(float(x), dtype))
    return value, slope


def first(holds: Callable[[float], bool], low: float, high: float, *, steps: int = 40) -> float | None:
    """The smallest number from which something holds, by bisection; None where it does not hold at ``high``."""
    if not holds(high):
        return None
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def train(
    model: nn.Module,
    loss: Loss,
    x: torch.Tensor,
    y: torch.Tensor,
    setting: Setting,
    *,
    steps: int,
    rate: float = 0.1,
    batch: int = 64,
    seed: int = 0,
    method: str = SGD,
) -> list[float]:
    """Train on batches drawn at random, the loss of every step."""
    import torch

    descent = Descent(model.parameters(), method, rate)
    rows = torch.randint(len(x), (steps, batch), generator=setting.generator(seed)).to(setting.device)
    history = []
    for chosen in rows:
        value = loss(model(x[chosen]), y[chosen])
        descent.down(value)
        history.append(value.detach())
    return [float(each) for each in torch.stack(history)]


def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """The share of rows whose largest output is at the right class."""
    import torch

    with torch.no_grad():
        return float((model(x).argmax(1) == y).sum()) / len(y)


def times_slower(slow: Callable[[], object], fast: Callable[[], object], setting: Setting, *, rounds: int = 7) -> float:
    """How much longer one takes than the other: the median of ratios of neighbouring runs."""
    slow(), fast()
    return statistics.median(_seconds(slow, setting) / _seconds(fast, setting) for _ in range(rounds))


def _seconds(run: Callable[[], object], setting: Setting) -> float:
    import torch

    on_cpu = setting.device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    began = clock()
    run()
    if not on_cpu and setting.device.type == "cuda":
        torch.cuda.synchronize(setting.device)
    return max(clock() - began, 1e-9)
