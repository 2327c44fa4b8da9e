"""Who decides the step: the share of each task in the loss, and in the gradient at what the tasks share.

The two are not the same: a loss of 5,000 may have a small gradient, and one of 0.3 a large one. Both are measured on
several batches, with intervals, so that one odd batch decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lossproof.balance.rows import rows
from lossproof.balance.shared import parameters, split
from lossproof.balance.tasks import Losses, TaskError, named

DOMINATES = 0.9
"""From this share of the gradient on, a task is said to dominate where there are two; more tasks lower it (see
``dominant``)."""


@dataclass(frozen=True)
class Interval:
    """A mean over batches with its 95 % interval (Student's t); equal ends for a single batch."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3g}" if self.low == self.high else f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Measurement:
    """What was measured, over ``batches`` batches. Prints itself as a table.

    ``loss_share`` and ``gradient_share`` are shares of 1 for each task; ``gradient_norm`` is the norm at the shared
    parameters; ``cosine[a, b]`` the cosine between the gradients of two tasks there.
    """

    tasks: tuple[str, ...]
    batches: int
    loss: dict[str, Interval]
    loss_share: dict[str, Interval]
    gradient_norm: dict[str, Interval]
    gradient_share: dict[str, Interval]
    cosine: dict[tuple[str, str], Interval]

    @property
    def dominant(self) -> str | None:
        """The task that takes nearly all of the gradient, by the lower end of its interval, if there is one."""
        number = len(self.tasks)
        level = max(DOMINATES - 0.05 * (number - 2), 0.7) if number > 2 else DOMINATES
        for name, share in self.gradient_share.items():
            if number > 1 and share.low > level:
                return name
        return None

    @property
    def conflicts(self) -> list[tuple[str, str]]:
        """Pairs whose cosine is below 0 by the upper end of its interval."""
        return [pair for pair, cosine in self.cosine.items() if cosine.high < 0]

    def __str__(self) -> str:
        width = max(len("task"), *(len(name) for name in self.tasks))
        lines = [
            f"{'task':{width}}  {'loss':>12}  {'share of loss':>13}  {'gradient norm':>13}  {'share of gradient':>17}"
        ]
        for name in self.tasks:
            lines.append(
                f"{name:{width}}  {self.loss[name].mean:>12.5g}  {self.loss_share[name].mean:>13.1%}  "
                f"{self.gradient_norm[name].mean:>13.4g}  {self.gradient_share[name].mean:>17.1%}"
            )
        lines.append(f"over {self.batches} batch{'' if self.batches == 1 else 'es'}")
        if self.dominant:
            lines.append(f"{self.dominant} decides the step: the others learn by accident")
        strongest = sorted(self.conflicts, key=lambda pair: self.cosine[pair].mean)
        for a, b in strongest[:5]:
            lines.append(f"{a} and {b} pull against each other: cosine {self.cosine[a, b]}")
        if len(strongest) > 5:
            lines.append(f"and {len(strongest) - 5} more pairs (.conflicts)")
        return "\n".join(lines)

    def plot(self, path: str | Path) -> None:
        """Shares and cosines as a picture (needs matplotlib): the format is that of the file's name."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError("Measurement.plot needs matplotlib: pip install matplotlib") from None

        figure = Figure(figsize=(9, 0.5 * len(self.tasks) + 2), layout="constrained")
        left, right = figure.subplots(1, 2)
        places = range(len(self.tasks))
        for shift, label, shares in ((-0.2, "loss", self.loss_share), (0.2, "gradient", self.gradient_share)):
            means = [shares[name].mean for name in self.tasks]
            ends = [
                [max(share.mean - share.low, 0) for share in shares.values()],
                [max(share.high - share.mean, 0) for share in shares.values()],
            ]
            left.barh([place + shift for place in places], means, height=0.38, xerr=ends, label=f"share of the {label}")
        left.set_yticks(list(places), list(self.tasks))
        left.invert_yaxis()
        left.set_xlim(0, 1)
        left.legend()
        table = [[1.0 if a == b else self._cosine(a, b) for b in self.tasks] for a in self.tasks]
        image = right.imshow(table, vmin=-1, vmax=1, cmap="RdBu")
        right.set_xticks(list(places), list(self.tasks), rotation=45, ha="right")
        right.set_yticks(list(places), list(self.tasks))
        right.set_title("cosine of the gradients")
        figure.colorbar(image, ax=right)
        figure.savefig(path)

    def _cosine(self, a: str, b: str) -> float:
        return self.cosine[(a, b) if (a, b) in self.cosine else (b, a)].mean


def measure(
    losses: Losses | Iterable[Losses] | Callable[[], Losses],
    shared: Iterable[Tensor] | nn.Module | Tensor | None = None,
    *,
    batches: int = 8,
    keep_graph: bool = True,
) -> Measurement:
    """Measure shares and conflicts.

    Args:
        losses: the losses of one batch, by name; or something that gives those of several: an iterable, or a function
            that computes them for its next batch.
        shared: the shared parameters, the module that has them, or a tensor of features; by default what at least two
            losses reach.
        batches: at most how many are taken of an iterable or a function.
        keep_graph: whether the graph is needed afterwards (for a ``backward()`` of the same losses).

    Nothing changes: no ``.grad`` is written, no random number drawn.
    """
    kept: list[tuple[tuple[str, ...], list[float], Tensor, Tensor]] = []
    for each in _batches(losses, batches):
        given = named(each)
        if kept and set(given) != set(kept[0][0]):
            given = {name: loss for name, loss in given.items() if name in kept[0][0]}
            if set(given) != set(kept[0][0]):
                continue
        points = split(given)[0] if shared is None else parameters(shared)
        if not points:
            raise TaskError("these losses share nothing that requires a gradient")
        found = rows(given, points, keep_graph=keep_graph)
        kept.append((tuple(given), [float(loss.detach()) for loss in given.values()], found.norms, found.cosines))
    if not kept:
        raise TaskError("there is no batch to measure")
    names = kept[0][0]
    values = torch.tensor([row[1] for row in kept], dtype=torch.float64)
    norms = torch.stack([row[2] for row in kept])
    cosines = torch.stack([row[3] for row in kept])
    sizes = values.abs()

    def column(table: Tensor) -> dict[str, Interval]:
        return {name: interval(table[:, place].tolist()) for place, name in enumerate(names)}

    return Measurement(
        names,
        len(kept),
        column(values),
        column(sizes / sizes.sum(1, keepdim=True).clamp_min(1e-300)),
        column(norms),
        column(norms / norms.sum(1, keepdim=True).clamp_min(1e-300)),
        {
            (a, b): interval(cosines[:, i, j].tolist())
            for i, a in enumerate(names)
            for j, b in enumerate(names)
            if i < j
        },
    )


def interval(values: list[float]) -> Interval:
    """The mean with its 95 % interval by Student's t."""
    number = len(values)
    mean = math.fsum(values) / number
    if number == 1:
        return Interval(mean, mean, mean)
    spread = math.sqrt(math.fsum((each - mean) ** 2 for each in values) / (number - 1) / number)
    half = _T95[min(number - 1, len(_T95) - 1)] * spread
    return Interval(mean, mean - half, mean + half)


_T95 = (
    math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""The 97.5 % quantile of Student's t by its degrees of freedom; the last one stands for more."""


def _batches(losses: Any, limit: int) -> Iterable[Losses]:
    if isinstance(losses, Mapping):
        return [losses]
    if callable(losses):
        return (losses() for _ in range(limit))
    listed = iter(losses)
    first = next(listed, None)
    if first is None:
        return []
    if isinstance(first, Tensor):
        return [[first, *listed]]
    return _first(first, listed, limit)


def _first(first: Losses, rest: Iterable[Losses], limit: int) -> Iterable[Losses]:
    yield first
    for number, each in enumerate(rest, 2):
        if number > limit:
            return
        yield each
