"""Facts about numbers: operands at the edge of a domain, overflow, vanished epsilons, saturation, a broken loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lossproof.graph.facts import GraphFact, rows_said


@dataclass(frozen=True)
class Count:
    """How many elements of a tensor, of how many, and in which rows (indices along its first dimension)."""

    found: int
    elements: int
    rows: tuple[int, ...]
    shape: tuple[int, ...]

    def of(self, what: str) -> str:
        """For a sentence: ``2 of 64 denominators are``, ``the denominator is``."""
        if self.elements == 1:
            return f"the {what} is"
        return f"{self.found} of {self.elements:,} {what}s {'is' if self.found == 1 else 'are'}"

    @property
    def at(self) -> str:
        """In brackets, where: `` (rows 4, 17 of 32)``; empty where the tensor has but one element."""
        if not self.rows or self.elements == 1:
            return ""
        more = f" of {self.shape[0]}" if len(self.shape) > 1 else ""
        if len(self.rows) == self.shape[0] and len(self.rows) > 1:
            return " (every row)" if len(self.shape) > 1 else ""
        return f" ({rows_said(self.rows)}{more})"


@dataclass(frozen=True)
class AtTheEdge(GraphFact):
    """An operand at or beyond the edge of its operator's domain, or next to it, whose harm gets through."""

    sort: ClassVar[str] = "at-the-edge"

    function: str
    """``div``, ``log``, ``log1p``, ``sqrt``, ``rsqrt``, ``pow``, ``acos``, ``exp`` …: ``graph/hazards.py``."""
    count: Count
    closest: float
    """The operand nearest to the edge; for ``exp`` the largest exponent."""
    edge: float
    beyond: int = 0
    """Elements past the edge: a negative under a logarithm."""
    near: bool = False
    """Nothing is non-finite yet."""
    value: bool = True
    """The result itself is non-finite, not its derivative alone."""
    loss: bool = True
    """The loss is finite."""
    share: float = 0.0
    """Near: which part of the whole derivative of this operator these elements carry."""
    exponent: float | None = None
    dtype: str = ""
    told: bool = False
    """Another rule says it better: LP106 of an activation, LP304 of an empty mask."""


@dataclass(frozen=True)
class GuardedAfterwards(GraphFact):
    """Elements that are chosen away behind an operator whose derivative is not finite there: 0 * inf is NaN."""

    sort: ClassVar[str] = "guarded-afterwards"

    guard: str
    """``where``, ``masked_fill``, ``nan_to_num``, ``nansum``, ``index``, ``put``, ``mask``; ``xlogy`` guards itself."""
    function: str
    count: Count


@dataclass(frozen=True)
class VanishedEpsilon(GraphFact):
    """An epsilon that is 0, or that leaves 1 where it was, in the number format of its operator."""

    sort: ClassVar[str] = "vanished-epsilon"

    form: str
    """``bound`` of a clamp, ``sum``, ``difference``, ``optimizer``."""
    epsilon: float
    """0 where only its effect is seen."""
    became: float
    """What is left of it: 0, or 1 for ``1 - epsilon``."""
    dtype: str
    count: Count | None
    """Operands that it should have kept away from the edge now."""
    sensitive: bool
    """A division, a logarithm or the like comes next."""
    optimizer: str = ""
    """Whose epsilon it is, if not the loss's."""


@dataclass(frozen=True)
class WrittenOut(GraphFact):
    """A softmax, a softplus or a log-sum-exp written with ``exp``, of what a layer gives."""

    sort: ClassVar[str] = "written-out"

    form: str
    """``softmax``, ``softplus``, ``logsumexp``."""
    largest: float
    limit: float
    dtype: str


@dataclass(frozen=True)
class NotFinite(GraphFact):
    """The loss is NaN or infinite already."""

    sort: ClassVar[str] = "not-finite"

    nan: int
    infinite: int
    elements: int


@dataclass(frozen=True)
class Saturated(GraphFact):
    """Outputs that are wrong and send back a gradient of exactly 0."""

    sort: ClassVar[str] = "saturated"

    activation: str
    """``sigmoid``, ``tanh``, ``softmax``, ``clamp``, ``relu`` …"""
    count: Count
    """The elements, or the rows of a softmax, that are wrong and get no gradient."""
    wrong: int
    """All that are wrong, with a gradient or without."""
    columns: tuple[int, ...] = ()
    """Outputs that are dead in every row of the batch."""
    per: str = "output"
    dtype: str = ""


def percent(share: float) -> str:
    """A share for a sentence, never rounded up to all of it."""
    return "more than 99.9 %" if share > 0.999 else f"{100 * share:.1f} %"
