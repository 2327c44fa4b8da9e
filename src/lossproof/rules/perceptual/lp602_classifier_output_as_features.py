"""# LP602 classifier-output-as-features

PAGE
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import FeatureNetwork


def check(fact: FeatureNetwork) -> Iterator[Finding]:
    if not fact.whole:
        return
    yield fact.finding(
        RULE,
        f"the loss compares the class scores of {fact.called}, not a feature map: where things are and how they look is "
        "gone from them",
        hops=fact.hops(),
    )


RULE = Rule(
    code="LP602",
    name="classifier-output-as-features",
    severity=Severity.WARNING,
    summary="A perceptual loss compares the class scores of the network instead of a feature map.",
    hint="compare an inner layer: net.features[:16] of VGG-16 ends at relu3_3",
    page=__doc__ or "",
    facts="network",
    check=check,
)
