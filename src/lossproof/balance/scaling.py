"""Weights from the losses themselves: no extra backward pass, nothing to tune but how fast they follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossproof.balance.balancer import Balancer, stacked
from lossproof.balance.tasks import TaskError, said


class InverseScale(Balancer):
    """The systematic first answer: each loss divided by what it is at the start of training.

    After ``calibrate`` steps the weights stand still, so the total is comparable over the run. Five losses of 1, 5000,
    50, 0.3 and 200 then weigh the same. It equalizes *values*; ``measure`` says whether gradients follow.

    Args:
        tasks, non_finite: as in ``Balancer``.
        calibrate: over how many steps of each task the scale is taken, at least 1.
        floor: a scale below this counts as this: a task that is solved at the start must not get an infinite weight.
    """

    scale: Tensor
    count: Tensor

    def __init__(
        self, tasks: Sequence[str] | int, *, calibrate: int = 50, floor: float = 1e-8, non_finite: str = "stop"
    ) -> None:
        super().__init__(tasks, non_finite=non_finite)
        if calibrate < 1:
            raise TaskError(f"`calibrate` should be at least 1. Found {calibrate}.")
        self.calibrate, self.floor = calibrate, floor
        self._calls = 0
        self._calibrated = False
        self.register_buffer("scale", torch.zeros(len(self.tasks)))
        self.register_buffer("count", torch.zeros(len(self.tasks)))

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        values = stacked(losses)
        return (self._weight(values, self.places(losses)).to(values.device) * values).sum()

    def weights(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        weight = self._weight(stacked(losses), self.places(losses))
        return dict(zip(losses, weight.unbind(), strict=True))

    @torch.no_grad()
    def _weight(self, values: Tensor, places: list[int] | slice) -> Tensor:
        """All tasks at once: forty tasks are not forty times as many small operations."""
        count = self.count[places]
        if self.training and not self._calibrated:
            more = (count < self.calibrate).to(count)
            count = count + more
            scale = self.scale[places]
            self.scale[places] = scale + more * (values.detach().abs().to(scale) - scale) / count.clamp_min(1)
            self.count[places] = count
            self._calls += 1
            if self._calls % self.calibrate == 0:
                self._calibrated = bool((self.count >= self.calibrate).all())
        return torch.where(count > 0, 1 / self.scale[places].clamp_min(self.floor), 1.0)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._calibrated = False


class Uncertainty(Balancer):
    """Homoscedastic uncertainty: weights that are learnt as the noise of each task (Kendall et al., 2018; Cipolla et
    al.).

    With ``s = log σ²``: a regression (squared error) is ``½ exp(-s) L + ½ s``, a classification (cross entropy) is
    ``exp(-s) L + ½ s``, an absolute error (Laplace) ``exp(-s/2) L + s/2``. At the optimum of ``s`` a loss weighs
    ``1/L``: what is small weighs much. The total may be negative.

    Args:
        tasks: for each name ``regression``, ``classification`` or ``absolute``.
        non_finite: as in ``Balancer``.

    The ``s`` are parameters: give ``balancer.parameters()`` to the optimizer. ``check(optimizer)`` raises if it does
    not hold them; a warning comes if they have not moved after 20 backward passes.
    """

    _factor: Tensor
    _power: Tensor
    KINDS = ("regression", "classification", "absolute")

    def __init__(self, tasks: Mapping[str, str], *, non_finite: str = "stop") -> None:
        super().__init__(list(tasks), non_finite=non_finite)
        wrong = [name for name, kind in tasks.items() if kind not in self.KINDS]
        if wrong:
            raise TaskError(f"{said(wrong)}: the kind should be one of {', '.join(map(repr, self.KINDS))}")
        self.kinds = dict(tasks)
        self.log_variance = nn.Parameter(torch.zeros(len(self.tasks)))
        factor = [0.5 if kind == "regression" else 1.0 for kind in tasks.values()]
        power = [0.5 if kind == "absolute" else 1.0 for kind in tasks.values()]
        self.register_buffer("_factor", torch.tensor(factor), persistent=False)
        self.register_buffer("_power", torch.tensor(power), persistent=False)
        self._watch = _Moved(self.log_variance)

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        self._watch(self.training)
        values, places = stacked(losses), self.places(losses)
        weight, s = self._weight(places), self.log_variance[places]
        return (weight.to(values.device) * values + 0.5 * s.to(values.device)).sum()

    def weights(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return dict(zip(losses, self._weight(self.places(losses)).detach().unbind(), strict=True))

    def _weight(self, places: list[int] | slice) -> Tensor:
        weight: Tensor = self._factor[places] * torch.exp(-self.log_variance[places] * self._power[places])
        return weight

    def check(self, optimizer: torch.optim.Optimizer) -> None:
        """Raise unless the optimizer holds the learnable weights."""
        held = {id(each) for group in optimizer.param_groups for each in group["params"]}
        if id(self.log_variance) not in held:
            raise TaskError(
                "the optimizer does not hold the weights of this balancer, so they will never change: "
                "torch.optim.Adam([*model.parameters(), *balancer.parameters()])"
            )


class DynamicAverage(Balancer):
    """Dynamic weight average: what fell slowest last epoch weighs most (Liu et al., 2019).

    ``K softmax(r / T)`` with ``r`` the ratio of a task's mean loss in the last epoch to that in the one before. Call
    ``end_epoch()`` after each. It compares a loss with itself, so it does not cure a difference of scale.

    Args:
        tasks, non_finite: as in ``Balancer``.
        temperature: T, more than 0; the higher, the more equal.
    """

    total_of_epoch: Tensor
    count: Tensor
    history: Tensor

    def __init__(self, tasks: Sequence[str] | int, *, temperature: float = 2.0, non_finite: str = "stop") -> None:
        super().__init__(tasks, non_finite=non_finite)
        if not temperature > 0:
            raise TaskError(f"`temperature` should be more than 0. Found {temperature}.")
        self.temperature = temperature
        number = len(self.tasks)
        self.register_buffer("total_of_epoch", torch.zeros(number))
        self.register_buffer("count", torch.zeros(number))
        self.register_buffer("history", torch.full((2, number), float("nan")))

    def weights(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.training:
            with torch.no_grad():
                for name, loss in losses.items():
                    self.total_of_epoch[self.place(name)] += loss.detach().to(self.total_of_epoch)
                    self.count[self.place(name)] += 1
        ratio = self.history[1] / self.history[0]
        ratio = torch.where(torch.isfinite(ratio), ratio, 1.0)
        weight = len(self.tasks) * torch.softmax(ratio / self.temperature, 0)
        return {name: weight[self.place(name)] for name in losses}

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Take the means of the epoch that ends into the weights of the next."""
        mean = torch.where(self.count > 0, self.total_of_epoch / self.count.clamp_min(1), self.history[1])
        self.history[0] = self.history[1].clone()
        self.history[1] = mean
        self.total_of_epoch.zero_()
        self.count.zero_()


