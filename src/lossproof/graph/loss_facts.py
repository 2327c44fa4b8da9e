"""Facts about what a loss is given and how it is reduced: activations, order of arguments, shapes, masks, reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lossproof.graph.facts import GraphFact

if TYPE_CHECKING:
    from lossproof.graph.cuts import Cut


@dataclass(frozen=True)
class NllInput(GraphFact):
    """What ``nll_loss`` gathers from is not a table of log-probabilities."""

    sort: ClassVar[str] = "nll-input"

    what: str
    """``softmax``, ``sigmoid``, ``probabilities`` (by their values) or ``raw``."""
    classes: int
    least: float
    most: float
    """The range of what it was given."""
    rows: int
    normalized: int
    """How many of the rows are the logarithm of a distribution."""


@dataclass(frozen=True)
class DivergenceInput(GraphFact):
    """``kl_div`` with something else than log-probabilities in the first place, or logarithms as its target."""

    sort: ClassVar[str] = "divergence-input"

    what: str
    """``softmax``, ``sigmoid``, ``raw``; ``log-target`` for logarithms as the target."""
    named: bool
    """Whether a note says that ``kl_div`` was called; else its arithmetic was recognized."""
    negative: int = 0
    elements: int = 0
    """How many elements of the target are negative, of how many."""


@dataclass(frozen=True)
class LogOfActivation(GraphFact):
    """The logarithm of a softmax, a sigmoid or one minus a sigmoid, taken in a second step."""

    sort: ClassVar[str] = "log-of-activation"

    form: str
    """``log(softmax)``, ``log(sigmoid)``, ``log(1 - sigmoid)``."""
    guarded: bool
    elements: int
    zeros: int
    """How many probabilities have rounded to 0: their logarithm is -inf."""
    floored: int
    """How many lie at the guard, where no more gradient (or hardly any) passes."""
    least: float
    """The smallest that the logarithm was taken of."""


@dataclass(frozen=True)
class SwappedArguments(GraphFact):
    """The prediction stands where the target belongs, and the target where the prediction belongs."""

    sort: ClassVar[str] = "swapped-arguments"

    loss: str
    positives: int
    elements: int
    """Of what stands in the prediction's place: how many are 1, of how many; the rest are 0."""


@dataclass(frozen=True)
class WrongAxis(GraphFact):
    """A softmax or log-softmax that normalizes over another axis than the loss has its classes in."""

    sort: ClassVar[str] = "wrong-axis"

    activation: str
    dim: int
    shape: tuple[int, ...]
    classes: int
    """The axis of the classes, in what the loss was given."""
    least: float
    most: float
    """Between what the probabilities of one row add up to."""


@dataclass(frozen=True)
class OneColumn(GraphFact):
    """Cross entropy over a single class."""

    sort: ClassVar[str] = "one-column"

    shape: tuple[int, ...]
    rows: int


@dataclass(frozen=True)
class PooledOverlap(GraphFact):
    """A ratio of sums (Dice, IoU, Tversky) that has taken the batch axis away."""

    sort: ClassVar[str] = "pooled-overlap"

    shape: tuple[int, ...]
    largest: int
    share: float
    """The sample with most of the target, and its share of the target of the batch; -1 where that is not known."""
    empty: int
    """Samples whose target is empty; -1 where that is not known."""


@dataclass(frozen=True)
class CrossedShapes(GraphFact):
    """``(N, 1, …)`` met ``(N, …)``, and every row was combined with every other."""

    sort: ClassVar[str] = "crossed-shapes"

    left: tuple[int, ...]
    right: tuple[int, ...]
    result: tuple[int, ...]
    written: bool
    """Whether the loss function did it; else an operator in hand-written arithmetic."""


@dataclass(frozen=True)
class MaskedMean(GraphFact):
    """A masked loss that is divided by all elements, or by nothing at all."""

    sort: ClassVar[str] = "masked-mean"

    how: str
    """``mean``, ``division``, ``both`` (prediction and target multiplied by the mask) or ``ignored``; ``empty``."""
    kept: int
    elements: int


@dataclass(frozen=True)
class DeadTerm(GraphFact):
    """A term of the loss that only reaches parameters through operators whose derivative is 0 everywhere."""

    sort: ClassVar[str] = "dead-term"

    by: str
    """The operator: ``round``, ``sign``, ``floor`` …"""
    whole: bool
    """Whether that is the whole loss."""
    cut: Cut | None = None
    """The call that took the term out of the graph, where that is how it died; ``op`` adds it to the loss."""


@dataclass(frozen=True)
class UnreachedParameters(GraphFact):
    """Trainable parameters of the model that the loss does not depend on."""

    sort: ClassVar[str] = "unreached-parameters"

    parts: tuple[str, ...]
    """The largest parts of the model that are missed as a whole."""
    modules: bool
    """Whether a whole module is among them, and not only single parameters of modules that are used."""
    missed: int
    of: int
    """How many trainable parameters (tensors) are missed, of how many."""
    elements: int
    of_elements: int
    held: bool
    """Whether an optimizer was told: then all of them are parameters that it holds."""
