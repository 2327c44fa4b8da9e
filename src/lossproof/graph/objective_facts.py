"""Facts about what is asked of the model: focal terms, class weights, sums of losses, networks that measure.

As in ``facts.py``, nothing here needs torch when it is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lossproof.graph.facts import GraphFact

if TYPE_CHECKING:
    from lossproof.graph.walk import Op


@dataclass(frozen=True)
class Spoiled:
    """A probability that was taken from a cross entropy which is not that of one plain element."""

    how: str
    """``reduced``, ``weighted`` or ``smoothed``."""
    op: Op
    """Where that happened."""
    elements: int = 0
    """How many elements it was reduced from."""
    weights: tuple[float, float] = (1.0, 1.0)
    """The least and the largest weight."""
    example: tuple[int, float, float] | None = None
    """An element (its number), its probability, and what it counts as."""


@dataclass(frozen=True)
class FocalTerm(GraphFact):
    """``(1 - pt) ** gamma * ce``; ``op`` is the power."""

    sort: ClassVar[str] = "focal-term"

    gamma: float
    elements: int
    sure: int
    """Elements whose ``1 - pt`` is exactly 0."""
    silenced: int
    """Elements whose factor is below a hundredth."""
    factor: float
    """The mean of the factor."""
    alone: bool
    """Whether no other focal term of this loss has another exponent."""
    scale: float | None = None
    """One number that multiplies every element before they are reduced."""
    spoiled: Spoiled | None = None


@dataclass(frozen=True)
class ClassWeights(GraphFact):
    """Weights of classes beside the targets of this batch."""

    sort: ClassVar[str] = "class-weights"

    kind: str
    """``pos_weight`` or ``weight``."""
    weights: tuple[float, ...]
    counts: tuple[int, ...]
    """How many targets of each class the batch has; for ``pos_weight`` negatives and positives."""
    column: int | None = None
    """The output that a ``pos_weight`` of several is about."""


@dataclass(frozen=True)
class Addend:
    """One term of a loss that is a sum."""

    kind: str
    """``cross entropy``, ``squared error`` …"""
    family: str
    """Kinds of one family have one scale."""
    value: float | None
    op: Op


@dataclass(frozen=True)
class SumOfLosses(GraphFact):
    """Losses of unlike kinds, added with one coefficient for all."""

    sort: ClassVar[str] = "sum-of-losses"

    addends: tuple[Addend, ...]


@dataclass(frozen=True)
class Maximized(GraphFact):
    """A term that is subtracted from a loss, and that nothing bounds."""

    sort: ClassVar[str] = "maximized"

    kind: str
    value: float | None


@dataclass(frozen=True)
class LossWeights(GraphFact):
    """Learnable numbers that weigh losses, and that the optimizer does not hold."""

    sort: ClassVar[str] = "loss-weights"

    name: str
    """What the user calls them; empty where nobody said."""
    values: tuple[float, ...]


@dataclass(frozen=True)
class FeatureBranch(GraphFact):
    """A pretrained network that only measures: an image goes in, and what comes out is compared."""

    sort: ClassVar[str] = "feature-branch"

    called: str
    """``VGG``, ``ResNet`` …"""
    trained: int | None
    """How many of its parameters the optimizer holds; None where no optimizer was told."""
    trainable: int
    """How many of its parameters require grad."""
    classes: int
    """How many class scores are compared; 0 for feature maps."""
    live: tuple[str, ...]
    """What is in training mode: ``batch normalization``, ``dropout``."""
    plain: tuple[float, float] | None
    """Least and largest value of the images, where they enter as they were made, without any normalization."""
