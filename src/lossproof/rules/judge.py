"""Facts in, findings out: each rule is asked about the sorts of fact that it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from lossproof.rules.registry import all_rules

if TYPE_CHECKING:
    from lossproof.finding import Finding
    from lossproof.graph.facts import GraphFact
    from lossproof.source.facts import Fact


Recognizer = Callable[[Any], Iterator["Finding"]]


def judge(fact: Fact) -> list[Finding]:
    """What the rules say of a fact of the source eye."""
    return [finding for check in _readers("source").get(fact.sort, ()) for finding in check(fact)]


def judge_graph(fact: GraphFact) -> list[Finding]:
    """What the rules say of a fact of the graph eye."""
    return [finding for check in _readers("graph").get(fact.sort, ()) for finding in check(fact)]


@cache
def _readers(eye: str) -> dict[str, list[Recognizer]]:
    """Which recognizers are asked about which sort of fact."""
    table: dict[str, list[Recognizer]] = {}
    for rule in all_rules().values():
        sorts, recognizer = (rule.facts, rule.check) if eye == "source" else (rule.graph, rule.audit)
        if recognizer is not None:
            for sort in sorts.split():
                table.setdefault(sort, []).append(recognizer)
    return table
