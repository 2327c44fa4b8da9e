"""# LP601 trainable-feature-network

PAGE
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import FeatureNetwork


def check(fact: FeatureNetwork) -> Iterator[Finding]:
    if fact.frozen:
        return
    if fact.optimized is not None:
        yield fact.finding(
            RULE,
            f"{fact.called} measures the loss and is trained by it: the optimizer holds its parameters, so it learns to "
            "make the features alike instead of the images",
            severity=Severity.ERROR,
            place=fact.built(),
            hops=fact.hops(fact.useless_freeze, fact.optimized, made=False),
        )
        return
    tried = " (`requires_grad` of a module does nothing)" if fact.useless_freeze is not None else ""
    yield fact.finding(
        RULE,
        f"{fact.called} only measures this loss, but its parameters are not frozen{tried}: every step computes and "
        "keeps gradients for them, and an optimizer that comes to hold them trains the measure itself",
        confidence="likely",
        place=fact.built(),
        hops=fact.hops(fact.useless_freeze, made=False),
    )


RULE = Rule(
    code="LP601",
    name="trainable-feature-network",
    severity=Severity.WARNING,
    summary="The network that a perceptual loss compares images with is not frozen.",
    hint="freeze it where it is built: .eval().requires_grad_(False)",
    page=__doc__ or "",
    facts="network",
    check=check,
)
