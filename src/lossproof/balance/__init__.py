"""Many objectives at once: measure who decides, weigh, resolve what conflicts, and see what cannot be had together.

Every balancer is used alike: ``total = balancer(losses)``, ``total.backward()``. ``measure(losses)`` says before and
after who decides the step.
"""

from __future__ import annotations

from lossproof.balance.balancer import Balancer, Fixed
from lossproof.balance.conflict import Conflict, conflict
from lossproof.balance.gradients import GradientBalancer, GradNorm, torchjd_weighting
from lossproof.balance.measuring import Interval, Measurement, measure
from lossproof.balance.scaling import DynamicAverage, Famo, InverseScale, RandomWeights, Uncertainty
from lossproof.balance.tasks import TaskError
from lossproof.balance.tradeoff import Alternation, Constraint, Front, Schedule, minus, sweep
from lossproof.balance.tuner import Decision, Tuner

__all__ = [
    "Alternation",
    "Balancer",
    "Conflict",
    "Constraint",
    "Decision",
    "DynamicAverage",
    "Famo",
    "Fixed",
    "Front",
    "GradNorm",
    "GradientBalancer",
    "Interval",
    "InverseScale",
    "Measurement",
    "RandomWeights",
    "Schedule",
    "TaskError",
    "Tuner",
    "Uncertainty",
    "conflict",
    "measure",
    "minus",
    "sweep",
    "torchjd_weighting",
]
