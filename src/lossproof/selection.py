"""Which rules are wanted: codes, prefixes, names and ALL, where the more exact word wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lossproof.problem import CannotRun, did_you_mean
from lossproof.rules import registry
from lossproof.rules.registry import Rule

_EXACT = 99


class Layer:
    """What one source of settings says (the configuration, the command line)."""

    __slots__ = ("extend_select", "ignore", "select")

    def __init__(
        self,
        select: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        extend_select: Sequence[str] = (),
    ) -> None:
        self.select = select
        self.ignore = tuple(ignore)
        self.extend_select = tuple(extend_select)

    def __bool__(self) -> bool:
        return self.select is not None or bool(self.ignore or self.extend_select)


def enabled(layers: Sequence[Layer]) -> frozenset[str] | None:
    """The codes that are wanted; None means all of them, and costs no look at the rules.

    A later layer that selects starts anew; one that does not adds to those before it. Within what counts, a code
    beats a prefix and a longer prefix a shorter one; where both are equally exact, ignoring wins.
    """
    said = [layer for layer in layers if layer]
    if not said:
        return None
    for at in range(len(said) - 1, -1, -1):
        if said[at].select is not None:
            said = said[at:]
            break
    rules = registry.all_rules()
    wanted: dict[str, int] = {}
    unwanted: dict[str, int] = {}
    base = said[0].select
    for selector in ["ALL"] if base is None else base:
        _note(wanted, selector, rules)
    for layer in said:
        for selector in layer.extend_select:
            _note(wanted, selector, rules)
        for selector in layer.ignore:
            _note(unwanted, selector, rules)
    return frozenset(code for code, exact in wanted.items() if exact > unwanted.get(code, -1))


def resolve(selector: str, rules: Mapping[str, Rule]) -> tuple[int, frozenset[str]]:
    """How exact a selector is, and the codes that it means. An unknown one cannot be run with."""
    word = selector.strip().upper()
    if word == "ALL":
        return 0, frozenset(rules)
    if word in rules:
        return _EXACT, frozenset((word,))
    named = frozenset(code for code, rule in rules.items() if rule.name.upper() == word)
    if named:
        return _EXACT, named
    if word.startswith("LP") and (word == "LP" or word[2:].isdigit()):
        meant = frozenset(code for code in rules if code.startswith(word))
        if meant:
            return len(word), meant
    known = [*rules, *(rule.name for rule in rules.values())]
    offer = did_you_mean(selector.strip(), known)
    if word.startswith("LP") and (not offer or len(word) < len("LP101")):
        offer = (
            f" The families are {', '.join(sorted({code[:3] for code in rules}))}; lossproof explain --all lists them."
        )
    raise CannotRun(f"unknown rule {selector.strip()!r}.{offer}")


def _note(exactness: dict[str, int], selector: str, rules: Mapping[str, Rule]) -> None:
    exact, codes = resolve(selector, rules)
    for code in codes:
        exactness[code] = max(exact, exactness.get(code, -1))
