"""The state of torch's random numbers: what makes a step with dropout the same step a second time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class RandomState:
    """The generators of the CPU and of the CUDA devices that are in use, as they are now. Nothing is drawn."""

    __slots__ = ("_cpu", "_cuda")

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        used = torch.cuda.is_available() and torch.cuda.is_initialized()
        self._cuda = torch.cuda.get_rng_state_all() if used else None

    def restore(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)


@contextmanager
def beginning_with(state: RandomState | None) -> Iterator[None]:
    """Run something from a random state, or from that of now; afterwards it is as it was before."""
    before = RandomState()
    if state is not None:
        state.restore()
    try:
        yield
    finally:
        before.restore()
