"""Weights from the gradients of the tasks at what they share: K backward passes, and what follows from them.

The step is assembled here: what tasks share gets the weighted sum of their gradients, what a task has alone gets its
own gradient, unweighted. ``total.backward()`` then only delivers it, so accumulation, ``GradScaler``, hooks and
distributed training see one ordinary backward pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossproof.balance import aggregate as _aggregate
from lossproof.balance.aggregate import AGGREGATORS, Aggregator, on_unit_rows
from lossproof.balance.balancer import Balancer
from lossproof.balance.rows import Rows, rows
from lossproof.balance.shared import parameters, split
from lossproof.balance.tasks import Losses, TaskError, finite, named, said


class GradientBalancer(Balancer):
    """Resolves conflicts between the gradients of tasks: normalize, then project.

    Args:
        tasks, non_finite: as in ``Balancer``; a task whose *gradient* is not finite falls under the same policy.
        aggregate: ``upgrad`` (hurts no task), ``pcgrad``, ``mgda``, ``config``, ``cagrad``, ``mean``, or a function
            from a Gram matrix ``(K, K)`` to weights ``(K,)``, such as ``torchjd_weighting`` makes of any of torchjd's.
        normalize: whether gradients are made of length 1 before they are projected. Without it, a task whose gradient
            is 100 times the others' decides alone, whatever the projection promises.
        shared: the shared parameters, or the module that has them; by default what at least two losses reach.
        every: after how many steps the weights are computed anew; between them the last ones hold, at the cost of one
            backward pass.

    Give ``features=`` at the call (the tensor between trunk and heads) for the cheap mode: gradients are taken there,
    and the trunk is passed once.
    """

    weight: Tensor
    steps: Tensor

    def __init__(
        self,
        tasks: Sequence[str] | int,
        *,
        aggregate: str | Aggregator = "upgrad",
        normalize: bool = True,
        shared: Iterable[Tensor] | nn.Module | None = None,
        every: int = 1,
        seed: int = 0,
        non_finite: str = "stop",
    ) -> None:
        super().__init__(tasks, non_finite=non_finite)
        if isinstance(aggregate, str) and aggregate not in AGGREGATORS:
            raise TaskError(f"`aggregate` should be one of {', '.join(map(repr, AGGREGATORS))}. Found {aggregate!r}.")
        if every < 1:
            raise TaskError(f"`every` should be at least 1. Found {every}.")
        self.aggregate, self.normalize, self.every = aggregate, normalize, every
        self._points = None if shared is None else parameters(shared)
        self._generator = torch.Generator().manual_seed(seed)
        self.register_buffer("weight", torch.ones(len(self.tasks), dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.last: Rows | None = None
        """The gradients' inner products of the last step that measured them."""

    def forward(self, losses: Losses, *, features: Tensor | None = None) -> Tensor:
        given = named(losses)
        unknown = [name for name in given if name not in self.tasks]
        if unknown:
            raise TaskError(f"{said(unknown)} not known; this balancer was made for {said(self.tasks)}")
        usable = finite(given, self.non_finite)
        measuring = int(self.steps) % self.every == 0
        if self.training:
            self.steps += 1
        if not torch.is_grad_enabled() or not measuring:
            weights = {name: self.weight[self.place(name)] for name in usable}
            return torch.stack([weights[name].to(loss) * loss for name, loss in usable.items()]).sum()
        return self._assembled(usable, features)

    def _assembled(self, losses: dict[str, Tensor], features: Tensor | None) -> Tensor:
        if len(losses) == 1:
            return next(iter(losses.values())) * 1
        found, own = split(losses)
        points = [features] if features is not None else self._points or found
        if not points:
            raise TaskError(
                f"{said(list(losses))} share nothing that requires a gradient: there is nothing to resolve, add them"
            )
        seen = {id(point) for point in points}
        own = {name: [leaf for leaf in mine if id(leaf) not in seen] for name, mine in own.items()}
        gathered = rows(losses, points, own, keep_graph=features is not None)
        weights = self._weights(gathered)
        with torch.no_grad():
            for place, name in enumerate(gathered.names):
                self.weight[self.place(name)] = weights[place]
        self.last = gathered
        targets, grads = _joined(gathered, weights)
        value = torch.stack([loss.detach() for loss in losses.values()]).sum()
        result: Tensor = _Delivered.apply(value, grads, *targets)  # type: ignore[no-untyped-call]
        return result

    def _weights(self, gathered: Rows) -> Tensor:
        usable = gathered.usable()
        bad = [name for place, name in enumerate(gathered.names) if place not in usable]
        if bad and self.non_finite == "stop":
            raise TaskError(f"the gradient of {said(bad)} at the shared parameters is not finite, its loss is")
        if not usable:
            raise TaskError(f"no task has a finite gradient: {said(bad)}")
        gram = gathered.gram[usable][:, usable]
        if callable(self.aggregate):
            how: Aggregator = self.aggregate
        elif self.aggregate == "pcgrad":
            how = _with_generator(self._generator)
        else:
            how = AGGREGATORS[self.aggregate]
        chosen = on_unit_rows(gram, how) if self.normalize else how(gram)
        weights = torch.zeros(len(gathered.names), dtype=torch.float64)
        weights[usable] = chosen.to(weights)
        return weights

    def weights(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.weight[self.place(name)] for name in losses}


