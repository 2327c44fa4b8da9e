"""Which experiments there are. Adding a file to a family is all it takes; finding them needs no torch."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from functools import cache

from lossproof.evidence.experiment import Experiment
from lossproof.problem import CannotRun, did_you_mean

FAMILIES = ("activation", "numerics", "reduction", "imbalance", "multitask", "perceptual", "loop")
HEADLINES = (
    "bce-dead-gradient",
    "double-softmax",
    "where-gradient",
    "vanishing-epsilon",
    "broadcast-mean",
    "batch-dice",
    "focal-alpha",
    "loss-share",
)
"""What ``lossproof prove`` runs when nothing is named: one claim of each kind, those that surprise most."""


@cache
def all_experiments() -> dict[str, Experiment]:
    """Every experiment by its id: the families in their order, the ids of a family in the order of the alphabet."""
    here = os.path.dirname(os.path.abspath(__file__))
    found: dict[str, Experiment] = {}
    for family in FAMILIES:
        for experiment in sorted(_family(here, family), key=lambda each: each.id):
            if experiment.id in found:
                raise RuntimeError(f"two experiments claim the id {experiment.id}")
            found[experiment.id] = experiment
    return found


def claims() -> dict[str, str]:
    """Every claim by the id of its experiment."""
    return {name: experiment.claim for name, experiment in all_experiments().items()}


def of_rule(code: str) -> list[Experiment]:
    """The experiments that a rule leans on."""
    return [experiment for experiment in all_experiments().values() if code in experiment.rules]


def headlines() -> list[Experiment]:
    """The experiments to begin with."""
    known = all_experiments()
    return [known[name] for name in HEADLINES if name in known]


def resolve(word: str) -> list[Experiment]:
    """The experiments that a word means: an id, the beginning of ids, a family, a rule's code or its beginning."""
    known = all_experiments()
    asked = word.strip().lower()
    if asked in known:
        return [known[asked]]
    if asked in FAMILIES:
        return [experiment for experiment in known.values() if experiment.family == asked]
    if asked.startswith("lp") and asked[2:].isdigit():
        begun = [each for each in known.values() if any(code.lower().startswith(asked) for code in each.rules)]
    else:
        begun = [each for name, each in known.items() if asked and name.startswith(asked)]
    if begun:
        return begun
    offer = did_you_mean(word.strip(), [*known, *FAMILIES, *(code for each in known.values() for code in each.rules)])
    raise CannotRun(f"unknown claim {word.strip()!r}.{offer} See lossproof prove --list.")


def resolve_all(words: Sequence[str]) -> list[Experiment]:
    """Each experiment that any of the words means, once, in the order of the words."""
    return list({experiment.id: experiment for word in words for experiment in resolve(word)}.values())


def _family(here: str, family: str) -> Iterator[Experiment]:
    folder = os.path.join(here, family)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if name.endswith(".py") and not name.startswith("_"):
            module = importlib.import_module(f"lossproof.evidence.{family}.{name[:-3]}")
            experiment: Experiment | None = getattr(module, "EXPERIMENT", None)
            if experiment is not None:
                yield experiment