class RandomWeights(Balancer):
    """Random loss weighting: ``softmax`` of a normal draw each step, times the number of tasks (Lin et al., 2022).

    A baseline that is hard to beat, and does not cure a difference of scale.

    Args:
        tasks, non_finite: as in ``Balancer``.
        seed: of a generator of its own, so that the training's random numbers stay what they are.
    """

    def __init__(self, tasks: Sequence[str] | int, *, seed: int = 0, non_finite: str = "stop") -> None:
        super().__init__(tasks, non_finite=non_finite)
        self.generator = torch.Generator().manual_seed(seed)

    def weights(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        drawn = torch.softmax(torch.randn(len(losses), generator=self.generator), 0) * len(losses)
        return dict(zip(losses, drawn, strict=True))

    def get_extra_state(self) -> Tensor:
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state)


class Famo(Balancer):
    """FAMO: weights that make the logarithms of all losses fall at one rate, without gradients of tasks (Liu et al.,
    2023).

    After the optimizer's step, compute the losses of the *same batch* again under ``no_grad`` and give them to
    ``update``.

    Args:
        tasks, non_finite: as in ``Balancer``.
        rate: the step of the weights' own Adam, more than 0.
        decay: of their logits.
        floors: the smallest value of each loss (0 by default); a loss must stay above it.
    """

    def __init__(
        self,
        tasks: Sequence[str] | int,
        *,
        rate: float = 0.025,
        decay: float = 1e-3,
        floors: Mapping[str, float] | None = None,
        non_finite: str = "stop",
    ) -> None:
        super().__init__(tasks, non_finite=non_finite)
        self.logits = nn.Parameter(torch.zeros(len(self.tasks)), requires_grad=False)
        self.floors = dict.fromkeys(self.tasks, 0.0) | dict(floors or {})
        self._adam = torch.optim.Adam([self.logits], lr=rate, weight_decay=decay)
        self._before: dict[str, Tensor] = {}

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        margin = {name: loss - self.floors[name] + 1e-8 for name, loss in losses.items()}
        with torch.no_grad():
            places = [self.place(name) for name in losses]
            z = torch.softmax(self.logits[places], 0)
            self._before = {name: each.detach() for name, each in margin.items()}
            values = torch.stack(list(self._before.values())).to(z)
            scale = 1 / (z / values).sum()
        return torch.stack(
            [(scale * share).to(each) * torch.log(each) for share, each in zip(z, margin.values(), strict=True)]
        ).sum()

    def weights(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        places = [self.place(name) for name in losses]
        return dict(zip(losses, torch.softmax(self.logits[places], 0), strict=True))

    @torch.no_grad()
    def update(self, losses: Mapping[str, Tensor] | Sequence[Tensor]) -> None:
        """Move the weights by how much each logarithm fell. The losses of the same batch, after the step."""
        pairs = losses.items() if isinstance(losses, Mapping) else zip(self.tasks, losses, strict=False)
        now = {name: loss.detach() - self.floors[name] + 1e-8 for name, loss in pairs if name in self._before}
        if not now:
            raise TaskError(
                "`update` comes after `total = balancer(losses)` and the step, with losses of the same tasks"
            )
        places = [self.place(name) for name in now]
        fell = torch.stack([torch.log(self._before[name]) - torch.log(each) for name, each in now.items()]).to(
            self.logits
        )
        with torch.enable_grad():
            logits = self.logits.detach().clone().requires_grad_()
            (slope,) = torch.autograd.grad(torch.softmax(logits[places], 0), logits, fell)
        self.logits.grad = slope
        self._adam.step()
        self.logits.grad = None

    def get_extra_state(self) -> dict[str, object]:
        return self._adam.state_dict()

    def set_extra_state(self, state: dict[str, object]) -> None:
        self._adam.load_state_dict(state)


class _Moved:
    """Says once, loudly, that learnable weights do not move."""

    STEPS = 20

    def __init__(self, weights: nn.Parameter) -> None:
        self.weights, self.start = weights, weights.detach().clone()
        self.steps = 0

    def __call__(self, training: bool) -> None:
        if not training or self.steps > self.STEPS or self.weights.grad is None:
            return
        self.steps += 1
        if self.steps == self.STEPS and torch.equal(self.weights.detach().cpu(), self.start.cpu()):
            import warnings

            warnings.warn(
                f"the weights of this balancer have not moved in {self.STEPS} steps: no optimizer holds them. Give it "
                "balancer.parameters() (lossproof: LP503)",
                UserWarning,
                stacklevel=5,
            )
