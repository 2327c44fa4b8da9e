"""Facts in, findings out: each rule is asked about the sorts of fact that it reads."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from lossproof.rules.registry import Rule, all_rules

if TYPE_CHECKING:
    from lossproof.finding import Finding
    from lossproof.source.facts import Fact


def judge(fact: Fact) -> list[Finding]:
    """What the rules say of a fact."""
    found: list[Finding] = []
    for rule in _readers().get(fact.sort, ()):
        assert rule.check is not None
        found.extend(rule.check(fact))
    return found


@cache
def _readers() -> dict[str, list[Rule]]:
    """Which rules are asked about which sort of fact."""
    table: dict[str, list[Rule]] = {}
    for rule in all_rules().values():
        for sort in rule.facts.split() if rule.check is not None else ():
            table.setdefault(sort, []).append(rule)
    return table
