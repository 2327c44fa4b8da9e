"""Must two objectives fight, or do they only fight as they are weighted now?

A negative cosine alone does not say: gradients of two objectives with a common optimum disagree on most of the way.
What decides is what can be attained. Copies of the model are trained on each objective alone (the best that can be had
of it), on the plain sum, and along a short row of balanced weights. If some weights bring both near their best, the
conflict is a matter of balance; if none does and the gradients still point apart there, it is fundamental, and only a
choice helps. The runs that decide are trained on for half as long again: where that changes the picture, they had not
converged, and nothing is decided.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lossproof.balance.balancer import Fixed
from lossproof.balance.measuring import Interval, interval, measure
from lossproof.balance.tasks import TaskError, named

Objectives = Callable[[nn.Module], Mapping[str, Tensor]]
NEGLIGIBLE = 0.05
"""What an objective loses to the other one is seen against at least this share of what it gains from the start on."""
SHARES = (0.05, 0.2, 0.5, 0.8, 0.95)
BATCHES = 4
"""Over how many calls of the objectives a value and a cosine are averaged."""


@dataclass(frozen=True)
class Conflict:
    """What the probe found of two objectives.

    ``verdict`` is ``none`` (the plain sum attains both), ``balance`` (other weights attain both), ``fundamental`` (no
    weights do), or ``undecided``, and then ``because`` says what is missing. A regret is how much is missing of an
    objective, on the way from where it ends when the other one is trained alone to its own best; of the two the worse.
    0 is both at their best, 1 is one given up for the other. ``share`` is the best weight of the first objective, each
    divided by that way, and ``cosine`` that of the gradients where it ends.
    """

    names: tuple[str, str]
    verdict: str
    regret: Interval
    plain_regret: Interval
    share: float
    cosine: Interval
    because: str = ""

    def __str__(self) -> str:
        said = {
            "none": "the plain sum attains both: leave the weights alone",
            "balance": f"weights attain both: {self.share:.0%} of the scaled total for {self.names[0]}",
            "fundamental": "no weights attain both: choose a point of the front, a constraint, or a phase for each",
            "undecided": self.because,
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
    tolerance: float = 0.05,
) -> Conflict:
    """Tell a fundamental trade-off from one that weights can solve.

    Args:
        model: where training stands, or begins. It is copied, never changed.
        objectives: gives the two losses of its next batch for a model, by name, both to be minimized.
        held_out: the same on data that is not trained on; ``objectives`` itself by default.
        steps: of Adam in each run; enough to come near the best of one objective alone.
        rate: its step.
        seeds: how often all of it is repeated, at least 2: the interval comes from them. Where nothing is random the
            first two are the same, and one is enough.
        tolerance: how much may be missing of either to count as attained.

    It costs ``12 * steps * seeds`` training steps.
    """
    if seeds < 2:
        raise TaskError(f"`seeds` should be at least 2, or there is no interval. Found {seeds}.")
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        first = named(objectives(model))
        if len(first) != 2:
            raise TaskError(f"`objectives` should give two losses. Found {len(first)}: probe them in pairs.")
        a, b = first
        probes: list[_Probe] = []
        for seed in range(seeds):
            probes.append(_Probe(model, objectives, held_out or objectives, (a, b), steps, rate, seed))
            if seed == 1 and probes[0].alone == probes[1].alone:
                probes.pop()
                break
        return _judged(probes, tolerance)


def _judged(probes: list[_Probe], tolerance: float) -> Conflict:
    names = probes[0].names
    broken = [name for place, name in enumerate(names) if not all(math.isfinite(probe.gap[place]) for probe in probes)]
    if broken:
        nothing = Interval(math.nan, math.nan, math.nan)
        why = f"{broken[0]} is not finite in a run of one objective alone: a smaller rate"
        return Conflict(names, "undecided", nothing, nothing, math.nan, nothing, why)

    plain = interval([probe.plain for probe in probes])
    for share in SHARES:
        _regrets(probes, share)
    best = _best(probes)
    if not interval(_regrets(probes, best)).high <= tolerance:
        # Between the best of the row and its neighbours there may be a better one.
        place = SHARES.index(best)
        for other in SHARES[max(place - 1, 0) : place] + SHARES[place + 1 : place + 2]:
            _regrets(probes, _between(best, other))
        best = _best(probes)
    settled = [probe.settled(best) for probe in probes]
    regret = interval([after for after, _, _ in settled])
    fell = interval([before - after for after, before, _ in settled])
    cosine = interval([each for _, _, cosines in settled for each in cosines])
    # Against the conflict being fundamental the best of each seed counts, not the best on average.
    least = interval([min(after, *probe.regret.values()) for probe, (after, _, _) in zip(probes, settled, strict=True)])

    still = max(
        ((probe.falling[place], name) for probe in probes for place, name in enumerate(names)),
        key=lambda pair: pair[0],
    )
    verdict, because = "undecided", ""
    if still[0] > tolerance / 2:
        because = f"{still[1]} alone still falls (by {still[0]:.2g} of what is at stake): more steps"
    elif plain.high <= tolerance or max(regret.high, plain.mean) <= tolerance:
        verdict = "none"  # also where other weights are no better than seeds differ
    elif regret.high <= tolerance:
        verdict = "balance"
    elif not least.low > tolerance:
        because = f"what is missing depends on the seed ({regret}): more seeds, or a held-out set that is less noisy"
    elif least.low - 2 * max(fell.mean, 0.0) <= tolerance:
        # What falls by two thirds of that in each further stretch falls by twice as much in all of them.
        because = f"both together still get better (by {fell.mean:.2g}): more steps"
    elif not cosine.high < 0:
        because = "no weights attain both, and the gradients do not point apart: more steps, or another rate"
    else:
        verdict = "fundamental"
    return Conflict(names, verdict, regret, plain, best, cosine, because)


@dataclass
class _Probe:
    """The runs of one seed. All see the same batches, if these come from torch's random numbers."""

    model: nn.Module
    objectives: Objectives
    held_out: Objectives
    names: tuple[str, str]
    steps: int
    rate: float
    seed: int
    alone: tuple[tuple[float, float], ...] = ()
    gap: tuple[float, ...] = ()
    falling: tuple[float, ...] = ()
    """By how much each objective, trained alone, fell in the last stretch, as a part of the gap."""
    regret: dict[float, float] = field(default_factory=dict)
    """By share, before the last stretch."""

    def __post_init__(self) -> None:
        start = self.values(self.model)
        ends = [self.trained(self.model, {name: 1.0}) for name in self.names]
        early = [self.values(end) for end in ends]
        alone = [self.values(self.on(end, {name: 1.0})) for end, name in zip(ends, self.names, strict=True)]
        self.best = tuple(min(early[place][place], alone[place][place]) for place in (0, 1))
        worst = (alone[1][0], alone[0][1])
        self.gap = tuple(
            max(bad - low, NEGLIGIBLE * (begun - low), 1e-12 * max(abs(begun), 1.0))
            if math.isfinite(bad - low)
            else math.nan
            for bad, low, begun in zip(worst, self.best, start, strict=True)
        )
        self.falling = tuple((early[place][place] - alone[place][place]) / self.gap[place] for place in (0, 1))
        self.alone = tuple(alone)

    @property
    def plain(self) -> float:
        weights = dict.fromkeys(self.names, 1.0)
        return self.missing(self.on(self.trained(self.model, weights), weights))

    def weights(self, share: float) -> dict[str, float]:
        return {self.names[0]: share / self.gap[0], self.names[1]: (1 - share) / self.gap[1]}

    def at(self, share: float) -> float:
        """The regret with a share of the scaled total for the first objective."""
        if share not in self.regret:
            self.regret[share] = self.missing(self.trained(self.model, self.weights(share)))
        return self.regret[share]

    def settled(self, share: float) -> tuple[float, float, list[float]]:
        """The regret with a share after the last stretch and before it, and the cosines there."""
        weights = self.weights(share)
        end = self.on(self.trained(self.model, weights), weights)
        torch.manual_seed(self.seed + 1)
        cosines = [measure(self.objectives(end), end).cosine[self.names].mean for _ in range(BATCHES)]
        return self.missing(end), self.at(share), cosines

    def missing(self, model: nn.Module) -> float:
        found = self.values(model)
        if not all(map(math.isfinite, found)):
            return math.inf
        return max((value - low) / wide for value, low, wide in zip(found, self.best, self.gap, strict=True))

    def on(self, model: nn.Module, weights: dict[str, float]) -> nn.Module:
        return self.trained(model, weights, stretch=0.5)

    def trained(self, model: nn.Module, weights: dict[str, float], stretch: float = 1.0) -> nn.Module:
        torch.manual_seed(self.seed)
        copied, balancer = copy.deepcopy(model), Fixed(weights, non_finite="pass")
        steps = max(round(self.steps * stretch), 1)
        optimizer = torch.optim.Adam([p for p in copied.parameters() if p.requires_grad], lr=self.rate)
        # The rate falls to nothing, so that what is attained is not hidden by what the last steps jump around.
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            losses = self.objectives(copied)
            balancer({name: losses[name] for name in weights}).backward()
            optimizer.step()
            schedule.step()
        return copied

    @torch.no_grad()
    def values(self, model: nn.Module) -> tuple[float, float]:
        torch.manual_seed(self.seed + 1)
        found = [self.held_out(model) for _ in range(BATCHES)]
        a, b = (math.fsum(float(each[name]) for each in found) / BATCHES for name in self.names)
        return a, b


def _regrets(probes: list[_Probe], share: float) -> list[float]:
    return [probe.at(share) for probe in probes]


def _best(probes: list[_Probe]) -> float:
    return min(probes[0].regret, key=lambda share: sum(_regrets(probes, share)))


def _between(a: float, b: float) -> float:
    """Halfway on the scale of the logarithm of odds."""
    odds = math.sqrt(a / (1 - a) * (b / (1 - b)))
    return odds / (1 + odds)
