"""Gradient descent and Adam, step by step.

The first use of torch's own optimizers loads a compiler that takes longer than most experiments. These do the same
arithmetic; the tests compare them with torch's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SGD, ADAM = "SGD", "Adam"
_FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-8


class Descent:
    """An optimizer of the named method over these parameters."""

    def __init__(self, parameters: Iterable[torch.Tensor], method: str, rate: float) -> None:
        import torch

        if method not in (SGD, ADAM):
            raise ValueError(f"Method should be {SGD} or {ADAM}. Found {method!r}.")
        self.parameters = list(parameters)
        self._rate = rate
        self._taken = 0
        self._moments = [(torch.zeros_like(each), torch.zeros_like(each)) for each in self.parameters if method == ADAM]

    def step(self, slopes: Sequence[torch.Tensor | None]) -> None:
        """Move every parameter that has a gradient."""
        import torch

        self._taken += 1
        with torch.no_grad():
            for at, (parameter, slope) in enumerate(zip(self.parameters, slopes, strict=True)):
                if slope is None:
                    continue
                if not self._moments:
                    parameter.sub_(slope, alpha=self._rate)
                    continue
                mean, square = self._moments[at]
                mean.lerp_(slope, 1 - _FIRST)
                square.mul_(_SECOND).addcmul_(slope, slope, value=1 - _SECOND)
                scale = (square.sqrt() / math.sqrt(1 - _SECOND**self._taken)).add_(_EPSILON)
                parameter.addcdiv_(mean, scale, value=-self._rate / (1 - _FIRST**self._taken))

    def down(self, loss: torch.Tensor) -> None:
        """One step down a loss."""
        import torch

        self.step(torch.autograd.grad(loss, self.parameters, allow_unused=True))
