"""Objectives that fight: four ways out, each a working object.

A weighted sum with a sweep over its weights, alternation, a constraint, and a schedule. A negated objective without a
floor is refused: the total falls without bound and takes the other objective with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lossproof.balance.balancer import Balancer, Fixed
from lossproof.balance.tasks import Losses, TaskError, named


class Alternation(Balancer):
    """One objective a step: in turn, or drawn by probability.

    Args:
        tasks: names, for turns of one step each; or a mapping to whole numbers of steps (``by="turn"``) or to
            probabilities.
        by: ``turn`` or ``probability``.
        seed: of a generator of its own.
    """

    steps: Tensor

    def __init__(self, tasks: Sequence[str] | Mapping[str, float], *, by: str = "turn", seed: int = 0) -> None:
        super().__init__(list(tasks))
        if by not in ("turn", "probability"):
            raise TaskError(f"`by` should be 'turn' or 'probability'. Found {by!r}.")
        share = dict(tasks) if isinstance(tasks, Mapping) else dict.fromkeys(self.tasks, 1.0)
        if any(each < 0 for each in share.values()) or sum(share.values()) <= 0:
            raise TaskError("the turns of an alternation should be at least 0, not all 0")
        if by == "turn" and any(each != int(each) for each in share.values()):
            raise TaskError("turns are whole numbers of steps; for shares say by='probability'")
        self.share, self.by = share, by
        self.generator = torch.Generator().manual_seed(seed)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def weights(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        able = {name: self.share[name] for name in losses if self.share[name] > 0} or dict.fromkeys(losses, 1.0)
        if self.by == "turn":
            cycle = [name for name, turns in able.items() for _ in range(int(turns))]
            chosen = cycle[int(self.steps) % len(cycle)]
        else:
            drawn = torch.multinomial(torch.tensor(list(able.values())), 1, generator=self.generator)
            chosen = list(able)[int(drawn)]
        if self.training:
            self.steps += 1
        return {name: torch.tensor(1.0 if name == chosen else 0.0) for name in losses}


class Schedule(Balancer):
    """Phases: weights that change with the step, linearly between the points that are given.

    Args:
        phases: for each step a mapping from names to weights; before the first and after the last they stand still.
            ``{0: {"recon": 1, "adv": 0}, 5000: {"recon": 1, "adv": 0.1}}`` turns the second on slowly.
    """

    steps: Tensor

    def __init__(self, phases: Mapping[int, Mapping[str, float]]) -> None:
        if not phases:
            raise TaskError("a schedule needs at least one phase")
        names = list(next(iter(phases.values())))
        super().__init__(names)
        for at, weights in phases.items():
            if set(weights) != set(names) or any(each < 0 for each in weights.values()):
                raise TaskError(f"the phase at step {at} should give each of {names} a weight of at least 0")
        self.phases = sorted((at, dict(weights)) for at, weights in phases.items())
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def weights(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        step = int(self.steps)
        if self.training:
            self.steps += 1
        return {name: torch.tensor(self.at(step)[name]) for name in losses}

    def at(self, step: int) -> dict[str, float]:
        """The weights of a step."""
        before = max((phase for phase in self.phases if phase[0] <= step), default=self.phases[0])
        after = min((phase for phase in self.phases if phase[0] > step), default=before)
        if after[0] <= before[0] or step < before[0]:
            return before[1]
        share = (step - before[0]) / (after[0] - before[0])
        return {name: weight + share * (after[1][name] - weight) for name, weight in before[1].items()}


class Constraint(Balancer):
    """A primary objective, subject to others staying within bounds: a Lagrangian with damped multipliers.

    An ``if`` that switches objectives at the bound jumps back and forth over it. Here each constraint has a multiplier
    that grows while it is violated and shrinks while it is not, and a damping term (Platt and Barr, 1987; Stooke et
    al., 2020) that keeps it from swinging.

    Args:
        primary: the name of what is minimized.
        at_most: bounds from above, by name: ``{"kl": 0.1}``.
        at_least: bounds from below: ``{"diversity": 0.5}``.
        rate: by how much a multiplier moves for a violation of the size of the bound, more than 0.
        damping: the weight of the squared violation, at least 0.
        limit: the most that a multiplier may be.

    ``total = primary + Σ (λ + damping v) v`` with ``v`` the violation relative to the bound, held constant in the
    factor.
    """

    multiplier: Tensor

    def __init__(
        self,
        primary: str,
        *,
        at_most: Mapping[str, float] | None = None,
        at_least: Mapping[str, float] | None = None,
        rate: float = 0.01,
        damping: float = 1.0,
        limit: float = 1e4,
        non_finite: str = "stop",
    ) -> None:
        bounds = [(name, bound, 1.0) for name, bound in (at_most or {}).items()]
        bounds += [(name, bound, -1.0) for name, bound in (at_least or {}).items()]
        if not bounds:
            raise TaskError("a constraint needs a bound: at_most={'kl': 0.1} or at_least={'diversity': 0.5}")
        super().__init__([primary, *dict.fromkeys(name for name, _, _ in bounds)], non_finite=non_finite)
        if not rate > 0 or damping < 0:
            raise TaskError(f"`rate` should be more than 0 and `damping` at least 0. Found {rate} and {damping}.")
        self.primary, self.bounds, self.rate, self.damping, self.limit = primary, bounds, rate, damping, limit
        self.register_buffer("multiplier", torch.zeros(len(bounds)))

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        parts = [losses[self.primary]] if self.primary in losses else []
        for place, (name, bound, sign) in enumerate(self.bounds):
            if name not in losses:
                continue
            violation = sign * (losses[name] - bound) / max(abs(bound), 1e-8)
            now = violation.detach()
            if self.training:
                with torch.no_grad():
                    moved = self.multiplier[place] + self.rate * now.to(self.multiplier)
                    self.multiplier[place] = moved.clamp(0, self.limit)
            factor = (self.multiplier[place].to(now) + self.damping * now).clamp_min(0)
            parts.append(factor * violation)
        return torch.stack(parts).sum()

    def weights(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        weight = {self.primary: torch.ones(())}
        for place, (name, bound, sign) in enumerate(self.bounds):
            weight[name] = sign * self.multiplier[place] / max(abs(bound), 1e-8)
        return {name: weight[name] for name in losses}


def minus(loss: Tensor, *, floor: float | None = None) -> Tensor:
    """An objective to be maximized, as a loss with a floor: ``-loss``, held once the objective has reached ``floor``.

    Args:
        loss: a scalar that should grow.
        floor: how large it need become at most. Without one it is refused: the total would fall without bound, and the
            optimizer would buy that with the other objective.
    """
    if floor is None:
        raise TaskError(
            "a negated objective has no floor: the total falls without bound and the other objective is given up for "
            "it. Say how much is enough (floor=), or make it a constraint (Constraint(..., at_least={...}))"
        )
    (checked,) = named([loss]).values()
    return torch.relu(floor - checked)


@dataclass(frozen=True)
class Front:
    """What a sweep attained: for each weight of the first objective, the values of both, and where the knee is."""

    names: tuple[str, str]
    shares: tuple[float, ...]
    points: tuple[tuple[float, float], ...]

    @property
    def efficient(self) -> tuple[int, ...]:
        """The points that no other beats in both."""
        return tuple(
            i
            for i, (a, b) in enumerate(self.points)
            if not any(c <= a and d <= b and (c, d) != (a, b) for c, d in self.points)
        )

    @property
    def knee(self) -> int:
        """The efficient point farthest below the line between the two ends, each axis scaled to the front."""
        return min(self.efficient, key=lambda i: sum(self._scaled(i)))

    def _scaled(self, i: int) -> tuple[float, float]:
        chosen = [self.points[j] for j in self.efficient]
        lows = [min(each[axis] for each in chosen) for axis in (0, 1)]
        widths = [max(each[axis] for each in chosen) - lows[axis] or 1.0 for axis in (0, 1)]
        a, b = self.points[i]
        return (a - lows[0]) / widths[0], (b - lows[1]) / widths[1]

    def __str__(self) -> str:
        lines = [f"{'weight':>8}  {self.names[0]:>14}  {self.names[1]:>14}"]
        for i, (share, (a, b)) in enumerate(zip(self.shares, self.points, strict=True)):
            mark = "  knee" if i == self.knee else "" if i in self.efficient else "  beaten"
            lines.append(f"{share:>8.3f}  {a:>14.5g}  {b:>14.5g}{mark}")
        return "\n".join(lines)

    def plot(self, path: str | Path) -> None:
        """The front with its knee as a picture (needs matplotlib)."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError("Front.plot needs matplotlib: pip install matplotlib") from None

        figure = Figure(figsize=(5, 4), layout="constrained")
        axes = figure.subplots()
        ordered = sorted(self.efficient, key=lambda i: self.points[i])
        axes.plot([self.points[i][0] for i in ordered], [self.points[i][1] for i in ordered], marker="o")
        beaten = [point for i, point in enumerate(self.points) if i not in self.efficient]
        if beaten:
            axes.scatter(*zip(*beaten, strict=True), marker="x", color="grey")
        axes.annotate("knee", self.points[self.knee], xytext=(8, 8), textcoords="offset points")
        axes.set(xlabel=self.names[0], ylabel=self.names[1])
        figure.savefig(path)


def sweep(
    train: Callable[[Balancer], Losses],
    names: tuple[str, str],
    *,
    shares: Sequence[float] = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98),
    scales: Mapping[str, float] | None = None,
) -> Front:
    """Train along a row of weights and see what can be had of both objectives.

    Args:
        train: takes a balancer, trains with it *from where the model stands* (each weight starts warm from the last
            one's result), and gives the two objectives on held-out data.
        names: of the two objectives, both to be minimized.
        shares: the weight of the first, in [0, 1]; the second gets the rest.
        scales: by which each is divided first, so that a share means the same for both; 1 by default.
    """
    divide = dict.fromkeys(names, 1.0) | dict(scales or {})
    points = []
    for share in shares:
        if not 0 <= share <= 1:
            raise TaskError(f"shares lie in [0, 1]. Found {share}.")
        found = train(Fixed({names[0]: share / divide[names[0]], names[1]: (1 - share) / divide[names[1]]}))
        values = dict(found) if isinstance(found, Mapping) else dict(zip(names, found, strict=True))
        first, second = (float(torch.as_tensor(values[name]).detach()) for name in names)
        points.append((first, second))
    return Front(names, tuple(shares), tuple(points))
