"""# LP702 unscaled-accumulation
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import Accumulated
from lossproof.source.loops import hop
from lossproof.source.values import Hop


def check(fact: Accumulated) -> Iterator[Finding]:
    count = f"{fact.known:g}" if fact.known is not None else f"`{fact.count}`"
    hops = (
        Hop(fact.count_module, fact.count_at, "so many backward passes are summed"),
        hop(fact.step, "before this step"),
    )
    yield fact.finding(
        RULE,
        f"the gradients of {count} backward passes are summed and the loss is not divided by {count}: the gradient, and "
        "with plain SGD the learning rate, is that many times what it seems to be",
        hops=hops,
        confidence="likely",
        hint=f"divide the loss before backward(): loss = loss / {fact.count}",
    )


RULE = Rule(
    code="LP702",
    name="unscaled-accumulation",
    severity=Severity.WARNING,
    summary="Gradients are accumulated over several batches, and the loss is not divided by their number.",
    hint="divide the loss by the number of accumulated batches before backward()",
    page=__doc__ or "",
    evidence="unscaled-accumulation",
    facts="accumulated",
    check=check,
)
