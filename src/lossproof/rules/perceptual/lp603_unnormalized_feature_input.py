"""# LP603 unnormalized-feature-input

PAGE
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import FeatureNetwork


def check(fact: FeatureNetwork) -> Iterator[Finding]:
    if fact.normalized or not fact.pretrained:
        return
    yield fact.finding(
        RULE,
        f"the images enter {fact.called} without ImageNet's normalization: its features are those of a range that it "
        "never saw in training",
        confidence="likely",
        hops=fact.hops(),
    )


RULE = Rule(
    code="LP603",
    name="unnormalized-feature-input",
    severity=Severity.WARNING,
    summary="Images enter a pretrained network without the normalization that it was trained with.",
    hint="normalize inside the loss: (x - mean) / std with ImageNet's mean and std, after bringing x to [0, 1]",
    page=__doc__ or "",
    facts="network",
    check=check,
)
