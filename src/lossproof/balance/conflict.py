"""Must two objectives fight, or do they only fight as they are weighted now?

A negative cosine alone does not say: gradients of two objectives with a common optimum disagree on most of the way.
    What
decides is what can be attained. Copies of the model are trained on each objective alone (the best that can be had of
it), on the plain sum, and along a short row of balanced weights. If some weights bring both near their best, the
conflict is a matter of balance; if none does, on every seed, it is fundamental, and only a choice helps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lossproof.balance.balancer import Balancer, Fixed
from lossproof.balance.measuring import Interval, interval, measure
from lossproof.balance.tasks import TaskError, named

Objectives = Callable[[nn.Module], Mapping[str, Tensor]]
NEGLIGIBLE = 0.01
"""What an objective loses to the other one counts from this share of what it gains from the start on."""
SHARES = (0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97)


@dataclass(frozen=True)
class Conflict:
    """What the probe found of two objectives.

    ``verdict`` is ``none`` (the plain sum attains both), ``balance`` (other weights attain both), ``fundamental`` (no
    weights do), or ``undecided``. A regret is how much is missing of an objective, on the way
    from where it ends when the other one is trained alone to its own best; of the two the worse. 0 is both at their
    best, 1 is one given up for the other. ``cosine`` is that of the gradients at the end of the best balanced run.
    """

    names: tuple[str, str]
    verdict: str
    regret: Interval
    plain_regret: Interval
    share: float
    cosine: Interval

    def __str__(self) -> str:
        said = {
            "none": "the plain sum attains both: leave the weights alone",
            "balance": f"weights attain both: {self.share:.0%} of the scaled total for {self.names[0]}",
            "fundamental": "no weights attain both: choose a point of the front, a constraint, or a phase for each",
            "undecided": "not decided: more steps or more seeds",
        }[self.verdict]
        return (
            f"{self.names[0]} and {self.names[1]}: {self.verdict}\n"
            f"  {said}\n"
            f"  missing at the best weights: {self.regret}; at the plain sum: {self.plain_regret}\n"
            f"  cosine of the gradients there: {self.cosine}"
        )


def conflict(
    model: nn.Module,
    objectives: Objectives,
    *,
    held_out: Objectives | None = None,
    steps: int = 300,
    rate: float = 0.02,
    seeds: int = 3,
    tolerance: float = 0.1,
) -> Conflict:
    """Tell a fundamental trade-off from one that weights can solve.

    Args:
        model: where training stands, or begins. It is copied, never changed.
        objectives: gives the two losses of its next batch for a model, by name, both to be minimized.
        held_out: the same on data that is not trained on; ``objectives`` itself by default.
        steps: of Adam in each run; enough to come near the best of one objective alone.
        rate: its step.
        seeds: how often all of it is repeated, at least 2: the interval comes from them.
        tolerance: how much may be missing of either to count as attained.

    It costs ``(3 + 7) * steps * seeds`` training steps.
    """
    if seeds < 2:
        raise TaskError(f"`seeds` should be at least 2, or there is no interval. Found {seeds}.")
    judged = held_out or objectives
    first = named(objectives(model))
    if len(first) != 2:
        raise TaskError(f"`objectives` should give two losses. Found {len(first)}: probe them in pairs.")
    a, b = first
    names = (a, b)
    plain: list[float] = []
    rows: list[list[float]] = []
    cosines: list[list[float]] = []
    state = torch.random.get_rng_state()
    try:
        for seed in range(seeds):
            torch.manual_seed(seed)
            start = _values(model, judged, names)
            ends = [_trained(model, objectives, Fixed({name: 1.0}), steps, rate) for name in names]
            alone = [_values(end, judged, names) for end in ends]
            best = [alone[0][0], alone[1][1]]
            worst = [alone[1][0], alone[0][1]]
            gap = [
                max(bad - low, NEGLIGIBLE * (begun - low), 1e-12 * max(abs(begun), 1.0))
                for bad, low, begun in zip(worst, best, start, strict=True)
            ]

            def missing(found: tuple[float, ...], best: list[float] = best, gap: list[float] = gap) -> float:
                return max((value - low) / wide for value, low, wide in zip(found, best, gap, strict=True))

            total = _trained(model, objectives, Fixed(dict.fromkeys(names, 1.0)), steps, rate)
            plain.append(missing(_values(total, judged, names)))
            row, cosine = [], []
            for share in SHARES:
                weights = {names[0]: share / gap[0], names[1]: (1 - share) / gap[1]}
                end = _trained(model, objectives, Fixed(weights), steps, rate)
                row.append(missing(_values(end, judged, names)))
                cosine.append(measure(objectives(end), end).cosine[names].mean)
            rows.append(row)
            cosines.append(cosine)
    finally:
        torch.random.set_rng_state(state)
    columns = [[row[place] for row in rows] for place in range(len(SHARES))]
    best_place = min(range(len(SHARES)), key=lambda place: sum(columns[place]))
    regret, plain_regret = interval(columns[best_place]), interval(plain)
    # Against the conflict being fundamental the best of each seed counts, not the best on average.
    at_best = interval([min(row) for row in rows])
    if plain_regret.high <= tolerance:
        verdict = "none"
    elif regret.high <= tolerance:
        verdict = "balance"
    elif at_best.low > tolerance:
        verdict = "fundamental"
    else:
        verdict = "undecided"
    return Conflict(
        names, verdict, regret, plain_regret, SHARES[best_place], interval([row[best_place] for row in cosines])
    )


def _trained(model: nn.Module, objectives: Objectives, balancer: Balancer, steps: int, rate: float) -> nn.Module:
    copied = copy.deepcopy(model)
    optimizer = torch.optim.Adam([p for p in copied.parameters() if p.requires_grad], lr=rate)
    # The rate falls to nothing, so that what is attained is not hidden by what the last steps jump around.
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        losses = objectives(copied)
        balancer({name: losses[name] for name in balancer.tasks}).backward()
        optimizer.step()
        schedule.step()
    return copied


@torch.no_grad()
def _values(model: nn.Module, objectives: Objectives, names: tuple[str, str]) -> tuple[float, ...]:
    found = objectives(model)
    return tuple(float(found[name]) for name in names)
