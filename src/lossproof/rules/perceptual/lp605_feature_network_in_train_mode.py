"""# LP605 feature-network-in-train-mode

PAGE
"""

from __future__ import annotations

from collections.abc import Iterator

from lossproof.finding import Finding, Severity
from lossproof.rules.registry import Rule
from lossproof.source.facts import FeatureNetwork


def check(fact: FeatureNetwork) -> Iterator[Finding]:
    if not fact.mode:
        return
    mode, _, what = fact.mode.partition(" ")
    if mode == "undone":
        message = f"{fact.called} was put in evaluation mode, but `train()` undoes it: its {what} is live in the loss"
    else:
        message = f"{fact.called} is used in training mode: its {what} is live in the loss"
    cost = (
        ", so an image's features depend on the rest of the batch and its contrast cannot be seen"
        if "batch" in what
        else ", so the loss of two equal images is not zero"
    )
    yield fact.finding(RULE, message + cost, place=fact.built(), hops=fact.hops(fact.mode_hop, made=False))


RULE = Rule(
    code="LP605",
    name="feature-network-in-train-mode",
    severity=Severity.WARNING,
    summary="The network of a perceptual loss runs in training mode: dropout or batch statistics are live.",
    hint="call .eval() on it, and keep it there: override train() in the loss",
    page=__doc__ or "",
    facts="network",
    check=check,
)
