"""# LP604 feature-layer-off-by-one

PAGE
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import FeatureLayer


def check(fact: FeatureLayer) -> Iterator[Finding]:
    name = fact.arch.upper().replace("VGG", "VGG-").replace("_BN", " with batch norm")
    if fact.end:
        what = f"a slice that ends at {fact.number} ends with `{fact.actual}` in {name}, not with `{fact.layer}`"
        right = f"`[:{fact.right}]`"
    else:
        what = f"layer {fact.number} of {name} is `{fact.actual}`, not `{fact.layer}`"
        right = f"{fact.right}"
    yield fact.finding(
        RULE,
        f"{what}: the loss compares another layer than its name says",
        hint=f"{fact.layer} is {right}",
    )


RULE = Rule(
    code="LP604",
    name="feature-layer-off-by-one",
    severity=Severity.WARNING,
    summary="The number that picks a layer of VGG is not the one of the layer that it is called.",
    hint="count from 0 in `features`: relu3_3 of VGG-16 is 15, a slice that ends with it is [:16]",
    page=__doc__ or "",
    facts="layer",
    check=check,
)
