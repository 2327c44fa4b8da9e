"""What the graph eye tells the rules: facts about the objective that one live loss came from.

A fact says what is there, with figures that were read from the graph; a rule says whether that is a problem. Nothing
here needs torch when it is imported, so that a rule can name these types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from lossproof.finding import Finding, Location, Remedy, Severity

if TYPE_CHECKING:
    from typing import Any

    from lossproof.graph.walk import Op
    from lossproof.rules.registry import Rule


@dataclass(frozen=True)
class Hop:
    """One operator on the way from the cause to the loss, with what happens there."""

    op: Op
    message: str


@dataclass(frozen=True)
class GraphFact:
    """Something at one operator. ``sort`` is what a rule names in ``Rule.graph`` to be asked about it."""

    sort: ClassVar[str] = ""

    op: Op
    """Where the finding will stand."""
    hops: tuple[Hop, ...] = field(default=(), kw_only=True)
    """From the cause to the operator before ``op``."""

    def finding(
        self,
        rule: Rule,
        message: str,
        *,
        severity: Severity | None = None,
        confidence: str = "proven",
        hint: str | None = None,
    ) -> Finding:
        from lossproof.graph.place import location

        place = location(self.op)
        related: list[Location] = []
        for hop in self.hops:
            where = location(hop.op, hop.message)
            if where not in related:
                related.append(where)
        return Finding(
            rule.code,
            rule.name,
            severity or rule.severity,
            message,
            place,
            tuple(related),
            confidence,
            Remedy(rule.hint if hint is None else hint),
            rule.evidence,
            "graph",
        )


@dataclass(frozen=True)
class ActivationIntoLoss(GraphFact):
    """An activation whose result reaches a loss, through operators that keep what kind of value it is."""

    sort: ClassVar[str] = "activation-into-loss"

    loss: str
    """``bce``, ``bce-with-logits``, ``nll``, ``cross-entropy``, ``kl-div``, … as ``graph/activations.py`` has them."""
    activation: str
    """``sigmoid``, ``softmax``, ``log-softmax`` …"""
    dead: int = 0
    """Elements whose activation has rounded to where its derivative is exactly 0."""
    elements: int = 0
    figures: Mapping[str, Any] = field(default_factory=dict)


def rows_said(rows: Sequence[int], limit: int = 6) -> str:
    """Rows of a batch for a sentence: ``row 4``, ``rows 4, 17``, ``rows 0, 1, 2, 3, 4, 5 and 26 more``."""
    if len(rows) == 1:
        return f"row {rows[0]}"
    shown = ", ".join(str(row) for row in rows[:limit])
    return f"rows {shown}" + (f" and {len(rows) - limit} more" if len(rows) > limit else "")
