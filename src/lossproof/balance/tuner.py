"""The procedure that a careful person follows, with a log: measure, set, train a few epochs, raise what lags,
repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossproof.balance.balancer import Balancer
from lossproof.balance.tasks import TaskError, said


@dataclass(frozen=True)
class Decision:
    """One entry of the log: after which round, for which task, the weight before and after, and why."""

    round: int
    task: str
    before: float
    after: float
    because: str

    def __str__(self) -> str:
        moved = f"{self.before:.4g} -> {self.after:.4g}" if self.before != self.after else f"stays {self.after:.4g}"
        return f"round {self.round}: {self.task}: {moved}: {self.because}"


class Tuner(Balancer):
    """Iterative tuning of loss weights by the tasks' own *metrics*.

    It begins with the inverse scales of the first batches. After each round of a few epochs give the metrics to
    ``end_round``: a task that has not improved by more than ``tolerance`` of what was left to gain, while others have,
    is raised by ``factor``; one that gets worse is raised as well; what learns is left alone. It is ``done`` when every
    task has improved in each of the last ``patience`` rounds, or nothing is left to gain.

    Args:
        tasks: for each name the metric's direction, ``max`` or ``min``; or names, all ``max``.
        factor: by which a lagging task is raised, more than 1.
        tolerance: share of the gap between the metric and its best possible value that counts as progress.
        best: the best possible value of each metric (1 for ``max`` and 0 for ``min`` by default).
        ceiling: the most that a weight may be raised in all.
        calibrate, non_finite: as in ``InverseScale``.
    """

    scale: Tensor
    count: Tensor
    factor_of: Tensor

    def __init__(
        self,
        tasks: Sequence[str] | Mapping[str, str],
        *,
        factor: float = 2.0,
        tolerance: float = 0.02,
        best: Mapping[str, float] | None = None,
        ceiling: float = 100.0,
        patience: int = 2,
        calibrate: int = 20,
        non_finite: str = "stop",
    ) -> None:
        super().__init__(list(tasks), non_finite=non_finite)
        if not factor > 1:
            raise TaskError(f"`factor` should be more than 1. Found {factor}.")
        self.direction = dict(tasks) if isinstance(tasks, Mapping) else dict.fromkeys(self.tasks, "max")
        wrong = [name for name, way in self.direction.items() if way not in ("max", "min")]
        if wrong:
            raise TaskError(f"{said(wrong)}: the direction of a metric is 'max' or 'min'")
        self.best = {name: 1.0 if way == "max" else 0.0 for name, way in self.direction.items()} | dict(best or {})
        self.factor, self.tolerance, self.ceiling, self.patience = factor, tolerance, ceiling, patience
        self.calibrate = calibrate
        self.register_buffer("scale", torch.zeros(len(self.tasks)))
        self.register_buffer("count", torch.zeros(len(self.tasks)))
        self.register_buffer("factor_of", torch.ones(len(self.tasks)))
        self.log: list[Decision] = []
        self.metrics: list[dict[str, float]] = []
        self._quiet = 0

    def weights(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.training and not self.metrics:
            with torch.no_grad():
                for name, loss in losses.items():
                    place = self.place(name)
                    if self.count[place] < self.calibrate:
                        self.count[place] += 1
                        self.scale[place] += (loss.detach().abs().to(self.scale) - self.scale[place]) / self.count[
                            place
                        ]
        base = torch.where(self.count > 0, 1 / self.scale.clamp_min(1e-8), 1.0)
        weight = base * self.factor_of
        return {name: weight[self.place(name)].clone() for name in losses}

    @property
    def done(self) -> bool:
        return self._quiet >= self.patience

    def end_round(self, metrics: Mapping[str, float]) -> list[Decision]:
        """Take the validation metrics of a round, decide, and return what was decided (also in ``log``)."""
        missing = [name for name in self.tasks if name not in metrics]
        if missing:
            raise TaskError(f"`metrics` lacks {said(missing)}: a loss alone does not say whether a task learns")
        now = {name: float(metrics[name]) for name in self.tasks}
        number = len(self.metrics) + 1
        made: list[Decision] = []
        if not self.metrics:
            for name in self.tasks:
                weight = self._weight(name)
                made.append(Decision(number, name, weight, weight, f"inverse scale, metric {now[name]:.4g}"))
        else:
            progress = {name: self._progress(name, self.metrics[-1][name], now[name]) for name in self.tasks}
            lagging = [name for name, share in progress.items() if share is not None and share <= self.tolerance]
            moving = len(lagging) < len(self.tasks)
            for name in self.tasks:
                made.append(self._decide(number, name, now[name], progress[name], name in lagging and moving))
            self._quiet = 0 if lagging else self._quiet + 1
        self.metrics.append(now)
        self.log += made
        return made

    def _decide(self, number: int, name: str, metric: float, progress: float | None, lags: bool) -> Decision:
        before = self._weight(name)
        if progress is None:
            return Decision(number, name, before, before, f"metric {metric:.4g}: nothing left to gain")
        if not lags:
            return Decision(
                number, name, before, before, f"metric {metric:.4g}: gained {progress:.0%} of what was left"
            )
        place = self.place(name)
        if self.factor_of[place] * self.factor > self.ceiling:
            return Decision(
                number, name, before, before, f"metric {metric:.4g}: still lags, and the ceiling is reached"
            )
        self.factor_of[place] *= self.factor
        why = "got worse" if progress < 0 else "hardly moved"
        return Decision(number, name, before, self._weight(name), f"metric {metric:.4g}: {why} while others learnt")

    def _progress(self, name: str, before: float, now: float) -> float | None:
        """The share of what was left to gain that was gained; None where hardly anything was left."""
        sign = 1.0 if self.direction[name] == "max" else -1.0
        left = sign * (self.best[name] - before)
        if left <= 1e-3 * max(abs(self.best[name]), 1.0):
            return None
        return sign * (now - before) / left

    def _weight(self, name: str) -> float:
        place = self.place(name)
        base = 1 / max(float(self.scale[place]), 1e-8) if self.count[place] > 0 else 1.0
        return base * float(self.factor_of[place])

    def get_extra_state(self) -> dict[str, Any]:
        return {"metrics": self.metrics, "log": [vars(each) for each in self.log], "quiet": self._quiet}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.metrics = [dict(each) for each in state["metrics"]]
        self.log = [Decision(**each) for each in state["log"]]
        self._quiet = int(state["quiet"])