class GradNorm(Balancer):
    """GradNorm: weights that bring the gradient norms of all tasks to one level, more for what learns slowly (Chen et
    al., 2018).

    The weights have an optimizer of their own; nothing has to be given to yours.

    Args:
        tasks, non_finite: as in ``Balancer``.
        alpha: how much more a task gets that lags behind, at least 0; 0 equalizes the norms.
        rate: the step of the weights' own Adam, more than 0.
        shared: where the norms are taken: the weight of the last shared layer is the paper's choice and the cheapest;
            by default all that at least two losses reach.
        every: after how many steps they are measured.
    """

    weight: Tensor
    start: Tensor
    steps: Tensor

    def __init__(
        self,
        tasks: Sequence[str] | int,
        *,
        alpha: float = 1.5,
        rate: float = 0.025,
        shared: Iterable[Tensor] | nn.Module | Tensor | None = None,
        every: int = 1,
        non_finite: str = "stop",
    ) -> None:
        super().__init__(tasks, non_finite=non_finite)
        if alpha < 0 or every < 1:
            raise TaskError(f"`alpha` should be at least 0 and `every` at least 1. Found {alpha} and {every}.")
        self.alpha, self.every = alpha, every
        self._points = None if shared is None else parameters(shared)
        self.log_weight = nn.Parameter(torch.zeros(len(self.tasks)), requires_grad=False)
        self._adam = torch.optim.Adam([self.log_weight], lr=rate)
        self.register_buffer("start", torch.full((len(self.tasks),), float("nan")))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def weights(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        places = [self.place(name) for name in losses]
        if self.training and torch.is_grad_enabled() and len(losses) > 1:
            if int(self.steps) % self.every == 0:
                self._learn(losses, places)
            self.steps += 1
        every = torch.softmax(self.log_weight.detach(), 0) * len(self.tasks)
        return {name: every[place] for name, place in zip(losses, places, strict=True)}

    def _learn(self, losses: dict[str, Tensor], places: list[int]) -> None:
        points = split(losses)[0] if self._points is None else self._points
        norms = rows(losses, points).norms.to(self.log_weight)
        values = torch.stack([loss.detach() for loss in losses.values()]).to(self.log_weight)
        first = torch.isnan(self.start[places])
        self.start[places] = torch.where(first, values.abs().clamp_min(1e-8), self.start[places])
        ratio = values.abs() / self.start[places]
        rate = ratio / ratio.mean().clamp_min(1e-12)
        with torch.enable_grad():
            logits = self.log_weight.detach().clone().requires_grad_()
            weighted = torch.softmax(logits, 0)[places] * len(self.tasks) * norms
            aim = (weighted.mean() * rate**self.alpha).detach()
            # Relative to the aim, so that a step means the same whatever the gradients' scale is.
            off = ((weighted - aim) / aim.clamp_min(1e-12)).abs().sum()
            (self.log_weight.grad,) = torch.autograd.grad(off, logits)
        self._adam.step()
        self.log_weight.grad = None

    def get_extra_state(self) -> dict[str, Any]:
        return self._adam.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._adam.load_state_dict(state)


def torchjd_weighting(weighting: Any) -> Aggregator:
    """Any of torchjd's weightings of a Gramian (``UPGradWeighting()``, ``NashMTLWeighting(…)`` …) as an aggregator.

    ``pip install 'lossproof[balance]'``. It is given the Gramian in float32, on unit rows unless ``normalize=False``.
    """

    def aggregate(gram: Tensor) -> Tensor:
        weights: Tensor = weighting(gram.float())
        return weights.double()

    return aggregate


def _with_generator(generator: torch.Generator) -> Aggregator:
    return lambda gram: _aggregate.pcgrad(gram, generator=generator)


def _joined(gathered: Rows, weights: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """What gets a gradient in this step, and which."""
    targets, grads = list(gathered.points), []
    for block in gathered.shared:
        factor = weights.to(device=block.device, dtype=block.dtype if block.dtype == torch.float64 else torch.float32)
        used = torch.where(factor.view(-1, *[1] * (block.dim() - 1)) == 0, 0.0, block.to(factor.dtype))
        grads.append(torch.tensordot(factor, used, dims=1).to(block.dtype))
    for place, name in enumerate(gathered.names):
        if weights[place] == 0 and not bool(torch.isfinite(gathered.gram[place, place])):
            continue
        for leaf, grad in gathered.own[name]:
            targets.append(leaf)
            grads.append(grad)
    return targets, grads


class _Delivered(torch.autograd.Function):
    """A number whose backward pass hands out gradients that are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, grads: list[Tensor], *targets: Tensor) -> Tensor:
        ctx.grads = grads
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        scale = outer[0]
        return (None, None, *(grad * scale.to(grad) for grad in ctx.grads))
